//! Optimisers: what they are to the rest, the specs that name them, and gradient clipping. One file for each
//! rule; registry.rs lists them.

use std::sync::Arc;

use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::spec::Spec;

mod adam;
mod adamw;
mod buffers;
mod registry;
mod rmsprop;
mod sgd;
mod soap;
#[cfg(test)]
mod tests;

pub use registry::OPTIMIZERS;

/// Numbers that one task updates. Updates are elementwise, so the cut changes no bit.
const CHUNK: usize = 16_384;

/// Updates parameters from gradients.
pub trait Optimizer: Send {
    /// One step with learning rate `lr` (the spec's rate times the schedule's factor). O(parameters), but
    /// for `soap`, which multiplies and now and then factorises matrices as wide as a layer has inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] when parameters or gradient are laid out otherwise than at construction,
    /// [`Error::InvalidParameter`] for a negative or non-finite `lr`; `soap` also reports gradients whose
    /// squares overflow, as [`Error::Numerical`], before it changes anything.
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()>;

    /// Everything that the next step depends on.
    fn state(&self) -> OptimizerState;

    /// Continues from a saved state, to the same bits.
    ///
    /// # Errors
    /// [`Error::Shape`] when the state is another optimiser's or network's.
    fn restore(&mut self, state: &OptimizerState) -> Result<()>;
}

/// State of an optimiser: what a checkpoint stores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Steps done.
    pub step: u64,
    /// Named vectors, e.g. `first_moment.3` for unit 3.
    pub vectors: Vec<(String, Vec<f32>)>,
}

/// An optimiser that is not built yet: a rule with its parameters. A new one is a file with its `ENTRY`, and
/// a line in registry.rs; a program's own is handed over by [`Spec::own`].
pub trait OptimizerRule: std::fmt::Debug + Send + Sync {
    /// The learning rate, before any schedule.
    fn learning_rate(&self) -> f64;

    /// The same rule with another learning rate.
    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule>;

    /// An optimiser at step 0 for parameters laid out like `parameters`.
    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer>;

    /// The memory that it takes beside two numbers for each parameter; none for most.
    fn memory(&self) -> Option<&dyn OptimizerMemory> {
        None
    }

    /// The text form; for one of a program's own, its name.
    fn text(&self) -> String;
}

/// Memory of an optimiser that keeps more than two numbers for each parameter.
pub trait OptimizerMemory {
    /// Bytes that it takes beside these, and a checkpoint for them.
    fn bytes(&self, parameters: &Parameters) -> u64;

    /// Numbers that its state has beside these.
    fn numbers(&self, parameters: &Parameters) -> u64;
}

/// An optimiser as users write it, such as `adam(lr=1e-3)`.
pub type OptimizerSpec = Spec<dyn OptimizerRule>;

impl Default for OptimizerSpec {
    /// `adam`.
    fn default() -> Self {
        "adam".into()
    }
}

impl OptimizerSpec {
    /// The same optimiser with another learning rate.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `lr` is finite and above 0; those of [`Spec::get`].
    pub fn with_lr(&self, lr: f64) -> Result<Self> {
        if !(lr.is_finite() && lr > 0.0) {
            return Err(Error::parameter("lr", "a number > 0", lr));
        }
        let rule = self.get()?.with_learning_rate(lr);
        Ok(if self.is_own() { Spec::own(rule) } else { Spec::of(rule) })
    }

    /// The learning rate, before any schedule.
    ///
    /// # Errors
    /// Those of [`Spec::get`].
    pub fn learning_rate(&self) -> Result<f64> {
        Ok(self.get()?.learning_rate())
    }

    /// An optimiser at step 0 for parameters laid out like `parameters`.
    ///
    /// # Errors
    /// Those of [`Spec::get`].
    pub fn build(&self, parameters: &Parameters) -> Result<Box<dyn Optimizer>> {
        Ok(self.get()?.build(parameters))
    }
}

/// Scales `gradient` so that its Euclidean norm over all units is at most `max_norm`, and returns
/// the norm it had, in double precision. A norm that is not finite (some gradient is not) is
/// returned as it is, and nothing is scaled: the caller must stop there. O(parameters).
///
/// # Errors
/// [`Error::InvalidParameter`] unless `max_norm` is above 0.
pub fn clip(gradient: &mut Parameters, max_norm: Option<f64>) -> Result<f64> {
    if let Some(max) = max_norm.filter(|max| max.is_nan() || *max <= 0.0) {
        return Err(Error::parameter("clip", "a norm above 0", max));
    }
    let square = |chunk: &[f32; 8]| chunk.map(|g| f64::from(g) * f64::from(g));
    let mut total = 0.0;
    for unit in gradient.units() {
        let (chunks, tail) = unit.as_chunks::<8>();
        let mut sums = [0.0f64; 8];
        for chunk in chunks {
            for (sum, square) in sums.iter_mut().zip(square(chunk)) {
                *sum += square;
            }
        }
        total += sums.iter().sum::<f64>();
        total += tail.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    }
    let norm = total.sqrt();
    if let Some(max) = max_norm.filter(|max| norm.is_finite() && norm > *max) {
        let factor = (max / norm) as f32;
        gradient.units_mut().iter_mut().flatten().for_each(|g| *g *= factor);
    }
    Ok(norm)
}
