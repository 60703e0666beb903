//! How a network is trained, and how states are taken from the end of its training.

use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use crate::error::{Error, Result};
use crate::nn::{OptimizerSpec, Schedule};

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
}
