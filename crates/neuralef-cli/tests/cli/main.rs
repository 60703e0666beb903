//! The command line as users meet it: whole commands run in an empty directory.

mod bad_input;
mod bad_models;
mod common;
mod resume;
mod workflow;
