//! Features of tangent kernels: derivatives of a network along random directions in its parameters.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use rand::Rng as _;
use rayon::prelude::*;
use serde_json::json;

use super::WeightLaw;
use super::digest;
use super::stream::{Sampled, Sampler, Sampling, share, stream};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, MatRef};
use crate::nn::{Network, Parameters, TensorLayout, expect_frozen, finite_jacobians, outputs_of};
use crate::observer::Observer;
use crate::rng;
use crate::spec::{Domain, Entry, Parameter, Registry};

/// Directions whose derivatives are put into the file together.
const GROUP: usize = 32;
/// Of these, directions that are drawn at the same time.
const AT_A_TIME: usize = 8;
/// Bytes for each parameter: its value and the direction, each with the engine's packed copy, and the
/// value kept while finite differences move it.
const PARAMETER: u64 = 20;

const RADEMACHER: Entry<Probes> = Entry {
    name: "rademacher",
    summary: "every entry −1 or 1, each half of the time",
    parameters: &[],
    build: |_| Ok(Probes::Rademacher),
};
const GAUSSIAN: Entry<Probes> = Entry {
    name: "gaussian",
    summary: "standard normal entries",
    parameters: &[],
    build: |_| Ok(Probes::Gaussian),
};

/// The laws of random directions.
pub static PROBES: Registry<Probes> =
    Registry { kind: "law of probes", entries: &[RADEMACHER, GAUSSIAN] };

const EXACT: Entry<Derivative> = Entry {
    name: "exact",
    summary: "by forward-mode differentiation",
    parameters: &[],
    build: |_| Ok(Derivative::Exact),
};
const REVERSE: Entry<Derivative> = Entry {
    name: "reverse",
    summary: "by one backward pass for each (point, output): much cheaper for many samples",
    parameters: &[],
    build: |_| Ok(Derivative::Reverse),
};
const FINITE_DIFFERENCE: Entry<Derivative> = Entry {
    name: "finite_difference",
    summary: "[g(x, θ + εv) − g(x, θ)]/ε, as Deng et al. 2022 have it",
    parameters: &[Parameter::new(
        "epsilon",
        Domain::POSITIVE,
        "auto",
        "ε; auto: 2^-11.5 of ‖θ‖/‖v‖",
    )
    .or(&["auto"])],
    build: |args| {
        let epsilon = match args.is("epsilon", "auto") {
            true => None,
            false => Some(args.number("epsilon")?),
        };
        Ok(Derivative::FiniteDifference { epsilon })
    },
};

/// The ways to take a derivative along a direction.
pub static DERIVATIVES: Registry<Derivative> =
    Registry { kind: "derivative", entries: &[EXACT, REVERSE, FINITE_DIFFERENCE] };

/// The law of the random directions v, with E vvᵀ = I.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Probes {
    /// Entries ±1. The variance of an estimate of κ(x, x') is below that of Gaussian directions by
    /// twice Σ J_i²J'_i² /S, which is little for many parameters; draws are much cheaper.
    #[default]
    Rademacher,
    /// Entries N(0, 1): φ is then a Gaussian process with covariance κ, exactly.
    Gaussian,
}

