//! Prior precision and temperature by how good predictions are on validation points.

use rayon::prelude::*;
use serde::Serialize;

use super::likelihood::{Likelihood, Targets};
use super::{Laplace, PointFeatures};
use crate::bayes::Predictive;
use crate::calibration::{Bins, nll, reliability};
use crate::error::{Error, Result};
use crate::matrix::Mat64;

/// Powers of ten that are tried, and how many for each factor of ten.
const DECADES: std::ops::RangeInclusive<i32> = -8..=8;
const PER_DECADE: i32 = 4;
/// The same for temperatures.
const TEMPERATURES: std::ops::RangeInclusive<i32> = -3..=3;
/// Golden sections after the grid, down to 1e-4 of a factor of ten.
const SECTIONS: usize = 20;
/// Outputs are held at this many points at a time.
const POINTS: usize = 1024;

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
    /// δ.
    pub prior_precision: f64,
    /// T for classes, σ² for real targets.
    pub scale: f64,
    /// The criterion before.
    pub before: f64,
    /// The criterion at these.
    pub after: f64,
}

impl Laplace {
    /// Takes the prior precision, and with `temperature` the temperature (the noise variance, for real
    /// targets) too, with the smallest `criterion` on validation points, by probit predictions: on a
    /// grid of four to a factor of ten from 1e-8 to 1e8 (1e-3 to 1e3 for temperatures), then for the
    /// likelihood by golden sections between its neighbours. The points should be ones that the network
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
        let squares = points.features.mapv(|f| f * f);
        let cost =
            |delta: f64, scale: f64| self.cost(points, &squares, targets, criterion, delta, scale);
        let (delta, scale) = (self.info.prior_precision, self.info.scale);
        let before = cost(delta, scale)?;
        let grid = |decades: std::ops::RangeInclusive<i32>| {
            (decades.start() * PER_DECADE..=decades.end() * PER_DECADE)
                .map(|i| f64::from(i) / f64::from(PER_DECADE))
        };
        let scales: Vec<f64> = match temperature {
            true => grid(TEMPERATURES).collect(),
            false => vec![scale.log10()],
        };
        let pairs: Vec<(f64, f64)> =
            grid(DECADES).flat_map(|d| scales.iter().map(move |s| (d, *s))).collect();
        let costs: Vec<f64> = pairs
            .par_iter()
            .map(|(d, s)| cost(10f64.powf(*d), 10f64.powf(*s)))
            .collect::<Result<_>>()?;
        let best = (0..pairs.len()).min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap_or(0);
        let ((mut d, mut s), mut after) = (pairs[best], costs[best]);
        if criterion == Criterion::Nll {
            let step = 1.0 / f64::from(PER_DECADE);
            for _ in 0..if temperature { 3 } else { 1 } {
                d = section(d - step, d + step, |d| cost(10f64.powf(d), 10f64.powf(s)))?;
                if temperature {
                    s = section(s - step, s + step, |s| cost(10f64.powf(d), 10f64.powf(s)))?;
                }
            }
            after = cost(10f64.powf(d), 10f64.powf(s))?;
        }
        self.set_prior_precision(10f64.powf(d))?;
        if temperature {
            self.set_scale(10f64.powf(s))?;
        }
        let (prior_precision, scale) = (self.info.prior_precision, self.info.scale);
        Ok(Tuning { criterion, prior_precision, scale, before, after })
    }

    fn cost(
        &self,
        points: &PointFeatures,
        squares: &Mat64,
        targets: &Targets,
        criterion: Criterion,
        delta: f64,
        scale: f64,
    ) -> Result<f64> {
        let weights = ndarray::Array1::from(self.variances(delta, scale));
        let variances = squares.dot(&weights);
        let (n, c) = points.mean.dim();
        match targets {
            Targets::Values(values) => {
                let terms = points.mean.iter().zip(values).zip(&variances).map(|((f, y), v)| {
                    let v = v + scale;
                    0.5 * ((y - f).powi(2) / v + (std::f64::consts::TAU * v).ln())
                });
                Ok(terms.sum::<f64>() / (n * c) as f64)
            }
            Targets::Labels(labels) => {
                let mut p = Mat64::zeros((n, c));
                for start in (0..n).step_by(POINTS) {
                    let rows = start..(start + POINTS).min(n);
                    let mut covariance = ndarray::Array3::zeros((rows.len(), c, c));
                    for (i, point) in rows.clone().enumerate() {
                        for o in 0..c {
                            covariance[[i, o, o]] = variances[point * c + o];
                        }
                    }
                    let mean = points.mean.slice(ndarray::s![rows.clone(), ..]);
                    let found = Predictive::Probit.probabilities(mean, covariance.view(), 0)?;
                    p.slice_mut(ndarray::s![rows, ..]).assign(&found);
                }
                match criterion {
                    Criterion::Nll => nll(p.view(), labels),
                    Criterion::Ece => Ok(reliability(p.view(), labels, Bins::default())?.ece),
                }
            }
        }
    }
}

/// Where a function is smallest between two ends, by golden sections.
fn section(mut low: f64, mut high: f64, f: impl Fn(f64) -> Result<f64>) -> Result<f64> {
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (f(a)?, f(b)?);
    for _ in 0..SECTIONS {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = f(a)?;
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = f(b)?;
        }
    }
    Ok(0.5 * (low + high))
}
