//! Spectral Stein gradient estimators.

use std::path::PathBuf;
use std::sync::Arc;

use neuralef::KernelSpec;
use neuralef::score::{SpectralStein as Estimator, SteinOptions, Terms};
use numpy::PyArray2;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::{Single, dataset, double, matrix};
use crate::error::raise;
use crate::model::Model;
use crate::run::quick;

/// A fitted estimator.
#[pyclass(frozen, module = "neuralef._core")]
pub(crate) struct SpectralStein {
    inner: Arc<Estimator>,
}

impl SpectralStein {
    fn of(inner: Estimator) -> Self {
        SpectralStein { inner: Arc::new(inner) }
    }

    fn share(&self) -> Arc<Estimator> {
        Arc::clone(&self.inner)
    }
}

fn options(terms: &str, components: usize, seed: u64) -> PyResult<SteinOptions> {
    let terms: Terms = terms.parse().map_err(raise)?;
    Ok(SteinOptions { terms, components, seed })
}

#[pymethods]
impl SpectralStein {
    /// From the eigenfunctions of a kernel by the Nyström method.
    #[staticmethod]
    fn nonparametric(
        py: Python<'_>,
        kernel: &str,
        x: Single<'_>,
        terms: &str,
        components: usize,
        seed: u64,
        n_jobs: usize,
    ) -> PyResult<Self> {
        let kernel: KernelSpec = kernel.parse().map_err(raise)?;
        let (data, options) = (dataset("X", &x)?, options(terms, components, seed)?);
        let inner = quick(py, n_jobs, None, move || {
            let x = data.range(0..data.len())?;
            let kernel = kernel.resolve(Some(x.view()), seed)?;
            Estimator::nonparametric(kernel, &data, &options)
        })?;
        Ok(SpectralStein::of(inner))
    }

    /// From the eigenfunctions of a model.
    #[staticmethod]
    fn parametric(
        py: Python<'_>,
        model: &Bound<'_, Model>,
        x: Single<'_>,
        terms: &str,
        seed: u64,
        n_jobs: usize,
    ) -> PyResult<Self> {
        let (model, data) = (model.get().share(), dataset("X", &x)?);
        let options = options(terms, SteinOptions::default().components, seed)?;
        let inner = quick(py, n_jobs, None, move || Estimator::parametric(model, &data, &options))?;
        Ok(SpectralStein::of(inner))
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        quick(py, 1, None, || Estimator::load(path)).map(SpectralStein::of)
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let bytes = bytes.to_vec();
        quick(py, 1, None, move || Estimator::from_bytes(&bytes)).map(SpectralStein::of)
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let estimator = self.share();
        quick(py, 1, None, move || estimator.save(path))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let estimator = self.share();
        Ok(PyBytes::new(py, &quick(py, 1, None, move || estimator.to_bytes())?))
    }

    /// How the fit went, as JSON.
    fn record(&self) -> PyResult<String> {
        serde_json::to_string(self.inner.record()).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[getter]
    fn kernel(&self) -> Option<String> {
        self.inner.kernel()
    }

    fn coefficients<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f64>> {
        double(py, &self.inner.coefficients().to_owned())
    }

    /// ∇log q at points.
    fn score<'py>(
        &self,
        py: Python<'py>,
        x: Single<'py>,
        n_jobs: usize,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (x, estimator) = (matrix(&x), self.share());
        Ok(double(py, &quick(py, n_jobs, None, move || estimator.score(x.view()))?))
    }

    fn hyvarinen_loss(&self, py: Python<'_>, x: Single<'_>, n_jobs: usize) -> PyResult<f64> {
        let (data, estimator) = (dataset("X", &x)?, self.share());
        quick(py, n_jobs, None, move || estimator.hyvarinen_loss(&data))
    }
}
