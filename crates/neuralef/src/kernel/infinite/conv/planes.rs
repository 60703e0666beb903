//! One plane of a layer: the pairs of positions (p, p + d) of two images for one offset d.

use super::super::duals::{Activation, Pair, geometric_mean};
use super::super::layers::Moments;
use super::geometry::{Offset, Stage};
use crate::simd::{Fuse, Op, Real};
use crate::spec::Choice as _;

/// What one image is at one stage.
pub(super) struct Level {
    /// Roots of the second moments of the input, in the padded grid: 0 in the padding.
    pub(super) roots: Vec<f64>,
    /// √(share/variance) of the preactivations; 0 where the variance is.
    pub(super) scales: Vec<f64>,
    /// Variances of the preactivations.
    pub(super) variances: Moments,
    /// E φ² of them.
    pub(super) moments: Moments,
}

/// The input of a convolution, padded grid, at p; 0 where p or p + d is in the padding.
#[derive(Default)]
pub(super) struct Input {
    /// M − F, F the covariance and M the root of the product of the second moments.
    pub(super) below: Vec<f64>,
    /// M + F.
    pub(super) above: Vec<f64>,
    /// E φ'φ'·Θ.
    pub(super) tangent: Vec<f64>,
}

impl Input {
    /// All zeros, for a grid of `n` positions.
    pub(super) fn clear(&mut self, n: usize, tangent: bool) {
        let count = if tangent { n } else { 0 };
        for (field, n) in [(&mut self.below, n), (&mut self.above, n), (&mut self.tangent, count)] {
            field.clear();
            field.resize(n, 0.0);
        }
    }
}

/// What a convolution makes of it, at p.
#[derive(Default)]
pub(super) struct Output {
    /// 1 − ρ; after [`Last`] E φφ.
    pub(super) minus: Vec<f64>,
    /// 1 + ρ.
    pub(super) plus: Vec<f64>,
    /// Θ; after [`Last`] E φ'φ'·Θ.
    pub(super) theta: Vec<f64>,
}

impl Output {
    /// Room for a grid of `n` positions; what it holds is left alone.
    pub(super) fn resize(&mut self, n: usize) {
        for field in [&mut self.minus, &mut self.plus, &mut self.theta] {
            field.resize(n, 0.0);
        }
    }
}

/// One plane through one convolution.
///
/// With α_δ(p) = √(share·f(p + δ)/A(p)) for f the second moments of the input and A the variances of
/// the output, Σα_δ² = 1 − bias/A, and likewise β of the other image,
/// 1 ∓ ρ = ½Σ(α_δ − β_δ)² + Σα_δβ_δ(1 ∓ ρ_δ) + ½b(A^−½ − B^−½)² + {0, 2b}/√(AB): sums of what is not
/// negative, so that neither loses digits. α_δβ_δ(1 ∓ ρ_δ) is share·(M ∓ F)/√(AB).
pub(super) struct Convolve<'a> {
    pub(super) stage: &'a Stage,
    pub(super) offset: Offset,
    pub(super) x: &'a Level,
    pub(super) y: &'a Level,
    pub(super) input: &'a Input,
    pub(super) output: &'a mut Output,
    /// Whether there is a Θ.
    pub(super) tangent: bool,
}

impl Op for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(mut self) {
        let (rows, columns) = self.stage.output.shared(self.offset);
        for y in rows {
            let mut x = columns.start;
            while x + 8 <= columns.end {
                if self.stage.stride == 1 {
                    self.some::<F, 8, true>(y, x);
                } else {
                    self.some::<F, 8, false>(y, x);
                }
                x += 8;
            }
            while x < columns.end {
                self.some::<F, 1, true>(y, x);
                x += 1;
            }
        }
    }
}

/// N numbers from number `at`, `stride` apart; UNIT means a stride of 1.
#[inline(always)]
fn load<const N: usize, const UNIT: bool>(from: &[f64], at: usize, stride: usize) -> [f64; N] {
    let mut out = [0.0; N];
    if UNIT {
        out.copy_from_slice(&from[at..at + N]);
    } else {
        let some = &from[at..at + (N - 1) * stride + 1];
        for i in 0..N {
            out[i] = some[i * stride];
        }
    }
    out
}

impl Convolve<'_> {
    /// N positions of a row.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // The shape that becomes vector loops.
    fn some<F: Fuse, const N: usize, const UNIT: bool>(&mut self, y: usize, x: usize) {
        let Stage { stride, kernel, padded, share, bias, .. } = *self.stage;
        let here = y * self.stage.output.w + x;
        let there = self.stage.output.moved((y, x), self.offset);
        let own: [f64; N] = load::<N, true>(&self.x.scales, here, 1);
        let other: [f64; N] = load::<N, true>(&self.y.scales, there, 1);
        let [mut squares, mut below, mut above, mut theta] = [[0.0; N]; 4];
        let corner = stride * (y * padded.w + x);
        let (dy, dx) = self.offset;
        let shift = stride as isize * (dy * padded.w as isize + dx);
        for row in 0..kernel.h {
            for column in 0..kernel.w {
                let p = corner + row * padded.w + column;
                let q = p.wrapping_add_signed(shift);
                let f: [f64; N] = load::<N, UNIT>(&self.x.roots, p, stride);
                let g: [f64; N] = load::<N, UNIT>(&self.y.roots, q, stride);
                let lower: [f64; N] = load::<N, UNIT>(&self.input.below, p, stride);
                let upper: [f64; N] = load::<N, UNIT>(&self.input.above, p, stride);
                for i in 0..N {
                    let gap = own[i] * f[i] - other[i] * g[i];
                    squares[i] = Real::mul_add::<F>(gap, gap, squares[i]);
                    below[i] += lower[i];
                    above[i] += upper[i];
                }
                if self.tangent {
                    let slope: [f64; N] = load::<N, UNIT>(&self.input.tangent, p, stride);
                    for i in 0..N {
                        theta[i] += slope[i];
                    }
                }
            }
        }
        let ratio = bias / share;
        let a = self.x.variances.range(here..here + N);
        let b = self.y.variances.range(there..there + N);
        let minus = &mut self.output.minus[here..here + N];
        let plus = &mut self.output.plus[here..here + N];
        let out = &mut self.output.theta[here..here + N];
        for i in 0..N {
            let gap = own[i] - other[i];
            let spread = 0.5 * (squares[i] + ratio * (gap * gap));
            let both = own[i] * other[i];
            let under = spread + both * below[i];
            let over = spread + both * (above[i] + 2.0 * ratio);
            // The smaller one has all its digits.
            let near = under <= 1.0;
            minus[i] = if near { under } else { 2.0 - over };
            plus[i] = if near { 2.0 - under } else { over };
            let covariance = geometric_mean(a.at(i), b.at(i)) * (0.5 * (plus[i] - minus[i]));
            out[i] = covariance + share * theta[i];
        }
    }
}

