//! The kernel as landmarks see it, K̂ = K_nL K_LL⁻¹ K_Ln ≼ K, and its eigenpairs over any number of points.
//!
//! With K_LL = LLᵀ and Φ = K_nL L⁻ᵀ (n × m), K̂ = ΦΦᵀ, and the eigenpairs z, μ̂ of ΦᵀΦ/n (m × m) are those of
//! the operator of K̂ on n points: ψ̂(x) = κ(x, L) L⁻ᵀ z/√μ̂. One pass over the points suffices, with O(m²)
//! numbers and one block of rows in memory. What K̂ lacks, ε = (tr K − ‖Φ‖²)/n, bounds the error of every
//! eigenvalue on these points: 0 ≤ μ_j − μ̂_j ≤ ε (K − K̂ is positive semi-definite, and Weyl).

use std::sync::Arc;

use ndarray::{Axis, s};
use rayon::prelude::*;

use super::Nystrom;
use super::landmark_points::LandmarkPoints;
use crate::error::{Error, Result};
use crate::kernel::{IndexedPoints, Kernel, index};
use crate::linalg::{
    GramSum, PivotedCholesky, canonical_signs, expect_finite_f64, matmul_f64, norm2, top_eigh,
};
use crate::matrix::{Mat, Mat64};
use crate::operator::Batch;

/// Rows of K_nL that one task evaluates.
const ROWS: usize = 256;
/// Where the smallest pivot is above this share of the largest, K_nL may be evaluated in single precision: its
/// rounding is below 1e-5 of any direction of Φ.
const SINGLE: f64 = 1e-4;
/// The largest error of single precision on some landmarks, beside the largest value, that is no more than
/// rounding.
const SINGLE_LIMIT: f64 = 1e-6;
/// Landmarks that this is measured on.
const PROBES: usize = 64;
/// Where the smallest pivot of K_LL is below this share of the largest, Φ is formed for each block; above,
/// GᵀG, G = K_nL, is summed and L applied to the sum, which costs half but squares the condition number.
const SQUARABLE: f64 = 1e-7;

/// K̂ of some landmarks.
#[derive(Debug, Clone)]
pub(crate) struct LowRank {
    kernel: Arc<dyn Kernel>,
    /// In the order of the pivots.
    landmarks: LandmarkPoints,
    /// L, m × m.
    factor: PivotedCholesky,
    /// Whether values are evaluated in single precision.
    single: bool,
}

/// What a pass over points leaves: n, tr K and the second moments of Φ or K_nL.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    second: GramSum,
    trace: f64,
    points: usize,
}

/// The leading eigenpairs of K̂ under some points.
#[derive(Debug, Clone)]
pub(crate) struct LowRankPairs {
    /// μ̂, descending.
    pub(crate) values: Vec<f64>,
    /// z, m × k, orthonormal.
    pub(crate) vectors: Mat64,
    /// ε = (tr K − ‖Φ‖²)/n, what K̂ lacks of the trace; rounding may leave less than 0, which counts as 0.
    pub(crate) remainder: f64,
    /// E κ(x, x).
    pub(crate) trace: f64,
}

/// Whether single precision differs from double on some landmarks by rounding alone.
fn single_is_rounding(kernel: &dyn Kernel, landmarks: IndexedPoints<'_>) -> bool {
    let some = landmarks.range(0..landmarks.len().min(PROBES));
    if kernel.is_costly() {
        return false;
    }
    let (n, m) = (some.len(), landmarks.len());
    let (mut double, mut single) = (Mat64::zeros((n, m)), Mat::zeros((n, m)));
    let evaluated = index::gram(kernel, some, landmarks, double.view_mut())
        .and_then(|()| index::gram_f32(kernel, some, landmarks, single.view_mut()));
    if evaluated.is_err() {
        return false;
    }
    let largest = double.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    // Written so that NaN fails.
    double.iter().zip(&single).all(|(d, s)| (d - f64::from(*s)).abs() <= SINGLE_LIMIT * largest)
}

