//! What the crate `neuralef` is built on: its error, its matrices, its random streams, run-time dispatch
//! to vector instructions, decompositions and products. A crate of its own so that it is compiled once,
//! optimised in every profile, and not again when something above it changes.
//!
//! Its parts are public for `neuralef` alone and change with it: use what `neuralef` exports.

pub mod error;
pub mod linalg;
pub mod matrix;
pub mod product;
pub mod rng;
pub mod simd;
