//! Architectures for images: `convnet(..)` and `resnet(..)`, as ensembles and with shared trunks.

use std::sync::Arc;

use super::activation::Activation;
use super::dense::MAX_PARAMETERS;
use super::graph::{Conv, EPSILON, Graph, Image, Layered, Order, Pool, PoolKind, Shortcut, Value};
use super::init::{Init, Place};
use super::mlp::{ACTIVATION, INIT};
use super::parameters::Role;
use super::spec::units_and_heads;
use super::{Architecture, Network, NetworkSize};
use crate::error::{Error, Result};
use crate::spec::{Args, Choice as _, Domain, Entry, Parameter};

/// Largest image side, number of channels, kernel; most layers.
const MAX_SIDE: u64 = 4096;
const MAX_CHANNELS: u64 = 65_536;
const MAX_KERNEL: u64 = 255;
const MAX_LAYERS: usize = 64;
/// Standard deviation of the biases of convolutions at the start, as the paper's random networks
/// have it.
const BIAS: f32 = 0.1;

pub(crate) const IMAGE: Parameter = Parameter::new(
    "image",
    Domain::Integers(1, MAX_SIDE),
    "auto",
    "[height, width, channels]; auto: square with 1 or 3 channels",
)
.or(&["auto"]);
pub(crate) const ORDER: Parameter = Parameter::new(
    "order",
    Domain::choice::<Order>(),
    "chw",
    "order of the numbers of a row: chw (as PyTorch and CIFAR-10) or hwc",
);
const CONVNET_PARAMETERS: &[Parameter] = &[
    IMAGE,
    ORDER,
    Parameter::new(
        "channels",
        Domain::Integers(1, MAX_CHANNELS),
        "[32, 64, 128]",
        "channels of the convolutions",
    ),
    Parameter::new(
        "kernel",
        Domain::IntegerOrIntegers(1, MAX_KERNEL),
        "5",
        "kernel size, one number or one for each convolution",
    ),
    Parameter::new(
        "stride",
        Domain::IntegerOrIntegers(1, MAX_KERNEL),
        "1",
        "stride, one number or one for each convolution",
    ),
    Parameter::new(
        "padding",
        Domain::IntegerOrIntegers(0, MAX_KERNEL),
        "same",
        "same, valid, or the zeros on each side of each convolution",
    )
    .or(&["same", "valid"]),
    Parameter::new(
        "pool",
        Domain::IntegerOrIntegers(1, MAX_KERNEL),
        "2",
        "window of the pool after each activation, one number or one each; 1: none",
    ),
    Parameter::new("pool_kind", Domain::choice::<PoolKind>(), "max", "max or average"),
    Parameter::new(
        "norm",
        Domain::one_of("norm", || vec!["none", "batch"]),
        "none",
        "none or batch: batch normalisation after each convolution",
    ),
    Parameter::new(
        "readout",
        Domain::one_of("readout", || vec!["average", "flatten"]),
        "average",
        "average (over all pixels) or flatten",
    ),
    Parameter::new(
        "hidden",
        Domain::Integers(1, MAX_CHANNELS),
        "[]",
        "widths of dense layers after the readout",
    ),
    ACTIVATION.with_help("relu, leaky_relu, tanh, erf, gelu, silu or sin_cos"),
    INIT,
];
const RESNET_PARAMETERS: &[Parameter] = &[
    IMAGE,
    ORDER,
    Parameter::new("depth", Domain::Integer(8, 1202), "20", "6n + 2 layers: 20, 32, 44, 56, 110"),
    Parameter::new(
        "width",
        Domain::Integer(1, 4096),
        "16",
        "channels of the first of the three groups of blocks",
    ),
    Parameter::new(
        "shortcut",
        Domain::one_of("shortcut", || vec!["identity", "projection"]),
        "identity",
        "where shapes differ: identity (option A) or projection (option B)",
    ),
];

/// Registry entry.
pub(super) const CONVNET: Entry<Arc<dyn Architecture>> = Entry {
    name: "convnet",
    summary: "an ensemble of k separate convolutional networks",
    parameters: CONVNET_PARAMETERS,
    build: |args| Ok(Arc::new(Convolutional::convnet(args, false)?)),
};

