//! What each operator of a file is in the engine.

use std::sync::Arc;

use super::convert::{Converter, Term, Wire};
use super::integers::{self, Integers};
use super::reader::Reader;
use super::tensor::{Tensor, head};
use crate::error::{Error, Result};
use crate::nn::activation::{Activation, LEAK};
use crate::nn::graph::{Conv, Image, Layer, Pool, PoolKind, Shortcut};

/// The operators that are supported, as messages list them.
const OPERATORS: &str = "Conv, Gemm, MatMul, Add, BatchNormalization, Relu, LeakyRelu, Tanh, Erf, Gelu, \
     Swish (or x·Sigmoid(x)), MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean over \
     pixels, Flatten, Reshape to rows, Slice of pixels and Pad of channels, Identity, Dropout, \
     Constant, and arithmetic on shapes";

/// A part of an activation that is written as several nodes.
#[derive(Debug, Clone)]
pub(super) struct Part {
    stage: Stage,
    /// The name of what the activation is of.
    of: Arc<str>,
    /// The node, for a part that is used for anything else.
    node: String,
    operator: String,
}

/// How far an activation of x has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// x/√2.
    Scaled,
    /// erf(x/√2).
    Erf,
    /// 1 + erf(x/√2), twice the normal distribution function.
    Distribution,
    /// x (1 + erf(x/√2)).
    Twice,
    /// x/2.
    Half,
    /// The normal distribution function.
    Normal,
}

impl Part {
    const REASON: &str =
        "only as a part of SiLU, x·sigmoid(x), or GELU, x/2·(1 + erf(x/√2)), is it";

    /// That it is no activation.
    pub(super) fn refuse(&self, file: &str) -> Error {
        Error::UnsupportedNode {
            path: file.into(),
            node: self.node.clone(),
            operator: self.operator.clone(),
            attribute: None,
            reason: "only as a part of SiLU, x·sigmoid(x), or GELU, x/2·(1 + erf(x/√2)), is it"
                .into(),
        }
    }
}

