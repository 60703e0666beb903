//! The marginal likelihood of a Laplace approximation, and where it is largest.

use std::f64::consts::TAU;

use super::likelihood::Likelihood;
use crate::error::{Error, Result};

/// Relative accuracy of optima.
const ACCURACY: f64 = 1e-13;
/// Halvings of a bracket, at most: more than the bits of a logarithm.
const HALVINGS: usize = 200;
/// Bounds of what is tried, as powers of e.
const RANGE: (f64, f64) = (-80.0, 80.0);

/// All that the marginal likelihood depends on, apart from δ and σ².
///
/// With the prior θ ~ N(0, I/δ), the log likelihood ℓ at the trained θ*, and the eigenvalues λ of the
/// generalised Gauss–Newton matrix, Laplace's approximation is (MacKay 1992; Immer et al. 2021)
///
/// > log p(y) ≈ ℓ − ½δ‖θ*‖² − ½Σ_j log(1 + λ_j/δ).
///
/// Directions of the parameters that are left out of the posterior keep their prior, and add nothing:
/// this holds for k eigenfunctions as for all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub likelihood: Likelihood,
    /// Summed over points: −ℓ for classes, the squared errors for regression.
    pub loss: f64,
    /// Number of observed numbers, n·C; for regression only.
    pub observations: f64,
    /// ‖θ*‖² over the parameters that have the prior.
    pub squared_norm: f64,
    /// λ, for σ² = 1.
    pub values: &'a [f64],
}

impl Evidence<'_> {
    /// log p(y) for prior precision `delta` and temperature or noise variance `scale`. With a
    /// temperature T the likelihood is the T-th root of itself, without its normaliser.
    pub(super) fn at(&self, delta: f64, scale: f64) -> f64 {
        let fit = match self.likelihood {
            Likelihood::Classification => -self.loss / scale,
            Likelihood::Regression => {
                -0.5 * (self.loss / scale + self.observations * (TAU * scale).ln())
            }
        };
        fit - 0.5 * delta * self.squared_norm - 0.5 * self.log_determinant(delta * scale)
    }

    /// Σ log(1 + λ/r).
    fn log_determinant(&self, r: f64) -> f64 {
        self.values.iter().map(|v| (v / r).ln_1p()).sum()
    }

    /// Σ λ/(λ + r), the number of parameters that the data determine.
    pub(super) fn effective_parameters(&self, delta: f64, scale: f64) -> f64 {
        let r = delta * scale;
        self.values.iter().map(|v| v / (v + r)).sum()
    }

    /// The δ with the largest evidence at `scale`: the one root of δ‖θ*‖² = Σ λ/(λ + δ·scale), whose
    /// left side ascends and whose right side descends. O(p) for each halving.
    ///
    /// # Errors
    /// [`Error::Numerical`] when there is none: the parameters, or the curvature, are all zero.
    pub(super) fn best_precision(&self, scale: f64) -> Result<f64> {
        self.expect_optimum()?;
        let slope = |log: f64| {
            let delta = log.exp();
            delta * self.squared_norm - self.effective_parameters(delta, scale)
        };
        root(slope).map(f64::exp)
    }

    /// δ and σ² with the largest evidence. For a ratio r = δσ² the best σ² is
    /// (loss + r‖θ*‖²)/(n·C); what is left has the slope
    /// nC·‖θ*‖²/(loss + r‖θ*‖²) − Σ λ/(r(λ + r)) in r, times r sought for its root.
    ///
    /// # Errors
    /// As [`best_precision`](Evidence::best_precision), and when there is no error to learn σ² from.
    pub(super) fn best_precision_and_noise(&self) -> Result<(f64, f64)> {
        self.expect_optimum()?;
        if self.loss <= 0.0 {
            return Err(fault("the outputs are equal to all targets; give the noise variance"));
        }
        let noise = |r: f64| (self.loss + r * self.squared_norm) / self.observations;
        let slope = |log: f64| {
            let r = log.exp();
            r * self.squared_norm / noise(r) - self.effective_parameters(r, 1.0)
        };
        let r = root(slope)?.exp();
        Ok((r / noise(r), noise(r)))
    }

    /// The σ² with the largest evidence for a given δ: the root of
    /// nC − loss/σ² − Σ λ/(λ + δσ²), which ascends with σ² as long as there is an error.
    ///
    /// # Errors
    /// [`Error::Numerical`] when there is no error to learn σ² from.
    pub(super) fn best_noise(&self, delta: f64) -> Result<f64> {
        if self.loss <= 0.0 {
            return Err(fault("the outputs are equal to all targets; give the noise variance"));
        }
        let slope = |log: f64| {
            let noise = log.exp();
            self.observations - self.loss / noise - self.effective_parameters(delta, noise)
        };
        root(slope).map(f64::exp)
    }

    fn expect_optimum(&self) -> Result<()> {
        if self.squared_norm <= 0.0 {
            return Err(fault("all parameters are zero, so it grows with the prior precision"));
        }
        if self.values.iter().all(|v| *v <= 0.0) {
            return Err(fault("the data determine no parameter, so it grows as the prior widens"));
        }
        Ok(())
    }
}

/// The root of an ascending function of a logarithm.
fn root(f: impl Fn(f64) -> f64) -> Result<f64> {
    let (mut low, mut high) = RANGE;
    if f(low) >= 0.0 || f(high) <= 0.0 {
        return Err(fault("its optimum is beyond e^±80"));
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
        if high - low <= ACCURACY {
            break;
        }
    }
    Ok(0.5 * (low + high))
}

fn fault(message: &str) -> Error {
    let what = "maximising the marginal likelihood".into();
    Error::Numerical { what, message: format!("{message}; give the prior precision instead") }
}
