//! Tiles against the definition in double precision, with and without vector instructions.

use super::*;
use crate::nn::graph::image::Image;
use crate::nn::product::{lanes, stride};
use rand::RngExt as _;

/// A case: r, padding, height and width, channels in and out, images.
type Case = (usize, [usize; 2], [usize; 2], [usize; 2], usize);

/// Whole tiles and cut ones, every padding, channels that fill no vector.
const CASES: [Case; 6] = [
    (5, [2, 2], [14, 14], [16, 32], 3),
    (5, [2, 2], [7, 9], [24, 24], 2),
    (5, [0, 4], [11, 6], [40, 17], 2),
    (3, [1, 1], [8, 8], [16, 16], 5),
    (3, [0, 2], [9, 10], [19, 21], 2),
    (3, [2, 0], [7, 13], [64, 16], 1),
];

fn draw(n: usize, stream: u64) -> Vec<f32> {
    let mut rng = crate::rng::stream(12, "test", stream);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

/// Images with what is beyond their channels large, for nothing may come of it.
fn images(count: usize, stored: Stored, stream: u64) -> Vec<f32> {
    let mut all = draw(count * stored.len(), stream);
    for pixel in all.chunks_exact_mut(stored.stride) {
        pixel[stored.image.channels..].fill(1e6);
    }
    all
}

/// ‖a − b‖/‖b‖ over the channels of images.
fn error(a: &[f32], b: &[f64], stored: Stored) -> f64 {
    let channels = stored.image.channels;
    let (mut off, mut size) = (0.0, 0.0);
    for (a, b) in a.chunks_exact(stored.stride).zip(b.chunks_exact(channels)) {
        for (a, b) in a.iter().zip(b) {
            off += (f64::from(*a) - b).powi(2);
            size += b * b;
        }
    }
    (off / size).sqrt()
}

/// Calls `each` with an image, and the places of an output, a weight and an input that belong together.
fn walk(
    (r, padding, [height, width], [inner, outer], count): Case,
    mut each: impl FnMut(usize, usize, usize, usize, usize, usize),
) {
    let (to_height, to_width) = (height + 2 * padding[0] - r + 1, width + 2 * padding[1] - r + 1);
    for i in 0..count {
        for (y, x) in (0..to_height).flat_map(|y| (0..to_width).map(move |x| (y, x))) {
            for (dy, dx) in (0..r).flat_map(|dy| (0..r).map(move |dx| (dy, dx))) {
                let (from_y, from_x) = (y + dy, x + dx);
                let inside = from_y >= padding[0]
                    && from_x >= padding[1]
                    && from_y - padding[0] < height
                    && from_x - padding[1] < width;
                if !inside {
                    continue;
                }
                let from = (i * height + from_y - padding[0]) * width + from_x - padding[1];
                let to = (i * to_height + y) * to_width + x;
                for (c, o) in (0..inner).flat_map(|c| (0..outer).map(move |o| (c, o))) {
                    each(to, o, ((dy * r + dx) * inner + c) * outer + o, from, c, i);
                }
            }
        }
    }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for case in CASES {
        let (r, padding, [height, width], [inner, outer], count) = case;
        for arch in [Arch::new(), Arch::Scalar] {
            let lanes = lanes(arch);
            let stored = |height, width, channels| Stored {
                image: Image { height, width, channels },
                stride: stride(channels, lanes),
            };
            let from = stored(height, width, inner);
            let to = stored(height + 2 * padding[0] - r + 1, width + 2 * padding[1] - r + 1, outer);
            let tiled = Winograd::new((arch, lanes), [r, r], padding, from, to);
            let tiled = tiled.unwrap_or_else(|| panic!("{case:?} is not tiled"));
            let (weight, bias) = (draw(r * r * inner * outer, 1), draw(outer, 2));
            let (x, dz) = (images(count, from, 3), images(count, to, 4));
            let mut scratch = Scratch::default();

            let mut z = vec![7.0; dz.len()];
            let panels = tiled.pack(&weight, &bias);
            tiled.forward(&panels, &x, Start::Bias, &mut z, &mut scratch);
            let pixels = count * to.image.pixels();
            let mut expected: Vec<f64> =
                (0..pixels).flat_map(|_| bias.iter().map(|b| f64::from(*b))).collect();
            walk(case, |to_pixel, o, w, from_pixel, c, _| {
                let x = f64::from(x[from_pixel * from.stride + c]);
                expected[to_pixel * outer + o] += f64::from(weight[w]) * x;
            });
            let off = error(&z, &expected, to);
            assert!(off < 4e-6, "{case:?}: values are off by {off:e}");

            // Added to what is there: twice the product, and one bias.
            tiled.forward(&panels, &x, Start::Output, &mut z, &mut scratch);
            let bias = bias.iter().cycle().map(|b| f64::from(*b));
            let twice: Vec<f64> = expected.iter().zip(bias).map(|(v, b)| 2.0 * v - b).collect();
            let off = error(&z, &twice, to);
            assert!(off < 4e-6, "{case:?}: added values are off by {off:e}");

            let (mut sums, mut slope) = (Vec::new(), vec![0.5; outer]);
            let mut gradient = vec![0.25; weight.len()];
            // In two blocks.
            let (head, tail) = ((count / 2) * from.len(), (count / 2) * to.len());
            for (x, dz) in [(&x[..head], &dz[..tail]), (&x[head..], &dz[tail..])] {
                tiled.accumulate((x, dz), &mut sums, &mut slope, &mut scratch);
            }
            tiled.finish(&mut sums, &mut gradient);
            assert!(sums.is_empty());
            let mut expected = vec![0.25f64; weight.len()];
            walk(case, |to_pixel, o, w, from_pixel, c, _| {
                let dz = f64::from(dz[to_pixel * to.stride + o]);
                expected[w] += dz * f64::from(x[from_pixel * from.stride + c]);
            });
            let flat =
                |n| Stored { image: Image { height: 1, width: n, channels: outer }, stride: outer };
            let off = error(&gradient, &expected, flat(r * r * inner));
            assert!(off < 4e-6, "{case:?}: gradients are off by {off:e}");
            let mut expected = vec![0.5f64; outer];
            for pixel in dz.chunks_exact(to.stride) {
                expected.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += f64::from(*v));
            }
            let off = error(&slope, &expected, flat(1));
            assert!(off < 4e-6, "{case:?}: the slope of the bias is off by {off:e}");
        }
    }
}

