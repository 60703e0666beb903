//! Posteriors against dense computations with explicit Jacobians, on networks small enough for these.

mod behaviour;

use std::path::PathBuf;

use ndarray::{Array1, Array3, Axis, s};

use super::{Laplace, LaplaceSpec, Targets};
use crate::Dataset;
use crate::calibration::softmax;
use crate::linalg::tests::random;
use crate::linalg::{cholesky_jittered, eigh};
use crate::matrix::{Mat, Mat64};
use crate::nn::{Network, NetworkSpec, TrainedNetwork, jacobians, write_weights};
use crate::operator::OperatorSpec;
use crate::train::Silent;

const SOURCES: [&str; 9] = [
    "neuralef(components=3, points=40, samples=200)",
    "neuralef(components=3, points=40, samples=200, network=heads(hidden=[8]), steps=30)",
    "ella(components=5, landmarks=30)",
    "random(components=7)",
    "last_layer",
    "last_layer(structure=kronecker)",
    "last_layer(structure=diagonal)",
    "kfac",
    "diag",
];

/// A network with random weights in a file, points, labels, and all that a dense computation needs.
struct Case {
    folder: tempfile::TempDir,
    file: PathBuf,
    architecture: &'static str,
    network: Box<dyn Network>,
    x: Mat,
    labels: Vec<usize>,
}

impl Case {
    fn new(architecture: &'static str, inputs: usize, outputs: usize, n: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("network.safetensors");
        let spec: NetworkSpec = architecture.parse().unwrap();
        let mut network = spec.build(inputs, 1, outputs, 3).unwrap();
        // Weights away from those of initialisation, so that biases and outputs are not small.
        for (i, w) in network.parameters_mut().units_mut()[0].iter_mut().enumerate() {
            *w += 0.3 * (1.7 * i as f32).sin();
        }
        network.freeze(true);
        write_weights(&*network, &file).unwrap();
        let x = random(n, inputs, 5).mapv(|v| v as f32);
        let labels = (0..n).map(|i| i * i % outputs).collect();
        Case { folder, file, architecture, network, x, labels }
    }

    fn small() -> Self {
        Case::new("mlp(hidden=[4], activation=tanh)", 2, 3, 60)
    }

    fn trained(&self) -> TrainedNetwork {
        TrainedNetwork::open(&self.file, Some(self.architecture)).unwrap()
    }

    fn data(&self) -> Dataset {
        Dataset::from_array("points", self.x.clone()).unwrap()
    }

    fn targets(&self) -> Targets {
        Targets::Labels(self.labels.clone())
    }

    fn fit(&self, source: &str) -> Laplace {
        let spec = LaplaceSpec::new(source).unwrap();
        spec.fit(&self.trained(), &self.data(), &self.targets(), &mut Silent).unwrap()
    }

    /// n·C × P, and f.
    fn jacobian(&self) -> (Mat64, Mat64) {
        let f = self.network.forward(self.x.view(), None).unwrap();
        let jacobian = jacobians(&*self.network, self.x.view()).unwrap().swap_remove(0);
        (jacobian.mapv(f64::from), f.mapv(f64::from))
    }

    /// Σ JᵀΛJ with Λ = diag(p) − ppᵀ as it is written.
    fn gauss_newton(&self, points: usize) -> Mat64 {
        let (jacobian, f) = self.jacobian();
        let (p, c) = (softmax(f.view()).unwrap(), f.ncols());
        let mut sum = Mat64::zeros((jacobian.ncols(), jacobian.ncols()));
        for i in 0..points {
            let j = jacobian.slice(s![i * c..(i + 1) * c, ..]);
            let lambda = Mat64::from_shape_fn((c, c), |(a, b)| {
                if a == b { p[[i, a]] * (1.0 - p[[i, a]]) } else { -p[[i, a]] * p[[i, b]] }
            });
            sum += &j.t().dot(&lambda).dot(&j);
        }
        sum
    }
}

