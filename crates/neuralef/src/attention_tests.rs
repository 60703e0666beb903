//! Linear attention against exact softmax attention, and exact attention against its formula.

use super::*;
use rand_distr::{Distribution, StandardNormal};

fn normal(n: usize, d: usize, scale: f64, seed: u64) -> Mat {
    let mut rng = crate::rng::stream(seed, "attention tests", 0);
    Mat::from_shape_simple_fn((n, d), || {
        let v: f64 = StandardNormal.sample(&mut rng);
        (scale * v) as f32
    })
}

/// Softmax attention written out.
fn formula(q: &Mat, k: &Mat, v: &Mat, causal: bool) -> Mat64 {
    let scale = (q.ncols() as f64).sqrt().recip();
    let mut out = Mat64::zeros((q.nrows(), v.ncols()));
    for i in 0..q.nrows() {
        let seen = if causal { i + 1 } else { k.nrows() };
        let dot = |j: usize| {
            let pairs = q.row(i).into_iter().zip(k.row(j));
            scale * pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let logits: Vec<f64> = (0..seen).map(dot).collect();
        let top = logits.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let total: f64 = logits.iter().map(|l| (l - top).exp()).sum();
        for (j, l) in logits.iter().enumerate() {
            let weight = (l - top).exp() / total;
            for c in 0..v.ncols() {
                out[(i, c)] += weight * f64::from(v[(j, c)]);
            }
        }
    }
    out
}

fn rms(a: &Mat, b: &Mat64) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

#[test]
fn exact_attention_is_its_formula() {
    let (q, k, v) = (normal(300, 5, 2.0, 1), normal(300, 5, 2.0, 2), normal(300, 3, 1.0, 3));
    for causal in [false, true] {
        let found = exact(q.view(), k.view(), v.view(), causal).unwrap();
        let error = rms(&found, &formula(&q, &k, &v, causal));
        assert!(error < 1e-6, "{causal}: {error}");
    }
    let some = k.slice(s![..40, ..]).to_owned();
    let values = v.slice(s![..40, ..]).to_owned();
    let found = exact(q.view(), some.view(), values.view(), false).unwrap();
    assert!(rms(&found, &formula(&q, &some, &values, false)) < 1e-6);
}

#[test]
fn linear_attention_approaches_exact_attention_as_one_over_the_root() {
    // Larger logits have errors so heavy-tailed that the law shows only for many more features.
    let (n, d) = (600, 8);
    let (q, k, v) = (normal(n, d, 0.35, 1), normal(n, d, 0.35, 2), normal(n, 4, 1.0, 3));
    for causal in [false, true] {
        let truth = formula(&q, &k, &v, causal);
        let counts = [64, 256, 1024, 4096];
        let mut logs = Vec::new();
        for features in counts {
            let mut square = 0.0;
            for seed in 0..16 {
                let options = LinearAttention { features, causal, orthogonal: false, seed };
                let found = linear(q.view(), k.view(), v.view(), &options).unwrap();
                square += rms(&found, &truth).powi(2) / 16.0;
            }
            logs.push(0.5 * square.ln());
        }
        let slope = crate::test_kernels::slope(&counts, &logs);
        assert!((slope + 0.5).abs() < 0.1, "{causal}: {slope} {logs:?}");
        let size = (truth.iter().map(|v| v * v).sum::<f64>() / truth.len() as f64).sqrt();
        assert!(logs[3].exp() < 0.03 * size, "{causal}: {} of {size}", logs[3].exp());
    }
}

#[test]
fn causal_rows_do_not_know_later_ones_and_bits_do_not_know_threads() {
    let n = 1300;
    let (q, k, v) = (normal(n, 6, 1.0, 4), normal(n, 6, 1.0, 5), normal(n, 3, 1.0, 6));
    let options = LinearAttention { features: 40, causal: true, ..LinearAttention::default() };
    let whole = linear(q.view(), k.view(), v.view(), &options).unwrap();
    let exactly = exact(q.view(), k.view(), v.view(), true).unwrap();
    for i in [0, 1, 511, 700, 1100] {
        let (mut k, mut v) = (k.clone(), v.clone());
        k.slice_mut(s![i + 1.., ..]).mapv_inplace(|v| -50.0 * v);
        v.slice_mut(s![i + 1.., ..]).fill(7.0);
        let other = linear(q.view(), k.view(), v.view(), &options).unwrap();
        assert_eq!(other.slice(s![..=i, ..]), whole.slice(s![..=i, ..]), "{i}");
        let other = exact(q.view(), k.view(), v.view(), true).unwrap();
        assert_eq!(other.slice(s![..=i, ..]), exactly.slice(s![..=i, ..]), "{i}");
        let head = s![..=i, ..];
        let part = linear(q.slice(head), k.slice(head), v.slice(head), &options).unwrap();
        assert_eq!(part, whole.slice(head), "{i}");
    }
    // The first query sees one key: its value, whatever the features.
    for (found, v) in whole.row(0).iter().zip(v.row(0)) {
        assert!((found - v).abs() < 1e-6);
    }
    for causal in [false, true] {
        let options = LinearAttention { causal, ..options };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| linear(q.view(), k.view(), v.view(), &options).unwrap())
        };
        assert_eq!(run(1), run(3));
    }
}

