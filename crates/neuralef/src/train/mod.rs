//! Training: the one loop, the signal that it follows, and the state that continues it.

pub(crate) mod auto;
pub(crate) mod checkpoint;
mod eigenfunctions;
mod learning_rate;
mod signal;
#[cfg(test)]
mod tests;
mod training_loop;

pub use crate::observer::{Control, Event, Silent};
pub(crate) use eigenfunctions::EigenfunctionSignal;
pub(crate) use learning_rate::LearningRate;
pub(crate) use signal::{BatchLoss, Divergence, Signal, TrainingStep};
pub(crate) use training_loop::{Checkpointing, TrainingLoop};
