//! The backward pass: cotangents pulled back stage by stage, gradients summed segment by segment.

use std::ops::Range;

use rayon::prelude::*;

use super::ConvNetwork;
use super::forward::{Record, needs_slope};
use crate::nn::activation::{Activation, LEAK};
use crate::nn::graph::conv::Pending;
use crate::nn::graph::join;
use crate::nn::graph::norm::{ChannelStatistics, add_sums, total};
use crate::nn::graph::plan::{Op, Plan, Stage};
use crate::nn::graph::scratch::Scratch;
use crate::nn::graph::{GraphLayer, Value};
use crate::nn::moments::LayerMoments;
use crate::nn::product::Panels;

/// The backward pass of one unit.
pub(super) struct Backward<'a> {
    network: &'a ConvNetwork,
    unit: usize,
    /// Whether norms used the statistics of the batch.
    training: bool,
    /// Of norms, by node: what they used.
    statistics: Vec<ChannelStatistics>,
    turned: Vec<Vec<Panels>>,
}

/// The cotangents of one segment, and its part of the gradient.
struct Part<'a> {
    record: &'a Record,
    input: &'a [f32],
    gradient: &'a mut [f32],
    work: Work,
    /// Second moments that are computed in place of the gradients of convolutions, if any.
    moments: Option<&'a mut [LayerMoments]>,
}

/// Cotangents of values on their way down, and memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// By value, of all images and of a block; empty where there is none.
    whole: Vec<Vec<f32>>,
    local: Vec<Vec<f32>>,
    free: Vec<Vec<f32>>,
    /// By node: sums over the blocks of a stage.
    pending: Vec<Pending>,
    scratch: Scratch,
}

impl Work {
    /// For `images` images, with the cotangent of the output, all zeros.
    fn begin(&mut self, plan: &Plan, images: usize) -> &mut [f32] {
        self.whole.resize_with(plan.stored.len(), Vec::new);
        self.local.resize_with(plan.stored.len(), Vec::new);
        self.pending.resize_with(plan.ops.len(), Pending::default);
        let last = plan.graph.last();
        self.ensure(last, images * plan.stored[last].len());
        &mut self.whole[last]
    }

    /// Makes the cotangent of `value` zeros, unless there is one.
    fn ensure(&mut self, value: Value, size: usize) {
        if self.whole[value].is_empty() {
            self.whole[value] = self.zeros(size);
        }
    }

    fn zeros(&mut self, size: usize) -> Vec<f32> {
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(size, 0.0);
        buffer
    }
}

impl<'a> Backward<'a> {
    pub(super) fn new(
        network: &'a ConvNetwork,
        unit: usize,
        training: bool,
        statistics: &[ChannelStatistics],
    ) -> Self {
        let turn = |(node, op): (usize, &Op)| match op {
            // Nobody asks for the derivative by the input.
            Op::Conv(conv) if network.plan.graph.nodes[node].inputs[0] > 0 => {
                conv.pack_turned(network.tensors(unit, node).0)
            }
            _ => Vec::new(),
        };
        let turned = network.plan.ops.iter().enumerate().map(turn).collect();
        let statistics = network.plan.ops.iter().enumerate().map(|(node, op)| match op {
            Op::Norm { .. } if training => statistics[node].clone(),
            Op::Norm { .. } => network.running(unit, node),
            _ => ChannelStatistics::default(),
        });
        Backward { network, unit, training, statistics: statistics.collect(), turned }
    }

