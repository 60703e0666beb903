//! Supervised training with a tail whose states make a trajectory.

use std::time::Instant;

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use super::loss::loss;
use super::moments::WeightMoments;
use super::refresh::refresh;
use super::states::StatesWriter;
use super::{Trajectory, TrajectoryRecord};
use crate::bayes::Targets;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{MOMENTUM, Network, Optimizer, OptimizerSpec, Parameters, Schedule, Tape, clip};
use crate::observer::{Control, Event, Observer};
use crate::rng;

/// How a network is trained, and how states are taken from the end of its training.
///
/// The first `steps` steps are training as usual, at the optimiser's rate times `schedule`: the network
/// then is the *base* network. `tail_steps` more at the rate `tail_lr` times `tail_schedule` follow it
/// with the optimiser's memory as it is, and after every `every` of them a state is taken. Points come
/// in epochs, each in an order of its own, in batches of one size; what fills no batch is left out of
/// that epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// The optimiser, with its learning rate and weight decay.
    pub optimizer: OptimizerSpec,
    /// How the learning rate changes over the first `steps`.
    pub schedule: Schedule,
    /// Steps before the tail.
    pub steps: u64,
    /// Steps of the tail.
    pub tail_steps: u64,
    /// Learning rate of the tail.
    pub tail_lr: f64,
    /// How that changes over the tail: `constant`, or `cyclic(period=P)` with `every` = P.
    pub tail_schedule: Schedule,
    /// Steps from one state to the next.
    pub every: u64,
    /// Deviations of the weights that are kept for SWAG; 0 for none.
    pub rank: usize,
    /// Points in a batch.
    pub batch_size: usize,
    /// Largest norm of the gradient; larger ones are scaled down. 0 turns clipping off.
    pub clip_norm: f64,
    /// What happens to points before each step.
    pub augmentation: Augmentation,
    /// Seed of orders, augmentations and refreshed statistics.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Training {
            optimizer: "sgd(lr=0.05, momentum=0.9, nesterov=true, weight_decay=5e-4)".into(),
            schedule: Schedule::default(),
            steps: 2000,
            tail_steps: 1000,
            tail_lr: 0.01,
            tail_schedule: Schedule::Constant,
            every: 50,
            rank: 20,
            batch_size: 128,
            clip_norm: 0.0,
            augmentation: Augmentation::default(),
            seed: 0,
        }
    }
}

impl Training {
    /// M, the states that are taken.
    pub fn states(&self) -> u64 {
        self.tail_steps / self.every.max(1)
    }

    /// Checks every range that can be checked without data.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for the first field out of range.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("every", self.every), ("batch_size", self.batch_size as u64)] {
            if value == 0 {
                return Err(Error::parameter(name, "a whole number ≥ 1", value));
            }
        }
        if self.states() < 2 {
            let expected = format!("at least {}, for two states", self.every.saturating_mul(2));
            return Err(Error::parameter("tail_steps", expected, self.tail_steps));
        }
        if !(self.tail_lr.is_finite() && self.tail_lr > 0.0) {
            return Err(Error::parameter("tail_lr", "a number > 0", self.tail_lr));
        }
        if !(self.clip_norm >= 0.0 && self.clip_norm.is_finite()) {
            return Err(Error::parameter("clip_norm", "a number ≥ 0", self.clip_norm));
        }
        Ok(())
    }

    /// Learning rate of step number `step`, from 0.
    pub(super) fn rate(&self, step: u64) -> Result<f64> {
        match step.checked_sub(self.steps) {
            None => Ok(self.optimizer.learning_rate()? * self.schedule.factor(step, self.steps)),
            Some(step) => Ok(self.tail_lr * self.tail_schedule.factor(step, self.tail_steps)),
        }
    }

    /// Trains `network` to give `targets` at `data`, from its weights as they are, and takes the states
    /// of the tail; each of `writers` records every state's outputs. Points are seen as they are:
    /// scale them to numbers of order one. Same seed and data, same bits, for any number of threads.
    ///
    /// # Errors
    /// Those of [`check`](Training::check); [`Error::Shape`] when data, targets and network do not fit;
    /// [`Error::Diverged`] at the first number that is not finite, [`Error::Interrupted`] when
    /// `observer` stops it; what reading data and writing states report.
    pub fn run(
        &self,
        network: Box<dyn Network>,
        data: &Dataset,
        targets: &Targets,
        writers: &mut [StatesWriter],
        observer: &mut dyn Observer,
    ) -> Result<Trajectory> {
        // On a thread of the pool, parallel parts of a step start without waking a sleeper.
        rayon::scope(|_| self.run_in_pool(network, data, targets, writers, observer))
    }

    fn run_in_pool(
        &self,
        network: Box<dyn Network>,
        data: &Dataset,
        targets: &Targets,
        writers: &mut [StatesWriter],
        observer: &mut dyn Observer,
    ) -> Result<Trajectory> {
        self.check()?;
        let outputs = network.functions() * network.outputs();
        if network.inputs() != data.width() {
            return Err(Error::shape(data.name(), network.inputs(), data.width()));
        }
        targets.check(data.len(), outputs)?;
        self.augmentation.check(data.width())?;
        data.check_finite()?;
        let started = Instant::now();
        let mut trainer = Trainer::new(self, network, data, targets)?;
        let total = self.steps.saturating_add(self.tail_steps);
        observer.observe(&Event::Phase { name: "training" });
        observer.observe(&Event::Training { from: 0, total });
        let base_loss = trainer.run(self.steps, observer)?;
        let base = trainer.network.parameters().clone();
        let mut moments = WeightMoments::new(&base, self.rank);
        let mut tail_loss = 0.0;
        for state in 1..=self.states() {
            tail_loss += trainer.run(self.steps + state * self.every, observer)?;
            moments.update(trainer.network.parameters())?;
            for writer in &mut *writers {
                writer.record(&*trainer.network)?;
            }
        }
        let mut network = trainer.network;
        moments.mean_into(network.parameters_mut())?;
        refresh(&mut *network, data, self.batch_size, self.seed)?;
        let swa = network.parameters().clone();
        let record = TrajectoryRecord {
            steps: self.steps,
            states: self.states(),
            base_loss,
            tail_loss: tail_loss / self.states() as f64,
            training_seconds: started.elapsed().as_secs_f64(),
        };
        let Training { batch_size, seed, .. } = *self;
        Ok(Trajectory { network, base, swa, moments, batch_size, seed, record })
    }
}

