//! Prior precision and temperature by how good predictions are on validation points.

use std::f64::consts::TAU;

use ndarray::{Array1, Array3, ArrayView1, Axis, concatenate, s};
use rayon::prelude::*;
use serde::Serialize;

use super::curvature::covariances;
use super::likelihood::{Likelihood, Targets};
use super::{Laplace, PointFeatures};
use crate::bayes::Predictive;
use crate::calibration::{Bins, nll, reliability, softmax};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};
use crate::optimize::golden_section;

/// Powers of ten that are tried.
const DECADES: std::ops::RangeInclusive<i32> = -8..=8;
/// The same for temperatures.
const TEMPERATURES: std::ops::RangeInclusive<i32> = -2..=6;
/// Of the logarithms to base ten, in the golden sections after the grid.
const ACCURACY: f64 = 1e-3;
/// Points of one parallel validation.
const POINTS: usize = 500;

/// A decade on either side of `at`, within the grid unless `at` is outside.
fn around(at: f64, grid: std::ops::RangeInclusive<i32>) -> (f64, f64) {
    let (low, high) = (f64::from(*grid.start()), f64::from(*grid.end()));
    ((at - 1.0).max(low.min(at)), (at + 1.0).min(high.max(at)))
}

/// What is to be small on validation points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The mean negative log likelihood of targets.
    Nll,
    /// The expected calibration error, 15 bins of equal width; for targets that are classes.
    Ece,
}

/// What a [`Laplace::tune`] found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tuning {
    /// What was made small.
    pub criterion: Criterion,
    /// δ, the prior precision that was chosen.
    pub prior_precision: f64,
    /// The temperature T for classes, the variance of the noise σ² for real targets.
    pub scale: f64,
    /// The criterion before.
    pub before: f64,
    /// The criterion at these.
    pub after: f64,
}

impl Laplace {
    /// Takes the prior precision, and with `temperature` the temperature (the noise variance, for real
    /// targets) too, with the smallest `criterion` on validation points, by the given kind of
    /// predictions: on a grid of powers of ten from 1e-8 to 1e8 (1e-2 to 1e6 for temperatures), then for
    /// the likelihood by golden sections between its neighbours. The points should be ones that the network
    /// was not trained on; it is too sure of those. O(n C p) for each value that is tried.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::InvalidParameter`] for targets that do not fit the features.
    pub fn tune(
        &mut self,
        points: &PointFeatures,
        targets: &Targets,
        criterion: Criterion,
        temperature: bool,
        predictive: Predictive,
    ) -> Result<Tuning> {
        self.expect_features(points)?;
        targets.check(points.mean.nrows(), self.info.outputs)?;
        if targets.likelihood() != self.info.likelihood {
            let expected = format!("{:?}, as in the fit", self.info.likelihood);
            return Err(Error::parameter(
                "targets",
                expected,
                format!("{:?}", targets.likelihood()),
            ));
        }
        if criterion == Criterion::Ece && self.info.likelihood == Likelihood::Regression {
            return Err(Error::parameter("criterion", "nll, for real targets", "ece"));
        }
        if self.curvature.values().is_empty() && self.info.likelihood == Likelihood::Classification
        {
            // Nothing is uncertain, and nothing to choose.
            let p = softmax(points.mean.view())?;
            let now = measure(p.view(), targets, criterion)?;
            let (prior_precision, scale) = (self.info.prior_precision, self.info.scale);
            return Ok(Tuning { criterion, prior_precision, scale, before: now, after: now });
        }
        let seed = self.info.seed;
        // Where only variances count.
        let diagonal =
            predictive == Predictive::Probit || targets.likelihood() == Likelihood::Regression;
        let squares = match diagonal {
            true => points.features.mapv(|f| f * f),
            false => Mat64::zeros((0, 0)),
        };
        let validation = Validation { points, squares, targets, criterion, predictive, seed };
        let cost = |delta: f64, scale: f64| self.cost(&validation, delta, scale);
        let (delta, scale) = (self.info.prior_precision, self.info.scale);
        let before = cost(delta, scale)?;
        let grid = |decades: std::ops::RangeInclusive<i32>| decades.map(f64::from);
        let scales: Vec<f64> = match temperature {
            true => grid(TEMPERATURES).collect(),
            false => vec![scale.log10()],
        };
        // What there is already counts too, so that nothing becomes worse.
        let mut pairs = vec![(delta.log10(), scale.log10())];
        pairs.extend(grid(DECADES).flat_map(|d| scales.iter().map(move |s| (d, *s))));
        let costs: Vec<f64> = pairs
            .par_iter()
            .map(|(d, s)| cost(10f64.powf(*d), 10f64.powf(*s)))
            .collect::<Result<_>>()?;
        let best = (0..pairs.len()).min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap_or(0);
        let ((mut d, mut s), mut after) = (pairs[best], costs[best]);
        if criterion == Criterion::Nll {
            for _ in 0..if temperature { 3 } else { 1 } {
                d = golden_section(around(d, DECADES), ACCURACY, |d| {
                    cost(10f64.powf(d), 10f64.powf(s))
                })?;
                if temperature {
                    s = golden_section(around(s, TEMPERATURES), ACCURACY, |s| {
                        cost(10f64.powf(d), 10f64.powf(s))
                    })?;
                }
            }
            let refined = cost(10f64.powf(d), 10f64.powf(s))?;
            match refined < after {
                true => after = refined,
                false => (d, s) = pairs[best],
            }
        }
        self.set_prior_precision(10f64.powf(d))?;
        if temperature {
            self.set_scale(10f64.powf(s))?;
        }
        let (prior_precision, scale) = (self.info.prior_precision, self.info.scale);
        Ok(Tuning { criterion, prior_precision, scale, before, after })
    }

