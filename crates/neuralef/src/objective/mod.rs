//! Objectives: what turns (ψ, Tψ) into a training signal. They see neither data nor files.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::Result;
use crate::matrix::{Mat, MatRef};
use crate::nn::{Network, Parameters, Tape};
use crate::operator::Diagonal;
use crate::spec::{Registered, Registry};

mod eigengame_pca;
mod estimator;
mod mu_eigengame;
mod nested_lora;
mod neuralef;
mod spin;
#[cfg(test)]
mod tests;

pub use eigengame_pca::{EigenGamePca, Variant};
pub use estimator::Estimator;
pub use mu_eigengame::MuEigenGame;
pub use nested_lora::{NestedLora, Nesting};
pub use neuralef::NeuralEf;
pub use spin::Spin;

/// Every objective, by name.
pub static OBJECTIVES: Registry<Arc<dyn Objective>> = Registry {
    kind: "objective",
    entries: &[
        neuralef::ENTRY,
        mu_eigengame::ENTRY,
        nested_lora::ENTRY,
        spin::ENTRY,
        eigengame_pca::ENTRY,
    ],
};

impl Registered for dyn Objective {
    const AS_WRITTEN: bool = true;

    fn registry() -> &'static Registry<Arc<Self>> {
        &OBJECTIVES
    }

    fn text_form(&self) -> String {
        self.text()
    }
}

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

/// What the outputs u of the networks are once they are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// Eigenfunctions up to scale: u_j ∝ ψ_j.
    Functions,
    /// Eigenfunctions scaled by the roots of their eigenvalues: u_j = √μ_j ψ_j.
    Scaled,
    /// Functions whose leading j span what the leading j eigenfunctions span: ψ = L⁻¹u with
    /// LLᵀ = E uuᵀ.
    Span,
}

/// What an objective remembers from step to step, as named vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectiveState {
    /// In double precision.
    pub doubles: Vec<(String, Vec<f64>)>,
    /// In single precision.
    pub singles: Vec<(String, Vec<f32>)>,
}

/// A training objective for k ordered eigenfunctions. A spec holds one that no step has touched, and every fit
/// trains with a [`fresh`](Objective::fresh) one.
pub trait Objective: Debug + Send + Sync {
    /// The same objective before its first step.
    fn fresh(&self) -> Box<dyn Objective>;

    /// From ψ (B × k) and the batch estimate of Tψ (B × k) to the cotangent and the eigenvalues.
    ///
    /// # Errors
    /// Numerical failures, named.
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step>;

    /// Whether ψ is the L2-batch-normalised network output (true) or the output itself.
    fn normalises(&self) -> bool {
        true
    }

    /// Whether networks see centred inputs of common scale (true) or the data as they are.
    fn conditions(&self) -> bool {
        true
    }

    /// Whether [`step`](Objective::step) looks at Tψ; zeros stand there if not.
    fn uses_operator(&self) -> bool {
        true
    }

    /// How the batch estimate of T is to treat pairs x = x'.
    fn diagonal(&self) -> Diagonal;

    /// What the trained outputs are.
    fn outputs(&self) -> Outputs {
        Outputs::Functions
    }

    /// Whether it needs the networks' Jacobian at every step, and memory for two of them.
    fn needs_jacobian(&self) -> bool {
        false
    }

    /// Called once before the first step, with the network that will be trained and the text of
    /// the kernel, where there is one.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a network or kernel it cannot serve.
    fn prepare(&mut self, _: &mut dyn Network, _kernel: Option<&str>) -> Result<()> {
        Ok(())
    }

    /// Adds to `gradient` what is not the pull-back of a cotangent of this batch. Called after
    /// every [`step`](Objective::step), with the tape of its forward pass.
    ///
    /// # Errors
    /// What the network reports.
    fn parameter_gradient(
        &mut self,
        _: &dyn Network,
        _: &Tape,
        _gradient: &mut Parameters,
    ) -> Result<()> {
        Ok(())
    }

    /// Puts the parameters back on the constraint set after the optimiser's step.
    ///
    /// # Errors
    /// Numerical failures, named.
    fn constrain(&self, _: &mut Parameters) -> Result<()> {
        Ok(())
    }

    /// Everything that the next step depends on, apart from the parameters.
    fn state(&self) -> ObjectiveState {
        ObjectiveState::default()
    }

    /// Continues from a saved state of the same shape, to the same bits.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when it is another objective's.
    fn restore(&mut self, _: &ObjectiveState) -> Result<()> {
        Ok(())
    }

    /// The text form; parsing it gives this objective back. For one of a program's own, its name.
    fn text(&self) -> String;
}
