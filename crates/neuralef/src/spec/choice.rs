//! Closed sets of values with names: activations, estimators, orders of pixels.

use crate::error::{Error, Result};

/// A closed set of values that users write as names: what [`Args::choice`](super::Args::choice) reads, and
/// what [`Domain::choice`](super::Domain::choice) declares.
pub trait Choice: Copy + PartialEq + 'static {
    /// What the values are, for messages: `activation`, `estimator`, …
    const KIND: &'static str;

    /// Every value with its name.
    const ALL: &'static [(&'static str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The value called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Error::unknown(Self::KIND, name, &Self::names()))
    }

    /// All names, in order.
    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|(name, _)| *name).collect()
    }
}