#[test]
fn causal_and_whole_attention_agree_on_the_last_row() {
    let n = 1111;
    let (q, k, v) = (normal(n, 6, 1.0, 7), normal(n, 6, 1.0, 8), normal(n, 3, 1.0, 9));
    let options = LinearAttention { features: 50, ..LinearAttention::default() };
    let whole = linear(q.view(), k.view(), v.view(), &options).unwrap();
    let causal = LinearAttention { causal: true, ..options };
    let causal = linear(q.view(), k.view(), v.view(), &causal).unwrap();
    for (a, b) in whole.row(n - 1).iter().zip(causal.row(n - 1)) {
        assert!((a - b).abs() < 2e-5, "{a} {b}");
    }
}

#[test]
fn logits_of_any_size_are_finite_and_constants_stay() {
    let n = 600;
    let ones = Mat::from_elem((n, 2), 3.0);
    for scale in [1e-20, 1.0, 30.0, 1e4, 1e15] {
        let (q, k) = (normal(n, 5, scale, 1), normal(n, 5, scale, 2));
        for causal in [false, true] {
            let options = LinearAttention { features: 64, causal, ..LinearAttention::default() };
            let found = linear(q.view(), k.view(), ones.view(), &options).unwrap();
            // A mean of equal values is that value, whatever the weights.
            assert!(found.iter().all(|v| (v - 3.0).abs() < 1e-4), "{scale} {causal}");
            if scale < 1e15 {
                let found = exact(q.view(), k.view(), ones.view(), causal).unwrap();
                assert!(found.iter().all(|v| (v - 3.0).abs() < 1e-5), "{scale} {causal}");
            }
        }
    }
}

#[test]
fn bad_input_is_named() {
    let x = |n, d| Mat::ones((n, d));
    let options = LinearAttention::default();
    let run = |q: &Mat, k: &Mat, v: &Mat| linear(q.view(), k.view(), v.view(), &options);
    assert!(matches!(run(&x(4, 3), &x(4, 2), &x(4, 1)), Err(Error::Shape { .. })));
    assert!(matches!(run(&x(4, 3), &x(4, 3), &x(5, 1)), Err(Error::Shape { .. })));
    let error = run(&x(4, 3), &x(0, 3), &x(0, 1)).unwrap_err();
    assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
    let causal = LinearAttention { causal: true, ..options };
    let (q, k, v) = (x(4, 3), x(5, 3), x(5, 1));
    assert!(linear(q.view(), k.view(), v.view(), &causal).is_err());
    assert!(exact(q.view(), k.view(), v.view(), true).is_err());
    let none = LinearAttention { features: 0, ..options };
    assert!(linear(k.view(), k.view(), v.view(), &none).is_err());
    let mut bad = x(5, 3);
    bad[(2, 1)] = f32::NAN;
    assert!(matches!(run(&x(4, 3), &bad, &v), Err(Error::NonFinite { row: 2, column: 1, .. })));
    let huge = x(5, 3) * f32::MAX;
    assert!(matches!(run(&huge, &huge, &v), Err(Error::Numerical { .. })));
    assert_eq!(run(&x(0, 3), &k, &v).unwrap().dim(), (0, 1));
}

#[test]
fn the_error_with_256_features_is_what_their_variance_says() {
    // Entries of variance ¼ at d = 64: x = q/d^¼ has ‖x‖² ≈ 2, so that ‖x + y‖² ≈ 4, and by lemma 2
    // of the paper the relative variance of one estimated weight is (e⁴ − 1)/256. The weights of a
    // row share their frequencies, and so does the error of the row.
    let (n, d) = (1024, 64);
    let (q, k, v) = (normal(n, d, 0.5, 1), normal(n, d, 0.5, 2), normal(n, d, 1.0, 3));
    let truth = formula(&q, &k, &v, false);
    let size = (truth.iter().map(|v| v * v).sum::<f64>() / truth.len() as f64).sqrt();
    let expected = ((4f64.exp() - 1.0) / 256.0).sqrt();
    let errors: Vec<f64> = (0..4)
        .map(|seed| {
            let settings = LinearAttention { seed, ..LinearAttention::default() };
            rms(&linear(q.view(), k.view(), v.view(), &settings).unwrap(), &truth) / size
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / 4.0;
    // Orthogonal frequencies do a little better than independent ones.
    assert!((0.7..1.2).contains(&(mean / expected)), "{errors:?}, expected {expected}");
}
