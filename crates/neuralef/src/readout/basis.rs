//! The basis of a readout: functions that networks offer, their covariance, and trial functions made
//! from them.

use ndarray::{Array1, s};

use super::outputs::OutputLayout;
use super::request::{ReadoutRequest, Sample, count};
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::fit::ReadoutKind;
use crate::linalg::{self, Whitening};
use crate::matrix::{Mat64, MatRef};
use crate::nn::{Network, rows_of_outputs};
use crate::objective::OutputKind;
use crate::operator::Batch;

/// Truncations tried, relative to the largest eigenvalue of C: 10⁻¹ … 10⁻¹⁴.
const DECADES: std::ops::RangeInclusive<i32> = 1..=14;

/// Functions of x that a readout combines linearly.
pub(crate) struct Basis<'a> {
    /// Whose hidden features, or outputs, they are.
    pub network: &'a dyn Network,
    /// Scales the inputs of the network.
    pub input_scaler: &'a Standardizer,
    /// Which of the two.
    pub kind: ReadoutKind,
    /// How they stand to the outputs of the kernel.
    pub layout: OutputLayout,
}

/// The functions that a Rayleigh–Ritz procedure solves in: combinations of a basis, the most
/// significant first, so that a truncation keeps leading ones.
pub(super) struct TrialFunctions {
    /// Their coefficients in the basis of p functions, p × r.
    pub coefficients: Mat64,
    /// Their values at the n training points, n × r, or n·C × r where functions have C outputs.
    pub train: Mat64,
    /// Their values at the held-out selection points, likewise.
    pub held_out: Mat64,
    /// E[h²] of each function of the basis.
    pub mean_squares: Vec<f64>,
    /// Truncations that differ, as (truncation, trial functions kept); none where all are kept.
    pub truncations: Vec<(f64, usize)>,
}

impl Basis<'_> {
    /// p, the number of functions.
    pub(crate) fn width(&self) -> usize {
        width(self.network, self.kind)
    }

    /// Rows of values for each point: C for functions with values in ℝ^C, else 1.
    pub(super) fn rows(&self) -> usize {
        if self.layout == OutputLayout::VectorValued { self.network.outputs() } else { 1 }
    }

    /// Their values at x, n × p, or n·C × p where they have values in ℝ^C.
    pub(crate) fn at(&self, x: MatRef<'_>) -> Result<Mat64> {
        let z = self.input_scaler.apply(x)?;
        if self.kind != ReadoutKind::Galerkin {
            let outputs = self.network.forward(z.view(), None)?;
            return Ok(rows_of_outputs(outputs, self.network.outputs())?.mapv(f64::from));
        }
        let mut hidden = self.network.hidden(z.view())?;
        if self.layout == OutputLayout::VectorValued {
            hidden = rows_of_outputs(hidden, self.network.outputs())?;
        }
        let p = hidden.ncols();
        let mut out = Mat64::ones((hidden.nrows(), p + 1));
        out.slice_mut(s![.., ..p]).zip_mut_with(&hidden, |o, h| *o = f64::from(*h));
        Ok(out)
    }

    /// The trial functions: the whitened basis, or the outputs of the networks, orthonormalised or
    /// scaled. O(n·p²).
    ///
    /// # Errors
    /// [`Error::Numerical`] when the basis vanishes or is degenerate, and what the network reports.
    pub(super) fn trial_functions(
        &self,
        sample: &Sample<'_>,
        request: &ReadoutRequest,
    ) -> Result<TrialFunctions> {
        let covariance = self.covariance(sample.train)?;
        let (coefficients, truncations) = match self.kind {
            ReadoutKind::None => (normalised(&covariance, request.output_kind)?, Vec::new()),
            _ => whitened(&covariance, request.rank_limit)?,
        };
        Ok(TrialFunctions {
            train: self.combined(sample.train, &coefficients)?,
            held_out: self.combined(sample.selection, &coefficients)?,
            coefficients,
            mean_squares: covariance.diag().to_vec(),
            truncations,
        })
    }

    /// C = E[hhᵀ] over `points` (and outputs, where functions have them).
    fn covariance(&self, points: &[Batch]) -> Result<Mat64> {
        let p = self.width();
        let mut sum = Mat64::zeros((p, p));
        for batch in points {
            let h = self.at(batch.x.view())?;
            sum += &linalg::tr_matmul_f64(h.view(), h.view())?;
        }
        Ok(sum / (count(points) * self.rows()) as f64)
    }

    /// Values of the combinations `coefficients` (p × r) at `points`, n × r (n·C × r).
    fn combined(&self, points: &[Batch], coefficients: &Mat64) -> Result<Mat64> {
        let mut out = Mat64::zeros((count(points) * self.rows(), coefficients.ncols()));
        let mut row = 0;
        for batch in points {
            let h = self.at(batch.x.view())?;
            let values = linalg::matmul_f64(h.view(), coefficients.view())?;
            out.slice_mut(s![row..row + values.nrows(), ..]).assign(&values);
            row += values.nrows();
        }
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

/// Coefficients of at most `limit` whitened functions, and the truncations that differ.
pub(super) fn whitened(covariance: &Mat64, limit: usize) -> Result<(Mat64, Vec<(f64, usize)>)> {
    let whitening = Whitening::new(covariance.view())?;
    let mut coefficients = whitening.whitener(10f64.powi(-DECADES.end()))?;
    if coefficients.ncols() == 0 {
        return Err(Error::Numerical {
            what: "readout".into(),
            message: format!(
                "the {} basis functions vanish on the training set",
                covariance.nrows()
            ),
        });
    }
    if coefficients.ncols() > limit {
        coefficients = coefficients.slice(s![.., ..limit]).to_owned();
    }
    let most = coefficients.ncols();
    let truncations = DECADES.map(|d| 10f64.powi(-d));
    let mut truncations: Vec<_> =
        truncations.map(|t| (t, whitening.rank(t).min(most))).filter(|t| t.1 > 0).collect();
    truncations.dedup_by_key(|t| t.1);
    Ok((coefficients, truncations))
}

/// Coefficients that make the outputs themselves orthonormal, or each of unit norm.
fn normalised(covariance: &Mat64, kind: OutputKind) -> Result<Mat64> {
    let squares = covariance.diag();
    if let Some(j) = squares.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        return Err(Error::Numerical {
            what: "normalisation of the network outputs".into(),
            message: format!("output {j} has mean square {} over the training set", squares[j]),
        });
    }
    match kind {
        // ψ = L⁻¹u with LLᵀ = E[uuᵀ].
        OutputKind::Span => {
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
        OutputKind::Functions | OutputKind::Scaled => {
            Ok(Mat64::from_diag(&squares.iter().map(|v| v.sqrt().recip()).collect::<Array1<_>>()))
        }
    }
}
