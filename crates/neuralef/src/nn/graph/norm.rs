//! Batch normalisation (Ioffe & Szegedy 2015): each channel to zero mean and unit variance over the
//! batch and all pixels, then scaled and shifted. Statistics and their sums in the backward pass are
//! in double precision: in single precision gradients were off by almost a percent.

use crate::simd::{Fuse, Op, Real, dispatch};

/// Added to variances, as PyTorch has it.
pub(crate) const EPSILON: f64 = 1e-5;
/// Share of a training batch in the running statistics of batch normalisation, as PyTorch has it.
pub const MOMENTUM: f64 = 0.1;

/// Mean and variance of every channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ChannelStatistics {
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
}

impl ChannelStatistics {
    /// From sums of x and x² over `count` pixels.
    pub(super) fn of(sums: &[(f64, f64)], count: usize) -> Self {
        let n = count as f64;
        let mean: Vec<f64> = sums.iter().map(|(s, _)| s / n).collect();
        let variance = sums.iter().zip(&mean).map(|((_, q), m)| (q / n - m * m).max(0.0)).collect();
        ChannelStatistics { mean, variance }
    }

    fn inverse(&self, c: usize, epsilon: f64) -> f64 {
        (self.variance[c] + epsilon).sqrt().recip()
    }

    /// The derivative of a norm by x: a with γ(x − mean)/√(variance + ε) + β = ax + b, and no b;
    /// padded with zeros to `stride`.
    pub(super) fn slope(&self, scale: &[f32], epsilon: f64, stride: usize) -> Affine {
        let mut slope = Affine { factor: vec![0.0; stride], offset: vec![0.0; stride] };
        for (c, scale) in scale.iter().enumerate() {
            slope.factor[c] = (f64::from(*scale) * self.inverse(c, epsilon)) as f32;
        }
        slope
    }

    /// a and b with γ(x − mean)/√(variance + ε) + β = ax + b, padded with zeros to `stride`.
    pub(super) fn affine(
        &self,
        scale: &[f32],
        shift: &[f32],
        epsilon: f64,
        stride: usize,
    ) -> Affine {
        let mut affine = self.slope(scale, epsilon, stride);
        for (c, (scale, shift)) in scale.iter().zip(shift).enumerate() {
            let a = f64::from(*scale) * self.inverse(c, epsilon);
            affine.offset[c] = (f64::from(*shift) - a * self.mean[c]) as f32;
        }
        affine
    }

    /// The whitening alone: a and b with (x − mean)/√(variance + ε) = ax + b.
    pub(super) fn whitening(&self, epsilon: f64, stride: usize) -> Affine {
        let ones = vec![1.0; self.mean.len()];
        self.affine(&ones, &vec![0.0; ones.len()], epsilon, stride)
    }
}

/// x ↦ ax + b, channel by channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Affine {
    pub(super) factor: Vec<f32>,
    pub(super) offset: Vec<f32>,
}

impl Affine {
    /// to = ax + b, pixel by pixel.
    pub(super) fn apply(&self, x: &[f32], to: &mut [f32]) {
        dispatch(Blend { x, affine: self, onto: Onto::Nothing, to });
    }

    /// The same where the pixels of `x` are `stride` numbers apart, and those of `to` as far as the
    /// coefficients reach.
    pub(super) fn apply_across(&self, x: &[f32], stride: usize, to: &mut [f32]) {
        if stride == self.factor.len() {
            return self.apply(x, to);
        }
        for (to, x) in to.chunks_exact_mut(self.factor.len()).zip(x.chunks_exact(stride)) {
            for (c, (to, x)) in to.iter_mut().zip(x).enumerate() {
                *to = x * self.factor[c] + self.offset[c];
            }
        }
    }

    /// to += ax + b.
    pub(super) fn add(&self, x: &[f32], to: &mut [f32]) {
        dispatch(Blend { x, affine: self, onto: Onto::Sum, to });
    }

    /// to += ax + b + cy.
    pub(super) fn add_with(&self, x: &[f32], c: &[f32], y: &[f32], to: &mut [f32]) {
        dispatch(Blend { x, affine: self, onto: Onto::SumWith { c, y }, to });
    }
}

/// What ax + b is put onto.
enum Onto<'a> {
    Nothing,
    Sum,
    SumWith { c: &'a [f32], y: &'a [f32] },
}

struct Blend<'a> {
    x: &'a [f32],
    affine: &'a Affine,
    onto: Onto<'a>,
    to: &'a mut [f32],
}

impl Op for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let stride = self.affine.factor.len();
        let (a, b) = (&self.affine.factor[..stride], &self.affine.offset[..stride]);
        let pixels = self.to.chunks_exact_mut(stride).zip(self.x.chunks_exact(stride));
        match self.onto {
            Onto::Nothing => {
                for (to, x) in pixels {
                    for (((to, x), a), b) in to.iter_mut().zip(x).zip(a).zip(b) {
                        *to = Real::mul_add::<F>(*x, *a, *b);
                    }
                }
            }
            Onto::Sum => {
                for (to, x) in pixels {
                    for (((to, x), a), b) in to.iter_mut().zip(x).zip(a).zip(b) {
                        *to += Real::mul_add::<F>(*x, *a, *b);
                    }
                }
            }
            Onto::SumWith { c, y } => {
                for ((to, x), y) in pixels.zip(y.chunks_exact(stride)) {
                    let (to, x, y, c) =
                        (&mut to[..stride], &x[..stride], &y[..stride], &c[..stride]);
                    for j in 0..stride {
                        let first = Real::mul_add::<F>(x[j], a[j], b[j]);
                        to[j] += Real::mul_add::<F>(y[j], c[j], first);
                    }
                }
            }
        }
    }
}

/// Adds Σu and Σuv of every channel over pixels of `stride` numbers to `sums`; with v = u for none.
pub(super) fn add_sums(u: &[f32], v: Option<&[f32]>, stride: usize, sums: &mut [(f64, f64)]) {
    dispatch(Sums { u, v: v.unwrap_or(u), stride, sums });
}

/// The sum of the parts of every segment, in order.
pub(super) fn total(parts: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let mut total = first.clone();
    for part in rest {
        for (total, part) in total.iter_mut().zip(part) {
            *total = (total.0 + part.0, total.1 + part.1);
        }
    }
    total
}

struct Sums<'a> {
    u: &'a [f32],
    v: &'a [f32],
    stride: usize,
    sums: &'a mut [(f64, f64)],
}

impl Op for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let stride = self.stride;
        let mut first = vec![0.0f64; stride];
        let mut second = vec![0.0f64; stride];
        for (u, v) in self.u.chunks_exact(stride).zip(self.v.chunks_exact(stride)) {
            let (first, second) = (&mut first[..stride], &mut second[..stride]);
            for c in 0..stride {
                let (u, v) = (f64::from(u[c]), f64::from(v[c]));
                first[c] += u;
                second[c] = Real::mul_add::<F>(u, v, second[c]);
            }
        }
        for (sums, (f, s)) in self.sums.iter_mut().zip(first.iter().zip(&second)) {
            sums.0 += f;
            sums.1 += s;
        }
    }
}
