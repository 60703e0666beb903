//! A graph with weights, as a [`Network`]: an ensemble of units of one graph, or a single one with
//! many heads.
//!
//! Work is cut into tasks by shapes alone: a unit and a segment of the batch under a tape, a chunk of
//! the batch without. A task takes its images in blocks through the layers of a stage while they are
//! in cache; batch normalisation, which needs all of its input, begins a stage. Sums over segments
//! run in order, so no bit depends on the number of threads, and no row on another one.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::image::Order;
use super::norm::{Moments, add_sums};
use super::plan::Plan;
use super::{Graph, Layer};
use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::nn::parameters::Parameters;
use crate::nn::rows::{expect_cotangent, expect_single, finite, in_order, matrix, segments};
use crate::nn::tape::Tape;
use crate::nn::{LayerInfo, LayerMoments, Network, WeightLayer, expect_frozen};

mod backward;
mod forward;
#[cfg(test)]
mod goldens;
mod moments;
mod tangent;
#[cfg(test)]
mod tests;

use backward::{Backward, Work};
use forward::{Packed, Store};

/// Images that a task without a tape takes through the network.
const CHUNK: usize = 32;

/// An ensemble of networks of one graph with their weights. See [`Network`].
#[derive(Debug)]
pub(crate) struct Layered {
    plan: Plan,
    /// The same with batch normalisation folded into the convolutions before it, for inference.
    folded: Plan,
    /// For each node of the folded graph, the nodes it stands for: the last may be a norm.
    origins: Vec<Range<usize>>,
    order: Order,
    parameters: Parameters,
    /// Whether batch normalisation uses its running statistics under a tape too.
    frozen: bool,
    /// C, outputs of each function.
    outputs: usize,
}

/// What a forward pass of a [`Layered`] leaves behind.
#[derive(Debug, Default)]
pub(in crate::nn) struct GraphTape {
    /// Whether the statistics were those of the batch.
    training: bool,
    /// One record for each unit and segment, segments of a unit side by side.
    records: Vec<Record>,
    /// Of every unit and node: statistics of the batch, for norms.
    moments: Vec<Vec<Moments>>,
}

/// Values of one unit on one segment.
#[derive(Debug, Default)]
struct Record {
    store: Store,
    /// Slopes of activations, for nodes where the value does not tell them.
    slopes: Vec<Vec<f32>>,
}

impl Layered {
    /// `units` networks of `graph`, on rows of data in `order`; all weights are 0, scales 1.
    pub(crate) fn new(graph: Graph, units: usize, order: Order) -> Self {
        let arch = Arch::new();
        let (layouts, statistics) = graph.layouts();
        let mut parameters = Parameters::zeros(vec![layouts; units]);
        if !statistics.is_empty() {
            parameters = parameters.with_statistics(vec![statistics; units]);
        }
        let (folded, origins) = fold(&graph);
        let (plan, folded) = (Plan::new(graph, arch), Plan::new(folded, arch));
        let mut network =
            Layered { plan, folded, origins, order, parameters, frozen: false, outputs: 1 };
        network.reset_norms();
        network
    }

    /// The same network with functions of `outputs` outputs each, which must divide the heads.
    pub(crate) fn with_outputs(self, outputs: usize) -> Self {
        Layered { outputs, ..self }
    }

    /// The same network on the path for machines without vector instructions.
    #[cfg(test)]
    fn portable(self) -> Self {
        let plan = Plan::new(self.plan.graph.clone(), Arch::Scalar);
        let folded = Plan::new(self.folded.graph.clone(), Arch::Scalar);
        Layered { plan, folded, ..self }
    }

    /// Scales 1, shifts 0, running means 0 and variances 1.
    fn reset_norms(&mut self) {
        for (node, weights) in self.plan.graph.nodes.iter().zip(&self.plan.weights) {
            if matches!(node.layer, Layer::Norm { .. }) {
                for unit in self.parameters.units_mut() {
                    unit[weights.clone()].fill(1.0);
                }
            }
        }
        for range in &self.plan.statistics {
            let middle = range.start + range.len() / 2;
            for unit in self.parameters.statistics_mut() {
                unit[middle..range.end].fill(1.0);
            }
        }
    }

    /// A value of the first unit, as it lies in memory, at the images of `input`.
    #[cfg(test)]
    fn values(&self, input: &[f32], value: super::Value) -> Vec<f32> {
        let mut store = Store::new(self.folded.stored.len());
        store.infer(&self.folded, &self.pack_folded(0), input, &[value]);
        store.value(value, input).to_vec()
    }

    /// What is computed.
    #[cfg(test)]
    pub(crate) fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    fn units(&self) -> usize {
        self.parameters.units().len()
    }

    /// kC, the columns of the values.
    fn columns(&self) -> usize {
        self.units() * self.plan.outputs()
    }

