//! The rule against its formula, what a change of basis does not change, and resuming.

use rand::RngExt as _;

use super::*;
use crate::matrix::Mat64;
use crate::nn::{NetworkSpec, OptimizerSpec};

/// A convolution, a norm and two dense layers.
const NETWORK: &str = "shared_convnet(image=[6, 6, 1], channels=[3], kernel=3, pool=2, norm=batch, readout=flatten, hidden=[5])";

fn network(text: &str, inputs: usize, functions: usize) -> Parameters {
    let spec: NetworkSpec = text.parse().unwrap();
    spec.build(inputs, functions, 1, 3).unwrap().parameters().clone()
}

fn draw(like: &Parameters, stream: u64) -> Parameters {
    let mut all = like.zeros_like();
    let mut rng = crate::rng::stream(6, "test", stream);
    all.units_mut().iter_mut().flatten().for_each(|v| *v = rng.random_range(-1.0f32..1.0));
    all
}

fn wide(values: &[f32], size: (usize, usize)) -> Mat64 {
    Mat64::from_shape_vec(size, values.iter().map(|v| f64::from(*v)).collect()).unwrap()
}

/// Zeros for a weight of n inputs and m outputs.
fn one_weight(n: usize, m: usize) -> Parameters {
    let layout = TensorLayout {
        name: "weight".into(),
        shape: vec![n, m],
        offset: 0,
        role: Role::Weight { fan_in: n },
        flat: false,
    };
    Parameters::zeros(vec![vec![layout]])
}

#[test]
fn layers_are_weights_with_their_biases() {
    let found = places(&network(NETWORK, 36, 4).layouts()[0], 2048);
    // A convolution before a norm has no bias; scale and shift are apart.
    let expected = [
        (0, 9, 3, true),
        (27, 1, 3, false),
        (30, 1, 3, false),
        (33, 28, 5, true),
        (173, 6, 4, true),
    ];
    assert_eq!(found, expected);
    // A layer with more than `max_inputs` is Adam's, with its bias.
    let found = places(&network(NETWORK, 36, 4).layouts()[0], 27);
    assert_eq!(found[3..], [(33, 28, 5, false), (173, 6, 4, true)]);
}

#[test]
fn the_rule_is_its_formula_in_double_precision() {
    // No layer has more inputs than outputs, so that all of Q is given.
    let start = network("shared_mlp(hidden=[7])", 3, 9);
    let spec: OptimizerSpec =
        "soap(lr=0.02, beta1=0.8, beta2=0.7, eps=1e-3, frequency=2)".parse().unwrap();
    let mut optimizer = spec.build(&start).unwrap();
    let mut parameters = start.clone();
    let (beta1, beta2, eps, lr) = (0.8f64, 0.7f64, 1e-3, 0.02);
    let mut exact = Vec::new();
    for (at, inputs, outputs, rotated) in places(&start.layouts()[0], 2048) {
        assert!(rotated);
        let size = (inputs, outputs);
        let matrix = |p: &Parameters| wide(&p.units()[0][at..at + inputs * outputs], size);
        let (mut w, mut c) = (matrix(&start), Mat64::zeros((inputs, inputs)));
        let (mut m, mut v) = (Mat64::zeros(size), Mat64::zeros(size));
        let mut q = Mat64::zeros((inputs, inputs));
        for t in 0..7 {
            let g = matrix(&draw(&start, t as u64));
            let square = g.dot(&g.t());
            if t == 0 {
                q = linalg::eigh(square.view()).unwrap().1;
                c = square;
                continue;
            }
            c = c * beta2 + square * (1.0 - beta2);
            let rotated = q.t().dot(&g);
            m = m * beta1 + g * (1.0 - beta1);
            v = v * beta2 + rotated.mapv(|x| x * x) * (1.0 - beta2);
            let mean = q.t().dot(&m) / (1.0 - beta1.powi(t));
            let root = (&v / (1.0 - beta2.powi(t))).mapv(f64::sqrt) + eps;
            w = w - q.dot(&(mean / root)) * lr;
            if t % 2 == 0 {
                q = linalg::orthogonal_factor(c.dot(&q).view()).unwrap();
            }
        }
        exact.push((at, w));
    }
    for t in 0..7 {
        optimizer.step(&mut parameters, &draw(&start, t), lr).unwrap();
        if t == 0 {
            assert_eq!(parameters, start, "the first step only finds the basis");
        }
    }
    for (at, w) in exact {
        let got = &parameters.units()[0][at..at + w.len()];
        for (got, w) in got.iter().zip(&w) {
            assert!((f64::from(*got) - w).abs() < 2e-5, "{got} is not {w}");
        }
    }
}

