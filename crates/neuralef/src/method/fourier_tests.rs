//! Random Fourier features against their kernels, known variances, and themselves read back.

use super::*;
use crate::kernel::KernelSpec;
use crate::linalg::eigh;
use crate::test_kernels::slope;
use crate::{Dataset, Fit, Model};
use rand::Rng as _;

const SAMPLINGS: [Sampling; 4] =
    [Sampling::Independent, Sampling::Orthogonal, Sampling::Sobol, Sampling::Halton];

fn points(n: usize, d: usize, size: f64) -> Mat {
    let mut rng = crate::rng::stream(7, "fourier tests", 0);
    Mat::from_shape_simple_fn((n, d), || {
        (rng.next_u64() as i64 as f64 / 2f64.powi(63) * size) as f32
    })
}

fn kernel(text: &str) -> std::sync::Arc<dyn crate::Kernel> {
    KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap()
}

fn gram(text: &str, x: &Mat) -> Mat64 {
    let mut out = Mat64::zeros((x.nrows(), x.nrows()));
    kernel(text).gram(x.view(), x.view(), out.view_mut()).unwrap();
    out
}

fn features(text: &str, count: usize, d: usize, draw: Draw, seed: u64) -> FourierFeatures {
    let terms = kernel(text).spectral().unwrap();
    FourierFeatures::draw(&terms, count, vec![0.1; d], draw, seed).unwrap()
}

fn approximation(map: &dyn FeatureMap, x: &Mat) -> Mat64 {
    let phi = map.transform(x.view()).unwrap().mapv(f64::from);
    phi.dot(&phi.t())
}

/// Mean square of φφᵀ − K over pairs of different points and over seeds.
fn mean_square(text: &str, count: usize, x: &Mat, draw: Draw, seeds: u64) -> f64 {
    let truth = gram(text, x);
    let (mut sum, n) = (0.0, x.nrows());
    for seed in 0..seeds {
        let map = features(text, count, x.ncols(), draw, seed);
        let off = approximation(&map, x) - &truth;
        sum += off.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, v)| v * v).sum::<f64>();
    }
    sum / (seeds as usize * n * (n - 1)) as f64
}

#[test]
fn every_law_and_form_is_unbiased() {
    // At least 4 standard errors of κ from 40 × 1,000 independent features; the wrong scale, or t for
    // Gaussian frequencies, is off by more than 0.05.
    let x = points(8, 3, 0.8);
    for text in [
        "rbf(lengthscale=0.7)",
        "laplacian(lengthscale=1.2)",
        "matern(nu=0.5, lengthscale=0.9)",
        "matern(nu=1.5, lengthscale=0.6)",
        "matern(nu=2.5, lengthscale=0.6)",
        "rational_quadratic(lengthscale=0.5, alpha=0.4)",
        "rational_quadratic(lengthscale=0.7, alpha=1e6)",
        "2*rbf(lengthscale=0.7)*laplacian(lengthscale=2) + 0.5*matern(lengthscale=1) + 0.25",
    ] {
        let truth = gram(text, &x);
        let size = truth[(0, 0)];
        for sampling in SAMPLINGS {
            if sampling == Sampling::Orthogonal && text.contains("laplacian") {
                continue;
            }
            for cosine in [false, true] {
                let draw = Draw { cosine, sampling };
                let mut mean = Mat64::zeros(truth.dim());
                for seed in 0..40 {
                    mean += &approximation(&features(text, 1000, 3, draw, seed), &x);
                }
                let worst = (mean / 40.0 - &truth).fold(0.0f64, |m, v| m.max(v.abs()));
                // Standard deviation of one feature's term at most 1 with sin_cos, √1.5 with cos.
                assert!(worst < 0.026 * size, "{text} {sampling:?} cos {cosine}: {worst}");
            }
        }
    }
}

