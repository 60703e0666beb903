//! Networks made of a trained one, which stays as it is: small heads on the values of its layers, and
//! directions in its parameters.

use std::fmt;

use super::convolutional::ORDER;
use super::onnx::Onnx;
use super::source::{CHECKSUM, NetworkFile};
use super::weights::{size_of_tensor, weights_from};
use super::{Network, NetworkSize, NetworkSpec};
use crate::error::{Error, Result};
use crate::spec::{Args, Choice as _, Domain, Parameter};

mod heads;
mod network;
mod tangents;
#[cfg(test)]
mod tests;

pub(super) use heads::{HEADS, SHARED_HEADS};
pub use network::TrainedNetwork;
pub(super) use tangents::TANGENTS;

const OF: Parameter = Parameter::required(
    "of",
    Domain::Path,
    "the trained network: path of an ONNX file, or of a safetensors file with network=..",
);
const NETWORK: Parameter = Parameter::optional(
    "network",
    Domain::Text("network"),
    "none",
    "what a safetensors file has the weights of, such as shared_resnet(depth=20)",
);
/// What a trained network is told by.
const TRAINED: [Parameter; 4] = [OF, NETWORK, ORDER, CHECKSUM];

/// A trained network of a file, as the parameters `of`, `network`, `order` and `checksum` say.
#[derive(Debug)]
enum Trained {
    Onnx(Onnx),
    Weights { source: NetworkFile, spec: NetworkSpec },
}

impl Trained {
    fn read(args: &Args<'_>) -> Result<Self> {
        let source = NetworkFile::read(args, "of")?;
        let Some(network) = args.get("network") else {
            return Ok(Trained::Onnx(Onnx::of(source, args.choice("order")?)));
        };
        if args.has("order") {
            let message = "`order` is for ONNX files; network=.. has its own";
            return Err(args.fault("order", message));
        }
        let spec = NetworkSpec::build_from(args.text(), network)?;
        if spec.takes_raw_inputs() {
            let message = "`network` must be an architecture that is made from no file itself";
            return Err(args.fault("network", message));
        }
        Ok(Trained::Weights { source, spec })
    }

    fn source(&self) -> &NetworkFile {
        match self {
            Trained::Onnx(onnx) => onnx.source(),
            Trained::Weights { source, .. } => source,
        }
    }

    /// The network, as one function of as many outputs as it has, with normalisation frozen.
    fn network(&self, inputs: usize) -> Result<Box<dyn Network>> {
        let mut network = match self {
            Trained::Onnx(onnx) => onnx.single()?,
            Trained::Weights { source, spec } => {
                let bytes = source.bytes()?;
                let outputs = outputs(&bytes, source, spec, inputs)?;
                let mut network = bounded(&bytes, source, spec, inputs, outputs)?;
                weights_from(&mut *network, &bytes, source.path())?;
                network
            }
        };
        if network.inputs() != inputs {
            let expected = format!(
                "rows of {} columns, as the network of {} takes",
                network.inputs(),
                self.source().path()
            );
            return Err(Error::parameter("data", expected, inputs));
        }
        network.freeze(true);
        Ok(network)
    }

    /// The size of the network; nothing when it cannot be read, which building it finds.
    fn size(&self, inputs: usize) -> NetworkSize {
        match self {
            Trained::Onnx(onnx) => onnx.single_size().unwrap_or_default(),
            Trained::Weights { source, spec } => {
                let found = source.bytes().and_then(|bytes| outputs(&bytes, source, spec, inputs));
                found.map_or_else(|_| NetworkSize::default(), |c| spec.size(inputs, 1, c))
            }
        }
    }

    /// Whether this is the same file, wherever it lies, read in the same way.
    fn is_same(&self, other: &Trained) -> bool {
        let sums = (self.source().checksum_text(), other.source().checksum_text());
        let same = match (self, other) {
            (Trained::Onnx(a), Trained::Onnx(b)) => a.order() == b.order(),
            (Trained::Weights { spec: a, .. }, Trained::Weights { spec: b, .. }) => a == b,
            _ => false,
        };
        same && sums.0 == sums.1 && sums.0 != "auto"
    }

    /// The values of its parameters: of, order of ONNX files, network of others, checksum.
    fn values(&self) -> [(&'static str, String); 3] {
        let source = self.source();
        let other = match self {
            Trained::Onnx(onnx) => ("order", onnx.order().name().to_string()),
            Trained::Weights { spec, .. } => ("network", spec.to_string()),
        };
        [("of", source.path_text()), other, ("checksum", source.checksum_text())]
    }
}

/// Values as [`Entry::text`](crate::spec::Entry::text) takes them.
fn shown<'a>(values: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a dyn fmt::Display)> {
    values.iter().map(|(key, value)| (*key, value as &dyn fmt::Display)).collect()
}

/// The network of `spec`, if a file of these bytes can have its weights: a small file must not make its
/// reader take much memory.
fn bounded(
    bytes: &[u8],
    source: &NetworkFile,
    spec: &NetworkSpec,
    inputs: usize,
    outputs: usize,
) -> Result<Box<dyn Network>> {
    let parameters = spec.size(inputs, 1, outputs).parameters;
    // The shortest numbers have two bytes.
    if parameters > bytes.len() as u64 / 2 {
        let message = format!("{} bytes, for a network of {parameters} parameters", bytes.len());
        return Err(Error::data(source.path(), message));
    }
    spec.build(inputs, 1, outputs, 0)
}

/// How many outputs the weights in a file are for: as many as its last layer has biases.
fn outputs(bytes: &[u8], source: &NetworkFile, spec: &NetworkSpec, inputs: usize) -> Result<usize> {
    let network = bounded(bytes, source, spec, inputs, 1)?;
    match network.parameters().layouts() {
        [unit] => {
            unit.last().map_or(Ok(1), |last| size_of_tensor(bytes, source.path(), &last.name))
        }
        units => Err(Error::parameter("network", "a single network", units.len())),
    }
}
