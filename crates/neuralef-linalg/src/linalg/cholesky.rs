//! Cholesky decomposition of positive semi-definite matrices, with jitter where rounding needs it.

use faer::dyn_stack::MemStack;
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{MatMut as FaerMut, Par};

use super::product::assemble;
use super::{Dense, expect_finite_f64, expect_square, numerical, power_of_two_scale, workspace};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};

/// A + jitter·I = LLᵀ.
#[derive(Debug, Clone)]
pub struct Cholesky {
    /// L, n × n, zero above the diagonal.
    pub lower: Mat64,
    /// What was added to the diagonal: 0 unless the matrix needed it.
    pub jitter: f64,
}

impl Cholesky {
    /// L⁻¹B for B n × p; O(n² p).
    ///
    /// # Errors
    /// As [`solve_lower`](Cholesky::solve_lower).
    pub fn solve_lower(&self, b: Mat64Ref<'_>) -> Result<Mat64> {
        self.triangular(b, false)
    }

    /// L⁻ᵀB for B n × p; O(n² p).
    ///
    /// # Errors
    /// As [`solve_lower`](Cholesky::solve_lower).
    pub fn solve_lower_transposed(&self, b: Mat64Ref<'_>) -> Result<Mat64> {
        self.triangular(b, true)
    }

    fn triangular(&self, b: Mat64Ref<'_>, transposed: bool) -> Result<Mat64> {
        let n = self.lower.nrows();
        if b.nrows() != n {
            let got = format!("{} × {}", b.nrows(), b.ncols());
            return Err(Error::shape("right-hand side", format!("{n} × p"), got));
        }
        expect_finite_f64("right-hand side", b)?;
        let p = b.ncols();
        let mut x: Vec<f64> = b.iter().copied().collect();
        let lower = Dense::new(self.lower.view());
        let rhs = FaerMut::from_row_major_slice_mut(&mut x, n, p);
        if transposed {
            solve_upper_triangular_in_place(lower.view().transpose(), rhs, Par::Seq);
        } else {
            solve_lower_triangular_in_place(lower.view(), rhs, Par::Seq);
        }
        if x.iter().any(|v| !v.is_finite()) {
            let message = "the solution is not finite: the matrix is too close to singular";
            return Err(numerical(format!("triangular solve of size {n}"), message));
        }
        assemble(n, p, x)
    }
}

