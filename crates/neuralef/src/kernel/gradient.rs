//! Gradients of kernels by their first point: ∂κ(x, y)/∂x for elementary kernels that are smooth.

use std::fmt::Debug;

use ndarray::{Axis, s};

use super::pairwise::{Elementary, Pairwise, check_finite, gram};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Mut, MatRef, expect_columns};
use crate::simd::{Fuse, Real};

/// An elementary kernel κ = finish(t), t = Σ_c step(x_c, y_c), that is differentiable everywhere:
/// ∂κ/∂x_c = finish'(t) · ∂step(x_c, y_c)/∂x_c.
pub(super) trait Smooth: Elementary {
    /// finish'(t). Branch-free, as `finish` is.
    fn slope<T: Real, F: Fuse>(self, total: T) -> T;

    /// ∂step(x, y)/∂x.
    fn partial(self, x: f64, y: f64) -> f64;
}

/// The function finish'(t) of two points.
#[derive(Debug, Clone, Copy)]
struct Slope<K>(K);

impl<K: Smooth> Pairwise for Slope<K> {
    const START: f64 = K::START;
    const UNBOUNDED: bool = K::UNBOUNDED;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        self.0.step::<T, F>(total, x, y)
    }
    #[inline(always)]
    fn join<T: Real>(self, a: T, b: T) -> T {
        self.0.join(a, b)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        self.0.slope::<T, F>(total)
    }
    fn scale(self, row: usize, point: ndarray::ArrayView1<'_, f32>) -> Result<f64> {
        self.0.scale(row, point)
    }
}

/// See [`Kernel::gradient`](super::Kernel::gradient). The factor that coordinates are multiplied
/// with must be the same for all points. O(n m d).
pub(super) fn smooth<K: Smooth>(
    kernel: K,
    x: MatRef<'_>,
    y: MatRef<'_>,
    mut out: Mat64Mut<'_>,
) -> Result<()> {
    check(x, y, out.view())?;
    let d = x.ncols();
    let mut slopes = Mat64::zeros((x.nrows(), y.nrows()));
    gram(Slope(kernel), K::NAME, x, y, slopes.view_mut())?;
    for (i, point) in x.rows().into_iter().enumerate() {
        let unit = kernel.scale(i, point)?;
        for (c, v) in point.iter().enumerate() {
            let v = f64::from(*v) * unit;
            let mut row = out.row_mut(i * d + c);
            for ((to, slope), other) in row.iter_mut().zip(slopes.row(i)).zip(y.column(c)) {
                *to = slope * kernel.partial(v, f64::from(*other) * unit) * unit;
            }
        }
    }
    if K::UNBOUNDED {
        out.rows().into_iter().try_for_each(|row| check_finite(K::NAME, &row.to_vec()))?;
    }
    Ok(())
}

/// Adds the gradient of one factor of a product, `part`, whose other factors have the values
/// `others` (n × m), to `out`.
pub(super) fn add_scaled(part: &Mat64, others: &Mat64, out: &mut Mat64Mut<'_>) {
    let d = out.nrows().checked_div(others.nrows()).unwrap_or(0);
    for (i, factor) in others.outer_iter().enumerate() {
        for row in i * d..(i + 1) * d {
            ndarray::Zip::from(out.slice_mut(s![row, ..]))
                .and(part.index_axis(Axis(0), row))
                .and(factor)
                .for_each(|to, gradient, factor| *to += gradient * factor);
        }
    }
}

/// Fails unless x is n × d, y is m × d and out is n·d × m.
pub(super) fn check(x: MatRef<'_>, y: MatRef<'_>, out: ndarray::ArrayView2<'_, f64>) -> Result<()> {
    expect_columns("y", y, x.ncols())?;
    let expected = (x.len(), y.nrows());
    if out.dim() == expected {
        return Ok(());
    }
    let text = |(n, m): (usize, usize)| format!("{n} × {m}");
    Err(Error::shape("out (a row for each point and coordinate)", text(expected), text(out.dim())))
}
