//! Training of eigenfunctions: an operator applied to a batch, and an objective of the result.

use super::learning_rate::LearningRate;
use super::signal::{BatchLoss, Divergence, OUTPUT, Signal, TrainingStep};
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::{Network, Parameters, Tape, columns_of_outputs, l2_normalise, rows_of_outputs};
use crate::objective::{Objective, ObjectiveState};
use crate::operator::{Batch, KernelOperator};

/// Draws the batch of a step.
pub(crate) type DrawBatch<'a> = dyn Fn(u64) -> Result<Batch> + 'a;

/// What trains networks to be eigenfunctions of `operator`. With C outputs everything between network
/// and network has a row for each (point, output): a function is normalised over all rows of its column,
/// and an objective's means run over them too.
pub(crate) struct EigenfunctionSignal<'a> {
    pub operator: &'a dyn KernelOperator,
    pub objective: Box<dyn Objective>,
    /// The text of the kernel, where there is one: an objective may serve some kernels only.
    pub kernel: Option<String>,
    pub draw_batch: Box<DrawBatch<'a>>,
    /// From points as the kernel sees them to what the networks see.
    pub input_scaler: Standardizer,
    pub learning_rate: LearningRate,
}

impl Signal for EigenfunctionSignal<'_> {
    fn prepare(&mut self, network: &mut dyn Network) -> Result<()> {
        self.objective.prepare(network, self.kernel.as_deref())
    }

    fn n_eigenvalues(&self, network: &dyn Network) -> usize {
        network.functions()
    }

    fn draw(&mut self, step: u64) -> Result<Batch> {
        (self.draw_batch)(step)
    }

    fn network_inputs(&self, batch: &Batch) -> Result<Option<Mat>> {
        self.input_scaler.apply(batch.x.view()).map(Some)
    }

    fn loss(&mut self, step: &TrainingStep<'_>, outputs: Mat) -> Result<BatchLoss> {
        let TrainingStep { number, batch, network } = *step;
        let mut outputs = rows_of_outputs(outputs, network.outputs())?;
        let normalised = match self.objective.normalises() {
            true => {
                let normalised = l2_normalise(std::mem::take(&mut outputs));
                Some(normalised.map_err(|e| self.failure(OUTPUT, e, number, network))?)
            }
            false => None,
        };
        let psi = normalised.as_ref().map_or(outputs.view(), |n| n.psi.view());
        let mut t_psi = Mat::zeros(psi.dim());
        if self.objective.uses_operator() {
            self.operator.apply(batch, psi, self.objective.diagonal(), t_psi.view_mut())?;
        }
        let step = self.objective.step(psi, t_psi.view())?;
        let cotangent = match &normalised {
            Some(normalised) => normalised.backward(step.cotangent)?,
            None => step.cotangent,
        };
        let cotangent = columns_of_outputs(cotangent, network.outputs())?;
        Ok(BatchLoss { value: step.loss, cotangent, eigenvalues: step.eigenvalues })
    }

    fn parameter_gradient(
        &mut self,
        network: &dyn Network,
        tape: &Tape,
        gradient: &mut Parameters,
    ) -> Result<()> {
        self.objective.parameter_gradient(network, tape, gradient)
    }

    fn constrain(&self, parameters: &mut Parameters) -> Result<()> {
        self.objective.constrain(parameters)
    }

    fn learning_rate(&self, step: u64) -> Result<f64> {
        Ok(self.learning_rate.at(step))
    }

    fn diverged(&self, divergence: &Divergence<'_>) -> Error {
        let Divergence { step, what, cause, parameters } = *divergence;
        let (what, advice) = match cause {
            Some(cause) => {
                let finite = parameters.units().iter().flatten().all(|v| v.is_finite());
                let advice =
                    format!("a lower learning rate or another activation may help ({cause})");
                (if finite { what } else { "a parameter" }, advice)
            }
            // Nothing has been learned yet, so it is not the learning rate.
            None if step == 0 => (
                what,
                "values of the kernel are probably too large: scale the kernel or the data down"
                    .into(),
            ),
            None => (
                what,
                "the learning rate is probably too high: try a tenth of it, or clip_norm=1".into(),
            ),
        };
        Error::Diverged { step, what: what.into(), advice }
    }

    fn state(&self) -> ObjectiveState {
        self.objective.state()
    }

    fn restore(&mut self, state: &ObjectiveState) -> Result<()> {
        self.objective.restore(state)
    }
}
