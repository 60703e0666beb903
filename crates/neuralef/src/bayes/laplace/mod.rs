//! Linearised Laplace approximation of a trained network: how uncertain its outputs are.
//!
//! Around its trained parameters θ* a network is f(x, θ) ≈ f(x, θ*) + J(x)(θ − θ*). With a Gaussian
//! prior N(0, I/δ) and the generalised Gauss–Newton matrix of the data, the parameters are Gaussian
//! after the data, and so are outputs: their mean is what the network gives (MacKay 1992; Immer, Korzepa
//! & Bauer 2021). P parameters are too many for that as it stands. A source says what is kept:
//!
//! | source | uncertain is | cost of fit and prediction |
//! |---|---|---|
//! | `neuralef` | a function in the span of k eigenfunctions of the tangent kernel JJᵀ, F = ψ√μ (Deng, Shi & Zhu 2022) | as the eigenfunctions: a forward pass for heads |
//! | `ella` | the same by the Nyström method (Deng, Zhou & Zhu 2022) | C backward passes a point |
//! | `random` | the same with random features | C backward passes a point |
//! | `last_layer` | the last layer's parameters: all, or Kronecker-factored, or diagonal | a forward pass |
//! | `kfac` | all parameters, a Kronecker product for each layer (Martens & Grosse 2015) | C backward passes a point |
//! | `diag` | all parameters, independently | C backward passes a point |
//! | `map` | nothing | a forward pass |
//!
//! In k features F(x) ∈ ℝ^{C×k} the posterior precision is Σ_i F_iᵀΛ_iF_i/T + δI, and the covariance of
//! outputs F(x)[·]⁻¹F(x)ᵀ. It is held as eigenvalues λ, so that another prior precision δ or temperature
//! T costs nothing but new weights 1/(λ/T + δ).
//!
//! ```no_run
//! use neuralef::bayes::{LaplaceSpec, Predictive, Targets};
//! use neuralef::Dataset;
//! use neuralef::nn::TrainedNetwork;
//! use neuralef::train::Silent;
//!
//! let network = TrainedNetwork::open("classifier.onnx", None)?;
//! let train = Dataset::open("train.npy", 0)?;
//! # let labels = vec![0];
//! let spec = LaplaceSpec::new("neuralef(components=20)")?;
//! let posterior = spec.fit(&network, &train, &Targets::Labels(labels), &mut Silent)?;
//! println!("prior precision {:.3e} by marginal likelihood", posterior.prior_precision());
//! let test = Dataset::open("test.npy", 0)?.range(0..100)?;
//! let p = posterior.outputs(test.view())?.probabilities(Predictive::Probit, 0)?; // 100 × C
//! # Ok::<(), neuralef::Error>(())
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array3, Axis, s};
use serde::{Deserialize, Serialize};

use super::predictive::GaussianOutputs;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::linalg::expect_finite_f32;
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef, expect_columns};
use crate::nn::{Network, TrainedNetwork};

mod curvature;
mod diagonal;
mod directions;
mod eigenfunctions;
mod evidence;
mod file;
mod fit;
mod full;
mod kronecker;
mod last_layer;
mod likelihood;
mod map;
mod registry;
mod source;
#[cfg(test)]
mod tests;
mod tune;

use curvature::{Block, Curvature, covariances, points_at_a_time, with_jacobians};
use evidence::Evidence;

pub use fit::{LaplaceSpec, fit_laplace};
pub use likelihood::{Likelihood, Targets};
pub(crate) use registry::SOURCES;
pub use registry::SourceSpec;
pub use tune::{Criterion, Tuning};

/// What is known about a fitted posterior, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaplaceInfo {
    /// The trained network.
    pub network: String,
    /// What is uncertain about it.
    pub source: SourceSpec,
    /// The law of targets.
    pub likelihood: Likelihood,
    /// d, columns of the data.
    pub n_features: usize,
    /// C, the number of outputs of the network.
    pub outputs: usize,
    /// Name of the data, and n.
    pub data: String,
    /// Points of the fit.
    pub n_samples: usize,
    /// Summed over the points of the fit: −log p(label), or the squared errors.
    pub loss: f64,
    /// ‖θ*‖² over the parameters that have the prior.
    pub squared_norm: f64,
    /// δ, the precision of the prior of parameters.
    pub prior_precision: f64,
    /// The temperature T for classes, the variance of the noise σ² for real targets.
    pub scale: f64,
    /// Seed of the source.
    pub seed: u64,
}