    fn has_norms(&self) -> bool {
        !self.parameters.statistics().is_empty()
    }

    fn segments(&self, rows: usize) -> Vec<Range<usize>> {
        segments(rows, self.units(), 1)
    }

    /// Rows of data as images.
    fn images(&self, x: MatRef<'_>, to: &mut Vec<f32>) -> Result<()> {
        expect_columns("x", x, self.inputs())?;
        let image = self.plan.graph.input;
        to.clear();
        to.resize(x.len(), 0.0);
        let rows = in_order(&x);
        for (row, to) in rows.chunks_exact(image.len()).zip(to.chunks_exact_mut(image.len())) {
            self.order.read(image, row, to);
        }
        Ok(())
    }

    /// Running statistics of unit `unit` at norm `node`.
    fn running(&self, unit: usize, node: usize) -> Moments {
        let range = &self.plan.statistics[node];
        let numbers = &self.parameters.statistics()[unit][range.clone()];
        let (mean, variance) = numbers.split_at(range.len() / 2);
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect();
        Moments { mean: wide(mean), variance: wide(variance) }
    }

    /// Forward pass without a tape: the outputs, or the values before the last layer, of all units.
    fn infer(&self, x: MatRef<'_>, hidden: bool, columns: usize) -> Result<Mat> {
        let mut input = Vec::new();
        self.images(x, &mut input)?;
        let packed: Vec<Packed> =
            (0..self.units()).into_par_iter().map(|unit| self.pack_folded(unit)).collect();
        let graph = &self.folded.graph;
        let value = match graph.nodes.last() {
            Some(node) if hidden => node.inputs[0],
            _ => graph.last(),
        };
        let (image, stored) = (graph.image(value), self.folded.stored[value]);
        let mut out = vec![0.0f32; x.nrows() * columns];
        let chunks = out.par_chunks_mut(CHUNK * columns);
        chunks.zip(input.par_chunks(CHUNK * graph.input.len())).for_each_init(
            || Store::new(graph.last() + 1),
            |store, (out, input)| {
                for (u, packed) in packed.iter().enumerate() {
                    store.infer(&self.folded, packed, input, &[value]);
                    let values = store.value(value, input);
                    for (row, to) in out.chunks_exact_mut(columns).enumerate() {
                        let from = &values[row * stored.len()..][..stored.len()];
                        let to = &mut to[u * image.len()..(u + 1) * image.len()];
                        let pixels = from.chunks_exact(stored.stride);
                        for (to, from) in to.chunks_exact_mut(image.channels).zip(pixels) {
                            to.copy_from_slice(&from[..image.channels]);
                        }
                    }
                }
            },
        );
        finite("network output", matrix(x.nrows(), columns, out)?)
    }

    /// Means over pixels of the values `values` of the folded graph, of the first unit.
    fn means(&self, x: MatRef<'_>, values: &[super::Value]) -> Result<Mat> {
        let mut input = Vec::new();
        self.images(x, &mut input)?;
        let (packed, graph) = (self.pack_folded(0), &self.folded.graph);
        let columns: usize = values.iter().map(|value| graph.image(*value).channels).sum();
        let mut out = vec![0.0f32; x.nrows() * columns];
        let chunks = out.par_chunks_mut(CHUNK * columns);
        chunks.zip(input.par_chunks(CHUNK * graph.input.len())).for_each_init(
            || Store::new(graph.last() + 1),
            |store, (out, input)| {
                store.infer(&self.folded, &packed, input, values);
                let mut at = 0;
                for value in values {
                    let stored = self.folded.stored[*value];
                    let (channels, pixels) = (stored.image.channels, stored.image.pixels());
                    let images = store.value(*value, input).chunks_exact(stored.len());
                    for (row, image) in out.chunks_exact_mut(columns).zip(images) {
                        let to = &mut row[at..at + channels];
                        for pixel in image.chunks_exact(stored.stride) {
                            to.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
                        }
                        to.iter_mut().for_each(|sum| *sum /= pixels as f32);
                    }
                    at += channels;
                }
            },
        );
        finite("value of a layer", matrix(x.nrows(), columns, out)?)
    }

    fn check_layout(&self, what: &str, parameters: &Parameters) -> Result<()> {
        let size = self.plan.biases.last().map_or(0, |range| range.end);
        parameters.expect_units(what, self.units(), size)
    }
}

impl Network for Layered {
    fn inputs(&self) -> usize {
        self.plan.graph.input.len()
    }