/// Registry entry.
pub(super) const SHARED_CONVNET: Entry<Arc<dyn Architecture>> = Entry {
    name: "shared_convnet",
    summary: "one convolutional network with k linear heads",
    parameters: CONVNET_PARAMETERS,
    build: |args| Ok(Arc::new(Convolutional::convnet(args, true)?)),
};

/// Registry entry.
pub(super) const RESNET: Entry<Arc<dyn Architecture>> = Entry {
    name: "resnet",
    summary: "an ensemble of k separate residual networks for small images",
    parameters: RESNET_PARAMETERS,
    build: |args| Ok(Arc::new(Convolutional::resnet(args, false)?)),
};

/// Registry entry.
pub(super) const SHARED_RESNET: Entry<Arc<dyn Architecture>> = Entry {
    name: "shared_resnet",
    summary: "one residual network for small images with k linear heads",
    parameters: RESNET_PARAMETERS,
    build: |args| Ok(Arc::new(Convolutional::resnet(args, true)?)),
};

/// What a network for images starts from and ends in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Convolutional {
    /// One trunk with a head for each function, instead of a network for each.
    shared: bool,
    image: Option<Image>,
    order: Order,
    body: Body,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    ConvNet(ConvNet),
    ResNet(ResNet),
}

#[derive(Debug, Clone, PartialEq)]
struct ConvNet {
    channels: Vec<usize>,
    kernel: Vec<usize>,
    stride: Vec<usize>,
    /// `None` for same.
    padding: Option<Vec<usize>>,
    pool: Vec<usize>,
    pool_kind: PoolKind,
    norm: bool,
    average: bool,
    hidden: Vec<usize>,
    activation: Activation,
    init: Init,
}

#[derive(Debug, Clone, PartialEq)]
struct ResNet {
    depth: usize,
    width: usize,
    projection: bool,
}

impl Convolutional {
    fn convnet(args: &Args<'_>, shared: bool) -> Result<Self> {
        let (channels, hidden) = (args.sizes("channels")?, args.sizes("hidden")?);
        if channels.is_empty() || channels.len() + hidden.len() > MAX_LAYERS {
            let message = format!("from 1 to {MAX_LAYERS} layers");
            return Err(args.fault("channels", message));
        }
        let n = channels.len();
        let padding = match args.word("padding") {
            Some("same") => None,
            Some(_) => Some(vec![0; n]),
            None => Some(args.sizes_of("padding", n)?),
        };
        let kernel = args.sizes_of("kernel", n)?;
        if padding.is_none() && kernel.iter().any(|k| k % 2 == 0) {
            return Err(args.fault("kernel", "kernel sizes must be odd with padding=same"));
        }
        let activation: Activation = args.choice("activation")?;
        for (name, widths) in [("channels", &channels), ("hidden", &hidden)] {
            for width in widths {
                if activation.check_width(*width).is_err() {
                    let expected = "even numbers with activation=sin_cos";
                    return Err(Error::parameter(name, expected, width));
                }
            }
        }
        let body = Body::ConvNet(ConvNet {
            stride: args.sizes_of("stride", n)?,
            channels,
            kernel,
            padding,
            pool: args.sizes_of("pool", n)?,
            pool_kind: args.choice("pool_kind")?,
            norm: args.is("norm", "batch"),
            average: args.is("readout", "average"),
            hidden,
            activation,
            init: args.choice("init")?,
        });
        Self::new(args, shared, body)
    }

    fn resnet(args: &Args<'_>, shared: bool) -> Result<Self> {
        let depth = args.size("depth")?;
        if depth % 6 != 2 {
            return Err(args.fault("depth", "`depth` must be 6n + 2: 8, 14, 20, 32, 44, 56, 110"));
        }
        let (width, projection) = (args.size("width")?, args.is("shortcut", "projection"));
        Self::new(args, shared, Body::ResNet(ResNet { depth, width, projection }))
    }

    fn new(args: &Args<'_>, shared: bool, body: Body) -> Result<Self> {
        let (image, order) = (read_image(args)?, args.choice("order")?);
        Ok(Convolutional { shared, image, order, body })
    }

    fn graph(&self, inputs: usize, heads: usize) -> Result<Graph> {
        let mut graph = Graph::new(image_of(self.image, inputs)?)?;
        let (name, last) = match &self.body {
            Body::ConvNet(net) => ("head", net.body(&mut graph)?),
            Body::ResNet(net) => ("linear", net.body(&mut graph)?),
        };
        graph.dense(name, last, heads)?;
        Ok(graph)
    }
}

