//! Learn the eigenfunctions of a kernel as neural networks, check them, save them and apply them.

mod approx;
mod catalogue;
pub mod closed_form;
mod data;
mod error;
mod evaluate;
mod fit;
mod kernel;
mod linalg;
mod matrix;
pub mod metrics;
mod model;
mod nn;
mod objective;
mod operator;
mod persist;
mod rng;
mod simd;
mod spec;
#[cfg(test)]
mod test_kernels;

pub use approx::{
    Eigenfunctions, FeatureMap, Fitted, METHODS, Method, MethodRecord, Nystrom, Precision, Run,
    Timings, landmarks,
};
pub use catalogue::{Item, Parameter, Section, catalogue};
pub use data::{
    Dataset, NpyWriter, SYNTHETIC, Standardizer, Synthetic, synthesize, write_csv, write_npy,
};
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, Evaluation, ExactComparison};
pub use fit::{
    Certificate, Checkpoint, CheckpointHeader, Control, Event, FitSpec, Observer, PairCertificate,
    Problem, ReadoutKind, ReadoutRecord, Silent, Split, Steps,
};
pub use kernel::{KERNELS, Kernel, KernelSpec};
pub use matrix::{Mat, Mat64, Mat64Mut, Mat64Ref, MatMut, MatRef};
pub use model::{Fit, Model, ModelInfo, fit};
pub use nn::{
    Architecture, L2Batch, NETWORKS, Network, NetworkSize, NetworkSpec, OPTIMIZERS, Optimizer,
    OptimizerSpec, OptimizerState, Parameters, RunningScale, SCHEDULES, Schedule, Tape,
    TensorLayout, clip, l2_normalise,
};
pub use objective::{Estimator, NeuralEf, OBJECTIVES, Objective, Step};
pub use operator::{
    Batch, Diagonal, ExplicitOperator, FeatureOperator, Image, KernelOperator, PrecomputedOperator,
};
pub use persist::Archive;
pub use spec::args::{Args, Entry, Registry};
