//! Small questions that need no fit.

use neuralef::method::Method;
use neuralef::nn::{NetworkSpec, OptimizerSpec, Schedule};
use neuralef::objective::Objective;
use neuralef::spec::Spec;
use neuralef::{FitSpec, KernelSpec, Mat64};
use numpy::PyArray2;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Single, double, matrix};
use crate::error::{bad_field, raise, raise_in};
use crate::run::quick;

/// A spec from its JSON form. What is wrong with a field is said with its name.
pub(crate) fn spec(json: &str) -> PyResult<FitSpec> {
    let fault = |e: serde_json::Error| PyValueError::new_err(e.to_string());
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(fault)?;
    for (name, value) in &fields {
        if let Some(text) = value.as_str() {
            check(name, text).map_err(|e| raise_in(name, &e))?;
        }
        let alone = serde_json::json!({ name: value });
        serde_json::from_value::<FitSpec>(alone).map_err(|e| bad_field(name, &e.to_string()))?;
    }
    serde_json::from_value(fields.into()).map_err(fault)
}

/// Reads the text form of a field that has one, for an error that is more than a sentence.
fn check(field: &str, text: &str) -> neuralef::Result<()> {
    match field {
        "kernel" => text.parse::<KernelSpec>().map(drop),
        "network" => text.parse::<NetworkSpec>().map(drop),
        "optimizer" => text.parse::<OptimizerSpec>().map(drop),
        "schedule" => text.parse::<Schedule>().map(drop),
        "method" => text.parse::<Spec<dyn Method>>().map(drop),
        "objective" => text.parse::<Spec<dyn Objective>>().map(drop),
        _ => Ok(()),
    }
}

/// Points of n that a fit learns from, and those that it is measured on.
#[pyfunction]
pub(crate) fn training_points(json: &str, n: usize) -> PyResult<usize> {
    Ok(spec(json)?.split(n).train.len())
}

/// Kernels, networks, objectives, … with their parameters: (section, name, summary, [(parameter, default,
/// meaning)]).
#[pyfunction]
pub(crate) fn catalogue() -> PyResult<String> {
    serde_json::to_string(&neuralef::spec::catalogue())
        .map_err(|e| PyValueError::new_err(e.to_string()))
}

/// κ(X, Y), n × m. What depends on data is worked out from X.
#[pyfunction]
pub(crate) fn kernel_matrix<'py>(
    py: Python<'py>,
    kernel: &str,
    x: Single<'py>,
    y: Single<'py>,
    n_jobs: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (x, y) = (matrix(&x), matrix(&y));
    let kernel: KernelSpec = kernel.parse().map_err(raise)?;
    let gram = quick(py, n_jobs, None, move || {
        let kernel = kernel.resolve(Some(x.view()), 0)?;
        let mut gram = Mat64::zeros((x.nrows(), y.nrows()));
        kernel.gram(x.view(), y.view(), gram.view_mut())?;
        Ok(gram)
    })?;
    Ok(double(py, &gram))
}
