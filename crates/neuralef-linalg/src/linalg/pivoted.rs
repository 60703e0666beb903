//! Pivoted Cholesky decomposition: a positive semi-definite matrix by as many of its rows as its rank asks for.

use faer::dyn_stack::MemStack;
use faer::linalg::cholesky::llt_pivoting::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{MatMut as FaerMut, MatRef as FaerRef, Par};
use rayon::prelude::*;

use super::product::assemble;
use super::{expect_finite_f64, expect_square, numerical, power_of_two_scale, workspace};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};

/// Rows that are solved for together.
const ROWS: usize = 128;

/// A[order, order] = LLᵀ for the leading `order.len()` pivots of A, and A − A[:, order](LLᵀ)⁻¹A[order, :]
/// has no diagonal entry above the tolerance asked for.
#[derive(Debug, Clone)]
pub struct PivotedCholesky {
    /// Rows of A that are pivots, the largest first.
    pub order: Vec<usize>,
    /// L, r × r, row-major, zero above the diagonal, which does not grow.
    lower: Vec<f64>,
}

impl PivotedCholesky {
    /// From L, r × r, and the rows it belongs to.
    pub fn from_parts(order: Vec<usize>, lower: &Mat64) -> Self {
        PivotedCholesky { order, lower: lower.iter().copied().collect() }
    }

    /// r, the number of pivots.
    pub fn rank(&self) -> usize {
        self.order.len()
    }

    /// The smallest pivot, L_rr², beside the largest.
    pub fn smallest_relative_pivot(&self) -> f64 {
        let r = self.rank();
        let squares = (0..r).map(|i| self.lower[i * r + i].powi(2));
        let (least, most) =
            squares.fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(v), b.max(v)));
        if most > 0.0 { least / most } else { 0.0 }
    }

    /// L, r × r.
    pub fn lower(&self) -> Result<Mat64> {
        assemble(self.rank(), self.rank(), self.lower.clone())
    }

    /// B·L⁻ᵀ for B n × r, in place of B; O(n r²), blocks of rows side by side. A row's bits depend on it
    /// alone.
    ///
    /// # Errors
    /// [`Error::Shape`] unless B has r columns.
    pub fn solve_rows(&self, b: Mat64) -> Result<Mat64> {
        self.rows_solved(b, false)
    }

    /// B·L⁻¹ for B n × r; otherwise as [`solve_rows`](PivotedCholesky::solve_rows).
    ///
    /// # Errors
    /// As there.
    pub fn solve_rows_transposed(&self, b: Mat64) -> Result<Mat64> {
        self.rows_solved(b, true)
    }

    fn rows_solved(&self, b: Mat64, transposed: bool) -> Result<Mat64> {
        let (r, (n, columns)) = (self.rank(), b.dim());
        if columns != r {
            return Err(Error::shape("rows to solve for", format!("n × {r}"), columns));
        }
        let mut data: Vec<f64> = match b.is_standard_layout() {
            true => b.into_raw_vec_and_offset().0,
            false => b.iter().copied().collect(),
        };
        let lower = FaerRef::from_row_major_slice(&self.lower, r, r);
        data.par_chunks_mut((ROWS * r).max(1)).for_each(|rows| {
            // Whole blocks always, so that every row is solved by the same sequence of operations.
            let mut block = vec![0.0; ROWS * r];
            block[..rows.len()].copy_from_slice(rows);
            let rhs = FaerMut::from_column_major_slice_mut(&mut block, r, ROWS);
            match transposed {
                false => solve_lower_triangular_in_place(lower, rhs, Par::Seq),
                true => solve_upper_triangular_in_place(lower.transpose(), rhs, Par::Seq),
            }
            rows.copy_from_slice(&block[..rows.len()]);
        });
        assemble(n, r, data)
    }
}

