//! Kernels whose eigenpairs under a known measure are known: the oracles of tests and evaluations.

use crate::error::{Error, Result};
use crate::matrix::{Mat64, MatRef};

mod brownian;
mod cases;
mod periodic;
mod polynomial;
mod quadrature;
mod rbf_gaussian;
mod sphere;

pub use brownian::BrownianUniform;
pub use cases::{CASES, Case, SIZES, case};
pub use periodic::PeriodicUniform;
pub use polynomial::PolynomialUniform;
pub use quadrature::{GaussLegendre, Quadrature};
pub use rbf_gaussian::RbfGaussian;
pub use sphere::SphereDotProduct;

/// Most eigenpairs that can be asked for at once.
const MAX_PAIRS: usize = 1 << 20;

/// The eigenpairs of the integral operator of a kernel under a known measure (the population, not
/// a sample): ∫ κ(x, x') ψ_j(x') dp(x') = μ_j ψ_j(x), E[ψ_i ψ_j] = δ_ij, μ descending.
pub trait KnownSpectrum: Send + Sync + std::fmt::Debug {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// The number of eigenpairs there are, unless infinite.
    fn rank(&self) -> Option<usize>;

    /// The first k eigenvalues, or all when there are fewer.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when k is above 2²⁰.
    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>>;

    /// The first k eigenfunctions at x (n × d): n × min(k, rank).
    ///
    /// # Errors
    /// [`Error::Shape`] for the wrong width, [`Error::NonFinite`] for bad points or overflow,
    /// [`Error::InvalidParameter`] when k is above 2²⁰.
    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64>;

    /// E κ(x, x) = Σ μ_j over all j.
    fn trace(&self) -> f64;
}

/// Fails unless `value` is finite and positive.
fn positive(parameter: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(Error::parameter(parameter, "a positive finite number", value))
}

/// Fails unless a < b, both finite, with a finite distance.
fn interval(a: f64, b: f64) -> Result<(f64, f64)> {
    if a < b && (b - a).is_finite() && a.is_finite() {
        return Ok((a, b));
    }
    Err(Error::parameter("interval", "finite a < b", format!("[{a}, {b}]")))
}

/// Fails unless x is n × `inputs` and finite, and k within bounds.
fn check_points(x: MatRef<'_>, inputs: usize, k: usize) -> Result<()> {
    check_pairs(k)?;
    crate::matrix::expect_columns("x", x, inputs)?;
    crate::linalg::expect_finite_f32("x", x)
}

fn check_pairs(k: usize) -> Result<()> {
    if k <= MAX_PAIRS {
        return Ok(());
    }
    Err(Error::parameter("k", format!("at most {MAX_PAIRS} eigenpairs"), k))
}

#[cfg(test)]
mod tests;
