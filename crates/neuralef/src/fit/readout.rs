//! Readouts: Rayleigh–Ritz on functions that networks offer, streamed, in double precision.
//!
//! Given basis functions h₁…h_p, C = E[hhᵀ] and Q = E[h (Th)ᵀ] under the training sample, the
//! eigenvectors of Q in the whitened, truncated basis are the best approximations of the
//! eigenfunctions within the span, orthonormal and ordered. Directions of C below a truncation are
//! dropped: they are rounding noise in one dimension and overfitting in many. The truncation is
//! the one with the smallest residual ‖T̂ψ − μψ‖/μ on held-out points.

use ndarray::{Array1, Axis, s};
use serde::{Deserialize, Serialize};

use super::spec::ReadoutKind;
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat64, MatRef};
use crate::nn::Network;
use crate::objective::Outputs;
use crate::operator::{BLOCK, Batch, Image, KernelOperator, Tick};

/// Truncations tried, relative to the largest eigenvalue of C: 10⁻¹ … 10⁻¹⁴.
const DECADES: std::ops::RangeInclusive<i32> = 1..=14;

/// Functions of x that a readout combines linearly.
pub(crate) struct Basis<'a> {
    pub network: &'a dyn Network,
    pub conditioner: &'a Standardizer,
    pub kind: ReadoutKind,
}

impl Basis<'_> {
    /// p, the number of functions.
    pub(crate) fn width(&self) -> usize {
        width(self.network, self.kind)
    }

    /// Their values at x, n × p.
    pub(crate) fn at(&self, x: MatRef<'_>) -> Result<Mat64> {
        let z = self.conditioner.apply(x)?;
        if self.kind != ReadoutKind::Galerkin {
            return Ok(self.network.forward(z.view(), None)?.mapv(f64::from));
        }
        let hidden = self.network.hidden(z.view())?;
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
    /// p, functions in the basis.
    pub basis: usize,
    /// Directions kept.
    pub rank: usize,
    /// The chosen truncation relative to the largest eigenvalue of C; none where nothing is truncated.
    pub truncation: Option<f64>,
    /// Every truncation tried, as (truncation, rank, rms relative residual on held-out points).
    pub candidates: Vec<(f64, usize, f64)>,
    /// Root mean square over the k pairs of r/√(1 + r²), r the relative held-out residual, missing
    /// pairs counting 1.
    pub residual: f64,
}

/// A readout: ψ(x) = Wᵀh(x) and the eigenvalues.
#[derive(Debug, Clone)]
pub(crate) struct Readout {
    /// W, p × k.
    pub weights: Mat64,
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
    fn points(&self) -> usize {
        self.train.iter().map(|b| b.indices.len()).sum()
    }
}

/// Training points of `width` columns that a readout of `p` functions can stream within `memory`
/// bytes: it holds two copies of the basis and of the points themselves, three p × p matrices and
/// the values at `held_out` points.
///
/// # Errors
/// [`Error::MemoryBudget`] when not even p points fit.
pub(crate) fn affordable_points(
    memory: u64,
    p: usize,
    width: usize,
    held_out: usize,
) -> Result<usize> {
    let (p, width, held_out) = (p as u64, width as u64, held_out as u64);
    let rows = held_out.saturating_mul(3).saturating_add(BLOCK as u64);
    let columns = p.saturating_mul(3).saturating_add(rows);
    let fixed = p.saturating_mul(columns).saturating_mul(8);
    let fixed = fixed.saturating_add(held_out.saturating_mul(width).saturating_mul(4));
    let point = p.max(1).saturating_mul(16).saturating_add(width.saturating_mul(8));
    let points = memory.saturating_sub(fixed) / point;
    if points >= p.max(2) {
        return Ok(usize::try_from(points).unwrap_or(usize::MAX));
    }
    Err(Error::MemoryBudget {
        what: format!("a readout of {p} basis functions"),
        needed_mib: fixed.saturating_add(p.saturating_mul(point)).div_ceil(1 << 20),
        budget_mib: memory >> 20,
    })
}

