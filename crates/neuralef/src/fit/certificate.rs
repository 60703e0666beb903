//! The certificate: how accurate a fit is, measured on points that took no part in it.

use std::ops::Range;

use ndarray::{Axis, s};
use serde::{Deserialize, Serialize};

use super::problem::{Problem, every};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::linalg;
use crate::matrix::Mat64;
use crate::method::Fitted;
use crate::metrics::gram_error_between_halves;
use crate::operator::{AppliedOperator, Batch, rows_of_points, symmetric_gram};

/// Groups of held-out points for the population residual and its jackknife error.
const GROUPS: usize = 10;
/// Rows of features held at a time.
const FEATURE_ROWS: usize = 256;
/// Points on which the spread of influences is measured where there are as many, and the share of the trace
/// that features have.
const INFLUENCE: usize = 512;
/// Held-out points below which points of the fit stand in for the spread of influences.
const INFLUENCE_LEAST: usize = 64;

/// How accurate one eigenpair is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairCertificate {
    /// μ, the eigenvalue of the integral operator.
    pub eigenvalue: f64,
    /// Its standard error from the finite sample: the standard deviation over training points of
    /// the influence 2ψTψ − μψ² − μ of a point, which is μ(ψ² − 1) for an exact pair, over √n. Sums
    /// over outputs, Σ_c ψ_cTψ_c and Σ_c ψ_c², where the kernel has several.
    pub standard_error: f64,
    /// ‖T̂ψ − μψ‖/μ on held-out points, T̂ the operator of the training sample: the error of the
    /// approximation. Exact up to rounding, or, for fits by landmarks, with the part of T̂ beyond the
    /// landmarks estimated from two halves of a share of the sample; 0 where that is below its noise.
    pub residual: f64,
    /// ‖Tψ − μψ‖²/μ² for the operator T of the whole distribution, from held-out points alone, by
    /// products of independent inner samples, so that their noise does not add up; it can come out
    /// negative when it is below its error.
    pub population_residual_squared: f64,
    /// Jackknife standard error of `population_residual_squared`. A pair whose squared residual is
    /// less than twice this is not resolved by the held-out points. The largest number for fewer than four
    /// held-out points.
    pub population_residual_squared_error: f64,
}

/// What a fit says about its own accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// One for each eigenpair, in order; none for features without eigenvalues.
    pub pairs: Vec<PairCertificate>,
    /// Σμ_j/E κ(x,x), the share of the kernel's trace on the training points that the features
    /// capture, or E φᵀφ/E κ(x,x) for features without eigenvalues: at most 1 for a positive semi-definite kernel after a ritz or galerkin readout.
    pub captured_trace: f64,
    /// E κ(x, x) over the same training points.
    pub trace: f64,
    /// max |ψᵀψ/n − I| over the held-out points; 0 without eigenfunctions.
    pub orthonormality_error: f64,
    /// Held-out points that took part.
    pub held_out_points: usize,
    /// Training points behind T̂.
    pub training_points: usize,
    /// ‖φφᵀ − K‖/‖K‖ (Frobenius) over the pairs of one half of the held-out points with the other,
    /// when the kernel is known.
    #[serde(default)]
    pub gram_error: Option<f64>,
    /// Training points (landmarks, for Nyström) behind the eigenvalues and their standard errors.
    pub eigenvalue_points: usize,
}

/// T̂ψ for the operator T̂ of the training sample and fixed eigenfunctions ψ, at any points.
pub(crate) trait Image: Send + Sync {
    /// Its values at `points`, n·C × k, where the eigenfunctions are `psi`: one matrix, exact to rounding,
    /// or two estimates with independent errors.
    ///
    /// # Errors
    /// What the operator reports.
    fn at(&self, points: &Batch, psi: &Mat64) -> Result<Vec<Mat64>>;
}

/// The fit that a certificate measures, which saw no held-out point.
pub(crate) struct Measured {
    /// Its map, with eigenfunctions.
    pub(crate) map: Box<dyn FeatureMap>,
    /// T̂ψ of its eigenfunctions.
    pub(crate) image: Box<dyn Image>,
    /// E κ(x, x) over its training points.
    pub(crate) trace: f64,
    /// How many these are.
    pub(crate) points: usize,
}

/// T̂ψ by the operator itself.
struct AppliedImage<'a>(Box<dyn AppliedOperator + 'a>);

impl Image for AppliedImage<'_> {
    fn at(&self, points: &Batch, _: &Mat64) -> Result<Vec<Mat64>> {
        Ok(vec![self.0.at(points)?])
    }
}

