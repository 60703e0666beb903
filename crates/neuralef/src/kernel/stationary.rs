//! Kernels of the distance between points: rbf, laplacian, matern, rational_quadratic, periodic.
//!
//! All are positive definite on ℝ^d with κ(x, x) = 1. Distances are sums over summed differences,
//! never ‖x‖² + ‖y‖² − 2xᵀy: no cancellation, never negative. Before differences are taken both
//! points are divided by a power of two near the length scale, which is exact and keeps single
//! precision in range whatever the units of the data.

use std::f64::consts::{LN_2, LOG2_E};
use std::sync::Arc;

use ndarray::ArrayView1;

use super::gradient::{self, Smooth};
use super::heuristic::{self, Chord, Euclidean, Manhattan, power_of_two};
use super::pairwise::{Elementary, Pairwise};
use super::{Exponential, Kernel, Law, SpectralTerm, spectral};
use crate::error::Result;
use crate::matrix::{Mat64Mut, MatRef};
use crate::simd::{Fuse, Real};
use crate::spec::text::number;
use crate::spec::{Absence, Domain, Entry, Interval, Parameter};

const LENGTHSCALE: Parameter = Parameter::new(
    "lengthscale",
    Domain::POSITIVE,
    "median",
    "ℓ > 0; `median` of pairwise distances, or `scale`: √(d·Var(X)/2)",
)
.or(&["median", "scale"]);
const GAMMA: Parameter = Parameter::optional(
    "gamma",
    Domain::POSITIVE,
    "1/(2ℓ²)",
    "γ > 0 instead of ℓ, or `scale`: 1/(d·Var(X))",
)
.or(&["scale"]);

/// ℓ with 1/(2ℓ²) = γ.
fn length_of_gamma(gamma: f64) -> f64 {
    (2.0 * gamma).sqrt().recip()
}

/// κ(x, y) = exp(−‖x − y‖²/(2ℓ²)): the Gaussian, or squared exponential, kernel; infinitely smooth.
///
/// Its eigenvalues fall faster than exponentially for bounded data: under a Gaussian measure they
/// are geometric and the eigenfunctions are Hermite functions (Rasmussen & Williams 2006, §4.3.1).
/// scikit-learn: `rbf_kernel` with γ = 1/(2ℓ²), `RBF(length_scale=ℓ)`.
#[derive(Debug, Clone, Copy)]
struct Rbf {
    lengthscale: f64,
    unit: f64,
    factor: f64,
}

impl Rbf {
    fn new(lengthscale: f64) -> Self {
        let unit = power_of_two(lengthscale);
        let factor = -LOG2_E / (2.0 * (lengthscale * unit).powi(2));
        Rbf { lengthscale, unit, factor }
    }
}

impl Pairwise for Rbf {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        (x - y).mul_add::<F>(x - y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        T::exp2::<F>(total * T::of(self.factor))
    }
    fn scale(self, _: usize, _: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(self.unit)
    }
}

impl Elementary for Rbf {
    const NAME: &'static str = "rbf";
    fn text(&self) -> String {
        RBF.text(&[("lengthscale", &number(self.lengthscale))])
    }
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        Some(spectral::one(Law::Gaussian { scale: self.lengthscale.recip() }))
    }
    fn exponential(&self) -> Option<Exponential> {
        let gamma = self.lengthscale.powi(2).recip();
        Some(Exponential { weight: 1.0, gamma, decay: gamma })
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Rbf {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        self.finish::<T, F>(total) * T::of(self.factor * LN_2)
    }
    #[inline(always)]
    fn partial(self, x: f64, y: f64) -> f64 {
        2.0 * (x - y)
    }
}

/// The registry's entry.
pub(super) const RBF: Entry<Arc<dyn Kernel>> = Entry {
    name: "rbf",
    summary: "exp(−‖x−y‖²/(2ℓ²)), the Gaussian kernel",
    parameters: &[LENGTHSCALE, GAMMA],
    build: |args| Ok(Arc::new(Rbf::new(heuristic::lengthscale(args, Euclidean, length_of_gamma)?))),
};

/// κ(x, y) = exp(−‖x − y‖₁/ℓ): continuous, nowhere smooth; a product over coordinates.
///
/// In one dimension it is the Ornstein–Uhlenbeck covariance, whose eigenvalues fall like j⁻²; its
/// spectral density is a product of Cauchy densities. scikit-learn: `laplacian_kernel` with γ = 1/ℓ.
#[derive(Debug, Clone, Copy)]
struct Laplacian {
    lengthscale: f64,
    unit: f64,
    factor: f64,
}

impl Laplacian {
    fn new(lengthscale: f64) -> Self {
        let unit = power_of_two(lengthscale);
        Laplacian { lengthscale, unit, factor: -LOG2_E / (lengthscale * unit) }
    }
}

impl Pairwise for Laplacian {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        total + (x - y).abs()
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        T::exp2::<F>(total * T::of(self.factor))
    }
    fn scale(self, _: usize, _: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(self.unit)
    }
}