impl ConvNet {
    fn body(&self, graph: &mut Graph) -> Result<Value> {
        let mut last = 0;
        for (l, channels) in self.channels.iter().copied().enumerate() {
            let (kernel, stride) = (self.kernel[l], self.stride[l]);
            let padding = self.padding.as_ref().map_or(kernel / 2, |p| p[l]);
            let shape = Conv {
                input: graph.image(last),
                channels,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                groups: 1,
                bias: !self.norm,
                flat: false,
            };
            last = graph.conv(&format!("conv{}", l + 1), last, shape)?;
            if self.norm {
                last = graph.norm(&format!("bn{}", l + 1), last, EPSILON);
            }
            graph.activate(self.activation)?;
            if self.pool[l] > 1 {
                let size = [self.pool[l]; 2];
                let input = graph.image(last);
                let pool = Pool::new(input, self.pool_kind, size, size);
                last = graph.pool("pool", last, pool)?;
            }
        }
        if self.average && !graph.image(last).is_vector() {
            last = graph.pool("average", last, Pool::global(graph.image(last)))?;
        }
        for (i, width) in self.hidden.iter().enumerate() {
            graph.dense(&format!("fc{}", i + 1), last, *width)?;
            last = graph.activate(self.activation)?;
        }
        Ok(last)
    }
}

impl ResNet {
    /// He et al. 2016, section 4.2, with the names of PyTorch's usual implementations.
    fn body(&self, graph: &mut Graph) -> Result<Value> {
        let conv = |graph: &mut Graph, name: &str, of, channels, kernel: usize, stride| {
            let shape = Conv {
                input: graph.image(of),
                channels,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [kernel / 2; 2],
                groups: 1,
                bias: false,
                flat: false,
            };
            graph.conv(name, of, shape)
        };
        let first = conv(graph, "conv1", 0, self.width, 3, 1)?;
        graph.norm("bn1", first, EPSILON);
        let mut last = graph.activate(Activation::Relu)?;
        for group in 0..3 {
            let channels = self.width << group;
            for block in 0..(self.depth - 2) / 6 {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let name = |part: &str| format!("layer{}.{block}.{part}", group + 1);
                let input = last;
                let a = conv(graph, &name("conv1"), input, channels, 3, stride)?;
                graph.norm(&name("bn1"), a, EPSILON);
                let a = graph.activate(Activation::Relu)?;
                let b = conv(graph, &name("conv2"), a, channels, 3, 1)?;
                let b = graph.norm(&name("bn2"), b, EPSILON);
                let from = graph.image(input);
                let cut = if stride == 1 && from.channels == channels {
                    input
                } else if self.projection {
                    let cut = conv(graph, &name("shortcut.0"), input, channels, 1, stride)?;
                    graph.norm(&name("shortcut.1"), cut, EPSILON)
                } else {
                    let before = (channels - from.channels) / 2;
                    let stride = [stride; 2];
                    let cut = Shortcut { input: from, stride, before, channels };
                    graph.shortcut(&name("shortcut"), input, cut)?
                };
                graph.add(&name("add"), b, cut)?;
                last = graph.activate(Activation::Relu)?;
            }
        }
        graph.pool("average", last, Pool::global(graph.image(last)))
    }
}

