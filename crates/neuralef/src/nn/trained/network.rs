//! A trained network as users hand it over: a file, and what it has the weights of.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{TRAINED, Trained, shown};
use crate::error::{Error, Result};
use crate::nn::{Architecture, Network, NetworkFile, NetworkSize, NetworkSpec};
use crate::spec::text::{self, Expr, Node};
use crate::spec::{Entry, Registered as _, Registry};

/// Its text form.
const ENTRY: Entry<Trained> = Entry {
    name: "trained",
    summary: "a network with its weights",
    parameters: &TRAINED,
    build: |args| Trained::read(args),
};
static REGISTRY: Registry<Trained> = Registry { kind: "trained network", entries: &[ENTRY] };

/// A trained network in a file: ONNX, or safetensors with the architecture that it has the weights of.
/// The text form is `trained(of=FILE, network=.., checksum=..)`, and by the checksum a file is known
/// to be still the same.
///
/// ```no_run
/// use neuralef::nn::TrainedNetwork;
///
/// let onnx = TrainedNetwork::open("resnet20.onnx", None)?;
/// let weights = TrainedNetwork::open("resnet20.safetensors", Some("shared_resnet(depth=20)"))?;
/// let network = weights.build(3072)?; // for images of 3 × 32 × 32
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrainedNetwork(Arc<Trained>);

impl Clone for TrainedNetwork {
    fn clone(&self) -> Self {
        TrainedNetwork(Arc::clone(&self.0))
    }
}

impl TrainedNetwork {
    /// The network in the file at `path`. `architecture` is what a safetensors file has the weights
    /// of, such as `shared_resnet(depth=20)`; none for ONNX files. The file is read when the network is
    /// first needed.
    ///
    /// # Errors
    /// [`Error::Parse`] and [`Error::UnknownName`] for architectures, [`Error::InvalidParameter`] for a
    /// safetensors file without one.
    pub fn open(path: impl AsRef<Path>, architecture: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let network = match architecture {
            Some(architecture) => format!(", network={}", architecture.parse::<NetworkSpec>()?),
            None if path.extension().is_some_and(|e| e == "safetensors") => {
                let expected = "the architecture that a safetensors file has the weights of, such \
                                as shared_resnet(depth=20)";
                return Err(Error::parameter("architecture", expected, "none"));
            }
            None => String::new(),
        };
        format!("trained(of={}{network})", text::path(&path.to_string_lossy())).parse()
    }

    /// The network for points of `inputs` numbers: one function of as many outputs as it has, with
    /// batch normalisation frozen.
    ///
    /// # Errors
    /// File errors; [`Error::InvalidParameter`] when it takes other points.
    pub fn build(&self, inputs: usize) -> Result<Box<dyn Network>> {
        self.0.network(inputs)
    }

    /// What the network holds for points of `inputs` numbers when `bytes` are in its file; they are kept
    /// for it, so that nothing is looked for elsewhere.
    pub(crate) fn size(&self, inputs: usize, bytes: Vec<u8>) -> Result<NetworkSize> {
        self.file().keep(bytes)?;
        Ok(self.0.size(inputs))
    }

    /// The path of its file, as users wrote it.
    pub fn path(&self) -> &str {
        self.0.source().path()
    }

    /// Whether `architecture` is made of this network: the same file, read in the same way.
    pub(crate) fn is_trunk_of(&self, architecture: &dyn Architecture) -> bool {
        architecture.trained_identity().is_some_and(|trunk| Some(trunk) == self.0.identity())
    }

    pub(crate) fn file(&self) -> &NetworkFile {
        self.0.source()
    }

    /// The network that `expr` describes, a part of `text`; those that are made of a trained network and
    /// name no file (`heads`, `shared_heads`, `tangents`) are made of this one.
    pub(crate) fn derived(&self, text: &str, expr: &Expr) -> Result<NetworkSpec> {
        let mut expr = expr.clone();
        if let Node::Call(name, arguments) = &mut expr.node
            && <dyn Architecture>::registry().declares(name, "of")
            && !arguments.iter().any(|a| a.key.as_deref() == Some("of"))
            && let Node::Call(_, trained) = text::parse(&self.to_string())?.node
        {
            arguments.extend(trained);
        }
        NetworkSpec::build_from(text, &expr)
    }
}

impl FromStr for TrainedNetwork {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        REGISTRY.build_text(text).map(|trained| TrainedNetwork(Arc::new(trained)))
    }
}

impl fmt::Display for TrainedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ENTRY.text(&shown(&self.0.values())))
    }
}

impl TryFrom<String> for TrainedNetwork {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TrainedNetwork> for String {
    fn from(network: TrainedNetwork) -> String {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        for arguments in ["of=nowhere.onnx", "of=nowhere.onnx, order=hwc, checksum=7"] {
            assert_complete(&REGISTRY, &[("trained", arguments)], Sample::Missing, |trained| {
                ENTRY.text(&shown(&trained.values()))
            });
        }
    }
}
