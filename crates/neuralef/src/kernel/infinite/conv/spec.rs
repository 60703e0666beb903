//! The text form of the convolutional kernels: parameters, their checks, and back to text.

use std::sync::Arc;

use super::super::duals::Activation;
use super::super::{ACTIVATION, BIAS_VAR, WEIGHT_VAR};
use super::Convolutional;
use super::geometry::{Geometry, Layer, Size, Window};
use super::pairs::Layers;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::nn::Order;
use crate::spec::{Args, Choice as _, Domain, Parameter};

/// Most numbers kept for a pair of images from one layer to the next: 1 GiB.
const NUMBERS: usize = 1 << 27;

/// The parameters, checked.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// Height, width, channels.
    image: [usize; 3],
    pub(super) order: Order,
    kernels: Vec<u64>,
    strides: Vec<u64>,
    same: bool,
    pools: Vec<u64>,
    average: bool,
    hidden: usize,
    activation: Activation,
    weights: Vec<f64>,
    biases: Vec<f64>,
}

pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter::required(
        "image",
        Domain::Integers(1, 65_536),
        "[height, width, channels] of the images that rows of data are",
    )
    .required_as("[height, width, channels]"),
    Parameter::new(
        "order",
        Domain::choice::<Order>(),
        "chw",
        "order of a row of data: chw (channel, row, column) or hwc",
    ),
    Parameter::new(
        "kernel",
        Domain::Integers(1, 1024),
        "[3, 3]",
        "side of the kernel of each convolution, 1 to 64 of them",
    ),
    Parameter::new(
        "stride",
        Domain::IntegerOrIntegers(1, 1024),
        "1",
        "stride of all convolutions, or a list",
    ),
    Parameter::new(
        "padding",
        Domain::one_of("padding", || vec!["same", "valid"]),
        "same",
        "same (zeros, ⌊(k − 1)/2⌋ before and the rest of k − 1 after) or valid",
    ),
    Parameter::new(
        "pool",
        Domain::IntegerOrIntegers(1, 1024),
        "1",
        "side of the average pooling after each activation, 1 for none; or a list",
    ),
    Parameter::new(
        "readout",
        Domain::one_of("readout", || vec!["flatten", "average"]),
        "flatten",
        "flatten (all positions) or average (over all positions)",
    ),
    Parameter::new(
        "hidden",
        Domain::Integer(0, 64),
        "0",
        "dense hidden layers after that, 0 to 64",
    ),
    ACTIVATION,
    WEIGHT_VAR.with_help(
        "fan_in × variance of weights, 1e-12 to 1e12; or a list of convolutions + hidden + 1",
    ),
    BIAS_VAR.with_help("variance of biases, 0 to 1e12; or a list of convolutions + hidden + 1"),
];

pub(super) fn title(tangent: bool) -> &'static str {
    if tangent { "cntk" } else { "cnn_gp" }
}

pub(super) fn build(args: &Args<'_>, tangent: bool) -> Result<Arc<dyn Kernel>> {
    let image = match args.sizes("image")?[..] {
        [h, w, c] if h.max(w) <= 1024 => [h, w, c],
        _ => {
            let message =
                "`image` must be [height, width, channels], height and width at most 1024";
            return Err(args.fault("image", message));
        }
    };
    let whole = |sizes: Vec<usize>| sizes.into_iter().map(|v| v as u64).collect::<Vec<_>>();
    let kernels = whole(args.sizes("kernel")?);
    if kernels.is_empty() || kernels.len() > 64 {
        return Err(args.fault("kernel", "`kernel` must hold 1 to 64 numbers"));
    }
    let spec = Spec {
        image,
        order: args.choice("order")?,
        strides: whole(args.sizes_of("stride", kernels.len())?),
        same: args.is("padding", "same"),
        pools: whole(args.sizes_of("pool", kernels.len())?),
        average: args.is("readout", "average"),
        hidden: args.size("hidden")?,
        activation: args.choice("activation")?,
        weights: Vec::new(),
        biases: Vec::new(),
        kernels,
    };
    let count = spec.kernels.len() + spec.hidden + 1;
    let spec = Spec {
        weights: args.numbers("weight_var", count)?,
        biases: args.numbers("bias_var", count)?,
        ..spec
    };
    let layers = spec.layers(args)?;
    Ok(Arc::new(Convolutional { tangent, layers, spec }))
}

impl Spec {
    /// The sizes of all layers. Dense layers are convolutions whose kernel is the whole grid.
    fn layers(&self, args: &Args<'_>) -> Result<Layers> {
        let [h, w, channels] = self.image;
        let image = Size { h, w };
        let mut geometry = Geometry::default();
        for i in 0..self.kernels.len() + self.hidden {
            let (weight, bias) = (self.weights[i], self.biases[i]);
            let layer = match self.kernels.get(i) {
                Some(kernel) => Layer {
                    kernel: Size::square(*kernel as usize),
                    stride: self.strides[i] as usize,
                    same: self.same,
                    pool: Size::square(self.pools[i] as usize),
                    average: self.average && i + 1 == self.kernels.len(),
                    weight,
                    bias,
                },
                None => Layer::dense(geometry.last(image), weight, bias),
            };
            geometry.push(image, layer).map_err(|(window, grid)| {
                let (key, side) = match window {
                    Window::Kernel => ("kernel", self.kernels.get(i)),
                    Window::Pool => ("pool", self.pools.get(i)),
                };
                let (number, side) = (i + 1, side.copied().unwrap_or(0));
                let Size { h, w } = grid;
                let message = format!(
                    "`{key}` {side} of layer {number} does not fit on what is left of the image, \
                     {h} × {w} positions"
                );
                args.fault(key, message)
            })?;
        }
        geometry.finish();
        let numbers = geometry.numbers();
        if numbers > NUMBERS {
            let message = format!(
                "pooling asks for {numbers} covariances between positions of every pair of images, \
                 more than {NUMBERS}"
            );
            return Err(args.fault("pool", message));
        }
        let last = self.weights.len() - 1;
        let output = (self.weights[last], self.biases[last]);
        Ok(Layers { geometry, image, channels, activation: self.activation, output })
    }

    /// See [`Kernel::text`].
    pub(super) fn text(&self, tangent: bool) -> String {
        let one = |v: &u64| v.to_string();
        let lists = |of: &[u64]| format!("[{}]", of.iter().map(one).collect::<Vec<_>>().join(", "));
        let short =
            |of: &[u64]| if of.iter().all(|v| *v == of[0]) { one(&of[0]) } else { lists(of) };
        let [h, w, c] = self.image;
        let entry = if tangent { &super::CNTK } else { &super::CNN_GP };
        entry.text(&[
            ("image", &format!("[{h}, {w}, {c}]")),
            ("order", &self.order.name()),
            ("kernel", &lists(&self.kernels)),
            ("stride", &short(&self.strides)),
            ("padding", &if self.same { "same" } else { "valid" }),
            ("pool", &short(&self.pools)),
            ("readout", &if self.average { "average" } else { "flatten" }),
            ("hidden", &self.hidden),
            ("activation", &self.activation.name()),
            ("weight_var", &super::super::shortest(&self.weights)),
            ("bias_var", &super::super::shortest(&self.biases)),
        ])
    }
}
