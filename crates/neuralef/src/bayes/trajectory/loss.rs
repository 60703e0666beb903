//! The losses of supervised training, with their derivatives.

use crate::bayes::Targets;
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// The mean loss of `outputs` (b × C) for the points `rows`, and its derivative by them: the cross
/// entropy of softmax for labels, half the squared distance for real targets. In double precision.
///
/// # Errors
/// [`Error::Shape`] for outputs of another shape, [`Error::InvalidParameter`] for rows and labels that
/// are not there.
pub(super) fn loss(targets: &Targets, rows: &[usize], outputs: MatRef<'_>) -> Result<(f64, Mat)> {
    let (b, c) = outputs.dim();
    let columns = match targets {
        Targets::Labels(_) => c,
        Targets::Values(values) => values.ncols(),
    };
    if b != rows.len() || c != columns || c == 0 {
        let expected = format!("{} × {columns}", rows.len());
        return Err(Error::shape("outputs of the network", expected, format!("{b} × {c}")));
    }
    if let Some(bad) = rows.iter().find(|row| **row >= targets.len()) {
        return Err(Error::parameter("rows", format!("numbers below {}", targets.len()), bad));
    }
    let mut cotangent = Mat::zeros((b, c));
    let mut sum = 0.0;
    for ((row, outputs), mut to) in rows.iter().zip(outputs.rows()).zip(cotangent.rows_mut()) {
        match targets {
            Targets::Labels(labels) => {
                let label = labels[*row];
                if label >= c {
                    return Err(Error::parameter("labels", format!("classes below {c}"), label));
                }
                let largest = outputs.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
                let shifted = |v: &f32| f64::from(*v) - f64::from(largest);
                let total: f64 = outputs.iter().map(|v| shifted(v).exp()).sum();
                sum += total.ln() - shifted(&outputs[label]);
                for (j, (to, v)) in to.iter_mut().zip(outputs).enumerate() {
                    let p = shifted(v).exp() / total;
                    *to = ((p - f64::from(u8::from(j == label))) / b as f64) as f32;
                }
            }
            Targets::Values(values) => {
                for ((to, v), y) in to.iter_mut().zip(outputs).zip(values.row(*row)) {
                    let error = f64::from(*v) - y;
                    sum += 0.5 * error * error;
                    *to = (error / b as f64) as f32;
                }
            }
        }
    }
    Ok((sum / b.max(1) as f64, cotangent))
}
