//! The three matrix products of a dense layer, as register-blocked SIMD kernels.
//!
//! With activations A (rows × inner), weights W (inner × outer) and cotangents dZ (rows × outer):
//! Z = A·W + b and dA = dZ·Wᵀ are [`multiply`] with W or Wᵀ packed into [`Panels`];
//! dW += Aᵀ·dZ, db += Σ dZ is [`accumulate`]. All of them broadcast one number against a vector of
//! columns, so an element's sum runs over the inner index in order, one accumulator each: its bits
//! depend neither on the row's place in the block nor on the number of rows. A single column is a
//! dot product, in an order that depends on the length alone.
//!
//! Blocks of activations have rows of [`stride`] numbers, a multiple of the vector width, so that
//! no kernel has a column tail; a single column is dense.

use pulp::{Arch, Simd, WithSimd};

/// Rows of the register tile. With two vectors of columns: 12 accumulators of the 16 registers AVX2 has.
const TILE: usize = 6;

/// Numbers in a vector of this machine.
pub(super) fn lanes(arch: Arch) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    arch.dispatch(Lanes)
}

/// Distance between the rows of a block of `columns`: rounded up to whole vectors, 1 for a single column.
pub(super) fn stride(columns: usize, lanes: usize) -> usize {
    if columns == 1 { 1 } else { columns.next_multiple_of(lanes) }
}

/// A weight matrix (inner × outer) repacked for [`multiply`]: panels of two vectors of columns
/// (the last may be one vector), each with its rows contiguous, padded with zeros.
#[derive(Debug, Default)]
pub(super) struct Panels {
    inner: usize,
    /// Distance between the rows of the product.
    stride: usize,
    data: Vec<f32>,
    bias: Vec<f32>,
}

impl Panels {
    /// Packs `weight` (inner × outer, row-major) and its bias (nothing or `outer` numbers).
    pub(super) fn pack(
        &mut self,
        lanes: usize,
        weight: &[f32],
        bias: &[f32],
        inner: usize,
        outer: usize,
    ) {
        self.reset(lanes, inner, outer);
        self.bias.extend_from_slice(bias);
        self.bias.resize(self.stride, 0.0);
        let mut column = 0;
        for panel in panels_mut(&mut self.data, inner, self.stride, lanes) {
            let width = panel.len() / inner.max(1);
            let used = width.min(outer - column);
            for (to, from) in panel.chunks_exact_mut(width).zip(weight.chunks_exact(outer)) {
                to[..used].copy_from_slice(&from[column..column + used]);
            }
            column += width;
        }
    }

    /// Packs the transpose of `weight` (outer × inner, row-major), without a bias.
    pub(super) fn pack_transposed(
        &mut self,
        lanes: usize,
        weight: &[f32],
        inner: usize,
        outer: usize,
    ) {
        self.reset(lanes, inner, outer);
        self.bias.resize(self.stride, 0.0);
        let mut rows = weight.chunks_exact(inner.max(1));
        for panel in panels_mut(&mut self.data, inner, self.stride, lanes) {
            let width = panel.len() / inner.max(1);
            for (column, row) in rows.by_ref().take(width).enumerate() {
                for (to, from) in panel[column..].iter_mut().step_by(width).zip(row) {
                    *to = *from;
                }
            }
        }
    }

    fn reset(&mut self, lanes: usize, inner: usize, outer: usize) {
        self.inner = inner;
        self.stride = stride(outer, lanes);
        self.data.clear();
        self.data.resize(inner * self.stride, 0.0);
        self.bias.clear();
    }
}

/// The panels of packed data, in column order.
fn panels_mut(
    data: &mut [f32],
    inner: usize,
    stride: usize,
    lanes: usize,
) -> impl Iterator<Item = &mut [f32]> {
    let width = if stride == 1 { 1 } else { 2 * lanes };
    data.chunks_mut((inner * width).max(1))
}

/// What the sums of [`multiply`] start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The packed bias (zero if there was none).
    Bias,
    /// What is in the output already.
    Output,
}

/// `count` rows of activations, `stride` numbers apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

/// C = start + A·W, times `slope` elementwise when given; `c` and `slope` have the packed matrix's
/// stride.
pub(super) fn multiply(
    arch: Arch,
    a: Rows<'_>,
    weight: &Panels,
    start: Start,
    slope: Option<&[f32]>,
    c: &mut [f32],
) {
    arch.dispatch(Multiply { a, weight, start, slope, c });
}

