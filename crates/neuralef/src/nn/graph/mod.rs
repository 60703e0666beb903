//! Convolutional networks: a graph of a small closed set of layers, each with forward, reverse and
//! forward-mode derivatives, and ensembles of such graphs as a [`Network`](super::Network).
//!
//! A [`Graph`] says what is computed, without weights: nodes in order, each reading values of the
//! input or of earlier nodes. [`ConvNetwork`] adds weights and executes it.

use crate::error::{Error, Result};

mod conv;
mod fold;
mod image;
mod join;
mod network;
mod norm;
mod plan;
mod pool;
mod scratch;
mod winograd;

pub(crate) use conv::Conv;
pub(crate) use image::{Image, Order};
pub(crate) use join::Shortcut;
pub(crate) use network::ConvNetwork;
pub(crate) use norm::EPSILON;
pub use norm::MOMENTUM;
pub(crate) use pool::{Pool, PoolKind};

use super::activation::Activation;
use super::parameters::{Role, TensorLayout};
use super::rows::most_segments;
use super::size::NetworkSize;

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GraphLayer {
    /// Convolution or dense layer.
    Conv(Conv),
    /// Batch normalisation, with what is added to variances.
    Norm { epsilon: f64 },
    /// Pooling.
    Pool(Pool),
    /// A shortcut of option A.
    Shortcut(Shortcut),
    /// The sum of two values.
    Add,
}

/// A number of a [`Graph`]'s values: 0 is the input, i + 1 what node i computes.
pub(crate) type Value = usize;

/// A layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Name of its tensors, as PyTorch would have it: `layer1.0.conv1`.
    pub(crate) name: String,
    pub(crate) layer: GraphLayer,
    pub(crate) inputs: Vec<Value>,
    /// Applied to what the layer gives.
    pub(crate) activation: Option<Activation>,
    pub(crate) output: Image,
}

/// A network without its weights: nodes in the order they are computed. The last one is the output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    pub(crate) input: Image,
    pub(crate) nodes: Vec<Node>,
}

