//! L2 batch normalisation: each function scaled to unit mean square on the batch, and its backward pass.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// A normalised batch: ψ = h/σ with σ_j² the batch mean of h_j² (Deng et al. 2022, section 4.1).
#[derive(Debug, Clone)]
pub struct L2Batch {
    /// ψ, B × k.
    pub psi: Mat,
    /// σ, k positive numbers.
    pub sigma: Vec<f64>,
}

/// Normalises h (B × k) in place: σ_j = √(mean_b h_bj²), accumulated in double precision. O(Bk).
///
/// # Errors
/// [`Error::Numerical`] when a function vanishes on the whole batch or is not finite.
pub fn l2_normalise(mut h: Mat) -> Result<L2Batch> {
    let rows = h.nrows();
    let mut sums = vec![0.0f64; h.ncols()];
    for row in h.rows() {
        for (sum, v) in sums.iter_mut().zip(row) {
            let v = f64::from(*v);
            *sum += v * v;
        }
    }
    let sigma: Vec<f64> = sums.iter().map(|s| (s / rows as f64).sqrt()).collect();
    // As a divisor in single precision it must be a normal number.
    let usable = |s: &f64| s.is_finite() && *s >= f64::from(f32::MIN_POSITIVE);
    if let Some(j) = sigma.iter().position(|s| !usable(s)) {
        let what = format!("L2 batch normalisation of function {j} (counted from 0)");
        let message = format!("its root mean square over {rows} rows is {}", sigma[j]);
        return Err(Error::Numerical { what, message });
    }
    let scale: Vec<f32> = sigma.iter().map(|s| (1.0 / s) as f32).collect();
    for mut row in h.rows_mut() {
        for (v, s) in row.iter_mut().zip(&scale) {
            *v *= s;
        }
    }
    Ok(L2Batch { psi: h, sigma })
}

impl L2Batch {
    /// Pulls a cotangent of ψ back to h, in place: dh = (dψ − ψ·mean_b(dψ·ψ))/σ. O(Bk).
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn backward(&self, mut cotangent: Mat) -> Result<Mat> {
        if cotangent.dim() != self.psi.dim() {
            let text = |(n, k): (usize, usize)| format!("{n} × {k}");
            let (expected, got) = (text(self.psi.dim()), text(cotangent.dim()));
            return Err(Error::shape("cotangent", expected, got));
        }
        let mut means = vec![0.0f64; self.psi.ncols()];
        for (d, psi) in cotangent.rows().into_iter().zip(self.psi.rows()) {
            for ((mean, d), psi) in means.iter_mut().zip(d).zip(psi) {
                *mean += f64::from(*d) * f64::from(*psi);
            }
        }
        let rows = self.psi.nrows() as f64;
        let means: Vec<f32> = means.iter().map(|m| (m / rows) as f32).collect();
        let scale: Vec<f32> = self.sigma.iter().map(|s| (1.0 / s) as f32).collect();
        for (mut d, psi) in cotangent.rows_mut().into_iter().zip(self.psi.rows()) {
            for (((d, psi), mean), scale) in d.iter_mut().zip(psi).zip(&means).zip(&scale) {
                *d = (*d - psi * mean) * scale;
            }
        }
        Ok(cotangent)
    }
}

/// Running estimate of σ for use outside training: a bias-corrected exponential moving average of σ²
/// (of the variance, not of σ, so that it is unbiased for E h²).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningScale {
    decay: f64,
    /// Σ of weight times σ²; zero before the first update.
    second_moment: Vec<f64>,
    /// Sum of the weights so far: 1 − decayᵗ.
    weight: f64,
}

