//! Linear models against scikit-learn, explicit Gaussian processes and their first-order conditions.

use ndarray::{Array2, Axis, array, concatenate, s};
use rand::RngExt as _;
use serde::Deserialize;

use super::*;
use crate::Dataset;
use crate::linalg::{matmul_f64, tr_matmul_f64};

#[derive(Deserialize)]
struct Golden {
    logistic: Vec<LogisticCase>,
    digits: Digits,
}

#[derive(Deserialize)]
struct LogisticCase {
    x: Vec<f32>,
    columns: usize,
    labels: Vec<i64>,
    c: f64,
    intercept: bool,
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    probabilities: Vec<f64>,
    log_loss: f64,
    accuracy: f64,
}

#[derive(Deserialize)]
struct Digits {
    c: f64,
    norm: f64,
    log_loss: f64,
    accuracy: f64,
    probabilities: Vec<f64>,
    inertia: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("goldens/probe.json")).unwrap()
}

fn assert_close<'a>(
    found: impl IntoIterator<Item = &'a f64>,
    want: &[f64],
    tolerance: f64,
    what: &str,
) {
    let found: Vec<f64> = found.into_iter().copied().collect();
    assert_eq!(found.len(), want.len(), "{what}");
    for (found, want) in found.iter().zip(want) {
        let scale = want.abs().max(1.0);
        assert!((found - want).abs() <= tolerance * scale, "{what}: {found} {want}");
    }
}

fn draw(n: usize, k: usize, seed: u64) -> Mat {
    let mut rng = crate::rng::stream(seed, "test", 0);
    Mat::from_shape_fn((n, k), |_| rng.random_range(-1.0f32..1.0))
}

fn double(x: &Mat) -> Mat64 {
    x.mapv(f64::from)
}

#[test]
fn logistic_regression_is_that_of_scikit_learn() {
    let cases = golden().logistic;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let x = Mat::from_shape_vec((case.labels.len(), case.columns), case.x).unwrap();
        let spec = LogisticRegression {
            c: case.c,
            intercept: case.intercept,
            tol: 1e-11,
            ..Default::default()
        };
        let model = spec.fit(x.view(), &case.labels).unwrap();
        let what = format!("C = {}, {:?}", case.c, model.record());
        assert!(model.record().converged && model.record().iterations < 60, "{what}");
        assert_close(&model.coefficients(), &case.coefficients, 1e-6, &what);
        assert_close(model.intercepts(), &case.intercepts, 1e-6, &what);
        let p = model.predict_proba(x.view()).unwrap();
        assert_close(&p, &case.probabilities, 1e-7, &what);
        let loss = model.log_loss(x.view(), &case.labels).unwrap();
        assert!((loss - case.log_loss).abs() < 1e-8, "{what}: {loss}");
        let accuracy = model.accuracy(x.view(), &case.labels).unwrap();
        assert!((accuracy - case.accuracy).abs() < 1e-12, "{what}: {accuracy}");
    }
}

#[test]
fn digits_are_those_of_scikit_learn() {
    let want = golden().digits;
    let data = Dataset::open("digits", 0).unwrap();
    let x = data.range(0..data.len()).unwrap();
    // The embedded digits are scaled otherwise than scikit-learn's; its greys go from 0 to 16.
    let largest = x.iter().fold(0.0f32, |m, v| m.max(*v));
    let x = x.mapv(|v| v / largest);
    let labels = data.labels().unwrap();
    let (train, test) = (x.slice(s![..1000, ..]), x.slice(s![1000.., ..]));
    let spec = LogisticRegression { c: want.c, tol: 1e-9, ..Default::default() };
    let model = spec.fit(train, &labels[..1000]).unwrap();
    let norm = model.coefficients().iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((norm - want.norm).abs() < 1e-6 * want.norm, "{norm} {}", want.norm);
    assert!((model.log_loss(test, &labels[1000..]).unwrap() - want.log_loss).abs() < 1e-7);
    assert!((model.accuracy(test, &labels[1000..]).unwrap() - want.accuracy).abs() < 1e-12);
    let p = model.predict_proba(x.slice(s![1000..1005, ..])).unwrap();
    assert_close(&p, &want.probabilities, 1e-6, "digits");

    let found = KMeans::new(10).fit(x.view()).unwrap();
    assert!(found.converged());
    // The best of 100 runs there; ten here come within 0.1 %, and nothing is below it by more.
    assert!((found.inertia() / want.inertia - 1.0).abs() < 1e-3, "{}", found.inertia());
}

