//! Readouts: eigenfunctions from what trained networks offer, by Rayleigh–Ritz in double precision.
//!
//! Given basis functions h₁…h_p, C = E[hhᵀ] and Q = E[h (Th)ᵀ] under the training sample, the
//! eigenvectors of Q in the whitened, truncated basis are the best approximations of the
//! eigenfunctions within the span, orthonormal and ordered. Directions of C below a truncation are
//! dropped: they are rounding noise in one dimension and overfitting in many. The truncation is
//! the one with the smallest residual ‖T̂ψ − μψ‖/μ on held-out points.
//!
//! One flow serves scalar and matrix-valued kernels; they differ in the quadratic form:
//!
//! 1. [`basis`]: values of h, their covariance, and the trial functions made from them: whitened, or
//!    the outputs of the networks themselves.
//! 2. [`form`]: the operator's quadratic form on the trial functions and its eigenpairs.
//! 3. [`selection`]: eigenpairs for every truncation, their held-out residuals, and the choice.
//! 4. [`solve`]: weights and signs of the eigenpairs chosen; the whole readout.
//!
//! Where κ can be evaluated, [`moments`] meets it through landmarks in place of all pairs of points.
//!
//! [`outputs`] says how functions of x become functions of (point, output), [`budget`] what fits into
//! memory, [`record`] what is remembered in the model file.

mod basis;
pub(crate) mod budget;
mod form;
mod moments;
pub(crate) mod outputs;
#[cfg(test)]
mod outputs_tests;
mod record;
mod request;
mod selection;
mod solve;

pub(crate) use basis::{Basis, width};
pub(crate) use moments::{BasisMoments, ThroughLandmarks, compute_through, solve_within};
pub use record::ReadoutRecord;
pub(crate) use request::{ReadoutRequest, Sample};
pub(crate) use solve::{Readout, compute};
