//! One fit of a comparison, measured.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Axis, s};
use serde::Serialize;

use super::{MemoryMeter, Pairs};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::FitSpec;
use crate::fit::{Fit, Model};
use crate::kernel::Kernel;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::method::Timings;
use crate::metrics::{self, gram_error_between_halves};
use crate::observer::{Control, Event, Observer};

/// Points on either side of the pairs of the Gram error, at most.
const GRAM_POINTS: usize = 1024;
/// Seconds over which the rate of transforms is measured, at least.
const RATE_SECONDS: f64 = 0.05;

/// The points of a comparison and what is known about them.
pub(super) struct Ground {
    /// The points to fit.
    pub train: Dataset,
    /// Held-out points for the fit; none: it holds out some of `train`.
    pub validation: Option<Dataset>,
    /// Points that no fit sees, as the kernel sees them.
    pub test: Mat,
    /// The kernel, its parameters numbers.
    pub kernel: Arc<dyn Kernel>,
    /// The true eigenpairs, some more than k: values, and functions at `test`.
    pub truth: Option<Pairs>,
    /// The exact eigenpairs on the training points, likewise.
    pub sample: Option<Pairs>,
    /// Points on which the functions are kept for a figure.
    pub grid: Option<Mat>,
}

/// How eigenpairs agree with reference ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// |cos| with the reference eigenfunctions on the test points, one for each of the k; near-equal
    /// eigenvalues as a subspace; 0 for a missing one.
    pub cosines: Vec<f64>,
    /// Relative errors of the eigenvalues; 1 for a missing one.
    pub eigenvalue_errors: Vec<f64>,
}

/// What one fit came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trial {
    /// Which problem.
    pub case: String,
    /// N, training points.
    pub n: usize,
    /// Which contender.
    pub contender: String,
    /// Seed of data and fit.
    pub seed: u64,
    /// Why there is no result, if there is none.
    pub error: Option<String>,
    /// Training steps behind the result.
    pub steps: u64,
    /// The k eigenvalues found.
    pub eigenvalues: Vec<f64>,
    /// With the exact eigenpairs of the Gram matrix on the N training points: the error of the
    /// approximation. Empty where that matrix has more than 2 GiB, or the method no eigenpairs.
    pub sample: Agreement,
    /// With the true ones, the population's: the error of the sample on top. For a data set, those
    /// of the Gram matrix on all points, test points included.
    pub truth: Agreement,
    /// ‖φφᵀ − K‖/‖K‖ over pairs of test points.
    pub gram_error: Option<f64>,
    /// Seconds in training steps.
    pub training_seconds: f64,
    /// Seconds from the start of the fit to the model, readout and certificate included.
    pub total_seconds: f64,
    /// Points transformed in a second.
    pub rows_per_second: f64,
    /// Peak of the memory that the fit allocated, in MiB, where a meter was given.
    pub peak_mib: Option<f64>,
    /// Eigenfunctions on the points of the figure, with the signs of the true ones.
    #[serde(skip)]
    pub curves: Vec<Vec<f64>>,
}

/// Listens to a fit for no more than whether to stop.
struct Quiet<'a>(&'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn observe(&mut self, _: &Event<'_>) -> Control {
        self.0.observe(&Event::Tick)
    }
}

/// Fits `spec` on `ground` and measures the result; a fit that fails is a result too.
///
/// # Errors
/// [`Error::Interrupted`] alone.
pub(super) fn run(
    ground: &Ground,
    spec: &FitSpec,
    meter: Option<&dyn MemoryMeter>,
    observer: &mut dyn Observer,
) -> Result<Trial> {
    let mut quiet = Quiet(observer);
    let mut fit = Fit::new(spec.clone()).observer(&mut quiet);
    if let Some(validation) = &ground.validation {
        fit = fit.validation(validation.clone());
    }
    let before = meter.map(|m| m.reset());
    let fitted = fit.run(&ground.train);
    let rise = |(m, before): (&dyn MemoryMeter, u64)| m.peak().saturating_sub(before);
    let peak_mib = meter.zip(before).map(rise).map(|bytes| bytes as f64 / f64::from(1 << 20));
    let (model, timings) = match fitted {
        Ok(fitted) => fitted,
        Err(error @ Error::Interrupted { .. }) => return Err(error),
        Err(error) => {
            return Ok(Trial { error: Some(error.to_string()), ..Trial::default() });
        }
    };
    match measure(ground, spec, &model, &timings) {
        Ok(trial) => Ok(Trial { peak_mib, ..trial }),
        Err(error) => Ok(Trial { error: Some(error.to_string()), ..Trial::default() }),
    }
}

fn measure(ground: &Ground, spec: &FitSpec, model: &Model, timings: &Timings) -> Result<Trial> {
    let test = &ground.test;
    let phi = |rows: Range<usize>| Ok(model.transform(test.slice(s![rows, ..]))?.mapv(f64::from));
    let gram = gram_error_between_halves(&*ground.kernel, test.view().into(), GRAM_POINTS, phi)?;
    let mut trial = Trial {
        steps: model.info().record.steps,
        eigenvalues: model.eigenvalues().to_vec(),
        training_seconds: timings.training_seconds,
        total_seconds: timings.total_seconds,
        gram_error: gram.map(|(error, _)| error),
        rows_per_second: rate(model, ground.test.view())?,
        ..Trial::default()
    };
    let agreement = |reference: &Option<Pairs>| match reference {
        Some((mu, psi)) => compare(model, ground.test.view(), mu, psi, spec.n_components),
        None => Ok(Agreement::default()),
    };
    (trial.sample, trial.truth) = (agreement(&ground.sample)?, agreement(&ground.truth)?);
    if let (Some(grid), false) = (&ground.grid, model.eigenvalues().is_empty()) {
        let psi = model.eigenfunctions(grid.view())?;
        trial.curves = psi.columns().into_iter().map(|c| c.to_vec()).collect();
    }
    Ok(trial)
}

/// |cos| and eigenvalue errors of the first `k` pairs, as far as the reference has so many.
fn compare(model: &Model, x: MatRef<'_>, mu: &[f64], psi: &Mat64, k: usize) -> Result<Agreement> {
    let mut agreement = Agreement::default();
    if model.eigenvalues().is_empty() {
        return Ok(agreement);
    }
    let wanted = k.min(mu.len());
    let count = model.eigenvalues().len().min(wanted);
    if count > 0 {
        let values = model.eigenfunctions(x)?;
        let comparison = metrics::compare(
            &model.eigenvalues()[..count],
            values.slice_axis(Axis(1), (0..count).into()),
            mu,
            psi.view(),
            metrics::DEFAULT_GAP,
        )?;
        agreement.cosines = comparison.eigenfunctions.subspace_cosines;
        agreement.eigenvalue_errors = comparison.eigenvalue_errors;
    }
    agreement.cosines.resize(wanted, 0.0);
    agreement.eigenvalue_errors.resize(wanted, 1.0);
    Ok(agreement)
}

/// Rows transformed in a second: the fastest of several rounds, the first of which does not count.
fn rate(model: &Model, x: MatRef<'_>) -> Result<f64> {
    model.transform(x)?;
    let (started, mut best) = (Instant::now(), f64::INFINITY);
    while best.is_infinite() || started.elapsed().as_secs_f64() < RATE_SECONDS {
        let round = Instant::now();
        model.transform(x)?;
        best = best.min(round.elapsed().as_secs_f64());
    }
    Ok(x.nrows() as f64 / best.max(f64::MIN_POSITIVE))
}
