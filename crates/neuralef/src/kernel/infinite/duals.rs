//! Dual activations: E φ(u)φ(v) and E φ'(u)φ'(v) for a centred Gaussian pair, in closed form.

use std::f64::consts::{FRAC_1_PI, FRAC_PI_2, FRAC_PI_4, LOG2_E, PI};

use crate::nn::LEAK;
use crate::simd::{Fuse, Real};
use crate::spec::Choice;

/// A variance or second moment with its root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) value: f64,
    pub(super) root: f64,
}

/// A Gaussian pair (u, v): variances a, b and the correlation ρ, held as 1 − ρ and 1 + ρ so that
/// neither nearby nor opposite points lose digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) a: Moment,
    pub(super) b: Moment,
    /// 1 − ρ, from 0 to 2.
    pub(super) minus: f64,
    /// 1 + ρ, from 0 to 2.
    pub(super) plus: f64,
}

/// √(ab), exact for a = b.
#[inline(always)]
pub(super) fn geometric_mean(a: Moment, b: Moment) -> f64 {
    if a.value == b.value { a.value } else { a.root * b.root }
}

/// (√a − √b)², accurate for a near b.
#[inline(always)]
pub(super) fn squared_gap(a: Moment, b: Moment) -> f64 {
    let root = (a.value - b.value) / (a.root + b.root);
    if a.value == b.value { 0.0 } else { root * root }
}

/// 0 for what rounding made negative; NaN stays.
#[inline(always)]
fn positive(v: f64) -> f64 {
    if v < 0.0 { 0.0 } else { v }
}

impl Pair {
    /// u = v, of variance a.
    #[inline(always)]
    pub(super) fn equal(a: Moment) -> Self {
        Pair { a, b: a, minus: 0.0, plus: 2.0 }
    }

    #[inline(always)]
    fn mean(self) -> f64 {
        geometric_mean(self.a, self.b)
    }

    /// ρ√(ab).
    #[inline(always)]
    fn covariance(self) -> f64 {
        self.mean() * (0.5 * (self.plus - self.minus))
    }

    /// ab(1 − ρ²) = ab − c².
    #[inline(always)]
    fn determinant(self) -> f64 {
        self.a.value * self.b.value * (self.minus * self.plus)
    }

    /// E (u − v)² = (√a − √b)² + 2√(ab)(1 − ρ).
    #[inline(always)]
    fn squared_distance(self) -> f64 {
        squared_gap(self.a, self.b) + 2.0 * self.mean() * self.minus
    }
}

/// What an activation makes of a pair. With M = √(E φ(u)² · E φ(v)²):
#[derive(Debug, Clone, Copy)]
pub(super) struct Dual {
    /// F = E φ(u)φ(v).
    pub(super) value: f64,
    /// M − F ≥ 0, without cancellation.
    pub(super) below: f64,
    /// M + F ≥ 0.
    pub(super) above: f64,
    /// E φ'(u)φ'(v).
    pub(super) slope: f64,
}

/// The activations whose duals are known in closed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// max(z, 0): the arc-cosine kernels of order 1 and 0 (Cho & Saul 2009, eqs. 4–6). With
    /// cos θ = ρ: F = √(ab)(sin θ + (π − θ)cos θ)/(2π), E φ'φ' = (π − θ)/(2π).
    Relu,
    /// max(z, αz) = αz + (1 − α)max(z, 0), α that of the networks: F = αc + (1 − α)²F_relu, and
    /// E φ'φ' = α + (1 − α)²(π − θ)/(2π), from E u·max(v, 0) = c/2.
    LeakyRelu,
    /// erf z (Williams 1997, eq. 11): F = (2/π)·asin(2c/√((1 + 2a)(1 + 2b))), and
    /// E φ'φ' = (4/π)/√((1 + 2a)(1 + 2b) − 4c²).
    Erf,
    /// sin z on half of the units, cos z on the other: F = ½E cos(u − v) = ½exp(−½E(u − v)²), the
    /// rbf kernel (Rahimi & Recht 2007), and E φ'φ' is the same.
    SinCos,
    /// zΦ(z) (Tsuchida et al. 2021, who give it in polar form). Stein's lemma on each factor, with
    /// h = E Φ(u)Φ(v) = ¼ + asin(c/√((1 + a)(1 + b)))/(2π), m = (1 + a)(1 + b) − c² and
    /// e = 1/(2π√m) the expectation of the product of the densities, gives
    /// F = ch + e(ab − c² + c²/(1 + a) + c²/(1 + b)) and
    /// E φ'φ' = h + ec(1/(1 + a) + 1/(1 + b) + 1/m).
    Gelu,
}

