//! The list of all kernels. A new kernel is a file with an entry, and a line here.

use std::sync::Arc;

use super::{Kernel, brownian, dot_product, infinite, stationary};
use crate::spec::args::Registry;

/// Every elementary kernel by name. Sums and products of them are the business of
/// [`KernelSpec`](super::KernelSpec).
pub static KERNELS: Registry<Arc<dyn Kernel>> = Registry {
    kind: "kernel",
    entries: &[
        stationary::RBF,
        stationary::LAPLACIAN,
        stationary::MATERN,
        stationary::RATIONAL_QUADRATIC,
        stationary::PERIODIC,
        dot_product::COSINE,
        dot_product::LINEAR,
        dot_product::POLYNOMIAL,
        dot_product::SIGMOID,
        dot_product::SOFTMAX,
        brownian::BROWNIAN,
        infinite::NNGP,
        infinite::NTK,
        infinite::CNN_GP,
        infinite::CNTK,
    ],
};
