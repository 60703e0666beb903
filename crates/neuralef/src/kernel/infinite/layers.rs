//! The recursion over layers, for a row of pairs at a time.

use std::ops::Range;

use super::duals::{Activation, Moment, Pair, geometric_mean, squared_gap};
use crate::simd::{Fuse, Op, dispatch};
use crate::spec::Choice as _;

/// Second moments of some points in one layer, and their roots.
pub(super) struct Moments {
    pub(super) values: Vec<f64>,
    pub(super) roots: Vec<f64>,
}

impl Moments {
    pub(super) fn new(values: Vec<f64>) -> Self {
        let roots = values.iter().map(|v| v.sqrt()).collect();
        Moments { values, roots }
    }

    pub(super) fn at(&self, i: usize) -> Moment {
        Moment { value: self.values[i], root: self.roots[i] }
    }

    pub(super) fn range(&self, range: Range<usize>) -> Span<'_> {
        Span { values: &self.values[range.clone()], roots: &self.roots[range] }
    }
}

/// Some of them.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    values: &'a [f64],
    roots: &'a [f64],
}

impl Span<'_> {
    /// The first n.
    #[inline(always)]
    pub(super) fn first(self, n: usize) -> Self {
        Span { values: &self.values[..n], roots: &self.roots[..n] }
    }

    #[inline(always)]
    pub(super) fn at(self, j: usize) -> Moment {
        Moment { value: self.values[j], root: self.roots[j] }
    }
}

/// The variances of some points, layer by layer.
pub(super) struct Side {
    /// Of the preactivations, depth + 1 layers.
    variances: Vec<Moments>,
    /// E φ² of them, depth layers.
    moments: Vec<Moments>,
}

impl Side {
    /// From the variances of the first preactivations; `layers` are the variances of the weights
    /// and biases after them.
    pub(super) fn new(activation: Activation, first: Vec<f64>, layers: &[(f64, f64)]) -> Self {
        let mut side = Side { variances: vec![Moments::new(first)], moments: Vec::new() };
        for (l, (weight, bias)) in layers.iter().enumerate() {
            let moments = dispatch(Second { activation, variances: &side.variances[l] });
            let next = moments.iter().map(|m| weight * m + bias).collect();
            side.variances.push(Moments::new(next));
            side.moments.push(Moments::new(moments));
        }
        side
    }

    /// The variances of the first preactivations.
    pub(super) fn first(&self) -> &[f64] {
        &self.variances[0].values
    }
}

/// E φ² from the variances.
pub(super) struct Second<'a> {
    pub(super) activation: Activation,
    pub(super) variances: &'a Moments,
}

impl Op for Second<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<F: Fuse>(self) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.variances.values.len());
        for i in 0..self.variances.values.len() {
            out.push(self.activation.second_moment::<F>(self.variances.at(i)));
        }
        out
    }
}

/// Point `i` of `x` against the points of `y` from number `from`, as many as the slices are long.
pub(super) struct Row<'a> {
    pub(super) activation: Activation,
    pub(super) layers: &'a [(f64, f64)],
    pub(super) x: &'a Side,
    pub(super) i: usize,
    pub(super) y: &'a Side,
    pub(super) from: usize,
    /// 1 − ρ of Σ⁰; of a later layer at the end.
    pub(super) minus: &'a mut [f64],
    /// 1 + ρ likewise.
    pub(super) plus: &'a mut [f64],
    /// Σ of the output.
    pub(super) sigma: &'a mut [f64],
    /// Θ of the output.
    pub(super) theta: &'a mut [f64],
}

impl Op for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        match self.activation {
            Activation::Relu => row::<F, 0>(self),
            Activation::LeakyRelu => row::<F, 1>(self),
            Activation::Erf => row::<F, 2>(self),
            Activation::SinCos => row::<F, 3>(self),
            Activation::Gelu => row::<F, 4>(self),
        }
    }
}

