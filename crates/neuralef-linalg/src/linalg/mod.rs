//! Dense linear algebra in double precision: the only user of faer.
//!
//! Everything here takes and gives `ndarray` matrices, names non-finite input, reports failures as
//! [`Error::Numerical`] with sizes, and gives the same bits for any number of threads.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::svd::{ComputeSvdVectors, svd_scratch};
use faer::{MatMut as FaerMut, Par};
use ndarray::ArrayView2;

use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref, MatRef};

mod cholesky;
mod gram;
mod partial;
mod pivoted;
mod product;
mod qr;
mod whitening;

pub use cholesky::{Cholesky, cholesky_jittered};
pub use gram::GramSum;
pub use partial::{PartialEigen, is_partial, partial_bytes, top_eigh, top_eigh_operator};
pub use pivoted::{PivotedCholesky, pivoted_cholesky};
pub use product::{ROWS, matmul_f32, matmul_f64, matmul_long_f32, tr_matmul_f64};
pub use qr::orthogonal_factor;
pub use whitening::Whitening;

use product::Dense;

/// All eigenvalues, descending, and eigenvectors (columns, orthonormal) of the symmetric part
/// (A + Aᵀ)/2 of an n × n matrix. O(n³); ‖AV − VΛ‖ is a small multiple of n·ε·‖A‖.
///
/// # Errors
/// [`Error::Shape`] unless square, [`Error::NonFinite`], [`Error::Numerical`].
pub fn eigh(a: Mat64Ref<'_>) -> Result<(Vec<f64>, Mat64)> {
    let n = expect_square("symmetric matrix", a)?;
    expect_finite_f64("symmetric matrix", a)?;
    if n == 0 {
        return Ok((Vec::new(), Mat64::zeros((0, 0))));
    }
    let what = || format!("eigendecomposition of a {n} × {n} matrix");
    let scale = power_of_two_scale(a);
    let mut lower = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            lower[i + j * n] = 0.5 * (a[(i, j)] / scale) + 0.5 * (a[(j, i)] / scale);
        }
    }
    let mut values = vec![0.0; n];
    // Column-major, in ascending order, as faer gives them.
    let mut vectors = vec![0.0; n * n];
    let request =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    self_adjoint_evd(
        faer::MatRef::from_column_major_slice(&lower, n, n),
        DiagMut::from_slice_mut(&mut values),
        Some(FaerMut::from_column_major_slice_mut(&mut vectors, n, n)),
        Par::Seq,
        MemStack::new(&mut workspace(request, what)?),
        Default::default(),
    )
    .map_err(|_| numerical(what(), "the QR iteration did not converge"))?;
    if values.iter().chain(&vectors).any(|v| !v.is_finite()) {
        return Err(numerical(what(), "the result is not finite"));
    }
    // faer sorts ascending; a stable sort guards the contract without trusting it.
    let mut order: Vec<usize> = (0..n).rev().collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    let sorted = scaled_back(&order, &values, scale, what)?;
    let vectors = Mat64::from_shape_fn((n, n), |(i, j)| vectors[i + order[j] * n]);
    Ok((sorted, vectors))
}

/// Bytes that [`eigh`] of an n × n matrix takes beside it: a copy, the vectors twice, workspace.
pub fn eigh_bytes(n: usize) -> u64 {
    let request =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let matrix = 8 * (n as u64).saturating_mul(n as u64);
    matrix.saturating_mul(3).saturating_add(request.size_bytes() as u64)
}

