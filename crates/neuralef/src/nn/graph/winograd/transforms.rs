//! The transforms of tiles and of kernels, and their adjoints.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::tiling::{SIDE, Tiling};
use crate::simd::{Fuse, Op};

/// G: a row for each point, a column for each power of it.
pub(super) fn filter(r: usize) -> Vec<[f64; SIDE]> {
    let powers = |point: f64, scale: f64| {
        let power = |i: usize| if i < r { scale * point.powi(i as i32) } else { 0.0 };
        std::array::from_fn(power)
    };
    let last = std::array::from_fn(|i| if i + 1 == r { 1.0 } else { 0.0 });
    vec![
        powers(0.0, 1.0 / 4.0),
        powers(1.0, -1.0 / 6.0),
        powers(-1.0, -1.0 / 6.0),
        powers(2.0, 1.0 / 24.0),
        powers(-2.0, 1.0 / 24.0),
        last,
    ]
}

/// Bᵀ d B of tiles, point after point, each as a matrix `step` numbers from the one before.
pub(super) struct Inputs<'a> {
    pub(super) tiling: &'a Tiling,
    pub(super) padded: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) step: usize,
    pub(super) to: &'a mut [f32],
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Inputs { tiling, padded, tiles, step, to } = self;
        let [height, width] = tiling.padded();
        let (pixel, step) = (tiling.from.stride / S::F32_LANES, step / S::F32_LANES);
        let (from, to) = (S::as_simd_f32s(padded).0, S::as_mut_simd_f32s(to).0);
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = tiling.place(tile);
            let corner = (image * height + y) * width + x;
            let mut lines: [&[S::f32s]; SIDE] = [&[]; SIDE];
            for (line, to) in lines.iter_mut().enumerate() {
                *to = &from[(corner + line * width) * pixel..][..SIDE * pixel];
            }
            for c in 0..pixel {
                let zero = simd.splat_f32s(0.0);
                let (mut d, mut half) = ([zero; SIDE], [[zero; SIDE]; SIDE]);
                for x in 0..SIDE {
                    for y in 0..SIDE {
                        d[y] = lines[y][x * pixel + c];
                    }
                    half[x] = input(simd, d);
                }
                for y in 0..SIDE {
                    for x in 0..SIDE {
                        d[x] = half[x][y];
                    }
                    let points = input(simd, d);
                    for x in 0..SIDE {
                        to[(y * SIDE + x) * step + row * pixel + c] = points[x];
                    }
                }
            }
        }
    }
}

/// Aᵀ m A of tiles, to the pixels of the images.
pub(super) struct Outputs<'a, const M: usize> {
    pub(super) tiling: &'a Tiling,
    pub(super) from: &'a [f32],
    pub(super) step: usize,
    pub(super) tiles: Range<usize>,
    pub(super) add: bool,
    pub(super) z: &'a mut [f32],
}

impl<const M: usize> WithSimd for Outputs<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outputs { tiling, from, step, tiles, add, z } = self;
        let (pixel, step) = (tiling.to.stride / S::F32_LANES, step / S::F32_LANES);
        let (from, z) = (S::as_simd_f32s(from).0, S::as_mut_simd_f32s(z).0);
        let image_size = tiling.to.image;
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = tiling.place(tile);
            let corner = (image * image_size.height + y) * image_size.width + x;
            let (rows, columns) = (image_size.height - y, image_size.width - x);
            for c in 0..pixel {
                let zero = simd.splat_f32s(0.0);
                let (mut m, mut half) = ([zero; SIDE], [[zero; M]; SIDE]);
                for x in 0..SIDE {
                    for y in 0..SIDE {
                        m[y] = from[(y * SIDE + x) * step + row * pixel + c];
                    }
                    half[x] = output(simd, m);
                }
                #[expect(clippy::needless_range_loop, reason = "row i of every column")]
                for i in 0..M.min(rows) {
                    for x in 0..SIDE {
                        m[x] = half[x][i];
                    }
                    let values: [S::f32s; M] = output(simd, m);
                    let line = (corner + i * image_size.width) * pixel + c;
                    for j in 0..M.min(columns) {
                        let to = &mut z[line + j * pixel];
                        *to = if add { simd.add_f32s(*to, values[j]) } else { values[j] };
                    }
                }
            }
        }
    }
}

/// A dz Aᵀ of tiles, point after point, each as a matrix `step` numbers from the one before.
pub(super) struct Slopes<'a, const M: usize> {
    pub(super) tiling: &'a Tiling,
    pub(super) dz: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) step: usize,
    pub(super) to: &'a mut [f32],
}

