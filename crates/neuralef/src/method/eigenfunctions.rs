//! The learned model: networks and a linear readout, ψ(x) = Wᵀ h(x), with one output or several.

use std::sync::Arc;

use ndarray::{Axis, s};
use rayon::prelude::*;

use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, ReadoutKind};
use crate::linalg;
use crate::matrix::{Mat, Mat64, Mat64Mut, MatRef, expect_columns};
use crate::nn::{Network, Parameters, Stage, expect_input_gradients};
use crate::persist::Archive;
use crate::readout::outputs::{OutputCombination, OutputLayout};
use crate::readout::{Basis, width};
use crate::train::checkpoint::{get_parameters, put_parameters};

/// Points evaluated at a time by one thread.
const ROWS: usize = 256;
/// What the scaling of the inputs is called in a model file.
const INPUT_SCALER: &str = "conditioner";

/// Eigenfunctions as trained networks with a readout. Evaluating n points costs n forward passes
/// and n·p·k multiplications, whatever the size of the training set.
///
/// For a kernel with C outputs ψ is n·C × k, the C outputs of a point in consecutive rows, with
/// E_x Σ_c ψ_jc² = 1. The basis is then the k functions of C outputs (W is p × k), or last hidden
/// layers, whose p features each have weights for every output (W is p·C × k, row p·C + c), or scalar
/// functions with one vector of outputs for each eigenfunction (W is p × k, and C × k vectors).
pub struct Eigenfunctions {
    network: Arc<dyn Network>,
    input_scaler: Standardizer,
    readout: ReadoutKind,
    /// W, a column for each eigenfunction.
    weights: Mat64,
    combination: OutputCombination,
    /// C, the number of outputs of the kernel.
    outputs: usize,
    eigenvalues: Vec<f64>,
    /// The file that the networks are made from, where there is one.
    file: Option<Arc<[u8]>>,
}

impl Eigenfunctions {
    /// From parts that fit together: weights p × k for the basis of `readout`, k eigenvalues.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not.
    pub(crate) fn new(
        network: Arc<dyn Network>,
        input_scaler: Standardizer,
        readout: ReadoutKind,
        weights: Mat64,
        combination: OutputCombination,
        eigenvalues: Vec<f64>,
    ) -> Result<Self> {
        let (rows, k) = (combination.weight_rows(width(&*network, readout)), eigenvalues.len());
        if rows.map(|rows| (rows, k)) != Some(weights.dim()) {
            let expected = rows.map_or_else(|| "fewer".into(), |rows| format!("{rows} × {k}"));
            let (p, k) = weights.dim();
            return Err(Error::shape("readout weights", expected, format!("{p} × {k}")));
        }
        let outputs = match &combination {
            OutputCombination::VectorValued => network.outputs(),
            OutputCombination::Product(outputs) => *outputs,
            OutputCombination::Factorized(directions) => directions.nrows(),
        };
        Ok(Eigenfunctions {
            network,
            input_scaler,
            readout,
            weights,
            combination,
            outputs,
            eigenvalues,
            file: None,
        })
    }

    /// With the file that the networks are made from, which goes into model files.
    pub(crate) fn with_file(self, file: Option<Arc<[u8]>>) -> Self {
        Eigenfunctions { file, ..self }
    }

    /// Reads back what [`FeatureMap::save`] stored.
    pub(super) fn load(archive: &Archive, spec: &FitSpec) -> Result<Self> {
        let eigenvalues = archive.f64_vector("eigenvalues")?;
        let input_scaler = Standardizer::load(archive, INPUT_SCALER)?;
        let (functions, outputs) = (spec.n_components, spec.network_outputs());
        let inputs = input_scaler.width();
        // What the file does not hold is not looked for elsewhere.
        if spec.network.takes_raw_inputs() || archive.shape("network.file").is_some() {
            spec.network.keep(archive.bytes("network.file")?)?;
        }
        archive.expect_room(spec.network.size(inputs, functions, outputs))?;
        let mut network = spec.network.build(inputs, functions, outputs, 0)?;
        get_parameters(archive, "network", network.parameters_mut())?;
        let k = eigenvalues.len();
        let combination = match OutputLayout::of(spec) {
            OutputLayout::VectorValued => OutputCombination::VectorValued,
            OutputLayout::Product => OutputCombination::Product(spec.outputs),
            OutputLayout::Factorized => OutputCombination::Factorized(
                archive.f64_matrix("readout.directions", (spec.outputs, k))?,
            ),
        };
        let factorized = matches!(combination, OutputCombination::Factorized(_));
        if archive.shape("readout.directions").is_some() != factorized {
            return Err(archive.fault("readout.directions without a factorized form"));
        }
        let Some(rows) = combination.weight_rows(width(&*network, spec.readout)) else {
            return Err(archive.fault(format!("{} outputs", spec.outputs)));
        };
        let weights = archive.f64_matrix("readout.weights", (rows, k))?;
        let kind = spec.readout;
        let map = Eigenfunctions::new(
            network.into(),
            input_scaler,
            kind,
            weights,
            combination,
            eigenvalues,
        )?;
        Ok(map.with_file(spec.network.file()?))
    }

