//! Dot-product kernels on the unit sphere: the Funk–Hecke formula and spherical harmonics.

use std::f64::consts::{PI, SQRT_2};

use super::{GaussLegendre, KnownSpectrum, check_pairs, check_points, positive};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, MatRef};

/// Nodes of the quadrature over t = xᵀy.
const NODES: usize = 1024;
/// Largest dimension: beyond it the weight (1 − t²)^{(d−3)/2} is too narrow for the nodes.
const MAX_DIMENSION: usize = 1024;
/// Most degrees computed.
const MAX_DEGREES: usize = 256;
/// Most harmonics evaluated at a point.
const MAX_HARMONICS: usize = 1 << 20;
/// How far from 1 the norm of a point may be: single precision and some more.
const OFF_SPHERE: f64 = 1e-5;

/// κ(x, y) = f(xᵀy) under the uniform measure on the unit sphere S^{d−1} of ℝ^d, d ≥ 2. On it
/// ‖x − y‖² = 2 − 2xᵀy, so stationary kernels are among these.
///
/// The eigenfunctions are the spherical harmonics and all those of degree ℓ have the same
/// eigenvalue, by the Funk–Hecke formula (Müller 1966; Atkinson & Han 2012, theorem 2.22)
/// λ_ℓ = ω ∫ f(t) P_ℓ(t) (1 − t²)^{(d−3)/2} dt over [−1, 1], with P_ℓ the Legendre polynomial of
/// dimension d, P_ℓ(1) = 1, and ω such that f = 1 gives λ_0 = 1. Their number is
/// N(d, ℓ) = C(ℓ + d − 1, d − 1) − C(ℓ + d − 3, d − 1). The integral is a Gauss rule: Legendre for
/// odd d and Chebyshev for even d, where the rest of the weight is a polynomial; with 1,024 nodes
/// it is exact to rounding for analytic f, so λ_ℓ has an error of about ε·Σ|f|, and degrees below
/// that level are left out. f with a kink at t = ±1 (laplacian, Matérn) has errors like 1/nodes².
///
/// Harmonics are built coordinate by coordinate: with x = (t, ρ), Y = p(t)·H(ρ) with H a harmonic
/// of degree m of the other coordinates (a homogeneous polynomial, so that poles are no exception)
/// and p the orthonormal Gegenbauer polynomial of degree ℓ − m for the weight that is left. They are
/// real, E Y_iY_j = δ_ij, and come by descending eigenvalue, within a degree by ascending m; for
/// d = 2 they are 1, √2 cos, √2 sin, √2 cos 2θ, … A point costs as many multiplications as there are
/// harmonics up to the largest degree that is needed, and d times that.
#[derive(Debug, Clone)]
pub struct SphereDotProduct {
    d: usize,
    trace: f64,
    /// (λ, ℓ, N(d, ℓ)), by descending λ.
    levels: Vec<(f64, usize, usize)>,
}

impl SphereDotProduct {
    /// For f on [−1, 1], d from 2 to 1024, with the degrees below `degrees` (1 to 256).
    ///
    /// Levels that are not positive above the rounding error are left out:
    /// [`rank`](KnownSpectrum::rank) counts the functions of those that are kept.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when d or `degrees` are out of range, [`Error::Numerical`] when
    /// f is not finite at a node, or nothing is positive.
    pub fn new(d: usize, degrees: usize, f: impl Fn(f64) -> f64) -> Result<Self> {
        if !(2..=MAX_DIMENSION).contains(&d) {
            return Err(Error::parameter("d", format!("2 to {MAX_DIMENSION}"), d));
        }
        if !(1..=MAX_DEGREES).contains(&degrees) {
            return Err(Error::parameter("degrees", format!("1 to {MAX_DEGREES}"), degrees));
        }
        let what = || "dot-product kernel on the sphere".to_string();
        let rule = rule(d)?;
        let mut sums = vec![0.0; degrees];
        let mut size = 0.0;
        for (t, weight) in rule {
            let value = f(t) * weight;
            if !value.is_finite() {
                let message = format!("its value at xᵀy = {t} is not finite");
                return Err(Error::Numerical { what: what(), message });
            }
            size += value.abs();
            let (mut before, mut now) = (0.0, 1.0);
            for (l, sum) in sums.iter_mut().enumerate() {
                *sum += value * now;
                (before, now) = (now, next_legendre(d, l, t, now, before));
            }
        }
        let floor = 16.0 * f64::EPSILON * size;
        let mut levels: Vec<_> = sums
            .into_iter()
            .enumerate()
            .filter(|(_, value)| *value > floor)
            .map(|(l, value)| (value, l, harmonics(d, l)))
            .collect();
        levels.sort_by(|a, b| b.0.total_cmp(&a.0));
        let trace = f(1.0);
        if levels.is_empty() || !trace.is_finite() {
            let message = format!("no positive eigenvalue below degree {degrees}, trace {trace}");
            return Err(Error::Numerical { what: what(), message });
        }
        Ok(SphereDotProduct { d, trace, levels })
    }

