//! A fitted model: the feature map with everything that is known about it, and the fit that makes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Inputs};
use super::{Certificate, FitSpec, Problem};
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::kernel::Kernel;
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::method::{MethodRecord, Run, Timings, timed};
use crate::observer::{Event, Observer, Silent};
use crate::operator::OperatorSpec;
use crate::persist::Archive;

/// Kind of archive that a model file is.
pub(super) const KIND: &str = "model";
/// What its standardiser is called in there.
pub(super) const STANDARDIZER: &str = "standardizer";

/// What is known about a fitted model, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The spec of the fit.
    pub spec: FitSpec,
    /// The kernel with every parameter a number; none for a Gram matrix, features, or a kernel that a
    /// program handed over.
    pub kernel: Option<String>,
    /// Name of the training data.
    pub data: String,
    /// N, points in the data, held-out ones included.
    pub n_samples: usize,
    /// d, columns of the data.
    pub n_features: usize,
    /// The eigenvalues, descending; none for random features as they are.
    pub eigenvalues: Vec<f64>,
    /// How accurate they are.
    pub certificate: Certificate,
    /// How the fit went.
    pub record: MethodRecord,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

/// A fitted model. Points go in as the user has them; standardisation is part of it.
pub struct Model {
    pub(super) info: ModelInfo,
    pub(super) standardizer: Option<Standardizer>,
    pub(super) map: Box<dyn FeatureMap>,
    pub(super) kernel: Option<Arc<dyn Kernel>>,
}

impl Model {
    /// What is known about it.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Eigenvalues μ of the integral operator, descending, k of them; empty for models of random
    /// features without eigenvalues.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.info.eigenvalues
    }

    /// How accurate the eigenpairs are.
    pub fn certificate(&self) -> &Certificate {
        &self.info.certificate
    }

    /// k, the number of components that were usable.
    pub fn n_components(&self) -> usize {
        self.map.components()
    }

    /// C, the number of outputs of the kernel.
    pub fn outputs(&self) -> usize {
        self.map.outputs()
    }

    /// True when the model has eigenvalues and eigenfunctions, not features alone.
    pub fn has_eigenpairs(&self) -> bool {
        self.map.eigenvalues().is_some()
    }

    /// Features φ(x), n × k, with φ(x)ᵀφ(x') ≈ κ(x, x'); √μ ψ(x) where there are eigenpairs. x is
    /// n × d. For a kernel with C outputs n·C × k, output c of point i in row i·C + c, with
    /// φ_c(x)ᵀφ_c'(x') ≈ κ_cc'(x, x').
    ///
    /// # Errors
    /// [`Error::Shape`] for another width, [`Error::NonFinite`] for NaN or infinite input.
    pub fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        self.map.transform(self.prepare(x)?.view())
    }

    /// Eigenfunctions ψ(x), n × k. x is n × d. For a kernel with C outputs n·C × k, rows as in
    /// [`transform`](Model::transform), with E_x Σ_c ψ_c² = 1.
    ///
    /// # Errors
    /// As [`transform`](Model::transform), and [`Error::Unsupported`] for models without eigenpairs.
    pub fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.map.eigenfunctions(self.prepare(x)?.view())
    }

    /// V, k × P, and constants, when the features are derivatives of a trained network along directions
    /// in its parameters, at points as they are.
    pub(crate) fn tangent_directions(&self) -> Result<Option<(Mat, Vec<f64>)>> {
        match self.standardizer {
            Some(_) => Ok(None),
            None => self.map.tangent_directions(),
        }
    }

    /// Gradients of eigenfunctions by the coordinates of x as the user has them, n·d × k: ∂ψ_j/∂x_c at
    /// point i in row i·d + c. x is n × d.
    ///
    /// # Errors
    /// As [`eigenfunctions`](Model::eigenfunctions), and [`Error::Unsupported`] for convolutional
    /// networks, kernels without a gradient and kernels of several outputs.
    pub fn eigenfunction_gradients(&self, x: MatRef<'_>) -> Result<Mat64> {
        let gradients = self.map.eigenfunction_gradients(self.prepare(x)?.view())?;
        let mut out = gradients.ok_or_else(|| Error::Unsupported {
            what: "gradients of the eigenfunctions of this model".into(),
            reason:
                "dense eigenfunction networks, and Nyström and kernel PCA with smooth kernels, \
                     have them"
                    .into(),
        })?;
        if let Some(s) = &self.standardizer {
            for (row, scale) in out.outer_iter_mut().zip(s.scale().iter().cycle()) {
                row.into_iter().for_each(|v| *v /= scale);
            }
        }
        Ok(out)
    }

    /// The kernel, with every parameter resolved, on points as the kernel sees them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for models of a Gram matrix or of features, and those read from a file
    /// whose kernel is in the hands of a program.
    pub fn kernel(&self) -> Result<Arc<dyn Kernel>> {
        self.kernel.clone().ok_or_else(|| Error::Unsupported {
            what: "evaluating this model".into(),
            reason: "it was fitted to a Gram matrix, features or a kernel that its file does not \
                     hold, so κ is not known at new points"
                .into(),
        })
    }

    /// x as the kernel sees it.
    pub(crate) fn prepare(&self, x: MatRef<'_>) -> Result<Mat> {
        expect_columns("x", x, self.info.n_features)?;
        if let Some(((row, column), value)) = x.indexed_iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NonFinite { what: "x".into(), row, column, value: *value });
        }
        self.standardizer.as_ref().map_or_else(|| Ok(x.to_owned()), |s| s.apply(x))
    }

    /// Writes the model file: to a temporary file that is then renamed, so that `path` is the old
    /// file or the whole new one.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.archive()?.write(path.as_ref())
    }

    /// The bytes of the model file.
    ///
    /// # Errors
    /// As [`save`](Model::save).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.archive()?.to_bytes()
    }

    /// What the model file holds.
    pub(crate) fn archive(&self) -> Result<Archive> {
        let info = ModelInfo { n_features: self.map.stored_inputs(), ..self.info.clone() };
        let mut archive = Archive::with_header(KIND, &info)?;
        if let Some(s) = &self.standardizer {
            s.save(&mut archive, STANDARDIZER)?;
        }
        self.map.save(&mut archive)?;
        Ok(archive)
    }
}