    fn functions(&self) -> usize {
        self.columns() / self.outputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn hidden_width(&self) -> usize {
        let graph = &self.plan.graph;
        let before = graph.nodes.last().map_or(0, |node| node.inputs[0]);
        self.units() * graph.image(before).len()
    }

    fn unit(&self, function: usize) -> usize {
        function * self.outputs / self.plan.outputs().max(1)
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        let k = self.columns();
        let Some(tape) = tape else { return self.infer(x, false, k) };
        let n = x.nrows();
        tape.rows = n;
        self.images(x, &mut tape.input)?;
        let (segments, d) = (self.segments(n), self.inputs());
        let training = self.uses_batch_statistics();
        let graph = tape.graph.get_or_insert_default();
        graph.training = training;
        graph.records.resize_with(self.units() * segments.len(), Record::default);
        graph.moments.resize_with(self.units(), Vec::new);
        let input = &tape.input;
        let stages = if training { &self.plan.training } else { &self.plan.frozen };
        let units = graph.records.par_chunks_mut(segments.len()).zip(graph.moments.par_iter_mut());
        units.enumerate().for_each(|(unit, (records, moments))| {
            let mut packed = self.pack(unit, training);
            moments.clear();
            moments.resize(self.plan.kernels.len(), Moments::default());
            for stage in stages {
                let first = stage.nodes.start;
                if training && matches!(self.plan.graph.nodes[first].layer, Layer::Norm { .. }) {
                    moments[first] = self.batch_moments(first, records, &segments, input);
                    self.pack_norm(&mut packed, unit, first, &moments[first]);
                }
                records.par_iter_mut().zip(&segments).for_each(|(record, segment)| {
                    let input = &input[segment.start * d..segment.end * d];
                    let slopes = Some(&mut record.slopes);
                    record.store.run(&self.plan, &packed, stage, input, slopes, &[]);
                });
            }
        });
        let (last, outputs) = (self.plan.graph.last(), self.plan.outputs());
        let stored = self.plan.stored[last];
        let mut out = vec![0.0; n * k];
        for (i, record) in graph.records.iter().enumerate() {
            let (unit, segment) = (i / segments.len(), &segments[i % segments.len()]);
            let values = record.store.value(last, input);
            let to = out[segment.start * k..segment.end * k].chunks_exact_mut(k);
            for (to, from) in to.zip(values.chunks_exact(stored.len())) {
                to[unit * outputs..(unit + 1) * outputs].copy_from_slice(&from[..outputs]);
            }
        }
        finite("network output", matrix(n, k, out)?)
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        let (n, k) = (tape.rows, self.columns());
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("gradient", gradient)?;
        let segments = self.segments(n);
        let fits = |graph: &&GraphTape| {
            graph.records.len() == self.units() * segments.len()
                && graph.moments.len() == self.units()
                && tape.input.len() == n * self.inputs()
                && graph.records.iter().all(|r| r.store.len() == self.plan.stored.len())
        };
        let Some(graph) = tape.graph.as_ref().filter(fits) else {
            return Err(Error::shape("tape", "one recorded by this network", "another network's"));
        };
        expect_cotangent(cotangent, n, k)?;
        let cotangent = in_order(&cotangent);
        let units = gradient.units_mut().par_iter_mut().enumerate();
        units.for_each(|(unit, gradient)| {
            let records = &graph.records[unit * segments.len()..(unit + 1) * segments.len()];
            let pass = Backward::new(self, unit, graph.training, &graph.moments[unit]);
            pass.run(records, &segments, &tape.input, &cotangent, gradient);
        });
        Ok(())
    }

    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("tangent", tangent)?;
        let mut input = Vec::new();
        self.images(x, &mut input)?;
        let (n, k) = (x.nrows(), self.columns());
        let out = self.tangents(&input, n, tangent);
        finite("directional derivative", matrix(n, k, out)?)
    }

    fn jacobians(&self, x: MatRef<'_>, out: &mut Vec<Vec<f32>>) -> Result<()> {
        expect_frozen(self)?;
        self.check_layout("parameters", &self.parameters)?;
        let mut input = Vec::new();
        self.images(x, &mut input)?;
        let (n, outputs) = (x.nrows(), self.plan.outputs());
        out.resize_with(self.units(), Vec::new);
        for (unit, out) in out.iter_mut().enumerate() {
            let packed = self.pack(unit, false);
            let pass = Backward::new(self, unit, false, &[]);
            let size = self.parameters.units()[unit].len();
            out.resize(n * outputs * size, 0.0);
            let rows = out.par_chunks_mut((outputs * size).max(1));
            rows.zip(input.par_chunks(self.inputs())).for_each_init(
                || (Record::default(), Work::default()),
                |(record, work), (out, input)| {
                    for stage in &self.plan.frozen {
                        let slopes = Some(&mut record.slopes);
                        record.store.run(&self.plan, &packed, stage, input, slopes, &[]);
                    }
                    for (output, gradient) in out.chunks_exact_mut(size).enumerate() {
                        pass.single((record, input), output, gradient, work);
                    }
                },
            );
        }
        Ok(())
    }

