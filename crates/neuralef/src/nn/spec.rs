//! Networks as users write them, `mlp(hidden=[32, 32], activation=sin_cos)`, and what such a spec is asked.

use std::sync::Arc;

use super::source::NetworkFile;
use super::{Architecture, Network, NetworkSize, TrainedNetwork};
use crate::error::{Error, Result};
use crate::spec::Spec;

/// A network architecture as users write it, checked: parses from and displays as its text form.
///
/// ```
/// let spec: neuralef::NetworkSpec = "mlp(hidden=[32, 32], activation=sin_cos)".parse()?;
/// let network = spec.build(1, 10, 3, 0)?;
/// assert_eq!((network.inputs(), network.functions(), network.outputs()), (1, 10, 3));
/// assert_eq!(network.hidden_width(), 320);
/// # Ok::<(), neuralef::Error>(())
/// ```
pub type NetworkSpec = Spec<dyn Architecture>;

impl NetworkSpec {
    /// Whether x must come as the user has it: weights of a file were trained on such.
    pub(crate) fn takes_raw_inputs(&self) -> bool {
        self.get().is_ok_and(|architecture| architecture.file().is_some())
    }

    /// Whether hidden features have outputs of their own.
    pub(crate) fn hidden_has_outputs(&self) -> bool {
        self.get().is_ok_and(|architecture| architecture.hidden_has_outputs())
    }

    /// Whether it starts from data so well that training adds little.
    pub(crate) fn starts_from_data(&self) -> bool {
        self.get().is_ok_and(|architecture| architecture.starts_from_data())
    }

    /// Whether it is made of this trained network.
    pub(crate) fn is_made_of(&self, trained: &TrainedNetwork) -> bool {
        self.get().is_ok_and(|architecture| trained.is_trunk_of(architecture))
    }

    /// What is in the file that it is made from, where there is one.
    pub(crate) fn file(&self) -> Result<Option<Arc<[u8]>>> {
        self.get()?.file().map(NetworkFile::bytes).transpose()
    }

    /// Gives it that file as a model file kept it.
    pub(crate) fn keep(&self, bytes: Vec<u8>) -> Result<()> {
        let Some(file) = self.get()?.file() else {
            return Err(Error::Unsupported {
                what: format!("a file for {self}"),
                reason: "it is made from no file".into(),
            });
        };
        file.keep(bytes).map(|_| ())
    }

    /// Builds the network for `inputs` columns and `functions` functions of `outputs` outputs each,
    /// weights drawn from `seed`.
    ///
    /// # Errors
    /// Parameter errors: nothing to build, or too many parameters; those of [`Spec::get`].
    pub fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        self.get()?.build(inputs, functions, outputs, seed)
    }

    /// What that network would hold; nothing where there is none to build, which building it finds.
    pub fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        match self.get() {
            Ok(architecture) => architecture.size(inputs, functions, outputs),
            Err(_) => NetworkSize::default(),
        }
    }
}

impl Default for NetworkSpec {
    /// `auto`.
    fn default() -> Self {
        "auto".into()
    }
}

/// (networks, heads of each): the C outputs of a function are heads of one network.
pub(super) fn units_and_heads(shared: bool, functions: usize, outputs: usize) -> (usize, usize) {
    if shared { (1, functions.saturating_mul(outputs)) } else { (functions, outputs) }
}
