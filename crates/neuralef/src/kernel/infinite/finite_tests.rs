//! The kernels against random networks of finite width.

use ndarray::{Array2, array};
use rand_distr::{Distribution, StandardNormal};

use super::tests::{activation, gram};
use crate::matrix::{Mat, Mat64};
use crate::rng::{Rng, stream};

const WEIGHTS: [f64; 4] = [1.5, 2.0, 1.2, 0.8];
const BIASES: [f64; 4] = [0.3, 0.1, 0.2, 0.05];

fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn text(kind: &str, depth: usize, name: &str) -> String {
    let (w, b) = (&WEIGHTS[..=depth], &BIASES[..=depth]);
    format!("{kind}(depth={depth}, activation={name}, weight_var={w:?}, bias_var={b:?})")
}

fn points() -> Mat {
    array![[0.9f32, -0.4], [1.0, -0.1], [-0.6, 1.3]]
}

/// The covariance of the output over its own weights and bias, given the hidden layers of one
/// random network. Given a layer's activations, the next preactivations of each unit are Gaussian
/// with covariance w·mean φφᵀ + b: they are drawn so, which is the law of the network with its
/// width × width weights, at the price of as many draws as preactivations.
fn covariance(depth: usize, name: &str, width: usize, rng: &mut Rng) -> Mat64 {
    let x = points().mapv(f64::from);
    let (n, d) = x.dim();
    let mut cov = x.dot(&x.t()) * (WEIGHTS[0] / d as f64) + BIASES[0];
    for layer in 1..=depth {
        let root = cholesky(&cov);
        let mut sum = Mat64::zeros((n, n));
        for unit in 0..width {
            let draws = ndarray::Array1::from_shape_simple_fn(n, || normal(rng));
            let h = root.dot(&draws).mapv(|z| activation(name, z, unit).0);
            for ((i, j), s) in sum.indexed_iter_mut() {
                *s += h[i] * h[j];
            }
        }
        cov = sum * (WEIGHTS[layer] / width as f64) + BIASES[layer];
    }
    cov
}

fn cholesky(k: &Mat64) -> Mat64 {
    let n = k.nrows();
    let mut l = Mat64::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            let rest = k[[i, j]] - (0..j).map(|m| l[[i, m]] * l[[j, m]]).sum::<f64>();
            l[[i, j]] = if i == j { rest.sqrt() } else { rest / l[[j, j]] };
        }
    }
    l
}

/// Mean and standard deviation, entry by entry.
fn moments(draws: &[Mat64]) -> (Mat64, Mat64) {
    let count = draws.len() as f64;
    let zero = || Array2::<f64>::zeros(draws[0].dim());
    let mean = draws.iter().fold(zero(), |s, k| s + k) / count;
    let squares = draws.iter().fold(zero(), |s, k| s + (k - &mean).mapv(|v| v * v));
    (mean, (squares / (count - 1.0)).mapv(f64::sqrt))
}

pub(super) fn assert_within(draws: &[Mat64], want: &Mat64, small: f64, what: &str) {
    let (mean, sd) = moments(draws);
    for ((ij, mean), sd) in mean.indexed_iter().zip(&sd) {
        let error = sd / (draws.len() as f64).sqrt();
        let off = (mean - want[ij]).abs();
        assert!(off < 4.0 * error, "{what}, {ij:?}: {mean} ± {error}, not {}", want[ij]);
        // A check of the check: the errors are small.
        let size = want.diag().iter().fold(0.0, |a: f64, b| a.max(*b));
        assert!(error < small * size, "{what}: {error} of {size}");
    }
}

#[test]
fn nngp_is_the_covariance_of_wide_networks() {
    for name in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"] {
        for depth in [1, 3] {
            let draws: Vec<_> = (0..64)
                .map(|i| covariance(depth, name, 4096, &mut stream(i, "wide", depth as u64)))
                .collect();
            let text = text("nngp", depth, name);
            assert_within(&draws, &gram(&text, &points(), &points()), 0.01, &text);
        }
    }
}

#[test]
fn the_spread_over_networks_falls_like_the_root_of_the_width() {
    let spread = |width: usize| {
        let draws: Vec<_> =
            (0..800).map(|i| covariance(3, "gelu", width, &mut stream(i, "spread", 0))).collect();
        moments(&draws).1[[0, 1]]
    };
    // A standard deviation of 800 draws is known to 2.5 %, a ratio to 3.5 %.
    let ratio = spread(128) / spread(512);
    assert!((ratio - 2.0).abs() < 0.3, "{ratio}");
}

/// ⟨∂f(x)/∂θ, ∂f(x')/∂θ⟩ of one network with two hidden layers, by backpropagation. Parameters are
/// standard normal and enter times √(w/fan_in) and √b.
fn tangent(name: &str, width: usize, rng: &mut Rng) -> Mat64 {
    let x = points().mapv(f64::from);
    let d = x.ncols();
    let matrix = |rows: usize, columns: usize, w: f64, rng: &mut Rng| {
        let scale = (w / columns as f64).sqrt();
        Mat64::from_shape_simple_fn((rows, columns), || scale * normal(rng))
    };
    let first = matrix(width, d, WEIGHTS[0], rng);
    let second = matrix(width, width, WEIGHTS[1], rng);
    let third = matrix(1, width, WEIGHTS[2], rng);
    let mut bias = |b: f64| Mat64::from_shape_simple_fn((1, width), || b.sqrt() * normal(rng));
    let apply = |z: &Mat64| {
        let part = |pick: fn((f64, f64)) -> f64| {
            Mat64::from_shape_fn(z.dim(), |(i, j)| pick(activation(name, z[[i, j]], j)))
        };
        (part(|p| p.0), part(|p| p.1))
    };
    let (h1, slope1) = apply(&(x.dot(&first.t()) + bias(BIASES[0])));
    let (h2, slope2) = apply(&(h1.dot(&second.t()) + bias(BIASES[1])));
    let delta2 = slope2 * &third;
    let delta1 = slope1 * delta2.dot(&second);
    let inner = |h: &Mat64, l: usize| h.dot(&h.t()) * (WEIGHTS[l] / h.ncols() as f64) + BIASES[l];
    let own = |delta: &Mat64| delta.dot(&delta.t());
    inner(&h2, 2) + inner(&h1, 1) * own(&delta2) + inner(&x, 0) * own(&delta1)
}

#[test]
fn ntk_is_the_jacobian_kernel_of_wide_networks() {
    for name in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"] {
        let draws: Vec<_> =
            (0..32).map(|i| tangent(name, 1024, &mut stream(i, "tangent", 0))).collect();
        let text = text("ntk", 2, name);
        assert_within(&draws, &gram(&text, &points(), &points()), 0.03, &text);
    }
}
