//! Kernels κ(x, x'): what a kernel must offer. One file per family; `registry.rs` lists them all.

use std::fmt::Debug;

mod brownian;
mod compose;
mod dot_product;
mod gradient;
mod heuristic;
pub(crate) mod index;
mod infinite;
mod pairwise;
mod precomputed;
mod registry;
mod spec;
mod spectral;
mod stationary;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;

pub use index::{IndexKernel, IndexedPoints};
pub use precomputed::PrecomputedKernel;
pub use registry::KERNELS;
pub use spec::KernelSpec;
pub(crate) use spectral::normal_quantile;
pub use spectral::{Exponential, Law, SpectralTerm};

use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};

/// A kernel function κ(x, x') of two points with one output.
///
/// Implementations are pure functions of their (resolved) parameters. Methods are serial, and
/// callers run blocks of rows side by side; kernels whose values cost far more than a task (those
/// of convolutional networks) spread rows over threads themselves, with the same bits. Every
/// implementation passes the contract suite in `kernel/contract.rs`: symmetry, positive semi-definiteness where claimed, `diag` equal to the
/// diagonal of `gram`, block consistency (any block of rows and columns gives the same bits as the
/// same block of the whole), and the text round trip.
pub trait Kernel: Send + Sync + Debug {
    /// κ(xᵢ, yⱼ) into `out` (n × m), in double precision: what readouts, certificates and oracles
    /// use. Inputs are n × d and m × d. Cost O(n m d).
    ///
    /// # Errors
    /// [`Error::Shape`] when widths differ,
    /// [`Error::NonFinite`] for NaN or infinities in the input,
    /// [`Error::Numerical`] for values beyond the range of the type, and
    /// kernel-specific domain errors.
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()>;

    /// The same in single precision with SIMD: what the training loop uses.
    ///
    /// # Errors
    /// As [`gram`](Kernel::gram).
    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()>;

    /// κ(xᵢ, xᵢ), n values.
    ///
    /// # Errors
    /// As [`gram`](Kernel::gram).
    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>>;

    /// Gradients ∂κ(xᵢ, yⱼ)/∂xᵢ into `out`, n·d × m, in double precision: the derivative by
    /// coordinate c of point i in row i·d + c; none for kernels that have no gradient everywhere
    /// (laplacian, Matérn with ν = 1/2, brownian) or give none. Cost O(n m d) for elementary kernels; a
    /// product of f factors needs its f Gram matrices and gradients.
    ///
    /// # Errors
    /// As [`gram`](Kernel::gram), and [`Error::Unsupported`] for sums and
    /// products of a kernel without a gradient.
    fn gradient(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Option<Result<()>> {
        let _ = (x, y, out);
        None
    }

    /// The text form with every parameter resolved to a number; parsing it gives this kernel back.
    fn text(&self) -> String;

    /// False for indefinite kernels (sigmoid): their Mercer expansion has negative eigenvalues,
    /// which no method here finds.
    fn is_positive_semidefinite(&self) -> bool {
        true
    }

    /// Whether a value costs far more than arithmetic does, as that of a program's own function may: it is then
    /// evaluated in double precision alone, and as rarely as can be.
    fn is_costly(&self) -> bool {
        false
    }

    /// The kernel as one that goes by the row numbers of points, where it does; fits then give it those
    /// of their data.
    fn by_index(&self) -> Option<&dyn IndexKernel> {
        None
    }

    /// The kernel as Σ weight·E cos(ωᵀ(x − y)) with the laws of ω, for stationary kernels whose
    /// spectral density is known (Bochner's theorem); none for all others, and for products that
    /// multiply out to more than 1,024 terms.
    fn spectral(&self) -> Option<Vec<SpectralTerm>> {
        None
    }

    /// The kernel as weight·exp(γxᵀy − δ(‖x‖² + ‖y‖²)/2), where it has that form.
    fn exponential(&self) -> Option<Exponential> {
        None
    }
}

/// The [gradient](Kernel::gradient) of a kernel that must have one.
///
/// # Errors
/// As there, and [`Error::Unsupported`] where it has none.
pub(crate) fn expect_gradient(
    kernel: &dyn Kernel,
    x: MatRef<'_>,
    y: MatRef<'_>,
    out: Mat64Mut<'_>,
) -> Result<()> {
    kernel.gradient(x, y, out).unwrap_or_else(|| {
        Err(Error::Unsupported {
            what: format!("the gradient of the kernel {}", kernel.text()),
            reason: "there is none everywhere, or none is implemented; rbf, matern(nu=1.5 or 2.5), \
                     rational_quadratic, periodic, linear, polynomial, sigmoid, softmax, constants, \
                     their sums and products have one"
                .into(),
        })
    })
}
