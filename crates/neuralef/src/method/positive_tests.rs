//! Positive features against their kernels and the variances of Choromanski et al. (2021).

use super::*;
use crate::kernel::KernelSpec;
use crate::test_kernels::slope;
use crate::{Dataset, Fit, Model};
use rand::Rng as _;

fn points(n: usize, d: usize, size: f64) -> Mat {
    let mut rng = crate::rng::stream(9, "positive tests", 0);
    Mat::from_shape_simple_fn((n, d), || {
        (rng.next_u64() as i64 as f64 / 2f64.powi(63) * size) as f32
    })
}

fn form(text: &str) -> Exponential {
    KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap().exponential().unwrap()
}

fn gram(text: &str, x: &Mat) -> Mat64 {
    let kernel = KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap();
    let mut out = Mat64::zeros((x.nrows(), x.nrows()));
    kernel.gram(x.view(), x.view(), out.view_mut()).unwrap();
    out
}

/// Mean over seeds of (φφᵀ, (φφᵀ − K)²).
fn moments(text: &str, x: &Mat, shape: (usize, bool, bool), seeds: u64) -> (Mat64, Mat64) {
    let truth = gram(text, x);
    let (mut mean, mut square) = (Mat64::zeros(truth.dim()), Mat64::zeros(truth.dim()));
    for seed in 0..seeds {
        let map = PositiveFeatures::draw(form(text), vec![0.0; x.ncols()], shape, seed).unwrap();
        assert_eq!(map.components(), shape.0);
        let phi = map.transform(x.view()).unwrap().mapv(f64::from);
        assert!(phi.iter().all(|v| *v > 0.0));
        let k = phi.dot(&phi.t());
        square += &(&k - &truth).mapv(|v| v * v);
        mean += &k;
    }
    (mean / seeds as f64, square / seeds as f64)
}

#[test]
fn features_are_unbiased_with_the_variance_of_the_paper() {
    let x = points(6, 3, 0.5);
    for (text, gamma) in [
        ("softmax(gamma=0.8)", 0.8),
        ("rbf(lengthscale=1.25)", 0.64),
        ("3*softmax(gamma=0.3)*rbf(lengthscale=2)", 0.55),
    ] {
        let truth = gram(text, &x);
        for hyperbolic in [false, true] {
            let (count, seeds) = (101, 1500);
            let (mean, square) = moments(text, &x, (count, false, hyperbolic), seeds);
            let (mut found, mut theory) = (0.0, 0.0);
            for ((i, j), k) in truth.indexed_iter() {
                let z: f64 =
                    (0..3).map(|c| f64::from(x[(i, c)] + x[(j, c)]).powi(2)).sum::<f64>() * gamma;
                // Lemma 2; with the odd one alone hyperbolic ones are 1 % off theirs.
                let less = if hyperbolic { 1.0 - (-z).exp() } else { 1.0 };
                let variance = k * k * (z.exp() - 1.0) * less / count as f64;
                let error = (variance / seeds as f64).sqrt();
                let slack = 5.0 * error.max(1e-3 * k / (seeds as f64).sqrt());
                assert!((mean[(i, j)] - k).abs() < slack, "{text} {hyperbolic} {i} {j}");
                found += square[(i, j)];
                theory += variance;
            }
            assert!(
                (0.8..1.25).contains(&(found / theory)),
                "{text} {hyperbolic}: {}",
                found / theory
            );
        }
    }
}

#[test]
fn errors_fall_as_one_over_the_root_and_orthogonal_is_no_worse() {
    let x = points(12, 6, 0.5);
    // Larger points have errors so heavy-tailed that a few hundred draws do not settle them.
    let text = "softmax(gamma=0.25)";
    let total = |shape, seeds| moments(text, &x, shape, seeds).1.sum().sqrt();
    let counts = [64, 256, 1024, 4096];
    let logs: Vec<f64> = counts.iter().map(|&c| total((c, false, true), 60).ln()).collect();
    let slope = slope(&counts, &logs);
    assert!((slope + 0.5).abs() < 0.08, "{slope}");
    let (orthogonal, plain) = (total((60, true, true), 300), total((60, false, true), 300));
    assert!(orthogonal < 0.85 * plain, "{orthogonal} {plain}");
}

#[test]
fn overflow_is_an_error_that_says_where_and_underflow_is_nothing() {
    let shape = (64, true, true);
    let map = PositiveFeatures::draw(form("softmax(gamma=1)"), vec![0.0; 2], shape, 1).unwrap();
    let mut x = points(300, 2, 1.0);
    x.row_mut(200).fill(9.0);
    // exp(162) at the point itself.
    let error = map.transform(x.view()).unwrap_err().to_string();
    assert!(error.contains("row 200") && error.contains("2^234"), "{error}");
    x.row_mut(200).fill(1e30);
    assert!(map.transform(x.view()).is_err());
    x.row_mut(200).fill(6.0);
    assert!(map.transform(x.view()).unwrap().iter().all(|v| v.is_finite()));
    let map = PositiveFeatures::draw(form("rbf(lengthscale=1)"), vec![0.0; 2], shape, 1).unwrap();
    x.row_mut(200).fill(1e30);
    assert!(map.transform(x.view()).unwrap().row(200).iter().all(|v| *v == 0.0));
    // A row in any company.
    let whole = map.transform(x.view()).unwrap();
    assert_eq!(map.transform(x.slice(s![199..203, ..])).unwrap(), whole.slice(s![199..203, ..]));
}

#[test]
fn models_read_back_to_the_bit_and_hostile_parts_are_refused() {
    let data = Dataset::from_array("points", points(300, 3, 0.7)).unwrap();
    for (kernel, method, k) in [
        ("softmax", "positive", 401),
        ("rbf(lengthscale=1)", "positive(orthogonal=false, hyperbolic=false)", 64),
        ("softmax", "positive(features=200)", 4),
    ] {
        let spec = FitSpec { method: method.into(), ..FitSpec::new(kernel, k).unwrap() };
        let model = Fit::new(spec).run(&data).unwrap().0;
        assert_eq!((model.n_components(), model.has_eigenpairs()), (k, k == 4));
        let error = model.certificate().gram_error.unwrap();
        assert!(error < 0.25, "{method}: {error}");
        let dir = tempfile::tempdir().unwrap();
        model.save(dir.path().join("m")).unwrap();
        let again = Model::load(dir.path().join("m")).unwrap();
        let x = points(20, 3, 0.7);
        assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
        let shown = crate::method::METHODS.build_text(method).unwrap().text();
        assert_eq!(crate::method::METHODS.build_text(&shown).unwrap().text(), shown);
    }
    let parts = |n: [f64; 4]| PositiveFeatures::from_parts(Mat64::ones((2, 3)), vec![0.0; 2], n);
    assert!(parts([3.0, 1.0, 0.0, 0.0]).is_ok());
    for bad in [[4.0, 1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0]] {
        assert!(parts(bad).is_err());
    }
    assert!(parts([1.0, f64::NAN, 0.0, 0.0]).is_err() && parts([1.0, -1.0, 0.0, 0.0]).is_err());
}
