//! The `neuralef` command line.

mod figure;

fn main() {}
