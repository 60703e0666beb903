//! What the experiments share: their arguments, tables and figures.
//!
//! Each file of `examples/` is one experiment. Its first lines say what it measures:
//!
//! ```sh
//! cargo run --release -p neuralef-experiments --example two_dimensional -- --small --out results
//! ```

mod args;
mod figure;
mod table;

pub use args::{Args, Scale};
pub use figure::{heat_maps, point_clouds, reliability_diagrams};
pub use table::Table;
