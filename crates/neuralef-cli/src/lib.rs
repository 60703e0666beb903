//! The figures of the `neuralef` command line, for examples to draw as it does.

pub mod figure;
