//! The choice of a truncation: eigenpairs for each, and their residuals on held-out points.
//!
//! The residual that chooses a truncation, and says when training is enough, is that of the operator
//! of the form: for s(x)u_c the component of T̂(su_c) along u_c. Its other components are the error of
//! the form, which neither truncation nor training changes; certificates hold all of it.

use std::borrow::Cow;

use ndarray::{Axis, s};

use super::basis::{Basis, TrialFunctions};
use super::form::{Eigenpairs, QuadraticForm};
use super::outputs::OutputLayout;
use super::record::ReadoutRecord;
use super::request::Sample;
use crate::error::{Error, Result};
use crate::matrix::Mat64;
use crate::metrics::relative_residuals;
use crate::operator::{AppliedOperator, Batch};

/// Bytes of values of eigenfunctions that the operator is applied to at a time, about.
pub(super) const APPLIED_BYTES: u64 = 32 << 20;

/// The eigenpairs that a truncation leaves.
pub(super) struct Candidate {
    /// Relative to the largest eigenvalue of C; none where nothing is truncated.
    pub truncation: Option<f64>,
    /// Leading trial functions that take part.
    pub rank: usize,
    /// The pairs, at most k.
    pub pairs: Eigenpairs,
}

/// The top k eigenpairs of `form` for every truncation, as far as they are above `rounding` beside
/// the whole of the form.
pub(super) fn candidates(
    truncations: &[(f64, usize)],
    form: &QuadraticForm,
    rounding: f64,
    k: usize,
) -> Result<Vec<Candidate>> {
    let mut out = Vec::new();
    for &(truncation, rank) in truncations {
        let (pairs, size) = form.top(rank, k)?;
        // Not beside the largest eigenvalue: that may be negative.
        let pairs = pairs.above(rounding * size);
        if !pairs.values.is_empty() {
            out.push(Candidate { truncation: Some(truncation), rank, pairs });
        }
    }
    Ok(out)
}

/// The candidate with the smallest score on held-out points, the first of equals, and the record of
/// them all.
///
/// # Errors
/// [`Error::Numerical`] when there is none, and what the operator reports.
pub(super) fn choose(
    candidates: Vec<Candidate>,
    functions: &TrialFunctions,
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    k: usize,
) -> Result<(Candidate, ReadoutRecord)> {
    let k = reachable(&candidates, k, basis.layout.outputs_per_function(sample.operator.outputs()));
    let scores = match basis.layout {
        _ if candidates.is_empty() => Vec::new(),
        OutputLayout::VectorValued => scores_of_combinations(&candidates, functions, sample, k)?,
        _ => scores_of_eigenfunctions(&candidates, functions, sample, k)?,
    };
    let times = basis.layout.outputs_per_function(sample.operator.outputs());
    let tried = candidates.iter().zip(&scores);
    let tried = tried.filter_map(|(c, score)| Some((c.truncation?, c.rank * times, *score)));
    let tried = tried.collect();
    let best = (0..scores.len()).reduce(|a, b| if scores[b] < scores[a] { b } else { a });
    let Some((best, at)) = best.and_then(|at| Some((candidates.into_iter().nth(at)?, at))) else {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!(
                "the kernel has no positive eigenvalue on the {} training points, as far as the {} \
                 basis functions show",
                sample.points(),
                basis.width()
            ),
        });
    };
    let record = ReadoutRecord {
        kind: basis.kind,
        points: sample.points(),
        basis: basis.width() * times,
        rank: best.rank * times,
        truncation: best.truncation,
        candidates: tried,
        residual: scores[at],
    };
    Ok((best, record))
}

/// Pairs that can be expected of k: where a basis of k directions and more shows fewer, the operator has no
/// more above rounding.
pub(super) fn reachable(candidates: &[Candidate], k: usize, times: usize) -> usize {
    let wide = candidates.iter().filter(|c| c.rank.saturating_mul(times) >= k);
    wide.map(|c| c.pairs.values.len()).max().unwrap_or(k)
}

