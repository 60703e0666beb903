//! The shape of what flows between layers, and how it lies in memory.

use crate::spec::Choice;

/// Height, width and channels of an image. A vector is an image of one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Image {
    /// A vector of `channels` numbers.
    #[cfg(test)]
    pub(crate) fn vector(channels: usize) -> Self {
        Image { height: 1, width: 1, channels }
    }

    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Numbers in all.
    pub(crate) fn len(self) -> usize {
        self.pixels() * self.channels
    }

    pub(crate) fn is_vector(self) -> bool {
        self.pixels() == 1
    }
}

/// An image as the engine stores it: pixel after pixel, row by row, each with `stride` numbers of
/// which the channels come first. What lies beyond them is finite and of no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) image: Image,
    pub(super) stride: usize,
}

impl Stored {
    /// Numbers of memory for an image.
    pub(super) fn len(self) -> usize {
        self.image.pixels() * self.stride
    }

    /// Writes the images of `x` to `to` with zeros around them, which make each `height` × `width`
    /// pixels; the first pixel comes to lie at `above` and `left`.
    pub(super) fn pad(
        self,
        x: &[f32],
        [above, left]: [usize; 2],
        [height, width]: [usize; 2],
        to: &mut Vec<f32>,
    ) {
        let (size, line) = (height * width * self.stride, width * self.stride);
        to.clear();
        to.resize(x.len() / self.len() * size, 0.0);
        for (to, from) in to.chunks_exact_mut(size).zip(x.chunks_exact(self.len())) {
            let lines = to.chunks_exact_mut(line).skip(above);
            for (to, from) in lines.zip(from.chunks_exact(self.image.width * self.stride)) {
                to[left * self.stride..][..from.len()].copy_from_slice(from);
            }
        }
    }
}

/// Order of the numbers of an image in a row of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Channel by channel, as CIFAR-10's files and PyTorch have them.
    Chw,
    /// Pixel by pixel.
    Hwc,
}

impl Choice for Order {
    const KIND: &'static str = "order";
    const ALL: &'static [(&'static str, Self)] = &[("chw", Order::Chw), ("hwc", Order::Hwc)];
}

impl Order {
    /// Writes a row of data pixel by pixel.
    pub(super) fn read(self, image: Image, row: &[f32], to: &mut [f32]) {
        if self == Order::Hwc || image.channels == 1 {
            return to.copy_from_slice(row);
        }
        let pixels = image.pixels();
        for (p, pixel) in to.chunks_exact_mut(image.channels).enumerate() {
            for (c, v) in pixel.iter_mut().enumerate() {
                *v = row[c * pixels + p];
            }
        }
    }
}
