//! Pooling: the largest or the mean value of each window, channel by channel.

use std::ops::Range;

use super::image::{Image, Stored};
use crate::error::{Error, Result};
use crate::simd::{Fuse, Op, dispatch};

/// What a pool makes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    Average,
}

/// Windows on an image with a border; those that do not fit at the end are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) input: Image,
    pub(crate) kind: PoolKind,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Pixels of the border on either side, less than the kernel and at most half of it. A maximum is
    /// of the pixels of the image alone.
    pub(crate) padding: [usize; 2],
    /// Whether means count the border as zeros, or are of the pixels of the image alone.
    pub(crate) counted: bool,
}

impl Pool {
    /// Without a border.
    pub(crate) fn new(
        input: Image,
        kind: PoolKind,
        kernel: [usize; 2],
        stride: [usize; 2],
    ) -> Self {
        Pool { input, kind, kernel, stride, padding: [0; 2], counted: true }
    }

    /// The mean over all pixels.
    pub(crate) fn global(input: Image) -> Self {
        let kernel = [input.height, input.width];
        Pool::new(input, PoolKind::Average, kernel, kernel)
    }

    /// The image that comes out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when no window fits.
    pub(crate) fn output(&self) -> Result<Image> {
        let along = |axis: usize, size: usize| {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let padding = self.padding[axis];
            let whole = padding.saturating_mul(2).saturating_add(size);
            // Every window has a pixel of the image, whose border is at most half of a window.
            if stride > 0 && (1..=whole).contains(&kernel) && padding <= kernel / 2 {
                return Ok((whole - kernel) / stride + 1);
            }
            let expected = format!(
                "from 1 to the size of the image with its border, {size} + 2·{padding}, which is at \
                 most half of a window"
            );
            Err(Error::parameter("pool", expected, format!("{kernel}, stride {stride}")))
        };
        let (height, width) = (along(0, self.input.height)?, along(1, self.input.width)?);
        Ok(Image { height, width, channels: self.input.channels })
    }
}

/// A [`Pool`] laid out for this machine.
#[derive(Debug)]
pub(super) struct Pooling {
    kind: PoolKind,
    input: Stored,
    output: Stored,
    /// The window of each pixel that comes out.
    windows: Vec<Spot>,
    /// Pixels of windows, from the corner on: where they lie in a stored image.
    taps: Vec<usize>,
}

/// A window, as far as it is within the image.
#[derive(Debug, Clone)]
struct Spot {
    /// Where its first pixel lies in a stored image.
    corner: usize,
    /// Which taps are its pixels.
    taps: Range<usize>,
    /// Factor of a sum of its pixels for their mean.
    scale: f32,
}

/// What a walk over all windows does.
enum Walk<'a> {
    /// z from x.
    Values { z: &'a mut [f32] },
    /// dz from dx, at the places z took from x.
    Tangents { z: &'a [f32], dx: &'a [f32], dz: &'a mut [f32] },
    /// dx += from dz, at the places z took from x.
    PullBack { z: &'a [f32], dz: &'a [f32], dx: &'a mut [f32] },
}

impl Pooling {
    pub(super) fn new(shape: Pool, input: Stored, output: Stored) -> Self {
        let at = |y: usize, x: usize| (y * input.image.width + x) * input.stride;
        // Start and length within the image.
        let within = |axis: usize, i: usize, size: usize| {
            let start = i * shape.stride[axis];
            let (low, high) = (shape.padding[axis], shape.padding[axis] + size);
            let end = (start + shape.kernel[axis]).min(high).max(low);
            let start = start.clamp(low, end);
            (start - low, end - start)
        };
        let (mut windows, mut taps) = (Vec::new(), Vec::new());
        let mut known: Vec<([usize; 2], Range<usize>)> = Vec::new();
        let (height, width) = (output.image.height, output.image.width);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (top, rows) = within(0, y, input.image.height);
            let (left, columns) = within(1, x, input.image.width);
            let range = match known.iter().find(|(size, _)| *size == [rows, columns]) {
                Some((_, range)) => range.clone(),
                None => {
                    let from = taps.len();
                    taps.extend((0..rows).flat_map(|y| (0..columns).map(move |x| at(y, x))));
                    known.push(([rows, columns], from..taps.len()));
                    from..taps.len()
                }
            };
            let count = match shape.counted {
                true => shape.kernel[0] * shape.kernel[1],
                false => rows * columns,
            };
            let scale = 1.0 / count.max(1) as f32;
            windows.push(Spot { corner: at(top, left), taps: range, scale });
        }
        Pooling { kind: shape.kind, input, output, windows, taps }
    }

    pub(super) fn forward(&self, x: &[f32], z: &mut [f32]) {
        dispatch(Pass { pool: self, x, walk: Walk::Values { z } });
    }

    /// dz = the derivative along `dx`, at `x` with values `z`.
    pub(super) fn tangent(&self, x: &[f32], z: &[f32], dx: &[f32], dz: &mut [f32]) {
        dispatch(Pass { pool: self, x, walk: Walk::Tangents { z, dx, dz } });
    }

    /// dx += the pull-back of `dz`, at `x` with values `z`. Of equal values the first takes it.
    pub(super) fn pull_back(&self, x: &[f32], z: &[f32], dz: &[f32], dx: &mut [f32]) {
        dispatch(Pass { pool: self, x, walk: Walk::PullBack { z, dz, dx } });
    }
}

struct Pass<'a> {
    pool: &'a Pooling,
    x: &'a [f32],
    walk: Walk<'a>,
}