impl Architecture for Convolutional {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        for (name, value) in [("functions", functions), ("outputs", outputs)] {
            if value == 0 {
                return Err(Error::parameter(name, "at least 1", value));
            }
        }
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        let graph = self.graph(inputs, heads)?;
        let parameters = self.size(inputs, functions, outputs).parameters;
        if parameters > MAX_PARAMETERS {
            let expected = format!("at most {MAX_PARAMETERS} parameters in all");
            return Err(Error::parameter("channels", expected, parameters));
        }
        let (activation, init) = match &self.body {
            Body::ConvNet(net) => (net.activation, net.init),
            Body::ResNet(_) => (Activation::Relu, Init::He),
        };
        let mut network = Layered::new(graph, units, self.order).with_outputs(outputs);
        initialise(&mut network, activation, init, seed)?;
        Ok(Box::new(network))
    }

    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        let (units, heads) = units_and_heads(self.shared, functions, outputs);
        // An image that does not fit is found when the network is built.
        let Ok(graph) = self.graph(inputs, heads) else {
            return NetworkSize::default();
        };
        graph.size(units, functions)
    }

    fn text(&self) -> String {
        let image = image_text(self.image);
        match &self.body {
            Body::ConvNet(net) => {
                let list = |sizes: &[usize]| format!("{sizes:?}");
                let entry = if self.shared { &SHARED_CONVNET } else { &CONVNET };
                entry.text(&[
                    ("image", &image),
                    ("order", &self.order.name()),
                    ("channels", &list(&net.channels)),
                    ("kernel", &list(&net.kernel)),
                    ("stride", &list(&net.stride)),
                    ("padding", &net.padding.as_deref().map_or("same".into(), list)),
                    ("pool", &list(&net.pool)),
                    ("pool_kind", &net.pool_kind.name()),
                    ("norm", &if net.norm { "batch" } else { "none" }),
                    ("readout", &if net.average { "average" } else { "flatten" }),
                    ("hidden", &list(&net.hidden)),
                    ("activation", &net.activation.name()),
                    ("init", &net.init.name()),
                ])
            }
            Body::ResNet(net) => {
                let entry = if self.shared { &SHARED_RESNET } else { &RESNET };
                entry.text(&[
                    ("image", &image),
                    ("order", &self.order.name()),
                    ("depth", &net.depth),
                    ("width", &net.width),
                    ("shortcut", &if net.projection { "projection" } else { "identity" }),
                ])
            }
        }
    }
}

/// The value of the parameter `image`.
pub(crate) fn image_text(image: Option<Image>) -> String {
    match image {
        Some(i) => format!("[{}, {}, {}]", i.height, i.width, i.channels),
        None => "auto".into(),
    }
}

/// Draws all weights and biases: hidden layers by `init`, the last by N(0, 1/fan_in).
fn initialise(network: &mut Layered, activation: Activation, init: Init, seed: u64) -> Result<()> {
    let layouts = network.parameters().layouts().to_vec();
    let units = layouts.len();
    for (number, unit) in network.parameters_mut().units_mut().iter_mut().enumerate() {
        let mut rng = crate::rng::stream(seed, "init", number as u64);
        let weights: Vec<_> = layouts[number]
            .iter()
            .enumerate()
            .filter(|(_, t)| matches!(t.role, Role::Weight { .. }))
            .collect();
        for (count, (i, tensor)) in weights.iter().enumerate() {
            let outputs = tensor.shape.last().copied().unwrap_or(1);
            let bias = layouts[number].get(i + 1).filter(|t| t.role == Role::Bias);
            let mut drawn = vec![0.0; outputs];
            let weight = &mut unit[tensor.range()];
            if count + 1 < weights.len() {
                let place = Place { first: count == 0, unit: (number, units) };
                init.hidden(activation, place, weight, &mut drawn, &mut rng)?;
                if activation != Activation::SinCos {
                    drawn.iter_mut().for_each(|b| *b *= BIAS);
                }
            } else {
                Init::output(weight, &mut drawn, &mut rng);
            }
            if let Some(bias) = bias {
                unit[bias.range()].copy_from_slice(&drawn);
            }
        }
    }
    Ok(())
}

/// The parameter `image`; none for auto.
pub(crate) fn read_image(args: &Args<'_>) -> Result<Option<Image>> {
    if args.is("image", "auto") {
        return Ok(None);
    }
    let [height, width, channels] = args.sizes("image")?[..] else {
        return Err(args.fault("image", "`image` must be [height, width, channels]"));
    };
    Ok(Some(Image { height, width, channels }))
}

/// The image that `inputs` columns are.
pub(crate) fn image_of(image: Option<Image>, inputs: usize) -> Result<Image> {
    match image {
        Some(image) if image.len() == inputs => Ok(image),
        Some(image) => {
            let expected = format!("an image of {inputs} numbers, as the data have columns");
            let got = format!("[{}, {}, {}]", image.height, image.width, image.channels);
            Err(Error::parameter("image", expected, got))
        }
        None => [1, 3]
            .into_iter()
            .find_map(|channels| {
                let side = inputs.checked_div(channels)?.isqrt();
                let image = Image { height: side, width: side, channels };
                (side > 0 && image.len() == inputs).then_some(image)
            })
            .ok_or_else(|| {
                let expected = "given as [height, width, channels] when the columns are not a \
                                square image of 1 or 3 channels";
                Error::parameter("image", expected, format!("auto, {inputs} columns"))
            }),
    }
}
