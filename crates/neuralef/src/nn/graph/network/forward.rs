//! The forward pass: packed weights, and the values of a block of images.

use std::ops::Range;

use super::ConvNetwork;
use crate::nn::activation::Activation;
use crate::nn::graph::Value;
use crate::nn::graph::join;
use crate::nn::graph::norm::{Affine, ChannelStatistics};
use crate::nn::graph::plan::{Op, Plan, Stage};
use crate::nn::graph::scratch::Scratch;
use crate::nn::product::{Panels, Start};

/// Weights of a unit in the form the layers read them, node by node.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) panels: Vec<Vec<Panels>>,
    pub(super) affine: Vec<Affine>,
}

impl ConvNetwork {
    /// The weights of `unit`; norms from their running statistics unless they are the batch's.
    pub(super) fn pack(&self, unit: usize, training: bool) -> Packed {
        let mut packed = self.pack_convolutions(unit, &self.plan, |node| node..node + 1);
        if !training {
            for node in 0..self.plan.ops.len() {
                if let Op::Norm { .. } = self.plan.ops[node] {
                    packed.affine[node] = self.affine(unit, node, None);
                }
            }
        }
        packed
    }

    /// The weights of `unit` for the folded graph.
    pub(super) fn pack_folded(&self, unit: usize) -> Packed {
        let origin = |node: usize| self.origins[node].clone();
        let mut packed = self.pack_convolutions(unit, &self.folded, origin);
        for (node, op) in self.folded.ops.iter().enumerate() {
            if let Op::Norm { .. } = op {
                packed.affine[node] = self.affine(unit, self.origins[node].start, None);
            }
        }
        packed
    }

    /// The convolutions of a plan whose nodes stand for the nodes `origin` of the graph.
    fn pack_convolutions(
        &self,
        unit: usize,
        plan: &Plan,
        origin: impl Fn(usize) -> Range<usize>,
    ) -> Packed {
        let mut packed = Packed::default();
        packed.panels.resize_with(plan.ops.len(), Vec::new);
        packed.affine.resize_with(plan.ops.len(), Affine::default);
        for (node, op) in plan.ops.iter().enumerate() {
            if let Op::Conv(conv) = op {
                let origin = origin(node);
                let (weight, bias) = self.tensors(unit, origin.start);
                packed.panels[node] = match origin.len() {
                    1 => conv.pack(weight, bias),
                    _ => {
                        let (weight, bias) = self.scaled(unit, origin.end - 1, weight, bias);
                        conv.pack(&weight, &bias)
                    }
                };
            }
        }
        packed
    }

    /// Weight and bias of a convolution with norm `norm` made part of it.
    fn scaled(
        &self,
        unit: usize,
        norm: usize,
        weight: &[f32],
        bias: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let channels = self.plan.stored[norm + 1].image.channels;
        let Affine { factor, offset } = self.affine(unit, norm, None);
        let mut scaled = weight.to_vec();
        for row in scaled.chunks_exact_mut(channels) {
            row.iter_mut().zip(&factor).for_each(|(w, a)| *w *= a);
        }
        let bias = (0..channels)
            .map(|c| offset[c] + factor[c] * bias.get(c).copied().unwrap_or(0.0))
            .collect();
        (scaled, bias)
    }

    /// Weight and bias of `node` of `unit`.
    pub(super) fn tensors(&self, unit: usize, node: usize) -> (&[f32], &[f32]) {
        let numbers = &self.parameters.units()[unit];
        let (weight, bias) = (&self.plan.weights[node], &self.plan.biases[node]);
        (&numbers[weight.clone()], &numbers[bias.clone()])
    }

    /// What norm `node` does with statistics `at`; with its running ones for none.
    fn affine(&self, unit: usize, node: usize, at: Option<&ChannelStatistics>) -> Affine {
        let Op::Norm { epsilon } = self.plan.ops[node] else { return Affine::default() };
        let (scale, shift) = self.tensors(unit, node);
        let stride = self.plan.stored[node + 1].stride;
        match at {
            Some(at) => at.affine(scale, shift, epsilon, stride),
            None => self.running(unit, node).affine(scale, shift, epsilon, stride),
        }
    }

    /// Packs norm `node` with statistics of the batch.
    pub(super) fn pack_norm(
        &self,
        packed: &mut Packed,
        unit: usize,
        node: usize,
        at: &ChannelStatistics,
    ) {
        packed.affine[node] = self.affine(unit, node, Some(at));
    }
}

/// What a pass over one segment leaves behind for the backward pass, of one unit.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) store: Store,
    /// Slopes of activations, for nodes where they do not follow from the value.
    pub(super) slopes: Vec<Vec<f32>>,
}

/// Values of a number of images: those that are kept for all of them, and those that live only
/// while a block goes through a stage.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// By value; empty where it is not kept.
    whole: Vec<Vec<f32>>,
    local: Vec<Vec<f32>>,
    free: Vec<Vec<f32>>,
    scratch: Scratch,
}

