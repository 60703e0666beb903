//! The learned method: train eigenfunction networks, then read the eigenfunctions out of them.

use std::sync::Arc;

use super::{Eigenfunctions, Fitted, Method, MethodRecord, Run, timed};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::problem::every;
use crate::fit::{FitSpec, Problem, Steps};
use crate::kernel::Kernel;
use crate::nn::Parameters;
use crate::observer::{Control, Event};
use crate::operator::Batch;
use crate::persist::Archive;
use crate::readout::{self, Basis, Readout, Sample, Wanted};
use crate::spec::Entry;
use crate::train::auto::AutoState;
use crate::train::trainer::Trainer;
use crate::train::{Checkpoint, checkpoint};

/// Registry entry: `neuralef`. Its parts (network, objective, readout, …) are the spec's.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "neuralef",
    summary: "eigenfunctions as neural networks, trained on mini-batches (Deng et al. 2022)",
    parameters: &[],
    build: |_| Ok(Arc::new(NeuralEfMethod)),
};

/// The most points that a look of `steps = auto` streams.
const LOOK: usize = 4096;

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
        run.observer.observe(&Event::Training { from: training.trainer.step(), total });
        let readout = match spec.steps {
            Steps::Exactly(_) => {
                training.train(total, run)?;
                training.readout(run)?
            }
            Steps::Auto => training.auto(run)?,
        };
        run.timings.training_seconds += training.trainer.seconds;
        let Training { trainer, auto, sample, .. } = training;
        let steps = auto.best().map_or(trainer.step(), |(step, _)| step);
        let mut record = MethodRecord {
            steps,
            auto_checks: auto.checks,
            running_eigenvalues: trainer.running_eigenvalues(),
            warnings: [problem.training_warnings.clone(), sample.warnings].concat(),
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
            trainer.learner.network,
            trainer.conditioner,
            spec.readout,
            readout.weights,
            readout.assembly,
            readout.eigenvalues,
        )?;
        let map = map.with_file(spec.network.file()?);
        Ok(Fitted { map: Box::new(map), points: sample.rows.len(), sample: sample.rows, record })
    }

    fn load(
        &self,
        archive: &Archive,
        spec: &FitSpec,
        _: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        Ok(Box::new(Eigenfunctions::load(archive, spec)?))
    }

    fn text(&self) -> String {
        ENTRY.text(&[])
    }
}

/// The points of the readouts of one fit.
struct ReadoutSample {
    rows: Vec<usize>,
    train: Vec<Batch>,
    /// Fewer points for the looks of `steps = auto`, where those of the readout are many.
    look: Option<Vec<Batch>>,
    selection: Vec<Batch>,
    /// The most directions of the basis that memory allows.
    rank_limit: usize,
    warnings: Vec<String>,
}