/// Whether `tensor` is the one number `value`, as far as single precision tells.
fn is_number(tensor: &Tensor, value: f64) -> bool {
    tensor.scalar().is_some_and(|v| (f64::from(v) / value - 1.0).abs() < 1e-6)
}

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
            ("Sigmoid", _) => self.begin(reader, 0, Stage::Sigmoid),
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
        let weight = self.own(reader, 1)?;
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
        let (input, weight) = (self.graph.image(of.value), self.own(reader, 1)?);
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
        if let Some(Layer::Conv(conv)) = self.graph.nodes.last_mut().map(|node| &mut node.layer) {
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

    /// An activation of input 0, which nothing else reads but the node itself.
    fn activate(&mut self, reader: &Reader<'_>, activation: Activation) -> Result<Term> {
        reader.at_most(1)?;
        let of = self.wire(reader, 0)?;
        let alone = self.is_read(reader, 0, of, 1);
        self.apply(reader, of, alone, activation)
    }

    /// An activation of `of`: in place when no one else wants the value without it.
    fn apply(
        &mut self,
        reader: &Reader<'_>,
        of: Wire,
        alone: bool,
        activation: Activation,
    ) -> Result<Term> {
        if !(alone && self.is_open(of)) {
            let name = self.layer_name(reader, None);
            self.graph.copy(&name, of.value);
        }
        let value = self.graph.activate(activation);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, of.flat))
    }

    /// An activation that is complete with this node: of what both its inputs are of, which two nodes
    /// read.
    fn complete(&mut self, reader: &Reader<'_>, of: &str, activation: Activation) -> Result<Term> {
        let Some(wire) = self.wire_named(of) else {
            return Err(reader.fault("it reads what nothing computes"));
        };
        let alone = wire.alone && self.reads(of) == 2;
        self.apply(reader, wire, alone, activation)
    }

    /// A part of an activation of the values that input `i` is.
    fn begin(&self, reader: &Reader<'_>, i: usize, stage: Stage) -> Result<Term> {
        self.wire(reader, i)?;
        Ok(Self::part(reader, reader.needed(i)?.into(), stage))
    }

    fn part(reader: &Reader<'_>, of: Arc<str>, stage: Stage) -> Term {
        Term::Part(Part { stage, of, node: reader.name(), operator: reader.operator() })
    }

    fn erf(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match self.term(reader, 0)? {
            Term::Part(part) if part.stage == Stage::Scaled => {
                Ok(Self::part(reader, part.of.clone(), Stage::Erf))
            }
            _ => self.activate(reader, Activation::Erf),
        }
    }

    fn over(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match (self.term(reader, 0)?, self.term(reader, 1)?) {
            (Term::Wire(_), Term::Tensor(by)) if is_number(by, 2f64.sqrt()) => {
                self.begin(reader, 0, Stage::Scaled)
            }
            (Term::Part(part), _) => Err(part.refuse(self.file)),
            _ => Err(reader.refuse(None, "only as a part of GELU, x/√2, is it")),
        }
    }

    fn times(&mut self, reader: &Reader<'_>) -> Result<Term> {
        for (a, b) in [(0, 1), (1, 0)] {
            let (of, activation) = match (self.term(reader, a)?, self.term(reader, b)?) {
                (Term::Wire(_), Term::Part(part)) if *part.of == *reader.needed(a)? => {
                    let of = part.of.clone();
                    match part.stage {
                        Stage::Sigmoid => (of, Activation::Silu),
                        Stage::Normal => (of, Activation::Gelu),
                        Stage::Distribution => return Ok(Self::part(reader, of, Stage::Twice)),
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5f64.sqrt()) => {
                    return self.begin(reader, a, Stage::Scaled);
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5) => {
                    return self.begin(reader, a, Stage::Half);
                }
                (Term::Part(part), Term::Tensor(by)) if is_number(by, 0.5) => {
                    let of = part.of.clone();
                    match part.stage {
                        Stage::Twice => (of, Activation::Gelu),
                        Stage::Distribution => return Ok(Self::part(reader, of, Stage::Normal)),
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Part(x), Term::Part(y))
                    if x.of == y.of && (x.stage, y.stage) == (Stage::Half, Stage::Distribution) =>
                {
                    (x.of.clone(), Activation::Gelu)
                }
                _ => continue,
            };
            return self.complete(reader, &of, activation);
        }
        Err(reader.refuse(None, Part::REASON))
    }

    fn add(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(2)?;
        for (a, b) in [(0, 1), (1, 0)] {
            match (self.term(reader, a)?, self.term(reader, b)?) {
                (Term::Part(part), Term::Tensor(one))
                    if part.stage == Stage::Erf && is_number(one, 1.0) =>
                {
                    return Ok(Self::part(reader, part.of.clone(), Stage::Distribution));
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
            let bare = matches!(&node.layer, Layer::Conv(conv) if !conv.bias);
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
        if padding(reader, input, kernel, stride)? != [0, 0] {
            return Err(reader.refuse(Some("pads"), "only pools without padding are"));
        }
        if reader.sizes("dilations", 1)? != [1, 1] {
            return Err(reader.refuse(Some("dilations"), "only 1 is"));
        }
        // Without padding there is none to count.
        reader.integer("count_include_pad", 0)?;
        reader.only("storage_order", 0)?;
        let whole = |size: usize, axis: usize| {
            let rest = size.checked_sub(kernel[axis]);
            rest.and_then(|rest| rest.checked_rem(stride[axis])) == Some(0)
        };
        let even = whole(input.height, 0) && whole(input.width, 1);
        if reader.integer("ceil_mode", 0)? != 0 && !even {
            return Err(reader.refuse(Some("ceil_mode"), "only windows within the image are"));
        }
        let name = self.layer_name(reader, None);
        let value = self.graph.pool(&name, of.value, Pool { input, kind, kernel, stride });
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

    fn flatten(&mut self, reader: &Reader<'_>) -> Result<Term> {
        let rank = if self.wire(reader, 0)?.flat { 2 } else { 4 };
        match reader.integer("axis", 1)? {
            axis if axis == 1 || axis == 1 - rank => self.alias(reader, 0, true),
            other => Err(reader.refuse(Some("axis"), format!("only 1 is, got {other}"))),
        }
    }

    /// Only to rows of all numbers of a point.
    fn reshape(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(2)?;
        let wire = self.wire(reader, 0)?;
        let (shape, len) = (self.sizes(reader, 1)?, self.graph.image(wire.value).len() as i64);
        reader.only("allowzero", 0)?;
        let is_batch = |size: Option<i64>| match size {
            None | Some(0) => true,
            Some(size) => Some(size) == self.batch,
        };
        let rows = match shape[..] {
            [first, Some(-1)] => is_batch(first),
            [first, Some(second)] => second == len && (is_batch(first) || first == Some(-1)),
            _ => false,
        };
        if rows {
            return self.alias(reader, 0, true);
        }
        let show = |size: &Option<i64>| size.map_or("batch".into(), |v| v.to_string());
        let got: Vec<String> = head(&shape).iter().map(show).collect();
        let reason = format!("only to [batch, {len}] is it, got [{}]", got.join(", "));
        Err(reader.refuse(None, reason))
    }

    /// Every so-many-th pixel, from the first to the end.
    fn slice(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(5)?;
        let of = self.images(reader, 0)?;
        let list = |i: usize| -> Result<Vec<i64>> {
            let sizes = self.sizes(reader, i)?.into_iter().collect::<Option<Vec<i64>>>();
            sizes.ok_or_else(|| reader.refuse(None, "only constant bounds are"))
        };
        let (starts, ends) = (list(1)?, list(2)?);
        let axes = match reader.input(3) {
            Some(_) => list(3)?,
            None => (0..starts.len() as i64).collect(),
        };
        let steps = if reader.input(4).is_some() { list(4)? } else { vec![1; starts.len()] };
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || axes.len() > 4 {
            return Err(reader.fault("as many starts, ends, axes and steps are expected"));
        }
        let image = self.graph.image(of.value);
        let sides = [image.channels, image.height, image.width];
        let mut stride = [1; 2];
        let mut seen = Vec::new();
        for (i, axis) in axes.into_iter().enumerate() {
            let axis = if axis < 0 { axis.saturating_add(4) } else { axis };
            let step = usize::try_from(steps[i]).unwrap_or(0);
            let side = usize::try_from(axis).ok().and_then(|a| sides.get(a.checked_sub(1)?));
            let (Some(&side), false) = (side, seen.contains(&axis)) else {
                return Err(reader.refuse(None, format!("axis {axis}")));
            };
            seen.push(axis);
            let end = if ends[i] < 0 { ends[i].saturating_add(side as i64) } else { ends[i] };
            let end = usize::try_from(end).unwrap_or(0).min(side);
            let all = step > 0 && end.div_ceil(step) == side.div_ceil(step);
            if starts[i] != 0 || !all || (axis == 1 && step != 1) {
                let reason = "only every so-many-th pixel, from the first to the end, is";
                return Err(reader.refuse(None, reason));
            }
            if axis > 1 {
                stride[axis as usize - 2] = step;
            }
        }
        self.shortcut(reader, of, stride, [0, 0])
    }

    /// Channels of zeros before and after.
    fn pad(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(3)?;
        let of = self.images(reader, 0)?;
        let mode = reader.text("mode", "constant")?;
        if mode != "constant" {
            return Err(reader.refuse(Some("mode"), format!("only `constant` is, got `{mode}`")));
        }
        if reader.input(2).is_some() && self.tensor(reader, 2)?.scalar() != Some(0.0) {
            return Err(reader.refuse(None, "only zeros are padded with"));
        }
        let pads = self.sizes(reader, 1)?;
        let channel = |v: Option<i64>| v.and_then(|v| usize::try_from(v).ok());
        match pads[..] {
            [Some(0), b, Some(0), Some(0), Some(0), a, Some(0), Some(0)] => {
                let (Some(before), Some(after)) = (channel(b), channel(a)) else {
                    return Err(reader.refuse(None, "only channels that are added are"));
                };
                self.shortcut(reader, of, [1, 1], [before, after])
            }
            _ => {
                let reason = "only channels are padded; pads of pixels belong to the convolution";
                Err(reader.refuse(None, reason))
            }
        }
    }

    /// A shortcut of option A, joined with the one before where that is nobody else's.
    fn shortcut(
        &mut self,
        reader: &Reader<'_>,
        of: Wire,
        stride: [usize; 2],
        [before, after]: [usize; 2],
    ) -> Result<Term> {
        let too_many = || reader.refuse(None, "too many channels");
        let channels = self.graph.image(of.value).channels;
        let channels = [before, after].into_iter().try_fold(channels, usize::checked_add);
        let channels = channels.filter(|c| *c <= 1 << 24).ok_or_else(too_many)?;
        let mut cut = Shortcut { input: self.graph.input, stride, before, channels };
        let (mut name, mut from) = (None, of.value);
        if self.is_open(of) && self.is_read(reader, 0, of, 1) {
            let last = self.graph.nodes.pop_if(|node| matches!(node.layer, Layer::Shortcut(_)));
            if let Some(node) = last
                && let Layer::Shortcut(earlier) = node.layer
            {
                (name, from) = (Some(node.name), node.inputs[0]);
                cut.before += earlier.before;
                for (ours, theirs) in cut.stride.iter_mut().zip(earlier.stride) {
                    *ours = ours.saturating_mul(theirs);
                }
            }
        }
        let name = name.unwrap_or_else(|| self.layer_name(reader, None));
        let value = self.graph.shortcut(&name, from, cut);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, false))
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
