//! The operator of a Gram matrix the user computed elsewhere.

use ndarray::Axis;

use super::{Batch, Diagonal, Image, KernelOperator, finish_batch};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatMut, MatRef};

/// Rows gathered at a time when the whole matrix is streamed.
const ROWS: usize = 256;

/// T for a precomputed N × N Gram matrix over the rows of a dataset, in memory or memory-mapped.
#[derive(Clone)]
pub struct PrecomputedOperator {
    gram: Dataset,
}

impl PrecomputedOperator {
    /// The operator of the Gram matrix `gram` (N × N, symmetric).
    ///
    /// # Errors
    /// When it is not square, or a sample of its entries is not symmetric.
    pub fn new(gram: Dataset) -> Result<Self> {
        let (n, d) = (gram.len(), gram.width());
        if n != d {
            return Err(Error::shape("gram", "N × N", format!("{n} × {d}")));
        }
        let probe: Vec<usize> = (0..n).step_by(n.div_ceil(64).max(1)).collect();
        let rows = gram.rows(&probe)?;
        let scale = rows.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, &i) in probe.iter().enumerate() {
            for (b, &j) in probe.iter().enumerate() {
                let (x, y) = (rows[[a, j]], rows[[b, i]]);
                if (x - y).abs() > 1e-4 * scale {
                    return Err(Error::parameter(
                        "gram",
                        "a symmetric matrix",
                        format!("{x} at ({i}, {j}) and {y} at ({j}, {i})"),
                    ));
                }
            }
        }
        Ok(PrecomputedOperator { gram })
    }

    fn block(&self, rows: &[usize], columns: &[usize]) -> Result<Mat> {
        Ok(self.gram.rows(rows)?.select(Axis(1), columns))
    }
}

impl KernelOperator for PrecomputedOperator {
    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        diagonal: Diagonal,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        let gram = self.block(&batch.indices, &batch.indices)?;
        out.assign(&linalg::matmul_f32(gram.view(), psi)?);
        finish_batch(out, psi, &gram.diag().to_vec(), batch.indices.len(), diagonal);
        Ok(())
    }

    fn image<'a>(&'a self, sample: &[Batch], values: Mat64) -> Result<Box<dyn Image + 'a>> {
        let columns: Vec<usize> = sample.iter().flat_map(|b| b.indices.iter().copied()).collect();
        if columns.len() != values.nrows() || columns.is_empty() {
            let got = format!("{} × {}", values.nrows(), values.ncols());
            return Err(Error::shape("values of the image", format!("{} × r", columns.len()), got));
        }
        Ok(Box::new(PrecomputedImage { operator: self, columns, values }))
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        let rows = self.gram.rows(&batch.indices)?;
        Ok(batch.indices.iter().enumerate().map(|(r, &i)| f64::from(rows[[r, i]])).collect())
    }

    fn unit_roundoff(&self) -> f64 {
        f64::from(f32::EPSILON)
    }
}

struct PrecomputedImage<'a> {
    operator: &'a PrecomputedOperator,
    columns: Vec<usize>,
    values: Mat64,
}

impl Image for PrecomputedImage<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        let mut out = Mat64::zeros((points.indices.len(), self.values.ncols()));
        for (block, rows) in points.indices.chunks(ROWS).enumerate() {
            let gram = self.operator.block(rows, &self.columns)?.mapv(f64::from);
            let image = linalg::matmul_f64(gram.view(), self.values.view())?;
            out.slice_mut(ndarray::s![block * ROWS..block * ROWS + rows.len(), ..])
                .assign(&(image / self.columns.len() as f64));
        }
        Ok(out)
    }
}
