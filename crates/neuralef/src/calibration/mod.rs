//! Are predicted probabilities right? Scores, reliability, temperature scaling, and the detection of
//! points from elsewhere.
//!
//! Probabilities are n × c, rows summing to 1; labels are the numbers of columns. All in `f64`.
//!
//! ```
//! use neuralef::calibration::{Bins, reliability};
//!
//! let p = ndarray::array![[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.7, 0.3]];
//! let found = reliability(p.view(), &[0, 0, 1, 1], Bins::default())?;
//! // Confidence is 0.1, 0.1 and 0.4 below accuracy, and 0.7 above it.
//! assert!((found.ece - (0.1 + 0.1 + 0.4 + 0.7) / 4.0).abs() < 1e-12);
//! # Ok::<(), neuralef::Error>(())
//! ```

use ndarray::{ArrayView1, Axis};

use crate::error::{Error, Result};
use crate::linalg::expect_finite_f64;
use crate::matrix::{Mat64, Mat64Ref};

mod assessment;
mod bins;
mod detection;
mod temperature;
#[cfg(test)]
mod tests;

pub use assessment::{Assessment, Detection, assess, detect};
pub use bins::{Bin, Bins, Reliability, reliability, reliability_of};
pub use detection::{DetectionPanel, auroc, average_precision, detection_panel, fpr_at_tpr};
pub use temperature::TemperatureScaling;

/// How far the sum of a row of probabilities may be from 1: what single precision leaves.
const SUM: f64 = 1e-4;

/// The largest probability of each row and its column (the first of several), the prediction.
///
/// # Errors
/// [`Error::InvalidParameter`] unless rows are probabilities, [`Error::Shape`] when there are none.
pub fn confidences(p: Mat64Ref<'_>) -> Result<Vec<(f64, usize)>> {
    check_probabilities(p)?;
    Ok(p.rows().into_iter().map(largest).collect())
}

/// Entropy −Σ p log p of each row, in nats: a score of uncertainty.
///
/// # Errors
/// As [`confidences`].
pub fn entropies(p: Mat64Ref<'_>) -> Result<Vec<f64>> {
    check_probabilities(p)?;
    let term = |p: &f64| if *p > 0.0 { -p * p.ln() } else { 0.0 };
    Ok(p.rows().into_iter().map(|row| row.iter().map(term).sum()).collect())
}

/// Share of rows whose largest probability is that of their label.
///
/// # Errors
/// As [`confidences`]; [`Error::Shape`] and [`Error::InvalidParameter`] for labels that do not fit.
pub fn accuracy(p: Mat64Ref<'_>, labels: &[usize]) -> Result<f64> {
    check(p, labels)?;
    let right = p.rows().into_iter().zip(labels).filter(|(row, y)| largest(*row).1 == **y).count();
    Ok(right as f64 / labels.len() as f64)
}

/// Negative log likelihood, the mean of −log p(label), in nats. Infinite when a label has
/// probability 0; [`nll_of_logits`] keeps what rounding to 0 loses.
///
/// # Errors
/// As [`accuracy`].
pub fn nll(p: Mat64Ref<'_>, labels: &[usize]) -> Result<f64> {
    check(p, labels)?;
    let sum: f64 = p.rows().into_iter().zip(labels).map(|(row, y)| -row[*y].ln()).sum();
    Ok(sum / labels.len() as f64)
}

/// Mean squared error of the probabilities, Σ over classes of (p − y)² with y the indicator of the
/// label: 0 to 2 (Brier 1950). For two classes that is twice the score of one of them.
///
/// # Errors
/// As [`accuracy`].
pub fn brier(p: Mat64Ref<'_>, labels: &[usize]) -> Result<f64> {
    check(p, labels)?;
    let score = |(row, label): (ArrayView1<'_, f64>, &usize)| -> f64 {
        let errors = row.iter().enumerate().map(|(j, p)| p - f64::from(j == *label));
        errors.map(|e| e * e).sum()
    };
    Ok(p.rows().into_iter().zip(labels).map(score).sum::<f64>() / labels.len() as f64)
}

/// softmax of each row of logits, n × c.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn softmax(logits: Mat64Ref<'_>) -> Result<Mat64> {
    Ok(log_softmax(logits)?.mapv_into(f64::exp))
}

/// log softmax of each row of logits, n × c.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn log_softmax(logits: Mat64Ref<'_>) -> Result<Mat64> {
    expect_finite_f64("logits", logits)?;
    let mut out = logits.to_owned();
    for mut row in out.axis_iter_mut(Axis(0)) {
        let largest = row.fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let total = row.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
        row.mapv_inplace(|v| (v - largest) - total);
    }
    Ok(out)
}

/// [`nll`] of softmax(logits), from logits.
///
/// # Errors
/// [`Error::NonFinite`]; for labels as [`accuracy`].
pub fn nll_of_logits(logits: Mat64Ref<'_>, labels: &[usize]) -> Result<f64> {
    check_labels(logits, labels)?;
    let log_p = log_softmax(logits)?;
    let sum: f64 = log_p.rows().into_iter().zip(labels).map(|(row, y)| -row[*y]).sum();
    Ok(sum / labels.len() as f64)
}

fn largest(row: ArrayView1<'_, f64>) -> (f64, usize) {
    let mut best = (f64::NEG_INFINITY, 0);
    for (j, v) in row.iter().enumerate() {
        if *v > best.0 {
            best = (*v, j);
        }
    }
    best
}

fn check(p: Mat64Ref<'_>, labels: &[usize]) -> Result<()> {
    check_labels(p, labels)?;
    check_probabilities(p)
}

fn check_labels(p: Mat64Ref<'_>, labels: &[usize]) -> Result<()> {
    let (n, c) = p.dim();
    if n != labels.len() || n == 0 || c == 0 {
        let expected = format!("{} × c, neither zero", labels.len().max(1));
        return Err(Error::shape("probabilities of the labels", expected, format!("{n} × {c}")));
    }
    match labels.iter().find(|y| **y >= c) {
        None => Ok(()),
        Some(bad) => Err(Error::parameter("labels", format!("columns from 0 to {}", c - 1), bad)),
    }
}

fn check_probabilities(p: Mat64Ref<'_>) -> Result<()> {
    let (n, c) = p.dim();
    if n == 0 || c == 0 {
        return Err(Error::shape("probabilities", "n × c, neither zero", format!("{n} × {c}")));
    }
    expect_finite_f64("probabilities", p)?;
    for (i, row) in p.rows().into_iter().enumerate() {
        if let Some(bad) = row.iter().find(|v| !(0.0..=1.0 + SUM).contains(*v)) {
            let got = format!("{bad} in row {i}");
            return Err(Error::parameter("probabilities", "numbers from 0 to 1", got));
        }
        let sum = row.sum();
        if (sum - 1.0).abs() > SUM {
            let got = format!("the sum {sum} in row {i}");
            return Err(Error::parameter("probabilities", "rows that sum to 1", got));
        }
    }
    Ok(())
}
