//! Fitting posteriors: several of one network in one pass over the data.

use std::sync::Arc;
use std::time::Instant;

use ndarray::s;

use super::curvature::{POINTS, Points, Sums, Task, tell, with_jacobians};
use super::likelihood::{self, Likelihood, Targets};
use super::source::SourceSpec;
use super::{Laplace, LaplaceInfo, LaplaceSeconds, expect_positive, seconds};
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::matrix::Mat64;
use crate::nn::{Network, TrainedNetwork};
use crate::observer::{Event, Observer};

/// What a Laplace approximation is asked to be.
#[derive(Debug, Clone, PartialEq)]
pub struct LaplaceSpec {
    /// What is uncertain.
    pub source: SourceSpec,
    /// δ; none for the one with the largest marginal likelihood.
    pub prior_precision: Option<f64>,
    /// σ² of targets that are real numbers; none for the one with the largest marginal likelihood.
    pub noise_variance: Option<f64>,
    /// T, by which the data count 1/T times, for targets that are classes.
    pub temperature: f64,
    /// What is done to points before the network sees them, x ↦ (x − mean)/scale.
    pub preprocessing: Option<Standardizer>,
    /// Seed of everything random in a source.
    pub seed: u64,
    /// Memory that a source may take, in MiB.
    pub memory_budget: u64,
}

impl LaplaceSpec {
    /// Of a source in text form, everything else default.
    ///
    /// # Errors
    /// [`Error::Parse`], [`Error::UnknownName`].
    pub fn new(source: &str) -> Result<Self> {
        Ok(LaplaceSpec {
            source: source.parse()?,
            prior_precision: None,
            noise_variance: None,
            temperature: 1.0,
            preprocessing: None,
            seed: 0,
            memory_budget: 4096,
        })
    }

    fn check(&self, likelihood: Likelihood) -> Result<()> {
        expect_positive("temperature", self.temperature)?;
        for (name, value) in
            [("prior_precision", self.prior_precision), ("noise_variance", self.noise_variance)]
        {
            value.map_or(Ok(()), |value| expect_positive(name, value))?;
        }
        let (unused, of) = match likelihood {
            Likelihood::Classification => (self.noise_variance.is_some(), "noise_variance"),
            Likelihood::Regression => (self.temperature != 1.0, "temperature"),
        };
        if unused {
            let targets = match likelihood {
                Likelihood::Classification => "classes",
                Likelihood::Regression => "real numbers",
            };
            return Err(Error::parameter(
                of,
                format!("none, for targets that are {targets}"),
                "one",
            ));
        }
        Ok(())
    }

    /// Fits it to `data` (n × d) and their targets. The network is the one that was trained on them:
    /// its outputs are the mean, and stay as they are.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::Shape`], [`Error::NonFinite`], file errors of the network,
    /// [`Error::Interrupted`], [`Error::MemoryBudget`], [`Error::Numerical`] when the marginal
    /// likelihood has no maximum, and what the source reports.
    pub fn fit(
        &self,
        network: &TrainedNetwork,
        data: &Dataset,
        targets: &Targets,
        observer: &mut dyn Observer,
    ) -> Result<Laplace> {
        let mut all = fit_laplace(std::slice::from_ref(self), network, data, targets, observer)?;
        // One spec, one posterior.
        Ok(all.swap_remove(0))
    }
}

/// Fits several posteriors of one network in one pass over the data: gradients of its outputs, which
/// most sources need and which take most of the time, are computed once. The specs must agree about
/// preprocessing.
///
/// # Errors
/// As [`LaplaceSpec::fit`].
pub fn fit_laplace(
    specs: &[LaplaceSpec],
    network: &TrainedNetwork,
    data: &Dataset,
    targets: &Targets,
    observer: &mut dyn Observer,
) -> Result<Vec<Laplace>> {
    let Some(first) = specs.first() else { return Ok(Vec::new()) };
    for spec in specs {
        spec.check(targets.likelihood())?;
        if spec.preprocessing != first.preprocessing {
            return Err(Error::parameter("preprocessing", "the same for all specs", "others"));
        }
    }
    let points = Points { data, preprocessing: first.preprocessing.as_ref() };
    let n = data.len();
    let built: Arc<dyn Network> = network.build(data.width())?.into();
    let c = built.functions() * built.outputs();
    targets.check(n, c)?;
    let started = Instant::now();
    let mut outputs = Mat64::zeros((n, c));
    for start in (0..n).step_by(POINTS) {
        let rows = start..(start + POINTS).min(n);
        tell(observer, &Event::Tick)?;
        let f = built.forward(points.block(rows.clone())?.view(), None)?;
        outputs.slice_mut(s![rows, ..]).assign(&f.mapv(f64::from));
    }
    let forward = seconds(started);
    let loss = targets.loss(outputs.view())?;
    let negligible = likelihood::negligible(targets.likelihood(), outputs.view())?;
    let mut sums: Vec<(Box<dyn Sums>, LaplaceSeconds)> = Vec::new();
    for spec in specs {
        let started = Instant::now();
        let LaplaceSpec { seed, memory_budget, .. } = *spec;
        let (network, trained) = (&*built, network);
        let task = Task { network, trained, points, outputs: c, seed, memory_budget, negligible };
        let begun = spec.source.get()?.begin(&task, observer)?;
        sums.push((begun, LaplaceSeconds { own: seconds(started), shared: forward }));
    }
    let jacobian = sums.iter().any(|(sums, _)| sums.wants_jacobian());
    tell(observer, &Event::Phase { name: "curvature" })?;
    for start in (0..n).step_by(POINTS) {
        tell(observer, &Event::Progress { done: start, total: n })?;
        let rows = start..(start + POINTS).min(n);
        let roots = targets.likelihood().roots(outputs.slice(s![rows.clone(), ..]))?;
        let x = points.block(rows)?;
        let shared = with_jacobians(&*built, x.view(), jacobian, |points, block| {
            for (sums, spent) in &mut sums {
                if sums.wants_jacobian() == block.jacobian.is_some() {
                    let started = Instant::now();
                    sums.add(block, &roots[points.clone()])?;
                    spent.own += seconds(started);
                }
            }
            Ok(())
        })?;
        for (sums, spent) in &mut sums {
            spent.shared += if sums.wants_jacobian() { shared } else { 0.0 };
        }
    }
    let mut fitted = Vec::new();
    for (spec, (sums, mut spent)) in specs.iter().zip(sums) {
        let started = Instant::now();
        let curvature = sums.finish(n)?;
        let info = LaplaceInfo {
            network: network.to_string(),
            source: spec.source.clone(),
            likelihood: targets.likelihood(),
            n_features: data.width(),
            outputs: c,
            data: data.name().to_string(),
            n_samples: n,
            loss,
            squared_norm: spec.source.get()?.squared_norm(&*built)?,
            prior_precision: spec.prior_precision.unwrap_or(1.0),
            scale: spec.noise_variance.unwrap_or(spec.temperature),
            seed: spec.seed,
        };
        let mut laplace = Laplace {
            info,
            trained: network.clone(),
            network: Arc::clone(&built),
            preprocessing: spec.preprocessing.clone(),
            curvature: curvature.into(),
            seconds: spent,
        };
        laplace.choose(spec.prior_precision.is_none(), spec.noise_variance.is_none())?;
        spent.own += seconds(started);
        laplace.seconds = spent;
        fitted.push(laplace);
    }
    Ok(fitted)
}
