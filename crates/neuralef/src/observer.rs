//! What a fit tells while it runs, and how it is asked to stop.

/// Something that happened in a fit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase begins: `training`, `readout`, `certificate`, …
    Phase {
        /// Its name.
        name: &'static str,
    },
    /// Training starts or continues.
    Training {
        /// Steps already done.
        from: u64,
        /// Steps in all (for `steps = auto`, the most there will be).
        total: u64,
    },
    /// A training step is done.
    Step {
        /// Steps done, counting this one.
        step: u64,
        /// The loss on this batch.
        loss: f64,
        /// Running (EMA) eigenvalue estimates.
        eigenvalues: &'a [f64],
    },
    /// Part of a phase that is not training is done.
    Progress {
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        total: usize,
    },
    /// A comparison begins its next fit.
    Trial {
        /// Fits done.
        done: usize,
        /// Fits in all.
        total: usize,
        /// Which problem and contender.
        what: &'a str,
    },
    /// Nothing to tell: an occasion to stop.
    Tick,
    /// A checkpoint was written.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// Where.
        path: &'a std::path::Path,
    },
    /// `steps = auto` checked the held-out residuals.
    AutoCheck {
        /// Steps done.
        step: u64,
        /// Root mean square of the relative held-out residuals.
        residual: f64,
    },
    /// Something the user should know, once; also kept in the model's record.
    Warning {
        /// The text.
        message: &'a str,
    },
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop: the fit writes its checkpoint, if it has a path for one, and returns
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    Stop,
}

/// Watches a fit. Any closure `FnMut(&Event) -> Control + Send` is one.
pub trait Observer: Send {
    /// Called for every event, one at a time, on a thread of the pool that runs the fit.
    fn observe(&mut self, event: &Event<'_>) -> Control;
}

impl<F: FnMut(&Event<'_>) -> Control + Send> Observer for F {
    fn observe(&mut self, event: &Event<'_>) -> Control {
        self(event)
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _: &Event<'_>) -> Control {
        Control::Continue
    }
}