impl Op for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(mut self) {
        let Pooling { kind, input, output, windows, taps } = self.pool;
        let width = input.stride.min(output.stride);
        let mut left = vec![0.0f32; width];
        for i in 0..self.x.len() / input.len() {
            for (spot, start) in windows.iter().zip((i * output.len()..).step_by(output.stride)) {
                let to = start..start + width;
                let (corner, scale) = (i * input.len() + spot.corner, spot.scale);
                let taps = &taps[spot.taps.clone()];
                let window = Window { numbers: &self.x[corner..], taps };
                match (&mut self.walk, kind) {
                    (Walk::Values { z }, PoolKind::Max) => fill(&mut z[to], Largest(window)),
                    (Walk::Values { z }, PoolKind::Average) => {
                        fill(&mut z[to], Mean(window, scale));
                    }
                    (Walk::Tangents { dx, dz, .. }, PoolKind::Average) => {
                        let window = Window { numbers: &dx[corner..], taps };
                        fill(&mut dz[to], Mean(window, scale));
                    }
                    (Walk::Tangents { z, dx, dz }, PoolKind::Max) => {
                        let dx = Window { numbers: &dx[corner..], taps };
                        fill(&mut dz[to.clone()], Chosen(window, &z[to], dx));
                    }
                    (Walk::PullBack { dz, dx, .. }, PoolKind::Average) => {
                        for tap in taps {
                            let from = dx[corner + tap..][..width].iter_mut();
                            from.zip(&dz[to.clone()]).for_each(|(dx, dz)| *dx += scale * dz);
                        }
                    }
                    (Walk::PullBack { z, dz, dx }, PoolKind::Max) => {
                        left.copy_from_slice(&dz[to.clone()]);
                        for tap in taps {
                            let from = corner + tap..corner + tap + width;
                            let (dx, x) = (&mut dx[from.clone()], &self.x[from]);
                            hand_out(dx, x, &z[to.clone()], &mut left);
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of all channels, of which a window of a pool has those from each of `taps` on.
#[derive(Clone, Copy)]
struct Window<'a> {
    numbers: &'a [f32],
    taps: &'a [usize],
}

impl<'a> Window<'a> {
    /// Channels `at..at + N` of each pixel of the window, in order.
    #[inline(always)]
    fn pixels<const N: usize>(
        self,
        at: usize,
    ) -> impl DoubleEndedIterator<Item = &'a [f32]> + ExactSizeIterator {
        self.taps.iter().map(move |tap| &self.numbers[tap + at..][..N])
    }
}

/// What a pool writes, a few channels at a time: in registers until it is done, for the compiler makes
/// masked stores of comparisons in memory, which take many times as long.
trait Piece: Copy {
    /// Channels `at..at + N`.
    fn channels<const N: usize>(self, at: usize) -> [f32; N];
}

#[inline(always)]
fn fill(to: &mut [f32], piece: impl Piece) {
    const WIDE: usize = 8;
    let (wide, rest) = to.as_chunks_mut::<WIDE>();
    for (i, to) in wide.iter_mut().enumerate() {
        *to = piece.channels(i * WIDE);
    }
    for (i, to) in rest.iter_mut().enumerate() {
        let [value] = piece.channels(wide.len() * WIDE + i);
        *to = value;
    }
}

/// The largest number.
#[derive(Clone, Copy)]
struct Largest<'a>(Window<'a>);

impl Piece for Largest<'_> {
    #[inline(always)]
    fn channels<const N: usize>(self, at: usize) -> [f32; N] {
        let mut best = [f32::NEG_INFINITY; N];
        for (i, x) in self.0.pixels::<N>(at).enumerate() {
            for c in 0..N {
                best[c] = if i == 0 || x[c] > best[c] { x[c] } else { best[c] };
            }
        }
        best
    }
}

/// The mean: the sum of all numbers times a factor.
#[derive(Clone, Copy)]
struct Mean<'a>(Window<'a>, f32);

impl Piece for Mean<'_> {
    #[inline(always)]
    fn channels<const N: usize>(self, at: usize) -> [f32; N] {
        let mut sum = [0.0; N];
        for x in self.0.pixels::<N>(at) {
            for c in 0..N {
                sum[c] += self.1 * x[c];
            }
        }
        sum
    }
}

/// Of the second window, the numbers at the first places where the first window has the given values.
#[derive(Clone, Copy)]
struct Chosen<'a>(Window<'a>, &'a [f32], Window<'a>);

impl Piece for Chosen<'_> {
    #[inline(always)]
    fn channels<const N: usize>(self, at: usize) -> [f32; N] {
        let z = &self.1[at..at + N];
        let mut chosen = [0.0; N];
        // The first of equal values is the last to be written.
        for (x, dx) in self.0.pixels::<N>(at).zip(self.2.pixels::<N>(at)).rev() {
            for c in 0..N {
                chosen[c] = if x[c] == z[c] { dx[c] } else { chosen[c] };
            }
        }
        chosen
    }
}

#[inline(always)]
fn hand_out(to: &mut [f32], x: &[f32], z: &[f32], left: &mut [f32]) {
    for (((to, x), z), left) in to.iter_mut().zip(x).zip(z).zip(left) {
        let given = if *x == *z { *left } else { 0.0 };
        *to += given;
        *left -= given;
    }
}