/// Gradients of fewer outputs than inputs leave directions of C empty, and an input may never be used.
#[test]
fn weak_and_empty_directions_keep_the_basis_orthogonal_and_the_rule_its_formula() {
    let (n, m) = (40, 3);
    let start = one_weight(n, m);
    // beta1 = 0: the mean is the gradient.
    let spec: OptimizerSpec = "soap(beta1=0, beta2=0.9, eps=1e-3, frequency=3)".parse().unwrap();
    // The first gradient is zero, or one like the others.
    for zero in [true, false] {
        let (mut parameters, mut optimizer) = (start.clone(), spec.build(&start).unwrap());
        let mut v = Mat64::zeros((n, m));
        for t in 0..25i32 {
            let mut gradient = draw(&start, t as u64);
            let values = &mut gradient.units_mut()[0];
            values[..m].fill(0.0);
            if t == 0 && zero {
                values.fill(0.0);
            }
            let g = wide(values, (n, m));
            let before = wide(&parameters.units()[0], (n, m));
            let q = optimizer
                .state()
                .vectors
                .iter()
                .find(|(name, _)| name == "vectors.0.0")
                .map(|(_, values)| wide(values, (n, n)))
                .unwrap();
            optimizer.step(&mut parameters, &gradient, 0.01).unwrap();
            if t == 0 {
                continue;
            }
            let off = q.t().dot(&q) - Mat64::eye(n);
            let off = off.iter().fold(0.0f64, |a, b| a.max(b.abs()));
            assert!(off < 1e-6, "{off} at step {t}");
            let turned = q.t().dot(&g);
            v = v * 0.9 + turned.mapv(|x| x * x) * 0.1;
            let root = (&v / (1.0 - 0.9f64.powi(t))).mapv(f64::sqrt) + 1e-3;
            let expected = before - q.dot(&(turned / root)) * 0.01;
            let got = wide(&parameters.units()[0], (n, m));
            let off = (got - expected).iter().fold(0.0f64, |a, b| a.max(b.abs()));
            assert!(off < 2e-6, "{off} at step {t}");
        }
    }
}

#[test]
fn inputs_that_are_far_from_orthogonal_are_no_obstacle() {
    // Least squares for eight outputs on inputs whose covariance has the eigenvalues 1 to 1e-5 and no
    // eigenvector along a weight: Adam does not come near the solution at any rate.
    let (n, m, batch, steps) = (6, 8, 16, 300);
    let mut rng = crate::rng::stream(7, "test", 0);
    let mut uniform = |size| Mat64::from_shape_simple_fn(size, || rng.random_range(-1.0..1.0));
    let mut root = linalg::orthogonal_factor(uniform((n, n)).view()).unwrap();
    for (j, mut column) in root.columns_mut().into_iter().enumerate() {
        column *= 10f64.powf(-0.5 * j as f64);
    }
    let solution = uniform((n, m));
    let mut error = |text: &str| {
        let mut weights = one_weight(n, m);
        let spec: OptimizerSpec = text.parse().unwrap();
        let mut optimizer = spec.build(&weights).unwrap();
        let off = |weights: &Parameters| wide(&weights.units()[0], (n, m)) - &solution;
        for step in 0..steps {
            let x = root.dot(&uniform((n, batch)));
            let g = x.dot(&x.t().dot(&off(&weights))) / batch as f64;
            let mut gradient = weights.zeros_like();
            gradient.units_mut()[0].iter_mut().zip(&g).for_each(|(to, g)| *to = *g as f32);
            let rate = spec.learning_rate().unwrap() * (1.0 - f64::from(step) / f64::from(steps));
            optimizer.step(&mut weights, &gradient, rate).unwrap();
        }
        let norm = |a: &Mat64| linalg::norm2(a.iter().copied());
        norm(&off(&weights)) / norm(&solution)
    };
    let soap = error("soap(lr=0.1, eps=1e-12, frequency=5)");
    assert!(soap < 0.03, "soap leaves {soap}");
    for rate in [0.01, 0.03, 0.1, 0.3, 1.0] {
        let adam = error(&format!("adam(lr={rate}, beta2=0.95, eps=1e-12)"));
        assert!(adam > 0.2, "adam at {rate} leaves {adam}");
    }
}

