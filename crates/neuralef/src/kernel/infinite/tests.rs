//! Duals against quadrature, known values, nearby, collinear and opposite points, extremes, texts.

use std::f64::consts::PI;
use std::sync::Arc;

use ndarray::array;

use super::duals::{Activation, Dual, Moment, Pair};
use crate::closed_form::GaussLegendre;
use crate::error::Error;
use crate::kernel::{Kernel, KernelSpec};
use crate::matrix::{Mat, Mat64};
use crate::nn::LEAK;
use crate::simd::{Fuse, Fused, Unfused};
use crate::spec::Choice as _;
use crate::{Dataset, FitSpec, fit};

pub(super) fn fixed(text: &str) -> Arc<dyn Kernel> {
    KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap()
}

pub(super) fn gram(text: &str, x: &Mat, y: &Mat) -> Mat64 {
    let mut out = Mat64::zeros((x.nrows(), y.nrows()));
    fixed(text).gram(x.view(), y.view(), out.view_mut()).unwrap();
    out
}

/// φ(z) and φ'(z); unit `i` of a layer, for sin_cos.
pub(super) fn activation(name: &str, z: f64, i: usize) -> (f64, f64) {
    match name {
        "relu" => (z.max(0.0), f64::from(z > 0.0)),
        "leaky_relu" if z > 0.0 => (z, 1.0),
        "leaky_relu" => (f64::from(LEAK) * z, f64::from(LEAK)),
        "erf" => (libm::erf(z), 2.0 / PI.sqrt() * (-z * z).exp()),
        "gelu" => {
            let phi = 0.5 * libm::erfc(-z / 2f64.sqrt());
            (z * phi, phi + z * (-0.5 * z * z).exp() / (2.0 * PI).sqrt())
        }
        "sin_cos" if i.is_multiple_of(2) => (z.sin(), z.cos()),
        "sin_cos" => (z.cos(), -z.sin()),
        _ => panic!("{name}"),
    }
}

/// E φφ, E φ'φ' and E (φ(u) − φ(v))² for smooth φ: the trapezoidal rule in both directions, whose
/// error falls exponentially for entire functions under a Gaussian (Trefethen & Weideman 2014).
fn smooth(name: &str, pair: Pair) -> [f64; 3] {
    const STEPS: i32 = 14;
    let (rho, other) = (1.0 - pair.minus, (pair.minus * pair.plus).sqrt());
    let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * PI).sqrt() / f64::from(STEPS);
    let node = |i: i32| f64::from(i) / f64::from(STEPS);
    let ends = -9 * STEPS..=9 * STEPS;
    let mut sums = [0.0; 3];
    for z in ends.clone().map(node) {
        // Sums of sums: fewer roundings in a row.
        let mut inner = [0.0; 3];
        for t in ends.clone().map(node) {
            let (u, v) = (pair.a.root * z, pair.b.root * (rho * z + other * t));
            let weight = density(z) * density(t);
            let kinds = if name == "sin_cos" { 2 } else { 1 };
            for kind in 0..kinds {
                let ((f, df), (g, dg)) = (activation(name, u, kind), activation(name, v, kind));
                let terms = [f * g, df * dg, (f - g).powi(2)];
                inner.iter_mut().zip(terms).for_each(|(s, t)| *s += weight * t / kinds as f64);
            }
        }
        sums.iter_mut().zip(inner).for_each(|(s, t)| *s += t);
    }
    sums
}

/// The same for φ of degree 1: E r² = 2 times the mean over the angle, whose kinks are known.
fn homogeneous(name: &str, pair: Pair) -> [f64; 3] {
    let rule = GaussLegendre::new(24).unwrap();
    let theta = 2.0 * pair.minus.sqrt().atan2(pair.plus.sqrt());
    let (a, b) = (pair.a.root, pair.b.root);
    let ends = [-0.5 * PI, theta - 0.5 * PI, 0.5 * PI, theta + 0.5 * PI, 1.5 * PI];
    let mut sums = [0.0; 3];
    for end in ends.windows(2) {
        for (node, weight) in rule.nodes.iter().zip(&rule.weights) {
            let half = 0.5 * (end[1] - end[0]);
            let t = end[0] + half * (1.0 + node);
            let weight = weight * half / (2.0 * PI);
            let (f, df) = activation(name, a * t.cos(), 0);
            let (g, dg) = activation(name, b * (t - theta).cos(), 0);
            let terms = [2.0 * f * g, df * dg, 2.0 * (f - g).powi(2)];
            sums.iter_mut().zip(terms).for_each(|(s, t)| *s += weight * t);
        }
    }
    sums
}

