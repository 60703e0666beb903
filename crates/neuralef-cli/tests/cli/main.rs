//! The command line as users meet it: whole commands run in an empty directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod bad_models;
mod common;
mod compare;
mod laplace;
mod outputs;
mod probe;
mod random_features;
mod resume;
mod sample;
mod score;
mod trajectory;
mod workflow;
