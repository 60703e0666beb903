//! Funk–Hecke against closed forms, quadrature on the sphere, Mercer's sum and samples.

use super::*;
use crate::closed_form::PeriodicUniform;
use crate::data::synthesize;
use crate::matrix::Mat;

fn sample(n: usize, d: usize, seed: u64) -> Mat {
    let set = synthesize(&format!("sphere(n={n}, d={d}, seed={seed})"), 0).unwrap();
    set.range(0..n).unwrap()
}

#[test]
fn rbf_on_the_sphere_has_spherical_bessel_functions_for_eigenvalues() {
    for lengthscale in [0.5_f64, 1.0, 3.0] {
        let z = lengthscale.powi(-2);
        let known = SphereDotProduct::rbf(3, lengthscale).unwrap();
        // ½∫exp(−z(1 − t))dt, by hand.
        let first = (1.0 - (-2.0 * z).exp()) / (2.0 * z);
        assert!((known.levels()[0].0 / first - 1.0).abs() < 1e-14);
        // e^{−z} i_ℓ(z), i_ℓ(z) = z^ℓ Σ_m (z²/2)^m / (m! (2ℓ + 2m + 1)!!).
        for (l, level) in known.levels().iter().enumerate() {
            let mut term = (-z).exp();
            (0..l).for_each(|i| term *= z / (2 * i + 3) as f64);
            let mut sum = term;
            for m in 1..200 {
                term *= 0.5 * z * z / (m * (2 * l + 2 * m + 1)) as f64;
                sum += term;
            }
            assert_eq!((level.1, level.2), (l, 2 * l + 1));
            assert!((level.0 - sum).abs() < 4e-16, "ℓ {l}: {} {sum}", level.0);
        }
        let all = known.eigenvalues(MAX_HARMONICS).unwrap();
        assert_eq!(Some(all.len()), known.rank());
        assert!((all.iter().sum::<f64>() - known.trace()).abs() < 1e-12);
    }
}

#[test]
fn on_the_circle_it_is_the_periodic_kernel() {
    let known = SphereDotProduct::rbf(2, 0.7).unwrap();
    let periodic = PeriodicUniform::new(0.7, 1.0).unwrap();
    let (a, b) = (known.eigenvalues(21).unwrap(), periodic.eigenvalues(21).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-15), "{a:?} {b:?}");
    // cos nθ, sin nθ in the same order; angles of single-precision points.
    let turns = Mat::from_shape_fn((50, 1), |(i, _)| (i as f32 + 0.25) / 50.0);
    let x = Mat::from_shape_fn((50, 2), |(i, j)| {
        let angle = 2.0 * PI * f64::from(turns[(i, 0)]);
        if j == 0 { angle.cos() as f32 } else { angle.sin() as f32 }
    });
    let found = known.eigenfunctions(x.view(), 9).unwrap();
    let want = periodic.eigenfunctions(turns.view(), 9).unwrap();
    for (a, b) in found.iter().zip(&want) {
        assert!((a - b).abs() < 4.0 * SQRT_2 * 6e-8, "{a} {b}");
    }
}

