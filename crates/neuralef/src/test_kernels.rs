//! Small kernels for tests of what is built on the `Kernel` trait: formulas written out, no tricks.

use std::fmt;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::matrix::{Mat64Mut, MatMut, MatRef};

type Form<T> = Box<dyn Fn(&[T], &[T]) -> T + Send + Sync>;

/// A kernel from its formula, in double precision; `gram_f32` works in single precision.
pub(crate) struct Formula {
    name: &'static str,
    double: Form<f64>,
    single: Form<f32>,
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Formula {
    /// κ(x, y) = f(x, y) with f in double precision; single precision rounds its result.
    pub(crate) fn new(
        name: &'static str,
        f: impl Fn(&[f64], &[f64]) -> f64 + Send + Sync + Clone + 'static,
    ) -> Self {
        let g = f.clone();
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let single = move |x: &[f32], y: &[f32]| g(&wide(x), &wide(y)) as f32;
        Formula { name, double: Box::new(f), single: Box::new(single) }
    }
}

/// exp(−‖x−y‖²/(2ℓ²)), the single precision form computed in single precision throughout.
pub(crate) fn rbf(lengthscale: f64) -> Formula {
    let (g, gf) = (0.5 / lengthscale.powi(2), (0.5 / lengthscale.powi(2)) as f32);
    Formula {
        name: "rbf",
        double: Box::new(move |x, y| {
            (-g * x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>()).exp()
        }),
        single: Box::new(move |x, y| {
            (-gf * x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f32>()).exp()
        }),
    }
}

/// (γxᵀy + c)^p.
pub(crate) fn polynomial(degree: i32, gamma: f64, coef0: f64) -> Formula {
    Formula::new("polynomial", move |x, y| {
        (gamma * x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>() + coef0).powi(degree)
    })
}

/// The slope of a least-squares line through (ln count, value).
pub(crate) fn slope(counts: &[usize], values: &[f64]) -> f64 {
    let logs: Vec<f64> = counts.iter().map(|c| (*c as f64).ln()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (a, b) = (mean(&logs), mean(values));
    let cross: f64 = logs.iter().zip(values).map(|(x, y)| (x - a) * (y - b)).sum();
    cross / logs.iter().map(|x| (x - a).powi(2)).sum::<f64>()
}

impl Kernel for Formula {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        if x.ncols() != y.ncols() {
            return Err(Error::shape("y", x.ncols(), y.ncols()));
        }
        let wide = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|v| f64::from(*v)).collect();
        let ys: Vec<Vec<f64>> = y.rows().into_iter().map(wide).collect();
        for (row, mut out) in x.rows().into_iter().zip(out.rows_mut()) {
            let a = row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            ys.iter().zip(&mut out).for_each(|(b, o)| *o = (self.double)(&a, b));
        }
        Ok(())
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> Result<()> {
        let ys: Vec<Vec<f32>> = y.rows().into_iter().map(|r| r.to_vec()).collect();
        for (row, mut out) in x.rows().into_iter().zip(out.rows_mut()) {
            let a = row.to_vec();
            ys.iter().zip(&mut out).for_each(|(b, o)| *o = (self.single)(&a, b));
        }
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        let wide = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|v| f64::from(*v)).collect();
        let points: Vec<Vec<f64>> = x.rows().into_iter().map(wide).collect();
        Ok(points.iter().map(|p| (self.double)(p, p)).collect())
    }

    fn text(&self) -> String {
        self.name.to_string()
    }
}
