//! Nyström against the dense decomposition, its own other precision, and closed forms.

use super::*;
use crate::linalg::eigh;
use crate::method::landmarks;
use crate::test_kernels::{Formula, polynomial, rbf};
use rand::Rng as _;

fn points(n: usize, d: usize, seed: u64) -> Mat {
    let mut rng = crate::rng::stream(seed, "nystrom tests", 0);
    Mat::from_shape_simple_fn((n, d), || {
        (rng.next_u64() as i64 as f64 / 2f64.powi(63) * 2.0) as f32
    })
}

fn max_difference(a: &Mat64, b: &Mat64) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn with_all_data_as_landmarks_it_is_the_eigendecomposition_of_the_gram_matrix() {
    for (n, d) in [(150, 1), (400, 3)] {
        let x = points(n, d, 1);
        let kernel: Arc<dyn Kernel> = Arc::new(rbf(0.7));
        let k = 6;
        let fitted = Nystrom::fit(kernel.clone(), x.clone(), k).unwrap();
        let (values, vectors) =
            eigh(symmetric_gram(&*kernel, x.view().into()).unwrap().view()).unwrap();
        let psi = fitted.eigenfunctions(x.view()).unwrap();
        let exact = &vectors.slice(s![.., ..k]) * (n as f64).sqrt();
        let signs = canonical_signs(exact.view());
        let exact = Mat64::from_shape_fn((n, k), |(i, j)| exact[(i, j)] * signs[j]);
        for (mu, lambda) in fitted.eigenvalues().unwrap().iter().zip(&values) {
            assert!((mu * n as f64 / lambda - 1.0).abs() < 1e-12, "{mu} {lambda}");
        }
        let error = max_difference(&psi, &exact);
        assert!(error < 1e-9, "n = {n}: {error:e}");
        assert_eq!((fitted.inputs(), fitted.components(), fitted.dropped()), (d, k, 0));
    }
}

#[test]
fn features_of_a_finite_rank_kernel_reproduce_it_everywhere() {
    // (1.5 + xᵀy)² in 2-D has rank 6: Nyström on 40 points is exact at all other points too.
    let kernel: Arc<dyn Kernel> = Arc::new(polynomial(2, 1.0, 1.5));
    let fitted = Nystrom::fit(kernel.clone(), points(40, 2, 2), 12).unwrap();
    assert_eq!((fitted.components(), fitted.dropped()), (6, 6));
    let x = points(300, 2, 3);
    let phi = fitted.transform(x.view()).unwrap().mapv(f64::from);
    let exact = symmetric_gram(&*kernel, x.view().into()).unwrap();
    assert!(max_difference(&phi.dot(&phi.t()), &exact) < 3e-4 * 90.25);
    let double = fitted.with_precision(Precision::Double);
    let phi = double.transform(x.view()).unwrap().mapv(f64::from);
    assert!(max_difference(&phi.dot(&phi.t()), &exact) < 3e-7 * 90.25);
}

#[test]
fn single_precision_is_chosen_only_where_it_is_harmless() {
    let x = points(500, 2, 5);
    for (components, expected) in [(4, Precision::Single), (60, Precision::Double)] {
        let fitted = Nystrom::fit(Arc::new(rbf(1.0)), points(300, 2, 4), components).unwrap();
        assert_eq!(fitted.precision(), expected, "{:e}", fitted.single_precision_error());
        let exact = fitted.eigenfunctions(x.view()).unwrap();
        let roots =
            ndarray::Array1::from_iter(fitted.eigenvalues().unwrap().iter().map(|m| m.sqrt()));
        let psi_of = |map: &Nystrom| map.transform(x.view()).unwrap().mapv(f64::from) / &roots;
        let error = max_difference(&psi_of(&fitted), &exact);
        assert!(error < 1e-4, "{expected:?}: {error:e}");
        // The a-priori bound ε·max κ/μ_k of the documentation, with ε for a few roundings.
        let single = fitted.clone().with_precision(Precision::Single);
        let bound = 8.0 * f64::from(f32::EPSILON) / fitted.eigenvalues().unwrap()[components - 1];
        let error = max_difference(&psi_of(&single), &exact);
        assert!(error < bound, "{error:e} {bound:e}");
        if expected == Precision::Double {
            assert!(error > SINGLE_LIMIT, "double precision was not needed: {error:e}");
        }
    }
}

#[test]
fn a_row_has_the_same_features_in_any_company_and_on_any_number_of_threads() {
    let x = points(1000, 3, 6);
    let fitted = Nystrom::fit(Arc::new(rbf(1.5)), points(300, 3, 7), 9).unwrap();
    for precision in [Precision::Single, Precision::Double] {
        let map = fitted.clone().with_precision(precision);
        let whole = map.transform(x.view()).unwrap();
        for (from, to) in [(0, 1), (127, 129), (500, 999)] {
            let part = map.transform(x.slice(s![from..to, ..])).unwrap();
            assert_eq!(part, whole.slice(s![from..to, ..]));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| map.transform(x.view()).unwrap()), whole);
        assert_eq!(map.transform(x.slice(s![..0, ..])).unwrap().dim(), (0, 9));
    }
}