struct Multiply<'a> {
    a: Rows<'a>,
    weight: &'a Panels,
    start: Start,
    slope: Option<&'a [f32]>,
    c: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let stride = self.weight.stride;
        if stride == 1 {
            return self.dots(simd);
        }
        let mut column = 0;
        while column < stride {
            let rest = stride - column;
            if rest >= 2 * S::F32_LANES {
                self.panel::<S, 2>(simd, column);
                column += 2 * S::F32_LANES;
            } else {
                self.panel::<S, 1>(simd, column);
                column += S::F32_LANES;
            }
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, column: usize) {
        let inner = self.weight.inner;
        let panel = &self.weight.data[inner * column..inner * (column + V * S::F32_LANES)];
        let panel = S::as_simd_f32s(panel).0;
        let mut row = 0;
        while row + TILE <= self.a.count {
            self.tile::<S, TILE, V>(simd, panel, column, row);
            row += TILE;
        }
        match self.a.count - row {
            1 => self.tile::<S, 1, V>(simd, panel, column, row),
            2 => self.tile::<S, 2, V>(simd, panel, column, row),
            3 => self.tile::<S, 3, V>(simd, panel, column, row),
            4 => self.tile::<S, 4, V>(simd, panel, column, row),
            5 => self.tile::<S, 5, V>(simd, panel, column, row),
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
    ) {
        let inner = self.weight.inner;
        let stride = self.weight.stride;
        let width = V * S::F32_LANES;
        let a: [&[f32]; R] =
            std::array::from_fn(|r| &self.a.data[(row + r) * self.a.stride..][..inner]);
        let at = |r: usize| (row + r) * stride + column..(row + r) * stride + column + width;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        for (r, sum) in sum.iter_mut().enumerate() {
            let from = match self.start {
                Start::Bias => &self.weight.bias[column..column + width],
                Start::Output => &self.c[at(r)],
            };
            sum.copy_from_slice(S::as_simd_f32s(from).0);
        }
        for (p, w) in (0..inner).zip(panel.chunks_exact(V)) {
            for r in 0..R {
                let x = simd.splat_f32s(a[r][p]);
                for v in 0..V {
                    sum[r][v] = simd.mul_add_e_f32s(x, w[v], sum[r][v]);
                }
            }
        }
        if let Some(slope) = self.slope {
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
        let inner = self.weight.inner;
        let (w, w_tail) = S::as_simd_f32s(&self.weight.data);
        let bias = self.weight.bias.first().copied().unwrap_or(0.0);
        for (row, c) in self.c.iter_mut().enumerate().take(self.a.count) {
            let (x, x_tail) = S::as_simd_f32s(&self.a.data[row * self.a.stride..][..inner]);
            let mut sum = [simd.splat_f32s(0.0); 2];
            let (x_pairs, x_last) = x.as_chunks::<2>();
            let (w_pairs, w_last) = w.as_chunks::<2>();
            for (x, w) in x_pairs.iter().zip(w_pairs) {
                for v in 0..2 {
                    sum[v] = simd.mul_add_e_f32s(x[v], w[v], sum[v]);
                }
            }
            for (x, w) in x_last.iter().zip(w_last) {
                sum[0] = simd.mul_add_e_f32s(*x, *w, sum[0]);
            }
            let mut total = simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1]));
            for (x, w) in x_tail.iter().zip(w_tail) {
                total += x * w;
            }
            let start = if self.start == Start::Bias { bias } else { *c };
            *c = start + total;
            if let Some(slope) = self.slope {
                *c *= slope[row];
            }
        }
    }
}

/// dW += Aᵀ·dZ and db += Σ dZ.
///
/// `dz` has rows of [`stride`]`(outer)`; `weight` is inner × outer and `bias` has `outer` numbers,
/// both dense.
pub(super) fn accumulate(
    arch: Arch,
    a: Rows<'_>,
    dz: &[f32],
    weight: &mut [f32],
    bias: &mut [f32],
) {
    arch.dispatch(Accumulate { a, dz, weight, bias });
}