/// X'(p − y) + w/C = 0 and, for the intercept, Σ(p − y) = 0, computed from the predictions.
#[test]
fn optima_satisfy_their_first_order_conditions() {
    let mut rng = crate::rng::stream(3, "test", 1);
    let x = draw(2500, 6, 2) * &array![1e-3f32, 1.0, 30.0, 1.0, 0.1, 5.0];
    for classes in [2i64, 5] {
        let labels: Vec<i64> = x
            .rows()
            .into_iter()
            .map(|r| {
                let noise: f32 = rng.random_range(-1.0..1.0);
                ((r[1] + r[3] + noise).abs() * 2.0) as i64 % classes
            })
            .collect();
        for c in [1e-3, 1.0, 1e4] {
            let spec = LogisticRegression { c, tol: 1e-12, ..Default::default() };
            let model = spec.fit(x.view(), &labels).unwrap();
            let mut residuals = model.predict_proba(x.view()).unwrap();
            for (mut row, i) in
                residuals.rows_mut().into_iter().zip(model.indices(&labels).unwrap())
            {
                row[i] -= 1.0;
            }
            let n = labels.len() as f64;
            let mut slope = tr_matmul_f64(residuals.view(), double(&x).view()).unwrap();
            let sums = residuals.sum_axis(Axis(0));
            let coefficients = model.coefficients();
            let first = slope.nrows() - coefficients.nrows();
            slope = slope.slice(s![first.., ..]).to_owned() + coefficients / c;
            let worst = slope.iter().chain(&sums).fold(0.0f64, |m, v| m.max(v.abs())) / n;
            assert!(worst < 1e-8, "{classes} classes, C = {c}: {worst:e}, {:?}", model.record());
        }
    }
}

#[test]
fn separable_classes_do_not_diverge() {
    let x = array![[-2.0f32, 1.0], [-1.0, 0.5], [1.0, 0.3], [2.0, -1.0], [5.0, 7.0], [6.0, 8.0]];
    for labels in [vec![0, 0, 1, 1, 1, 1], vec![0, 0, 1, 1, 2, 2]] {
        let mut last = 0.0;
        for c in [1.0, 1e3, 1e6, 1e9] {
            let spec = LogisticRegression { c, tol: 1e-12, ..Default::default() };
            let model = spec.fit(x.view(), &labels).unwrap();
            assert!(model.record().converged, "C = {c}: {:?}", model.record());
            let norm = model.coefficients().iter().fold(0.0f64, |m, v| m.max(v.abs()));
            // Growing with log C, not with C.
            assert!(norm > last && norm < 50.0, "C = {c}: {norm}");
            last = norm;
            assert_eq!(model.predict(x.view()).unwrap(), labels);
            assert!(model.log_loss(x.view(), &labels).unwrap() < 1.0);
        }
    }
}

#[test]
fn running_out_of_steps_is_told_and_bad_input_refused() {
    let x = draw(50, 3, 4);
    let labels: Vec<i64> = (0..50).map(|i| i % 3).collect();
    let spec = LogisticRegression { max_iter: 1, tol: 1e-12, ..Default::default() };
    let record = *spec.fit(x.view(), &labels).unwrap().record();
    assert!(!record.converged && record.iterations == 1 && record.gradient_norm > 1e-12);
    let refused = |spec: LogisticRegression, x: &Mat, labels: &[i64], part: &str| {
        let message = spec.fit(x.view(), labels).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    };
    let spec = LogisticRegression::default();
    for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(LogisticRegression { c, ..spec }, &x, &labels, "C: expected a positive finite");
    }
    refused(LogisticRegression { tol: f64::NAN, ..spec }, &x, &labels, "tol");
    refused(spec, &x, &labels[..49], "features: expected shape 49");
    refused(spec, &x, &[4; 50], "at least two classes, got the label 4 only");
    refused(spec, &Mat::zeros((50, 0)), &labels, "neither zero");
    refused(spec, &Mat::zeros((0, 3)), &[], "neither zero");
    let mut nan = x.clone();
    nan[(7, 2)] = f32::NAN;
    refused(spec, &nan, &labels, "NaN at row 7, column 2");
    let model = spec.fit(x.view(), &labels).unwrap();
    assert!(model.predict(Mat::zeros((5, 2)).view()).is_err());
    assert!(model.predict(nan.view()).is_err());
    assert!(model.log_loss(x.view(), &[9; 50]).unwrap_err().to_string().contains("got 9"));
    assert_eq!(model.accuracy(x.view(), &[9; 50]).unwrap(), 0.0);
}

