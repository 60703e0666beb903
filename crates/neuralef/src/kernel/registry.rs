//! The list of all kernels. A new kernel is a file with an entry, and a line here.

use std::sync::Arc;

use super::{Kernel, brownian, dot_product, infinite, stationary};
use crate::spec::Registry;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        let x = ndarray::array![[0.0f32, 1.0, 2.0], [1.0, 0.5, 0.25], [2.0, 0.0, 1.0]];
        let image = "image=[4, 4, 1]";
        let samples = [("cnn_gp", image), ("cntk", image)];
        assert_complete(&KERNELS, &samples, Sample::Points(x.view(), 0), |kernel| kernel.text());
    }
}
