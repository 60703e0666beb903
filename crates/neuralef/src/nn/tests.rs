//! Whole networks against a re-implementation in double precision, against PyTorch, and bit for bit.

use super::activation::{Activation, tests::reference};
use super::dense::{Dense, Shape};
use super::init::Init;
use super::*;
use crate::spec::Choice as _;
use rand::RngExt as _;

fn draw(rows: usize, columns: usize, stream: u64) -> Mat {
    let mut rng = crate::rng::stream(11, "test", stream);
    Mat::from_shape_fn((rows, columns), |_| rng.random_range(-1.5f32..1.5))
}

fn shape(inputs: usize, units: usize, heads: usize, hidden: &[usize], a: Activation) -> Shape {
    Shape { inputs, units, heads, outputs: 1, hidden: hidden.to_vec(), activation: a }
}

/// One network of every kind of shape: one input, single columns, no hidden layer, odd widths, heads.
fn shapes(a: Activation) -> Vec<Shape> {
    vec![
        shape(1, 3, 1, &[32, 32], a),
        shape(3, 2, 1, &[10], a),
        shape(5, 1, 4, &[18, 6], a),
        shape(4, 1, 1, &[8, 2, 34], a),
        shape(6, 2, 1, &[], a),
        shape(7, 1, 3, &[], a),
        Shape { outputs: 3, ..shape(2, 2, 3, &[10], a) },
        Shape { outputs: 2, ..shape(3, 1, 6, &[8], a) },
    ]
}

/// h in double precision, row by row.
fn exact(shape: &Shape, units: &[Vec<f64>], x: MatRef<'_>) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.rows() {
        for unit in units {
            let mut a: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            let mut rest = unit.as_slice();
            for (l, outer) in shape.hidden.iter().chain([&shape.heads]).copied().enumerate() {
                let (w, after) = rest.split_at(a.len() * outer);
                let (b, after) = after.split_at(outer);
                rest = after;
                a = (0..outer)
                    .map(|j| {
                        let products = a.iter().zip(w.iter().skip(j).step_by(outer));
                        let z = b[j] + products.map(|(a, w)| a * w).sum::<f64>();
                        if l == shape.hidden.len() {
                            z
                        } else {
                            reference(shape.activation, z, j < outer / 2)
                        }
                    })
                    .collect();
            }
            out.extend(a);
        }
    }
    out
}

fn double(p: &Parameters) -> Vec<Vec<f64>> {
    p.units().iter().map(|u| u.iter().map(|v| f64::from(*v)).collect()).collect()
}

fn dot(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(m: &Mat) -> Vec<f64> {
    m.iter().map(|v| f64::from(*v)).collect()
}

/// ‖a − b‖/‖b‖.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let sum = |f: &dyn Fn((&f64, &f64)) -> f64| a.iter().zip(b).map(f).sum::<f64>().sqrt();
    sum(&|(a, b)| (a - b) * (a - b)) / sum(&|(_, b)| b * b).max(1e-30)
}

fn networks() -> Vec<(Shape, Dense)> {
    let mut all = Vec::new();
    for &(name, a) in Activation::ALL {
        for shape in shapes(a) {
            let network = || Dense::new(shape.clone(), Init::Auto, 3).unwrap();
            all.push((shape.clone(), network()));
            if name == "sin_cos" || name == "gelu" {
                all.push((shape.clone(), network().portable()));
            }
        }
    }
    all
}

fn random_like(p: &Parameters, stream: u64) -> Parameters {
    let mut rng = crate::rng::stream(12, "test", stream);
    let mut p = p.zeros_like();
    p.units_mut().iter_mut().flatten().for_each(|v| *v = rng.random_range(-1.0f32..1.0));
    p
}

