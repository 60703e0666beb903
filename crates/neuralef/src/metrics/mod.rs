//! Measures of agreement between eigenpairs, of a feature map with its kernel, and between
//! clusterings. All in f64.
//!
//! Eigenfunctions are compared through their values at common points (rows). Where eigenvalues are
//! nearly equal, single eigenfunctions are arbitrary and only their span means anything: such
//! clusters are compared as subspaces.

use std::ops::Range;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::linalg::{expect_finite_f64, matmul_f64, norm2, orthonormal_basis, svd, tr_matmul_f64};
use crate::matrix::{Mat64, Mat64Ref};

mod clustering;
mod features;

pub use clustering::{adjusted_rand_index, clustering_accuracy, normalised_mutual_information};
pub(crate) use features::gram_error_between_halves;
pub use features::{captured_trace, gram_error};

/// The relative gap below which neighbouring eigenvalues count as one cluster.
pub const DEFAULT_GAP: f64 = 0.05;

/// |cos| of the angle between column j of `a` and column j of `b` (both n × k); 0 where a column
/// vanishes. O(n k).
///
/// # Errors
/// [`Error::Shape`] unless the shapes agree with n ≥ 1, [`Error::NonFinite`].
pub fn cosines(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Result<Vec<f64>> {
    check_points(a, b)?;
    if a.ncols() != b.ncols() {
        return Err(Error::shape("reference eigenfunctions", a.ncols(), b.ncols()));
    }
    let pairs = a.columns().into_iter().zip(b.columns());
    Ok(pairs
        .map(|(a, b)| {
            let (na, nb) = (norm2(a.iter().copied()), norm2(b.iter().copied()));
            if na == 0.0 || nb == 0.0 {
                return 0.0;
            }
            let dot: f64 = a.iter().zip(b).map(|(a, b)| (a / na) * (b / nb)).sum();
            dot.abs().min(1.0)
        })
        .collect())
}

/// Principal angles between the column spaces of `a` (n × p) and `b` (n × q), ascending, in
/// radians; as many as the smaller rank. Accurate at both ends: cosines and sines are computed
/// separately (Björck & Golub 1973). O(n (p + q)²).
///
/// # Errors
/// [`Error::Shape`] unless the numbers of rows agree and n ≥ 1, [`Error::NonFinite`],
/// [`Error::Numerical`].
pub fn principal_angles(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Result<Vec<f64>> {
    check_points(a, b)?;
    let (mut a, mut b) = (orthonormal_basis(a)?, orthonormal_basis(b)?);
    if a.ncols() < b.ncols() {
        std::mem::swap(&mut a, &mut b);
    }
    let inside = tr_matmul_f64(a.view(), b.view())?;
    let outside = &b - &matmul_f64(a.view(), inside.view())?;
    let (_, cosines, _) = svd(inside.view())?;
    let (_, sines, _) = svd(outside.view())?;
    // Cosines descend with the angle, sines ascend with it.
    Ok(cosines.iter().zip(sines.iter().rev()).map(|(c, s)| s.atan2(*c)).collect())
}

/// Splits descending eigenvalues into clusters: neighbours belong together when they differ by
/// less than `gap` relative to the larger one (or when the larger one is not positive).
pub fn clusters(eigenvalues: &[f64], gap: f64) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0;
    for end in 1..=eigenvalues.len() {
        let split = end == eigenvalues.len() || {
            let (a, b) = (eigenvalues[end - 1], eigenvalues[end]);
            a > 0.0 && a - b >= gap * a
        };
        if split {
            out.push(start..end);
            start = end;
        }
    }
    out
}

/// How k eigenfunctions agree with reference ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EigenfunctionComparison {
    /// |cos| with the reference eigenfunction of the same number.
    pub cosines: Vec<f64>,
    /// Clusters of near-equal reference eigenvalues that begin among the first k.
    pub clusters: Vec<Range<usize>>,
    /// For each function, the norm of its projection on the span of the reference eigenfunctions
    /// of its cluster, relative to its own norm: equal to `cosines` for clusters of one.
    pub subspace_cosines: Vec<f64>,
}

