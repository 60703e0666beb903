//! The loops behind every elementary kernel: κ(x, y) = finish(⊕ᵢ step(xᵢ, yᵢ)) over coordinates i.
//!
//! A kernel states `step`, `finish` and how partial results join; this file supplies the blocked,
//! vectorised Gram matrices in both precisions, the diagonal, and all checks of shape and range.
//! Coordinates are combined four at a time and the fours in order, whatever the block, so that any
//! block of rows and columns has the same bits as the same block of the whole.

use std::fmt::Debug;

use ndarray::ArrayViewMut2;

use super::{Exponential, Kernel, SpectralTerm};
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};
use crate::simd::{Fuse, Op, Real, dispatch};

/// Coordinates combined before they join the running total.
const GROUP: usize = 4;
/// Coordinates worked on at a time, a multiple of GROUP.
const COORDINATES: usize = 64;

/// Columns of `out` worked on at a time: the coordinates in work of as many points stay in cache.
fn columns(d: usize) -> usize {
    (8192 / d.max(1)).clamp(128, 512)
}

/// A function of two points, coordinate by coordinate. Both `step` and `finish` are branch-free.
pub(super) trait Pairwise: Copy + Send + Sync {
    /// What `step` starts from and `join` leaves alone: 0 for sums, 1 for products.
    const START: f64 = 0.0;
    /// True when finite points can give infinities: results are then checked.
    const UNBOUNDED: bool = false;

    /// Adds the coordinates `x` and `y` to the partial result `total`. Symmetric in x and y.
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T;

    /// Joins two partial results.
    #[inline(always)]
    fn join<T: Real>(self, a: T, b: T) -> T {
        a + b
    }

    /// The value, from the result over all coordinates.
    fn finish<T: Real, F: Fuse>(self, total: T) -> T;

    /// The factor that the coordinates of a point are multiplied with before `step` sees them.
    /// Powers of two lose nothing.
    ///
    /// # Errors
    /// Domain errors of the kernel; `row` is the point's number, for messages.
    fn scale(self, row: usize, point: ndarray::ArrayView1<'_, f32>) -> Result<f64> {
        let _ = (row, point);
        Ok(1.0)
    }
}

/// What a [`Pairwise`] function needs to be a [`Kernel`].
pub(super) trait Elementary: Pairwise + Debug {
    /// The name users write.
    const NAME: &'static str;
    /// False for indefinite kernels.
    const SEMIDEFINITE: bool = true;

    /// See [`Kernel::text`].
    fn text(&self) -> String;

    /// See [`Kernel::gradient`]; [`smooth`](super::gradient::smooth) for kernels that are
    /// [`Smooth`](super::gradient::Smooth).
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        let _ = (x, y, out);
        None
    }

    /// See [`Kernel::spectral`].
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        None
    }

    /// See [`Kernel::exponential`].
    fn exponential(&self) -> Option<Exponential> {
        None
    }
}

impl<K: Elementary> Kernel for K {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        gram(*self, K::NAME, x, y, out)
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()> {
        gram(*self, K::NAME, x, y, out)
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        let points = prepare::<K, f64>(*self, K::NAME, x)?;
        let out = dispatch(Diagonal { kernel: *self, points: &points, d: x.ncols(), n: x.nrows() });
        if K::UNBOUNDED {
            check_finite(K::NAME, &out)?;
        }
        Ok(out)
    }

    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Elementary::gradient(self, x, y, out)
    }

    fn text(&self) -> String {
        Elementary::text(self)
    }

    fn is_positive_semidefinite(&self) -> bool {
        K::SEMIDEFINITE
    }

    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        Elementary::spectral(self)
    }

    fn exponential(&self) -> Option<Exponential> {
        Elementary::exponential(self)
    }
}

/// Fails unless x is n × d, y is m × d and out is n × m.
pub(super) fn check_shapes<T>(
    x: MatRef<'_>,
    y: MatRef<'_>,
    out: &ArrayViewMut2<'_, T>,
) -> Result<()> {
    crate::matrix::expect_columns("y", y, x.ncols())?;
    if out.dim() == (x.nrows(), y.nrows()) {
        return Ok(());
    }
    let (n, m) = out.dim();
    Err(Error::shape("out", format!("{} × {}", x.nrows(), y.nrows()), format!("{n} × {m}")))
}

/// Fails when a value left the range of its type.
pub(super) fn check_finite<T: Real>(what: &str, values: &[T]) -> Result<()> {
    // Written so that NaN fails, and without a branch for each value.
    if values.iter().fold(true, |ok, v| ok & (v.abs() < T::INFINITY)) {
        return Ok(());
    }
    let message = format!(
        "values beyond the range of {} bits; scale the data or the kernel down",
        8 * size_of::<T>()
    );
    Err(Error::Numerical { what: format!("kernel {what}"), message })
}

