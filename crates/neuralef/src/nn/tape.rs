//! What a forward pass leaves behind for the backward pass.

use std::any::Any;

use crate::error::{Error, Result};

/// Values that a forward pass leaves behind for [`Network::vjp`](super::Network::vjp). Owned by the
/// caller and reused between steps, so that a training step allocates nothing for them.
///
/// A tape holds one state, of a type that the network chooses: [`forward`](super::Network::forward)
/// takes it out, writes what it needs later into it and puts it back; `vjp` reads it.
///
/// ```
/// use neuralef::nn::Tape;
///
/// #[derive(Default)]
/// struct Phases(Vec<f32>);
///
/// let mut tape = Tape::default();
/// let mut phases: Box<Phases> = tape.take_state();
/// phases.0 = vec![0.5, 1.5];
/// tape.set_state(phases);
/// assert_eq!(tape.state::<Phases>().map(|p| p.0.len()), Some(2));
/// assert!(tape.state::<String>().is_none(), "another network's");
/// ```
#[derive(Debug, Default)]
pub struct Tape {
    state: Option<Box<dyn Any + Send + Sync>>,
}

impl Tape {
    /// The state, if there is one of this type.
    pub fn state<T: Any>(&self) -> Option<&T> {
        self.state.as_ref()?.downcast_ref()
    }

    /// The state of this type.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is none: another network has recorded, or none has.
    pub fn expect_state<T: Any>(&self) -> Result<&T> {
        self.state().ok_or_else(Self::of_another_network)
    }

    /// The error for a tape that does not fit the network.
    pub(super) fn of_another_network() -> Error {
        Error::shape("tape", "one recorded by this network", "another network's")
    }

    /// Takes the state out: that of the pass before, whose memory can be used again, or a default one
    /// where there is none of this type.
    pub fn take_state<T: Any + Default + Send + Sync>(&mut self) -> Box<T> {
        self.state.take().and_then(|state| state.downcast().ok()).unwrap_or_default()
    }

    /// Puts a state in, in place of what was there.
    pub fn set_state<T: Any + Send + Sync>(&mut self, state: Box<T>) {
        self.state = Some(state);
    }
}
