//! Where paths of a residual network part and meet: sums, and shortcuts without parameters.

use super::image::{Image, Stored};

/// The shortcut of option A (He et al. 2016, section 3.3): every `stride`-th pixel, with channels of
/// zeros before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortcut {
    pub(crate) input: Image,
    pub(crate) stride: [usize; 2],
    /// Channels of zeros before.
    pub(crate) before: usize,
    /// Channels out in all.
    pub(crate) channels: usize,
}

impl Shortcut {
    pub(crate) fn output(&self) -> Image {
        let height = self.input.height.div_ceil(self.stride[0].max(1));
        let width = self.input.width.div_ceil(self.stride[1].max(1));
        Image { height, width, channels: self.channels }
    }

    /// Places of the pixels of `images` images: (in, out).
    fn places(
        self,
        images: usize,
        input: Stored,
        output: Stored,
    ) -> impl Iterator<Item = (usize, usize)> {
        let (from, to) = (input.image, output.image);
        (0..images * to.pixels()).map(move |p| {
            let (i, y, x) = (p / to.pixels(), p % to.pixels() / to.width, p % to.width);
            let at = (y * self.stride[0] * from.width + x * self.stride[1]) * input.stride;
            (i * input.len() + at, p * output.stride + self.before)
        })
    }

    pub(super) fn forward(self, x: &[f32], input: Stored, output: Stored, z: &mut [f32]) {
        z.fill(0.0);
        let channels = input.image.channels;
        for (from, to) in self.places(x.len() / input.len(), input, output) {
            z[to..to + channels].copy_from_slice(&x[from..from + channels]);
        }
    }

    pub(super) fn pull_back(self, dz: &[f32], input: Stored, output: Stored, dx: &mut [f32]) {
        let channels = input.image.channels;
        for (from, to) in self.places(dz.len() / output.len(), input, output) {
            let dx = &mut dx[from..from + channels];
            dx.iter_mut().zip(&dz[to..to + channels]).for_each(|(dx, dz)| *dx += dz);
        }
    }
}

/// to += x, pixel by pixel; the strides may differ.
pub(super) fn add(x: &[f32], from: usize, to: &mut [f32], stride: usize) {
    if from == stride {
        to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
        return;
    }
    for (to, x) in to.chunks_exact_mut(stride).zip(x.chunks_exact(from)) {
        to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
    }
}