#[test]
fn a_tile_does_not_know_the_others() {
    let (r, padding, [height, width], [inner, outer], _) = CASES[1];
    let (arch, count) = (Arch::new(), 9);
    let lanes = lanes(arch);
    let stored = |channels| Stored {
        image: Image { height, width, channels },
        stride: stride(channels, lanes),
    };
    let (from, to) = (stored(inner), stored(outer));
    let tiled = Winograd::new((arch, lanes), [r, r], padding, from, to).unwrap();
    let panels = tiled.pack(&draw(r * r * inner * outer, 1), &draw(outer, 2));
    let (x, mut scratch) = (images(count, from, 3), Scratch::default());
    let mut all = vec![0.0; count * to.len()];
    tiled.forward(&panels, &x, Start::Bias, &mut all, &mut scratch);
    for (x, expected) in x.chunks_exact(from.len()).zip(all.chunks_exact(to.len())) {
        let mut z = vec![0.0; to.len()];
        tiled.forward(&panels, x, Start::Bias, &mut z, &mut scratch);
        assert_eq!(z, expected);
    }
}

#[test]
fn shapes_that_do_not_pay_are_left_alone() {
    let arch = Arch::new();
    let lanes = lanes(arch);
    let new = |kernel: [usize; 2], size: usize, channels: [usize; 2]| {
        let [from, to] = channels.map(|channels| Stored {
            image: Image { height: size, width: size, channels },
            stride: stride(channels, lanes),
        });
        Winograd::new((arch, lanes), kernel, [kernel[0] / 2; 2], from, to)
    };
    assert!(new([3, 3], 8, [16, 16]).is_some());
    assert!(new([5, 5], 8, [16, 32]).is_some());
    assert!(new([3, 3], 8, [15, 64]).is_none());
    assert!(new([5, 5], 8, [16, 16]).is_none());
    assert!(new([3, 3], 4, [64, 64]).is_none());
    assert!(new([3, 5], 8, [64, 64]).is_none());
    assert!(new([7, 7], 8, [64, 64]).is_none());
    assert!(new([1, 1], 8, [64, 64]).is_none());
    let tiled = new([5, 5], 8, [32, 32]).unwrap();
    assert!(tiled.is_faster_for(16) && !tiled.is_faster_for(1));
}

