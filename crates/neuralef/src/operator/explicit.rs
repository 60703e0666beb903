//! The operator of an explicit kernel: κ is evaluated on the batch, never stored beyond a block.

use std::sync::Arc;

use ndarray::{Array2, s};
use rayon::prelude::*;

use super::{AppliedOperator, BLOCK, Batch, Diagonal, KernelOperator, Tick, finish_batch};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, index};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatMut, MatRef};

/// Rows of the Gram matrix evaluated at a time in training; fixed, so that bits do not depend on
/// the number of threads.
const TRAIN_ROWS: usize = 64;
/// Rows × columns of a Gram block in a readout: 64 × 1024 doubles, half a megabyte a thread.
const IMAGE_ROWS: usize = 64;
const IMAGE_COLUMNS: usize = 1024;

/// T for a kernel that can be evaluated at any two points.
#[derive(Debug, Clone)]
pub struct ExplicitOperator {
    kernel: Arc<dyn Kernel>,
}

impl ExplicitOperator {
    /// The operator of `kernel`.
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        ExplicitOperator { kernel }
    }
}

impl KernelOperator for ExplicitOperator {
    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        diagonal: Diagonal,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        let n = psi.nrows();
        check_rows(batch, n)?;
        let mut blocks: Vec<_> =
            out.axis_chunks_iter_mut(ndarray::Axis(0), TRAIN_ROWS).enumerate().collect();
        blocks.par_iter_mut().try_for_each(|(block, out)| -> Result<()> {
            let start = *block * TRAIN_ROWS;
            let rows = batch.points().range(start..start + out.nrows());
            let mut gram = Mat::zeros((out.nrows(), n));
            index::gram_f32(&*self.kernel, rows, batch.points(), gram.view_mut())?;
            let mut image = linalg::matmul_f32(gram.view(), psi)?;
            let own = (0..out.nrows()).map(|i| gram[[i, start + i]]).collect::<Vec<_>>();
            finish_batch(image.view_mut(), psi.slice(s![start.., ..]), &own, n, diagonal);
            out.assign(&image);
            Ok(())
        })
    }

    fn applied<'a>(
        &'a self,
        sample: &[Batch],
        values: Mat64,
    ) -> Result<Box<dyn AppliedOperator + 'a>> {
        let points = stack(sample, &values)?;
        Ok(Box::new(AppliedKernel { kernel: &*self.kernel, points, values }))
    }

    fn quadratic_form(
        &self,
        sample: &[Batch],
        values: &Mat64,
        tick: &mut Tick<'_>,
    ) -> Result<Mat64> {
        // With K = L + Lᵀ, L its lower triangle and half its diagonal, BᵀKB = S + Sᵀ for S = BᵀLB:
        // half the pairs and half the products.
        let sample = stack(sample, values)?;
        let (n, r) = values.dim();
        let mut sum = Mat64::zeros((r, r));
        let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
        for (done, &start) in starts.iter().enumerate() {
            tick(done, starts.len())?;
            let rows = start..(start + BLOCK).min(n);
            let mut out = Mat64::zeros((rows.len(), r));
            let mut parts: Vec<_> =
                out.axis_chunks_iter_mut(ndarray::Axis(0), IMAGE_ROWS).enumerate().collect();
            parts.par_iter_mut().try_for_each(|(part, out)| -> Result<()> {
                let first = start + *part * IMAGE_ROWS;
                let own = first..first + out.nrows();
                let points = sample.points().range(own.clone());
                for column in (0..own.end).step_by(IMAGE_COLUMNS) {
                    let columns = column..(column + IMAGE_COLUMNS).min(own.end);
                    let mut gram = Array2::zeros((own.len(), columns.len()));
                    let others = sample.points().range(columns.clone());
                    index::gram(&*self.kernel, points, others, gram.view_mut())?;
                    for (i, mut row) in gram.outer_iter_mut().enumerate() {
                        for j in (first + i).max(column)..columns.end {
                            row[j - column] *= if j == first + i { 0.5 } else { 0.0 };
                        }
                    }
                    let product = linalg::matmul_f64(gram.view(), values.slice(s![columns, ..]))?;
                    *out += &product;
                }
                Ok(())
            })?;
            sum += &linalg::tr_matmul_f64(values.slice(s![rows, ..]), out.view())?;
        }
        sum /= n as f64;
        sum /= n as f64;
        Ok(&sum + &sum.t())
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        index::diag(&*self.kernel, batch.points())
    }
}

struct AppliedKernel<'a> {
    kernel: &'a dyn Kernel,
    points: Batch,
    values: Mat64,
}

impl AppliedOperator for AppliedKernel<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        let (n, r) = self.values.dim();
        let mut out = Mat64::zeros((points.x.nrows(), r));
        let mut blocks: Vec<_> =
            out.axis_chunks_iter_mut(ndarray::Axis(0), IMAGE_ROWS).enumerate().collect();
        blocks.par_iter_mut().try_for_each(|(block, out)| -> Result<()> {
            let start = *block * IMAGE_ROWS;
            let rows = points.points().range(start..start + out.nrows());
            let mut sum = Mat64::zeros((out.nrows(), r));
            for column in (0..n).step_by(IMAGE_COLUMNS) {
                let columns = column..(column + IMAGE_COLUMNS).min(n);
                let mut gram = Array2::zeros((out.nrows(), columns.len()));
                let others = self.points.points().range(columns.clone());
                index::gram(self.kernel, rows, others, gram.view_mut())?;
                sum += &linalg::matmul_f64(gram.view(), self.values.slice(s![columns, ..]))?;
            }
            sum /= n as f64;
            out.assign(&sum);
            Ok(())
        })?;
        Ok(out)
    }
}

/// The points of `sample`, one for each row of `values`.
fn stack(sample: &[Batch], values: &Mat64) -> Result<Batch> {
    let n: usize = sample.iter().map(|b| b.x.nrows()).sum();
    if n != values.nrows() || n == 0 {
        return Err(Error::shape("values of the image", format!("{n} × r"), dims(values)));
    }
    let views: Vec<_> = sample.iter().map(|b| b.x.view()).collect();
    let x = ndarray::concatenate(ndarray::Axis(0), &views)
        .map_err(|e| Error::shape("sample of the image", "equal widths", e))?;
    Ok(Batch { indices: sample.iter().flat_map(|b| b.indices.iter().copied()).collect(), x })
}

fn check_rows(batch: &Batch, rows: usize) -> Result<()> {
    if batch.x.nrows() == rows {
        return Ok(());
    }
    Err(Error::shape("ψ on the batch", format!("{} × k", batch.x.nrows()), format!("{rows} × k")))
}

fn dims(m: &Mat64) -> String {
    format!("{} × {}", m.nrows(), m.ncols())
}
