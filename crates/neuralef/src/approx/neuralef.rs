//! The learned method: train eigenfunction networks, then read the eigenfunctions out of them.

use super::{Eigenfunctions, FeatureMap, Fitted, Method, MethodRecord, Run, timed};
use crate::error::{Error, Result};
use crate::fit::auto::AutoState;
use crate::fit::readout::{self, Basis, Readout, Sample};
use crate::fit::train::Trainer;
use crate::fit::{Checkpoint, Control, Event, FitSpec, Problem, Steps, checkpoint};
use crate::nn::Parameters;
use crate::operator::Batch;
use crate::persist::Archive;
use crate::spec::args::{Args, Entry};

/// Registry entry: `neuralef`. Its parts (network, objective, readout, …) are the spec's.
pub(super) const ENTRY: Entry<Box<dyn Method>> = Entry {
    name: "neuralef",
    summary: "eigenfunctions as neural networks, trained on mini-batches (Deng et al. 2022)",
    parameters: &[],
    build,
};

fn build(_: &mut Args<'_>) -> Result<Box<dyn Method>> {
    Ok(Box::new(NeuralEfMethod))
}

/// Announces a readout.
const READOUT: Event<'static> = Event::Phase { name: "readout" };

/// See the [module](self).
#[derive(Debug)]
struct NeuralEfMethod;

impl Method for NeuralEfMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        let spec = &problem.spec;
        let total = match spec.steps {
            Steps::Exactly(steps) => steps,
            Steps::Auto => spec.max_steps,
        };
        let mut training = Training::start(problem, total, run)?;
        run.observer.observe(&Event::Training { from: training.trainer.step, total });
        let readout = match spec.steps {
            Steps::Exactly(_) => {
                training.train(total, run)?;
                training.readout(run)?
            }
            Steps::Auto => training.auto(run)?,
        };
        run.timings.training_seconds += training.trainer.seconds;
        let Training { trainer, auto, sample, .. } = training;
        let steps = auto.best().map_or(trainer.step, |(step, _)| step);
        let mut record = MethodRecord {
            steps,
            auto_checks: auto.checks,
            running_eigenvalues: trainer.running_eigenvalues(),
            warnings: sample.warnings,
            ..MethodRecord::default()
        };
        if readout.eigenvalues.len() < spec.n_components {
            record.warnings.push(format!(
                "only {} of {} directions are usable: the kernel's further eigenvalues on these \
                 points are zero to rounding, or the networks span no more",
                readout.eigenvalues.len(),
                spec.n_components
            ));
        }
        record.readout = Some(readout.record);
        let map = Eigenfunctions::new(
            trainer.network,
            trainer.conditioner,
            spec.readout,
            readout.weights,
            readout.eigenvalues,
        )?;
        Ok(Fitted { map: Box::new(map), points: sample.rows.len(), sample: sample.rows, record })
    }

    fn load(
        &self,
        archive: &Archive,
        spec: &FitSpec,
        _: Option<&str>,
    ) -> Result<Box<dyn FeatureMap>> {
        Ok(Box::new(Eigenfunctions::load(archive, spec)?))
    }

    fn text(&self) -> String {
        ENTRY.name.into()
    }
}

/// The points of the readouts of one fit.
struct ReadoutSample {
    rows: Vec<usize>,
    train: Vec<Batch>,
    selection: Vec<Batch>,
    warnings: Vec<String>,
}

impl ReadoutSample {
    fn new(problem: &Problem, basis: usize) -> Result<Self> {
        let spec = &problem.spec;
        let budget = spec.memory_budget.saturating_mul(1 << 20);
        let affordable = readout::affordable_points(budget, basis, problem.selection.len())?;
        let wanted = spec.readout_points.min(problem.train.len());
        let rows = problem.training_sample(wanted.min(affordable));
        let mut warnings = Vec::new();
        if affordable < wanted {
            warnings.push(format!(
                "the readout streams {} instead of {wanted} points to stay within memory_budget = \
                 {} MiB",
                rows.len(),
                spec.memory_budget
            ));
        }
        if rows.len() < problem.train.len() && affordable >= wanted {
            warnings.push(format!(
                "the readout streams {} of {} training points: eigenvalues have the sampling error \
                 of these; readout_points sets their number",
                rows.len(),
                problem.train.len()
            ));
        }
        let train = problem.blocks(&rows)?;
        Ok(ReadoutSample { rows, train, selection: problem.blocks(&problem.selection)?, warnings })
    }
}

