//! Fitting: from data and a spec to a model with a certificate.

pub(crate) mod certificate;
pub(crate) mod checkpoint;
mod evaluate;
mod load;
mod model;
pub(crate) mod problem;
mod spec;

pub use crate::readout::ReadoutRecord;
pub use certificate::{Certificate, PairCertificate};
pub use checkpoint::{Checkpoint, CheckpointHeader};
pub use evaluate::{EvaluateOptions, Evaluation, ExactComparison};
pub use load::LoadOptions;
pub use model::{Fit, Model, ModelInfo, fit};
pub use problem::{Problem, Split};
pub use spec::{FitSpec, OutputForm, ReadoutKind, Steps};
