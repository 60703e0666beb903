//! How well a feature map reproduces its kernel: on pairs of points, and in trace.

use std::ops::Range;

use super::expect_finite_values;
use crate::error::{Error, Result};
use crate::kernel::{IndexedPoints, Kernel, index};
use crate::linalg::{expect_finite_f64, matmul_f64, norm2};
use crate::matrix::{Mat64, Mat64Ref};

/// ‖φ_x φ_yᵀ − K‖_F / ‖K‖_F for features φ_x (n × k), φ_y (m × k) and K = κ(x, y) (n × m): how well
/// a feature map reproduces its kernel on pairs. 0 where both vanish. O(n m k).
///
/// # Errors
/// [`Error::Shape`], [`Error::NonFinite`], [`Error::Numerical`] when only K vanishes.
pub fn gram_error(phi_x: Mat64Ref<'_>, phi_y: Mat64Ref<'_>, gram: Mat64Ref<'_>) -> Result<f64> {
    if gram.dim() != (phi_x.nrows(), phi_y.nrows()) {
        let expected = format!("{} × {}", phi_x.nrows(), phi_y.nrows());
        return Err(Error::shape("Gram matrix", expected, format!("{:?}", gram.dim())));
    }
    let approximation = matmul_f64(phi_x, phi_y.t())?;
    expect_finite_f64("φφᵀ", approximation.view())?;
    expect_finite_f64("Gram matrix", gram)?;
    let error = norm2(approximation.iter().zip(&gram).map(|(a, b)| a - b));
    let norm = norm2(gram.iter().copied());
    if norm == 0.0 && error > 0.0 {
        let message = "the kernel vanishes on all pairs, the features do not";
        return Err(Error::Numerical { what: "Gram error".into(), message: message.into() });
    }
    Ok(if error == 0.0 { 0.0 } else { error / norm })
}

/// The Gram error over the pairs of the first half of the points x (n × d) with the second half, at
/// most `most` (≥ 1) points on either side, and the number of pairs; none for a single point. `phi`
/// gives the features of a range of rows. O(m²·(d + k)) for m points on either side.
///
/// # Errors
/// As [`gram_error`], and what the kernel and `phi` report.
pub(crate) fn gram_error_between_halves(
    kernel: &dyn Kernel,
    x: IndexedPoints<'_>,
    most: usize,
    phi: impl Fn(Range<usize>) -> Result<Mat64>,
) -> Result<Option<(f64, usize)>> {
    let (n, half) = (x.len(), (x.len() / 2).min(most));
    if half == 0 {
        return Ok(None);
    }
    let mut gram = Mat64::zeros((half, half));
    index::gram(kernel, x.range(0..half), x.range(n - half..n), gram.view_mut())?;
    let error = gram_error(phi(0..half)?.view(), phi(n - half..n)?.view(), gram.view())?;
    Ok(Some((error, half * half)))
}

/// Σμ_j / E κ(x, x): the share of the kernel's variance that the eigenpairs carry.
///
/// # Errors
/// [`Error::InvalidParameter`] unless the trace is positive and finite, and the eigenvalues finite.
pub fn captured_trace(eigenvalues: &[f64], trace: f64) -> Result<f64> {
    if !(trace.is_finite() && trace > 0.0) {
        return Err(Error::parameter("trace", "a positive finite number", trace));
    }
    expect_finite_values("eigenvalues", eigenvalues)?;
    Ok(eigenvalues.iter().sum::<f64>() / trace)
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::test_kernels::rbf;

    #[test]
    fn halves_meet_in_pairs_of_different_points() {
        let x = crate::linalg::tests::random(7, 2, 1).mapv(|v| v as f32);
        let kernel = rbf(0.7);
        let mut gram = Mat64::zeros((7, 7));
        kernel.gram(x.view(), x.view(), gram.view_mut()).unwrap();
        let phi = crate::linalg::tests::random(7, 3, 2);
        let rows = |rows: Range<usize>| Ok(phi.slice(s![rows, ..]).to_owned());
        for (most, half) in [(2, 2), (10, 3)] {
            let (first, last) = (s![..half, ..], s![7 - half.., ..]);
            let block = gram.slice(s![..half, 7 - half..]);
            let want = gram_error(phi.slice(first), phi.slice(last), block).unwrap();
            let (error, pairs) =
                gram_error_between_halves(&kernel, x.view().into(), most, rows).unwrap().unwrap();
            assert!((error / want - 1.0).abs() < 1e-14 && pairs == half * half, "{error} {want}");
        }
        let one = x.slice(s![..1, ..]);
        assert_eq!(gram_error_between_halves(&kernel, one.into(), 10, rows).unwrap(), None);
    }
}