    fn cost(&self, validation: &Validation<'_>, delta: f64, scale: f64) -> Result<f64> {
        let variances = self.variances(delta, scale);
        let (n, c) = validation.points.mean.dim();
        match validation.targets {
            Targets::Labels(_) => {}
            Targets::Values(values) => {
                let variances = validation.squares.dot(&Array1::from(variances));
                let terms =
                    validation.points.mean.iter().zip(values).zip(&variances).map(|((f, y), v)| {
                        let v = v + scale;
                        0.5 * ((y - f).powi(2) / v + (TAU * v).ln())
                    });
                return Ok(terms.sum::<f64>() / (n * c) as f64);
            }
        }
        let starts: Vec<usize> = (0..n).step_by(POINTS).collect();
        let part = |start: &usize| {
            let rows = *start..(start + POINTS).min(n);
            let features = validation.points.features.slice(s![rows.start * c..rows.end * c, ..]);
            let mean = validation.points.mean.slice(s![rows, ..]);
            let covariance = match validation.predictive {
                // Of which only the diagonal counts.
                Predictive::Probit => {
                    let squares =
                        validation.squares.slice(s![start * c..start * c + mean.len(), ..]);
                    let diagonals = squares.dot(&ArrayView1::from(&variances));
                    Array3::from_shape_fn((mean.nrows(), c, c), |(i, a, b)| {
                        if a == b { diagonals[i * c + a] } else { 0.0 }
                    })
                }
                _ => covariances(features, c, &variances),
            };
            validation.predictive.probabilities(mean, covariance.view(), validation.seed)
        };
        let parts: Vec<Mat64> = starts.par_iter().map(part).collect::<Result<_>>()?;
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        let p = concatenate(Axis(0), &views)
            .map_err(|e| Error::shape("probabilities", format!("n × {c}"), e))?;
        measure(p.view(), validation.targets, validation.criterion)
    }
}

/// The criterion for probabilities of labels; real targets have none.
fn measure(p: Mat64Ref<'_>, targets: &Targets, criterion: Criterion) -> Result<f64> {
    match (targets, criterion) {
        (Targets::Labels(labels), Criterion::Nll) => nll(p, labels),
        (Targets::Labels(labels), Criterion::Ece) => {
            Ok(reliability(p, labels, Bins::default())?.ece)
        }
        (Targets::Values(_), _) => Err(Error::parameter("targets", "labels", "real numbers")),
    }
}

/// What a value is tried on.
struct Validation<'a> {
    points: &'a PointFeatures,
    /// Of the features; none where covariances count.
    squares: Mat64,
    targets: &'a Targets,
    criterion: Criterion,
    predictive: Predictive,
    seed: u64,
}
