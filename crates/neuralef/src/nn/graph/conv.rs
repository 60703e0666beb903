//! Convolution, and with it the dense layer: a kernel as large as the image.
//!
//! No matrix of patches is written. All windows of the (padded) image have their numbers at the same
//! places, and the products of [`product`](super::super::product) read them there. The backward pass to
//! the image is the same product: the cotangent, spread out by the stride and padded, with the kernel
//! turned around. Where [`Winograd`] is faster, which depends on shapes (and for the input of a network on
//! the width of vectors) alone, it takes the place of both.

use pulp::Arch;

use super::super::product::{self, Panels, Rows, Start, Windows, accumulate, multiply};
use super::image::{Image, Stored};
use super::scratch::Scratch;
use super::winograd::{self, Winograd};
use crate::error::{Error, Result};
use crate::matrix::MatMut;

/// A convolution as the architecture has it. Weights are kernel height × kernel width × channels in
/// (of a group) × channels out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conv {
    pub(crate) input: Image,
    /// Channels out.
    pub(crate) channels: usize,
    /// Height and width.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros on either side, above and below, left and right.
    pub(crate) padding: [usize; 2],
    pub(crate) groups: usize,
    pub(crate) bias: bool,
    /// Whether it is a dense layer, which other frameworks write with a flattened input.
    pub(crate) flat: bool,
}

impl Conv {
    /// A dense layer: every output sees the whole image.
    pub(crate) fn dense(input: Image, channels: usize) -> Self {
        let kernel = [input.height, input.width];
        let (stride, padding) = ([1, 1], [0, 0]);
        Conv { input, channels, kernel, stride, padding, groups: 1, bias: true, flat: true }
    }

    /// Numbers of the transformed weight, and of what a segment works with, where [`Winograd`] takes it
    /// in either direction; else none.
    pub(super) fn transformed(&self) -> [usize; 2] {
        let tiled = |to: Image| {
            winograd::is_faster(self.kernel, self.input, to)
                || winograd::is_faster(self.kernel, to, self.input)
        };
        match self.output() {
            Ok(to) if self.groups == 1 && self.stride == [1, 1] && tiled(to) => {
                let weight = winograd::POINTS * self.input.channels * self.channels;
                [weight, winograd::working(self.input.channels + self.channels)]
            }
            _ => [0, 0],
        }
    }

    /// Zeros on either side of a cotangent, so that the turned kernel makes the image of it.
    fn margin(&self) -> [usize; 2] {
        std::array::from_fn(|axis| self.kernel[axis] - 1 - self.padding[axis])
    }

    /// Numbers that an output is a sum of.
    pub(crate) fn fan_in(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.input.channels / self.groups.max(1)
    }

    /// The image that comes out.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the parts do not fit together.
    pub(crate) fn output(&self) -> Result<Image> {
        let fault =
            |name: &str, expected: String, got: String| Err(Error::parameter(name, expected, got));
        let sizes = [self.input.height, self.input.width];
        for (axis, size) in sizes.into_iter().enumerate() {
            let kernel = self.kernel[axis];
            let (stride, padding) = (self.stride[axis], self.padding[axis]);
            if kernel == 0 || stride == 0 || padding >= kernel.max(1) {
                let got = format!("kernel {kernel}, stride {stride}, padding {padding}");
                let expected =
                    "a kernel and stride of at least 1 and padding below the kernel size";
                return fault("kernel", expected.into(), got);
            }
            if kernel > size + 2 * padding {
                let expected = format!("at most the padded image, {}", size + 2 * padding);
                return fault("kernel", expected, kernel.to_string());
            }
        }
        let (groups, from, to) = (self.groups, self.input.channels, self.channels);
        if groups == 0 || to == 0 || !from.is_multiple_of(groups) || !to.is_multiple_of(groups) {
            let expected = format!("a divisor of {from} and {to} channels");
            return fault("groups", expected, groups.to_string());
        }
        let along = |axis: usize| {
            (sizes[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        };
        Ok(Image { height: along(0), width: along(1), channels: to })
    }
}

/// Where the windows of a padded image lie.
#[derive(Debug)]
struct Field {
    /// Numbers of an image with its padding.
    len: usize,
    /// Start of each window in one image.
    bases: Vec<usize>,
    /// Where the numbers of a window lie in it, pixel by pixel, for each group.
    places: Vec<Vec<usize>>,
    /// Numbers from the first of a window to the last.
    span: usize,
}

impl Field {
    /// Windows of `kernel` pixels with `channels` numbers for each of `groups` groups, `count` of
    /// them along each axis, `stride` pixels apart, in an image `width` pixels wide and `len`
    /// numbers large with `pixel` numbers for each pixel.
    fn new(
        (len, width, pixel): (usize, usize, usize),
        kernel: [usize; 2],
        (groups, channels): (usize, usize),
        count: [usize; 2],
        stride: [usize; 2],
    ) -> Self {
        let at = |y: usize, x: usize| (y * width + x) * pixel;
        let all =
            |size: [usize; 2]| (0..size[0]).flat_map(move |y| (0..size[1]).map(move |x| (y, x)));
        let bases = all(count).map(|(y, x)| at(y * stride[0], x * stride[1])).collect();
        let group = |g: usize| {
            let first = g * channels;
            let pixel = |(y, x)| (first..first + channels).map(move |c| at(y, x) + c);
            all(kernel).flat_map(pixel).collect()
        };
        let span = at(kernel[0] - 1, kernel[1] - 1) + groups * channels;
        Field { len, bases, places: (0..groups).map(group).collect(), span }
    }

    /// The windows of group `g` in `data`; [`bases`](Field::bases) has been called.
    fn windows<'a>(&'a self, data: &'a [f32], bases: &'a [usize], g: usize) -> Windows<'a> {
        Windows { data, bases, places: &self.places[g], span: self.span }
    }