/// Compares eigenfunctions (n × k) with reference ones (n × k', k' ≥ k) by their values at the same
/// points. Clusters are those of the k' reference eigenvalues; give some more than k, so that a
/// cluster reaching across k is whole. O(n k'²).
///
/// # Errors
/// [`Error::Shape`], [`Error::NonFinite`], [`Error::Numerical`], and [`Error::InvalidParameter`]
/// unless 0 ≤ gap < 1.
pub fn compare_eigenfunctions(
    values: Mat64Ref<'_>,
    reference: Mat64Ref<'_>,
    reference_eigenvalues: &[f64],
    gap: f64,
) -> Result<EigenfunctionComparison> {
    check_points(values, reference)?;
    let (k, available) = (values.ncols(), reference.ncols());
    if available < k {
        return Err(Error::shape("reference eigenfunctions", format!("≥ {k} columns"), available));
    }
    if reference_eigenvalues.len() != available {
        let got = reference_eigenvalues.len();
        return Err(Error::shape("reference eigenvalues", available, got));
    }
    check_gap(gap)?;
    let cosines = cosines(values, reference.slice(ndarray::s![.., ..k]))?;
    let mut clusters = clusters(reference_eigenvalues, gap);
    clusters.retain(|c| c.start < k);
    let mut subspace_cosines = cosines.clone();
    for cluster in clusters.iter().filter(|c| c.len() > 1) {
        let span = orthonormal_basis(reference.slice(ndarray::s![.., cluster.clone()]))?;
        let members = cluster.start..cluster.end.min(k);
        for (j, cosine) in members.clone().zip(&mut subspace_cosines[members]) {
            let column = values.slice(ndarray::s![.., j..=j]);
            let norm = norm2(column.iter().copied());
            if norm > 0.0 {
                let inside = tr_matmul_f64(span.view(), (&column / norm).view())?;
                *cosine = norm2(inside.iter().copied()).min(1.0);
            }
        }
    }
    Ok(EigenfunctionComparison { cosines, clusters, subspace_cosines })
}

pub(crate) fn check_gap(gap: f64) -> Result<()> {
    if (0.0..1.0).contains(&gap) {
        return Ok(());
    }
    Err(Error::parameter("cluster_gap", "a number from 0 to below 1", gap))
}

/// The distance of ψᵀψ/n from the identity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Orthonormality {
    /// Largest entry of |ψᵀψ/n − I|.
    pub max: f64,
    /// Frobenius norm of ψᵀψ/n − I.
    pub frobenius: f64,
}

/// How far ψ (n × k) is from orthonormal under the empirical measure. O(n k²).
///
/// # Errors
/// [`Error::Shape`] when n = 0, [`Error::NonFinite`] (also on overflow).
pub fn orthonormality_error(psi: Mat64Ref<'_>) -> Result<Orthonormality> {
    check_points(psi, psi)?;
    let n = psi.nrows() as f64;
    let excess = tr_matmul_f64(psi, psi)? / n - Mat64::eye(psi.ncols());
    expect_finite_f64("ψᵀψ/n", excess.view())?;
    let max = excess.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    Ok(Orthonormality { max, frobenius: norm2(excess.iter().copied()) })
}

/// ‖Tψ_j − μ_jψ_j‖/μ_j for each column; the squared norm is the sum of squares over `count`: the
/// number of points where E_x Σ_c ψ_c² = 1.
pub(crate) fn relative_residuals(
    psi: &Mat64,
    t_psi: &Mat64,
    eigenvalues: &[f64],
    count: usize,
) -> Vec<f64> {
    let n = count.max(1) as f64;
    (0..eigenvalues.len())
        .map(|j| {
            let mu = eigenvalues[j];
            let columns = psi.column(j).into_iter().zip(t_psi.column(j));
            let square: f64 = columns.map(|(p, t)| (t - mu * p).powi(2)).sum();
            (square / n).sqrt() / mu.abs().max(f64::MIN_POSITIVE)
        })
        .collect()
}

/// |aⱼ − bⱼ| / |bⱼ| for each pair; 0 where both vanish, infinite where only the reference does.
/// The shorter list sets the length.
pub fn relative_errors(values: &[f64], reference: &[f64]) -> Vec<f64> {
    let error = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() / b.abs() };
    values.iter().zip(reference).map(error).collect()
}

/// Everything that two lists of eigenpairs say about each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EigenComparison {
    /// The eigenvalues examined.
    pub eigenvalues: Vec<f64>,
    /// The reference ones.
    pub reference_eigenvalues: Vec<f64>,
    /// |μ − μ_ref| / μ_ref.
    pub eigenvalue_errors: Vec<f64>,
    /// Agreement of the functions, one by one and by clusters.
    pub eigenfunctions: EigenfunctionComparison,
    /// Angles between the spans of the k functions examined and of the first k reference ones,
    /// ascending, in radians.
    pub principal_angles: Vec<f64>,
    /// Orthonormality of the functions examined, on the points given.
    pub orthonormality: Orthonormality,
}