/// J(G + δI)⁻¹Jᵀ for the rows of each point.
fn dense_covariance(jacobian: &Mat64, gram: &Mat64, delta: f64, c: usize) -> Array3<f64> {
    let precision = gram + &(Mat64::eye(gram.nrows()) * delta);
    let half = cholesky_jittered(precision.view()).unwrap().solve_lower(jacobian.t()).unwrap();
    let n = jacobian.nrows() / c;
    Array3::from_shape_fn((n, c, c), |(i, a, b)| {
        half.column(i * c + a).dot(&half.column(i * c + b))
    })
}

fn close(found: &Array3<f64>, truth: &Array3<f64>, tolerance: f64) {
    let scale = truth.fold(0.0f64, |m, v| m.max(v.abs()));
    let error = (found - truth).fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(error <= tolerance * scale, "{error:e} beside {scale:e}");
}

/// ELLA with as many components as parameters, from more landmarks, leaves nothing out: Jacobians in
/// single precision are all that differs. The network is linear so that no direction is near to 0.
#[test]
fn ella_with_all_components_is_the_dense_posterior() {
    let case = Case::new("mlp(hidden=[])", 4, 3, 300);
    let (jacobian, _) = case.jacobian();
    let gram = case.gauss_newton(300);
    let width = jacobian.ncols();
    let mut laplace = case.fit(&format!("ella(components={width}, landmarks=300)"));
    for delta in [0.1, 1.0, 30.0] {
        laplace.set_prior_precision(delta).unwrap();
        let outputs = laplace.outputs(case.x.view()).unwrap();
        close(&outputs.covariance, &dense_covariance(&jacobian, &gram, delta, 3), 2e-5);
    }
}

/// Random features F = JV: their posterior by a dense solve.
#[test]
fn features_have_the_posterior_of_their_formula() {
    let case = Case::small();
    let mut laplace = case.fit("random(components=7)");
    laplace.set_prior_precision(0.7).unwrap();
    let points = laplace.features(case.x.view()).unwrap();
    // The coordinates are rotated; the rotation is orthogonal, so that F Fᵀ is not.
    let (f, p) = (&points.features, softmax(points.mean.view()).unwrap());
    let mut gram = Mat64::zeros((7, 7));
    for i in 0..60 {
        let rows = f.slice(s![i * 3..i * 3 + 3, ..]);
        let p = p.row(i);
        let lambda = Mat64::from_diag(&p) - p.insert_axis(Axis(1)).dot(&p.insert_axis(Axis(0)));
        gram += &rows.t().dot(&lambda).dot(&rows);
    }
    let diagonal = Mat64::from_diag(&Array1::from(laplace.curvatures().to_vec()));
    let scale = gram.diag().fold(0.0f64, |m, v| m.max(*v));
    assert!((&gram - &diagonal).iter().all(|e| e.abs() < 1e-12 * scale), "{gram}");
    let truth = dense_covariance(f, &gram, 0.7, 3);
    close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 1e-10);
    close(&laplace.outputs_of(&points).unwrap().covariance, &truth, 1e-10);
}

/// The last layer's block of the whole matrix, which lies at the end of the parameters.
#[test]
fn last_layer_is_its_block_of_the_gauss_newton_matrix() {
    let case = Case::small();
    let ((jacobian, _), gram) = (case.jacobian(), case.gauss_newton(60));
    let first = jacobian.ncols() - 15;
    let (jacobian, gram) = (jacobian.slice(s![.., first..]), gram.slice(s![first.., first..]));
    let squared: f64 =
        case.network.parameters().units()[0][first..].iter().map(|v| f64::from(*v).powi(2)).sum();
    for (structure, gram) in
        [("full", gram.to_owned()), ("diagonal", Mat64::from_diag(&gram.diag()))]
    {
        let mut laplace = case.fit(&format!("last_layer(structure={structure})"));
        assert!((laplace.info().squared_norm / squared - 1.0).abs() < 1e-12);
        laplace.set_prior_precision(0.3).unwrap();
        let truth = dense_covariance(&jacobian.to_owned(), &gram, 0.3, 3);
        close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 1e-5);
    }
}