/// Thin singular value decomposition A = U diag(s) Vᵀ of an m × n matrix: U is m × r, s descending,
/// V is n × r with r = min(m, n). O(m n r).
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Numerical`].
pub fn svd(a: Mat64Ref<'_>) -> Result<(Mat64, Vec<f64>, Mat64)> {
    let (m, n) = a.dim();
    expect_finite_f64("matrix", a)?;
    let r = m.min(n);
    if r == 0 {
        return Ok((Mat64::zeros((m, 0)), Vec::new(), Mat64::zeros((n, 0))));
    }
    let what = || format!("singular value decomposition of a {m} × {n} matrix");
    let scale = power_of_two_scale(a);
    let scaled = a.mapv(|v| v / scale);
    let (mut u, mut s, mut v) = (vec![0.0; m * r], vec![0.0; r], vec![0.0; n * r]);
    let request = svd_scratch::<f64>(
        m,
        n,
        ComputeSvdVectors::Thin,
        ComputeSvdVectors::Thin,
        Par::Seq,
        Default::default(),
    );
    faer::linalg::svd::svd(
        Dense::new(scaled.view()).view(),
        DiagMut::from_slice_mut(&mut s),
        Some(FaerMut::from_column_major_slice_mut(&mut u, m, r)),
        Some(FaerMut::from_column_major_slice_mut(&mut v, n, r)),
        Par::Seq,
        MemStack::new(&mut workspace(request, what)?),
        Default::default(),
    )
    .map_err(|_| numerical(what(), "the iteration did not converge"))?;
    if s.iter().chain(&u).chain(&v).any(|x| !x.is_finite()) {
        return Err(numerical(what(), "the result is not finite"));
    }
    let mut order: Vec<usize> = (0..r).collect();
    order.sort_by(|&i, &j| s[j].total_cmp(&s[i]));
    let sorted = scaled_back(&order, &s, scale, what)?;
    let u = Mat64::from_shape_fn((m, r), |(i, j)| u[i + order[j] * m]);
    let v = Mat64::from_shape_fn((n, r), |(i, j)| v[i + order[j] * n]);
    Ok((u, sorted, v))
}

/// An orthonormal basis (columns) of the column space of an m × n matrix, by its singular vectors
/// above `max(m, n)·ε·s₁`; columns are scaled to unit length first, so that small ones count.
///
/// # Errors
/// As [`svd`].
pub fn orthonormal_basis(a: Mat64Ref<'_>) -> Result<Mat64> {
    expect_finite_f64("matrix", a)?;
    let mut unit = a.to_owned();
    for mut column in unit.columns_mut() {
        let norm = norm2(column.iter().copied());
        if norm > 0.0 {
            column.mapv_inplace(|v| v / norm);
        }
    }
    let (u, s, _) = svd(unit.view())?;
    let floor = a.nrows().max(a.ncols()) as f64 * f64::EPSILON * s.first().copied().unwrap_or(0.0);
    let rank = s.iter().filter(|v| **v > floor).count();
    Ok(u.slice(ndarray::s![.., ..rank]).to_owned())
}

/// Signs (±1) that make the columns of ψ (n × k) canonical: Σψ³ ≥ 0; when that sum is zero to
/// rounding (below 1e-8 of Σ|ψ|³, as for odd functions on symmetric data), the largest |value| is
/// positive, the first of them when several are equally large (to 1e-8). O(n k).
pub fn canonical_signs(psi: Mat64Ref<'_>) -> Vec<f64> {
    const TIE: f64 = 1e-8;
    psi.columns()
        .into_iter()
        .map(|column| {
            let largest = column.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            if !(largest > 0.0 && largest.is_finite()) {
                return 1.0;
            }
            let (mut sum, mut total) = (0.0, 0.0);
            for v in column {
                let cube = (v / largest).powi(3);
                sum += cube;
                total += cube.abs();
            }
            let witness = if sum.abs() > TIE * total {
                sum
            } else {
                let first = column.iter().find(|v| v.abs() >= largest * (1.0 - TIE));
                first.copied().unwrap_or(1.0)
            };
            if witness < 0.0 { -1.0 } else { 1.0 }
        })
        .collect()
}

/// Fails with [`Error::NonFinite`], naming row and column, at the first NaN or infinity.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn expect_finite_f32(what: &str, a: MatRef<'_>) -> Result<()> {
    first_non_finite(a, |v| v.is_finite()).map_or(Ok(()), |(row, column)| {
        Err(Error::NonFinite { what: what.to_string(), row, column, value: a[(row, column)] })
    })
}

/// As [`expect_finite_f32`] for double precision.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn expect_finite_f64(what: &str, a: Mat64Ref<'_>) -> Result<()> {
    first_non_finite(a, |v| v.is_finite()).map_or(Ok(()), |(row, column)| {
        let value = a[(row, column)] as f32;
        Err(Error::NonFinite { what: what.to_string(), row, column, value })
    })
}

fn first_non_finite<T>(
    a: ArrayView2<'_, T>,
    finite: impl Fn(&T) -> bool,
) -> Option<(usize, usize)> {
    // Without the indices first: much faster, and nearly always enough.
    if a.iter().all(&finite) {
        return None;
    }
    a.indexed_iter().find(|(_, v)| !finite(v)).map(|(at, _)| at)
}

/// √Σv², safe against overflow and underflow.
pub fn norm2(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * values.map(|v| (v / largest).powi(2)).sum::<f64>().sqrt()
}

/// `values` in the given order, times `scale`; fails when that overflows.
fn scaled_back(
    order: &[usize],
    values: &[f64],
    scale: f64,
    what: impl Fn() -> String,
) -> Result<Vec<f64>> {
    let scaled: Vec<f64> = order.iter().map(|&j| values[j] * scale).collect();
    if scaled.iter().all(|v| v.is_finite()) {
        return Ok(scaled);
    }
    Err(numerical(what(), "the result is beyond the range of double precision"))
}

fn expect_square(what: &str, a: Mat64Ref<'_>) -> Result<usize> {
    let (m, n) = a.dim();
    if m == n { Ok(n) } else { Err(Error::shape(what, "n × n", format!("{m} × {n}"))) }
}

/// A power of two near the largest entry, so that scaling by it is exact; 1 for the zero matrix.
fn power_of_two_scale(a: Mat64Ref<'_>) -> f64 {
    let largest = a.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let (_, exponent) = libm::frexp(largest);
    libm::ldexp(1.0, exponent.clamp(-1000, 1000))
}

fn workspace(request: StackReq, what: impl Fn() -> String) -> Result<MemBuffer> {
    MemBuffer::try_new(request).map_err(|_| {
        numerical(what(), format!("no memory for {} bytes of workspace", request.size_bytes()))
    })
}

fn numerical(what: impl Into<String>, message: impl Into<String>) -> Error {
    Error::Numerical { what: what.into(), message: message.into() }
}

#[cfg(test)]
pub(crate) mod tests;
