//! Errors of the core as Python's.

use std::io::ErrorKind;

use neuralef::Error;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

create_exception!(
    neuralef._core,
    ParameterError,
    PyValueError,
    "A value that the core does not take; attributes say which parameter it is of, what would have \
     been taken and what came."
);

/// `ValueError` for input, which is a [`ParameterError`] where a parameter is at fault, `OSError` (or the
/// class that belongs to its number) for files, `numpy.linalg.LinAlgError` for computations that failed.
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
        other => match Facts::of(&other) {
            Some(facts) => facts.raise(None, &other.to_string()),
            None => PyValueError::new_err(other.to_string()),
        },
    }
}

/// The same for what is wrong with the text form in `field`, which the message names.
pub(crate) fn raise_in(field: &str, error: &Error) -> PyErr {
    Facts::of(error).unwrap_or_default().raise(Some(field), &error.to_string())
}

/// What is wrong with the value of `field`, where the core has nothing but a sentence.
pub(crate) fn bad_field(field: &str, message: &str) -> PyErr {
    Facts::default().raise(Some(field), message)
}

/// The attributes of a [`ParameterError`].
#[derive(Default)]
struct Facts<'a> {
    /// Name of the core's error.
    kind: Option<&'static str>,
    parameter: Option<&'a str>,
    expected: Option<String>,
    got: Option<String>,
    /// Of memory: what needs it.
    what: Option<&'a str>,
    /// Of a text form: the text, and the column of the fault from 1.
    text: Option<&'a str>,
    column: Option<usize>,
}

impl<'a> Facts<'a> {
    /// None for errors that are about no parameter.
    fn of(error: &'a Error) -> Option<Self> {
        Some(match error {
            Error::InvalidParameter { parameter, expected, got } => Facts {
                kind: Some("InvalidParameter"),
                parameter: Some(parameter),
                expected: Some(expected.clone()),
                got: Some(got.clone()),
                ..Facts::default()
            },
            Error::Shape { what, expected, got } => Facts {
                kind: Some("Shape"),
                parameter: Some(what),
                expected: Some(expected.clone()),
                got: Some(got.clone()),
                ..Facts::default()
            },
            Error::MemoryBudget { what, needed_mib, budget_mib } => Facts {
                kind: Some("MemoryBudget"),
                parameter: Some("memory_budget"),
                expected: Some(format!("{needed_mib} MiB")),
                got: Some(format!("{budget_mib} MiB")),
                what: Some(what),
                ..Facts::default()
            },
            Error::UnknownName { name, known, parameter, .. } => Facts {
                kind: Some("UnknownName"),
                parameter: *parameter,
                expected: Some(known.clone()),
                got: Some(name.clone()),
                ..Facts::default()
            },
            Error::Parse { text, column, value, .. } => Facts {
                kind: Some("Parse"),
                parameter: value.as_ref().map(|v| v.parameter.as_str()),
                expected: value.as_ref().map(|v| v.expected.clone()),
                got: value.as_ref().map(|v| v.got.clone()),
                text: Some(text),
                column: Some(*column),
                ..Facts::default()
            },
            _ => return None,
        })
    }

    fn raise(self, field: Option<&str>, message: &str) -> PyErr {
        let error = match field {
            Some(field) => ParameterError::new_err(format!("{field}: {message}")),
            None => ParameterError::new_err(message.to_string()),
        };
        let fill = |py: Python<'_>| {
            let value = error.value(py);
            value.setattr("kind", self.kind)?;
            value.setattr("field", field)?;
            value.setattr("message", message)?;
            value.setattr("parameter", self.parameter)?;
            value.setattr("expected", self.expected)?;
            value.setattr("got", self.got)?;
            value.setattr("what", self.what)?;
            value.setattr("text", self.text)?;
            value.setattr("column", self.column)
        };
        match Python::attach(fill) {
            Ok(()) => error,
            Err(other) => other,
        }
    }
}

fn lin_alg(message: String) -> PyErr {
    Python::attach(|py| {
        let class = py.import("numpy.linalg").and_then(|m| m.getattr("LinAlgError"));
        let error = class.and_then(|class| class.call1((PyString::new(py, &message),)));
        error.map_or_else(|e| e, PyErr::from_value)
    })
}
