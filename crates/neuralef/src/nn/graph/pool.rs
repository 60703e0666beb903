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
        let mut left = vec![0.0f32; width];
        for i in 0..self.x.len() / input.len() {
            for y in 0..output.image.height {
                for x in 0..output.image.width {
                    let at = i * output.len() + (y * output.image.width + x) * output.stride;
                    let to = at..at + width;
                    let corner = (y * shape.stride[0] * input.image.width + x * shape.stride[1])
                        * input.stride
                        + i * input.len();
                    if let Walk::PullBack { dz, .. } = &self.walk {
                        left.copy_from_slice(&dz[to.clone()]);
                    }
                    for t in 0..shape.kernel[0] * shape.kernel[1] {
                        let (dy, dx) = (t / shape.kernel[1], t % shape.kernel[1]);
                        let start = corner + (dy * input.image.width + dx) * input.stride;
                        let from = start..start + width;
                        let x = &self.x[from.clone()];
                        match (&mut self.walk, shape.kind) {
                            (Walk::Values { z }, PoolKind::Max) => {
                                largest(&mut z[to.clone()], x, t == 0);
                            }
                            (Walk::Values { z }, PoolKind::Average) => {
                                add(&mut z[to.clone()], x, scale, t == 0);
                            }
                            (Walk::Tangents { dx, dz, .. }, PoolKind::Average) => {
                                add(&mut dz[to.clone()], &dx[from], scale, t == 0);
                            }
                            (Walk::Tangents { z, dx, dz }, PoolKind::Max) => {
                                // The last of equal values is overwritten by none: go backwards.
                                let t = shape.kernel[0] * shape.kernel[1] - 1 - t;
                                let (dy, c) = (t / shape.kernel[1], t % shape.kernel[1]);
                                let start = corner + (dy * input.image.width + c) * input.stride;
                                let from = start..start + width;
                                let x = &self.x[from.clone()];
                                choose(&mut dz[to.clone()], x, &z[to.clone()], &dx[from]);
                            }
                            (Walk::PullBack { dx, .. }, PoolKind::Average) => {
                                add(&mut dx[from], &left, scale, false);
                            }
                            (Walk::PullBack { z, dx, .. }, PoolKind::Max) => {
                                hand_out(&mut dx[from], x, &z[to.clone()], &mut left);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn largest(to: &mut [f32], x: &[f32], first: bool) {
    if first {
        return to.copy_from_slice(x);
    }
    for (to, x) in to.iter_mut().zip(x) {
        *to = if *x > *to { *x } else { *to };
    }
}

#[inline(always)]
fn add(to: &mut [f32], x: &[f32], scale: f32, first: bool) {
    for (to, x) in to.iter_mut().zip(x) {
        *to = if first { scale * x } else { *to + scale * x };
    }
}

#[inline(always)]
fn choose(to: &mut [f32], x: &[f32], z: &[f32], dx: &[f32]) {
    for (((to, x), z), dx) in to.iter_mut().zip(x).zip(z).zip(dx) {
        *to = if *x == *z { *dx } else { *to };
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
