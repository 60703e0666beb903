//! Convolutions of stride 1 by Winograd's minimal filtering, for 3 × 3 and 5 × 5 kernels.
//!
//! An image is cut into overlapping tiles of 6 × 6 pixels, each of which gives m × m pixels, m = 7 − r
//! for a kernel of r × r. With the matrices of the points 0, ±1, ±2 and ∞ (Lavin & Gray 2016),
//!
//! ```text
//! y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A,
//! ```
//!
//! so that 36 products of matrices (tiles × channels) take the place of one that is m²r²/36 times as
//! large: 2.8 times for r = 5, 4 times for r = 3. The gradient by g is the adjoint,
//! Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G, summed over tiles before Gᵀ·G. In single precision errors are about
//! four times those of plain sums, some 10⁻⁶ of the root mean square. A tile is computed from its own
//! pixels alone, in one order: no bit depends on the images beside it.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::super::product::{Panels, Rows, Start, accumulate, multiply};
use super::conv::Scratch;
use super::image::{Image, Stored};
use crate::simd::{Fuse, Op, dispatch};

#[cfg(test)]
#[path = "winograd_tests.rs"]
mod tests;

/// Pixels of a tile along an axis.
const SIDE: usize = 6;
/// Numbers that stand for a tile of one channel.
pub(super) const POINTS: usize = SIDE * SIDE;
/// The row of all points where A has ones alone: what is added there is added to every pixel.
const ONES: usize = SIDE + 1;
/// Tiles that are transformed together, a multiple of the products' tiles of rows.
const GROUP: usize = 72;
/// Keeps the matrices of a group from lying a power of two apart, where they would throw each other
/// out of the cache.
const APART: usize = 16;
/// Fewest channels on either side: below, measured, the transforms cost what the products save.
const CHANNELS: usize = 16;
/// Fewest channels of both sides together for a kernel of 5.
const BOTH: usize = 48;
/// Fewest tiles for a gradient: below, Gᵀ·G costs more than is saved.
const TILES: usize = 256;

