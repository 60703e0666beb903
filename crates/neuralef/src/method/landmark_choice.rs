//! Which training points become landmarks, and how many.

use super::landmark_points::LandmarkPoints;
use super::landmarks::{self, Landmarks};
use super::low_rank::LowRank;
use super::rpcholesky::{self, Limit};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::Problem;
use crate::kernel::Kernel;
use crate::linalg::{PivotedCholesky, expect_finite_f64, matmul_f64, pivoted_cholesky};
use crate::matrix::Mat64;
use crate::operator::{Batch, Points, symmetric_gram};
use crate::spec::Choice;

/// Training points that k-means++ chooses from.
const CANDIDATES: usize = 50_000;
/// Training points that randomly pivoted Cholesky chooses from, and for each landmark.
const POOL: usize = 2048;
const POOL_OF_EACH: usize = 4;
/// Landmarks that `auto` takes at most: as many, four for each of the first hundred components, and two for
/// each of the others.
const AUTO: usize = 260;
const HUNDRED: usize = 100;
/// Of kernels that are costly to evaluate, 2k or this share of the training points at most.
const COSTLY_SHARE: usize = 6;
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

/// K̂ of landmarks among the training points, `landmarks` of them or as many as `auto` wants, or of those in the
/// file `given`. Landmarks that
/// add nothing to the others are left out. With it κ(x, L) at the training points, n × m, where that is known
/// already and costly.
///
/// # Errors
/// [`Error::MemoryBudget`], [`Error::Numerical`] where the kernel vanishes, and what the kernel reports.
pub(super) fn low_rank(
    problem: &Problem,
    selection: Selection,
    landmarks: Option<usize>,
    given: Option<&str>,
) -> Result<(LowRank, Option<Mat64>)> {
    let kernel = problem.expect_kernel("nystrom", super::EXTENDS)?;
    let (train, k) = (problem.split.train.len(), problem.spec.n_components);
    let most = landmarks.unwrap_or_else(|| {
        let most = k.min(HUNDRED).saturating_add(k).saturating_mul(2).saturating_add(AUTO);
        let few = k.saturating_mul(2).max(train / COSTLY_SHARE);
        if kernel.is_costly() { most.min(few) } else { most }
    });
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
    let mut known = None;
    let (batch, factor) = match selection {
        _ if given.is_some() => {
            let batch = read(problem, given.unwrap_or_default())?;
            let gram = symmetric_gram(&**kernel, batch.x.view().into())?;
            expect_finite_f64("Gram matrix of the landmarks", gram.view())?;
            (batch, pivoted_cholesky(gram.view(), ROUNDING)?)
        }
        Selection::Auto | Selection::RpCholesky => {
            let candidates = problem.batch(&problem.training_sample(pool))?;
            let limit = Limit { most, components: landmarks.is_none().then_some(k) };
            let (factor, features) =
                rpcholesky::choose(&**kernel, candidates.points(), limit, problem.spec.seed)?;
            if kernel.is_costly() && pool == train {
                // κ(x, L) = ΦLᵀ.
                known = Some(matmul_f64(features.view(), factor.lower()?.t())?);
            }
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
    Ok((LowRank::new(kernel.clone(), pivots(&**kernel, &batch, &factor), factor), known))
}

/// The points of the file `given`, as the kernel sees them.
fn read(problem: &Problem, given: &str) -> Result<Batch> {
    if problem.kernel.as_ref().is_some_and(|kernel| kernel.by_index().is_some()) {
        let expected =
            "nothing for precomputed kernel values, whose landmarks are among the points";
        return Err(Error::parameter("given", expected, given));
    }
    let data = Dataset::open(given, problem.spec.seed)?;
    if data.width() != problem.points.width() {
        let expected = format!("points of {} columns, as the data have", problem.points.width());
        return Err(Error::parameter("given", expected, format!("{} columns", data.width())));
    }
    let points = Points::new(data, problem.points.standardizer().cloned());
    let rows: Vec<usize> = (0..points.len()).collect();
    problem.memory().expect(
        || format!("the eigenproblem of {} landmarks", rows.len()),
        (rows.len() as u64).saturating_mul(rows.len() as u64).saturating_mul(40),
    )?;
    points.batch(&rows)
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
