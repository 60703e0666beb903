//! Scores worked out by hand, by NumPy's and by scikit-learn's definitions.

use ndarray::array;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    detection: Vec<Detection>,
    classifier: Classifier,
}

#[derive(Deserialize)]
struct Detection {
    inside: Vec<f64>,
    outside: Vec<f64>,
    auroc: f64,
    aupr_out: f64,
    aupr_in: f64,
    fpr95: f64,
}

#[derive(Deserialize)]
struct Classifier {
    logits: Vec<f64>,
    labels: Vec<usize>,
    accuracy: f64,
    nll: f64,
    brier: f64,
    ece15: f64,
    ece10: f64,
    adaptive15: f64,
    temperature: f64,
    nll_after: f64,
    entropy: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("goldens/calibration.json")).unwrap()
}

fn assert_close(found: f64, want: f64, tolerance: f64) {
    assert!((found - want).abs() <= tolerance, "{found} {want}");
}

#[test]
fn scores_are_those_of_numpy_and_scikit_learn() {
    let want = golden().classifier;
    let n = want.labels.len();
    let logits = Mat64::from_shape_vec((n, want.logits.len() / n), want.logits).unwrap();
    let p = softmax(logits.view()).unwrap();
    let labels = &want.labels;
    assert_close(accuracy(p.view(), labels).unwrap(), want.accuracy, 1e-12);
    assert_close(nll(p.view(), labels).unwrap(), want.nll, 1e-12);
    assert_close(nll_of_logits(logits.view(), labels).unwrap(), want.nll, 1e-12);
    assert_close(brier(p.view(), labels).unwrap(), want.brier, 1e-12);
    let ece = |bins| reliability(p.view(), labels, bins).unwrap().ece;
    assert_close(ece(Bins::default()), want.ece15, 1e-12);
    assert_close(ece(Bins::EqualWidth(10)), want.ece10, 1e-12);
    assert_close(ece(Bins::EqualMass(15)), want.adaptive15, 1e-12);
    let entropy = entropies(p.view()).unwrap().iter().sum::<f64>() / n as f64;
    assert_close(entropy, want.entropy, 1e-12);
    let scaled = TemperatureScaling::fit(logits.view(), labels).unwrap();
    assert_close(scaled.temperature, want.temperature, 1e-7);
    assert_close(scaled.nll_before, want.nll, 1e-12);
    assert_close(scaled.nll_after, want.nll_after, 1e-12);
}

#[test]
fn detection_is_that_of_scikit_learn() {
    let cases = golden().detection;
    assert!(cases.len() >= 4);
    for case in cases {
        let found = detection_panel(&case.inside, &case.outside).unwrap();
        assert_close(found.auroc, case.auroc, 1e-12);
        assert_close(found.aupr_out, case.aupr_out, 1e-12);
        assert_close(found.aupr_in, case.aupr_in, 1e-12);
        assert_close(found.fpr95, case.fpr95, 1e-12);
    }
}

#[test]
fn detection_worked_by_hand() {
    // Pairs: 3 > 1, 3 > 2, 2 > 1 and 2 = 2.
    assert_eq!(auroc(&[3.0, 2.0], &[1.0, 2.0]).unwrap(), 3.5 / 4.0);
    // Thresholds 3, 2, 1: recall ½ at precision 1, recall 1 at precision ⅔.
    assert_close(
        average_precision(&[3.0, 2.0], &[1.0, 2.0]).unwrap(),
        0.5 + 0.5 * 2.0 / 3.0,
        1e-15,
    );
    assert_eq!(fpr_at_tpr(&[3.0, 2.0], &[1.0, 2.0], 0.5).unwrap(), 0.0);
    assert_eq!(fpr_at_tpr(&[3.0, 2.0], &[1.0, 2.0], 0.51).unwrap(), 0.5);
    // 95 of 100 at home are accepted at scores up to 95: so are 0.5 and 95, and 96 is not.
    let inside: Vec<f64> = (1..=100).map(f64::from).collect();
    let panel = detection_panel(&inside, &[0.5, 95.0, 96.0, 1000.0]).unwrap();
    assert_eq!((panel.fpr95, panel.inside, panel.outside), (0.5, 100, 4));
    assert_eq!(auroc(&[f64::INFINITY], &[0.0, f64::NEG_INFINITY]).unwrap(), 1.0);
    assert_eq!(auroc(&[0.0], &[-0.0]).unwrap(), 0.5);
    assert!(auroc(&[], &[1.0]).is_err() && auroc(&[1.0], &[f64::NAN]).is_err());
    assert!(fpr_at_tpr(&[1.0], &[1.0], 0.0).is_err());
    assert!(fpr_at_tpr(&[1.0], &[1.0], f64::NAN).is_err());
}

