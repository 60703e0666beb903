//! Probabilities of Gaussian logits against closed forms and quadrature.

use std::f64::consts::PI;

use ndarray::{Array3, array};

use super::{PREDICTIVES, Predictive};
use crate::Error;
use crate::calibration::softmax;
use crate::matrix::Mat64;

const ALL: [Predictive; 4] = [
    Predictive::Probit,
    Predictive::MeanField,
    Predictive::MonteCarlo { samples: 1000 },
    Predictive::LaplaceBridge,
];

/// E sigmoid(a), a ~ N(m, v), by the trapezoidal rule: errors are far below 1e-10 for smooth
/// integrands that vanish at the ends.
fn sigmoid_mean(m: f64, v: f64) -> f64 {
    let (steps, width) = (4000, 12.0);
    let h = 2.0 * width / f64::from(steps);
    let term = |i: i32| {
        let z = -width + h * f64::from(i);
        (-0.5 * z * z).exp() / (2.0 * PI).sqrt() / (1.0 + (-(m + v.sqrt() * z)).exp())
    };
    h * (0..=steps).map(term).sum::<f64>()
}

#[test]
fn without_variance_probit_and_samples_are_the_softmax() {
    let mean = array![[1.0, -0.5, 3.0], [0.0, 0.0, 0.0]];
    let none = Array3::zeros((2, 3, 3));
    let truth = softmax(mean.view()).unwrap();
    for predictive in
        [Predictive::Probit, Predictive::MeanField, Predictive::MonteCarlo { samples: 3 }]
    {
        let p = predictive.probabilities(mean.view(), none.view(), 0).unwrap();
        assert!((&p - &truth).iter().all(|e| e.abs() < 1e-14), "{predictive}");
    }
}

/// Two classes with logits (a, 0): the probability is E sigmoid(a), which probit has to about 0.01
/// (the largest error over all m and v is 0.0157) and Monte Carlo to its standard error.
#[test]
fn two_classes_against_quadrature() {
    let samples = 40_000;
    for (m, v) in [(0.0, 1.0), (1.0, 0.5), (2.0, 4.0), (-1.5, 9.0), (4.0, 25.0)] {
        let truth = sigmoid_mean(m, v);
        let mean = array![[m, 0.0]];
        let covariance = Array3::from_shape_vec((1, 2, 2), vec![v, 0.0, 0.0, 0.0]).unwrap();
        let sampled = Predictive::MonteCarlo { samples }
            .probabilities(mean.view(), covariance.view(), 1)
            .unwrap()[[0, 0]];
        let error = (truth * (1.0 - truth) / samples as f64).sqrt();
        assert!((sampled - truth).abs() < 4.0 * error, "{m} {v}: {sampled} against {truth}");
    }
    // Mean field, of logits that share most of their variance: only that of the difference counts.
    for (m, v) in [(0.5, 1.0), (1.0, 0.5), (2.0, 4.0), (-1.5, 9.0)] {
        let shared = 50.0;
        let covariance =
            Array3::from_shape_vec((1, 2, 2), vec![shared + v, shared, shared, shared]).unwrap();
        let p = Predictive::MeanField
            .probabilities(array![[m, 0.0]].view(), covariance.view(), 0)
            .unwrap()[[0, 0]];
        assert!((p - sigmoid_mean(m, v)).abs() < 0.016, "{m} {v}: {p}");
    }
    // What probit stands for: one logit that is a difference.
    for (m, v) in [(0.0f64, 1.0f64), (1.0, 0.5), (2.0, 4.0), (-1.5, 9.0)] {
        let scaled = m / (1.0 + PI / 8.0 * v).sqrt();
        let probit = 1.0 / (1.0 + (-scaled).exp());
        assert!((probit - sigmoid_mean(m, v)).abs() < 0.016, "{m} {v}");
    }
}

/// Correlated logits, against samples made another way: (a, a + b, b) for independent a, b.
#[test]
fn samples_use_the_whole_covariance() {
    let mean = array![[0.3, -0.2, 0.1]];
    let covariance =
        Array3::from_shape_vec((1, 3, 3), vec![2.0, 2.0, 0.0, 2.0, 3.0, 1.0, 0.0, 1.0, 1.0])
            .unwrap();
    let (steps, width) = (200, 8.0);
    let h = 2.0 * width / f64::from(steps);
    let mut truth = [0.0; 3];
    for i in 0..=steps {
        for j in 0..=steps {
            let (z, w) = (-width + h * f64::from(i), -width + h * f64::from(j));
            let density = h * h * (-0.5 * (z * z + w * w)).exp() / (2.0 * PI);
            let (a, b) = (2f64.sqrt() * z, w);
            let e = [(0.3 + a).exp(), (-0.2 + a + b).exp(), (0.1 + b).exp()];
            let sum: f64 = e.iter().sum();
            truth.iter_mut().zip(e).for_each(|(t, e)| *t += density * e / sum);
        }
    }
    let samples = 40_000;
    let p = Predictive::MonteCarlo { samples }
        .probabilities(mean.view(), covariance.view(), 3)
        .unwrap();
    for (p, t) in p.iter().zip(truth) {
        // Standard errors, with (p(1 − p)) the largest variance there can be.
        assert!((p - t).abs() < 4.0 * (t * (1.0 - t) / samples as f64).sqrt(), "{p} against {t}");
    }
}

