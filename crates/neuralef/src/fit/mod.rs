//! Fitting: from data and a spec to a model with a certificate.

pub(crate) mod auto;
pub(crate) mod budget;
mod certificate;
pub(crate) mod checkpoint;
pub(crate) mod learner;
mod observer;
pub(crate) mod outputs;
#[cfg(test)]
mod outputs_tests;
pub(crate) mod problem;
mod product;
pub(crate) mod readout;
mod source;
mod spec;
pub(crate) mod train;

pub use certificate::{Certificate, PairCertificate};
pub(crate) use certificate::{certify, certify_features, gram_error};
pub use checkpoint::{Checkpoint, CheckpointHeader};
pub use observer::{Control, Event, Observer, Silent};
pub use problem::{Problem, Split};
pub use readout::ReadoutRecord;
pub(crate) use readout::relative_residuals;
pub use source::KernelSource;
pub use spec::{FitSpec, OutputForm, ReadoutKind, Steps};