impl Elementary for Laplacian {
    const NAME: &'static str = "laplacian";
    fn text(&self) -> String {
        LAPLACIAN.text(&[("lengthscale", &number(self.lengthscale))])
    }
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        Some(spectral::one(Law::Cauchy { scale: self.lengthscale.recip() }))
    }
}

/// The registry's entry.
pub(super) const LAPLACIAN: Entry<Arc<dyn Kernel>> = Entry {
    name: "laplacian",
    summary: "exp(−‖x−y‖₁/ℓ)",
    parameters: &[
        LENGTHSCALE.with_help("ℓ > 0; `median` of pairwise ‖x−y‖₁, or `scale`: d·Var(X)"),
        Parameter { default: Absence::Nothing("1/ℓ"), ..GAMMA },
    ],
    build: |args| {
        Ok(Arc::new(Laplacian::new(heuristic::lengthscale(args, Manhattan, f64::recip)?)))
    },
};

/// The Matérn kernel with half-integer ν; with z = √(2ν)·‖x − y‖/ℓ:
/// ν = 1/2: e^(−z); ν = 3/2: (1 + z)e^(−z); ν = 5/2: (1 + z + z²/3)e^(−z).
///
/// ⌈ν⌉ − 1 times differentiable in mean square; eigenvalues fall like j^(−(2ν+d)/d); the spectral
/// density is a multivariate t (Rasmussen & Williams 2006, §4.2.1). scikit-learn: `Matern`.
#[derive(Debug, Clone, Copy)]
struct Matern {
    nu: f64,
    lengthscale: f64,
    unit: f64,
    factor: f64,
    linear: f64,
    quadratic: f64,
}

impl Matern {
    fn new(nu: f64, lengthscale: f64) -> Self {
        let unit = power_of_two(lengthscale);
        let linear = if nu > 1.0 { 1.0 } else { 0.0 };
        let quadratic = if nu > 2.0 { 1.0 / 3.0 } else { 0.0 };
        let factor = (2.0 * nu).sqrt() / (lengthscale * unit);
        Matern { nu, lengthscale, unit, factor, linear, quadratic }
    }
}

impl Pairwise for Matern {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        (x - y).mul_add::<F>(x - y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        // Beyond 10⁴ the exponential is 0; the bound keeps ∞·0 away.
        let z = (total.sqrt() * T::of(self.factor)).least(T::of(1e4));
        let polynomial = z.mul_add::<F>(T::of(self.quadratic), T::of(self.linear));
        z.mul_add::<F>(polynomial, T::ONE) * T::exp2::<F>(z * T::of(-LOG2_E))
    }
    fn scale(self, _: usize, _: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(self.unit)
    }
}

