//! Laplace approximations.

use std::path::PathBuf;
use std::sync::Mutex;

use neuralef::Observer;
use neuralef::bayes::{Criterion, LaplaceSpec, PREDICTIVES, Predictive, Targets};
use neuralef::data::Standardizer;
use neuralef::nn::TrainedNetwork;
use neuralef::train::{Control, Event};
use numpy::{PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2, ToPyArray as _};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::{Single, dataset, double, doubles, indices, matrix};
use crate::error::raise;
use crate::run::{quick, watched};

/// Rows between two occasions to be interrupted.
const ROWS: usize = 256;

/// A fitted posterior. Settings of it can change: they are held under a lock.
#[pyclass(frozen, module = "neuralef._core")]
pub(crate) struct Laplace {
    inner: Mutex<neuralef::bayes::Laplace>,
}

fn predictive(text: &str) -> PyResult<Predictive> {
    PREDICTIVES.build_text(text).map_err(raise)
}

/// Labels, or values: one of them.
fn targets(
    labels: Option<PyReadonlyArray1<'_, i64>>,
    values: Option<PyReadonlyArray2<'_, f64>>,
) -> PyResult<Targets> {
    match (labels, values) {
        (Some(labels), None) => {
            let number = |y: i64| {
                usize::try_from(y).map_err(|_| {
                    PyValueError::new_err(format!("y: expected classes from 0, got {y}"))
                })
            };
            let labels = indices(&labels).into_iter().map(number).collect::<PyResult<_>>()?;
            Ok(Targets::Labels(labels))
        }
        (None, Some(values)) => Ok(Targets::Values(doubles(&values))),
        _ => Err(PyValueError::new_err("y: expected either labels or values")),
    }
}

impl Laplace {
    fn of(inner: neuralef::bayes::Laplace) -> Self {
        Laplace { inner: Mutex::new(inner) }
    }

    /// A clone, which shares all that is large.
    fn get(&self) -> PyResult<neuralef::bayes::Laplace> {
        let fault = |_| PyRuntimeError::new_err("internal error: a lock is broken");
        Ok(self.inner.lock().map_err(fault)?.clone())
    }

    fn put(&self, posterior: neuralef::bayes::Laplace) -> PyResult<()> {
        let fault = |_| PyRuntimeError::new_err("internal error: a lock is broken");
        *self.inner.lock().map_err(fault)? = posterior;
        Ok(())
    }
}

#[pymethods]
impl Laplace {
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        quick(py, 1, None, || neuralef::bayes::Laplace::load(path)).map(Laplace::of)
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let bytes = bytes.to_vec();
        quick(py, 1, None, move || neuralef::bayes::Laplace::from_bytes(&bytes)).map(Laplace::of)
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let posterior = self.get()?;
        quick(py, 1, None, move || posterior.save(path))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let posterior = self.get()?;
        Ok(PyBytes::new(py, &quick(py, 1, None, move || posterior.to_bytes())?))
    }

    fn info(&self) -> PyResult<String> {
        serde_json::to_string(self.get()?.info()).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[getter]
    fn prior_precision(&self) -> PyResult<f64> {
        Ok(self.get()?.prior_precision())
    }

    fn set_prior_precision(&self, value: f64) -> PyResult<()> {
        let mut posterior = self.get()?;
        posterior.set_prior_precision(value).map_err(raise)?;
        self.put(posterior)
    }

    #[getter]
    fn temperature(&self) -> PyResult<f64> {
        Ok(self.get()?.temperature())
    }

    #[getter]
    fn noise_variance(&self) -> PyResult<Option<f64>> {
        Ok(self.get()?.noise_variance())
    }

    /// The temperature of a classifier, or the noise variance of a regression.
    fn set_scale(&self, value: f64) -> PyResult<()> {
        let mut posterior = self.get()?;
        posterior.set_scale(value).map_err(raise)?;
        self.put(posterior)
    }

    fn log_marginal_likelihood(&self) -> PyResult<f64> {
        Ok(self.get()?.log_marginal_likelihood())
    }

    fn effective_parameters(&self) -> PyResult<f64> {
        Ok(self.get()?.effective_parameters())
    }

    /// Over the prior precision, and with `noise` over the noise variance too.
    fn maximize_marginal_likelihood(&self, py: Python<'_>, noise: bool) -> PyResult<()> {
        let mut posterior = self.get()?;
        let posterior = quick(py, 1, None, move || {
            match noise {
                true => posterior.maximize_marginal_likelihood()?,
                false => posterior.maximize_over_prior_precision()?,
            }
            Ok(posterior)
        })?;
        self.put(posterior)
    }

    /// Means, n × C, and covariances, n × C × C, of the outputs.
    #[expect(clippy::type_complexity, reason = "two arrays")]
    fn outputs<'py>(
        &self,
        py: Python<'py>,
        x: Single<'py>,
        n_jobs: usize,
    ) -> PyResult<(Bound<'py, PyArray2<f64>>, Bound<'py, PyArray3<f64>>)> {
        let (posterior, x) = (self.get()?, matrix(&x));
        let work = move |observer: &mut dyn Observer| outputs(&posterior, &x, observer);
        let found = watched(py, n_jobs, None, None, work)?;
        Ok((double(py, &found.mean), found.covariance.to_pyarray(py)))
    }

    /// Probabilities of classes, n × C, by `kind` of predictions.
    fn probabilities<'py>(
        &self,
        py: Python<'py>,
        x: Single<'py>,
        kind: &str,
        seed: u64,
        n_jobs: usize,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (posterior, x, kind) = (self.get()?, matrix(&x), predictive(kind)?);
        let found = watched(py, n_jobs, None, None, move |observer| {
            outputs(&posterior, &x, observer)?.probabilities(kind, seed)
        })?;
        Ok(double(py, &found))
    }

    /// Takes the prior precision (and temperature or noise variance) that is best on validation points;
    /// returns what was found, as JSON.
    #[pyo3(signature = (x, labels, values, criterion, temperature, kind, n_jobs))]
    #[expect(clippy::too_many_arguments, reason = "arguments of Python")]
    fn tune(
        &self,
        py: Python<'_>,
        x: Single<'_>,
        labels: Option<PyReadonlyArray1<'_, i64>>,
        values: Option<PyReadonlyArray2<'_, f64>>,
        criterion: &str,
        temperature: bool,
        kind: &str,
        n_jobs: usize,
    ) -> PyResult<String> {
        let criterion = match criterion {
            "nll" => Criterion::Nll,
            "ece" => Criterion::Ece,
            other => {
                let message = format!("criterion: expected nll or ece, got {other}");
                return Err(PyValueError::new_err(message));
            }
        };
        let (mut posterior, x, kind) = (self.get()?, matrix(&x), predictive(kind)?);
        let targets = targets(labels, values)?;
        let (posterior, found) = quick(py, n_jobs, None, move || {
            let points = posterior.features(x.view())?;
            let found = posterior.tune(&points, &targets, criterion, temperature, kind)?;
            Ok((posterior, found))
        })?;
        self.put(posterior)?;
        serde_json::to_string(&found).map_err(|e| PyValueError::new_err(e.to_string()))
    }
}