/// A fit about to run: the spec with what surrounds it.
///
/// ```
/// use neuralef::{Dataset, Fit, FitSpec};
///
/// let data = Dataset::open("two_moons(n=400)", 0)?;
/// let spec = FitSpec::new("rbf(lengthscale=0.5)", 4)?;
/// let (model, _timings) = Fit::new(spec).run(&data)?;
/// assert_eq!(model.n_components(), 4);
/// # Ok::<(), neuralef::Error>(())
/// ```
pub struct Fit<'a> {
    spec: FitSpec,
    validation: Option<Dataset>,
    observer: Option<&'a mut dyn Observer>,
    checkpoint: Option<PathBuf>,
    checkpoint_every: u64,
    resume: Option<Checkpoint>,
    start: Option<&'a Model>,
}

impl<'a> Fit<'a> {
    /// A fit of `spec` with no observer and no checkpoints.
    pub fn new(spec: FitSpec) -> Self {
        Fit {
            spec,
            validation: None,
            observer: None,
            checkpoint: None,
            checkpoint_every: 500,
            resume: None,
            start: None,
        }
    }

    /// A fit that continues the interrupted run of `checkpoint`, to the same bits as if it had not
    /// been interrupted. The data, and validation points if it had them, must be the same.
    pub fn resume(checkpoint: Checkpoint) -> Self {
        let spec = checkpoint.header.spec.clone();
        Fit { resume: Some(checkpoint), ..Fit::new(spec) }
    }

    /// What it is going to do.
    pub fn spec(&self) -> &FitSpec {
        &self.spec
    }

    /// Held-out points of their own, instead of a share of the data: all data train.
    pub fn validation(mut self, points: Dataset) -> Self {
        self.validation = Some(points);
        self
    }

