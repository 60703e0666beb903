//! Nyström over all points against the exact eigenpairs, its bound, and the formula written out.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};

use crate::features::FeatureMap;
use crate::fit::certificate::Image;
use crate::fit::{Problem, fit};
use crate::kernel::Kernel;
use crate::linalg::{eigh, matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat, Mat64};
use crate::method::landmark_points::LandmarkPoints;
use crate::method::low_rank::LowRank;
use crate::method::sampled_image::SampledImage;
use crate::operator::{Batch, ExplicitOperator, KernelOperator, symmetric_gram};
use crate::test_kernels::rbf;
use crate::{Dataset, FitSpec};

fn points(n: usize, d: usize) -> Mat {
    let spec = format!("gaussian(n={n}, d={d})");
    let data = Dataset::open(&spec, 1).unwrap();
    data.range(0..n).unwrap()
}

fn low_rank(kernel: &Arc<dyn Kernel>, x: &Mat, m: usize) -> LowRank {
    let x = x.slice(s![..m, ..]).to_owned();
    let gram = symmetric_gram(&**kernel, x.view().into()).unwrap();
    let factor = crate::linalg::pivoted_cholesky(gram.view(), 1e-13).unwrap();
    let landmarks = LandmarkPoints::from(x.select(Axis(0), &factor.order));
    LowRank::new(kernel.clone(), landmarks, factor)
}

fn batch(x: &Mat) -> Batch {
    Batch { indices: (0..x.nrows()).collect(), x: x.clone() }
}

/// The k leading eigenvalues of K/n and of K_nL K_LL⁻¹ K_Ln/n, dense.
fn dense(kernel: &dyn Kernel, x: &Mat, m: usize) -> (Vec<f64>, Vec<f64>, f64) {
    let n = x.nrows() as f64;
    let gram = symmetric_gram(kernel, x.view().into()).unwrap();
    let exact = eigh((&gram / n).view()).unwrap().0;
    let own = gram.slice(s![..m, ..m]).to_owned();
    let (values, vectors) = eigh(own.view()).unwrap();
    let mut whitener = vectors;
    for (mut column, value) in whitener.columns_mut().into_iter().zip(&values) {
        column /= value.sqrt();
    }
    let phi = matmul_f64(gram.slice(s![.., ..m]), whitener.view()).unwrap();
    let second = tr_matmul_f64(phi.view(), phi.view()).unwrap() / n;
    let lost = gram.diag().sum() / n - second.diag().sum();
    (exact, eigh(second.view()).unwrap().0, lost)
}

#[test]
fn eigenvalues_are_those_of_the_formula_and_within_its_bound() {
    let x = points(500, 2);
    // Well conditioned landmarks, whose sums are squared, and badly conditioned ones, whose are not.
    for (lengthscale, m, tolerance) in [(0.3, 40, 1e-12), (1.0, 25, 1e-7)] {
        let kernel: Arc<dyn Kernel> = Arc::new(rbf(lengthscale));
        let low_rank = low_rank(&kernel, &x, m);
        let mut moments = low_rank.moments();
        for block in x.axis_chunks_iter(Axis(0), 130) {
            low_rank.add(&batch(&block.to_owned()), &mut moments).unwrap();
        }
        let mut pairs = low_rank.pairs(&moments, 10).unwrap();
        let (exact, formula, lost) = dense(&*kernel, &x, m);
        for j in 0..10 {
            let (found, want) = (pairs.values[j], formula[j]);
            assert!((found - want).abs() < tolerance * formula[0], "{j}: {found} {want}");
            assert!(found <= exact[j] + 1e-12 && exact[j] <= found + pairs.remainder + 1e-12);
        }
        assert!((pairs.remainder - lost).abs() < 1e-9, "{} {lost}", pairs.remainder);
        // The map is orthonormal over the points, and its features have the trace of its eigenvalues.
        let map = low_rank.map(&mut pairs).unwrap();
        let psi = map.eigenfunctions(x.view()).unwrap();
        let gram = tr_matmul_f64(psi.view(), psi.view()).unwrap() / 500.0;
        let worst = (&gram - &Mat64::eye(10)).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(worst < 1e-6, "{worst:e}");
    }
}