impl RunningScale {
    /// For `functions` functions; the past is forgotten by a factor `decay` at each update.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 0 ≤ decay < 1.
    pub fn new(functions: usize, decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::parameter("decay", "a number from 0 to below 1", decay));
        }
        Ok(RunningScale { decay, second_moment: vec![0.0; functions], weight: 0.0 })
    }

    /// Takes in the σ of a batch.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of functions.
    pub fn update(&mut self, sigma: &[f64]) -> Result<()> {
        if sigma.len() != self.second_moment.len() {
            return Err(Error::shape("sigma", self.second_moment.len(), sigma.len()));
        }
        for (m, s) in self.second_moment.iter_mut().zip(sigma) {
            *m = self.decay * *m + (1.0 - self.decay) * s * s;
        }
        self.weight = self.decay * self.weight + (1.0 - self.decay);
        Ok(())
    }

    /// The estimate of σ; nothing before the first update.
    pub fn sigma(&self) -> Option<Vec<f64>> {
        let corrected = |m: &f64| (m / self.weight).sqrt();
        (self.weight > 0.0).then(|| self.second_moment.iter().map(corrected).collect())
    }

    /// h/σ with the running estimate.
    ///
    /// # Errors
    /// [`Error::Shape`], or [`Error::Numerical`] when there is no usable estimate yet.
    pub fn apply(&self, h: MatRef<'_>) -> Result<Mat> {
        crate::matrix::expect_columns("network output", h, self.second_moment.len())?;
        let sigma = self.sigma().unwrap_or_default();
        if sigma.len() != h.ncols() || sigma.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Error::Numerical {
                what: "running L2 normalisation".into(),
                message: format!("no usable estimate of the scales yet: {sigma:?}"),
            });
        }
        let scale: Vec<f32> = sigma.iter().map(|s| (1.0 / s) as f32).collect();
        let mut psi = h.to_owned();
        for mut row in psi.rows_mut() {
            row.iter_mut().zip(&scale).for_each(|(v, s)| *v *= s);
        }
        Ok(psi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;

    fn draw(rows: usize, columns: usize, stream: u64) -> Mat {
        let mut rng = crate::rng::stream(3, "test", stream);
        Mat::from_shape_fn((rows, columns), |_| rng.random_range(-2.0f32..2.0))
    }

    #[test]
    fn columns_have_unit_mean_square() {
        let batch = l2_normalise(draw(57, 4, 0)).unwrap();
        for column in batch.psi.columns() {
            let mean = column.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 57.0;
            assert!((mean - 1.0).abs() < 1e-6, "{mean}");
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences_in_double_precision() {
        let (h, d) = (draw(13, 3, 1), draw(13, 3, 2));
        // ⟨d, ψ(h)⟩, entirely in f64.
        let value = |h: &[f64]| -> f64 {
            (0..3)
                .map(|j| {
                    let column = || h.iter().skip(j).step_by(3);
                    let sigma = (column().map(|v| v * v).sum::<f64>() / 13.0).sqrt();
                    column().zip(d.column(j)).map(|(v, d)| v / sigma * f64::from(*d)).sum::<f64>()
                })
                .sum()
        };
        let at: Vec<f64> = h.iter().map(|v| f64::from(*v)).collect();
        let pulled = l2_normalise(h).unwrap().backward(d.clone()).unwrap();
        for (i, got) in pulled.iter().enumerate() {
            let moved = |by: f64| {
                let mut h = at.clone();
                h[i] += by;
                value(&h)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((f64::from(*got) - slope).abs() < 1e-6, "{i}: {got} {slope}");
        }
    }

    #[test]
    fn vanishing_and_infinite_functions_are_named() {
        for bad in [0.0, f32::INFINITY, f32::NAN, 1e-44] {
            let mut h = draw(5, 3, 4);
            h.column_mut(2).fill(bad);
            let message = l2_normalise(h).unwrap_err().to_string();
            assert!(message.contains("function 2"), "{message}");
        }
        assert!(l2_normalise(Mat::zeros((0, 2))).is_err());
        let batch = l2_normalise(draw(5, 3, 4)).unwrap();
        assert!(batch.backward(Mat::zeros((5, 2))).is_err());
    }

    #[test]
    fn running_scale_is_bias_corrected_and_restores() {
        let mut running = RunningScale::new(2, 0.9).unwrap();
        assert_eq!(running.sigma(), None);
        assert!(running.apply(draw(2, 2, 0).view()).is_err());
        running.update(&[3.0, 0.5]).unwrap();
        let sigma = running.sigma().unwrap();
        assert!((sigma[0] - 3.0).abs() < 1e-12 && (sigma[1] - 0.5).abs() < 1e-12);
        running.update(&[1.0, 0.5]).unwrap();
        // (0.9·9 + 1)/1.9 is the weighted mean of the two second moments.
        assert!((running.sigma().unwrap()[0] - (9.1f64 / 1.9).sqrt()).abs() < 1e-12);
        let text = serde_json::to_string(&running).unwrap();
        let mut restored: RunningScale = serde_json::from_str(&text).unwrap();
        for r in [&mut running, &mut restored] {
            r.update(&[2.0, 7.0]).unwrap();
        }
        assert_eq!(running, restored);
        let psi = running.apply(draw(4, 2, 1).view()).unwrap();
        let h = draw(4, 2, 1);
        let ratio = f64::from(h[[3, 1]]) / f64::from(psi[[3, 1]]);
        assert!((ratio - running.sigma().unwrap()[1]).abs() < 1e-5);
        assert!(running.update(&[1.0]).is_err());
        assert!(RunningScale::new(2, 1.0).is_err());
        assert!(RunningScale::new(2, f64::NAN).is_err());
    }
}
