//! Readouts: Rayleigh–Ritz on functions that networks offer, streamed, in double precision.
//!
//! Given basis functions h₁…h_p, C = E[hhᵀ] and Q = E[h (Th)ᵀ] under the training sample, the
//! eigenvectors of Q in the whitened, truncated basis are the best approximations of the
//! eigenfunctions within the span, orthonormal and ordered. Directions of C below a truncation are
//! dropped: they are rounding noise in one dimension and overfitting in many. The truncation is
//! the one with the smallest residual ‖T̂ψ − μψ‖/μ on held-out points.

use ndarray::{Array1, Axis, s};
use serde::{Deserialize, Serialize};

use super::outputs::{Assembly, Layout};
use super::product;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::fit::ReadoutKind;
use crate::linalg::{self, Whitening};
use crate::matrix::{Mat64, MatRef};
use crate::nn::{Network, rows_of_outputs};
use crate::objective::Outputs;
use crate::operator::{AppliedOperator, Batch, KernelOperator, Tick};

/// Truncations tried, relative to the largest eigenvalue of C: 10⁻¹ … 10⁻¹⁴.
const DECADES: std::ops::RangeInclusive<i32> = 1..=14;

/// Functions of x that a readout combines linearly.
pub(crate) struct Basis<'a> {
    pub network: &'a dyn Network,
    pub input_scaler: &'a Standardizer,
    pub kind: ReadoutKind,
    pub layout: Layout,
}

impl Basis<'_> {
    /// p, the number of functions.
    pub(crate) fn width(&self) -> usize {
        width(self.network, self.kind)
    }

    /// Rows of values for each point: the outputs of the functions where they have their own.
    fn rows(&self) -> usize {
        if self.layout == Layout::Own { self.network.outputs() } else { 1 }
    }

    /// Their values at x, n × p, or n·C × p where they have outputs of their own.
    pub(crate) fn at(&self, x: MatRef<'_>) -> Result<Mat64> {
        let z = self.input_scaler.apply(x)?;
        if self.kind != ReadoutKind::Galerkin {
            let outputs = self.network.forward(z.view(), None)?;
            return Ok(rows_of_outputs(outputs, self.network.outputs())?.mapv(f64::from));
        }
        let mut hidden = self.network.hidden(z.view())?;
        if self.layout == Layout::Own {
            hidden = rows_of_outputs(hidden, self.network.outputs())?;
        }
        let p = hidden.ncols();
        let mut out = Mat64::ones((hidden.nrows(), p + 1));
        out.slice_mut(s![.., ..p]).zip_mut_with(&hidden, |o, h| *o = f64::from(*h));
        Ok(out)
    }
}

/// p for a network and a kind of readout: the hidden features and a constant, or the outputs.
pub(crate) fn width(network: &dyn Network, kind: ReadoutKind) -> usize {
    match kind {
        ReadoutKind::Galerkin => network.hidden_width() + 1,
        _ => network.functions(),
    }
}

/// What a readout found, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadoutRecord {
    /// Which kind.
    pub kind: ReadoutKind,
    /// Training points streamed.
    pub points: usize,
    /// p, functions in the basis; C times as many where scalar functions are taken with each of C
    /// outputs.
    pub basis: usize,
    /// Directions kept, of as many.
    pub rank: usize,
    /// The chosen truncation relative to the largest eigenvalue of C; none where nothing is truncated.
    pub truncation: Option<f64>,
    /// Every truncation tried, as (truncation, rank, rms relative residual on held-out points).
    pub candidates: Vec<(f64, usize, f64)>,
    /// Root mean square over the k pairs of r/√(1 + r²), r the relative held-out residual, missing
    /// pairs counting 1. For factorised eigenfunctions s(x)u of a kernel with several outputs r is
    /// that of the component along u.
    pub residual: f64,
}

/// A readout: ψ(x) = Wᵀh(x), or what `assembly` says, and the eigenvalues.
#[derive(Debug, Clone)]
pub(crate) struct Readout {
    /// W, p × k.
    pub weights: Mat64,
    pub assembly: Assembly,
    pub eigenvalues: Vec<f64>,
    pub record: ReadoutRecord,
}

/// The points and the operator that a readout works on.
pub(crate) struct Sample<'a> {
    pub operator: &'a dyn KernelOperator,
    pub train: &'a [Batch],
    /// Held-out points that choose the truncation.
    pub selection: &'a [Batch],
}

