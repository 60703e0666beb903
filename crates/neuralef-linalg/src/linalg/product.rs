//! Matrix products whose bits depend on the operands alone, never on the number of threads.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut as FaerMut, MatRef as FaerRef, Par};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef};

/// Rows of the left factor that go into one call of the GEMM. Shorter blocks are padded with zero
/// rows, so that every row is computed by the same sequence of operations wherever it stands.
pub const ROWS: usize = 128;
/// Rows summed at a time in AᵀB.
const DEPTH: usize = 1024;
/// Columns summed at a time in [`matmul_long_f32`].
const LONG: usize = 1 << 14;
/// Partial sums of AᵀB held at a time, each the size of the result.
const GROUP: usize = 8;
/// Results of AᵀB with more entries than this are split by their rows instead of by the sum.
const PARTIAL_LIMIT: usize = 1 << 18;

/// Element types the GEMM knows.
trait Element: faer::traits::ComplexField + Copy + Default + Send + Sync {
    const ONE: Self;
}
impl Element for f32 {
    const ONE: f32 = 1.0;
}
impl Element for f64 {
    const ONE: f64 = 1.0;
}

/// A matrix in one contiguous piece, row-major or column-major; other layouts are copied.
pub(super) struct Dense<'a, T: Clone> {
    data: Cow<'a, [T]>,
    rows: usize,
    columns: usize,
    row_major: bool,
}

impl<'a, T: Copy> Dense<'a, T> {
    pub(super) fn new(a: ArrayView2<'a, T>) -> Self {
        let (rows, columns) = a.dim();
        if let Some(data) = a.to_slice() {
            return Dense { data: Cow::Borrowed(data), rows, columns, row_major: true };
        }
        if let Some(data) = a.reversed_axes().to_slice() {
            return Dense { data: Cow::Borrowed(data), rows, columns, row_major: false };
        }
        // Rows, or columns, that lie in one piece each are copied as such.
        let row_major = a.strides()[1] == 1 || a.strides()[0] != 1;
        let order = if row_major { a } else { a.reversed_axes() };
        let mut data = Vec::with_capacity(a.len());
        for line in order.rows() {
            match line.to_slice() {
                Some(line) => data.extend_from_slice(line),
                None => data.extend(line.iter().copied()),
            }
        }
        Dense { data: Cow::Owned(data), rows, columns, row_major }
    }

    pub(super) fn view(&self) -> FaerRef<'_, T> {
        if self.row_major {
            FaerRef::from_row_major_slice(&self.data, self.rows, self.columns)
        } else {
            FaerRef::from_column_major_slice(&self.data, self.rows, self.columns)
        }
    }
}