/// A network in training.
struct Trainer<'a> {
    spec: &'a Training,
    network: Box<dyn Network>,
    data: &'a Dataset,
    targets: &'a Targets,
    optimizer: Box<dyn Optimizer>,
    step: u64,
    /// The order of the points in this epoch.
    order: Vec<usize>,
    tape: Tape,
    gradient: Parameters,
}

impl<'a> Trainer<'a> {
    fn new(
        spec: &'a Training,
        mut network: Box<dyn Network>,
        data: &'a Dataset,
        targets: &'a Targets,
    ) -> Result<Self> {
        network.freeze(false);
        let optimizer = spec.optimizer.build(network.parameters())?;
        let gradient = network.parameters().zeros_like();
        let (order, tape) = (Vec::new(), Tape::default());
        Ok(Trainer { spec, network, data, targets, optimizer, step: 0, order, tape, gradient })
    }

    /// Trains until `until` steps are done in all, and returns the mean loss of the steps of the last
    /// epoch among them; NaN for no steps.
    fn run(&mut self, until: u64, observer: &mut dyn Observer) -> Result<f64> {
        let begun = until.saturating_sub(self.batches()).max(self.step);
        let (mut sum, mut count) = (0.0, 0u32);
        while self.step < until {
            let loss = self.advance()?;
            if self.step > begun {
                (sum, count) = (sum + loss, count + 1);
            }
            let event = Event::Step { step: self.step, loss, eigenvalues: &[] };
            if observer.observe(&event) == Control::Stop {
                return Err(Error::Interrupted { step: self.step, checkpoint: None });
            }
        }
        Ok(sum / f64::from(count))
    }

    fn batch_size(&self) -> usize {
        self.spec.batch_size.min(self.data.len())
    }

    /// Batches of an epoch.
    fn batches(&self) -> u64 {
        (self.data.len() / self.batch_size()) as u64
    }

    /// The rows of this step's batch.
    fn draw(&mut self) -> Vec<usize> {
        let (epoch, within) = (self.step / self.batches(), self.step % self.batches());
        if within == 0 {
            self.order = (0..self.data.len()).collect();
            self.order.shuffle(&mut rng::stream(self.spec.seed, "order", epoch));
        }
        let (start, size) = (within as usize * self.batch_size(), self.batch_size());
        let mut rows = self.order[start..start + size].to_vec();
        // Ascending rows read a memory-mapped file in order.
        rows.sort_unstable();
        rows
    }

    /// One step; returns the loss.
    fn advance(&mut self) -> Result<f64> {
        let rows = self.draw();
        let mut x = self.data.rows(&rows)?;
        let mut rng = rng::stream(self.spec.seed, "augmentation", self.step);
        self.spec.augmentation.apply(&mut x, &mut rng)?;
        let outputs = self.network.forward(x.view(), Some(&mut self.tape));
        let outputs = outputs.map_err(|e| match e {
            Error::NonFinite { .. } => self.diverged("a network output"),
            other => other,
        })?;
        let (loss, cotangent) = loss(self.targets, &rows, outputs.view())?;
        self.network.vjp(&self.tape, cotangent.view(), &mut self.gradient)?;
        self.network.settle(&self.tape, MOMENTUM);
        let limit = (self.spec.clip_norm > 0.0).then_some(self.spec.clip_norm);
        let norm = clip(&mut self.gradient, limit)?;
        for (what, value) in [("the loss", loss), ("the gradient", norm)] {
            if !value.is_finite() {
                return Err(self.diverged(what));
            }
        }
        let rate = self.spec.rate(self.step)?;
        let stepped = self.optimizer.step(self.network.parameters_mut(), &self.gradient, rate);
        stepped.map_err(|e| match e {
            Error::NonFinite { .. } | Error::Numerical { .. } => {
                self.diverged("a square of the gradient")
            }
            other => other,
        })?;
        self.step += 1;
        Ok(loss)
    }

    fn diverged(&self, what: &str) -> Error {
        let advice = "try a tenth of the learning rate, clip_norm=1, or data scaled to order one";
        Error::Diverged { step: self.step, what: what.into(), advice: advice.into() }
    }
}
