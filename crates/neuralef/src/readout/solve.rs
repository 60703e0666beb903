//! The readout as a whole: from a basis to weights, signs and a record.

use ndarray::{Axis, s};

use super::basis::{Basis, TrialFunctions};
use super::form::{Eigenpairs, QuadraticForm};
use super::outputs::{OutputCombination, OutputLayout};
use super::record::ReadoutRecord;
use super::request::{ReadoutRequest, Sample};
use super::selection::{self, Candidate};
use crate::error::Result;
use crate::fit::ReadoutKind;
use crate::linalg;
use crate::matrix::Mat64;
use crate::objective::OutputKind;
use crate::operator::Tick;

/// A readout: ψ(x) = Wᵀh(x), or what `combination` says, and the eigenvalues.
#[derive(Debug, Clone)]
pub(crate) struct Readout {
    /// W, p × k, or p·C × k for products of scalar functions with outputs.
    pub weights: Mat64,
    /// How basis and weights make eigenfunctions.
    pub combination: OutputCombination,
    /// The k eigenvalues, or as many as are usable, in descending order.
    pub eigenvalues: Vec<f64>,
    /// How the readout came about.
    pub record: ReadoutRecord,
}

/// Computes the readout of the basis' kind for the top k pairs.
///
/// Cost: O(n·p²) for C, O(n²·(d + r)) for the operator, O(r³) for each truncation tried, with n
/// training points, p functions and r directions kept; memory 2n·r + 3p² doubles. Functions with C
/// outputs count as n·C points; for scalar functions and C outputs see [`form`](super::form).
///
/// # Errors
/// [`Error::Numerical`](crate::Error::Numerical) when no direction is usable, and what the
/// operator reports.
pub(crate) fn compute(
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    request: &ReadoutRequest,
    tick: &mut Tick<'_>,
) -> Result<Readout> {
    let k = request.components;
    let functions = basis.trial_functions(sample, request)?;
    let candidates = match basis.kind {
        ReadoutKind::None => vec![outputs_themselves(&functions, basis, sample, request, tick)?],
        _ => {
            let form = QuadraticForm::new(basis.layout, sample, &functions, tick)?;
            let (rows, p) = (functions.train.nrows(), functions.coefficients.nrows());
            // Of our own sums, and of the kernel values.
            let rounding = rows.max(p) as f64 * f64::EPSILON + sample.operator.unit_roundoff();
            selection::candidates(&functions.truncations, &form, rounding, k)?
        }
    };
    let (best, record) = selection::choose(candidates, &functions, basis, sample, k)?;
    let Candidate { rank, pairs: Eigenpairs { values, vectors, combination }, .. } = best;
    let leading = s![.., ..rank];
    let coefficients = functions.coefficients.slice(leading);
    let mut weights = combination.compose(coefficients, vectors.view())?;
    let psi = combination.values(functions.train.slice(leading), vectors.view())?;
    // The rule Σψ³ ≥ 0 over the training points.
    let signs = linalg::canonical_signs(psi.view());
    weights.axis_iter_mut(Axis(1)).zip(signs).for_each(|(mut column, sign)| column *= sign);
    if basis.rows() > 1 {
        // Means over rows (point, output) so far; E_x Σ_c ψ_c² = 1 from here on.
        weights /= (basis.rows() as f64).sqrt();
    }
    Ok(Readout { weights, combination, eigenvalues: values, record })
}

/// The outputs of the networks as eigenfunctions, scaled to E[ψ²] = 1, in the order of their
/// eigenvalues; with each direction of outputs where scalar networks stand for several. What an
/// objective knows of eigenvalues is about tr κ then, and not used.
fn outputs_themselves(
    functions: &TrialFunctions,
    basis: &Basis<'_>,
    sample: &Sample<'_>,
    request: &ReadoutRequest,
    tick: &mut Tick<'_>,
) -> Result<Candidate> {
    let k = request.components;
    let pairs = match (basis.layout, request.output_kind) {
        (OutputLayout::VectorValued, OutputKind::Scaled) => {
            Eigenpairs::of_units(&functions.mean_squares, k, OutputCombination::VectorValued)?
        }
        _ => QuadraticForm::new(basis.layout, sample, functions, tick)?.rayleigh_quotients(k)?,
    };
    Ok(Candidate { truncation: None, rank: functions.coefficients.ncols(), pairs })
}
