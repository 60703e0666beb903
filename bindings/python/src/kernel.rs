//! Kernels of Python programs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array1, ArrayView2, Axis};
use neuralef::kernel::PrecomputedKernel;
use neuralef::matrix::{Mat64Mut, MatMut};
use neuralef::{Error, Kernel, Mat64, MatRef};
use numpy::{PyArray1, PyArrayMethods as _, ToPyArray as _};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::arrays::received;

/// What a Python kernel raised in the current work, kept while the core's own error goes its way; and
/// whether that work is to stop.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    error: Option<PyErr>,
    stop: Option<Arc<AtomicBool>>,
}

impl Failure {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New work begins, which ends when `stop` is set.
    pub(crate) fn begin(&self, stop: Arc<AtomicBool>) {
        *self.state() = State { error: None, stop: Some(stop) };
    }

    pub(crate) fn take(&self) -> Option<PyErr> {
        self.state().error.take()
    }

    fn put(&self, error: PyErr) -> Error {
        let message = error.to_string();
        self.state().error.get_or_insert(error);
        Error::Numerical { what: "kernel".into(), message }
    }

    /// Fails once the work is to stop: a Python kernel can take long.
    fn check(&self) -> neuralef::Result<()> {
        match self.state().stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(Error::Interrupted { step: 0, checkpoint: None }),
            false => Ok(()),
        }
    }
}

/// A Python object with `gram(X, Y)` → n × m and `diag(X)` → n, all of double precision. The same points on
/// both sides are one object.
pub(crate) struct Callable {
    object: Py<PyAny>,
    failure: Failure,
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callable")
    }
}

impl Callable {
    fn values(&self, x: MatRef<'_>, y: MatRef<'_>) -> neuralef::Result<Mat64> {
        self.failure.check()?;
        let call = |py: Python<'_>| -> PyResult<Mat64> {
            let array = |m: MatRef<'_>| m.mapv(f64::from).to_pyarray(py);
            let first = array(x);
            let second = if same(x, y) { first.clone() } else { array(y) };
            let found = self.object.bind(py).call_method1("gram", (first, second))?;
            received(&found)
        };
        let found = Python::attach(call).map_err(|e| self.failure.put(e))?;
        if found.dim() != (x.nrows(), y.nrows()) {
            let expected = format!("{} × {}", x.nrows(), y.nrows());
            let (n, m) = found.dim();
            return Err(Error::shape("values of kernel", expected, format!("{n} × {m}")));
        }
        finite(found.view())?;
        Ok(found)
    }
}

/// Whether both are the same points in memory, not only equal ones.
fn same(x: MatRef<'_>, y: MatRef<'_>) -> bool {
    x.as_ptr() == y.as_ptr() && x.dim() == y.dim() && x.strides() == y.strides()
}

fn finite(values: ArrayView2<'_, f64>) -> neuralef::Result<()> {
    match values.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), value)) => {
            let value = *value as f32;
            Err(Error::NonFinite { what: "values of kernel".into(), row, column, value })
        }
    }
}

impl Kernel for Callable {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> neuralef::Result<()> {
        out.assign(&self.values(x, y)?);
        Ok(())
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> neuralef::Result<()> {
        out.assign(&self.values(x, y)?.mapv(|v| v as f32));
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> neuralef::Result<Vec<f64>> {
        self.failure.check()?;
        let call = |py: Python<'_>| -> PyResult<Array1<f64>> {
            let x = x.mapv(f64::from).to_pyarray(py);
            let found = self.object.bind(py).call_method1("diag", (x,))?;
            let array: &Bound<'_, PyArray1<f64>> = found.cast()?;
            Ok(array.readonly().as_array().to_owned())
        };
        let found = Python::attach(call).map_err(|e| self.failure.put(e))?;
        if found.len() != x.nrows() {
            return Err(Error::shape("diagonal of kernel", x.nrows(), found.len()));
        }
        finite(found.view().insert_axis(Axis(1)))?;
        Ok(found.to_vec())
    }

    fn text(&self) -> String {
        "callable".into()
    }

    fn is_costly(&self) -> bool {
        true
    }
}

/// A kernel, and where its errors are kept.
type Given = (Option<Arc<dyn Kernel>>, Option<Failure>);

/// A kernel that is handed over: an object as above, or a number N for precomputed values against N
/// points.
pub(crate) fn given(object: Option<&Bound<'_, PyAny>>) -> PyResult<Given> {
    let Some(object) = object else { return Ok((None, None)) };
    if let Ok(points) = object.extract::<usize>() {
        return Ok((Some(Arc::new(PrecomputedKernel::new(points))), None));
    }
    if !object.hasattr("gram")? || !object.hasattr("diag")? {
        return Err(PyTypeError::new_err("kernel: expected an object with gram and diag"));
    }
    let failure = Failure::default();
    let kernel = Callable { object: object.clone().unbind(), failure: failure.clone() };
    Ok((Some(Arc::new(kernel)), Some(failure)))
}
