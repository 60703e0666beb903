//! Checkpoints: everything an interrupted fit needs to continue to the same bits.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::spec::FitSpec;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::Parameters;
use crate::operator::OperatorSpec;
use crate::persist::Archive;
use crate::train::auto::AutoState;
use crate::train::checkpoint::{get_parameters, put_parameters};
use crate::train::{Signal, TrainingLoop};

/// Kind of archive, so that a checkpoint is not taken for a model.
const KIND: &str = "checkpoint";

/// The header of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckpointHeader {
    /// The run's spec as the user gave it.
    pub spec: FitSpec,
    /// Name of the dataset, as it was opened.
    pub data: String,
    /// Its size, rows and columns.
    pub data_shape: (usize, usize),
    /// Name and number of the validation points, where the fit was given some.
    pub validation: Option<(String, usize)>,
    /// Checksums of the data, and of validation, Gram matrix and features where the fit has them.
    pub fingerprints: Vec<String>,
    /// Steps done.
    pub step: u64,
    pub(crate) auto: Option<AutoState>,
}

/// A checkpoint read back.
pub struct Checkpoint {
    /// Its header.
    pub header: CheckpointHeader,
    archive: Archive,
}

impl Checkpoint {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::ModelFile`].
    pub fn read(path: &Path) -> Result<Self> {
        let archive = Archive::read(path)?;
        archive.expect_kind(KIND)?;
        let header = archive.header_as()?;
        Ok(Checkpoint { header, archive })
    }

    /// Fails unless the file has room for its network, and no more steps than `total`.
    pub(crate) fn check_size(&self, total: u64) -> Result<()> {
        let (spec, inputs) = (&self.header.spec, self.header.data_shape.1);
        let outputs = spec.network_outputs();
        self.archive.expect_room(spec.network.size(inputs, spec.n_components, outputs))?;
        if let Some(memory) = spec.optimizer.get()?.memory() {
            let network = spec.network.build(inputs, spec.n_components, outputs, spec.seed)?;
            let numbers = memory.numbers(network.parameters());
            self.archive.expect_numbers(numbers, "an optimizer with larger bases")?;
        }
        let step = self.header.step;
        let checks = self.header.auto.iter().flat_map(|auto| &auto.checks);
        if let Some(after) = checks.map(|c| c.0).chain([step]).find(|s| *s > total) {
            return Err(self.archive.fault(format!("step {after} of a run of {total} steps")));
        }
        Ok(())
    }

    /// Fails unless the data are the interrupted run's.
    pub(crate) fn check_data(&self, inputs: &Inputs<'_>) -> Result<()> {
        let (data, validation) = (inputs.data, inputs.validation);
        let shape = (data.len(), data.width());
        let (before, now) =
            (self.header.validation.as_ref().map(|v| v.1), validation.map(Dataset::len));
        if before != now {
            let points = |n: Option<usize>| format!("{} points", n.unwrap_or(0));
            return Err(Error::shape("validation of the resumed run", points(before), points(now)));
        }
        if shape == self.header.data_shape {
            if inputs.fingerprints()? == self.header.fingerprints {
                return Ok(());
            }
            let expected = "the values that the interrupted run was fitted to";
            return Err(Error::parameter("data of the resumed run", expected, "other values"));
        }
        let (n, d) = self.header.data_shape;
        Err(Error::shape(
            "data of the resumed run",
            format!("{n} × {d}"),
            format!("{} × {}", shape.0, shape.1),
        ))
    }

    /// Puts `training` where the interrupted run was.
    pub(crate) fn restore<S: Signal>(&self, training: &mut TrainingLoop<S>) -> Result<()> {
        training.restore(&self.archive, self.header.step)
    }

    /// The best parameters so far of a run with `steps = auto`.
    pub(crate) fn best(&self, like: &Parameters) -> Result<Parameters> {
        let mut best = like.zeros_like();
        get_parameters(&self.archive, "best", &mut best)?;
        Ok(best)
    }
}

/// What the user gave a fit.
pub(crate) struct Inputs<'a> {
    data: &'a Dataset,
    validation: Option<&'a Dataset>,
    spec: &'a FitSpec,
    fingerprints: OnceLock<Vec<String>>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(
        data: &'a Dataset,
        validation: Option<&'a Dataset>,
        spec: &'a FitSpec,
    ) -> Self {
        Inputs { data, validation, spec, fingerprints: OnceLock::new() }
    }

    /// Checksums of everything the fit reads, worked out once.
    fn fingerprints(&self) -> Result<&[String]> {
        if let Some(sums) = self.fingerprints.get() {
            return Ok(sums);
        }
        let mut sums = vec![self.data.fingerprint()?];
        sums.extend(self.validation.map(Dataset::fingerprint).transpose()?);
        if let Some(path) = self.spec.operator.as_ref().and_then(OperatorSpec::file) {
            let file = Dataset::open(&path.to_string_lossy(), self.spec.seed)?;
            sums.push(file.fingerprint()?);
        }
        Ok(self.fingerprints.get_or_init(|| sums))
    }
}

/// Writes a checkpoint, whole or not at all.
pub(crate) fn write<S: Signal>(
    path: &Path,
    inputs: &Inputs<'_>,
    training: &TrainingLoop<S>,
    auto: Option<(&AutoState, &Parameters)>,
) -> Result<()> {
    let Inputs { data, validation, spec, .. } = inputs;
    let header = CheckpointHeader {
        spec: (*spec).clone(),
        data: data.name().to_string(),
        data_shape: (data.len(), data.width()),
        validation: validation.map(|v| (v.name().to_string(), v.len())),
        fingerprints: inputs.fingerprints()?.to_vec(),
        step: training.steps_done(),
        auto: auto.map(|(state, _)| state.clone()),
    };
    let mut archive = Archive::with_header(KIND, &header)?;
    training.save(&mut archive)?;
    if let Some((_, best)) = auto {
        put_parameters(&mut archive, "best", best)?;
    }
    archive.write(path)
}
