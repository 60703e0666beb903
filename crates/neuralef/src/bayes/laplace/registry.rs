//! Sources by name, and the text form of one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::source::Source;
use super::{diagonal, directions, eigenfunctions, kronecker, last_layer, map};
use crate::error::{Error, Result};
use crate::spec::{Registered, Registry, Spec};

/// Every source by name.
pub(crate) static SOURCES: Registry<Arc<dyn Source>> = Registry {
    kind: "source",
    entries: &[
        eigenfunctions::ENTRY,
        directions::ELLA,
        directions::RANDOM,
        last_layer::ENTRY,
        kronecker::ENTRY,
        diagonal::ENTRY,
        map::ENTRY,
    ],
};

impl Registered for dyn Source {
    fn registry() -> &'static Registry<Arc<Self>> {
        &SOURCES
    }

    fn text_form(&self) -> String {
        self.text()
    }
}

/// A source as users write it, checked: parses from and displays as its text form, such as
/// `ella(components=20, landmarks=2000)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceSpec(Spec<dyn Source>);

impl SourceSpec {
    /// Whether its coordinates are as many as parameters (`kfac`, `diag`): features of points cannot be
    /// kept then, and nothing be tuned on them.
    pub fn spans_all_parameters(&self) -> bool {
        self.0.get().is_ok_and(|source| source.spans_all_parameters())
    }

    /// The source itself.
    pub(super) fn get(&self) -> Result<&dyn Source> {
        self.0.get()
    }
}

impl FromStr for SourceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(SourceSpec)
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        assert_complete(&SOURCES, &[], Sample::Missing, |source| source.text());
    }
}
