//! First layers drawn by the data: directions with the covariance of the inputs.

use rand_distr::{Distribution, StandardNormal};

use super::Dense;
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat, MatRef};
use crate::nn::DataDependentInit;

/// Points that directions are made of, at most.
const POINTS: usize = 2048;

impl DataDependentInit for Dense {
    fn init_points(&self) -> usize {
        POINTS
    }

    /// A direction ω, N(0, s²I/d), becomes one along Σ gᵢxᵢ, gᵢ ~ N(0, 1), which has the covariance of the
    /// points, of such a length that ωᵀx has the mean square ‖ω‖². O(n d w) for w neurons.
    fn init_from_data(&mut self, x: MatRef<'_>) -> Result<()> {
        let Some(seed) = self.directions else { return Ok(()) };
        let (n, d) = x.dim();
        let Some(&(_, width)) = self.layers.first() else { return Ok(()) };
        for (number, unit) in self.parameters.units_mut().iter_mut().enumerate() {
            let mut rng = crate::rng::stream(seed, "directions", number as u64);
            let draws = Mat::from_shape_simple_fn((n, width), || {
                let z: f64 = StandardNormal.sample(&mut rng);
                z as f32
            });
            let along = linalg::matmul_f32(x.t(), draws.view())?;
            let images = linalg::matmul_f32(x, along.view())?;
            let Some(weight) = unit.get_mut(..d * width) else { continue };
            for j in 0..width {
                let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
                    values.map(|v| f64::from(v).powi(2)).sum()
                };
                let length = square(&mut weight.iter().skip(j).step_by(width).copied());
                let image = square(&mut images.column(j).iter().copied()) / n.max(1) as f64;
                let factor = (length / image).sqrt();
                // Constant points have no directions.
                if !factor.is_finite() {
                    continue;
                }
                for (w, a) in weight.iter_mut().skip(j).step_by(width).zip(along.column(j)) {
                    *w = (f64::from(*a) * factor) as f32;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::matrix::Mat;
    use crate::nn::NetworkSpec;

    #[test]
    fn directions_follow_the_data_and_keep_the_variance_of_their_images() {
        // The data vary along (3, 4)/5 alone, with mean square 4.
        let x = Mat::from_shape_fn((1000, 2), |(i, j)| {
            let t = if i % 2 == 0 { 2.0 } else { -2.0 };
            t * [0.6, 0.8][j]
        });
        let spec: NetworkSpec =
            "shared_mlp(hidden=[16], activation=sin_cos, init=data)".parse().unwrap();
        let mut network = spec.build(2, 3, 1, 5).unwrap();
        let before = network.parameters().units()[0][..32].to_vec();
        network.data_dependent_init().unwrap().init_from_data(x.view()).unwrap();
        let after = &network.parameters().units()[0][..32];
        for j in 0..16 {
            let (a, b) = (after[j], after[16 + j]);
            assert!((b / a - 4.0 / 3.0).abs() < 1e-4, "{a} {b}");
            let drawn = before[j].hypot(before[16 + j]);
            // (0.6a + 0.8b)·2 has the square of what was drawn.
            assert!(((0.6 * a + 0.8 * b).abs() * 2.0 / drawn - 1.0).abs() < 1e-4);
        }
        let plain: NetworkSpec = "shared_mlp(hidden=[16], activation=sin_cos)".parse().unwrap();
        assert!(plain.build(2, 3, 1, 5).unwrap().data_dependent_init().is_none());
    }
}
