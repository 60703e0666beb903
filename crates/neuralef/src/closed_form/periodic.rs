//! The periodic (exp-sine-squared) kernel on the circle: Fourier functions and Bessel numbers.

use std::f64::consts::{PI, SQRT_2};

use super::{KnownSpectrum, check_pairs, check_points, positive};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, MatRef};

/// κ(x, x') = exp(−2 sin²(π(x − x')/p)/ℓ²) under the uniform measure over one period p.
///
/// With z = 1/ℓ², κ = e^{−z} exp(z cos(2π(x − x')/p)), so the eigenvalues are e^{−z}Iₙ(z) (modified
/// Bessel functions): once for n = 0 with ψ = 1, twice for every n ≥ 1 with √2 cos(2πnx/p) and
/// √2 sin(2πnx/p), in this order. Iₙ by backward recurrence of the ratios Iₙ/Iₙ₋₁, normalised by
/// I₀ + 2ΣIₙ = e^z: relative accuracy for every n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeriodicUniform {
    lengthscale: f64,
    period: f64,
}

impl PeriodicUniform {
    /// With the given lengthscale ℓ ≥ 1e-4 and period p.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when they are out of range.
    pub fn new(lengthscale: f64, period: f64) -> Result<Self> {
        if !(lengthscale.is_finite() && lengthscale >= 1e-4) {
            let expected = "a finite number of at least 1e-4";
            return Err(Error::parameter("lengthscale", expected, lengthscale));
        }
        Ok(PeriodicUniform { lengthscale, period: positive("period", period)? })
    }
}

/// e^{−z}Iₙ(z) for n = 0..count, z ≥ 0.
fn scaled_bessel(z: f64, count: usize) -> Vec<f64> {
    // e^{−z}Iₙ(z) falls like exp(−n²/2z): beyond this n nothing contributes to the sum.
    let top = count + (10.0 * z.sqrt()) as usize + 60;
    let mut ratios = vec![0.0; top + 1];
    for n in (1..top).rev() {
        ratios[n] = z / (2.0 * n as f64 + z * ratios[n + 1]);
    }
    let (mut sum, mut product) = (1.0, 1.0);
    for ratio in &ratios[1..] {
        product *= ratio;
        sum += 2.0 * product;
    }
    let mut value = 1.0 / sum;
    (0..count)
        .map(|n| {
            if n > 0 {
                value *= ratios[n];
            }
            value
        })
        .collect()
}

impl KnownSpectrum for PeriodicUniform {
    fn inputs(&self) -> usize {
        1
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        check_pairs(k)?;
        let bessel = scaled_bessel(self.lengthscale.powi(-2), k / 2 + 1);
        Ok((0..k).map(|j| bessel[j.div_ceil(2)]).collect())
    }

    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, 1, k)?;
        Ok(Mat64::from_shape_fn((x.nrows(), k), |(i, j)| {
            let turns = (f64::from(x[(i, 0)]) / self.period).rem_euclid(1.0);
            let n = j.div_ceil(2) as f64;
            match j {
                0 => 1.0,
                _ if j % 2 == 1 => SQRT_2 * (2.0 * PI * n * turns).cos(),
                _ => SQRT_2 * (2.0 * PI * n * turns).sin(),
            }
        }))
    }

    fn trace(&self) -> f64 {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::scaled_bessel;

    #[test]
    fn bessel_functions_match_their_power_series_and_asymptotics() {
        for z in [1e-8_f64, 0.1, 1.0, 5.0, 20.0] {
            for (n, value) in scaled_bessel(z, 12).into_iter().enumerate() {
                let mut term = (1..=n).fold((-z).exp(), |t, i| t * (z / 2.0) / i as f64);
                let mut sum = term;
                for m in 1..200 {
                    term *= (z / 2.0).powi(2) / (m * (m + n)) as f64;
                    sum += term;
                }
                assert!((value / sum - 1.0).abs() < 1e-13, "n {n} z {z}: {value:e} {sum:e}");
            }
        }
        // e^{−z}I₀(z) ~ (1 + 1/8z + 9/128z²)/√(2πz).
        let z = 1e6;
        let asymptotic = (1.0 + 1.0 / (8.0 * z)) / (2.0 * std::f64::consts::PI * z).sqrt();
        assert!((scaled_bessel(z, 1)[0] / asymptotic - 1.0).abs() < 1e-12);
        assert_eq!(scaled_bessel(0.0, 3), [1.0, 0.0, 0.0]);
    }
}
