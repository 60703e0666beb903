//! The learned method: train eigenfunction networks, then read the eigenfunctions out of them.

use std::sync::Arc;

use super::eigenfunction_training::training_loop;
use super::neuralef_landmarks::{Finished, Landmarks};
use super::{Eigenfunctions, Fitted, Method, MethodRecord, Run, timed};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::checkpoint::{self, Checkpoint};
use crate::fit::problem::every;
use crate::fit::{FitSpec, Problem, Steps};
use crate::kernel::Kernel;
use crate::nn::Parameters;
use crate::observer::{Control, Event};
use crate::operator::Batch;
use crate::persist::Archive;
use crate::readout::{self, Basis, Readout, ReadoutRequest, Sample};
use crate::spec::Entry;
use crate::train::auto::{AutoState, Enough};
use crate::train::{Checkpointing, EigenfunctionSignal, TrainingLoop};

/// Registry entry: `neuralef`. Its parts (network, objective, readout, …) are the spec's.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "neuralef",
    summary: "eigenfunctions as neural networks, trained on mini-batches (Deng et al. 2022)",
    parameters: &[],
    build: |_| Ok(Arc::new(NeuralEfMethod { best: false })),
};

/// Registry entry: `best`.
pub(super) const BEST: Entry<Arc<dyn Method>> = Entry {
    name: "best",
    summary: "neuralef beside nystrom; keeps the one with the smaller residual on held-out points",
    parameters: &[],
    build: |_| Ok(Arc::new(NeuralEfMethod { best: true })),
};

/// The most points that a check of `steps = auto` streams.
const CHECK_POINTS: usize = 4096;

/// Announces a readout.
const READOUT: Event<'static> = Event::Phase { name: "readout" };

/// See the [module](self).
#[derive(Debug)]
struct NeuralEfMethod {
    /// Whether the landmarks' own solution is kept where it is better.
    best: bool,
}

impl Method for NeuralEfMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        let spec = &problem.spec;
        let total = match spec.steps {
            Steps::Exactly(steps) => steps,
            Steps::Auto => spec.max_steps,
        };
        let mut fit = NeuralEfFit::start(problem, total, run)?;
        run.observer.observe(&Event::Training { from: fit.training.steps_done(), total });
        let readout = match spec.steps {
            Steps::Exactly(_) => {
                fit.train(total, run)?;
                fit.readout(run)?
            }
            Steps::Auto => fit.auto(run)?,
        };
        let spec = &problem.spec;
        let mut record = MethodRecord {
            steps: fit.auto.best().map_or(fit.training.steps_done(), |(step, _)| step),
            auto_checks: fit.auto.checks.clone(),
            running_eigenvalues: fit.training.running_eigenvalues(),
            warnings: problem.training_warnings.clone(),
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
        let mut fitted = fit.finish(self.best, readout, record, run)?;
        if self.best && fitted.kept.is_none() {
            fitted.kept = Some(ENTRY.name);
        }
        Ok(fitted)
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
        if self.best { BEST.text(&[]) } else { ENTRY.text(&[]) }
    }
}

/// The points of the readouts of one fit.
struct ReadoutSample {
    rows: Vec<usize>,
    train: Vec<Batch>,
    /// Fewer points for the checks of `steps = auto`, where those of the readout are many.
    check: Option<Vec<Batch>>,
    selection: Vec<Batch>,
    /// The most directions of the basis that memory allows.
    rank_limit: usize,
    warnings: Vec<String>,
}

