//! The tangent kernel itself, from Jacobians: for small sets, and as ground truth.

use ndarray::s;

use super::WeightLaw;
use super::ntk::{expect_inputs, factors};
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::memory::MemoryBudget;
use crate::nn::{Network, expect_frozen, jacobians, outputs_of};

/// Parameters that are multiplied in double precision at a time.
const WIDTH: usize = 2048;

/// The tangent kernel κ(x, x') = J(x)J(x')ᵀ of all pairs of rows of `x` (n × d) and `other` (m × d;
/// none for `x` itself): (n·C) × (m·C), rows and columns (point, output), for the C outputs of
/// `network`, in the order of its columns. Jacobians are in single precision, by one backward pass for each (point, output);
/// products are summed in double precision.
///
/// `parameterization` is as in [`Tangents`](super::Tangents). Functions that share no parameters have
/// zeros between them. O((n + m)·C) backward passes and O(n·m·C²·P) for P parameters; memory, which is
/// checked against `memory_budget` (in MiB), 4(n + m)·C·P bytes and the result.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the points do not fit the network,
/// [`Error::MemoryBudget`](crate::Error::MemoryBudget),
/// [`Error::InvalidParameter`](crate::Error::InvalidParameter) from the parameterisation,
/// [`Error::NonFinite`](crate::Error::NonFinite), and
/// [`Error::Unsupported`](crate::Error::Unsupported) for batch normalisation that is not
/// [frozen](crate::nn::BatchStatistics::freeze).
pub fn exact_ntk(
    network: &dyn Network,
    x: MatRef<'_>,
    other: Option<MatRef<'_>>,
    parameterization: Option<&WeightLaw>,
    memory_budget: u64,
) -> Result<Mat64> {
    let sides: Vec<MatRef<'_>> = [Some(x), other].into_iter().flatten().collect();
    for x in &sides {
        expect_inputs(network, "points of the tangent kernel", x.nrows(), x.ncols())?;
    }
    expect_frozen(network)?;
    let c = network.functions() * network.outputs();
    let (n, m) = (x.nrows(), other.map_or(x.nrows(), |y| y.nrows()));
    let budget = MemoryBudget::from_mib(memory_budget);
    expect_memory(network, sides.iter().map(|x| x.nrows()).sum(), n * c, m * c, budget)?;
    let factors = factors(network.parameters(), parameterization)?;
    let jacobians: Vec<Vec<Mat>> =
        sides.iter().map(|x| jacobians(network, *x)).collect::<Result<_>>()?;
    let (left, right) = (&jacobians[0], &jacobians[jacobians.len() - 1]);
    let mut out = Mat64::zeros((n * c, m * c));
    for unit in 0..network.parameters().units().len() {
        let outputs = outputs_of(network, unit);
        let gram = gram(left[unit].view(), right[unit].view(), &scales(network, unit, &factors))?;
        for ((a, b), value) in gram.indexed_iter() {
            let k = outputs.len();
            out[[a / k * c + outputs[a % k], b / k * c + outputs[b % k]]] = *value;
        }
    }
    Ok(out)
}

/// Fails unless the Jacobians of `points` and a result of `rows` × `columns` fit into the budget.
fn expect_memory(
    network: &dyn Network,
    points: usize,
    rows: usize,
    columns: usize,
    budget: MemoryBudget,
) -> Result<()> {
    let units = network.parameters().units();
    let sizes = (0..network.functions()).map(|f| units[network.unit(f)].len() as u64);
    let bytes = 4 * network.outputs() as u64 * points as u64;
    let jacobian = sizes.fold(0u64, u64::saturating_add).saturating_mul(bytes);
    let result = (rows as u64).saturating_mul(columns as u64).saturating_mul(8);
    let blocks = 8 * WIDTH as u64 * (rows as u64).saturating_add(columns as u64);
    let needed = jacobian.saturating_add(result).saturating_add(blocks);
    budget.expect(|| format!("the exact tangent kernel of {points} points"), needed)
}

/// Squares of the factors of a unit's parameters; empty for ones.
fn scales(network: &dyn Network, unit: usize, factors: &[Vec<f64>]) -> Vec<f64> {
    let Some(factors) = factors.get(unit) else { return Vec::new() };
    let parameters = network.parameters();
    let mut scales = vec![1.0; parameters.units()[unit].len()];
    for (tensor, factor) in parameters.layouts()[unit].iter().zip(factors) {
        scales[tensor.range()].fill(factor * factor);
    }
    scales
}

/// Σ over parameters of J_a·scale·J_b, for all rows of both sides.
fn gram(left: MatRef<'_>, right: MatRef<'_>, scales: &[f64]) -> Result<Mat64> {
    let mut out = Mat64::zeros((left.nrows(), right.nrows()));
    for from in (0..left.ncols()).step_by(WIDTH) {
        let columns = from..(from + WIDTH).min(left.ncols());
        let mut a = left.slice(s![.., columns.clone()]).mapv(f64::from);
        if let Some(scales) = scales.get(columns.clone()) {
            a *= &ndarray::aview1(scales);
        }
        let b = right.slice(s![.., columns]).mapv(f64::from);
        out += &linalg::matmul_f64(a.view(), b.t())?;
    }
    Ok(out)
}