#[test]
fn the_sampled_image_is_the_operator_itself_on_average_and_exactly_over_all_points() {
    let x = points(600, 2);
    let kernel: Arc<dyn Kernel> = Arc::new(rbf(0.4));
    let low_rank = low_rank(&kernel, &x, 30);
    let mut moments = low_rank.moments();
    low_rank.add(&batch(&x), &mut moments).unwrap();
    let mut pairs = low_rank.pairs(&moments, 6).unwrap();
    let map = low_rank.map(&mut pairs).unwrap();
    let mut coefficients = pairs.vectors.clone();
    for (mut column, mu) in coefficients.columns_mut().into_iter().zip(&pairs.values) {
        column *= mu.sqrt();
    }
    let operator: Arc<dyn KernelOperator> = Arc::new(ExplicitOperator::new(kernel));
    let psi = map.eigenfunctions(x.view()).unwrap();
    let fresh = batch(&points(680, 2).slice(s![600.., ..]).to_owned());
    let exact = operator.applied(&[batch(&x)], psi.clone()).unwrap().at(&fresh).unwrap();
    let sampled = |rows: Vec<usize>| {
        let sample = Batch { x: x.select(Axis(0), &rows), indices: rows };
        let eigenfunctions = |x: crate::matrix::MatRef<'_>| map.eigenfunctions(x);
        let (low_rank, operator) = (low_rank.clone(), operator.clone());
        let image =
            SampledImage::new(low_rank, operator, &sample, &coefficients, eigenfunctions).unwrap();
        image.at(&fresh, &Array2::zeros((0, 0))).unwrap()
    };
    let rms = |a: &Mat64, b: &Mat64| {
        let difference = a - b;
        (difference.iter().map(|v| v * v).sum::<f64>() / difference.len() as f64).sqrt()
    };
    // The mean of both halves over all points is exact.
    let all = sampled((0..600).collect());
    let mean = (&all[0] + &all[1]) / 2.0;
    assert!(rms(&mean, &exact) < 1e-12, "{:e}", rms(&mean, &exact));
    // Of a sixth it is off by less than what K̂ lacks; K̂ alone lacks more.
    let some = sampled((0..600).step_by(6).collect());
    let mean = (&some[0] + &some[1]) / 2.0;
    let held_out = map.eigenfunctions(fresh.x.view()).unwrap();
    let alone = &held_out * &Mat64::from_shape_fn((1, 6), |(_, j)| pairs.values[j]);
    assert!(rms(&mean, &exact) < 0.6 * rms(&alone, &exact));
    assert!(rms(&alone, &exact) > 1e-6);
}

#[test]
fn a_fit_uses_all_points_and_its_certificate_those_that_it_had_not_seen() {
    let data = Dataset::open("gaussian(n=1000, d=2)", 0).unwrap();
    let mut spec = FitSpec::new("rbf(lengthscale=1)", 8).unwrap();
    spec.method = "nystrom".into();
    let model = fit(&data, &spec).unwrap();
    let certificate = model.certificate();
    assert_eq!((certificate.held_out_points, certificate.training_points), (50, 900));
    assert_eq!(certificate.eigenvalue_points, 1000);
    let problem = Problem::new(&data, None, &spec).unwrap();
    assert_eq!(problem.refit_rows().len(), 100);
    let exact = FitSpec { method: "kernel_pca".into(), validation_fraction: 0.0, ..spec.clone() };
    let exact = fit(&data, &exact).unwrap();
    let remainder = model.info().record.remainder.unwrap();
    for (j, (found, want)) in model.eigenvalues().iter().zip(exact.eigenvalues()).enumerate() {
        assert!(
            found <= &(want + 1e-12) && *want <= found + remainder + 1e-12,
            "{j}: {found} {want}"
        );
        assert!((found / want - 1.0).abs() < 1e-3, "{j}: {found} {want}");
    }
    // Left out, nothing else changes.
    let unmeasured = fit(&data, &FitSpec { certificate: false, ..spec }).unwrap();
    assert_eq!(unmeasured.eigenvalues(), model.eigenvalues());
    assert!(unmeasured.certificate().pairs.is_empty());
    assert!((unmeasured.certificate().captured_trace - certificate.captured_trace).abs() < 1e-3);
}

#[test]
fn residuals_through_landmarks_are_those_of_the_operator() {
    let data = Dataset::open("gaussian(n=2000, d=3)", 0).unwrap();
    let mut spec = FitSpec::new("rbf(lengthscale=1)", 6).unwrap();
    spec.method = "nystrom(landmarks=40)".into();
    // A sixteenth of the points, 256 at least, estimates what κ has beyond the landmarks.
    let model = fit(&data, &spec).unwrap();
    let problem = Problem::new(&data, None, &spec).unwrap();
    let held_out = problem.batch(&problem.split.certificate).unwrap();
    let train = problem.batch(&problem.split.train).unwrap();
    // The final map differs from the measured one by a tenth of the points.
    let psi = |b: &Batch| model.eigenfunctions(b.x.view()).unwrap();
    let applied = problem.operator.applied(&[train.clone()], psi(&train)).unwrap();
    let (t_psi, psi) = (applied.at(&held_out).unwrap(), psi(&held_out));
    for (j, pair) in model.certificate().pairs.iter().enumerate() {
        let mu = pair.eigenvalue;
        let rest = (&t_psi.column(j) - &(&psi.column(j) * mu)).mapv(|v| v * v);
        let want = rest.mean().unwrap().sqrt() / mu;
        assert!((pair.residual - want).abs() < 0.35 * want + 0.01, "{j}: {} {want}", pair.residual);
    }
}

#[test]
fn the_best_of_two_is_kept_and_read_back() {
    let data = Dataset::open("digits", 0).unwrap();
    let mut spec = FitSpec::new("rbf(lengthscale=median)", 5).unwrap();
    spec.method = "best".into();
    spec.network = "mlp(hidden=[4], activation=tanh)".into();
    spec.steps = crate::fit::Steps::Exactly(0);
    let model = fit(&data, &spec).unwrap();
    let beside = model.info().record.beside.as_ref().unwrap();
    assert!(beside.nystrom_residual < beside.residual, "{beside:?}");
    assert_eq!(model.info().spec.method.to_string(), "nystrom");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model.save(&path).unwrap();
    let again = crate::Model::load(&path).unwrap();
    let x = data.range(0..20).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
}
