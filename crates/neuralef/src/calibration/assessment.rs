//! All scores of a classifier at once, and all that tell points from elsewhere.

use serde::Serialize;

use super::{
    Bins, DetectionPanel, accuracy, brier, confidences, detection_panel, entropies, nll,
    reliability,
};
use crate::error::{Error, Result};
use crate::matrix::Mat64Ref;

/// How good the probabilities of a classifier are on labelled points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Assessment {
    /// n, the number of points.
    pub points: usize,
    /// Share of points whose most probable class is their label.
    pub accuracy: f64,
    /// Negative log likelihood, in nats.
    pub nll: f64,
    /// Brier score, 0 to 2.
    pub brier: f64,
    /// Expected calibration error, 15 bins of equal width.
    pub ece: f64,
    /// The same with 15 bins of as many points each.
    pub adaptive_ece: f64,
}

/// The scores of probabilities `p` (n × c). O(n c + n log n).
///
/// # Errors
/// As [`accuracy`].
pub fn assess(p: Mat64Ref<'_>, labels: &[usize]) -> Result<Assessment> {
    Ok(Assessment {
        points: labels.len(),
        accuracy: accuracy(p, labels)?,
        nll: nll(p, labels)?,
        brier: brier(p, labels)?,
        ece: reliability(p, labels, Bins::EqualWidth(15))?.ece,
        adaptive_ece: reliability(p, labels, Bins::EqualMass(15))?.ece,
    })
}

/// How well a classifier tells points from elsewhere, by three scores of uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    /// By the entropy of the probabilities.
    pub entropy: DetectionPanel,
    /// By one minus the largest probability.
    pub confidence: DetectionPanel,
    /// By the variance of the function, summed over outputs; none where there is no variance.
    pub variance: Option<DetectionPanel>,
}

impl Detection {
    /// The score with the largest area under the ROC curve, by name, the first of equals.
    pub fn best(&self) -> (&'static str, DetectionPanel) {
        let variance = self.variance.map(|panel| ("variance", panel));
        let all = [Some(("confidence", self.confidence)), variance].into_iter().flatten();
        let larger = |best: (&'static str, DetectionPanel),
                      other: (&'static str, DetectionPanel)| {
            if other.1.auroc > best.1.auroc { other } else { best }
        };
        all.fold(("entropy", self.entropy), larger)
    }
}

/// The panels for probabilities at home and elsewhere (n × c and m × c), and variances of the function
/// (n and m of them; all zero for a classifier without).
///
/// # Errors
/// As [`confidences`] and [`detection_panel`]; [`Error::Shape`] for other numbers of variances.
pub fn detect(
    inside: (Mat64Ref<'_>, &[f64]),
    outside: (Mat64Ref<'_>, &[f64]),
) -> Result<Detection> {
    for (name, (p, variances)) in [("inside", inside), ("outside", outside)] {
        if variances.len() != p.nrows() {
            let what = format!("variances {name}");
            return Err(Error::shape(what, p.nrows(), variances.len()));
        }
    }
    let doubts = |p: Mat64Ref<'_>| -> Result<Vec<f64>> {
        Ok(confidences(p)?.into_iter().map(|(largest, _)| 1.0 - largest).collect())
    };
    let some = inside.1.iter().chain(outside.1).any(|v| *v > 0.0);
    Ok(Detection {
        entropy: detection_panel(&entropies(inside.0)?, &entropies(outside.0)?)?,
        confidence: detection_panel(&doubts(inside.0)?, &doubts(outside.0)?)?,
        variance: some.then(|| detection_panel(inside.1, outside.1)).transpose()?,
    })
}
