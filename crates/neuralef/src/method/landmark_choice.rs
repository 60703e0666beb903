//! Which training points become landmarks, and how many.

use super::landmark_points::LandmarkPoints;
use super::landmarks::{self, Landmarks};
use super::low_rank::LowRank;
use super::rpcholesky::{self, Limit};
use crate::error::{Error, Result};
use crate::fit::Problem;
use crate::kernel::Kernel;
use crate::linalg::{PivotedCholesky, expect_finite_f64, pivoted_cholesky};
use crate::operator::{Batch, symmetric_gram};
use crate::spec::Choice;

/// Training points that k-means++ chooses from.
const CANDIDATES: usize = 50_000;
/// Training points that randomly pivoted Cholesky chooses from, and for each landmark.
const POOL: usize = 2048;
const POOL_OF_EACH: usize = 4;
/// Landmarks that `auto` takes at most: as many, and so many for each component.
const AUTO: usize = 260;
const AUTO_OF_EACH: usize = 4;
/// The number for the eigenproblem of the landmarks alone.
pub(super) const WITHOUT_LIMIT: usize = 1000;
/// Pivots of the landmarks' Gram matrix below this share of the largest are nothing but rounding.
const ROUNDING: f64 = 1e-13;
/// Rows of the streamed blocks that are in memory.
const STREAMED: u64 = 4096;

/// How landmarks are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    Auto,
    RpCholesky,
    Uniform,
    Kmeans,
}

impl Choice for Selection {
    const KIND: &'static str = "selection";
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Selection::Auto),
        ("rpcholesky", Selection::RpCholesky),
        ("uniform", Selection::Uniform),
        ("kmeans", Selection::Kmeans),
    ];
}

/// K̂ of landmarks among the training points: `landmarks` of them, or as many as `auto` wants. Landmarks that
/// add nothing to the others are left out.
///
/// # Errors
/// [`Error::MemoryBudget`], [`Error::Numerical`] where the kernel vanishes, and what the kernel reports.
pub(super) fn low_rank(
    problem: &Problem,
    selection: Selection,
    landmarks: Option<usize>,
) -> Result<LowRank> {
    let kernel = problem.expect_kernel("nystrom", super::EXTENDS)?;
    let (train, k) = (problem.split.train.len(), problem.spec.n_components);
    let most = landmarks.unwrap_or_else(|| AUTO.saturating_add(AUTO_OF_EACH.saturating_mul(k)));
    let most = most.min(train);
    let pool = match selection {
        Selection::Auto | Selection::RpCholesky => {
            POOL.max(most.saturating_mul(POOL_OF_EACH)).min(train)
        }
        _ => most,
    };
    let m = most as u64;
    let numbers = m.saturating_mul(m).saturating_mul(5);
    let numbers = numbers.saturating_add(m.saturating_mul(STREAMED.saturating_add(pool as u64)));
    let what = || format!("the eigenproblem of {most} landmarks");
    problem.memory().expect(what, numbers.saturating_mul(8))?;
    let (batch, factor) = match selection {
        Selection::Auto | Selection::RpCholesky => {
            let candidates = problem.batch(&problem.training_sample(pool))?;
            let limit = Limit { most, components: landmarks.is_none().then_some(k) };
            let factor =
                rpcholesky::choose(&**kernel, candidates.points(), limit, problem.spec.seed)?;
            (candidates, factor)
        }
        Selection::Uniform | Selection::Kmeans => {
            let batch = problem.batch(&weighted(problem, selection, most)?.0)?;
            let gram = symmetric_gram(&**kernel, batch.points())?;
            expect_finite_f64("Gram matrix of the landmarks", gram.view())?;
            (batch, pivoted_cholesky(gram.view(), ROUNDING)?)
        }
    };
    if factor.rank() == 0 {
        let message = "the kernel vanishes on all candidates".to_string();
        return Err(Error::Numerical { what: "choosing landmarks".into(), message });
    }
    Ok(LowRank::new(kernel.clone(), pivots(&**kernel, &batch, &factor), factor))
}

/// The landmarks in the order of the pivots.
fn pivots(kernel: &dyn Kernel, batch: &Batch, factor: &PivotedCholesky) -> LandmarkPoints {
    let indices = factor.order.iter().map(|&i| batch.indices[i]).collect();
    let x = batch.x.select(ndarray::Axis(0), &factor.order);
    LandmarkPoints::new(kernel, Batch { indices, x })
}

/// m rows of the data, ascending, uniformly or by k-means++, and the share of the training points that each
/// stands for.
///
/// # Errors
/// What reading the data reports.
pub(super) fn weighted(
    problem: &Problem,
    selection: Selection,
    m: usize,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let pool = match selection {
        Selection::Kmeans => problem.training_sample(CANDIDATES.max(m)),
        _ => problem.split.train.clone(),
    };
    if m == pool.len() {
        return Ok((pool, vec![1.0 / m as f64; m]));
    }
    let Landmarks { indices, weights } = match selection {
        Selection::Kmeans => {
            let x = problem.batch(&pool)?.x;
            landmarks::kmeans_plus_plus(x.view(), m, problem.spec.seed)?
        }
        _ => landmarks::uniform(pool.len(), m, problem.spec.seed)?,
    };
    let mut chosen: Vec<(usize, f64)> = indices.into_iter().map(|i| pool[i]).zip(weights).collect();
    chosen.sort_unstable_by_key(|c| c.0);
    Ok(chosen.into_iter().unzip())
}