#[test]
fn a_restored_optimiser_continues_to_the_same_bits_on_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let start = network(&NETWORK.replace("shared_", ""), 36, 3);
            let spec: OptimizerSpec = "soap(frequency=2)".parse().unwrap();
            let (mut whole, mut optimizer) = (start.clone(), spec.build(&start).unwrap());
            (0..5).for_each(|t| optimizer.step(&mut whole, &draw(&start, t), 0.01).unwrap());
            let (mut resumed, state) = (whole.clone(), optimizer.state());
            assert_eq!(state.step, 5);
            let mut other = spec.build(&start).unwrap();
            other.restore(&state).unwrap();
            for t in 5..9 {
                optimizer.step(&mut whole, &draw(&start, t), 0.01).unwrap();
                other.step(&mut resumed, &draw(&start, t), 0.01).unwrap();
            }
            assert_eq!(whole, resumed);
            assert_eq!(optimizer.state(), other.state());
            let shorter = spec.build(&network("shared_mlp(hidden=[7])", 36, 3)).unwrap().state();
            assert!(matches!(other.restore(&shorter), Err(Error::Shape { .. })));
            whole
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn text_and_bytes() {
    let spec: OptimizerSpec = "soap".parse().unwrap();
    assert_eq!(spec, spec.to_string().parse().unwrap());
    for bad in ["soap(frequency=0)", "soap(beta2=1)", "soap(max_inputs=0)", "soap(lr=0)"] {
        assert!(bad.parse::<OptimizerSpec>().is_err(), "{bad}");
    }
    // 36 inputs and a bias, then 7 and a bias, with C and Q each.
    let parameters = network("shared_mlp(hidden=[7])", 36, 3);
    let numbers = 2 * (37 * 37 + 8 * 8) as u64;
    let memory = spec.get().unwrap().memory().unwrap();
    assert_eq!(memory.numbers(&parameters), numbers);
    let finding = linalg::eigh_bytes(37) + 20 * 37 * 37;
    assert_eq!(memory.bytes(&parameters), 8 * numbers + finding);
    let adam: OptimizerSpec = "adam".parse().unwrap();
    assert!(adam.get().unwrap().memory().is_none());
}

#[test]
fn what_overflows_is_an_error_and_no_step() {
    let start = network("shared_mlp(hidden=[7])", 3, 9);
    // Layers that are Adam's too.
    for max_inputs in [2048, 1] {
        let text = format!("soap(max_inputs={max_inputs})");
        let mut optimizer = text.parse::<OptimizerSpec>().unwrap().build(&start).unwrap();
        let mut parameters = start.clone();
        for step in 0..3 {
            let (before, state) = (parameters.clone(), optimizer.state());
            let mut gradient = draw(&start, step);
            // The last layer alone.
            gradient.units_mut()[0].iter_mut().rev().take(3).for_each(|g| *g = 1e25);
            let failed = optimizer.step(&mut parameters, &gradient, 0.1);
            assert!(matches!(failed, Err(Error::Numerical { .. })), "{failed:?}");
            assert_eq!((&parameters, optimizer.state()), (&before, state));
            optimizer.step(&mut parameters, &draw(&start, step), 0.1).unwrap();
            assert!(step == 0 || parameters != before);
        }
    }
}
