//! Learn the eigenfunctions of a kernel as neural networks, check them, save them and apply them.
//!
//! A kernel κ with data distribution q has an integral operator (Tψ)(x) = E κ(x, x')ψ(x'), x' ~ q,
//! with eigenvalues μ₁ ≥ μ₂ ≥ … ≥ 0 and eigenfunctions Tψ_j = μ_jψ_j, E ψ_iψ_j = δ_ij, so that
//!
//! > κ(x, x') = Σ_j μ_j ψ_j(x) ψ_j(x') (Mercer).
//!
//! NeuralEF (Deng, Shi, Zhu, ICML 2022) learns the first k as networks on mini-batches. With
//! R_ij = E ψ_i·Tψ_j network j maximises R_jj − Σ_{i<j} R_ij²/R_ii subject to E ψ_j² = 1, held by
//! L2 batch normalisation. A readout then solves the eigenproblem within the span of the trained
//! features (Rayleigh–Ritz) in double precision, and a certificate measures the result on held-out
//! points. The features φ_j = √μ_j ψ_j reproduce the kernel: φ(x)ᵀφ(x') ≈ κ(x, x').
//!
//! ```
//! use neuralef::{Dataset, FitSpec, fit};
//!
//! let data = Dataset::open("two_moons(n=500)", 0)?;
//! let model = fit(&data, &FitSpec::new("rbf(lengthscale=0.5)", 5)?)?;
//! for pair in &model.certificate().pairs {
//!     println!("{:.4} ± {:.4}, residual {:.1e}", pair.eigenvalue, pair.standard_error, pair.residual);
//! }
//! let features = model.transform(data.range(0..10)?.view())?; // 10 × 5
//! # assert_eq!(features.dim(), (10, 5));
//! # Ok::<(), neuralef::Error>(())
//! ```
//!
//! [`Fit`] adds observers, checkpoints and validation data; [`FitSpec`] holds every setting, and
//! [`catalogue`](spec::catalogue) lists every kernel, network, objective, optimiser and method with its parameters.

pub mod attention;
pub mod bayes;
pub mod calibration;
pub mod closed_form;
pub mod compare;
pub mod data;
mod features;
pub mod fit;
pub mod kernel;
mod linalg;
pub mod matrix;
mod memory;
pub mod method;
pub mod metrics;
pub mod nn;
pub mod objective;
mod observer;
pub mod operator;
mod optimize;
pub mod persist;
pub mod probe;
mod readout;
pub mod sample;
pub mod score;
pub mod spec;
#[cfg(test)]
mod test_kernels;
pub mod train;

use neuralef_linalg::{error, rng, simd};

pub use data::Dataset;
#[doc(inline)]
pub use error::{Error, Result};
pub use features::FeatureMap;
pub use fit::{Fit, FitSpec, Model, fit};
pub use kernel::{Kernel, KernelSpec};
pub use matrix::{Mat, Mat64, MatRef};
pub use method::Method;
pub use nn::{Network, NetworkSpec, Optimizer};
pub use objective::Objective;
pub use observer::Observer;
pub use operator::KernelOperator;

/// The code of the README and of the guide, so that it cannot rot.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/guide/notation.md")]
    struct Notation;
    #[doc = include_str!("../../../docs/guide/certificate.md")]
    struct Certificate;
    #[doc = include_str!("../../../docs/guide/cli.md")]
    struct CommandLine;
    #[doc = include_str!("../../../docs/guide/extending.md")]
    struct Extending;
}