    /// The starts of the windows of `images` images, into `to`.
    fn bases(&self, images: usize, to: &mut Vec<usize>) {
        to.clear();
        for i in 0..images {
            to.extend(self.bases.iter().map(|base| i * self.len + base));
        }
    }

    /// Numbers of a window that a product runs over.
    fn inner(&self) -> usize {
        self.places[0].len()
    }
}

/// Sums of a gradient that are not yet part of it: see [`Convolution::finish`].
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<f32>);

/// A [`Conv`] laid out for this machine.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) shape: Conv,
    arch: Arch,
    lanes: usize,
    input: Stored,
    output: Stored,
    /// Of the padded input.
    forward: Field,
    /// Of the spread cotangent, one window for each pixel of the input.
    backward: Field,
    /// In place of the products over windows, forward and backward.
    tiled: [Option<Box<Winograd>>; 2],
}

impl Convolution {
    pub(super) fn new(
        shape: Conv,
        (arch, lanes): (Arch, usize),
        input: Stored,
        output: Stored,
    ) -> Self {
        let (groups, image, out) = (shape.groups, shape.input, output.image);
        let width = image.width + 2 * shape.padding[1];
        let len = (image.height + 2 * shape.padding[0]) * width * input.stride;
        let forward = Field::new(
            (len, width, input.stride),
            shape.kernel,
            (groups, image.channels / groups),
            [out.height, out.width],
            shape.stride,
        );
        let width = image.width + shape.kernel[1] - 1;
        let len = (image.height + shape.kernel[0] - 1) * width * output.stride;
        let backward = Field::new(
            (len, width, output.stride),
            shape.kernel,
            (groups, out.channels / groups),
            [image.height, image.width],
            [1, 1],
        );
        let tiled = |padding, from, to| match (groups, shape.stride) {
            (1, [1, 1]) => Winograd::new((arch, lanes), shape.kernel, padding, from, to),
            _ => None,
        };
        let tiled = |padding, from, to| tiled(padding, from, to).map(Box::new);
        let tiled = [tiled(shape.padding, input, output), tiled(shape.margin(), output, input)];
        Convolution { shape, arch, lanes, input, output, forward, backward, tiled }
    }

    /// Packs the weight (and bias) for [`forward`](Convolution::forward): a matrix for each group.
    pub(super) fn pack(&self, weight: &[f32], bias: &[f32]) -> Vec<Panels> {
        if let [Some(tiled), _] = &self.tiled {
            return tiled.pack(weight, bias);
        }
        let (inner, out) = (self.forward.inner(), self.out());
        let mut columns = Vec::new();
        (0..self.shape.groups)
            .map(|g| {
                let mut panels = Panels::default();
                let range = g * out..(g + 1) * out;
                let bias = if bias.is_empty() { bias } else { &bias[range.clone()] };
                columns.clear();
                for row in weight.chunks_exact(self.shape.channels).take(inner) {
                    columns.extend_from_slice(&row[range.clone()]);
                }
                panels.pack(self.lanes, &columns, bias, inner, out);
                panels
            })
            .collect()
    }

    /// Whether an image is one window, so that the pull-back is a plain product by the transpose.
    fn is_dense(&self) -> bool {
        let image = self.shape.input;
        self.shape.kernel == [image.height, image.width]
            && self.shape.padding == [0, 0]
            && self.shape.groups == 1
    }

