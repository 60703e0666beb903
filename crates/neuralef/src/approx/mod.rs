//! Fitted approximations of a kernel: every one is a [`FeatureMap`].

pub mod landmarks;
mod nystrom;

pub use nystrom::{Nystrom, Precision};

use crate::error::Result;
use crate::matrix::{Mat, MatRef};

/// A fitted map φ with φ(x)ᵀφ(x') ≈ κ(x, x').
///
/// Rows are independent: the features of a point have the same bits whatever else is in the batch.
pub trait FeatureMap: Send + Sync {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// k, the number of features.
    fn components(&self) -> usize;

    /// Features φ(x), n × k. For eigenfunction methods φ_j = √μ_j ψ_j.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when x is not n × d.
    fn transform(&self, x: MatRef<'_>) -> Result<Mat>;

    /// Eigenvalues μ of the integral operator, descending, when the method has them.
    fn eigenvalues(&self) -> Option<&[f64]>;

    /// Eigenfunctions ψ(x), n × k, when the method has them.
    ///
    /// # Errors
    /// As [`transform`](FeatureMap::transform), and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for methods without eigenvalues.
    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat>;
}