#[test]
fn pairs_have_the_kernel_on_the_diagonal_and_any_count_is_served() {
    let x = points(5, 2, 2.0);
    let text = "3*rbf(lengthscale=0.5) + matern(lengthscale=2) + 0.5";
    for count in [5, 6, 7, 64, 101] {
        let draw = Draw { cosine: false, sampling: Sampling::Auto };
        let map = features(text, count, 2, draw, 1);
        assert_eq!((map.components(), map.inputs()), (count, 2));
        if count % 2 == 1 {
            let k = approximation(&map, &x);
            assert!(k.diag().iter().all(|v| (v - 4.5).abs() < 1e-5), "{k}");
        }
        assert_eq!(features(text, count, 2, Draw { cosine: true, ..draw }, 1).components(), count);
    }
    let terms = kernel(text).spectral().unwrap();
    for (cosine, count, least) in [(false, 4, "at least 5"), (true, 2, "at least 3")] {
        let draw = Draw { cosine, sampling: Sampling::Auto };
        let error = FourierFeatures::draw(&terms, count, vec![0.0; 2], draw, 0).unwrap_err();
        assert!(error.to_string().contains(least), "{error}");
    }
    // A lone odd feature of one term, and a constant, which needs no more than one.
    let draw = Draw { cosine: false, sampling: Sampling::Auto };
    assert_eq!(features("rbf(lengthscale=1)", 1, 2, draw, 0).components(), 1);
    let constant = features("2.25", 9, 2, draw, 0);
    assert_eq!(constant.transform(x.view()).unwrap(), Mat::from_elem((5, 1), 1.5));
}

#[test]
fn units_are_shared_in_proportion() {
    assert_eq!(shares(&[3.0, 1.0], 8), [6, 2]);
    assert_eq!(shares(&[1e-9, 1.0, 1e-9], 10), [1, 8, 1]);
    assert_eq!(shares(&[1.0, 1.0, 1.0], 10).iter().sum::<usize>(), 10);
    assert_eq!(shares(&[5.0], 0), [0]);
    assert!(shares(&[], 3).is_empty());
}

#[test]
fn the_error_is_the_known_one_and_falls_as_one_over_the_root() {
    // sin_cos, rbf: (1 − κ²)²/D (Sutherland & Schneider 2015).
    let (x, text) = (points(16, 4, 1.0), "rbf(lengthscale=1)");
    let truth = gram(text, &x);
    let pairs = truth.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, k)| *k);
    let theory = pairs.map(|k| (1.0 - k * k).powi(2)).sum::<f64>() / 240.0;
    let independent = Draw { cosine: false, sampling: Sampling::Independent };
    let counts = [64usize, 256, 1024, 4096];
    let mut logs = Vec::new();
    for count in counts {
        let found = mean_square(text, count, &x, independent, 24);
        let ratio = found * count as f64 / theory;
        assert!((0.7..1.4).contains(&ratio), "{count}: {ratio}");
        logs.push(0.5 * found.ln());
    }
    let slope = slope(&counts, &logs);
    assert!((slope + 0.5).abs() < 0.08, "{slope}");
    // Phases: the variance of 2cos(a + b)cos(a' + b) is 1 + ½E cos(2δ) − κ², for rbf 1 + ½κ⁴ − κ².
    let theory = truth.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, k)| *k);
    let theory = theory.map(|k| 1.0 + 0.5 * k.powi(4) - k * k).sum::<f64>() / 240.0;
    let cosine = Draw { cosine: true, ..independent };
    let ratio = mean_square(text, 512, &x, cosine, 40) * 512.0 / theory;
    assert!((0.75..1.33).contains(&ratio), "{ratio}");
}

#[test]
fn better_frequencies_have_smaller_errors() {
    let of = |text: &str, x: &Mat, sampling, count| {
        mean_square(text, count, x, Draw { cosine: false, sampling }, 30)
    };
    for text in ["rbf(lengthscale=2)", "matern(nu=2.5, lengthscale=2)"] {
        let x = points(16, 8, 1.0);
        let plain = of(text, &x, Sampling::Independent, 128);
        let orthogonal = of(text, &x, Sampling::Orthogonal, 128);
        assert!(orthogonal < plain, "{text}: {orthogonal} {plain}");
    }
    for text in ["rbf(lengthscale=0.7)", "laplacian(lengthscale=1)"] {
        let x = points(16, 2, 1.0);
        let plain = of(text, &x, Sampling::Independent, 512);
        for sampling in [Sampling::Sobol, Sampling::Halton] {
            let quasi = of(text, &x, sampling, 512);
            assert!(quasi < 0.5 * plain, "{text} {sampling:?}: {quasi} {plain}");
        }
    }
}