/// The bridge inverts the Laplace approximation of a Dirichlet distribution in the softmax basis
/// (Hobbhahn et al. 2022, equations 7 and 8): its mode and inverse Hessian give α/Σα back.
#[test]
fn the_bridge_gives_a_dirichlet_distribution_back() {
    let alpha = [2.0, 5.0, 1.5, 3.0];
    let (k, total) = (4.0, alpha.iter().sum::<f64>());
    let logs: f64 = alpha.iter().map(|a: &f64| a.ln()).sum();
    let inverse: f64 = alpha.iter().map(|a| 1.0 / a).sum();
    let mean = Mat64::from_shape_fn((1, 4), |(_, i)| alpha[i].ln() - logs / k);
    let covariance = Array3::from_shape_fn((1, 4, 4), |(_, i, j)| {
        let own = if i == j { 1.0 / alpha[i] } else { 0.0 };
        own - (1.0 / alpha[i] + 1.0 / alpha[j] - inverse / k) / k
    });
    let p = Predictive::LaplaceBridge.probabilities(mean.view(), covariance.view(), 0).unwrap();
    for (p, a) in p.iter().zip(alpha) {
        assert!((p - a / total).abs() < 1e-12, "{p} against {}", a / total);
    }
}

#[test]
fn extremes_are_probabilities_still() {
    for scale in [0.0, 1e-300, 1e-8, 1.0, 1e8, 1e150] {
        for m in [0.0, 1.0, 800.0, -1e6] {
            let mean = array![[m, -m, 0.5 * m]];
            let covariance = Array3::from_shape_fn((1, 3, 3), |(_, i, j)| {
                scale * if i == j { 1.0 + i as f64 } else { 0.5 }
            });
            for predictive in ALL {
                let p = predictive.probabilities(mean.view(), covariance.view(), 0).unwrap();
                assert!((p.sum() - 1.0).abs() < 1e-12, "{predictive} {scale} {m}: {p}");
                assert!(p.iter().all(|p| (0.0..=1.0 + 1e-12).contains(p)), "{predictive} {p}");
            }
        }
    }
}

#[test]
fn a_point_does_not_depend_on_its_company() {
    let mean = Mat64::from_shape_fn((5, 3), |(i, j)| (i * 3 + j) as f64 / 7.0 - 1.0);
    let covariance =
        Array3::from_shape_fn((5, 3, 3), |(i, a, b)| if a == b { 1.0 + i as f64 } else { 0.3 });
    for predictive in ALL {
        let all = predictive.probabilities(mean.view(), covariance.view(), 0).unwrap();
        for i in 0..5 {
            let one = predictive
                .probabilities(
                    mean.slice(ndarray::s![i..i + 1, ..]),
                    covariance.slice(ndarray::s![i..i + 1, .., ..]),
                    0,
                )
                .unwrap();
            assert_eq!(one.row(0), all.row(i), "{predictive}");
        }
    }
}

#[test]
fn bad_input_is_named() {
    let (mean, covariance) = (Mat64::zeros((2, 3)), Array3::zeros((2, 3, 3)));
    let of = |m: &Mat64, s: &Array3<f64>| Predictive::Probit.probabilities(m.view(), s.view(), 0);
    assert!(matches!(of(&mean, &Array3::zeros((2, 3, 2))), Err(Error::Shape { .. })));
    let mut bad = covariance.clone();
    bad[[1, 2, 2]] = -1.0;
    assert!(matches!(of(&mean, &bad), Err(Error::InvalidParameter { .. })));
    bad[[1, 2, 2]] = f64::NAN;
    assert!(matches!(of(&mean, &bad), Err(Error::NonFinite { .. })));
    let none = Predictive::MonteCarlo { samples: 0 };
    assert!(none.probabilities(mean.view(), covariance.view(), 0).is_err());
    assert!("monte_carlo(samples=0)".parse::<Predictive>().is_err());
    for predictive in ALL {
        assert_eq!(predictive.to_string().parse::<Predictive>().unwrap(), predictive);
    }
}

#[test]
fn every_entry_builds_prints_and_parses() {
    use crate::spec::{Sample, registry::assert_complete};
    assert_complete(&PREDICTIVES, &[], Sample::Missing, Predictive::to_string);
}
