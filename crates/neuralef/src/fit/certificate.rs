//! The certificate: how accurate a fit is, measured on points that took no part in it.

use std::ops::Range;

use ndarray::{Array1, Axis, s};
use serde::{Deserialize, Serialize};

use super::problem::{Problem, every};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::linalg;
use crate::matrix::{Mat64, MatRef};
use crate::metrics::{gram_error_between_halves, relative_residuals};
use crate::operator::{AppliedOperator, Batch, rows_of_points};

/// Groups of held-out points for the population residual and its jackknife error.
const GROUPS: usize = 10;
/// Rows of features held at a time.
const FEATURE_ROWS: usize = 256;
/// Training points on which the spread of influences is measured, about.
const INFLUENCE: usize = 2048;

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
    /// approximation, exact up to rounding (no sampling enters T̂).
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

/// ψ at points as the kernel sees them, n × k, or n·C × k.
pub(crate) type Evaluate<'a> = dyn Fn(MatRef<'_>) -> Result<Mat64> + 'a;

/// Measures eigenfunctions on the certificate's share of held-out points; `train` are the training points
/// its eigenvalues come from. Cost O((m + n)·m·(d + k)) for m held-out and n training points.
///
/// # Errors
/// What the operator and the eigenfunctions report; [`Error::Numerical`] when a figure is not finite.
pub(crate) fn certify(
    problem: &Problem,
    eigenfunctions: &Evaluate<'_>,
    eigenvalues: &[f64],
    train: &[Batch],
    points: usize,
) -> Result<Certificate> {
    let held_out = problem.blocks(&problem.split.certificate)?;
    let psi = values(eigenfunctions, &held_out)?;
    let train_psi = values(eigenfunctions, train)?;
    let c = problem.operator.outputs();
    let (m, n) = (psi.nrows() / c, train_psi.nrows() / c);

    let applied = problem.operator.applied(train, train_psi.clone())?;
    let residuals = relative_residuals(&psi, &applied_at(&*applied, &held_out)?, eigenvalues, m);
    // The influence of a point on the Rayleigh quotient μ = E ψTψ/E ψ² is 2ψTψ − μψ² − μ.
    let rows: Vec<usize> = train.iter().flat_map(|b| b.indices.iter().copied()).collect();
    let some = problem.blocks(&every(&rows, INFLUENCE))?;
    let influence = {
        let (psi, t_psi) = (values(eigenfunctions, &some)?, applied_at(&*applied, &some)?);
        2.0 * &psi * &t_psi - &(&psi * &psi * &Array1::from(eigenvalues.to_vec()))
    };
    let influence = sums_of_outputs(influence, c);
    drop(applied);

    let population = population_residuals(problem, &psi, eigenvalues)?;
    let pairs = eigenvalues
        .iter()
        .enumerate()
        .map(|(j, &eigenvalue)| PairCertificate {
            eigenvalue,
            standard_error: influence.column(j).std(1.0) / (points as f64).sqrt(),
            residual: residuals[j],
            population_residual_squared: population[j].0,
            population_residual_squared_error: population[j].1,
        })
        .collect();

    let mut trace = 0.0;
    for batch in train {
        trace += problem.operator.diag(batch)?.iter().sum::<f64>() / n as f64;
    }
    let gram = linalg::tr_matmul_f64(psi.view(), psi.view())? / m as f64;
    let off = &gram - &Mat64::eye(gram.ncols());
    let certificate = Certificate {
        pairs,
        captured_trace: eigenvalues.iter().sum::<f64>() / trace,
        trace,
        orthonormality_error: off.iter().fold(0.0, |m, v| v.abs().max(m)),
        held_out_points: m,
        training_points: n,
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
pub(crate) fn certify_features(
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
pub(crate) fn held_out_gram_error(problem: &Problem, map: &dyn FeatureMap) -> Result<Option<f64>> {
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

fn values(eigenfunctions: &Evaluate<'_>, points: &[Batch]) -> Result<Mat64> {
    let parts: Vec<Mat64> =
        points.iter().map(|b| eigenfunctions(b.x.view())).collect::<Result<_>>()?;
    stack(&parts)
}

fn applied_at(applied: &dyn AppliedOperator, points: &[Batch]) -> Result<Mat64> {
    stack(&points.iter().map(|b| applied.at(b)).collect::<Result<Vec<_>>>()?)
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
    let mut deviations = Vec::with_capacity(groups);
    for g in 0..groups {
        let rows = member(g);
        let indices: Vec<usize> = rows.iter().map(|&r| problem.split.certificate[r]).collect();
        let applied = problem.operator.applied(
            &[problem.batch(&indices)?],
            psi.select(Axis(0), &rows_of_points(&rows, outputs)),
        )?;
        let mut deviation = applied.at(&all)?;
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
