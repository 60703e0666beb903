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

use pulp::Arch;

use super::super::product::{Panels, Rows, Start, accumulate, multiply};
use super::image::{Image, Stored};
use super::scratch::Scratch;
use crate::simd::dispatch;

#[cfg(test)]
mod tests;
mod tiling;
mod transforms;

pub(super) use tiling::POINTS;
use tiling::{SIDE, Tiling};
use transforms::{Inputs, Outputs, Sandwich, Slopes, filter};

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

/// Whether tiles are known to be faster for a convolution of stride 1 with one group.
pub(super) fn is_faster(kernel: [usize; 2], from: Image, to: Image) -> bool {
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
    /// Zeros above and to the left.
    padding: [usize; 2],
    tiling: Tiling,
}

impl Winograd {
    /// For images `from` with `padding` zeros around them and a square kernel that makes images `to`;
    /// none where it is not known to be faster, which depends on shapes (and for the input of a network
    /// on the width of vectors) alone.
    pub(super) fn new(
        (arch, lanes): (Arch, usize),
        kernel: [usize; 2],
        padding: [usize; 2],
        from: Stored,
        to: Stored,
    ) -> Option<Self> {
        // The input of a network has no padding between its pixels.
        let whole = from.stride.is_multiple_of(lanes) && to.stride.is_multiple_of(lanes);
        let fits = whole && is_faster(kernel, from.image, to.image);
        let tiling = Tiling::new(kernel[0], from, to);
        fits.then_some(Winograd { arch, lanes, padding, tiling })
    }

    /// Whether a gradient over this many images is faster so.
    pub(super) fn is_faster_for(&self, images: usize) -> bool {
        images.saturating_mul(self.tiling.per_image()) >= TILES
    }

    /// G g Gᵀ of a weight (kernel × kernel × channels in × channels out) for
    /// [`forward`](Winograd::forward), with its bias (nothing or a number for each channel): a matrix for
    /// each point.
    pub(super) fn pack(&self, weight: &[f32], bias: &[f32]) -> Vec<Panels> {
        let (inner, outer) = (self.tiling.from.image.channels, self.tiling.to.image.channels);
        let mut points = vec![0.0f32; POINTS * inner * outer];
        let factor = &filter(self.tiling.kernel);
        dispatch(Sandwich { factor, side: self.tiling.kernel, from: weight, to: &mut points });
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
        self.tiling.from.pad(x, self.padding, self.tiling.padded(), padded);
        let [from, to] =
            [self.tiling.from.stride, self.tiling.to.stride].map(|stride| GROUP * stride + APART);
        inputs.resize(POINTS * from, 0.0);
        products.resize(POINTS * to, 0.0);
        for tiles in self.groups(x) {
            let count = tiles.len();
            self.inputs(padded, tiles.clone(), from, inputs);
            let matrices = inputs.chunks_exact(from).zip(products.chunks_exact_mut(to));
            for (point, ((input, product), panels)) in matrices.zip(panels).enumerate() {
                let rows = Rows { data: input, stride: self.tiling.from.stride, count };
                let product = &mut product[..count * self.tiling.to.stride];
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
            let (tiling, from) = (&self.tiling, &products[..]);
            match self.tiling.tile() {
                2 => self.arch.dispatch(Outputs::<2> { tiling, from, step: to, tiles, add, z }),
                _ => self.arch.dispatch(Outputs::<4> { tiling, from, step: to, tiles, add, z }),
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
        let size = self.tiling.from.image.channels * self.tiling.to.image.channels;
        sums.resize(POINTS * size, 0.0);
        self.tiling.from.pad(x, self.padding, self.tiling.padded(), padded);
        let [from, to] =
            [self.tiling.from.stride, self.tiling.to.stride].map(|stride| GROUP * stride + APART);
        inputs.resize(POINTS * from, 0.0);
        slopes.resize(POINTS * to, 0.0);
        let mut unused = vec![0.0; bias.len()];
        for tiles in self.groups(x) {
            let count = tiles.len();
            self.inputs(padded, tiles.clone(), from, inputs);
            let (tiling, step) = (&self.tiling, to);
            match self.tiling.tile() {
                2 => self.arch.dispatch(Slopes::<2> { tiling, dz, tiles, step, to: slopes }),
                _ => self.arch.dispatch(Slopes::<4> { tiling, dz, tiles, step, to: slopes }),
            }
            let matrices = inputs.chunks_exact(from).zip(slopes.chunks_exact(to));
            for (point, ((input, slope), sum)) in
                matrices.zip(sums.chunks_exact_mut(size)).enumerate()
            {
                let rows = Rows { data: input, stride: self.tiling.from.stride, count };
                let slope = &slope[..count * self.tiling.to.stride];
                let bias = if point == ONES { &mut *bias } else { &mut unused };
                accumulate(self.arch, rows, slope, sum, bias, packing);
            }
        }
    }

    /// dW += Gᵀ·sums·G, and empties `sums`.
    pub(super) fn finish(&self, sums: &mut Vec<f32>, weight: &mut [f32]) {
        let g = filter(self.tiling.kernel);
        let column = |i: usize| std::array::from_fn(|point| g[point][i]);
        let factor: Vec<[f64; SIDE]> = (0..self.tiling.kernel).map(column).collect();
        dispatch(Sandwich { factor: &factor, side: SIDE, from: sums, to: weight });
        *sums = Vec::new();
    }

    /// All tiles of the images of `x`, a group after the other.
    fn groups(&self, x: &[f32]) -> impl Iterator<Item = Range<usize>> {
        let all = x.len() / self.tiling.from.len() * self.tiling.per_image();
        (0..all).step_by(GROUP).map(move |start| start..all.min(start + GROUP))
    }

    /// Bᵀ d B of `tiles`.
    fn inputs(&self, padded: &[f32], tiles: Range<usize>, step: usize, to: &mut [f32]) {
        self.arch.dispatch(Inputs { tiling: &self.tiling, padded, tiles, step, to });
    }
}