/// One plane through the activation, into the padded input of the next convolution.
pub(super) struct Hidden<'a> {
    pub(super) activation: Activation,
    pub(super) stage: &'a Stage,
    pub(super) next: &'a Stage,
    pub(super) offset: Offset,
    pub(super) x: &'a Level,
    pub(super) y: &'a Level,
    pub(super) output: &'a Output,
    pub(super) input: &'a mut Input,
    pub(super) tangent: bool,
}

impl Op for Hidden<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        match self.activation {
            Activation::Relu => self.plane::<F, 0>(),
            Activation::LeakyRelu => self.plane::<F, 1>(),
            Activation::Erf => self.plane::<F, 2>(),
            Activation::SinCos => self.plane::<F, 3>(),
            Activation::Gelu => self.plane::<F, 4>(),
        }
    }
}

impl Hidden<'_> {
    /// K is the place of the activation in [`Activation::ALL`].
    #[inline(always)]
    fn plane<F: Fuse, const K: usize>(self) {
        let activation = const { Activation::ALL[K].1 };
        let size = self.stage.output;
        let (rows, columns) = size.shared(self.offset);
        let (n, left) = (columns.len(), columns.start);
        for y in rows {
            let here = y * size.w + left;
            let there = size.moved((y, left), self.offset);
            let to = (y + self.next.before.h) * self.next.padded.w + left + self.next.before.w;
            let a = self.x.variances.range(here..here + n).first(n);
            let b = self.y.variances.range(there..there + n).first(n);
            let fa = self.x.moments.range(here..here + n).first(n);
            let fb = self.y.moments.range(there..there + n).first(n);
            let minus = &self.output.minus[here..here + n];
            let plus = &self.output.plus[here..here + n];
            let below = &mut self.input.below[to..to + n];
            let above = &mut self.input.above[to..to + n];
            if self.tangent {
                let theta = &self.output.theta[here..here + n];
                let tangent = &mut self.input.tangent[to..to + n];
                for j in 0..n {
                    let pair = Pair { a: a.at(j), b: b.at(j), minus: minus[j], plus: plus[j] };
                    let dual = activation.dual::<F>(pair, fa.at(j), fb.at(j));
                    (below[j], above[j]) = (dual.below, dual.above);
                    tangent[j] = dual.slope * theta[j];
                }
            } else {
                for j in 0..n {
                    let pair = Pair { a: a.at(j), b: b.at(j), minus: minus[j], plus: plus[j] };
                    let dual = activation.dual::<F>(pair, fa.at(j), fb.at(j));
                    (below[j], above[j]) = (dual.below, dual.above);
                }
            }
        }
    }
}

/// One plane through the last activation before a pooling, in place.
pub(super) struct Last<'a> {
    pub(super) activation: Activation,
    pub(super) stage: &'a Stage,
    pub(super) offset: Offset,
    pub(super) x: &'a Level,
    pub(super) y: &'a Level,
    pub(super) output: &'a mut Output,
    pub(super) tangent: bool,
}

impl Op for Last<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        match self.activation {
            Activation::Relu => self.plane::<F, 0>(),
            Activation::LeakyRelu => self.plane::<F, 1>(),
            Activation::Erf => self.plane::<F, 2>(),
            Activation::SinCos => self.plane::<F, 3>(),
            Activation::Gelu => self.plane::<F, 4>(),
        }
    }
}

impl Last<'_> {
    /// As [`Hidden::plane`].
    #[inline(always)]
    fn plane<F: Fuse, const K: usize>(self) {
        let activation = const { Activation::ALL[K].1 };
        let size = self.stage.output;
        let (rows, columns) = size.shared(self.offset);
        let (n, left) = (columns.len(), columns.start);
        for y in rows {
            let here = y * size.w + left;
            let there = size.moved((y, left), self.offset);
            let a = self.x.variances.range(here..here + n).first(n);
            let b = self.y.variances.range(there..there + n).first(n);
            let minus = &mut self.output.minus[here..here + n];
            let plus = &self.output.plus[here..here + n];
            if self.tangent {
                let theta = &mut self.output.theta[here..here + n];
                for j in 0..n {
                    let pair = Pair { a: a.at(j), b: b.at(j), minus: minus[j], plus: plus[j] };
                    let (value, slope) = activation.expectations::<F>(pair);
                    minus[j] = value;
                    theta[j] *= slope;
                }
            } else {
                for j in 0..n {
                    let pair = Pair { a: a.at(j), b: b.at(j), minus: minus[j], plus: plus[j] };
                    minus[j] = activation.expectations::<F>(pair).0;
                }
            }
        }
    }
}
