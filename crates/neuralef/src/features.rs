//! A fitted map from points to features: what every method makes, and all that its users need.

use crate::error::Result;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::Parameters;
use crate::persist::Archive;

/// A fitted map φ with φ(x)ᵀφ(x') ≈ κ(x, x').
///
/// Rows are independent: the features of a point have the same bits whatever else is in the batch.
pub trait FeatureMap: Send + Sync {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// d as model files record it: where points are rows of precomputed kernel values, those of format
    /// version 1 count one more column.
    fn stored_inputs(&self) -> usize {
        self.inputs()
    }

    /// k, the number of features.
    fn components(&self) -> usize;

    /// C, the number of outputs of the kernel.
    fn outputs(&self) -> usize {
        1
    }

    /// Features φ(x), n × k; n·C × k with the C outputs of a point in consecutive rows, so that
    /// φ_c(x)ᵀφ_c'(x') ≈ κ_cc'(x, x'). For eigenfunction methods φ_j = √μ_j ψ_j.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when x is not n × d.
    fn transform(&self, x: MatRef<'_>) -> Result<Mat>;

    /// V, k × P, and k constants, when φ(x) = J(x)Vᵀ + constants are derivatives of a trained network
    /// along directions in its P parameters.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn tangent_directions(&self) -> Result<Option<(Mat, Vec<f64>)>> {
        Ok(None)
    }

    /// Eigenvalues μ of the integral operator, descending, when the method has them.
    fn eigenvalues(&self) -> Option<&[f64]>;

    /// Eigenfunctions ψ(x), n × k (n·C × k), in double precision, when the method has them.
    ///
    /// # Errors
    /// As [`transform`](FeatureMap::transform), and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for methods without eigenvalues.
    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64>;

    /// Gradients of eigenfunctions, n·d × k: ∂ψ_j/∂x_c at point i in row i·d + c; none where the method
    /// does not give them.
    ///
    /// # Errors
    /// As [`eigenfunctions`](FeatureMap::eigenfunctions), and
    /// [`Error::Unsupported`](crate::Error::Unsupported) for networks and kernels without derivatives.
    fn eigenfunction_gradients(&self, x: MatRef<'_>) -> Result<Option<Mat64>> {
        let _ = x;
        Ok(None)
    }

    /// The parameters of the networks, when there are some: where another fit can start.
    fn parameters(&self) -> Option<&Parameters> {
        None
    }

    /// Puts everything [`Method::load`](crate::Method::load) needs into `archive`.
    ///
    /// # Errors
    /// What the archive reports.
    fn save(&self, archive: &mut Archive) -> Result<()>;
}
