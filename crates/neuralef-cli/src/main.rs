//! The `neuralef` command line.

fn main() {}
