//! A graph with weights, as a [`Network`]: an ensemble of units of one graph, or a single one with
//! many heads.
//!
//! Work is cut into tasks by shapes alone: a unit and a segment of the batch under a tape, a chunk of
//! the batch without. A task takes its images in blocks through the layers of a stage while they are
//! in cache; batch normalisation, which needs all of its input, begins a stage. Sums over segments
//! run in order, so no bit depends on the number of threads, and no row on another one.

use std::ops::Range;

use pulp::Arch;

use super::fold::fold;
use super::image::Order;
use super::plan::Plan;
use super::{Graph, GraphLayer};
use crate::error::Result;
use crate::matrix::{Mat, MatRef, expect_columns};
use crate::nn::capabilities::{
    BatchStatistics, LayerFeatures, LayerSecondMoments, PerSampleJacobians,
};
use crate::nn::network::Network;
use crate::nn::parameters::Parameters;
use crate::nn::rows::{finite, in_order, matrix, segments};
use crate::nn::tape::Tape;

mod backward;
mod forward;
#[cfg(test)]
mod goldens;
mod infer;
mod moments;
mod recorded;
mod statistics;
mod tangent;
#[cfg(test)]
mod tests;

/// An ensemble of networks of one graph with their weights. See [`Network`].
#[derive(Debug)]
pub(crate) struct ConvNetwork {
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

impl ConvNetwork {
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
            ConvNetwork { plan, folded, origins, order, parameters, frozen: false, outputs: 1 };
        network.reset_norms();
        network
    }

    /// The same network with functions of `outputs` outputs each, which must divide the heads.
    pub(crate) fn with_outputs(self, outputs: usize) -> Self {
        ConvNetwork { outputs, ..self }
    }

    /// The same network on the path for machines without vector instructions.
    #[cfg(test)]
    fn portable(self) -> Self {
        let plan = Plan::new(self.plan.graph.clone(), Arch::Scalar);
        let folded = Plan::new(self.folded.graph.clone(), Arch::Scalar);
        ConvNetwork { plan, folded, ..self }
    }

    /// A value of the first unit, as it lies in memory, at the images of `input`.
    #[cfg(test)]
    fn values(&self, input: &[f32], value: super::Value) -> Vec<f32> {
        let mut store = forward::Store::new(self.folded.stored.len());
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

    fn check_layout(&self, what: &str, parameters: &Parameters) -> Result<()> {
        let size = self.plan.biases.last().map_or(0, |range| range.end);
        parameters.expect_units(what, self.units(), size)
    }
}

impl Network for ConvNetwork {
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
        match tape {
            Some(tape) => self.forward_recorded(x, tape),
            None => self.infer(x, false, self.columns()),
        }
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        self.pulled_back(tape, cotangent, gradient)
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

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        self.infer(x, true, self.hidden_width())
    }

    fn ends_linear(&self) -> bool {
        let last = self.plan.graph.nodes.last();
        last.is_some_and(|node| {
            let dense = matches!(&node.layer, GraphLayer::Conv(_)) && node.output.is_vector();
            dense && node.activation.is_none()
        })
    }

    fn batch_statistics(&self) -> Option<&dyn BatchStatistics> {
        self.has_norms().then_some(self as _)
    }

    fn batch_statistics_mut(&mut self) -> Option<&mut dyn BatchStatistics> {
        self.has_norms().then_some(self as _)
    }

    fn layer_features(&self) -> Option<&dyn LayerFeatures> {
        Some(self)
    }

    fn layer_second_moments(&self) -> Option<&dyn LayerSecondMoments> {
        Some(self)
    }

    fn per_sample_jacobians(&self) -> Option<&dyn PerSampleJacobians> {
        Some(self)
    }
}