/// A fitted posterior. Points go in as the user has them. Clones share all that is large.
#[derive(Clone)]
pub struct Laplace {
    info: LaplaceInfo,
    trained: TrainedNetwork,
    network: Arc<dyn Network>,
    preprocessing: Option<Standardizer>,
    curvature: Arc<dyn Curvature>,
    seconds: LaplaceSeconds,
}

/// Outputs and features of points, kept so that other prior precisions cost next to nothing.
#[derive(Debug, Clone)]
pub struct PointFeatures {
    /// The outputs of the network f, n × C.
    mean: Mat64,
    /// F in the coordinates of the posterior, n·C × p.
    features: Mat64,
}

impl PointFeatures {
    /// The outputs of the network f, n × C.
    pub fn mean(&self) -> Mat64Ref<'_> {
        self.mean.view()
    }

    /// Some of the points, by number.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for numbers beyond the points.
    pub fn select(&self, points: &[usize]) -> Result<PointFeatures> {
        let (n, c) = self.mean.dim();
        if let Some(bad) = points.iter().find(|i| **i >= n) {
            return Err(Error::parameter("points", format!("numbers below {n}"), bad));
        }
        let rows: Vec<usize> = points.iter().flat_map(|i| i * c..(i + 1) * c).collect();
        let mean = self.mean.select(Axis(0), points);
        Ok(PointFeatures { mean, features: self.features.select(Axis(0), &rows) })
    }
}

/// Goes through the points `x` (n × d) for several posteriors of one network: calls `visit` with the
/// number of a posterior, a range of points and the block of them. Returns the outputs of the network,
/// n × C, and the time of each posterior.
fn pass(
    posteriors: &[&Laplace],
    x: MatRef<'_>,
    mut visit: impl FnMut(usize, Range<usize>, &Block<'_>) -> Result<()>,
) -> Result<(Mat64, Vec<LaplaceSeconds>)> {
    let Some(first) = posteriors.first() else { return Ok((Mat64::zeros((0, 0)), Vec::new())) };
    for other in posteriors {
        let same =
            other.info.network == first.info.network && other.preprocessing == first.preprocessing;
        if !same {
            let got = other.info.network.as_str();
            return Err(Error::parameter("network", "one network for all posteriors", got));
        }
    }
    let mut mean = Mat64::zeros((x.nrows(), first.info.outputs));
    let mut spent = vec![LaplaceSeconds::default(); posteriors.len()];
    let wants: Vec<bool> = posteriors.iter().map(|p| p.curvature.wants_jacobian()).collect();
    let curvatures: Vec<&dyn Curvature> = posteriors.iter().map(|p| &*p.curvature).collect();
    let points = points_at_a_time(first.info.outputs, &curvatures);
    for (start, x) in (0..).step_by(points).zip(x.axis_chunks_iter(Axis(0), points)) {
        let started = Instant::now();
        let x = first.preprocess(x)?;
        let f = first.network.forward(x.view(), None)?;
        mean.slice_mut(s![start..start + x.nrows(), ..]).assign(&f.mapv(f64::from));
        let forward = seconds(started);
        let any = wants.contains(&true);
        let shared = with_jacobians(&*first.network, x.view(), any, |rows, block| {
            let points = start + rows.start..start + rows.end;
            for i in (0..wants.len()).filter(|i| wants[*i] == block.jacobian.is_some()) {
                let started = Instant::now();
                visit(i, points.clone(), block)?;
                spent[i].own += seconds(started);
            }
            Ok(())
        })?;
        for (spent, wants) in spent.iter_mut().zip(&wants) {
            spent.shared += forward + if *wants { shared } else { 0.0 };
        }
    }
    Ok((mean, spent))
}

/// Where the time of a fit or of predictions went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LaplaceSeconds {
    /// What this posterior alone needed.
    pub own: f64,
    /// Outputs of the network and their gradients, which several posteriors may share.
    pub shared: f64,
}

impl LaplaceSeconds {
    /// What it would take alone.
    pub fn total(&self) -> f64 {
        self.own + self.shared
    }
}

fn seconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64()
}

/// What prior precisions, temperatures and noise variances may be: products of two of them, and their
/// inverses, are numbers still.
const RANGE: std::ops::RangeInclusive<f64> = 1e-100..=1e100;

fn expect_positive(name: &str, value: f64) -> Result<()> {
    match RANGE.contains(&value) {
        true => Ok(()),
        false => Err(Error::parameter(name, "a positive number from 1e-100 to 1e100", value)),
    }
}

