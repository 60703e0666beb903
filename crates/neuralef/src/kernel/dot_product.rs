//! Kernels of the inner product of points: linear, polynomial, sigmoid, softmax, cosine.

use std::sync::Arc;

use ndarray::ArrayView1;

use super::gradient::{self, Smooth};
use super::heuristic;
use super::pairwise::{Elementary, Pairwise};
use super::{Exponential, Kernel};
use crate::error::Result;
use crate::matrix::{Mat64Mut, MatRef};
use crate::simd::{Fuse, Real};
use crate::spec::text::number;
use crate::spec::{Domain, Entry, Parameter};

const GAMMA: Parameter = Parameter::new(
    "gamma",
    Domain::POSITIVE,
    "auto",
    "γ > 0; `auto`: 1/d, or `scale`: 1/(d·Var(X))",
)
.or(&["auto", "scale"]);
const COEF0: Parameter = Parameter::new("coef0", Domain::NON_NEGATIVE, "1", "a constant ≥ 0");

/// κ(x, y) = xᵀy + c, c ≥ 0. Rank at most d + 1: principal components, with the mean taken as one
/// more coordinate √c. scikit-learn: `linear_kernel` for c = 0, `DotProduct(sigma_0=√c)`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    coef0: f64,
}

impl Pairwise for Linear {
    const UNBOUNDED: bool = true;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        x.mul_add::<F>(y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total + T::of(self.coef0)
    }
}

