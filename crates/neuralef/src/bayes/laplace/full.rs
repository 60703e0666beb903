//! Curvature with as many coordinates as parameters: these, or products of eigenvectors layer by layer.

use ndarray::{Array3, s};
use rayon::prelude::*;

use super::curvature::{Block, Curvature};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64};
use crate::nn::WeightLayer;
use crate::persist::Archive;

/// Parameters that one task sums over.
pub(super) const WIDTH: usize = 1 << 12;

/// One layer: weights (and biases after them) of `inputs` × `outputs`, with the eigenvectors of the two
/// factors.
pub(super) struct KroneckerFactors {
    pub(super) place: WeightLayer,
    /// Eigenvectors of E aaᵀ, rows × rows with a row for the biases.
    pub(super) left: Mat,
    /// Eigenvectors of Σ ggᵀ, outputs × outputs.
    pub(super) right: Mat,
}

impl KroneckerFactors {
    /// The numbers of one vector that belong to this layer, in rows.
    fn gather(&self, from: &[f32]) -> Mat {
        let mut to = Mat::zeros((self.place.rows(), self.place.outputs));
        let (weight, bias) = (self.place.weight.clone(), self.place.bias.clone());
        let numbers = from[weight].iter().chain(&from[bias]);
        to.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
        to
    }

    fn scatter(&self, from: &Mat, to: &mut [f32]) {
        let (weight, bias) = (self.place.weight.clone(), self.place.bias.clone());
        let mut from = from.iter();
        to[weight].iter_mut().zip(from.by_ref()).for_each(|(to, from)| *to = *from);
        to[bias].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// A value λ for each parameter, in the eigenvectors of a Kronecker product for each of `layers`; other
/// parameters are coordinates as they are.
pub(super) struct FullCurvature {
    pub(super) layers: Vec<KroneckerFactors>,
    /// λ, in the places of the parameters.
    pub(super) values: Vec<f64>,
}

impl Curvature for FullCurvature {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn wants_jacobian(&self) -> bool {
        true
    }

    fn features(&self, _: &Block<'_>) -> Result<Mat64> {
        Err(Error::Unsupported {
            what: "keeping features of points for as many coordinates as parameters".into(),
            reason: "they would fill memory; choose the prior precision by marginal likelihood"
                .into(),
        })
    }

    fn covariance(&self, block: &Block<'_>, variances: &[f64]) -> Result<Array3<f64>> {
        let deviations: Vec<f32> = variances.iter().map(|v| v.sqrt() as f32).collect();
        scaled_jacobian_covariance(block, |row| {
            for layer in &self.layers {
                // U_AᵀJU_G, in the place of J.
                let turned = layer.left.t().dot(&layer.gather(row)).dot(&layer.right);
                layer.scatter(&turned, row);
            }
            row.iter_mut().zip(&deviations).for_each(|(j, d)| *j *= d);
        })
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        archive.put_f64("curvature.values", &[self.values.len()], self.values.clone())?;
        for (number, layer) in self.layers.iter().enumerate() {
            for (name, matrix) in [("left", &layer.left), ("right", &layer.right)] {
                let (size, name) = (matrix.nrows(), format!("curvature.{number}.{name}"));
                archive.put_f32(&name, &[size, size], matrix.iter().copied().collect())?;
            }
        }
        Ok(())
    }
}

/// JJᵀ of each point, n × C × C, for gradients that `scale` has changed in place, summed in double
/// precision.
fn scaled_jacobian_covariance(
    block: &Block<'_>,
    scale: impl Fn(&mut [f32]) + Sync,
) -> Result<Array3<f64>> {
    let (c, jacobian) = (block.outputs(), block.jacobian()?);
    let width = jacobian.ncols();
    let mut out = Array3::zeros((block.x.nrows(), c, c));
    let products: Vec<Mat64> = (0..block.x.nrows())
        .into_par_iter()
        .map(|i| {
            let mut rows = jacobian.slice(s![i * c..(i + 1) * c, ..]).to_owned();
            if let Some(all) = rows.as_slice_mut() {
                all.chunks_exact_mut(width).for_each(&scale);
            }
            let mut sum = Mat64::zeros((c, c));
            for start in (0..width).step_by(WIDTH) {
                let part = rows.slice(s![.., start..(start + WIDTH).min(width)]);
                let part = part.mapv(f64::from);
                sum += &linalg::matmul_f64(part.view(), part.t())?;
            }
            Ok(sum)
        })
        .collect::<Result<_>>()?;
    for (i, sum) in products.iter().enumerate() {
        out.slice_mut(s![i, .., ..]).assign(sum);
    }
    Ok(out)
}