impl Certificate {
    /// Measures what a method found.
    ///
    /// # Errors
    /// What the operator and the map report; [`Error::Numerical`] when a figure is not finite.
    pub(crate) fn of(problem: &Problem, fitted: &Fitted) -> Result<Self> {
        let Fitted { map, measured, sample, points, .. } = fitted;
        let mut certificate = if map.eigenvalues().is_some() {
            certify(problem, &**map, measured.as_ref(), sample, *points)?
        } else {
            certify_features(problem, &**map, sample)?
        };
        let map = measured.as_ref().map_or(&**map, |measured| &*measured.map);
        certificate.gram_error = match held_out_gram_error(problem, map) {
            // A kernel that vanishes between all held-out points has no relative error.
            Err(Error::Numerical { .. }) => None,
            other => other?,
        };
        Ok(certificate)
    }

    /// What is known without measuring: the eigenvalues' share of the trace on some training points. It has
    /// no pairs and no held-out points.
    ///
    /// # Errors
    /// What the operator reports.
    pub(crate) fn none(problem: &Problem, fitted: &Fitted) -> Result<Self> {
        let batch = problem.batch(&every(&fitted.sample, INFLUENCE))?;
        let own = problem.operator.diag(&batch)?;
        let trace = own.iter().sum::<f64>() / own.len().max(1) as f64;
        let captured = match fitted.map.eigenvalues() {
            Some(eigenvalues) => eigenvalues.iter().sum::<f64>(),
            None => {
                let phi = fitted.map.transform(batch.x.view())?;
                phi.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / own.len().max(1) as f64
            }
        };
        Ok(Certificate {
            pairs: Vec::new(),
            captured_trace: captured / trace,
            trace,
            orthonormality_error: 0.0,
            held_out_points: 0,
            training_points: own.len(),
            gram_error: None,
            eigenvalue_points: fitted.points,
        })
    }
}

/// Measures a fitted map on the certificate's share of held-out points; `points` are those behind its
/// eigenvalues. Where `measured` is a fit without the held-out points, and `map` one with them, residuals
/// are those of the former. Cost O(h·s·(d + k)) for h held-out points and the s points that T̂ is a mean over.
///
/// # Errors
/// What the operator and the eigenfunctions report; [`Error::Numerical`] when a figure is not finite.
fn certify(
    problem: &Problem,
    map: &dyn FeatureMap,
    measured: Option<&Measured>,
    sample: &[usize],
    points: usize,
) -> Result<Certificate> {
    match measured {
        Some(Measured { map: fitted, image, trace, points: train }) => {
            let ground = Ground { map: &**fitted, image: &**image, trace: *trace, points: *train };
            certificate(problem, map, &ground, sample, points)
        }
        None => {
            let train = problem.blocks(sample)?;
            let psi = values(map, &train)?;
            let n = psi.nrows() / problem.operator.outputs();
            let mut trace = 0.0;
            for batch in &train {
                trace += problem.operator.diag(batch)?.iter().sum::<f64>() / n as f64;
            }
            let image = AppliedImage(problem.operator.applied(&train, psi)?);
            let ground = Ground { map, image: &image, trace, points: n };
            certificate(problem, map, &ground, sample, points)
        }
    }
}

/// What is measured.
struct Ground<'a> {
    map: &'a dyn FeatureMap,
    image: &'a dyn Image,
    trace: f64,
    points: usize,
}

fn certificate(
    problem: &Problem,
    map: &dyn FeatureMap,
    ground: &Ground<'_>,
    sample: &[usize],
    points: usize,
) -> Result<Certificate> {
    let c = problem.operator.outputs();
    let (fitted, wanted) = (expect_eigenvalues(ground.map)?, expect_eigenvalues(map)?);
    let k = fitted.len().min(wanted.len());
    let (eigenvalues, wanted) = (&fitted[..k], &wanted[..k]);
    let held_out = problem.batch(&problem.split.certificate)?;
    let psi = ground.map.eigenfunctions(held_out.x.view())?.slice(s![.., ..k]).to_owned();
    let m = psi.nrows() / c;
    let images = leading(ground.image.at(&held_out, &psi)?, k);
    let residuals = residuals(&psi, &images, eigenvalues, m);

    // The influence of a point on the Rayleigh quotient μ = E ψTψ/E ψ² is 2ψTψ − μψ² − μ. New points have the
    // law of those of the fit; where they are few, some of these stand in.
    let mut influences = vec![sums_of_outputs(influence(&psi, &images, eigenvalues), c)];
    if m < INFLUENCE_LEAST && !sample.is_empty() {
        let some = problem.batch(&every(sample, INFLUENCE_LEAST - m))?;
        let psi = ground.map.eigenfunctions(some.x.view())?.slice(s![.., ..k]).to_owned();
        let images = leading(ground.image.at(&some, &psi)?, k);
        influences.push(sums_of_outputs(influence(&psi, &images, eigenvalues), c));
    }
    let influence = stack(&influences)?;
    let errors: Vec<f64> =
        influence.columns().into_iter().map(|c| c.std(1.0) / (points as f64).sqrt()).collect();

    let population = population_residuals(problem, &psi, eigenvalues)?;
    let pairs = wanted
        .iter()
        .enumerate()
        .map(|(j, &eigenvalue)| PairCertificate {
            eigenvalue,
            standard_error: errors[j],
            residual: residuals[j],
            population_residual_squared: population[j].0,
            population_residual_squared_error: population[j].1,
        })
        .collect();

    let gram = linalg::tr_matmul_f64(psi.view(), psi.view())? / m as f64;
    let off = &gram - &Mat64::eye(gram.ncols());
    let certificate = Certificate {
        pairs,
        captured_trace: wanted.iter().sum::<f64>() / ground.trace,
        trace: ground.trace,
        orthonormality_error: off.iter().fold(0.0, |m, v| v.abs().max(m)),
        held_out_points: m,
        training_points: ground.points,
        gram_error: None,
        eigenvalue_points: points,
    };
    let finite = |p: &PairCertificate| {
        [p.eigenvalue, p.standard_error, p.residual].iter().all(|v| v.is_finite())
    };
    match certificate.pairs.iter().position(|p| !finite(p)) {
        None => Ok(certificate),
        Some(j) => Err(Error::Numerical {
            what: "certificate".into(),
            message: format!("eigenpair {j} is not finite: {:?}", certificate.pairs[j]),
        }),
    }
}

