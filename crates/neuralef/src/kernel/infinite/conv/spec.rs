//! The text form of the convolutional kernels: parameters, their checks, and back to text.

use std::sync::Arc;

use super::super::activation_of;
use super::super::duals::Activation;
use super::Convolutional;
use super::geometry::{Geometry, Layer, Size, Window};
use super::pairs::Layers;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::nn::Order;
use crate::spec::args::Args;

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

pub(super) const PARAMETERS: &[(&str, &str, &str)] = &[
    ("image", "required", "[height, width, channels] of the images that rows of data are"),
    ("order", "chw", "order of a row of data: chw (channel, row, column) or hwc"),
    ("kernel", "[3, 3]", "side of the kernel of each convolution, 1 to 64 of them"),
    ("stride", "1", "stride of all convolutions, or a list"),
    ("padding", "same", "same (zeros, ⌊(k − 1)/2⌋ before and the rest of k − 1 after) or valid"),
    ("pool", "1", "side of the average pooling after each activation, 1 for none; or a list"),
    ("readout", "flatten", "flatten (all positions) or average (over all positions)"),
    ("hidden", "0", "dense hidden layers after that, 0 to 64"),
    ("activation", "relu", "relu, leaky_relu, erf, sin_cos (half sin, half cos) or gelu"),
    (
        "weight_var",
        "2",
        "fan_in × variance of weights, 1e-12 to 1e12; or a list of convolutions + hidden + 1",
    ),
    ("bias_var", "0.1", "variance of biases, 0 to 1e12; or a list of convolutions + hidden + 1"),
];

pub(super) fn title(tangent: bool) -> &'static str {
    if tangent { "cntk" } else { "cnn_gp" }
}

/// One of two names; true for the first.
fn either(args: &Args<'_>, key: &str, names: [&'static str; 2]) -> Result<bool> {
    match args.name(key, names[0])? {
        name if name == names[0] => Ok(true),
        name if name == names[1] => Ok(false),
        other => Err(Error::unknown(key, other, &names)),
    }
}

/// One whole number from 1 to 1024 for each of `count` layers, 1 unless given.
fn sides(args: &Args<'_>, key: &str, count: usize) -> Result<Vec<u64>> {
    let values = args.numbers(key, count, 1.0..=1024.0, 1.0)?;
    if values.iter().any(|v| v.fract() != 0.0) {
        return Err(args.fault(key, format!("`{key}` must hold whole numbers from 1 to 1024")));
    }
    Ok(values.into_iter().map(|v| v as u64).collect())
}

pub(super) fn build(args: &Args<'_>, tangent: bool) -> Result<Arc<dyn Kernel>> {
    let image = args.integers("image", 1..=65_536, &[])?;
    let image = match image[..] {
        [h, w, c] if h.max(w) <= 1024 => [h, w, c].map(|n| n as usize),
        _ => {
            let message =
                "`image` must be [height, width, channels], height and width at most 1024";
            return Err(args.fault("image", message));
        }
    };
    let order = Order::from_name(args.name("order", "chw")?)?;
    let kernels = args.integers("kernel", 1..=1024, &[3, 3])?;
    if kernels.is_empty() || kernels.len() > 64 {
        return Err(args.fault("kernel", "`kernel` must hold 1 to 64 numbers"));
    }
    let spec = Spec {
        image,
        order,
        strides: sides(args, "stride", kernels.len())?,
        same: either(args, "padding", ["same", "valid"])?,
        pools: sides(args, "pool", kernels.len())?,
        average: !either(args, "readout", ["flatten", "average"])?,
        hidden: args.integer("hidden", 0..=64, 0)? as usize,
        activation: activation_of(args)?,
        weights: Vec::new(),
        biases: Vec::new(),
        kernels,
    };
    let count = spec.kernels.len() + spec.hidden + 1;
    let spec = Spec {
        weights: args.numbers("weight_var", count, 1e-12..=1e12, 2.0)?,
        biases: args.numbers("bias_var", count, 0.0..=1e12, 0.1)?,
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
        format!(
            "{}(image=[{h}, {w}, {c}], order={}, kernel={}, stride={}, padding={}, pool={}, \
             readout={}, hidden={}, activation={}, weight_var={}, bias_var={})",
            title(tangent),
            self.order.name(),
            lists(&self.kernels),
            short(&self.strides),
            if self.same { "same" } else { "valid" },
            short(&self.pools),
            if self.average { "average" } else { "flatten" },
            self.hidden,
            self.activation.name(),
            super::super::shortest(&self.weights),
            super::super::shortest(&self.biases),
        )
    }
}
