//! Layers against finite differences, plain loops and each other.

use super::*;
use crate::nn::activation::Activation;
use crate::nn::graph::plan::Op;
use crate::nn::graph::{Conv, EPSILON, Image, Pool, PoolKind, Shortcut};
use crate::nn::parameters::Role;
use crate::nn::{MOMENTUM, NetworkSpec};
use rand::RngExt as _;

fn draw(n: usize, stream: u64) -> Vec<f32> {
    let mut rng = crate::rng::stream(11, "test", stream);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

fn rows(n: usize, d: usize, stream: u64) -> Mat {
    Mat::from_shape_vec((n, d), draw(n * d, stream)).unwrap()
}

/// Weights and statistics drawn so that nothing is at its default.
fn shake(network: &mut dyn Network, stream: u64) {
    let layouts = network.parameters().layouts().to_vec();
    for (u, unit) in network.parameters_mut().units_mut().iter_mut().enumerate() {
        *unit = draw(unit.len(), stream + u as u64);
        for t in &layouts[u] {
            for w in &mut unit[t.range()] {
                match t.role {
                    Role::Weight { fan_in } => *w *= (3.0 / fan_in as f32).sqrt(),
                    Role::Scale => *w += 1.5,
                    _ => {}
                }
            }
        }
    }
    for unit in network.parameters_mut().statistics_mut() {
        *unit = draw(unit.len(), stream + 100);
        unit.iter_mut().for_each(|v| *v = 0.2 * *v + 0.8);
    }
}

/// Every kind of layer in every shape that takes a path of its own.
fn cases() -> Vec<(&'static str, Graph)> {
    let conv = |kernel: [usize; 2], channels, stride: [usize; 2], padding: [usize; 2]| Conv {
        input: Image::vector(1),
        channels,
        kernel,
        stride,
        padding,
        groups: 1,
        bias: true,
        flat: false,
    };
    let start = |height, width, channels| Graph::new(Image { height, width, channels }).unwrap();
    let smooth = Activation::Tanh;
    let mut all = Vec::new();

    let mut g = start(5, 4, 3);
    let a = g.conv("a", 0, conv([3, 3], 8, [1, 1], [1, 1])).unwrap();
    g.activate(smooth).unwrap();
    let b = g.conv("b", a, conv([3, 2], 5, [2, 1], [1, 0])).unwrap();
    g.dense("c", b, 3).unwrap();
    all.push(("convolutions", g));

    let mut g = start(6, 6, 2);
    let a = g.conv("a", 0, conv([1, 1], 6, [2, 2], [0, 0])).unwrap();
    g.activate(Activation::SinCos).unwrap();
    let b = g.conv("b", a, Conv { groups: 3, ..conv([3, 3], 9, [1, 1], [1, 1]) }).unwrap();
    g.activate(smooth).unwrap();
    let c = g.conv("c", b, Conv { bias: false, ..conv([2, 2], 1, [1, 1], [1, 1]) }).unwrap();
    let d = g.conv("d", c, conv([3, 3], 4, [1, 1], [0, 0])).unwrap();
    g.dense("e", d, 1).unwrap();
    all.push(("groups, one channel and no bias", g));

    let mut g = start(7, 6, 2);
    let a = g.conv("a", 0, conv([3, 3], 4, [1, 1], [1, 1])).unwrap();
    let size = [2, 3];
    let pool = |kind| Pool::new(Image::vector(1), kind, size, [2, 1]);
    let b = g.pool("p", a, pool(PoolKind::Max)).unwrap();
    let b = g.conv("b", b, conv([1, 1], 3, [1, 1], [0, 0])).unwrap();
    g.activate(smooth).unwrap();
    let b = g.pool("q", b, pool(PoolKind::Average)).unwrap();
    let b = g.pool("r", b, Pool::global(g.image(b))).unwrap();
    let b = g.dense("c", b, 5).unwrap();
    g.activate(smooth).unwrap();
    g.dense("d", b, 2).unwrap();
    all.push(("pools", g));

    let mut g = start(7, 6, 2);
    let a = g.conv("a", 0, conv([3, 3], 4, [1, 1], [1, 1])).unwrap();
    // Largest values switch within a finite difference; PyTorch's gradients test those.
    let pool = |counted| {
        let pool = Pool::new(Image::vector(1), PoolKind::Average, [3, 3], [2, 2]);
        Pool { padding: [1, 1], counted, ..pool }
    };
    let b = g.pool("p", a, pool(true)).unwrap();
    let b = g.conv("b", b, conv([1, 1], 3, [1, 1], [0, 0])).unwrap();
    g.activate(smooth).unwrap();
    let c = g.pool("q", b, pool(true)).unwrap();
    let d = g.pool("r", b, pool(false)).unwrap();
    let b = g.add("s", c, d).unwrap();
    g.dense("d", b, 2).unwrap();
    all.push(("pools with borders", g));

    let mut g = start(6, 6, 3);
    let a = g.conv("a", 0, Conv { bias: false, ..conv([3, 3], 4, [1, 1], [1, 1]) }).unwrap();
    let a = g.norm("n", a, EPSILON);
    g.activate(smooth).unwrap();
    let b = g.conv("b", a, Conv { bias: false, ..conv([3, 3], 8, [2, 2], [1, 1]) }).unwrap();
    let b = g.norm("m", b, EPSILON);
    let cut = Shortcut { input: Image::vector(1), stride: [2, 2], before: 2, channels: 8 };
    let s = g.shortcut("s", a, cut).unwrap();
    let c = g.add("t", b, s).unwrap();
    g.activate(smooth).unwrap();
    let p = g.conv("p", c, conv([1, 1], 8, [1, 1], [0, 0])).unwrap();
    let p = g.norm("o", p, EPSILON);
    let q = g.add("u", c, p).unwrap();
    let q = g.norm("v", q, EPSILON);
    let q = g.pool("r", q, Pool::global(g.image(q))).unwrap();
    g.dense("d", q, 2).unwrap();
    all.push(("norms and residuals", g));

    let mut g = start(4, 4, 3);
    let n = g.norm("n", 0, EPSILON);
    let c = g.conv("c", n, conv([3, 3], 3, [1, 1], [1, 1])).unwrap();
    let c = g.add("t", c, 0).unwrap();
    g.activate(smooth).unwrap();
    let p = Pool::new(Image::vector(1), PoolKind::Average, [2, 2], [2, 2]);
    let z = g.pool("z", 0, p).unwrap();
    let c = g.pool("p", c, p).unwrap();
    let c = g.add("w", c, z).unwrap();
    g.dense("d", c, 2).unwrap();
    all.push(("the input read by every kind of layer", g));

    // Large enough for tiles, whole ones and such as are cut off.
    let mut g = start(10, 9, 2);
    let a = g.conv("a", 0, conv([3, 3], 17, [1, 1], [1, 1])).unwrap();
    g.activate(smooth).unwrap();
    let b = g.conv("b", a, conv([5, 5], 32, [1, 1], [2, 2])).unwrap();
    g.activate(smooth).unwrap();
    let c = g.conv("c", b, Conv { bias: false, ..conv([3, 3], 16, [1, 1], [0, 1]) }).unwrap();
    g.activate(smooth).unwrap();
    let d = g.pool("r", c, Pool::global(g.image(c))).unwrap();
    g.dense("d", d, 2).unwrap();
    all.push(("tiles", g));
    all
}

/// Networks of every case: in training and frozen, with vector instructions and without.
fn networks() -> Vec<(String, ConvNetwork)> {
    let mut all = Vec::new();
    for (name, graph) in cases() {
        for (units, frozen, portable) in
            [(3, false, false), (3, true, false), (1, false, true), (1, true, true)]
        {
            let mut network = ConvNetwork::new(graph.clone(), units, Order::Chw);
            if portable {
                network = network.portable();
            }
            shake(&mut network, 20);
            network.freeze(frozen);
            all.push((format!("{name}, {units} units, frozen {frozen}"), network));
        }
    }
    all
}

/// Σ over rows and functions of cotangent times output under a tape.
fn objective(network: &ConvNetwork, x: &Mat, cotangent: &Mat) -> f64 {
    let out = network.forward(x.view(), Some(&mut Tape::default())).unwrap();
    out.iter().zip(cotangent).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn along(network: &ConvNetwork, direction: &Parameters, step: f32) -> ConvNetwork {
    let mut moved = ConvNetwork::new(network.graph().clone(), network.units(), Order::Chw);
    *moved.parameters_mut() = network.parameters().clone();
    moved.freeze(network.frozen);
    for (to, by) in moved.parameters_mut().units_mut().iter_mut().zip(direction.units()) {
        to.iter_mut().zip(by).for_each(|(to, by)| *to += step * by);
    }
    moved
}

#[test]
fn gradients_agree_with_finite_differences_layer_by_layer() {
    for (name, network) in networks() {
        let x = rows(13, network.inputs(), 1);
        let cotangent = rows(13, network.functions(), 2);
        let mut tape = Tape::default();
        network.forward(x.view(), Some(&mut tape)).unwrap();
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
        // Two directions for each tensor of each unit, so that no layer hides behind another one: that of
        // the gradient, along which wrong sizes show best, and any, along which missing entries do.
        let size: f64 = cotangent.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        for (u, layouts) in network.parameters().layouts().iter().enumerate() {
            for tensor in layouts {
                let at = tensor.range();
                let own = &gradient.units()[u][at.clone()];
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let norm = |v: &[f32]| dot(v, v).sqrt();
                for by in [own.to_vec(), draw(tensor.size(), 5)] {
                    // Nothing depends on a bias before a norm.
                    let length = norm(&by).max(1e-4 * size);
                    let by: Vec<f32> = by.iter().map(|v| (f64::from(*v) / length) as f32).collect();
                    let mut direction = network.parameters().zeros_like();
                    direction.units_mut()[u][at.clone()].copy_from_slice(&by);
                    let slope = dot(&by, own);
                    let h = 4e-3;
                    let values = [-2.0, -1.0, 1.0, 2.0].map(|t| {
                        objective(&along(&network, &direction, (t * h) as f32), &x, &cotangent)
                    });
                    // The five-point rule: its error is h⁴; what is left is rounding in the forward pass.
                    let found =
                        (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * h);
                    let rounding = 1.5e-6 * size / h;
                    let tolerance = 2e-3 * norm(own).max(1e-3 * size) + rounding;
                    assert!(
                        (slope - found).abs() < tolerance,
                        "{name}, {}: {slope} is not {found} within {tolerance}",
                        tensor.name
                    );
                }
            }
        }
    }
}

/// Convolutions whose gradient over this many images is found by tiles.
pub(super) fn tiled(network: &ConvNetwork, images: usize) -> usize {
    let of = |kernel: &&Op| matches!(kernel, Op::Conv(c) if c.is_tiled(images));
    network.plan.ops.iter().filter(of).count()
}

#[test]
fn gradients_over_tiles_are_sums_of_plain_ones() {
    let (_, graph) = cases().pop().unwrap();
    for (units, rows_in_all) in [(1, 430), (3, 170)] {
        let mut network = ConvNetwork::new(graph.clone(), units, Order::Chw);
        shake(&mut network, 20);
        let (x, cotangent) =
            (rows(rows_in_all, network.inputs(), 1), rows(rows_in_all, 2 * units, 2));
        // Some blocks for each segment, and enough tiles; five rows are too few for them.
        let least = network.segments(rows_in_all).iter().map(Range::len).min().unwrap();
        assert_eq!((tiled(&network, least), tiled(&network, 5)), (2, 0));
        assert!(network.plan.frozen[0].images < least);
        let gradient = |range: Range<usize>| {
            let mut tape = Tape::default();
            let part = ndarray::s![range, ..];
            network.forward(x.slice(part), Some(&mut tape)).unwrap();
            let mut gradient = network.parameters().zeros_like();
            network.vjp(&tape, cotangent.slice(part), &mut gradient).unwrap();
            gradient
        };
        let all = gradient(0..rows_in_all);
        let mut sums: Vec<Vec<f64>> = all.units().iter().map(|u| vec![0.0; u.len()]).collect();
        for start in (0..rows_in_all).step_by(5) {
            for (sum, part) in sums.iter_mut().zip(gradient(start..start + 5).units()) {
                sum.iter_mut().zip(part).for_each(|(sum, g)| *sum += f64::from(*g));
            }
        }
        for (unit, layouts) in network.parameters().layouts().iter().enumerate() {
            for tensor in layouts {
                let (mut off, mut size) = (0.0, 0.0);
                let got = &all.units()[unit][tensor.range()];
                for (got, sum) in got.iter().zip(&sums[unit][tensor.range()]) {
                    off += (f64::from(*got) - sum).powi(2);
                    size += sum * sum;
                }
                let error = (off / size).sqrt();
                assert!(error < 5e-6, "{units} units, {}: {error:e}", tensor.name);
            }
        }
    }
}

#[test]
fn forward_and_reverse_mode_are_adjoint() {
    for (name, mut network) in networks() {
        network.freeze(true);
        let x = rows(13, network.inputs(), 1);
        let u = rows(13, network.functions(), 2);
        let mut v = network.parameters().zeros_like();
        for (i, unit) in v.units_mut().iter_mut().enumerate() {
            *unit = draw(unit.len(), 40 + i as u64);
        }
        let mut tape = Tape::default();
        network.forward(x.view(), Some(&mut tape)).unwrap();
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, u.view(), &mut gradient).unwrap();
        let jv = network.jvp(x.view(), &v).unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let left = dot(u.as_slice().unwrap(), jv.as_slice().unwrap());
        let right: f64 = v.units().iter().zip(gradient.units()).map(|(v, g)| dot(v, g)).sum();
        let size = dot(jv.as_slice().unwrap(), jv.as_slice().unwrap()).sqrt();
        assert!((left - right).abs() < 1e-5 * size, "{name}: {left} is not {right} of {size}");
    }
}

#[test]
fn inference_agrees_with_a_frozen_tape_and_rows_are_independent() {
    for (name, mut network) in networks() {
        network.freeze(true);
        let x = rows(70, network.inputs(), 1);
        let all = network.forward(x.view(), None).unwrap();
        let taped = network.forward(x.view(), Some(&mut Tape::default())).unwrap();
        for (a, b) in all.iter().zip(&taped) {
            assert!((a - b).abs() < 3e-6 * (1.0 + b.abs()), "{name}: {a} is not {b}");
        }
        let hidden = network.hidden(x.view()).unwrap();
        assert_eq!(hidden.dim(), (70, network.hidden_width()), "{name}");
        for (start, end) in [(0, 1), (37, 70), (5, 6), (2, 35)] {
            let x = x.slice(ndarray::s![start..end, ..]);
            let here = ndarray::s![start..end, ..];
            assert_eq!(network.forward(x, None).unwrap(), all.slice(here), "{name}");
            assert_eq!(network.hidden(x).unwrap(), hidden.slice(here), "{name}");
            let taped_some = network.forward(x, Some(&mut Tape::default())).unwrap();
            assert_eq!(taped_some, taped.slice(here), "{name}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for (name, network) in networks() {
        let x = rows(29, network.inputs(), 1);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut tape = Tape::default();
                let out = network.forward(x.view(), Some(&mut tape)).unwrap();
                let mut gradient = network.parameters().zeros_like();
                network.vjp(&tape, out.view(), &mut gradient).unwrap();
                (out, gradient)
            })
        };
        assert_eq!(run(1), run(3), "{name}");
    }
}

