//! Orthonormal columns by Householder reflections.

use faer::dyn_stack::MemStack;
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::qr::no_pivoting::factor::{
    qr_in_place, qr_in_place_scratch, recommended_block_size,
};
use faer::{Conj, Mat as FaerMat, Par};

use super::{expect_finite_f64, expect_square, numerical, workspace};
use crate::error::Result;
use crate::matrix::{Mat64, Mat64Ref};

/// The factor Q of A = QR for an n × n matrix: an orthogonal matrix whatever the rank of A. Columns of
/// A that are dependent on earlier ones to within a multiple of n·ε are passed over. O(n³).
///
/// # Errors
/// [`Error::Shape`](crate::error::Error::Shape) unless square, and as [`eigh`](super::eigh).
pub fn orthogonal_factor(a: Mat64Ref<'_>) -> Result<Mat64> {
    let n = expect_square("matrix", a)?;
    expect_finite_f64("matrix", a)?;
    if n == 0 {
        return Ok(Mat64::zeros((0, 0)));
    }
    let what = || format!("QR factorisation of a {n} × {n} matrix");
    let mut factored = FaerMat::from_fn(n, n, |i, j| a[(i, j)]);
    let block = recommended_block_size::<f64>(n, n);
    let mut coefficients = FaerMat::zeros(block, n);
    let request = qr_in_place_scratch::<f64>(n, n, block, Par::Seq, Default::default());
    qr_in_place(
        factored.as_mut(),
        coefficients.as_mut(),
        Par::Seq,
        MemStack::new(&mut workspace(request, what)?),
        Default::default(),
    );
    let mut q = FaerMat::<f64>::identity(n, n);
    let request = apply_scratch::<f64>(n, block, n);
    apply(
        factored.as_ref(),
        coefficients.as_ref(),
        Conj::No,
        q.as_mut(),
        Par::Seq,
        MemStack::new(&mut workspace(request, what)?),
    );
    let q = Mat64::from_shape_fn((n, n), |(i, j)| q[(i, j)]);
    match q.iter().all(|v| v.is_finite()) {
        true => Ok(q),
        false => Err(numerical(what(), "the result is not finite")),
    }
}
