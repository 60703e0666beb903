//! Sources by name, and the text form of one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::source::Source;
use super::{diagonal, directions, eigenfunctions, kronecker, last_layer, map};
use crate::error::{Error, Result};
use crate::spec::args::Registry;

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

/// A source as users write it, checked: parses from and displays as its text form, such as
/// `ella(components=20, landmarks=2000)`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceSpec(pub(super) Arc<dyn Source>);

impl SourceSpec {
    /// Whether its coordinates are as many as parameters (`kfac`, `diag`): features of points cannot be
    /// kept then, and nothing be tuned on them.
    pub fn spans_all_parameters(&self) -> bool {
        self.0.spans_all_parameters()
    }
}

impl FromStr for SourceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        SOURCES.build_text(text).map(SourceSpec)
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text())
    }
}

impl PartialEq for SourceSpec {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl TryFrom<String> for SourceSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SourceSpec> for String {
    fn from(spec: SourceSpec) -> String {
        spec.to_string()
    }
}