#[test]
fn a_convolution_is_what_its_definition_says() {
    let (image, channels) = (Image { height: 5, width: 6, channels: 2 }, 3);
    let (kernel, stride, padding) = ([3, 2], [2, 1], [2, 1]);
    let mut graph = Graph::new(image).unwrap();
    let shape = Conv {
        input: image,
        channels,
        kernel,
        stride,
        padding,
        groups: 1,
        bias: true,
        flat: false,
    };
    let last = graph.conv("c", 0, shape).unwrap();
    let out = graph.image(last);
    assert_eq!((out.height, out.width), (4, 7));
    let mut network = ConvNetwork::new(graph, 1, Order::Hwc);
    shake(&mut network, 3);
    let x = rows(2, image.len(), 9);
    let mut input = Vec::new();
    network.images(x.view(), &mut input).unwrap();
    let (stored, values) = (network.plan.stored[last], network.values(&input, last));
    let weights = &network.parameters().units()[0];
    for i in 0..2 {
        for y in 0..out.height {
            for x0 in 0..out.width {
                for o in 0..channels {
                    let mut sum = f64::from(weights[36 + o]);
                    for (dy, dx) in (0..3).flat_map(|dy| (0..2).map(move |dx| (dy, dx))) {
                        let (row, column) = (y * 2 + dy, x0 + dx);
                        if row < 2 || column < 1 || row > 6 || column > 6 {
                            continue;
                        }
                        for c in 0..2 {
                            let w = weights[((dy * 2 + dx) * 2 + c) * 3 + o];
                            let v = x[[i, ((row - 2) * 6 + column - 1) * 2 + c]];
                            sum += f64::from(w) * f64::from(v);
                        }
                    }
                    let got = values[(i * out.pixels() + y * out.width + x0) * stored.stride + o];
                    assert!((f64::from(got) - sum).abs() < 1e-5, "{got} is not {sum}");
                }
            }
        }
    }
}