/// K is the place of the activation in [`Activation::ALL`].
#[inline(always)]
fn row<F: Fuse, const K: usize>(row: Row<'_>) {
    let Row { layers, x, i, y, from, minus, plus, sigma, theta, .. } = row;
    let some = from..from + minus.len();
    let first = (x.variances[0].at(i), y.variances[0].range(some.clone()));
    start(first, minus, plus, sigma, theta);
    for (l, layer) in layers.iter().enumerate() {
        let variances = (x.variances[l].at(i), y.variances[l].range(some.clone()));
        if l + 1 == layers.len() {
            return last::<F, K>(*layer, variances, (minus, plus), sigma, theta);
        }
        let moments = (x.moments[l].at(i), y.moments[l].range(some.clone()));
        let next = (x.variances[l + 1].at(i), y.variances[l + 1].range(some.clone()));
        hidden::<F, K>(*layer, variances, moments, next, minus, plus, theta);
    }
}

/// Σ⁰ and Θ⁰.
#[inline(always)]
fn start(
    (a, b): (Moment, Span<'_>),
    minus: &[f64],
    plus: &[f64],
    sigma: &mut [f64],
    theta: &mut [f64],
) {
    let n = sigma.len();
    let (b, minus, plus, theta) = (b.first(n), &minus[..n], &plus[..n], &mut theta[..n]);
    for j in 0..n {
        sigma[j] = geometric_mean(a, b.at(j)) * (0.5 * (plus[j] - minus[j]));
        theta[j] = sigma[j];
    }
}

/// Σ and Θ of the output: what a next layer would need is left out.
#[inline(always)]
fn last<F: Fuse, const K: usize>(
    (weight, bias): (f64, f64),
    (a, b): (Moment, Span<'_>),
    (minus, plus): (&[f64], &[f64]),
    sigma: &mut [f64],
    theta: &mut [f64],
) {
    let activation = const { Activation::ALL[K].1 };
    let n = sigma.len();
    let (b, minus, plus, theta) = (b.first(n), &minus[..n], &plus[..n], &mut theta[..n]);
    for j in 0..n {
        let pair = Pair { a, b: b.at(j), minus: minus[j], plus: plus[j] };
        let (value, slope) = activation.expectations::<F>(pair);
        sigma[j] = weight * value + bias;
        theta[j] = sigma[j] + weight * slope * theta[j];
    }
}

/// 1 − ρ, 1 + ρ and Θ after one layer.
#[inline(always)]
fn hidden<F: Fuse, const K: usize>(
    (weight, bias): (f64, f64),
    (a, b): (Moment, Span<'_>),
    (fa, fb): (Moment, Span<'_>),
    (next_a, next_b): (Moment, Span<'_>),
    minus: &mut [f64],
    plus: &mut [f64],
    theta: &mut [f64],
) {
    let activation = const { Activation::ALL[K].1 };
    let n = minus.len();
    let (b, fb, next_b) = (b.first(n), fb.first(n), next_b.first(n));
    let (plus, theta) = (&mut plus[..n], &mut theta[..n]);
    for j in 0..n {
        let pair = Pair { a, b: b.at(j), minus: minus[j], plus: plus[j] };
        let dual = activation.dual::<F>(pair, fa, fb.at(j));
        theta[j] = (weight * dual.value + bias) + weight * dual.slope * theta[j];
        // With A, B the second moments times the weight: √((A + b)(B + b)) − √(AB) − b is
        // b(√A − √B)² over the sum of the three.
        let inner = weight * geometric_mean(fa, fb.at(j));
        let whole = geometric_mean(next_a, next_b.at(j)) + inner + bias;
        let spread = bias * weight * squared_gap(fa, fb.at(j));
        let spread = spread / if whole > 0.0 { whole } else { 1.0 };
        let under = weight * dual.below + spread;
        let over = weight * dual.above + spread + 2.0 * bias;
        // Both are 0 only where all later values are: any correlation will do.
        let both = under + over;
        let scale = 2.0 / if both > 0.0 { both } else { 1.0 };
        minus[j] = under * scale;
        plus[j] = over * scale;
    }
}
