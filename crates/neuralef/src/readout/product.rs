//! Readouts for C outputs from scalar functions: Rayleigh–Ritz in span{h_p} ⊗ ℝ^C.
//!
//! The products h_p(x)e_c would be an n·C × p·C matrix, C − 1 of C entries zero. With
//! E h_ph_q = δ_pq after whitening they are orthonormal, so that only the quadratic form Q of the
//! operator is needed, which [`MatrixValued::product_form`] finds from n × r values. A truncation
//! keeps leading functions with all outputs.
//!
//! - *joint*: eigenvectors of all of Q, rC × rC. Where Q would take more than half of the memory
//!   budget, only as many leading directions of the whitened basis take part as fit: those of the
//!   largest variance, which truncations keep anyway.
//! - *factorized*: with an orthonormal basis u_c of ℝ^C, the eigenvectors of E κ(x, x), Q's diagonal
//!   blocks in that basis alone, Q_c = E w(x)(u_cᵀκ(x, x')u_c)w(x')ᵀ: C problems of size r × r, whose
//!   pairs are merged in descending order.
//!
//! The residual that chooses a truncation, and says when training is enough, is that of the operator
//! of the form: for s(x)u_c the component of T̂(su_c) along u_c. Its other components are the error of
//! the form, which neither truncation nor training changes; certificates hold all of it.
//!
//! A factorised fit trains one set of scalar networks, on tr κ = Σ_c κ_c, whose last hidden layers
//! serve all directions. C fits of the κ_c would cost C times as much; for κ = k·B they would learn
//! the same functions.

use std::borrow::Cow;

use ndarray::{Axis, s};

use super::outputs::{Assembly, Layout};
use super::rayleigh_ritz::{
    Basis, Candidate, Readout, ReadoutRecord, Sample, Solved, Wanted, candidates, choose,
    covariance, images, orient, project, raw_weights, relative_residuals, rounding, score,
    whitened,
};
use crate::error::{Error, Result};
use crate::fit::ReadoutKind;
use crate::linalg;
use crate::matrix::Mat64;
use crate::operator::{MatrixValued, Tick};

/// Bytes of values of eigenfunctions that an image is asked for at a time, about.
pub(super) const GROUP: u64 = 32 << 20;

/// The quadratic form of the operator on a whitened basis of r functions.
enum Form {
    /// rC × rC, the output varying fastest.
    Whole(Mat64),
    /// The directions u_c in columns, and r × r for each.
    Diagonal(Mat64, Vec<Mat64>),
}

/// See the [module](self). Cost of features Φ (n·C × S): O(n·C·S·r) for Q and in the joint form
/// O(S·(rC)²) for its products; a truncation tried costs O((rC)²·k), or O(C·r²·k) factorised, and
/// O(n·C·S·k) for its residual.
///
/// # Errors
/// As [`readout::compute`](super::readout::compute).
pub(super) fn compute(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    wanted: &Wanted,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let Some(operator) = sample.operator.matrix_valued() else {
        return Err(Error::Unsupported {
            what: "a readout for several outputs".into(),
            reason: "the kernel operator has one output".into(),
        });
    };
    if basis.kind == ReadoutKind::None {
        return raw(basis, sample, operator, wanted, tick);
    }
    let (k, c) = (wanted.components, operator.outputs());
    let (whitening, whiten) = whitened(basis, sample, wanted.rank_limit)?;
    let values = project(basis, sample.train, &whiten)?;
    let form = match basis.layout {
        Layout::Factorized => diagonal(operator, sample, &values, tick)?,
        _ => Form::Whole(operator.product_form(sample.train, &values, tick)?),
    };
    let most = whiten.ncols();
    let found = candidates(&whitening, most, rounding(basis, sample), |r| form.top(r, c, k))?;
    drop(form);
    let held_out = project(basis, sample.selection, &whiten)?;
    let scores = scores(operator, sample, (&values, &held_out), &found, k)?;
    let (best, record) = choose(basis, sample.points(), found, &scores, c)?;
    let Candidate { rank, vectors, assembly, eigenvalues, .. } = best;
    let mut weights = assembly.compose(whiten.slice(s![.., ..rank]), vectors.view())?;
    orient(&mut weights, &assembly.values(values.slice(s![.., ..rank]), vectors.view())?);
    Ok(Readout { weights, assembly, eigenvalues, record })
}

impl Form {
    /// The top k pairs on the leading r functions, with `c` outputs each.
    fn top(&self, r: usize, c: usize, k: usize) -> Result<Solved> {
        let square =
            |block: &ndarray::ArrayView2<'_, f64>| block.iter().map(|v| v * v).sum::<f64>();
        match self {
            Form::Whole(form) => {
                let block = form.slice(s![..r * c, ..r * c]);
                let found = linalg::top_eigh(block, k.min(r * c))?;
                let (eigenvalues, vectors) = (found.values, found.vectors);
                let (assembly, size) = (Assembly::Product(c), square(&block).sqrt());
                Ok(Solved { eigenvalues, vectors, assembly, size })
            }
            Form::Diagonal(directions, forms) => {
                let (mut pairs, mut size) = (Vec::new(), 0.0);
                for (output, form) in forms.iter().enumerate() {
                    let block = form.slice(s![..r, ..r]);
                    let found = linalg::top_eigh(block, k.min(r))?;
                    size += square(&block);
                    let vectors = found.vectors.axis_iter(Axis(1)).map(|v| v.to_owned());
                    pairs
                        .extend(found.values.into_iter().zip(vectors).map(|(m, v)| (m, v, output)));
                }
                let merged = Merged::new(pairs, directions, k)?;
                let assembly = Assembly::Factorized(merged.directions);
                let (eigenvalues, vectors) = (merged.eigenvalues, merged.vectors);
                Ok(Solved { eigenvalues, vectors, assembly, size: size.sqrt() })
            }
        }
    }
}

