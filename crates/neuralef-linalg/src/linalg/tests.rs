//! Residual identities of the decompositions, and the matrices other tests share.

use super::partial::{PartialEigen, top_eigh_operator};
use super::*;
use ndarray::{Array1, array, s};
use rand::Rng as _;

/// m × n, uniform on [−1, 1].
pub(crate) fn random(m: usize, n: usize, seed: u64) -> Mat64 {
    let mut rng = crate::rng::stream(seed, "linalg tests", 0);
    Mat64::from_shape_simple_fn((m, n), || rng.next_u64() as i64 as f64 / 2f64.powi(63))
}

pub(crate) fn frobenius(a: &Mat64) -> f64 {
    norm2(a.iter().copied())
}

pub(crate) fn hilbert(n: usize) -> Mat64 {
    Mat64::from_shape_fn((n, n), |(i, j)| 1.0 / (i + j + 1) as f64)
}

/// A symmetric matrix with the given eigenvalues: two Householder reflections of the diagonal.
pub(crate) fn with_spectrum(values: &[f64], seed: u64) -> Mat64 {
    let n = values.len();
    let mut a = Mat64::from_diag(&Array1::from(values.to_vec()));
    for r in 0..2 {
        let v = random(n, 1, seed + 100 * r);
        let v = &v / frobenius(&v);
        // (I − 2vvᵀ) A (I − 2vvᵀ) = A − 2v wᵀ − 2w vᵀ + 4(vᵀw) v vᵀ with w = Av.
        let w = a.dot(&v);
        let c = (v.t().dot(&w))[(0, 0)];
        a = &a - &(2.0 * v.dot(&w.t())) - &(2.0 * w.dot(&v.t())) + &(4.0 * c * v.dot(&v.t()));
    }
    (&a + &a.t()) * 0.5
}

fn rbf_gram(n: usize, lengthscale: f64) -> Mat64 {
    let x: Vec<f64> = (0..n).map(|i| -2.0 + 4.0 * i as f64 / (n - 1) as f64).collect();
    let kappa = |a: f64, b: f64| (-((a - b) / lengthscale).powi(2) / 2.0).exp();
    Mat64::from_shape_fn((n, n), |(i, j)| kappa(x[i], x[j]) / n as f64)
}

fn check_eigh(a: &Mat64, values: &[f64], vectors: &Mat64, factor: f64) {
    let n = a.nrows().max(1) as f64;
    let norm = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(values.is_sorted_by(|a, b| a >= b));
    let residual = a.dot(vectors) - vectors.dot(&Mat64::from_diag(&Array1::from(values.to_vec())));
    let bound = factor * n * f64::EPSILON * norm;
    assert!(frobenius(&residual) <= bound, "{:e} > {bound:e}", frobenius(&residual));
    let unit = vectors.t().dot(vectors) - Mat64::eye(values.len());
    assert!(frobenius(&unit) <= factor * n * f64::EPSILON, "{:e}", frobenius(&unit));
}

#[test]
fn eigh_satisfies_its_residual_identities() {
    for n in [1, 2, 3, 10, 33, 120] {
        let b = random(n, n, n as u64);
        for a in [&b + &b.t(), b.dot(&b.t()), hilbert(n), Mat64::eye(n) * 3.0] {
            let (values, vectors) = eigh(a.view()).unwrap();
            check_eigh(&a, &values, &vectors, 8.0);
            assert!((values.iter().sum::<f64>() - a.diag().sum()).abs() < 1e-12 * n as f64);
        }
    }
    let (values, _) = eigh(Mat64::zeros((5, 5)).view()).unwrap();
    assert_eq!(values, [0.0; 5]);
    assert_eq!(eigh(Mat64::zeros((0, 0)).view()).unwrap().0.len(), 0);
}

#[test]
fn eigh_finds_a_known_spectrum_with_clusters_and_a_null_space() {
    let spectrum = [2.0, 2.0, 2.0 - 1e-13, 1.0, 0.5, 0.5, 1e-8, 0.0, 0.0, -1.0];
    let a = with_spectrum(&spectrum, 1);
    let (values, vectors) = eigh(a.view()).unwrap();
    check_eigh(&a, &values, &vectors, 8.0);
    for (found, want) in values.iter().zip(spectrum) {
        assert!((found - want).abs() < 4e-15, "{found:e} {want:e}");
    }
}

#[test]
fn eigh_survives_extreme_scales() {
    let a = array![[2.0, 1.0], [1.0, 2.0]];
    for scale in [1e308 / 3.0, 1e-300, 1e-308] {
        let (values, _) = eigh((&a * scale).view()).unwrap();
        let error = (values[0] / scale - 3.0).abs() + (values[1] / scale - 1.0).abs();
        assert!(error < 1e-14, "{scale:e}: {values:?}");
    }
    assert!(matches!(eigh((&a * 8e307).view()), Err(Error::Numerical { .. })));
    assert!(matches!(svd((&a * 8e307).view()), Err(Error::Numerical { .. })));
    let asymmetric = array![[1.0, 4.0], [0.0, 1.0]];
    assert!((eigh(asymmetric.view()).unwrap().0[0] - 3.0).abs() < 1e-15);
}