impl ReadoutSample {
    fn new(problem: &Problem, basis: usize) -> Result<Self> {
        let spec = &problem.spec;
        let budget = problem.readout_budget(basis);
        let (affordable, rank_limit) = (budget.points()?, budget.rank_limit());
        let wanted = spec.readout_points.min(problem.split.train.len());
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
        if rows.len() < problem.split.train.len() && affordable >= wanted {
            warnings.push(format!(
                "the readout streams {} of {} training points: eigenvalues have the sampling error \
                 of these; readout_points sets their number",
                rows.len(),
                problem.split.train.len()
            ));
        }
        let train = problem.blocks(&rows)?;
        let check = match spec.steps {
            Steps::Auto if rows.len() > CHECK_POINTS => {
                Some(problem.blocks(&every(&rows, CHECK_POINTS))?)
            }
            _ => None,
        };
        let selection = problem.blocks(&problem.split.selection)?;
        Ok(ReadoutSample { rows, train, check, selection, rank_limit, warnings })
    }
}

/// How readouts meet the operator.
enum Ground {
    /// By all pairs of some points.
    Pairs(ReadoutSample),
    /// Through landmarks.
    Landmarks(Box<Landmarks>),
}

/// A training run with its readouts.
struct NeuralEfFit<'a> {
    problem: &'a Problem,
    training: TrainingLoop<EigenfunctionSignal<'a>>,
    ground: Ground,
    auto: AutoState,
    best: Option<Best>,
}

/// The best parameters of an automatic run, with their readout if it is at hand.
type Best = (Parameters, Option<Readout>);

impl<'a> NeuralEfFit<'a> {
    fn start(problem: &'a Problem, total: u64, run: &mut Run<'_>) -> Result<Self> {
        problem.expect_points_for_components()?;
        problem.expect_held_out()?;
        let saved = run.resume.take();
        if let Some(saved) = &saved {
            saved.check_data(run.inputs)?;
            saved.check_size(total)?;
        }
        problem.expect_training(0)?;
        let mut training = training_loop(problem, total, saved.is_none(), run.start)?;
        let (mut auto, mut best) = (AutoState::default(), None);
        let from = saved.is_some();
        if let Some(saved) = saved {
            saved.restore(&mut training)?;
            (auto, best) = Self::saved_best(&saved, training.network.parameters())?;
        }
        let landmarks =
            run.timed(|run| Landmarks::new(problem, &basis(problem, &training), run))?;
        let ground = match landmarks {
            Some(landmarks) => Ground::Landmarks(Box::new(landmarks)),
            None => {
                let functions = readout::width(&*training.network, problem.spec.readout);
                Ground::Pairs(ReadoutSample::new(problem, functions)?)
            }
        };
        let mut fit = NeuralEfFit { problem, training, ground, auto, best };
        if from {
            fit.networks_changed();
        }
        Ok(fit)
    }

    fn networks_changed(&mut self) {
        if let Ground::Landmarks(landmarks) = &mut self.ground {
            landmarks.networks_changed();
        }
    }

    /// The fitted map, from the networks as they are and their readout.
    fn finish(
        self,
        best: bool,
        readout: Readout,
        mut record: MethodRecord,
        run: &mut Run<'_>,
    ) -> Result<Fitted> {
        let NeuralEfFit { problem, training, ground, .. } = self;
        let spec = &problem.spec;
        run.timings.training_seconds += training.seconds();
        let (network, scaler) = (Arc::from(training.network), training.signal.input_scaler);
        record.readout = Some(readout.record.clone());
        let map = Eigenfunctions::new(
            Arc::clone(&network),
            scaler.clone(),
            spec.readout,
            readout.weights.clone(),
            readout.combination.clone(),
            readout.eigenvalues.clone(),
        )?;
        let map = map.with_file(spec.network.file()?);
        match ground {
            Ground::Pairs(sample) => {
                record.warnings.extend(sample.warnings);
                let points = sample.rows.len();
                Ok(Fitted::new(Box::new(map), sample.rows, points, record))
            }
            Ground::Landmarks(landmarks) => {
                record.landmarks = Some(landmarks.count());
                record.remainder = Some(landmarks.remainder());
                let basis = Basis {
                    network: &*network,
                    input_scaler: &scaler,
                    kind: spec.readout,
                    layout: problem.layout(),
                };
                let finished =
                    run.timed(|run| landmarks.finish(problem, &basis, map, &readout, run));
                let Finished { map, measured, points, beside } = finished?;
                let nystrom = best && beside.nystrom_residual < beside.residual;
                record.beside = Some(beside);
                let rows = problem.split.train.clone();
                if nystrom {
                    return Ok(landmarks.into_fitted(rows, record));
                }
                let measured = measured.filter(|_| spec.certificate);
                Ok(Fitted { measured, ..Fitted::new(Box::new(map), rows, points, record) })
            }
        }
    }

