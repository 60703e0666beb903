//! A readout from second moments: the operator is met through landmarks, Tψ ≈ K̂ψ with K̂ = ΦΦᵀ.
//!
//! With A = Φᵀh/n (m × p) the quadratic form of K̂ on p basis functions is AᵀA: O(n·p·(m + p)) in one pass
//! over n points, where the form of κ takes O(n²(d + p)). What K̂ lacks is bounded by its remainder.

use ndarray::{Axis, s};

use super::basis::{Basis, whitened};
use super::form::{Eigenpairs, QuadraticForm};
use super::outputs::OutputCombination;
use super::record::ReadoutRecord;
use super::request::ReadoutRequest;
use super::selection::{self, candidates};
use super::solve::Readout;
use crate::error::{Error, Result};
use crate::linalg::{self, GramSum};
use crate::matrix::Mat64;
use crate::metrics::relative_residuals;

/// Sums over points: of hhᵀ, and of κ(L, x)h(x)ᵀ for the landmarks L.
#[derive(Debug, Clone)]
pub(crate) struct BasisMoments {
    second: Second,
    /// m × p.
    image: Mat64,
    points: usize,
}

/// What is kept of hhᵀ.
#[derive(Debug, Clone)]
enum Second {
    /// Its sum, p × p.
    Sum(GramSum),
    /// The values of h, n × p in blocks: for fewer points than functions, whose span is that of n points.
    Values(Vec<Mat64>),
}

impl BasisMoments {
    /// The empty sums for p functions, m landmarks and about so many points.
    pub(crate) fn new(functions: usize, landmarks: usize, points: usize) -> Self {
        let image = Mat64::zeros((landmarks, functions));
        let second = match points < functions {
            true => Second::Values(Vec::new()),
            false => Second::Sum(GramSum::new(functions)),
        };
        BasisMoments { second, image, points: 0 }
    }

    /// At most `limit` orthonormal combinations of the functions, the most significant first, and the
    /// truncations that differ.
    fn whitened(&self, limit: usize) -> Result<(Mat64, Vec<(f64, usize)>)> {
        let n = self.points.max(1);
        match &self.second {
            Second::Sum(sum) => whitened(&sum.mean(n)?, limit),
            Second::Values(blocks) => {
                let views: Vec<_> = blocks.iter().map(|b| b.view()).collect();
                let h = ndarray::concatenate(Axis(0), &views)
                    .map_err(|e| Error::shape("values of the basis", "equal widths", e))?;
                // HHᵀ/n = VΛVᵀ: Hᵀv/√(nλ) are eigenvectors of HᵀH/n, and 1/√λ whitens them.
                let gram = linalg::matmul_f64(h.view(), h.t())? / n as f64;
                let (mut vectors, truncations) = whitened(&gram, limit)?;
                for mut column in vectors.columns_mut() {
                    let length = column.dot(&column).sqrt();
                    column /= length;
                }
                let mut out = linalg::tr_matmul_f64(h.view(), vectors.view())?;
                for mut column in out.columns_mut() {
                    // From the length √(nλ) of Hᵀv to 1/√λ.
                    let square = column.dot(&column);
                    column *= (n as f64).sqrt() / square;
                }
                Ok((out, truncations))
            }
        }
    }

    /// Adds points by the values of the basis (n × p) and of the kernel at the landmarks (n × m) there.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(crate) fn add(&mut self, functions: &Mat64, kernel_values: &Mat64) -> Result<()> {
        match &mut self.second {
            Second::Sum(sum) => sum.add(functions.view())?,
            Second::Values(blocks) => blocks.push(functions.clone()),
        }
        self.image += &linalg::tr_matmul_f64(kernel_values.view(), functions.view())?;
        self.points += functions.nrows();
        Ok(())
    }

    /// E κ(L, x)h(x)ᵀ, m × p.
    pub(crate) fn mean_image(&self) -> Mat64 {
        &self.image / self.points.max(1) as f64
    }
}

/// What a readout through landmarks is made from.
pub(crate) struct ThroughLandmarks<'a> {
    /// Of the points of the fit.
    pub(crate) moments: &'a BasisMoments,
    /// A = Φᵀh/n, m × p.
    pub(crate) image: &'a Mat64,
    /// The basis, and Φ, at held-out points: h × p and h × m.
    pub(crate) held_out: (&'a Mat64, &'a Mat64),
    /// The basis at some points of the fit, which fix the signs.
    pub(crate) probes: &'a Mat64,
}

