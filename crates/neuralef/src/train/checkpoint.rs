//! Checkpoints: everything an interrupted run needs to continue to the same bits.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::auto::AutoState;
use super::trainer::Trainer;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::FitSpec;
use crate::nn::Parameters;
use crate::persist::Archive;

/// Kind of archive, so that a checkpoint is not taken for a model.
pub(crate) const KIND: &str = "checkpoint";

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

    /// Puts the trainer where the interrupted run was.
    pub(crate) fn restore(&self, trainer: &mut Trainer<'_>) -> Result<()> {
        let learner = &mut trainer.learner;
        get_parameters(&self.archive, "network", learner.network.parameters_mut())?;
        let mut state = learner.optimizer.state();
        state.step = self.header.step;
        for (name, values) in &mut state.vectors {
            let stored = self.archive.f32(&format!("optimizer.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        learner.optimizer.restore(&state)?;
        let mut state = learner.objective.state();
        for (name, values) in &mut state.doubles {
            let stored = self.archive.f64(&format!("objective.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        for (name, values) in &mut state.singles {
            let stored = self.archive.f32(&format!("objective.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        learner.objective.restore(&state)?;
        learner.step = self.header.step;
        trainer.ema = self.archive.f64("ema", &[trainer.ema.len()])?.to_vec();
        Ok(())
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
        for path in [&self.spec.gram, &self.spec.features].into_iter().flatten() {
            let file = Dataset::open(&path.to_string_lossy(), self.spec.seed)?;
            sums.push(file.fingerprint()?);
        }
        Ok(self.fingerprints.get_or_init(|| sums))
    }
}

/// Writes a checkpoint, whole or not at all.
pub(crate) fn write(
    path: &Path,
    inputs: &Inputs<'_>,
    trainer: &Trainer<'_>,
    auto: Option<(&AutoState, &Parameters)>,
) -> Result<()> {
    let Inputs { data, validation, spec, .. } = inputs;
    let header = CheckpointHeader {
        spec: (*spec).clone(),
        data: data.name().to_string(),
        data_shape: (data.len(), data.width()),
        validation: validation.map(|v| (v.name().to_string(), v.len())),
        fingerprints: inputs.fingerprints()?.to_vec(),
        step: trainer.step(),
        auto: auto.map(|(state, _)| state.clone()),
    };
    let mut archive = Archive::with_header(KIND, &header)?;
    put_parameters(&mut archive, "network", trainer.learner.network.parameters())?;
    for (name, values) in trainer.learner.optimizer.state().vectors {
        let length = values.len();
        archive.put_f32(format!("optimizer.{name}"), &[length], values)?;
    }
    let state = trainer.learner.objective.state();
    for (name, values) in state.doubles {
        archive.put_f64(format!("objective.{name}"), &[values.len()], values)?;
    }
    for (name, values) in state.singles {
        archive.put_f32(format!("objective.{name}"), &[values.len()], values)?;
    }
    archive.put_f64("ema", &[trainer.ema.len()], trainer.ema.clone())?;
    if let Some((_, best)) = auto {
        put_parameters(&mut archive, "best", best)?;
    }
    archive.write(path)
}

/// Stores parameters tensor by tensor as `prefix.UNIT.NAME`.
pub(crate) fn put_parameters(
    archive: &mut Archive,
    prefix: &str,
    parameters: &Parameters,
) -> Result<()> {
    for (unit, tensor, values) in parameters.tensors() {
        let name = format!("{prefix}.{unit}.{}", tensor.name);
        archive.put_f32(name, &tensor.shape, values.to_vec())?;
    }
    Ok(())
}

/// Reads what [`put_parameters`] stored, into parameters of the same layout.
pub(crate) fn get_parameters(
    archive: &Archive,
    prefix: &str,
    parameters: &mut Parameters,
) -> Result<()> {
    parameters.fill_tensors(|unit, tensor, values| {
        let name = format!("{prefix}.{unit}.{}", tensor.name);
        values.copy_from_slice(archive.f32(&name, &tensor.shape)?);
        Ok(())
    })
}