impl Laplace {
    /// What is known about it.
    pub fn info(&self) -> &LaplaceInfo {
        &self.info
    }

    /// δ, the precision of the prior of parameters.
    pub fn prior_precision(&self) -> f64 {
        self.info.prior_precision
    }

    /// T, the temperature; 1 for targets that are real numbers.
    pub fn temperature(&self) -> f64 {
        match self.info.likelihood {
            Likelihood::Classification => self.info.scale,
            Likelihood::Regression => 1.0,
        }
    }

    /// σ², the variance of the noise of targets; none for targets that are classes.
    pub fn noise_variance(&self) -> Option<f64> {
        (self.info.likelihood == Likelihood::Regression).then_some(self.info.scale)
    }

    /// λ, eigenvalues of the generalised Gauss–Newton matrix (for σ² = 1), one for each coordinate of
    /// the source; none for `map`.
    pub fn curvatures(&self) -> &[f64] {
        self.curvature.values()
    }

    /// Sets the prior precision δ.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless positive and finite.
    pub fn set_prior_precision(&mut self, prior_precision: f64) -> Result<()> {
        expect_positive("prior_precision", prior_precision)?;
        self.info.prior_precision = prior_precision;
        Ok(())
    }

    /// Sets the temperature T, or the variance of the noise σ² for targets that are real numbers.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless positive and finite.
    pub fn set_scale(&mut self, scale: f64) -> Result<()> {
        let name = match self.info.likelihood {
            Likelihood::Classification => "temperature",
            Likelihood::Regression => "noise_variance",
        };
        expect_positive(name, scale)?;
        self.info.scale = scale;
        Ok(())
    }

