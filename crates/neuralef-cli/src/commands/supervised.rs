//! Points of trained networks with their targets, and what is done to points before a network.

use anyhow::{Context as _, Result, bail, ensure};
use neuralef::Dataset;
use neuralef::bayes::Targets as NetworkTargets;
use neuralef::data::Standardizer;

use super::expect_columns;
use super::targets::Targets;
use crate::args::InputArgs;

/// Points with their labels, numbers of outputs of a network, or real targets.
pub(super) struct SupervisedData {
    pub(super) data: Dataset,
    pub(super) targets: NetworkTargets,
}

impl SupervisedData {
    /// `options` are those that would name a file of targets.
    pub(super) fn open(
        location: &str,
        targets: Option<&str>,
        regression: bool,
        seed: u64,
        options: &str,
    ) -> Result<Self> {
        let data = Dataset::open(location, seed)?;
        let targets = match Targets::read(&data, targets, regression, options)? {
            Targets::Values(values) => NetworkTargets::Values(values),
            Targets::Labels(labels) => {
                let index = |label: &i64| {
                    usize::try_from(*label).with_context(|| {
                        format!(
                            "{location}: labels must be numbers of outputs, from 0, got {label}"
                        )
                    })
                };
                NetworkTargets::Labels(labels.iter().map(index).collect::<Result<_>>()?)
            }
        };
        Ok(SupervisedData { data, targets })
    }

    /// Fails unless the points and their targets are those of a network of `outputs` outputs.
    pub(super) fn check(&self, width: usize, outputs: usize) -> Result<()> {
        expect_columns(&self.data, width)?;
        let name = self.data.name();
        match &self.targets {
            NetworkTargets::Labels(labels) => match labels.iter().find(|y| **y >= outputs) {
                Some(bad) => {
                    let expected = format!("0 to {}", outputs.saturating_sub(1));
                    bail!("{name}: labels: expected outputs of the network, {expected}, got {bad}")
                }
                None => Ok(()),
            },
            NetworkTargets::Values(values) => {
                ensure!(
                    values.ncols() == outputs,
                    "{name}: expected {outputs} columns of targets, got {}",
                    values.ncols()
                );
                Ok(())
            }
        }
    }

    /// None for real targets.
    pub(super) fn labels(&self) -> &[usize] {
        match &self.targets {
            NetworkTargets::Labels(labels) => labels,
            NetworkTargets::Values(_) => &[],
        }
    }
}

/// x ↦ (x/divisor − mean)/std, as the options say; none when they say nothing.
pub(super) fn preprocessing(args: &InputArgs, width: usize) -> Result<Option<Standardizer>> {
    let InputArgs { input_divisor, input_mean, input_std } = args;
    if input_divisor.is_none() && input_mean.is_empty() && input_std.is_empty() {
        return Ok(None);
    }
    let divisor = input_divisor.unwrap_or(1.0);
    let channels = input_mean.len().max(input_std.len()).max(1);
    let by_channel = |option: &[f64], default: f64| -> Vec<f64> {
        match option {
            [] => vec![default; channels],
            [one] => vec![*one; channels],
            all => all.to_vec(),
        }
    };
    let mean: Vec<f64> = by_channel(input_mean, 0.0).iter().map(|m| m * divisor).collect();
    let scale: Vec<f64> = by_channel(input_std, 1.0).iter().map(|s| s * divisor).collect();
    let standardizer = Standardizer::by_channel(width, &mean, &scale);
    Ok(Some(standardizer.context("--input-mean, --input-std and --input-divisor")?))
}
