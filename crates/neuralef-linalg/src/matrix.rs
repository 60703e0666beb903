//! The host matrices every part of the crate meets at: row-major `ndarray` arrays.

use crate::error::{Error, Result};

/// n × d matrix of `f32`, row-major: one row per point.
pub type Mat = ndarray::Array2<f32>;
/// Borrowed [`Mat`].
pub type MatRef<'a> = ndarray::ArrayView2<'a, f32>;
/// Mutably borrowed [`Mat`].
pub type MatMut<'a> = ndarray::ArrayViewMut2<'a, f32>;
/// Matrix of `f64`: what decompositions and accumulated statistics use.
pub type Mat64 = ndarray::Array2<f64>;
/// Borrowed [`Mat64`].
pub type Mat64Ref<'a> = ndarray::ArrayView2<'a, f64>;
/// Mutably borrowed [`Mat64`].
pub type Mat64Mut<'a> = ndarray::ArrayViewMut2<'a, f64>;

/// Fails with [`Error::Shape`] unless `x` has `columns` columns.
pub fn expect_columns(what: &str, x: MatRef<'_>, columns: usize) -> Result<()> {
    if x.ncols() == columns {
        return Ok(());
    }
    Err(Error::shape(what, format!("n × {columns}"), format!("{} × {}", x.nrows(), x.ncols())))
}
