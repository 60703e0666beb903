//! `heads(of=..)`: eigenfunctions that are small networks on the values of layers of a trained network.

use std::sync::Arc;

use super::{TRAINED, Trained, shown};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use crate::nn::activation::Activation;
use crate::nn::dense::{Dense, Shape};
use crate::nn::init::Init;
use crate::nn::mlp::{ACTIVATION, HIDDEN, INIT, dense_size, read_hidden};
use crate::nn::source::NetworkFile;
use crate::nn::spec::units_and_heads;
use crate::nn::{Architecture, LayerInfo, Network, NetworkSize, Parameters, Tape};
use crate::spec::text;
use crate::spec::{Args, Choice as _, Domain, Entry, Parameter};

const PARAMETERS: &[Parameter] = &[
    TRAINED[0],
    TRAINED[1],
    TRAINED[2],
    TRAINED[3],
    Parameter::new(
        "layers",
        Domain::Names,
        "auto",
        "names of layers, such as [layer2, layer3]; auto: the last one at each image size",
    )
    .or(&["auto"]),
    HIDDEN
        .with_default("[64]")
        .with_help("widths of the hidden layers of the heads; []: linear heads"),
    ACTIVATION.with_help("relu, leaky_relu, tanh, erf, gelu, silu or sin_cos"),
    INIT,
];

/// Registry entry.
pub(in crate::nn) const HEADS: Entry<Arc<dyn Architecture>> = Entry {
    name: "heads",
    summary: "k small perceptrons on values of layers of a trained network, which stays fixed",
    parameters: PARAMETERS,
    build: |args| Ok(Arc::new(HeadsOn::read(args, false)?)),
};

/// Registry entry.
pub(in crate::nn) const SHARED_HEADS: Entry<Arc<dyn Architecture>> = Entry {
    name: "shared_heads",
    summary: "one small perceptron with k linear heads on values of layers of a trained network",
    parameters: PARAMETERS,
    build: |args| Ok(Arc::new(HeadsOn::read(args, true)?)),
};

/// `heads(..)` and `shared_heads(..)`.
#[derive(Debug)]
struct HeadsOn {
    shared: bool,
    trained: Trained,
    /// Names of layers; none for the last one at each image size.
    layers: Option<Vec<String>>,
    hidden: Vec<usize>,
    activation: Activation,
    init: Init,
}

impl HeadsOn {
    fn read(args: &Args<'_>, shared: bool) -> Result<Self> {
        let trained = Trained::read(args)?;
        let layers = match args.is("layers", "auto") {
            true => None,
            false => Some(args.names("layers")?),
        };
        let (hidden, activation, init) = read_hidden(args)?;
        Ok(HeadsOn { shared, trained, layers, hidden, activation, init })
    }

    /// Numbers of the layers of a network that heads are to see.
    fn chosen(&self, layers: &[LayerInfo]) -> Result<Vec<usize>> {
        // The outputs are no features.
        let layers = &layers[..layers.len().saturating_sub(1)];
        let Some(names) = &self.layers else { return Ok(last_of_each_size(layers)) };
        names
            .iter()
            .map(|name| {
                // The layer of that name, or the last of a module. Exporters begin paths with a slash.
                let exact = layers.iter().position(|layer| layer.name == *name);
                let within = |layer: &LayerInfo| {
                    let rest = layer.name.trim_start_matches('/').strip_prefix(name.as_str());
                    rest.is_some_and(|rest| rest.starts_with(['.', '/']))
                };
                exact.or_else(|| layers.iter().rposition(within)).ok_or_else(|| {
                    let all: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
                    Error::unknown("layer", name, &all)
                })
            })
            .collect()
    }
}

/// The last layer at each image size. A vector that is as wide as the last image is taken for the mean
/// of its pixels, which heads see anyway.
fn last_of_each_size(layers: &[LayerInfo]) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        match chosen.last().map(|last| &layers[*last]) {
            Some(last) if last.pixels == layer.pixels => chosen.pop(),
            Some(last) if layer.pixels == 1 && last.channels == layer.channels => continue,
            _ => None,
        };
        chosen.push(i);
    }
    chosen
}

