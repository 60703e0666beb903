//! Images and pairs of images through all layers.

use super::super::duals::{Activation, geometric_mean};
use super::super::layers::{Moments, Second};
use super::geometry::{Geometry, Offset, Segment, Size, Stage};
use super::planes::{Convolve, Hidden, Input, Last, Level, Output};
use crate::simd::dispatch;

/// The layers, and the activation after each convolution.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) geometry: Geometry,
    pub(super) image: Size,
    pub(super) channels: usize,
    pub(super) activation: Activation,
    /// Variances of weights (times fan_in) and biases of the output.
    pub(super) output: (f64, f64),
}

/// One image: what of every layer does not depend on the other image.
pub(super) struct Side {
    /// The pixels as unit vectors, channel by channel; 0 for a pixel that is 0.
    units: Vec<f64>,
    /// ‖pixel‖²/channels.
    pixels: Moments,
    /// One for each stage.
    levels: Vec<Level>,
    /// Second moments after the pooling of each segment but the last.
    pooled: Vec<Moments>,
}

/// Planes after a pooling, in the order of [`Segment::outer`]: plain grids.
struct Pooled {
    value: Vec<f64>,
    tangent: Vec<f64>,
}

/// What pairs are worked out in.
#[derive(Default)]
pub(super) struct Scratch {
    input: Input,
    output: Output,
}

impl Layers {
    /// About the size of a [`Side`].
    pub(super) fn bytes(&self) -> usize {
        let stage = |s: &Stage| s.padded.area() + 5 * s.output.area() + 2 * s.pooled.area();
        let stages: usize = self.geometry.stages.iter().map(stage).sum();
        8 * (stages + self.image.area() * (self.channels + 2))
    }

    /// The side of one image, `pixels` channel by channel.
    pub(super) fn side(&self, pixels: &[f32], scratch: &mut Scratch) -> Side {
        let n = self.image.area();
        let wide = |c: usize, p: usize| f64::from(pixels[c * n + p]);
        let squares = |p| (0..self.channels).map(|c| wide(c, p) * wide(c, p)).sum::<f64>();
        let squares: Vec<f64> = (0..n).map(squares).collect();
        let mut units = vec![0.0; pixels.len()];
        for (c, plane) in units.chunks_exact_mut(n).enumerate() {
            for (p, unit) in plane.iter_mut().enumerate() {
                *unit = if squares[p] > 0.0 { wide(c, p) / squares[p].sqrt() } else { 0.0 };
            }
        }
        let mean = squares.into_iter().map(|s| s / self.channels as f64).collect();
        let pixels = Moments::new(mean);
        let mut side = Side { units, pixels, levels: Vec::new(), pooled: Vec::new() };
        let mut before: Option<Pooled> = None;
        let segments = &self.geometry.segments;
        for (number, segment) in segments.iter().enumerate() {
            for s in segment.stages.clone() {
                side.levels.push(self.level(&side, number, s));
            }
            if number + 1 < segments.len() {
                let planes = self.segment(number, (&side, &side), before.as_ref(), false, scratch);
                let grid = self.geometry.stages[segment.stages.end - 1].pooled.area();
                // Each window with itself; among the offsets of every segment.
                let own = segment.outer.find((0, 0)).unwrap_or(0) * grid;
                side.pooled.push(Moments::new(planes.value[own..own + grid].to_vec()));
                before = Some(planes);
            }
        }
        side
    }