/// Outputs at points, block by block.
fn outputs(
    posterior: &neuralef::bayes::Laplace,
    x: &neuralef::Mat,
    observer: &mut dyn Observer,
) -> neuralef::Result<neuralef::bayes::GaussianOutputs> {
    let mut parts = Vec::new();
    for block in x.axis_chunks_iter(ndarray::Axis(0), ROWS) {
        let step = parts.len() as u64;
        if observer.observe(&Event::Tick) == Control::Stop {
            return Err(neuralef::Error::Interrupted { step, checkpoint: None });
        }
        parts.push(posterior.outputs(block)?);
    }
    neuralef::bayes::GaussianOutputs::concatenate(&parts)
}

/// Fits a posterior of the network in `path` to points and their targets.
#[pyfunction]
#[pyo3(signature = (path, architecture, source, x, *, labels=None, values=None, prior_precision=None, noise_variance=None, temperature=1.0, mean=None, std=None, seed=0, memory_budget=4096, callback=None, n_jobs=0))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn fit_laplace(
    py: Python<'_>,
    path: PathBuf,
    architecture: Option<&str>,
    source: &str,
    x: Single<'_>,
    labels: Option<PyReadonlyArray1<'_, i64>>,
    values: Option<PyReadonlyArray2<'_, f64>>,
    prior_precision: Option<f64>,
    noise_variance: Option<f64>,
    temperature: f64,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    seed: u64,
    memory_budget: u64,
    callback: Option<Py<PyAny>>,
    n_jobs: usize,
) -> PyResult<Laplace> {
    let data = dataset("X", &x)?;
    let targets = targets(labels, values)?;
    let (architecture, source) = (architecture.map(str::to_string), source.to_string());
    let posterior = watched(py, n_jobs, callback.as_ref(), None, move |observer| {
        let network = TrainedNetwork::open(path, architecture.as_deref())?;
        let preprocessing = match (mean, std) {
            (None, None) => None,
            (mean, std) => {
                let mean = mean.unwrap_or_else(|| vec![0.0]);
                let std = std.unwrap_or_else(|| vec![1.0]);
                Some(Standardizer::by_channel(data.width(), &mean, &std)?)
            }
        };
        let spec = LaplaceSpec {
            prior_precision,
            noise_variance,
            temperature,
            preprocessing,
            seed,
            memory_budget,
            ..LaplaceSpec::new(&source)?
        };
        spec.fit(&network, &data, &targets, observer)
    })?;
    Ok(Laplace::of(posterior))
}