/// G: a row for each point, a column for each power of it.
fn filter(r: usize) -> Vec<[f64; SIDE]> {
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

/// Whether tiles are known to be faster for a convolution of stride 1 with one group.
pub(super) fn pays(kernel: [usize; 2], from: Image, to: Image) -> bool {
    (kernel == [3, 3] || kernel == [5, 5] && from.channels + to.channels >= BOTH)
        && from.channels.min(to.channels) >= CHANNELS
        && to.height.min(to.width) >= SIDE
}

/// At most the numbers of a group of tiles that a segment works with, for so many channels in and out.
pub(super) fn working(channels: usize) -> usize {
    // Strides are whole vectors, of at most 16 numbers.
    POINTS * (GROUP * (channels + 32) + 2 * APART)
}

/// A convolution of one group laid out in tiles.
#[derive(Debug)]
pub(super) struct Winograd {
    arch: Arch,
    lanes: usize,
    /// r, and the zeros above and to the left.
    kernel: usize,
    padding: [usize; 2],
    from: Stored,
    to: Stored,
    /// Tiles along each axis.
    tiles: [usize; 2],
}

impl Winograd {
    /// For images `from` with `padding` zeros around them and a square kernel that makes images `to`;
    /// none where it is not known to pay, which depends on shapes (and for the input of a network on the
    /// width of vectors) alone.
    pub(super) fn new(
        (arch, lanes): (Arch, usize),
        kernel: [usize; 2],
        padding: [usize; 2],
        from: Stored,
        to: Stored,
    ) -> Option<Self> {
        // The input of a network has no padding between its pixels.
        let whole = from.stride.is_multiple_of(lanes) && to.stride.is_multiple_of(lanes);
        let fits = whole && pays(kernel, from.image, to.image);
        let [kernel, _] = kernel;
        let tile = SIDE + 1 - kernel.min(SIDE);
        let tiles = [to.image.height.div_ceil(tile), to.image.width.div_ceil(tile)];
        fits.then_some(Winograd { arch, lanes, kernel, padding, from, to, tiles })
    }

    /// Pixels that come out of a tile along an axis.
    fn tile(&self) -> usize {
        SIDE + 1 - self.kernel
    }

    /// Tiles of an image.
    fn per_image(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Height and width of an image with zeros around it, so that all tiles lie in it.
    fn padded(&self) -> [usize; 2] {
        self.tiles.map(|tiles| tiles * self.tile() + self.kernel - 1)
    }

    /// Whether a gradient over this many images is faster so.
    pub(super) fn pays(&self, images: usize) -> bool {
        images.saturating_mul(self.per_image()) >= TILES
    }

    /// G g Gᵀ of a weight (kernel × kernel × channels in × channels out) for
    /// [`forward`](Winograd::forward), with its bias (nothing or a number for each channel): a matrix for
    /// each point.
    pub(super) fn pack(&self, weight: &[f32], bias: &[f32]) -> Vec<Panels> {
        let (inner, outer) = (self.from.image.channels, self.to.image.channels);
        let mut points = vec![0.0f32; POINTS * inner * outer];
        let factor = &filter(self.kernel);
        dispatch(Sandwich { factor, side: self.kernel, from: weight, to: &mut points });
        let matrices = points.chunks_exact(inner * outer).enumerate();
        matrices
            .map(|(point, matrix)| {
                let mut panels = Panels::default();
                let bias = if point == ONES { bias } else { &[] };
                panels.pack(self.lanes, matrix, bias, inner, outer);
                panels
            })
            .collect()
    }

    /// z = W ∗ x + b for the images in `x`; z + W ∗ x with [`Start::Output`].
    pub(super) fn forward(
        &self,
        panels: &[Panels],
        x: &[f32],
        start: Start,
        z: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch { padded, group: inputs, other: products, .. } = scratch;
        self.from.pad(x, self.padding, self.padded(), padded);
        let [from, to] = [self.from.stride, self.to.stride].map(|stride| GROUP * stride + APART);
        inputs.resize(POINTS * from, 0.0);
        products.resize(POINTS * to, 0.0);
        for tiles in self.groups(x) {
            let count = tiles.len();
            self.inputs(padded, tiles.clone(), from, inputs);
            let matrices = inputs.chunks_exact(from).zip(products.chunks_exact_mut(to));
            for (point, ((input, product), panels)) in matrices.zip(panels).enumerate() {
                let rows = Rows { data: input, stride: self.from.stride, count };
                let product = &mut product[..count * self.to.stride];
                // What is added to an output has no bias.
                let begin = match point {
                    ONES => start,
                    _ => Start::Bias,
                };
                if begin == Start::Output {
                    product.fill(0.0);
                }
                multiply(self.arch, rows, panels, begin, None, product);
            }
            let add = start == Start::Output;
            let (w, from) = (self, &products[..]);
            match self.tile() {
                2 => self.arch.dispatch(Outputs::<2> { w, from, step: to, tiles, add, z }),
                _ => self.arch.dispatch(Outputs::<4> { w, from, step: to, tiles, add, z }),
            }
        }
    }

    /// Adds (A dy Aᵀ) ⊙ (Bᵀ d B) over all tiles to `sums`, which begins empty, and Σ dz to `bias`.
    pub(super) fn accumulate(
        &self,
        (x, dz): (&[f32], &[f32]),
        sums: &mut Vec<f32>,
        bias: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch { padded, group: inputs, other: slopes, packing, .. } = scratch;
        let size = self.from.image.channels * self.to.image.channels;
        sums.resize(POINTS * size, 0.0);
        self.from.pad(x, self.padding, self.padded(), padded);
        let [from, to] = [self.from.stride, self.to.stride].map(|stride| GROUP * stride + APART);
        inputs.resize(POINTS * from, 0.0);
        slopes.resize(POINTS * to, 0.0);
        let mut unused = vec![0.0; bias.len()];
        for tiles in self.groups(x) {
            let count = tiles.len();
            self.inputs(padded, tiles.clone(), from, inputs);
            let (w, step) = (self, to);
            match self.tile() {
                2 => self.arch.dispatch(Slopes::<2> { w, dz, tiles, step, to: slopes }),
                _ => self.arch.dispatch(Slopes::<4> { w, dz, tiles, step, to: slopes }),
            }
            let matrices = inputs.chunks_exact(from).zip(slopes.chunks_exact(to));
            for (point, ((input, slope), sum)) in
                matrices.zip(sums.chunks_exact_mut(size)).enumerate()
            {
                let rows = Rows { data: input, stride: self.from.stride, count };
                let slope = &slope[..count * self.to.stride];
                let bias = if point == ONES { &mut *bias } else { &mut unused };
                accumulate(self.arch, rows, slope, sum, bias, packing);
            }
        }
    }

    /// dW += Gᵀ·sums·G, and empties `sums`.
    pub(super) fn finish(&self, sums: &mut Vec<f32>, weight: &mut [f32]) {
        let g = filter(self.kernel);
        let column = |i: usize| std::array::from_fn(|point| g[point][i]);
        let factor: Vec<[f64; SIDE]> = (0..self.kernel).map(column).collect();
        dispatch(Sandwich { factor: &factor, side: SIDE, from: sums, to: weight });
        *sums = Vec::new();
    }

    /// All tiles of the images of `x`, a group after the other.
    fn groups(&self, x: &[f32]) -> impl Iterator<Item = Range<usize>> {
        let all = x.len() / self.from.len() * self.per_image();
        (0..all).step_by(GROUP).map(move |start| start..all.min(start + GROUP))
    }

    /// Bᵀ d B of `tiles`.
    fn inputs(&self, padded: &[f32], tiles: Range<usize>, step: usize, to: &mut [f32]) {
        self.arch.dispatch(Inputs { w: self, padded, tiles, step, to });
    }

    /// The image of a tile, and its place there.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        (image, [tile / self.tiles[1] * self.tile(), tile % self.tiles[1] * self.tile()])
    }
}

/// Bᵀ d B of tiles, point after point, each as a matrix `step` numbers from the one before.
struct Inputs<'a> {
    w: &'a Winograd,
    padded: &'a [f32],
    tiles: Range<usize>,
    step: usize,
    to: &'a mut [f32],
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Inputs { w, padded, tiles, step, to } = self;
        let [height, width] = w.padded();
        let (pixel, step) = (w.from.stride / S::F32_LANES, step / S::F32_LANES);
        let (from, to) = (S::as_simd_f32s(padded).0, S::as_mut_simd_f32s(to).0);
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = w.place(tile);
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
struct Outputs<'a, const M: usize> {
    w: &'a Winograd,
    from: &'a [f32],
    step: usize,
    tiles: Range<usize>,
    add: bool,
    z: &'a mut [f32],
}

