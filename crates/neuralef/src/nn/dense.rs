//! The dense network engine: ensembles of multilayer perceptrons, and trunks with several heads.
//!
//! A network is `units` perceptrons of one shape, each with `heads` outputs. The work is cut into
//! tasks: one for each unit and *segment* of the batch, in a way that depends on shapes alone. A
//! task goes through its rows in blocks that stay in cache, layer by layer. Gradients of segments
//! are added in order, so no bit depends on the number of threads.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::activation::Activation;
use super::init::{Init, Place};
use super::parameters::{Parameters, Role, TensorLayout};
use super::product::{Panels, lanes, stride};
use super::rows::segments;
use crate::error::{Error, Result};

mod backward;
mod directions;
mod forward;
mod input;
mod moments;
mod network;
mod tangent;

/// Rows that go through all layers together. A multiple of the register tile; 96 rows of a layer 64
/// wide are 24 KiB.
pub(super) const BLOCK: usize = 96;
/// Most parameters a network may have: 4 GiB of them.
pub(super) const MAX_PARAMETERS: u64 = 1 << 30;

/// The sizes and the activation of a dense network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// d, the width of x.
    pub(super) inputs: usize,
    /// Number of separate perceptrons.
    pub(super) units: usize,
    /// Heads of each: C for each of its functions.
    pub(super) heads: usize,
    /// C, the outputs of a function.
    pub(super) outputs: usize,
    /// Widths of the hidden layers.
    pub(super) hidden: Vec<usize>,
    /// Of the hidden layers.
    pub(super) activation: Activation,
}

impl Shape {
    /// (inner, outer) of every layer.
    fn layers(&self) -> Vec<(usize, usize)> {
        let inner = std::iter::once(self.inputs).chain(self.hidden.iter().copied());
        let outer = self.hidden.iter().copied().chain(std::iter::once(self.heads));
        inner.zip(outer).collect()
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("inputs", self.inputs),
            ("outputs", self.outputs),
            ("functions", self.units),
            ("functions", self.heads),
        ] {
            if value == 0 {
                return Err(Error::parameter(name, "at least 1", value));
            }
        }
        if !self.heads.is_multiple_of(self.outputs) {
            let expected = format!("a multiple of {} outputs", self.outputs);
            return Err(Error::parameter("heads", expected, self.heads));
        }
        for width in &self.hidden {
            if *width == 0 {
                return Err(Error::parameter("hidden", "widths of at least 1", width));
            }
            self.activation.check_width(*width)?;
        }
        let size = |(inner, outer): (usize, usize)| {
            (inner as u64).checked_add(1)?.checked_mul(outer as u64)
        };
        let total = self
            .layers()
            .into_iter()
            .try_fold(0u64, |sum, layer| sum.checked_add(size(layer)?))
            .and_then(|unit| unit.checked_mul(self.units as u64));
        match total {
            Some(total) if total <= MAX_PARAMETERS => Ok(()),
            _ => Err(Error::parameter(
                "hidden",
                format!("at most {MAX_PARAMETERS} parameters in all"),
                format!("{:?} for {} inputs, {} networks", self.hidden, self.inputs, self.units),
            )),
        }
    }
}

/// One layer's parameters, where they lie in a unit.
struct Tensors<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    inner: usize,
    outer: usize,
}

/// A dense network with its weights. See [`Network`](super::Network).
#[derive(Debug)]
pub(super) struct Dense {
    shape: Shape,
    /// (inner, outer) of every layer.
    layers: Vec<(usize, usize)>,
    parameters: Parameters,
    arch: Arch,
    lanes: usize,
    /// The seed of first layers that are drawn anew by the data.
    directions: Option<u64>,
}