/// Compares k eigenpairs with k' ≥ k reference ones by eigenvalues and by values at the same points
/// (n × k and n × k'); see [`compare_eigenfunctions`]. O(n k'²).
///
/// # Errors
/// As [`compare_eigenfunctions`]; [`Error::Shape`] when eigenvalues and columns differ in number.
pub fn compare(
    eigenvalues: &[f64],
    values: Mat64Ref<'_>,
    reference_eigenvalues: &[f64],
    reference: Mat64Ref<'_>,
    gap: f64,
) -> Result<EigenComparison> {
    let k = values.ncols();
    if eigenvalues.len() != k {
        return Err(Error::shape("eigenvalues", k, eigenvalues.len()));
    }
    expect_finite_values("eigenvalues", eigenvalues)?;
    expect_finite_values("reference eigenvalues", reference_eigenvalues)?;
    let eigenfunctions = compare_eigenfunctions(values, reference, reference_eigenvalues, gap)?;
    Ok(EigenComparison {
        eigenvalues: eigenvalues.to_vec(),
        reference_eigenvalues: reference_eigenvalues[..k].to_vec(),
        eigenvalue_errors: relative_errors(eigenvalues, reference_eigenvalues),
        eigenfunctions,
        principal_angles: principal_angles(values, reference.slice(ndarray::s![.., ..k]))?,
        orthonormality: orthonormality_error(values)?,
    })
}

fn expect_finite_values(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(bad) => Err(Error::parameter(what, "finite numbers", bad)),
    }
}

