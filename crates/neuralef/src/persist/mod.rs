//! Files the crate writes: the archive that holds models and checkpoints, and atomic replacement.

mod archive;
mod atomic;
mod header;
mod typed;

pub use archive::Archive;
pub use atomic::AtomicFile;

#[cfg(test)]
mod attacks;
