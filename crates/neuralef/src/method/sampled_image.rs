//! T̂ψ at new points for eigenfunctions found through K̂, at a cost that does not grow with n·m.
//!
//! With K̂ = ΦΦᵀ and c = Φᵀψ/n over all n points of the fit,
//! T̂ψ(x) = Φ(x)ᵀc + E_i (κ − κ̂)(x, xᵢ)ψ(xᵢ). The first term is exact, and the second, whose terms are small,
//! is a mean over some of the points (a control variate). Two disjoint halves of these give two independent
//! estimates, whose product has no squared noise.

use std::sync::Arc;

use super::low_rank::LowRank;
use crate::error::Result;
use crate::fit::certificate::Image;
use crate::fit::problem::every;
use crate::linalg::{matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat64, MatRef};
use crate::operator::{Batch, KernelOperator};

/// The fewest points in the mean, where there are as many.
const LEAST: usize = 256;
/// The most.
const MOST: usize = 4096;
/// The share of the points of the fit otherwise.
const SHARE: usize = 16;

/// Which of the points of a fit, `rows`, the mean of the second term goes over.
pub(super) fn sampled(rows: &[usize]) -> Vec<usize> {
    every(rows, (rows.len() / SHARE).clamp(LEAST, MOST))
}

/// See the [module](self).
pub(super) struct SampledImage {
    low_rank: LowRank,
    operator: Arc<dyn KernelOperator>,
    halves: Vec<Half>,
}

struct Half {
    /// c less what K̂ says of this half, m × k.
    coefficients: Mat64,
    points: Batch,
    /// ψ at these points.
    psi: Mat64,
}

impl SampledImage {
    /// For ψ = `eigenfunctions`, c = `coefficients` (m × k) and the points `sample` of the fit.
    ///
    /// # Errors
    /// What kernel and eigenfunctions report.
    pub(super) fn new(
        low_rank: LowRank,
        operator: Arc<dyn KernelOperator>,
        sample: &Batch,
        coefficients: &Mat64,
        eigenfunctions: impl Fn(MatRef<'_>) -> Result<Mat64>,
    ) -> Result<Self> {
        let count = if sample.indices.len() >= 4 { 2 } else { 1 };
        let mut halves = Vec::with_capacity(count);
        for first in 0..count {
            let numbers: Vec<usize> = (first..sample.indices.len()).step_by(count).collect();
            let half = Batch {
                indices: numbers.iter().map(|&i| sample.indices[i]).collect(),
                x: sample.x.select(ndarray::Axis(0), &numbers),
            };
            let psi = eigenfunctions(half.x.view())?;
            let phi = low_rank.features(half.points())?;
            let seen = tr_matmul_f64(phi.view(), psi.view())? / numbers.len() as f64;
            halves.push(Half { coefficients: coefficients - &seen, points: half, psi });
        }
        Ok(SampledImage { low_rank, operator, halves })
    }
}

impl Image for SampledImage {
    fn at(&self, points: &Batch, _: &Mat64) -> Result<Vec<Mat64>> {
        let phi = self.low_rank.features(points.points())?;
        let part = |half: &Half| -> Result<Mat64> {
            let sample = std::slice::from_ref(&half.points);
            let applied = self.operator.applied(sample, half.psi.clone())?;
            Ok(matmul_f64(phi.view(), half.coefficients.view())? + &applied.at(points)?)
        };
        self.halves.iter().map(part).collect()
    }
}
