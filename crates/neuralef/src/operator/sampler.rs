//! What training draws: units of an operator, and the batches that they make.

use super::{BLOCK, Batch};
use crate::data::{Dataset, Standardizer};
use crate::error::Result;
use crate::rng;

/// The points of a fit, as the kernel sees them.
#[derive(Debug, Clone)]
pub struct Points {
    data: Dataset,
    standardizer: Option<Standardizer>,
}

impl Points {
    /// The rows of `data`, put through `standardizer` if there is one.
    pub fn new(data: Dataset, standardizer: Option<Standardizer>) -> Self {
        Points { data, standardizer }
    }

    /// N, the number of points.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Never true: a dataset has points.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// d, the number of coordinates.
    pub fn width(&self) -> usize {
        self.data.width()
    }

    /// The points as the user has them.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// What is done to them before kernel and networks see them.
    pub fn standardizer(&self) -> Option<&Standardizer> {
        self.standardizer.as_ref()
    }

    pub(crate) fn into_standardizer(self) -> Option<Standardizer> {
        self.standardizer
    }

    /// The points `indices`. O(n·d).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an index that is not there; what reading reports.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let x = self.data.rows(indices)?;
        let x = match &self.standardizer {
            Some(standardizer) => standardizer.apply(x.view())?,
            None => x,
        };
        Ok(Batch { indices: indices.to_vec(), x })
    }

    /// The points `indices` in blocks.
    ///
    /// # Errors
    /// As [`batch`](Points::batch).
    pub fn blocks(&self, indices: &[usize]) -> Result<Vec<Batch>> {
        indices.chunks(BLOCK).map(|chunk| self.batch(chunk)).collect()
    }
}

/// Draws the batches of training. A unit is what an operator is known by: one row of the data for a kernel;
/// it may be a pair of rows, or a row seen in ways that are drawn anew.
///
/// What a step draws depends on the seed and the step alone: a resumed run draws the same.
pub trait Sampler: Send + Sync {
    /// How many units there are.
    fn units(&self) -> usize;

    /// The batch of training step `step`, of `size` units; at most [`units`](Sampler::units).
    ///
    /// # Errors
    /// What reading the data reports.
    fn draw(&self, step: u64, size: usize) -> Result<Batch>;
}

/// Distinct rows of the data: the units of a kernel.
pub struct RowSampler<'a> {
    points: &'a Points,
    rows: &'a [usize],
    seed: u64,
}

impl<'a> RowSampler<'a> {
    /// Draws from `rows` of `points`.
    pub fn new(points: &'a Points, rows: &'a [usize], seed: u64) -> Self {
        RowSampler { points, rows, seed }
    }
}

impl Sampler for RowSampler<'_> {
    fn units(&self) -> usize {
        self.rows.len()
    }

    fn draw(&self, step: u64, size: usize) -> Result<Batch> {
        let mut rng = rng::stream(self.seed, "batch", step);
        let size = size.min(self.rows.len());
        let picked = rand::seq::index::sample(&mut rng, self.rows.len(), size);
        let mut indices: Vec<usize> = picked.iter().map(|i| self.rows[i]).collect();
        // Ascending rows read a memory-mapped file in order; the objective does not mind.
        indices.sort_unstable();
        self.points.batch(&indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_distinct_rows_of_the_share_and_depend_on_seed_and_step_alone() {
        let data = Dataset::open("gaussian(n=50, d=2)", 1).unwrap();
        let points = Points::new(data.clone(), None);
        let rows: Vec<usize> = (0..50).step_by(2).collect();
        let sampler = RowSampler::new(&points, &rows, 7);
        assert_eq!(sampler.units(), 25);
        let batch = sampler.draw(3, 10).unwrap();
        assert!(batch.indices.is_sorted_by(|a, b| a < b) && batch.indices.len() == 10);
        assert!(batch.indices.iter().all(|i| i % 2 == 0));
        assert_eq!(batch.x, data.rows(&batch.indices).unwrap());
        assert_eq!(sampler.draw(3, 10).unwrap().indices, batch.indices);
        assert_ne!(sampler.draw(4, 10).unwrap().indices, batch.indices);
        assert_ne!(RowSampler::new(&points, &rows, 8).draw(3, 10).unwrap().indices, batch.indices);
        assert_eq!(sampler.draw(0, 99).unwrap().indices, rows);
    }
}
