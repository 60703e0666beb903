//! Networks that are not built yet: the trait of what a text form describes.

use super::network::Network;
use super::size::NetworkSize;
use super::source::NetworkFile;
use crate::error::Result;

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

    /// The text form; parsing it gives this architecture back. For one of a program's own, its name.
    fn text(&self) -> String;

    /// Whether [`Network::hidden`] gives every feature C outputs of its own.
    fn hidden_has_outputs(&self) -> bool {
        false
    }

    /// Whether [`Network::data_dependent_init`] leaves little for training to improve.
    fn starts_from_data(&self) -> bool {
        false
    }

    /// What identifies the trained network that it is made of, wherever its file lies: equal for the
    /// same file read in the same way. None for others.
    fn trained_identity(&self) -> Option<String> {
        None
    }

    /// The file that the network is made from; none for others. Its weights were trained on x as the
    /// user has it, so such networks see that, where others see centred points of one scale; and a
    /// model file keeps the whole file.
    fn file(&self) -> Option<&NetworkFile> {
        None
    }
}