impl ReadoutSample {
    fn new(problem: &Problem, basis: usize) -> Result<Self> {
        let spec = &problem.spec;
        let load = problem.readout_load(basis);
        let affordable = load.points(problem.memory())?;
        let rank_limit = load.rank_limit(problem.memory());
        let wanted = spec.readout_points.min(problem.train.len());
        let rows = problem.training_sample(wanted.min(affordable));
        let mut warnings = Vec::new();
        if rank_limit < basis {
            warnings.push(format!(
                "the readout uses the {rank_limit} leading directions of {basis} basis functions \
                 for each output, to stay within memory_budget = {} MiB",
                spec.memory_budget
            ));
        }
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
        let look = match spec.steps {
            Steps::Auto if rows.len() > LOOK => Some(problem.blocks(&every(&rows, LOOK))?),
            _ => None,
        };
        let selection = problem.blocks(&problem.selection)?;
        Ok(ReadoutSample { rows, train, look, selection, rank_limit, warnings })
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
        problem.expect_points_for_components()?;
        problem.expect_held_out()?;
        let saved = run.resume.take();
        if let Some(saved) = &saved {
            saved.check_data(run.inputs)?;
            saved.check_size(total)?;
        }
        problem.affordable_training()?;
        let mut trainer = Trainer::new(problem, total, saved.is_none(), run.start)?;
        let basis = readout::width(&*trainer.learner.network, problem.spec.readout);
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
                let best = saved.best(trainer.learner.network.parameters())?;
                Ok((auto, Some((best, None))))
            }
            None => Ok((AutoState::default(), None)),
        }
    }

    /// Trains to `until` steps in all, writing checkpoints on the way.
    fn train(&mut self, until: u64, run: &mut Run<'_>) -> Result<()> {
        let (auto, best, inputs) = (&self.auto, &self.best, run.inputs);
        let mut save = |trainer: &Trainer<'_>, path: &std::path::Path| {
            let best = best.as_ref().map(|(parameters, _)| (auto, parameters));
            checkpoint::write(path, inputs, trainer, best)
        };
        self.trainer.run(until, run.observer, run.checkpoint, run.checkpoint_every, &mut save)
    }

    /// Tells the observer of `event`; when it wants to stop, writes a checkpoint and returns
    /// [`Error::Interrupted`].
    fn tell(&self, event: &Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match run.observer.observe(event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(self.stopped(run)),
        }
    }

    /// Writes a checkpoint; the error that says where.
    fn stopped(&self, run: &Run<'_>) -> Error {
        if let Some(path) = run.checkpoint {
            let best = self.best.as_ref().map(|(parameters, _)| (&self.auto, parameters));
            if let Err(error) = checkpoint::write(path, run.inputs, &self.trainer, best) {
                return error;
            }
        }
        let checkpoint = run.checkpoint.map(std::path::Path::to_path_buf);
        Error::Interrupted { step: self.trainer.step(), checkpoint }
    }

    /// The readout on all points it is to stream.
    fn readout(&self, run: &mut Run<'_>) -> Result<Readout> {
        self.tell(&READOUT, run)?;
        let found = self.compute(&self.sample.train, run);
        self.or_stopped(found, run)
    }

    /// Makes the error of an interrupted computation one with a checkpoint.
    fn or_stopped<T>(&self, found: Result<T>, run: &Run<'_>) -> Result<T> {
        found.map_err(|error| match error {
            Error::Interrupted { .. } => self.stopped(run),
            other => other,
        })
    }

    /// A readout on `train`; when the observer wants to stop, [`Error::Interrupted`].
    fn compute(&self, train: &[Batch], run: &mut Run<'_>) -> Result<Readout> {
        let spec = &self.problem.spec;
        let basis = Basis {
            network: &*self.trainer.learner.network,
            conditioner: &self.trainer.conditioner,
            kind: spec.readout,
            layout: self.problem.layout(),
        };
        let operator = &*self.problem.operator;
        let sample = Sample { operator, train, selection: &self.sample.selection };
        let outputs = self.trainer.learner.objective.outputs();
        let rank_limit = self.sample.rank_limit;
        let wanted = Wanted { components: spec.n_components, outputs, rank_limit };
        let step = self.trainer.step();
        let observer = &mut *run.observer;
        let mut tick = |done, total| match observer.observe(&Event::Progress { done, total }) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Interrupted { step, checkpoint: None }),
        };
        timed(&mut run.timings.readout_seconds, || {
            readout::compute(&basis, &sample, &wanted, &mut tick)
        })
    }

    fn next_look(&self) -> Option<u64> {
        self.auto.next(self.problem.spec.max_steps, self.problem.spec.tolerance)
    }

    /// Trains while it pays and returns to the best parameters.
    fn auto(&mut self, run: &mut Run<'_>) -> Result<Readout> {
        while let Some(step) = self.next_look() {
            self.train(step, run)?;
            self.tell(&READOUT, run)?;
            let points = self.sample.look.as_ref().unwrap_or(&self.sample.train);
            let found = self.compute(points, run);
            let readout = self.or_stopped(found, run)?;
            let residual = readout.record.residual;
            if self.auto.note(step, residual) {
                let whole = self.sample.look.is_none().then_some(readout);
                self.best = Some((self.trainer.learner.network.parameters().clone(), whole));
            }
            self.tell(&Event::AutoCheck { step, residual }, run)?;
        }
        match self.best.take() {
            Some((mut best, Some(readout))) => {
                std::mem::swap(self.trainer.learner.network.parameters_mut(), &mut best);
                Ok(readout)
            }
            Some((mut best, None)) => {
                std::mem::swap(self.trainer.learner.network.parameters_mut(), &mut best);
                run.observer.observe(&READOUT);
                let found = self.compute(&self.sample.train, run);
                if matches!(found, Err(Error::Interrupted { .. })) {
                    // A resumed run goes on from the last parameters, not from the best.
                    std::mem::swap(self.trainer.learner.network.parameters_mut(), &mut best);
                    self.best = Some((best, None));
                }
                self.or_stopped(found, run)
            }
            None => self.readout(run),
        }
    }
}
