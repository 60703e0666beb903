//! Where a posterior lives: in functions of a kernel's features, or in parameters.

use std::fmt;

use super::curvature::{Curvature, CurvatureAccumulator, Task};
use crate::error::Result;
use crate::nn::{Network, expect_one};
use crate::observer::Observer;
use crate::persist::Archive;

/// A choice of what is uncertain about a trained network.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// The text form; parsing it gives this source back.
    fn text(&self) -> String;

    /// Whether its coordinates are as many as parameters, so that features of points cannot be kept.
    fn spans_all_parameters(&self) -> bool {
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
    fn begin(
        &self,
        task: &Task<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn CurvatureAccumulator>>;

    /// Reads back what [`Curvature::save`] stored.
    ///
    /// # Errors
    /// [`Error::ModelFile`].
    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>>;
}
