//! Comparing approximators fairly: the same points, kernel, k and seeds for all, measured alike.

use std::sync::Arc;

use serde::Serialize;

use crate::closed_form::{Case, case};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, Steps};
use crate::kernel::Kernel;
use crate::matrix::{Mat, Mat64};
use crate::method::Nystrom;
use crate::observer::{Control, Event, Observer};
use crate::operator::OperatorSpec;

mod contender;
mod summary;
mod trial;

pub use contender::{CONTENDERS, Contender, Ladder};
pub use summary::{Agreements, Spread, Summary, summarise};
pub use trial::{Agreement, Trial};

use trial::Ground;

/// Test points of a case.
const TEST: usize = 4096;
/// Held-out points of a case, for the fits.
const VALIDATION: usize = 1024;
/// Share of a data set that no fit sees.
const TEST_SHARE: f64 = 0.25;
/// Share of the rest that fits hold out for their own choices.
const VALIDATION_SHARE: f64 = 0.1;
/// The most seeds.
const MOST_SEEDS: u64 = 1000;
/// True eigenpairs beyond k, so that a cluster reaching across k is whole.
const BEYOND: usize = 5;
/// Memory for the Gram matrix behind the true eigenpairs of a data set, in MiB.
const REFERENCE_MIB: u64 = 2048;
/// Points of a figure's curves.
const CURVE: usize = 200;
/// Steps of the trial run that tells how many fit into a budget of seconds.
const PILOT: u64 = 100;

/// What the contenders are compared on.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Kernels with known spectra, by name (see [`CASES`](crate::closed_form::CASES)), each
    /// with every one of the numbers of points.
    Cases {
        /// The names.
        names: Vec<String>,
        /// N, training points.
        points: Vec<usize>,
    },
    /// The kernel of the base spec on given points: a quarter of them are test points, a tenth of the
    /// rest is held out for the fits' own choices, and N are left to learn from; the truth is what
    /// the Gram matrix on all points has, where 8 bytes for each pair are at most 2 GiB.
    Data(Dataset),
}

/// An accuracy to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Target {
    /// |cos| with the exact eigenfunctions on the training points to reach (with the true ones where
    /// these are not known) …
    pub cosine: f64,
    /// … on all of the first so many eigenfunctions.
    pub first: usize,
}

/// Tells how much memory the program has allocated.
pub trait MemoryMeter: Sync {
    /// Makes the present the peak, and returns it, in bytes.
    fn reset(&self) -> u64;

    /// The most since the last reset, in bytes.
    fn peak(&self) -> u64;
}

/// A comparison to be run.
pub struct Comparison<'a> {
    /// On what.
    pub subject: Subject,
    /// Names from [`CONTENDERS`].
    pub contenders: Vec<String>,
    /// What all contenders share: network, batch size, steps, optimiser, schedule, k (for
    /// [`Subject::Data`]), kernel (likewise).
    pub base: FitSpec,
    /// Seeds 0, 1, …: of data and fits.
    pub seeds: u64,
    /// Give training steps so many seconds instead of a number: a short run tells how many steps that
    /// is. Readouts come on top, and what does not train runs as it is.
    pub seconds: Option<f64>,
    /// Also find how long each contender takes to this accuracy, climbing its ladder.
    pub target: Option<Target>,
    /// Measures the memory of fits; none to leave that out.
    pub meter: Option<&'a dyn MemoryMeter>,
}

/// How long a contender took to the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reach {
    /// Which problem.
    pub case: String,
    /// N, training points.
    pub n: usize,
    /// Which contender.
    pub contender: String,
    /// Seed of data and fit.
    pub seed: u64,
    /// Seconds of the first fit on its ladder that reached the target, from start to model; none if
    /// no rung did.
    pub seconds: Option<f64>,
    /// The least |cos| among the first of each rung's fit, and its seconds.
    pub rungs: Vec<(f64, f64)>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// How many fits there were to be, ladders not counted; fewer trials than that: the observer
    /// stopped the comparison.
    pub planned: usize,
    /// Every fit.
    pub trials: Vec<Trial>,
    /// Means and deviations over seeds.
    pub summaries: Vec<Summary>,
    /// Times to the target, if one was given.
    pub reaches: Vec<Reach>,
    /// True eigenfunctions for figures, as (case, points, functions).
    #[serde(skip)]
    pub truths: Vec<Curves>,
}