    fn saved_best(saved: &Checkpoint, like: &Parameters) -> Result<(AutoState, Option<Best>)> {
        match saved.header.auto.clone() {
            Some(auto) => {
                let best = saved.best(like)?;
                Ok((auto, Some((best, None))))
            }
            None => Ok((AutoState::default(), None)),
        }
    }

    /// Trains to `until` steps in all, writing checkpoints on the way.
    fn train(&mut self, until: u64, run: &mut Run<'_>) -> Result<()> {
        if until > self.training.steps_done() {
            self.networks_changed();
        }
        let (auto, best, inputs) = (&self.auto, &self.best, run.inputs);
        let mut write = |training: &TrainingLoop<_>, path: &std::path::Path| {
            let best = best.as_ref().map(|(parameters, _)| (auto, parameters));
            checkpoint::write(path, inputs, training, best)
        };
        let every = run.checkpoint_every;
        let checkpointing =
            run.checkpoint.map(|path| Checkpointing { path, every, write: &mut write });
        self.training.run(until, run.observer, checkpointing)
    }

    /// Notifies the observer of `event`; when it wants to stop, writes a checkpoint and returns
    /// [`Error::Interrupted`].
    fn notify(&self, event: &Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match run.observer.observe(event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(self.stopped(run)),
        }
    }

    /// Writes a checkpoint; the error that says where.
    fn stopped(&self, run: &Run<'_>) -> Error {
        if let Some(path) = run.checkpoint {
            let best = self.best.as_ref().map(|(parameters, _)| (&self.auto, parameters));
            if let Err(error) = checkpoint::write(path, run.inputs, &self.training, best) {
                return error;
            }
        }
        let checkpoint = run.checkpoint.map(std::path::Path::to_path_buf);
        Error::Interrupted { step: self.training.steps_done(), checkpoint }
    }

    /// The readout on all points it is to stream.
    fn readout(&mut self, run: &mut Run<'_>) -> Result<Readout> {
        self.notify(&READOUT, run)?;
        let readout = self.compute(false, run);
        let readout = self.or_stopped(readout, run)?;
        match self.or_by_pairs(&readout)? {
            true => {
                let readout = self.compute(false, run);
                self.or_stopped(readout, run)
            }
            false => Ok(readout),
        }
    }

    /// Leaves the landmarks where they are worse than what `readout` lacks anyway, and memory holds the
    /// readout by pairs; true when it did.
    fn or_by_pairs(&mut self, readout: &Readout) -> Result<bool> {
        let Ground::Landmarks(landmarks) = &self.ground else { return Ok(false) };
        if landmarks.do_for(readout.record.residual) {
            return Ok(false);
        }
        let functions = readout::width(&*self.training.network, self.problem.spec.readout);
        match ReadoutSample::new(self.problem, functions) {
            Ok(sample) => self.ground = Ground::Pairs(sample),
            Err(Error::MemoryBudget { .. }) => return Ok(false),
            Err(other) => return Err(other),
        }
        Ok(true)
    }

    /// Makes the error of an interrupted computation one with a checkpoint.
    fn or_stopped<T>(&self, result: Result<T>, run: &Run<'_>) -> Result<T> {
        result.map_err(|error| match error {
            Error::Interrupted { .. } => self.stopped(run),
            other => other,
        })
    }

