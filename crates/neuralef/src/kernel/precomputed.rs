//! Kernel values that were computed elsewhere, as a kernel: for methods that extend eigenvectors.

use super::{IndexKernel, IndexedPoints, Kernel};
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};

/// A kernel whose points are their own values: point x is the row (κ(x, x₁), …, κ(x, x_N)) against the
/// N training points x₁ … x_N. One of two points must be a training point, known by its row number
/// ([`IndexedPoints::rows`]). With [`OperatorSpec::OwnKernel`](crate::operator::OperatorSpec::OwnKernel) and a Gram matrix
/// as the data, whose row i is training point i, `nystrom` and `kernel_pca` serve Gram matrices.
///
/// ```
/// use neuralef::kernel::{IndexKernel, IndexedPoints, PrecomputedKernel};
///
/// let kernel = PrecomputedKernel::new(2);
/// let gram = ndarray::array![[1.0, 0.5], [0.5, 2.0]];
/// let train = IndexedPoints { x: gram.view(), rows: Some(&[0, 1]) };
/// let other = ndarray::array![[0.3, 0.7]];
/// let mut out = ndarray::Array2::zeros((1, 2));
/// kernel.gram_by_index(IndexedPoints::from(other.view()), train, out.view_mut())?;
/// assert_eq!(out, ndarray::array![[0.3f32, 0.7]].mapv(f64::from));
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PrecomputedKernel {
    points: usize,
}

impl PrecomputedKernel {
    /// For N training points.
    pub fn new(points: usize) -> Self {
        PrecomputedKernel { points }
    }

    fn check(&self, x: IndexedPoints<'_>) -> Result<()> {
        if x.x.ncols() != self.points {
            let expected = format!("n × {}", self.points);
            return Err(Error::shape("rows of precomputed kernel values", expected, x.x.ncols()));
        }
        let rows = x.rows.unwrap_or_default();
        if x.rows.is_some() && rows.len() != x.x.nrows() {
            let what = "row numbers of precomputed kernel values";
            return Err(Error::shape(what, x.x.nrows(), rows.len()));
        }
        match rows.iter().find(|row| **row >= self.points) {
            Some(row) => {
                let expected = format!("a whole number below {}", self.points);
                Err(Error::parameter("number of a precomputed point", expected, row))
            }
            None => Ok(()),
        }
    }

    fn each(
        &self,
        x: IndexedPoints<'_>,
        y: IndexedPoints<'_>,
        mut put: impl FnMut(usize, usize, f32),
    ) -> Result<()> {
        self.check(x)?;
        self.check(y)?;
        let (n, m) = (x.len(), y.len());
        let pairs = (0..n).flat_map(|i| (0..m).map(move |j| (i, j)));
        match (y.rows, x.rows) {
            (Some(columns), _) => pairs.for_each(|(i, j)| put(i, j, x.x[[i, columns[j]]])),
            (None, Some(rows)) => pairs.for_each(|(i, j)| put(i, j, y.x[[j, rows[i]]])),
            (None, None) if n > 0 && m > 0 => {
                return Err(Error::Unsupported {
                    what: "a precomputed kernel between two points beyond the training points"
                        .into(),
                    reason: "only values against training points are known".into(),
                });
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl IndexKernel for PrecomputedKernel {
    fn gram_by_index(
        &self,
        x: IndexedPoints<'_>,
        y: IndexedPoints<'_>,
        mut out: Mat64Mut<'_>,
    ) -> Result<()> {
        self.each(x, y, |i, j, v| out[[i, j]] = f64::from(v))
    }

    fn gram_f32_by_index(
        &self,
        x: IndexedPoints<'_>,
        y: IndexedPoints<'_>,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        self.each(x, y, |i, j, v| out[[i, j]] = v)
    }

    fn diag_by_index(&self, x: IndexedPoints<'_>) -> Result<Vec<f64>> {
        self.check(x)?;
        let Some(rows) = x.rows else {
            return Err(Error::Unsupported {
                what: "κ(x, x) of a precomputed kernel beyond the training points".into(),
                reason: "only values against training points are known".into(),
            });
        };
        Ok(rows.iter().enumerate().map(|(i, row)| f64::from(x.x[[i, *row]])).collect())
    }
}

impl Kernel for PrecomputedKernel {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        self.gram_by_index(x.into(), y.into(), out)
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()> {
        self.gram_f32_by_index(x.into(), y.into(), out)
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        self.diag_by_index(x.into())
    }

    fn by_index(&self) -> Option<&dyn IndexKernel> {
        Some(self)
    }

    fn text(&self) -> String {
        "precomputed".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Mat, Mat64};

    #[test]
    fn row_numbers_beyond_those_of_single_precision_are_exact() {
        let odd = (1 << 24) + 1;
        let mut values = Mat::zeros((1, odd + 2));
        values[[0, odd]] = 0.5;
        values[[0, odd + 1]] = 0.25;
        let kernel = PrecomputedKernel::new(odd + 2);
        let other = IndexedPoints::from(values.view());
        let mut out = Mat64::zeros((1, 1));
        for (row, expected) in [(odd, 0.5), (odd + 1, 0.25), (odd - 1, 0.0)] {
            let train = IndexedPoints { x: values.view(), rows: Some(&[row]) };
            kernel.gram_by_index(other, train, out.view_mut()).unwrap();
            assert_eq!(out[[0, 0]], expected);
            kernel.gram_by_index(train, other, out.view_mut()).unwrap();
            assert_eq!(out[[0, 0]], expected);
            assert_eq!(kernel.diag_by_index(train).unwrap(), [expected]);
        }
    }
}
