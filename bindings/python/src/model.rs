//! Fits and models.

use std::path::PathBuf;
use std::sync::Arc;

use neuralef::operator::{MatrixSource, OperatorSpec};
use neuralef::{Dataset, Fit, Observer};
use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::{Single, dataset, double, matrix, single, vector};
use crate::catalogue::spec;
use crate::kernel::{Failure, given};
use crate::run::{quick, watched};

/// A fitted model.
#[pyclass(frozen, module = "neuralef._core")]
pub(crate) struct Model {
    inner: Arc<neuralef::Model>,
    failure: Option<Failure>,
}

impl Model {
    pub(crate) fn share(&self) -> Arc<neuralef::Model> {
        Arc::clone(&self.inner)
    }
}

#[pymethods]
impl Model {
    /// Reads a model file; `kernel` as in `fit`, when the file does not hold it.
    #[staticmethod]
    #[pyo3(signature = (path, kernel=None))]
    fn load(py: Python<'_>, path: PathBuf, kernel: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let (kernel, failure) = given(kernel)?;
        let inner = quick(py, 1, None, move || match kernel {
            Some(kernel) => neuralef::Model::load_with(path, kernel),
            None => neuralef::Model::load(path),
        })?;
        Ok(Model { inner: Arc::new(inner), failure })
    }

    /// As `load`, from the bytes of a model file.
    #[staticmethod]
    #[pyo3(signature = (bytes, kernel=None))]
    fn from_bytes(
        py: Python<'_>,
        bytes: &[u8],
        kernel: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (kernel, failure) = given(kernel)?;
        let bytes = bytes.to_vec();
        let inner = quick(py, 1, None, move || match kernel {
            Some(kernel) => neuralef::Model::from_bytes_with(&bytes, kernel),
            None => neuralef::Model::from_bytes(&bytes),
        })?;
        Ok(Model { inner: Arc::new(inner), failure })
    }

    /// d of a model file.
    #[staticmethod]
    fn width(py: Python<'_>, path: PathBuf) -> PyResult<usize> {
        quick(py, 1, None, || neuralef::Model::inputs_of(path))
    }

    /// Writes a model file: the whole file, or none.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let model = self.share();
        quick(py, 1, None, move || model.save(path))
    }

    /// The bytes of a model file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let model = self.share();
        let bytes = quick(py, 1, None, move || model.to_bytes())?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Everything that is known about it, as JSON.
    fn info(&self) -> PyResult<String> {
        serde_json::to_string(self.inner.info()).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[getter]
    fn n_components(&self) -> usize {
        self.inner.n_components()
    }

    #[getter]
    fn outputs(&self) -> usize {
        self.inner.outputs()
    }

    #[getter]
    fn has_eigenpairs(&self) -> bool {
        self.inner.has_eigenpairs()
    }

    fn eigenvalues<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        vector(py, self.inner.eigenvalues())
    }

    /// φ(x).
    fn transform<'py>(
        &self,
        py: Python<'py>,
        x: Single<'py>,
        n_jobs: usize,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (x, model) = (matrix(&x), self.share());
        let work = move || model.transform(x.view());
        let found = quick(py, n_jobs, self.failure.as_ref(), work)?;
        Ok(single(py, &found))
    }

    /// ψ(x).
    fn eigenfunctions<'py>(
        &self,
        py: Python<'py>,
        x: Single<'py>,
        n_jobs: usize,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (x, model) = (matrix(&x), self.share());
        let work = move || model.eigenfunctions(x.view());
        let found = quick(py, n_jobs, self.failure.as_ref(), work)?;
        Ok(double(py, &found))
    }

    /// ‖φφᵀ − K‖/‖K‖ over pairs of different points.
    fn gram_error(
        &self,
        py: Python<'_>,
        x: Single<'_>,
        seed: u64,
        n_jobs: usize,
    ) -> PyResult<Option<f64>> {
        let (x, model) = (dataset("X", &x)?, self.share());
        quick(py, n_jobs, self.failure.as_ref(), move || model.gram_error(&x, seed))
    }
}

/// What is wrong with more than one kernel.
const ONE_OPERATOR: &str = "kernel: expected one of kernel, gram and features";

/// Fits a spec (JSON) to `x`. Returns the model and where the time went (JSON).
///
/// `kernel` is an object with `gram` and `diag`, or the number N for points that are rows of
/// precomputed values against N points, row i that of point i; `gram` and `features` are arrays.
/// With one of them the spec has none.
#[pyfunction]
#[pyo3(signature = (spec_json, x, *, kernel=None, gram=None, features=None, start=None, callback=None, n_jobs=0))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn fit(
    py: Python<'_>,
    spec_json: &str,
    x: Single<'_>,
    kernel: Option<&Bound<'_, PyAny>>,
    gram: Option<Single<'_>>,
    features: Option<Single<'_>>,
    start: Option<&Bound<'_, Model>>,
    callback: Option<Py<PyAny>>,
    n_jobs: usize,
) -> PyResult<(Model, String)> {
    let spec = spec(spec_json)?;
    let data = dataset("X", &x)?;
    let (kernel, failure) = given(kernel)?;
    let part = |name: &str, x: Option<Single<'_>>| -> PyResult<Option<Dataset>> {
        x.map(|x| dataset(name, &x)).transpose()
    };
    let operator = match (kernel, part("gram", gram)?, part("features", features)?) {
        (Some(kernel), None, None) => Some(OperatorSpec::OwnKernel(kernel)),
        (None, Some(gram), None) => Some(OperatorSpec::Gram(MatrixSource::Data(gram))),
        (None, None, Some(features)) => Some(OperatorSpec::Features(MatrixSource::Data(features))),
        (None, None, None) => None,
        _ => return Err(PyValueError::new_err(ONE_OPERATOR)),
    };
    if operator.is_some() && spec.operator.is_some() {
        return Err(PyValueError::new_err(ONE_OPERATOR));
    }
    let start = start.map(|model| model.get().share());
    let work = move |observer: &mut dyn Observer| {
        let mut fit = Fit::new(spec).observer(observer);
        if let Some(operator) = operator {
            fit = fit.operator(operator);
        }
        if let Some(start) = &start {
            fit = fit.start_from(start);
        }
        fit.run(&data)
    };
    let (model, timings) = watched(py, n_jobs, callback.as_ref(), failure.as_ref(), work)?;
    let timings =
        serde_json::to_string(&timings).map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok((Model { inner: Arc::new(model), failure }, timings))
}