fn moment(value: f64) -> Moment {
    Moment { value, root: value.sqrt() }
}

fn pair(a: f64, b: f64, minus: f64) -> Pair {
    Pair { a: moment(a), b: moment(b), minus, plus: 2.0 - minus }
}

/// The dual and the second moments.
fn dual<F: Fuse>(kind: Activation, pair: Pair) -> (Dual, f64, f64) {
    let (fa, fb) = (kind.second_moment::<F>(pair.a), kind.second_moment::<F>(pair.b));
    let dual = kind.dual::<F>(pair, moment(fa), moment(fb));
    // What the last layer uses is the same.
    assert_eq!(kind.expectations::<F>(pair), (dual.value, dual.slope));
    (dual, fa, fb)
}

#[test]
fn duals_are_those_of_quadrature() {
    for (place, &(name, kind)) in Activation::ALL.iter().enumerate() {
        assert_eq!(kind as usize, place);
        let quadrature = match kind {
            Activation::Relu | Activation::LeakyRelu => homogeneous,
            _ => smooth,
        };
        for (a, b) in [(1.0, 1.0), (0.3, 2.5), (4.0, 0.01), (9.0, 6.0)] {
            for minus in [0.0, 1e-12, 1e-3, 0.4, 1.0, 1.7, 2.0 - 1e-6, 2.0] {
                let pair = pair(a, b, minus);
                let [value, slope, _] = quadrature(name, pair);
                let own = quadrature(name, Pair::equal(pair.a))[0];
                for (got, fa, fb) in [dual::<Fused>(kind, pair), dual::<Unfused>(kind, pair)] {
                    let size = (fa * fb).sqrt();
                    let what = format!("{name}, {pair:?}: {got:?}, not {value} and {slope}");
                    assert!((got.value - value).abs() < 1.5e-15 * size.max(1.0), "{what}");
                    assert!((got.slope - slope).abs() < 8e-16, "{what}");
                    // The two gaps agree with the value.
                    assert!((size - got.value - got.below).abs() < 1e-15 * (fa + fb), "{what}");
                    assert!((size + got.value - got.above).abs() < 1e-15 * (fa + fb), "{what}");
                    assert!((fa - own).abs() < 4e-15 * own.max(1.0), "{what}: {own}");
                }
            }
        }
    }
}

#[test]
fn gaps_of_nearby_points_keep_their_digits() {
    for &(name, kind) in Activation::ALL {
        for minus in [1e-12, 1e-10, 1e-7] {
            let pair = pair(1.3, 1.3, minus);
            let truth = match kind {
                Activation::Relu | Activation::LeakyRelu => homogeneous(name, pair),
                _ => smooth(name, pair),
            }[2] / 2.0;
            let off = (dual::<Fused>(kind, pair).0.below - truth).abs();
            // In the truth differences of values near 1 are 1e-6 and more; in gelu's gap the
            // difference of moments near 1 has the error of rounding.
            let rounding = if kind == Activation::Gelu { 5e-16 } else { 0.0 };
            assert!(off < 1e-9 * truth + rounding, "{name}, {minus}: off by {off} of {truth}");
        }
    }
}

/// Cho & Saul 2009: J₁ = π, 1 and 0 and J₀ = π, π/2 and 0 at θ = 0, π/2 and π, κ_n = ‖x‖ⁿ‖y‖ⁿJ_n/π;
/// Σ is half of κ₁, and Θ adds half of κ₀ times xᵀy. Weights of variance 2 and points of norm √2 in
/// two dimensions undo the factors.
#[test]
fn arc_cosine_kernels_at_their_known_angles() {
    let x = array![[1.0f32, 1.0]];
    let y = array![[1.0f32, 1.0], [-1.0, 1.0], [-1.0, -1.0]];
    let nngp = gram("nngp(depth=1, weight_var=2, bias_var=0)", &x, &y);
    let ntk = gram("ntk(depth=1, weight_var=2, bias_var=0)", &x, &y);
    for (got, want) in nngp.iter().zip([2.0, 2.0 / PI, 0.0]) {
        assert!((got - want).abs() < 1e-15, "{got} {want}");
    }
    for (got, want) in ntk.iter().zip([4.0, 2.0 / PI, 0.0]) {
        assert!((got - want).abs() < 1e-15, "{got} {want}");
    }
}

