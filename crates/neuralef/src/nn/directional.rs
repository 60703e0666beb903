//! Derivatives of a network along directions in its parameters, and what they pull back, by blocks of
//! Jacobians: cheap for many directions, since a convolution multiplies each weight with many pixels.

use std::ops::Range;

use ndarray::s;

use super::expect::expect_one;
use super::jacobians::finite_jacobians;
use super::network::Network;
use super::rows::finite;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, MatRef, expect_columns};

/// Numbers of Jacobians that are held at a time, at most: 256 MiB.
const HELD: u64 = 1 << 26;

/// Rows of `width` numbers that are held at a time: as many as a product takes together, if they are
/// not too many numbers.
pub(super) fn held(width: u64) -> u64 {
    (HELD / width.max(1)).clamp(1, linalg::ROWS as u64)
}

/// Calls `visit` with the rows (point, output) of every block of points and their Jacobians, as
/// [`per_sample_jacobians`](super::per_sample_jacobians) has them; further rows of these are of no meaning.
pub(crate) fn jacobian_blocks(
    network: &dyn Network,
    x: MatRef<'_>,
    mut visit: impl FnMut(Range<usize>, MatRef<'_>) -> Result<()>,
) -> Result<()> {
    expect_columns("x", x, network.inputs())?;
    let width = expect_one(network)?;
    let c = network.functions() * network.outputs();
    let held = held(width as u64) as usize;
    let points = (held / c.max(1)).max(1);
    let mut jacobians = Vec::new();
    for start in (0..x.nrows()).step_by(points) {
        let end = (start + points).min(x.nrows());
        finite_jacobians(network, x.slice(s![start..end, ..]), &mut jacobians)?;
        let jacobian = &mut jacobians[0];
        // Blocks of as many rows as a product takes together are not copied for it.
        let rows = held.max((end - start) * c);
        jacobian.resize(rows * width, 0.0);
        let jacobian = MatRef::from_shape((rows, width), jacobian)
            .map_err(|e| Error::shape("Jacobian", format!("{rows} × {width}"), e))?;
        visit(start * c..end * c, jacobian)?;
    }
    Ok(())
}

/// J(x)V, n·C × r, for the directions in the rows of `v`, r × P.
pub(super) fn along(network: &dyn Network, x: MatRef<'_>, v: MatRef<'_>) -> Result<Mat> {
    let c = network.functions() * network.outputs();
    let mut out = Mat::zeros((x.nrows() * c, v.nrows()));
    jacobian_blocks(network, x, |rows, jacobian| {
        let product = linalg::matmul_long_f32(jacobian, v)?;
        let count = rows.len();
        out.slice_mut(s![rows, ..]).assign(&product.slice(s![..count, ..]));
        Ok(())
    })?;
    finite("derivative along a direction", out)
}

/// Σ over (point, output) of Jᵀ·weights, P × r for weights n·C × r.
pub(super) fn pulled_back(
    network: &dyn Network,
    x: MatRef<'_>,
    weights: MatRef<'_>,
) -> Result<Mat> {
    let mut out = Mat::zeros((expect_one(network)?, weights.ncols()));
    jacobian_blocks(network, x, |rows, jacobian| {
        let jacobian = jacobian.slice(s![..rows.len(), ..]);
        out += &linalg::matmul_f32(jacobian.t(), weights.slice(s![rows, ..]))?;
        Ok(())
    })?;
    Ok(out)
}
