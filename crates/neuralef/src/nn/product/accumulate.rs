//! dW += Aᵀ·dZ: the product of the backward pass to the weights.

use pulp::{Arch, Simd, WithSimd};

use super::{Rows, TILE};

/// dW += Aᵀ·dZ and db += Σ dZ.
///
/// `dz` has rows of [`stride`](super::stride)`(outer)`; `weight` is inner × outer and `bias` has `outer` numbers,
/// both dense. `scratch` is working storage that calls may share.
pub(in crate::nn) fn accumulate(
    arch: Arch,
    a: Rows<'_>,
    dz: &[f32],
    weight: &mut [f32],
    bias: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    arch.dispatch(Accumulate { a, dz, weight, bias, scratch });
}

/// From this many rows and columns of dW on, [`accumulate`] packs its operands: measured, below it
/// the copies cost more than the cache misses they save.
const PACK: usize = 96;

struct Accumulate<'a> {
    a: Rows<'a>,
    dz: &'a [f32],
    weight: &'a mut [f32],
    bias: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

/// Columns `offset..` of rows `stride` apart.
#[derive(Clone, Copy)]
struct Columns<'a> {
    data: &'a [f32],
    stride: usize,
    offset: usize,
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let outer = self.bias.len();
        if outer == 1 {
            return self.single(simd);
        }
        let stride = outer.next_multiple_of(S::F32_LANES);
        let inner = self.weight.len() / outer.max(1);
        let whole = inner - inner % TILE;
        if inner >= PACK && outer >= PACK {
            self.packed(simd, stride, whole);
        } else {
            let mut column = 0;
            while column < stride {
                let dz = Columns { data: self.dz, stride, offset: column };
                let two = stride - column >= 2 * S::F32_LANES;
                let mut i = 0;
                while i < whole {
                    let a = Columns { data: self.a.data, stride: self.a.stride, offset: i };
                    if two {
                        self.tile::<S, TILE, 2, false>(simd, a, dz, i, column);
                    } else {
                        self.tile::<S, TILE, 1, false>(simd, a, dz, i, column);
                    }
                    i += TILE;
                }
                column += if two { 2 * S::F32_LANES } else { S::F32_LANES };
            }
        }
        // The rest of the rows, and the bias with them as a row of ones.
        match inner - whole {
            0 => self.rest::<S, 0>(simd, stride, whole),
            1 => self.rest::<S, 1>(simd, stride, whole),
            2 => self.rest::<S, 2>(simd, stride, whole),
            3 => self.rest::<S, 3>(simd, stride, whole),
            4 => self.rest::<S, 4>(simd, stride, whole),
            _ => self.rest::<S, 5>(simd, stride, whole),
        }
    }
}