    fn weight_layers(&self) -> Result<Vec<WeightLayer>> {
        self.convolutions()
    }

    fn ends_linear(&self) -> bool {
        let last = self.plan.graph.nodes.last();
        last.is_some_and(|node| {
            let dense = matches!(&node.layer, Layer::Conv(_)) && node.output.is_vector();
            dense && node.activation.is_none()
        })
    }

    fn layer_moments(
        &self,
        x: MatRef<'_>,
        roots: &[Mat64],
        squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>> {
        self.moments(x, roots, squares)
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        self.infer(x, true, self.hidden_width())
    }

    fn layers(&self) -> Vec<LayerInfo> {
        let nodes = self.folded.graph.nodes.iter();
        let layer = |node: &super::Node| LayerInfo {
            name: node.name.clone(),
            pixels: node.output.pixels(),
            channels: node.output.channels,
        };
        nodes.map(layer).collect()
    }

    fn features(&self, x: MatRef<'_>, layers: &[usize]) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        expect_single(layers, self.folded.graph.nodes.len(), self.units())?;
        let values: Vec<super::Value> = layers.iter().map(|layer| layer + 1).collect();
        self.means(x, &values)
    }

    fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    fn uses_batch_statistics(&self) -> bool {
        self.has_norms() && !self.frozen
    }

    fn settle(&mut self, tape: &Tape, share: f64) {
        let Some(graph) = tape.graph.as_ref().filter(|graph| graph.training) else { return };
        let ranges = &self.plan.statistics;
        for (unit, moments) in self.parameters.statistics_mut().iter_mut().zip(&graph.moments) {
            for ((range, moments), stored) in ranges.iter().zip(moments).zip(&self.plan.stored[1..])
            {
                let pixels = (tape.rows * stored.image.pixels()) as f64;
                // The unbiased variance, as PyTorch keeps it.
                let correction = pixels / (pixels - 1.0).max(1.0);
                let new = moments.mean.iter().copied();
                let new = new.chain(moments.variance.iter().map(|v| v * correction));
                for (old, new) in unit[range.clone()].iter_mut().zip(new) {
                    *old = ((1.0 - share) * f64::from(*old) + share * new) as f32;
                }
            }
        }
    }
}

impl Layered {
    /// Statistics of the batch at the input of norm `node`.
    fn batch_moments(
        &self,
        node: usize,
        records: &[Record],
        segments: &[Range<usize>],
        input: &[f32],
    ) -> Moments {
        let value = self.plan.graph.nodes[node].inputs[0];
        let (stored, d) = (self.plan.stored[value], self.inputs());
        let part = |(record, segment): (&Record, &Range<usize>)| {
            let input = &input[segment.start * d..segment.end * d];
            let mut sums = vec![(0.0, 0.0); stored.image.channels];
            add_sums(record.store.value(value, input), None, stored.stride, &mut sums);
            sums
        };
        let parts: Vec<_> = records.par_iter().zip(segments).map(part).collect();
        let rows: usize = segments.iter().map(Range::len).sum();
        Moments::of(&total(&parts), rows * stored.image.pixels())
    }
}

/// The sum of the parts of every segment, in order.
fn total(parts: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let mut total = first.clone();
    for part in rest {
        for (total, part) in total.iter_mut().zip(part) {
            *total = (total.0 + part.0, total.1 + part.1);
        }
    }
    total
}

/// The graph with every norm that only scales a convolution made part of it, and the nodes that each
/// node stands for.
fn fold(graph: &Graph) -> (Graph, Vec<Range<usize>>) {
    let readers = |value: usize| graph.nodes.iter().filter(|n| n.inputs.contains(&value)).count();
    let mut folded = Graph { input: graph.input, nodes: Vec::new() };
    let mut origins: Vec<Range<usize>> = Vec::new();
    // What each value of the graph is called in the folded one.
    let mut renamed = vec![0];
    for (i, node) in graph.nodes.iter().enumerate() {
        let of = node.inputs[0];
        let scales = matches!(node.layer, Layer::Norm { .. }) && of == i && readers(of) == 1;
        match folded.nodes.last_mut() {
            Some(last) if scales && last.activation.is_none() => {
                if let Layer::Conv(conv) = &mut last.layer {
                    conv.bias = true;
                    last.activation = node.activation;
                    if let Some(origin) = origins.last_mut() {
                        origin.end = i + 1;
                    }
                    renamed.push(folded.nodes.len());
                    continue;
                }
            }
            _ => {}
        }
        let inputs = node.inputs.iter().map(|value| renamed[*value]).collect();
        folded.nodes.push(super::Node { inputs, ..node.clone() });
        origins.push(i..i + 1);
        renamed.push(folded.nodes.len());
    }
    (folded, origins)
}
