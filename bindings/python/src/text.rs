//! Text forms from Python's values, and back.

use std::path::PathBuf;

use neuralef::Error;
use neuralef::spec::{Call, Value};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::error::raise_in;

/// The deepest lists in lists.
const DEPTH: usize = 8;

/// The text form `text`, which is of one name, with `parameters` added. Faults name `field`.
#[pyfunction]
pub(crate) fn text_form(
    field: &str,
    text: &str,
    parameters: &Bound<'_, PyDict>,
) -> PyResult<String> {
    let mut call: Call = text.parse().map_err(|e| raise_in(field, &e))?;
    for (name, item) in parameters {
        let name = name.str()?.to_string();
        let item = value(&item, DEPTH).ok_or_else(|| {
            let got = item.repr().map_or_else(|_| "something else".into(), |r| r.to_string());
            let expected = "a finite number, a name, or a list of them";
            raise_in(field, &Error::parameter(name.as_str(), expected, got))
        })?;
        call.parameters.push((name, item));
    }
    call.to_text().map_err(|e| raise_in(field, &e))
}

/// The name and parameters of a text form; none for one that is not of one name. Faults name `field`.
#[pyfunction]
pub(crate) fn parse_text_form<'py>(
    py: Python<'py>,
    field: &str,
    text: &str,
) -> PyResult<Option<(String, Bound<'py, PyDict>)>> {
    let Some(call) = Call::parse(text).map_err(|e| raise_in(field, &e))? else {
        return Ok(None);
    };
    let parameters = PyDict::new(py);
    for (name, value) in &call.parameters {
        parameters.set_item(name, object(py, value)?)?;
    }
    Ok(Some((call.name, parameters)))
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> Option<Value> {
    if let Ok(flag) = object.extract::<bool>() {
        return Some(Value::Boolean(flag));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Some(Value::Text(text.to_string()));
    }
    if let Ok(path) = object.extract::<PathBuf>() {
        return Some(Value::Path(path.to_str()?.to_string()));
    }
    if let Ok(items) = object.try_iter() {
        let depth = depth.checked_sub(1)?;
        return items.map(|item| value(&item.ok()?, depth)).collect::<Option<_>>().map(Value::List);
    }
    object.extract::<f64>().ok().map(Value::Number)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    /// Whole numbers up to here are the same in both of Python's types.
    const EXACT: f64 = (1u64 << 53) as f64;
    match value {
        Value::Number(v) if v.fract() == 0.0 && v.abs() < EXACT => {
            Ok((*v as i64).into_pyobject(py)?.into_any())
        }
        Value::Number(v) => Ok(v.into_pyobject(py)?.into_any()),
        Value::Boolean(v) => Ok(v.into_pyobject(py)?.to_owned().into_any()),
        Value::Path(path) => PathBuf::from(path).into_pyobject(py),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Text(text) => Ok(PyString::new(py, text).into_any()),
    }
}