/// The readout of the basis' kind for the top k pairs: O(min(n, p)³ + m·p²), and O(r³) for each truncation tried.
///
/// # Errors
/// [`Error::Numerical`] when no direction is usable.
pub(crate) fn compute_through(
    basis: &Basis<'_>,
    ground: &ThroughLandmarks<'_>,
    request: &ReadoutRequest,
) -> Result<(Readout, Mat64)> {
    let k = request.components;
    let (p, n) = (basis.width(), ground.moments.points);
    let (mut coefficients, mut truncations) = ground.moments.whitened(request.rank_limit)?;
    // Neighbours that hardly differ cost as much as others.
    let whole = coefficients.ncols();
    truncations.dedup_by(|later, kept| 20 * (later.1 - kept.1) <= kept.1 && later.1 < whole);
    // Nor do few directions have k pairs to offer, where there are more.
    let most = truncations.iter().map(|t| t.1).max().unwrap_or(0);
    truncations.retain(|t| t.1 >= (2 * k).min(most));
    let most = truncations.iter().map(|t| t.1).max().unwrap_or(0);
    coefficients = coefficients.slice(s![.., ..most]).to_owned();
    let along = linalg::matmul_f64(ground.image.view(), coefficients.view())?;
    let mut form = GramSum::new(most);
    form.add(along.view())?;
    let form = QuadraticForm::Joint(form.mean(1)?, OutputCombination::VectorValued);
    let rounding = n.max(p) as f64 * f64::EPSILON;
    let found = candidates(&truncations, &form, rounding, k)?;
    let held_out = linalg::matmul_f64(ground.held_out.0.view(), coefficients.view())?;
    let wanted = selection::reachable(&found, k, 1);
    let mut scores = Vec::with_capacity(found.len());
    for candidate in &found {
        let (rank, pairs) = (candidate.rank, &candidate.pairs);
        let psi = linalg::matmul_f64(held_out.slice(s![.., ..rank]), pairs.vectors.view())?;
        let image = linalg::matmul_f64(along.slice(s![.., ..rank]), pairs.vectors.view())?;
        let t_psi = linalg::matmul_f64(ground.held_out.1.view(), image.view())?;
        let residuals = relative_residuals(&psi, &t_psi, &pairs.values, psi.nrows());
        scores.push(selection::score(&residuals, wanted));
    }
    let best = (0..scores.len()).reduce(|a, b| if scores[b] < scores[a] { b } else { a });
    let Some(best) = best else {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!(
                "the kernel has no positive eigenvalue on the {n} training points, as far as the {p} \
                 basis functions show"
            ),
        });
    };
    let record = ReadoutRecord {
        kind: basis.kind,
        points: n,
        basis: p,
        rank: found[best].rank,
        truncation: found[best].truncation,
        candidates: (found.iter().zip(&scores))
            .filter_map(|(c, score)| Some((c.truncation?, c.rank, *score)))
            .collect(),
        residual: scores[best],
    };
    let Eigenpairs { values, vectors, combination } =
        found.into_iter().nth(best).map(|c| c.pairs).ok_or_else(|| Error::Numerical {
            what: "readout".into(),
            message: "no candidate".into(),
        })?;
    let leading = coefficients.slice(s![.., ..record.rank]);
    let weights = linalg::matmul_f64(leading, vectors.view())?;
    let weights = with_signs(weights, ground.probes)?;
    Ok((Readout { weights, combination, eigenvalues: values, record }, leading.to_owned()))
}

/// The rule Σψ³ ≥ 0 over `probes`, the basis at some points.
fn with_signs(mut weights: Mat64, probes: &Mat64) -> Result<Mat64> {
    let psi = linalg::matmul_f64(probes.view(), weights.view())?;
    let signs = linalg::canonical_signs(psi.view());
    weights.axis_iter_mut(Axis(1)).zip(signs).for_each(|(mut column, sign)| column *= sign);
    Ok(weights)
}

/// Weights (p × k) and eigenvalues of the top k pairs within the span of `trial` (p × r), combinations of the
/// basis that a readout has settled on, over the points of `moments`, which may be more than its:
/// O(p·r·(r + m) + r³).
///
/// # Errors
/// [`Error::Numerical`] when they are dependent on these points.
pub(crate) fn solve_within(
    trial: &Mat64,
    moments: &BasisMoments,
    image: &Mat64,
    probes: &Mat64,
    k: usize,
) -> Result<(Mat64, Vec<f64>)> {
    let n = moments.points.max(1);
    let covariance = match &moments.second {
        Second::Sum(sum) => {
            let along = linalg::matmul_f64(sum.mean(n)?.view(), trial.view())?;
            linalg::tr_matmul_f64(trial.view(), along.view())?
        }
        Second::Values(blocks) => {
            let mut sum = GramSum::new(trial.ncols());
            for h in blocks {
                sum.add(linalg::matmul_f64(h.view(), trial.view())?.view())?;
            }
            sum.mean(n)?
        }
    };
    let factor = linalg::cholesky_jittered(covariance.view())?;
    let along = linalg::matmul_f64(image.view(), trial.view())?;
    // L⁻¹QL⁻ᵀ for Q = (AW)ᵀAW: the squares of AWL⁻ᵀ.
    let along = factor.solve_lower(along.t())?;
    let mut form = GramSum::new(trial.ncols());
    form.add(along.t())?;
    let top = linalg::top_eigh(form.mean(1)?.view(), k)?;
    let within = factor.solve_lower_transposed(top.vectors.view())?;
    let weights = linalg::matmul_f64(trial.view(), within.view())?;
    Ok((with_signs(weights, probes)?, top.values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;

    #[test]
    fn the_span_of_few_points_is_whitened_as_the_whole() {
        let (h, values) = (random(30, 50, 1), random(30, 4, 2));
        let mut few = BasisMoments::new(50, 4, 30);
        let mut many = BasisMoments::new(50, 4, 1000);
        for moments in [&mut few, &mut many] {
            for start in [0, 17] {
                let rows = s![start..if start == 0 { 17 } else { 30 }, ..];
                moments.add(&h.slice(rows).to_owned(), &values.slice(rows).to_owned()).unwrap();
            }
        }
        assert!(matches!(few.second, Second::Values(_)) && matches!(many.second, Second::Sum(_)));
        let ((few, cuts), (many, all)) = (few.whitened(99).unwrap(), many.whitened(99).unwrap());
        assert_eq!((few.dim(), &cuts), (many.dim(), &all));
        for whitener in [&few, &many] {
            let psi = h.dot(whitener);
            let gram = linalg::tr_matmul_f64(psi.view(), psi.view()).unwrap() / 30.0;
            let worst = (&gram - &Mat64::eye(30)).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            assert!(worst < 1e-9, "{worst:e}");
        }
        // The same directions in the same order, but for signs.
        for (a, b) in few.columns().into_iter().zip(many.columns()).take(10) {
            let cosine = a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt();
            assert!((cosine.abs() - 1.0).abs() < 1e-9, "{cosine}");
        }
    }
}
