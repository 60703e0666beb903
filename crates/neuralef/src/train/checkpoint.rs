//! The state of a training loop in an archive: everything that continues it to the same bits.

use super::signal::Signal;
use super::training_loop::TrainingLoop;
use crate::error::Result;
use crate::nn::Parameters;
use crate::persist::Archive;

impl<S: Signal> TrainingLoop<S> {
    /// Stores everything that the next step depends on, but the number of steps done.
    ///
    /// # Errors
    /// Tensors that do not fit their names or shapes.
    pub(crate) fn save(&self, archive: &mut Archive) -> Result<()> {
        put_parameters(archive, "network", self.network.parameters())?;
        for (name, values) in self.optimizer.state().vectors {
            let length = values.len();
            archive.put_f32(format!("optimizer.{name}"), &[length], values)?;
        }
        let state = self.signal.state();
        for (name, values) in state.doubles {
            archive.put_f64(format!("objective.{name}"), &[values.len()], values)?;
        }
        for (name, values) in state.singles {
            archive.put_f32(format!("objective.{name}"), &[values.len()], values)?;
        }
        archive.put_f64("ema", &[self.ema.len()], self.ema.clone())
    }

    /// Continues from what [`save`](TrainingLoop::save) stored after `steps_done` steps.
    ///
    /// # Errors
    /// [`Error::ModelFile`](crate::Error::ModelFile) when tensors are missing or do not fit.
    pub(crate) fn restore(&mut self, archive: &Archive, steps_done: u64) -> Result<()> {
        get_parameters(archive, "network", self.network.parameters_mut())?;
        let mut state = self.optimizer.state();
        state.step = steps_done;
        for (name, values) in &mut state.vectors {
            let stored = archive.f32(&format!("optimizer.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        self.optimizer.restore(&state)?;
        let mut state = self.signal.state();
        for (name, values) in &mut state.doubles {
            let stored = archive.f64(&format!("objective.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        for (name, values) in &mut state.singles {
            let stored = archive.f32(&format!("objective.{name}"), &[values.len()])?;
            values.copy_from_slice(stored);
        }
        self.signal.restore(&state)?;
        self.steps_done = steps_done;
        self.ema = archive.f64("ema", &[self.ema.len()])?.to_vec();
        Ok(())
    }
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
