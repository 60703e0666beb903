//! The text forms of networks and what they build: `mlp(hidden=[32, 32], activation=sin_cos)`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::convolutional::{CONVNET, Convolutional, RESNET};
use super::dense::{BLOCK, Dense, Shape};
use super::init::Init;
use super::onnx::{ONNX, Onnx};
use super::rows::most_segments;
use super::source::NetworkFile;
use super::trained::{HEADS, HeadsOn, TANGENTS, TangentsOf};
use super::{Architecture, Network, NetworkSize, TrainedNetwork};
use crate::error::{Error, Result};
use crate::spec::args::{Args, Entry, Registry};

/// Widest hidden layer, and most of them.
const MAX_WIDTH: u64 = 65_536;
const MAX_DEPTH: usize = 64;

type Parameter = (&'static str, &'static str, &'static str);
const HIDDEN: Parameter = ("hidden", "[32, 32]", "widths of the hidden layers");
const ACTIVATION: Parameter = (
    "activation",
    "relu",
    "relu, leaky_relu, tanh, erf, gelu, silu or sin_cos (half sin, half cos)",
);
const INIT: Parameter = ("init", "auto", "he, glorot or normal; auto goes by the activation");

/// Every network architecture by name.
pub static NETWORKS: Registry<Arc<dyn Architecture>> = Registry {
    kind: "network",
    entries: &[
        Entry {
            name: "mlp",
            summary: "an ensemble of k separate multilayer perceptrons",
            parameters: &[HIDDEN, ACTIVATION, INIT],
            build: |args| Ok(Arc::new(Perceptron::read(args, false)?)),
        },
        Entry {
            name: "shared_mlp",
            summary: "one multilayer perceptron with k linear heads",
            parameters: &[HIDDEN, ACTIVATION, INIT],
            build: |args| Ok(Arc::new(Perceptron::read(args, true)?)),
        },
        Entry {
            name: "convnet",
            summary: "an ensemble of k separate convolutional networks",
            parameters: CONVNET,
            build: |args| Ok(Arc::new(Convolutional::convnet(args, false)?)),
        },
        Entry {
            name: "shared_convnet",
            summary: "one convolutional network with k linear heads",
            parameters: CONVNET,
            build: |args| Ok(Arc::new(Convolutional::convnet(args, true)?)),
        },
        Entry {
            name: "resnet",
            summary: "an ensemble of k separate residual networks for small images",
            parameters: RESNET,
            build: |args| Ok(Arc::new(Convolutional::resnet(args, false)?)),
        },
        Entry {
            name: "shared_resnet",
            summary: "one residual network for small images with k linear heads",
            parameters: RESNET,
            build: |args| Ok(Arc::new(Convolutional::resnet(args, true)?)),
        },
        Entry {
            name: "onnx",
            summary: "k copies of the network of an ONNX file, with its weights",
            parameters: ONNX,
            build: |args| Ok(Arc::new(Onnx::read(args, false)?)),
        },
        Entry {
            name: "shared_onnx",
            summary: "the network of an ONNX file, with its weights; its outputs are the k functions",
            parameters: ONNX,
            build: |args| Ok(Arc::new(Onnx::read(args, true)?)),
        },
        Entry {
            name: "heads",
            summary: "k small perceptrons on values of layers of a trained network, which stays fixed",
            parameters: HEADS,
            build: |args| Ok(Arc::new(HeadsOn::read(args, false)?)),
        },
        Entry {
            name: "shared_heads",
            summary: "one small perceptron with k linear heads on values of layers of a trained network",
            parameters: HEADS,
            build: |args| Ok(Arc::new(HeadsOn::read(args, true)?)),
        },
        Entry {
            name: "tangents",
            summary: "derivatives of a trained network along k directions in its parameters",
            parameters: TANGENTS,
            build: |args| Ok(Arc::new(TangentsOf::read(args)?)),
        },
    ],
};

/// `mlp(..)` and `shared_mlp(..)`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Perceptron {
    shared: bool,
    hidden: Vec<usize>,
    activation: Activation,
    init: Init,
}

impl Perceptron {
    fn read(args: &mut Args<'_>, shared: bool) -> Result<Self> {
        let (hidden, activation, init) = read_hidden(args, &[32, 32])?;
        Ok(Perceptron { shared, hidden, activation, init })
    }
}

/// The parameters `hidden`, `activation` and `init`.
pub(super) fn read_hidden(
    args: &mut Args<'_>,
    default: &[u64],
) -> Result<(Vec<usize>, Activation, Init)> {
    let hidden = args.integers("hidden", 1..=MAX_WIDTH, default)?;
    if hidden.len() > MAX_DEPTH {
        return Err(args.fault("hidden", format!("at most {MAX_DEPTH} hidden layers")));
    }
    let hidden: Vec<usize> = hidden.into_iter().map(|w| w as usize).collect();
    let activation = Activation::from_name(args.name("activation", "relu")?)?;
    for width in &hidden {
        activation.check_width(*width)?;
    }
    Ok((hidden, activation, Init::from_name(args.name("init", "auto")?)?))
}

/// (networks, heads of each): the C outputs of a function are heads of one network.
pub(super) fn units_and_heads(shared: bool, functions: usize, outputs: usize) -> (usize, usize) {
    if shared { (1, functions.saturating_mul(outputs)) } else { (functions, outputs) }
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
        format!(
            "{}(hidden={:?}, activation={}, init={})",
            if self.shared { "shared_mlp" } else { "mlp" },
            self.hidden,
            self.activation.name(),
            self.init.name()
        )
    }
}

