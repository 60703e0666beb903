//! dW += Aᵀ·dZ: the product of the backward pass to the weights.

use pulp::{Arch, Simd, WithSimd};

use super::{Rows, Source, TILE};

/// dW += Aᵀ·dZ and db += Σ dZ.
///
/// `dz` has rows of [`stride`](super::stride)`(outer)`; `weight` is inner × outer and `bias` has `outer` numbers,
/// both dense. `scratch` is working storage that calls may share.
pub(in crate::nn) fn accumulate(
    arch: Arch,
    a: impl Source,
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

struct Accumulate<'a, A> {
    a: A,
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

impl<A: Source> WithSimd for Accumulate<'_, A> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let outer = self.bias.len();
        if outer == 1 {
            return self.single(simd);
        }
        let stride = outer.next_multiple_of(S::F32_LANES);
        let inner = self.weight.len() / outer.max(1);
        let runs = self.a.runs();
        let length = inner / runs.max(1);
        let whole = length - length % TILE;
        let packs = inner >= PACK && outer >= PACK;
        if packs {
            self.packed(simd, stride, length, whole);
        }
        for run in 0..runs {
            if !packs {
                self.whole_tiles(simd, stride, (run, length), whole);
            }
            // The rest of the rows, and with the last of them the bias, as a row of ones.
            let at = Place { run, start: whole, row: run * length + whole };
            match (length - whole, run + 1 == runs) {
                (0, true) => self.rest::<S, 0, true>(simd, stride, at),
                (1, true) => self.rest::<S, 1, true>(simd, stride, at),
                (2, true) => self.rest::<S, 2, true>(simd, stride, at),
                (3, true) => self.rest::<S, 3, true>(simd, stride, at),
                (4, true) => self.rest::<S, 4, true>(simd, stride, at),
                (5, true) => self.rest::<S, 5, true>(simd, stride, at),
                (1, _) => self.rest::<S, 1, false>(simd, stride, at),
                (2, _) => self.rest::<S, 2, false>(simd, stride, at),
                (3, _) => self.rest::<S, 3, false>(simd, stride, at),
                (4, _) => self.rest::<S, 4, false>(simd, stride, at),
                (5, _) => self.rest::<S, 5, false>(simd, stride, at),
                _ => {}
            }
        }
    }
}

/// Where a tile of dW comes from and goes to.
#[derive(Clone, Copy)]
struct Place {
    /// Run of A's rows, and the first of the tile's numbers in it.
    run: usize,
    start: usize,
    /// The tile's first row of dW.
    row: usize,
}