/// Products against their factors, made from Jacobians: the block of the weights is
/// (Σ hhᵀ/n) ⊗ ΣΛ, that of the biases ΣΛ.
#[test]
fn kronecker_last_layer_against_its_factors() {
    let case = Case::small();
    let (jacobian, f) = case.jacobian();
    let (p, h) = (softmax(f.view()).unwrap(), case.network.hidden(case.x.view()).unwrap());
    let h = h.mapv(f64::from);
    let inputs = h.t().dot(&h) / 60.0;
    let outputs = Mat64::from_diag(&p.sum_axis(Axis(0))) - p.t().dot(&p);
    // Weights are stored input by output, then biases.
    let gram = Mat64::from_shape_fn((15, 15), |(a, b)| match (a < 12, b < 12) {
        (true, true) => inputs[[a / 3, b / 3]] * outputs[[a % 3, b % 3]],
        (false, false) => outputs[[a - 12, b - 12]],
        _ => 0.0,
    });
    let mut laplace = case.fit("last_layer(structure=kronecker)");
    laplace.set_prior_precision(0.4).unwrap();
    let jacobian = jacobian.slice(s![.., jacobian.ncols() - 15..]).to_owned();
    let truth = dense_covariance(&jacobian, &gram, 0.4, 3);
    close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 1e-5);
}

#[test]
fn diagonal_is_that_of_the_gauss_newton_matrix() {
    for case in [Case::small(), convolutional(20)] {
        let ((jacobian, _), gram) = (case.jacobian(), case.gauss_newton(case.labels.len()));
        let mut laplace = case.fit("diag");
        laplace.set_prior_precision(0.2).unwrap();
        let gram = Mat64::from_diag(&gram.diag());
        let truth = dense_covariance(&jacobian, &gram, 0.2, 3);
        close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 2e-5);
    }
}

/// A convolution, a residual block with normalisation, a dense layer.
fn convolutional(n: usize) -> Case {
    Case::new("shared_resnet(depth=8, width=2)", 3 * 8 * 8, 3, n)
}

/// For one point, a dense network's blocks are Kronecker products: aaᵀ ⊗ Σ ggᵀ, nothing is lost but what
/// lies between layers.
#[test]
fn kfac_of_one_point_has_the_exact_blocks() {
    let case = Case::new("mlp(hidden=[4, 5], activation=tanh)", 2, 3, 1);
    let ((jacobian, _), gram) = (case.jacobian(), case.gauss_newton(1));
    let mut blocks = Mat64::zeros(gram.dim());
    let mut at = 0;
    for size in [12, 25, 18] {
        let block = s![at..at + size, at..at + size];
        blocks.slice_mut(block).assign(&gram.slice(block));
        at += size;
    }
    assert_eq!(at, gram.nrows());
    let mut laplace = case.fit("kfac");
    laplace.set_prior_precision(0.05).unwrap();
    let truth = dense_covariance(&jacobian, &blocks, 0.05, 3);
    close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 2e-5);
}

/// Factors made from Jacobians: for a dense layer each row of J is a ⊗ g, with g its derivative by the
/// biases.
#[test]
fn kfac_of_many_points_against_factors_from_jacobians() {
    let case = Case::small();
    let (jacobian, f) = case.jacobian();
    let (p, n) = (softmax(f.view()).unwrap(), 60);
    let h = case.network.hidden(case.x.view()).unwrap().mapv(f64::from);
    let x = case.x.mapv(f64::from);
    let mut gram = Mat64::zeros((27, 27));
    for (first, values, outputs) in [(0, &x, 4), (12, &h, 3)] {
        let inner = values.ncols();
        let mut a = Mat64::ones((n, inner + 1));
        a.slice_mut(s![.., ..inner]).assign(values);
        let a = a.t().dot(&a) / n as f64;
        let bias = first + inner * outputs;
        let mut g = Mat64::zeros((outputs, outputs));
        for i in 0..n {
            let j = jacobian.slice(s![i * 3..i * 3 + 3, bias..bias + outputs]);
            let p = p.row(i);
            let lambda = Mat64::from_diag(&p) - p.insert_axis(Axis(1)).dot(&p.insert_axis(Axis(0)));
            g += &j.t().dot(&lambda).dot(&j);
        }
        let size = (inner + 1) * outputs;
        for (r, c) in (0..size).flat_map(|r| (0..size).map(move |c| (r, c))) {
            gram[[first + r, first + c]] =
                a[[r / outputs, c / outputs]] * g[[r % outputs, c % outputs]];
        }
    }
    let mut laplace = case.fit("kfac");
    laplace.set_prior_precision(0.1).unwrap();
    let truth = dense_covariance(&jacobian, &gram, 0.1, 3);
    close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 2e-5);
}

