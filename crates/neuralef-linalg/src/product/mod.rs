//! The three matrix products of a dense layer, as register-blocked SIMD kernels.
//!
//! With activations A (rows × inner), weights W (inner × outer) and cotangents dZ (rows × outer):
//! Z = A·W + b and dA = dZ·Wᵀ are [`multiply`] with W or Wᵀ packed into [`Panels`];
//! dW += Aᵀ·dZ, db += Σ dZ is [`accumulate`]. All of them broadcast one number against a vector of
//! columns, so an element's sum runs over the inner index in order, one accumulator each: its bits
//! depend neither on the row's place in the block nor on the number of rows. A single column is a
//! dot product, in an order that depends on the length alone.
//!
//! A is any [`Source`]: plain [`Rows`], or the [`Windows`] of a convolution.
//!
//! Blocks of activations have rows of [`stride`] numbers, a multiple of the vector width, so that
//! no kernel has a column tail; a single column is dense.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

mod accumulate;
mod multiply;
#[cfg(test)]
mod tests;

pub use accumulate::accumulate;
pub use multiply::{Start, multiply};

/// Rows of the register tile. With two vectors of columns: 12 accumulators of the 16 registers AVX2 has.
const TILE: usize = 6;

/// Numbers in a vector of this machine.
pub fn lanes(arch: Arch) -> usize {
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
pub fn stride(columns: usize, lanes: usize) -> usize {
    if columns == 1 { 1 } else { columns.next_multiple_of(lanes) }
}

/// A weight matrix (inner × outer) repacked for [`multiply`]: panels of two vectors of columns
/// (the last may be one vector), each with its rows contiguous, padded with zeros.
#[derive(Debug, Default)]
pub struct Panels {
    inner: usize,
    /// Distance between the rows of the product.
    stride: usize,
    data: Vec<f32>,
    bias: Vec<f32>,
}

impl Panels {
    /// Packs `weight` (inner × outer, row-major) and its bias (nothing or `outer` numbers).
    pub fn pack(&mut self, lanes: usize, weight: &[f32], bias: &[f32], inner: usize, outer: usize) {
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
    pub fn pack_transposed(&mut self, lanes: usize, weight: &[f32], inner: usize, outer: usize) {
        self.reset(lanes, inner, outer);
        self.bias.resize(self.stride, 0.0);
        let mut rows = weight.chunks_exact(inner.max(1));
        for panel in panels_mut(&mut self.data, inner, self.stride, lanes) {
            let width = panel.len() / inner.max(1);
            // A piece of the panel at a time, so that its lines stay in cache until they are full.
            let group: Vec<&[f32]> = rows.by_ref().take(width).collect();
            for (piece, start) in panel.chunks_mut(64 * width).zip((0..inner).step_by(64)) {
                for (column, row) in group.iter().enumerate() {
                    let to = piece[column..].iter_mut().step_by(width);
                    to.zip(&row[start..]).for_each(|(to, from)| *to = *from);
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

/// The rows of A: each is `inner` numbers at the same places of a slice of its own.
pub trait Source: Copy {
    /// What [`multiply()`] is for this type.
    fn multiply(
        self,
        arch: Arch,
        weight: &Panels,
        start: Start,
        slope: Option<&[f32]>,
        c: &mut [f32],
    );
    /// What [`accumulate()`] is for this type.
    fn accumulate(
        self,
        arch: Arch,
        dz: &[f32],
        weight: &mut [f32],
        bias: &mut [f32],
        scratch: &mut Vec<f32>,
    );
    /// Number of rows.
    fn count(&self) -> usize;
    /// The slice that the numbers of row `row` lie in, of the same length for all rows.
    fn row(&self, row: usize) -> &[f32];
    /// What the rows are slices of.
    fn data(&self) -> &[f32];
    /// Where rows `range` begin in it.
    fn bases(&self, range: Range<usize>) -> impl Iterator<Item = usize>;
    /// Where numbers `range` of a row lie in its slice.
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = usize>;
    /// The rows side by side; written to `buffer` if they do not lie so.
    fn gathered<'b>(&'b self, buffer: &'b mut Vec<f32>) -> Rows<'b>;
}

/// The products of a type, compiled here instead of wherever they are called.
macro_rules! products {
    () => {
        fn multiply(
            self,
            arch: Arch,
            weight: &Panels,
            start: Start,
            slope: Option<&[f32]>,
            c: &mut [f32],
        ) {
            arch.dispatch(multiply::Multiply { a: self, weight, start, slope, c });
        }
        fn accumulate(
            self,
            arch: Arch,
            dz: &[f32],
            weight: &mut [f32],
            bias: &mut [f32],
            scratch: &mut Vec<f32>,
        ) {
            arch.dispatch(accumulate::Accumulate { a: self, dz, weight, bias, scratch });
        }
    };
}

/// `count` rows of activations, `stride` numbers apart.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The rows, one after the other.
    pub data: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
    /// How many there are.
    pub count: usize,
}

impl Rows<'_> {
    /// `length` numbers of row `row`, from number `start` on.
    #[inline(always)]
    fn part(&self, row: usize, start: usize, length: usize) -> &[f32] {
        &self.data[row * self.stride + start..][..length]
    }
}

impl Source for Rows<'_> {
    products!();
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }
    #[inline(always)]
    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.stride]
    }
    #[inline(always)]
    fn data(&self) -> &[f32] {
        self.data
    }
    #[inline(always)]
    fn bases(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        range.map(|row| row * self.stride)
    }
    #[inline(always)]
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        range
    }
    #[inline(always)]
    fn gathered<'b>(&'b self, _: &'b mut Vec<f32>) -> Rows<'b> {
        *self
    }
}

/// The windows of a convolution where they lie in the image: window `row` starts at `bases[row]` and
/// is `span` numbers long, and what the product reads of it lies at `places`. So no matrix of patches
/// is written, and all windows of a tile share one check of bounds for each of their numbers.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// The image.
    pub data: &'a [f32],
    /// Where the windows start.
    pub bases: &'a [usize],
    /// What is read of a window, from its start.
    pub places: &'a [usize],
    /// Numbers from the first to the last of a window.
    pub span: usize,
}

impl Source for Windows<'_> {
    products!();
    #[inline(always)]
    fn count(&self) -> usize {
        self.bases.len()
    }
    #[inline(always)]
    fn row(&self, row: usize) -> &[f32] {
        &self.data[self.bases[row]..][..self.span]
    }
    #[inline(always)]
    fn data(&self) -> &[f32] {
        self.data
    }
    #[inline(always)]
    fn bases(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        self.bases[range].iter().copied()
    }
    #[inline(always)]
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        self.places[range].iter().copied()
    }
    fn gathered<'b>(&'b self, buffer: &'b mut Vec<f32>) -> Rows<'b> {
        buffer.clear();
        for row in 0..self.count() {
            let window = self.row(row);
            buffer.extend(self.places.iter().map(|place| window[*place]));
        }
        Rows { data: buffer, stride: self.places.len(), count: self.count() }
    }
}
