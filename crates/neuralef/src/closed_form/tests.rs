//! The oracles against one another, and against E[ψ_i ψ_j] = δ_ij and Σμ = E κ(x, x).

use std::sync::Arc;

use super::*;
use crate::kernel::Kernel;
use crate::matrix::Mat;
use crate::metrics::{compare_eigenfunctions, cosines};
use crate::test_kernels::{Formula, polynomial, rbf};
use ndarray::s;

/// E[ψ_i ψ_j] by a fine rule of its own: the midpoint rule, exact to rounding for trigonometric
/// and (on a wide interval) Gaussian integrands, and the largest deviation from δ_ij.
fn orthonormality(
    known: &dyn KnownSpectrum,
    a: f64,
    b: f64,
    k: usize,
    density: fn(f64) -> f64,
) -> f64 {
    let n = 4096;
    let at = |i: usize| a + (b - a) * (i as f64 + 0.5) / n as f64;
    let x = Mat::from_shape_fn((n, 1), |(i, _)| at(i) as f32);
    let psi = known.eigenfunctions(x.view(), k).unwrap();
    let weights: Vec<f64> = (0..n).map(|i| density(f64::from(x[(i, 0)]))).collect();
    let total: f64 = weights.iter().sum();
    let mut worst = 0.0_f64;
    for i in 0..k {
        for j in 0..=i {
            let mean: f64 = (0..n).map(|r| psi[(r, i)] * psi[(r, j)] * weights[r] / total).sum();
            worst = worst.max((mean - f64::from(u8::from(i == j))).abs());
        }
    }
    worst
}

/// Eigenvalues to `relative` of the largest; functions at `x` as clusters to `angle`.
fn assert_same(
    a: &dyn KnownSpectrum,
    b: &dyn KnownSpectrum,
    x: &Mat,
    k: usize,
    tolerance: (f64, f64),
) {
    let (ea, eb) = (a.eigenvalues(k + 1).unwrap(), b.eigenvalues(k + 1).unwrap());
    for (j, (p, q)) in ea.iter().zip(&eb).enumerate().take(k) {
        assert!((p - q).abs() <= tolerance.0 * eb[0], "μ_{j}: {p:e} {q:e}");
    }
    let (pa, pb) =
        (a.eigenfunctions(x.view(), k).unwrap(), b.eigenfunctions(x.view(), eb.len()).unwrap());
    let found = compare_eigenfunctions(pa.view(), pb.view(), &eb, 0.01).unwrap();
    for (j, c) in found.subspace_cosines.iter().enumerate() {
        assert!(1.0 - c <= tolerance.1, "ψ_{j}: 1 − |cos| = {:e}", 1.0 - c);
    }
}

fn line(a: f32, b: f32, n: usize) -> Mat {
    Mat::from_shape_fn((n, 1), |(i, _)| a + (b - a) * (i as f32 + 0.3) / n as f32)
}

#[test]
fn gauss_legendre_integrates_polynomials_exactly() {
    for n in [1, 2, 3, 10, 64, 301] {
        let rule = GaussLegendre::new(n).unwrap();
        assert!(rule.nodes.is_sorted_by(|a, b| a < b));
        for p in (0..2 * n as i32).step_by((n / 4).max(1)) {
            let sum: f64 = rule.nodes.iter().zip(&rule.weights).map(|(x, w)| w * x.powi(p)).sum();
            let exact = if p % 2 == 0 { 2.0 / f64::from(p + 1) } else { 0.0 };
            assert!((sum - exact).abs() < 5e-15, "n {n}, degree {p}: {sum} {exact}");
        }
    }
    assert!(GaussLegendre::new(0).is_err() && GaussLegendre::new(5000).is_err());
}

