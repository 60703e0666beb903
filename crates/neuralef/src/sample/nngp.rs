//! Features of NN-GP kernels: the outputs of random networks.

use std::ops::Range;
use std::path::Path;

use ndarray::s;
use serde_json::json;

use super::WeightLaw;
use super::stream::{Sampled, Sampler, Sampling, sampler_budget, stream};
use crate::data::Dataset;
use crate::error::Result;
use crate::matrix::{Mat, MatRef};
use crate::nn::{Network, NetworkSpec};
use crate::observer::Observer;

/// Networks that are evaluated together, at most.
const GROUP: usize = 64;
/// Bytes for each parameter: its value, the engine's packed copy, and what drawing takes.
const PARAMETER: u64 = 12;

/// Streams features of the kernel of random networks, κ(x, x') = E f(x)f(x'), to `path`: Φ is N × S,
/// and column i holds the values of network number i, which has the architecture `spec` with one
/// output and weights drawn by `law` (Lee et al. 2018; Novak et al. 2019; batch normalisation at its
/// initial statistics, as Deng et al. 2022 have it).
///
/// E ΦΦᵀ/S is the kernel of the architecture at its width. With one hidden layer that is the
/// infinite network's for any width; with more it comes near it like 1/width.
///
/// Costs S forward passes over the data, and one draw of all S networks for each block of points
/// that the memory budget makes. A run that was interrupted or killed continues with the same
/// arguments, and gives the same file.
///
/// # Errors
/// Parameter errors of the law and the architecture; [`Error::MemoryBudget`](crate::Error::MemoryBudget)
/// when a point's features or one network do not fit;
/// [`Error::SamplingInterrupted`](crate::Error::SamplingInterrupted) when `observer` wants to stop; and the
/// errors of [`FeatureStore::open`](super::FeatureStore::open).
pub fn nngp(
    spec: &NetworkSpec,
    data: &Dataset,
    law: &WeightLaw,
    sampling: &Sampling,
    path: impl AsRef<Path>,
    observer: &mut dyn Observer,
) -> Result<Sampled> {
    let mut networks = RandomNetworks::new(spec, data.width(), law, sampling)?;
    let what = json!({
        "features": "nngp",
        "network": spec.to_string(),
        "weight_var": law.weight_var,
        "bias_var": law.bias_var,
    });
    stream(&mut networks, data, sampling, path.as_ref(), what, observer)
}

struct RandomNetworks<'a> {
    /// As many separate networks as are evaluated together.
    ensemble: Box<dyn Network>,
    law: &'a WeightLaw,
    seed: u64,
    bytes: u64,
}

impl<'a> RandomNetworks<'a> {
    fn new(
        spec: &NetworkSpec,
        inputs: usize,
        law: &'a WeightLaw,
        sampling: &Sampling,
    ) -> Result<Self> {
        let budget = sampler_budget(sampling)?;
        let bytes =
            |networks: usize| spec.size(inputs, networks, 1).parameters.saturating_mul(PARAMETER);
        let one = bytes(1);
        if one > budget {
            let what = format!("a quarter of the memory for sampling: one network {spec}");
            return Err(sampling.memory().exceeded(what, one.saturating_mul(4)));
        }
        let fitting = usize::try_from(budget / one.max(1)).unwrap_or(usize::MAX);
        let most = GROUP.min(fitting).min(sampling.samples);
        // Groups of one size, so that the last is not mostly idle.
        let group = sampling.samples.div_ceil(sampling.samples.div_ceil(most));
        let mut ensemble = spec.build(inputs, group, 1, sampling.seed)?;
        if !separate(ensemble.as_ref()) {
            // Heads of one trunk are not independent networks: one at a time then.
            ensemble = spec.build(inputs, 1, 1, sampling.seed)?;
        }
        if let Some(unit) = ensemble.parameters().layouts().first() {
            law.deviations(unit)?;
        }
        let bytes = bytes(ensemble.functions());
        Ok(RandomNetworks { ensemble, law, seed: sampling.seed, bytes })
    }
}

/// True when each function has a unit of parameters of its own.
fn separate(network: &dyn Network) -> bool {
    network.parameters().units().len() == network.functions()
        && (0..network.functions()).all(|i| network.unit(i) == i)
}

impl Sampler for RandomNetworks<'_> {
    fn outputs(&self) -> usize {
        1
    }

    fn group(&self) -> usize {
        self.ensemble.functions()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn draw(&mut self, x: MatRef<'_>, samples: Range<usize>) -> Result<Mat> {
        self.law.draw(self.ensemble.parameters_mut(), self.seed, samples.start as u64)?;
        let values = self.ensemble.forward(x, None)?;
        if values.ncols() == samples.len() {
            return Ok(values);
        }
        // The last group may be smaller.
        Ok(values.slice(s![.., ..samples.len()]).to_owned())
    }
}