impl Sample<'_> {
    pub(super) fn points(&self) -> usize {
        self.train.iter().map(|b| b.indices.len()).sum()
    }
}

/// What a readout is to find.
pub(crate) struct Wanted {
    /// k.
    pub components: usize,
    /// What the networks' outputs are without a readout.
    pub outputs: Outputs,
    /// The most directions of a basis that memory allows.
    pub rank_limit: usize,
}

/// Computes the readout of `kind` for the top k pairs.
///
/// Cost: O(n·p²) for C, O(n²·(d + r)) for the operator, O(r³) for each truncation tried, with n
/// training points, p functions and r directions kept; memory 2n·r + 3p² doubles. Functions with C
/// outputs count as n·C points; scalar functions for C outputs see [`product`].
///
/// # Errors
/// [`Error::Numerical`] when no direction is usable, and what the
/// operator reports.
pub(crate) fn compute(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    wanted: &Wanted,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    if basis.layout != Layout::Own {
        return product::compute(basis, sample, wanted, tick);
    }
    let mut found = match basis.kind {
        ReadoutKind::None => raw(basis, sample, wanted, tick),
        _ => rayleigh_ritz(basis, sample, wanted.components, tick),
    }?;
    if basis.rows() > 1 {
        // Means over rows (point, output) so far; E_x Σ_c ψ_c² = 1 from here on.
        found.weights /= (basis.rows() as f64).sqrt();
    }
    Ok(found)
}

/// Weights that make the outputs themselves orthonormal, or each of unit norm, from their covariance.
pub(super) fn raw_weights(covariance: &Mat64, outputs: Outputs) -> Result<Mat64> {
    let squares = covariance.diag();
    if let Some(j) = squares.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        return Err(Error::Numerical {
            what: "normalisation of the network outputs".into(),
            message: format!("output {j} has mean square {} over the training set", squares[j]),
        });
    }
    match outputs {
        // ψ = L⁻¹u with LLᵀ = E[uuᵀ].
        Outputs::Span => {
            let factor = linalg::cholesky_jittered(covariance.view())?;
            if factor.jitter > 0.0 {
                return Err(Error::Numerical {
                    what: "orthogonalisation of the network outputs".into(),
                    message: "they are linearly dependent over the training set; readout = ritz \
                              or galerkin keeps those that are not"
                        .into(),
                });
            }
            factor.solve_lower_transposed(Mat64::eye(covariance.nrows()).view())
        }
        Outputs::Functions | Outputs::Scaled => {
            Ok(Mat64::from_diag(&squares.iter().map(|v| v.sqrt().recip()).collect::<Array1<_>>()))
        }
    }
}

/// The outputs themselves as eigenfunctions, scaled to E[ψ²] = 1, in the order of their eigenvalues.
fn raw(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    wanted: &Wanted,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let (n, p, k) = (sample.points(), basis.width(), wanted.components);
    let covariance = covariance(basis, sample)?;
    let weights = raw_weights(&covariance, wanted.outputs)?;
    let values = project(basis, sample.train, &weights)?;
    let image = sample.operator.applied(sample.train, values.clone())?;
    let found = match wanted.outputs {
        Outputs::Scaled => covariance.diag().to_vec(),
        _ => sample.operator.quadratic_form(sample.train, &values, tick)?.diag().to_vec(),
    };
    let held_out = HeldOut::new(basis, sample, &weights, &*image)?;
    let mut order: Vec<usize> = (0..p).collect();
    order.sort_by(|a, b| found[*b].total_cmp(&found[*a]));
    let eigenvalues: Vec<f64> = order.iter().map(|&j| found[j]).collect();
    let sorted = Mat64::eye(order.len()).select(Axis(1), &order);
    let residual = held_out.score(&sorted, &eigenvalues, k);
    let mut weights = weights.select(Axis(1), &order);
    orient(&mut weights, &values.dot(&sorted));
    let record = ReadoutRecord {
        kind: basis.kind,
        points: n,
        basis: p,
        rank: p,
        truncation: None,
        candidates: Vec::new(),
        residual,
    };
    Ok(Readout { weights, assembly: Assembly::Own, eigenvalues, record })
}

/// Eigenpairs of a quadratic form on the leading directions of a whitened basis.
pub(super) struct Solved {
    pub eigenvalues: Vec<f64>,
    /// In columns.
    pub vectors: Mat64,
    pub assembly: Assembly,
    /// The Frobenius norm of the form.
    pub size: f64,
}