/// A tensor of a node: its part of the name, shape, role, and whether it is flat elsewhere.
type Tensor = (&'static str, Vec<usize>, Role, bool);

impl Node {
    /// Its tensors: the weight and then the bias, where it has them.
    fn tensors(&self) -> Vec<Tensor> {
        let channels = vec![self.output.channels];
        match &self.layer {
            GraphLayer::Conv(conv) => {
                let [height, width] = conv.kernel;
                let shape = vec![height, width, conv.input.channels / conv.groups, conv.channels];
                let mut all =
                    vec![("weight", shape, Role::Weight { fan_in: conv.fan_in() }, conv.flat)];
                if conv.bias {
                    all.push(("bias", channels, Role::Bias, false));
                }
                all
            }
            GraphLayer::Norm { .. } => vec![
                ("weight", channels.clone(), Role::Scale, false),
                ("bias", channels, Role::Shift, false),
            ],
            GraphLayer::Pool(_) | GraphLayer::Shortcut(_) | GraphLayer::Add => Vec::new(),
        }
    }

    /// Its statistics: means and then variances.
    fn statistics(&self) -> Vec<Tensor> {
        let channels = vec![self.output.channels];
        match &self.layer {
            GraphLayer::Norm { .. } => vec![
                ("running_mean", channels.clone(), Role::Mean, false),
                ("running_var", channels, Role::Variance, false),
            ],
            _ => Vec::new(),
        }
    }
}

impl Graph {
    /// With no nodes yet.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an empty image.
    pub(crate) fn new(input: Image) -> Result<Self> {
        if input.len() == 0 {
            let got = format!("[{}, {}, {}]", input.height, input.width, input.channels);
            return Err(Error::parameter("image", "height, width and channels of at least 1", got));
        }
        Ok(Graph { input, nodes: Vec::new() })
    }

    /// The value that the next node would be given by default: the latest one.
    pub(crate) fn last(&self) -> Value {
        self.nodes.len()
    }

    /// The shape of a value.
    pub(crate) fn image(&self, value: Value) -> Image {
        value.checked_sub(1).map_or(self.input, |node| self.nodes[node].output)
    }

    fn push(&mut self, name: &str, layer: GraphLayer, inputs: Vec<Value>, output: Image) -> Value {
        let name = name.to_string();
        self.nodes.push(Node { name, layer, inputs, activation: None, output });
        self.last()
    }

    /// Adds a convolution of `of`; its `input` is taken from there.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when its parts do not fit together.
    pub(crate) fn conv(&mut self, name: &str, of: Value, conv: Conv) -> Result<Value> {
        let conv = Conv { input: self.image(of), ..conv };
        let output = conv.output()?;
        Ok(self.push(name, GraphLayer::Conv(conv), vec![of], output))
    }

    /// Adds a dense layer on all of `of`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] without outputs.
    pub(crate) fn dense(&mut self, name: &str, of: Value, outputs: usize) -> Result<Value> {
        self.conv(name, of, Conv::dense(self.image(of), outputs))
    }

    /// Adds batch normalisation of `of`.
    pub(crate) fn norm(&mut self, name: &str, of: Value, epsilon: f64) -> Value {
        self.push(name, GraphLayer::Norm { epsilon }, vec![of], self.image(of))
    }

    /// Adds a pool of `of`; its `input` is taken from there.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when no window fits.
    pub(crate) fn pool(&mut self, name: &str, of: Value, pool: Pool) -> Result<Value> {
        let pool = Pool { input: self.image(of), ..pool };
        let output = pool.output()?;
        Ok(self.push(name, GraphLayer::Pool(pool), vec![of], output))
    }

    /// Adds a shortcut of option A; its `input` is taken from `of`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when channels would be lost.
    pub(crate) fn shortcut(&mut self, name: &str, of: Value, cut: Shortcut) -> Result<Value> {
        let cut = Shortcut { input: self.image(of), ..cut };
        let least = cut.before + cut.input.channels;
        if cut.channels < least || cut.stride.contains(&0) {
            let expected = format!("at least {least} channels and strides of at least 1");
            let got = format!("{} channels, strides {:?}", cut.channels, cut.stride);
            return Err(Error::parameter("shortcut", expected, got));
        }
        Ok(self.push(name, GraphLayer::Shortcut(cut), vec![of], cut.output()))
    }

    /// Adds the sum of two values.
    ///
    /// # Errors
    /// [`Error::Shape`] when their shapes differ.
    pub(crate) fn add(&mut self, name: &str, a: Value, b: Value) -> Result<Value> {
        let (first, second) = (self.image(a), self.image(b));
        if first != second {
            return Err(Error::shape(name, format!("{first:?}"), format!("{second:?}")));
        }
        Ok(self.push(name, GraphLayer::Add, vec![a, b], first))
    }

    /// Adds a copy of `of`: a value of its own for an activation, where others want it without.
    pub(crate) fn copy(&mut self, name: &str, of: Value) -> Value {
        let input = self.image(of);
        let cut = Shortcut { input, stride: [1, 1], before: 0, channels: input.channels };
        self.push(name, GraphLayer::Shortcut(cut), vec![of], input)
    }

    /// Applies `activation` to the latest value, in place; after a max pool, to a copy, since its
    /// derivative is found by the values it gave.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for odd channels with sin_cos.
    pub(crate) fn activate(&mut self, activation: Activation) -> Result<Value> {
        activation.check_width(self.image(self.last()).channels)?;
        let last = self.nodes.last().map(|node| &node.layer);
        if matches!(last, Some(GraphLayer::Pool(Pool { kind: PoolKind::Max, .. }))) {
            self.copy("activation", self.last());
        }
        if let Some(node) = self.nodes.last_mut() {
            node.activation = Some(activation);
        }
        Ok(self.last())
    }

    /// The tensors of a unit, in the order of its flat vector, and those of its statistics.
    pub(crate) fn layouts(&self) -> (Vec<TensorLayout>, Vec<TensorLayout>) {
        let lay_out = |of: fn(&Node) -> Vec<Tensor>| {
            let mut all: Vec<TensorLayout> = Vec::new();
            for node in &self.nodes {
                for (part, shape, role, flat) in of(node) {
                    let name = format!("{}.{part}", node.name);
                    let offset = all.last().map_or(0, |t| t.range().end);
                    all.push(TensorLayout { name, shape, offset, role, flat });
                }
            }
            all
        };
        (lay_out(Node::tensors), lay_out(Node::statistics))
    }

    /// What `units` networks of this graph would hold, for `functions` functions in all.
    pub(crate) fn size(&self, units: usize, functions: usize) -> NetworkSize {
        let segments = most_segments(units) as u64;
        let (units, functions) = (units as u64, functions as u64);
        let (tensors, _) = self.layouts();
        let parameters = tensors.last().map_or(0, |t| t.range().end as u64);
        let hidden = self.nodes.last().map_or(0, |n| self.image(n.inputs[0]).len() as u64);
        let tiled = self.nodes.iter().map(|node| match &node.layer {
            GraphLayer::Conv(conv) => conv.transformed().map(|n| n as u64),
            _ => [0, 0],
        });
        let [transformed, segment] = tiled.fold([0u64, 0], |[all, most], [weight, segment]| {
            [all.saturating_add(weight), most.max(segment)]
        });
        // Forward, backward, and the sums of a gradient in each segment of a batch.
        let tasks = units.saturating_mul(segments);
        let working = transformed
            .saturating_mul(units.saturating_mul(2).saturating_add(tasks))
            .saturating_add(segment.saturating_mul(tasks));
        NetworkSize {
            jacobian: functions.saturating_mul(functions).saturating_mul(parameters),
            parameters: parameters.saturating_mul(units),
            hidden: hidden.saturating_mul(units),
            activations: self.activations().saturating_mul(units),
            working,
            segments,
            block: 1,
        }
    }

    /// Numbers that a forward pass keeps for a point.
    pub(crate) fn activations(&self) -> u64 {
        self.nodes.iter().map(|n| n.output.len() as u64).fold(0, u64::saturating_add)
    }
}