impl Dense {
    pub(super) fn new(shape: Shape, init: Init, seed: u64) -> Result<Self> {
        shape.check()?;
        let layers = shape.layers();
        let mut layout = Vec::new();
        let mut offset = 0;
        for (l, (inner, outer)) in layers.iter().copied().enumerate() {
            let weight = ("weight", vec![inner, outer], Role::Weight { fan_in: inner });
            for (part, shape, role) in [weight, ("bias", vec![outer], Role::Bias)] {
                let size = shape.iter().product::<usize>();
                let name = format!("layers.{l}.{part}");
                layout.push(TensorLayout { name, shape, offset, role, flat: false });
                offset += size;
            }
        }
        let mut parameters = Parameters::zeros(vec![layout; shape.units]);
        for (number, unit) in parameters.units_mut().iter_mut().enumerate() {
            let mut rng = crate::rng::stream(seed, "init", number as u64);
            let mut rest = unit.as_mut_slice();
            for (l, (inner, outer)) in layers.iter().copied().enumerate() {
                let (weight, after) = rest.split_at_mut(inner * outer);
                let (bias, after) = after.split_at_mut(outer);
                if l + 1 < layers.len() {
                    let place = Place { first: l == 0, unit: (number, shape.units) };
                    init.hidden(shape.activation, place, weight, bias, &mut rng)?;
                } else {
                    Init::output(weight, bias, &mut rng);
                }
                rest = after;
            }
        }
        let arch = Arch::new();
        let directions = (init == Init::Data && layers.len() > 1).then_some(seed);
        Ok(Dense { shape, layers, parameters, arch, lanes: lanes(arch), directions })
    }

    /// The same network on the path for machines without vector instructions.
    #[cfg(test)]
    pub(super) fn portable(self) -> Self {
        Dense { arch: Arch::Scalar, lanes: lanes(Arch::Scalar), ..self }
    }

    fn stride(&self, columns: usize) -> usize {
        stride(columns, self.lanes)
    }

    /// kC, the width of the output.
    fn columns(&self) -> usize {
        self.shape.units * self.shape.heads
    }

    /// The widest row any layer needs.
    fn widest(&self) -> usize {
        self.layers.iter().map(|(_, outer)| self.stride(*outer)).max().unwrap_or(1)
    }

    fn segments(&self, rows: usize) -> Vec<Range<usize>> {
        segments(rows, self.shape.units, BLOCK)
    }

    /// The layers of a unit's flat vector.
    fn tensors<'a>(&'a self, unit: &'a [f32]) -> impl Iterator<Item = Tensors<'a>> {
        let mut rest = unit;
        self.layers.iter().map(move |(inner, outer)| {
            let (weight, after) = rest.split_at(inner * outer);
            let (bias, after) = after.split_at(*outer);
            rest = after;
            Tensors { weight, bias, inner: *inner, outer: *outer }
        })
    }

    fn pack(&self, unit: &[f32], panels: &mut Vec<Panels>) {
        panels.resize_with(self.layers.len(), Panels::default);
        for (panels, layer) in panels.iter_mut().zip(self.tensors(unit)) {
            panels.pack(self.lanes, layer.weight, layer.bias, layer.inner, layer.outer);
        }
    }

    /// The transposes of all layers but the first, which derivatives by parameters do not need.
    fn pack_transposed(&self, unit: &[f32]) -> Vec<Panels> {
        let pack = |(l, layer): (usize, Tensors<'_>)| {
            let mut panels = Panels::default();
            if l > 0 {
                panels.pack_transposed(self.lanes, layer.weight, layer.outer, layer.inner);
            }
            panels
        };
        self.tensors(unit).enumerate().map(pack).collect()
    }

    fn pack_all(&self, parameters: &Parameters) -> Vec<Vec<Panels>> {
        let pack = |unit: &Vec<f32>| {
            let mut panels = Vec::new();
            self.pack(unit, &mut panels);
            panels
        };
        parameters.units().par_iter().map(pack).collect()
    }

    fn check_layout(&self, what: &str, parameters: &Parameters) -> Result<()> {
        let size: usize = self.layers.iter().map(|(inner, outer)| (inner + 1) * outer).sum();
        parameters.expect_units(what, self.shape.units, size)
    }
}