/// Cholesky decomposition of a symmetric positive semi-definite n × n matrix (its lower triangle
/// is read). Without jitter when that works; else with the smallest of 1e-14, 1e-13, … 1e-6 times
/// the mean diagonal entry that does. O(n³).
///
/// # Errors
/// [`Error::Shape`], [`Error::NonFinite`], and [`Error::Numerical`] when even the largest jitter
/// leaves the matrix indefinite.
pub fn cholesky_jittered(a: Mat64Ref<'_>) -> Result<Cholesky> {
    let n = expect_square("positive definite matrix", a)?;
    expect_finite_f64("positive definite matrix", a)?;
    if n == 0 {
        return Ok(Cholesky { lower: Mat64::zeros((0, 0)), jitter: 0.0 });
    }
    // A power of four, so that its square root is exact too.
    let scale = {
        let (_, exponent) = libm::frexp(power_of_two_scale(a));
        libm::ldexp(1.0, exponent & !1)
    };
    let what = || format!("Cholesky decomposition of a {n} × {n} matrix");
    let unit = a.diag().iter().map(|v| v / scale / n as f64).sum::<f64>();
    let request = cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default());
    let mut buffer = workspace(request, what)?;
    let mut pivot = 0;
    for relative in std::iter::once(0.0).chain((6..=14).rev().map(|e| 10f64.powi(-e))) {
        let jitter = relative * unit;
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                lower[i * n + j] = a[(i, j)] / scale;
            }
            lower[i * n + i] += jitter;
        }
        let factored = cholesky_in_place(
            FaerMut::from_row_major_slice_mut(&mut lower, n, n),
            Default::default(),
            Par::Seq,
            MemStack::new(&mut buffer),
            Default::default(),
        );
        // Infinities and NaNs come out as failures here, never as a decomposition.
        let sound = lower.iter().all(|v| v.is_finite()) && (0..n).all(|i| lower[i * n + i] > 0.0);
        match factored {
            Ok(_) if sound => {
                let root = scale.sqrt();
                let lower = Mat64::from_shape_fn((n, n), |(i, j)| {
                    if j <= i { lower[i * n + j] * root } else { 0.0 }
                });
                return Ok(Cholesky { lower, jitter: jitter * scale });
            }
            Ok(_) => {}
            Err(faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index }) => {
                pivot = index;
            }
        }
        if unit.is_nan() || unit <= 0.0 {
            break;
        }
    }
    let message = format!("not positive semi-definite: pivot {pivot} (counted from 0) stays ≤ 0");
    Err(numerical(what(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::{frobenius, hilbert, random};
    use ndarray::array;

    #[test]
    fn reconstructs() {
        for n in [1, 2, 17, 90] {
            let b = random(n, n + 5, 3);
            let a = b.dot(&b.t());
            let f = cholesky_jittered(a.view()).unwrap();
            assert_eq!(f.jitter, 0.0);
            let error = frobenius(&(f.lower.dot(&f.lower.t()) - &a)) / frobenius(&a);
            assert!(error < 2e-15 * n as f64, "{error:e}");
        }
        let f = cholesky_jittered(array![[4.0, 2.0], [2.0, 3.0]].view()).unwrap();
        assert!(frobenius(&(f.lower - array![[2.0, 0.0], [1.0, 2f64.sqrt()]])) < 1e-15);
    }

    #[test]
    fn half_solves_compose() {
        let a = random(30, 40, 5);
        let a = a.dot(&a.t());
        let f = cholesky_jittered(a.view()).unwrap();
        let b = random(30, 2, 6);
        let error = f.lower.dot(&f.solve_lower(b.view()).unwrap()) - &b;
        assert!(frobenius(&error) < 1e-13);
        let error = f.lower.t().dot(&f.solve_lower_transposed(b.view()).unwrap()) - &b;
        assert!(frobenius(&error) < 1e-12);
    }

    #[test]
    fn semidefinite_matrices_get_the_smallest_jitter_that_works() {
        let v = random(20, 3, 7);
        let a = v.dot(&v.t());
        let f = cholesky_jittered(a.view()).unwrap();
        let mean = a.diag().sum() / 20.0;
        assert!(f.jitter > 0.0 && f.jitter < 1e-11 * mean, "{:e}", f.jitter);
        let error = f.lower.dot(&f.lower.t()) - &a;
        assert!(frobenius(&error) < 1e-10 * frobenius(&a));
        assert!(cholesky_jittered(hilbert(20).view()).unwrap().jitter < 1e-12);
    }

    #[test]
    fn extreme_scales_work() {
        let a = array![[4e300, 2e300], [2e300, 3e300]];
        let f = cholesky_jittered(a.view()).unwrap();
        assert!((f.lower[(0, 0)] / 2e150 - 1.0).abs() < 1e-15);
        let f = cholesky_jittered((a * 1e-300 * 1e-300).view()).unwrap();
        assert!((f.lower[(0, 0)] / 2e-150 - 1.0).abs() < 1e-14);
    }

    #[test]
    fn bad_matrices_are_errors() {
        for a in [array![[1.0, 2.0], [2.0, 1.0]], array![[-1.0]], array![[0.0]]] {
            let error = cholesky_jittered(a.view()).unwrap_err();
            assert!(matches!(error, Error::Numerical { .. }), "{error}");
        }
        let nan = array![[1.0, 0.0], [f64::NAN, 1.0]];
        let error = cholesky_jittered(nan.view()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 1, column: 0, .. }), "{error}");
        assert!(cholesky_jittered(Mat64::zeros((2, 3)).view()).is_err());
        let f = cholesky_jittered(array![[1.0]].view()).unwrap();
        assert!(f.solve_lower(Mat64::zeros((2, 1)).view()).is_err());
        assert_eq!(f.solve_lower(Mat64::zeros((1, 0)).view()).unwrap().dim(), (1, 0));
        assert_eq!(cholesky_jittered(Mat64::zeros((0, 0)).view()).unwrap().lower.len(), 0);
    }
}