impl Choice for Activation {
    const KIND: &'static str = "activation of kernels of networks";
    const ALL: &'static [(&'static str, Self)] = &[
        ("relu", Activation::Relu),
        ("leaky_relu", Activation::LeakyRelu),
        ("erf", Activation::Erf),
        ("sin_cos", Activation::SinCos),
        ("gelu", Activation::Gelu),
    ];
}

impl Activation {
    /// E φ(u)² for u of variance a.
    #[inline(always)]
    pub(super) fn second_moment<F: Fuse>(self, a: Moment) -> f64 {
        self.expectations::<F>(Pair::equal(a)).0
    }

    /// E φ(u)φ(v) and E φ'(u)φ'(v).
    #[inline(always)]
    pub(super) fn expectations<F: Fuse>(self, pair: Pair) -> (f64, f64) {
        match self {
            Activation::Erf => erf::<F>(pair),
            Activation::Gelu => gelu::<F>(pair),
            _ => {
                let dual = self.dual::<F>(pair, pair.a, pair.b);
                (dual.value, dual.slope)
            }
        }
    }

    /// All of the dual at `pair`; `fa` and `fb` are E φ(u)² and E φ(v)².
    #[inline(always)]
    pub(super) fn dual<F: Fuse>(self, pair: Pair, fa: Moment, fb: Moment) -> Dual {
        match self {
            Activation::Relu => relu::<F>(pair),
            Activation::LeakyRelu => leaky_relu::<F>(pair),
            Activation::Erf => {
                let (value, slope) = erf::<F>(pair);
                // F is odd in ρ.
                let opposite = Pair { minus: pair.plus, plus: pair.minus, ..pair };
                Dual {
                    value,
                    below: erf_below::<F>(pair, fa, fb, value),
                    above: erf_below::<F>(opposite, fa, fb, -value),
                    slope,
                }
            }
            Activation::SinCos => {
                let exponent = -0.5 * LOG2_E * pair.squared_distance();
                let value = 0.5 * <f64 as Real>::exp2::<F>(exponent);
                let below = -0.5 * <f64 as Real>::exp2_m1::<F>(exponent);
                Dual { value, below, above: 0.5 + value, slope: value }
            }
            Activation::Gelu => {
                let (value, slope) = gelu::<F>(pair);
                // The last digits of the difference are lost. gelu and its slope are smooth, so
                // that what later layers make of it is not touched.
                let gap = (fa.value + fb.value - 2.0 * value) - squared_gap(fa, fb);
                let below = positive(0.5 * gap);
                Dual { value, below, above: positive(geometric_mean(fa, fb) + value), slope }
            }
        }
    }
}

/// atan2(y, x), within 5e-16 of the angle's own size, without branches or calls.
#[inline(always)]
fn angle<F: Fuse>(y: f64, x: f64) -> f64 {
    /// p with atan u = u·p(u²) for |u| ≤ tan(π/8) (Chebyshev interpolation; error under 2e-18).
    const ATAN: &[f64] = &[
        1.0,
        -0.333_333_333_333_331_2,
        0.199_999_999_999_408_9,
        -0.142_857_142_792_501_92,
        0.111_111_107_449_170_34,
        -0.090_908_968_089_881_35,
        0.076_920_453_295_390_92,
        -0.066_629_517_979_556_37,
        0.058_468_781_818_920_52,
        -0.050_351_019_300_160_78,
        0.037_965_243_910_971_95,
        -0.017_805_382_196_606_493,
    ];
    const TAN_PI_8: f64 = 0.414_213_562_373_095_03;
    let steep = y.abs() > x.abs();
    let large = if steep { y.abs() } else { x.abs() };
    let small = if steep { x.abs() } else { y.abs() };
    let far = small > TAN_PI_8 * large;
    let from = if far { FRAC_PI_4 } else { 0.0 };
    let over = if far { small - large } else { small };
    let under = if far { small + large } else { large };
    let u = over / if under > 0.0 { under } else { 1.0 };
    let angle = from + u * (u * u).polynomial::<F>(ATAN);
    let angle = if steep { FRAC_PI_2 - angle } else { angle };
    let angle = if x < 0.0 { PI - angle } else { angle };
    if y < 0.0 { -angle } else { angle }
}