impl Store {
    pub(super) fn new(values: usize) -> Self {
        let mut store = Store::default();
        store.reset(values);
        store
    }

    fn reset(&mut self, values: usize) {
        self.whole.resize_with(values, Vec::new);
        self.local.resize_with(values, Vec::new);
    }

    /// Number of values it has room for.
    pub(super) fn len(&self) -> usize {
        self.whole.len()
    }

    /// A kept value; the input is not stored twice.
    pub(super) fn value<'a>(&'a self, value: Value, input: &'a [f32]) -> &'a [f32] {
        if value == 0 { input } else { &self.whole[value] }
    }

    /// All stages, keeping `kept`.
    pub(super) fn infer(&mut self, plan: &Plan, packed: &Packed, input: &[f32], kept: &[Value]) {
        for stage in &plan.frozen {
            self.run(plan, packed, stage, input, None, kept);
        }
    }

    /// One stage on the images of `input`. With `slopes` every value is kept, for the backward pass;
    /// else those that later stages read, and `kept`.
    pub(super) fn run(
        &mut self,
        plan: &Plan,
        packed: &Packed,
        stage: &Stage,
        input: &[f32],
        mut slopes: Option<&mut Vec<Vec<f32>>>,
        kept: &[Value],
    ) {
        self.reset(plan.stored.len());
        let images = input.len() / plan.graph.input.len();
        let local = |value: Value, recording: bool| {
            !recording && !kept.contains(&value) && plan.is_local(value, stage)
        };
        if let Some(slopes) = &mut slopes {
            slopes.resize_with(plan.ops.len(), Vec::new);
        }
        for node in stage.nodes.clone() {
            let size = images * plan.stored[node + 1].len();
            if !local(node + 1, slopes.is_some()) {
                self.whole[node + 1].resize(size, 0.0);
            }
            if let Some(slopes) = &mut slopes {
                let needed = plan.graph.nodes[node].activation.is_some_and(needs_slope);
                slopes[node].resize(if needed { size } else { 0 }, 0.0);
            }
        }
        for start in (0..images).step_by(stage.images) {
            let block = start..(start + stage.images).min(images);
            for node in stage.nodes.clone() {
                let len = plan.stored[node + 1].len();
                let is_local = local(node + 1, slopes.is_some());
                let mut buffer = if is_local {
                    let mut buffer = self.free.pop().unwrap_or_default();
                    buffer.resize(block.len() * len, 0.0);
                    buffer
                } else {
                    std::mem::take(&mut self.whole[node + 1])
                };
                let out = match is_local {
                    true => &mut buffer[..],
                    false => &mut buffer[block.start * len..block.end * len],
                };
                let mut scratch = std::mem::take(&mut self.scratch);
                let read = |value: Value| {
                    let len = plan.stored[value].len();
                    match value {
                        0 => &input[block.start * len..block.end * len],
                        v if local(v, slopes.is_some()) => &self.local[v][..],
                        v => &self.whole[v][block.start * len..block.end * len],
                    }
                };
                compute(plan, packed, node, &read, out, &mut scratch);
                self.scratch = scratch;
                let here = &plan.graph.nodes[node];
                if let Some(activation) = here.activation {
                    let slope = slopes.as_mut().map(|s| &mut s[node]).filter(|s| !s.is_empty());
                    let slope = slope.map(|s| &mut s[block.start * len..block.end * len]);
                    let stride = plan.stored[node + 1].stride;
                    activation.apply(plan.arch, out, slope, here.output.channels, stride);
                }
                match is_local {
                    true => self.local[node + 1] = buffer,
                    false => self.whole[node + 1] = buffer,
                }
                for value in &here.inputs {
                    let done = plan.last_use[*value] == node;
                    if done && *value > 0 && local(*value, slopes.is_some()) {
                        self.free.push(std::mem::take(&mut self.local[*value]));
                    }
                }
            }
        }
    }
}

/// Whether the slope of an activation does not follow from its value.
pub(super) fn needs_slope(activation: Activation) -> bool {
    !matches!(activation, Activation::Relu | Activation::LeakyRelu)
}

/// What `node` computes from the values that `read` gives, before its activation.
pub(super) fn compute<'v>(
    plan: &Plan,
    packed: &Packed,
    node: usize,
    read: &dyn Fn(Value) -> &'v [f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let inputs = &plan.graph.nodes[node].inputs;
    let x = read(inputs[0]);
    let (input, output) = (plan.stored[inputs[0]], plan.stored[node + 1]);
    match &plan.ops[node] {
        Op::Conv(conv) => {
            conv.forward(&packed.panels[node], x, Start::Bias, out, scratch);
        }
        Op::Norm { .. } => packed.affine[node].apply_across(x, input.stride, out),
        Op::Pool(pool) => pool.forward(x, out),
        Op::Shortcut(cut) => cut.forward(x, input, output, out),
        Op::Add => {
            out.fill(0.0);
            join::add(x, input.stride, out, output.stride);
            let other = plan.stored[inputs[1]].stride;
            join::add(read(inputs[1]), other, out, output.stride);
        }
    }
}
