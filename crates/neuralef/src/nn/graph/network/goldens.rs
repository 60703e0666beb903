//! Layers and whole networks against PyTorch in double precision: `goldens/conv.py` draws and names
//! the cases, this file builds them.
//!
//! Errors are ‖ours − theirs‖/‖theirs‖, tensor by tensor. An entry of a gradient is a sum of terms of
//! either sign, and the rounding of single precision is a share of the terms, not of what they leave:
//! entries that cancel have no relative precision of their own, and the norm of the tensor measures
//! the size of the terms. Single precision leaves some 2⁻²⁴ = 6·10⁻⁸ per operation, which a dozen
//! layers take to a few 10⁻⁷, and the cancellation of a shift before batch normalisation to 10⁻⁶:
//! PyTorch's own error in single precision is below 1.5·10⁻⁶ in every case. 10⁻⁵ is the line.

use serde_json::Value as Json;

use super::tests::tiled;
use super::*;
use crate::nn::activation::Activation;
use crate::nn::graph::{Conv, EPSILON, Image, Pool, PoolKind, Shortcut, Value};
use crate::nn::weights::Layout;
use crate::nn::{MOMENTUM, NetworkSpec, TensorLayout};

const LINE: f64 = 1e-5;

fn numbers(value: &Json) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Whole numbers over 64, as the file has what goes in.
fn singles(value: &Json) -> Vec<f32> {
    numbers(value).into_iter().map(|v| (v / 64.0) as f32).collect()
}

/// A convolution: kernel, channels out, stride, padding, groups, bias.
fn conv(
    kernel: [usize; 2],
    channels: usize,
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    bias: bool,
) -> Conv {
    let input = Image::vector(1);
    Conv { input, channels, kernel, stride, padding, groups, bias, flat: false }
}

/// A square kernel of 3 with a border of 1.
fn usual(channels: usize, stride: usize, bias: bool) -> Conv {
    conv([3; 2], channels, [stride; 2], [1; 2], 1, bias)
}

fn pool(kind: PoolKind, kernel: [usize; 2], stride: [usize; 2]) -> Pool {
    Pool::new(Image::vector(1), kind, kernel, stride)
}

/// conv, ReLU, conv and a shortcut around both, ReLU, head.
fn residual(
    g: &mut Graph,
    channels: usize,
    stride: usize,
    cut: impl FnOnce(&mut Graph) -> Result<Value>,
) -> Result<Value> {
    g.conv("a", 0, usual(channels, stride, false))?;
    let a = g.activate(Activation::Relu)?;
    let b = g.conv("b", a, usual(channels, 1, true))?;
    let cut = cut(g)?;
    g.add("sum", b, cut)?;
    g.activate(Activation::Relu)?;
    g.dense("head", g.last(), 3)
}

