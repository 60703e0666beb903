//! How well a score separates two sets of points, such as those from elsewhere from those at home.

use serde::Serialize;

use crate::error::{Error, Result};

/// Area under the ROC curve: the probability that a positive has a larger score than a negative,
/// equal scores counting half. O(n log n).
///
/// # Errors
/// [`Error::Shape`] unless there are positives and negatives, [`Error::InvalidParameter`] for a
/// score that is NaN. Infinite scores are compared as they are.
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Result<f64> {
    let levels = Levels::new(positives, negatives)?;
    let (mut above, mut area) = (0.0, 0.0);
    for (p, n) in levels.descending {
        area += n * (above + 0.5 * p);
        above += p;
    }
    Ok(area / (positives.len() as f64 * negatives.len() as f64))
}

/// Average precision, Σ (recall − recall before)·precision over descending thresholds: the area
/// under the precision–recall curve by steps, without interpolation. O(n log n).
///
/// # Errors
/// As [`auroc`].
pub fn average_precision(positives: &[f64], negatives: &[f64]) -> Result<f64> {
    let levels = Levels::new(positives, negatives)?;
    let (mut hits, mut chosen, mut sum) = (0.0, 0.0, 0.0);
    for (p, n) in levels.descending {
        hits += p;
        chosen += p + n;
        sum += p * hits / chosen;
    }
    Ok(sum / positives.len() as f64)
}

/// The share of negatives at or above the largest threshold that at least a share `tpr` of the
/// positives reaches. O(n log n).
///
/// # Errors
/// As [`auroc`]; [`Error::InvalidParameter`] unless 0 < tpr ≤ 1.
pub fn fpr_at_tpr(positives: &[f64], negatives: &[f64], tpr: f64) -> Result<f64> {
    if !(tpr > 0.0 && tpr <= 1.0) {
        return Err(Error::parameter("tpr", "a number above 0, at most 1", tpr));
    }
    let levels = Levels::new(positives, negatives)?;
    let (mut hits, mut alarms) = (0.0, 0.0);
    for (p, n) in levels.descending {
        hits += p;
        alarms += n;
        if hits / positives.len() as f64 >= tpr {
            break;
        }
    }
    Ok(alarms / negatives.len() as f64)
}

/// How well a score of uncertainty tells points from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DetectionPanel {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// Average precision with points from elsewhere as positives.
    pub aupr_out: f64,
    /// Average precision with points at home as positives (and the score reversed).
    pub aupr_in: f64,
    /// Share of points from elsewhere that are accepted when 95 % of those at home are (Liang et
    /// al. 2018).
    pub fpr95: f64,
    /// Number of points at home.
    pub inside: usize,
    /// Number of points from elsewhere.
    pub outside: usize,
}

/// The panel for scores that should be larger for points from elsewhere, as entropies are
/// (confidences go in with their sign changed).
///
/// # Errors
/// As [`auroc`].
pub fn detection_panel(inside: &[f64], outside: &[f64]) -> Result<DetectionPanel> {
    let reversed = |scores: &[f64]| -> Vec<f64> { scores.iter().map(|s| -s).collect() };
    let (at_home, elsewhere) = (reversed(inside), reversed(outside));
    Ok(DetectionPanel {
        auroc: auroc(outside, inside)?,
        aupr_out: average_precision(outside, inside)?,
        aupr_in: average_precision(&at_home, &elsewhere)?,
        fpr95: fpr_at_tpr(&at_home, &elsewhere, 0.95)?,
        inside: inside.len(),
        outside: outside.len(),
    })
}

/// Numbers of positives and negatives at every different score, from the largest score down.
struct Levels {
    descending: Vec<(f64, f64)>,
}

impl Levels {
    fn new(positives: &[f64], negatives: &[f64]) -> Result<Self> {
        for (name, scores) in [("positives", positives), ("negatives", negatives)] {
            if scores.is_empty() {
                return Err(Error::shape(format!("scores of {name}"), "at least one", 0));
            }
            if scores.iter().any(|s| s.is_nan()) {
                return Err(Error::parameter(format!("scores of {name}"), "numbers", "NaN"));
            }
        }
        let mut all: Vec<(f64, bool)> = positives.iter().map(|s| (*s, true)).collect();
        all.extend(negatives.iter().map(|s| (*s, false)));
        // Adding 0 makes one zero of both.
        all.iter_mut().for_each(|(s, _)| *s += 0.0);
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let level = |same: &[(f64, bool)]| {
            let positive = same.iter().filter(|(_, positive)| *positive).count();
            (positive as f64, (same.len() - positive) as f64)
        };
        Ok(Levels { descending: all.chunk_by(|a, b| a.0 == b.0).map(level).collect() })
    }
}
