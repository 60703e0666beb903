//! Jacobians of a network by its parameters, point by point.

use ndarray::s;
use rayon::prelude::*;

use super::{Network, Tape};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// Fails when derivatives at a point would depend on the points beside it.
pub(crate) fn expect_frozen(network: &(impl Network + ?Sized)) -> Result<()> {
    match network.uses_batch_statistics() {
        false => Ok(()),
        true => Err(Error::Unsupported {
            what: "derivatives of a network in training, point by point".into(),
            reason: "its batch normalisation takes statistics of the batch: freeze it first".into(),
        }),
    }
}

/// The outputs, by column, that depend on `unit`.
pub(crate) fn outputs_of(network: &(impl Network + ?Sized), unit: usize) -> Vec<usize> {
    let c = network.outputs();
    let all = 0..network.functions() * c;
    all.filter(|output| network.unit(output / c) == unit).collect()
}

/// [`Network::jacobians`], all finite.
pub(crate) fn jacobians(network: &dyn Network, x: MatRef<'_>) -> Result<Vec<Mat>> {
    let found = network.jacobians(x)?;
    for (unit, jacobian) in found.iter().enumerate() {
        // A sum of zero products is NaN exactly when some factor is not finite, and it vectorises.
        let numbers = jacobian.as_slice().unwrap_or_default();
        let bad = |rows: &[f32]| !rows.iter().fold(0.0, |sum, v| sum + v * 0.0).is_finite();
        let width = jacobian.ncols().max(1);
        if numbers.par_chunks(width).any(bad)
            && let Some(((row, column), value)) =
                jacobian.indexed_iter().find(|(_, v)| !v.is_finite())
        {
            let outputs = outputs_of(network, unit);
            let what = format!("derivative of output {}", outputs[row % outputs.len()]);
            let (row, value) = (row / outputs.len(), *value);
            return Err(Error::NonFinite { what, row, column, value });
        }
    }
    Ok(found)
}

/// [`Network::jacobians`] by one [`Network::jacobian`] for each point.
pub(super) fn by_points(network: &(impl Network + ?Sized), x: MatRef<'_>) -> Result<Vec<Mat>> {
    expect_frozen(network)?;
    let (n, c) = (x.nrows(), network.outputs());
    let each = Mat::eye(c);
    let rows: Vec<usize> = (0..n).collect();
    let jacobian = |tape: &mut Tape, i: &usize| {
        network.forward(x.slice(s![*i..*i + 1, ..]), Some(tape))?;
        network.jacobian(tape, each.view())
    };
    let found: Vec<Vec<Vec<f32>>> =
        rows.par_iter().map_init(Tape::default, jacobian).collect::<Result<_>>()?;
    let units = network.parameters().units().iter().enumerate();
    units
        .map(|(unit, values)| {
            let outputs = outputs_of(network, unit);
            let shape = (n * outputs.len(), values.len());
            let mut all = Vec::with_capacity(shape.0 * shape.1);
            for point in &found {
                outputs.iter().for_each(|o| all.extend_from_slice(&point[*o]));
            }
            Mat::from_shape_vec(shape, all).map_err(|e| Error::shape("Jacobian", "n × P", e))
        })
        .collect()
}
