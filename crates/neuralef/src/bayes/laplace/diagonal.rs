//! The diagonal of the generalised Gauss–Newton matrix of all parameters.

use std::sync::Arc;

use ndarray::s;
use rayon::prelude::*;

use super::curvature::{Block, Curvature, Sums, Task};
use super::likelihood::without;
use super::source::Source;
use super::wide::{InParameters, WIDTH};
use crate::error::Result;
use crate::matrix::Mat64;
use crate::nn::{Network, expect_one};
use crate::observer::Observer;
use crate::persist::Archive;
use crate::spec::Entry;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "diag",
    summary: "the diagonal of the Gauss–Newton matrix of all parameters",
    parameters: &[],
    build: |_| Ok(Arc::new(Diag)),
};

#[derive(Debug)]
struct Diag;

impl Source for Diag {
    fn text(&self) -> String {
        ENTRY.text(&[])
    }

    fn is_wide(&self) -> bool {
        true
    }

    fn begin(&self, task: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let values = vec![0.0; expect_one(task.network)?];
        Ok(Box::new(Squares { values, negligible: task.negligible }))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        let values = archive.f64("curvature.values", &[expect_one(network)?])?.to_vec();
        Ok(Box::new(InParameters { layers: Vec::new(), values }))
    }
}

/// Σ (LᵀJ)², for each parameter.
struct Squares {
    values: Vec<f64>,
    /// Columns of roots that are left out.
    negligible: f64,
}

impl Sums for Squares {
    fn wants_jacobian(&self) -> bool {
        true
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let (c, jacobian) = (block.outputs(), block.jacobian()?);
        let roots: Vec<Mat64> = roots.iter().map(|root| without(root, self.negligible)).collect();
        self.values.par_chunks_mut(WIDTH).enumerate().for_each(|(number, sums)| {
            let columns = number * WIDTH..number * WIDTH + sums.len();
            let mut pulled = vec![0.0; sums.len()];
            for (i, root) in roots.iter().enumerate() {
                // Row m of LᵀJ at a time.
                for column in root.columns() {
                    pulled.fill(0.0);
                    for (o, weight) in column.iter().enumerate() {
                        let row = jacobian.slice(s![i * c + o, columns.clone()]);
                        let terms = pulled.iter_mut().zip(row);
                        terms.for_each(|(p, j)| *p += weight * f64::from(*j));
                    }
                    sums.iter_mut().zip(&pulled).for_each(|(sum, p)| *sum += p * p);
                }
            }
        });
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(InParameters { layers: Vec::new(), values: self.values }))
    }
}
