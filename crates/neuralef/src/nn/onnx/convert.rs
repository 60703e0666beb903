//! From the nodes of a file to a [`Graph`] of layers: what each name of the file stands for, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use prost::Message as _;
use prost::bytes::Bytes;

use super::proto;
use super::reader::{Reader, short};
use super::tensor::{self, Tensor, head};
use super::terms::{Term, Wire};
use crate::error::{Error, Result};
use crate::nn::graph::{Graph, Image, Value};

/// Oldest set of operators: the first whose batch normalisation is as now.
const OLDEST: i64 = 7;
/// Most nodes and most initializers.
const MOST: usize = 1 << 14;
/// Largest side of the input, most channels of it.
const SIDE: i64 = 4096;
const CHANNELS: i64 = 1 << 24;
/// Most values that a forward pass keeps for a row.
const ACTIVATIONS: u64 = 1 << 26;

/// A network of a file.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) graph: Graph,
    /// The numbers of every tensor, in PyTorch's layout, under the names of the graph.
    pub(super) weights: BTreeMap<String, Vec<f32>>,
}

/// The state of a conversion.
#[derive(Debug)]
pub(super) struct Converter<'a> {
    pub(super) file: &'a str,
    pub(super) graph: Graph,
    pub(super) weights: BTreeMap<String, Vec<f32>>,
    terms: HashMap<String, Term>,
    /// How often each name is read.
    readers: HashMap<String, usize>,
    /// Names of the graph's nodes, and how many nodes would have each.
    names: HashMap<String, usize>,
    /// Weights that a node has, by their address.
    pub(super) taken: HashMap<*const Tensor, String>,
    /// Points of a batch, where the file is made for a fixed number.
    pub(super) batch: Option<i64>,
}

/// Reads a file's bytes.
///
/// # Errors
/// [`Error::Data`] for what is no network, [`Error::UnsupportedNode`] for what the engine has no layer
/// for.
pub(super) fn convert(bytes: Bytes, file: &str) -> Result<Converted> {
    let not_onnx = |e: prost::DecodeError| Error::data(file, format!("not an ONNX file: {e}"));
    let model = proto::Model::decode(bytes).map_err(not_onnx)?;
    let opset = model.opset_import.iter().find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"));
    match opset.map(|o| o.version) {
        None => return Err(Error::data(file, "not an ONNX file: it names no set of operators")),
        Some(version) if version < OLDEST => {
            let message = format!("operators of set {version}, expected at least {OLDEST}");
            return Err(Error::data(file, message));
        }
        Some(_) => {}
    }
    let proto = proto::Graph::decode(model.graph).map_err(not_onnx)?;
    for (what, count) in [("nodes", proto.node.len()), ("initializers", proto.initializer.len())] {
        if count > MOST {
            return Err(Error::data(file, format!("{count} {what}, expected at most {MOST}")));
        }
    }
    let mut terms = HashMap::new();
    for bytes in proto.initializer {
        let mut proto = proto::Tensor::decode(bytes).map_err(not_onnx)?;
        let name = std::mem::take(&mut proto.name);
        let fault = |e: String| Error::data(file, format!("initializer `{}`: {e}", short(&name)));
        let term = Term::of(Tensor::new(proto).map_err(fault)?).map_err(fault)?;
        terms.insert(name, term);
    }
    let decode = |bytes: Bytes| proto::Node::decode(bytes).map_err(not_onnx);
    let nodes = proto.node.into_iter().map(decode).collect::<Result<Vec<_>>>()?;
    // Old files list their initializers among the inputs.
    let named = |infos: Vec<Bytes>, without: &HashMap<String, Term>| {
        let infos = infos.into_iter().map(|b| proto::ValueInfo::decode(b).map_err(not_onnx));
        let mut infos = infos.filter(|i| !i.as_ref().is_ok_and(|i| without.contains_key(&i.name)));
        Ok::<_, Error>((infos.next().transpose()?, infos.count()))
    };
    let (Some(input), 0) = named(proto.input, &terms)? else {
        return Err(Error::data(file, "expected a graph with one input"));
    };
    let (Some(output), 0) = named(proto.output, &HashMap::new())? else {
        return Err(Error::data(file, "expected a graph with one output"));
    };
    let (image, flat, batch) = input_image(&input, file)?;
    let needed = needed(&nodes, &output.name, file)?;
    let mut readers = HashMap::from([(output.name.clone(), 1)]);
    for name in needed.iter().flat_map(|i| &nodes[*i].input) {
        *readers.entry(name.clone()).or_insert(0) += 1;
    }
    terms.insert(input.name, Term::Wire(Wire { value: 0, flat, alone: true }));
    let mut converter = Converter {
        file,
        graph: Graph::new(image)?,
        weights: BTreeMap::new(),
        terms,
        readers,
        names: HashMap::new(),
        taken: HashMap::new(),
        batch,
    };
    for i in needed {
        let reader = Reader::new(&nodes[i], file, i)?;
        let term = converter.node(&reader)?;
        reader.finish()?;
        if converter.graph.activations() > ACTIVATIONS {
            let reason = format!("more than {ACTIVATIONS} values for a row are needed up to here");
            return Err(reader.refuse(None, reason));
        }
        if let Some(name) = nodes[i].output.first() {
            converter.terms.insert(name.clone(), term);
        }
    }
    converter.finish(&output.name)
}