/// Scales and shifts of normalisation have their exact diagonal.
#[test]
fn kfac_of_normalisation() {
    let case = convolutional(12);
    let (gram, laplace) = (case.gauss_newton(12), case.fit("kfac"));
    for tensor in &case.network.parameters().layouts()[0] {
        if matches!(tensor.role, crate::nn::Role::Scale | crate::nn::Role::Shift) {
            let truth = gram.diag().slice(s![tensor.range()]).to_owned();
            let scale = truth.fold(0.0f64, |m, v| m.max(*v));
            let found = &laplace.curvatures()[tensor.range()];
            let worst = truth.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4 * scale, "{}: {worst:e} beside {scale:e}", tensor.name);
        }
    }
}

/// Positive weights and points make relu the identity: the derivative by the convolution's outputs is
/// that of the mean over positions, the same at each, and its inputs are windows of the image.
#[test]
fn kfac_of_a_convolution_against_factors_by_hand() {
    let text = "convnet(channels=[2], kernel=3, pool=1, readout=average, hidden=[])";
    let mut case = Case::new(text, 16, 3, 8);
    let unit = &mut case.network.parameters_mut().units_mut()[0];
    unit.iter_mut().enumerate().for_each(|(i, w)| *w = 0.1 + 0.05 * (i % 5) as f32);
    let weights = unit.clone();
    write_weights(&*case.network, &case.file).unwrap();
    case.x.mapv_inplace(|v| v.abs() + 0.1);
    let (jacobian, f) = case.jacobian();
    let (p, t, n) = (softmax(f.view()).unwrap(), 16.0, 8);
    let layouts = case.network.parameters().layouts()[0].clone();
    let sizes: Vec<usize> = layouts.iter().map(|l| l.size()).collect();
    assert_eq!(sizes, [18, 2, 6, 3], "{layouts:?}");
    let mut a = Mat64::zeros((10, 10));
    let mut g = Mat64::zeros((2, 2));
    let mut h = Mat64::ones((n, 3));
    let head = Mat64::from_shape_fn((2, 3), |(i, o)| f64::from(weights[20 + i * 3 + o]));
    for i in 0..n {
        let pixel = |y: isize, x: isize| {
            let inside = (0..4).contains(&y) && (0..4).contains(&x);
            if inside { f64::from(case.x[[i, (4 * y + x) as usize]]) } else { 0.0 }
        };
        for (y, x) in (0..4).flat_map(|y| (0..4).map(move |x| (y, x))) {
            let window = (0..9).map(|k| pixel(y + k / 3 - 1, x + k % 3 - 1)).chain([1.0]);
            let window = Array1::from_iter(window);
            a += &window.view().insert_axis(Axis(1)).dot(&window.view().insert_axis(Axis(0)));
            for channel in 0..2 {
                let weight = |k: usize| f64::from(weights[k * 2 + channel]);
                let z = (0..9).map(|k| weight(k) * window[k]).sum::<f64>()
                    + f64::from(weights[18 + channel]);
                h[[i, channel]] += z / t - if (y, x) == (0, 0) { 1.0 } else { 0.0 };
            }
        }
        let p = p.row(i);
        let lambda = Mat64::from_diag(&p) - p.insert_axis(Axis(1)).dot(&p.insert_axis(Axis(0)));
        // At each of t positions the derivative is head/t.
        g += &(head.dot(&lambda).dot(&head.t()) * (t / (t * t)));
    }
    let lambda = Mat64::from_diag(&p.sum_axis(Axis(0))) - p.t().dot(&p);
    let last = h.t().dot(&h) / n as f64;
    let a = a / (n as f64 * t);
    let gram = Mat64::from_shape_fn((29, 29), |(r, c)| match (r < 20, c < 20) {
        (true, true) => a[[r / 2, c / 2]] * g[[r % 2, c % 2]],
        (false, false) => {
            let (r, c) = (r - 20, c - 20);
            last[[r / 3, c / 3]] * lambda[[r % 3, c % 3]]
        }
        _ => 0.0,
    });
    let mut laplace = case.fit("kfac");
    laplace.set_prior_precision(0.1).unwrap();
    let truth = dense_covariance(&jacobian, &gram, 0.1, 3);
    close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 5e-5);
}