impl<const M: usize> WithSimd for Slopes<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Slopes { tiling, dz, tiles, step, to } = self;
        let (pixel, step) = (tiling.to.stride / S::F32_LANES, step / S::F32_LANES);
        let (dz, to) = (S::as_simd_f32s(dz).0, S::as_mut_simd_f32s(to).0);
        let image_size = tiling.to.image;
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = tiling.place(tile);
            let corner = (image * image_size.height + y) * image_size.width + x;
            let (rows, columns) = (image_size.height - y, image_size.width - x);
            for c in 0..pixel {
                let zero = simd.splat_f32s(0.0);
                let mut half = [[zero; SIDE]; M];
                for j in 0..M.min(columns) {
                    let mut y = [zero; M];
                    for i in 0..M.min(rows) {
                        y[i] = dz[(corner + i * image_size.width + j) * pixel + c];
                    }
                    half[j] = slope(simd, y);
                }
                for y in 0..SIDE {
                    let mut line = [zero; M];
                    for j in 0..M {
                        line[j] = half[j][y];
                    }
                    let points = slope(simd, line);
                    for x in 0..SIDE {
                        to[(y * SIDE + x) * step + row * pixel + c] = points[x];
                    }
                }
            }
        }
    }
}

/// a·b + c, rounded once where the machine can, for a number a.
#[inline(always)]
fn fused<S: Simd>(simd: S, a: f32, b: S::f32s, c: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), b, c)
}

/// Bᵀd: the transform of six pixels in a line.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
    let (even, odd) = (fused(simd, -4.0, d[2], d[4]), fused(simd, -4.0, d[1], d[3]));
    let (second, first) = (simd.sub_f32s(d[4], d[2]), simd.sub_f32s(d[3], d[1]));
    [
        fused(simd, 4.0, d[0], fused(simd, -5.0, d[2], d[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        fused(simd, 2.0, first, second),
        fused(simd, -2.0, first, second),
        fused(simd, 4.0, d[1], fused(simd, -5.0, d[3], d[5])),
    ]
}

/// Aᵀm: 2 numbers for a kernel of 5, 4 for one of 3.
#[inline(always)]
fn output<S: Simd, const M: usize>(simd: S, m: [S::f32s; SIDE]) -> [S::f32s; M] {
    let (ones, twos) = (simd.add_f32s(m[1], m[2]), simd.add_f32s(m[3], m[4]));
    let (one, two) = (simd.sub_f32s(m[1], m[2]), simd.sub_f32s(m[3], m[4]));
    let mut values = [simd.add_f32s(m[0], simd.add_f32s(ones, twos)); M];
    for (i, value) in values.iter_mut().enumerate().skip(1) {
        *value = match i {
            1 => fused(simd, 2.0, two, one),
            2 => fused(simd, 4.0, twos, ones),
            _ => fused(simd, 8.0, two, one),
        };
    }
    values[M - 1] = simd.add_f32s(values[M - 1], m[5]);
    values
}

/// A·y, the adjoint of [`output`].
#[inline(always)]
fn slope<S: Simd, const M: usize>(simd: S, y: [S::f32s; M]) -> [S::f32s; SIDE] {
    let (mut ones, mut twos) = ([y[0], y[1]], [y[0], simd.add_f32s(y[1], y[1])]);
    if M == 4 {
        ones = [simd.add_f32s(y[0], y[M - 2]), simd.add_f32s(y[1], y[M - 1])];
        twos = [fused(simd, 4.0, y[M - 2], twos[0]), fused(simd, 8.0, y[M - 1], twos[1])];
    }
    [
        y[0],
        simd.add_f32s(ones[0], ones[1]),
        simd.sub_f32s(ones[0], ones[1]),
        simd.add_f32s(twos[0], twos[1]),
        simd.sub_f32s(twos[0], twos[1]),
        y[M - 1],
    ]
}

/// Pairs of channels that are transformed together.
const PIECE: usize = 64;

/// to += F x Fᵀ of all pairs of channels, in double precision; x is square, and F has its side of columns
/// and the side of `to` of rows.
pub(super) struct Sandwich<'a> {
    pub(super) factor: &'a [[f64; SIDE]],
    pub(super) side: usize,
    pub(super) from: &'a [f32],
    pub(super) to: &'a mut [f32],
}

impl Op for Sandwich<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Sandwich { factor, side, from, to } = self;
        let pairs = from.len() / (side * side);
        let mut half = vec![[0.0f64; PIECE]; side];
        for start in (0..pairs).step_by(PIECE) {
            let length = PIECE.min(pairs - start);
            for (a, row) in factor.iter().enumerate() {
                for (j, half) in half.iter_mut().enumerate() {
                    *half = [0.0; PIECE];
                    for (i, factor) in row.iter().enumerate().take(side) {
                        let from = &from[(i * side + j) * pairs + start..][..length];
                        for (sum, x) in half.iter_mut().zip(from) {
                            *sum += factor * f64::from(*x);
                        }
                    }
                }
                for (b, column) in factor.iter().enumerate() {
                    let mut sum = [0.0f64; PIECE];
                    for (half, factor) in half.iter().zip(column) {
                        for (sum, half) in sum.iter_mut().zip(half) {
                            *sum += factor * half;
                        }
                    }
                    let to = &mut to[(a * factor.len() + b) * pairs + start..][..length];
                    for (to, sum) in to.iter_mut().zip(&sum) {
                        *to += *sum as f32;
                    }
                }
            }
        }
    }
}
