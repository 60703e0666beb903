//! C = start + A·W: the product of the forward pass, and of the backward pass to the layer below.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{Panels, Source, TILE};

/// What the sums of [`multiply`] start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The packed bias (zero if there was none).
    Bias,
    /// What is in the output already.
    Output,
}

/// C = start + A·W, times `slope` elementwise when given; `c` and `slope` have the packed matrix's
/// stride.
pub fn multiply(
    arch: Arch,
    a: impl Source,
    weight: &Panels,
    start: Start,
    slope: Option<&[f32]>,
    c: &mut [f32],
) {
    a.multiply(arch, weight, start, slope, c);
}

pub(super) struct Multiply<'a, A> {
    pub(super) a: A,
    pub(super) weight: &'a Panels,
    pub(super) start: Start,
    pub(super) slope: Option<&'a [f32]>,
    pub(super) c: &'a mut [f32],
}

impl<A: Source> WithSimd for Multiply<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let stride = self.weight.stride;
        if stride == 1 {
            return self.dots(simd);
        }
        // A panel goes through all rows while the part of it that is read lies in cache.
        let inner = self.weight.inner;
        for start in (0..inner.max(1)).step_by(DEPTH) {
            let depth = start..inner.min(start + DEPTH);
            let mut column = 0;
            while column < stride {
                if stride - column >= 2 * S::F32_LANES {
                    self.panel::<S, 2>(simd, column, depth.clone());
                    column += 2 * S::F32_LANES;
                } else {
                    self.panel::<S, 1>(simd, column, depth.clone());
                    column += S::F32_LANES;
                }
            }
        }
    }
}

/// Rows of a panel that go through all rows of A together: with two vectors of eight numbers, 16 KiB,
/// half a first-level cache.
const DEPTH: usize = 256;

impl<A: Source> Multiply<'_, A> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, column: usize, depth: Range<usize>) {
        let inner = self.weight.inner;
        let panel = &self.weight.data[inner * column..inner * (column + V * S::F32_LANES)];
        let panel = &S::as_simd_f32s(panel).0[depth.start * V..depth.end * V];
        let mut row = 0;
        while row + TILE <= self.a.count() {
            self.tile::<S, TILE, V>(simd, panel, column, row, &depth);
            row += TILE;
        }
        match self.a.count() - row {
            1 => self.tile::<S, 1, V>(simd, panel, column, row, &depth),
            2 => self.tile::<S, 2, V>(simd, panel, column, row, &depth),
            3 => self.tile::<S, 3, V>(simd, panel, column, row, &depth),
            4 => self.tile::<S, 4, V>(simd, panel, column, row, &depth),
            5 => self.tile::<S, 5, V>(simd, panel, column, row, &depth),
            _ => {}
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        panel: &[S::f32s],
        column: usize,
        row: usize,
        depth: &Range<usize>,
    ) {
        let stride = self.weight.stride;
        let width = V * S::F32_LANES;
        let at = |r: usize| (row + r) * stride + column..(row + r) * stride + column + width;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        for (r, sum) in sum.iter_mut().enumerate() {
            let from = if depth.start == 0 && self.start == Start::Bias {
                &self.weight.bias[column..column + width]
            } else {
                &self.c[at(r)]
            };
            sum.copy_from_slice(S::as_simd_f32s(from).0);
        }
        let mut a: [&[f32]; R] = [&[]; R];
        for (r, a) in a.iter_mut().enumerate() {
            *a = self.a.row(row + r);
        }
        for (p, w) in self.a.places(depth.clone()).zip(panel.chunks_exact(V)) {
            for r in 0..R {
                let x = simd.splat_f32s(a[r][p]);
                for v in 0..V {
                    sum[r][v] = simd.mul_add_e_f32s(x, w[v], sum[r][v]);
                }
            }
        }
        if let Some(slope) = self.slope.filter(|_| depth.end == self.weight.inner) {
            for (r, sum) in sum.iter_mut().enumerate() {
                for (sum, slope) in sum.iter_mut().zip(S::as_simd_f32s(&slope[at(r)]).0) {
                    *sum = simd.mul_f32s(*sum, *slope);
                }
            }
        }
        for (r, sum) in sum.iter().enumerate() {
            S::as_mut_simd_f32s(&mut self.c[at(r)]).0.copy_from_slice(sum);
        }
    }

    /// One column: a dot product for each row.
    #[inline(always)]
    fn dots<S: Simd>(self, simd: S) {
        let mut buffer = Vec::new();
        let a = self.a.gathered(&mut buffer);
        let bias = self.weight.bias.first().copied().unwrap_or(0.0);
        let (w, w_tail) = S::as_simd_f32s(&self.weight.data);
        let (w_pairs, w_last) = w.as_chunks::<2>();
        for (row, c) in self.c.iter_mut().enumerate().take(a.count) {
            let mut sum = [simd.splat_f32s(0.0); 2];
            let (x, x_tail) = S::as_simd_f32s(a.part(row, 0, self.weight.inner));
            let (x_pairs, x_last) = x.as_chunks::<2>();
            for (x, w) in x_pairs.iter().zip(w_pairs) {
                for v in 0..2 {
                    sum[v] = simd.mul_add_e_f32s(x[v], w[v], sum[v]);
                }
            }
            for (x, w) in x_last.iter().zip(w_last) {
                sum[0] = simd.mul_add_e_f32s(*x, *w, sum[0]);
            }
            let tail: f32 = x_tail.iter().zip(w_tail).map(|(x, w)| x * w).sum();
            let total = simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1])) + tail;
            let start = if self.start == Start::Bias { bias } else { *c };
            *c = start + total;
            if let Some(slope) = self.slope {
                *c *= slope[row];
            }
        }
    }
}
