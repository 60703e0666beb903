//! Dual activations: E φ(u)φ(v) and E φ'(u)φ'(v) for a centred Gaussian pair, in closed form.

use std::f64::consts::{FRAC_1_PI, PI};

use crate::nn::LEAK;

/// A Gaussian pair (u, v): variances a, b and the correlation ρ, held as 1 − ρ and 1 + ρ so that
/// neither nearby nor opposite points lose digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) a: f64,
    pub(super) b: f64,
    /// 1 − ρ, from 0 to 2.
    pub(super) minus: f64,
    /// 1 + ρ, from 0 to 2.
    pub(super) plus: f64,
}

/// √(ab), exact for a = b.
pub(super) fn geometric_mean(a: f64, b: f64) -> f64 {
    if a == b { a } else { a.sqrt() * b.sqrt() }
}

/// (√a − √b)², accurate for a near b.
pub(super) fn squared_gap(a: f64, b: f64) -> f64 {
    if a == b {
        return 0.0;
    }
    ((a - b) / (a.sqrt() + b.sqrt())).powi(2)
}

impl Pair {
    /// u = v, of variance a.
    pub(super) fn equal(a: f64) -> Self {
        Pair { a, b: a, minus: 0.0, plus: 2.0 }
    }

    fn mean(self) -> f64 {
        geometric_mean(self.a, self.b)
    }

    /// ρ√(ab).
    fn covariance(self) -> f64 {
        self.mean() * (0.5 * (self.plus - self.minus))
    }

    /// ab(1 − ρ²) = ab − c².
    fn determinant(self) -> f64 {
        self.a * self.b * (self.minus * self.plus)
    }

