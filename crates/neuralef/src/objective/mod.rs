//! Objectives: what turns (ψ, Tψ) into a training signal. They see neither data nor networks.

use crate::error::Result;
use crate::matrix::{Mat, MatRef};
use crate::operator::Diagonal;
use crate::spec::args::Registry;

mod neuralef;

pub use neuralef::{Estimator, NeuralEf};

/// Every objective, by name.
pub static OBJECTIVES: Registry<Box<dyn Objective>> =
    Registry { kind: "objective", entries: &[neuralef::ENTRY] };

/// One evaluation of an objective on a batch.
#[derive(Debug, Clone)]
pub struct Step {
    /// ∂loss/∂ψ, B × k, to be pulled back through normalisation and network.
    pub cotangent: Mat,
    /// The batch estimates of the k eigenvalues.
    pub eigenvalues: Vec<f64>,
    /// The loss that is minimised (the negated objective).
    pub loss: f64,
}

/// A training objective for k ordered eigenfunctions.
pub trait Objective: Send {
    /// From ψ (B × k) and the batch estimate of Tψ (B × k) to the cotangent and the eigenvalues.
    ///
    /// # Errors
    /// Numerical failures, named.
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step>;

    /// Whether ψ is the L2-batch-normalised network output (true) or the output itself.
    fn normalises(&self) -> bool {
        true
    }

    /// How the batch estimate of T is to treat pairs x = x'.
    fn diagonal(&self) -> Diagonal;

    /// The text form; parsing it gives this objective back.
    fn text(&self) -> String;
}
