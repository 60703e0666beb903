//! The kernel operator T: (Tψ)(x) = E[κ(x, x') ψ(x')], the only thing training and readouts see of a kernel.

use ndarray::s;

use crate::error::{Error, Result};
use crate::kernel::IndexedPoints;
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatMut, MatRef};

mod eigenpairs;
mod explicit;
mod features;
mod matrix_valued;
#[cfg(test)]
mod matrix_valued_tests;
mod precomputed;
mod sampler;
pub(crate) mod spec;
mod symmetric;
#[cfg(test)]
mod tests;

pub use eigenpairs::FeatureEigenpairs;
pub use explicit::ExplicitOperator;
pub use features::FeatureOperator;
pub use matrix_valued::MatrixValued;
pub(crate) use matrix_valued::rows_of_points;
pub use precomputed::PrecomputedOperator;
pub use sampler::{Points, RowSampler, Sampler};
pub(crate) use spec::ResolvedOperator;
pub use spec::{MatrixSource, OperatorSpec};
pub(crate) use symmetric::{SymmetricGram, symmetric_gram};

/// Points in a streamed block.
pub(crate) const BLOCK: usize = 1024;

/// Told (blocks done, blocks in all) between the blocks of long work; an error ends it.
pub type Tick<'t> = dyn FnMut(usize, usize) -> Result<()> + 't;

/// Some points of a dataset: their row numbers and their values.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Row numbers in the dataset the operator was made for.
    pub indices: Vec<usize>,
    /// The points, B × d, as the kernel sees them.
    pub x: Mat,
}

impl Batch {
    /// The points with their row numbers.
    pub(crate) fn points(&self) -> IndexedPoints<'_> {
        IndexedPoints { x: self.x.view(), rows: Some(&self.indices) }
    }
}

/// What the batch mean of κ(x, x')ψ(x') does with the pairs x = x'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diagonal {
    /// Keeps them: Kψ/B, the paper's estimate (biased by E[κ(x,x)ψ²]/B).
    Keep,
    /// Drops them and divides by B − 1: the unbiased U-statistic.
    Drop,
}

/// The integral operator of a kernel under the data distribution, seen through samples.
///
/// With C outputs a point contributes C consecutive rows of ψ.
pub trait KernelOperator: Send + Sync {
    /// C, the number of outputs of the kernel.
    fn outputs(&self) -> usize {
        1
    }

    /// The operator as one of a matrix-valued kernel, where it is.
    fn matrix_valued(&self) -> Option<&dyn MatrixValued> {
        None
    }

    /// What training draws its batches by, from `rows` of `points`: [`RowSampler`] unless the units of the
    /// operator are something else than rows.
    fn sampler<'a>(
        &'a self,
        points: &'a Points,
        rows: &'a [usize],
        seed: u64,
    ) -> Box<dyn Sampler + 'a> {
        Box::new(RowSampler::new(points, rows, seed))
    }

    /// The batch estimate of Tψ: (BC × k) → (BC × k), single precision. This is the training path.
    ///
    /// # Errors
    /// Shape errors and what the kernel or its storage reports.
    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        diagonal: Diagonal,
        out: MatMut<'_>,
    ) -> Result<()>;

    /// Fixes the empirical operator of `sample` applied to `values` (n·C × r, double precision):
    /// x ↦ 1/n Σᵢ κ(x, xᵢ) valuesᵢ, to be evaluated at any points of the same dataset.
    /// This is the path of readouts and certificates.
    ///
    /// # Errors
    /// Shape errors and what the kernel or its storage reports.
    fn applied<'a>(
        &'a self,
        sample: &[Batch],
        values: Mat64,
    ) -> Result<Box<dyn AppliedOperator + 'a>>;

    /// BᵀT̂B/(nC) for the empirical operator T̂ of `sample` and values B at its n points (n·C × r,
    /// double precision), symmetrised: what a Rayleigh–Ritz readout decomposes. `tick` is told (blocks
    /// done, blocks in all), and ends the work by an error.
    ///
    /// # Errors
    /// As [`applied`](KernelOperator::applied), and what `tick` returns.
    fn quadratic_form(
        &self,
        sample: &[Batch],
        values: &Mat64,
        tick: &mut Tick<'_>,
    ) -> Result<Mat64> {
        let image = self.applied(sample, values.clone())?;
        let mut sum = Mat64::zeros((values.ncols(), values.ncols()));
        let mut row = 0;
        for (done, batch) in sample.iter().enumerate() {
            tick(done, sample.len())?;
            let t_values = image.at(batch)?;
            let own = values.slice(s![row..row + t_values.nrows(), ..]);
            sum += &linalg::tr_matmul_f64(own, t_values.view())?;
            row += t_values.nrows();
        }
        sum /= values.nrows() as f64;
        Ok((&sum + &sum.t()) * 0.5)
    }

    /// κ(x, x) at the points of `batch` (trace over outputs), one value for each point.
    ///
    /// # Errors
    /// As [`apply`](KernelOperator::apply).
    fn diag(&self, batch: &Batch) -> Result<Vec<f64>>;

    /// Relative rounding error of the kernel values that [`applied`](KernelOperator::applied) sees:
    /// eigenvalues below this level of the largest are noise.
    fn unit_roundoff(&self) -> f64 {
        f64::EPSILON
    }
}

/// Turns Σⱼ κᵢⱼψⱼ over a batch of `n` points into the mean the caller asked for; `own` holds κᵢᵢ.
fn finish_batch(mut image: MatMut<'_>, psi: MatRef<'_>, own: &[f32], n: usize, diagonal: Diagonal) {
    let divisor = match diagonal {
        Diagonal::Keep => n as f32,
        Diagonal::Drop => (n - 1).max(1) as f32,
    };
    for (i, mut row) in image.outer_iter_mut().enumerate() {
        let drop = if diagonal == Diagonal::Drop { own[i] } else { 0.0 };
        for (value, psi) in row.iter_mut().zip(psi.row(i)) {
            *value = (*value - drop * psi) / divisor;
        }
    }
}

/// Fails unless `sample` has n points.
fn expect_points(sample: &[Batch], n: usize) -> Result<()> {
    let points: usize = sample.iter().map(|b| b.indices.len()).sum();
    if points == n && n > 0 {
        return Ok(());
    }
    Err(Error::shape("functions at the sample", format!("{points} × r"), format!("{n} × r")))
}

/// The function T̂v of a fixed sample and fixed values v: see [`KernelOperator::applied`].
pub trait AppliedOperator: Send + Sync {
    /// Its values at `points`, n·C × r.
    ///
    /// # Errors
    /// As [`KernelOperator::apply`].
    fn at(&self, points: &Batch) -> Result<Mat64>;
}