#[test]
fn orders_of_a_row_are_permutations_of_each_other() {
    let build = |order: &str| -> Box<dyn Network> {
        let text =
            format!("convnet(image=[6, 6, 3], order={order}, channels=[4], pool=1, kernel=3)");
        text.parse::<NetworkSpec>().unwrap().build(108, 2, 1, 0).unwrap()
    };
    let hwc = rows(5, 108, 1);
    let chw = Mat::from_shape_fn((5, 108), |(i, j)| hwc[[i, j % 36 * 3 + j / 36]]);
    let (a, b) = (build("hwc"), build("chw"));
    assert_eq!(a.forward(hwc.view(), None).unwrap(), b.forward(chw.view(), None).unwrap());
}

#[test]
fn running_statistics_follow_the_batches() {
    let spec: NetworkSpec =
        "convnet(image=[6, 6, 1], channels=[3], kernel=3, pool=1, norm=batch)".parse().unwrap();
    let mut network = spec.build(36, 1, 1, 0).unwrap();
    let x = rows(40, 36, 1);
    let mut tape = Tape::default();
    let training = network.forward(x.view(), Some(&mut tape)).unwrap();
    assert_eq!(network.parameters().statistics()[0], vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    // After many updates by one batch the running statistics are that batch's, with the unbiased
    // variance: 1440 pixels against 1439.
    for _ in 0..300 {
        network.update_running_statistics(&tape, MOMENTUM);
    }
    let untaped = network.forward(x.view(), None).unwrap();
    for (a, b) in training.iter().zip(&untaped) {
        assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} is not {b}");
    }
    // One update moves them a tenth of the way.
    let mut fresh = spec.build(36, 1, 1, 0).unwrap();
    fresh.update_running_statistics(&tape, MOMENTUM);
    let (once, limit) =
        (&fresh.parameters().statistics()[0], &network.parameters().statistics()[0]);
    for c in 0..3 {
        assert!((once[c] - 0.1 * limit[c]).abs() < 1e-6);
        assert!((once[3 + c] - 0.9 - 0.1 * limit[3 + c]).abs() < 1e-6);
    }
}