    /// A readout, where `some` says so on fewer points; when the observer wants to stop,
    /// [`Error::Interrupted`].
    fn compute(&mut self, some: bool, run: &mut Run<'_>) -> Result<Readout> {
        let spec = &self.problem.spec;
        let basis = basis(self.problem, &self.training);
        let output_kind = self.training.signal.objective.outputs();
        let step = self.training.steps_done();
        let sample = match &mut self.ground {
            Ground::Pairs(sample) => sample,
            Ground::Landmarks(landmarks) => {
                let request = ReadoutRequest {
                    components: spec.n_components,
                    output_kind,
                    rank_limit: usize::MAX,
                };
                return run.timed(|run| landmarks.readout(self.problem, &basis, &request, run));
            }
        };
        let train = sample.check.as_ref().filter(|_| some).unwrap_or(&sample.train);
        let operator = &*self.problem.operator;
        let request = ReadoutRequest {
            components: spec.n_components,
            output_kind,
            rank_limit: sample.rank_limit,
        };
        let sample = Sample { operator, train, selection: &sample.selection };
        let observer = &mut *run.observer;
        let mut tick = |done, total| match observer.observe(&Event::Progress { done, total }) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Interrupted { step, checkpoint: None }),
        };
        timed(&mut run.timings.readout_seconds, || {
            readout::compute(&basis, &sample, &request, &mut tick)
        })
    }

    /// Whether a readout of `compute(true, …)` is on all points it is to stream.
    fn checks_whole(&self) -> bool {
        match &self.ground {
            Ground::Pairs(sample) => sample.check.is_none(),
            Ground::Landmarks(_) => true,
        }
    }

    fn next_check(&self) -> Option<u64> {
        let spec = &self.problem.spec;
        let enough = match &self.ground {
            Ground::Pairs(_) => Enough::ALONE,
            Ground::Landmarks(_) if self.problem.wide_features => Enough::UNTRAINED,
            Ground::Landmarks(landmarks) => Enough::beside(landmarks.residual),
        };
        self.auto.next_check(spec.max_steps, spec.tolerance, enough)
    }

    /// Trains while held-out residuals improve, and returns to the best parameters.
    fn auto(&mut self, run: &mut Run<'_>) -> Result<Readout> {
        while let Some(step) = self.next_check() {
            self.train(step, run)?;
            self.notify(&READOUT, run)?;
            let readout = self.compute(true, run);
            let mut readout = self.or_stopped(readout, run)?;
            if self.auto.checks.is_empty() && self.or_by_pairs(&readout)? {
                let again = self.compute(true, run);
                readout = self.or_stopped(again, run)?;
            }
            let residual = readout.record.residual;
            if self.auto.record(step, residual) {
                let whole = self.checks_whole().then_some(readout);
                self.best = Some((self.training.network.parameters().clone(), whole));
            }
            self.notify(&Event::AutoCheck { step, residual }, run)?;
        }
        match self.best.take() {
            Some((mut best, Some(readout))) => {
                std::mem::swap(self.training.network.parameters_mut(), &mut best);
                Ok(readout)
            }
            Some((mut best, None)) => {
                std::mem::swap(self.training.network.parameters_mut(), &mut best);
                run.observer.observe(&READOUT);
                let readout = self.compute(false, run);
                if matches!(readout, Err(Error::Interrupted { .. })) {
                    // A resumed run goes on from the last parameters, not from the best.
                    std::mem::swap(self.training.network.parameters_mut(), &mut best);
                    self.best = Some((best, None));
                }
                self.or_stopped(readout, run)
            }
            None => self.readout(run),
        }
    }
}

/// What readouts of the networks in training combine.
fn basis<'b>(problem: &Problem, training: &'b TrainingLoop<EigenfunctionSignal<'_>>) -> Basis<'b> {
    Basis {
        network: &*training.network,
        input_scaler: &training.signal.input_scaler,
        kind: problem.spec.readout,
        layout: problem.layout(),
    }
}
