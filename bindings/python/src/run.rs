//! Work of the core on threads of its own, with the interpreter free: interrupts are heard, callbacks
//! run on the thread that called, and no panic crosses.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use neuralef::Observer;
use neuralef::train::{Control, Event};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::ThreadPoolBuilder;

use crate::error::raise;
use crate::kernel::Failure;

/// How often an interrupt is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long work that was asked to stop is waited for. What is in the middle of a decomposition then
/// ends by itself, unheard.
const PATIENCE: Duration = Duration::from_millis(500);

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

/// What the worker sends.
enum Heard<T> {
    Event(Message),
    Done(Outcome<T>),
}

/// A result, or the text of a panic.
type Outcome<T> = Result<neuralef::Result<T>, String>;

/// Passes events on, and stops the work when it was asked to.
struct Watch<T> {
    stop: Arc<AtomicBool>,
    /// None without a callback.
    events: Option<SyncSender<Heard<T>>>,
    answers: Receiver<()>,
}

impl<T: Send> Observer for Watch<T> {
    fn observe(&mut self, event: &Event<'_>) -> Control {
        let stopped = || self.stop.load(Ordering::Relaxed);
        if stopped() {
            return Control::Stop;
        }
        if let (Some(events), Some(message)) = (&self.events, Message::of(event)) {
            // The callback is done before the work goes on, so that it sees things in order.
            if events.send(Heard::Event(message)).is_ok() {
                let _ = self.answers.recv();
            }
        }
        if stopped() { Control::Stop } else { Control::Continue }
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn internal(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("internal error, please report it: {what}"))
}

/// Work without events.
pub(crate) fn quick<T: Send + 'static>(
    py: Python<'_>,
    jobs: usize,
    failure: Option<&Failure>,
    work: impl FnOnce() -> neuralef::Result<T> + Send + 'static,
) -> PyResult<T> {
    watched(py, jobs, None, failure, |_| work())
}

/// Work with an observer, on `jobs` threads (0: one for each core) of a pool of its own: the global one
/// does not survive a fork. Events go to `callback`, on this thread; what it raises stops the work and is
/// raised here, and so is an interrupt, within [`PATIENCE`].
pub(crate) fn watched<T: Send + 'static>(
    py: Python<'_>,
    jobs: usize,
    callback: Option<&Py<PyAny>>,
    failure: Option<&Failure>,
    work: impl FnOnce(&mut dyn Observer) -> neuralef::Result<T> + Send + 'static,
) -> PyResult<T> {
    let stop = Arc::new(AtomicBool::new(false));
    if let Some(failure) = failure {
        failure.begin(Arc::clone(&stop));
    }
    let (sender, mut heard) = sync_channel(0);
    let (answer, answers) = sync_channel(1);
    let mut watch =
        Watch { stop: Arc::clone(&stop), events: callback.map(|_| sender.clone()), answers };
    let fault = |e: &dyn std::fmt::Display| {
        PyRuntimeError::new_err(format!("n_jobs: no pool of {jobs} threads: {e}"))
    };
    let pool = ThreadPoolBuilder::new().num_threads(jobs).build().map_err(|e| fault(&e))?;
    let run = move || {
        let done = catch_unwind(AssertUnwindSafe(|| pool.install(|| work(&mut watch))));
        // Nobody hears it where an interrupt did not want to wait.
        let _ = sender.send(Heard::Done(done.map_err(|p| text(&*p))));
    };
    std::thread::Builder::new().name("neuralef".into()).spawn(run).map_err(|e| fault(&e))?;
    let mut raised: Option<(PyErr, Instant)> = None;
    let outcome = loop {
        let next = &mut heard;
        let error = match py.detach(move || next.recv_timeout(LOOK)) {
            Ok(Heard::Done(outcome)) => break outcome,
            Ok(Heard::Event(message)) => {
                let outcome = match &raised {
                    None => tell(py, callback, message),
                    Some(_) => Ok(()),
                };
                // The worker must find the flag when it has its answer.
                if outcome.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                let _ = answer.send(());
                outcome.err()
            }
            Err(RecvTimeoutError::Timeout) => py.check_signals().err(),
            Err(RecvTimeoutError::Disconnected) => break Err("the work has gone".into()),
        };
        if let Some(error) = error {
            stop.store(true, Ordering::Relaxed);
            raised.get_or_insert((error, Instant::now()));
        }
        if let Some((_, since)) = &raised
            && since.elapsed() > PATIENCE
        {
            break Err("stopped".into());
        }
    };
    if let Some((error, _)) = raised {
        return Err(error);
    }
    // What a kernel raised counts even where the core could do without its value.
    if let Some(error) = failure.and_then(Failure::take) {
        return Err(error);
    }
    outcome.map_err(|panic| internal(&panic))?.map_err(raise)
}

fn tell(py: Python<'_>, callback: Option<&Py<PyAny>>, message: Message) -> PyResult<()> {
    py.check_signals()?;
    if let Some(callback) = callback {
        callback.call1(py, (message.into_dict(py)?,))?;
    }
    Ok(())
}
