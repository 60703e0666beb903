//! Learn the eigenfunctions of a kernel as neural networks, check them, save them and apply them.

mod approx;
mod data;
mod error;
mod fit;
mod kernel;
#[allow(dead_code, unused_imports)] // the readout and the objectives use the rest
mod linalg;
mod matrix;
mod nn;
mod objective;
mod operator;
mod persist;
mod rng;
mod simd;
mod spec;

pub use approx::FeatureMap;
pub use data::{
    Dataset, NpyWriter, SYNTHETIC, Standardizer, Synthetic, synthesize, write_csv, write_npy,
};
pub use error::{Error, Result};
pub use kernel::{Kernel, KernelSpec};
pub use matrix::{Mat, Mat64, Mat64Mut, Mat64Ref, MatMut, MatRef};
pub use nn::{
    Architecture, L2Batch, NETWORKS, Network, NetworkSpec, OPTIMIZERS, Optimizer, OptimizerSpec,
    OptimizerState, Parameters, RunningScale, SCHEDULES, Schedule, Tape, TensorLayout, clip,
    l2_normalise,
};
pub use objective::{Objective, Step};
pub use operator::{Batch, Diagonal, Image, KernelOperator};
pub use persist::Archive;
