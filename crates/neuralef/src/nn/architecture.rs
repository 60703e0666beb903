//! Networks that are not built yet: the trait of what a text form describes, and their sizes.

use super::network::Network;
use super::source::NetworkFile;
use super::trained::TrainedNetwork;
use crate::error::Result;

/// The size of a network that may not be built yet. Numbers beyond `u64` are its largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkSize {
    /// Number of parameters in all.
    pub parameters: u64,
    /// p, the [`hidden_width`](Network::hidden_width).
    pub hidden: u64,
    /// Values that a forward pass keeps for each row of a batch.
    pub activations: u64,
    /// Numbers in the [`contracted_jacobian`](super::contracted_jacobian) for k weights.
    pub jacobian: u64,
    /// Numbers that a pass holds beside these, whatever the batch.
    pub working: u64,
    /// The most segments of a batch whose gradients, each as large as the parameters, are held to be
    /// added up.
    pub segments: u64,
    /// The rows that a segment is whole multiples of.
    pub block: u64,
}

/// A description of a network that is not built yet, as the text form gives it.
pub trait Architecture: Send + Sync + std::fmt::Debug {
    /// Builds it for `inputs` columns and `functions` functions of `outputs` outputs each, with
    /// weights drawn from `seed`.
    ///
    /// # Errors
    /// Parameter errors (odd widths for sin_cos, sizes beyond memory, …).
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>>;

    /// What the network would hold, without building it: sizes are checked before memory is taken.
    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize;

    /// The text form; parsing it gives this architecture back.
    fn text(&self) -> String;

    /// Whether [`Network::hidden`] gives every feature C outputs of its own.
    fn hidden_has_outputs(&self) -> bool {
        false
    }

    /// Whether it is made of this trained network: the same file, read in the same way.
    fn is_made_of(&self, _trained: &TrainedNetwork) -> bool {
        false
    }

    /// The file that the network is made from; none for others. Its weights were trained on x as the
    /// user has it, so such networks see that, where others see centred points of one scale; and a
    /// model file keeps the whole file.
    fn file(&self) -> Option<&NetworkFile> {
        None
    }
}