/// What a truncation leaves.
pub(super) struct Candidate {
    truncation: f64,
    /// Leading directions of the whitened basis.
    pub rank: usize,
    pub eigenvalues: Vec<f64>,
    pub vectors: Mat64,
    pub assembly: Assembly,
}

impl Candidate {
    /// Pairs on all `rank` functions of a basis, nothing truncated.
    pub(super) fn whole(
        rank: usize,
        eigenvalues: Vec<f64>,
        vectors: Mat64,
        assembly: Assembly,
    ) -> Self {
        Candidate { truncation: 0.0, rank, eigenvalues, vectors, assembly }
    }
}

/// The eigenpairs for every truncation that keeps another number of directions, at most `most`, as
/// far as they are above `floor` beside the whole of the form.
pub(super) fn candidates(
    whitening: &Whitening,
    most: usize,
    floor: f64,
    solve: impl Fn(usize) -> Result<Solved>,
) -> Result<Vec<Candidate>> {
    let mut out: Vec<Candidate> = Vec::new();
    for truncation in DECADES.map(|d| 10f64.powi(-d)) {
        let rank = whitening.rank(truncation).min(most);
        if rank == 0 || out.last().is_some_and(|c| c.rank == rank) {
            continue;
        }
        let Solved { mut eigenvalues, vectors, assembly, size } = solve(rank)?;
        // What is rounding beside the whole of the form: its largest eigenvalue may be negative.
        let usable = eigenvalues.iter().take_while(|m| **m > floor * size).count();
        if usable == 0 {
            continue;
        }
        eigenvalues.truncate(usable);
        let vectors = vectors.slice(s![.., ..usable]).to_owned();
        let assembly = assembly.leading(usable);
        out.push(Candidate { truncation, rank, eigenvalues, vectors, assembly });
    }
    Ok(out)
}

/// The candidate with the smallest of `scores`, the first of equals, and the record of them all;
/// each direction counts `times`.
///
/// # Errors
/// [`Error::Numerical`] when there is none.
pub(super) fn choose(
    basis: &Basis<'_>,
    points: usize,
    candidates: Vec<Candidate>,
    scores: &[f64],
    times: usize,
) -> Result<(Candidate, ReadoutRecord)> {
    let tried = candidates.iter().zip(scores);
    let tried = tried.map(|(c, score)| (c.truncation, c.rank * times, *score)).collect();
    let best = (0..scores.len()).reduce(|a, b| if scores[b] < scores[a] { b } else { a });
    let Some((best, at)) = best.and_then(|at| Some((candidates.into_iter().nth(at)?, at))) else {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!(
                "the kernel has no positive eigenvalue on the {points} training points, as far as \
                 the {} basis functions show",
                basis.width()
            ),
        });
    };
    let record = ReadoutRecord {
        kind: basis.kind,
        points,
        basis: basis.width() * times,
        rank: best.rank * times,
        truncation: Some(best.truncation),
        candidates: tried,
        residual: scores[at],
    };
    Ok((best, record))
}

/// The whitened basis, most significant direction first: a truncation keeps leading columns.
pub(super) fn whitened(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    most: usize,
) -> Result<(Whitening, Mat64)> {
    let whitening = Whitening::new(covariance(basis, sample)?.view())?;
    let mut whiten = whitening.whitener(10f64.powi(-DECADES.end()))?;
    if whiten.ncols() == 0 {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!("the {} basis functions vanish on the training set", basis.width()),
        });
    }
    if whiten.ncols() > most {
        whiten = whiten.slice(s![.., ..most]).to_owned();
    }
    Ok((whitening, whiten))
}

/// Rounding of our own sums, and of the kernel values.
pub(super) fn rounding(basis: &Basis<'_>, sample: &Sample<'_>) -> f64 {
    let rows = sample.points() * basis.rows();
    rows.max(basis.width()) as f64 * f64::EPSILON + sample.operator.unit_roundoff()
}