#[test]
fn values_agree_with_double_precision() {
    for (shape, network) in networks() {
        let x = draw(13, shape.inputs, 0);
        let h = network.forward(x.view(), None).unwrap();
        assert_eq!(h.dim(), (13, network.functions() * network.outputs()));
        let truth = exact(&shape, &double(network.parameters()), x.view());
        let error = distance(&wide(&h), &truth);
        assert!(error < 1e-6, "{shape:?}: {error}");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (shape, network) in networks() {
        let x = draw(7, shape.inputs, 1);
        let cotangent = draw(7, network.functions() * network.outputs(), 2);
        let mut tape = Tape::default();
        network.forward(x.view(), Some(&mut tape)).unwrap();
        let mut gradient = random_like(network.parameters(), 0);
        network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
        let units = double(network.parameters());
        let value = |units: &[Vec<f64>]| dot(exact(&shape, units, x.view()), wide(&cotangent));
        let (mut truth, mut got) = (Vec::new(), Vec::new());
        for u in 0..units.len() {
            for i in (0..units[u].len()).step_by(1 + units[u].len() / 60) {
                let moved = |by: f64| {
                    let mut units = units.clone();
                    units[u][i] += by;
                    value(&units)
                };
                truth.push((moved(1e-6) - moved(-1e-6)) / 2e-6);
                got.push(f64::from(gradient.units()[u][i]));
            }
        }
        let error = distance(&got, &truth);
        assert!(error < 2e-6, "{shape:?}: {error}");
    }
}

#[test]
fn forward_mode_agrees_with_finite_differences_and_is_the_adjoint() {
    for (shape, network) in networks() {
        let x = draw(101, shape.inputs, 3);
        let u = draw(101, network.functions() * network.outputs(), 4);
        let v = random_like(network.parameters(), 1);
        let jv = network.jvp(x.view(), &v).unwrap();
        let mut tape = Tape::default();
        network.forward(x.view(), Some(&mut tape)).unwrap();
        let mut jtu = network.parameters().zeros_like();
        network.vjp(&tape, u.view(), &mut jtu).unwrap();

        let units = double(network.parameters());
        let direction = double(&v);
        let moved = |by: f64| {
            let moved = |(unit, v): (&Vec<f64>, &Vec<f64>)| {
                unit.iter().zip(v).map(|(p, v)| p + by * v).collect()
            };
            let units: Vec<Vec<f64>> = units.iter().zip(&direction).map(moved).collect();
            exact(&shape, &units, x.view())
        };
        let difference = |(a, b): (f64, f64)| (a - b) / 2e-6;
        let truth: Vec<f64> = moved(1e-6).into_iter().zip(moved(-1e-6)).map(difference).collect();
        let error = distance(&wide(&jv), &truth);
        // A step of the difference may straddle the kink of a ReLU.
        assert!(error < 3e-6, "{shape:?}: {error}");

        let forward = dot(wide(&u), wide(&jv));
        let backward = dot(double(&jtu).concat(), direction.concat());
        let scale = dot(wide(&u), wide(&u)).sqrt() * dot(wide(&jv), wide(&jv)).sqrt();
        assert!((forward - backward).abs() < 1e-6 * scale, "{shape:?}: {forward} {backward}");
    }
}

#[test]
fn hidden_layers_reproduce_the_outputs() {
    for (shape, network) in networks() {
        let x = draw(9, shape.inputs, 5);
        let hidden = network.hidden(x.view()).unwrap();
        assert_eq!(hidden.dim(), (9, network.hidden_width()));
        if shape.hidden.is_empty() {
            assert_eq!(hidden, x);
            continue;
        }
        let h = network.forward(x.view(), None).unwrap();
        let width = hidden.ncols() / shape.units;
        for (u, unit) in network.parameters().units().iter().enumerate() {
            let last = &unit[unit.len() - (width + 1) * shape.heads..];
            let (w, b) = last.split_at(width * shape.heads);
            for row in 0..9 {
                for j in 0..shape.heads {
                    let weights = w.iter().skip(j).step_by(shape.heads).map(|w| f64::from(*w));
                    let features = (0..width).map(|i| f64::from(hidden[[row, u * width + i]]));
                    let sum = f64::from(b[j]) + dot(features, weights);
                    let got = f64::from(h[[row, u * shape.heads + j]]);
                    assert!((got - sum).abs() < 2e-6, "{shape:?}: {got} {sum}");
                }
            }
        }
    }
}

#[test]
fn rows_have_the_same_bits_wherever_they_stand() {
    for a in [Activation::SinCos, Activation::Gelu] {
        for shape in shapes(a) {
            let network = Dense::new(shape.clone(), Init::Auto, 3).unwrap();
            let x = draw(203, shape.inputs, 6);
            let (h, hidden) =
                (network.forward(x.view(), None).unwrap(), network.hidden(x.view()).unwrap());
            let mut tape = Tape::default();
            assert_eq!(network.forward(x.view(), Some(&mut tape)).unwrap(), h);
            for (start, end) in [(0, 1), (5, 6), (95, 98), (1, 203), (102, 203), (96, 192)] {
                let part = x.slice(ndarray::s![start..end, ..]);
                let rows = |m: &Mat| m.slice(ndarray::s![start..end, ..]).to_owned();
                assert_eq!(network.forward(part, None).unwrap(), rows(&h));
                assert_eq!(network.forward(part, Some(&mut tape)).unwrap(), rows(&h));
                assert_eq!(network.hidden(part).unwrap(), rows(&hidden));
            }
            // Neither the order of the rows nor their layout in memory matters.
            let reversed = x.slice(ndarray::s![..;-1, ..]);
            let expected = h.slice(ndarray::s![..;-1, ..]).to_owned();
            assert_eq!(network.forward(reversed, None).unwrap(), expected);
            assert_eq!(network.forward(reversed, Some(&mut tape)).unwrap(), expected);
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for shape in shapes(Activation::SinCos) {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let network = Dense::new(shape.clone(), Init::Auto, 3).unwrap();
                let x = draw(1001, shape.inputs, 7);
                let mut tape = Tape::default();
                let h = network.forward(x.view(), Some(&mut tape)).unwrap();
                let mut gradient = network.parameters().zeros_like();
                network.vjp(&tape, h.view(), &mut gradient).unwrap();
                let jv = network.jvp(x.view(), &gradient).unwrap();
                (h, gradient, jv, network.hidden(x.view()).unwrap())
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(7));
    }
}

#[test]
fn segments_of_a_large_batch_add_up() {
    for shape in [shape(2, 1, 3, &[16], Activation::Tanh), shape(2, 10, 1, &[16], Activation::Tanh)]
    {
        let network = Dense::new(shape, Init::Auto, 3).unwrap();
        let (x, u) = (draw(1000, 2, 8), draw(1000, network.functions() * network.outputs(), 9));
        let mut sum = vec![0.0; network.parameters().len()];
        let mut gradient = network.parameters().zeros_like();
        let mut tape = Tape::default();
        for start in (0..1000).step_by(50) {
            let rows = ndarray::s![start..start + 50, ..];
            network.forward(x.slice(rows), Some(&mut tape)).unwrap();
            network.vjp(&tape, u.slice(rows), &mut gradient).unwrap();
            let part = double(&gradient).concat();
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
        network.forward(x.view(), Some(&mut tape)).unwrap();
        network.vjp(&tape, u.view(), &mut gradient).unwrap();
        assert!(distance(&double(&gradient).concat(), &sum) < 2e-6);
    }
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

#[test]
fn goldens_of_pytorch_are_met() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("goldens/mlp.json")).unwrap();
    let matrix = |name: &str, columns: usize| {
        let data = numbers(&golden[name]).into_iter().map(|v| v as f32).collect();
        Mat::from_shape_vec((5, columns), data).unwrap()
    };
    let (x, cotangent) = (matrix("x", 3), matrix("cotangent", 2));
    let start = |activation: &str| {
        let spec: NetworkSpec =
            format!("mlp(hidden=[4, 6], activation={activation})").parse().unwrap();
        let mut network = spec.build(3, 2, 1, 0).unwrap();
        let values = numbers(&golden["parameters"]);
        let units = network.parameters_mut().units_mut().iter_mut().flatten();
        units.zip(values).for_each(|(p, v)| *p = v as f32);
        network
    };
    let mut tape = Tape::default();
    for (name, _) in Activation::ALL {
        let network = start(name);
        let truth = &golden["activations"][name];
        let h = network.forward(x.view(), Some(&mut tape)).unwrap();
        assert!(distance(&wide(&h), &numbers(&truth["output"])) < 5e-7, "{name}");
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
        let error = distance(&double(&gradient).concat(), &numbers(&truth["gradient"]));
        assert!(error < 5e-7, "{name}: {error}");
    }
    let optimizers = golden["optimizers"].as_object().unwrap();
    for (text, truth) in optimizers {
        let mut network = start("tanh");
        let spec: OptimizerSpec = text.parse().unwrap();
        let mut optimizer = spec.build(network.parameters()).unwrap();
        let mut gradient = network.parameters().zeros_like();
        for _ in 0..3 {
            network.forward(x.view(), Some(&mut tape)).unwrap();
            network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
            let rate = spec.learning_rate().unwrap();
            optimizer.step(network.parameters_mut(), &gradient, rate).unwrap();
        }
        let error = distance(&double(network.parameters()).concat(), &numbers(truth));
        assert!(error < 5e-7, "{text}: {error}");
    }
    assert_eq!(optimizers.len(), 4);
}

#[test]
fn initial_weights_follow_their_laws_and_seeds() {
    let build = |text: &str, seed| -> Parameters {
        let spec: NetworkSpec = text.parse().unwrap();
        spec.build(50, 3, 1, seed).unwrap().parameters().clone()
    };
    let text = "mlp(hidden=[200, 100], activation=relu)";
    let p = build(text, 1);
    assert_eq!(p, build(text, 1));
    assert_ne!(p, build(text, 2));
    assert_ne!(p.units()[0], p.units()[1]);
    // He: 2/fan_in within 5 standard errors of a variance, √(2/n) relative.
    for tensor in &p.layouts()[0][..4] {
        let (size, values) = (tensor.size(), &p.units()[0][tensor.range()]);
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / size as f64;
        let expected = if tensor.shape.len() == 2 { 2.0 / tensor.shape[0] as f64 } else { 1.0 };
        let error = (variance / expected - 1.0).abs();
        assert!(error < 5.0 * (2.0 / size as f64).sqrt(), "{}: {variance}", tensor.name);
    }
    let names: Vec<&str> = p.layouts()[0].iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names[4..], ["layers.2.weight", "layers.2.bias"]);
    let phases = build("mlp(hidden=[200], activation=sin_cos)", 1);
    let bias = &phases.units()[0][50 * 200..50 * 200 + 200];
    assert!(bias.iter().all(|b| b.abs() <= 3.2) && bias.iter().any(|b| b.abs() > 3.0));
}

#[test]
fn misuse_is_a_typed_error() {
    let mut network = Dense::new(shape(2, 3, 1, &[4], Activation::Tanh), Init::Auto, 0).unwrap();
    let mut tape = Tape::default();
    let mut gradient = network.parameters().zeros_like();
    let x = draw(6, 2, 0);
    assert!(network.vjp(&tape, draw(6, 3, 0).view(), &mut gradient).is_err());
    assert!(network.forward(draw(6, 3, 0).view(), None).is_err());
    assert!(network.forward(draw(6, 3, 0).view(), Some(&mut tape)).is_err());
    assert!(network.hidden(draw(6, 3, 0).view()).is_err());
    network.forward(x.view(), Some(&mut tape)).unwrap();
    assert!(network.vjp(&tape, draw(5, 3, 0).view(), &mut gradient).is_err());
    assert!(network.vjp(&tape, draw(6, 2, 0).view(), &mut gradient).is_err());
    let other = Dense::new(shape(2, 3, 1, &[5], Activation::Tanh), Init::Auto, 0).unwrap();
    assert!(
        network.vjp(&tape, draw(6, 3, 0).view(), &mut other.parameters().zeros_like()).is_err()
    );
    let mut others = Tape::default();
    other.forward(x.view(), Some(&mut others)).unwrap();
    assert!(network.jvp(x.view(), other.parameters()).is_err());
    let wider = Dense::new(shape(2, 3, 1, &[40], Activation::Tanh), Init::Auto, 0).unwrap();
    wider.forward(x.view(), Some(&mut others)).unwrap();
    assert!(network.vjp(&others, draw(6, 3, 0).view(), &mut gradient).is_err());
    // No rows are no trouble.
    let none = Mat::zeros((0, 2));
    assert_eq!(network.forward(none.view(), Some(&mut tape)).unwrap().dim(), (0, 3));
    network.vjp(&tape, Mat::zeros((0, 3)).view(), &mut gradient).unwrap();
    assert!(gradient.units().iter().flatten().all(|g| *g == 0.0));
    assert_eq!(network.hidden(none.view()).unwrap().dim(), (0, 12));
    // What overflows or is damaged is named, not passed on.
    let huge = Mat::from_elem((2, 2), f32::NAN);
    let message = network.forward(huge.view(), None).unwrap_err().to_string();
    assert!(message.contains("row 0, column 0"), "{message}");
    network.parameters_mut().units_mut()[1].truncate(3);
    assert!(network.forward(x.view(), None).is_err());
    assert!(network.forward(x.view(), Some(&mut tape)).is_err());
    assert!(network.hidden(x.view()).is_err());
}

/// Derivatives of `value` (n numbers of the units' parameters) by coordinate c of all points: a step in
/// x_c is one in the biases of the first layer along the weights of x_c.
fn by_coordinate(
    shape: &Shape,
    units: &[Vec<f64>],
    c: usize,
    value: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) -> Vec<f64> {
    let outer = *shape.hidden.first().unwrap_or(&shape.heads);
    let at = |by: f64| {
        let moved = |unit: &Vec<f64>| {
            let mut unit = unit.clone();
            for i in 0..outer {
                unit[shape.inputs * outer + i] += by * unit[c * outer + i];
            }
            unit
        };
        value(&units.iter().map(moved).collect::<Vec<_>>())
    };
    at(1e-6).into_iter().zip(at(-1e-6)).map(|(a, b)| (a - b) / 2e-6).collect()
}

#[test]
fn gradients_by_inputs_agree_with_finite_differences() {
    for (shape, network) in networks() {
        let (n, d) = (101, shape.inputs);
        let x = draw(n, d, 6);
        let units = double(network.parameters());
        // Fewer combinations than inputs, and more: reverse and forward mode.
        for k in [1, 9] {
            let h = |units: &[Vec<f64>]| exact(&shape, units, x.view());
            let columns = shape.units * shape.heads;
            let weights = draw(columns, k, 7).mapv(f64::from);
            let found = network.input_gradients(x.view(), Stage::Functions, weights.view());
            let combined = |units: &[Vec<f64>]| {
                let h = Mat64::from_shape_vec((n, columns), h(units)).unwrap();
                h.dot(&weights).into_iter().collect::<Vec<_>>()
            };
            compare(&shape, found.unwrap(), k, |c| by_coordinate(&shape, &units, c, combined));

            let width = *shape.hidden.last().unwrap_or(&shape.inputs);
            if shape.hidden.is_empty() {
                let weights = draw(d, k, 8).mapv(f64::from);
                let found = network.input_gradients(x.view(), Stage::Hidden, weights.view());
                let rows: Vec<usize> = (0..n * d).map(|i| i % d).collect();
                assert_eq!(found.unwrap(), weights.select(ndarray::Axis(0), &rows));
                continue;
            }
            // The same networks with the combinations for heads.
            let weights = draw(shape.units * width, k, 9).mapv(f64::from);
            let found = network.input_gradients(x.view(), Stage::Hidden, weights.view()).unwrap();
            let read = Shape { heads: k, outputs: 1, ..shape.clone() };
            let rows = weights.axis_chunks_iter(ndarray::Axis(0), width);
            let with_heads = |(unit, w): (&Vec<f64>, ndarray::ArrayView2<'_, f64>)| {
                let last = unit.len() - (width + 1) * shape.heads;
                unit[..last].iter().chain(&w).copied().chain(vec![0.0; k]).collect()
            };
            let read_units: Vec<Vec<f64>> = units.iter().zip(rows).map(with_heads).collect();
            let combined = |units: &[Vec<f64>]| {
                let all = exact(&read, units, x.view());
                let row =
                    |row: &[f64]| (0..k).map(|j| row.iter().skip(j).step_by(k).sum()).collect();
                all.chunks(shape.units * k).flat_map(|r| -> Vec<f64> { row(r) }).collect()
            };
            compare(&read, found, k, |c| by_coordinate(&read, &read_units, c, combined));
        }
    }
}

/// Fails unless `found` (n·d × k) has, for every coordinate, the n × k numbers that `truth` gives.
fn compare(shape: &Shape, found: Mat64, k: usize, truth: impl Fn(usize) -> Vec<f64>) {
    let d = shape.inputs;
    for c in 0..d {
        let truth = truth(c);
        let got: Vec<f64> = found.slice(ndarray::s![c..;d, ..]).iter().copied().collect();
        assert_eq!(got.len(), truth.len());
        // A step of the difference may straddle the kink of a ReLU.
        let error = distance(&got, &truth);
        assert!(error < 3e-6, "{shape:?}, {k} columns, coordinate {c}: {error}");
    }
}

#[test]
fn gradients_by_inputs_refuse_weights_of_other_shapes_and_do_not_depend_on_company() {
    let shape = shape(3, 2, 1, &[10], Activation::Tanh);
    let network = Dense::new(shape, Init::Auto, 3).unwrap();
    let x = draw(300, 3, 1);
    for (stage, features) in [(Stage::Hidden, 20), (Stage::Functions, 2)] {
        let bad = Mat64::zeros((features + 1, 4));
        let error = network.input_gradients(x.view(), stage, bad.view()).unwrap_err();
        assert!(error.to_string().contains(&format!("expected shape {features} × k")), "{error}");
        for k in [2, 4] {
            let weights = draw(features, k, 2).mapv(f64::from);
            let whole = network.input_gradients(x.view(), stage, weights.view()).unwrap();
            let part = x.slice(ndarray::s![95..98, ..]);
            let part = network.input_gradients(part, stage, weights.view()).unwrap();
            assert_eq!(part, whole.slice(ndarray::s![285..294, ..]));
        }
    }
}
