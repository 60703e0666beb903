//! Where the kernel of a fit comes from when a program hands it over.

use std::sync::Arc;

use crate::data::Dataset;
use crate::kernel::Kernel;

/// A kernel, or what stands for one, that a program has at hand, instead of the text or the files that a
/// [`FitSpec`](crate::FitSpec) names. Models do not store it: of methods that need the kernel at new
/// points (`nystrom`, `kernel_pca`) a file is read by [`Model::load_with`](crate::Model::load_with).
#[derive(Debug, Clone)]
pub enum KernelSource {
    /// Any kernel.
    Kernel(Arc<dyn Kernel>),
    /// A Gram matrix, N·C × N·C, C as in [`FitSpec::outputs`](crate::FitSpec::outputs).
    Gram(Dataset),
    /// Features Φ, N·C × S, whose inner products /S are the kernel.
    Features(Dataset),
}