impl Accumulate<'_> {
    /// The whole tiles, from copies of dZ in panels of two vectors and of A in strips of a tile:
    /// rows of wide matrices lie a power of two apart and would throw each other out of the cache.
    #[inline(always)]
    fn packed<S: Simd>(&mut self, simd: S, stride: usize, whole: usize) {
        let (rows, wide) = (self.a.count, 2 * S::F32_LANES);
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        scratch.resize(rows * (stride + TILE), 0.0);
        let (panels, strip) = scratch.split_at_mut(rows * stride);
        for (panel, column) in panels.chunks_mut(rows * wide).zip((0..stride).step_by(wide)) {
            let width = wide.min(stride - column);
            for (to, from) in panel.chunks_exact_mut(width).zip(self.dz.chunks_exact(stride)) {
                to.copy_from_slice(&from[column..column + width]);
            }
        }
        let mut i = 0;
        while i < whole {
            for (to, from) in strip.chunks_exact_mut(TILE).zip(self.a.data.chunks(self.a.stride)) {
                to.copy_from_slice(&from[i..i + TILE]);
            }
            let a = Columns { data: strip, stride: TILE, offset: 0 };
            for (panel, column) in panels.chunks(rows * wide).zip((0..stride).step_by(wide)) {
                let width = wide.min(stride - column);
                let dz = Columns { data: panel, stride: width, offset: 0 };
                if width == wide {
                    self.tile::<S, TILE, 2, false>(simd, a, dz, i, column);
                } else {
                    self.tile::<S, TILE, 1, false>(simd, a, dz, i, column);
                }
            }
            i += TILE;
        }
        *self.scratch = scratch;
    }

    #[inline(always)]
    fn rest<S: Simd, const R: usize>(&mut self, simd: S, stride: usize, i: usize) {
        let a = Columns { data: self.a.data, stride: self.a.stride, offset: i };
        let mut column = 0;
        while column < stride {
            let dz = Columns { data: self.dz, stride, offset: column };
            let vectors = (stride - column) / S::F32_LANES;
            // More columns at once when there are few rows, to keep enough sums in flight.
            let taken = if R <= 2 && vectors >= 4 {
                self.tile::<S, R, 4, true>(simd, a, dz, i, column);
                4
            } else if vectors >= 2 {
                self.tile::<S, R, 2, true>(simd, a, dz, i, column);
                2
            } else {
                self.tile::<S, R, 1, true>(simd, a, dz, i, column);
                1
            };
            column += taken * S::F32_LANES;
        }
    }

    /// R rows and V vectors of columns of dW, from row `i` and column `column` on.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const BIAS: bool>(
        &mut self,
        simd: S,
        a: Columns<'_>,
        dz: Columns<'_>,
        i: usize,
        column: usize,
    ) {
        let width = V * S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        let mut ones = [simd.splat_f32s(0.0); V];
        let rows = a.data.chunks(a.stride).zip(dz.data.chunks_exact(dz.stride));
        for (x, dz_row) in rows.take(self.a.count) {
            let x = &x[a.offset..a.offset + R];
            let dz_row = S::as_simd_f32s(&dz_row[dz.offset..dz.offset + width]).0;
            for r in 0..R {
                let x = simd.splat_f32s(x[r]);
                for v in 0..V {
                    sum[r][v] = simd.mul_add_e_f32s(x, dz_row[v], sum[r][v]);
                }
            }
            if BIAS {
                for v in 0..V {
                    ones[v] = simd.add_f32s(ones[v], dz_row[v]);
                }
            }
        }
        let outer = self.bias.len();
        for (r, sum) in sum.iter().enumerate() {
            let row = &mut self.weight[(i + r) * outer..(i + r + 1) * outer];
            add_vectors::<S, V>(simd, &mut row[column..], sum);
        }
        if BIAS {
            add_vectors::<S, V>(simd, &mut self.bias[column..], &ones);
        }
    }

    /// One column of dZ: dW += Σ dz·a is a sum of rows of A.
    #[inline(always)]
    fn single<S: Simd>(mut self, simd: S) {
        let inner = self.weight.len();
        let whole = inner - inner % S::F32_LANES;
        let mut column = 0;
        while column < whole {
            let vectors = (whole - column) / S::F32_LANES;
            let taken = if vectors >= 4 {
                self.single_tile::<S, 4>(simd, column);
                4
            } else {
                self.single_tile::<S, 1>(simd, column);
                1
            };
            column += taken * S::F32_LANES;
        }
        for (i, w) in self.weight.iter_mut().enumerate().skip(whole) {
            let mut sum = 0.0;
            for (a, dz) in self.a.data.chunks(self.a.stride).zip(&self.dz[..self.a.count]) {
                sum += a[i] * dz;
            }
            *w += sum;
        }
        let (chunks, tail) = self.dz[..self.a.count].as_chunks::<8>();
        let mut sums = [0.0f32; 8];
        for chunk in chunks {
            for (sum, dz) in sums.iter_mut().zip(chunk) {
                *sum += dz;
            }
        }
        self.bias[0] += sums.iter().sum::<f32>() + tail.iter().sum::<f32>();
    }

    #[inline(always)]
    fn single_tile<S: Simd, const V: usize>(&mut self, simd: S, column: usize) {
        let width = V * S::F32_LANES;
        let mut even = [simd.splat_f32s(0.0); V];
        let mut odd = [simd.splat_f32s(0.0); V];
        let mut rows = self.a.data.chunks(self.a.stride);
        let (pairs, last) = self.dz[..self.a.count].as_chunks::<2>();
        for dz in pairs {
            for (dz, sum) in dz.iter().zip([&mut even, &mut odd]) {
                let Some(a) = rows.next() else { return };
                let a = S::as_simd_f32s(&a[column..column + width]).0;
                let x = simd.splat_f32s(*dz);
                for v in 0..V {
                    sum[v] = simd.mul_add_e_f32s(x, a[v], sum[v]);
                }
            }
        }
        if let (Some(dz), Some(a)) = (last.first(), rows.next()) {
            let a = S::as_simd_f32s(&a[column..column + width]).0;
            let x = simd.splat_f32s(*dz);
            for v in 0..V {
                even[v] = simd.mul_add_e_f32s(x, a[v], even[v]);
            }
        }
        for v in 0..V {
            even[v] = simd.add_f32s(even[v], odd[v]);
        }
        add_vectors::<S, V>(simd, &mut self.weight[column..], &even);
    }
}

/// Adds as many of the numbers in `vectors` as `to` has room for.
#[inline(always)]
fn add_vectors<S: Simd, const V: usize>(simd: S, to: &mut [f32], vectors: &[S::f32s; V]) {
    if to.len() >= V * S::F32_LANES {
        for (to, v) in S::as_mut_simd_f32s(to).0.iter_mut().zip(vectors) {
            *to = simd.add_f32s(*to, *v);
        }
    } else {
        let numbers: &[f32] = pulp::bytemuck::cast_slice(vectors);
        for (to, v) in to.iter_mut().zip(numbers) {
            *to += v;
        }
    }
}