impl HeadsOn {
    /// The trained network, the layers that heads see, and how many numbers these are for a point.
    fn trunk(&self, inputs: usize) -> Result<(Box<dyn Network>, Vec<usize>, usize)> {
        let trunk = self.trained.network(inputs)?;
        let all = trunk.layers();
        let layers = self.chosen(&all)?;
        if layers.is_empty() {
            let expected = "a network with a layer before its outputs";
            return Err(Error::parameter("of", expected, self.trained.source().path()));
        }
        let features = layers.iter().map(|layer| all[*layer].channels).sum();
        Ok((trunk, layers, features))
    }
}

impl Architecture for HeadsOn {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        let (trunk, layers, features) = self.trunk(inputs)?;
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        let shape = Shape {
            inputs: features,
            units,
            heads,
            outputs,
            hidden: self.hidden.clone(),
            activation: self.activation,
        };
        let heads = Dense::new(shape, self.init, seed)?;
        Ok(Box::new(Heads { trunk, layers, features, linear: self.hidden.is_empty(), heads }))
    }

    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        // What cannot be built has no size, and says why when it is built. The trunk is no larger
        // than its file.
        let Ok((_, _, features)) = self.trunk(inputs) else { return NetworkSize::default() };
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        let size = dense_size(features, (units, heads), &self.hidden, functions);
        let hidden = if self.hidden.is_empty() { 0 } else { size.hidden };
        NetworkSize { hidden: hidden.saturating_add(features as u64), ..size }
    }

    fn text(&self) -> String {
        let layers = match &self.layers {
            None => "auto".to_string(),
            Some(names) => {
                let quoted: Vec<String> = names.iter().map(|name| text::path(name)).collect();
                format!("[{}]", quoted.join(", "))
            }
        };
        let entry = if self.shared { &SHARED_HEADS } else { &HEADS };
        let (trained, hidden) = (self.trained.values(), format!("{:?}", self.hidden));
        let (activation, init) = (self.activation.name(), self.init.name());
        let mut values = shown(&trained);
        values.push(("layers", &layers));
        values.push(("hidden", &hidden));
        values.push(("activation", &activation));
        values.push(("init", &init));
        entry.text(&values)
    }

    fn file(&self) -> Option<&NetworkFile> {
        Some(self.trained.source())
    }
}

/// Perceptrons on values of layers of a network that stays as it is. Their basis for a readout is those
/// values beside their own hidden layers.
struct Heads {
    trunk: Box<dyn Network>,
    /// Layers of the trunk that they see.
    layers: Vec<usize>,
    /// How many numbers these are for a point.
    features: usize,
    /// Whether they have no hidden layers.
    linear: bool,
    heads: Dense,
}

impl Heads {
    fn seen(&self, x: MatRef<'_>) -> Result<Mat> {
        self.trunk.features(x, &self.layers)
    }
}

impl Network for Heads {
    fn inputs(&self) -> usize {
        self.trunk.inputs()
    }

    fn functions(&self) -> usize {
        self.heads.functions()
    }

    fn outputs(&self) -> usize {
        self.heads.outputs()
    }

    fn hidden_width(&self) -> usize {
        self.features + if self.linear { 0 } else { self.heads.hidden_width() }
    }

    fn parameters(&self) -> &Parameters {
        self.heads.parameters()
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        self.heads.parameters_mut()
    }

    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        self.heads.forward(self.seen(x)?.view(), tape)
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        self.heads.vjp(tape, cotangent, gradient)
    }

    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        self.heads.jvp(self.seen(x)?.view(), tangent)
    }

    fn unit(&self, function: usize) -> usize {
        self.heads.unit(function)
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        let seen = self.seen(x)?;
        if self.linear {
            return Ok(seen);
        }
        let hidden = self.heads.hidden(seen.view())?;
        ndarray::concatenate(ndarray::Axis(1), &[seen.view(), hidden.view()])
            .map_err(|e| Error::shape("hidden features", "equal numbers of rows", e))
    }
}
