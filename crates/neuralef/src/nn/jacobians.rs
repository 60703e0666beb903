//! Jacobians of a network by its parameters, point by point.

use ndarray::s;
use rayon::prelude::*;

use super::rows::all_finite;
use super::{Network, Tape};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// Points whose derivatives are found at the same time.
const POINTS: usize = 32;

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
pub(crate) fn finite_jacobians(
    network: &dyn Network,
    x: MatRef<'_>,
    out: &mut Vec<Vec<f32>>,
) -> Result<()> {
    network.jacobians(x, out)?;
    for (unit, jacobian) in out.iter().enumerate() {
        let width = network.parameters().units()[unit].len().max(1);
        if !jacobian.par_chunks(width).all(all_finite)
            && let Some((at, value)) = jacobian.iter().enumerate().find(|(_, v)| !v.is_finite())
        {
            let outputs = outputs_of(network, unit);
            let (row, column, value) = (at / width, at % width, *value);
            let what = format!("derivative of output {}", outputs[row % outputs.len()]);
            return Err(Error::NonFinite { what, row: row / outputs.len(), column, value });
        }
    }
    Ok(())
}

/// Jacobians as matrices, one for each unit.
pub(crate) fn jacobians(network: &dyn Network, x: MatRef<'_>) -> Result<Vec<Mat>> {
    let mut out = Vec::new();
    finite_jacobians(network, x, &mut out)?;
    let units = out.into_iter().zip(network.parameters().units());
    units
        .map(|(jacobian, values)| {
            let rows = jacobian.len() / values.len().max(1);
            Mat::from_shape_vec((rows, values.len()), jacobian)
                .map_err(|e| Error::shape("Jacobian", "nm × P", e))
        })
        .collect()
}

/// [`Network::jacobians`] by one [`Network::jacobian`] for each point.
pub(super) fn by_points(
    network: &(impl Network + ?Sized),
    x: MatRef<'_>,
    out: &mut Vec<Vec<f32>>,
) -> Result<()> {
    expect_frozen(network)?;
    let each = Mat::eye(network.outputs());
    let jacobian = |tape: &mut Tape, i: usize| {
        network.forward(x.slice(s![i..i + 1, ..]), Some(tape))?;
        network.jacobian(tape, each.view())
    };
    let units = network.parameters().units();
    let outputs: Vec<Vec<usize>> = (0..units.len()).map(|unit| outputs_of(network, unit)).collect();
    out.resize_with(units.len(), Vec::new);
    for ((out, outputs), unit) in out.iter_mut().zip(&outputs).zip(units) {
        out.clear();
        out.reserve_exact(x.nrows() * outputs.len() * unit.len());
    }
    // Some points at a time, whose derivatives are held twice.
    for start in (0..x.nrows()).step_by(POINTS) {
        let points = start..(start + POINTS).min(x.nrows());
        let found: Vec<Vec<Vec<f32>>> =
            points.into_par_iter().map_init(Tape::default, jacobian).collect::<Result<_>>()?;
        for (out, outputs) in out.iter_mut().zip(&outputs) {
            for point in &found {
                outputs.iter().for_each(|o| out.extend_from_slice(&point[*o]));
            }
        }
    }
    Ok(())
}
