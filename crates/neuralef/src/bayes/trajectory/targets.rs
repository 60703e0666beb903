//! What a network is trained to give, and the loss of not giving it.

use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use crate::probe::{distinct, indices};

/// Targets of supervised training, one for each point.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Classes, numbered from 0: outputs are logits, the loss is the cross entropy of their softmax.
    Classes {
        /// The class of each point.
        indices: Vec<usize>,
        /// C, how many there are.
        classes: usize,
    },
    /// Real numbers, n × C: the loss is half the squared distance.
    Values(Mat),
}

impl Targets {
    /// Classes from `labels`, in ascending order of the labels, which are returned too.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for labels of fewer than two classes.
    pub fn of_labels(labels: &[i64]) -> Result<(Targets, Vec<i64>)> {
        let classes = distinct(labels)?;
        let indices = indices(&classes, labels)?;
        Ok((Targets::Classes { indices, classes: classes.len() }, classes))
    }

    /// n, the number of points.
    pub fn len(&self) -> usize {
        match self {
            Targets::Classes { indices, .. } => indices.len(),
            Targets::Values(values) => values.nrows(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// C, the outputs a network must have.
    pub fn outputs(&self) -> usize {
        match self {
            Targets::Classes { classes, .. } => *classes,
            Targets::Values(values) => values.ncols(),
        }
    }

    /// Fails unless there is one finite target for each of `points` points.
    pub(super) fn check(&self, points: usize) -> Result<()> {
        if self.len() != points {
            return Err(Error::shape(
                "targets",
                format!("{points}, one for each point"),
                self.len(),
            ));
        }
        match self {
            Targets::Classes { indices, classes } => {
                match indices.iter().find(|class| **class >= *classes) {
                    Some(bad) => {
                        let expected = format!("classes below {classes}");
                        Err(Error::parameter("targets", expected, bad))
                    }
                    None => Ok(()),
                }
            }
            Targets::Values(values) => crate::linalg::expect_finite_f32("targets", values.view()),
        }
    }

    /// The mean loss of `outputs` (b × C) for the points `rows`, and its derivative by them.
    ///
    /// # Errors
    /// [`Error::Shape`] for outputs of another shape.
    pub fn loss(&self, rows: &[usize], outputs: MatRef<'_>) -> Result<(f64, Mat)> {
        let (b, c) = (rows.len(), self.outputs());
        if outputs.dim() != (b, c) {
            let got = format!("{} × {}", outputs.nrows(), outputs.ncols());
            return Err(Error::shape("outputs of the network", format!("{b} × {c}"), got));
        }
        if let Some(bad) = rows.iter().find(|row| **row >= self.len()) {
            return Err(Error::parameter("rows", format!("numbers below {}", self.len()), bad));
        }
        let mut cotangent = Mat::zeros((b, c));
        let mut sum = 0.0;
        for ((row, outputs), mut to) in rows.iter().zip(outputs.rows()).zip(cotangent.rows_mut()) {
            match self {
                Targets::Classes { indices, .. } => {
                    let largest = outputs.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
                    let shifted = |v: &f32| f64::from(*v) - f64::from(largest);
                    let total: f64 = outputs.iter().map(|v| shifted(v).exp()).sum();
                    let class = indices[*row];
                    sum += total.ln() - shifted(&outputs[class]);
                    for (j, (to, v)) in to.iter_mut().zip(outputs).enumerate() {
                        let p = shifted(v).exp() / total;
                        *to = ((p - f64::from(u8::from(j == class))) / b as f64) as f32;
                    }
                }
                Targets::Values(values) => {
                    for ((to, v), y) in to.iter_mut().zip(outputs).zip(values.row(*row)) {
                        let error = f64::from(*v) - f64::from(*y);
                        sum += 0.5 * error * error;
                        *to = (error / b as f64) as f32;
                    }
                }
            }
        }
        Ok((sum / b.max(1) as f64, cotangent))
    }
}
