//! Fitted approximations of a kernel: every one is a [`FeatureMap`], made by a [`Method`].

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fit::checkpoint::Inputs;
use crate::fit::{Checkpoint, Control, Event, FitSpec, Observer, Problem, ReadoutRecord};
use crate::kernel::Kernel;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::Parameters;
use crate::persist::Archive;
use crate::spec::args::Registry;

mod eigenfunctions;
mod fourier;
mod frequencies;
mod kernel_pca;
pub mod landmarks;
mod neuralef;
mod nystrom;
mod nystrom_method;
mod positive;
mod reduced;

use frequencies::Sampling;

pub use eigenfunctions::Eigenfunctions;
pub use nystrom::{Nystrom, Precision};
pub(crate) use nystrom_method::load as load_nystrom;

/// Every method, by name.
pub static METHODS: Registry<Box<dyn Method>> = Registry {
    kind: "method",
    entries: &[
        neuralef::ENTRY,
        nystrom_method::ENTRY,
        kernel_pca::ENTRY,
        fourier::ENTRY,
        positive::ENTRY,
    ],
};

/// A fitted map φ with φ(x)ᵀφ(x') ≈ κ(x, x').
///
/// Rows are independent: the features of a point have the same bits whatever else is in the batch.
pub trait FeatureMap: Send + Sync {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// k, the number of features.
    fn components(&self) -> usize;

    /// C, the number of outputs of the kernel.
    fn outputs(&self) -> usize {
        1
    }

    /// Features φ(x), n × k; n·C × k with the C outputs of a point in consecutive rows, so that
    /// φ_c(x)ᵀφ_c'(x') ≈ κ_cc'(x, x'). For eigenfunction methods φ_j = √μ_j ψ_j.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when x is not n × d.
    fn transform(&self, x: MatRef<'_>) -> Result<Mat>;

    /// V, k × P, and k constants, when φ(x) = J(x)Vᵀ + constants are derivatives of a trained network
    /// along directions in its P parameters.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn tangent_directions(&self) -> Result<Option<(Mat, Vec<f64>)>> {
        Ok(None)
    }

    /// Eigenvalues μ of the integral operator, descending, when the method has them.
    fn eigenvalues(&self) -> Option<&[f64]>;

    /// Eigenfunctions ψ(x), n × k (n·C × k), in double precision, when the method has them.
    ///
    /// # Errors
    /// As [`transform`](FeatureMap::transform), and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for methods without eigenvalues.
    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64>;

    /// Gradients of eigenfunctions, n·d × k: ∂ψ_j/∂x_c at point i in row i·d + c.
    ///
    /// # Errors
    /// As [`eigenfunctions`](FeatureMap::eigenfunctions), and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for maps without gradients.
    fn eigenfunction_gradients(&self, x: MatRef<'_>) -> Result<Mat64> {
        let _ = x;
        Err(Error::Unsupported {
            what: "gradients of the eigenfunctions of this model".into(),
            reason:
                "dense eigenfunction networks, and Nyström and kernel PCA with smooth kernels, \
                     have them"
                    .into(),
        })
    }

    /// The parameters of the networks, when there are some: where another fit can start.
    fn parameters(&self) -> Option<&Parameters> {
        None
    }

    /// Puts everything [`Method::load`] needs into `archive`.
    ///
    /// # Errors
    /// What the archive reports.
    fn save(&self, archive: &mut Archive) -> Result<()>;
}

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
    /// [`Error::ModelFile`](crate::Error::ModelFile) when tensors are missing or do not fit.
    fn load(
        &self,
        archive: &Archive,
        spec: &FitSpec,
        kernel: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>>;

    /// The text form; parsing it gives this method back.
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
}

/// How a fit went, as kept in the model file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodRecord {
    /// Training steps behind the kept parameters.
    pub steps: u64,
    /// The looks of `steps = auto` as (steps, rms relative held-out residual).
    pub auto_checks: Vec<(u64, f64)>,
    /// The objective's own running eigenvalue estimates at the end of training.
    pub running_eigenvalues: Vec<f64>,
    /// The readout, for network methods.
    pub readout: Option<ReadoutRecord>,
    /// Number of landmarks, for Nyström and kernel PCA (all training points).
    pub landmarks: Option<usize>,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// What surrounds a fit: who watches, where checkpoints go, where the time went.
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

/// Wall time of the parts of a fit, in seconds. Not part of the model file: models are the same
/// bits for the same seed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timings {
    /// In training steps.
    pub training_seconds: f64,
    /// In readouts, those of `steps = auto` included; in the eigendecomposition of other methods.
    pub readout_seconds: f64,
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

/// The beginning of every fit that does not train: the problem's kernel, which `why` says is needed,
/// with nothing to resume, and `phase` told to the observer.
fn begin<'p>(
    method: &str,
    why: &str,
    phase: &'static str,
    problem: &'p Problem,
    run: &mut Run<'_>,
) -> Result<&'p Arc<dyn Kernel>> {
    let Some(kernel) = &problem.kernel else {
        return Err(Error::Unsupported {
            what: format!("method = {method} with a Gram matrix or features"),
            reason: format!("{why}; method = neuralef serves here"),
        });
    };
    if run.resume.is_some() {
        return Err(Error::Unsupported {
            what: format!("resuming method = {method}"),
            reason: "it has no training steps to resume".into(),
        });
    }
    match run.observer.observe(&Event::Phase { name: phase }) {
        Control::Continue => Ok(kernel),
        Control::Stop => Err(Error::Interrupted { step: 0, checkpoint: None }),
    }
}

/// Runs `work` and adds the time it took to `seconds`.
pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let out = work();
    *seconds += started.elapsed().as_secs_f64();
    out
}
