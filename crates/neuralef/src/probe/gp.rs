//! Ridge regression and Gaussian-process regression with k features, in closed form.

use std::f64::consts::TAU;
use std::ops::Range;

use ndarray::{Array1, Axis, s};

use super::{check_features, check_positive, for_blocks};
use crate::error::{Error, Result};
use crate::linalg::{
    Cholesky, cholesky_jittered, eigh, expect_finite_f64, matmul_f64, tr_matmul_f64,
};
use crate::matrix::{Mat64, Mat64Ref, MatRef};
use crate::optimize::golden_section;

/// Ratios of noise to prior variance tried for each factor of ten.
const PER_DECADE: i32 = 8;

/// Gaussian-process regression in weight space, before it is fitted (Rasmussen & Williams 2006,
/// §2.1).
///
/// y = wᵀφ(x) + ε with w ~ N(0, s²I) and ε ~ N(0, σ²): a Gaussian process with the kernel
/// s²φ(x)ᵀφ(x'), so that features with φ(x)ᵀφ(x') ≈ κ(x, x') give an approximate regression with κ
/// in O(n k² + k³). Its mean is ridge regression, the minimum of ‖y − Φw‖² + (σ²/s²)‖w‖². Several
/// outputs are independent processes with the same variances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpRegression {
    /// s² > 0, the variance of the weights.
    pub prior_variance: f64,
    /// σ² > 0, the variance of the noise.
    pub noise_variance: f64,
    /// Whether the process is one about the mean of the targets, not about zero.
    pub centre: bool,
}

/// A fitted [`GpRegression`] for m outputs.
#[derive(Debug, Clone)]
pub struct GpModel {
    spec: GpRegression,
    /// Posterior means of the weights, k × m.
    weights: Mat64,
    /// Added to predictions, m of them.
    means: Array1<f64>,
    /// LLᵀ = ΦᵀΦ + (σ²/s²)I.
    cholesky: Cholesky,
    log_marginal: Vec<f64>,
}

/// ΦᵀΦ, ΦᵀY and the means taken from Y.
struct NormalEquations {
    gram: Mat64,
    cross: Mat64,
    means: Array1<f64>,
}

impl NormalEquations {
    fn new(x: MatRef<'_>, y: Mat64Ref<'_>, centre: bool) -> Result<Self> {
        check_features(x, y.nrows(), None)?;
        if y.ncols() == 0 {
            return Err(Error::shape("targets", "at least one column", 0));
        }
        expect_finite_f64("targets", y)?;
        let means = match y.mean_axis(Axis(0)) {
            Some(means) if centre => means,
            _ => Array1::zeros(y.ncols()),
        };
        let k = x.ncols();
        let mut gram = Mat64::zeros((k, k));
        let mut cross = Mat64::zeros((k, y.ncols()));
        let work = |rows: Range<usize>, x: Mat64| {
            let y = &y.slice(s![rows, ..]) - &means;
            Ok((tr_matmul_f64(x.view(), x.view())?, tr_matmul_f64(x.view(), y.view())?))
        };
        for_blocks(x, work, |(a, b)| {
            gram += &a;
            cross += &b;
        })?;
        expect_finite_f64("ΦᵀΦ", gram.view())?;
        Ok(NormalEquations { gram, cross, means })
    }

    /// Σ over rows of (y − Φw)² for each output.
    fn squared_residuals(
        &self,
        x: MatRef<'_>,
        y: Mat64Ref<'_>,
        weights: Mat64Ref<'_>,
    ) -> Result<Array1<f64>> {
        let mut sums = Array1::zeros(y.ncols());
        let work = |rows: Range<usize>, x: Mat64| {
            let fitted = matmul_f64(x.view(), weights)? + &self.means;
            let residuals = &y.slice(s![rows, ..]) - &fitted;
            Ok(residuals.map_axis(Axis(0), |r| r.dot(&r)))
        };
        for_blocks(x, work, |part| sums += &part)?;
        Ok(sums)
    }
}

impl GpRegression {
    /// s² = 1 and this σ², about zero: ridge regression with α = σ².
    pub fn new(noise_variance: f64) -> Self {
        GpRegression { prior_variance: 1.0, noise_variance, centre: false }
    }

