//! Jacobians of a network by its parameters, point by point.

use ndarray::s;
use rayon::prelude::*;

use super::{Network, Tape};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// Fails when derivatives at a point would depend on the points beside it.
pub(crate) fn expect_frozen(network: &dyn Network) -> Result<()> {
    match network.uses_batch_statistics() {
        false => Ok(()),
        true => Err(Error::Unsupported {
            what: "derivatives of a network in training, point by point".into(),
            reason: "its batch normalisation takes statistics of the batch: freeze it first".into(),
        }),
    }
}

/// Derivatives of output o at point i by the parameters of its unit: entry i, o. One backward pass for
/// each of them.
pub(crate) fn jacobians(network: &dyn Network, x: MatRef<'_>) -> Result<Vec<Vec<Vec<f32>>>> {
    let rows: Vec<usize> = (0..x.nrows()).collect();
    let each = Mat::eye(network.outputs());
    let jacobian = |tape: &mut Tape, i: &usize| {
        network.forward(x.slice(s![*i..*i + 1, ..]), Some(tape))?;
        let jacobian = network.jacobian(tape, each.view())?;
        for (f, derivative) in jacobian.iter().enumerate() {
            if let Some(column) = derivative.iter().position(|v| !v.is_finite()) {
                let what = format!("derivative of output {f} by its parameters");
                let value = derivative[column];
                return Err(Error::NonFinite { what, row: *i, column, value });
            }
        }
        Ok(jacobian)
    };
    rows.par_iter().map_init(Tape::default, jacobian).collect()
}
