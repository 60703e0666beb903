//! What each operator of a file is in the engine.

use super::convert::Converter;
use super::integers::{self, Integers};
use super::reader::Reader;
use super::tensor::head;
use super::terms::{Term, Wire};
use crate::error::{Error, Result};
use crate::nn::activation::{Activation, LEAK};
use crate::nn::graph::{Conv, GraphLayer, Image, Pool, PoolKind};

/// The operators that are supported, as messages list them.
const OPERATORS: &str = "Conv, Gemm, MatMul, Add, BatchNormalization, Relu, LeakyRelu, Tanh, Erf, Gelu, \
     Swish (or x·Sigmoid(x)), MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean over \
     pixels, Flatten, Reshape to rows, Slice of pixels and Pad of channels, Identity, Dropout, \
     Constant, and arithmetic on shapes";

impl Converter<'_> {
    /// What the node of `reader` computes.
    pub(super) fn node(&mut self, reader: &Reader<'_>) -> Result<Term> {
        let operator = reader.operator();
        let inputs: Vec<&Term> = (0..)
            .map_while(|i| reader.input(i).map(|_| self.term(reader, i)))
            .collect::<Result<_>>()?;
        let sizes: Option<Vec<&Integers>> = inputs
            .iter()
            .map(|term| if let Term::Integers(x) = term { Some(x) } else { None })
            .collect();
        match (operator.as_str(), sizes) {
            ("Constant", _) => self.constant(reader),
            ("Shape", _) => self.shape(reader),
            (_, Some(sizes)) if !sizes.is_empty() => {
                integers::evaluate(reader, &sizes).map(Term::Integers)
            }
            ("Conv", _) => self.conv(reader),
            ("Gemm", _) => self.gemm(reader),
            ("MatMul", _) => self.product(reader),
            ("BatchNormalization", _) => self.norm(reader),
            ("Relu", _) => self.activate(reader, Activation::Relu),
            ("Tanh", _) => self.activate(reader, Activation::Tanh),
            ("LeakyRelu", _) => match reader.float("alpha", 0.01)? {
                LEAK => self.activate(reader, Activation::LeakyRelu),
                other => Err(reader.refuse(Some("alpha"), format!("only {LEAK} is, got {other}"))),
            },
            ("Gelu", _) => match reader.text("approximate", "none")?.as_str() {
                "none" => self.activate(reader, Activation::Gelu),
                other => {
                    let reason = format!("only `none` is, got `{other}`");
                    Err(reader.refuse(Some("approximate"), reason))
                }
            },
            ("Swish", _) => match reader.float("alpha", 1.0)? {
                1.0 => self.activate(reader, Activation::Silu),
                other => Err(reader.refuse(Some("alpha"), format!("only 1 is, got {other}"))),
            },
            ("Sigmoid", _) => self.sigmoid(reader),
            ("Erf", _) => self.erf(reader),
            ("Mul", _) => self.times(reader),
            ("Div", _) => self.over(reader),
            ("Add", _) => self.add(reader),
            ("MaxPool", _) => self.pool(reader, PoolKind::Max),
            ("AveragePool", _) => self.pool(reader, PoolKind::Average),
            ("GlobalMaxPool", _) => self.global(reader, PoolKind::Max, false),
            ("GlobalAveragePool", _) => self.global(reader, PoolKind::Average, false),
            ("ReduceMean", _) => self.mean(reader),
            ("Flatten", _) => self.flatten(reader),
            ("Reshape", _) => self.reshape(reader),
            ("Slice", _) => self.slice(reader),
            ("Pad", _) => self.pad(reader),
            ("Identity", _) => self.same(reader),
            ("Dropout", _) => {
                // What is dropped in training is all there otherwise.
                reader.float("ratio", 0.5)?;
                reader.integer("seed", 0)?;
                if reader.input(2).is_some() {
                    return Err(reader.refuse(None, "only outside training is it"));
                }
                self.same(reader)
            }
            _ => Err(reader.refuse(None, format!("operators that are: {OPERATORS}"))),
        }
    }

    fn constant(&self, reader: &Reader<'_>) -> Result<Term> {
        if let Some(tensor) = reader.constant("value")? {
            return Term::of(tensor).map_err(|e| reader.fault(e));
        }
        let ints = reader.integers("value_ints")?;
        let int =
            || Ok::<_, Error>(reader.has("value_int").then_some(reader.integer("value_int", 0)?));
        match (ints, int()?) {
            (Some(list), _) if list.len() <= integers::MOST => {
                Ok(Term::Integers(Integers::vector(list.into_iter().map(Some).collect())))
            }
            (None, Some(v)) => {
                Ok(Term::Integers(Integers { dims: Vec::new(), values: vec![Some(v)] }))
            }
            _ => Err(reader.refuse(None, "only a tensor or integers are")),
        }
    }

    fn shape(&self, reader: &Reader<'_>) -> Result<Term> {
        let all = match self.term(reader, 0)? {
            Term::Integers(x) => x.dims.iter().map(|d| Some(*d as i64)).collect(),
            Term::Tensor(x) => x.dims.iter().map(|d| Some(*d as i64)).collect(),
            Term::Part(part) => return Err(part.refuse(self.file)),
            Term::Wire(wire) => {
                let image = self.graph.image(wire.value);
                let size = |v: usize| Some(v as i64);
                match wire.flat {
                    true => vec![None, size(image.len())],
                    false => {
                        vec![None, size(image.channels), size(image.height), size(image.width)]
                    }
                }
            }
        };
        reader.only("start", 0)?;
        if all.len() > integers::MOST {
            return Err(reader.refuse(None, "too many dimensions"));
        }
        Ok(Term::Integers(Integers::vector(all)))
    }

    fn same(&self, reader: &Reader<'_>) -> Result<Term> {
        match self.term(reader, 0)? {
            Term::Wire(wire) => self.alias(reader, 0, wire.flat),
            Term::Part(part) => Err(part.refuse(self.file)),
            constant => Ok(constant.clone()),
        }
    }

    fn conv(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(3)?;
        let of = self.images(reader, 0)?;
        let input = self.graph.image(of.value);
        let weight = self.unshared_tensor(reader, 1)?;
        let [channels, inner, height, width] = weight.dims[..] else {
            let reason = format!(
                "only two spatial dimensions are, the weights have shape {:?}",
                head(&weight.dims)
            );
            return Err(reader.refuse(None, reason));
        };
        let kernel = [height, width];
        let declared = reader.integers("kernel_shape")?;
        if declared.is_some_and(|k| k != kernel.map(|k| k as i64)) {
            return Err(reader.fault(format_args!("`kernel_shape` is not that of the weights")));
        }
        let stride = reader.sizes("strides", 1)?;
        if reader.sizes("dilations", 1)? != [1, 1] {
            return Err(reader.refuse(Some("dilations"), "only 1 is"));
        }
        let groups = usize::try_from(reader.integer("group", 1)?).unwrap_or(0);
        if inner.checked_mul(groups) != Some(input.channels) {
            let got = format!("{groups} groups of {inner}");
            let message = format!("expected weights for {} channels, got {got}", input.channels);
            return Err(reader.fault(message));
        }
        let padding = padding(reader, input, kernel, stride)?;
        let name = self.layer_name(reader, reader.input(1));
        let numbers = self.numbers(reader, 1, &weight, weight.size())?;
        self.weights.insert(format!("{name}.weight"), numbers);
        let bias = reader.input(2).is_some();
        if bias {
            let numbers = self.numbers(reader, 2, &*self.tensor(reader, 2)?, channels)?;
            self.weights.insert(format!("{name}.bias"), numbers);
        }
        let shape = Conv { input, channels, kernel, stride, padding, groups, bias, flat: false };
        let value = self.graph.conv(&name, of.value, shape);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, false))
    }

    /// Gemm: α·A·B + β·C, with B transposed or not.
    fn gemm(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(3)?;
        reader.only("transA", 0)?;
        let transposed = reader.integer("transB", 0)? != 0;
        let (alpha, beta) = (reader.float("alpha", 1.0)?, reader.float("beta", 1.0)?);
        for (name, factor) in [("alpha", alpha), ("beta", beta)] {
            if !factor.is_finite() {
                return Err(reader.refuse(Some(name), "only finite numbers are"));
            }
        }
        let (name, value, outputs) = self.dense(reader, transposed, alpha)?;
        if reader.input(2).is_some() {
            let tensor = self.tensor(reader, 2)?;
            let mut bias = match tensor.size() {
                1 => vec![self.numbers(reader, 2, &tensor, 1)?[0]; outputs],
                _ if !is_row(&tensor.dims, &[outputs]) => {
                    let reason = format!("a bias of shape {:?}", head(&tensor.dims));
                    return Err(reader.refuse(None, reason));
                }
                _ => self.numbers(reader, 2, &tensor, outputs)?,
            };
            bias.iter_mut().for_each(|b| *b *= beta);
            self.set_bias(&name, bias);
        }
        Ok(Self::fresh(value, true))
    }

    fn product(&mut self, reader: &Reader<'_>) -> Result<Term> {
        let (_, value, _) = self.dense(reader, false, 1.0)?;
        Ok(Self::fresh(value, true))
    }

    /// A dense layer without a bias: its name, value, and number of outputs.
    fn dense(
        &mut self,
        reader: &Reader<'_>,
        transposed: bool,
        factor: f32,
    ) -> Result<(String, usize, usize)> {
        let of = self.wire(reader, 0)?;
        if !of.flat {
            return Err(reader.refuse(None, "only rows are, not images: flatten them first"));
        }
        let (input, weight) = (self.graph.image(of.value), self.unshared_tensor(reader, 1)?);
        let (outputs, inner) = match (&weight.dims[..], transposed) {
            ([o, i], true) | ([i, o], false) => (*o, *i),
            _ => {
                let got = head(&weight.dims);
                return Err(reader.refuse(None, format!("weights of shape {got:?}")));
            }
        };
        if inner != input.len() {
            let got = head(&weight.dims);
            let message = format!("expected weights for {} inputs, got shape {got:?}", input.len());
            return Err(reader.fault(message));
        }
        let mut numbers = self.numbers(reader, 1, &weight, weight.size())?;
        if !transposed {
            let at = |k: usize| numbers[k % inner * outputs + k / inner];
            numbers = (0..numbers.len()).map(at).collect();
        }
        numbers.iter_mut().for_each(|w| *w *= factor);
        let name = self.layer_name(reader, reader.input(1));
        let shape = Conv { bias: false, ..Conv::dense(input, outputs) };
        let value = self.graph.conv(&name, of.value, shape);
        let value = value.map_err(|e| reader.refuse(None, e.to_string()))?;
        self.weights.insert(format!("{name}.weight"), numbers);
        Ok((name, value, outputs))
    }

    /// Gives the latest layer, a convolution without a bias, this one.
    fn set_bias(&mut self, name: &str, bias: Vec<f32>) {
        if let Some(GraphLayer::Conv(conv)) =
            self.graph.nodes.last_mut().map(|node| &mut node.layer)
        {
            conv.bias = true;
            self.weights.insert(format!("{name}.bias"), bias);
        }
    }

    fn norm(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(5)?;
        let of = self.wire(reader, 0)?;
        let image = self.graph.image(of.value);
        if of.flat && !image.is_vector() {
            return Err(reader.refuse(None, "only normalisation by channels is"));
        }
        reader.only("training_mode", 0)?;
        reader.only("spatial", 1)?;
        reader.float("momentum", 0.9)?;
        let epsilon = f64::from(reader.float("epsilon", 1e-5)?);
        // What PyTorch writes as 1e-5 is read back as the float next to it.
        let epsilon = format!("{}", epsilon as f32).parse().unwrap_or(epsilon);
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            let reason = format!("only positive numbers are, got {epsilon}");
            return Err(reader.refuse(Some("epsilon"), reason));
        }
        let name = self.layer_name(reader, reader.input(1));
        for (i, part) in ["weight", "bias", "running_mean", "running_var"].into_iter().enumerate() {
            let tensor = self.tensor(reader, i + 1)?;
            let numbers = self.numbers(reader, i + 1, &tensor, image.channels)?;
            if i == 3 && numbers.iter().any(|v| *v < 0.0) {
                return Err(reader.fault("a variance is negative"));
            }
            self.weights.insert(format!("{name}.{part}"), numbers);
        }
        Ok(Self::fresh(self.graph.norm(&name, of.value, epsilon), of.flat))
    }

    fn add(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(2)?;
        for (a, b) in [(0, 1), (1, 0)] {
            match (self.term(reader, a)?, self.term(reader, b)?) {
                (Term::Part(part), Term::Tensor(by)) => {
                    if let Some(sum) = Self::plus(reader, part, by) {
                        return Ok(sum);
                    }
                }
                (Term::Wire(of), Term::Tensor(_)) => return self.add_bias(reader, a, b, *of),
                _ => {}
            }
        }
        let (a, b) = (self.wire(reader, 0)?, self.wire(reader, 1)?);
        let (first, second) = (self.graph.image(a.value), self.graph.image(b.value));
        if a.flat != b.flat || first != second {
            let reason = "only values of the same shape are, without broadcasting";
            return Err(reader.refuse(None, reason));
        }
        let name = self.layer_name(reader, None);
        Ok(Self::fresh(self.graph.add(&name, a.value, b.value)?, a.flat))
    }

    /// A constant for each channel, which the layer before takes as its bias.
    fn add_bias(&mut self, reader: &Reader<'_>, a: usize, b: usize, of: Wire) -> Result<Term> {
        let (channels, tensor) = (self.graph.image(of.value).channels, self.tensor(reader, b)?);
        let expected: &[usize] = if of.flat { &[channels] } else { &[channels, 1, 1] };
        let layer = self.graph.nodes.last();
        let name = layer.filter(|node| {
            let bare = matches!(&node.layer, GraphLayer::Conv(conv) if !conv.bias);
            bare && self.is_open(of) && self.is_read(reader, a, of, 1)
        });
        match name.map(|node| node.name.clone()) {
            Some(name) if is_row(&tensor.dims, expected) => {
                let bias = self.numbers(reader, b, &tensor, channels)?;
                self.set_bias(&name, bias);
                Ok(Self::fresh(of.value, of.flat))
            }
            _ => {
                let reason = "a constant only as the bias, one number for each channel, of a layer \
                              that has none is";
                Err(reader.refuse(None, reason))
            }
        }
    }

    fn pool(&mut self, reader: &Reader<'_>, kind: PoolKind) -> Result<Term> {
        reader.at_most(1)?;
        let of = self.images(reader, 0)?;
        let input = self.graph.image(of.value);
        let kernel: [usize; 2] = reader.sizes("kernel_shape", 0)?;
        let stride: [usize; 2] = reader.sizes("strides", 1)?;
        let padding = padding(reader, input, kernel, stride)?;
        if reader.sizes("dilations", 1)? != [1, 1] {
            return Err(reader.refuse(Some("dilations"), "only 1 is"));
        }
        let counted = reader.integer("count_include_pad", 0)? != 0;
        reader.only("storage_order", 0)?;
        let whole = |size: usize, axis: usize| {
            let size = padding[axis].checked_mul(2).and_then(|both| size.checked_add(both));
            let rest = size.and_then(|size| size.checked_sub(kernel[axis]));
            rest.and_then(|rest| rest.checked_rem(stride[axis])) == Some(0)
        };
        let even = whole(input.height, 0) && whole(input.width, 1);
        if reader.integer("ceil_mode", 0)? != 0 && !even {
            return Err(reader.refuse(Some("ceil_mode"), "only windows within the image are"));
        }
        let name = self.layer_name(reader, None);
        let pool = Pool { padding, counted, ..Pool::new(input, kind, kernel, stride) };
        let value = self.graph.pool(&name, of.value, pool);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, false))
    }

    /// A pool over all pixels.
    fn global(&mut self, reader: &Reader<'_>, kind: PoolKind, flat: bool) -> Result<Term> {
        let of = self.images(reader, 0)?;
        let pool = Pool { kind, ..Pool::global(self.graph.image(of.value)) };
        let name = self.layer_name(reader, None);
        let value = self.graph.pool(&name, of.value, pool);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, flat))
    }

    fn mean(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(2)?;
        let listed = match reader.input(1) {
            Some(_) => self.sizes(reader, 1)?.into_iter().collect(),
            None => reader.integers("axes")?,
        };
        let mut axes: Vec<i64> = listed.clone().unwrap_or_default();
        axes.iter_mut().filter(|a| **a < 0).for_each(|a| *a = a.saturating_add(4));
        axes.sort_unstable();
        if axes != [2, 3] {
            let got = head(&listed.unwrap_or_default()).to_vec();
            return Err(reader.refuse(Some("axes"), format!("only [2, 3] is, got {got:?}")));
        }
        reader.only("noop_with_empty_axes", 0)?;
        let flat = reader.integer("keepdims", 1)? == 0;
        self.global(reader, PoolKind::Average, flat)
    }
}