/// Williams 1997, eq. 11, with x̃ = (1, x) and Σ = diag(σ₀², σ²).
#[test]
fn one_layer_of_erf_is_williams_kernel() {
    let (x, y) = (array![[0.7f32, -1.1], [3.0, 0.5]], array![[0.2f32, 0.4], [-3.0, -0.5]]);
    let got = gram("nngp(depth=1, activation=erf, weight_var=[3, 1], bias_var=[0.6, 0])", &x, &y);
    let dot = |x: ndarray::ArrayView1<'_, f32>, y: ndarray::ArrayView1<'_, f32>| {
        0.6 + 1.5 * x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    for ((i, j), got) in got.indexed_iter() {
        let (x, y) = (x.row(i), y.row(j));
        let scale = ((1.0 + 2.0 * dot(x, x)) * (1.0 + 2.0 * dot(y, y))).sqrt();
        let want = 2.0 / PI * (2.0 * dot(x, y) / scale).asin();
        assert!((got - want).abs() < 1e-15, "{got} {want}");
    }
    // asin ⅔ = 0.7297276562269663.
    let one = gram(
        "nngp(depth=1, activation=erf, weight_var=1, bias_var=0)",
        &array![[1f32]],
        &array![[1f32]],
    );
    assert!((one[[0, 0]] - 2.0 / PI * 0.729_727_656_226_966_3).abs() < 1e-16);
}

/// Θ(x, x) + Θ(y, y) − 2Θ(x, y) for relu falls like the angle, here 1e-6.
#[test]
fn nearby_points_are_a_kink_apart_in_the_tangent_kernel() {
    let (x, y) = (array![[0.8f32, 0.6]], array![[0.800_000_7f32, 0.599_999_5]]);
    let [k, l, m] = [(&x, &x), (&y, &y), (&x, &y)]
        .map(|(x, y)| gram("ntk(depth=1, weight_var=[2, 2], bias_var=0)", x, y)[[0, 0]]);
    let wide = |x: &Mat| (f64::from(x[[0, 0]]), f64::from(x[[0, 1]]));
    let ((x0, x1), (y0, y1)) = (wide(&x), wide(&y));
    // Products of single-precision numbers are exact.
    let (sine, cosine) = (x0 * y1 - x1 * y0, x0 * y0 + x1 * y1);
    let angle = sine.abs().atan2(cosine);
    assert!(angle > 5e-7 && angle < 2e-6, "{angle}");
    // 2κ₁ and 2κ₀ of Cho and Saul; in the sum a + b − 2xᵀy is ‖x − y‖².
    let apart = (x0 - y0).powi(2) + (x1 - y1).powi(2);
    let want = 2.0 * apart - 2.0 / PI * (sine.abs() - 2.0 * angle * cosine);
    let got = k + l - 2.0 * m;
    assert!((got / want - 1.0).abs() < 1e-9, "{got} {want}");
}

#[test]
fn collinear_points_have_no_angle() {
    // 1e-8 of angle, what ρ in double precision leaves, would show in Θ.
    let x = array![[0.375f32, -0.6875, 1.125, 0.453_125]];
    for size in [3.0f32, 0.6875, 5.0 * 2f32.powi(-50), 7.0 * 2f32.powi(40)] {
        // Exact in single precision; the unit vectors in double precision are not.
        let (y, factor) = (x.mapv(|v| v * size), f64::from(size));
        let far = gram("ntk(depth=3, bias_var=0)", &x, &y)[[0, 0]];
        let own = gram("ntk(depth=3, bias_var=0)", &x, &x)[[0, 0]];
        assert!((far / (factor * own) - 1.0).abs() < 2e-15, "{size}: {far} {own}");
        // κ₀ and κ₁ vanish at the opposite point.
        let opposite = gram("ntk(depth=1, bias_var=0)", &x, &y.mapv(|v| -v))[[0, 0]];
        assert!(opposite.abs() < 1e-15 * factor, "{size}: {opposite}");
    }
}

#[test]
fn the_origin_and_opposite_points_are_fine_and_diagonals_exact() {
    let x = array![[0.0f32, 0.0], [1.0, -2.0], [-1.0, 2.0], [1e-38, 0.0], [1e30, 3e30]];
    for (name, _) in Activation::ALL {
        for kind in ["nngp", "ntk"] {
            for bias in ["0", "1", "[0, 0.5, 0]", "[0.5, 0, 1e-9]"] {
                let text = format!("{kind}(depth=2, activation={name}, bias_var={bias})");
                let k = gram(&text, &x, &x);
                assert!(k.iter().all(|v| v.is_finite()), "{text}: {k}");
                let diag = fixed(&text).diag(x.view()).unwrap();
                for i in 0..x.nrows() {
                    assert_eq!(diag[i].to_bits(), k[[i, i]].to_bits(), "{text}");
                    for j in 0..i {
                        let bound = (diag[i] * diag[j]).sqrt() * (1.0 + 1e-14);
                        assert!(k[[i, j]].abs() <= bound, "{text}: {k}");
                    }
                }
            }
        }
    }
    // Weights of variance 2 keep E z² through relu layers: the diagonal is exact.
    let diag = fixed("nngp(depth=20, bias_var=0)").diag(x.slice(ndarray::s![1..3, ..])).unwrap();
    assert_eq!(diag, [5.0, 5.0]);
}

#[test]
fn values_out_of_range_are_errors() {
    let x = array![[1e30f32, 1.0]];
    let kernel = fixed("ntk(depth=64, weight_var=1e12)");
    let error = kernel.gram(x.view(), x.view(), Mat64::zeros((1, 1)).view_mut()).unwrap_err();
    assert!(matches!(error, Error::Numerical { .. }), "{error}");
    assert!(matches!(kernel.diag(x.view()), Err(Error::Numerical { .. })));
    let kernel = fixed("nngp(depth=1)");
    assert!(kernel.gram(x.view(), x.view(), Mat64::zeros((1, 1)).view_mut()).is_ok());
    let error = kernel.gram_f32(x.view(), x.view(), Mat::zeros((1, 1)).view_mut()).unwrap_err();
    assert!(matches!(error, Error::Numerical { .. }), "{error}");
}

#[test]
fn texts() {
    let text = |t: &str| fixed(t).text();
    assert_eq!(
        text("nngp(depth=3, activation=erf, weight_var=2, bias_var=1)"),
        "nngp(depth=3, activation=erf, weight_var=2, bias_var=1)"
    );
    let full = "ntk(depth=1, activation=leaky_relu, weight_var=[1, 2.5], bias_var=[0, 0.1])";
    assert_eq!(text(full), full);
    assert_eq!(text("ntk"), "ntk(depth=3, activation=relu, weight_var=2, bias_var=0.1)");
    for (bad, message) in [
        ("nngp(depth=0)", "`depth` must be a whole number from 1 to 64"),
        ("nngp(depth=1, weight_var=[1, 2, 3])", "`weight_var` must hold 2 numbers, got 3"),
        ("nngp(weight_var=0)", "`weight_var` must hold numbers from 1e-12 to 1000000000000.0"),
        ("ntk(bias_var=-1)", "`bias_var` must hold numbers from 0.0 to 1000000000000.0"),
        ("ntk(depth=1, bias_var=[1, relu])", "`bias_var` must hold numbers"),
        ("nngp(activation=gellu)", "did you mean `gelu`?"),
    ] {
        let error = KernelSpec::parse(bad).unwrap_err().to_string();
        assert!(error.contains(message), "{bad}: {error}");
    }
}

#[test]
fn a_fit_finds_the_eigenfunctions() {
    let data = Dataset::open("two_moons(n=1000)", 1).unwrap();
    // Twice what was measured: 7e-7 and 1.4e-4.
    for (kernel, bound) in [
        ("nngp(depth=2, activation=erf, bias_var=1)", 1.4e-6),
        ("ntk(depth=2, bias_var=1)", 2.8e-4),
    ] {
        let model = fit(&data, &FitSpec::new(kernel, 4).unwrap()).unwrap();
        for pair in &model.certificate().pairs {
            assert!(pair.residual < bound, "{kernel}: {pair:?}");
        }
    }
}