/// The certificate of features without eigenvalues: what share of the kernel's trace they have on
/// some of the training rows `rows`. Cost O(n·(cost of a feature row)).
///
/// # Errors
/// What the operator and the map report.
fn certify_features(
    problem: &Problem,
    map: &dyn FeatureMap,
    rows: &[usize],
) -> Result<Certificate> {
    let rows = every(rows, INFLUENCE);
    let (mut trace, mut captured) = (0.0, 0.0);
    // Few rows at a time: features may be many.
    for rows in rows.chunks(FEATURE_ROWS) {
        let batch = problem.batch(rows)?;
        trace += problem.operator.diag(&batch)?.iter().sum::<f64>();
        let phi = map.transform(batch.x.view())?;
        captured += phi.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    Ok(Certificate {
        pairs: Vec::new(),
        captured_trace: captured / trace,
        trace: trace / rows.len() as f64,
        orthonormality_error: 0.0,
        held_out_points: problem.split.certificate.len(),
        training_points: rows.len(),
        gram_error: None,
        eigenvalue_points: 0,
    })
}

/// ‖φφᵀ − K‖/‖K‖ over the pairs of one half of the held-out points with the other; none without a
/// kernel. Fewer points where the features are so many that the memory budget asks for it.
///
/// # Errors
/// What the kernel and the map report.
fn held_out_gram_error(problem: &Problem, map: &dyn FeatureMap) -> Result<Option<f64>> {
    let Some(kernel) = &problem.kernel else { return Ok(None) };
    // Both halves, in single and double precision.
    let bytes = 24 * map.components() as u64;
    let most = problem.memory().bytes() / bytes.max(1);
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    let batch = problem.batch(&problem.split.certificate)?;
    let x = batch.x.view();
    let phi = |rows: Range<usize>| Ok(map.transform(x.slice(s![rows, ..]))?.mapv(f64::from));
    let gram = gram_error_between_halves(&**kernel, batch.points(), most, phi)?;
    Ok(gram.map(|(error, _)| error))
}

fn values(map: &dyn FeatureMap, points: &[Batch]) -> Result<Mat64> {
    let parts: Vec<Mat64> =
        points.iter().map(|b| map.eigenfunctions(b.x.view())).collect::<Result<_>>()?;
    stack(&parts)
}

fn expect_eigenvalues(map: &dyn FeatureMap) -> Result<&[f64]> {
    map.eigenvalues().ok_or_else(|| Error::Unsupported {
        what: "the certificate of eigenpairs".into(),
        reason: "the map has no eigenvalues".into(),
    })
}

/// The first k columns of each.
fn leading(images: Vec<Mat64>, k: usize) -> Vec<Mat64> {
    images.into_iter().map(|image| image.slice_move(s![.., ..k])).collect()
}

/// ‖T̂ψ − μψ‖/μ for each column; from two estimates of T̂ψ by the product of their deviations, 0 where that
/// comes out negative.
pub(crate) fn residuals(
    psi: &Mat64,
    images: &[Mat64],
    eigenvalues: &[f64],
    count: usize,
) -> Vec<f64> {
    let (Some(one), Some(other)) = (images.first(), images.last()) else { return Vec::new() };
    let columns = eigenvalues.iter().enumerate();
    let residual = |(j, mu): (usize, &f64)| {
        let both = one.column(j).into_iter().zip(other.column(j)).zip(psi.column(j));
        let square: f64 = both.map(|((a, b), p)| (a - mu * p) * (b - mu * p)).sum();
        (square.max(0.0) / count.max(1) as f64).sqrt() / mu.abs().max(f64::MIN_POSITIVE)
    };
    columns.map(residual).collect()
}

/// 2ψT̂ψ − μψ² for each value.
fn influence(psi: &Mat64, images: &[Mat64], eigenvalues: &[f64]) -> Mat64 {
    let mut out = Mat64::zeros(psi.raw_dim());
    for image in images {
        out += image;
    }
    let share = 2.0 / images.len().max(1) as f64;
    for (j, mu) in eigenvalues.iter().enumerate() {
        let mut column = out.column_mut(j);
        column.zip_mut_with(&psi.column(j), |t, p| *t = share * *t * p - mu * p * p);
    }
    out
}

/// Sums over the outputs of each point, n·C × k to n × k.
fn sums_of_outputs(rows: Mat64, outputs: usize) -> Mat64 {
    if outputs == 1 {
        return rows;
    }
    let mut out = Mat64::zeros((rows.nrows() / outputs, rows.ncols()));
    for (mut out, rows) in out.outer_iter_mut().zip(rows.axis_chunks_iter(Axis(0), outputs)) {
        out.assign(&rows.sum_axis(Axis(0)));
    }
    out
}

fn stack(parts: &[Mat64]) -> Result<Mat64> {
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(0), &views)
        .map_err(|e| Error::shape("held-out blocks", "equal widths", e))
}