/// The process written out with its n × n covariance.
#[test]
fn regression_is_an_explicit_gaussian_process() {
    let (x, test) = (draw(90, 7, 5), draw(11, 7, 6));
    let y = double(&draw(90, 2, 7)) * 3.0 + 5.0;
    for centre in [false, true] {
        let spec = GpRegression { prior_variance: 2.5, noise_variance: 0.3, centre };
        let model = spec.fit(x.view(), y.view()).unwrap();
        let (phi, new) = (double(&x), double(&test));
        let means = if centre { y.mean_axis(Axis(0)).unwrap() } else { y.row(0).to_owned() * 0.0 };
        let kernel = |a: &Mat64, b: &Mat64| a.dot(&b.t()) * 2.5;
        let covariance = kernel(&phi, &phi) + Mat64::eye(90) * 0.3;
        let lower = crate::linalg::cholesky_jittered(covariance.view()).unwrap();
        let white = lower.solve_lower((&y - &means).view()).unwrap();
        let cross = lower.solve_lower(kernel(&phi, &new).view()).unwrap();
        let mean = cross.t().dot(&white) + &means;
        assert_close(&model.predict(test.view()).unwrap(), mean.as_slice().unwrap(), 1e-12, "mean");
        let prior = kernel(&new, &new).diag().to_owned();
        let variance = prior - cross.map_axis(Axis(0), |v| v.dot(&v));
        let found = model.variance(test.view()).unwrap();
        assert_close(&found, variance.as_slice().unwrap(), 1e-12, "variance");
        let determinant: f64 = lower.lower.diag().iter().map(|v| 2.0 * v.ln()).sum();
        let constant = determinant + 90.0 * std::f64::consts::TAU.ln();
        let log_marginal = white.map_axis(Axis(0), |v| -0.5 * (v.dot(&v) + constant));
        let found = model.log_marginal_likelihood();
        assert_close(found, log_marginal.as_slice().unwrap(), 1e-12, "marginal likelihood");
    }
}

/// With s² = 1, zero gradient of ‖y − Φw‖² + σ²‖w‖²; the density of new observations, written out.
#[test]
fn the_mean_is_ridge_regression() {
    let x = draw(3000, 5, 8);
    let y = double(&draw(3000, 1, 9));
    let model = GpRegression::new(0.7).fit(x.view(), y.view()).unwrap();
    let w = model.weights();
    let residuals = matmul_f64(double(&x).view(), w).unwrap() - &y;
    let slope = tr_matmul_f64(double(&x).view(), residuals.view()).unwrap() + &w * 0.7;
    assert!(slope.iter().all(|v| v.abs() < 1e-11), "{slope}");
    let (mean, variance) = (model.predict(x.view()).unwrap(), model.variance(x.view()).unwrap());
    let densities = mean.iter().zip(&variance).zip(&y).map(|((m, v), y)| {
        let normal = statrs::distribution::Normal::new(*m, (v + 0.7).sqrt()).unwrap();
        statrs::distribution::Continuous::ln_pdf(&normal, *y)
    });
    let want = densities.sum::<f64>() / 3000.0;
    assert!((model.log_likelihood(x.view(), y.view()).unwrap() - want).abs() < 1e-12);
}

#[test]
fn variances_of_the_largest_marginal_likelihood() {
    // n = 4,000 points of a process with s² = 0.25 (40 weights), σ² = 0.04.
    let x = draw(4000, 40, 10);
    let mut rng = crate::rng::stream(11, "test", 0);
    let mut normal = || -> f64 { rng.sample(rand_distr::StandardNormal) };
    let weights = Array2::from_shape_fn((40, 3), |_| 0.5 * normal());
    let y = double(&x).dot(&weights) + Array2::from_shape_fn((4000, 3), |_| 0.2 * normal()) + 7.0;
    let found = GpRegression::by_marginal_likelihood(x.view(), y.view(), true).unwrap();
    // Standard errors: √(2/12000) of the noise, √(2/120) of the prior variance.
    assert!((found.noise_variance / 0.04 - 1.0).abs() < 4.0 * 0.013, "{found:?}");
    assert!((found.prior_variance / 0.25 - 1.0).abs() < 4.0 * 0.13, "{found:?}");
    // A stationary point of the marginal likelihood that the fit reports.
    let total = |prior: f64, noise: f64| -> f64 {
        let spec = GpRegression {
            prior_variance: found.prior_variance * prior,
            noise_variance: found.noise_variance * noise,
            centre: true,
        };
        spec.fit(x.view(), y.view()).unwrap().log_marginal_likelihood().iter().sum()
    };
    let best = total(1.0, 1.0);
    for (prior, noise) in [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)] {
        assert!(total(prior, noise) < best - 1e-3);
    }
    // Features that say nothing, and targets without noise, have no such point.
    let noise = Array2::from_shape_fn((4000, 1), |(i, _)| if i % 2 == 0 { 1.0 } else { -1.0 });
    let pairs = Array2::from_shape_fn((4000, 2), |(i, j)| x[(i / 2, j)]);
    let refused = |x: &Mat, y: &Mat64, centre: bool, part: &str| {
        let found = GpRegression::by_marginal_likelihood(x.view(), y.view(), centre);
        let message = found.unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    };
    refused(&pairs, &noise, false, "explain nothing");
    refused(&x, &double(&x).dot(&weights), false, "noise vanishes");
    refused(&x, &Mat64::from_elem((4000, 1), 3.0), true, "all targets are equal");
    refused(&Mat::zeros((4000, 2)), &y, true, "all features are zero");
}

