//! The training loop: the only one. Draw a batch, forward, Tψ, objective, backward, optimiser.

use std::path::Path;
use std::time::Instant;

use super::observer::{Control, Event, Observer};
use super::problem::Problem;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::{Network, Optimizer, Parameters, Tape, clip, l2_normalise};
use crate::objective::{OBJECTIVES, Objective};
use crate::operator::Batch;
use crate::rng;

/// Decay of the running eigenvalue estimates.
const EMA: f64 = 0.99;

/// Writes a checkpoint of a trainer to a path.
pub(crate) type Save<'s> = dyn FnMut(&Trainer<'_>, &Path) -> Result<()> + 's;

/// A network in training.
pub(crate) struct Trainer<'a> {
    problem: &'a Problem,
    pub network: Box<dyn Network>,
    pub conditioner: Standardizer,
    pub optimizer: Box<dyn Optimizer>,
    objective: Box<dyn Objective>,
    /// Steps done.
    pub step: u64,
    /// Steps that the learning-rate schedule spans.
    total: u64,
    /// Sum of EMA-weighted eigenvalue estimates, not bias-corrected.
    pub ema: Vec<f64>,
    /// Wall time spent in steps.
    pub seconds: f64,
    tape: Tape,
    gradient: Parameters,
}

impl<'a> Trainer<'a> {
    /// A freshly initialised network for `problem`, to be trained for `total` steps.
    pub(crate) fn new(problem: &'a Problem, total: u64) -> Result<Self> {
        let spec = &problem.spec;
        let k = spec.n_components;
        let conditioner = problem.conditioner()?;
        let network = spec.network.build(problem.data.width(), k, spec.seed)?;
        let gradient = network.parameters().zeros_like();
        Ok(Trainer {
            problem,
            optimizer: spec.optimizer.build(network.parameters()),
            objective: OBJECTIVES.build_text(&spec.objective)?,
            network,
            conditioner,
            step: 0,
            total,
            ema: vec![0.0; k],
            seconds: 0.0,
            tape: Tape::default(),
            gradient,
        })
    }

    /// Trains until `until` steps are done in all; writes a checkpoint to `checkpoint`, if given,
    /// every `every` steps (0: only when stopped).
    ///
    /// # Errors
    /// [`Error::Diverged`] at the first non-finite number, [`Error::Interrupted`] when the observer
    /// stops the run, and what reading data or writing a checkpoint reports.
    pub(crate) fn run(
        &mut self,
        until: u64,
        observer: &mut dyn Observer,
        checkpoint: Option<&Path>,
        every: u64,
        save: &mut Save<'_>,
    ) -> Result<()> {
        while self.step < until {
            let started = Instant::now();
            let loss = self.advance()?;
            self.seconds += started.elapsed().as_secs_f64();
            let eigenvalues = self.running_eigenvalues();
            let event = Event::Step { step: self.step, loss, eigenvalues: &eigenvalues };
            let stop = observer.observe(&event) == Control::Stop;
            let due = every > 0 && self.step.is_multiple_of(every);
            if let Some(path) = checkpoint.filter(|_| stop || due) {
                save(self, path)?;
                observer.observe(&Event::Checkpoint { step: self.step, path });
            }
            if stop {
                let checkpoint = checkpoint.map(Path::to_path_buf);
                return Err(Error::Interrupted { step: self.step, checkpoint });
            }
        }
        Ok(())
    }

    /// The bias-corrected running means of the objective's eigenvalue estimates.
    pub(crate) fn running_eigenvalues(&self) -> Vec<f64> {
        let weight = 1.0 - EMA.powf(self.step as f64);
        self.ema.iter().map(|v| if weight > 0.0 { v / weight } else { 0.0 }).collect()
    }

    /// One step; returns the loss.
    fn advance(&mut self) -> Result<f64> {
        let batch = self.draw()?;
        let z = self.conditioner.apply(batch.x.view())?;
        let forward = self.network.forward(z.view(), Some(&mut self.tape));
        let mut outputs = forward.map_err(|e| self.diverged(e))?;
        let normalised = match self.objective.normalises() {
            true => {
                let outputs = std::mem::take(&mut outputs);
                Some(l2_normalise(outputs).map_err(|e| self.diverged(e))?)
            }
            false => None,
        };
        let psi = normalised.as_ref().map_or(outputs.view(), |n| n.psi.view());

        let mut t_psi = Mat::zeros(psi.dim());
        let diagonal = self.objective.diagonal();
        self.problem.operator.apply(&batch, psi, diagonal, t_psi.view_mut())?;
        let step = self.objective.step(psi, t_psi.view())?;
        self.check("the loss", step.loss)?;

        let cotangent = match &normalised {
            Some(n) => n.backward(step.cotangent)?,
            None => step.cotangent,
        };
        self.network.vjp(&self.tape, cotangent.view(), &mut self.gradient)?;
        let limit = self.problem.spec.clip_norm;
        let norm = clip(&mut self.gradient, (limit > 0.0).then_some(limit))?;
        self.check("the gradient", norm)?;
        let spec = &self.problem.spec;
        let lr = spec.optimizer.learning_rate() * spec.schedule.factor(self.step, self.total);
        self.optimizer.step(self.network.parameters_mut(), &self.gradient, lr)?;

        for (ema, value) in self.ema.iter_mut().zip(&step.eigenvalues) {
            *ema = EMA * *ema + (1.0 - EMA) * value;
        }
        self.step += 1;
        Ok(step.loss)
    }

    /// The batch of this step: distinct training rows, redrawn alike in a resumed run.
    fn draw(&self) -> Result<Batch> {
        let train = &self.problem.train;
        let mut rng = rng::stream(self.problem.spec.seed, "batch", self.step);
        let size = self.problem.spec.batch_size.min(train.len());
        let mut indices: Vec<usize> = rand::seq::index::sample(&mut rng, train.len(), size)
            .iter()
            .map(|i| train[i])
            .collect();
        // Ascending rows read a memory-mapped file in order; the objective does not mind.
        indices.sort_unstable();
        self.problem.batch(&indices)
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

    /// What a failing forward pass means in training: something stopped being finite.
    fn diverged(&self, cause: Error) -> Error {
        if !matches!(cause, Error::NonFinite { .. } | Error::Numerical { .. }) {
            return cause;
        }
        let finite = self.network.parameters().units().iter().flatten().all(|v| v.is_finite());
        Error::Diverged {
            step: self.step,
            what: if finite { "a network output" } else { "a parameter" }.into(),
            advice: format!("a lower learning rate or another activation may help ({cause})"),
        }
    }
}