struct Accumulate<'a> {
    a: Rows<'a>,
    dz: &'a [f32],
    weight: &'a mut [f32],
    bias: &'a mut [f32],
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
        let mut column = 0;
        while column < stride {
            let two = stride - column >= 2 * S::F32_LANES;
            let mut i = 0;
            while i < whole {
                if two {
                    self.tile::<S, TILE, 2, false>(simd, stride, i, column);
                } else {
                    self.tile::<S, TILE, 1, false>(simd, stride, i, column);
                }
                i += TILE;
            }
            column += if two { 2 * S::F32_LANES } else { S::F32_LANES };
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
    #[inline(always)]
    fn rest<S: Simd, const R: usize>(&mut self, simd: S, stride: usize, i: usize) {
        let mut column = 0;
        while column < stride {
            let vectors = (stride - column) / S::F32_LANES;
            // More columns at once when there are few rows, to keep enough sums in flight.
            let taken = if R <= 2 && vectors >= 4 {
                self.tile::<S, R, 4, true>(simd, stride, i, column);
                4
            } else if vectors >= 2 {
                self.tile::<S, R, 2, true>(simd, stride, i, column);
                2
            } else {
                self.tile::<S, R, 1, true>(simd, stride, i, column);
                1
            };
            column += taken * S::F32_LANES;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const BIAS: bool>(
        &mut self,
        simd: S,
        stride: usize,
        i: usize,
        column: usize,
    ) {
        let width = V * S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        let mut ones = [simd.splat_f32s(0.0); V];
        let rows = self.a.data.chunks(self.a.stride).zip(self.dz.chunks_exact(stride));
        for (a, dz) in rows.take(self.a.count) {
            let a = &a[i..i + R];
            let dz = S::as_simd_f32s(&dz[column..column + width]).0;
            for r in 0..R {
                let x = simd.splat_f32s(a[r]);
                for v in 0..V {
                    sum[r][v] = simd.mul_add_e_f32s(x, dz[v], sum[r][v]);
                }
            }
            if BIAS {
                for v in 0..V {
                    ones[v] = simd.add_f32s(ones[v], dz[v]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;

    fn draw(n: usize, stream: u64) -> Vec<f32> {
        let mut rng = crate::rng::stream(7, "test", stream);
        (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
    }

    const ARCHS: fn() -> [Arch; 2] = || [Arch::new(), Arch::Scalar];
    const SIZES: [(usize, usize, usize); 12] = [
        (1, 1, 1),
        (7, 1, 32),
        (13, 32, 1),
        (6, 32, 32),
        (96, 33, 40),
        (5, 6, 7),
        (11, 17, 10),
        (3, 9, 1),
        (2, 0, 5),
        (9, 64, 130),
        (4, 12, 24),
        (0, 3, 3),
    ];

    #[test]
    fn products_agree_with_sums_in_double_precision() {
        for arch in ARCHS() {
            let lanes = lanes(arch);
            for (rows, inner, outer) in SIZES {
                let ld = stride(outer, lanes);
                let (a, w, b) = (draw(rows * inner, 1), draw(inner * outer, 2), draw(outer, 3));
                let slope = draw(rows * ld, 4);
                let mut panels = Panels::default();
                panels.pack(lanes, &w, &b, inner, outer);
                let mut c = vec![0.0; rows * ld];
                multiply(
                    arch,
                    Rows { data: &a, stride: inner, count: rows },
                    &panels,
                    Start::Bias,
                    Some(&slope),
                    &mut c,
                );
                // Wᵀ packed from its transpose must do the same, starting from what is there.
                let wt: Vec<f32> = (0..inner * outer)
                    .map(|i| w[i % inner.max(1) * outer + i / inner.max(1)])
                    .collect();
                let mut again = vec![0.5; rows * ld];
                panels.pack_transposed(lanes, &wt, inner, outer);
                multiply(
                    arch,
                    Rows { data: &a, stride: inner, count: rows },
                    &panels,
                    Start::Output,
                    None,
                    &mut again,
                );
                for r in 0..rows {
                    for j in 0..outer {
                        let dot: f64 = (0..inner)
                            .map(|p| f64::from(a[r * inner + p]) * f64::from(w[p * outer + j]))
                            .sum();
                        let at = r * ld + j;
                        let exact = (dot + f64::from(b[j])) * f64::from(slope[at]);
                        let tolerance = 1e-7 * (2.0 + inner as f64);
                        assert!((f64::from(c[at]) - exact).abs() < tolerance);
                        assert!((f64::from(again[at]) - 0.5 - dot).abs() < tolerance);
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_sums_in_double_precision() {
        for arch in ARCHS() {
            let lanes = lanes(arch);
            for (rows, inner, outer) in SIZES.into_iter().filter(|s| s.1 > 0) {
                let ld = stride(outer, lanes);
                let (a, dz) = (draw(rows * inner, 1), draw(rows * ld, 2));
                let (mut dw, mut db) = (vec![1.0; inner * outer], vec![1.0; outer]);
                accumulate(
                    arch,
                    Rows { data: &a, stride: inner, count: rows },
                    &dz,
                    &mut dw,
                    &mut db,
                );
                let tolerance = 1e-7 * (2.0 + rows as f64);
                for j in 0..outer {
                    let sum = |i: Option<usize>| -> f64 {
                        let x = |r| i.map_or(1.0, |i| f64::from(a[r * inner + i]));
                        (0..rows).map(|r| x(r) * f64::from(dz[r * ld + j])).sum()
                    };
                    assert!((f64::from(db[j]) - 1.0 - sum(None)).abs() < tolerance);
                    for i in 0..inner {
                        let got = f64::from(dw[i * outer + j]) - 1.0;
                        assert!((got - sum(Some(i))).abs() < tolerance, "{rows} {inner} {outer}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_of_a_row_do_not_depend_on_its_place() {
        let arch = Arch::new();
        let lanes = lanes(arch);
        for (_, inner, outer) in SIZES {
            let (a, w, b) = (draw(20 * inner, 1), draw(inner * outer, 2), draw(outer, 3));
            let ld = stride(outer, lanes);
            let mut panels = Panels::default();
            panels.pack(lanes, &w, &b, inner, outer);
            let mut all = vec![0.0; 20 * ld];
            multiply(
                arch,
                Rows { data: &a, stride: inner, count: 20 },
                &panels,
                Start::Bias,
                None,
                &mut all,
            );
            for first in 0..20 {
                for rows in 1..=20 - first {
                    let mut some = vec![0.0; rows * ld];
                    multiply(
                        arch,
                        Rows { data: &a[first * inner..], stride: inner, count: rows },
                        &panels,
                        Start::Bias,
                        None,
                        &mut some,
                    );
                    assert_eq!(some, all[first * ld..(first + rows) * ld]);
                }
            }
        }
    }

    /// Own kernels against faer's serial product. Run in release:
    /// `cargo test --release -p neuralef faer_ratio -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, meaningful in release only"]
    fn faer_ratio() {
        use faer::linalg::matmul::matmul;
        use faer::{Accum, MatMut, MatRef, Par};
        fn best(mut f: impl FnMut(), flops: usize) -> f64 {
            let repeats = (4_000_000 / flops).max(1);
            let mut best = f64::INFINITY;
            for _ in 0..15 {
                let start = std::time::Instant::now();
                (0..repeats).for_each(|_| f());
                best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
            }
            best
        }
        let arch = Arch::new();
        let lanes = lanes(arch);
        println!(
            "{:>5} {:>5} {:>5} {:>24} {:>24}",
            "rows", "in", "out", "A·W GMAC/s own/faer", "AᵀdZ GMAC/s own/faer"
        );
        for (rows, inner, outer) in [
            (96, 1, 32),
            (96, 32, 32),
            (96, 32, 1),
            (96, 64, 64),
            (96, 64, 10),
            (96, 128, 128),
            (96, 256, 256),
            (96, 512, 512),
            (96, 784, 1024),
            (96, 1024, 1024),
        ] {
            let ld = stride(outer, lanes);
            let (a, w, b) = (draw(rows * inner, 1), draw(inner * outer, 2), draw(outer, 3));
            let mut panels = Panels::default();
            panels.pack(lanes, &w, &b, inner, outer);
            let mut c = vec![0.0f32; rows * ld];
            let flops = rows * inner * outer;
            let own = best(
                || {
                    multiply(
                        arch,
                        Rows { data: &a, stride: inner, count: rows },
                        &panels,
                        Start::Bias,
                        None,
                        &mut c,
                    )
                },
                flops,
            );
            let mut cf = vec![0.0f32; rows * outer];
            let faer_forward = best(
                || {
                    matmul(
                        MatMut::from_row_major_slice_mut(&mut cf, rows, outer),
                        Accum::Replace,
                        MatRef::from_row_major_slice(&a, rows, inner),
                        MatRef::from_row_major_slice(&w, inner, outer),
                        1.0,
                        Par::Seq,
                    );
                },
                flops,
            );
            let (mut dw, mut db) = (vec![0.0f32; inner * outer], vec![0.0f32; outer]);
            let own_gradient = best(
                || {
                    accumulate(
                        arch,
                        Rows { data: &a, stride: inner, count: rows },
                        &c,
                        &mut dw,
                        &mut db,
                    )
                },
                flops,
            );
            let faer_gradient = best(
                || {
                    matmul(
                        MatMut::from_row_major_slice_mut(&mut dw, inner, outer),
                        Accum::Add,
                        MatRef::from_row_major_slice(&a, rows, inner).transpose(),
                        MatRef::from_row_major_slice(&cf, rows, outer),
                        1.0,
                        Par::Seq,
                    );
                },
                flops,
            );
            let rate = |t: f64| flops as f64 / t / 1e9;
            println!(
                "{rows:>5} {inner:>5} {outer:>5} {:>8.1} {:>7.1} {:>7.2} {:>8.1} {:>7.1} {:>7.2}",
                rate(own),
                rate(faer_forward),
                faer_forward / own,
                rate(own_gradient),
                rate(faer_gradient),
                faer_gradient / own_gradient
            );
        }
    }
}
