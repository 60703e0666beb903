//! Supervised training with a tail whose states make a trajectory.

use std::time::Instant;

use super::moments::WeightMoments;
use super::refresh::refresh;
use super::signal::SupervisedSignal;
use super::states::StatesWriter;
use super::training::Training;
use super::{Trajectory, TrajectoryRecord};
use crate::bayes::Targets;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::Network;
use crate::observer::{Event, Observer};
use crate::train::TrainingLoop;

impl Training {
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
        let optimizer = self.optimizer.build(network.parameters())?;
        let signal = SupervisedSignal::new(self, data, targets);
        let mut training = TrainingLoop::new(network, optimizer, signal, self.clip_norm)?;
        let total = self.steps.saturating_add(self.tail_steps);
        observer.observe(&Event::Phase { name: "training" });
        observer.observe(&Event::Training { from: 0, total });
        let base_loss = train(&mut training, self.steps, observer)?;
        let base = training.network.parameters().clone();
        let mut moments = WeightMoments::new(&base, self.rank);
        let mut tail_loss = 0.0;
        for state in 1..=self.states() {
            tail_loss += train(&mut training, self.steps + state * self.every, observer)?;
            moments.update(training.network.parameters())?;
            for writer in &mut *writers {
                writer.record(&*training.network)?;
            }
        }
        let mut network = training.network;
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

/// Trains until `until` steps are done in all, and returns the mean loss of the steps of the last epoch
/// among them; NaN for no steps.
fn train(
    training: &mut TrainingLoop<SupervisedSignal<'_>>,
    until: u64,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let epoch_start = until.saturating_sub(training.signal.batches()).max(training.steps_done());
    let (mut sum, mut count) = (0.0, 0u32);
    let mut add_losses = |event: &Event<'_>| {
        if let Event::Step { step, loss, .. } = event
            && *step > epoch_start
        {
            (sum, count) = (sum + loss, count + 1);
        }
        observer.observe(event)
    };
    training.run(until, &mut add_losses, None)?;
    Ok(sum / f64::from(count))
}