    /// The variances with the largest marginal likelihood of features `x` (n × k) and targets `y`
    /// (n × m). For a ratio σ²/s² the best s² is known in closed form; the ratio is sought on a
    /// logarithmic grid, then by golden sections to 1e-6. O(n k² + k³), and O(k) for each ratio.
    ///
    /// # Errors
    /// As [`fit`](GpRegression::fit), and [`Error::Numerical`] when the likelihood still grows
    /// where the noise, or what the features explain, vanishes: then the variances have to be given.
    pub fn by_marginal_likelihood(
        x: MatRef<'_>,
        y: Mat64Ref<'_>,
        centre: bool,
    ) -> Result<GpRegression> {
        let equations = NormalEquations::new(x, y, centre)?;
        let (n, m) = (y.nrows() as f64, y.ncols() as f64);
        let (values, vectors) = eigh(equations.gram.view())?;
        let floor = values.len() as f64 * f64::EPSILON * values[0].max(0.0);
        let rank = values.iter().take_while(|v| **v > floor && **v > 0.0).count();
        let fault = |message: &str| {
            let what = "maximising the marginal likelihood".into();
            Error::Numerical { what, message: format!("{message}; give the variances instead") }
        };
        if rank == 0 {
            return Err(fault("all features are zero"));
        }
        let values = &values[..rank];
        let vectors = vectors.slice(s![.., ..rank]);
        // |uᵀy|² along each left singular vector of Φ, and what lies outside their span.
        let mut inside = tr_matmul_f64(vectors, equations.cross.view())?;
        let mut least = inside.clone();
        for (i, v) in values.iter().enumerate() {
            inside.row_mut(i).mapv_inplace(|b| b * b / v);
            least.row_mut(i).mapv_inplace(|b| b / v);
        }
        let energies = inside.sum_axis(Axis(1));
        let least = matmul_f64(vectors, least.view())?;
        let outside = equations.squared_residuals(x, y, least.view())?.sum();
        // Σ over outputs of yᵀ(ΦΦᵀ + λI)⁻¹y.
        let quadratic = |ratio: f64| {
            outside / ratio + energies.iter().zip(values).map(|(e, v)| e / (v + ratio)).sum::<f64>()
        };
        if quadratic(values[0]) <= 0.0 {
            return Err(fault("all targets are equal"));
        }
        // Minus the profile of the log marginal likelihood, for one output, up to constants.
        let cost = |log_ratio: f64| {
            let ratio = log_ratio.exp();
            let determinant: f64 = values.iter().map(|v| (v + ratio).ln()).sum();
            0.5 * (n * quadratic(ratio).ln() + determinant + (n - rank as f64) * log_ratio)
        };
        let step = std::f64::consts::LN_10 / f64::from(PER_DECADE);
        let grid = -14 * PER_DECADE..=6 * PER_DECADE;
        let (first, last) = (*grid.start(), *grid.end());
        let origin = values[0].ln();
        let at = |i: i32| origin + f64::from(i) * step;
        let best = grid.min_by(|a, b| cost(at(*a)).total_cmp(&cost(at(*b)))).unwrap_or(first);
        if best == first {
            return Err(fault("it grows as the noise vanishes"));
        }
        if best == last {
            return Err(fault("it is largest where the features explain nothing"));
        }
        let log_ratio = golden_section((at(best - 1), at(best + 1)), 1e-6, |x| Ok(cost(x)))?;
        let ratio = log_ratio.exp();
        let prior_variance = quadratic(ratio) / (n * m);
        Ok(GpRegression { prior_variance, noise_variance: ratio * prior_variance, centre })
    }