    /// Stage `s`, in segment `number`.
    fn level(&self, side: &Side, number: usize, s: usize) -> Level {
        let stage = &self.geometry.stages[s];
        let first = s == self.geometry.segments[number].stages.start;
        let input = match (first, number) {
            (false, _) => &side.levels[s - 1].moments,
            (true, 0) => &side.pixels,
            (true, _) => &side.pooled[number - 1],
        };
        let values = pad(stage, &input.values);
        let (kernel, size) = (stage.kernel, stage.output);
        let mut variances = vec![0.0; size.area()];
        for (p, to) in variances.iter_mut().enumerate() {
            let corner = stage.stride * (p / size.w * stage.padded.w + p % size.w);
            let mut sum = 0.0;
            for row in 0..kernel.h {
                let at = corner + row * stage.padded.w;
                for v in &values[at..at + kernel.w] {
                    sum += v;
                }
            }
            *to = stage.share * sum + stage.bias;
        }
        let root = stage.share.sqrt();
        let variances = Moments::new(variances);
        let scale = |r: &f64| if *r == 0.0 { 0.0 } else { root / r };
        let moments = dispatch(Second { activation: self.activation, variances: &variances });
        Level {
            roots: pad(stage, &input.roots),
            scales: variances.roots.iter().map(scale).collect(),
            variances,
            moments: Moments::new(moments),
        }
    }

    /// Σ and Θ of the output for a pair of images; Θ is 0 unless asked for by `tangent`.
    pub(super) fn pair(
        &self,
        x: &Side,
        y: &Side,
        tangent: bool,
        scratch: &mut Scratch,
    ) -> (f64, f64) {
        let mut planes: Option<Pooled> = None;
        for number in 0..self.geometry.segments.len() {
            planes = Some(self.segment(number, (x, y), planes.as_ref(), tangent, scratch));
        }
        let Some(planes) = planes else { return (0.0, 0.0) };
        let (weight, bias) = self.output;
        let mean = |of: &[f64]| weight * (of.iter().sum::<f64>() / of.len() as f64);
        let sigma = mean(&planes.value) + bias;
        (sigma, if tangent { sigma + mean(&planes.tangent) } else { 0.0 })
    }

    /// The planes after one segment, from those before it; none before the first.
    fn segment(
        &self,
        number: usize,
        (x, y): (&Side, &Side),
        before: Option<&Pooled>,
        tangent: bool,
        scratch: &mut Scratch,
    ) -> Pooled {
        let segment = &self.geometry.segments[number];
        let stages = &self.geometry.stages;
        let last = segment.stages.end - 1;
        let count = segment.outer.len() * stages[last].pooled.area();
        let value = vec![0.0; count];
        let mut out = Pooled { tangent: if tangent { value.clone() } else { Vec::new() }, value };
        let Scratch { input, output } = scratch;
        for offset in segment.inner.iter() {
            // Ever finer grids, from the end to the beginning.
            let far = (offset.0 * segment.step, offset.1 * segment.step);
            let first = &stages[segment.stages.start];
            input.clear(first.padded.area(), tangent);
            match before {
                None => self.image_plane(first, far, (x, y), input),
                Some(before) => {
                    let own = (&x.pooled[number - 1], &y.pooled[number - 1]);
                    let place = self.geometry.segments[number - 1].outer.find(far);
                    pooled_plane(first, far, own, (before, place), input);
                }
            }
            let mut step = segment.step;
            for s in segment.stages.clone() {
                let stage = &stages[s];
                step /= stage.stride as isize;
                let offset = (offset.0 * step, offset.1 * step);
                let (x, y) = (&x.levels[s], &y.levels[s]);
                output.resize(stage.output.area());
                dispatch(Convolve { stage, offset, x, y, input, output, tangent });
                let activation = self.activation;
                if s == last {
                    dispatch(Last { activation, stage, offset, x, y, output, tangent });
                } else {
                    let next = &stages[s + 1];
                    input.clear(next.padded.area(), tangent);
                    dispatch(Hidden {
                        activation,
                        stage,
                        next,
                        offset,
                        x,
                        y,
                        output,
                        input,
                        tangent,
                    });
                }
            }
            pool(&stages[last], segment, offset, &output.minus, &mut out.value);
            if tangent {
                pool(&stages[last], segment, offset, &output.theta, &mut out.tangent);
            }
        }
        let share = (stages[last].pool.area() as f64).powi(2).recip();
        out.value.iter_mut().chain(&mut out.tangent).for_each(|v| *v *= share);
        out
    }

