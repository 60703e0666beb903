//! Densities with known gradients of their logarithms, behind the synthetic sets drawn from them.

use std::f64::consts::{PI, TAU};

use ndarray::{ArrayView1, ArrayViewMut1};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::SYNTHETIC;
use crate::error::Result;
use crate::matrix::{Mat64, MatRef, expect_columns};
use crate::rng::Rng;

/// A probability density on ℝ^d whose logarithm has a known gradient, the score ∇log q: that of the
/// synthetic sets `gaussian`, `mixture` and `banana`.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    d: usize,
    form: Form,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Independent N(mean, std²).
    Gaussian { mean: f64, std: f64 },
    /// Equal parts N(c_m, std²I) with centres evenly on a circle of `radius` in the first two
    /// coordinates, the first on the first axis.
    Mixture { components: usize, radius: f64, std: f64 },
    /// x₁ ~ N(0, std²), x₂ ~ N(curvature·(x₁² − std²), 1), all others N(0, 1).
    Banana { curvature: f64, std: f64 },
}

impl Density {
    pub(super) fn new(d: usize, form: Form) -> Self {
        Density { d, form }
    }

    /// The density that the synthetic set called `name` is drawn from, if it has a known score.
    /// `name` is a text form or the name of a drawn [`Dataset`](crate::Dataset).
    pub fn of(name: &str) -> Option<Self> {
        SYNTHETIC.build_text(name).ok().and_then(|set| set.density())
    }

    /// d.
    pub fn dimensions(&self) -> usize {
        self.d
    }

    /// Whether points belong to parts, which are their labels.
    pub(super) fn has_parts(&self) -> bool {
        matches!(self.form, Form::Mixture { .. })
    }

    /// What it is like.
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// ∇log q(x), n × d, for points n × d. O(n d), times the number of components of a mixture.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for another width.
    pub fn score(&self, x: MatRef<'_>) -> Result<Mat64> {
        expect_columns("x", x, self.d)?;
        let mut out = Mat64::zeros(x.dim());
        for (point, to) in x.rows().into_iter().zip(out.rows_mut()) {
            self.score_at(&wide(point), to);
        }
        Ok(out)
    }

    /// log q(x), n values. Cost as for [`score`](Density::score).
    ///
    /// # Errors
    /// As [`score`](Density::score).
    pub fn log_density(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        expect_columns("x", x, self.d)?;
        Ok(x.rows().into_iter().map(|point| self.log_at(&wide(point))).collect())
    }

    fn score_at(&self, x: &[f64], mut to: ArrayViewMut1<'_, f64>) {
        match self.form {
            Form::Gaussian { mean, std } => {
                to.iter_mut().zip(x).for_each(|(s, v)| *s = (mean - v) / std.powi(2));
            }
            Form::Mixture { components, std, .. } => {
                let logs: Vec<f64> = (0..components).map(|m| self.log_part(x, m)).collect();
                let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let shares: Vec<f64> = logs.iter().map(|l| (l - largest).exp()).collect();
                let total: f64 = shares.iter().sum();
                for (c, (s, v)) in to.iter_mut().zip(x).enumerate() {
                    let mean = |(m, share): (usize, &f64)| share / total * self.centre(m, c);
                    let mean: f64 = shares.iter().enumerate().map(mean).sum();
                    *s = (mean - v) / std.powi(2);
                }
            }
            Form::Banana { curvature, std } => {
                to.iter_mut().zip(x).for_each(|(s, v)| *s = -v);
                let rest = x[1] - curvature * (x[0].powi(2) - std.powi(2));
                to[0] = -x[0] / std.powi(2) + 2.0 * curvature * x[0] * rest;
                to[1] = -rest;
            }
        }
    }

    fn log_at(&self, x: &[f64]) -> f64 {
        match self.form {
            Form::Gaussian { mean, std } => x.iter().map(|v| log_normal(*v, mean, std)).sum(),
            Form::Mixture { components, .. } => {
                let logs: Vec<f64> = (0..components).map(|m| self.log_part(x, m)).collect();
                let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = logs.iter().map(|l| (l - largest).exp()).sum();
                largest + total.ln() - (components as f64).ln()
            }
            Form::Banana { curvature, std } => {
                let mean = curvature * (x[0].powi(2) - std.powi(2));
                let first = log_normal(x[0], 0.0, std) + log_normal(x[1], mean, 1.0);
                first + x[2..].iter().map(|v| log_normal(*v, 0.0, 1.0)).sum::<f64>()
            }
        }
    }

    /// log N(x; c_m, std²I) for part m of a mixture.
    fn log_part(&self, x: &[f64], m: usize) -> f64 {
        let Form::Mixture { std, .. } = self.form else { return f64::NAN };
        x.iter().enumerate().map(|(c, v)| log_normal(*v, self.centre(m, c), std)).sum()
    }

