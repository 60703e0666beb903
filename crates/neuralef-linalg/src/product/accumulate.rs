//! dW += Aᵀ·dZ: the product of the backward pass to the weights.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{Rows, Source, TILE};

/// dW += Aᵀ·dZ and db += Σ dZ.
///
/// `dz` has rows of [`stride`](super::stride)`(outer)`; `weight` is inner × outer and `bias` has `outer` numbers,
/// both dense. `scratch` is working storage that calls may share.
pub fn accumulate(
    arch: Arch,
    a: impl Source,
    dz: &[f32],
    weight: &mut [f32],
    bias: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    a.accumulate(arch, dz, weight, bias, scratch);
}

/// From this many columns of dW on, [`accumulate`] copies A into strips of a tile: measured, below it
/// the copies cost more than the cache misses they save.
const STRIPS: usize = 48;
/// From this many rows of dW on it copies dZ into panels, from the second number on only if there are
/// more rows of dZ than fit into a first-level cache.
const PANELS: [usize; 2] = [96, 24];

pub(super) struct Accumulate<'a, A> {
    pub(super) a: A,
    pub(super) dz: &'a [f32],
    pub(super) weight: &'a mut [f32],
    pub(super) bias: &'a mut [f32],
    pub(super) scratch: &'a mut Vec<f32>,
}

/// Columns `offset..` of rows `stride` apart, which are columns `column..` of dW.
#[derive(Clone, Copy)]
struct Columns<'a> {
    data: &'a [f32],
    stride: usize,
    offset: usize,
    column: usize,
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
        let whole = inner - inner % TILE;
        for start in (0..self.a.count()).step_by(ROWS) {
            let rows = start..self.a.count().min(start + ROWS);
            let dz =
                Columns { data: &self.dz[rows.start * stride..], stride, offset: 0, column: 0 };
            let least = PANELS[usize::from(rows.len() > ROWS / 2)];
            if inner >= least && stride > 2 * S::F32_LANES {
                self.packed(simd, stride, whole, rows.clone());
            } else {
                self.whole_tiles(simd, dz, whole, rows.clone());
            }
            // The rest of the rows of dW, and with the last of them the bias, as a row of ones.
            let at = Place { rows, start: whole, row: whole };
            match inner - whole {
                0 => self.rest::<S, 0>(simd, dz, &at),
                1 => self.rest::<S, 1>(simd, dz, &at),
                2 => self.rest::<S, 2>(simd, dz, &at),
                3 => self.rest::<S, 3>(simd, dz, &at),
                4 => self.rest::<S, 4>(simd, dz, &at),
                _ => self.rest::<S, 5>(simd, dz, &at),
            }
        }
    }
}

/// Rows of A and dZ that all tiles of dW are made of before the next: a panel of dZ is 16 KiB then,
/// half a first-level cache.
const ROWS: usize = 256;

/// Where a tile of dW comes from and goes to.
struct Place {
    /// Rows of A.
    rows: Range<usize>,
    /// The first of the tile's numbers in them.
    start: usize,
    /// The tile's first row of dW.
    row: usize,
}

