//! Learn the eigenfunctions of a kernel as neural networks, check them, save them and apply them.

mod approx;
pub mod closed_form;
mod data;
mod error;
mod fit;
mod kernel;
#[allow(dead_code, unused_imports)] // the readout and the objectives use the rest
mod linalg;
mod matrix;
pub mod metrics;
mod nn;
mod objective;
mod operator;
mod persist;
mod rng;
mod spec;
#[cfg(test)]
mod test_kernels;

pub use approx::{FeatureMap, Nystrom, Precision, landmarks};
pub use error::{Error, Result};
pub use kernel::Kernel;
pub use matrix::{Mat, Mat64, Mat64Mut, Mat64Ref, MatMut, MatRef};
pub use nn::{Architecture, Network, Parameters, Tape};
pub use objective::{Objective, Step};
pub use operator::{Batch, Diagonal, Image, KernelOperator};
