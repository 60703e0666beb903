//! Sums over samples that coefficients and held-out losses are made of.

use ndarray::{Axis, s};

use super::basis::Basis;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg::{eigh, tr_matmul_f64};
use crate::matrix::{Mat64, Mat64Ref};

/// Most numbers in the gradients of a block of samples.
const NUMBERS: usize = 1 << 20;
/// Most samples in a block.
const ROWS: usize = 1024;

/// Σ over samples of ∇ψ and ψψᵀ.
#[derive(Debug, Clone)]
pub(super) struct SteinSums {
    count: usize,
    /// Σ ∂ψ_j/∂x_c, d × k.
    gradients: Mat64,
    /// Σ ψ_iψ_j, k × k; zero where only coefficients are wanted.
    squares: Mat64,
}

impl SteinSums {
    pub(super) fn empty(basis: &Basis) -> Self {
        let (d, k) = (basis.inputs(), basis.eigenvalues().len());
        SteinSums { count: 0, gradients: Mat64::zeros((d, k)), squares: Mat64::zeros((k, k)) }
    }

    /// Over `rows` of the samples, in blocks of a size that depends on d and k alone; with ψψᵀ
    /// if losses are to follow.
    pub(super) fn of(
        basis: &Basis,
        samples: &Dataset,
        rows: &[usize],
        with_losses: bool,
    ) -> Result<Self> {
        let mut sums = SteinSums::empty(basis);
        let (d, k) = sums.gradients.dim();
        let size = (NUMBERS / (d * k).max(1)).clamp(1, ROWS);
        for rows in rows.chunks(size) {
            let x = samples.rows(rows)?;
            let gradients = basis.gradients(x.view())?;
            for point in gradients.axis_chunks_iter(Axis(0), d) {
                sums.gradients += &point;
            }
            if with_losses {
                let psi = basis.eigenfunctions(x.view())?;
                sums.squares += &tr_matmul_f64(psi.view(), psi.view())?;
            }
            sums.count += rows.len();
        }
        Ok(sums)
    }

    pub(super) fn add(&mut self, other: &SteinSums) {
        self.count += other.count;
        self.gradients += &other.gradients;
        self.squares += &other.squares;
    }

    /// Without those of `part`, which are among them.
    pub(super) fn without(&self, part: &SteinSums) -> SteinSums {
        SteinSums {
            count: self.count - part.count,
            gradients: &self.gradients - &part.gradients,
            squares: &self.squares - &part.squares,
        }
    }

    /// β = −E ∇ψ, k × d.
    pub(super) fn coefficients(&self) -> Mat64 {
        self.gradients.t().mapv(|v| -v / self.count.max(1) as f64)
    }

    /// The eigenfunctions of the kernel Σ_j μ_jψ_jψ_j under these samples, as their eigenvalues λ and
    /// what combines them from ψ, k × r: with E[φφᵀ] = VΛVᵀ for φ = √μψ they are
    /// Σ_i √μ_i ψ_i V_ij/√λ_j, r of them above rounding. O(k³).
    pub(super) fn eigenfunctions(&self, mu: &[f64]) -> Result<(Vec<f64>, Mat64)> {
        let roots: Vec<f64> = mu.iter().map(|m| m.max(0.0).sqrt()).collect();
        let count = self.count.max(1) as f64;
        let scaled = |((i, j), v): ((usize, usize), &f64)| v * roots[i] * roots[j] / count;
        let covariance: Vec<f64> = self.squares.indexed_iter().map(scaled).collect();
        let k = mu.len();
        let covariance = Mat64::from_shape_vec((k, k), covariance)
            .map_err(|e| Error::shape("covariance of features", format!("{k} × {k}"), e))?;
        let (mut values, vectors) = eigh(covariance.view())?;
        let floor = k as f64 * f64::EPSILON * values.first().copied().unwrap_or(0.0).max(0.0);
        let rank = values.iter().take_while(|v| **v > floor).count();
        if rank == 0 {
            return Err(Error::Numerical {
                what: "eigenfunctions under the samples".into(),
                message: "the features of the model vanish on them".into(),
            });
        }
        values.truncate(rank);
        let combine =
            Mat64::from_shape_fn((k, rank), |(i, j)| roots[i] * vectors[(i, j)] / values[j].sqrt());
        Ok((values, combine))
    }

    /// The same sums for the combinations ψA, A k × r, instead of ψ.
    pub(super) fn combined(&self, a: Mat64Ref<'_>) -> SteinSums {
        SteinSums {
            count: self.count,
            gradients: self.gradients.dot(&a),
            squares: a.t().dot(&self.squares).dot(&a),
        }
    }

    /// Σ over these samples of ½‖s‖² + ∇·s for s = Σ_{j ≤ J} β_jψ_j, J = 1 … k, with β k × d:
    /// with M = ββᵀ the J-th term adds ½M_JJ Σψ_J² + Σ_{i<J} M_iJ Σψ_iψ_J + β_J·Σ∇ψ_J. O(k²d).
    pub(super) fn losses(&self, coefficients: Mat64Ref<'_>) -> Vec<f64> {
        let k = coefficients.nrows().min(self.squares.nrows());
        let mut sum = 0.0;
        let mut term = |j: usize| {
            let beta = coefficients.row(j);
            let products = coefficients.slice(s![..j, ..]).dot(&beta);
            let cross = products.dot(&self.squares.slice(s![..j, j]));
            sum += 0.5 * beta.dot(&beta) * self.squares[(j, j)] + cross;
            sum += beta.dot(&self.gradients.column(j));
            sum
        };
        (0..k).map(&mut term).collect()
    }
}