    /// Writes the gradient of this unit, whose records are given, to `gradient`.
    pub(super) fn run(
        &self,
        records: &[Record],
        segments: &[Range<usize>],
        input: &[f32],
        cotangent: &[f32],
        gradient: &mut [f32],
    ) {
        let (plan, d, k) =
            (&self.network.plan, self.network.plan.graph.input.len(), self.network.columns());
        let (outputs, len) = (plan.outputs(), plan.stored[plan.graph.last()].len());
        // The first segment's part is the sum that the others are added to.
        let others = records.len().saturating_sub(1);
        let mut rest = vec![vec![0.0f32; gradient.len()]; others];
        gradient.fill(0.0);
        let gradients = std::iter::once(&mut *gradient).chain(rest.iter_mut().map(|g| &mut g[..]));
        let mut parts: Vec<Part<'_>> = records
            .iter()
            .zip(segments)
            .zip(gradients)
            .map(|((record, segment), gradient)| {
                let mut work = Work::default();
                let rows = cotangent[segment.start * k..segment.end * k].chunks_exact(k);
                let to = work.begin(plan, segment.len());
                for (to, from) in to.chunks_exact_mut(len).zip(rows) {
                    let from = &from[self.unit * outputs..(self.unit + 1) * outputs];
                    to[..outputs].copy_from_slice(from);
                }
                let input = &input[segment.start * d..segment.end * d];
                Part { record, input, gradient, work, moments: None }
            })
            .collect();
        let stages = if self.training { &plan.training } else { &plan.frozen };
        let rows: usize = segments.iter().map(Range::len).sum();
        for stage in stages.iter().rev() {
            parts.par_iter_mut().for_each(|part| self.stage(part, stage));
            let first = stage.nodes.start;
            if self.is_apart(first) {
                self.norm(&mut parts, first, rows);
            }
        }
        for part in &rest {
            gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }

    /// Writes the derivative of output `output` of this unit, at the one image of `record`, to
    /// `gradient`. Norms must use running statistics.
    pub(super) fn single(
        &self,
        (record, input): (&Record, &[f32]),
        output: usize,
        gradient: &mut [f32],
        work: &mut Work,
    ) {
        let plan = &self.network.plan;
        gradient.fill(0.0);
        let mut cotangents = std::mem::take(work);
        cotangents.begin(plan, 1)[output] = 1.0;
        let mut part = Part { record, input, gradient, work: cotangents, moments: None };
        plan.frozen.iter().rev().for_each(|stage| self.stage(&mut part, stage));
        *work = part.work;
    }

    /// Adds the second moments of the cotangents at every convolution to `moments`, for a cotangent of
    /// the outputs at the one image of `record`, and writes the derivatives by the other parameters to
    /// `gradient`. Norms must use running statistics.
    pub(super) fn moments(
        &self,
        (record, input): (&Record, &[f32]),
        cotangent: &[f32],
        gradient: &mut [f32],
        work: &mut Work,
        moments: &mut [LayerMoments],
    ) {
        let plan = &self.network.plan;
        gradient.fill(0.0);
        let mut cotangents = std::mem::take(work);
        cotangents.begin(plan, 1)[..cotangent.len()].copy_from_slice(cotangent);
        let moments = Some(moments);
        let mut part = Part { record, input, gradient, work: cotangents, moments };
        plan.frozen.iter().rev().for_each(|stage| self.stage(&mut part, stage));
        *work = part.work;
    }

    /// Whether `node` is a norm with batch statistics, which needs the cotangents of all segments.
    fn is_apart(&self, node: usize) -> bool {
        self.training && matches!(self.network.plan.ops[node], Op::Norm { .. })
    }

    /// Whether the cotangent of `value` is needed for one block at a time.
    fn is_local(&self, value: Value, stage: &Stage) -> bool {
        !self.is_apart(value - 1) && self.network.plan.is_local(value, stage)
    }

    /// All nodes of a stage, but for a norm with batch statistics at its beginning.
    fn stage(&self, part: &mut Part<'_>, stage: &Stage) {
        let plan = &self.network.plan;
        let images = part.input.len() / plan.graph.input.len();
        let apart = |node: usize| self.training && matches!(plan.ops[node], Op::Norm { .. });
        for node in stage.nodes.clone() {
            for value in plan.graph.nodes[node].inputs.iter().filter(|value| **value > 0) {
                if !self.is_local(*value, stage) {
                    part.work.ensure(*value, images * plan.stored[*value].len());
                }
            }
        }
        for start in (0..images).step_by(stage.images) {
            let block = start..(start + stage.images).min(images);
            for node in stage.nodes.clone().rev() {
                let len = plan.stored[node + 1].len();
                let is_local = self.is_local(node + 1, stage);
                let work = &mut part.work;
                let store = if is_local { &mut work.local } else { &mut work.whole };
                let mut cotangent = std::mem::take(&mut store[node + 1]);
                let at = if is_local { 0..block.len() } else { block.clone() };
                let dz = &mut cotangent[at.start * len..at.end * len];
                self.activation(part.record, node, &block, dz);
                if !apart(node) {
                    self.node(part, stage, node, &block, dz);
                }
                match is_local {
                    true => part.work.free.push(cotangent),
                    false => part.work.whole[node + 1] = cotangent,
                }
            }
        }
        for node in stage.nodes.clone() {
            if let Op::Conv(conv) = &plan.ops[node] {
                let weight = &mut part.gradient[plan.weights[node].clone()];
                conv.finish(&mut part.work.pending[node], weight);
            }
        }
        // What later stages left behind is no longer needed.
        for node in stage.nodes.clone().filter(|node| !apart(*node)) {
            let done = std::mem::take(&mut part.work.whole[node + 1]);
            part.work.free.extend((!done.is_empty()).then_some(done));
        }
    }

    /// dz ← dz·φ'(z).
    fn activation(&self, record: &Record, node: usize, block: &Range<usize>, dz: &mut [f32]) {
        let plan = &self.network.plan;
        let Some(activation) = plan.graph.nodes[node].activation else { return };
        let len = plan.stored[node + 1].len();
        let at = block.start * len..block.end * len;
        if needs_slope(activation) {
            let slopes = &record.slopes[node][at];
            dz.iter_mut().zip(slopes).for_each(|(dz, slope)| *dz *= slope);
            return;
        }
        let leak = if activation == Activation::Relu { 0.0 } else { LEAK };
        let values = &record.store.value(node + 1, &[])[at];
        for (dz, z) in dz.iter_mut().zip(values) {
            *dz *= if *z > 0.0 { 1.0 } else { leak };
        }
    }

    /// The pull-back of `dz` at `node` to its inputs and parameters.
    fn node(
        &self,
        part: &mut Part<'_>,
        stage: &Stage,
        node: usize,
        block: &Range<usize>,
        dz: &[f32],
    ) {
        let plan = &self.network.plan;
        let here = &plan.graph.nodes[node];
        let output = plan.stored[node + 1];
        let read = |value: Value| {
            let len = plan.stored[value].len();
            let values = part.record.store.value(value, part.input);
            &values[block.start * len..block.end * len]
        };
        let x = read(here.inputs[0]);
        let (weight, bias) = (plan.weights[node].clone(), plan.biases[node].clone());
        match &plan.ops[node] {
            Op::Conv(_) if part.moments.is_some() => {
                let mut layers = part.moments.iter_mut().flat_map(|all| all.iter_mut());
                if let Some(moments) = layers.find(|m| m.layer.weight == weight) {
                    moments.add_cotangents(dz, output.stride);
                }
            }
            Op::Conv(conv) => {
                let (before, after) = part.gradient.split_at_mut(bias.start);
                let (weight, bias) = (&mut before[weight], &mut after[..bias.len()]);
                let images = part.input.len() / plan.graph.input.len();
                let Work { pending, scratch, .. } = &mut part.work;
                conv.accumulate((x, dz), images, (weight, bias), &mut pending[node], scratch);
            }
            Op::Norm { epsilon } => {
                let mut sums = vec![(0.0, 0.0); here.output.channels];
                let whitened = self.whitened(node, x, *epsilon);
                add_sums(dz, Some(&whitened), output.stride, &mut sums);
                self.norm_gradient(part, node, &sums);
            }
            _ => {}
        }
        for value in here.inputs.iter().copied().filter(|value| *value > 0) {
            let len = plan.stored[value].len();
            let is_local = self.is_local(value, stage);
            let mut dx = if is_local {
                let dx = std::mem::take(&mut part.work.local[value]);
                if dx.is_empty() { part.work.zeros(block.len() * len) } else { dx }
            } else {
                std::mem::take(&mut part.work.whole[value])
            };
            let at = if is_local { 0..block.len() } else { block.clone() };
            let to = &mut dx[at.start * len..at.end * len];
            let input = plan.stored[value];
            match &plan.ops[node] {
                Op::Conv(conv) => {
                    conv.pull_back(&self.turned[node], dz, to, &mut part.work.scratch);
                }
                Op::Norm { epsilon } => {
                    let (scale, _) = self.network.tensors(self.unit, node);
                    self.statistics[node].slope(scale, *epsilon, output.stride).add(dz, to);
                }
                Op::Pool(pool) => {
                    let z = part.record.store.value(node + 1, &[]);
                    let z = &z[block.start * output.len()..block.end * output.len()];
                    pool.pull_back(x, z, dz, to);
                }
                Op::Shortcut(cut) => cut.pull_back(dz, input, output, to),
                Op::Add => join::add(dz, output.stride, to, input.stride),
            }
            match is_local {
                true => part.work.local[value] = dx,
                false => part.work.whole[value] = dx,
            }
        }
    }

    /// (x − mean)/√(variance + ε) at a norm.
    fn whitened(&self, node: usize, x: &[f32], epsilon: f64) -> Vec<f32> {
        let plan = &self.network.plan;
        let (input, output) =
            (plan.stored[plan.graph.nodes[node].inputs[0]], plan.stored[node + 1]);
        let mut to = vec![0.0; x.len() / input.stride * output.stride];
        let whitening = self.statistics[node].whitening(epsilon, output.stride);
        whitening.apply_across(x, input.stride, &mut to);
        to
    }

    /// Adds Σdz·x̂ to the gradient of the scale and Σdz to that of the shift.
    fn norm_gradient(&self, part: &mut Part<'_>, node: usize, sums: &[(f64, f64)]) {
        let plan = &self.network.plan;
        let (weight, bias) = (plan.weights[node].start, plan.biases[node].start);
        for (c, (shift, scale)) in sums.iter().enumerate() {
            part.gradient[weight + c] += *scale as f32;
            part.gradient[bias + c] += *shift as f32;
        }
    }

    /// A norm with the statistics of the batch, on all segments: with a = γ/√(variance + ε),
    /// dx = a(dz − mean(dz) − x̂·mean(dz·x̂)).
    fn norm(&self, parts: &mut [Part<'_>], node: usize, rows: usize) {
        let plan = &self.network.plan;
        let GraphLayer::Norm { epsilon } = plan.graph.nodes[node].layer else { return };
        let value = plan.graph.nodes[node].inputs[0];
        let (input, output) = (plan.stored[value], plan.stored[node + 1]);
        let sums = |part: &Part<'_>| {
            let mut sums = vec![(0.0, 0.0); output.image.channels];
            let whitened = self.whitened(node, part.record.store.value(value, part.input), epsilon);
            add_sums(&part.work.whole[node + 1], Some(&whitened), output.stride, &mut sums);
            sums
        };
        let sums: Vec<_> = parts.par_iter().map(sums).collect();
        let sums = total(&sums);
        if let Some(first) = parts.first_mut() {
            self.norm_gradient(first, node, &sums);
        }
        let (scale, _) = self.network.tensors(self.unit, node);
        let mut affine = self.statistics[node].slope(scale, epsilon, output.stride);
        let count = (rows * output.image.pixels()) as f64;
        let whitening = self.statistics[node].whitening(epsilon, output.stride);
        // a·dz + b·x + c, with x̂ = w·x + v: b = −a·w·mean(dz·x̂), c = −a(mean(dz) + v·mean(dz·x̂)).
        let mut second = vec![0.0f32; output.stride];
        for (c, (dz, product)) in sums.iter().enumerate() {
            let a = f64::from(affine.factor[c]);
            let (w, v) = (f64::from(whitening.factor[c]), f64::from(whitening.offset[c]));
            second[c] = (-a * w * product / count) as f32;
            affine.offset[c] = (-a * (dz / count + v * product / count)) as f32;
        }
        parts.par_iter_mut().for_each(|part| {
            let dz = std::mem::take(&mut part.work.whole[node + 1]);
            if value > 0 {
                let x = part.record.store.value(value, part.input);
                let mut dx = std::mem::take(&mut part.work.whole[value]);
                dx.resize(dz.len() / output.stride * input.stride, 0.0);
                affine.add_with(&dz, &second, x, &mut dx);
                part.work.whole[value] = dx;
            }
        });
    }
}