/// How Jv is computed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Derivative {
    /// By forward-mode differentiation.
    #[default]
    Exact,
    /// As products of the Jacobian, which takes one backward pass for each (point, output), with the
    /// directions: C backward passes and S·C·P multiplications for a point, against S forward passes.
    /// A convolution multiplies each weight with many pixels, so that this is far cheaper already for
    /// moderate S: for ResNet-20 a forward pass is 41 million multiplications and P is 270,000.
    Reverse,
    /// [g(x, θ + εv) − g(x, θ)]/ε. One forward pass in place of about two, at the price of two
    /// errors. Rounding: g is known to a few units u = 2⁻²⁴ of the numbers it is summed from, and the
    /// difference divides that by ε. Truncation: ε/2·vᵀHv. With r = ε‖v‖/‖θ‖ the relative change of
    /// the parameters, the first is about u/r and the second about r of Jv, and both are
    /// least at r = √u, up to a factor that depends on the network: a relative error of some
    /// 10⁻³ is what single precision allows a smooth network. Where the activation has a kink the step
    /// crosses it for some points, with a probability like r: the mean square error then goes like
    /// r, and near 1 % is left. The default is r = √(2u) = 3.5·10⁻⁴, so
    /// ε = 3.5·10⁻⁴·‖θ‖/√P for P parameters: for example 1.7·10⁻⁵ where weights are 0.05 in size.
    /// Far from that scale nothing is left: a fixed ε of 10⁻⁵ is right for such weights, and noise for
    /// weights of size 1.
    FiniteDifference {
        /// ε; none for the default.
        epsilon: Option<f64>,
    },
}

/// What tangent features are taken of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tangents {
    /// The law of v.
    pub probes: Probes,
    /// How derivatives are computed.
    pub derivative: Derivative,
    /// None for the derivatives by the parameters themselves. Otherwise each parameter is √(w/fan_in)
    /// (weights), √b (biases) or 1 (scales and shifts) times another one, and derivatives are by those:
    /// the parameterisation in which wide networks have the kernel `ntk(..)` (Jacot et al. 2018).
    pub parameterization: Option<WeightLaw>,
}

/// Streams features of the tangent kernel of `network`, κ(x, x') = J(x)J(x')ᵀ, to `path`: Φ is
/// (N·C) × S for a network with C outputs, and column i is Jv for the random direction number i
/// over all parameters. Batch normalisation uses its running statistics.
/// E φφᵀ = J(E vvᵀ)Jᵀ = JJᵀ (Deng et al. 2022, section 4.2).
///
/// The network is borrowed mutably because finite differences move its parameters; they are put back
/// before this returns, bit for bit. The rows of a point are the columns that the network gives: of a
/// network with several functions, those of the first function come first. Functions of separate
/// networks of an ensemble share no parameters, so their kernel is zero between them.
///
/// Costs S derivatives of the network over the data, and one draw of all directions for each block of
/// points that the memory budget makes. A run that was interrupted or killed continues with the same
/// arguments, and gives the same file.
///
/// # Errors
/// [`Error::Shape`] when the data do not fit the network, [`Error::MemoryBudget`],
/// [`Error::InvalidParameter`], [`Error::SamplingInterrupted`] when `observer` wants to stop, and the
/// errors of [`FeatureStore::open`](super::FeatureStore::open).
pub fn ntk(
    network: &mut dyn Network,
    data: &Dataset,
    tangents: &Tangents,
    sampling: &Sampling,
    path: impl AsRef<Path>,
    observer: &mut dyn Observer,
) -> Result<Sampled> {
    expect_inputs(network, data.name(), data.len(), data.width())?;
    let first = data.range(0..data.len().min(digest::POINTS))?;
    let checksum = digest::of_network(network, first.view())?;
    let mut probes = Directions::new(network, tangents, sampling)?;
    let what = json!({
        "features": "ntk",
        "network": describe(probes.network.parameters()),
        "values": checksum,
        "probes": tangents.probes.to_string(),
        "derivative": probes.text(),
        "parameterization": tangents.parameterization,
    });
    stream(&mut probes, data, sampling, path.as_ref(), what, observer)
}

pub(super) fn expect_inputs(network: &dyn Network, what: &str, n: usize, d: usize) -> Result<()> {
    if d == network.inputs() {
        return Ok(());
    }
    Err(Error::shape(what, format!("n × {}", network.inputs()), format!("{n} × {d}")))
}

/// Names and shapes of all tensors of a unit, and how many such units.
fn describe(parameters: &Parameters) -> String {
    let unit = parameters.layouts().first().map_or(&[][..], Vec::as_slice);
    let tensors: Vec<String> = unit.iter().map(|t| format!("{} {:?}", t.name, t.shape)).collect();
    format!("{} × ({})", parameters.units().len(), tensors.join(", "))
}