    /// What is decomposed, instead of what the spec says: for a checkpoint of a run whose kernel, Gram
    /// matrix, features or operator were in the hands of the program.
    pub fn operator(mut self, operator: impl Into<OperatorSpec>) -> Self {
        self.spec.operator = Some(operator.into());
        self
    }

    /// Starts from the networks of `model` instead of random ones. They must be of the same form; the
    /// data may be others.
    pub fn start_from(mut self, model: &'a Model) -> Self {
        self.start = Some(model);
        self
    }

    /// Who watches the fit and may stop it.
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Writes a checkpoint to `path` every `every` steps, and when the observer stops the run
    /// (`every = 0`: only then).
    pub fn checkpoint(mut self, path: impl Into<PathBuf>, every: u64) -> Self {
        self.checkpoint = Some(path.into());
        self.checkpoint_every = every;
        self
    }

    /// Runs it. Returns the model and where the time went.
    ///
    /// # Errors
    /// What [`FitSpec::check`] finds; data that do not fit the spec; [`Error::Diverged`],
    /// [`Error::Interrupted`], [`Error::Numerical`], [`Error::MemoryBudget`]; file errors.
    pub fn run(self, data: &Dataset) -> Result<(Model, Timings)> {
        // On a thread of the pool, parallel parts of a step start without waking a sleeper.
        rayon::scope(|_| self.run_in_pool(data))
    }

    fn run_in_pool(self, data: &Dataset) -> Result<(Model, Timings)> {
        let started = Instant::now();
        let mut silent = Silent;
        let observer = self.observer.unwrap_or(&mut silent);
        let method = self.spec.method.get()?;
        let problem = Problem::new(data, self.validation.as_ref(), &self.spec)?;
        let start = match self.start {
            Some(model) => Some(model.map.parameters().ok_or_else(|| Error::Unsupported {
                what: format!("starting from a model of method = {}", model.info.spec.method),
                reason: "it has no networks".into(),
            })?),
            None => None,
        };
        let inputs = Inputs::new(data, self.validation.as_ref(), &self.spec);
        let mut run = Run {
            observer,
            checkpoint: self.checkpoint.as_deref(),
            checkpoint_every: self.checkpoint_every,
            resume: self.resume,
            start,
            inputs: &inputs,
            timings: Timings::default(),
        };
        let fitted = method.fit(&problem, &mut run)?;
        let eigenvalues = fitted.map.eigenvalues().map(<[f64]>::to_vec).unwrap_or_default();

        let certificate = match problem.spec.certificate {
            true => {
                run.observer.observe(&Event::Phase { name: "certificate" });
                timed(&mut run.timings.certificate_seconds, || Certificate::of(&problem, &fitted))?
            }
            false => Certificate::none(&problem, &fitted)?,
        };
        let warnings = [problem.warnings.clone(), fitted.record.warnings.clone()].concat();
        for message in &warnings {
            run.observer.observe(&Event::Warning { message });
        }
        // What the program has at hand is not the model's.
        let mut spec = problem.spec;
        if let Some(kept) = fitted.kept {
            spec.method = kept.into();
        }
        spec.operator = spec.operator.filter(OperatorSpec::is_named);
        let named = spec.operator.is_some();
        let info = ModelInfo {
            spec,
            kernel: problem.kernel.as_ref().filter(|_| named).map(|k| k.text()),
            data: data.name().to_string(),
            n_samples: data.len(),
            n_features: data.width(),
            eigenvalues,
            certificate,
            record: fitted.record,
            warnings,
        };
        let mut timings = run.timings;
        timings.total_seconds = started.elapsed().as_secs_f64();
        let (standardizer, kernel) = (problem.points.into_standardizer(), problem.kernel);
        Ok((Model { info, standardizer, map: fitted.map, kernel }, timings))
    }
}

/// Fits `spec` to `data` with everything else default: [`Fit`] in one call.
///
/// # Errors
/// As [`Fit::run`].
pub fn fit(data: &Dataset, spec: &FitSpec) -> Result<Model> {
    Fit::new(spec.clone()).run(data).map(|(model, _)| model)
}