impl Elementary for Matern {
    const NAME: &'static str = "matern";
    fn text(&self) -> String {
        MATERN.text(&[("nu", &number(self.nu)), ("lengthscale", &number(self.lengthscale))])
    }
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        let scale = self.lengthscale.recip();
        Some(spectral::one(Law::StudentT { scale, dof: 2.0 * self.nu }))
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        (self.nu > 1.0).then(|| gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Matern {
    // With z = a√t: −a²/2 e^(−z) for ν = 3/2, −a²/6 (1 + z)e^(−z) for ν = 5/2: nothing is divided by
    // the distance.
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        let z = (total.sqrt() * T::of(self.factor)).least(T::of(1e4));
        let (at_zero, rising) = if self.nu > 2.0 { (1.0 / 6.0, 1.0) } else { (0.5, 0.0) };
        let polynomial = z.mul_add::<F>(T::of(rising), T::ONE);
        polynomial * T::exp2::<F>(z * T::of(-LOG2_E)) * T::of(-at_zero * self.factor.powi(2))
    }
    #[inline(always)]
    fn partial(self, x: f64, y: f64) -> f64 {
        2.0 * (x - y)
    }
}

/// The registry's entry.
pub(super) const MATERN: Entry<Arc<dyn Kernel>> = Entry {
    name: "matern",
    summary: "Matérn kernel, ν = 1/2, 3/2 or 5/2",
    parameters: &[
        Parameter::new("nu", Domain::OneOf(&[0.5, 1.5, 2.5]), "1.5", "smoothness: 0.5, 1.5 or 2.5"),
        LENGTHSCALE,
    ],
    build: |args| {
        let nu = args.number("nu")?;
        Ok(Arc::new(Matern::new(nu, heuristic::lengthscale(args, Euclidean, length_of_gamma)?)))
    },
};

/// κ(x, y) = (1 + ‖x − y‖²/(2αℓ²))^(−α): a mixture of rbf kernels over length scales, with heavy
/// tails; rbf in the limit α → ∞ (Rasmussen & Williams 2006, eq. 4.19).
/// scikit-learn: `RationalQuadratic`.
#[derive(Debug, Clone, Copy)]
struct RationalQuadratic {
    lengthscale: f64,
    alpha: f64,
    unit: f64,
    factor: f64,
}

impl RationalQuadratic {
    fn new(lengthscale: f64, alpha: f64) -> Self {
        let unit = power_of_two(lengthscale);
        let factor = 1.0 / (2.0 * alpha * (lengthscale * unit).powi(2));
        RationalQuadratic { lengthscale, alpha, unit, factor }
    }
}

impl Pairwise for RationalQuadratic {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        (x - y).mul_add::<F>(x - y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        let z = (total * T::of(self.factor)).least(T::LIMIT);
        T::exp2::<F>(T::ln_1p::<F>(z) * T::of(-self.alpha * LOG2_E))
    }
    fn scale(self, _: usize, _: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(self.unit)
    }
}

impl Elementary for RationalQuadratic {
    const NAME: &'static str = "rational_quadratic";
    fn text(&self) -> String {
        let (lengthscale, alpha) = (number(self.lengthscale), number(self.alpha));
        RATIONAL_QUADRATIC.text(&[("lengthscale", &lengthscale), ("alpha", &alpha)])
    }
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        let scale = self.lengthscale.recip();
        Some(spectral::one(Law::GammaMixture { scale, shape: self.alpha }))
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for RationalQuadratic {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        let z = (total * T::of(self.factor)).least(T::LIMIT);
        let power = T::exp2::<F>(T::ln_1p::<F>(z) * T::of(-(self.alpha + 1.0) * LOG2_E));
        power * T::of(-self.alpha * self.factor)
    }
    #[inline(always)]
    fn partial(self, x: f64, y: f64) -> f64 {
        2.0 * (x - y)
    }
}

/// The registry's entry.
pub(super) const RATIONAL_QUADRATIC: Entry<Arc<dyn Kernel>> = Entry {
    name: "rational_quadratic",
    summary: "(1 + ‖x−y‖²/(2αℓ²))^(−α)",
    parameters: &[
        LENGTHSCALE,
        Parameter::new(
            "alpha",
            Domain::Number(Interval::closed(1e-6, 1e6)),
            "1",
            "tail weight, from 1e-6 to 1e6",
        ),
    ],
    build: |args| {
        let alpha = args.number("alpha")?;
        let lengthscale = heuristic::lengthscale(args, Euclidean, length_of_gamma)?;
        Ok(Arc::new(RationalQuadratic::new(lengthscale, alpha)))
    },
};

/// κ(x, y) = exp(−2 Σᵢ sin²(π(xᵢ − yᵢ)/p)/ℓ²): period p in every coordinate.
///
/// A product over coordinates of the one-dimensional kernel (MacKay 1998), each an rbf kernel of
/// points wound around the unit circle, so it is positive semi-definite in any dimension.
/// scikit-learn's `ExpSineSquared` agrees for d = 1; for d > 1 that puts the Euclidean distance
/// into the sine, which is not positive semi-definite. On one period its eigenfunctions are the
/// Fourier basis, its eigenvalues I_j(1/ℓ²)·e^(−1/ℓ²) for the uniform measure.
#[derive(Debug, Clone, Copy)]
struct Periodic {
    lengthscale: f64,
    period: f64,
    chord: Chord,
    factor: f64,
}

impl Periodic {
    fn new(lengthscale: f64, period: f64) -> Self {
        let factor = -2.0 * LOG2_E / lengthscale.powi(2);
        Periodic { lengthscale, period, chord: Chord::new(period), factor }
    }
}

impl Pairwise for Periodic {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        self.chord.step::<T, F>(total, x, y)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        T::exp2::<F>(total * T::of(self.factor))
    }
    fn scale(self, row: usize, point: ArrayView1<'_, f32>) -> Result<f64> {
        self.chord.scale(row, point)
    }
}

impl Elementary for Periodic {
    const NAME: &'static str = "periodic";
    fn text(&self) -> String {
        let (lengthscale, period) = (number(self.lengthscale), number(self.period));
        PERIODIC.text(&[("lengthscale", &lengthscale), ("period", &period)])
    }
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        Some(gradient::smooth(*self, x, y, out))
    }
}

impl Smooth for Periodic {
    #[inline(always)]
    fn slope<T: Real, F: Fuse>(self, total: T) -> T {
        self.finish::<T, F>(total) * T::of(self.factor * LN_2)
    }
    #[inline(always)]
    fn partial(self, x: f64, y: f64) -> f64 {
        self.chord.partial(x - y)
    }
}

/// The registry's entry.
pub(super) const PERIODIC: Entry<Arc<dyn Kernel>> = Entry {
    name: "periodic",
    summary: "exp(−2 Σᵢ sin²(π(xᵢ−yᵢ)/p)/ℓ²)",
    parameters: &[
        Parameter::new(
            "lengthscale",
            Domain::Number(Interval::closed(1e-9, 1e9)),
            "1",
            "ℓ on the unit circle, 1e-9 to 1e9; `median` of pairwise chords 2|sin|",
        )
        .or(&["median"]),
        Parameter::new("period", Domain::POSITIVE, "1", "p > 0"),
    ],
    build: |args| {
        let period = heuristic::positive(args, "period")?;
        let lengthscale = heuristic::periodic_lengthscale(args, period)?;
        Ok(Arc::new(Periodic::new(lengthscale, period)))
    },
};