    /// `rbf(lengthscale=ℓ)`: f(t) = exp(−(1 − t)/ℓ²).
    ///
    /// # Errors
    /// As [`new`](SphereDotProduct::new), and unless 0.1 ≤ ℓ: narrower ones need more degrees.
    pub fn rbf(d: usize, lengthscale: f64) -> Result<Self> {
        positive("lengthscale", lengthscale)?;
        if lengthscale < 0.1 {
            return Err(Error::parameter("lengthscale", "at least 0.1 on the sphere", lengthscale));
        }
        Self::new(d, MAX_DEGREES, |t| ((t - 1.0) / lengthscale.powi(2)).exp())
    }

    /// `polynomial(degree=p, gamma=γ, coef0=c)`: f(t) = (γt + c)^p, of degree p in t.
    ///
    /// # Errors
    /// As [`new`](SphereDotProduct::new); [`Error::InvalidParameter`] unless 1 ≤ p ≤ 64, γ > 0,
    /// c ≥ 0.
    pub fn polynomial(d: usize, degree: u32, gamma: f64, coef0: f64) -> Result<Self> {
        if !(1..=64).contains(&degree) {
            return Err(Error::parameter("degree", "1 to 64", degree));
        }
        positive("gamma", gamma)?;
        if !(coef0.is_finite() && coef0 >= 0.0) {
            return Err(Error::parameter("coef0", "a finite number of at least 0", coef0));
        }
        Self::new(d, degree as usize + 1, |t| (gamma * t + coef0).powi(degree as i32))
    }

    /// The levels by descending eigenvalue: (eigenvalue, degree ℓ, multiplicity N(d, ℓ)).
    pub fn levels(&self) -> &[(f64, usize, usize)] {
        &self.levels
    }
}

/// Nodes in (−1, 1) and weights, summing to 1, for the density of t = xᵀy.
fn rule(d: usize) -> Result<Vec<(f64, f64)>> {
    let mut points: Vec<(f64, f64)> = if d % 2 == 1 {
        let legendre = GaussLegendre::new(NODES)?;
        let power = (d as i32 - 3) / 2;
        let weigh = |(t, w): (&f64, &f64)| (*t, w * (1.0 - t * t).powi(power));
        legendre.nodes.iter().zip(&legendre.weights).map(weigh).collect()
    } else {
        let power = (d as i32 - 2) / 2;
        let angle = |i: usize| PI * (i as f64 + 0.5) / NODES as f64;
        (0..NODES).map(|i| (angle(i).cos(), angle(i).sin().powi(2).powi(power))).collect()
    };
    let total: f64 = points.iter().map(|p| p.1).sum();
    points.iter_mut().for_each(|p| p.1 /= total);
    Ok(points)
}

/// P_{ℓ+1}(t) in dimension d from P_ℓ and P_{ℓ−1}.
fn next_legendre(d: usize, l: usize, t: f64, now: f64, before: f64) -> f64 {
    if l == 0 {
        return t;
    }
    let (l, d) = (l as f64, d as f64);
    ((2.0 * l + d - 2.0) * t * now - l * before) / (l + d - 2.0)
}

/// N(d, ℓ), the number of harmonics of degree ℓ; saturates.
fn harmonics(d: usize, l: usize) -> usize {
    match l {
        0 => 1,
        1 => d,
        // (2ℓ + d − 2)/ℓ · C(ℓ + d − 3, ℓ − 1).
        _ => {
            let mut choose = 1u128;
            for i in 1..l as u128 {
                choose = choose.saturating_mul(d as u128 - 2 + i) / i;
                if choose > 1 << 80 {
                    return usize::MAX;
                }
            }
            let number = choose * (2 * l + d - 2) as u128 / l as u128;
            usize::try_from(number).unwrap_or(usize::MAX)
        }
    }
}

