//! The learning rate of every step of a run.

use crate::nn::Schedule;

/// A learning rate that follows a schedule.
#[derive(Debug, Clone)]
pub(crate) struct LearningRate {
    /// The rate that the schedule's factors multiply.
    pub initial: f64,
    /// How it changes.
    pub schedule: Schedule,
    /// Steps that the schedule spans.
    pub steps: u64,
}

impl LearningRate {
    /// The rate of step number `step`, from 0.
    pub(crate) fn at(&self, step: u64) -> f64 {
        self.initial * self.schedule.factor(step, self.steps)
    }
}
