//! Where a posterior lives: in functions of a kernel's features, or in parameters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::curvature::{Curvature, Sums, Task};
use super::{diagonal, directions, eigenfunctions, kronecker, last_layer, map};
use crate::error::{Error, Result};
use crate::nn::{Network, expect_one};
use crate::observer::Observer;
use crate::persist::Archive;
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

/// A choice of what is uncertain about a trained network.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// The text form; parsing it gives this source back.
    fn text(&self) -> String;

    /// Whether its coordinates are as many as parameters, so that features of points cannot be kept.
    fn is_wide(&self) -> bool {
        false
    }

    /// ‖θ*‖² over the parameters that have the prior.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for networks that the source does not serve.
    fn squared_norm(&self, network: &dyn Network) -> Result<f64> {
        expect_one(network)?;
        let all = network.parameters().units()[0].iter();
        Ok(all.map(|v| f64::from(*v).powi(2)).sum())
    }

    /// Prepares for the points of the fit: finds its coordinates, if these depend on data.
    ///
    /// # Errors
    /// Those of the network and of data; parameters that do not fit them.
    fn begin(&self, task: &Task<'_>, observer: &mut dyn Observer) -> Result<Box<dyn Sums>>;

    /// Reads back what [`Curvature::save`] stored.
    ///
    /// # Errors
    /// [`Error::ModelFile`].
    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>>;
}

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
    pub fn is_wide(&self) -> bool {
        self.0.get().is_ok_and(|source| source.is_wide())
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
