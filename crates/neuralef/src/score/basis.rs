//! The eigenfunctions behind an estimator: of a model, or by the Nyström method.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::features::FeatureMap as _;
use crate::fit::Model;
use crate::matrix::{Mat64, MatRef};
use crate::method::Nystrom;

/// Eigenfunctions with gradients.
pub(super) enum Basis {
    Model(Arc<Model>),
    Nystrom(Box<Nystrom>),
}

impl fmt::Debug for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Basis::Model(_)) { "Model" } else { "Nystrom" };
        write!(f, "{kind}({} eigenfunctions of {} inputs)", self.eigenvalues().len(), self.inputs())
    }
}

impl Basis {
    /// d, the number of coordinates of a point.
    pub(super) fn inputs(&self) -> usize {
        match self {
            Basis::Model(model) => model.info().n_features,
            Basis::Nystrom(map) => map.inputs(),
        }
    }

    /// The k eigenvalues, descending.
    pub(super) fn eigenvalues(&self) -> &[f64] {
        match self {
            Basis::Model(model) => model.eigenvalues(),
            Basis::Nystrom(map) => map.eigenvalues().unwrap_or_default(),
        }
    }

    /// E κ(x, x), the sum of all eigenvalues: of the landmarks, or as the model's certificate has it.
    pub(super) fn trace(&self) -> Result<f64> {
        let trace = match self {
            Basis::Model(model) => {
                model.eigenvalues().iter().sum::<f64>() / model.certificate().captured_trace
            }
            Basis::Nystrom(map) => {
                let values = map.kernel().diag(map.landmarks())?;
                values.iter().sum::<f64>() / values.len() as f64
            }
        };
        if trace.is_finite() && trace > 0.0 {
            return Ok(trace);
        }
        let message = format!("it is {trace}");
        Err(Error::Numerical { what: "mean of κ(x, x)".into(), message })
    }

    /// The eigenfunctions ψ(x), n × k.
    pub(super) fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        match self {
            Basis::Model(model) => model.eigenfunctions(x),
            Basis::Nystrom(map) => map.eigenfunctions(x),
        }
    }

    /// Their gradients ∇ψ(x), n·d × k, the d coordinates of a point in consecutive rows.
    pub(super) fn gradients(&self, x: MatRef<'_>) -> Result<Mat64> {
        match self {
            Basis::Model(model) => model.eigenfunction_gradients(x),
            Basis::Nystrom(map) => map.gradients(x),
        }
    }

    /// The kernel with its parameters as numbers.
    pub(super) fn kernel(&self) -> Option<String> {
        match self {
            Basis::Model(model) => model.info().kernel.clone(),
            Basis::Nystrom(map) => Some(map.kernel().text()),
        }
    }
}
