//! The signal of supervised training: batches of shuffled epochs, augmented, and a loss of the targets.

use rand::seq::SliceRandom as _;

use super::loss::loss;
use super::training::Training;
use crate::bayes::Targets;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::Network;
use crate::operator::Batch;
use crate::rng;
use crate::train::{BatchLoss, Divergence, Signal, TrainingStep};

/// What trains a network to give `targets` at `data`.
pub(super) struct SupervisedSignal<'a> {
    training: &'a Training,
    data: &'a Dataset,
    targets: &'a Targets,
    /// The number of an epoch, and the order of the points in it.
    epoch: Option<(u64, Vec<usize>)>,
}

impl<'a> SupervisedSignal<'a> {
    /// Of training as `training` describes it.
    pub(super) fn new(training: &'a Training, data: &'a Dataset, targets: &'a Targets) -> Self {
        SupervisedSignal { training, data, targets, epoch: None }
    }

    fn batch_size(&self) -> usize {
        self.training.batch_size.min(self.data.len())
    }

    /// Batches of an epoch.
    pub(super) fn batches(&self) -> u64 {
        (self.data.len() / self.batch_size()) as u64
    }

    /// The order of the points in epoch number `epoch`.
    fn order(&mut self, epoch: u64) -> &[usize] {
        let order = || {
            let mut order: Vec<usize> = (0..self.data.len()).collect();
            order.shuffle(&mut rng::stream(self.training.seed, "order", epoch));
            (epoch, order)
        };
        let current = self.epoch.take().filter(|(number, _)| *number == epoch);
        &self.epoch.insert(current.unwrap_or_else(order)).1
    }
}

impl Signal for SupervisedSignal<'_> {
    fn prepare(&mut self, network: &mut dyn Network) -> Result<()> {
        network.freeze(false);
        Ok(())
    }

    fn draw(&mut self, step: u64) -> Result<Batch> {
        let (epoch, within) = (step / self.batches(), step % self.batches());
        let (start, size) = (within as usize * self.batch_size(), self.batch_size());
        let mut indices = self.order(epoch)[start..start + size].to_vec();
        // Ascending rows read a memory-mapped file in order.
        indices.sort_unstable();
        let mut x = self.data.rows(&indices)?;
        let mut rng = rng::stream(self.training.seed, "augmentation", step);
        self.training.augmentation.apply(&mut x, &mut rng)?;
        Ok(Batch { indices, x })
    }

    fn loss(&mut self, step: &TrainingStep<'_>, outputs: Mat) -> Result<BatchLoss> {
        let (value, cotangent) = loss(self.targets, &step.batch.indices, outputs.view())?;
        Ok(BatchLoss { value, cotangent, eigenvalues: Vec::new() })
    }

    fn learning_rate(&self, step: u64) -> Result<f64> {
        self.training.rate(step)
    }

    fn diverged(&self, divergence: &Divergence<'_>) -> Error {
        let advice = "try a tenth of the learning rate, clip_norm=1, or data scaled to order one";
        let (step, what) = (divergence.step, divergence.what.into());
        Error::Diverged { step, what, advice: advice.into() }
    }
}
