//! Kernels of points that are known by their row numbers, and points with row numbers.

use std::ops::Range;

use ndarray::s;

use super::Kernel;
use crate::error::Result;
use crate::matrix::{Mat64Mut, MatMut, MatRef};

/// Points, and which rows of the fit's data they are.
#[derive(Debug, Clone, Copy)]
pub struct IndexedPoints<'a> {
    /// Their coordinates, n × d.
    pub x: MatRef<'a>,
    /// The row number of each in the data of the fit, from 0; none for points from elsewhere.
    pub rows: Option<&'a [usize]>,
}

impl<'a> From<MatRef<'a>> for IndexedPoints<'a> {
    /// Points from elsewhere.
    fn from(x: MatRef<'a>) -> Self {
        IndexedPoints { x, rows: None }
    }
}

impl<'a> IndexedPoints<'a> {
    /// Some of them.
    pub(crate) fn range(self, range: Range<usize>) -> IndexedPoints<'a> {
        let rows = self.rows.and_then(|rows| rows.get(range.clone()));
        IndexedPoints { x: self.x.slice_move(s![range, ..]), rows }
    }

    /// n, the number of points.
    pub(crate) fn len(self) -> usize {
        self.x.nrows()
    }
}

/// A kernel whose values depend on the row numbers of points: see [`Kernel::by_index`].
pub trait IndexKernel: Send + Sync {
    /// As [`Kernel::gram`].
    ///
    /// # Errors
    /// As there, and for row numbers that the kernel does not know.
    fn gram_by_index(
        &self,
        x: IndexedPoints<'_>,
        y: IndexedPoints<'_>,
        out: Mat64Mut<'_>,
    ) -> Result<()>;

    /// As [`Kernel::gram_f32`].
    ///
    /// # Errors
    /// As [`gram_by_index`](IndexKernel::gram_by_index).
    fn gram_f32_by_index(
        &self,
        x: IndexedPoints<'_>,
        y: IndexedPoints<'_>,
        out: MatMut<'_>,
    ) -> Result<()>;

    /// As [`Kernel::diag`].
    ///
    /// # Errors
    /// As [`gram_by_index`](IndexKernel::gram_by_index).
    fn diag_by_index(&self, x: IndexedPoints<'_>) -> Result<Vec<f64>>;
}

/// [`Kernel::gram`], by row numbers where the kernel goes by them.
pub(crate) fn gram(
    kernel: &dyn Kernel,
    x: IndexedPoints<'_>,
    y: IndexedPoints<'_>,
    out: Mat64Mut<'_>,
) -> Result<()> {
    match kernel.by_index() {
        Some(kernel) => kernel.gram_by_index(x, y, out),
        None => kernel.gram(x.x, y.x, out),
    }
}

/// [`Kernel::gram_f32`], by row numbers where the kernel goes by them.
pub(crate) fn gram_f32(
    kernel: &dyn Kernel,
    x: IndexedPoints<'_>,
    y: IndexedPoints<'_>,
    out: MatMut<'_>,
) -> Result<()> {
    match kernel.by_index() {
        Some(kernel) => kernel.gram_f32_by_index(x, y, out),
        None => kernel.gram_f32(x.x, y.x, out),
    }
}

/// [`Kernel::diag`], by row numbers where the kernel goes by them.
pub(crate) fn diag(kernel: &dyn Kernel, x: IndexedPoints<'_>) -> Result<Vec<f64>> {
    match kernel.by_index() {
        Some(kernel) => kernel.diag_by_index(x),
        None => kernel.diag(x.x),
    }
}
