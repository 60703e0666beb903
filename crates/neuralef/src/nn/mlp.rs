//! Multilayer perceptrons: `mlp(hidden=[32, 32], activation=sin_cos)`, separate or with a shared trunk.

use std::sync::Arc;

use super::activation::Activation;
use super::dense::{BLOCK, Dense, Shape};
use super::init::Init;
use super::rows::most_segments;
use super::spec::units_and_heads;
use super::{Architecture, Network, NetworkSize};
use crate::error::Result;
use crate::spec::{Args, Choice as _, Domain, Entry, Parameter};

/// Widest hidden layer, and most of them.
const MAX_WIDTH: u64 = 65_536;
const MAX_DEPTH: usize = 64;

pub(super) const HIDDEN: Parameter = Parameter::new(
    "hidden",
    Domain::Integers(1, MAX_WIDTH),
    "[32, 32]",
    "widths of the hidden layers",
);
pub(super) const ACTIVATION: Parameter = Parameter::new(
    "activation",
    Domain::choice::<Activation>(),
    "relu",
    "relu, leaky_relu, tanh, erf, gelu, silu or sin_cos (half sin, half cos)",
);
pub(super) const INIT: Parameter = Parameter::new(
    "init",
    Domain::choice::<Init>(),
    "auto",
    "he, glorot, normal or data (normal with directions as the data vary); auto goes by the activation",
);

/// Registry entry.
pub(super) const MLP: Entry<Arc<dyn Architecture>> = Entry {
    name: "mlp",
    summary: "an ensemble of k separate multilayer perceptrons",
    parameters: &[HIDDEN, ACTIVATION, INIT],
    build: |args| Ok(Arc::new(Perceptron::read(args, false)?)),
};

/// Registry entry.
pub(super) const SHARED_MLP: Entry<Arc<dyn Architecture>> = Entry {
    name: "shared_mlp",
    summary: "one multilayer perceptron with k linear heads",
    parameters: &[HIDDEN, ACTIVATION, INIT],
    build: |args| Ok(Arc::new(Perceptron::read(args, true)?)),
};

/// `mlp(..)` and `shared_mlp(..)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Perceptron {
    shared: bool,
    hidden: Vec<usize>,
    activation: Activation,
    init: Init,
}

impl Perceptron {
    /// With sines and cosines.
    pub(super) fn sin_cos(shared: bool, hidden: Vec<usize>, init: Init) -> Self {
        Perceptron { shared, hidden, activation: Activation::SinCos, init }
    }

    fn read(args: &Args<'_>, shared: bool) -> Result<Self> {
        let (hidden, activation, init) = read_hidden(args)?;
        Ok(Perceptron { shared, hidden, activation, init })
    }
}

/// The parameters `hidden`, `activation` and `init`.
pub(super) fn read_hidden(args: &Args<'_>) -> Result<(Vec<usize>, Activation, Init)> {
    let hidden = args.sizes("hidden")?;
    if hidden.len() > MAX_DEPTH {
        return Err(args.fault("hidden", format!("at most {MAX_DEPTH} hidden layers")));
    }
    let activation: Activation = args.choice("activation")?;
    for width in &hidden {
        activation.check_width(*width)?;
    }
    Ok((hidden, activation, args.choice("init")?))
}

/// The size of perceptrons with hidden layers of these widths.
pub(super) fn dense_size(
    inputs: usize,
    (units, heads): (usize, usize),
    hidden: &[usize],
    functions: usize,
) -> NetworkSize {
    let segments = most_segments(units) as u64;
    let (units, mut inner) = (units as u64, inputs as u64);
    let (mut parameters, mut activations) = (0u64, 0u64);
    for outer in hidden.iter().chain([&heads]).map(|w| *w as u64) {
        let layer = inner.saturating_add(1).saturating_mul(outer);
        parameters = parameters.saturating_add(layer);
        activations = activations.saturating_add(outer);
        inner = outer;
    }
    let hidden = hidden.last().map_or(inputs as u64, |w| units.saturating_mul(*w as u64));
    let functions = functions as u64;
    NetworkSize {
        jacobian: functions.saturating_mul(functions).saturating_mul(parameters),
        parameters: parameters.saturating_mul(units),
        hidden,
        activations: activations.saturating_mul(units),
        working: 0,
        segments,
        block: BLOCK as u64,
    }
}

impl Architecture for Perceptron {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        let shape = Shape {
            inputs,
            units,
            heads,
            outputs,
            hidden: self.hidden.clone(),
            activation: self.activation,
        };
        Ok(Box::new(Dense::new(shape, self.init, seed)?))
    }

    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        let units_and_heads = units_and_heads(self.shared, functions, outputs);
        dense_size(inputs, units_and_heads, &self.hidden, functions)
    }

    fn text(&self) -> String {
        let entry = if self.shared { &SHARED_MLP } else { &MLP };
        entry.text(&[
            ("hidden", &format!("{:?}", self.hidden)),
            ("activation", &self.activation.name()),
            ("init", &self.init.name()),
        ])
    }
}