/// The k pairs with the largest eigenvalues of all directions, in descending order.
struct Merged {
    eigenvalues: Vec<f64>,
    /// In columns.
    vectors: Mat64,
    /// C × k: the direction of each.
    directions: Mat64,
}

impl Merged {
    /// From (eigenvalue, vector, number of the direction); ties go by the number.
    fn new(
        mut pairs: Vec<(f64, ndarray::Array1<f64>, usize)>,
        directions: &Mat64,
        k: usize,
    ) -> Result<Self> {
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        pairs.truncate(k);
        let views: Vec<_> = pairs.iter().map(|p| p.1.view()).collect();
        let vectors = ndarray::stack(Axis(1), &views)
            .map_err(|e| Error::shape("merged eigenvectors", "equal lengths", e))?;
        let numbers: Vec<usize> = pairs.iter().map(|p| p.2).collect();
        Ok(Merged {
            eigenvalues: pairs.iter().map(|p| p.0).collect(),
            vectors,
            directions: directions.select(Axis(1), &numbers),
        })
    }
}

/// The diagonal blocks in the basis of the outputs in which E κ(x, x) is diagonal.
fn diagonal(
    operator: &dyn MatrixValued,
    sample: &Sample<'_>,
    values: &Mat64,
    tick: &mut Tick<'_>,
) -> Result<Form> {
    let (_, mut directions) = linalg::eigh(operator.covariance(sample.train)?.view())?;
    let signs = linalg::canonical_signs(directions.view());
    directions.axis_iter_mut(Axis(1)).zip(signs).for_each(|(mut u, sign)| u *= sign);
    let forms = operator.forms_along(sample.train, values, directions.view(), tick)?;
    Ok(Form::Diagonal(directions, forms))
}

/// The outputs of scalar networks themselves, each with each direction: the k largest Rayleigh
/// quotients. What an objective knows of eigenvalues is about tr κ and not used.
fn raw(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    operator: &dyn MatrixValued,
    wanted: &Wanted,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let (k, p, c) = (wanted.components, basis.width(), operator.outputs());
    let weights = raw_weights(&covariance(basis, sample)?, wanted.outputs)?;
    let values = project(basis, sample.train, &weights)?;
    let Form::Diagonal(directions, forms) = diagonal(operator, sample, &values, tick)? else {
        return Err(Error::shape("quadratic form", "a block for each direction", "one block"));
    };
    let unit = Mat64::eye(p);
    let pairs = forms.iter().enumerate().flat_map(|(output, form)| {
        let unit = &unit;
        form.diag()
            .to_vec()
            .into_iter()
            .enumerate()
            .map(move |(j, mu)| (mu, unit.column(j).to_owned(), output))
    });
    let Merged { eigenvalues, vectors, directions } = Merged::new(pairs.collect(), &directions, k)?;
    let assembly = Assembly::Factorized(directions);
    let held_out = project(basis, sample.selection, &weights)?;
    let found = [Candidate::whole(p, eigenvalues, vectors, assembly)];
    let residual = scores(operator, sample, (&values, &held_out), &found, k)?[0];
    let [Candidate { eigenvalues, vectors, assembly, .. }] = found;
    let mut weights = assembly.compose(weights.view(), vectors.view())?;
    orient(&mut weights, &assembly.values(values.view(), vectors.view())?);
    let record = ReadoutRecord {
        kind: basis.kind,
        points: sample.points(),
        basis: p * c,
        rank: p * c,
        truncation: None,
        candidates: Vec::new(),
        residual,
    };
    Ok(Readout { weights, assembly, eigenvalues, record })
}

/// The scores of candidates on the held-out selection points; `values` are the functions at training
/// and held-out points.
fn scores(
    operator: &dyn MatrixValued,
    sample: &Sample<'_>,
    values: (&Mat64, &Mat64),
    found: &[Candidate],
    k: usize,
) -> Result<Vec<f64>> {
    let rows = (sample.points() * operator.outputs()) as u64;
    let most = usize::try_from(GROUP / (8 * rows).max(1)).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(found.len());
    // Several candidates in one pass over the kernel, as far as memory goes.
    for group in found.chunks((most / k.max(1)).max(1)) {
        let psi = |c: &Candidate, values: &Mat64| {
            c.assembly.values(values.slice(s![.., ..c.rank]), c.vectors.view())
        };
        let parts: Vec<Mat64> = group.iter().map(|c| psi(c, values.0)).collect::<Result<_>>()?;
        let image = operator.applied(sample.train, side_by_side(&parts)?.into_owned())?;
        drop(parts);
        let t_psi = images(&*image, sample.selection)?;
        let mut column = 0;
        for candidate in group {
            let next = column + candidate.eigenvalues.len();
            let own = candidate.assembly.along(t_psi.slice(s![.., column..next]).to_owned());
            let held_out = candidate.assembly.along(psi(candidate, values.1)?);
            let points = values.1.nrows();
            let residuals = relative_residuals(&held_out, &own, &candidate.eigenvalues, points);
            out.push(score(&residuals, k));
            column = next;
        }
    }
    Ok(out)
}

fn side_by_side(parts: &[Mat64]) -> Result<Cow<'_, Mat64>> {
    if let [only] = parts {
        return Ok(Cow::Borrowed(only));
    }
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(1), &views)
        .map(Cow::Owned)
        .map_err(|e| Error::shape("candidates of the readout", "equal heights", e))
}