    /// Fits to features `x` (n × k) and targets `y` (n × m). O(n k (k + m) + k³).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for the variances, [`Error::Shape`], [`Error::NonFinite`],
    /// [`Error::Numerical`] when σ²/s² is lost in the rounding errors of ΦᵀΦ.
    pub fn fit(&self, x: MatRef<'_>, y: Mat64Ref<'_>) -> Result<GpModel> {
        check_positive("prior_variance", self.prior_variance)?;
        check_positive("noise_variance", self.noise_variance)?;
        let ratio = self.noise_variance / self.prior_variance;
        check_positive("noise_variance/prior_variance", ratio)?;
        let equations = NormalEquations::new(x, y, self.centre)?;
        let (n, k) = (x.nrows() as f64, x.ncols());
        let mut regular = equations.gram.clone();
        regular.diag_mut().mapv_inplace(|v| v + ratio);
        let cholesky = cholesky_jittered(regular.view())?;
        if cholesky.jitter > 0.0 {
            let largest = equations.gram.diag().fold(0.0f64, |m, v| m.max(*v));
            let message = format!(
                "noise_variance/prior_variance = {ratio:e} is lost in the rounding errors of \
                 ΦᵀΦ, whose largest entry is {largest:e}"
            );
            return Err(Error::Numerical { what: "Gaussian-process regression".into(), message });
        }
        let half = cholesky.solve_lower(equations.cross.view())?;
        let weights = cholesky.solve_lower_transposed(half.view())?;
        // yᵀ(s²ΦΦᵀ + σ²I)⁻¹y as a sum of squares: nothing cancels.
        let residuals = equations.squared_residuals(x, y, weights.view())?;
        let norms = weights.map_axis(Axis(0), |w| w.dot(&w));
        let log_ratio = ratio.ln();
        let root: f64 = cholesky.lower.diag().iter().map(|l| 2.0 * l.ln() - log_ratio).sum();
        let constant = n * (TAU * self.noise_variance).ln() + root;
        let log_marginal = residuals
            .iter()
            .zip(&norms)
            .map(|(r, w)| -0.5 * (r / self.noise_variance + w / self.prior_variance + constant))
            .collect();
        debug_assert_eq!(weights.nrows(), k);
        Ok(GpModel { spec: *self, weights, means: equations.means, cholesky, log_marginal })
    }
}

impl GpModel {
    /// Variances and centring of the fit.
    pub fn spec(&self) -> &GpRegression {
        &self.spec
    }

    /// Posterior mean of the weights, k × m.
    pub fn weights(&self) -> Mat64Ref<'_> {
        self.weights.view()
    }

    /// log p(y) of each output under the prior, in nats.
    pub fn log_marginal_likelihood(&self) -> &[f64] {
        &self.log_marginal
    }

    /// Predictive means, n × m. O(n k m).
    ///
    /// # Errors
    /// [`Error::Shape`] unless x is n × k, [`Error::NonFinite`].
    pub fn predict(&self, x: MatRef<'_>) -> Result<Mat64> {
        check_features(x, x.nrows(), Some(self.weights.nrows()))?;
        let mut out = Mat64::zeros((x.nrows(), self.weights.ncols()));
        let mut at = 0;
        let work = |_: Range<usize>, x: Mat64| matmul_f64(x.view(), self.weights.view());
        for_blocks(x, work, |mean| {
            out.slice_mut(s![at..at + mean.nrows(), ..]).assign(&(&mean + &self.means));
            at += mean.nrows();
        })?;
        Ok(out)
    }

    /// Predictive variances of wᵀφ(x), without noise: n, the same for every output. That of a new
    /// observation is larger by σ². O(n k²).
    ///
    /// # Errors
    /// As [`predict`](GpModel::predict).
    pub fn variance(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        check_features(x, x.nrows(), Some(self.weights.nrows()))?;
        let mut out = Vec::with_capacity(x.nrows());
        let work = |_: Range<usize>, x: Mat64| {
            let half = self.cholesky.solve_lower(x.t())?;
            Ok(half.map_axis(Axis(0), |v| self.spec.noise_variance * v.dot(&v)))
        };
        for_blocks(x, work, |variances| out.extend(variances))?;
        Ok(out)
    }

    /// Mean over points and outputs of log p(y | x) of new observations, in nats.
    ///
    /// # Errors
    /// As [`predict`](GpModel::predict); [`Error::Shape`] unless y is n × m.
    pub fn log_likelihood(&self, x: MatRef<'_>, y: Mat64Ref<'_>) -> Result<f64> {
        let (mean, variance) = (self.predict(x)?, self.variance(x)?);
        if mean.dim() != y.dim() {
            let text = |(n, m): (usize, usize)| format!("{n} × {m}");
            return Err(Error::shape("targets", text(mean.dim()), text(y.dim())));
        }
        expect_finite_f64("targets", y)?;
        let mut sum = 0.0;
        for ((mean, y), variance) in mean.rows().into_iter().zip(y.rows()).zip(variance) {
            let total = variance + self.spec.noise_variance;
            let squares = mean.iter().zip(y).map(|(a, b)| (a - b).powi(2) / total);
            sum -= 0.5 * squares.map(|square| square + (TAU * total).ln()).sum::<f64>();
        }
        Ok(sum / y.len() as f64)
    }
}