/// Factors of the tensors of all units; empty for the parameters themselves.
pub(super) fn factors(
    parameters: &Parameters,
    parameterization: Option<&WeightLaw>,
) -> Result<Vec<Vec<f64>>> {
    let Some(law) = parameterization else { return Ok(Vec::new()) };
    parameters.layouts().iter().map(|unit| law.deviations(unit)).collect()
}

/// The law of directions, with the tensors they are of and their factors.
struct Law {
    probes: Probes,
    layouts: Vec<Vec<TensorLayout>>,
    factors: Vec<Vec<f64>>,
    seed: u64,
}

struct Directions<'a> {
    network: &'a mut dyn Network,
    law: Law,
    direction: Parameters,
    difference: Option<Difference>,
    /// With [`Derivative::Reverse`], of each unit: the derivatives of its outputs at the points of
    /// the block, (point, output) × parameters, and rows of no meaning after them.
    jacobians: Option<Vec<Vec<f32>>>,
}

/// What finite differences need.
struct Difference {
    epsilon: f64,
    /// θ.
    parameters: Parameters,
    /// g(x, θ) at the points of the block.
    values: Mat,
}

impl Law {
    /// Draws direction number `sample`, over all units one after the other.
    fn draw(&self, sample: usize, direction: &mut [Vec<f32>]) {
        let mut rng = rng::stream(self.seed, "tangent", sample as u64);
        for unit in direction.iter_mut() {
            match self.probes {
                Probes::Rademacher => {
                    for chunk in unit.chunks_mut(32) {
                        let bits = rng.next_u32();
                        for (i, v) in chunk.iter_mut().enumerate() {
                            *v = if bits >> i & 1 == 1 { 1.0 } else { -1.0 };
                        }
                    }
                }
                Probes::Gaussian => rng::fill_normal(&mut rng, unit),
            }
        }
        for ((unit, layout), factors) in direction.iter_mut().zip(&self.layouts).zip(&self.factors)
        {
            for (tensor, factor) in layout.iter().zip(factors) {
                unit[tensor.range()].iter_mut().for_each(|v| *v *= *factor as f32);
            }
        }
    }
}

impl Drop for Directions<'_> {
    /// The network leaves as it came, whatever happened.
    fn drop(&mut self) {
        self.restore();
    }
}

impl<'a> Directions<'a> {
    fn new(network: &'a mut dyn Network, tangents: &Tangents, sampling: &Sampling) -> Result<Self> {
        let budget = share(sampling)?;
        let bytes = network.parameters().len() as u64 * PARAMETER;
        if bytes > budget {
            return Err(Error::MemoryBudget {
                what: "a quarter of the memory for sampling: the network and a direction".into(),
                needed_mib: bytes.saturating_mul(4).div_ceil(1 << 20),
                budget_mib: sampling.memory_budget,
            });
        }
        let factors = factors(network.parameters(), tangents.parameterization.as_ref())?;
        let direction = network.parameters().zeros_like();
        let difference = match tangents.derivative {
            Derivative::Exact | Derivative::Reverse => None,
            Derivative::FiniteDifference { epsilon } => {
                let parameters = network.parameters().clone();
                let epsilon = match epsilon {
                    None => default_epsilon(&parameters, &factors),
                    Some(epsilon) if epsilon.is_finite() && epsilon > 0.0 => epsilon,
                    Some(bad) => return Err(Error::parameter("epsilon", "a positive number", bad)),
                };
                Some(Difference { epsilon, parameters, values: Mat::zeros((0, 0)) })
            }
        };
        let layouts = network.parameters().layouts().to_vec();
        let law = Law { probes: tangents.probes, layouts, factors, seed: sampling.seed };
        let jacobians = match tangents.derivative {
            Derivative::Reverse => {
                expect_frozen(network)?;
                Some(Vec::new())
            }
            _ => None,
        };
        Ok(Directions { network, law, direction, difference, jacobians })
    }

