//! Whitening by a positive semi-definite matrix that may be singular: the first half of the
//! generalised eigenproblem Qv = μCv.

use ndarray::s;

use super::eigh;
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};

/// The eigendecomposition of a positive semi-definite C, kept so that several truncations (or
/// several Q) cost one decomposition of C.
#[derive(Debug, Clone)]
pub struct Whitening {
    values: Vec<f64>,
    vectors: Mat64,
}

impl Whitening {
    /// Decomposes C (p × p, symmetric, positive semi-definite up to rounding). O(p³).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::Numerical`].
    pub fn new(c: Mat64Ref<'_>) -> Result<Self> {
        let (values, vectors) = eigh(c)?;
        Ok(Whitening { values, vectors })
    }

    /// Number of eigenvalues of C above `truncation`·λ_max(C), and never below p·ε·λ_max(C).
    pub fn rank(&self, truncation: f64) -> usize {
        let largest = self.values.first().copied().unwrap_or(0.0);
        let floor = truncation.max(self.values.len() as f64 * f64::EPSILON) * largest;
        self.values.iter().take_while(|v| **v > floor && **v > 0.0).count()
    }

    /// W = U_r Λ_r^{-1/2} (p × r), so that WᵀCW = I on the r kept directions.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 0 ≤ truncation < 1.
    pub fn whitener(&self, truncation: f64) -> Result<Mat64> {
        if !(0.0..1.0).contains(&truncation) {
            return Err(Error::parameter("truncation", "a number from 0 to below 1", truncation));
        }
        let rank = self.rank(truncation);
        let mut w = self.vectors.slice(s![.., ..rank]).to_owned();
        for (mut column, value) in w.columns_mut().into_iter().zip(&self.values) {
            let root = value.sqrt();
            column.mapv_inplace(|v| v / root);
        }
        Ok(w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::{frobenius, random, with_spectrum};
    use crate::linalg::{matmul_f64, tr_matmul_f64};
    use ndarray::{Array1, array};

    /// Eigenpairs of Qv = μCv on the numerical range of C.
    struct GeneralizedEigen {
        values: Vec<f64>,
        vectors: Mat64,
        rank: usize,
    }

    /// Solves Qv = μCv in the whitened coordinates.
    fn solve(w: &Whitening, q: Mat64Ref<'_>, truncation: f64) -> Result<GeneralizedEigen> {
        let w = w.whitener(truncation)?;
        let rotated = tr_matmul_f64(w.view(), matmul_f64(q, w.view())?.view())?;
        let (values, rotation) = eigh(rotated.view())?;
        let vectors = matmul_f64(w.view(), rotation.view())?;
        Ok(GeneralizedEigen { rank: values.len(), values, vectors })
    }

    fn generalized_eigh(
        q: Mat64Ref<'_>,
        c: Mat64Ref<'_>,
        truncation: f64,
    ) -> Result<GeneralizedEigen> {
        solve(&Whitening::new(c)?, q, truncation)
    }

    fn check(q: &Mat64, c: &Mat64, e: &GeneralizedEigen, tolerance: f64) {
        let v = &e.vectors;
        assert_eq!((v.ncols(), e.values.len()), (e.rank, e.rank));
        assert!(e.values.is_sorted_by(|a, b| a >= b));
        let unit = v.t().dot(c).dot(v) - Mat64::eye(e.rank);
        assert!(frobenius(&unit) < tolerance, "{:e}", frobenius(&unit));
        let mu = Mat64::from_diag(&Array1::from(e.values.clone()));
        let diagonal = v.t().dot(q).dot(v) - mu;
        assert!(frobenius(&diagonal) < tolerance, "{:e}", frobenius(&diagonal));
    }

    #[test]
    fn a_pencil_made_from_known_eigenpairs_gives_them_back() {
        // Q = X⁻ᵀ diag(μ) X⁻¹ and C = X⁻ᵀX⁻¹ for a well-conditioned X⁻¹ = B.
        let b = random(12, 12, 1) * 0.1 + Mat64::eye(12);
        let mu = Array1::from_shape_fn(12, |i| 3.0 / (1.0 + i as f64));
        let q = b.t().dot(&Mat64::from_diag(&mu)).dot(&b);
        let c = b.t().dot(&b);
        let e = generalized_eigh(q.view(), c.view(), 1e-12).unwrap();
        check(&q, &c, &e, 1e-12);
        for (found, want) in e.values.iter().zip(&mu) {
            assert!((found - want).abs() < 1e-13, "{found} {want}");
        }
        // C V⁻¹ has no null space here, so the full residual Qv = μCv holds as well.
        let residual = q.dot(&e.vectors)
            - c.dot(&e.vectors).dot(&Mat64::from_diag(&Array1::from(e.values.clone())));
        assert!(frobenius(&residual) < 1e-12);
    }

    #[test]
    fn a_singular_c_leaves_its_null_space_out() {
        let c = with_spectrum(&[2.0, 1.0, 0.5, 1e-9, 0.0, 0.0], 2);
        let q = with_spectrum(&[5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 3);
        let w = Whitening::new(c.view()).unwrap();
        for (truncation, rank) in [(0.0, 4), (1e-12, 4), (1e-6, 3), (0.3, 2)] {
            let e = solve(&w, q.view(), truncation).unwrap();
            assert_eq!(e.rank, rank);
            check(&q, &c, &e, if rank == 4 { 1e-4 } else { 1e-13 * 1e2 });
        }
        assert_eq!(w.rank(1e-6), 3);
    }

    #[test]
    fn repeated_columns_change_nothing() {
        // A basis with a column twice spans the same space: same eigenvalues.
        let psi = random(50, 4, 4);
        let twice = ndarray::concatenate![ndarray::Axis(1), psi, psi.slice(s![.., 1..2])];
        let k = with_spectrum(&(0..50).map(|i| 0.8f64.powi(i)).collect::<Vec<_>>(), 5);
        let solve = |p: &Mat64| {
            generalized_eigh(p.t().dot(&k).dot(p).view(), p.t().dot(p).view(), 1e-12).unwrap()
        };
        let (a, b) = (solve(&psi), solve(&twice));
        assert_eq!((a.rank, b.rank), (4, 4));
        for (x, y) in a.values.iter().zip(&b.values) {
            assert!((x - y).abs() < 1e-13);
        }
    }

    #[test]
    fn degenerate_input() {
        let none = generalized_eigh(array![[1.0]].view(), array![[0.0]].view(), 1e-9).unwrap();
        assert_eq!((none.rank, none.vectors.dim()), (0, (1, 0)));
        let empty = Mat64::zeros((0, 0));
        assert_eq!(generalized_eigh(empty.view(), empty.view(), 0.0).unwrap().rank, 0);
        let eye = Mat64::eye(2);
        assert!(generalized_eigh(eye.view(), eye.view(), 1.0).is_err());
        assert!(generalized_eigh(eye.view(), eye.view(), f64::NAN).is_err());
        assert!(generalized_eigh(Mat64::eye(3).view(), eye.view(), 0.0).is_err());
        let bad = array![[f64::INFINITY, 0.0], [0.0, 1.0]];
        assert!(generalized_eigh(bad.view(), eye.view(), 0.0).is_err());
    }
}