    fn evidence(&self) -> Evidence<'_> {
        let LaplaceInfo { likelihood, loss, squared_norm, n_samples, outputs, .. } = self.info;
        let observations = n_samples as f64 * outputs as f64;
        let values = self.curvature.values();
        Evidence { likelihood, loss, observations, squared_norm, values }
    }

    /// Laplace's approximation of log p(targets), in nats; summed over the points of the fit.
    pub fn log_marginal_likelihood(&self) -> f64 {
        self.evidence().at(self.info.prior_precision, self.info.scale)
    }

    /// Σ λ/(λ + Tδ): how many coordinates the data determine rather than the prior.
    pub fn effective_parameters(&self) -> f64 {
        self.evidence().effective_parameters(self.info.prior_precision, self.info.scale)
    }

    /// Takes the δ with the largest marginal likelihood, and σ² with it for targets that are real
    /// numbers. O(p) for each of some 60 steps.
    ///
    /// # Errors
    /// [`Error::Numerical`] when there is no largest.
    pub fn maximize_marginal_likelihood(&mut self) -> Result<()> {
        self.choose(true, true)
    }

    /// Takes the δ with the largest marginal likelihood for the σ² there is.
    ///
    /// # Errors
    /// As [`maximize_marginal_likelihood`](Laplace::maximize_marginal_likelihood).
    pub fn maximize_over_prior_precision(&mut self) -> Result<()> {
        self.choose(true, false)
    }

    fn choose(&mut self, precision: bool, noise: bool) -> Result<()> {
        if self.curvature.values().is_empty() {
            // Nothing is uncertain but targets.
            if noise && self.info.likelihood == Likelihood::Regression {
                let count = self.info.n_samples as f64 * self.info.outputs as f64;
                self.set_scale(self.info.loss / count)?;
            }
            return Ok(());
        }
        let evidence = self.evidence();
        let (delta, scale) = (self.info.prior_precision, self.info.scale);
        let (delta, scale) =
            match (precision, noise && self.info.likelihood == Likelihood::Regression) {
                (true, true) => evidence.best_precision_and_noise()?,
                (true, false) => (evidence.best_precision(scale)?, scale),
                (false, true) => (delta, evidence.best_noise(delta)?),
                (false, false) => (delta, scale),
            };
        self.set_prior_precision(delta)?;
        self.set_scale(scale)
    }

    /// 1/(λ/scale + δ).
    fn variances(&self, delta: f64, scale: f64) -> Vec<f64> {
        self.curvature.values().iter().map(|v| 1.0 / (v / scale + delta)).collect()
    }

    fn preprocess(&self, x: MatRef<'_>) -> Result<Mat> {
        expect_columns("x", x, self.info.n_features)?;
        expect_finite_f32("x", x)?;
        self.preprocessing.as_ref().map_or_else(|| Ok(x.to_owned()), |p| p.apply(x))
    }

    /// What the fit took.
    pub fn seconds(&self) -> LaplaceSeconds {
        self.seconds
    }

    /// The outputs at `x` (n × d): Gaussian, without noise of observations. The values of a point do
    /// not depend on the others.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`].
    pub fn outputs(&self, x: MatRef<'_>) -> Result<GaussianOutputs> {
        Ok(Laplace::outputs_of_all(&[self], x)?.swap_remove(0).0)
    }

    /// The outputs at `x` (n × d) under several posteriors of one network and preprocessing, with the
    /// time that each took; gradients are computed once for all.
    ///
    /// # Errors
    /// As [`outputs`](Laplace::outputs), and [`Error::InvalidParameter`] for other networks.
    pub fn outputs_of_all(
        posteriors: &[&Laplace],
        x: MatRef<'_>,
    ) -> Result<Vec<(GaussianOutputs, LaplaceSeconds)>> {
        let (n, c) = (x.nrows(), posteriors.first().map_or(1, |p| p.info.outputs));
        let mut all = vec![Array3::zeros((n, c, c)); posteriors.len()];
        let variances: Vec<Vec<f64>> =
            posteriors.iter().map(|p| p.variances(p.info.prior_precision, p.info.scale)).collect();
        let (mean, seconds) = pass(posteriors, x, |i, points, block| {
            let covariance = posteriors[i].curvature.covariance(block, &variances[i])?;
            all[i].slice_mut(s![points, .., ..]).assign(&covariance);
            Ok(())
        })?;
        if let Some(bad) = all.iter().flatten().find(|v| !v.is_finite()) {
            let message = format!("{bad}: curvatures and features are beyond double precision");
            return Err(Error::Numerical { what: "covariance of outputs".into(), message });
        }
        let outputs =
            all.into_iter().map(|covariance| GaussianOutputs { mean: mean.clone(), covariance });
        Ok(outputs.zip(seconds).collect())
    }

    /// What [`outputs_of`](Laplace::outputs_of) and [`tune`](Laplace::tune) need of the points `x`.
    /// Memory: 8·n·C·p bytes.
    ///
    /// # Errors
    /// As [`outputs`](Laplace::outputs); [`Error::Unsupported`] for `kfac` and `diag`, whose
    /// coordinates are as many as parameters.
    pub fn features(&self, x: MatRef<'_>) -> Result<PointFeatures> {
        Ok(Laplace::features_of_all(&[self], x)?.swap_remove(0).0)
    }

    /// [`features`](Laplace::features) of several posteriors of one network and preprocessing, with the
    /// time that each took; gradients are computed once for all.
    ///
    /// # Errors
    /// As [`features`](Laplace::features), and [`Error::InvalidParameter`] for other networks.
    pub fn features_of_all(
        posteriors: &[&Laplace],
        x: MatRef<'_>,
    ) -> Result<Vec<(PointFeatures, LaplaceSeconds)>> {
        let c = posteriors.first().map_or(1, |p| p.info.outputs);
        let width = |p: &&Laplace| p.curvature.values().len();
        let mut all: Vec<Mat64> =
            posteriors.iter().map(|p| Mat64::zeros((x.nrows() * c, width(p)))).collect();
        let (mean, seconds) = pass(posteriors, x, |i, points, block| {
            let features = posteriors[i].curvature.features(block)?;
            all[i].slice_mut(s![points.start * c..points.end * c, ..]).assign(&features);
            Ok(())
        })?;
        let features =
            all.into_iter().map(|features| PointFeatures { mean: mean.clone(), features });
        Ok(features.zip(seconds).collect())
    }

    /// The outputs at points whose features are known.
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another posterior.
    pub fn outputs_of(&self, points: &PointFeatures) -> Result<GaussianOutputs> {
        let variances = self.variances(self.info.prior_precision, self.info.scale);
        self.expect_features(points)?;
        let covariance = covariances(points.features.view(), self.info.outputs, &variances);
        Ok(GaussianOutputs { mean: points.mean.clone(), covariance })
    }

    fn expect_features(&self, points: &PointFeatures) -> Result<()> {
        let (p, c) = (self.curvature.values().len(), self.info.outputs);
        if points.features.ncols() == p && points.mean.ncols() == c {
            return Ok(());
        }
        let got = format!("{} outputs, {} columns", points.mean.ncols(), points.features.ncols());
        Err(Error::shape("features of points", format!("{c} outputs, {p} columns"), got))
    }
}