impl<A: Source> Accumulate<'_, A> {
    /// The whole tiles of a run, from A and dZ where they lie.
    #[inline(always)]
    fn whole_tiles<S: Simd>(
        &mut self,
        simd: S,
        stride: usize,
        (run, length): (usize, usize),
        whole: usize,
    ) {
        let a = self.a;
        let mut column = 0;
        while column < stride {
            let dz = Columns { data: self.dz, stride, offset: column };
            let two = stride - column >= 2 * S::F32_LANES;
            let mut i = 0;
            while i < whole {
                let at = Place { run, start: i, row: run * length + i };
                if two {
                    self.tile::<S, A, TILE, 2, false>(simd, a, dz, at, column);
                } else {
                    self.tile::<S, A, TILE, 1, false>(simd, a, dz, at, column);
                }
                i += TILE;
            }
            column += if two { 2 * S::F32_LANES } else { S::F32_LANES };
        }
    }

    /// The whole tiles, from copies of dZ in panels of two vectors and of A in strips of a tile:
    /// rows of wide matrices lie a power of two apart and would throw each other out of the cache.
    #[inline(always)]
    fn packed<S: Simd>(&mut self, simd: S, stride: usize, length: usize, whole: usize) {
        let (rows, wide) = (self.a.count(), 2 * S::F32_LANES);
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
        for run in 0..self.a.runs() {
            let mut i = 0;
            while i < whole {
                for (row, to) in strip.chunks_exact_mut(TILE).enumerate() {
                    to.copy_from_slice(self.a.part(row, run, i, TILE));
                }
                let a = Rows { data: strip, stride: TILE, count: rows };
                let at = Place { run: 0, start: 0, row: run * length + i };
                for (panel, column) in panels.chunks(rows * wide).zip((0..stride).step_by(wide)) {
                    let width = wide.min(stride - column);
                    let dz = Columns { data: panel, stride: width, offset: 0 };
                    if width == wide {
                        self.tile::<S, Rows<'_>, TILE, 2, false>(simd, a, dz, at, column);
                    } else {
                        self.tile::<S, Rows<'_>, TILE, 1, false>(simd, a, dz, at, column);
                    }
                }
                i += TILE;
            }
        }
        *self.scratch = scratch;
    }

    #[inline(always)]
    fn rest<S: Simd, const R: usize, const BIAS: bool>(
        &mut self,
        simd: S,
        stride: usize,
        at: Place,
    ) {
        let a = self.a;
        let mut column = 0;
        while column < stride {
            let dz = Columns { data: self.dz, stride, offset: column };
            let vectors = (stride - column) / S::F32_LANES;
            // More columns at once when there are few rows, to keep enough sums in flight.
            let taken = if R <= 2 && vectors >= 4 {
                self.tile::<S, A, R, 4, BIAS>(simd, a, dz, at, column);
                4
            } else if vectors >= 2 {
                self.tile::<S, A, R, 2, BIAS>(simd, a, dz, at, column);
                2
            } else {
                self.tile::<S, A, R, 1, BIAS>(simd, a, dz, at, column);
                1
            };
            column += taken * S::F32_LANES;
        }
    }

    /// R rows and V vectors of columns of dW, from row `at.row` and column `column` on.
    #[inline(always)]
    fn tile<S: Simd, B: Source, const R: usize, const V: usize, const BIAS: bool>(
        &mut self,
        simd: S,
        a: B,
        dz: Columns<'_>,
        at: Place,
        column: usize,
    ) {
        let width = V * S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        let mut ones = [simd.splat_f32s(0.0); V];
        for (row, dz_row) in (0..a.count()).zip(dz.data.chunks_exact(dz.stride)) {
            let x = a.part(row, at.run, at.start, R);
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
            let row = &mut self.weight[(at.row + r) * outer..(at.row + r + 1) * outer];
            add_vectors::<S, V>(simd, &mut row[column..], sum);
        }
        if BIAS {
            add_vectors::<S, V>(simd, &mut self.bias[column..], &ones);
        }
    }

    /// One column of dZ: dW += Σ dz·a is a sum of rows of A.
    #[inline(always)]
    fn single<S: Simd>(mut self, simd: S) {
        let length = self.weight.len() / self.a.runs().max(1);
        let whole = length - length % S::F32_LANES;
        for run in 0..self.a.runs() {
            let mut column = 0;
            while column < whole {
                let vectors = (whole - column) / S::F32_LANES;
                let at = Place { run, start: column, row: run * length + column };
                let taken = if vectors >= 4 {
                    self.single_tile::<S, 4>(simd, at);
                    4
                } else {
                    self.single_tile::<S, 1>(simd, at);
                    1
                };
                column += taken * S::F32_LANES;
            }
            for i in whole..length {
                let mut sum = 0.0;
                for (row, dz) in self.dz[..self.a.count()].iter().enumerate() {
                    sum += self.a.part(row, run, i, 1)[0] * dz;
                }
                self.weight[run * length + i] += sum;
            }
        }
        let (chunks, tail) = self.dz[..self.a.count()].as_chunks::<8>();
        let mut sums = [0.0f32; 8];
        for chunk in chunks {
            for (sum, dz) in sums.iter_mut().zip(chunk) {
                *sum += dz;
            }
        }
        self.bias[0] += sums.iter().sum::<f32>() + tail.iter().sum::<f32>();
    }

    #[inline(always)]
    fn single_tile<S: Simd, const V: usize>(&mut self, simd: S, at: Place) {
        let width = V * S::F32_LANES;
        let mut even = [simd.splat_f32s(0.0); V];
        let mut odd = [simd.splat_f32s(0.0); V];
        for (row, dz) in self.dz[..self.a.count()].iter().enumerate() {
            let a = S::as_simd_f32s(self.a.part(row, at.run, at.start, width)).0;
            let x = simd.splat_f32s(*dz);
            let sum = if row % 2 == 0 { &mut even } else { &mut odd };
            for v in 0..V {
                sum[v] = simd.mul_add_e_f32s(x, a[v], sum[v]);
            }
        }
        for v in 0..V {
            even[v] = simd.add_f32s(even[v], odd[v]);
        }
        add_vectors::<S, V>(simd, &mut self.weight[at.row..], &even);
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
