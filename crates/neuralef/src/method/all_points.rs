//! The Nyström solution over all points of a problem: one streamed pass, then small eigenproblems.

use std::sync::Arc;

use ndarray::s;

use super::low_rank::{LowRank, LowRankPairs, Moments};
use super::sampled_image::{SampledImage, sampled};
use super::{Nystrom, Run};
use crate::error::Result;
use crate::features::FeatureMap;
use crate::fit::Problem;
use crate::fit::certificate::Measured;
use crate::matrix::Mat64;
use crate::observer::Event;
use crate::operator::Batch;

/// Points of a streamed block.
const BLOCK: usize = 2048;

/// See the [module](self).
pub(super) struct AllPoints {
    pub(super) low_rank: LowRank,
    /// Over all points, those held out for the certificate included.
    pub(super) map: Nystrom,
    /// ε, which bounds the error of every eigenvalue on these points.
    pub(super) remainder: f64,
    /// Points behind the map.
    pub(super) points: usize,
    /// The same without the points that are held out, where a certificate is to measure it.
    pub(super) measured: Option<Measured>,
}

impl AllPoints {
    /// Streams the training points, solves, adds those held out of the same data, and solves again.
    /// O(n m (d + m) + m³).
    ///
    /// # Errors
    /// What the kernel and the data report; [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn solve(
        problem: &Problem,
        landmarks: (LowRank, Option<Mat64>),
        run: &mut Run<'_>,
    ) -> Result<Self> {
        let apart = problem.spec.certificate;
        Self::solve_with(problem, landmarks, apart, run, &mut |_, _| Ok(()))
    }

    /// The same, solved apart without the held-out points where `apart` says so; `visit` gets every training
    /// block with its values κ(x, L) on the way.
    pub(super) fn solve_with(
        problem: &Problem,
        (low_rank, known): (LowRank, Option<Mat64>),
        apart: bool,
        run: &mut Run<'_>,
        visit: &mut dyn FnMut(&Batch, &Mat64) -> Result<()>,
    ) -> Result<Self> {
        let mut moments = low_rank.moments();
        let (train, late) = (&problem.split.train, problem.refit_rows());
        let k = problem.spec.n_components;
        let total = train.len() + late.len();
        stream(
            problem,
            &low_rank,
            train,
            known.as_ref(),
            &mut moments,
            &mut |done, batch, values| {
                run.observe(&Event::Progress { done, total })?;
                visit(batch, values)
            },
        )?;
        let mut k = k;
        let mut measured = None;
        if apart || late.is_empty() {
            let mut pairs = low_rank.pairs(&moments, k)?;
            let map = low_rank.map(&mut pairs)?;
            if apart {
                measured = Some(of_training(problem, &low_rank, &map, &pairs, train)?);
            }
            if late.is_empty() {
                let (remainder, points) = (pairs.remainder, train.len());
                return Ok(AllPoints { low_rank, map, remainder, points, measured });
            }
            k = map.components();
        }
        stream(problem, &low_rank, &late, None, &mut moments, &mut |_, _, _| Ok(()))?;
        let mut pairs = low_rank.pairs(&moments, k)?;
        let map = low_rank.map(&mut pairs)?;
        let remainder = pairs.remainder;
        Ok(AllPoints { low_rank, map, remainder, points: total, measured })
    }

    /// m, the number of landmarks.
    pub(super) fn landmarks(&self) -> usize {
        self.low_rank.rank()
    }
}

/// Adds `rows` to `moments`, block by block, by their `known` values κ(x, L) where there are such; `visit` gets the points done before, the block and its values.
fn stream(
    problem: &Problem,
    low_rank: &LowRank,
    rows: &[usize],
    known: Option<&Mat64>,
    moments: &mut Moments,
    visit: &mut dyn FnMut(usize, &Batch, &Mat64) -> Result<()>,
) -> Result<()> {
    for (block, rows) in rows.chunks(BLOCK).enumerate() {
        let batch = problem.batch(rows)?;
        let first = block * BLOCK;
        let values = match known {
            Some(known) => {
                let values = known.slice(s![first..first + rows.len(), ..]).to_owned();
                low_rank.add_values(&batch, values, moments)?
            }
            None => low_rank.add(&batch, moments)?,
        };
        visit(first, &batch, &values)?;
    }
    Ok(())
}

fn of_training(
    problem: &Problem,
    low_rank: &LowRank,
    map: &Nystrom,
    pairs: &LowRankPairs,
    train: &[usize],
) -> Result<Measured> {
    let sample = problem.batch(&sampled(train))?;
    // Φᵀψ/n = (ΦᵀΦ/n) z/√μ̂ = √μ̂ z.
    let mut coefficients = pairs.vectors.clone();
    for (mut column, mu) in coefficients.columns_mut().into_iter().zip(&pairs.values) {
        column *= mu.sqrt();
    }
    let operator = Arc::clone(&problem.operator);
    let psi = |x: crate::matrix::MatRef<'_>| map.eigenfunctions(x);
    let image = SampledImage::new(low_rank.clone(), operator, &sample, &coefficients, psi)?;
    Ok(Measured {
        map: Box::new(map.clone()),
        image: Box::new(image),
        trace: pairs.trace,
        points: train.len(),
    })
}

#[cfg(test)]
#[path = "all_points_tests.rs"]
mod tests;