    /// The derivative with its ε resolved.
    fn text(&self) -> String {
        match &self.difference {
            None if self.jacobians.is_some() => "reverse".into(),
            None => "exact".into(),
            Some(d) => format!("finite_difference(epsilon={:e})", d.epsilon),
        }
    }

    fn restore(&mut self) {
        if let Some(difference) = &self.difference {
            let units = self.network.parameters_mut().units_mut().iter_mut();
            units
                .zip(difference.parameters.units())
                .for_each(|(to, from)| to.copy_from_slice(from));
        }
    }

    /// The directions `samples`, as a matrix for each unit.
    fn directions(&self, samples: Range<usize>) -> Result<Vec<Mat>> {
        let sizes: Vec<usize> = self.network.parameters().units().iter().map(Vec::len).collect();
        let draw = |sample: usize| {
            let mut direction: Vec<Vec<f32>> = sizes.iter().map(|size| vec![0.0; *size]).collect();
            self.law.draw(sample, &mut direction);
            direction
        };
        let mut flat: Vec<Vec<f32>> =
            sizes.iter().map(|size| Vec::with_capacity(size * samples.len())).collect();
        for start in samples.clone().step_by(AT_A_TIME) {
            let some = start..(start + AT_A_TIME).min(samples.end);
            let drawn: Vec<Vec<Vec<f32>>> = some.into_par_iter().map(draw).collect();
            for direction in &drawn {
                flat.iter_mut().zip(direction).for_each(|(flat, unit)| flat.extend(unit));
            }
        }
        let matrices = flat.into_iter().zip(sizes);
        matrices
            .map(|(flat, size)| {
                Mat::from_shape_vec((samples.len(), size), flat)
                    .map_err(|e| Error::shape("directions", "S × P", e))
            })
            .collect()
    }

    /// The products of the block's Jacobians with the directions `samples`, into the columns of `out`.
    fn project(&self, samples: Range<usize>, out: &mut Mat) -> Result<()> {
        let (directions, c) = (self.directions(samples)?, self.outputs());
        for (unit, jacobian) in self.jacobians.iter().flatten().enumerate() {
            let outputs = outputs_of(&*self.network, unit);
            let rows = out.nrows() / c * outputs.len();
            let width = directions[unit].ncols();
            let shape = (jacobian.len() / width.max(1), width);
            let jacobian = MatRef::from_shape(shape, jacobian)
                .map_err(|e| Error::shape("Jacobian", format!("{shape:?}"), e))?;
            let values = linalg::matmul_long_f32(jacobian, directions[unit].view())?;
            for (row, values) in values.rows().into_iter().enumerate().take(rows) {
                let (point, o) = (row / outputs.len(), outputs[row % outputs.len()]);
                out.row_mut(point * c + o).assign(&values);
            }
        }
        Ok(())
    }

    fn derivative(&mut self, x: MatRef<'_>) -> Result<Mat> {
        let Some(difference) = &self.difference else {
            return self.network.jvp(x, &self.direction);
        };
        let moved = self.network.parameters_mut().units_mut().iter_mut();
        let from = difference.parameters.units().iter().zip(self.direction.units());
        for (unit, (theta, v)) in moved.zip(from) {
            for ((to, theta), v) in unit.iter_mut().zip(theta).zip(v) {
                *to = (f64::from(*theta) + difference.epsilon * f64::from(*v)) as f32;
            }
        }
        let mut values = self.network.forward(x, None)?;
        let rate = |to: &mut f32, base: &f32| {
            *to = (f64::from(*to - *base) / difference.epsilon) as f32;
        };
        values.zip_mut_with(&difference.values, rate);
        Ok(values)
    }
}

