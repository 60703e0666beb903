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
//! [`catalogue`] lists every kernel, network, objective, optimiser and method with its parameters.

mod approx;
pub mod attention;
pub mod bayes;
pub mod calibration;
mod catalogue;
pub mod closed_form;
pub mod compare;
mod data;
mod error;
mod evaluate;
mod fit;
mod kernel;
mod linalg;
mod matrix;
pub mod metrics;
mod model;
mod nn;
mod objective;
mod operator;
mod optimize;
mod persist;
pub mod probe;
mod rng;
pub mod sample;
pub mod score;
mod simd;
mod spec;
#[cfg(test)]
mod test_kernels;

pub use approx::{
    Eigenfunctions, FeatureMap, Fitted, METHODS, Method, MethodRecord, Nystrom, Precision, Run,
    Timings, landmarks,
};
pub use catalogue::{Item, Parameter, Section, catalogue};
pub use data::{
    Dataset, Density, Dtype, NpyWriter, SYNTHETIC, Standardizer, Synthetic, synthesize, write_csv,
    write_npy,
};
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, Evaluation, ExactComparison};
pub use fit::{
    Certificate, Checkpoint, CheckpointHeader, Control, Event, FitSpec, KernelSource, Observer,
    OutputForm, PairCertificate, Problem, ReadoutKind, ReadoutRecord, Silent, Split, Steps,
};
pub use kernel::{Exponential, KERNELS, Kernel, KernelSpec, Law, PrecomputedKernel, SpectralTerm};
pub use matrix::{Mat, Mat64, Mat64Mut, Mat64Ref, MatMut, MatRef};
pub use model::{Fit, Model, ModelInfo, fit};
pub use nn::{
    Architecture, L2Batch, LayerInfo, LayerMoments, MOMENTUM, NETWORKS, Network, NetworkFile,
    NetworkSize, NetworkSpec, OPTIMIZERS, Optimizer, OptimizerSpec, OptimizerState, Parameters,
    Role, RunningScale, SCHEDULES, Schedule, Stage, Tape, TensorLayout, TrainedNetwork,
    WeightLayer, clip, l2_normalise, read_onnx, read_weights, write_weights,
};
pub use objective::{
    EigenGamePca, Estimator, MuEigenGame, NestedLora, Nesting, NeuralEf, OBJECTIVES, Objective,
    ObjectiveState, Outputs, Spin, Step, Variant,
};
pub use operator::{
    Batch, Diagonal, ExplicitOperator, FeatureEigenpairs, FeatureOperator, Image, KernelOperator,
    MatrixValued, PrecomputedOperator, Tick,
};
pub use persist::{Archive, AtomicFile};
pub use spec::args::{Args, Entry, Registry};

/// The README's example, so that it cannot rot.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
