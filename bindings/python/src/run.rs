//! Work of the core on threads of its own, with the interpreter free: interrupts are heard, callbacks
//! run on the thread that called, and no panic crosses.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use neuralef::{Control, Event, Observer};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::raise;
use crate::kernel::Failure;

/// How often an interrupt is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What a callback is told; see `neuralef._watch` for the meaning of the fields.
enum Message {
    Phase(String),
    Training { from: u64, total: u64 },
    Step { step: u64, loss: f64, eigenvalues: Vec<f64> },
    Progress { done: usize, total: usize },
    Check { step: u64, residual: f64 },
}

impl Message {
    fn of(event: &Event<'_>) -> Option<Message> {
        Some(match event {
            Event::Phase { name } => Message::Phase((*name).into()),
            Event::Training { from, total } => Message::Training { from: *from, total: *total },
            Event::Step { step, loss, eigenvalues } => {
                Message::Step { step: *step, loss: *loss, eigenvalues: eigenvalues.to_vec() }
            }
            Event::Progress { done, total } => Message::Progress { done: *done, total: *total },
            Event::AutoCheck { step, residual } => {
                Message::Check { step: *step, residual: *residual }
            }
            _ => return None,
        })
    }

    fn into_dict(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        let name = match self {
            Message::Phase(name) => {
                dict.set_item("name", name)?;
                "phase"
            }
            Message::Training { from, total } => {
                dict.set_item("step", from)?;
                dict.set_item("total", total)?;
                "training"
            }
            Message::Step { step, loss, eigenvalues } => {
                dict.set_item("step", step)?;
                dict.set_item("loss", loss)?;
                dict.set_item("eigenvalues", eigenvalues)?;
                "step"
            }
            Message::Progress { done, total } => {
                dict.set_item("done", done)?;
                dict.set_item("total", total)?;
                "progress"
            }
            Message::Check { step, residual } => {
                dict.set_item("step", step)?;
                dict.set_item("residual", residual)?;
                "check"
            }
        };
        dict.set_item("event", name)?;
        Ok(dict)
    }
}

/// Passes events on, and stops the work when it was asked to.
struct Watch<'a> {
    stop: &'a AtomicBool,
    /// None without a callback.
    events: Option<SyncSender<Message>>,
    answers: Receiver<()>,
}

impl Observer for Watch<'_> {
    fn observe(&mut self, event: &Event<'_>) -> Control {
        if let (Some(events), Some(message)) = (&self.events, Message::of(event)) {
            // The callback is done before the work goes on, so that it sees things in order.
            if events.send(message).is_ok() {
                let _ = self.answers.recv();
            }
        }
        match self.stop.load(Ordering::Relaxed) {
            true => Control::Stop,
            false => Control::Continue,
        }
    }
}

/// A pool of `jobs` threads, 0 for one for each core. Its own, since the global one does not survive a
/// fork.
fn pool(jobs: usize) -> PyResult<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build()
        .map_err(|e| PyRuntimeError::new_err(format!("n_jobs: no pool of {jobs} threads: {e}")))
}

fn internal(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    PyRuntimeError::new_err(format!("internal error, please report it: {text}"))
}

/// Short work without events.
pub(crate) fn quick<T: Send>(
    py: Python<'_>,
    jobs: usize,
    failure: Option<&Failure>,
    work: impl FnOnce() -> neuralef::Result<T> + Send,
) -> PyResult<T> {
    let found = py.detach(|| -> PyResult<neuralef::Result<T>> {
        let pool = pool(jobs)?;
        catch_unwind(AssertUnwindSafe(|| pool.install(work))).map_err(|p| internal(&*p))
    })?;
    found.map_err(|e| failure.and_then(Failure::take).unwrap_or_else(|| raise(e)))
}

/// Long work with an observer. Events go to `callback`, on this thread; what it raises stops the work
/// and is raised here, and so is an interrupt.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    jobs: usize,
    callback: Option<&Py<PyAny>>,
    failure: Option<&Failure>,
    work: impl FnOnce(&mut dyn Observer) -> neuralef::Result<T> + Send,
) -> PyResult<T> {
    let pool = pool(jobs)?;
    let stop = AtomicBool::new(false);
    let (found, raised) = py.detach(|| {
        std::thread::scope(|scope| {
            let (events, messages) = sync_channel(0);
            let (answer, answers) = sync_channel(1);
            // Kept by the worker until it is done: the other end hears that.
            let (alive, done) = sync_channel::<()>(0);
            let (stop, pool) = (&stop, &pool);
            let asked = callback.is_some();
            let worker = scope.spawn(move || {
                let _alive = alive;
                let mut watch = Watch { stop, events: asked.then_some(events), answers };
                catch_unwind(AssertUnwindSafe(|| pool.install(|| work(&mut watch))))
            });
            let mut raised = None;
            loop {
                let heard = match asked {
                    true => messages.recv_timeout(LOOK).map(Some),
                    false => done.recv_timeout(LOOK).map(|()| None),
                };
                let outcome = match heard {
                    Ok(message) => {
                        let outcome = Python::attach(|py| tell(py, callback, message));
                        let _ = answer.send(());
                        outcome
                    }
                    Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals()),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Err(error) = outcome {
                    stop.store(true, Ordering::Relaxed);
                    raised.get_or_insert(error);
                }
            }
            (worker.join().unwrap_or_else(Err), raised)
        })
    });
    if let Some(error) = raised {
        return Err(error);
    }
    match found {
        Err(panic) => Err(internal(&*panic)),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure.and_then(Failure::take).unwrap_or_else(|| raise(error))),
    }
}

fn tell(py: Python<'_>, callback: Option<&Py<PyAny>>, message: Option<Message>) -> PyResult<()> {
    py.check_signals()?;
    if let (Some(callback), Some(message)) = (callback, message) {
        callback.call1(py, (message.into_dict(py)?,))?;
    }
    Ok(())
}