/// The image that rows are, whether the file has them flat, and the size of the batch if it is fixed.
fn input_image(input: &proto::ValueInfo, file: &str) -> Result<(Image, bool, Option<i64>)> {
    let fault =
        |message: String| Error::data(file, format!("input `{}`: {message}", short(&input.name)));
    let tensor = input.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let Some((tensor, shape)) = tensor.and_then(|t| Some((t, t.shape.as_ref()?))) else {
        return Err(fault("expected a tensor of known shape".into()));
    };
    if ![tensor::FLOAT, tensor::FLOAT16, tensor::DOUBLE, tensor::BFLOAT16]
        .contains(&tensor.elem_type)
    {
        return Err(fault(format!("expected floats, got element type {}", tensor.elem_type)));
    }
    let dims: Vec<Option<i64>> = shape.dim.iter().map(|d| d.dim_value).collect();
    let side = |v: i64, most: i64| (1..=most).contains(&v).then_some(v as usize);
    let image = match dims[..] {
        [_, Some(c), Some(h), Some(w)] => (|| {
            let (height, width) = (side(h, SIDE)?, side(w, SIDE)?);
            Some((Image { height, width, channels: side(c, CHANNELS)? }, false))
        })(),
        [_, Some(d)] => {
            side(d, CHANNELS).map(|channels| (Image { height: 1, width: 1, channels }, true))
        }
        _ => None,
    };
    match image {
        Some((image, flat)) if image.len() as u64 <= ACTIVATIONS => {
            Ok((image, flat, dims[0].filter(|n| *n > 0)))
        }
        _ => {
            let got: Vec<_> =
                head(&dims).iter().map(|d| d.map_or("?".into(), |v| v.to_string())).collect();
            let expected = "batch × channels × height × width or batch × numbers, fixed but for the \
                            batch and not beyond memory";
            Err(fault(format!("expected {expected}, got [{}]", got.join(", "))))
        }
    }
}

/// The nodes that the output `name` depends on, in the order of the file.
fn needed(nodes: &[proto::Node], name: &str, file: &str) -> Result<BTreeSet<usize>> {
    let mut makers = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if makers.insert(name.as_str(), i).is_some() {
                let message = format!("two nodes compute `{}`", short(name));
                return Err(Error::data(file, message));
            }
        }
    }
    let mut needed = BTreeSet::new();
    let mut open: Vec<usize> = makers.get(name).copied().into_iter().collect();
    while let Some(i) = open.pop() {
        if needed.insert(i) {
            open.extend(nodes[i].input.iter().filter_map(|name| makers.get(name.as_str())));
        }
    }
    Ok(needed)
}

