//! The polynomial kernel in one dimension under a uniform measure: finite rank.

use ndarray::Array2;

use super::{GaussLegendre, KnownSpectrum, check_points, interval, positive};
use crate::error::{Error, Result};
use crate::linalg::{expect_finite_f64, matmul_f64, svd};
use crate::matrix::{Mat64, MatRef};

/// Largest degree accepted.
const MAX_DEGREE: u32 = 64;

/// κ(x, x') = (γxx' + c)^p in one dimension under U[a, b]: rank p + 1 (1 when c = 0).
///
/// κ = φ(x)ᵀφ(x') with φ_m(x) = √(C(p, m) γ^m c^{p−m}) x^m, so the eigenvalues are those of the
/// moment matrix E φφᵀ and ψ_j = φᵀv_j/√μ_j. The moments are exact Gauss–Legendre sums, and their
/// square root goes through an SVD, so small eigenvalues keep a relative accuracy of about
/// ε√(μ₁/μ_j). Monomials limit the eigenfunctions to moderate degrees: error about ε√(μ₁/μ_j) too.
#[derive(Debug, Clone)]
pub struct PolynomialUniform {
    factors: Vec<f64>,
    eigenvalues: Vec<f64>,
    /// (p + 1) × rank: ψ(x) = φ(x)ᵀ times this.
    coefficients: Mat64,
}

impl PolynomialUniform {
    /// With degree p from 1 to 64, γ > 0, c ≥ 0, on U[a, b].
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when one is out of range, [`Error::NonFinite`] when the moments
    /// overflow.
    pub fn new(degree: u32, gamma: f64, coef0: f64, a: f64, b: f64) -> Result<Self> {
        if !(1..=MAX_DEGREE).contains(&degree) {
            return Err(Error::parameter("degree", format!("1 to {MAX_DEGREE}"), degree));
        }
        positive("gamma", gamma)?;
        if !(coef0.is_finite() && coef0 >= 0.0) {
            return Err(Error::parameter("coef0", "a finite number of at least 0", coef0));
        }
        let (a, b) = interval(a, b)?;
        let p = degree as i32;
        let mut binomial = 1.0;
        let factors: Vec<f64> = (0..=p)
            .map(|m| {
                let factor = (binomial * gamma.powi(m) * coef0.powi(p - m)).sqrt();
                binomial *= f64::from(p - m) / f64::from(m + 1);
                factor
            })
            .collect();
        let rule = GaussLegendre::new(factors.len())?;
        let root = Array2::from_shape_fn((factors.len(), factors.len()), |(i, m)| {
            let x = a + (b - a) * 0.5 * (rule.nodes[i] + 1.0);
            (rule.weights[i] / 2.0).sqrt() * factors[m] * x.powi(m as i32)
        });
        expect_finite_f64("moments of the polynomial kernel", root.view())?;
        let (_, s, v) = svd(root.view())?;
        let floor = factors.len() as f64 * f64::EPSILON * s.first().copied().unwrap_or(0.0);
        let rank = s.iter().take_while(|s| **s > floor).count();
        let coefficients = Array2::from_shape_fn((factors.len(), rank), |(m, j)| v[(m, j)] / s[j]);
        let eigenvalues = s[..rank].iter().map(|s| s * s).collect();
        Ok(PolynomialUniform { factors, eigenvalues, coefficients })
    }
}

impl KnownSpectrum for PolynomialUniform {
    fn inputs(&self) -> usize {
        1
    }

    fn rank(&self) -> Option<usize> {
        Some(self.eigenvalues.len())
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        Ok(self.eigenvalues.iter().copied().take(k).collect())
    }

    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, 1, k)?;
        let phi = Array2::from_shape_fn((x.nrows(), self.factors.len()), |(i, m)| {
            self.factors[m] * f64::from(x[(i, 0)]).powi(m as i32)
        });
        let k = k.min(self.eigenvalues.len());
        let psi = matmul_f64(phi.view(), self.coefficients.slice(ndarray::s![.., ..k]))?;
        expect_finite_f64("eigenfunctions of the polynomial kernel", psi.view())?;
        Ok(psi)
    }

    fn trace(&self) -> f64 {
        self.eigenvalues.iter().sum()
    }
}
