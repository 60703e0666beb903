//! One step of learning: forward, Tψ, objective, backward, optimiser. Knows no data and no files.

use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use crate::nn::{
    MOMENTUM, Network, Optimizer, Parameters, Tape, clip, columns_of_outputs, l2_normalise,
    rows_of_outputs,
};
use crate::objective::Objective;
use crate::operator::{Batch, KernelOperator};

const OUTPUT: &str = "a network output";

/// A network with its optimiser and objective.
pub(crate) struct Learner {
    pub network: Box<dyn Network>,
    pub optimizer: Box<dyn Optimizer>,
    pub objective: Box<dyn Objective>,
    /// Steps done.
    pub step: u64,
    tape: Tape,
    gradient: Parameters,
}

/// What a step tells.
pub(crate) struct Update {
    pub loss: f64,
    pub eigenvalues: Vec<f64>,
}

impl Learner {
    /// Readies `objective` for `network`; `kernel` is the kernel's text, where there is one.
    pub(crate) fn new(
        mut network: Box<dyn Network>,
        optimizer: Box<dyn Optimizer>,
        mut objective: Box<dyn Objective>,
        kernel: Option<&str>,
    ) -> Result<Self> {
        objective.prepare(&mut *network, kernel)?;
        let gradient = network.parameters().zeros_like();
        Ok(Learner { network, optimizer, objective, step: 0, tape: Tape::default(), gradient })
    }

    /// One step at learning rate `rate`: `z` is what the network sees of the batch, and gradients
    /// of a norm above `limit` are scaled down to it. With C outputs everything between network and
    /// network has a row for each (point, output): a function is normalised over all rows of its
    /// column, and an objective's means run over them too.
    ///
    /// # Errors
    /// [`Error::Diverged`] at the first non-finite number, and what the operator reports.
    pub(crate) fn step(
        &mut self,
        batch: &Batch,
        z: MatRef<'_>,
        operator: &dyn KernelOperator,
        rate: f64,
        limit: Option<f64>,
    ) -> Result<Update> {
        let forward = self.network.forward(z, Some(&mut self.tape));
        let outputs = forward.map_err(|e| self.diverged(OUTPUT, e))?;
        let mut outputs = rows_of_outputs(outputs, self.network.outputs())?;
        let normalised = match self.objective.normalises() {
            true => {
                let outputs = std::mem::take(&mut outputs);
                Some(l2_normalise(outputs).map_err(|e| self.diverged(OUTPUT, e))?)
            }
            false => None,
        };
        let psi = normalised.as_ref().map_or(outputs.view(), |n| n.psi.view());

        let mut t_psi = Mat::zeros(psi.dim());
        if self.objective.uses_operator() {
            operator.apply(batch, psi, self.objective.diagonal(), t_psi.view_mut())?;
        }
        let found = self.objective.step(psi, t_psi.view())?;
        self.check("the loss", found.loss)?;

        let cotangent = match &normalised {
            Some(n) => n.backward(found.cotangent)?,
            None => found.cotangent,
        };
        let cotangent = columns_of_outputs(cotangent, self.network.outputs())?;
        self.network.vjp(&self.tape, cotangent.view(), &mut self.gradient)?;
        self.objective.parameter_gradient(&*self.network, &self.tape, &mut self.gradient)?;
        self.network.update_running_statistics(&self.tape, MOMENTUM);
        let norm = clip(&mut self.gradient, limit)?;
        self.check("the gradient", norm)?;
        let stepped = self.optimizer.step(self.network.parameters_mut(), &self.gradient, rate);
        stepped.map_err(|e| self.diverged("a square of the gradient", e))?;
        self.objective.constrain(self.network.parameters_mut())?;
        self.step += 1;
        Ok(Update { loss: found.loss, eigenvalues: found.eigenvalues })
    }

    fn check(&self, what: &str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let advice = match self.step {
            // Nothing has been learned yet, so it is not the learning rate.
            0 => "values of the kernel are probably too large: scale the kernel or the data down",
            _ => "the learning rate is probably too high: try a tenth of it, or clip_norm=1",
        };
        Err(Error::Diverged { step: self.step, what: what.into(), advice: advice.into() })
    }

    /// What a failure at `place`, a forward pass or an optimiser's step, means in training: something
    /// stopped being finite.
    fn diverged(&self, place: &str, cause: Error) -> Error {
        if !matches!(cause, Error::NonFinite { .. } | Error::Numerical { .. }) {
            return cause;
        }
        let finite = self.network.parameters().units().iter().flatten().all(|v| v.is_finite());
        Error::Diverged {
            step: self.step,
            what: if finite { place } else { "a parameter" }.into(),
            advice: format!("a lower learning rate or another activation may help ({cause})"),
        }
    }
}