#[test]
fn non_finite_and_oblong_matrices_are_named() {
    let mut a = Mat64::eye(4);
    a[(2, 1)] = f64::NAN;
    for error in [
        eigh(a.view()).unwrap_err(),
        svd(a.view()).unwrap_err(),
        top_eigh(a.view(), 2).unwrap_err(),
        orthonormal_basis(a.view()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NonFinite { row: 2, column: 1, .. }), "{error}");
    }
    assert!(matches!(eigh(Mat64::zeros((2, 3)).view()), Err(Error::Shape { .. })));
}

#[test]
fn svd_reconstructs() {
    for (m, n) in [(1, 1), (5, 3), (3, 5), (200, 7), (0, 3), (3, 0)] {
        let a = random(m, n, 9);
        let (u, sv, v) = svd(a.view()).unwrap();
        assert_eq!((u.dim(), v.dim()), ((m, m.min(n)), (n, m.min(n))));
        assert!(sv.is_sorted_by(|a, b| a >= b));
        let back = u.dot(&Mat64::from_diag(&Array1::from(sv))).dot(&v.t());
        assert!(frobenius(&(back - &a)) < 1e-13);
        assert!(frobenius(&(u.t().dot(&u) - Mat64::eye(m.min(n)))) < 1e-13);
        assert!(frobenius(&(v.t().dot(&v) - Mat64::eye(m.min(n)))) < 1e-13);
    }
}

#[test]
fn orthonormal_basis_ignores_scale_and_finds_the_rank() {
    let mut a = random(40, 3, 10);
    a.column_mut(1).mapv_inplace(|v| v * 1e-200);
    let dependent = ndarray::concatenate![ndarray::Axis(1), a, a.slice(s![.., ..1]), &a * 0.0];
    let q = orthonormal_basis(dependent.view()).unwrap();
    assert_eq!(q.dim(), (40, 3));
    let unit = random(40, 3, 10);
    let outside = &unit - &q.dot(&q.t().dot(&unit));
    assert!(frobenius(&outside) < 1e-13);
}

#[test]
fn canonical_signs_follow_the_cube_and_then_the_largest_value() {
    let psi = array![
        [-1.0, 1.0, -2.0, 0.0, 1e-200],
        [-1.0, 1.0, 0.0, 0.0, 0.0],
        [1.5, -1.5, 2.0, 0.0, -3e-200]
    ];
    assert_eq!(canonical_signs(psi.view()), [1.0, -1.0, -1.0, 1.0, -1.0]);
    assert_eq!(canonical_signs((-&psi).view()), [-1.0, 1.0, 1.0, 1.0, 1.0]);
}

fn check_partial(a: &Mat64, k: usize, tolerance: f64) -> PartialEigen {
    let found = top_eigh(a.view(), k).unwrap();
    let (all, _) = eigh(a.view()).unwrap();
    assert_eq!((found.values.len(), found.vectors.ncols()), (k, k));
    let unit = found.vectors.t().dot(&found.vectors) - Mat64::eye(k);
    assert!(frobenius(&unit) < 1e-12, "{:e}", frobenius(&unit));
    for j in 0..k {
        let error = (found.values[j] - all[j]).abs();
        assert!(error <= tolerance * all[0].abs(), "pair {j}: {error:e}");
        let v = found.vectors.slice(s![.., j..=j]);
        let residual = frobenius(&(a.dot(&v) - &v * found.values[j]));
        assert!(residual <= 1e-12 * all[0].abs(), "pair {j}: residual {residual:e}");
        if let Some(told) = found.residuals.get(j) {
            assert!((residual - told).abs() <= 1e-13 * all[0].abs());
        }
    }
    found
}

#[test]
fn top_eigh_agrees_with_the_dense_solver_on_smooth_and_rough_spectra() {
    let n = 400;
    check_partial(&rbf_gram(n, 1.0), 10, 1e-14);
    let brownian = Mat64::from_shape_fn((n, n), |(i, j)| (i.min(j) + 1) as f64 / (n * n) as f64);
    let found = check_partial(&brownian, 10, 1e-14);
    // Closed form for min(s, t) at s = i/n: 1/(4 n² sin²((2j−1)π/(4n+2))).
    for (j, value) in found.values.iter().enumerate() {
        let angle = (2 * j + 1) as f64 * std::f64::consts::PI / (4 * n + 2) as f64;
        let want = 1.0 / (4.0 * (n * n) as f64 * angle.sin().powi(2));
        assert!((value / want - 1.0).abs() < 1e-12, "pair {j}: {value:e} {want:e}");
    }
    let slow: Vec<f64> = (0..n).map(|i| 1.0 - i as f64 / n as f64).collect();
    check_partial(&with_spectrum(&slow, 2), 6, 1e-13);
}

