//! No uncertainty: the outputs of the trained network as they are, the baseline of all others.

use std::sync::Arc;

use ndarray::Array3;

use super::curvature::{Block, Curvature, Sums, Task};
use super::source::Source;
use crate::error::Result;
use crate::matrix::Mat64;
use crate::nn::Network;
use crate::observer::Observer;
use crate::persist::Archive;
use crate::spec::Entry;

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
        ENTRY.text(&[])
    }

    fn begin(&self, _: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        Ok(Box::new(Map))
    }

    fn load(&self, _: &Archive, _: &dyn Network) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(Map))
    }
}

impl Sums for Map {
    fn wants_jacobian(&self) -> bool {
        false
    }

    fn add(&mut self, _: &Block<'_>, _: &[Mat64]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        Ok(self)
    }
}

impl Curvature for Map {
    fn values(&self) -> &[f64] {
        &[]
    }

    fn wants_jacobian(&self) -> bool {
        false
    }

    fn features(&self, block: &Block<'_>) -> Result<Mat64> {
        Ok(Mat64::zeros((block.x.nrows() * block.outputs(), 0)))
    }

    fn covariance(&self, block: &Block<'_>, _: &[f64]) -> Result<Array3<f64>> {
        Ok(Array3::zeros((block.x.nrows(), block.outputs(), block.outputs())))
    }

    fn save(&self, _: &mut Archive) -> Result<()> {
        Ok(())
    }
}