fn rayleigh_ritz(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    k: usize,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let (whitening, whiten) = whitened(basis, sample, usize::MAX)?;
    let values = project(basis, sample.train, &whiten)?;
    let galerkin = sample.operator.quadratic_form(sample.train, &values, tick)?;
    let image = sample.operator.applied(sample.train, values.clone())?;
    let held_out = HeldOut::new(basis, sample, &whiten, &*image)?;
    drop(image);

    let candidates = candidates(&whitening, whiten.ncols(), rounding(basis, sample), |r| {
        let block = galerkin.slice(s![..r, ..r]);
        let found = linalg::top_eigh(block, k.min(r))?;
        let size = block.iter().map(|v| v * v).sum::<f64>().sqrt();
        let assembly = Assembly::Own;
        Ok(Solved { eigenvalues: found.values, vectors: found.vectors, assembly, size })
    })?;
    let scores: Vec<f64> =
        candidates.iter().map(|c| held_out.score(&c.vectors, &c.eigenvalues, k)).collect();
    let (best, record) = choose(basis, sample.points(), candidates, &scores, 1)?;
    let leading = s![.., ..best.rank];
    let mut weights = linalg::matmul_f64(whiten.slice(leading), best.vectors.view())?;
    orient(&mut weights, &values.slice(leading).dot(&best.vectors));
    Ok(Readout { weights, assembly: best.assembly, eigenvalues: best.eigenvalues, record })
}

/// C = E[hhᵀ] over the training points (and outputs, where functions have them).
pub(super) fn covariance(basis: &Basis<'_>, sample: &Sample<'_>) -> Result<Mat64> {
    let p = basis.width();
    let mut sum = Mat64::zeros((p, p));
    for batch in sample.train {
        let h = basis.at(batch.x.view())?;
        sum += &linalg::tr_matmul_f64(h.view(), h.view())?;
    }
    Ok(sum / (sample.points() * basis.rows()) as f64)
}

/// Values of the combinations `weights` (p × r) of the basis at `points`, n × r (n·C × r).
pub(super) fn project(basis: &Basis<'_>, points: &[Batch], weights: &Mat64) -> Result<Mat64> {
    let n: usize = points.iter().map(|b| b.indices.len()).sum();
    let mut out = Mat64::zeros((n * basis.rows(), weights.ncols()));
    let mut row = 0;
    for batch in points {
        let values = linalg::matmul_f64(basis.at(batch.x.view())?.view(), weights.view())?;
        out.slice_mut(s![row..row + values.nrows(), ..]).assign(&values);
        row += values.nrows();
    }
    Ok(out)
}

/// Values of the whitened basis and of its image under T̂ at the held-out selection points.
struct HeldOut {
    values: Mat64,
    images: Mat64,
}

impl HeldOut {
    fn new(
        basis: &Basis<'_>,
        sample: &Sample<'_>,
        weights: &Mat64,
        image: &dyn AppliedOperator,
    ) -> Result<Self> {
        let values = project(basis, sample.selection, weights)?;
        Ok(HeldOut { values, images: images(image, sample.selection)? })
    }

    fn score(&self, vectors: &Mat64, eigenvalues: &[f64], k: usize) -> f64 {
        let r = vectors.nrows();
        let psi = self.values.slice(s![.., ..r]).dot(vectors);
        let t_psi = self.images.slice(s![.., ..r]).dot(vectors);
        score(&relative_residuals(&psi, &t_psi, eigenvalues, psi.nrows()), k)
    }
}

/// An image at `points`, all of them.
pub(super) fn images(image: &dyn AppliedOperator, points: &[Batch]) -> Result<Mat64> {
    let parts: Vec<Mat64> = points.iter().map(|b| image.at(b)).collect::<Result<_>>()?;
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

/// ‖Tψ_j − μ_jψ_j‖/μ_j for each column; the squared norm is the sum of squares over `count`: the
/// number of points where E_x Σ_c ψ_c² = 1.
pub(crate) fn relative_residuals(
    psi: &Mat64,
    t_psi: &Mat64,
    eigenvalues: &[f64],
    count: usize,
) -> Vec<f64> {
    let n = count.max(1) as f64;
    (0..eigenvalues.len())
        .map(|j| {
            let mu = eigenvalues[j];
            let columns = psi.column(j).into_iter().zip(t_psi.column(j));
            let square: f64 = columns.map(|(p, t)| (t - mu * p).powi(2)).sum();
            (square / n).sqrt() / mu.abs().max(f64::MIN_POSITIVE)
        })
        .collect()
}

/// Fixes the signs of the columns of `weights` by the rule Σψ³ ≥ 0 over the rows of `psi`, the
/// eigenfunctions at the training points.
pub(super) fn orient(weights: &mut Mat64, psi: &Mat64) {
    let signs = linalg::canonical_signs(psi.view());
    for (mut column, sign) in weights.axis_iter_mut(Axis(1)).zip(signs) {
        column *= sign;
    }
}
