//! Fitted approximations of a kernel: every one is a [`FeatureMap`], made by a [`Method`].

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::certificate::Measured;
use crate::fit::checkpoint::Inputs;
use crate::fit::{Checkpoint, FitSpec, Problem};
use crate::kernel::Kernel;
use crate::matrix::Mat64;
use crate::nn::Parameters;
use crate::observer::{Control, Event, Observer};
use crate::persist::Archive;
use crate::readout::ReadoutRecord;

mod all_points;
mod eigenfunction_training;
mod eigenfunctions;
mod fourier;
mod frequencies;
mod kernel_pca;
mod landmark_choice;
mod landmark_points;
pub mod landmarks;
mod low_rank;
mod neuralef;
mod neuralef_landmarks;
mod nystrom;
mod nystrom_method;
mod positive;
mod reduced;
mod registry;
mod rpcholesky;
mod sampled_image;

use frequencies::Sampling;

pub use eigenfunctions::Eigenfunctions;
pub use nystrom::{Nystrom, Precision};
pub(crate) use nystrom_method::load as load_nystrom;
pub use registry::METHODS;

/// A way to approximate a kernel: turns a problem into a fitted map.
pub trait Method: Send + Sync + Debug {
    /// Fits the top k eigenpairs of the problem.
    ///
    /// # Errors
    /// Parameters that do not fit the problem, numerical failures, interruption.
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted>;

    /// Rebuilds a fitted map from what [`FeatureMap::save`] stored; `spec` is the fit's and
    /// `kernel` the kernel with its parameters resolved.
    ///
    /// # Errors
    /// [`Error::ModelFile`] when tensors are missing or do not fit.
    fn load(
        &self,
        archive: &Archive,
        spec: &FitSpec,
        kernel: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>>;

    /// The text form; parsing it gives this method back. For one of a program's own, its name.
    fn text(&self) -> String;
}

/// What a method's fit returns.
pub struct Fitted {
    /// The map, on points as the kernel sees them.
    pub map: Box<dyn FeatureMap>,
    /// Training rows whose operator the certificate measures against.
    pub sample: Vec<usize>,
    /// Number of training points behind the eigenvalues: what their standard errors go by.
    pub points: usize,
    /// How it went.
    pub record: MethodRecord,
    /// The fit that the certificate measures, where `map` has seen the held-out points.
    pub(crate) measured: Option<Measured>,
    /// The method that was kept, where several were tried.
    pub(crate) kept: Option<&'static str>,
}

impl Fitted {
    /// What a method found: its map, the training rows whose operator the certificate measures against, the
    /// number of training points behind the eigenvalues, and how it went.
    pub fn new(
        map: Box<dyn FeatureMap>,
        sample: Vec<usize>,
        points: usize,
        record: MethodRecord,
    ) -> Self {
        Fitted { map, sample, points, record, measured: None, kept: None }
    }
}

/// How a fit went, as kept in the model file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodRecord {
    /// Training steps behind the kept parameters.
    pub steps: u64,
    /// The checks of `steps = auto` as (steps, rms relative held-out residual).
    pub auto_checks: Vec<(u64, f64)>,
    /// The objective's own running eigenvalue estimates at the end of training.
    pub running_eigenvalues: Vec<f64>,
    /// The readout, for network methods.
    pub readout: Option<ReadoutRecord>,
    /// Number of landmarks, for Nyström and kernel PCA (all training points).
    pub landmarks: Option<usize>,
    /// ε = (tr K − ‖Φ‖²)/n for landmarks with the eigenproblem over all points: 0 ≤ μ_j − μ̂_j ≤ ε for the
    /// eigenvalues μ_j of the Gram matrix of these points over n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remainder: Option<f64>,
    /// The landmarks' own solution of the same fit, for networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideNystrom>,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// Eigenfunctions of networks beside those of the landmarks that they were read out through: residuals on
/// the held-out points that choices were made by, root mean squares over pairs of r/√(1 + r²),
/// r = ‖T̂ψ − μψ‖/μ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BesideNystrom {
    /// Landmarks.
    pub landmarks: usize,
    /// Residual of the networks.
    pub residual: f64,
    /// Residual of `nystrom` with these landmarks.
    pub nystrom_residual: f64,
    /// Multiplications for the features of a point by the networks.
    pub multiplications: u64,
    /// By `nystrom`, the exponentials of kernels not counted.
    pub nystrom_multiplications: u64,
}

/// What surrounds a fit: who watches, where checkpoints go, where the time went. A [`Method`] gets one.
pub struct Run<'a> {
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) checkpoint: Option<&'a Path>,
    pub(crate) checkpoint_every: u64,
    pub(crate) resume: Option<Checkpoint>,
    /// Parameters that networks start from, instead of random ones.
    pub(crate) start: Option<&'a Parameters>,
    /// The data and the spec as the user gave them, for checkpoints.
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) timings: Timings,
}

impl Run<'_> {
    /// Tells the observer of `event`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when it wants to stop.
    pub fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match self.observer.observe(event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Interrupted { step: 0, checkpoint: None }),
        }
    }

    /// Runs `work` and counts its time as that of the readout or eigendecomposition.
    pub fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let started = Instant::now();
        let out = work(self);
        self.timings.readout_seconds += started.elapsed().as_secs_f64();
        out
    }

    /// Parameters that networks are to start from, instead of random ones.
    pub fn start(&self) -> Option<&Parameters> {
        self.start
    }

    /// The beginning of a fit of a method called `method` that has no training steps.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is something to resume, [`Error::Interrupted`] when the observer
    /// wants to stop at the phase `phase`.
    pub fn begin(&mut self, method: &str, phase: &'static str) -> Result<()> {
        if self.resume.is_some() {
            return Err(Error::Unsupported {
                what: format!("resuming method = {method}"),
                reason: "it has no training steps to resume".into(),
            });
        }
        self.observe(&Event::Phase { name: phase })
    }
}

/// Wall time of the parts of a fit, in seconds. Not part of the model file: models are the same
/// bits for the same seed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timings {
    /// In training steps.
    pub training_seconds: f64,
    /// In readouts, those of `steps = auto` included; in the eigendecomposition of other methods.
    pub readout_seconds: f64,
    /// Of these, in the solution by landmarks.
    pub nystrom_seconds: f64,
    /// In the certificate.
    pub certificate_seconds: f64,
    /// From the call to the return.
    pub total_seconds: f64,
}

/// `shape` = (count, d) standard normal frequencies, in blocks of d orthogonal ones where asked.
///
/// # Errors
/// None at present; those of the frequencies.
pub(crate) fn gaussian_frequencies(
    shape: (usize, usize),
    orthogonal: bool,
    seed: u64,
) -> Result<Mat64> {
    let sampling = if orthogonal { Sampling::Orthogonal } else { Sampling::Independent };
    let laws = [crate::kernel::Law::Gaussian { scale: 1.0 }];
    Ok(frequencies::draw(&laws, shape, sampling, seed, 0)?.0)
}

/// Why methods that extend eigenvectors by the kernel cannot do without it.
const EXTENDS: &str = "new points need the kernel itself";

/// Runs `work` and adds the time it took to `seconds`.
pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let out = work();
    *seconds += started.elapsed().as_secs_f64();
    out
}
