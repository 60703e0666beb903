//! The training loop, the only one: draws batches, steps the optimiser, informs the observer.

use std::path::Path;
use std::time::Instant;

use super::signal::{Divergence, OUTPUT, Signal, TrainingStep};
use crate::error::{Error, Result};
use crate::nn::{MOMENTUM, Network, Optimizer, Parameters, Tape, clip};
use crate::observer::{Control, Event, Observer};

/// Decay of the running eigenvalue estimates.
const EMA: f64 = 0.99;

/// Writes a checkpoint of a loop to a path.
pub(crate) type WriteCheckpoint<'w, S> = dyn FnMut(&TrainingLoop<S>, &Path) -> Result<()> + 'w;

/// Where a loop writes checkpoints, and how often.
pub(crate) struct Checkpointing<'c, S> {
    pub path: &'c Path,
    /// Steps from one to the next; 0 writes one when the loop is stopped and no others.
    pub every: u64,
    pub write: &'c mut WriteCheckpoint<'c, S>,
}

/// A network in training, with its optimiser and the signal that it follows.
pub(crate) struct TrainingLoop<S> {
    pub network: Box<dyn Network>,
    pub optimizer: Box<dyn Optimizer>,
    pub signal: S,
    /// Largest norm of the gradient; larger ones are scaled down.
    clip_norm: Option<f64>,
    pub(super) steps_done: u64,
    /// Sum of EMA-weighted eigenvalue estimates, not bias-corrected.
    pub(super) ema: Vec<f64>,
    seconds: f64,
    tape: Tape,
    gradient: Parameters,
}

impl<S: Signal> TrainingLoop<S> {
    /// Readies `network` and `signal` for each other; a `clip_norm` of 0 turns clipping off.
    ///
    /// # Errors
    /// Those of [`Signal::prepare`].
    pub(crate) fn new(
        mut network: Box<dyn Network>,
        optimizer: Box<dyn Optimizer>,
        mut signal: S,
        clip_norm: f64,
    ) -> Result<Self> {
        signal.prepare(&mut *network)?;
        let gradient = network.parameters().zeros_like();
        let ema = vec![0.0; signal.n_eigenvalues(&*network)];
        Ok(TrainingLoop {
            network,
            optimizer,
            signal,
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
            steps_done: 0,
            ema,
            seconds: 0.0,
            tape: Tape::default(),
            gradient,
        })
    }

    /// Steps done.
    pub(crate) fn steps_done(&self) -> u64 {
        self.steps_done
    }

    /// Wall time spent in the steps of [`run`](TrainingLoop::run).
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The bias-corrected running means of the estimated eigenvalues.
    pub(crate) fn running_eigenvalues(&self) -> Vec<f64> {
        let weight = 1.0 - EMA.powf(self.steps_done as f64);
        self.ema.iter().map(|v| if weight > 0.0 { v / weight } else { 0.0 }).collect()
    }

    /// Trains until `until` steps are done in all.
    ///
    /// # Errors
    /// [`Error::Diverged`] at the first non-finite number, [`Error::Interrupted`] when the observer
    /// stops the run, and what reading data or writing a checkpoint reports.
    pub(crate) fn run(
        &mut self,
        until: u64,
        observer: &mut dyn Observer,
        mut checkpointing: Option<Checkpointing<'_, S>>,
    ) -> Result<()> {
        while self.steps_done < until {
            let started = Instant::now();
            let loss = self.step()?;
            self.seconds += started.elapsed().as_secs_f64();
            let (step, eigenvalues) = (self.steps_done, self.running_eigenvalues());
            let event = Event::Step { step, loss, eigenvalues: &eigenvalues };
            let stop = observer.observe(&event) == Control::Stop;
            if let Some(Checkpointing { path, every, write }) = &mut checkpointing
                && (stop || (*every > 0 && step.is_multiple_of(*every)))
            {
                write(self, path)?;
                observer.observe(&Event::Checkpoint { step, path });
            }
            if stop {
                let checkpoint = checkpointing.map(|c| c.path.to_path_buf());
                return Err(Error::Interrupted { step, checkpoint });
            }
        }
        Ok(())
    }

    /// One step: forward pass, loss, backward pass, optimiser. Returns the loss.
    ///
    /// # Errors
    /// [`Error::Diverged`] at the first non-finite number, and what the signal reports.
    pub(crate) fn step(&mut self) -> Result<f64> {
        let batch = self.signal.draw(self.steps_done)?;
        let inputs = self.signal.network_inputs(&batch)?;
        let x = inputs.as_ref().map_or(batch.x.view(), |inputs| inputs.view());
        let outputs = self.network.forward(x, Some(&mut self.tape));
        let outputs = outputs.map_err(|e| self.failure(OUTPUT, e))?;
        let step = TrainingStep { number: self.steps_done, batch: &batch, network: &*self.network };
        let loss = self.signal.loss(&step, outputs)?;
        self.expect_finite("the loss", loss.value)?;

        self.network.vjp(&self.tape, loss.cotangent.view(), &mut self.gradient)?;
        self.signal.parameter_gradient(&*self.network, &self.tape, &mut self.gradient)?;
        self.network.update_running_statistics(&self.tape, MOMENTUM);
        let norm = clip(&mut self.gradient, self.clip_norm)?;
        self.expect_finite("the gradient", norm)?;

        let rate = self.signal.learning_rate(self.steps_done)?;
        let result = self.optimizer.step(self.network.parameters_mut(), &self.gradient, rate);
        result.map_err(|e| self.failure("a square of the gradient", e))?;
        self.signal.constrain(self.network.parameters_mut())?;
        self.steps_done += 1;
        for (ema, value) in self.ema.iter_mut().zip(&loss.eigenvalues) {
            *ema = EMA * *ema + (1.0 - EMA) * value;
        }
        Ok(loss.value)
    }

    fn expect_finite(&self, what: &'static str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let (step, parameters) = (self.steps_done, self.network.parameters());
        Err(self.signal.diverged(&Divergence { step, what, cause: None, parameters }))
    }

    fn failure(&self, what: &'static str, error: Error) -> Error {
        self.signal.failure(what, error, self.steps_done, &*self.network)
    }
}
