//! Pooling: the largest or the mean value of each window, channel by channel.

use super::image::{Image, Stored};
use crate::error::{Error, Result};
use crate::simd::{Fuse, Op, dispatch};

/// What a pool makes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    Average,
}

/// Windows without padding; those that do not fit at the end are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) input: Image,
    pub(crate) kind: PoolKind,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
}

impl Pool {
    /// The mean over all pixels.
    pub(crate) fn global(input: Image) -> Self {
        let kernel = [input.height, input.width];
        Pool { input, kind: PoolKind::Average, kernel, stride: kernel }
    }

    /// The image that comes out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when no window fits.
    pub(crate) fn output(&self) -> Result<Image> {
        let sizes = [self.input.height, self.input.width];
        for ((size, kernel), stride) in sizes.into_iter().zip(self.kernel).zip(self.stride) {
            if stride == 0 || !(1..=size).contains(&kernel) {
                let expected = format!("from 1 to the size of the image, {size}");
                let got = format!("{kernel}, stride {stride}");
                return Err(Error::parameter("pool", expected, got));
            }
        }
        let along = |axis: usize| (sizes[axis] - self.kernel[axis]) / self.stride[axis] + 1;
        Ok(Image { height: along(0), width: along(1), channels: self.input.channels })
    }
}

/// A [`Pool`] laid out for this machine.
#[derive(Debug)]
pub(super) struct Pooling {
    pub(super) shape: Pool,
    input: Stored,
    output: Stored,
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
        Pooling { shape, input, output }
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
        let Pooling { shape, input, output } = self.pool;
        let width = input.stride.min(output.stride);
        let scale = 1.0 / (shape.kernel[0] * shape.kernel[1]) as f32;
        let at = |y: usize, x: usize| (y * input.image.width + x) * input.stride;
        let taps: Vec<usize> = (0..shape.kernel[0])
            .flat_map(|y| (0..shape.kernel[1]).map(move |x| at(y, x)))
            .collect();
        let mut left = vec![0.0f32; width];
        for i in 0..self.x.len() / input.len() {
            for y in 0..output.image.height {
                for x in 0..output.image.width {
                    let start = i * output.len() + (y * output.image.width + x) * output.stride;
                    let to = start..start + width;
                    let corner = i * input.len() + at(y * shape.stride[0], x * shape.stride[1]);
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