/// The network of a case that is not the text of a network.
fn layers(name: &str, image: Image) -> Result<Graph> {
    let mut graph = Graph::new(image)?;
    let g = &mut graph;
    let mut heads = 3;
    match name {
        "conv" => {
            g.conv("a", 0, conv([3, 2], 4, [2, 1], [1, 0], 1, true))?;
            let a = g.activate(Activation::Tanh)?;
            g.conv("b", a, conv([3; 2], 5, [1; 2], [2; 2], 1, false))?;
        }
        "groups" => {
            heads = 2;
            g.conv("a", 0, conv([1; 2], 6, [2; 2], [0; 2], 1, true))?;
            let a = g.activate(Activation::Erf)?;
            g.conv("b", a, conv([3; 2], 9, [1; 2], [1; 2], 3, true))?;
            let b = g.activate(Activation::Silu)?;
            g.conv("c", b, conv([2, 3], 9, [1, 2], [0, 1], 9, false))?;
        }
        "norm" => {
            heads = 2;
            let a = g.conv("a", 0, usual(5, 1, false))?;
            g.norm("n", a, EPSILON);
            let n = g.activate(Activation::Gelu)?;
            let b = g.conv("b", n, usual(3, 2, false))?;
            g.norm("m", b, 1e-3);
        }
        "max" => {
            let a = g.conv("a", 0, usual(3, 1, true))?;
            g.pool("pool", a, pool(PoolKind::Max, [3, 2], [2, 1]))?;
            g.activate(Activation::LeakyRelu)?;
        }
        "average" => {
            g.conv("a", 0, usual(3, 1, true))?;
            let a = g.activate(Activation::Tanh)?;
            g.pool("pool", a, pool(PoolKind::Average, [2, 3], [2, 1]))?;
        }
        "borders" => {
            let a = g.conv("a", 0, usual(3, 1, true))?;
            let p = Pool { padding: [1; 2], ..pool(PoolKind::Max, [3, 2], [2, 1]) };
            let p = g.pool("pool", a, p)?;
            g.conv("b", p, conv([1; 2], 4, [1; 2], [0; 2], 1, true))?;
            let b = g.activate(Activation::Tanh)?;
            let p = Pool { padding: [1; 2], ..pool(PoolKind::Average, [2, 3], [1, 2]) };
            let p = g.pool("counted", b, p)?;
            let bordered = pool(PoolKind::Average, [3; 2], [2; 2]);
            g.pool("own", p, Pool { padding: [1; 2], counted: false, ..bordered })?;
        }
        "global" => {
            g.conv("a", 0, conv([3; 2], 7, [1; 2], [0; 2], 1, true))?;
            let a = g.activate(Activation::Gelu)?;
            let p = g.pool("pool", a, Pool::global(g.image(a)))?;
            g.dense("b", p, 5)?;
            g.activate(Activation::Relu)?;
        }
        "tiles" => {
            g.conv("a", 0, conv([1; 2], 16, [1; 2], [0; 2], 1, true))?;
            let a = g.activate(Activation::Tanh)?;
            g.conv("b", a, conv([5; 2], 32, [1; 2], [2; 2], 1, true))?;
            let b = g.activate(Activation::Tanh)?;
            g.conv("c", b, usual(16, 1, false))?;
            let c = g.activate(Activation::Tanh)?;
            g.pool("pool", c, Pool::global(g.image(c)))?;
        }
        "identity" => return residual(g, 3, 1, |_| Ok(0)).map(|_| graph),
        "option_a" => {
            let input = image;
            let cut = Shortcut { input, stride: [2; 2], before: 1, channels: 5 };
            return residual(g, 5, 2, |g| g.shortcut("cut", 0, cut)).map(|_| graph);
        }
        "projection" => {
            let cut = conv([1; 2], 4, [2; 2], [0; 2], 1, true);
            return residual(g, 4, 2, |g| g.conv("cut", 0, cut)).map(|_| graph);
        }
        other => panic!("{other} is no case"),
    }
    g.dense("head", g.last(), heads)?;
    Ok(graph)
}

/// The network of a case, without its weights.
fn network(name: &str, image: Image, heads: usize) -> Box<dyn Network> {
    if name.contains('(') {
        let spec: NetworkSpec = name.parse().unwrap();
        return spec.build(image.len(), 1, heads, 0).unwrap();
    }
    let network = ConvNetwork::new(layers(name, image).unwrap(), 1, Order::Chw).with_outputs(heads);
    Box::new(network)
}

/// Fills every tensor of `to` from the tensors of its name.
fn fill(to: &mut Parameters, from: &Json) {
    to.fill_tensors(|_, tensor, to| {
        let values = singles(&from[tensor.name.as_str()]);
        assert_eq!(values.len(), to.len(), "{}", tensor.name);
        Layout::of(tensor).pairs().for_each(|(ours, theirs)| to[ours] = values[theirs]);
        Ok(())
    })
    .unwrap();
}

fn distance(ours: impl Iterator<Item = f32>, theirs: &[f64]) -> f64 {
    let ours: Vec<f64> = ours.map(f64::from).collect();
    assert_eq!(ours.len(), theirs.len());
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    let apart: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&apart) / norm(theirs)
}

fn tensor_distance(tensor: &TensorLayout, ours: &[f32], theirs: &Json) -> f64 {
    let theirs = numbers(&theirs[tensor.name.as_str()]);
    let mut placed = vec![0.0; ours.len()];
    Layout::of(tensor).pairs().for_each(|(o, t)| placed[o] = theirs[t]);
    distance(ours.iter().copied(), &placed)
}