/// Eigenfunctions of the form `tangents` are folded into directions: the same features as the model's.
#[test]
fn folded_eigenfunctions_are_those_of_the_model() {
    let case = Case::small();
    let data = case.data();
    let mut network = case.trained().build(2).unwrap();
    let phi = case.folder.path().join("phi.npy");
    let sampling = crate::sample::Sampling { samples: 300, ..Default::default() };
    let tangents = crate::sample::Tangents::default();
    crate::sample::ntk(&mut *network, &data, &tangents, &sampling, &phi, &mut Silent).unwrap();
    let text = format!(
        "tangents(of=\"{}\", network=\"{}\", points=40)",
        case.file.display(),
        case.architecture
    )
    .replace(&format!("\"{}\"", case.architecture), case.architecture);
    let spec = crate::FitSpec {
        operator: Some(OperatorSpec::features(phi)),
        outputs: 3,
        n_components: 4,
        network: text.parse().unwrap(),
        steps: crate::fit::Steps::Exactly(0),
        ..Default::default()
    };
    let model = crate::fit(&data, &spec).unwrap();
    let path = case.folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let features = model.transform(case.x.view()).unwrap().mapv(f64::from);
    let gram = features.dot(&features.t());
    let laplace = case.fit(&format!("neuralef(model=\"{}\")", path.display()));
    assert!(laplace.curvature.wants_jacobian(), "not folded");
    // Coordinates are rotated, products are not.
    let found = laplace.features(case.x.view()).unwrap().features;
    let found = found.dot(&found.t());
    let scale = gram.fold(0.0f64, |m, v| m.max(v.abs()));
    assert!((&found - &gram).iter().all(|e| e.abs() < 1e-5 * scale));
    // Those of another network are not folded.
    let other = Case::new("mlp(hidden=[4], activation=erf)", 2, 3, 60);
    let laplace = other.fit(&format!("neuralef(model=\"{}\")", path.display()));
    assert!(!laplace.curvature.wants_jacobian(), "folded into another network");
}

/// Σ log λ of a dense matrix, and its slope, in place of those of eigenvalues.
#[test]
fn evidence_and_its_optimum_are_those_of_a_dense_computation() {
    let case = Case::new("mlp(hidden=[])", 4, 3, 300);
    let ((_, f), gram) = (case.jacobian(), case.gauss_newton(300));
    let width = gram.nrows();
    let theta: f64 =
        case.network.parameters().units()[0].iter().map(|v| f64::from(*v).powi(2)).sum();
    let log_likelihood = -case.targets().loss(f.view()).unwrap();
    let dense = |delta: f64| {
        let matrix = &gram / delta + Mat64::eye(width);
        let lower = cholesky_jittered(matrix.view()).unwrap().lower;
        let half: f64 = lower.diag().iter().map(|l| l.ln()).sum();
        log_likelihood - 0.5 * delta * theta - half
    };
    let mut laplace = case.fit(&format!("ella(components={width}, landmarks=300)"));
    let best = laplace.prior_precision();
    for delta in [1e-3, 0.1, 1.0, best, 50.0] {
        laplace.set_prior_precision(delta).unwrap();
        let (found, truth) = (laplace.log_marginal_likelihood(), dense(delta));
        // Jacobians are in single precision, here and in the dense matrix.
        assert!((found / truth - 1.0).abs() < 1e-6, "{delta}: {found} against {truth}");
    }
    // MacKay's fixed point with the dense matrix.
    let inverse = |delta: f64| {
        let values = eigh(gram.view()).unwrap().0;
        values.iter().map(|v| v / (v + delta)).sum::<f64>() / theta
    };
    let mut delta = 1.0;
    (0..200).for_each(|_| delta = inverse(delta));
    assert!((best / delta - 1.0).abs() < 1e-6, "{best} against {delta}");
    assert!(dense(best) > dense(1.01 * best) && dense(best) > dense(best / 1.01));
}