/// What a readout is to find.
pub(crate) struct Wanted {
    /// k.
    pub components: usize,
    /// What the networks' outputs are without a readout.
    pub outputs: Outputs,
}

/// Computes the readout of `kind` for the top k pairs.
///
/// Cost: O(n·p²) for C, O(n²·(d + r)) for the operator, O(r³) for each truncation tried, with n
/// training points, p functions and r directions kept; memory 2n·r + 3p² doubles.
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
    match basis.kind {
        ReadoutKind::None => raw(basis, sample, wanted, tick),
        _ => rayleigh_ritz(basis, sample, wanted.components, tick),
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
    let squares = covariance.diag().to_vec();
    if let Some(j) = squares.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        return Err(Error::Numerical {
            what: "normalisation of the network outputs".into(),
            message: format!("output {j} has mean square {} over the training set", squares[j]),
        });
    }
    let weights = match wanted.outputs {
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
            factor.solve_lower_transposed(Mat64::eye(p).view())?
        }
        Outputs::Functions | Outputs::Scaled => {
            Mat64::from_diag(&squares.iter().map(|v| v.sqrt().recip()).collect::<Array1<_>>())
        }
    };
    let values = project(basis, sample.train, &weights)?;
    let image = sample.operator.image(sample.train, values.clone())?;
    let found = match wanted.outputs {
        Outputs::Scaled => squares,
        _ => sample.operator.quadratic_form(sample.train, &values, tick)?.diag().to_vec(),
    };
    let held_out = HeldOut::new(basis, sample, &weights, &*image)?;
    let mut order: Vec<usize> = (0..p).collect();
    order.sort_by(|a, b| found[*b].total_cmp(&found[*a]));
    let eigenvalues: Vec<f64> = order.iter().map(|&j| found[j]).collect();
    let sorted = Mat64::eye(order.len()).select(Axis(1), &order);
    let residual = held_out.score(&sorted, &eigenvalues, k);
    let mut weights = weights.select(Axis(1), &order);
    orient(&mut weights, &values, &sorted);
    let record = ReadoutRecord {
        kind: basis.kind,
        points: n,
        basis: p,
        rank: p,
        truncation: None,
        candidates: Vec::new(),
        residual,
    };
    Ok(Readout { weights, eigenvalues, record })
}

fn rayleigh_ritz(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    k: usize,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let (n, p) = (sample.points(), basis.width());
    // The whitened basis, most significant direction first: a truncation keeps leading columns.
    let whitening = linalg::Whitening::new(covariance(basis, sample)?.view())?;
    let whiten = whitening.whitener(10f64.powi(-DECADES.end()))?;
    if whiten.ncols() == 0 {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!("the {p} basis functions vanish on the training set"),
        });
    }
    let values = project(basis, sample.train, &whiten)?;
    let galerkin = sample.operator.quadratic_form(sample.train, &values, tick)?;
    let image = sample.operator.image(sample.train, values.clone())?;
    let held_out = HeldOut::new(basis, sample, &whiten, &*image)?;
    drop(image);

    // Rounding of our own sums, and of the kernel values.
    let floor = n.max(p) as f64 * f64::EPSILON + sample.operator.unit_roundoff();
    let mut best: Option<(f64, Mat64, Vec<f64>, f64)> = None;
    let mut candidates: Vec<(f64, usize, f64)> = Vec::new();
    for truncation in DECADES.map(|d| 10f64.powi(-d)) {
        let r = whitening.rank(truncation).min(whiten.ncols());
        if r == 0 || candidates.last().is_some_and(|c| c.1 == r) {
            continue;
        }
        let block = galerkin.slice(s![..r, ..r]);
        let found = linalg::top_eigh(block, k.min(r))?;
        let (mut eigenvalues, vectors) = (found.values, found.vectors);
        // What is rounding beside the whole of Q: its largest eigenvalue may be negative.
        let size = block.iter().map(|v| v * v).sum::<f64>().sqrt();
        let usable = eigenvalues.iter().take_while(|m| **m > floor * size).count();
        if usable == 0 {
            continue;
        }
        eigenvalues.truncate(usable);
        let vectors = vectors.slice(s![.., ..usable]).to_owned();
        let score = held_out.score(&vectors, &eigenvalues, k);
        candidates.push((truncation, r, score));
        if best.as_ref().is_none_or(|b| score < b.3) {
            best = Some((truncation, vectors, eigenvalues, score));
        }
    }
    let Some((truncation, vectors, eigenvalues, residual)) = best else {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!(
                "the kernel has no positive eigenvalue on the {n} training points, as far as the \
                 {p} basis functions show"
            ),
        });
    };
    let r = vectors.nrows();
    let mut weights = linalg::matmul_f64(whiten.slice(s![.., ..r]), vectors.view())?;
    orient(&mut weights, &values, &vectors);
    let record = ReadoutRecord {
        kind: basis.kind,
        points: n,
        basis: p,
        rank: r,
        truncation: Some(truncation),
        candidates,
        residual,
    };
    Ok(Readout { weights, eigenvalues, record })
}

