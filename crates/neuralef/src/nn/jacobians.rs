//! Jacobians of a network by its parameters, point by point.

use ndarray::s;
use rayon::prelude::*;

use super::expect::expect_frozen;
use super::network::Network;
use super::outputs::columns_of_outputs;
use super::rows::all_finite;
use super::tape::Tape;
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// Points whose derivatives are found at the same time.
const POINTS: usize = 32;

/// Jacobians contracted over the rows of the batch in `tape`: entry i·m + j is
/// Σ_bc weights_(bc)j ∂h_ic(x_b)/∂θ over the parameters of function i's unit, for weights BC × m
/// with the C outputs of a point in consecutive rows. Costs m backward passes for an ensemble of
/// separate networks, k·m for heads on one trunk.
///
/// # Errors
/// Shape errors.
pub fn contracted_jacobian(
    network: &dyn Network,
    tape: &Tape,
    weights: MatRef<'_>,
) -> Result<Vec<Vec<f32>>> {
    let (k, m) = (network.functions(), weights.ncols());
    let units: Vec<usize> = (0..k).map(|i| network.unit(i)).collect();
    // Functions of different units take part in the same backward pass.
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for i in 0..k {
        let free = |round: &&mut Vec<usize>| round.iter().all(|o| units[*o] != units[i]);
        match rounds.iter_mut().find(free) {
            Some(round) => round.push(i),
            None => rounds.push(vec![i]),
        }
    }
    let mut out = vec![Vec::new(); k * m];
    let mut gradient = network.parameters().zeros_like();
    for (j, column) in weights.columns().into_iter().enumerate() {
        for round in &rounds {
            let mut cotangent = Mat::zeros((weights.nrows(), k));
            round.iter().for_each(|&i| cotangent.column_mut(i).assign(&column));
            let cotangent = columns_of_outputs(cotangent, network.outputs())?;
            network.vjp(tape, cotangent.view(), &mut gradient)?;
            for &i in round {
                out[i * m + j] = gradient.units()[units[i]].clone();
            }
        }
    }
    Ok(out)
}

/// Jacobians at every row of x, into `out`, whose memory is used again: for each unit the nm × P
/// derivatives of the m outputs that depend on it, in the order of their columns, by its P parameters,
/// row by row with the outputs of a point in consecutive rows. By the network's own
/// [`PerSampleJacobians`](super::PerSampleJacobians) where it has them; else a backward pass for each
/// point and output.
///
/// # Errors
/// Shape errors, and [`Error::Unsupported`] for batch normalisation that is not
/// [frozen](super::BatchStatistics::freeze).
pub fn per_sample_jacobians(
    network: &dyn Network,
    x: MatRef<'_>,
    out: &mut Vec<Vec<f32>>,
) -> Result<()> {
    match network.per_sample_jacobians() {
        Some(network) => network.jacobians(x, out),
        None => by_points(network, x, out),
    }
}

/// The outputs, by column, that depend on `unit`.
pub(crate) fn outputs_of(network: &dyn Network, unit: usize) -> Vec<usize> {
    let c = network.outputs();
    let all = 0..network.functions() * c;
    all.filter(|output| network.unit(output / c) == unit).collect()
}

/// [`per_sample_jacobians`], all finite.
pub(crate) fn finite_jacobians(
    network: &dyn Network,
    x: MatRef<'_>,
    out: &mut Vec<Vec<f32>>,
) -> Result<()> {
    per_sample_jacobians(network, x, out)?;
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

/// [`per_sample_jacobians`] by one [`contracted_jacobian`] for each point.
fn by_points(network: &dyn Network, x: MatRef<'_>, out: &mut Vec<Vec<f32>>) -> Result<()> {
    expect_frozen(network)?;
    let identity = Mat::eye(network.outputs());
    let jacobian = |tape: &mut Tape, i: usize| {
        network.forward(x.slice(s![i..i + 1, ..]), Some(tape))?;
        contracted_jacobian(network, tape, identity.view())
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
        let jacobians: Vec<Vec<Vec<f32>>> =
            points.into_par_iter().map_init(Tape::default, jacobian).collect::<Result<_>>()?;
        for (out, outputs) in out.iter_mut().zip(&outputs) {
            for point in &jacobians {
                outputs.iter().for_each(|o| out.extend_from_slice(&point[*o]));
            }
        }
    }
    Ok(())
}
