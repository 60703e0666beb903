//! The operator of explicit features Φ: κ(x, x') = φ(x)ᵀφ(x')/S, applied without forming κ.

use ndarray::Axis;

use super::{Batch, Diagonal, Image, KernelOperator, finish_batch};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatMut, MatRef};

/// Points whose features are gathered at a time when all are streamed.
const POINTS: usize = 1024;

/// T for features Φ of the rows of a dataset, in memory or memory-mapped: Monte-Carlo features of
/// an NN-GP or tangent kernel, or any feature map of the user's own.
///
/// Φ holds S numbers for each (point, output): (N·C) × S, so that a batch is a gather of whole
/// rows. Kψ = Φ(Φᵀψ)/S costs O(B·C·S·k) and stores nothing but the gathered rows.
#[derive(Clone)]
pub struct FeatureOperator {
    features: Dataset,
    outputs: usize,
}

impl FeatureOperator {
    /// The operator of `features`, (N·C) × S with the C outputs of a point in consecutive rows.
    ///
    /// # Errors
    /// When the number of rows is not a multiple of `outputs`.
    pub fn new(features: Dataset, outputs: usize) -> Result<Self> {
        if outputs == 0 || !features.len().is_multiple_of(outputs) || features.width() == 0 {
            let got = format!("{} × {}", features.len(), features.width());
            return Err(Error::shape("features", format!("(N·{outputs}) × S"), got));
        }
        Ok(FeatureOperator { features, outputs })
    }

    /// Number of points N.
    pub fn points(&self) -> usize {
        self.features.len() / self.outputs
    }

    fn gather(&self, points: &[usize]) -> Result<Mat> {
        let c = self.outputs;
        if c == 1 {
            return self.features.rows(points);
        }
        let rows: Vec<usize> = points.iter().flat_map(|p| p * c..(p + 1) * c).collect();
        self.features.rows(&rows)
    }
}

impl KernelOperator for FeatureOperator {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        diagonal: Diagonal,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        let phi = self.gather(&batch.indices)?;
        let projected = linalg::matmul_f32(phi.t(), psi)?;
        out.assign(&linalg::matmul_f32(phi.view(), projected.view())?);
        let scale = 1.0 / phi.ncols() as f32;
        out.mapv_inplace(|v| v * scale);
        match (self.outputs, diagonal) {
            (1, _) | (_, Diagonal::Keep) => {
                let own: Vec<f32> = phi.axis_iter(Axis(0)).map(|r| r.dot(&r) * scale).collect();
                finish_batch(out, psi, &own, batch.indices.len(), diagonal);
            }
            // With C outputs a point's own pairs form a C × C block.
            (c, Diagonal::Drop) => {
                for (p, mut rows) in out.axis_chunks_iter_mut(Axis(0), c).enumerate() {
                    let own = phi.slice(ndarray::s![p * c..(p + 1) * c, ..]);
                    let block = own.dot(&own.t()) * scale;
                    rows -= &block.dot(&psi.slice(ndarray::s![p * c..(p + 1) * c, ..]));
                    rows /= (batch.indices.len() - 1) as f32;
                }
            }
        }
        Ok(())
    }

    fn image<'a>(&'a self, sample: &[Batch], values: Mat64) -> Result<Box<dyn Image + 'a>> {
        let n: usize = sample.iter().map(|b| b.indices.len()).sum();
        if n * self.outputs != values.nrows() || n == 0 {
            let got = format!("{} × {}", values.nrows(), values.ncols());
            return Err(Error::shape(
                "values of the image",
                format!("{} × r", n * self.outputs),
                got,
            ));
        }
        // W = Φᵀv/(nS), streamed: S × r whatever the size of the sample.
        let s = self.features.width();
        let mut weights = Mat64::zeros((s, values.ncols()));
        let mut row = 0;
        for points in sample.iter().flat_map(|b| b.indices.chunks(POINTS)) {
            let phi = self.gather(points)?.mapv(f64::from);
            let part = values.slice(ndarray::s![row..row + phi.nrows(), ..]);
            weights += &linalg::tr_matmul_f64(phi.view(), part)?;
            row += phi.nrows();
        }
        weights /= (n * s) as f64;
        Ok(Box::new(FeatureImage { operator: self, weights }))
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        let phi = self.gather(&batch.indices)?;
        let scale = 1.0 / phi.ncols() as f64;
        let square = |v: &f32| f64::from(*v) * f64::from(*v);
        Ok(phi
            .axis_chunks_iter(Axis(0), self.outputs)
            .map(|rows| rows.iter().map(square).sum::<f64>() * scale)
            .collect())
    }
}

struct FeatureImage<'a> {
    operator: &'a FeatureOperator,
    weights: Mat64,
}

impl Image for FeatureImage<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        let c = self.operator.outputs;
        let mut out = Mat64::zeros((points.indices.len() * c, self.weights.ncols()));
        for (block, chunk) in points.indices.chunks(POINTS).enumerate() {
            let phi = self.operator.gather(chunk)?.mapv(f64::from);
            let image = linalg::matmul_f64(phi.view(), self.weights.view())?;
            let start = block * POINTS * c;
            out.slice_mut(ndarray::s![start..start + image.nrows(), ..]).assign(&image);
        }
        Ok(out)
    }
}