    /// The input of the first convolution: products of pixels. There is no Θ before it.
    fn image_plane(
        &self,
        stage: &Stage,
        offset: Offset,
        (x, y): (&Side, &Side),
        input: &mut Input,
    ) {
        let (size, n) = (self.image, self.image.area());
        let (rows, columns) = size.shared(offset);
        for row in rows {
            for column in columns.clone() {
                let (p, q) = (row * size.w + column, size.moved((row, column), offset));
                let (mut gaps, mut sums) = (0.0, 0.0);
                for c in 0..self.channels {
                    let (u, v) = (x.units[c * n + p], y.units[c * n + q]);
                    gaps += (u - v) * (u - v);
                    sums += (u + v) * (u + v);
                }
                // 1 ∓ ρ, as in the fully connected networks.
                let (minus, plus) = (0.5 * gaps, 0.5 * sums);
                let mean = geometric_mean(x.pixels.at(p), y.pixels.at(q));
                let to = place(stage, row, column);
                let near = minus <= 1.0;
                input.below[to] = mean * if near { minus } else { 2.0 - plus };
                input.above[to] = mean * if near { 2.0 - minus } else { plus };
            }
        }
    }
}

/// The index of a position in the padded input of a stage.
fn place(stage: &Stage, row: usize, column: usize) -> usize {
    (row + stage.before.h) * stage.padded.w + column + stage.before.w
}

/// A grid with the padding of a stage around it.
fn pad(stage: &Stage, values: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; stage.padded.area()];
    for (row, values) in values.chunks_exact(stage.input.w).enumerate() {
        let to = place(stage, row, 0);
        out[to..to + values.len()].copy_from_slice(values);
    }
    out
}

/// The input of a convolution after a pooling. 1 − ρ is known to rounding here: what two images
/// share in all windows cannot be told from what they share in most.
fn pooled_plane(
    stage: &Stage,
    offset: Offset,
    (x, y): (&Moments, &Moments),
    (planes, number): (&Pooled, Option<usize>),
    input: &mut Input,
) {
    let Some(number) = number else { return };
    let size = stage.input;
    let start = number * size.area();
    let (rows, columns) = size.shared(offset);
    for row in rows {
        for column in columns.clone() {
            let (p, q) = (row * size.w + column, size.moved((row, column), offset));
            let mean = geometric_mean(x.at(p), y.at(q));
            let (value, to) = (planes.value[start + p], place(stage, row, column));
            let positive = |v: f64| if v < 0.0 { 0.0 } else { v };
            input.below[to] = positive(mean - value);
            input.above[to] = positive(mean + value);
            if !input.tangent.is_empty() {
                input.tangent[to] = planes.tangent[start + p];
            }
        }
    }
}

/// Adds one plane to the sums over pairs of members of two windows.
fn pool(stage: &Stage, segment: &Segment, offset: Offset, plane: &[f64], sums: &mut [f64]) {
    let Stage { output, pool, pooled, .. } = *stage;
    let (dy, dx) = offset;
    for row in 0..pool.h {
        for column in 0..pool.w {
            // The other member's window, seen from that of member (row, column).
            let apart = |at: usize, d: isize, n: usize| (at as isize + d).div_euclid(n as isize);
            let windows = (apart(row, dy, pool.h), apart(column, dx, pool.w));
            let Some(number) = segment.outer.find(windows) else { continue };
            let (rows, columns) = pooled.shared(windows);
            for y in rows {
                let from = (y * pool.h + row) * output.w + column;
                let to = number * pooled.area() + y * pooled.w;
                for x in columns.clone() {
                    sums[to + x] += plane[from + x * pool.w];
                }
            }
        }
    }
}
