//! Pooling: the largest or the mean value of each window, channel by channel.

use super::image::{Image, Stored};
use crate::error::{Error, Result};
use crate::simd::{Fuse, Op, dispatch};
use crate::spec::Choice;

/// What a pool makes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    Average,
}

impl Choice for PoolKind {
    const KIND: &'static str = "pool_kind";
    const ALL: &'static [(&'static str, Self)] =
        &[("max", PoolKind::Max), ("average", PoolKind::Average)];
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
    shape: Pool,
    input: Stored,
    output: Stored,
    /// Of every row and column that comes out, the first one of its window in the image, and how many.
    spans: [Vec<(usize, usize)>; 2],
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
        let span = |axis: usize, size: usize, i: usize| {
            let start = i * shape.stride[axis];
            let (low, high) = (shape.padding[axis], shape.padding[axis] + size);
            let end = (start + shape.kernel[axis]).min(high).max(low);
            let start = start.clamp(low, end);
            (start - low, end - start)
        };
        let (rows, columns) = (0..output.image.height, 0..output.image.width);
        let spans = [
            rows.map(|i| span(0, input.image.height, i)).collect(),
            columns.map(|i| span(1, input.image.width, i)).collect(),
        ];
        Pooling { shape, input, output, spans }
    }

    /// What makes a mean of the sum over a window of this many pixels of the image.
    fn scale(&self, rows: usize, columns: usize) -> f32 {
        let count = match self.shape.counted {
            true => self.shape.kernel[0] as f64 * self.shape.kernel[1] as f64,
            false => (rows * columns) as f64,
        };
        (1.0 / count.max(1.0)) as f32
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
        let Pooling { shape, input, output, spans: [rows, columns] } = self.pool;
        let width = input.stride.min(output.stride);
        let at = |y: usize, x: usize| (y * input.image.width + x) * input.stride;
        // Where the pixels of a window lie from its first on; most windows are of one size.
        let (mut size, mut taps) = ((0, 0), Vec::new());
        let mut left = vec![0.0f32; width];
        let windows =
            || rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        for i in 0..self.x.len() / input.len() {
            let starts = (i * output.len()..).step_by(output.stride);
            for ((row, column), start) in windows().zip(starts) {
                if size != (row.1, column.1) {
                    size = (row.1, column.1);
                    taps.clear();
                    taps.extend((0..row.1).flat_map(|y| (0..column.1).map(move |x| at(y, x))));
                }
                let to = start..start + width;
                let corner = i * input.len() + at(row.0, column.0);
                let scale = self.pool.scale(row.1, column.1);
                let window = Window { numbers: &self.x[corner..], taps: &taps };
                match (&mut self.walk, shape.kind) {
                    (Walk::Values { z }, PoolKind::Max) => fill(&mut z[to], Largest(window)),
                    (Walk::Values { z }, PoolKind::Average) => {
                        fill(&mut z[to], Mean(window, scale));
                    }
                    (Walk::Tangents { dx, dz, .. }, PoolKind::Average) => {
                        let window = Window { numbers: &dx[corner..], taps: &taps };
                        fill(&mut dz[to], Mean(window, scale));
                    }
                    (Walk::Tangents { z, dx, dz }, PoolKind::Max) => {
                        let dx = Window { numbers: &dx[corner..], taps: &taps };
                        fill(&mut dz[to.clone()], Chosen(window, &z[to], dx));
                    }
                    (Walk::PullBack { dz, dx, .. }, PoolKind::Average) => {
                        for tap in &taps {
                            let from = dx[corner + tap..][..width].iter_mut();
                            from.zip(&dz[to.clone()]).for_each(|(dx, dz)| *dx += scale * dz);
                        }
                    }
                    (Walk::PullBack { z, dz, dx }, PoolKind::Max) => {
                        left.copy_from_slice(&dz[to.clone()]);
                        for tap in &taps {
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
