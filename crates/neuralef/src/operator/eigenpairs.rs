//! The eigenpairs of explicit features themselves: what a fit to those features approximates.

use super::FeatureOperator;
use super::features::POINTS;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat64, MatRef};

/// The leading eigenpairs of the operator of features Φ on some points: with Φ = UΣVᵀ over those n
/// points, μ_j = Σ_j²/(nS) and ψ_j(x) = φ(x)ᵀv_j/√(S μ_j), which is √n·u_j there.
#[derive(Debug, Clone)]
pub struct FeatureEigenpairs {
    /// μ, descending.
    pub eigenvalues: Vec<f64>,
    /// W, S × k: ψ(x) = Wᵀφ(x), a row for each output.
    pub weights: Mat64,
}

impl FeatureEigenpairs {
    /// ψ at points with features `phi` (nC × S), nC × k.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of features.
    pub fn eigenfunctions(&self, phi: MatRef<'_>) -> Result<Mat64> {
        linalg::matmul_f64(phi.mapv(f64::from).view(), self.weights.view())
    }
}

impl FeatureOperator {
    /// The first k eigenpairs of the empirical operator of `points`, from the S × S matrix ΦᵀΦ: the
    /// ceiling for any approximation of them. New points need their features. O(nCS² + S²k).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 1 ≤ k ≤ S and there are points, [`Error::Numerical`] when an
    /// eigenvalue is not positive, and what reading Φ reports.
    pub fn eigenpairs(&self, points: &[usize], k: usize) -> Result<FeatureEigenpairs> {
        let s = self.samples();
        if k == 0 || k > s {
            return Err(Error::parameter("k", format!("from 1 to the {s} features"), k));
        }
        if points.is_empty() {
            return Err(Error::parameter("points", "at least one", 0));
        }
        let mut second = Mat64::zeros((s, s));
        for chunk in points.chunks(POINTS) {
            let phi = self.gather_double(chunk)?;
            second += &linalg::tr_matmul_f64(phi.view(), phi.view())?;
        }
        second /= points.len() as f64 * s as f64;
        let found = linalg::top_eigh(second.view(), k)?;
        let eigenvalues = found.values;
        if let Some(j) = eigenvalues.iter().position(|mu| *mu <= 0.0) {
            return Err(Error::Numerical {
                what: "eigenpairs of features".into(),
                message: format!(
                    "eigenvalue {j} is {}: the features have lower rank",
                    eigenvalues[j]
                ),
            });
        }
        let mut weights = found.vectors;
        for (mut column, mu) in weights.columns_mut().into_iter().zip(&eigenvalues) {
            column /= (s as f64 * mu).sqrt();
        }
        Ok(FeatureEigenpairs { eigenvalues, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::matrix::Mat;

    #[test]
    fn they_are_those_of_the_gram_matrix() {
        let phi =
            Mat::from_shape_fn((40, 7), |(i, j)| ((i * 5 + j * 3) as f32).sin() + j as f32 * 0.1);
        let operator =
            FeatureOperator::new(Dataset::from_array("phi", phi.clone()).unwrap(), 1).unwrap();
        let points: Vec<usize> = (0..30).collect();
        let found = operator.eigenpairs(&points, 3).unwrap();
        let here = phi.slice(ndarray::s![..30, ..]).mapv(f64::from);
        let gram = here.dot(&here.t()) / (7.0 * 30.0);
        let psi = found.eigenfunctions(phi.slice(ndarray::s![..30, ..])).unwrap();
        for (j, mu) in found.eigenvalues.iter().enumerate() {
            let (psi, image) = (psi.column(j), gram.dot(&psi.column(j)));
            let error = image.iter().zip(&psi).fold(0f64, |m, (t, p)| m.max((t - mu * p).abs()));
            assert!(error < 1e-12, "{error}");
            let norm = psi.iter().map(|v| v * v).sum::<f64>() / 30.0;
            assert!((norm - 1.0).abs() < 1e-12, "{norm}");
        }
        assert!(found.eigenvalues.windows(2).all(|w| w[0] > w[1]));
        assert!(operator.eigenpairs(&points, 8).is_err() && operator.eigenpairs(&[], 1).is_err());
    }
}
