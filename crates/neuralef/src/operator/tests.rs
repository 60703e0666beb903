//! Every operator against dense arithmetic, and against one another.

use std::sync::Arc;

use ndarray::{Array2, Axis};

use super::*;
use crate::data::Dataset;
use crate::kernel::KernelSpec;
use crate::matrix::{Mat, Mat64};
use crate::rng;
use rand::RngExt as _;

fn random(rows: usize, columns: usize, seed: u64) -> Mat {
    let mut rng = rng::stream(seed, "test", 0);
    Array2::from_shape_fn((rows, columns), |_| rng.random_range(-1.0..1.0))
}

fn batch(x: &Mat, indices: &[usize]) -> Batch {
    Batch { indices: indices.to_vec(), x: x.select(Axis(0), indices) }
}

/// Dense K, f64, of `text` on x.
fn gram(text: &str, x: &Mat) -> Mat64 {
    let kernel = text.parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap();
    let mut out = Mat64::zeros((x.nrows(), x.nrows()));
    kernel.gram(x.view(), x.view(), out.view_mut()).unwrap();
    out
}

fn explicit(text: &str) -> ExplicitOperator {
    ExplicitOperator::new(text.parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap())
}

/// Checks `apply` (both diagonals), `image` and `diag` of an operator against its dense matrix.
fn check(operator: &dyn KernelOperator, x: &Mat, dense: &Mat64) {
    let indices: Vec<usize> = vec![7, 3, 150, 21, 88, 64, 2, 199, 120, 45];
    let points = batch(x, &indices);
    let local = dense.select(Axis(0), &indices).select(Axis(1), &indices);
    let psi = random(indices.len(), 3, 5);
    let psi64 = psi.mapv(f64::from);
    let scale = dense.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for diagonal in [Diagonal::Keep, Diagonal::Drop] {
        let mut off = local.clone();
        let mut divisor = indices.len() as f64;
        if diagonal == Diagonal::Drop {
            off.diag_mut().fill(0.0);
            divisor -= 1.0;
        }
        let expected = off.dot(&psi64) / divisor;
        let mut out = Mat::zeros(psi.raw_dim());
        operator.apply(&points, psi.view(), diagonal, out.view_mut()).unwrap();
        for (a, b) in out.iter().zip(&expected) {
            assert!((f64::from(*a) - b).abs() < 2e-6 * scale, "{diagonal:?}: {a} {b}");
        }
    }
    // The image of a sample in two blocks, at other points.
    let sample: Vec<usize> = (0..x.nrows()).step_by(2).collect();
    let values = random(sample.len(), 4, 6).mapv(f64::from);
    let block = dense.select(Axis(0), &sample).select(Axis(1), &sample);
    let n = sample.len() as f64;
    let expected = values.t().dot(&block.dot(&values)) / (n * n);
    let mut told = Vec::new();
    let form = operator
        .quadratic_form(&[batch(x, &sample)], &values, &mut |done, total| {
            told.push((done, total));
            Ok(())
        })
        .unwrap();
    assert_eq!(told, [(0, 1)]);
    for ((at, a), b) in form.indexed_iter().zip(&expected) {
        let rounding = 1e-13 + 4.0 * operator.unit_roundoff();
        assert!((a - b).abs() < rounding * scale, "{a} {b}");
        assert!(form[(at.1, at.0)] == *a, "not symmetric");
    }
    let (first, second) = sample.split_at(33);
    let image = operator.applied(&[batch(x, first), batch(x, second)], values.clone()).unwrap();
    let rows = dense.select(Axis(0), &indices).select(Axis(1), &sample);
    let expected = rows.dot(&values) / sample.len() as f64;
    let tolerance = 20.0 * operator.unit_roundoff() * scale;
    for (a, b) in image.at(&points).unwrap().iter().zip(&expected) {
        assert!((a - b).abs() < tolerance, "{a} {b}");
    }
    for (a, b) in operator.diag(&points).unwrap().iter().zip(local.diag()) {
        assert!((a - b).abs() < tolerance, "{a} {b}");
    }
}

#[test]
fn explicit_operator_is_the_dense_product() {
    let x = random(200, 3, 1);
    let text = "rbf(lengthscale=0.7) + 0.5*linear";
    check(&explicit(text), &x, &gram(text, &x));
}

#[test]
fn precomputed_operator_is_the_dense_product() {
    let x = random(200, 3, 2);
    let dense = gram("matern(nu=1.5, lengthscale=1)", &x);
    let stored = Dataset::from_array("gram", dense.mapv(|v| v as f32)).unwrap();
    check(&PrecomputedOperator::new(stored, 1).unwrap(), &x, &dense);
}

#[test]
fn feature_operator_is_the_dense_product() {
    let x = random(200, 3, 3);
    let phi = random(200, 17, 4);
    let dense = phi.mapv(f64::from).dot(&phi.mapv(f64::from).t()) / 17.0;
    let operator = FeatureOperator::new(Dataset::from_array("phi", phi).unwrap(), 1).unwrap();
    check(&operator, &x, &dense);
}