impl LowRank {
    /// From landmarks in the order of `factor`, the Cholesky decomposition of their Gram matrix.
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        landmarks: LandmarkPoints,
        factor: PivotedCholesky,
    ) -> Self {
        let single = factor.smallest_relative_pivot() >= SINGLE
            && single_is_rounding(&*kernel, landmarks.points());
        LowRank { kernel, landmarks, factor, single }
    }

    /// m, the number of landmarks.
    pub(crate) fn rank(&self) -> usize {
        self.factor.rank()
    }

    fn squarable(&self) -> bool {
        self.factor.smallest_relative_pivot() >= SQUARABLE
    }

    /// κ(x, L), n × m; evaluated in single precision where that changes nothing that counts. O(n m d).
    ///
    /// # Errors
    /// What the kernel reports.
    pub(crate) fn values(&self, x: IndexedPoints<'_>) -> Result<Mat64> {
        let mut out = Mat64::zeros((x.len(), self.rank()));
        let mut blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS).enumerate().collect();
        blocks.par_iter_mut().try_for_each(|(block, out)| {
            let first = *block * ROWS;
            let rows = x.range(first..first + out.nrows());
            if !self.single {
                return index::gram(&*self.kernel, rows, self.landmarks.points(), out.view_mut());
            }
            let mut values = Mat::zeros(out.dim());
            index::gram_f32(&*self.kernel, rows, self.landmarks.points(), values.view_mut())?;
            out.zip_mut_with(&values, |to, v| *to = f64::from(*v));
            Ok(())
        })?;
        Ok(out)
    }

    /// Φ(x), n × m, with Φ(x)ᵀΦ(x') = κ̂(x, x'). O(n m (d + m)).
    ///
    /// # Errors
    /// What the kernel reports; [`Error::Numerical`] for values that are not finite.
    pub(crate) fn features(&self, x: IndexedPoints<'_>) -> Result<Mat64> {
        let phi = self.factor.solve_rows(self.values(x)?)?;
        expect_finite_f64("kernel values at the landmarks", phi.view())?;
        Ok(phi)
    }

    /// L⁻¹B for B = Σ κ(L, xᵢ)vᵢᵀ, m × p: Σ Φ(xᵢ)vᵢᵀ.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(crate) fn whitened(&self, sums: &Mat64) -> Result<Mat64> {
        Ok(self.factor.solve_rows(sums.t().to_owned())?.reversed_axes())
    }

    /// The empty moments of a pass over points.
    pub(crate) fn moments(&self) -> Moments {
        Moments { second: GramSum::new(self.rank()), trace: 0.0, points: 0 }
    }

    /// Adds the points of `batch` to `moments`; their values κ(x, L) are returned. O(n m (d + m)).
    ///
    /// # Errors
    /// What the kernel reports; [`Error::NonFinite`].
    pub(crate) fn add(&self, batch: &Batch, moments: &mut Moments) -> Result<Mat64> {
        let values = self.values(batch.points())?;
        self.add_values(batch, values, moments)
    }

    /// The same with κ(x, L), n × m, at hand.
    ///
    /// # Errors
    /// As [`add`](LowRank::add).
    pub(crate) fn add_values(
        &self,
        batch: &Batch,
        values: Mat64,
        moments: &mut Moments,
    ) -> Result<Mat64> {
        let own: f64 = index::diag(&*self.kernel, batch.points())?.iter().sum();
        expect_finite_f64("kernel values at the landmarks", values.view())?;
        moments.trace += own;
        moments.points += batch.indices.len();
        if self.squarable() {
            moments.second.add(values.view())?;
        } else {
            moments.second.add(self.factor.solve_rows(values.clone())?.view())?;
        }
        Ok(values)
    }

    /// The k leading eigenpairs of K̂ on the points of `moments`, or as many as are above rounding.
    /// O(m³).
    ///
    /// # Errors
    /// [`Error::Numerical`] when there is none.
    pub(crate) fn pairs(&self, moments: &Moments, k: usize) -> Result<LowRankPairs> {
        let mut second = moments.second.mean(moments.points.max(1))?;
        if self.squarable() {
            // L⁻¹ M L⁻ᵀ, symmetric but for rounding.
            let half = self.factor.solve_rows(second)?;
            second = self.factor.solve_rows(half.reversed_axes())?;
            second = (&second + &second.t()) * 0.5;
        }
        let captured: f64 = second.diag().sum();
        let trace = moments.trace / moments.points.max(1) as f64;
        let size = norm2(second.iter().copied());
        let found = top_eigh(second.view(), k)?;
        let floor = self.rank().max(10) as f64 * f64::EPSILON * size;
        let usable = found.values.iter().take_while(|v| **v > floor && **v > 0.0).count();
        if usable == 0 {
            let message = "the kernel vanishes between the points and the landmarks".to_string();
            let what = format!("Nyström on {} landmarks", self.rank());
            return Err(Error::Numerical { what, message });
        }
        Ok(LowRankPairs {
            values: found.values[..usable].to_vec(),
            vectors: found.vectors.slice(s![.., ..usable]).to_owned(),
            remainder: (trace - captured).max(0.0),
            trace,
        })
    }

    /// The eigenfunctions of `pairs` as a map: ψ(x) = κ(x, L) L⁻ᵀz/√μ̂, with Σψ³ ≥ 0 over the landmarks.
    ///
    /// # Errors
    /// As [`Nystrom::from_parts`].
    pub(crate) fn map(&self, pairs: &mut LowRankPairs) -> Result<Nystrom> {
        // κ(L, L) L⁻ᵀ = L.
        let lower = self.factor.lower()?;
        let signs = canonical_signs(matmul_f64(lower.view(), pairs.vectors.view())?.view());
        pairs.vectors.axis_iter_mut(Axis(1)).zip(signs).for_each(|(mut z, sign)| z *= sign);
        let mut projection =
            self.factor.solve_rows_transposed(pairs.vectors.t().to_owned())?.reversed_axes();
        for (mut column, mu) in projection.axis_iter_mut(Axis(1)).zip(&pairs.values) {
            column /= mu.sqrt();
        }
        let projection = projection.as_standard_layout().into_owned();
        let (kernel, values) = (Arc::clone(&self.kernel), pairs.values.clone());
        Nystrom::from_landmarks(kernel, self.landmarks.clone(), projection, values)
    }
}