    /// E (u − v)² = (√a − √b)² + 2√(ab)(1 − ρ).
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

impl Activation {
    /// Every activation with its name.
    pub(super) const ALL: [(&'static str, Activation); 5] = [
        ("relu", Activation::Relu),
        ("leaky_relu", Activation::LeakyRelu),
        ("erf", Activation::Erf),
        ("sin_cos", Activation::SinCos),
        ("gelu", Activation::Gelu),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    /// E φ(u)² for u of variance a.
    pub(super) fn second_moment(self, a: f64) -> f64 {
        match self {
            Activation::Gelu => gelu(Pair::equal(a)).0,
            _ => self.dual(Pair::equal(a), 0.0, 0.0).value,
        }
    }

    /// The dual at `pair`; `fa` and `fb` are E φ(u)² and E φ(v)², which the caller has.
    pub(super) fn dual(self, pair: Pair, fa: f64, fb: f64) -> Dual {
        match self {
            Activation::Relu => relu(pair),
            Activation::LeakyRelu => leaky_relu(pair),
            Activation::Erf => erf(pair),
            Activation::SinCos => {
                let exponent = -0.5 * pair.squared_distance();
                let value = 0.5 * libm::exp(exponent);
                let below = -0.5 * libm::expm1(exponent);
                Dual { value, below, above: 0.5 + value, slope: value }
            }
            Activation::Gelu => {
                let (value, slope) = gelu(pair);
                // The last digits of the difference are lost. gelu and its slope are smooth, so
                // that what later layers make of it is not touched.
                let gap = (fa + fb - 2.0 * value) - squared_gap(fa, fb);
                let below = (0.5 * gap).max(0.0);
                Dual { value, below, above: (geometric_mean(fa, fb) + value).max(0.0), slope }
            }
        }
    }
}

/// sin θ − θ cos θ for θ ≥ 0, given both: a series where the difference would cancel.
fn sine_excess(theta: f64, sine: f64, cosine: f64) -> f64 {
    if theta > 0.03 {
        return sine - theta * cosine;
    }
    let t = theta * theta;
    theta * t * (1.0 / 3.0 - t * (1.0 / 30.0 - t * (1.0 / 840.0 - t / 45_360.0)))
}

fn relu(pair: Pair) -> Dual {
    let Pair { minus, plus, .. } = pair;
    // θ as its half: accurate at 0 and at π.
    let theta = 2.0 * libm::atan2(minus.sqrt(), plus.sqrt());
    let sine = (minus * plus).sqrt();
    let cosine = 0.5 * (plus - minus);
    let half = 0.5 * pair.mean();
    let order1 = ((sine + (PI - theta) * cosine) * FRAC_1_PI).max(0.0);
    let below = (minus - sine_excess(theta, sine, cosine) * FRAC_1_PI).max(0.0);
    let slope = (0.5 * (1.0 - theta * FRAC_1_PI)).max(0.0);
    Dual { value: half * order1, below: half * below, above: half * (1.0 + order1), slope }
}

fn leaky_relu(pair: Pair) -> Dual {
    let leak = f64::from(LEAK);
    let rest = (1.0 - leak).powi(2);
    let base = relu(pair);
    let mean = pair.mean();
    Dual {
        value: leak * pair.covariance() + rest * base.value,
        below: leak * mean * pair.minus + rest * base.below,
        above: leak * mean * pair.plus + rest * base.above,
        slope: leak + rest * base.slope,
    }
}

fn erf(pair: Pair) -> Dual {
    let root = (1.0 + 2.0 * (pair.a + pair.b) + 4.0 * pair.determinant()).sqrt();
    let value = 2.0 * FRAC_1_PI * libm::atan2(2.0 * pair.covariance(), root);
    // F is odd in ρ.
    let opposite = Pair { minus: pair.plus, plus: pair.minus, ..pair };
    Dual {
        value,
        below: erf_below(pair, root),
        above: erf_below(opposite, root),
        slope: 4.0 * FRAC_1_PI / root,
    }
}

/// M − F for erf. With α, β, γ the arcsines of E φ(u)², E φ(v)² and F, twice √(αβ) − γ is
/// (α − γ) + (β − γ) − (√α − √β)².
fn erf_below(pair: Pair, root: f64) -> f64 {
    let Pair { a, b, .. } = pair;
    let c = pair.covariance();
    let product = pair.minus * pair.plus;
    // α − γ from its sine and cosine, both times (1 + 2a)√((1 + 2a)(1 + 2b)). The sine is
    // 2(a·root − c√(1 + 4a)); for c > 0 it is rationalised.
    let angle = |a: f64, b: f64| {
        let edge = (1.0 + 4.0 * a).sqrt();
        let sine = if c > 0.0 {
            let rest = (a - b) + b * (1.0 + 2.0 * a) * product;
            2.0 * (a / (a * root + c * edge)) * (1.0 + 2.0 * a) * rest
        } else {
            2.0 * (a * root - c * edge)
        };
        libm::atan2(sine, edge * root + 4.0 * a * c)
    };
    let (first, second) = (angle(a, b), angle(b, a));
    let whole = |a: f64| libm::atan2(2.0 * a, (1.0 + 4.0 * a).sqrt()).sqrt();
    let roots = whole(a) + whole(b);
    let gap = if roots > 0.0 { ((first - second) / roots).powi(2) } else { 0.0 };
    (FRAC_1_PI * ((first + second) - gap)).max(0.0)
}

/// (E φφ, E φ'φ') for gelu.
fn gelu(pair: Pair) -> (f64, f64) {
    let Pair { a, b, .. } = pair;
    let (c, determinant) = (pair.covariance(), pair.determinant());
    let m = 1.0 + (a + b) + determinant;
    let root = m.sqrt();
    let both = 0.25 + 0.5 * FRAC_1_PI * libm::atan2(c, root);
    let density = 0.5 * FRAC_1_PI / root;
    let inverses = 1.0 / (1.0 + a) + 1.0 / (1.0 + b);
    let value = c * both + density * (determinant + c * c * inverses);
    (value, both + density * c * (inverses + 1.0 / m))
}