/// Whether a shape is `expected`, with any number of 1 before it.
fn is_row(dims: &[usize], expected: &[usize]) -> bool {
    let bare = |dims: &[usize]| dims.iter().skip_while(|d| **d == 1).copied().collect::<Vec<_>>();
    dims.len() <= 4 && bare(dims) == bare(expected)
}

/// Zeros on either side, by `pads` or `auto_pad`.
fn padding(
    reader: &Reader<'_>,
    input: Image,
    kernel: [usize; 2],
    stride: [usize; 2],
) -> Result<[usize; 2]> {
    let [top, left, bottom, right] = reader.sizes("pads", 0)?;
    match reader.text("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" if [top, left] == [bottom, right] => Ok([top, left]),
        "NOTSET" => {
            let got = [top, left, bottom, right];
            let reason = format!("only the same on either side is, got {got:?}");
            Err(reader.refuse(Some("pads"), reason))
        }
        "VALID" => Ok([0, 0]),
        "SAME_UPPER" | "SAME_LOWER" => {
            let total = |size: usize, axis: usize| {
                let step = stride[axis].max(1);
                let reach = (size.div_ceil(step) - 1).checked_mul(step)?;
                let total = reach.checked_add(kernel[axis])?.saturating_sub(size);
                (total % 2 == 0).then_some(total / 2)
            };
            match (total(input.height, 0), total(input.width, 1)) {
                (Some(above), Some(before)) => Ok([above, before]),
                _ => {
                    let reason = "only as much on either side is, which this comes not to";
                    Err(reader.refuse(Some("auto_pad"), reason))
                }
            }
        }
        other => Err(reader.refuse(Some("auto_pad"), format!("got `{other}`"))),
    }
}