impl Converter<'_> {
    /// What input `i` stands for.
    pub(super) fn term(&self, reader: &Reader<'_>, i: usize) -> Result<&Term> {
        let name = reader.needed(i)?;
        self.terms.get(name).ok_or_else(|| {
            let name = short(name);
            reader.fault(format_args!("it reads `{name}`, which nothing before it computes"))
        })
    }

    /// Input `i` as values of the network.
    pub(super) fn wire(&self, reader: &Reader<'_>, i: usize) -> Result<Wire> {
        match self.term(reader, i)? {
            Term::Wire(wire) => Ok(*wire),
            Term::Part(part) => Err(part.refuse(self.file)),
            Term::Tensor(_) | Term::Integers(_) => {
                let name = short(reader.needed(i)?);
                Err(reader.refuse(None, format!("`{name}` is a constant, not values of points")))
            }
        }
    }

    /// Input `i` as values with two spatial dimensions.
    pub(super) fn images(&self, reader: &Reader<'_>, i: usize) -> Result<Wire> {
        let wire = self.wire(reader, i)?;
        match wire.flat {
            false => Ok(wire),
            true => Err(reader.refuse(None, "only images with two spatial dimensions are")),
        }
    }

    /// Input `i` as constant floats.
    pub(super) fn tensor(&self, reader: &Reader<'_>, i: usize) -> Result<Arc<Tensor>> {
        match self.term(reader, i)? {
            Term::Tensor(tensor) => Ok(Arc::clone(tensor)),
            _ => {
                let name = short(reader.needed(i)?);
                Err(reader.refuse(None, format!("`{name}` must be a constant of floats")))
            }
        }
    }

    /// Constant floats of a node alone. Layers that share their weights would train apart.
    pub(super) fn unshared_tensor(&mut self, reader: &Reader<'_>, i: usize) -> Result<Arc<Tensor>> {
        let tensor = self.tensor(reader, i)?;
        if tensor.size() == 0 {
            return Err(reader.fault("it has no weights"));
        }
        if let Some(other) = self.taken.insert(Arc::as_ptr(&tensor), reader.name()) {
            let reason = format!("its weights are those of node `{other}` too");
            return Err(reader.refuse(None, reason));
        }
        Ok(tensor)
    }

    /// Input `i` as known sizes.
    pub(super) fn sizes(&self, reader: &Reader<'_>, i: usize) -> Result<Vec<Option<i64>>> {
        match self.term(reader, i)? {
            Term::Integers(integers) => Ok(integers.values.clone()),
            _ => {
                let name = short(reader.needed(i)?);
                Err(reader.refuse(None, format!("`{name}` must be constant integers")))
            }
        }
    }

    /// The numbers of `tensor`, which input `i` is, of which there must be `count`.
    pub(super) fn numbers(
        &self,
        reader: &Reader<'_>,
        i: usize,
        tensor: &Tensor,
        count: usize,
    ) -> Result<Vec<f32>> {
        let name = short(reader.needed(i)?);
        if tensor.size() != count {
            let (got, dims) = (tensor.size(), head(&tensor.dims));
            let message = format!("`{name}`: expected {count} numbers, got {got}, shape {dims:?}");
            return Err(reader.fault(message));
        }
        tensor.floats().map_err(|e| reader.fault(format_args!("`{name}`: {e}")))
    }

    /// What a name stands for, if that is values of the network.
    pub(super) fn wire_named(&self, name: &str) -> Option<Wire> {
        match self.terms.get(name) {
            Some(Term::Wire(wire)) => Some(*wire),
            _ => None,
        }
    }

    /// How often a name is read.
    pub(super) fn reads(&self, name: &str) -> usize {
        self.readers.get(name).copied().unwrap_or(0)
    }

    /// Whether `count` inputs of nodes are all that reads what input `i` stands for.
    pub(super) fn is_read(&self, reader: &Reader<'_>, i: usize, wire: Wire, count: usize) -> bool {
        wire.alone && reader.input(i).is_some_and(|name| self.reads(name) == count)
    }

    /// Whether the layer that computes `wire` may still be changed: it is the latest one, without an
    /// activation.
    pub(super) fn is_open(&self, wire: Wire) -> bool {
        let latest = self.graph.nodes.last().is_some_and(|node| node.activation.is_none());
        latest && wire.value == self.graph.last()
    }

    /// Input `i` under another name.
    pub(super) fn alias(&self, reader: &Reader<'_>, i: usize, flat: bool) -> Result<Term> {
        let wire = self.wire(reader, i)?;
        let alone = self.is_read(reader, i, wire, 1);
        Ok(Term::Wire(Wire { flat, alone, ..wire }))
    }

    /// A new value.
    pub(super) fn fresh(value: Value, flat: bool) -> Term {
        Term::Wire(Wire { value, flat, alone: true })
    }

    /// A name for the layer of a node: what PyTorch calls it, as far as its exporter has that.
    pub(super) fn layer_name(&mut self, reader: &Reader<'_>, weight: Option<&str>) -> String {
        let module = weight.and_then(|name| name.strip_suffix(".weight"));
        let module = module.filter(|name| !name.contains("::") && !name.is_empty());
        let name = module.map_or_else(|| scope(&reader.name(), &reader.operator()), short);
        let mut unique = name.clone();
        while let Some(count) = self.names.get_mut(&unique) {
            // Names such as conv_2 may be there already.
            *count += 1;
            unique = format!("{unique}_{count}");
        }
        self.names.insert(unique.clone(), 1);
        unique
    }

    /// The network, once all nodes are read.
    fn finish(self, output: &str) -> Result<Converted> {
        let last = self.graph.last();
        let value = match self.terms.get(output) {
            Some(Term::Wire(wire)) if wire.value > 0 => wire.value,
            Some(Term::Part(part)) => return Err(part.refuse(self.file)),
            _ => {
                let message = format!("no layer computes the output `{}`", short(output));
                return Err(Error::data(self.file, message));
            }
        };
        let read: HashSet<Value> = self.graph.nodes.iter().flat_map(|n| n.inputs.clone()).collect();
        let unread = (1..=last).find(|v| *v != value && !read.contains(v));
        if value != last || unread.is_some() {
            let name = unread.map_or("", |v| &self.graph.nodes[v - 1].name);
            let message = format!("layer `{name}` computes what only the shape is used of");
            return Err(Error::data(self.file, message));
        }
        let image = self.graph.image(last);
        if !image.is_vector() {
            return Err(Error::Unsupported {
                what: format!(
                    "{}: an output of {} channels of {} × {} pixels",
                    self.file, image.channels, image.height, image.width
                ),
                reason: "networks end in a vector".into(),
            });
        }
        Ok(Converted { graph: self.graph, weights: self.weights })
    }
}

/// The module of a node as PyTorch names nodes, `/layer1/layer1.0/conv1/Conv` for `layer1.0.conv1`.
fn scope(node: &str, operator: &str) -> String {
    let node = node.strip_prefix('/').unwrap_or(node);
    let path = node.strip_suffix(operator).and_then(|p| p.strip_suffix('/')).unwrap_or(node);
    let mut module = String::new();
    for part in path.split('/') {
        let longer = part.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if longer || module.is_empty() {
            module = part.to_string();
        } else {
            module = format!("{module}.{part}");
        }
    }
    module
}
