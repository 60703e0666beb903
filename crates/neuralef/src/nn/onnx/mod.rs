//! Networks from ONNX files: graphs made of the layers that the engine has, with their weights.
//!
//! A file is read in three steps: the wire format (`proto`, by prost), what its names stand for
//! (`convert`), and what each operator is in the engine (`operators`, `activations` and `shapes`, one
//! function for each). Exporters write sizes as arithmetic on small tensors; `integers` works it out.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::convolutional::ORDER;
use super::dense::MAX_PARAMETERS;
use super::graph::{Layered, Order};
use super::source::{CHECKSUM, NetworkFile};
use super::spec::units_and_heads;
use super::weights::Layout;
use super::{Architecture, Network, NetworkSize};
use crate::error::{Error, Result};
use crate::spec::{Args, Choice as _, Domain, Entry, Parameter};

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

use convert::Converted;

const PARAMETERS: &[Parameter] = &[
    Parameter::required("file", Domain::Path, "path of the file; in quotes if it has spaces"),
    ORDER,
    CHECKSUM,
];

/// Registry entry.
pub(super) const ONNX: Entry<Arc<dyn Architecture>> = Entry {
    name: "onnx",
    summary: "k copies of the network of an ONNX file, with its weights",
    parameters: PARAMETERS,
    build: |args| Ok(Arc::new(Onnx::read(args, false)?)),
};

/// Registry entry.
pub(super) const SHARED_ONNX: Entry<Arc<dyn Architecture>> = Entry {
    name: "shared_onnx",
    summary: "the network of an ONNX file, with its weights; its outputs are the k functions",
    parameters: PARAMETERS,
    build: |args| Ok(Arc::new(Onnx::read(args, true)?)),
};

/// Reads a network and its weights from an ONNX file: one function of as many outputs as the graph
/// has, on rows in the order channel, row, column.
///
/// The graph has one input (batch × channels × height × width, or batch × numbers; all sizes but the
/// batch's fixed) and one output, a vector for each point. Its operators may be `Conv` (two spatial
/// dimensions, groups, the same padding on either side), `Gemm` and `MatMul` with constant weights,
/// `BatchNormalization` outside training, `Relu`, `LeakyRelu` (0.01), `Tanh`, `Erf`, GELU and SiLU (as
/// one operator or in PyTorch's parts), `MaxPool` and `AveragePool` (the same padding on either
/// side), `GlobalAveragePool`, `GlobalMaxPool`, `ReduceMean` over pixels, `Add` of values or of a
/// bias, `Flatten` and `Reshape` to rows, `Slice` and `Pad` as shortcuts of option A have them,
/// `Identity`, `Dropout` (which does nothing outside training), `Constant`, and arithmetic on
/// shapes. Weights are rounded to single precision. What two layers share is refused for weights,
/// since they would train apart, and copied for biases and normalisation, which exporters merge
/// where they are equal.
///
/// Layers have PyTorch's names where the file tells them. A network whose normalisation the exporter
/// folded into convolutions has the same values as before, but other parameters, and so another tangent
/// kernel; PyTorch keeps it with `training=TrainingMode.PRESERVE, do_constant_folding=False`.
///
/// Memory: the file, and its weights once more. A file made to harm costs at most some thirty times its
/// size: at most 2¹⁴ nodes and 2²⁶ values for a row are accepted.
///
/// ```no_run
/// let network = neuralef::nn::read_onnx("resnet20.onnx")?;
/// let logits = network.forward(neuralef::Mat::zeros((1, 3072)).view(), None)?;
/// # Ok::<(), neuralef::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnsupportedNode`] naming the first node that no layer computes and its attribute at fault,
/// [`Error::Data`] for damaged files, [`Error::Io`].
pub fn read_onnx(path: impl AsRef<Path>) -> Result<Box<dyn Network>> {
    Onnx::of(NetworkFile::at(path.as_ref()), Order::Chw).single()
}