#[test]
fn reliability_worked_by_hand() {
    // Bins of (0, ½], (½, 1]: 0.5 belongs to the lower one.
    let predictions = [(0.5, true), (0.3, false), (0.6, true), (1.0, true), (0.8, false)];
    let found = reliability_of(&predictions, Bins::EqualWidth(2)).unwrap();
    assert_eq!(found.bins.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 3]);
    assert_close(found.bins[0].confidence.unwrap(), 0.4, 1e-15);
    assert_close(found.bins[1].accuracy.unwrap(), 2.0 / 3.0, 1e-15);
    assert_close(found.ece, 0.4 * 0.1 + 0.6 * (0.8 - 2.0 / 3.0), 1e-15);
    assert_close(found.mce, 0.8 - 2.0 / 3.0, 1e-15);
    // 0.3 0.5 0.6 | 0.8 1.0.
    let found = reliability_of(&predictions, Bins::EqualMass(2)).unwrap();
    assert_eq!((found.bins[0].lower, found.bins[0].upper, found.bins[0].count), (0.3, 0.6, 3));
    assert_close(found.ece, 0.6 * (2.0 / 3.0 - 1.4 / 3.0) + 0.4 * 0.4, 1e-15);
    // More bins than points, and empty bins.
    assert_eq!(reliability_of(&predictions, Bins::EqualMass(9)).unwrap().bins.len(), 5);
    let found = reliability_of(&predictions, Bins::EqualWidth(100)).unwrap();
    assert_eq!(found.bins.len(), 100);
    assert_eq!((found.bins[0].count, found.bins[0].accuracy), (0, None));
    // Ends of bins belong to the bin below, whatever rounding does to i/b·b.
    for count in [3, 7, 10, 15, 49] {
        for i in 1..=count {
            let at = i as f64 / count as f64;
            let found = reliability_of(&[(at, true)], Bins::EqualWidth(count)).unwrap();
            assert_eq!(found.bins[i - 1].count, 1, "{i}/{count}");
        }
        let zero = reliability_of(&[(0.0, true)], Bins::EqualWidth(count)).unwrap();
        assert_eq!(zero.bins[0].count, 1);
    }
    assert!(reliability_of(&[], Bins::default()).is_err());
    assert!(reliability_of(&[(1.1, true)], Bins::default()).is_err());
    assert!(reliability_of(&[(f64::NAN, true)], Bins::default()).is_err());
    assert!(reliability_of(&predictions, Bins::EqualWidth(0)).is_err());
}

/// Two logits a and 0 of which a share q is right: σ(a/T) = q.
#[test]
fn temperatures_known_in_closed_form() {
    for (a, right) in [(3.0, 7), (0.01, 6), (400.0, 9), (1e-9, 8), (1e6, 7)] {
        let logits = Mat64::from_shape_fn((10, 2), |(_, j)| if j == 0 { a } else { 0.0 });
        let labels: Vec<usize> = (0..10).map(|i| usize::from(i >= right)).collect();
        let q = right as f64 / 10.0;
        let found = TemperatureScaling::fit(logits.view(), &labels).unwrap();
        let want = a / (q / (1.0 - q)).ln();
        assert!((found.temperature / want - 1.0).abs() < 1e-10, "{found:?} {want}");
        let entropy = -q * q.ln() - (1.0 - q) * (1.0 - q).ln();
        assert_close(found.nll_after, entropy, 1e-12);
        assert!(found.nll_after <= found.nll_before);
    }
    let logits = array![[2.0, 0.0], [0.0, 1.0]];
    let refused = |labels: &[usize], part: &str| {
        let message = TemperatureScaling::fit(logits.view(), labels).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&[0, 1], "T → 0");
    refused(&[1, 1], "T → ∞");
    refused(&[1, 2], "columns from 0 to 1, got 2");
    refused(&[1], "expected shape 1");
    assert!(TemperatureScaling::fit(array![[f64::NAN, 0.0]].view(), &[0]).is_err());
    assert!(TemperatureScaling::fit(array![[1e308, -1e308]].view(), &[1]).is_err());
}

#[test]
fn scores_worked_by_hand_and_bad_input() {
    let p = array![[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]];
    assert_eq!(confidences(p.view()).unwrap(), [(0.7, 0), (0.5, 1)]);
    assert_eq!(accuracy(p.view(), &[0, 2]).unwrap(), 0.5);
    assert_close(nll(p.view(), &[0, 2]).unwrap(), -0.5 * (0.7f64.ln() + 0.5f64.ln()), 1e-15);
    assert_eq!(nll(p.view(), &[0, 0]).unwrap(), f64::INFINITY);
    assert_close(brier(p.view(), &[0, 2]).unwrap(), 0.5 * (0.09 + 0.04 + 0.01 + 0.5), 1e-15);
    assert_close(entropies(p.view()).unwrap()[1], 2f64.ln(), 1e-15);
    // exp(−2000) is 0, its logarithm is not.
    assert_eq!(nll_of_logits(array![[0.0, 2000.0]].view(), &[0]).unwrap(), 2000.0);
    let refused = |p: Mat64, labels: &[usize], part: &str| {
        let message = accuracy(p.view(), labels).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    };
    refused(array![[0.7, 0.2]], &[0], "rows that sum to 1, got the sum 0.8999");
    refused(array![[1.7, -0.7]], &[0], "numbers from 0 to 1, got 1.7 in row 0");
    refused(array![[f64::NAN, 0.0]], &[0], "NaN");
    refused(p.clone(), &[0, 3], "columns from 0 to 2, got 3");
    refused(p.clone(), &[0], "expected shape 1");
    refused(Mat64::zeros((0, 2)), &[], "neither zero");
    assert!(softmax(array![[f64::INFINITY]].view()).is_err());
}