/// κ(xᵢ, yⱼ) into `out`, n × m. O(n m d).
pub(super) fn gram<P: Pairwise, T: Real>(
    kernel: P,
    name: &str,
    x: MatRef<'_>,
    y: MatRef<'_>,
    mut out: ArrayViewMut2<'_, T>,
) -> Result<()> {
    check_shapes(x, y, &out)?;
    let (n, m) = out.dim();
    let d = x.ncols();
    let points = prepare::<P, T>(kernel, name, x)?;
    let others = transpose(&prepare::<P, T>(kernel, name, y)?, m, d);
    // Rows of an ordinary matrix are written in place; other layouts go through a copy.
    let mut copy = Vec::new();
    let mut rows: Vec<&mut [T]> =
        out.rows_mut().into_iter().filter_map(|row| row.into_slice()).collect();
    let in_place = rows.len() == n;
    if !in_place {
        copy = vec![T::ZERO; n * m];
        rows = copy.chunks_exact_mut(m.max(1)).collect();
    }
    dispatch(Gram { kernel, points: &points, others: &others, d, m, rows: &mut rows });
    if P::UNBOUNDED {
        rows.iter().try_for_each(|row| check_finite(name, row))?;
    }
    if !in_place {
        out.iter_mut().zip(copy).for_each(|(to, v)| *to = v);
    }
    Ok(())
}

/// The coordinates of x, scaled, row after row, all finite and at most [`Real::LIMIT`].
fn prepare<P: Pairwise, T: Real>(kernel: P, name: &str, x: MatRef<'_>) -> Result<Vec<T>> {
    let mut out = Vec::with_capacity(x.len());
    for (i, row) in x.rows().into_iter().enumerate() {
        let scale = kernel.scale(i, row)?;
        let start = out.len();
        // Adding 0 makes −0 into 0, so that minima have one sign of zero.
        let value = |v: &f32| T::of(f64::from(*v) * scale + 0.0);
        match row.as_slice() {
            Some(row) => out.extend(row.iter().map(value)),
            None => out.extend(row.iter().map(value)),
        }
        // Written so that NaN fails, and without a branch for each value.
        if !out[start..].iter().fold(true, |ok, v| ok & (v.abs() <= T::LIMIT)) {
            return Err(out_of_range::<T>(name, i, row, scale));
        }
    }
    Ok(out)
}

#[cold]
fn out_of_range<T: Real>(
    name: &str,
    row: usize,
    point: ndarray::ArrayView1<'_, f32>,
    scale: f64,
) -> Error {
    let find = |bad: &dyn Fn(f32) -> bool| point.iter().copied().enumerate().find(|(_, v)| bad(*v));
    if let Some((column, value)) = find(&|v| !v.is_finite()) {
        return Error::NonFinite { what: format!("input of kernel {name}"), row, column, value };
    }
    let beyond = |v| T::of(f64::from(v) * scale).abs() > T::LIMIT;
    let (column, value) = find(&beyond).unwrap_or((0, f32::MAX));
    let message = format!(
        "{value} at row {row}, column {column} is beyond the range of {} bits in units of the \
         kernel's length; rescale the data or raise the length",
        8 * size_of::<T>()
    );
    Error::Numerical { what: format!("kernel {name}"), message }
}

/// n × d row-major to d × n row-major, in strips that write whole cache lines.
fn transpose<T: Real>(rows: &[T], n: usize, d: usize) -> Vec<T> {
    const STRIP: usize = 16;
    if d <= 1 {
        return rows.to_vec();
    }
    let mut out = vec![T::ZERO; rows.len()];
    for start in (0..n).step_by(STRIP) {
        let strip = start..n.min(start + STRIP);
        for (i, line) in out.chunks_exact_mut(n).enumerate() {
            for (j, to) in strip.clone().zip(&mut line[strip.clone()]) {
                *to = rows[j * d + i];
            }
        }
    }
    out
}

struct Gram<'a, 'b, P, T> {
    kernel: P,
    /// n × d.
    points: &'a [T],
    /// d × m.
    others: &'a [T],
    d: usize,
    m: usize,
    rows: &'a mut [&'b mut [T]],
}