/// (‖Tψ−μψ‖²/μ², its standard error) for each column, from held-out points alone.
///
/// With the points in G groups and D_g(x) = (T_gψ)(x) − μψ(x), T_g the operator of group g, the
/// mean over points x of group o and over pairs g ≠ h of other groups of D_g(x)ᵀD_h(x) has no
/// squared-noise bias. The error is the delete-one-group jackknife's.
fn population_residuals(
    problem: &Problem,
    psi: &Mat64,
    eigenvalues: &[f64],
) -> Result<Vec<(f64, f64)>> {
    let (outputs, k) = (problem.operator.outputs(), psi.ncols());
    let m = psi.nrows() / outputs;
    let groups = GROUPS.min(m);
    if groups < 4 {
        // Nothing is known; a file holds finite numbers.
        return Ok(vec![(0.0, f64::MAX); k]);
    }
    let all = problem.batch(&problem.split.certificate)?;
    let member = |g: usize| (g..m).step_by(groups).collect::<Vec<_>>();
    // Each pair of points once, where the kernel is known.
    let gram = match &problem.kernel {
        Some(kernel) if outputs == 1 => Some(symmetric_gram(&**kernel, all.points())?),
        _ => None,
    };
    let mut deviations = Vec::with_capacity(groups);
    for g in 0..groups {
        let rows = member(g);
        let own = psi.select(Axis(0), &rows_of_points(&rows, outputs));
        let mut deviation = match &gram {
            Some(gram) => {
                let columns = gram.select(Axis(1), &rows);
                linalg::matmul_f64(columns.view(), own.view())? / rows.len() as f64
            }
            None => {
                let indices: Vec<usize> =
                    rows.iter().map(|&r| problem.split.certificate[r]).collect();
                problem.operator.applied(&[problem.batch(&indices)?], own)?.at(&all)?
            }
        };
        for (j, mu) in eigenvalues.iter().enumerate() {
            deviation.slice_mut(s![.., j]).zip_mut_with(&psi.column(j), |t, p| *t -= mu * p);
        }
        deviations.push(deviation);
    }
    let estimate = |j: usize, left_out: Option<usize>| {
        let used: Vec<usize> = (0..groups).filter(|g| Some(*g) != left_out).collect();
        let (mut total, mut count) = (0.0, 0usize);
        for &o in &used {
            for x in member(o) {
                for row in x * outputs..(x + 1) * outputs {
                    let others = used.iter().filter(|g| **g != o).map(|&g| deviations[g][[row, j]]);
                    let (sum, squares) = others.fold((0.0, 0.0), |(s, q), d| (s + d, q + d * d));
                    total += sum * sum - squares;
                }
                count += 1;
            }
        }
        let pairs = (used.len() - 1) * (used.len() - 2);
        total / (count * pairs) as f64
    };
    Ok(eigenvalues
        .iter()
        .enumerate()
        .map(|(j, mu)| {
            let square = mu * mu;
            let whole = estimate(j, None);
            let without: Vec<f64> = (0..groups).map(|g| estimate(j, Some(g))).collect();
            let mean = without.iter().sum::<f64>() / groups as f64;
            let spread: f64 = without.iter().map(|v| (v - mean).powi(2)).sum();
            let error = (spread * (groups - 1) as f64 / groups as f64).sqrt();
            (whole / square, error / square)
        })
        .collect())
}