fn check_points(a: Mat64Ref<'_>, b: Mat64Ref<'_>) -> Result<()> {
    if a.nrows() == 0 || a.nrows() != b.nrows() {
        let expected = format!("{} rows, at least one", a.nrows());
        return Err(Error::shape("eigenfunctions at common points", expected, b.nrows()));
    }
    expect_finite_f64("eigenfunctions", a)?;
    expect_finite_f64("reference eigenfunctions", b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;
    use ndarray::{array, s};

    /// Columns orthonormal, n × k.
    fn orthonormal(n: usize, k: usize, seed: u64) -> Mat64 {
        orthonormal_basis(random(n, k, seed).view()).unwrap()
    }

    #[test]
    fn cosines_of_rotated_columns() {
        let q = orthonormal(50, 2, 1);
        let angle = 0.3f64;
        let turned = &q.column(0) * angle.cos() + &q.column(1) * angle.sin();
        let a = ndarray::stack![ndarray::Axis(1), -7.0 * &turned, q.column(1), &turned * 0.0];
        let b = ndarray::stack![ndarray::Axis(1), q.column(0), q.column(1), q.column(0)];
        let c = cosines(a.view(), b.view()).unwrap();
        assert!((c[0] - angle.cos()).abs() < 1e-15 && (c[1] - 1.0).abs() < 1e-15);
        assert_eq!(c[2], 0.0);
        let huge = &a * 1e200;
        assert_eq!(cosines(huge.view(), b.view()).unwrap().len(), 3);
    }

    #[test]
    fn principal_angles_are_accurate_at_both_ends() {
        // Known angles between two planes, from 1e-12 to π/2, in arbitrary bases.
        let angles = [1e-12, 1e-4, 0.7, std::f64::consts::FRAC_PI_2];
        let q = orthonormal(80, 8, 2);
        let b = Mat64::from_shape_fn((80, 4), |(i, j)| {
            angles[j].cos() * q[(i, j)] + angles[j].sin() * q[(i, j + 4)]
        });
        let a = q.slice(s![.., ..4]).dot(&(random(4, 4, 3) + 2.0 * Mat64::eye(4)));
        let b = b.dot(&(random(4, 4, 4) + 2.0 * Mat64::eye(4)));
        let found = principal_angles(a.view(), b.view()).unwrap();
        for (found, want) in found.iter().zip(angles) {
            assert!((found - want).abs() < 1e-14, "{found:e} {want:e}");
        }
        // A subspace of the other one: all angles vanish, as many as the smaller dimension.
        let found = principal_angles(a.slice(s![.., ..2]), a.view()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|v| *v < 1e-14), "{found:?}");
    }

    #[test]
    fn clusters_split_at_relative_gaps() {
        assert_eq!(clusters(&[1.0, 0.99, 0.5, 0.49, 0.485, 0.1], 0.05), [0..2, 2..5, 5..6]);
        assert_eq!(clusters(&[1.0, 0.99], 0.0), [0..1, 1..2]);
        assert_eq!(clusters(&[1.0, 0.0, 0.0, -1.0], 0.05), [0..1, 1..4]);
        assert!(clusters(&[], 0.05).is_empty());
    }

    #[test]
    fn a_rotation_inside_a_cluster_is_forgiven_and_one_across_clusters_is_not() {
        let q = orthonormal(60, 4, 5);
        let mu = [1.0, 0.5, 0.499, 0.1];
        let (c, s) = (0.6, 0.8);
        let inside =
            array![[1.0, 0.0, 0.0, 0.0], [0.0, c, -s, 0.0], [0.0, s, c, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let found = compare_eigenfunctions(q.dot(&inside).view(), q.view(), &mu, 0.05).unwrap();
        assert_eq!(found.clusters, [0..1, 1..3, 3..4]);
        assert!((found.cosines[1] - c).abs() < 1e-14);
        assert!(found.subspace_cosines.iter().all(|v| (v - 1.0).abs() < 1e-14));
        let across =
            array![[c, -s, 0.0, 0.0], [s, c, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let found = compare_eigenfunctions(q.dot(&across).view(), q.view(), &mu, 0.05).unwrap();
        assert!((found.subspace_cosines[0] - c).abs() < 1e-14);
        assert!((found.subspace_cosines[1] - c).abs() < 1e-14);
        // Two functions examined: the cluster reaches across, the reference has all of it.
        let two = q.dot(&inside);
        let found = compare_eigenfunctions(two.slice(s![.., ..2]), q.view(), &mu, 0.05).unwrap();
        assert_eq!(found.clusters, [0..1, 1..3]);
        assert!((found.subspace_cosines[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_comparison_of_equal_pairs_is_perfect() {
        let psi = orthonormal(64, 3, 6) * 8.0;
        let found =
            compare(&[3.0, 2.0, 1.1], psi.view(), &[3.0, 2.0, 1.0], psi.view(), 0.05).unwrap();
        assert!((found.eigenvalue_errors[2] - 0.1).abs() < 1e-15);
        assert_eq!(found.eigenvalue_errors[..2], [0.0, 0.0]);
        assert!(found.orthonormality.max < 1e-14 && found.orthonormality.frobenius < 1e-14);
        assert!(found.principal_angles.iter().all(|v| *v < 1e-14));
        assert!(serde_json::to_string(&found).unwrap().contains("\"subspace_cosines\""));
    }

    #[test]
    fn orthonormality_gram_and_trace_follow_their_definitions() {
        let psi = array![[1.0, 0.0], [1.0, 2.0]];
        // ψᵀψ/2 − I = [[0, 1], [1, 1]].
        let error = orthonormality_error(psi.view()).unwrap();
        assert_eq!((error.max, error.frobenius), (1.0, 3f64.sqrt()));
        let gram = array![[1.0, 1.0], [1.0, 6.0]];
        // ψψᵀ = [[1, 1], [1, 5]].
        let error = gram_error(psi.view(), psi.view(), gram.view()).unwrap();
        assert!((error - 1.0 / 39f64.sqrt()).abs() < 1e-15);
        assert_eq!(captured_trace(&[0.5, 0.25], 1.0).unwrap(), 0.75);
        assert_eq!(relative_errors(&[1.0, 0.0, 1.0], &[2.0, 0.0, 0.0]), [0.5, 0.0, f64::INFINITY]);
    }

    #[test]
    fn bad_input_is_an_error() {
        let a = random(5, 2, 7);
        let nan = a.mapv(|_| f64::NAN);
        assert!(cosines(a.view(), nan.view()).is_err());
        assert!(cosines(a.view(), random(4, 2, 7).view()).is_err());
        assert!(cosines(a.view(), random(5, 3, 7).view()).is_err());
        assert!(
            principal_angles(Mat64::zeros((0, 2)).view(), Mat64::zeros((0, 2)).view()).is_err()
        );
        assert!(compare_eigenfunctions(a.view(), a.view(), &[1.0], 0.05).is_err());
        assert!(compare_eigenfunctions(a.view(), a.view(), &[1.0, 0.5], f64::NAN).is_err());
        assert!(compare_eigenfunctions(a.view(), a.slice(s![.., ..1]), &[1.0], 0.05).is_err());
        assert!(compare(&[1.0], a.view(), &[1.0, 0.5], a.view(), 0.05).is_err());
        assert!(gram_error(a.view(), a.view(), a.view()).is_err());
        assert!(gram_error(a.view(), a.view(), Mat64::zeros((5, 5)).view()).is_err());
        assert!(captured_trace(&[1.0], 0.0).is_err());
        assert!(captured_trace(&[f64::NAN], 1.0).is_err());
        assert!(compare(&[1.0, f64::NAN], a.view(), &[1.0, 0.5], a.view(), 0.05).is_err());
        assert!(orthonormality_error((&a * 1e200).view()).is_err());
        assert!(principal_angles((&a * 0.0).view(), a.view()).unwrap().is_empty());
    }
}