    /// Packs the weight for [`pull_back`](Convolution::pull_back).
    pub(super) fn pack_turned(&self, weight: &[f32]) -> Vec<Panels> {
        let (channels, out) = (self.shape.input.channels / self.shape.groups, self.out());
        let pixels = self.shape.kernel[0] * self.shape.kernel[1];
        if self.is_dense() {
            let (mut panels, mut wide) = (Panels::default(), Vec::new());
            if self.input.stride != channels {
                wide.resize(self.input.len() * out, 0.0);
                for (p, rows) in weight.chunks_exact(channels * out).enumerate() {
                    wide[p * self.input.stride * out..][..rows.len()].copy_from_slice(rows);
                }
            }
            let weight = if wide.is_empty() { weight } else { &wide };
            panels.pack_transposed(self.lanes, weight, out, self.input.len());
            return vec![panels];
        }
        let turned = |g: usize| {
            let mut wide = vec![0.0; self.backward.inner() * channels];
            for p in 0..pixels {
                let at = (pixels - 1 - p) * out;
                for c in 0..channels {
                    let row = (p * channels + c) * self.shape.channels + g * out;
                    for (o, w) in weight[row..row + out].iter().enumerate() {
                        wide[(at + o) * channels + c] = *w;
                    }
                }
            }
            wide
        };
        if let [_, Some(tiled)] = &self.tiled {
            return tiled.pack(&turned(0), &[]);
        }
        (0..self.shape.groups)
            .map(|g| {
                let wide = turned(g);
                let mut panels = Panels::default();
                panels.pack(self.lanes, &wide, &[], self.backward.inner(), channels);
                panels
            })
            .collect()
    }

    /// Channels out of a group.
    fn out(&self) -> usize {
        self.shape.channels / self.shape.groups
    }

    /// z = W ∗ x + b for the images in `x`; from what is in `z` with [`Start::Output`].
    pub(super) fn forward(
        &self,
        panels: &[Panels],
        x: &[f32],
        start: Start,
        z: &mut [f32],
        scratch: &mut Scratch,
    ) {
        if let [Some(tiled), _] = &self.tiled {
            return tiled.forward(panels, x, start, z, scratch);
        }
        let images = x.len() / self.input.len();
        let Scratch { padded, bases, group, .. } = scratch;
        let data = self.padded(x, padded);
        self.forward.bases(images, bases);
        let windows = |g: usize| self.forward.windows(data, bases, g);
        if let [panels] = panels {
            return multiply(self.arch, windows(0), panels, start, None, z);
        }
        let (out, stride) = (self.out(), product::stride(self.out(), self.lanes));
        for (g, panels) in panels.iter().enumerate() {
            group.clear();
            group.resize(bases.len() * stride, 0.0);
            // From zeros, so that the bias is there just when it should be.
            multiply(self.arch, windows(g), panels, start, None, group);
            for (to, from) in z.chunks_exact_mut(self.output.stride).zip(group.chunks(stride)) {
                for (to, from) in to[g * out..(g + 1) * out].iter_mut().zip(from) {
                    *to = if start == Start::Output { *to + from } else { *from };
                }
            }
        }
    }