#[test]
fn top_eigh_resolves_clusters_and_exact_multiplicities() {
    let n = 300;
    let mut spectrum: Vec<f64> = (0..n).map(|i| 0.5 * 0.97f64.powi(i as i32)).collect();
    for (i, v) in spectrum.iter_mut().take(9).enumerate() {
        *v = if i < 5 { 1.0 } else { 0.9 + 1e-11 * i as f64 };
    }
    spectrum.sort_by(|a, b| b.total_cmp(a));
    check_partial(&with_spectrum(&spectrum, 3), 9, 1e-13);
    check_partial(&with_spectrum(&spectrum, 3), 3, 1e-13);
    let identity = top_eigh(Mat64::eye(n).view(), 7).unwrap();
    assert!(identity.values.iter().all(|v| (v - 1.0).abs() < 1e-14));
}

#[test]
fn top_eigh_handles_rank_deficiency_and_nothing_at_all() {
    let n = 300;
    let v = random(n, 4, 4);
    let a = v.dot(&v.t());
    let found = check_partial(&a, 8, 1e-14);
    assert!(found.values[4..].iter().all(|v| v.abs() < 1e-13 * found.values[0]));
    let zero = top_eigh(Mat64::zeros((n, n)).view(), 3).unwrap();
    assert_eq!((zero.values, zero.residuals), (vec![0.0; 3], vec![0.0; 3]));
    assert_eq!(top_eigh(a.view(), 0).unwrap().values.len(), 0);
    assert_eq!(top_eigh(Mat64::zeros((0, 0)).view(), 3).unwrap().values.len(), 0);
    assert_eq!(top_eigh(Mat64::eye(3).view(), 9).unwrap().values.len(), 3);
}

#[test]
fn top_eigh_takes_the_largest_not_the_largest_in_magnitude() {
    let mut spectrum: Vec<f64> = (0..300).map(|i| 1.0 / (1.0 + i as f64)).collect();
    spectrum[299] = -20.0;
    let found = top_eigh(with_spectrum(&spectrum, 6).view(), 4).unwrap();
    for (j, value) in found.values.iter().enumerate() {
        assert!((value - 1.0 / (1.0 + j as f64)).abs() < 1e-13, "{value}");
    }
}

#[test]
fn the_operator_form_reports_what_goes_wrong() {
    let n = 300;
    let shape = top_eigh_operator(n, 3, |x| Ok(x.slice(s![1.., ..]).to_owned()));
    assert!(matches!(shape, Err(Error::Shape { .. })));
    let nan = top_eigh_operator(n, 3, |x| Ok(x.mapv(|_| f64::NAN)));
    assert!(matches!(nan, Err(Error::NonFinite { .. })));
    let skew = Mat64::from_shape_fn((n, n), |(i, j)| {
        if i + 1 == j {
            1.0
        } else if j + 1 == i {
            -1.0
        } else {
            0.0
        }
    });
    let skew = top_eigh_operator(n, 3, |x| Ok(skew.dot(&x)));
    assert!(matches!(skew, Err(Error::Numerical { .. })));
    let small = top_eigh_operator(5, 2, |x| Ok(x.to_owned() * 2.0)).unwrap();
    assert_eq!(small.values, [2.0, 2.0]);
}

#[test]
fn the_orthogonal_factor_leaves_a_triangle() {
    for n in [1, 2, 7, 40, 130] {
        for a in [random(n, n, n as u64), hilbert(n), Mat64::zeros((n, n)), Mat64::eye(n) * 2.0] {
            let q = orthogonal_factor(a.view()).unwrap();
            let bound = 8.0 * n as f64 * f64::EPSILON;
            let unit = q.t().dot(&q) - Mat64::eye(n);
            assert!(frobenius(&unit) <= bound, "{n}: {:e}", frobenius(&unit));
            let r = q.t().dot(&a);
            let below = norm2(r.indexed_iter().filter(|((i, j), _)| i > j).map(|(_, v)| *v));
            assert!(below <= bound * frobenius(&a), "{n}: {below:e}");
        }
    }
    assert!(orthogonal_factor(Mat64::zeros((2, 3)).view()).is_err());
    assert!(orthogonal_factor(array![[f64::NAN]].view()).is_err());
}

#[test]
fn the_orthogonal_factor_passes_over_no_weak_column() {
    // A step of orthogonal iteration on eigenvalues from 1 to 1e-8, from vectors that are a little off:
    // column j is what Gram and Schmidt make of it, twice, whatever its size.
    let n = 400;
    let values: Vec<f64> = (0..n).map(|i| 10f64.powf(-8.0 * i as f64 / (n - 1) as f64)).collect();
    let near = Mat64::eye(n) + random(n, n, 5) * (0.1 / (n as f64).sqrt());
    let a = Mat64::from_diag(&Array1::from(values)).dot(&near);
    let q = orthogonal_factor(a.view()).unwrap();
    let mut own = a.clone();
    for j in 0..n {
        for _ in 0..2 {
            let before = own.slice(s![.., ..j]).to_owned();
            let column = own.column(j).to_owned();
            let left = &column - &before.dot(&before.t().dot(&column));
            let norm = norm2(left.iter().copied());
            own.column_mut(j).assign(&(left / norm));
        }
        let along = own.column(j).dot(&q.column(j)).abs();
        assert!((along - 1.0).abs() < 1e-6, "column {j}: {along}");
    }
}