/// A network of a file as an architecture, with its weights.
#[derive(Debug)]
pub(super) struct Onnx {
    /// One network whose outputs are the functions, instead of a copy for each function.
    shared: bool,
    order: Order,
    source: NetworkFile,
    content: OnceLock<Arc<Converted>>,
}

impl Onnx {
    fn read(args: &Args<'_>, shared: bool) -> Result<Self> {
        let source = NetworkFile::read(args, "file")?;
        Ok(Onnx { shared, ..Onnx::of(source, args.choice("order")?) })
    }

    /// The network of a file, to be taken once.
    pub(super) fn of(source: NetworkFile, order: Order) -> Self {
        Onnx { shared: true, order, source, content: OnceLock::new() }
    }

    pub(super) fn source(&self) -> &NetworkFile {
        &self.source
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// The graph and its weights: the file is read when they are first needed.
    fn content(&self) -> Result<Arc<Converted>> {
        if let Some(content) = self.content.get() {
            return Ok(Arc::clone(content));
        }
        let bytes = self.source.bytes()?;
        let content = convert::convert(bytes.to_vec().into(), self.source.path())?;
        Ok(Arc::clone(self.content.get_or_init(|| Arc::new(content))))
    }

    /// The one network of the file: a function of as many outputs as it has.
    pub(super) fn single(&self) -> Result<Box<dyn Network>> {
        let content = self.content()?;
        self.network(&content, 1, content.outputs())
    }

    /// The size of that network.
    pub(super) fn single_size(&self) -> Result<NetworkSize> {
        Ok(self.content()?.graph.size(1, 1))
    }

    /// `units` networks, of functions of `outputs` outputs.
    fn network(
        &self,
        content: &Converted,
        units: usize,
        outputs: usize,
    ) -> Result<Box<dyn Network>> {
        let layered = Layered::new(content.graph.clone(), units, self.order);
        let mut network = layered.with_outputs(outputs);
        network.parameters_mut().fill_tensors(|_, tensor, to| {
            let from = content.weights.get(&tensor.name).filter(|w| w.len() == to.len());
            let Some(from) = from else {
                let message = format!("{} numbers of {} are missing", to.len(), tensor.name);
                return Err(Error::data(self.source.path(), message));
            };
            Layout::of(tensor).pairs().for_each(|(ours, theirs)| to[ours] = from[theirs]);
            Ok(())
        })?;
        Ok(Box::new(network))
    }
}

impl Converted {
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
        let content = self.content()?;
        let image = content.graph.input;
        if inputs != image.len() {
            let (height, width) = (image.height, image.width);
            let shape = format!("{} × {height} × {width}", image.channels);
            let expected =
                format!("rows of {} columns ({shape}, as in {})", image.len(), self.source.path());
            return Err(Error::parameter("data", expected, inputs));
        }
        if functions == 0 {
            return Err(Error::parameter("functions", "at least 1", functions));
        }
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        if heads != content.outputs() {
            let what = if self.shared { "functions × outputs" } else { "outputs" };
            let (outputs, file) = (content.outputs(), self.source.path());
            let expected = format!("{outputs}, as the network of {file} has");
            return Err(Error::parameter(what, expected, heads));
        }
        let parameters = self.size(inputs, functions, outputs).parameters;
        if parameters > MAX_PARAMETERS {
            let expected = format!("networks of at most {MAX_PARAMETERS} parameters in all");
            return Err(Error::parameter("functions", expected, parameters));
        }
        self.network(&content, units, outputs)
    }

    fn size(&self, _inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        // A file that cannot be read is found when the network is built.
        let Ok(content) = self.content() else { return NetworkSize::default() };
        content.graph.size(units_and_heads(self.shared, functions, outputs).0, functions)
    }

    fn text(&self) -> String {
        let entry = if self.shared { &SHARED_ONNX } else { &ONNX };
        entry.text(&[
            ("file", &self.source.path_text()),
            ("order", &self.order.name()),
            ("checksum", &self.source.checksum_text()),
        ])
    }

    fn file(&self) -> Option<&NetworkFile> {
        Some(&self.source)
    }
}