#[test]
fn features_with_outputs_drop_the_whole_block_of_a_point() {
    let (points, outputs, samples) = (9, 2, 5);
    let phi = random(points * outputs, samples, 4);
    let features = Dataset::from_array("phi", phi.clone()).unwrap();
    let operator = FeatureOperator::new(features, outputs).unwrap();
    let mut dense = phi.dot(&phi.t()) / samples as f32;
    for p in 0..points {
        let rows = p * outputs..(p + 1) * outputs;
        dense.slice_mut(ndarray::s![rows.clone(), rows]).fill(0.0);
    }
    let psi = random(points * outputs, 3, 8);
    let expected = dense.dot(&psi) / (points - 1) as f32;
    let all: Vec<usize> = (0..points).collect();
    let mut out = Mat::zeros(psi.raw_dim());
    let batch = Batch { indices: all, x: Mat::zeros((points, 1)) };
    operator.apply(&batch, psi.view(), Diagonal::Drop, out.view_mut()).unwrap();
    for (a, b) in out.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn unbiased_estimate_has_the_population_mean() {
    // Brownian kernel on U[0,1], psi = first eigenfunction: E[psi T psi] = mu_1 = 4/pi^2.
    let mu = 4.0 / std::f64::consts::PI.powi(2);
    let operator = explicit("brownian");
    let (batches, size) = (4000, 8);
    let mut means = [0.0, 0.0];
    let mut squares = [0.0, 0.0];
    let mut rng = rng::stream(11, "test", 0);
    for _ in 0..batches {
        let x = Array2::from_shape_fn((size, 1), |_| rng.random_range(0.0f32..1.0));
        let psi = x.mapv(|t| std::f32::consts::SQRT_2 * (std::f32::consts::FRAC_PI_2 * t).sin());
        let points = Batch { indices: (0..size).collect(), x };
        for (e, diagonal) in [Diagonal::Keep, Diagonal::Drop].into_iter().enumerate() {
            let mut out = Mat::zeros((size, 1));
            operator.apply(&points, psi.view(), diagonal, out.view_mut()).unwrap();
            let r = f64::from((&out * &psi).sum()) / size as f64;
            means[e] += r / f64::from(batches);
            squares[e] += r * r / f64::from(batches);
        }
    }
    let error = |e: usize| ((squares[e] - means[e] * means[e]) / f64::from(batches)).sqrt();
    assert!((means[1] - mu).abs() < 4.0 * error(1), "{} ± {}, not {mu}", means[1], error(1));
    // The paper's estimate is (1 − 1/B)μ + E[κ(x,x)ψ²]/B; E[tψ²] = ½ + 2/π² for this ψ.
    let own = 0.5 + 2.0 / std::f64::consts::PI.powi(2);
    let biased = mu * (1.0 - 1.0 / size as f64) + own / size as f64;
    assert!((means[0] - biased).abs() < 4.0 * error(0), "{} not {biased}", means[0]);
    assert!((means[0] - mu).abs() > 6.0 * error(0), "the bias should be visible here");
}

#[test]
fn wrong_shapes_are_refused() {
    let square = Dataset::from_array("g", random(4, 5, 1)).unwrap();
    assert!(PrecomputedOperator::new(square, 1).is_err());
    let lopsided = Dataset::from_array("g", random(5, 5, 1)).unwrap();
    assert!(PrecomputedOperator::new(lopsided, 1).is_err(), "not symmetric");
    let odd = Dataset::from_array("phi", random(5, 5, 1)).unwrap();
    assert!(FeatureOperator::new(odd, 2).is_err());
    let operator: Arc<dyn KernelOperator> = Arc::new(explicit("linear"));
    let points = Batch { indices: vec![0, 1], x: random(2, 1, 1) };
    let mut out = Mat::zeros((3, 1));
    let wrong = random(3, 1, 1);
    assert!(operator.apply(&points, wrong.view(), Diagonal::Keep, out.view_mut()).is_err());
    assert!(operator.applied(&[points], Mat64::zeros((3, 1))).is_err());
}

#[test]
fn quadratic_forms_of_several_blocks_are_those_of_the_dense_matrix() {
    // Beyond one block of rows and one of columns, with ragged ends.
    let x = random(2300, 2, 11);
    let operator = explicit("rbf(lengthscale=0.7)");
    let values = random(2300, 3, 12).mapv(f64::from);
    let expected = values.t().dot(&gram("rbf(lengthscale=0.7)", &x).dot(&values)) / 2300f64.powi(2);
    let sample: Vec<Batch> = [0..1000, 1000..1003, 1003..2300]
        .map(|rows| batch(&x, &rows.collect::<Vec<_>>()))
        .into_iter()
        .collect();
    let form = operator.quadratic_form(&sample, &values, &mut |_, _| Ok(())).unwrap();
    for (a, b) in form.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-13, "{a} {b}");
    }
    let stop = |done, _| match done {
        0 => Ok(()),
        _ => Err(crate::Error::Interrupted { step: 7, checkpoint: None }),
    };
    let stopped = operator.quadratic_form(&sample, &values, &mut { stop });
    assert!(matches!(stopped, Err(crate::Error::Interrupted { step: 7, .. })));
}