    /// The same networks with another readout.
    pub(crate) fn with_weights(&self, weights: Mat64, eigenvalues: Vec<f64>) -> Result<Self> {
        let (network, scaler) = (Arc::clone(&self.network), self.input_scaler.clone());
        let combination = self.combination.clone();
        let map =
            Eigenfunctions::new(network, scaler, self.readout, weights, combination, eigenvalues)?;
        Ok(map.with_file(self.file.clone()))
    }

    /// W, a column for each eigenfunction.
    pub(crate) fn weights(&self) -> &Mat64 {
        &self.weights
    }

    /// The networks.
    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// ψ for one block of points, scaled column by column.
    fn block(&self, x: MatRef<'_>, scale: &[f64]) -> Result<Mat64> {
        let layout = match &self.combination {
            OutputCombination::VectorValued => OutputLayout::VectorValued,
            OutputCombination::Product(_) => OutputLayout::Product,
            OutputCombination::Factorized(_) => OutputLayout::Factorized,
        };
        let basis = Basis {
            network: &*self.network,
            input_scaler: &self.input_scaler,
            kind: self.readout,
            layout,
        };
        // A row of this product has the same bits in any company.
        let mut psi = self.combination.values(basis.at(x)?.view(), self.weights.view())?;
        for (mut column, factor) in psi.axis_iter_mut(Axis(1)).zip(scale) {
            column *= *factor;
        }
        Ok(psi)
    }

    fn evaluate(&self, x: MatRef<'_>, scale: &[f64]) -> Result<Mat64> {
        expect_columns("x", x, self.inputs())?;
        let c = self.outputs;
        let mut out = Mat64::zeros((x.nrows() * c, self.components()));
        let mut blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS * c).enumerate().collect();
        let fill = |(b, out): &mut (usize, Mat64Mut<'_>)| -> Result<()> {
            let start = *b * ROWS;
            let rows = x.slice(s![start..start + out.nrows() / c, ..]);
            out.assign(&self.block(rows, scale)?);
            Ok(())
        };
        match self.network.is_heavy() {
            true => blocks.iter_mut().try_for_each(fill)?,
            false => blocks.par_iter_mut().try_for_each(fill)?,
        }
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

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        let scale: Vec<f64> = self.eigenvalues.iter().map(|m| m.max(0.0).sqrt()).collect();
        Ok(self.evaluate(x, &scale)?.mapv(|v| v as f32))
    }

    fn tangent_directions(&self) -> Result<Option<(Mat, Vec<f64>)>> {
        let Some(all) = self
            .network
            .tangent_directions()
            .filter(|_| matches!(self.combination, OutputCombination::VectorValued))
        else {
            return Ok(None);
        };
        // A basis of the functions alone is of the first directions; that of all has a constant at
        // its end.
        let count = self.weights.nrows().min(all.nrows());
        let mut weights = self.weights.clone();
        for (mut column, mu) in weights.columns_mut().into_iter().zip(&self.eigenvalues) {
            column *= mu.max(0.0).sqrt();
        }
        let constants = match self.weights.nrows() > count {
            true => weights.row(count).to_vec(),
            false => vec![0.0; weights.ncols()],
        };
        let weights = weights.slice(s![..count, ..]).mapv(|v| v as f32);
        let v = linalg::matmul_f32(weights.t(), all.slice(s![..count, ..]))?;
        Ok(Some((v, constants)))
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        Some(&self.eigenvalues)
    }

    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.evaluate(x, &vec![1.0; self.components()])
    }

    /// Cost: min(d, k) passes through the networks for each point, and O(n d p k) where d is the less.
    fn eigenfunction_gradients(&self, x: MatRef<'_>) -> Result<Option<Mat64>> {
        expect_columns("x", x, self.inputs())?;
        if self.outputs > 1 {
            return Err(Error::Unsupported {
                what: "gradients of eigenfunctions".into(),
                reason: format!("they are for kernels with one output, not {}", self.outputs),
            });
        }
        let z = self.input_scaler.apply(x)?;
        let p = self.weights.nrows();
        // The constant of a Galerkin basis has no gradient.
        let (stage, features) = match self.readout {
            ReadoutKind::Galerkin => (Stage::Hidden, p - 1),
            _ => (Stage::Functions, p),
        };
        let weights = self.weights.slice(s![..features, ..]);
        let network = expect_input_gradients(&*self.network)?;
        let mut out = network.gradients_by_inputs(z.view(), stage, weights)?;
        for (row, scale) in out.outer_iter_mut().zip(self.input_scaler.scale().iter().cycle()) {
            row.into_iter().for_each(|v| *v /= scale);
        }
        Ok(Some(out))
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(self.network.parameters())
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        if let Some(file) = &self.file {
            archive.put_bytes("network.file", file)?;
        }
        put_parameters(archive, "network", self.network.parameters())?;
        let (p, k) = self.weights.dim();
        archive.put_f64("readout.weights", &[p, k], self.weights.iter().copied().collect())?;
        if let OutputCombination::Factorized(directions) = &self.combination {
            let (c, k) = directions.dim();
            let values = directions.iter().copied().collect();
            archive.put_f64("readout.directions", &[c, k], values)?;
        }
        archive.put_f64("eigenvalues", &[k], self.eigenvalues.clone())?;
        self.input_scaler.save(archive, INPUT_SCALER)
    }
}
