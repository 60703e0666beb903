//! What the examples share: arguments, tables and figures.

// Every example compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

mod args;
mod figure;
mod table;

pub(crate) use args::{Args, Scale};
pub(crate) use figure::{heat_maps, point_clouds, reliability_diagrams};
pub(crate) use table::Table;