/// A linear network whose weights are the mean of the posterior: the approximation is exact, and its
/// evidence is log N(y; 0, XXᵀ/δ + σ²I).
#[test]
fn regression_with_a_linear_network_is_exact() {
    let mut case = Case::new("mlp(hidden=[])", 3, 2, 30);
    let (delta, noise) = (0.8, 0.25);
    let mut design = Mat64::ones((30, 4));
    design.slice_mut(s![.., ..3]).assign(&case.x.mapv(f64::from));
    let y = random(30, 2, 9) + design.dot(&random(4, 2, 10));
    let precision = design.t().dot(&design) / noise + Mat64::eye(4) * delta;
    let cholesky = cholesky_jittered(precision.view()).unwrap();
    let half = cholesky.solve_lower((design.t().dot(&y) / noise).view()).unwrap();
    let weights = cholesky.solve_lower_transposed(half.view()).unwrap();
    let unit = &mut case.network.parameters_mut().units_mut()[0];
    unit.iter_mut().zip(&weights).for_each(|(to, w)| *to = *w as f32);
    write_weights(&*case.network, &case.file).unwrap();
    for source in ["last_layer", "ella(components=8, landmarks=30)"] {
        let spec = LaplaceSpec {
            prior_precision: Some(delta),
            noise_variance: Some(noise),
            ..LaplaceSpec::new(source).unwrap()
        };
        let targets = Targets::Values(y.clone());
        let mut laplace = spec.fit(&case.trained(), &case.data(), &targets, &mut Silent).unwrap();
        let truth = Array3::from_shape_fn((30, 2, 2), |(i, a, b)| {
            let half = cholesky.solve_lower(design.slice(s![i..i + 1, ..]).t()).unwrap();
            if a == b { half.iter().map(|v| v * v).sum() } else { 0.0 }
        });
        close(&laplace.outputs(case.x.view()).unwrap().covariance, &truth, 1e-5);
        let marginal = design.dot(&design.t()) / delta + Mat64::eye(30) * noise;
        let cholesky = cholesky_jittered(marginal.view()).unwrap();
        let solved = cholesky.solve_lower(y.view()).unwrap();
        let log: f64 = cholesky.lower.diag().iter().map(|l| l.ln()).sum();
        let truth = -0.5 * solved.iter().map(|v| v * v).sum::<f64>()
            - 2.0 * log
            - 30.0 * std::f64::consts::TAU.ln();
        let found = laplace.log_marginal_likelihood();
        assert!((found - truth).abs() < 1e-5 * truth.abs(), "{found} against {truth}");
        // At the optimum neither number alone can do better.
        laplace.maximize_marginal_likelihood().unwrap();
        let best = laplace.log_marginal_likelihood();
        let (delta, noise) = (laplace.prior_precision(), laplace.noise_variance().unwrap());
        for factor in [0.98, 1.02] {
            laplace.set_prior_precision(delta * factor).unwrap();
            assert!(laplace.log_marginal_likelihood() < best);
            laplace.set_prior_precision(delta).unwrap();
            laplace.set_scale(noise * factor).unwrap();
            assert!(laplace.log_marginal_likelihood() < best);
            laplace.set_scale(noise).unwrap();
        }
    }
}