/// A training run with its readouts.
struct Training<'a> {
    problem: &'a Problem,
    trainer: Trainer<'a>,
    sample: ReadoutSample,
    auto: AutoState,
    best: Option<Best>,
}

/// The best parameters of an automatic run, with their readout if it is at hand.
type Best = (Parameters, Option<Readout>);

impl<'a> Training<'a> {
    fn start(problem: &'a Problem, total: u64, run: &mut Run<'_>) -> Result<Self> {
        let saved = run.resume.take();
        if let Some(saved) = &saved {
            saved.check_data(run.data, run.validation)?;
            saved.check_size(total)?;
        }
        problem.affordable_training()?;
        let mut trainer = Trainer::new(problem, total)?;
        let basis = readout::width(&*trainer.network, problem.spec.readout);
        let sample = ReadoutSample::new(problem, basis)?;
        let (mut auto, mut best) = (AutoState::default(), None);
        if let Some(saved) = saved {
            saved.restore(&mut trainer)?;
            (auto, best) = Self::saved_best(&saved, &trainer)?;
        }
        Ok(Training { problem, trainer, sample, auto, best })
    }

    fn saved_best(saved: &Checkpoint, trainer: &Trainer<'_>) -> Result<(AutoState, Option<Best>)> {
        match saved.header.auto.clone() {
            Some(auto) => {
                let best = saved.best(trainer.network.parameters())?;
                Ok((auto, Some((best, None))))
            }
            None => Ok((AutoState::default(), None)),
        }
    }

    /// Trains to `until` steps in all, writing checkpoints on the way.
    fn train(&mut self, until: u64, run: &mut Run<'_>) -> Result<()> {
        let (auto, best) = (&self.auto, &self.best);
        let (data, validation, spec) = (run.data, run.validation, run.spec);
        let mut save = |trainer: &Trainer<'_>, path: &std::path::Path| {
            let best = best.as_ref().map(|(parameters, _)| (auto, parameters));
            checkpoint::write(path, data, validation, spec, trainer, best)
        };
        self.trainer.run(until, run.observer, run.checkpoint, run.checkpoint_every, &mut save)
    }

    /// Tells the observer of `event`; when it wants to stop, writes a checkpoint and returns
    /// [`Error::Interrupted`].
    fn tell(&self, event: &Event<'_>, run: &mut Run<'_>) -> Result<()> {
        if run.observer.observe(event) == Control::Continue {
            return Ok(());
        }
        if let Some(path) = run.checkpoint {
            let best = self.best.as_ref().map(|(parameters, _)| (&self.auto, parameters));
            checkpoint::write(path, run.data, run.validation, run.spec, &self.trainer, best)?;
        }
        let checkpoint = run.checkpoint.map(std::path::Path::to_path_buf);
        Err(Error::Interrupted { step: self.trainer.step, checkpoint })
    }

    fn readout(&self, run: &mut Run<'_>) -> Result<Readout> {
        self.tell(&READOUT, run)?;
        self.compute(run)
    }

    fn compute(&self, run: &mut Run<'_>) -> Result<Readout> {
        let spec = &self.problem.spec;
        let basis = Basis {
            network: &*self.trainer.network,
            conditioner: &self.trainer.conditioner,
            kind: spec.readout,
        };
        let sample = Sample {
            operator: &*self.problem.operator,
            train: &self.sample.train,
            selection: &self.sample.selection,
        };
        timed(&mut run.timings.readout_seconds, || {
            readout::compute(&basis, &sample, spec.n_components)
        })
    }

    /// Trains while it pays and returns to the best parameters.
    fn auto(&mut self, run: &mut Run<'_>) -> Result<Readout> {
        while let Some(step) = self.auto.next(self.problem.spec.max_steps) {
            self.train(step, run)?;
            let readout = self.readout(run)?;
            let residual = readout.record.residual;
            if self.auto.note(step, residual) {
                self.best = Some((self.trainer.network.parameters().clone(), Some(readout)));
            }
            self.tell(&Event::AutoCheck { step, residual }, run)?;
        }
        match self.best.take() {
            Some((parameters, readout)) => {
                *self.trainer.network.parameters_mut() = parameters;
                readout.map_or_else(
                    || {
                        // Too late to stop: the trainer is not where a resumed run would go on.
                        run.observer.observe(&READOUT);
                        self.compute(run)
                    },
                    Ok,
                )
            }
            None => self.readout(run),
        }
    }
}
