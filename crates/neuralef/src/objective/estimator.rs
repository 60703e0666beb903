//! How objectives estimate means over pairs of points from a batch.

use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat64, MatRef};
use crate::operator::Diagonal;
use crate::spec::{Choice, Domain, Parameter};

/// The parameter of objectives whose default is the paper's estimator.
pub(super) const PARAMETER: Parameter = Parameter::new(
    "estimator",
    Domain::choice::<Estimator>(),
    "paper",
    "of T: paper: batch mean over all pairs; unbiased: pairs x = x' dropped (U-statistic)",
);

/// How batch means over pairs are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimator {
    /// Over all B² pairs, as eq. 18 of the NeuralEF paper has it. R_jj is biased by about
    /// E[κ(x,x)ψ²]/B, and ≥ 0.
    Paper,
    /// Over the B(B−1) pairs of different points. Unbiased; R_jj of a small eigenvalue can come
    /// out negative on a batch.
    Unbiased,
}

impl Choice for Estimator {
    const KIND: &'static str = "estimator";
    const ALL: &'static [(&'static str, Self)] =
        &[("paper", Estimator::Paper), ("unbiased", Estimator::Unbiased)];
}

impl Estimator {
    /// What the pairs x = x' are for the batch estimate of T.
    pub(super) fn diagonal(self) -> Diagonal {
        match self {
            Estimator::Paper => Diagonal::Keep,
            Estimator::Unbiased => Diagonal::Drop,
        }
    }
}

/// aᵀb/B in double precision: its entries span many orders of magnitude.
pub(super) fn mean_product(a: MatRef<'_>, b: MatRef<'_>) -> Result<Mat64> {
    let product = linalg::tr_matmul_f64(a.mapv(f64::from).view(), b.mapv(f64::from).view())?;
    Ok(product / a.nrows() as f64)
}
