//! Arrays from NumPy to the core and back.

use ndarray::Array2;
use neuralef::{Dataset, Mat, Mat64};
use numpy::{
    PyArray1, PyArray2, PyArrayMethods as _, PyReadonlyArray1, PyReadonlyArray2, ToPyArray as _,
};
use pyo3::prelude::*;

use crate::error::raise;

/// Single precision, any layout.
pub(crate) type Single<'py> = PyReadonlyArray2<'py, f32>;

/// A copy in row-major order.
pub(crate) fn matrix(x: &Single<'_>) -> Mat {
    let x = x.as_array();
    Array2::from_shape_vec(x.dim(), x.iter().copied().collect()).unwrap_or_else(|_| x.to_owned())
}

/// Points with a name for messages.
pub(crate) fn dataset(name: &str, x: &Single<'_>) -> PyResult<Dataset> {
    Dataset::from_array(name, matrix(x)).map_err(raise)
}

pub(crate) fn doubles(x: &PyReadonlyArray2<'_, f64>) -> Mat64 {
    x.as_array().to_owned()
}

pub(crate) fn indices(x: &PyReadonlyArray1<'_, i64>) -> Vec<i64> {
    x.as_array().to_vec()
}

pub(crate) fn single<'py>(py: Python<'py>, x: &Mat) -> Bound<'py, PyArray2<f32>> {
    x.to_pyarray(py)
}

pub(crate) fn double<'py>(py: Python<'py>, x: &Mat64) -> Bound<'py, PyArray2<f64>> {
    x.to_pyarray(py)
}

pub(crate) fn vector<'py>(py: Python<'py>, x: &[f64]) -> Bound<'py, PyArray1<f64>> {
    x.to_pyarray(py)
}

/// A Python array of double precision, n × m.
pub(crate) fn received(found: &Bound<'_, PyAny>) -> PyResult<Mat64> {
    let array: &Bound<'_, PyArray2<f64>> = found.cast()?;
    Ok(array.readonly().as_array().to_owned())
}