/// The pivoted Cholesky decomposition of a symmetric positive semi-definite n × n matrix (its lower
/// triangle is read), of as many pivots as are above `tolerance` times the largest diagonal entry, and
/// above n·ε of it. O(n² r).
///
/// # Errors
/// [`Error::Shape`], [`Error::NonFinite`], and [`Error::Numerical`] for a negative diagonal entry.
pub fn pivoted_cholesky(a: Mat64Ref<'_>, tolerance: f64) -> Result<PivotedCholesky> {
    let n = expect_square("positive semi-definite matrix", a)?;
    expect_finite_f64("positive semi-definite matrix", a)?;
    let what = || format!("pivoted Cholesky decomposition of a {n} × {n} matrix");
    // A power of four, so that its square root is exact too.
    let (_, exponent) = libm::frexp(power_of_two_scale(a));
    let scale = libm::ldexp(1.0, exponent & !1);
    // Column-major: what is read is below the diagonal there.
    let mut factor: Vec<f64> = a.t().iter().map(|v| v / scale).collect();
    let (mut order, mut inverse) = (vec![0usize; n], vec![0usize; n]);
    let request = cholesky_in_place_scratch::<usize, f64>(n, Par::Seq, Default::default());
    let info = cholesky_in_place(
        FaerMut::from_column_major_slice_mut(&mut factor, n, n),
        &mut order,
        &mut inverse,
        Par::Seq,
        MemStack::new(&mut workspace(request, what)?),
        Default::default(),
    );
    let rank = match info {
        Ok((info, _)) => info.rank,
        Err(_) => return Err(numerical(what(), "a diagonal entry is negative")),
    };
    let pivot = |i: usize| factor[i * n + i].powi(2);
    let floor = tolerance * if rank > 0 { pivot(0) } else { 0.0 };
    let rank = (0..rank).take_while(|&i| pivot(i) > floor).count();
    let root = scale.sqrt();
    let mut lower = vec![0.0; rank * rank];
    for i in 0..rank {
        for j in 0..=i {
            lower[i * rank + j] = factor[j * n + i] * root;
        }
    }
    order.truncate(rank);
    Ok(PivotedCholesky { order, lower })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::{hilbert, random};
    use crate::linalg::{matmul_f64, tr_matmul_f64};
    use ndarray::{Axis, s};

    #[test]
    fn pivots_reproduce_a_matrix_of_low_rank() {
        let factor = random(7, 60, 1);
        let a = tr_matmul_f64(factor.view(), factor.view()).unwrap();
        let found = pivoted_cholesky(a.view(), 1e-10).unwrap();
        assert_eq!(found.rank(), 7);
        // A[:, order] L⁻ᵀ L⁻¹ A[order, :] = A.
        let phi = found.solve_rows(a.select(Axis(1), &found.order)).unwrap();
        let again = matmul_f64(phi.view(), phi.t()).unwrap();
        let worst = (&again - &a).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(worst < 1e-11, "{worst:e}");
        // And L itself is the square root of the pivots' block.
        let lower = found.lower().unwrap();
        let block = a.select(Axis(0), &found.order).select(Axis(1), &found.order);
        let square = matmul_f64(lower.view(), lower.t()).unwrap();
        let worst = (&square - &block).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(worst < 1e-11, "{worst:e}");
        let solved = found.solve_rows_transposed(lower.clone()).unwrap();
        let worst = (&solved - &Mat64::eye(7)).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(worst < 1e-9, "{worst:e}");
    }

    #[test]
    fn tolerances_cut_where_pivots_fall_below_them() {
        let a = hilbert(12);
        let deep = pivoted_cholesky(a.view(), 0.0).unwrap();
        let flat = pivoted_cholesky(a.view(), 1e-6).unwrap();
        assert!(flat.rank() < deep.rank() && flat.order == deep.order[..flat.rank()]);
        assert!(flat.smallest_relative_pivot() > 1e-6);
        let rest = deep.lower().unwrap()[(flat.rank(), flat.rank())].powi(2);
        assert!(rest <= 1e-6);
        assert_eq!(pivoted_cholesky(Mat64::zeros((3, 3)).view(), 0.0).unwrap().rank(), 0);
        assert_eq!(pivoted_cholesky(Mat64::zeros((0, 0)).view(), 0.0).unwrap().rank(), 0);
        assert!(pivoted_cholesky((-Mat64::eye(2)).view(), 0.0).is_err());
    }

    #[test]
    fn a_solved_row_has_the_same_bits_in_any_company() {
        let factor = random(90, 80, 2);
        let a = tr_matmul_f64(factor.view(), factor.view()).unwrap();
        let found = pivoted_cholesky(a.view(), 0.0).unwrap();
        let b = random(300, found.rank(), 3);
        let whole = found.solve_rows(b.clone()).unwrap();
        let part = found.solve_rows(b.slice(s![131..140, ..]).to_owned()).unwrap();
        assert_eq!(part, whole.slice(s![131..140, ..]));
        assert!(found.solve_rows(random(3, 2, 1)).is_err());
    }
}