/// A network architecture as users write it, checked: parses from and displays as its text form.
///
/// ```
/// let spec: neuralef::NetworkSpec = "mlp(hidden=[32, 32], activation=sin_cos)".parse()?;
/// let network = spec.build(1, 10, 3, 0)?;
/// assert_eq!((network.inputs(), network.functions(), network.outputs()), (1, 10, 3));
/// assert_eq!(network.hidden_width(), 320);
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkSpec(Arc<dyn Architecture>);

impl NetworkSpec {
    /// Of an architecture.
    pub(super) fn of(architecture: Arc<dyn Architecture>) -> Self {
        NetworkSpec(architecture)
    }

    /// Whether x must come as the user has it: weights of a file were trained on such.
    pub(crate) fn takes_raw_inputs(&self) -> bool {
        self.0.file().is_some()
    }

    /// Whether hidden features have outputs of their own.
    pub(crate) fn hidden_has_outputs(&self) -> bool {
        self.0.hidden_has_outputs()
    }

    /// Whether it is made of this trained network.
    pub(crate) fn is_made_of(&self, trained: &TrainedNetwork) -> bool {
        trained.is_trunk_of(&*self.0)
    }

    /// What is in the file that it is made from, where there is one.
    pub(crate) fn file(&self) -> Result<Option<Arc<[u8]>>> {
        self.0.file().map(NetworkFile::bytes).transpose()
    }

    /// Gives it that file as a model file kept it.
    pub(crate) fn keep(&self, bytes: Vec<u8>) -> Result<()> {
        let Some(file) = self.0.file() else {
            return Err(Error::Unsupported {
                what: format!("a file for {self}"),
                reason: "it is made from no file".into(),
            });
        };
        file.keep(bytes).map(|_| ())
    }

    /// Builds the network for `inputs` columns and `functions` functions of `outputs` outputs each,
    /// weights drawn from `seed`.
    ///
    /// # Errors
    /// Parameter errors: nothing to build, or too many parameters.
    pub fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        self.0.build(inputs, functions, outputs, seed)
    }

    /// What that network would hold.
    pub fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        self.0.size(inputs, functions, outputs)
    }
}

impl Default for NetworkSpec {
    /// `mlp(hidden=[64, 64], activation=sin_cos)`.
    fn default() -> Self {
        NetworkSpec(Arc::new(Perceptron {
            shared: false,
            hidden: vec![64, 64],
            activation: Activation::SinCos,
            init: Init::Auto,
        }))
    }
}

impl FromStr for NetworkSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        NETWORKS.build_text(text).map(NetworkSpec)
    }
}

impl fmt::Display for NetworkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text())
    }
}

impl PartialEq for NetworkSpec {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl TryFrom<String> for NetworkSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<NetworkSpec> for String {
    fn from(spec: NetworkSpec) -> String {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_defaults_are_filled_in() {
        for (text, full) in [
            ("mlp", "mlp(hidden=[32, 32], activation=relu, init=auto)"),
            ("shared_mlp(hidden=[8])", "shared_mlp(hidden=[8], activation=relu, init=auto)"),
            (
                "mlp(init=glorot, activation=sin_cos, hidden=[])",
                "mlp(hidden=[], activation=sin_cos, init=glorot)",
            ),
        ] {
            let spec: NetworkSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), full);
            assert_eq!(full.parse::<NetworkSpec>().unwrap(), spec);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<NetworkSpec>(&json).unwrap(), spec);
        }
    }

    #[test]
    fn sizes_are_those_of_the_network_built() {
        for text in ["mlp(hidden=[6, 4])", "shared_mlp(hidden=[6, 4])", "mlp(hidden=[])"] {
            let spec: NetworkSpec = text.parse().unwrap();
            for outputs in [1, 4] {
                let size = spec.size(3, 5, outputs);
                let network = spec.build(3, 5, outputs, 0).unwrap();
                assert_eq!((network.functions(), network.outputs()), (5, outputs));
                assert_eq!(size.parameters, network.parameters().len() as u64, "{text}");
                assert_eq!(size.hidden, network.hidden_width() as u64, "{text}");
            }
        }
        let huge: NetworkSpec = "mlp(hidden=[65536, 65536])".parse().unwrap();
        assert_eq!(huge.size(usize::MAX, usize::MAX, usize::MAX).parameters, u64::MAX);
    }

    #[test]
    fn bad_texts_are_typed_errors() {
        for (text, part) in [
            ("mlq", "did you mean `mlp`"),
            ("mlp(hiden=[3])", "did you mean `hidden`"),
            ("mlp(hidden=[0])", "whole numbers from 1"),
            ("mlp(hidden=[3.5])", "whole numbers"),
            ("mlp(hidden=32)", "list"),
            ("mlp(hidden=[31], activation=sin_cos)", "hidden: expected even widths"),
            ("mlp(activation=rely)", "did you mean `relu`"),
            ("mlp(init=hee)", "did you mean `he`"),
        ] {
            let message = text.parse::<NetworkSpec>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        let spec: NetworkSpec = "mlp(hidden=[65536, 65536])".parse().unwrap();
        assert!(spec.build(1, 10, 1, 0).is_err_and(|e| e.to_string().contains("hidden")));
        let spec: NetworkSpec = "mlp".parse().unwrap();
        assert!(spec.build(0, 10, 1, 0).is_err());
        assert!(spec.build(1, 0, 1, 0).is_err());
        assert!(spec.build(1, 10, 0, 0).is_err());
        assert!(spec.build(usize::MAX, usize::MAX, 1, 0).is_err());
        assert!(spec.build(1, usize::MAX, usize::MAX, 0).is_err());
    }
}
