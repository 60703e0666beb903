//! No uncertainty: the outputs of the trained network as they are, the baseline of all others.

use std::sync::Arc;

use ndarray::Array3;

use super::curvature::{Curvature, Task};
use super::source::Source;
use crate::error::Result;
use crate::fit::Observer;
use crate::matrix::{Mat64, MatRef};
use crate::nn::Network;
use crate::persist::Archive;
use crate::spec::args::Entry;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "map",
    summary: "nothing: the trained network as it is",
    parameters: &[],
    build: |_| Ok(Arc::new(Map)),
};

#[derive(Debug)]
struct Map;

impl Source for Map {
    fn text(&self) -> String {
        "map".into()
    }

    fn curvature(&self, _: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(Map))
    }

    fn load(&self, _: &Archive, _: &dyn Network) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(Map))
    }
}

impl Curvature for Map {
    fn values(&self) -> &[f64] {
        &[]
    }

    fn features(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64> {
        Ok(Mat64::zeros((x.nrows() * network.outputs(), 0)))
    }

    fn covariance(&self, network: &dyn Network, x: MatRef<'_>, _: &[f64]) -> Result<Array3<f64>> {
        let c = network.outputs();
        Ok(Array3::zeros((x.nrows(), c, c)))
    }

    fn save(&self, _: &mut Archive) -> Result<()> {
        Ok(())
    }
}
