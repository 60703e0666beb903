//! Files the crate writes: the archive that holds models and checkpoints, and atomic replacement.

mod archive;
pub(crate) mod atomic;
mod header;
mod typed;

pub use archive::Archive;

#[cfg(test)]
mod attacks;