/// All harmonics of degree 0 to `top` at a point of the unit sphere, degree by degree.
fn harmonics_at(x: &[f64], top: usize) -> Vec<Vec<f64>> {
    let d = x.len();
    // On the circle: powers of a complex number.
    let (re, im) = (x[d - 2], x[d - 1]);
    let mut table = vec![vec![1.0]];
    let (mut c, mut s) = (SQRT_2, 0.0);
    for _ in 0..top {
        (c, s) = (c * re - s * im, c * im + s * re);
        table.push(vec![c, s]);
    }
    let mut square = re * re + im * im;
    for dimension in 3..=d {
        let t = x[d - dimension];
        square += t * t;
        let mut next: Vec<Vec<f64>> = vec![Vec::new(); top + 1];
        // E (1 − t²)^m, the norm that a harmonic of degree m of the other coordinates loses.
        let mut lost = 1.0_f64;
        for (m, inner) in table.iter().enumerate() {
            let alpha = m as f64 + (dimension as f64 - 2.0) / 2.0;
            let (mut before, mut now) = (0.0, 1.0 / lost.sqrt());
            let mut step = 0.0;
            for (n, outer) in next[m..].iter_mut().enumerate() {
                outer.extend(inner.iter().map(|h| now * h));
                // t p_n = b_{n+1} p_{n+1} + b_n p_{n−1}, made homogeneous by the square of the norm.
                let n = n as f64 + 1.0;
                let ahead =
                    (n * (n + 2.0 * alpha - 1.0) / (4.0 * (n + alpha) * (n + alpha - 1.0))).sqrt();
                (before, now) = (now, (t * now - step * square * before) / ahead);
                step = ahead;
            }
            let (m, dimension) = (m as f64, dimension as f64);
            lost *= (dimension - 1.0 + 2.0 * m) / (dimension + 2.0 * m);
        }
        table = next;
    }
    table
}

impl KnownSpectrum for SphereDotProduct {
    fn inputs(&self) -> usize {
        self.d
    }

    /// The number of functions of the levels that are kept.
    fn rank(&self) -> Option<usize> {
        Some(self.levels.iter().fold(0, |n: usize, level| n.saturating_add(level.2)))
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        check_pairs(k)?;
        let repeated = |level: &(f64, usize, usize)| std::iter::repeat_n(level.0, level.2.min(k));
        Ok(self.levels.iter().flat_map(repeated).take(k).collect())
    }

    /// As the trait says; also [`Error::InvalidParameter`] for points off the unit sphere by more
    /// than 1e-5, and [`Error::Unsupported`] when there are more than 2²⁰ harmonics up to the degree
    /// that k needs.
    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, self.d, k)?;
        let mut order = Vec::new();
        for (_, l, number) in &self.levels {
            let number = (*number).min(k - order.len());
            order.extend((0..number).map(|i| (*l, i)));
        }
        let top = order.iter().map(|o| o.0).max().unwrap_or(0);
        let all = (0..=top).fold(0usize, |n, l| n.saturating_add(harmonics(self.d, l)));
        if all > MAX_HARMONICS {
            return Err(Error::Unsupported {
                what: format!("{k} eigenfunctions on the sphere in {} dimensions", self.d),
                reason: format!("there are {all} harmonics up to degree {top}; ask for fewer"),
            });
        }
        let mut psi = Mat64::zeros((x.nrows(), order.len()));
        for (i, (point, mut row)) in x.rows().into_iter().zip(psi.rows_mut()).enumerate() {
            let mut point: Vec<f64> = point.iter().map(|v| f64::from(*v)).collect();
            let norm = point.iter().map(|v| v * v).sum::<f64>().sqrt();
            if (norm - 1.0).abs() > OFF_SPHERE {
                let expected = "points on the unit sphere";
                return Err(Error::parameter("x", expected, format!("norm {norm} in row {i}")));
            }
            point.iter_mut().for_each(|v| *v /= norm);
            let values = harmonics_at(&point, top);
            row.iter_mut().zip(&order).for_each(|(to, (l, i))| *to = values[*l][*i]);
        }
        Ok(psi)
    }

    fn trace(&self) -> f64 {
        self.trace
    }
}

#[cfg(test)]
#[path = "sphere_tests.rs"]
mod tests;
