//! Temperature scaling: one number that makes a classifier's probabilities less, or more, sure.

use serde::Serialize;

use super::{check_labels, nll_of_logits};
use crate::error::{Error, Result};
use crate::linalg::expect_finite_f64;
use crate::matrix::{Mat64, Mat64Ref};

/// Relative accuracy of the temperature.
const ACCURACY: f64 = 1e-12;
/// Most steps: brackets double or halve, so even bad starts need few.
const STEPS: usize = 2000;

/// A fitted temperature T: probabilities are softmax(logits/T) (Guo et al. 2017).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TemperatureScaling {
    /// T > 0; above 1 for classifiers that are too sure.
    pub temperature: f64,
    /// Mean negative log likelihood of the points of the fit at T = 1.
    pub nll_before: f64,
    /// The same at T.
    pub nll_after: f64,
}

impl TemperatureScaling {
    /// The T with the smallest negative log likelihood on validation logits (n × c) and labels, by
    /// Newton's method in 1/T within a bracket: the likelihood is concave in 1/T. O(n c) for each
    /// step.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`] and [`Error::InvalidParameter`] for input that does
    /// not fit; [`Error::Numerical`] when there is no such T, because the logits are right about
    /// every label (T → 0), or tell no more than chance (T → ∞).
    pub fn fit(logits: Mat64Ref<'_>, labels: &[usize]) -> Result<Self> {
        check_labels(logits, labels)?;
        expect_finite_f64("logits", logits)?;
        // Every row less its largest entry, and the entry of the label.
        let mut z = logits.to_owned();
        for mut row in z.rows_mut() {
            let largest = row.fold(f64::NEG_INFINITY, |m, v| m.max(*v));
            row.mapv_inplace(|v| v - largest);
        }
        expect_finite_f64("logits less the largest of their row", z.view())?;
        let likelihood = ScaledLikelihood { z, labels };
        let none = |message: &str| Error::Numerical {
            what: "temperature scaling".into(),
            message: message.into(),
        };
        // The slope in β = 1/T ascends from its value at 0 to minus the mean logit of the labels,
        // which is 0 when the largest logits are theirs.
        if likelihood.slopes(0.0).0 >= 0.0 {
            return Err(none(
                "the logits of the labels are no larger than those of other classes on average, \
                 so the likelihood is largest for T → ∞",
            ));
        }
        if likelihood.labels().all(|z| z == 0.0) {
            return Err(none(
                "the largest logit is that of the label at every point, so the likelihood is \
                 largest for T → 0; a validation set with errors is needed",
            ));
        }
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut beta = 1.0;
        for _ in 0..STEPS {
            let (slope, curvature) = likelihood.slopes(beta);
            if slope == 0.0 {
                break;
            }
            if slope < 0.0 {
                low = beta;
            } else {
                high = beta;
            }
            let newton = beta - slope / curvature;
            let next = if newton > low && newton < high && newton < 4.0 * beta {
                newton
            } else if high.is_infinite() {
                4.0 * beta
            } else if low == 0.0 {
                beta / 4.0
            } else {
                0.5 * (low + high)
            };
            let moved = (next - beta).abs();
            beta = next;
            if moved <= ACCURACY * beta {
                break;
            }
        }
        let temperature = 1.0 / beta;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(none("the temperature is beyond the range of double precision"));
        }
        let fitted = TemperatureScaling { temperature, nll_before: 0.0, nll_after: 0.0 };
        Ok(TemperatureScaling {
            nll_before: nll_of_logits(logits, labels)?,
            nll_after: nll_of_logits(fitted.apply(logits).view(), labels)?,
            ..fitted
        })
    }

    /// logits/T, n × c.
    pub fn apply(&self, logits: Mat64Ref<'_>) -> Mat64 {
        logits.mapv(|v| v / self.temperature)
    }
}

/// The mean negative log likelihood of labels as a function of β = 1/T.
struct ScaledLikelihood<'a> {
    /// Logits less the largest of their row.
    z: Mat64,
    labels: &'a [usize],
}

impl ScaledLikelihood<'_> {
    /// The logits of the labels.
    fn labels(&self) -> impl Iterator<Item = f64> {
        self.z.rows().into_iter().zip(self.labels).map(|(row, y)| row[*y])
    }

    /// First and second derivative of the mean loss in β: E(E_p z − z_y) and E Var_p z.
    fn slopes(&self, beta: f64) -> (f64, f64) {
        let (mut first, mut second) = (0.0, 0.0);
        for (row, label) in self.z.rows().into_iter().zip(self.labels) {
            let weights = || row.iter().map(|v| (*v, (beta * v).exp()));
            let total: f64 = weights().map(|(_, w)| w).sum();
            let mean = weights().map(|(v, w)| v * w).sum::<f64>() / total;
            first += mean - row[*label];
            second += weights().map(|(v, w)| (v - mean).powi(2) * w).sum::<f64>() / total;
        }
        (first / self.labels.len() as f64, second / self.labels.len() as f64)
    }
}
