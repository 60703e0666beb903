//! Bayesian deep learning by learned eigenfunctions: Gaussian processes whose kernels come from
//! networks and their training.

pub mod trajectory;