impl<A: Source> Accumulate<'_, A> {
    /// The whole tiles, from A and dZ where they lie.
    #[inline(always)]
    fn whole_tiles<S: Simd>(&mut self, simd: S, dz: Columns<'_>, whole: usize, rows: Range<usize>) {
        let a = self.a;
        let mut column = 0;
        while column < dz.stride {
            let dz = Columns { offset: column, column, ..dz };
            let two = dz.stride - column >= 2 * S::F32_LANES;
            for i in (0..whole).step_by(TILE) {
                let at = Place { rows: rows.clone(), start: i, row: i };
                if two {
                    self.tile::<S, A, TILE, 2, false>(simd, a, dz, &at);
                } else {
                    self.tile::<S, A, TILE, 1, false>(simd, a, dz, &at);
                }
            }
            column += if two { 2 * S::F32_LANES } else { S::F32_LANES };
        }
    }

    /// The whole tiles, from copies of dZ in panels of two vectors, and of A in strips of a tile where
    /// that is faster: rows of wide matrices lie a power of two apart and throw each other out of the cache.
    #[inline(always)]
    fn packed<S: Simd>(&mut self, simd: S, stride: usize, whole: usize, rows: Range<usize>) {
        let (count, wide) = (rows.len(), 2 * S::F32_LANES);
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        scratch.resize(count * (stride + TILE), 0.0);
        let (panels, strip) = scratch.split_at_mut(count * stride);
        let dz = &self.dz[rows.start * stride..];
        for (panel, column) in panels.chunks_mut(count * wide).zip((0..stride).step_by(wide)) {
            let width = wide.min(stride - column);
            for (to, from) in panel.chunks_exact_mut(width).zip(dz.chunks_exact(stride)) {
                to.copy_from_slice(&from[column..column + width]);
            }
        }
        for i in (0..whole).step_by(TILE) {
            let panels = panels.chunks(count * wide).zip((0..stride).step_by(wide));
            if self.bias.len() < STRIPS {
                let at = Place { rows: rows.clone(), start: i, row: i };
                for (panel, column) in panels {
                    self.panel(simd, self.a, panel, &at, column);
                }
                continue;
            }
            let mut places = [0; TILE];
            places.iter_mut().zip(self.a.places(i..i + TILE)).for_each(|(to, p)| *to = p);
            let (strip, _) = strip.as_chunks_mut::<TILE>();
            if places[TILE - 1] == places[0] + TILE - 1 {
                // Channels of one pixel lie side by side.
                let data = &self.a.data()[places[0]..];
                for (base, to) in self.a.bases(rows.clone()).zip(strip.iter_mut()) {
                    if let Some(from) = data[base..].first_chunk::<TILE>() {
                        *to = *from;
                    }
                }
            } else {
                for (base, to) in self.a.bases(rows.clone()).zip(strip.iter_mut()) {
                    let from = &self.a.data()[base..];
                    *to = places.map(|p| from[p]);
                }
            }
            let strip = strip.as_flattened();
            let a = Rows { data: strip, stride: TILE, count };
            let at = Place { rows: 0..count, start: 0, row: i };
            for (panel, column) in panels {
                self.panel(simd, a, panel, &at, column);
            }
        }
        *self.scratch = scratch;
    }

    /// A tile of dW from a panel of one or two vectors.
    #[inline(always)]
    fn panel<S: Simd, B: Source>(
        &mut self,
        simd: S,
        a: B,
        panel: &[f32],
        at: &Place,
        column: usize,
    ) {
        let stride = panel.len() / at.rows.len().max(1);
        let dz = Columns { data: panel, stride, offset: 0, column };
        if stride == 2 * S::F32_LANES {
            self.tile::<S, B, TILE, 2, false>(simd, a, dz, at);
        } else {
            self.tile::<S, B, TILE, 1, false>(simd, a, dz, at);
        }
    }

    #[inline(always)]
    fn rest<S: Simd, const R: usize>(&mut self, simd: S, dz: Columns<'_>, at: &Place) {
        let a = self.a;
        let mut column = 0;
        while column < dz.stride {
            let dz = Columns { offset: column, column, ..dz };
            let vectors = (dz.stride - column) / S::F32_LANES;
            // More columns at once when there are few rows, to keep enough sums in flight.
            let taken = if R <= 2 && vectors >= 4 {
                self.tile::<S, A, R, 4, true>(simd, a, dz, at);
                4
            } else if vectors >= 2 {
                self.tile::<S, A, R, 2, true>(simd, a, dz, at);
                2
            } else {
                self.tile::<S, A, R, 1, true>(simd, a, dz, at);
                1
            };
            column += taken * S::F32_LANES;
        }
    }

    /// R rows and V vectors of columns of dW, from row `at.row` and column `dz.column` on.
    #[inline(always)]
    fn tile<S: Simd, B: Source, const R: usize, const V: usize, const BIAS: bool>(
        &mut self,
        simd: S,
        a: B,
        dz: Columns<'_>,
        at: &Place,
    ) {
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        let mut ones = [simd.splat_f32s(0.0); V];
        let mut places = [0; R];
        places.iter_mut().zip(a.places(at.start..at.start + R)).for_each(|(to, p)| *to = p);
        // Number `places[r]` of every row, from one length on, so that one check of bounds does.
        let last = places.iter().copied().max().unwrap_or(0);
        let Some(length) = a.data().len().checked_sub(last) else { return };
        let mut x: [&[f32]; R] = [&[]; R];
        x.iter_mut().zip(places).for_each(|(x, p)| *x = &a.data()[p..p + length]);
        for (base, dz_row) in a.bases(at.rows.clone()).zip(dz.data.chunks_exact(dz.stride)) {
            let dz_row = &dz_row[dz.offset..dz.offset + V * S::F32_LANES];
            let dz_row = S::as_simd_f32s(dz_row).0;
            for r in 0..R {
                let x = simd.splat_f32s(x[r][base]);
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
            add_vectors::<S, V>(simd, &mut row[dz.column..], sum);
        }
        if BIAS {
            add_vectors::<S, V>(simd, &mut self.bias[dz.column..], &ones);
        }
    }

    /// One column of dZ: dW += Σ dz·a is a sum of rows of A.
    #[inline(always)]
    fn single<S: Simd>(mut self, simd: S) {
        let mut buffer = Vec::new();
        let source = self.a;
        let a = source.gathered(&mut buffer);
        let length = self.weight.len();
        let whole = length - length % S::F32_LANES;
        let mut column = 0;
        while column < whole {
            let vectors = (whole - column) / S::F32_LANES;
            let taken = if vectors >= 4 {
                self.single_tile::<S, 4>(simd, a, column);
                4
            } else {
                self.single_tile::<S, 1>(simd, a, column);
                1
            };
            column += taken * S::F32_LANES;
        }
        for i in whole..length {
            let mut sum = 0.0;
            for (row, dz) in self.dz[..a.count].iter().enumerate() {
                sum += a.part(row, i, 1)[0] * dz;
            }
            self.weight[i] += sum;
        }
        let (chunks, tail) = self.dz[..a.count].as_chunks::<8>();
        let mut sums = [0.0f32; 8];
        for chunk in chunks {
            for (sum, dz) in sums.iter_mut().zip(chunk) {
                *sum += dz;
            }
        }
        self.bias[0] += sums.iter().sum::<f32>() + tail.iter().sum::<f32>();
    }

    #[inline(always)]
    fn single_tile<S: Simd, const V: usize>(&mut self, simd: S, a: Rows<'_>, column: usize) {
        let width = V * S::F32_LANES;
        let mut even = [simd.splat_f32s(0.0); V];
        let mut odd = [simd.splat_f32s(0.0); V];
        for (row, dz) in self.dz[..a.count].iter().enumerate() {
            let a = S::as_simd_f32s(a.part(row, column, width)).0;
            let x = simd.splat_f32s(*dz);
            let sum = if row % 2 == 0 { &mut even } else { &mut odd };
            for v in 0..V {
                sum[v] = simd.mul_add_e_f32s(x, a[v], sum[v]);
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