#[test]
fn polynomials_have_the_rank_of_their_degree() {
    // (t + 1.5)² = t² + 3t + 9/4 in d dimensions: t² = 1/d + (d − 1)/d·P₂.
    for d in [2, 3, 6, 41] {
        let known = SphereDotProduct::polynomial(d, 2, 1.0, 1.5).unwrap();
        let n = d as f64;
        // λ_ℓ N(d, ℓ) is the coefficient of P_ℓ.
        for (l, coefficient) in [2.25 + 1.0 / n, 3.0, (n - 1.0) / n].into_iter().enumerate() {
            let level = known.levels().iter().find(|level| level.1 == l).unwrap();
            let value = level.0 * level.2 as f64;
            assert!((value / coefficient - 1.0).abs() < 2e-13, "d {d} ℓ {l}: {value}");
        }
        assert_eq!(known.rank(), Some(1 + d + (d - 1) * (d + 2) / 2));
    }
    // Only odd degrees: t³.
    let odd = SphereDotProduct::polynomial(3, 3, 1.0, 0.0).unwrap();
    assert_eq!(odd.levels().iter().map(|l| l.1).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn harmonics_are_orthonormal() {
    // On S²: Gauss–Legendre in the first coordinate and equal angles around it, exact for
    // polynomials of degree 2·9. Exact points, not single-precision ones.
    let (rule, around, top) = (GaussLegendre::new(12).unwrap(), 24, 9);
    let count = (top + 1) * (top + 1);
    let mut moments = Mat64::zeros((count, count));
    for (t, weight) in rule.nodes.iter().zip(&rule.weights) {
        for turn in 0..around {
            let angle = 2.0 * PI * (turn as f64 + 0.3) / around as f64;
            let r = (1.0 - t * t).sqrt();
            let y = harmonics_at(&[*t, r * angle.cos(), r * angle.sin()], top).concat();
            for i in 0..count {
                for j in 0..count {
                    moments[(i, j)] += 0.5 * weight / around as f64 * y[i] * y[j];
                }
            }
        }
    }
    moments -= &Mat64::eye(count);
    let worst = moments.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(worst < 2e-14, "{worst:e}");
    // At the poles, where angles have no meaning: Σ Y² over a degree is N(d, ℓ) everywhere.
    for x in [vec![1.0, 0.0, 0.0, 0.0], vec![0.0, 0.0, 0.0, -1.0], vec![0.5; 4]] {
        for (l, values) in harmonics_at(&x, 8).iter().enumerate() {
            let sum: f64 = values.iter().map(|v| v * v).sum();
            assert_eq!(values.len(), harmonics(4, l));
            assert!((sum / values.len() as f64 - 1.0).abs() < 1e-13, "ℓ {l}: {sum}");
        }
    }
}

#[test]
fn the_addition_theorem_and_mercer_hold_in_any_dimension() {
    for d in [2, 3, 4, 7] {
        let x = sample(12, d, 3);
        let wide = |i: usize| {
            let row: Vec<f64> = x.row(i).iter().map(|v| f64::from(*v)).collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / norm).collect::<Vec<_>>()
        };
        for (i, j) in [(0, 1), (2, 2), (5, 11)] {
            let t: f64 = wide(i).iter().zip(wide(j)).map(|(a, b)| a * b).sum();
            let (a, b) = (harmonics_at(&wide(i), 6), harmonics_at(&wide(j), 6));
            let (mut before, mut now) = (0.0, 1.0);
            for l in 0..=6 {
                // Σ Y(x)Y(y) over degree ℓ is N(d, ℓ) P_ℓ(xᵀy).
                let sum: f64 = a[l].iter().zip(&b[l]).map(|(a, b)| a * b).sum();
                let want = harmonics(d, l) as f64 * now;
                assert!((sum - want).abs() < 1e-14 * harmonics(d, l) as f64, "d {d} ℓ {l}");
                (before, now) = (now, next_legendre(d, l, t, now, before));
            }
        }
        // Whole levels up to a trace that is missing less than 1e-7.
        let known = SphereDotProduct::rbf(d, 1.5).unwrap();
        let (mut k, mut left) = (0, known.trace());
        for level in known.levels() {
            if left < 1e-7 {
                break;
            }
            (k, left) = (k + level.2, left - level.0 * level.2 as f64);
        }
        let (mu, psi) = (known.eigenvalues(k).unwrap(), known.eigenfunctions(x.view(), k).unwrap());
        let kernel = "rbf(lengthscale=1.5)".parse::<crate::KernelSpec>().unwrap();
        let mut gram = Mat64::zeros((12, 12));
        kernel.resolve(None, 0).unwrap().gram(x.view(), x.view(), gram.view_mut()).unwrap();
        for ((i, j), value) in gram.indexed_iter() {
            let sum: f64 = (0..k).map(|c| mu[c] * psi[(i, c)] * psi[(j, c)]).sum();
            assert!((sum - value).abs() < 5e-7, "d {d}: {sum} {value}");
        }
    }
}

#[test]
fn a_large_sample_has_these_eigenpairs() {
    for d in [3, 5] {
        let n = 2500;
        let x = sample(n, d, 8);
        let kernel = "rbf(lengthscale=1)".parse::<crate::KernelSpec>().unwrap();
        let kernel = kernel.resolve(None, 0).unwrap();
        let known = SphereDotProduct::rbf(d, 1.0).unwrap();
        let k = 1 + d;
        let fitted = crate::method::Nystrom::fit(kernel, x.clone(), k).unwrap();
        let found = crate::FeatureMap::eigenvalues(&fitted).unwrap().to_vec();
        let (want, psi) =
            (known.eigenvalues(k).unwrap(), known.eigenfunctions(x.view(), k).unwrap());
        // Split by the sample within a level: by its block of (1/n)Σψψᵀ, entry errors sd/√n.
        for block in [0..1, 1..k] {
            let mut variance = 0.0;
            for i in block.clone() {
                for j in block.clone() {
                    variance += (&psi.column(i) * &psi.column(j)).var(1.0) / n as f64;
                }
            }
            for j in block.clone() {
                let error = (found[j] / want[j] - 1.0).abs();
                assert!(error < 3.0 * variance.sqrt().max(1.0 / n as f64), "d {d}: {j} {error}");
            }
        }
    }
}

#[test]
fn bad_requests_are_named() {
    let one = |_: f64| 1.0;
    for (d, degrees) in [(1, 3), (0, 3), (5000, 3), (3, 0), (3, 1000)] {
        assert!(matches!(
            SphereDotProduct::new(d, degrees, one),
            Err(Error::InvalidParameter { .. })
        ));
    }
    assert!(matches!(SphereDotProduct::new(3, 5, |t| 1.0 / (t - t)), Err(Error::Numerical { .. })));
    assert!(matches!(SphereDotProduct::new(3, 5, |_| -1.0), Err(Error::Numerical { .. })));
    for lengthscale in [0.0, -1.0, f64::NAN, 0.01] {
        assert!(SphereDotProduct::rbf(3, lengthscale).is_err());
    }
    assert!(SphereDotProduct::polynomial(3, 0, 1.0, 1.0).is_err());
    assert!(SphereDotProduct::polynomial(3, 2, -1.0, 1.0).is_err());
    assert!(SphereDotProduct::polynomial(3, 2, 1.0, -1.0).is_err());
    assert_eq!(SphereDotProduct::new(3, 5, one).unwrap().rank(), Some(1));
    let known = SphereDotProduct::rbf(3, 1.0).unwrap();
    let off = Mat::from_elem((2, 3), 0.6);
    let error = known.eigenfunctions(off.view(), 2).unwrap_err().to_string();
    assert!(error.contains("unit sphere") && error.contains("row 0"), "{error}");
    assert!(matches!(known.eigenfunctions(Mat::zeros((2, 2)).view(), 2), Err(Error::Shape { .. })));
    assert_eq!(known.eigenfunctions(Mat::zeros((0, 3)).view(), 4).unwrap().dim(), (0, 4));
    assert!(known.eigenvalues(usize::MAX).is_err());
    // Counts in many dimensions are exact or saturate, and too many functions are refused.
    assert_eq!((harmonics(1000, 2), harmonics(1000, 200)), (999 * 1002 / 2, usize::MAX));
    let wide = SphereDotProduct::rbf(1000, 3.0).unwrap();
    assert_eq!(wide.eigenvalues(1001).unwrap().len(), 1001);
    let pole = Mat::from_shape_fn((1, 1000), |(_, j)| if j == 0 { 1.0 } else { 0.0 });
    assert_eq!(wide.eigenfunctions(pole.view(), 1001).unwrap().ncols(), 1001);
    let many = 1 + 1000 + harmonics(1000, 2) + 1;
    assert!(matches!(wide.eigenfunctions(pole.view(), many), Err(Error::Unsupported { .. })));
}
