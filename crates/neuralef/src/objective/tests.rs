//! Every objective against finite differences of what it states, and against a dense eigenproblem.

use rand::RngExt as _;

use super::{OBJECTIVES, Objective, Outputs};
use crate::data::Dataset;
use crate::error::Error;
use crate::linalg;
use crate::matrix::{Mat, Mat64};
use crate::nn::{NetworkSpec, OptimizerSpec};
use crate::operator::{Batch, ExplicitOperator, KernelOperator, PrecomputedOperator};
use crate::train::learner::Learner;

pub(super) fn random(rows: usize, columns: usize, seed: u64) -> Mat64 {
    let mut rng = crate::rng::stream(seed, "test", 0);
    Mat64::from_shape_fn((rows, columns), |_| rng.random_range(-1.0..1.0))
}

/// aᵀb over the number of rows.
pub(super) fn mean(a: &Mat64, b: &Mat64) -> Mat64 {
    a.t().dot(b) / a.nrows() as f64
}

/// A symmetric positive definite operator on B points.
fn operator(b: usize) -> Mat64 {
    let a = random(b, b, 1);
    a.dot(&a.t()) / b as f64
}

/// Compares the cotangent of the objective `text` with central differences, column by column, of
/// `loss(T, ψ, ψ before the change, column)`.
pub(super) fn check_gradient(text: &str, loss: impl Fn(&Mat64, &Mat64, &Mat64, usize) -> f64) {
    let (b, k) = (12, 4);
    let (t, psi) = (operator(b), random(b, k, 2));
    let (psi32, t_psi32) = (psi.mapv(|v| v as f32), t.dot(&psi).mapv(|v| v as f32));
    let mut objective = fresh(text);
    let step = objective.step(psi32.view(), t_psi32.view()).unwrap();
    let h = 1e-5;
    for j in 0..k {
        for row in 0..b {
            let moved = |by: f64| {
                let mut moved = psi.clone();
                moved[[row, j]] += by;
                loss(&t, &moved, &psi, j)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            let got = f64::from(step.cotangent[[row, j]]);
            assert!((got - slope).abs() < 2e-6 * (1.0 + slope.abs()), "{text}: {got} {slope}");
        }
    }
}

/// The objective of that text.
fn fresh(text: &str) -> Box<dyn Objective> {
    OBJECTIVES.build_text(text).unwrap().fresh()
}

/// A learner of k functions on n points that are nothing but a table of values, and its batch.
fn table(objective: &str, n: usize, k: usize, optimizer: &str, network: &str) -> (Learner, Batch) {
    let network = network.parse::<NetworkSpec>().unwrap().build(n, k, 1, 3).unwrap();
    let optimizer =
        optimizer.parse::<OptimizerSpec>().unwrap().build(network.parameters()).unwrap();
    let objective = fresh(objective);
    let learner = Learner::new(network, optimizer, objective, None).unwrap();
    (learner, Batch { indices: (0..n).collect(), x: Mat::eye(n) })
}

/// An n × n Gram matrix with eigenvalues (of T, that is over n) 1, 0.7, 0.5, 0.35, 0.1, 0.05, ….
fn gram(n: usize) -> Mat64 {
    let (_, basis) = linalg::eigh(operator(n).view()).unwrap();
    let value = |j: usize| match j {
        0..4 => [1.0, 0.7, 0.5, 0.35][j],
        _ => 0.2 / (j - 2) as f64,
    };
    let scaled = Mat64::from_shape_fn((n, n), |(i, j)| basis[[i, j]] * value(j) * n as f64);
    scaled.dot(&basis.t())
}

fn dataset(m: &Mat64) -> Dataset {
    Dataset::from_array("gram", m.mapv(|v| v as f32)).unwrap()
}

/// Trains with full batches and a decaying rate and compares with the dense solver to 1e-3:
/// eigenvalues relative, eigenfunctions by the sine of the angle.
fn solves_the_dense_eigenproblem(text: &str, network: &str, lr: f64) {
    let (n, k, steps) = (24, 4, 3000);
    let gram = gram(n);
    let operator = PrecomputedOperator::new(dataset(&gram), 1).unwrap();
    let (mut learner, batch) = table(text, n, k, "adam", network);
    for step in 0..steps {
        let rate = lr * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
        learner.step(&batch, batch.x.view(), &operator, rate, None).unwrap();
    }
    let u = learner.network.forward(batch.x.view(), None).unwrap().mapv(f64::from);
    let covariance = mean(&u, &u);
    let psi = match learner.objective.outputs() {
        Outputs::Span => {
            let factor = linalg::cholesky_jittered(covariance.view()).unwrap();
            u.dot(&factor.solve_lower_transposed(Mat64::eye(k).view()).unwrap())
        }
        _ => &u / &covariance.diag().mapv(f64::sqrt),
    };
    let (values, vectors) = linalg::eigh((&gram / n as f64).view()).unwrap();
    for j in 0..k {
        let own = psi.column(j);
        let mu = match learner.objective.outputs() {
            Outputs::Scaled => covariance[[j, j]],
            _ => own.dot(&gram.dot(&own)) / (n * n) as f64,
        };
        let cosine = own.dot(&vectors.column(j)).abs() / own.dot(&own).sqrt();
        assert!((mu / values[j] - 1.0).abs() < 1e-3, "{text} {j}: {mu} not {}", values[j]);
        assert!((1.0 - cosine * cosine).max(0.0).sqrt() < 1e-3, "{text} {j}: |cos| {cosine}");
    }
}

#[test]
fn neuralef_solves_a_dense_eigenproblem() {
    solves_the_dense_eigenproblem("neuralef", "mlp(hidden=[])", 0.05);
}

#[test]
fn mu_eigengame_solves_a_dense_eigenproblem() {
    solves_the_dense_eigenproblem("mu_eigengame", "mlp(hidden=[])", 0.05);
}

#[test]
fn nested_lora_solves_a_dense_eigenproblem_either_way() {
    // Full batches: the two halves would be different points.
    for nesting in ["sequential", "joint"] {
        let text = format!("nested_lora(nesting={nesting}, split=false, estimator=paper)");
        solves_the_dense_eigenproblem(&text, "mlp(hidden=[])", 0.05);
    }
}

#[test]
fn spin_solves_a_dense_eigenproblem_with_separate_networks_and_with_a_trunk() {
    for (text, network) in [
        ("spin(beta=1)", "mlp(hidden=[])"),
        ("spin(beta=0.1)", "mlp(hidden=[])"),
        ("spin(beta=0.1)", "shared_mlp(hidden=[])"),
    ] {
        solves_the_dense_eigenproblem(text, network, 0.05);
    }
}

/// Λ_ii of the functions u, by its definition.
fn rayleigh_after_cholesky(t: &Mat64, u: &Mat64, i: usize) -> f64 {
    let factor = linalg::cholesky_jittered(mean(u, u).view()).unwrap();
    let half = factor.solve_lower(mean(u, &t.dot(u)).view()).unwrap();
    factor.solve_lower(half.t()).unwrap()[[i, i]]
}

#[test]
fn spin_gradient_is_the_masked_gradient_of_its_eigenvalues() {
    let (n, k) = (10, 3);
    let t = operator(n);
    let (mut learner, batch) =
        table("spin(beta=1)", n, k, "sgd(lr=1, momentum=0)", "mlp(hidden=[])");
    let before = learner.network.forward(batch.x.view(), None).unwrap().mapv(f64::from);
    let operator = PrecomputedOperator::new(dataset(&(&t * n as f64)), 1).unwrap();
    let parameters = |learner: &Learner| learner.network.parameters().units().to_vec();
    let old = parameters(&learner);
    learner.step(&batch, batch.x.view(), &operator, 1.0, None).unwrap();
    let new = parameters(&learner);
    let h = 1e-5;
    for i in 0..k {
        for row in 0..n {
            let moved = |by: f64| {
                let mut moved = before.clone();
                moved[[row, i]] += by;
                rayleigh_after_cholesky(&t, &moved, i)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            // One step of gradient descent at rate 1: the step is the gradient of Λ_ii.
            let got = f64::from(new[i][row]) - f64::from(old[i][row]);
            assert!((got - slope).abs() < 1e-5 * (1.0 + slope.abs()), "{i}: {got} {slope}");
        }
    }
}

#[test]
fn spin_gradient_of_a_shared_trunk_is_that_of_its_averages_too() {
    let (n, k) = (8, 3);
    let t = operator(n);
    let operator = PrecomputedOperator::new(dataset(&(&t * n as f64)), 1).unwrap();
    let network = "shared_mlp(hidden=[3], activation=tanh)";
    let (mut learner, batch) = table("spin(beta=0.3)", n, k, "sgd(lr=1, momentum=0)", network);
    // Steps of no length: averages of the same full batch are that batch's own values.
    for _ in 0..3 {
        learner.step(&batch, batch.x.view(), &operator, 0.0, None).unwrap();
    }
    let values =
        |learner: &Learner| learner.network.forward(batch.x.view(), None).unwrap().mapv(f64::from);
    let (base, old) = (values(&learner), learner.network.parameters().units()[0].clone());
    // Σ_i Λ_ii, function i moving alone in its own term.
    let masked = |moved: &Mat64| -> f64 {
        let one = |i: usize| {
            let mut u = base.clone();
            u.column_mut(i).assign(&moved.column(i));
            rayleigh_after_cholesky(&t, &u, i)
        };
        (0..k).map(one).sum()
    };
    let h = 1e-2f32;
    let slopes: Vec<f64> = (0..old.len())
        .map(|p| {
            let mut at = |by: f32| {
                learner.network.parameters_mut().units_mut()[0][p] = old[p] + by;
                let value = masked(&values(&learner));
                learner.network.parameters_mut().units_mut()[0][p] = old[p];
                value
            };
            // Fourth order: single precision needs wide steps.
            (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h))
        })
        .collect();
    learner.step(&batch, batch.x.view(), &operator, 1.0, None).unwrap();
    let new = &learner.network.parameters().units()[0];
    let scale = slopes.iter().fold(0.0f64, |m, s| m.max(s.abs()));
    for ((new, old), slope) in new.iter().zip(&old).zip(&slopes) {
        let got = f64::from(*new) - f64::from(*old);
        assert!((got - slope).abs() < 1e-3 * scale, "{got} {slope}, of {scale}");
    }
}

#[test]
fn spin_remembers_its_averages() {
    let operator = PrecomputedOperator::new(dataset(&gram(24)), 1).unwrap();
    let new = || table("spin(beta=0.3)", 24, 3, "sgd(lr=0.1, momentum=0)", "mlp(hidden=[])");
    let (mut whole, batch) = new();
    let run = |learner: &mut Learner, steps: usize| {
        for _ in 0..steps {
            learner.step(&batch, batch.x.view(), &operator, 0.1, None).unwrap();
        }
    };
    run(&mut whole, 5);
    let (mut first, _) = new();
    run(&mut first, 2);
    let (mut second, _) = new();
    *second.network.parameters_mut() = first.network.parameters().clone();
    second.objective.restore(&first.objective.state()).unwrap();
    run(&mut second, 3);
    assert_eq!(second.network.parameters(), whole.network.parameters());
    let (other, _) = table("spin", 24, 2, "adam", "mlp(hidden=[])");
    assert!(second.objective.restore(&other.objective.state()).is_err());
}

/// The principal components of correlated data by EigenGame, in batches, against the dense solver.
fn finds_principal_components(variant: &str, batch: usize, steps: u64, tolerance: f64) {
    let (n, d, k) = (256, 6, 3);
    let scales = [3.0, 2.0, 1.4, 0.5, 0.3, 0.1];
    let (_, basis) = linalg::eigh(operator(d).view()).unwrap();
    let stretched = random(n, d, 5) * &ndarray::arr1(&scales);
    let x = stretched.dot(&basis.t());
    let network = "mlp(hidden=[])".parse::<NetworkSpec>().unwrap().build(d, k, 1, 3).unwrap();
    let optimizer =
        "sgd(momentum=0)".parse::<OptimizerSpec>().unwrap().build(network.parameters()).unwrap();
    let objective = fresh(&format!("eigengame_pca(variant={variant})"));
    let mut learner = Learner::new(network, optimizer, objective, Some("linear(coef0=0)")).unwrap();
    let kernel = "linear".parse::<crate::KernelSpec>().unwrap().resolve(None, 0).unwrap();
    let linear = ExplicitOperator::new(kernel);
    for step in 0..steps {
        let start = step as usize * batch % n;
        let rows: Vec<usize> = (start..start + batch).collect();
        let part = x.select(ndarray::Axis(0), &rows).mapv(|v| v as f32);
        let batch = Batch { indices: rows, x: part };
        let rate = 0.1 * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
        learner.step(&batch, batch.x.view(), &linear, rate, None).unwrap();
    }
    let (values, vectors) = linalg::eigh(mean(&x, &x).view()).unwrap();
    for (j, unit) in learner.network.parameters().units().iter().enumerate() {
        let own = ndarray::Array1::from_iter(unit[..d].iter().map(|v| f64::from(*v)));
        assert!((own.dot(&own) - 1.0).abs() < 1e-6 && unit[d] == 0.0);
        let cosine = own.dot(&vectors.column(j)).abs();
        let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
        assert!(sine < tolerance, "{variant} {j}: |cos| {cosine}");
        let mu = own.dot(&mean(&x, &x).dot(&own));
        assert!((mu / values[j] - 1.0).abs() < tolerance, "{variant} {j}: {mu} not {}", values[j]);
    }
}

#[test]
fn eigengame_climbs_the_gradient_of_its_utility_along_the_sphere() {
    let (n, d, k) = (40, 5, 3);
    let x = random(n, d, 5);
    let m = mean(&x, &x);
    // Of player j, those before it held fixed; for the second variant with their pulls held fixed.
    let utility =
        |variant: &str, v: &[ndarray::Array1<f64>], at: &ndarray::Array1<f64>, j: usize| {
            let product = |a: &ndarray::Array1<f64>, b: &ndarray::Array1<f64>| a.dot(&m.dot(b));
            let own = product(at, at);
            let penalty = |i: usize| match variant {
                "alpha" => product(at, &v[i]).powi(2) / product(&v[i], &v[i]),
                _ => 2.0 * product(&v[i], &v[j]) * v[i].dot(at),
            };
            own - (0..j).map(penalty).sum::<f64>()
        };
    for variant in ["alpha", "mu"] {
        let network = "mlp(hidden=[])".parse::<NetworkSpec>().unwrap().build(d, k, 1, 3).unwrap();
        let optimizer = "sgd(momentum=0)".parse::<OptimizerSpec>().unwrap();
        let optimizer = optimizer.build(network.parameters()).unwrap();
        let text = format!("eigengame_pca(variant={variant})");
        let objective = fresh(&text);
        let mut learner =
            Learner::new(network, optimizer, objective, Some("linear(coef0=0)")).unwrap();
        let vectors = |learner: &Learner| -> Vec<ndarray::Array1<f64>> {
            let units = learner.network.parameters().units().iter();
            units.map(|u| u[..d].iter().map(|v| f64::from(*v)).collect()).collect()
        };
        let kernel = "linear".parse::<crate::KernelSpec>().unwrap().resolve(None, 0).unwrap();
        let batch = Batch { indices: (0..n).collect(), x: x.mapv(|v| v as f32) };
        let (before, rate, h) = (vectors(&learner), 1e-3, 1e-5);
        let operator = ExplicitOperator::new(kernel);
        learner.step(&batch, batch.x.view(), &operator, rate, None).unwrap();
        for (j, after) in vectors(&learner).iter().enumerate() {
            let gradient = ndarray::Array1::from_shape_fn(d, |i| {
                let moved = |by: f64| {
                    let mut moved = before[j].clone();
                    moved[i] += by;
                    utility(variant, &before, &moved, j)
                };
                (moved(h) - moved(-h)) / (2.0 * h)
            });
            let along = &gradient - &(&before[j] * gradient.dot(&before[j]));
            let step = (after - &before[j]) / rate;
            let off = (&step - &along).mapv(f64::abs).fold(0.0, |m: f64, v| m.max(*v));
            // Second order in the rate, and rounding of single precision over the rate.
            assert!(off < 2e-3, "{variant} {j}: {step} not {along}");
        }
    }
}

#[test]
fn eigengame_finds_principal_components_with_full_batches_to_a_thousandth() {
    finds_principal_components("alpha", 256, 1500, 1e-3);
    finds_principal_components("mu", 256, 1500, 1e-3);
}

#[test]
fn eigengame_finds_principal_components_of_a_stream() {
    // The first variant's penalty is a ratio of batch means, and biased for it: its error is larger.
    finds_principal_components("alpha", 32, 4000, 4e-2);
    finds_principal_components("mu", 32, 4000, 2e-2);
}

#[test]
fn eigengame_pca_names_what_it_cannot_serve() {
    let objective = || fresh("eigengame_pca");
    let optimizer: OptimizerSpec = "adam".parse().unwrap();
    for (network, kernel, part) in [
        ("mlp(hidden=[4])", Some("linear(coef0=0)"), "network must be mlp(hidden=[])"),
        ("shared_mlp(hidden=[])", Some("linear(coef0=0)"), "network must be mlp(hidden=[])"),
        ("mlp(hidden=[])", Some("rbf(lengthscale=1)"), "not of rbf(lengthscale=1)"),
        ("mlp(hidden=[])", None, "not of a Gram matrix or features"),
    ] {
        let network = network.parse::<NetworkSpec>().unwrap().build(3, 2, 1, 0).unwrap();
        let optimizer = optimizer.build(network.parameters()).unwrap();
        let error = Learner::new(network, optimizer, objective(), kernel).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn texts_round_trip_and_faults_are_named() {
    for text in [
        "neuralef(estimator=paper)",
        "neuralef(estimator=unbiased)",
        "mu_eigengame(estimator=unbiased)",
        "nested_lora(nesting=joint, split=false, estimator=paper)",
        "spin(beta=0.25, estimator=paper)",
        "eigengame_pca(variant=alpha)",
    ] {
        assert_eq!(OBJECTIVES.build_text(text).unwrap().text(), text);
    }
    for (text, part) in [
        ("neuralef(estimator=unbaised)", "did you mean `unbiased`"),
        ("spin(beta=0)", "greater than 0"),
        ("spin(beta=2)", "at most 1"),
        ("nested_lora(nesting=jiont)", "did you mean `joint`"),
        ("eigengame_pca(variant=beta)", "variant"),
    ] {
        let message = OBJECTIVES.build_text(text).err().unwrap().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn every_entry_builds_prints_and_parses() {
    use crate::spec::{Sample, registry::assert_complete};
    assert_complete(&OBJECTIVES, &[], Sample::Missing, |objective| objective.text());
}

#[test]
fn a_jacobian_is_made_of_backward_passes() {
    use crate::nn::Tape;
    let texts = ["mlp(hidden=[5], activation=tanh)", "shared_mlp(hidden=[5], activation=tanh)"];
    for (network, c) in texts.into_iter().flat_map(|text| [(text, 1), (text, 4)]) {
        let network = network.parse::<NetworkSpec>().unwrap().build(2, 3, c, 7).unwrap();
        let x = random(9, 2, 8).mapv(|v| v as f32);
        let weights = random(9 * c, 2, 9).mapv(|v| v as f32);
        let mut tape = Tape::default();
        network.forward(x.view(), Some(&mut tape)).unwrap();
        let jacobian = network.jacobian(&tape, weights.view()).unwrap();
        let mut gradient = network.parameters().zeros_like();
        for i in 0..3 {
            for j in 0..2 {
                let cotangent = Mat::from_shape_fn((9, 3 * c), |(b, column)| {
                    if column / c == i { weights[[b * c + column % c, j]] } else { 0.0 }
                });
                network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
                assert_eq!(jacobian[i * 2 + j], gradient.units()[network.unit(i)]);
            }
        }
    }
}

#[test]
fn operators_are_not_asked_where_nobody_looks() {
    struct Refuses;
    impl KernelOperator for Refuses {
        fn apply(
            &self,
            _: &Batch,
            _: crate::MatRef<'_>,
            _: crate::operator::Diagonal,
            _: crate::matrix::MatMut<'_>,
        ) -> crate::Result<()> {
            Err(Error::parameter("operator", "no call", "one"))
        }
        fn applied<'a>(
            &'a self,
            _: &[Batch],
            _: Mat64,
        ) -> crate::Result<Box<dyn crate::operator::AppliedOperator + 'a>> {
            Err(Error::parameter("operator", "no call", "one"))
        }
        fn diag(&self, _: &Batch) -> crate::Result<Vec<f64>> {
            Err(Error::parameter("operator", "no call", "one"))
        }
    }
    let network = "mlp(hidden=[])".parse::<NetworkSpec>().unwrap().build(4, 2, 1, 3).unwrap();
    let optimizer = "adam".parse::<OptimizerSpec>().unwrap().build(network.parameters()).unwrap();
    let objective = fresh("eigengame_pca");
    let mut learner = Learner::new(network, optimizer, objective, Some("linear(coef0=0)")).unwrap();
    let batch = Batch { indices: (0..8).collect(), x: random(8, 4, 1).mapv(|v| v as f32) };
    learner.step(&batch, batch.x.view(), &Refuses, 0.01, None).unwrap();
}
