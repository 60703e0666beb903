//! Readouts: eigenfunctions from what trained networks offer, by Rayleigh–Ritz in double precision.

pub(crate) mod budget;
pub(crate) mod outputs;
#[cfg(test)]
mod outputs_tests;
mod product;
pub(crate) mod rayleigh_ritz;

pub use rayleigh_ritz::ReadoutRecord;
pub(crate) use rayleigh_ritz::{
    Basis, Readout, Sample, Wanted, compute, relative_residuals, width,
};