impl<const M: usize> WithSimd for Outputs<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outputs { w, from, step, tiles, add, z } = self;
        let (pixel, step) = (w.to.stride / S::F32_LANES, step / S::F32_LANES);
        let (from, z) = (S::as_simd_f32s(from).0, S::as_mut_simd_f32s(z).0);
        let image_size = w.to.image;
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = w.place(tile);
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
struct Slopes<'a, const M: usize> {
    w: &'a Winograd,
    dz: &'a [f32],
    tiles: Range<usize>,
    step: usize,
    to: &'a mut [f32],
}

impl<const M: usize> WithSimd for Slopes<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Slopes { w, dz, tiles, step, to } = self;
        let (pixel, step) = (w.to.stride / S::F32_LANES, step / S::F32_LANES);
        let (dz, to) = (S::as_simd_f32s(dz).0, S::as_mut_simd_f32s(to).0);
        let image_size = w.to.image;
        for (row, tile) in tiles.enumerate() {
            let (image, [y, x]) = w.place(tile);
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

/// a·b + c for a number a.
#[inline(always)]
fn fused<S: Simd>(simd: S, a: f32, b: S::f32s, c: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(a), b, c)
}

/// Bᵀd.
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
struct Sandwich<'a> {
    factor: &'a [[f64; SIDE]],
    side: usize,
    from: &'a [f32],
    to: &'a mut [f32],
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