/// A·B in double precision, row-major. A is m × n, B is n × p; O(m n p).
///
/// Row i of the result depends on row i of A and on B only, bit for bit: neither the thread count
/// nor the other rows matter.
///
/// # Errors
/// [`Error::Shape`] when the inner sizes differ.
pub fn matmul_f64(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Result<Mat64> {
    product(a, b)
}

/// A·B in single precision; otherwise as [`matmul_f64`].
///
/// # Errors
/// [`Error::Shape`] when the inner sizes differ.
pub fn matmul_f32(a: MatRef<'_>, b: MatRef<'_>) -> Result<Mat> {
    product(a, b)
}

fn product<T: Element>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Result<Array2<T>> {
    let ((m, n), p) = (a.dim(), b.ncols());
    if b.nrows() != n {
        let got = format!("{} × {}", b.nrows(), b.ncols());
        return Err(Error::shape("right factor of a matrix product", format!("{n} × p"), got));
    }
    let mut out = vec![T::default(); m * p];
    if m > 0 && p > 0 && n > 0 {
        let (a, b) = (Dense::new(a), Dense::new(b));
        out.par_chunks_mut(ROWS * p).enumerate().for_each(|(i, chunk)| {
            product_block(a.view(), a.row_major, b.view(), i * ROWS, chunk);
        });
    }
    assemble(m, p, out)
}

/// A·Bᵀ in single precision, row-major, for many columns: A is m × n, B is p × n; O(m n p). Summed over
/// fixed blocks of columns, which are multiplied in parallel; rows as in [`matmul_f32`]. Nothing is
/// copied where the factors lie in one piece each and m is a multiple of [`ROWS`].
///
/// # Errors
/// [`Error::Shape`] when the inner sizes differ.
pub fn matmul_long_f32(a: MatRef<'_>, b: MatRef<'_>) -> Result<Mat> {
    let ((m, n), p) = (a.dim(), b.nrows());
    if b.ncols() != n {
        let got = format!("{p} × {}", b.ncols());
        return Err(Error::shape("right factor of ABᵀ", format!("p × {n}"), got));
    }
    let mut out = vec![0.0; m * p];
    if m == 0 || p == 0 {
        return assemble(m, p, out);
    }
    let (a, b) = (Dense::new(a), Dense::new(b));
    let starts: Vec<usize> = (0..n).step_by(LONG).collect();
    let part = |start: &usize| {
        let columns = LONG.min(n - start);
        let (lhs, rhs) = (a.view().subcols(*start, columns), b.view().subcols(*start, columns));
        let mut part = vec![0.0; m * p];
        for (i, chunk) in part.chunks_mut(ROWS * p).enumerate() {
            product_block(lhs, a.row_major, rhs.transpose(), i * ROWS, chunk);
        }
        part
    };
    for group in starts.chunks(GROUP) {
        let parts: Vec<Vec<f32>> = group.par_iter().map(part).collect();
        for part in &parts {
            out.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    assemble(m, p, out)
}

/// Rows `first..` of A·B into `out`, at most [`ROWS`] of them.
fn product_block<T: Element>(
    a: FaerRef<'_, T>,
    row_major: bool,
    b: FaerRef<'_, T>,
    first: usize,
    out: &mut [T],
) {
    let (n, p) = (a.ncols(), b.ncols());
    let rows = out.len() / p;
    let lhs = a.subrows(first, rows);
    if rows == ROWS {
        let dst = FaerMut::from_row_major_slice_mut(out, ROWS, p);
        matmul(dst, Accum::Replace, lhs, b, T::ONE, Par::Seq);
        return;
    }
    let mut padded = vec![T::default(); ROWS * n];
    let mut full = vec![T::default(); ROWS * p];
    let mut whole = if row_major {
        FaerMut::from_row_major_slice_mut(&mut padded, ROWS, n)
    } else {
        FaerMut::from_column_major_slice_mut(&mut padded, ROWS, n)
    };
    whole.rb_mut().subrows_mut(0, rows).copy_from(lhs);
    let dst = FaerMut::from_row_major_slice_mut(&mut full, ROWS, p);
    matmul(dst, Accum::Replace, whole.rb(), b, T::ONE, Par::Seq);
    out.copy_from_slice(&full[..rows * p]);
}

/// AᵀB in double precision, row-major. A is n × p, B is n × q; O(n p q), summed over fixed blocks
/// of rows in a fixed order: the same bits for any number of threads.
///
/// # Errors
/// [`Error::Shape`] when the numbers of rows differ.
pub fn tr_matmul_f64(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Result<Mat64> {
    let ((n, p), q) = (a.dim(), b.ncols());
    if b.nrows() != n {
        let got = format!("{} × {}", b.nrows(), b.ncols());
        return Err(Error::shape("right factor of AᵀB", format!("{n} × q"), got));
    }
    let mut out = vec![0.0; p * q];
    if n > 0 && p > 0 && q > 0 {
        let (a, b) = (Dense::new(a), Dense::new(b));
        if p * q > PARTIAL_LIMIT {
            out.par_chunks_mut(ROWS * q).enumerate().for_each(|(i, chunk)| {
                let columns = chunk.len() / q;
                let lhs = a.view().subcols(i * ROWS, columns).transpose();
                let dst = FaerMut::from_row_major_slice_mut(chunk, columns, q);
                matmul(dst, Accum::Replace, lhs, b.view(), 1.0, Par::Seq);
            });
        } else {
            sum_of_blocks(&a, &b, &mut out);
        }
    }
    assemble(p, q, out)
}

/// AᵀB as a sum over blocks of [`DEPTH`] rows, added in order.
fn sum_of_blocks(a: &Dense<'_, f64>, b: &Dense<'_, f64>, out: &mut [f64]) {
    let starts: Vec<usize> = (0..a.rows).step_by(DEPTH).collect();
    for group in starts.chunks(GROUP) {
        let partial: Vec<Vec<f64>> = group
            .par_iter()
            .map(|&start| {
                let rows = DEPTH.min(a.rows - start);
                let mut sum = vec![0.0; out.len()];
                let dst = FaerMut::from_row_major_slice_mut(&mut sum, a.columns, b.columns);
                let lhs = a.view().subrows(start, rows).transpose();
                let rhs = b.view().subrows(start, rows);
                matmul(dst, Accum::Replace, lhs, rhs, 1.0, Par::Seq);
                sum
            })
            .collect();
        for sum in partial {
            out.iter_mut().zip(sum).for_each(|(o, s)| *o += s);
        }
    }
}

/// A row-major matrix from its entries.
pub(super) fn assemble<T>(rows: usize, columns: usize, data: Vec<T>) -> Result<Array2<T>> {
    let entries = data.len();
    Array2::from_shape_vec((rows, columns), data)
        .map_err(|_| Error::shape("matrix", format!("{rows} × {columns}"), entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;
    use ndarray::{Array2, ShapeBuilder, s};

    /// The product written out, summed in extended precision by pairs.
    fn slow(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Mat64 {
        Array2::from_shape_fn((a.nrows(), b.ncols()), |(i, j)| {
            (0..a.ncols()).map(|k| a[(i, k)] * b[(k, j)]).sum()
        })
    }

    fn assert_close(a: &Mat64, b: &Mat64, tolerance: f64) {
        assert_eq!(a.dim(), b.dim());
        let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance, "{worst:e} > {tolerance:e}");
    }

    #[test]
    fn agrees_with_the_definition_in_every_layout() {
        for (m, n, p) in [(1, 1, 1), (3, 5, 2), (128, 7, 9), (129, 40, 33), (300, 64, 1)] {
            let (a, b) = (random(m, n, 1), random(n, p, 2));
            let want = slow(a.view(), b.view());
            assert_close(&matmul_f64(a.view(), b.view()).unwrap(), &want, 1e-13);
            let mut af = Array2::zeros((m, n).f());
            af.assign(&a);
            assert_close(&matmul_f64(af.view(), b.view()).unwrap(), &want, 1e-13);
            let at = a.t().to_owned();
            assert_close(&tr_matmul_f64(at.view(), b.view()).unwrap(), &want, 1e-13);
            let wide = random(m, 2 * n, 3);
            let strided = wide.slice(s![.., ..;2]);
            let want = slow(strided, b.view());
            assert_close(&matmul_f64(strided, b.view()).unwrap(), &want, 1e-13);
        }
    }

    #[test]
    fn long_products_agree_whatever_the_rows_and_threads() {
        let single = |m, n, seed| random(m, n, seed).mapv(|v| v as f32);
        for (m, n) in [(1, 1), (130, 40_000), (ROWS, LONG + 1), (3, 0)] {
            let (a, b) = (single(m, n, 1), single(7, n, 2));
            let want = slow(a.mapv(f64::from).view(), b.t().mapv(f64::from).view());
            let got = matmul_long_f32(a.view(), b.view()).unwrap();
            // Random signs: √n units of rounding, and some.
            assert_close(&got.mapv(f64::from), &want, 1e-6 * (n as f64).sqrt().max(1.0));
            let last = matmul_long_f32(a.slice(s![m - 1.., ..]), b.view()).unwrap();
            assert_eq!(last, got.slice(s![m - 1.., ..]));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            assert_eq!(pool.install(|| matmul_long_f32(a.view(), b.view()).unwrap()), got);
        }
        assert!(matmul_long_f32(single(2, 3, 1).view(), single(2, 4, 1).view()).is_err());
    }

    #[test]
    fn empty_sizes_and_wrong_shapes() {
        let zero = |m, n| Mat64::zeros((m, n));
        assert_eq!(matmul_f64(zero(0, 3).view(), zero(3, 2).view()).unwrap().dim(), (0, 2));
        assert_eq!(matmul_f64(zero(4, 0).view(), zero(0, 2).view()).unwrap(), zero(4, 2));
        assert_eq!(tr_matmul_f64(zero(0, 3).view(), zero(0, 2).view()).unwrap(), zero(3, 2));
        assert!(matmul_f64(zero(2, 3).view(), zero(2, 3).view()).is_err());
        assert!(tr_matmul_f64(zero(2, 3).view(), zero(3, 3).view()).is_err());
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        let a = random(1000, 777, 4);
        let b = random(777, 10, 5);
        let whole = matmul_f64(a.view(), b.view()).unwrap();
        let (af, bf) = (a.mapv(|v| v as f32), b.mapv(|v| v as f32));
        let whole_f32 = matmul_f32(af.view(), bf.view()).unwrap();
        for (from, to) in [(0, 1), (5, 6), (127, 129), (513, 700), (999, 1000)] {
            let part = matmul_f64(a.slice(s![from..to, ..]), b.view()).unwrap();
            assert_eq!(part, whole.slice(s![from..to, ..]));
            let part = matmul_f32(af.slice(s![from..to, ..]), bf.view()).unwrap();
            assert_eq!(part, whole_f32.slice(s![from..to, ..]));
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_thread_count() {
        let (a, b) = (random(5000, 30, 6), random(5000, 12, 7));
        let wide = random(40, 600, 8);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                (
                    tr_matmul_f64(a.view(), b.view()).unwrap(),
                    tr_matmul_f64(wide.view(), wide.view()).unwrap(),
                    matmul_f64(a.view(), b.slice(s![..30, ..])).unwrap(),
                )
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
        assert_close(&one.0, &slow(a.t(), b.view()), 1e-11);
        assert_close(&one.1, &slow(wide.t(), wide.view()), 1e-12);
    }
}
