//! Kernel values that were computed elsewhere, as a kernel: for methods that extend eigenvectors.

use super::Kernel;
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};

/// A kernel whose points carry their own values: point x is the row (κ(x, x₁), …, κ(x, x_N), i), with i
/// the number of x among the N training points x₁ … x_N, from 0, or −1 for any other point. One of two
/// points must be a training point. With [`KernelSource::Kernel`](crate::fit::KernelSource::Kernel) and
/// training points in order, `nystrom` and `kernel_pca` serve Gram matrices.
///
/// ```
/// use neuralef::Kernel;
/// use neuralef::kernel::PrecomputedKernel;
///
/// let kernel = PrecomputedKernel::new(2);
/// let train = ndarray::array![[1.0, 0.5, 0.0], [0.5, 2.0, 1.0]];
/// let other = ndarray::array![[0.3, 0.7, -1.0]];
/// let mut gram = ndarray::Array2::zeros((1, 2));
/// kernel.gram(other.view(), train.view(), gram.view_mut())?;
/// assert_eq!(gram, ndarray::array![[0.3f32, 0.7]].mapv(f64::from));
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

    /// The number of each training point, none for others.
    fn numbers(&self, x: MatRef<'_>) -> Result<Vec<Option<usize>>> {
        if x.ncols() != self.points + 1 {
            let expected = format!("n × {}: kernel values and a number", self.points + 1);
            return Err(Error::shape("rows of precomputed kernel values", expected, x.ncols()));
        }
        let number = |v: f32| match v {
            -1.0 => Ok(None),
            v if v >= 0.0 && v.fract() == 0.0 && (v as usize) < self.points => Ok(Some(v as usize)),
            v => {
                let expected = format!("a whole number below {}, or -1", self.points);
                Err(Error::parameter("number of a precomputed point", expected, v))
            }
        };
        x.column(self.points).iter().map(|v| number(*v)).collect()
    }

    fn each(
        &self,
        x: MatRef<'_>,
        y: MatRef<'_>,
        mut put: impl FnMut(usize, usize, f32),
    ) -> Result<()> {
        let (rows, columns) = (self.numbers(x)?, self.numbers(y)?);
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                match (column, row) {
                    (Some(c), _) => put(i, j, x[[i, *c]]),
                    (None, Some(r)) => put(i, j, y[[j, *r]]),
                    (None, None) => {
                        return Err(Error::Unsupported {
                            what:
                                "a precomputed kernel between two points beyond the training points"
                                    .into(),
                            reason: "only values against training points are known".into(),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Kernel for PrecomputedKernel {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        self.each(x, y, |i, j, v| out[[i, j]] = f64::from(v))
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> Result<()> {
        self.each(x, y, |i, j, v| out[[i, j]] = v)
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        let value = |(i, number): (usize, &Option<usize>)| match number {
            Some(own) => Ok(f64::from(x[[i, *own]])),
            None => Err(Error::Unsupported {
                what: "κ(x, x) of a precomputed kernel beyond the training points".into(),
                reason: "only values against training points are known".into(),
            }),
        };
        self.numbers(x)?.iter().enumerate().map(value).collect()
    }

    fn text(&self) -> String {
        "precomputed".into()
    }
}