/// Outputs and gradients under a tape against what the file has; the tape, and the largest error.
fn pass(network: &dyn Network, case: &Json, truth: &Json, what: &str) -> (Tape, f64) {
    let columns = network.outputs();
    let rows = |values: Vec<f32>| Mat::from_shape_vec((values.len() / columns, columns), values);
    let (x, cotangent) = (points(network, case), rows(singles(&case["cotangent"])).unwrap());
    let mut tape = Tape::default();
    let output = network.forward(x.view(), Some(&mut tape)).unwrap();
    let mut worst = distance(output.iter().copied(), &numbers(&truth["output"]));
    assert!(worst < LINE, "{what}: output is off by {worst:.1e}");
    let mut gradient = network.parameters().zeros_like();
    network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
    let mut compared = 0;
    for (_, tensor, ours) in gradient.tensors() {
        let error = tensor_distance(tensor, ours, &truth["gradient"]);
        assert!(error < LINE, "{what}: gradient of {} is off by {error:.1e}", tensor.name);
        worst = worst.max(error);
        compared += 1;
    }
    assert_eq!(compared, truth["gradient"].as_object().unwrap().len(), "{what}");
    (tape, worst)
}

fn points(network: &dyn Network, case: &Json) -> Mat {
    let values = singles(&case["x"]);
    Mat::from_shape_vec((values.len() / network.inputs(), network.inputs()), values).unwrap()
}

#[test]
fn the_case_of_tiles_is_computed_by_tiles() {
    let image = Image { height: 32, width: 32, channels: 1 };
    let network = ConvNetwork::new(layers("tiles", image).unwrap(), 1, Order::Chw);
    // The gradient by the 3 × 3 weight is by tiles from four images on, and a segment has one.
    assert_eq!((tiled(&network, 1), tiled(&network, 4)), (1, 2));
}

#[test]
fn layers_and_networks_agree_with_pytorch() {
    let golden: Json = serde_json::from_str(include_str!("../../goldens/conv.json")).unwrap();
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 15);
    let mut worst = (0.0, "");
    for (name, case) in cases {
        let sides: Vec<usize> = numbers(&case["image"]).iter().map(|v| *v as usize).collect();
        let image = Image { height: sides[0], width: sides[1], channels: sides[2] };
        let rows = numbers(&case["x"]).len() / image.len();
        let heads = numbers(&case["cotangent"]).len() / rows;
        let mut network = network(name, image, heads);
        fill(network.parameters_mut(), &case["parameters"]);

        network.freeze(true);
        let (_, mut error) = pass(&*network, case, case, name);
        let x = points(&*network, case);
        let untaped = network.forward(x.view(), None).unwrap();
        let apart = distance(untaped.iter().copied(), &numbers(&case["output"]));
        assert!(apart < LINE, "{name}: output without a tape is off by {apart:.1e}");
        let mut direction = network.parameters().zeros_like();
        fill(&mut direction, &case["direction"]);
        let along = network.jvp(x.view(), &direction).unwrap();
        let apart = distance(along.iter().copied(), &numbers(&case["jvp"]));
        assert!(apart < LINE, "{name}: derivative along a direction is off by {apart:.1e}");
        error = error.max(apart);

        network.freeze(false);
        assert_eq!(network.uses_batch_statistics(), case.get("batch").is_some(), "{name}");
        if let Some(batch) = case.get("batch") {
            let (tape, of_batch) = pass(&*network, case, batch, &format!("{name} in training"));
            network.update_running_statistics(&tape, MOMENTUM);
            for (_, tensor, ours) in network.parameters().tensors() {
                if tensor.name.contains("running") {
                    let error = tensor_distance(tensor, ours, &batch["settled"]);
                    assert!(error < LINE, "{name}: {} is off by {error:.1e}", tensor.name);
                }
            }
            error = error.max(of_batch);
        }
        if error > worst.0 {
            worst = (error, name);
        }
    }
    println!("largest error {:.1e}, of {}", worst.0, worst.1);
}