#[test]
fn regressions_that_cannot_be_are_refused() {
    let (x, y) = (draw(20, 3, 12), double(&draw(20, 1, 13)));
    let refused = |spec: GpRegression, x: &Mat, y: &Mat64, part: &str| {
        let message = spec.fit(x.view(), y.view()).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(GpRegression::new(bad), &x, &y, "noise_variance");
        let spec = GpRegression { prior_variance: bad, ..GpRegression::new(1.0) };
        refused(spec, &x, &y, "prior_variance");
    }
    refused(GpRegression::new(1.0), &x, &Mat64::zeros((19, 1)), "features: expected shape 19");
    refused(GpRegression::new(1.0), &x, &Mat64::zeros((20, 0)), "targets");
    refused(GpRegression::new(1.0), &x, &(&y * f64::NAN), "targets: non-finite");
    // Two equal features and next to no noise.
    let twice = concatenate![Axis(1), x, x];
    refused(GpRegression::new(1e-18), &twice, &y, "lost in the rounding errors");
    let model = GpRegression::new(1e-6).fit(twice.view(), y.view()).unwrap();
    assert!(model.predict(x.view()).is_err() && model.variance(x.view()).is_err());
    assert!(model.log_likelihood(twice.view(), Mat64::zeros((20, 2)).view()).is_err());
}

#[test]
fn clusters_are_found_again() {
    let mut rng = crate::rng::stream(14, "test", 0);
    let truth: Vec<usize> = (0..3000).map(|_| rng.random_range(0..6)).collect();
    let x = Mat::from_shape_fn((3000, 2), |(i, j)| {
        let angle = truth[i] as f32;
        let centre = if j == 0 { angle.cos() } else { angle.sin() };
        4.0 * centre + rng.random_range(-0.5f32..0.5)
    });
    let fit = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| KMeans::new(6).fit(x.view()).unwrap())
    };
    let found = fit(1);
    assert_eq!(found, fit(3));
    assert!(found.converged() && found.iterations() < 20);
    assert_eq!(crate::metrics::clustering_accuracy(found.labels(), &truth).unwrap(), 1.0);
    assert_eq!(found.predict(x.view()).unwrap(), found.labels());
    // Centres are the means of their clusters, and the inertia is what it is defined as.
    let mut inertia = 0.0;
    for (c, centre) in found.centres().rows().into_iter().enumerate() {
        let rows: Vec<usize> = (0..3000).filter(|i| found.labels()[*i] == c).collect();
        let members = double(&x.select(Axis(0), &rows));
        assert_close(&members.mean_axis(Axis(0)).unwrap(), &centre.to_vec(), 1e-12, "centre");
        inertia += (&members - &centre).iter().map(|v| v * v).sum::<f64>();
    }
    assert!((inertia / found.inertia() - 1.0).abs() < 1e-12);
}

#[test]
fn clusterings_that_cannot_be_are_refused() {
    let x = concatenate![Axis(0), Mat::zeros((5, 2)), Mat::ones((5, 2))];
    let refused = |spec: KMeans, part: &str| {
        let message = spec.fit(x.view()).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    };
    refused(KMeans::new(0), "clusters: expected 1 to 10");
    refused(KMeans::new(11), "clusters: expected 1 to 10");
    refused(KMeans::new(3), "at most 2, the number of different points, got 3");
    refused(KMeans { n_init: 0, ..KMeans::new(1) }, "n_init");
    refused(KMeans { max_iter: 0, ..KMeans::new(1) }, "max_iter");
    let two = KMeans::new(2).fit(x.view()).unwrap();
    assert_eq!(two.inertia(), 0.0);
    assert!(two.predict(Mat::zeros((1, 3)).view()).is_err());
    assert!(KMeans::new(1).fit(Mat::zeros((0, 2)).view()).is_err());
}

#[test]
fn rows_of_unit_norm() {
    let x = array![[3.0f32, 4.0], [0.0, 0.0], [1e-30, 0.0], [3e38, -3e38]];
    let unit = unit_norm_rows(x.view()).unwrap();
    let root = 0.5f32.sqrt();
    assert_eq!(unit, array![[0.6, 0.8], [0.0, 0.0], [1.0, 0.0], [root, -root]]);
    assert!(unit_norm_rows(array![[f32::NAN]].view()).is_err());
}
