//! What networks, samples of them and learned eigenfunctions say about points.

use ndarray::{Array3, ArrayView2, Axis};

use crate::bayes::GaussianOutputs;
use crate::bayes::predictive::products;
use crate::calibration::softmax;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::Model;
use crate::matrix::{Mat64, MatRef};
use crate::nn::Network;

/// Points evaluated together.
const POINTS: usize = 1024;

/// Gives `work` the points of `data` in blocks, in order.
pub(super) fn for_blocks(
    data: &Dataset,
    mut work: impl FnMut(MatRef<'_>) -> Result<()>,
) -> Result<()> {
    for start in (0..data.len()).step_by(POINTS) {
        work(data.range(start..(start + POINTS).min(data.len()))?.view())?;
    }
    Ok(())
}

/// The outputs of `network` at `data`, n × C, batch normalisation by its running statistics.
///
/// # Errors
/// What reading the data and the network report.
pub fn logits(network: &dyn Network, data: &Dataset) -> Result<Mat64> {
    let c = network.functions() * network.outputs();
    let mut all = Vec::with_capacity(data.len() * c);
    for_blocks(data, |x| {
        all.extend(network.forward(x, None)?.iter().map(|v| f64::from(*v)));
        Ok(())
    })?;
    let got = all.len();
    Mat64::from_shape_vec((data.len(), c), all)
        .map_err(|_| Error::shape("outputs of the network", format!("{} × {c}", data.len()), got))
}

/// Covariances of the C outputs at each of `data` under the Gaussian process of a fitted kernel,
/// Σ_j φ_j(x)φ_j(x)ᵀ ≈ κ(x, x): n × C × C. O(n C² k) beside the transform.
///
/// # Errors
/// As [`Model::transform`].
pub fn covariances(model: &Model, data: &Dataset) -> Result<Array3<f64>> {
    let c = model.outputs();
    let mut out = Array3::zeros((data.len(), c, c));
    let mut next = 0;
    for_blocks(data, |x| {
        let phi = model.transform(x)?.mapv(f64::from);
        for phi in phi.axis_chunks_iter(Axis(0), c) {
            out.index_axis_mut(Axis(0), next).assign(&products(phi));
            next += 1;
        }
        Ok(())
    })?;
    Ok(out)
}

/// The Gaussian process at `data`: the outputs of `network` with the covariances of `kernel`, whose
/// probabilities are those of [`GaussianOutputs::probabilities`].
///
/// # Errors
/// Those of [`logits`] and [`covariances`], [`Error::Shape`] when they have other outputs.
pub fn predict(network: &dyn Network, kernel: &Model, data: &Dataset) -> Result<GaussianOutputs> {
    let c = network.functions() * network.outputs();
    if c != kernel.outputs() {
        return Err(Error::shape("outputs of the network", kernel.outputs(), c));
    }
    Ok(GaussianOutputs { mean: logits(network, data)?, covariance: covariances(kernel, data)? })
}

/// The same from features as they are, (n·C) × S: ΦΦᵀ/S, point by point. Of centred outputs of the
/// states of a trajectory at the points themselves that is the kernel without approximation.
///
/// # Errors
/// [`Error::Shape`] when `outputs` does not divide the rows; what reading a file reports.
pub fn covariances_of_features(features: &Dataset, outputs: usize) -> Result<Array3<f64>> {
    let (rows, samples) = (features.len(), features.width());
    if outputs == 0 || !rows.is_multiple_of(outputs) {
        return Err(Error::shape("features", format!("(n·{outputs}) × S"), rows));
    }
    let mut out = Array3::zeros((rows / outputs, outputs, outputs));
    for (i, mut out) in out.axis_iter_mut(Axis(0)).enumerate() {
        let phi = features.range(i * outputs..(i + 1) * outputs)?.mapv(f64::from);
        out.assign(&(products(phi.view()) / samples as f64));
    }
    Ok(out)
}

/// The mean over networks of the softmax of their outputs.
#[derive(Debug, Clone, Default)]
pub struct MeanSoftmax {
    sum: Mat64,
    count: usize,
}

impl MeanSoftmax {
    /// Takes in the outputs of a network, n × C.
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::Shape`] for another shape than before.
    pub fn add(&mut self, outputs: ArrayView2<'_, f64>) -> Result<()> {
        let p = softmax(outputs)?;
        match self.count {
            0 => self.sum = p,
            _ if p.dim() != self.sum.dim() => {
                let text = |(n, c): (usize, usize)| format!("{n} × {c}");
                return Err(Error::shape("outputs", text(self.sum.dim()), text(p.dim())));
            }
            _ => self.sum += &p,
        }
        self.count += 1;
        Ok(())
    }

    /// How many networks there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The probabilities, n × C; of none, an empty matrix.
    pub fn probabilities(&self) -> Mat64 {
        &self.sum / self.count.max(1) as f64
    }
}