impl Elementary for Linear {
    const NAME: &'static str = "linear";
    fn text(&self) -> String {
        LINEAR.text(&[("coef0", &number(self.coef0))])
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Linear {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, _: T) -> T {
        T::ONE
    }
    #[inline(always)]
    fn partial(self, _: f64, y: f64) -> f64 {
        y
    }
}

/// The registry's entry.
pub(super) const LINEAR: Entry<Arc<dyn Kernel>> = Entry {
    name: "linear",
    summary: "xᵀy + coef0",
    parameters: &[COEF0.with_default("0")],
    build: |args| Ok(Arc::new(Linear { coef0: args.number("coef0")? })),
};

/// κ(x, y) = (γ xᵀy + c)^p with γ > 0 and c ≥ 0, which together make it positive semi-definite.
///
/// Finite rank: at most C(d + p, p) (C(d + p − 1, p) for c = 0), the number of monomials; its
/// eigenvalues are those of the matrix of moments `E[φφᵀ]` of the monomial features φ.
/// scikit-learn: `polynomial_kernel`, with the same defaults (degree 3, γ = 1/d, coef0 = 1).
#[derive(Debug, Clone, Copy)]
struct Polynomial {
    degree: u32,
    gamma: f64,
    coef0: f64,
}

impl Pairwise for Polynomial {
    const UNBOUNDED: bool = true;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        x.mul_add::<F>(y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        let base = total.mul_add::<F>(T::of(self.gamma), T::of(self.coef0));
        // Binary powers with a fixed number of steps, so that the loop around stays a vector loop;
        // degrees end at 64.
        let (mut power, mut square) = (T::ONE, base);
        for bit in 0..7 {
            power = if self.degree & (1 << bit) != 0 { power * square } else { power };
            square = square * square;
        }
        power
    }
}

impl Elementary for Polynomial {
    const NAME: &'static str = "polynomial";
    fn text(&self) -> String {
        let (gamma, coef0) = (number(self.gamma), number(self.coef0));
        POLYNOMIAL.text(&[("degree", &self.degree), ("gamma", &gamma), ("coef0", &coef0)])
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Polynomial {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        let lower = Polynomial { degree: self.degree - 1, ..self };
        lower.finish::<T, F>(total) * T::of(f64::from(self.degree) * self.gamma)
    }
    #[inline(always)]
    fn partial(self, _: f64, y: f64) -> f64 {
        y
    }
}

/// The registry's entry.
pub(super) const POLYNOMIAL: Entry<Arc<dyn Kernel>> = Entry {
    name: "polynomial",
    summary: "(γ·xᵀy + coef0)^degree",
    parameters: &[
        Parameter::new("degree", Domain::Integer(1, 64), "3", "whole number from 1 to 64"),
        GAMMA,
        COEF0,
    ],
    build: |args| {
        let (degree, coef0) = (args.integer("degree")? as u32, args.number("coef0")?);
        Ok(Arc::new(Polynomial { degree, gamma: heuristic::dot_gamma(args)?, coef0 }))
    },
};

/// κ(x, y) = tanh(γ xᵀy + c): **indefinite**. It is positive semi-definite for no γ > 0 in general
/// (Burges 1999; Lin & Lin 2003): its operator has negative eigenvalues too, which the methods here
/// do not find. [`Kernel::is_positive_semidefinite`] is false.
/// scikit-learn: `sigmoid_kernel`, with the same defaults (γ = 1/d, coef0 = 1).
#[derive(Debug, Clone, Copy)]
struct Sigmoid {
    gamma: f64,
    coef0: f64,
}

impl Pairwise for Sigmoid {
    // An inner product of finite points can still be ∞ − ∞.
    const UNBOUNDED: bool = true;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        x.mul_add::<F>(y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        T::tanh::<F>(total.mul_add::<F>(T::of(self.gamma), T::of(self.coef0)))
    }
}

impl Elementary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const SEMIDEFINITE: bool = false;
    fn text(&self) -> String {
        SIGMOID.text(&[("gamma", &number(self.gamma)), ("coef0", &number(self.coef0))])
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Sigmoid {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        let value = self.finish::<T, F>(total);
        (-value).mul_add::<F>(value, T::ONE) * T::of(self.gamma)
    }
    #[inline(always)]
    fn partial(self, _: f64, y: f64) -> f64 {
        y
    }
}

/// The registry's entry.
pub(super) const SIGMOID: Entry<Arc<dyn Kernel>> = Entry {
    name: "sigmoid",
    summary: "tanh(γ·xᵀy + coef0); indefinite: negative eigenvalues are not found",
    parameters: &[GAMMA, Parameter::new("coef0", Domain::NUMBER, "1", "a constant")],
    build: |args| {
        let coef0 = args.number("coef0")?;
        Ok(Arc::new(Sigmoid { gamma: heuristic::dot_gamma(args)?, coef0 }))
    },
};

/// κ(x, y) = exp(γ xᵀy), γ > 0: the unnormalised weight of softmax attention, with γ = 1/√d.
///
/// Positive semi-definite: a power series in xᵀy with positive coefficients. It is the rbf kernel
/// of length scale 1/√γ times exp(γ‖x‖²/2)·exp(γ‖y‖²/2), and grows as fast: values beyond the range
/// of the type are errors.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    gamma: f64,
}

impl Pairwise for Softmax {
    const UNBOUNDED: bool = true;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        x.mul_add::<F>(y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        let z = total * T::of(self.gamma * std::f64::consts::LOG2_E);
        // 2^z for z ≤ 127; the square of the half reaches the end of the range, and overflows
        // beyond it. NaN stays NaN.
        let half = z.least(T::of(254.0)) * T::of(0.5);
        let root = T::exp2::<F>(half);
        let value = root * root;
        if z > T::of(254.0) { T::INFINITY } else { value }
    }
}

impl Elementary for Softmax {
    const NAME: &'static str = "softmax";
    fn text(&self) -> String {
        SOFTMAX.text(&[("gamma", &number(self.gamma))])
    }
    fn exponential(&self) -> Option<Exponential> {
        Some(Exponential { weight: 1.0, gamma: self.gamma, decay: 0.0 })
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Softmax {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        self.finish::<T, F>(total) * T::of(self.gamma)
    }
    #[inline(always)]
    fn partial(self, _: f64, y: f64) -> f64 {
        y
    }
}

/// The registry's entry.
pub(super) const SOFTMAX: Entry<Arc<dyn Kernel>> = Entry {
    name: "softmax",
    summary: "exp(γ·xᵀy), the weights of softmax attention",
    parameters: &[GAMMA.with_help("γ > 0; `auto`: 1/√d, or `scale`: 1/(d·Var(X))")],
    build: |args| Ok(Arc::new(Softmax { gamma: heuristic::softmax_gamma(args)? })),
};

/// κ(x, y) = xᵀy/(‖x‖‖y‖), and 0 when either point is 0: the linear kernel of points projected onto
/// the sphere. Rank at most d. scikit-learn: `cosine_similarity`.
#[derive(Debug, Clone, Copy)]
struct Cosine;

impl Pairwise for Cosine {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        x.mul_add::<F>(y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total
    }
    fn scale(self, _: usize, point: ArrayView1<'_, f32>) -> Result<f64> {
        // Squares of single-precision numbers neither overflow nor vanish in double precision.
        let norm = point.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        Ok(if norm == 0.0 { 0.0 } else { norm.recip() })
    }
}

impl Elementary for Cosine {
    const NAME: &'static str = "cosine";
    fn text(&self) -> String {
        COSINE.text(&[])
    }
}

/// The registry's entry.
pub(super) const COSINE: Entry<Arc<dyn Kernel>> = Entry {
    name: "cosine",
    summary: "xᵀy/(‖x‖‖y‖), the cosine of the angle between points",
    parameters: &[],
    build: |_| Ok(Arc::new(Cosine)),
};