/// Scores of candidates whose eigenfunctions are products of trial functions and coefficients: T̂ is
/// applied to the trial functions once, for all candidates.
fn scores_of_combinations(
    candidates: &[Candidate],
    functions: &TrialFunctions,
    sample: &Sample<'_>,
    k: usize,
) -> Result<Vec<f64>> {
    let applied = sample.operator.applied(sample.train, functions.train.clone())?;
    let t_held_out = applied_at(&*applied, sample.selection)?;
    let score = |Candidate { rank, pairs, .. }: &Candidate| {
        let psi = functions.held_out.slice(s![.., ..*rank]).dot(&pairs.vectors);
        let t_psi = t_held_out.slice(s![.., ..*rank]).dot(&pairs.vectors);
        score(&relative_residuals(&psi, &t_psi, &pairs.values, psi.nrows()), k)
    };
    Ok(candidates.iter().map(score).collect())
}

/// Scores of candidates whose eigenfunctions have C outputs made of scalar trial functions: T̂ is
/// applied to the eigenfunctions, fewer than the products of trial functions with outputs. For
/// features Φ (n·C × S) O(n·C·S·k) a candidate.
fn scores_of_eigenfunctions(
    candidates: &[Candidate],
    functions: &TrialFunctions,
    sample: &Sample<'_>,
    k: usize,
) -> Result<Vec<f64>> {
    let operator = sample.matrix_valued()?;
    let rows = (sample.points() * operator.outputs()) as u64;
    let most = usize::try_from(APPLIED_BYTES / (8 * rows).max(1)).unwrap_or(usize::MAX);
    let psi = |Candidate { rank, pairs, .. }: &Candidate, values: &Mat64| {
        pairs.combination.values(values.slice(s![.., ..*rank]), pairs.vectors.view())
    };
    let points = functions.held_out.nrows();
    let mut scores = Vec::with_capacity(candidates.len());
    // Several candidates in one pass over the kernel, as far as memory goes.
    for group in candidates.chunks((most / k.max(1)).max(1)) {
        let parts = group.iter().map(|c| psi(c, &functions.train));
        let parts: Vec<Mat64> = parts.collect::<Result<_>>()?;
        let applied = operator.applied(sample.train, side_by_side(&parts)?.into_owned())?;
        drop(parts);
        let t_held_out = applied_at(&*applied, sample.selection)?;
        let mut column = 0;
        for candidate in group {
            let Eigenpairs { values, combination, .. } = &candidate.pairs;
            let columns = column..column + values.len();
            column = columns.end;
            let t_psi = combination.along(t_held_out.slice(s![.., columns]).to_owned());
            let psi = combination.along(psi(candidate, &functions.held_out)?);
            scores.push(score(&relative_residuals(&psi, &t_psi, values, points), k));
        }
    }
    Ok(scores)
}

/// The function T̂v at all of `points`.
fn applied_at(applied: &dyn AppliedOperator, points: &[Batch]) -> Result<Mat64> {
    let parts: Vec<Mat64> = points.iter().map(|b| applied.at(b)).collect::<Result<_>>()?;
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(0), &views)
        .map_err(|e| Error::shape("held-out images", "equal widths", e))
}

/// Root mean square over k pairs of r/√(1 + r²), r = ‖T̂ψ − μψ‖/μ: the sine of the angle between Tψ
/// and μψ where the residual is orthogonal. Missing pairs count 1.
pub(super) fn score(residuals: &[f64], k: usize) -> f64 {
    let bounded: f64 = residuals.iter().map(|r| 1.0 - 1.0 / (1.0 + r * r)).sum();
    ((bounded + (k - residuals.len()) as f64) / k as f64).sqrt()
}

/// The columns of all `parts`; a single part is not copied.
fn side_by_side(parts: &[Mat64]) -> Result<Cow<'_, Mat64>> {
    if let [only] = parts {
        return Ok(Cow::Borrowed(only));
    }
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(1), &views)
        .map(Cow::Owned)
        .map_err(|e| Error::shape("candidates of the readout", "equal heights", e))
}
