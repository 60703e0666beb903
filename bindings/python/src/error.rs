//! Errors of the core as Python's.

use std::io::ErrorKind;

use neuralef::Error;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// `ValueError` for input, `OSError` (or the class that belongs to its number) for files,
/// `numpy.linalg.LinAlgError` for computations that failed. The text names the parameter.
pub(crate) fn raise(error: Error) -> PyErr {
    match error {
        Error::Io { path, source } => {
            let path = path.display().to_string();
            // Python makes FileNotFoundError and the like of the number.
            let number = source.raw_os_error().or(match source.kind() {
                ErrorKind::NotFound => Some(2),
                ErrorKind::PermissionDenied => Some(13),
                _ => None,
            });
            match number {
                Some(number) => PyOSError::new_err((number, source.kind().to_string(), path)),
                None => PyOSError::new_err(format!("{path}: {source}")),
            }
        }
        Error::Numerical { .. } | Error::Diverged { .. } => lin_alg(error.to_string()),
        other => PyValueError::new_err(other.to_string()),
    }
}

fn lin_alg(message: String) -> PyErr {
    Python::attach(|py| {
        let class = py.import("numpy.linalg").and_then(|m| m.getattr("LinAlgError"));
        let error = class.and_then(|class| class.call1((PyString::new(py, &message),)));
        error.map_or_else(|e| e, PyErr::from_value)
    })
}
