//! The learned model: networks and a linear readout, ψ(x) = Wᵀ h(x).

use ndarray::{Axis, s};
use rayon::prelude::*;

use super::FeatureMap;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::fit::checkpoint::{get_parameters, put_parameters};
use crate::fit::readout::{Basis, width};
use crate::fit::{FitSpec, ReadoutKind};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::nn::Network;
use crate::persist::Archive;

/// Rows evaluated at a time by one thread.
const ROWS: usize = 256;

/// Eigenfunctions as trained networks with a readout. Evaluating n points costs n forward passes
/// and n·p·k multiplications, whatever the size of the training set.
pub struct Eigenfunctions {
    network: Box<dyn Network>,
    conditioner: Standardizer,
    readout: ReadoutKind,
    /// W, p × k.
    weights: Mat64,
    eigenvalues: Vec<f64>,
}

impl Eigenfunctions {
    /// From parts that fit together: weights p × k for the basis of `readout`, k eigenvalues.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not.
    pub(crate) fn new(
        network: Box<dyn Network>,
        conditioner: Standardizer,
        readout: ReadoutKind,
        weights: Mat64,
        eigenvalues: Vec<f64>,
    ) -> Result<Self> {
        let expected = (width(&*network, readout), eigenvalues.len());
        if weights.dim() != expected {
            let (p, k) = weights.dim();
            let expected = format!("{} × {}", expected.0, expected.1);
            return Err(Error::shape("readout weights", expected, format!("{p} × {k}")));
        }
        Ok(Eigenfunctions { network, conditioner, readout, weights, eigenvalues })
    }

    /// Reads back what [`FeatureMap::save`] stored.
    pub(super) fn load(archive: &Archive, spec: &FitSpec) -> Result<Self> {
        let eigenvalues = archive.f64_vector("eigenvalues")?;
        let mean = archive.f64_vector("conditioner.mean")?;
        let conditioner = Standardizer::new(mean, archive.f64_vector("conditioner.scale")?)?;
        let functions = spec.n_components;
        let inputs = conditioner.width();
        archive.expect_room(spec.network.size(inputs, functions))?;
        let mut network = spec.network.build(inputs, functions, 0)?;
        get_parameters(archive, "network", network.parameters_mut())?;
        let shape = (width(&*network, spec.readout), eigenvalues.len());
        let weights = archive.f64_matrix("readout.weights", shape)?;
        Eigenfunctions::new(network, conditioner, spec.readout, weights, eigenvalues)
    }

    /// The networks.
    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// ψ for one block of rows, scaled column by column.
    fn block(&self, x: MatRef<'_>, scale: &[f64]) -> Result<Mat64> {
        let basis =
            Basis { network: &*self.network, conditioner: &self.conditioner, kind: self.readout };
        // A row of this product has the same bits in any company.
        let mut psi = linalg::matmul_f64(basis.at(x)?.view(), self.weights.view())?;
        for (mut column, factor) in psi.axis_iter_mut(Axis(1)).zip(scale) {
            column *= *factor;
        }
        Ok(psi)
    }

    fn evaluate(&self, x: MatRef<'_>, scale: &[f64]) -> Result<Mat64> {
        expect_columns("x", x, self.inputs())?;
        let mut out = Mat64::zeros((x.nrows(), self.components()));
        let mut blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS).enumerate().collect();
        blocks.par_iter_mut().try_for_each(|(b, out)| -> Result<()> {
            let start = *b * ROWS;
            let rows = x.slice(s![start..start + out.nrows(), ..]);
            out.assign(&self.block(rows, scale)?);
            Ok(())
        })?;
        Ok(out)
    }
}

impl FeatureMap for Eigenfunctions {
    fn inputs(&self) -> usize {
        self.network.inputs()
    }

    fn components(&self) -> usize {
        self.eigenvalues.len()
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        let scale: Vec<f64> = self.eigenvalues.iter().map(|m| m.max(0.0).sqrt()).collect();
        Ok(self.evaluate(x, &scale)?.mapv(|v| v as f32))
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        Some(&self.eigenvalues)
    }

    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.evaluate(x, &vec![1.0; self.components()])
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        put_parameters(archive, "network", self.network.parameters())?;
        let (p, k) = self.weights.dim();
        archive.put_f64("readout.weights", &[p, k], self.weights.iter().copied().collect())?;
        archive.put_f64("eigenvalues", &[k], self.eigenvalues.clone())?;
        let (mean, scale) = (self.conditioner.mean(), self.conditioner.scale());
        archive.put_f64("conditioner.mean", &[mean.len()], mean.to_vec())?;
        archive.put_f64("conditioner.scale", &[scale.len()], scale.to_vec())?;
        Ok(())
    }
}