    /// dx += the pull-back of the cotangent `dz` to the images.
    pub(super) fn pull_back(
        &self,
        turned: &[Panels],
        dz: &[f32],
        dx: &mut [f32],
        scratch: &mut Scratch,
    ) {
        if let [_, Some(tiled)] = &self.tiled {
            return tiled.forward(turned, dz, Start::Output, dx, scratch);
        }
        let images = dz.len() / self.output.len();
        let Scratch { padded, bases, group, .. } = scratch;
        if let ([turned], true) = (turned, self.is_dense()) {
            let rows = Rows { data: dz, stride: self.output.stride, count: images };
            let (len, stride) = (self.input.len(), product::stride(self.input.len(), self.lanes));
            if len == stride {
                return multiply(self.arch, rows, turned, Start::Output, None, dx);
            }
            group.clear();
            group.resize(images * stride, 0.0);
            multiply(self.arch, rows, turned, Start::Bias, None, group);
            for (to, from) in dx.chunks_exact_mut(len).zip(group.chunks_exact(stride)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
            return;
        }
        let data = self.spread(dz, padded);
        self.backward.bases(images, bases);
        let windows = |g: usize| self.backward.windows(data, bases, g);
        if let [turned] = turned {
            return multiply(self.arch, windows(0), turned, Start::Output, None, dx);
        }
        let channels = self.shape.input.channels / self.shape.groups;
        let stride = product::stride(channels, self.lanes);
        for (g, turned) in turned.iter().enumerate() {
            group.clear();
            group.resize(bases.len() * stride, 0.0);
            multiply(self.arch, windows(g), turned, Start::Bias, None, group);
            for (to, from) in dx.chunks_exact_mut(self.input.stride).zip(group.chunks(stride)) {
                let to = &mut to[g * channels..(g + 1) * channels];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }

    /// dW += and db += the pull-back of `dz` to the parameters, one block of `total` images. Without a
    /// bias, `bias` is empty. What stays in `pending` is added by [`finish`](Convolution::finish), after
    /// the last block.
    pub(super) fn accumulate(
        &self,
        (x, dz): (&[f32], &[f32]),
        total: usize,
        (weight, bias): (&mut [f32], &mut [f32]),
        pending: &mut Pending,
        scratch: &mut Scratch,
    ) {
        let mut none = vec![0.0; if bias.is_empty() { self.shape.channels } else { 0 }];
        let bias = if bias.is_empty() { &mut none[..] } else { bias };
        if let Some(tiled) = self.tiled[0].as_ref().filter(|tiled| tiled.is_faster_for(total)) {
            return tiled.accumulate((x, dz), &mut pending.0, bias, scratch);
        }
        let images = x.len() / self.input.len();
        let Scratch { padded, bases, group, other, packing } = scratch;
        let data = self.padded(x, padded);
        self.forward.bases(images, bases);
        let windows = |g: usize| self.forward.windows(data, bases, g);
        let (inner, out) = (self.forward.inner(), self.out());
        if self.shape.groups == 1 {
            return accumulate(self.arch, windows(0), dz, weight, bias, packing);
        }
        let stride = product::stride(out, self.lanes);
        for g in 0..self.shape.groups {
            let range = g * out..(g + 1) * out;
            other.clear();
            other.resize(inner * out, 0.0);
            group.clear();
            group.resize(bases.len() * stride, 0.0);
            let rows = dz.chunks_exact(self.output.stride);
            for (to, from) in group.chunks_exact_mut(stride).zip(rows) {
                to[..out].copy_from_slice(&from[range.clone()]);
            }
            accumulate(self.arch, windows(g), group, other, &mut bias[range.clone()], packing);
            let rows = weight.chunks_exact_mut(self.shape.channels);
            for (to, from) in rows.zip(other.chunks_exact(out)) {
                to[range.clone()].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }

    /// Whether the gradient over this many images is found by tiles.
    #[cfg(test)]
    pub(super) fn is_tiled(&self, images: usize) -> bool {
        self.tiled[0].as_ref().is_some_and(|tiled| tiled.is_faster_for(images))
    }

    /// Makes what is `pending` part of the gradient `weight`.
    pub(super) fn finish(&self, pending: &mut Pending, weight: &mut [f32]) {
        if let (Some(tiled), false) = (&self.tiled[0], pending.0.is_empty()) {
            tiled.finish(&mut pending.0, weight);
        }
    }

    /// The windows of the one image `x`, pixels × fan-in, for a single group.
    pub(super) fn patches(&self, x: &[f32], mut to: MatMut<'_>) {
        let mut padded = Vec::new();
        let data = self.padded(x, &mut padded);
        for (mut row, base) in to.rows_mut().into_iter().zip(&self.forward.bases) {
            let places = self.forward.places[0].iter();
            row.iter_mut().zip(places).for_each(|(to, place)| *to = data[base + place]);
        }
    }

    /// The images of `x` with zeros around them.
    fn padded<'a>(&self, x: &'a [f32], to: &'a mut Vec<f32>) -> &'a [f32] {
        let [above, left] = self.shape.padding;
        if above == 0 && left == 0 {
            return x;
        }
        let image = self.shape.input;
        let size = [image.height + 2 * above, image.width + 2 * left];
        self.input.pad(x, [above, left], size, to);
        to
    }

    /// The cotangent with its pixels `stride` apart and zeros around them.
    fn spread<'a>(&self, dz: &'a [f32], to: &'a mut Vec<f32>) -> &'a [f32] {
        let (shape, margin) = (&self.shape, self.shape.margin());
        if shape.kernel == [1, 1] && shape.stride == [1, 1] {
            return dz;
        }
        let (image, pixel) = (self.output.image, self.output.stride);
        let width = (shape.input.width + shape.kernel[1] - 1) * pixel;
        to.clear();
        to.resize(dz.len() / self.output.len() * self.backward.len, 0.0);
        for (to, from) in to.chunks_exact_mut(self.backward.len).zip(dz.chunks(self.output.len())) {
            for (y, line) in from.chunks_exact(image.width * pixel).enumerate() {
                let to = &mut to[(margin[0] + y * shape.stride[0]) * width..][..width];
                let to = &mut to[margin[1] * pixel..];
                if shape.stride[1] == 1 {
                    to[..line.len()].copy_from_slice(line);
                    continue;
                }
                let pixels = to.chunks_mut(pixel).step_by(shape.stride[1]);
                for (to, from) in pixels.zip(line.chunks_exact(pixel)) {
                    to.copy_from_slice(from);
                }
            }
        }
        to
    }
}