    /// Coordinate c of the centre of part m of a mixture.
    fn centre(&self, m: usize, c: usize) -> f64 {
        let Form::Mixture { components, radius, .. } = self.form else { return 0.0 };
        let angle = TAU * m as f64 / components as f64;
        match c {
            0 => radius * angle.cos(),
            1 => radius * angle.sin(),
            _ => 0.0,
        }
    }

    /// Draws a point into `out`; the part of a mixture it belongs to.
    pub(super) fn draw(&self, rng: &mut Rng, out: &mut Vec<f32>) -> i64 {
        let mut normal = || -> f64 { StandardNormal.sample(&mut *rng) };
        match self.form {
            Form::Gaussian { mean, std } => {
                out.extend((0..self.d).map(|_| (mean + std * normal()) as f32));
                0
            }
            Form::Mixture { components, std, .. } => {
                let noise: Vec<f64> = (0..self.d).map(|_| std * normal()).collect();
                let m = rng.random_range(0..components);
                out.extend(noise.iter().enumerate().map(|(c, v)| (self.centre(m, c) + v) as f32));
                m as i64
            }
            Form::Banana { curvature, std } => {
                let first = std * normal();
                let second = curvature * (first.powi(2) - std.powi(2)) + normal();
                out.extend([first as f32, second as f32]);
                out.extend((2..self.d).map(|_| normal() as f32));
                0
            }
        }
    }
}

fn wide(point: ArrayView1<'_, f32>) -> Vec<f64> {
    point.iter().map(|v| f64::from(*v)).collect()
}

fn log_normal(v: f64, mean: f64, std: f64) -> f64 {
    -0.5 * ((v - mean) / std).powi(2) - std.ln() - 0.5 * (2.0 * PI).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthesize;
    use crate::matrix::Mat;

    const SETS: [&str; 5] = [
        "gaussian(n=20000, d=3, mean=0.5, std=1.5)",
        "mixture(n=20000)",
        "mixture(n=20000, d=3, components=2, radius=3, std=0.8)",
        "banana(n=20000)",
        "banana(n=20000, d=4, curvature=-0.5, std=1)",
    ];

    fn drawn(text: &str) -> (Density, Mat) {
        let data = synthesize(text, 3).unwrap();
        let density = Density::of(data.name()).unwrap();
        assert_eq!(density.dimensions(), data.width());
        (density, data.range(0..data.len()).unwrap())
    }

    /// The score is the gradient of log q, by central differences with steps exact in `f32`.
    #[test]
    fn scores_are_gradients_of_the_logarithm() {
        const STEP: f32 = 1.0 / 256.0;
        for text in SETS {
            let (density, x) = drawn(text);
            let x = x.slice(ndarray::s![..50, ..]).mapv(|v| (v * 1024.0).round() / 1024.0);
            let score = density.score(x.view()).unwrap();
            for c in 0..x.ncols() {
                let at = |steps: f32| {
                    let mut moved = x.clone();
                    moved.column_mut(c).mapv_inplace(|v| v + steps * STEP);
                    density.log_density(moved.view()).unwrap()
                };
                let (near, far) = ([at(1.0), at(-1.0)], [at(2.0), at(-2.0)]);
                for i in 0..x.nrows() {
                    let slope = (8.0 * (near[0][i] - near[1][i]) - (far[0][i] - far[1][i]))
                        / (12.0 * f64::from(STEP));
                    // The fifth derivative of log q is at most some tens: h⁴/30 of it.
                    let error = (score[[i, c]] - slope).abs();
                    assert!(error < 1e-8 * slope.abs().max(1.0), "{text}: {slope} {error:e}");
                }
            }
        }
    }

    /// Draws come from the density: E ∇log q = 0 and E x_c ∂_b log q = −δ_bc (integration by parts),
    /// to five standard errors.
    #[test]
    fn draws_obey_steins_identity() {
        for text in SETS {
            let (density, x) = drawn(text);
            let score = density.score(x.view()).unwrap();
            let n = x.nrows() as f64;
            let check = |what: &str, values: Vec<f64>, want: f64| {
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let error = (variance / n).sqrt();
                assert!((mean - want).abs() < 5.0 * error, "{text}, {what}: {mean} ± {error}");
            };
            for b in 0..x.ncols() {
                check("mean", score.column(b).to_vec(), 0.0);
                for c in 0..x.ncols() {
                    let pairs = x.column(c).into_iter().zip(score.column(b));
                    let products = pairs.map(|(x, s)| f64::from(*x) * s).collect();
                    check("product", products, if b == c { -1.0 } else { 0.0 });
                }
            }
        }
    }

    #[test]
    fn only_sets_with_a_density_have_one() {
        for name in ["two_moons(n=10)", "uniform(n=10)", "sphere", "digits", "gaussian.npy", ""] {
            assert!(Density::of(name).is_none(), "{name}");
        }
        let error = Density::of("banana").unwrap().score(Mat::zeros((2, 3)).view()).unwrap_err();
        assert!(error.to_string().contains("expected shape n × 2, got 2 × 3"), "{error}");
    }
}
