//! The training loop: the only one. Draws batches, steps the learner, tells the observer.

use std::path::Path;
use std::time::Instant;

use super::learner::Learner;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::fit::Problem;
use crate::nn::Parameters;
use crate::observer::{Control, Event, Observer};
use crate::operator::Batch;
use crate::rng;

/// Decay of the running eigenvalue estimates.
const EMA: f64 = 0.99;

/// Writes a checkpoint of a trainer to a path.
pub(crate) type Save<'s> = dyn FnMut(&Trainer<'_>, &Path) -> Result<()> + 's;

/// A network in training.
pub(crate) struct Trainer<'a> {
    problem: &'a Problem,
    pub learner: Learner,
    pub conditioner: Standardizer,
    /// Steps that the learning-rate schedule spans.
    total: u64,
    /// Sum of EMA-weighted eigenvalue estimates, not bias-corrected.
    pub ema: Vec<f64>,
    /// Wall time spent in steps.
    pub seconds: f64,
}

impl<'a> Trainer<'a> {
    /// A network for `problem`, to be trained for `total` steps, from the parameters `start` if given;
    /// `fresh` ones without these start from the data where their architecture does.
    pub(crate) fn new(
        problem: &'a Problem,
        total: u64,
        fresh: bool,
        start: Option<&Parameters>,
    ) -> Result<Self> {
        let spec = &problem.spec;
        let k = spec.n_components;
        let objective = spec.objective.get()?.fresh();
        let conditioner = match objective.conditions() {
            true if !spec.network.takes_raw_inputs() => problem.conditioner()?,
            _ => Standardizer::identity(problem.data.width()),
        };
        if spec.standardize && spec.network.takes_raw_inputs() {
            let expected = "false with a network that was trained on points as they are";
            return Err(Error::parameter("standardize", expected, true));
        }
        let mut network =
            spec.network.build(problem.data.width(), k, spec.network_outputs(), spec.seed)?;
        let wanted = network.start_points();
        if let Some(start) = start {
            let own = network.parameters_mut();
            if start.layouts() != own.layouts() {
                let expected = "the network and n_components of the model to start from";
                return Err(Error::parameter("network", expected, &spec.network));
            }
            own.clone_from(start);
        } else if fresh && wanted > 0 {
            let points = problem.batch(&problem.training_sample(wanted))?.x;
            network.start(conditioner.apply(points.view())?.view())?;
        }
        let rule = spec.optimizer.get()?;
        let bytes = rule.memory().map_or(0, |memory| memory.bytes(network.parameters()));
        problem.expect_training(bytes)?;
        let optimizer = rule.build(network.parameters());
        let kernel = problem.kernel.as_ref().map(|kernel| kernel.text());
        let learner = Learner::new(network, optimizer, objective, kernel.as_deref())?;
        Ok(Trainer { problem, learner, conditioner, total, ema: vec![0.0; k], seconds: 0.0 })
    }

    /// Steps done.
    pub(crate) fn step(&self) -> u64 {
        self.learner.step
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
        while self.step() < until {
            let started = Instant::now();
            let loss = self.advance()?;
            self.seconds += started.elapsed().as_secs_f64();
            let eigenvalues = self.running_eigenvalues();
            let event = Event::Step { step: self.step(), loss, eigenvalues: &eigenvalues };
            let stop = observer.observe(&event) == Control::Stop;
            let due = every > 0 && self.step().is_multiple_of(every);
            if let Some(path) = checkpoint.filter(|_| stop || due) {
                save(self, path)?;
                observer.observe(&Event::Checkpoint { step: self.step(), path });
            }
            if stop {
                let checkpoint = checkpoint.map(Path::to_path_buf);
                return Err(Error::Interrupted { step: self.step(), checkpoint });
            }
        }
        Ok(())
    }

    /// The bias-corrected running means of the objective's eigenvalue estimates.
    pub(crate) fn running_eigenvalues(&self) -> Vec<f64> {
        let weight = 1.0 - EMA.powf(self.step() as f64);
        self.ema.iter().map(|v| if weight > 0.0 { v / weight } else { 0.0 }).collect()
    }

    /// One step; returns the loss.
    fn advance(&mut self) -> Result<f64> {
        let batch = self.draw()?;
        let z = self.conditioner.apply(batch.x.view())?;
        let spec = &self.problem.spec;
        let factor = spec.schedule.factor(self.learner.step, self.total);
        let rate = spec.optimizer.learning_rate()? * factor;
        let limit = (spec.clip_norm > 0.0).then_some(spec.clip_norm);
        let operator = &*self.problem.training_operator;
        let update = self.learner.step(&batch, z.view(), operator, rate, limit)?;
        for (ema, value) in self.ema.iter_mut().zip(&update.eigenvalues) {
            *ema = EMA * *ema + (1.0 - EMA) * value;
        }
        Ok(update.loss)
    }

    /// The batch of this step: distinct training rows, redrawn alike in a resumed run.
    fn draw(&self) -> Result<Batch> {
        let train = &self.problem.train;
        let mut rng = rng::stream(self.problem.spec.seed, "batch", self.step());
        let size = self.problem.spec.batch_size.min(train.len());
        let mut indices: Vec<usize> = rand::seq::index::sample(&mut rng, train.len(), size)
            .iter()
            .map(|i| train[i])
            .collect();
        // Ascending rows read a memory-mapped file in order; the objective does not mind.
        indices.sort_unstable();
        self.problem.batch(&indices)
    }
}
