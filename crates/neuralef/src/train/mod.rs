//! Training: the loop, its steps, and the checkpoints that continue it.

pub(crate) mod auto;
pub(crate) mod checkpoint;
pub(crate) mod learner;
pub(crate) mod trainer;

pub use crate::observer::{Control, Event, Silent};
pub use checkpoint::{Checkpoint, CheckpointHeader};
