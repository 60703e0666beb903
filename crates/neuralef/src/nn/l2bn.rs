//! L2 batch normalisation: each function scaled to unit mean square on the batch, and its backward pass.

use crate::error::{Error, Result};
use crate::matrix::Mat;

/// A normalised batch: ψ = h/σ with σ_j² the batch mean of h_j² (Deng et al. 2022, section 4.1).
#[derive(Debug, Clone)]
pub struct L2Batch {
    /// ψ, the normalised values, B × k.
    pub psi: Mat,
    /// σ, the root mean squares of the columns, k positive numbers.
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
}