/// √(2u)·‖θ‖/‖v‖, and √(2u) for parameters that are all zero.
pub(super) fn default_epsilon(parameters: &Parameters, factors: &[Vec<f64>]) -> f64 {
    let squares: f64 = parameters.units().iter().flatten().map(|v| f64::from(*v).powi(2)).sum();
    let units = parameters.layouts().iter().enumerate();
    let size: f64 = units
        .flat_map(|(u, layout)| layout.iter().enumerate().map(move |(t, tensor)| (u, t, tensor)))
        .map(|(u, t, tensor)| {
            let factor = factors.get(u).map_or(1.0, |f| f[t]);
            factor * factor * tensor.size() as f64
        })
        .sum();
    let ratio = if squares > 0.0 && size > 0.0 { (squares / size).sqrt() } else { 1.0 };
    f64::from(f32::EPSILON).sqrt() * ratio
}

impl Sampler for Directions<'_> {
    fn outputs(&self) -> usize {
        self.network.functions() * self.network.outputs()
    }

    fn group(&self) -> usize {
        GROUP
    }

    fn bytes(&self) -> u64 {
        // In reverse mode a group's directions are a matrix, and rows of Jacobians fill whole groups.
        let rows = GROUP + AT_A_TIME + linalg::ROWS;
        let matrix = if self.jacobians.is_some() { 4 * rows as u64 } else { 0 };
        self.network.parameters().len() as u64 * (PARAMETER + matrix)
    }

    fn point_bytes(&self) -> u64 {
        let units = self.network.parameters().units();
        let sizes = (0..self.network.functions()).map(|f| units[self.network.unit(f)].len() as u64);
        match self.jacobians {
            // As they come and as matrices, and their products with a group's directions.
            Some(_) => {
                let products = 4 * GROUP as u64 * self.outputs() as u64;
                8 * self.network.outputs() as u64 * sizes.sum::<u64>() + products
            }
            // One derivative, and g(x, θ).
            None => 8 * self.outputs() as u64,
        }
    }

    fn begin(&mut self, x: MatRef<'_>) -> Result<()> {
        self.restore();
        if self.jacobians.is_some() {
            let jacobians = self.jacobians.get_or_insert_default();
            finite_jacobians(&*self.network, x, jacobians)?;
            // Rows that a product takes together: whole groups of them are not copied.
            for (jacobian, unit) in jacobians.iter_mut().zip(self.network.parameters().units()) {
                let rows = jacobian.len().checked_div(unit.len()).unwrap_or(0);
                jacobian.resize(rows.next_multiple_of(linalg::ROWS) * unit.len(), 0.0);
            }
        }
        let Some(difference) = &mut self.difference else { return Ok(()) };
        difference.values = self.network.forward(x, None)?;
        Ok(())
    }

    fn draw(&mut self, x: MatRef<'_>, samples: Range<usize>) -> Result<Mat> {
        let mut out = Mat::zeros((x.nrows() * self.outputs(), samples.len()));
        if self.jacobians.is_some() {
            self.project(samples, &mut out)?;
            return Ok(out);
        }
        for (column, sample) in samples.enumerate() {
            self.law.draw(sample, self.direction.units_mut());
            let values = self.derivative(x)?;
            // (point, output) by rows, as Φ has it.
            out.column_mut(column).iter_mut().zip(&values).for_each(|(to, v)| *to = *v);
        }
        Ok(out)
    }
}

impl FromStr for Probes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        PROBES.build_text(text)
    }
}

impl fmt::Display for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Probes::Rademacher => RADEMACHER.text(&[]),
            Probes::Gaussian => GAUSSIAN.text(&[]),
        })
    }
}

impl FromStr for Derivative {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        DERIVATIVES.build_text(text)
    }
}

impl fmt::Display for Derivative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Derivative::Exact => EXACT.text(&[]),
            Derivative::Reverse => REVERSE.text(&[]),
            Derivative::FiniteDifference { epsilon } => {
                let epsilon = epsilon.map_or_else(|| "auto".into(), |e| format!("{e:e}"));
                FINITE_DIFFERENCE.text(&[("epsilon", &epsilon)])
            }
        })
    }
}