/// sin θ − θ cos θ for θ ≥ 0, given both: a series where the difference would cancel.
#[inline(always)]
fn sine_excess(theta: f64, sine: f64, cosine: f64) -> f64 {
    let t = theta * theta;
    let near = theta * t * (1.0 / 3.0 - t * (1.0 / 30.0 - t * (1.0 / 840.0 - t / 45_360.0)));
    if theta > 0.03 { sine - theta * cosine } else { near }
}

#[inline(always)]
fn relu<F: Fuse>(pair: Pair) -> Dual {
    let Pair { minus, plus, .. } = pair;
    // The sine, and with it the angle, has all digits near 0 and near π.
    let sine = (minus * plus).sqrt();
    let cosine = 0.5 * (plus - minus);
    let theta = angle::<F>(sine, cosine);
    let half = 0.5 * pair.mean();
    let order1 = positive((sine + (PI - theta) * cosine) * FRAC_1_PI);
    let below = positive(minus - sine_excess(theta, sine, cosine) * FRAC_1_PI);
    let slope = positive(0.5 * (1.0 - theta * FRAC_1_PI));
    Dual { value: half * order1, below: half * below, above: half * (1.0 + order1), slope }
}

#[inline(always)]
fn leaky_relu<F: Fuse>(pair: Pair) -> Dual {
    let leak = f64::from(LEAK);
    let rest = (1.0 - leak) * (1.0 - leak);
    let base = relu::<F>(pair);
    let mean = pair.mean();
    Dual {
        value: leak * pair.covariance() + rest * base.value,
        below: leak * mean * pair.minus + rest * base.below,
        above: leak * mean * pair.plus + rest * base.above,
        slope: leak + rest * base.slope,
    }
}

/// √((1 + 2a)(1 + 2b) − 4c²).
#[inline(always)]
fn erf_root(pair: Pair) -> f64 {
    (1.0 + 2.0 * (pair.a.value + pair.b.value) + 4.0 * pair.determinant()).sqrt()
}

/// (E φφ, E φ'φ') for erf.
#[inline(always)]
fn erf<F: Fuse>(pair: Pair) -> (f64, f64) {
    let root = erf_root(pair);
    (2.0 * FRAC_1_PI * angle::<F>(2.0 * pair.covariance(), root), 4.0 * FRAC_1_PI / root)
}

/// M − F for erf. With α, β, γ the arcsines of E φ(u)², E φ(v)² and F, twice √(αβ) − γ is
/// (α − γ) + (β − γ) − (√α − √β)²; all are π/2 times the expectations.
#[inline(always)]
fn erf_below<F: Fuse>(pair: Pair, fa: Moment, fb: Moment, value: f64) -> f64 {
    let (a, b) = (pair.a.value, pair.b.value);
    let c = pair.covariance();
    let far = positive(geometric_mean(fa, fb) - value);
    let (root, product) = (erf_root(pair), pair.minus * pair.plus);
    // α − γ from its sine and cosine, both times (1 + 2a)√((1 + 2a)(1 + 2b)). The sine is
    // 2(a·root − c√(1 + 4a)), rationalised.
    let difference = |a: f64, b: f64| {
        let edge = (1.0 + 4.0 * a).sqrt();
        let rest = (a - b) + b * (1.0 + 2.0 * a) * product;
        let sine = 2.0 * (a / (a * root + c * edge)) * (1.0 + 2.0 * a) * rest;
        angle::<F>(sine, edge * root + 4.0 * a * c)
    };
    let (first, second) = (difference(a, b), difference(b, a));
    let roots = fa.root + fb.root;
    let root = (first - second) / roots;
    let gap = 2.0 * FRAC_1_PI * (root * root);
    let near = positive(FRAC_1_PI * ((first + second) - gap));
    if pair.minus > 0.1 || c <= 0.0 { far } else { near }
}

/// (E φφ, E φ'φ') for gelu.
#[inline(always)]
fn gelu<F: Fuse>(pair: Pair) -> (f64, f64) {
    let (a, b) = (pair.a.value, pair.b.value);
    let (c, determinant) = (pair.covariance(), pair.determinant());
    let m = 1.0 + (a + b) + determinant;
    let root = m.sqrt();
    let both = 0.25 + 0.5 * FRAC_1_PI * angle::<F>(c, root);
    let density = 0.5 * FRAC_1_PI / root;
    let inverses = 1.0 / (1.0 + a) + 1.0 / (1.0 + b);
    let value = c * both + density * (determinant + c * c * inverses);
    (value, both + density * c * (inverses + 1.0 / m))
}