#[test]
fn phases_far_out_are_right_in_every_row_and_company() {
    // Far rows go through double precision, near ones beside them do not; an offset changes nothing.
    let draw = Draw { cosine: false, sampling: Sampling::Auto };
    let map = features("rbf(lengthscale=0.01)", 64, 2, draw, 3);
    let mut x = points(300, 2, 0.02);
    x.slice_mut(s![100..200, ..]).mapv_inplace(|v| v * 1e6);
    let whole = map.transform(x.view()).unwrap();
    for (from, to) in [(0, 1), (99, 101), (150, 300)] {
        let part = map.transform(x.slice(s![from..to, ..])).unwrap();
        assert_eq!(part, whole.slice(s![from..to, ..]));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| map.transform(x.view()).unwrap()), whole);
    for (i, row) in x.rows().into_iter().enumerate() {
        for j in 0..map.pairs() {
            let t: f64 = row
                .iter()
                .zip(map.frequencies.column(j))
                .zip(&map.centre)
                .map(|((x, w), c)| (f64::from(*x) - f64::from(*c)) * f64::from(*w))
                .sum();
            let (sin, cos) = (t * std::f64::consts::TAU).sin_cos();
            let a = f64::from(map.amplitudes[j]);
            let off = (f64::from(whole[(i, j)]) - a * cos).abs();
            let off = off.max((f64::from(whole[(i, 32 + j)]) - a * sin).abs());
            // 64 turns of single precision are 2e-5 of a turn.
            assert!(off < 1e-4 * a, "{i} {j}: {off:e} of {a} at {t}");
        }
    }
    let heavy = features("laplacian(lengthscale=1e-6)", 50, 2, draw, 0);
    let far = heavy.transform(Mat::from_elem((1, 2), f32::MAX).view()).unwrap();
    assert!(far.iter().all(|v| v.abs() <= 0.21), "{far}");
    assert!(heavy.transform(Mat::from_elem((1, 2), f32::NAN).view()).is_err());
    assert!(heavy.transform(Mat::zeros((1, 3)).view()).is_err());
}

fn fitted(text: &str, method: &str, k: usize) -> Result<Model> {
    let data = Dataset::from_array("points", points(400, 2, 1.0))?;
    let spec = FitSpec { method: method.into(), ..FitSpec::new(text, k)? };
    Fit::new(spec).run(&data).map(|(model, _)| model)
}

#[test]
fn models_without_eigenvalues_work_end_to_end() {
    // More features than points.
    let model = fitted("rbf(lengthscale=0.5)", "fourier", 1001).unwrap();
    let certificate = model.certificate();
    assert!(!model.has_eigenpairs() && certificate.pairs.is_empty());
    assert_eq!(model.n_components(), 1001);
    // rms error √(E(1 − κ²)²/D) over the rms of κ: about 0.03/0.4.
    let error = certificate.gram_error.unwrap();
    assert!((0.02..0.12).contains(&error), "{error}");
    assert!((certificate.captured_trace - 1.0).abs() < 0.01, "{}", certificate.captured_trace);
    let x = points(60, 2, 1.0);
    assert!(matches!(model.eigenfunctions(x.view()), Err(Error::Unsupported { .. })));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    model.save(&path).unwrap();
    let again = Model::load(&path).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    assert_eq!(again.info(), model.info());
    let data = Dataset::from_array("x", x).unwrap();
    let found = again.evaluate(&data, &crate::fit::EvaluateOptions::default()).unwrap();
    assert!(found.residuals.is_empty() && found.orthonormality.is_none());
    assert!((0.02..0.12).contains(&found.gram_error.unwrap()), "{found:?}");
    let options =
        crate::fit::EvaluateOptions { reference: Some(data.clone()), ..Default::default() };
    assert!(matches!(again.evaluate(&data, &options), Err(Error::Unsupported { .. })));
}

