//! What both engines do with the rows of a batch: cut them, make matrices of them, check them.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};

/// Segments are made until there are at least this many tasks, or every block is one.
const TASKS: usize = 8;

/// The most segments of a batch for a network of `units`.
pub(super) fn most_segments(units: usize) -> usize {
    TASKS.div_ceil(units.max(1))
}

/// Cuts a batch of `rows` for a network of `units` into segments of whole blocks of `block` rows, the
/// same for every unit and for any number of threads.
pub(super) fn segments(rows: usize, units: usize, block: usize) -> Vec<Range<usize>> {
    let blocks = rows.div_ceil(block).max(1);
    let count = most_segments(units).min(blocks);
    let length = blocks.div_ceil(count) * block;
    (0..count)
        .map(|s| (s * length).min(rows)..((s + 1) * length).min(rows))
        .filter(|s| s.start == 0 || !s.is_empty())
        .collect()
}

/// The numbers of a matrix in row order, copied only if they do not lie so.
pub(super) fn in_order<'a>(x: &'a MatRef<'_>) -> Cow<'a, [f32]> {
    match x.as_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(x.iter().copied().collect()),
    }
}

/// Fails unless a cotangent fits the values of a network, n × `columns`.
pub(super) fn expect_cotangent(cotangent: MatRef<'_>, n: usize, columns: usize) -> Result<()> {
    if cotangent.dim() == (n, columns) {
        return Ok(());
    }
    let (rows, got) = cotangent.dim();
    Err(Error::shape("cotangent", format!("{n} × {columns}"), format!("{rows} × {got}")))
}

/// Fails unless `layers` are some of the `count` layers of a network, which must be the only one of
/// `units`.
pub(super) fn expect_single(layers: &[usize], count: usize, units: usize) -> Result<()> {
    if units != 1 {
        return Err(Error::parameter("layers", "a single network", units));
    }
    match layers.iter().find(|layer| **layer >= count) {
        Some(bad) => Err(Error::parameter("layers", format!("numbers below {count}"), bad)),
        None if layers.is_empty() => Err(Error::parameter("layers", "at least one layer", "none")),
        None => Ok(()),
    }
}

/// A matrix of what a network computed.
pub(super) fn matrix(rows: usize, columns: usize, data: Vec<f32>) -> Result<Mat> {
    let got = data.len();
    Mat::from_shape_vec((rows, columns), data)
        .map_err(|_| Error::shape("network output", format!("{rows} × {columns}"), got))
}

/// Whether all numbers are finite.
pub(super) fn all_finite(numbers: &[f32]) -> bool {
    // A sum of zero products is NaN exactly when some factor is not finite, and it vectorises.
    let lanes =
        |sums: [f32; 8], chunk: &[f32; 8]| std::array::from_fn(|i| sums[i] + chunk[i] * 0.0);
    let (chunks, tail) = numbers.as_chunks::<8>();
    let sums = chunks.iter().fold([0.0f32; 8], lanes);
    sums.iter().chain(tail).all(|v| v.is_finite())
}

/// Fails with the place of the first number that is not finite.
pub(super) fn finite(what: &str, x: Mat) -> Result<Mat> {
    if x.as_slice().is_none_or(all_finite) {
        return Ok(x);
    }
    match x.indexed_iter().find(|(_, v)| !v.is_finite()) {
        Some(((row, column), value)) => {
            Err(Error::NonFinite { what: what.to_string(), row, column, value: *value })
        }
        None => Ok(x),
    }
}