#[test]
fn rbf_under_a_gaussian_agrees_with_quadrature() {
    for (lengthscale, mean, sd) in [(1.0, 0.0, 1.0), (0.6, 0.7, 0.5), (2.0, -3.0, 1.5)] {
        let known = RbfGaussian::new(lengthscale, &[mean], &[sd]).unwrap();
        let kernel: Arc<dyn Kernel> = Arc::new(rbf(lengthscale));
        let rule = Quadrature::gaussian(kernel, mean, sd, 200, 14).unwrap();
        let x = line((mean - 3.0 * sd) as f32, (mean + 3.0 * sd) as f32, 101);
        assert_same(&rule, &known, &x, 10, (1e-13, 1e-10));
        let (psi, want) =
            (rule.eigenfunctions(x.view(), 4).unwrap(), known.eigenfunctions(x.view(), 4).unwrap());
        for ((row, column), v) in psi.indexed_iter() {
            let sign = psi[(40, column)] * want[(40, column)];
            assert!((v * sign.signum() - want[(row, column)]).abs() < 1e-10);
        }
        assert!((rule.trace() - 1.0).abs() < 1e-14);
        assert!((known.eigenvalues(200).unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let standard = RbfGaussian::isotropic(1.0, 1.0, 1).unwrap();
    let error = orthonormality(&standard, -12.0, 12.0, 20, |x| (-0.5 * x * x).exp());
    assert!(error < 1e-11, "{error:e}");
}

#[test]
fn rbf_products_in_two_dimensions_come_in_order_with_their_degeneracies() {
    let known = RbfGaussian::isotropic(1.0, 1.0, 2).unwrap();
    let orders = known.orders(6);
    assert_eq!(orders, [[0, 0], [0, 1], [1, 0], [0, 2], [1, 1], [2, 0]]);
    let values = known.eigenvalues(10).unwrap();
    for level in [1..3, 3..6, 6..10] {
        let first = values[level.start];
        assert!(values[level].iter().all(|v| (v / first - 1.0).abs() < 1e-14));
    }
    // (2d eigenvalue) = (1d eigenvalue)².
    let one = RbfGaussian::isotropic(1.0, 1.0, 1).unwrap().eigenvalues(1).unwrap()[0];
    assert!((values[0] - one * one).abs() < 1e-15);
    // Against a product rule on a 40 × 40 grid with the Gaussian density.
    let rule = GaussLegendre::new(40).unwrap();
    let at = |i: usize| (7.0 * rule.nodes[i]) as f32;
    let nodes = Mat::from_shape_fn((1600, 2), |(i, d)| at(if d == 0 { i / 40 } else { i % 40 }));
    let density = |i: usize| rule.weights[i] * (-0.5 * f64::from(at(i)).powi(2)).exp();
    let mut weights: Vec<f64> = (0..1600).map(|i| density(i / 40) * density(i % 40)).collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);
    let numeric = Quadrature::from_rule(Arc::new(rbf(1.0)), nodes, &weights, 10).unwrap();
    let x = Mat::from_shape_fn((200, 2), |(i, d)| ((i * (7 + 4 * d)) % 41) as f32 / 10.0 - 2.0);
    // The nodes of this rule are rounded to single precision without new weights: 1e-7, not 1e-13.
    assert_same(&numeric, &known, &x, 6, (1e-7, 1e-9));
    // Unequal axes: the wider one (slower decay) is counted up first.
    let unequal = RbfGaussian::new(1.0, &[0.0, 1.0, 0.0], &[0.1, 3.0, 0.1]).unwrap();
    assert_eq!(unequal.orders(3), [[0, 0, 0], [0, 1, 0], [0, 2, 0]]);
    assert!(unequal.eigenvalues(50).unwrap().is_sorted_by(|a, b| a >= b));
}

#[test]
fn polynomial_has_finite_rank_and_agrees_with_quadrature() {
    for (degree, gamma, coef0, a, b) in
        [(4, 1.0, 1.5, -1.0, 1.0), (3, 0.5, 1.0, 0.0, 2.0), (1, 2.0, 0.3, -1.0, 3.0)]
    {
        let known = PolynomialUniform::new(degree, gamma, coef0, a, b).unwrap();
        let rank = degree as usize + 1;
        assert_eq!(known.rank(), Some(rank));
        let kernel: Arc<dyn Kernel> = Arc::new(polynomial(degree as i32, gamma, coef0));
        let rule = Quadrature::uniform(kernel, a, b, 40, 10).unwrap();
        assert_eq!(rule.rank(), Some(rank));
        let x = line(a as f32, b as f32, 57);
        assert_same(&rule, &known, &x, rank, (1e-14, 1e-11));
        assert!((known.trace() / rule.trace() - 1.0).abs() < 1e-14);
        assert_eq!(known.eigenfunctions(x.view(), 10).unwrap().ncols(), rank);
    }
    assert_eq!(PolynomialUniform::new(3, 1.0, 0.0, -1.0, 1.0).unwrap().rank(), Some(1));
    // Degree 1 on U[−1, 1], by hand: φ = (√c, √γ x), E[φφᵀ] = diag(c, γ/3).
    let line = PolynomialUniform::new(1, 3.0, 0.25, -1.0, 1.0).unwrap().eigenvalues(9).unwrap();
    assert!((line[0] - 1.0).abs() < 1e-15 && (line[1] - 0.25).abs() < 1e-15);
}

#[test]
fn periodic_agrees_with_quadrature_and_fourier() {
    for (lengthscale, period) in [(1.0, 1.0), (0.5, 3.0), (3.0, 0.2)] {
        let known = PeriodicUniform::new(lengthscale, period).unwrap();
        let kernel: Arc<dyn Kernel> = Arc::new(Formula::new("periodic", move |x, y| {
            let s = (std::f64::consts::PI * (x[0] - y[0]) / period).sin();
            (-2.0 * (s / lengthscale).powi(2)).exp()
        }));
        let x = line(0.0, period as f32, 83);
        // Over a whole period starting anywhere.
        let rule = Quadrature::uniform(kernel, -0.3 * period, 0.7 * period, 120, 8).unwrap();
        assert_same(&rule, &known, &x, 7, (1e-13, 1e-9));
        assert!((known.eigenvalues(400).unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-13);
    }
    let unit = PeriodicUniform::new(1.0, 1.0).unwrap();
    let error = orthonormality(&unit, 0.0, 1.0, 15, |_| 1.0);
    assert!(error < 1e-13, "{error:e}");
}

#[test]
fn brownian_agrees_with_its_trace_and_its_equation() {
    let known = BrownianUniform::new(2.0).unwrap();
    let error = orthonormality(&known, 0.0, 2.0, 12, |_| 1.0);
    assert!(error < 1e-7, "{error:e}");
    // The tail of Σ T/((j − ½)²π²) beyond k is T/(π²k) to leading order.
    let k = 100_000;
    let sum: f64 = known.eigenvalues(k).unwrap().iter().rev().sum();
    let tail = 2.0 / (std::f64::consts::PI.powi(2) * k as f64);
    assert!((sum + tail - known.trace()).abs() < 1e-14);
    let kernel: Arc<dyn Kernel> = Arc::new(Formula::new("brownian", |x, y| x[0].min(y[0])));
    let rule = Quadrature::uniform(kernel, 0.0, 2.0, 200, 6).unwrap();
    let x = line(0.0, 2.0, 50);
    assert_same(&rule, &known, &x, 5, (1e-4, 1e-6));
    assert!((rule.trace() - 1.0).abs() < 1e-14);
}

#[test]
fn quadrature_converges_for_the_rbf_on_an_interval() {
    let kernel: Arc<dyn Kernel> = Arc::new(rbf(1.0));
    let coarse = Quadrature::uniform(kernel.clone(), -2.0, 2.0, 40, 11).unwrap();
    let fine = Quadrature::uniform(kernel.clone(), -2.0, 2.0, 300, 11).unwrap();
    let x = line(-2.0, 2.0, 99);
    assert_same(&coarse, &fine, &x, 10, (1e-14, 1e-10));
    let psi = fine.eigenfunctions(x.view(), 10).unwrap();
    let c = cosines(psi.view(), coarse.eigenfunctions(x.view(), 10).unwrap().view()).unwrap();
    assert!(c.iter().all(|c| 1.0 - c < 1e-10), "{c:?}");
    let error = orthonormality(&fine, -2.0, 2.0, 6, |_| 1.0);
    assert!(error < 1e-5, "{error:e}");
    // Five hundred nodes in an interval of a few hundred single-precision numbers.
    let narrow = Quadrature::uniform(kernel, 1000.0, 1000.01, 500, 2);
    assert!(matches!(narrow, Err(Error::Numerical { .. })), "{narrow:?}");
}

#[test]
fn bad_parameters_and_points_are_errors() {
    assert!(BrownianUniform::new(0.0).is_err() && BrownianUniform::new(f64::NAN).is_err());
    assert!(PeriodicUniform::new(1e-9, 1.0).is_err() && PeriodicUniform::new(1.0, -1.0).is_err());
    assert!(PolynomialUniform::new(0, 1.0, 1.0, 0.0, 1.0).is_err());
    assert!(PolynomialUniform::new(2, 1.0, -1.0, 0.0, 1.0).is_err());
    assert!(PolynomialUniform::new(2, 1.0, 1.0, 1.0, 1.0).is_err());
    assert!(PolynomialUniform::new(64, 1e300, 1.0, 0.0, 1.0).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
        assert!(RbfGaussian::new(bad, &[0.0], &[1.0]).is_err(), "{bad}");
        assert!(RbfGaussian::new(1.0, &[0.0], &[bad]).is_err(), "{bad}");
    }
    assert!(RbfGaussian::new(1.0, &[], &[]).is_err());
    assert!(RbfGaussian::new(1.0, &[f64::NAN], &[1.0]).is_err());
    let known = RbfGaussian::isotropic(1.0, 1.0, 2).unwrap();
    assert!(known.eigenfunctions(line(0.0, 1.0, 3).view(), 2).is_err());
    let nan = Mat::from_elem((1, 2), f32::NAN);
    assert!(known.eigenfunctions(nan.view(), 2).is_err());
    let far = Mat::from_elem((1, 2), f32::MAX);
    let at_infinity = known.eigenfunctions(far.view(), 30);
    assert!(at_infinity.is_err() || at_infinity.is_ok_and(|v| v.iter().all(|v| v.is_finite())));
    assert_eq!(known.eigenfunctions(nan.slice(s![..0, ..]), 2).unwrap().dim(), (0, 2));
    assert_eq!(known.eigenvalues(0).unwrap().len(), 0);
    assert!(known.eigenvalues(usize::MAX).is_err());
    assert!(known.eigenfunctions(nan.slice(s![..0, ..]), usize::MAX).is_err());
    let poly = PolynomialUniform::new(64, 1.0, 1.0, -1.0, 1.0).unwrap();
    assert!(poly.eigenfunctions(Mat::from_elem((1, 1), f32::MAX).view(), 3).is_err());
    let kernel: Arc<dyn Kernel> = Arc::new(rbf(1.0));
    assert!(Quadrature::uniform(kernel.clone(), 1.0, 0.0, 10, 2).is_err());
    assert!(Quadrature::uniform(kernel.clone(), 0.0, 1.0, 10, 11).is_err());
    assert!(Quadrature::with_density(kernel, 0.0, 1.0, 10, 2, |x| x - 0.5).is_err());
}