#[test]
fn reduced_features_are_the_eigenpairs_of_their_gram_matrix() {
    let method = "fourier(features=90, frequencies=sobol)";
    let model = fitted("matern(nu=2.5, lengthscale=1)", method, 5).unwrap();
    let spec = &model.info().spec;
    let rows = spec.split(400).train;
    let x = points(400, 2, 1.0).select(Axis(0), &rows);
    let data = Dataset::from_array("points", points(400, 2, 1.0)).unwrap();
    let plain =
        FitSpec { method: "fourier(frequencies=sobol)".into(), n_components: 90, ..spec.clone() };
    let plain = Fit::new(plain).run(&data).unwrap().0;
    let phi = plain.transform(x.view()).unwrap().mapv(f64::from);
    let n = x.nrows() as f64;
    let (values, vectors) = eigh((phi.dot(&phi.t()) / n).view()).unwrap();
    let psi = model.eigenfunctions(x.view()).unwrap();
    for (j, value) in values.iter().enumerate().take(5) {
        assert!((model.eigenvalues()[j] / value - 1.0).abs() < 1e-10);
        let along = vectors.column(j).dot(&psi.column(j)) / n.sqrt();
        assert!((along.abs() - 1.0).abs() < 1e-10, "{j}: {along}");
        assert!(psi.column(j).iter().map(|v| v.powi(3)).sum::<f64>() >= -1e-6);
    }
    // Eigenpairs of the kernel itself to the error of 90 quasi-random features.
    let first = &model.certificate().pairs[0];
    assert!(first.residual < 0.2, "{first:?}");
    let error = fitted("rbf(lengthscale=1)", "fourier(features=4)", 5).err().unwrap();
    assert!(error.to_string().contains("number of features, 4"), "{error}");
}

#[test]
fn other_kernels_are_told_what_serves_them() {
    let error = |text: &str, method: &str| fitted(text, method, 8).err().unwrap().to_string();
    let text = error("polynomial(gamma=1)", "fourier");
    assert!(text.ends_with("served by method = neuralef, nystrom"), "{text}");
    let text = error("softmax(gamma=1)", "fourier");
    assert!(text.ends_with("served by method = neuralef, nystrom, positive"), "{text}");
    let text = error("matern(lengthscale=1)", "positive");
    assert!(text.ends_with("served by method = neuralef, nystrom, fourier"), "{text}");
    let text = error("laplacian(lengthscale=1)", "fourier(frequencies=orthogonal)");
    assert!(text.contains("independent, sobol and halton"), "{text}");
    assert!(fitted("laplacian(lengthscale=1)", "fourier", 8).is_ok());
    let text = error("rbf(lengthscale=1)", "fourier(form=sine)");
    assert!(text.contains("sin_cos, cos"), "{text}");
}

#[test]
fn hostile_parts_are_refused() {
    let parts = FourierFeatures::from_parts;
    let w = || Mat::ones((2, 3));
    assert!(parts(w(), vec![0.0], vec![1.0; 3], vec![0.0; 2]).is_ok());
    assert!(parts(w(), vec![0.0; 4], vec![1.0; 3], vec![0.0; 2]).is_err());
    assert!(parts(w(), vec![], vec![1.0; 2], vec![0.0; 2]).is_err());
    assert!(parts(w(), vec![], vec![1.0; 3], vec![0.0; 3]).is_err());
    assert!(parts(w(), vec![], vec![1.0, f32::NAN, 1.0], vec![0.0; 2]).is_err());
    assert!(parts(w() * f32::INFINITY, vec![], vec![1.0; 3], vec![0.0; 2]).is_err());
    assert!(parts(Mat::ones((2, 0)), vec![], vec![], vec![0.0; 2]).is_err());
}