#[test]
fn errors_are_those_that_the_documentation_states() {
    // Images as after a ReLU, cotangents with a mean, and thousands of tiles: where sums are largest.
    for case in [(5, [2, 2], [14, 14], [32, 32], 50), (3, [1, 1], [16, 16], [32, 32], 140)] {
        let (r, padding, [height, width], [inner, outer], count) = case;
        let arch = Arch::new();
        let lanes = lanes(arch);
        let stored = |channels| Stored {
            image: Image { height, width, channels },
            stride: stride(channels, lanes),
        };
        let (from, to) = (stored(inner), stored(outer));
        let tiled = Winograd::new((arch, lanes), [r, r], padding, from, to).unwrap();
        assert!(count * tiled.tiling.per_image() > 2000);
        let scale = (3.0 / (r * r * inner) as f32).sqrt();
        let weight: Vec<f32> = draw(r * r * inner * outer, 1).iter().map(|w| scale * w).collect();
        let x: Vec<f32> = draw(count * from.len(), 3).iter().map(|v| v.max(0.0)).collect();
        let dz: Vec<f32> = draw(count * to.len(), 4).iter().map(|v| v + 0.3).collect();
        let (mut z, mut scratch) = (vec![0.0; dz.len()], Scratch::default());
        tiled.forward(&tiled.pack(&weight, &[]), &x, Start::Bias, &mut z, &mut scratch);
        let (mut sums, mut slope) = (Vec::new(), vec![0.0; outer]);
        let mut gradient = vec![0.0; weight.len()];
        tiled.accumulate((&x, &dz), &mut sums, &mut slope, &mut scratch);
        tiled.finish(&mut sums, &mut gradient);

        // Of some images the values, and of some weights the slopes.
        let mut expected = vec![0.0f64; 4 * to.len()];
        walk((r, padding, [height, width], [inner, outer], 4), |pixel, o, w, from_pixel, c, _| {
            let x = f64::from(x[from_pixel * inner + c]);
            expected[pixel * outer + o] += f64::from(weight[w]) * x;
        });
        let off = error(&z[..4 * to.len()], &expected, to);
        assert!(off < 1.6e-6, "{case:?}: values are off by {off:e}");
        let mut expected = vec![0.0f64; weight.len()];
        walk(case, |pixel, o, w, from_pixel, c, _| {
            if o < 2 {
                let x = f64::from(x[from_pixel * inner + c]);
                expected[w] += f64::from(dz[pixel * outer + o]) * x;
            }
        });
        let (mut off, mut size) = (0.0, 0.0);
        for (w, (got, expected)) in gradient.iter().zip(&expected).enumerate() {
            if w % outer < 2 {
                off += (f64::from(*got) - expected).powi(2);
                size += expected * expected;
            }
        }
        let off = (off / size).sqrt();
        assert!(off < 1.6e-6, "{case:?}: slopes are off by {off:e}");
    }
}