#[test]
fn brownian_motion_gives_its_closed_form() {
    // Midpoints of [0, 1] as landmarks: a quadrature with error O(j²/m²).
    let m = 400;
    let x = Mat::from_shape_fn((m, 1), |(i, _)| (i as f32 + 0.5) / m as f32);
    let kernel = Formula::new("brownian", |x, y| x[0].min(y[0]));
    let fitted = Nystrom::fit(Arc::new(kernel), x, 5).unwrap();
    let at = points(50, 1, 8).mapv(|v| (v / 4.0).abs());
    let psi = fitted.eigenfunctions(at.view()).unwrap();
    for j in 0..5 {
        let omega = (j as f64 + 0.5) * std::f64::consts::PI;
        let mu = fitted.eigenvalues().unwrap()[j];
        assert!((mu * omega * omega - 1.0).abs() < 2e-4, "{j}: {mu}");
        for (i, t) in at.iter().enumerate() {
            let want = 2f64.sqrt() * (omega * f64::from(*t)).sin();
            let found = psi[(i, j)];
            assert!((found - want).abs() < 2e-3 || (found + want).abs() < 2e-3, "{found} {want}");
        }
    }
}

#[test]
fn weights_undo_the_bias_of_kmeans_plus_plus() {
    // Nine tenths of the data in a small cluster: spread-out landmarks alone get μ₁ wrong.
    let (kernel, mut x): (Arc<dyn Kernel>, _) = (Arc::new(rbf(0.5)), points(2000, 2, 9));
    x.slice_mut(s![..1800, ..]).mapv_inplace(|v| 0.2 * v);
    let exact = Nystrom::fit(kernel.clone(), x.clone(), 3).unwrap();
    let chosen = landmarks::kmeans_plus_plus(x.view(), 200, 1).unwrap();
    let rows = chosen.select(x.view()).unwrap();
    let weighted = Nystrom::fit_weighted(kernel.clone(), rows.clone(), &chosen.weights, 3).unwrap();
    let plain = Nystrom::fit(kernel, rows, 3).unwrap();
    let error = |n: &Nystrom| {
        let pairs = n.eigenvalues().unwrap().iter().zip(exact.eigenvalues().unwrap());
        pairs.map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
    };
    assert!(error(&weighted) < 0.02, "{}", error(&weighted));
    assert!(error(&plain) > 0.2, "{}", error(&plain));
}

#[test]
fn parts_make_the_same_map_again() {
    let fitted = Nystrom::fit(Arc::new(rbf(1.0)), points(60, 2, 10), 5).unwrap();
    let again = Nystrom::from_parts(
        fitted.kernel().clone(),
        fitted.landmarks().to_owned(),
        fitted.projection().clone(),
        fitted.eigenvalues().unwrap().to_vec(),
    )
    .unwrap();
    let x = points(20, 2, 11);
    assert_eq!(again.transform(x.view()).unwrap(), fitted.transform(x.view()).unwrap());
    assert_eq!(again.precision(), fitted.precision());
    let cubes = fitted.eigenfunctions(fitted.landmarks()).unwrap();
    for column in cubes.columns() {
        assert!(column.iter().map(|v| v.powi(3)).sum::<f64>() >= -1e-6);
    }
}

#[test]
fn bad_input_is_named() {
    let kernel = || -> Arc<dyn Kernel> { Arc::new(rbf(1.0)) };
    let x = points(10, 2, 12);
    for k in [0, 11] {
        assert!(matches!(
            Nystrom::fit(kernel(), x.clone(), k),
            Err(Error::InvalidParameter { .. })
        ));
    }
    assert!(Nystrom::fit(kernel(), Mat::zeros((0, 2)), 1).is_err());
    assert!(Nystrom::fit(kernel(), Mat::zeros((40_000, 1)), 1).is_err());
    let mut bad = x.clone();
    bad[(3, 1)] = f32::NAN;
    let error = Nystrom::fit(kernel(), bad.clone(), 2).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 3, column: 1, .. }), "{error}");
    let fitted = Nystrom::fit(kernel(), x.clone(), 2).unwrap();
    assert!(matches!(fitted.transform(bad.view()), Err(Error::NonFinite { .. })));
    assert!(matches!(fitted.transform(points(3, 1, 0).view()), Err(Error::Shape { .. })));
    // No columns at all: every point is the same one, and the rank is 1.
    let point = Nystrom::fit(kernel(), Mat::zeros((10, 0)), 3).unwrap();
    assert_eq!((point.components(), point.dropped()), (1, 2));
    assert_eq!(point.transform(Mat::zeros((2, 0)).view()).unwrap(), Mat::ones((2, 1)));
    let zero = Arc::new(Formula::new("zero", |_, _| 0.0));
    assert!(matches!(Nystrom::fit(zero, x.clone(), 2), Err(Error::Numerical { .. })));
    let wild = Arc::new(Formula::new("wild", |_, _| f64::NAN));
    assert!(matches!(Nystrom::fit(wild, x.clone(), 2), Err(Error::NonFinite { .. })));
    for weights in [vec![0.1; 9], vec![0.0; 10], vec![f64::NAN; 10]] {
        assert!(Nystrom::fit_weighted(kernel(), x.clone(), &weights, 2).is_err());
    }
    let parts = |p: Mat64, e: Vec<f64>| Nystrom::from_parts(kernel(), x.clone(), p, e);
    assert!(parts(Mat64::zeros((10, 2)), vec![1.0]).is_err());
    assert!(parts(Mat64::zeros((10, 2)), vec![1.0, 2.0]).is_err());
    assert!(parts(Mat64::zeros((10, 1)), vec![0.0]).is_err());
    assert!(parts(Mat64::zeros((10, 0)), vec![]).is_err());
    assert!(parts(Mat64::from_elem((10, 1), f64::INFINITY), vec![1.0]).is_err());
}