/// The true eigenfunctions of a case with one variable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// Which problem.
    pub case: String,
    /// Abscissas.
    pub x: Vec<f64>,
    /// Functions at them.
    pub functions: Vec<Vec<f64>>,
}

/// Eigenvalues, and eigenfunctions at the test points.
type Pairs = (Vec<f64>, Mat64);

/// One problem of a comparison: a case with one N, or the data.
struct Problem {
    name: String,
    base: FitSpec,
    /// The case and its N; none for the data.
    case: Option<(Case, usize)>,
}

impl Comparison<'_> {
    /// Runs every contender on every problem with every seed. Stopped by the observer it returns what
    /// it has; a contender that cannot serve a problem is a result that says why.
    ///
    /// # Errors
    /// Unknown names, data that cannot be read, settings out of range.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Report> {
        self.check()?;
        let contenders =
            self.contenders.iter().map(|n| Contender::named(n)).collect::<Result<Vec<_>>>()?;
        let problems = self.problems()?;
        let planned = problems.len() * contenders.len() * self.seeds as usize;
        let mut report = Report { planned, ..Report::default() };
        match self.fill(&mut report, &problems, &contenders, observer) {
            Ok(()) | Err(Error::Interrupted { .. }) => {}
            Err(error) => return Err(error),
        }
        report.align();
        report.summaries = summarise(&report.trials);
        Ok(report)
    }

    fn fill(
        &self,
        report: &mut Report,
        problems: &[Problem],
        contenders: &[&Contender],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let total = report.planned;
        for problem in problems {
            for seed in 0..self.seeds {
                if observer.observe(&Event::Tick) == Control::Stop {
                    let step = report.trials.len() as u64;
                    return Err(Error::Interrupted { step, checkpoint: None });
                }
                let (ground, curves) = self.ground(problem, seed)?;
                if let Some(curves) = curves
                    && !report.truths.iter().any(|t| t.case == curves.case)
                {
                    report.truths.push(curves);
                }
                for contender in contenders {
                    let done = report.trials.len();
                    let n = ground.train.len();
                    let what = format!("{}, N = {n}, {}", problem.name, contender.name);
                    let event = Event::Trial { done, total, what: &what };
                    if observer.observe(&event) == Control::Stop {
                        return Err(Error::Interrupted { step: done as u64, checkpoint: None });
                    }
                    let name = |trial: Trial| Trial {
                        case: problem.name.clone(),
                        n,
                        contender: contender.name.to_string(),
                        seed,
                        ..trial
                    };
                    let mut base = problem.base.clone();
                    base.seed = seed;
                    let mut spec = contender.spec(&base);
                    if let (Some(seconds), Ladder::Steps) = (self.seconds, contender.ladder) {
                        match steps_within(&ground, &spec, seconds, observer)? {
                            Ok(steps) => spec.steps = steps,
                            Err(failed) => {
                                report.trials.push(name(failed));
                                continue;
                            }
                        }
                    }
                    report.trials.push(name(trial::run(&ground, &spec, self.meter, observer)?));
                    if let Some(target) = self.target {
                        let most = problem.base.n_components;
                        if target.first > most {
                            let expected = format!("at most k = {most}");
                            return Err(Error::parameter("first", expected, target.first));
                        }
                        let reach = reach(&ground, &spec, contender, target, &self.base, observer)?;
                        let case = problem.name.clone();
                        let contender = contender.name.to_string();
                        report.reaches.push(Reach { case, n, contender, seed, ..reach });
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if !(1..=MOST_SEEDS).contains(&self.seeds) {
            return Err(Error::parameter("seeds", format!("1 to {MOST_SEEDS}"), self.seeds));
        }
        once("contenders", &self.contenders)?;
        if let Subject::Cases { names, points } = &self.subject {
            once("cases", names)?;
            once("numbers of points", points)?;
            if points.contains(&0) {
                return Err(Error::parameter("numbers of points", "at least 1", 0));
            }
        }
        if self.contenders.is_empty() {
            return Err(Error::parameter("contenders", "at least one", "none"));
        }
        if let Some(seconds) = self.seconds.filter(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(Error::parameter("seconds", "a number > 0", seconds));
        }
        if let Some(target) = self.target {
            if !(target.cosine > 0.0 && target.cosine < 1.0) {
                return Err(Error::parameter("target", "between 0 and 1", target.cosine));
            }
            if target.first == 0 {
                return Err(Error::parameter("first", "at least 1", 0));
            }
        }
        Ok(())
    }

    fn problems(&self) -> Result<Vec<Problem>> {
        match &self.subject {
            Subject::Data(data) => Ok(vec![Problem {
                name: data.name().to_string(),
                base: self.base.clone(),
                case: None,
            }]),
            Subject::Cases { names, points } => {
                let mut problems = Vec::new();
                for name in names {
                    for n in points {
                        let case = case(name)?;
                        let mut base = self.base.clone();
                        base.operator = Some(case.kernel.parse()?);
                        base.n_components = case.k;
                        let name = case.name.to_string();
                        problems.push(Problem { name, base, case: Some((case, *n)) });
                    }
                }
                Ok(problems)
            }
        }
    }

    fn ground(&self, problem: &Problem, seed: u64) -> Result<(Ground, Option<Curves>)> {
        match (&self.subject, &problem.case) {
            (Subject::Data(data), _) => Ok((data_ground(data, &problem.base, seed)?, None)),
            (_, Some((case, n))) => case_ground(case, *n, seed),
            (_, None) => Err(Error::parameter("subject", "data or cases", "neither")),
        }
    }
}

/// Fails when something is named twice: it would count as another seed.
fn once<T: PartialEq + std::fmt::Display>(what: &str, items: &[T]) -> Result<()> {
    match items.iter().enumerate().find(|(i, item)| items[..*i].contains(item)) {
        Some((_, item)) => Err(Error::parameter(what, "each once", format!("{item} twice"))),
        None => Ok(()),
    }
}

/// Fresh points of a case, and its true eigenpairs on them.
fn case_ground(case: &Case, n: usize, seed: u64) -> Result<(Ground, Option<Curves>)> {
    let draw = |n: usize, part: u64| Dataset::open(&case.data_text(n), 3 * seed + part);
    let test = draw(TEST, 2)?;
    let test = test.range(0..test.len())?;
    let wanted = case.spectrum.rank().map_or(case.k + BEYOND, |rank| rank.min(case.k + BEYOND));
    let truth =
        (case.spectrum.eigenvalues(wanted)?, case.spectrum.eigenfunctions(test.view(), wanted)?);
    let (mut grid, mut curves) = (None, None);
    if test.ncols() == 1 {
        let low = test.iter().copied().fold(f32::INFINITY, f32::min);
        let high = test.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let at = |i: usize| low + (high - low) * i as f32 / (CURVE - 1) as f32;
        let points = Mat::from_shape_fn((CURVE, 1), |(i, _)| at(i));
        let psi = case.spectrum.eigenfunctions(points.view(), case.k)?;
        curves = Some(Curves {
            case: case.name.to_string(),
            x: points.iter().map(|v| f64::from(*v)).collect(),
            functions: psi.columns().into_iter().map(|c| c.to_vec()).collect(),
        });
        grid = Some(points);
    }
    let kernel = case.kernel.parse::<crate::KernelSpec>()?.resolve(None, 0)?;
    let (train, validation) = (draw(n, 0)?, Some(draw(VALIDATION, 1)?));
    let sample = exact(&kernel, &train, &test, case.k)?;
    Ok((Ground { train, validation, test, kernel, truth: Some(truth), sample, grid }, curves))
}

/// A data set split into points to fit and test points, with the eigenpairs of its Gram matrix.
fn data_ground(data: &Dataset, base: &FitSpec, seed: u64) -> Result<Ground> {
    let Some(kernel) = base.operator.as_ref().and_then(OperatorSpec::kernel_text) else {
        return Err(Error::parameter("kernel", "a kernel: comparisons evaluate it", "none"));
    };
    let (rest, test) = data.split(TEST_SHARE, seed)?;
    let (train, validation) = rest.split(VALIDATION_SHARE, seed)?;
    let test = test.range(0..test.len())?;
    let sample = train.range(0..train.len().min(20_000))?;
    let kernel = kernel.resolve(Some(sample.view()), seed)?;
    let truth = exact(&kernel, data, &test, base.n_components)?;
    let sample = exact(&kernel, &train, &test, base.n_components)?;
    let validation = Some(validation);
    Ok(Ground { train, validation, test, kernel, truth, sample, grid: None })
}

/// The eigenpairs of the Gram matrix on `data`, at the test points; none where it is too large or its
/// entries are.
fn exact(kernel: &Arc<dyn Kernel>, data: &Dataset, test: &Mat, k: usize) -> Result<Option<Pairs>> {
    let n = data.len();
    if (8 * n as u64).saturating_mul(n as u64) >> 20 > REFERENCE_MIB {
        return Ok(None);
    }
    let pairs = || -> Result<Pairs> {
        let exact = Nystrom::fit(Arc::clone(kernel), data.range(0..n)?, (k + BEYOND).min(n))?;
        let values = exact.eigenvalues().unwrap_or(&[]).to_vec();
        Ok((values, exact.eigenfunctions(test.view())?))
    };
    match pairs() {
        Ok(pairs) => Ok(Some(pairs)),
        // A kernel that leaves the range of numbers has no reference; contenders may still serve it.
        Err(Error::Numerical { .. } | Error::NonFinite { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// How many steps `spec` takes in `seconds` of training, by the rate of a short run; that run itself
/// where it failed.
fn steps_within(
    ground: &Ground,
    spec: &FitSpec,
    seconds: f64,
    observer: &mut dyn Observer,
) -> Result<Result<Steps, Trial>> {
    let pilot = FitSpec { steps: Steps::Exactly(PILOT), ..spec.clone() };
    let trial = trial::run(ground, &pilot, None, observer)?;
    if trial.error.is_some() {
        return Ok(Err(trial));
    }
    let rate = PILOT as f64 / trial.training_seconds.max(1e-9);
    Ok(Ok(Steps::Exactly(((seconds * rate) as u64).max(1))))
}

/// Climbs the contender's ladder until a fit reaches the target.
fn reach(
    ground: &Ground,
    spec: &FitSpec,
    contender: &Contender,
    target: Target,
    base: &FitSpec,
    observer: &mut dyn Observer,
) -> Result<Reach> {
    let mut reach = Reach {
        case: String::new(),
        n: 0,
        contender: String::new(),
        seed: 0,
        seconds: None,
        rungs: Vec::new(),
    };
    for rung in 0.. {
        let points = ground.train.len();
        let Some(spec) = contender.ladder.rung(spec, rung, points, base.max_steps) else { break };
        let trial = trial::run(ground, &spec, None, observer)?;
        let reference = if trial.sample.cosines.is_empty() { &trial.truth } else { &trial.sample };
        // A missing function is not right.
        let first = reference.cosines.get(..target.first).unwrap_or(&[0.0]);
        let worst = first.iter().copied().reduce(f64::min).unwrap_or(0.0);
        reach.rungs.push((worst, trial.total_seconds));
        if worst >= target.cosine {
            reach.seconds = Some(trial.total_seconds);
            break;
        }
    }
    Ok(reach)
}

impl Report {
    /// Gives the curves of every trial the signs of the true functions.
    fn align(&mut self) {
        for trial in &mut self.trials {
            let Some(truth) = self.truths.iter().find(|t| t.case == trial.case) else { continue };
            for (curve, exact) in trial.curves.iter_mut().zip(&truth.functions) {
                let along: f64 = curve.iter().zip(exact).map(|(a, b)| a * b).sum();
                if along < 0.0 {
                    curve.iter_mut().for_each(|v| *v = -*v);
                }
            }
        }
    }
}
