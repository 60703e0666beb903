//! Networks from ONNX files: graphs made of the layers that the engine has, with their weights.
//!
//! A file is read in three steps: the wire format (`proto`, by prost), what its names stand for
//! (`convert`), and what each operator is in the engine (`operators`, `activations` and `shapes`, one
//! function for each). Exporters write sizes as arithmetic on small tensors; `integers` works it out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::dense::MAX_PARAMETERS;
use super::graph::{Graph, Layered, Order};
use super::spec::units_and_heads;
use super::weights::Layout;
use super::{Architecture, Network, NetworkSize};
use crate::error::{Error, Result};
use crate::spec::args::Args;
use crate::spec::text;

mod activations;
mod convert;
mod integers;
mod operators;
mod proto;
mod reader;
mod shapes;
mod tensor;
#[cfg(test)]
mod tests;

/// Largest file, in bytes: what messages of the wire format can be.
const MOST: u64 = 1 << 31;

type Parameter = (&'static str, &'static str, &'static str);
pub(super) const ONNX: &[Parameter] = &[
    ("file", "required", "path of the file; in quotes if it has spaces"),
    super::convolutional::ORDER,
    ("checksum", "auto", "CRC-32 of the file; auto: whatever the file is"),
];

/// Reads a network and its weights from an ONNX file: one function of as many outputs as the graph
/// has, on rows in the order channel, row, column.
///
/// The graph has one input (batch × channels × height × width, or batch × numbers; all sizes but the
/// batch's fixed) and one output, a vector for each point. Its operators may be `Conv` (two spatial
/// dimensions, groups, the same padding on either side), `Gemm` and `MatMul` with constant weights,
/// `BatchNormalization` outside training, `Relu`, `LeakyRelu` (0.01), `Tanh`, `Erf`, GELU and SiLU (as
/// one operator or in PyTorch's parts), `MaxPool` and `AveragePool` without padding,
/// `GlobalAveragePool`, `GlobalMaxPool`, `ReduceMean` over pixels, `Add` of values or of a bias,
/// `Flatten` and `Reshape` to rows, `Slice` and `Pad` as shortcuts of option A have them, `Identity`,
/// `Dropout` (which does nothing outside training), `Constant`, and arithmetic on shapes. Weights are
/// rounded to single precision. What two layers share is refused for weights, since they would train
/// apart, and copied for biases and normalisation, which exporters merge where they are equal.
///
/// Layers have PyTorch's names where the file tells them. A network whose normalisation the exporter
/// folded into convolutions has the same values as before, but other parameters, and so another tangent
/// kernel; PyTorch keeps it with `training=TrainingMode.PRESERVE, do_constant_folding=False`.
///
/// Memory: the file, and its weights once more. A file made to harm costs at most some thirty times its
/// size: at most 2¹⁴ nodes and 2²⁶ values for a row are accepted.
///
/// ```no_run
/// let network = neuralef::read_onnx("resnet20.onnx")?;
/// let logits = network.forward(neuralef::Mat::zeros((1, 3072)).view(), None)?;
/// # Ok::<(), neuralef::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnsupportedNode`] naming the first node that no layer computes and its attribute at fault,
/// [`Error::Data`] for damaged files, [`Error::Io`].
pub fn read_onnx(path: impl AsRef<Path>) -> Result<Box<dyn Network>> {
    let network = Onnx::open(path.as_ref(), false, Order::Chw)?;
    let (inputs, outputs) = (network.graph.input.len(), network.outputs());
    network.build(inputs, 1, outputs, 0)
}

/// A network of a file as an architecture, with its weights.
#[derive(Debug, Clone)]
pub(super) struct Onnx {
    /// One network whose outputs are the functions, instead of a copy for each function.
    shared: bool,
    /// The path as users wrote it.
    file: String,
    order: Order,
    checksum: u32,
    graph: Graph,
    /// In PyTorch's layout, by name.
    weights: Arc<BTreeMap<String, Vec<f32>>>,
}

impl Onnx {
    pub(super) fn read(args: &mut Args<'_>, shared: bool) -> Result<Self> {
        let order = Order::from_name(args.name("order", "chw")?)?;
        let network = Self::open(Path::new(args.path("file")?), shared, order)?;
        let expected = match args.name("checksum", "auto") {
            Ok("auto") => network.checksum,
            Ok(other) => return Err(Error::unknown("checksum", other, &["auto"])),
            Err(_) => args.integer("checksum", 0..=u64::from(u32::MAX), 0)? as u32,
        };
        if expected != network.checksum {
            let message = format!(
                "the file is not the one that was meant: checksum {}, expected {expected}",
                network.checksum
            );
            return Err(Error::data(network.file, message));
        }
        Ok(network)
    }

    fn open(path: &Path, shared: bool, order: Order) -> Result<Self> {
        let file = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() || metadata.len() > MOST {
            let message = format!("expected a file of at most {MOST} bytes");
            return Err(Error::data(file, message));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(bytes, file, shared, order)
    }

    fn from_bytes(bytes: Vec<u8>, file: String, shared: bool, order: Order) -> Result<Self> {
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        let convert::Converted { graph, weights } = convert::convert(bytes.into(), &file)?;
        let weights = Arc::new(weights);
        Ok(Onnx { shared, file, order, checksum: crc.sum(), graph, weights })
    }

    /// Outputs of the graph.
    fn outputs(&self) -> usize {
        self.graph.image(self.graph.last()).len()
    }
}

impl Architecture for Onnx {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        _seed: u64,
    ) -> Result<Box<dyn Network>> {
        let image = self.graph.input;
        if inputs != image.len() {
            let (height, width) = (image.height, image.width);
            let shape = format!("{} × {height} × {width}", image.channels);
            let expected =
                format!("rows of {} columns ({shape}, as in {})", image.len(), self.file);
            return Err(Error::parameter("data", expected, inputs));
        }
        if functions == 0 {
            return Err(Error::parameter("functions", "at least 1", functions));
        }
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        if heads != self.outputs() {
            let what = if self.shared { "functions × outputs" } else { "outputs" };
            let expected = format!("{}, as the network of {} has", self.outputs(), self.file);
            return Err(Error::parameter(what, expected, heads));
        }
        let parameters = self.size(inputs, functions, outputs).parameters;
        if parameters > MAX_PARAMETERS {
            let expected = format!("networks of at most {MAX_PARAMETERS} parameters in all");
            return Err(Error::parameter("functions", expected, parameters));
        }
        let mut network = Layered::new(self.graph.clone(), units, self.order).with_outputs(outputs);
        network.parameters_mut().fill_tensors(|_, tensor, to| {
            let Some(from) = self.weights.get(&tensor.name).filter(|w| w.len() == to.len()) else {
                let message = format!("{} numbers of {} are missing", to.len(), tensor.name);
                return Err(Error::data(&self.file, message));
            };
            Layout::of(tensor).pairs().for_each(|(ours, theirs)| to[ours] = from[theirs]);
            Ok(())
        })?;
        Ok(Box::new(network))
    }

    fn size(&self, _inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        self.graph.size(units_and_heads(self.shared, functions, outputs).0, functions)
    }

    fn text(&self) -> String {
        let shared = if self.shared { "shared_" } else { "" };
        let (file, order) = (text::path(&self.file), self.order.name());
        format!("{shared}onnx(file={file}, order={order}, checksum={})", self.checksum)
    }
}