/// C = E[hhᵀ] over the training points.
fn covariance(basis: &Basis<'_>, sample: &Sample<'_>) -> Result<Mat64> {
    let p = basis.width();
    let mut sum = Mat64::zeros((p, p));
    for batch in sample.train {
        let h = basis.at(batch.x.view())?;
        sum += &linalg::tr_matmul_f64(h.view(), h.view())?;
    }
    Ok(sum / sample.points() as f64)
}

/// Values of the combinations `weights` (p × r) of the basis at `points`, n × r.
fn project(basis: &Basis<'_>, points: &[Batch], weights: &Mat64) -> Result<Mat64> {
    let n = points.iter().map(|b| b.indices.len()).sum();
    let mut out = Mat64::zeros((n, weights.ncols()));
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
        image: &dyn Image,
    ) -> Result<Self> {
        let values = project(basis, sample.selection, weights)?;
        let parts: Vec<Mat64> =
            sample.selection.iter().map(|b| image.at(b)).collect::<Result<_>>()?;
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        let images = ndarray::concatenate(Axis(0), &views)
            .map_err(|e| Error::shape("held-out images", "equal widths", e))?;
        Ok(HeldOut { values, images })
    }

    /// Root mean square over k pairs of r/√(1 + r²), r = ‖T̂ψ − μψ‖/μ, for ψ = basis·vectors: the
    /// sine of the angle between Tψ and μψ where the residual is orthogonal. Missing pairs count 1.
    fn score(&self, vectors: &Mat64, eigenvalues: &[f64], k: usize) -> f64 {
        let r = vectors.nrows();
        let psi = self.values.slice(s![.., ..r]).dot(vectors);
        let t_psi = self.images.slice(s![.., ..r]).dot(vectors);
        let residuals = relative_residuals(&psi, &t_psi, eigenvalues);
        let bounded: f64 = residuals.iter().map(|r| 1.0 - 1.0 / (1.0 + r * r)).sum();
        ((bounded + (k - eigenvalues.len()) as f64) / k as f64).sqrt()
    }
}

/// ‖Tψ_j − μ_jψ_j‖/μ_j, root mean square over points, for each column.
pub(crate) fn relative_residuals(psi: &Mat64, t_psi: &Mat64, eigenvalues: &[f64]) -> Vec<f64> {
    let n = psi.nrows().max(1) as f64;
    (0..eigenvalues.len())
        .map(|j| {
            let mu = eigenvalues[j];
            let columns = psi.column(j).into_iter().zip(t_psi.column(j));
            let square: f64 = columns.map(|(p, t)| (t - mu * p).powi(2)).sum();
            (square / n).sqrt() / mu.abs().max(f64::MIN_POSITIVE)
        })
        .collect()
}

/// Fixes the signs of the columns of `weights` by the rule Σψ³ ≥ 0 over the training points, whose
/// values are `values`·`vectors`.
fn orient(weights: &mut Mat64, values: &Mat64, vectors: &Mat64) {
    let psi = values.slice(s![.., ..vectors.nrows()]).dot(vectors);
    let signs = linalg::canonical_signs(psi.view());
    for (mut column, sign) in weights.axis_iter_mut(Axis(1)).zip(signs) {
        column *= sign;
    }
}