impl<P: Pairwise, T: Real> Op for Gram<'_, '_, P, T> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Gram { kernel, points, others, d, m, rows } = self;
        let start = T::of(P::START);
        let width = columns(d);
        for from in (0..m).step_by(width) {
            let columns = from..m.min(from + width);
            if d == 1 {
                for (row, x) in rows.iter_mut().zip(points) {
                    let x = *x;
                    for (to, y) in row[columns.clone()].iter_mut().zip(&others[columns.clone()]) {
                        *to = kernel.finish::<T, F>(kernel.step::<T, F>(start, x, *y));
                    }
                }
                continue;
            }
            for row in rows.iter_mut() {
                row[columns.clone()].fill(start);
            }
            for first in (0..d).step_by(COORDINATES) {
                let coordinates = first..d.min(first + COORDINATES);
                for (pair, rows) in rows.chunks_mut(2).enumerate() {
                    let x = &points[2 * pair * d..];
                    let lines = Lines { others, m, columns: columns.clone() };
                    match rows {
                        [a, b] => {
                            let rows = [&mut a[columns.clone()], &mut b[columns.clone()]];
                            let x = [&x[..d], &x[d..]];
                            accumulate::<P, T, F, 2>(kernel, rows, coordinates.clone(), x, lines);
                        }
                        [a] => {
                            let rows = [&mut a[columns.clone()]];
                            accumulate::<P, T, F, 1>(kernel, rows, coordinates.clone(), [x], lines);
                        }
                        _ => {}
                    }
                }
            }
            for row in rows.iter_mut() {
                for v in &mut row[columns.clone()] {
                    *v = kernel.finish::<T, F>(*v);
                }
            }
        }
    }
}

/// The coordinates of the points in some columns.
struct Lines<'a, T> {
    others: &'a [T],
    m: usize,
    columns: std::ops::Range<usize>,
}

impl<'a, T> Lines<'a, T> {
    /// Coordinate i.
    #[inline(always)]
    fn line(&self, i: usize) -> &'a [T] {
        &self.others[i * self.m + self.columns.start..i * self.m + self.columns.end]
    }
}

/// Some coordinates of R rows against the columns of `lines`.
#[inline(always)]
fn accumulate<P: Pairwise, T: Real, F: Fuse, const R: usize>(
    kernel: P,
    mut rows: [&mut [T]; R],
    coordinates: std::ops::Range<usize>,
    x: [&[T]; R],
    lines: Lines<'_, T>,
) {
    let mut i = coordinates.start;
    while i + GROUP <= coordinates.end {
        let mut corner = [[T::ZERO; GROUP]; R];
        for (corner, x) in corner.iter_mut().zip(x) {
            corner.copy_from_slice(&x[i..i + GROUP]);
        }
        let y = [lines.line(i), lines.line(i + 1), lines.line(i + 2), lines.line(i + 3)];
        group::<P, T, F, R, GROUP>(kernel, &mut rows, corner, y);
        i += GROUP;
    }
    for i in i..coordinates.end {
        let mut corner = [[T::ZERO; 1]; R];
        for (corner, x) in corner.iter_mut().zip(x) {
            corner[0] = x[i];
        }
        group::<P, T, F, R, 1>(kernel, &mut rows, corner, [lines.line(i)]);
    }
}

/// G coordinates of R rows.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // The shape that becomes vector loops.
fn group<P: Pairwise, T: Real, F: Fuse, const R: usize, const G: usize>(
    kernel: P,
    rows: &mut [&mut [T]; R],
    x: [[T; G]; R],
    mut y: [&[T]; G],
) {
    let n = y[0].len();
    for y in &mut y {
        *y = &y[..n];
    }
    // In place: `each_mut().map` is five more functions for each of some hundred instances.
    for row in rows.iter_mut() {
        *row = &mut std::mem::take(row)[..n];
    }
    for j in 0..n {
        for r in 0..R {
            let mut part = T::of(P::START);
            for g in 0..G {
                part = kernel.step::<T, F>(part, x[r][g], y[g][j]);
            }
            rows[r][j] = kernel.join(rows[r][j], part);
        }
    }
}

struct Diagonal<'a, P> {
    kernel: P,
    points: &'a [f64],
    d: usize,
    n: usize,
}

impl<P: Pairwise> Op for Diagonal<'_, P> {
    type Output = Vec<f64>;

    /// In the order of [`accumulate`], so that the bits are those of the Gram matrix.
    #[inline(always)]
    fn run<F: Fuse>(self) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.n);
        for i in 0..self.n {
            let (groups, rest) = self.points[i * self.d..(i + 1) * self.d].as_chunks::<GROUP>();
            let mut total = P::START;
            for x in groups {
                let mut part = P::START;
                for x in x {
                    part = self.kernel.step::<f64, F>(part, *x, *x);
                }
                total = self.kernel.join(total, part);
            }
            for x in rest {
                let part = self.kernel.step::<f64, F>(P::START, *x, *x);
                total = self.kernel.join(total, part);
            }
            out.push(self.kernel.finish::<f64, F>(total));
        }
        out
    }
}
