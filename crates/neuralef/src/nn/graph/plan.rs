//! How a graph is executed: memory layouts, stages, and what a value needs to be kept for.

use std::ops::Range;

use pulp::Arch;

use super::conv::Convolution;
use super::image::Stored;
use super::pool::Pooling;
use super::{Graph, GraphLayer, Value};
use crate::nn::product::{lanes, stride};

/// Numbers that the widest value of a block may have: half a MiB, the size of a second-level cache.
const BLOCK: usize = 1 << 17;
/// Most images in a block.
const IMAGES: usize = 96;

/// A layer laid out for this machine.
#[derive(Debug)]
pub(super) enum Op {
    Conv(Convolution),
    Norm { epsilon: f64 },
    Pool(Pooling),
    Shortcut(super::Shortcut),
    Add,
}

/// Nodes that a block of images goes through together, while it is in cache.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) nodes: Range<usize>,
    /// Images in a block.
    pub(super) images: usize,
}

/// Everything about the execution of a graph that does not depend on weights.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) arch: Arch,
    /// Of every value.
    pub(super) stored: Vec<Stored>,
    pub(super) ops: Vec<Op>,
    /// With statistics that are known beforehand.
    pub(super) frozen: Vec<Stage>,
    /// With batch statistics: a norm begins a stage, since it needs its whole input.
    pub(super) training: Vec<Stage>,
    /// Where a node's weight and bias lie in a unit, and its statistics.
    pub(super) weights: Vec<Range<usize>>,
    pub(super) biases: Vec<Range<usize>>,
    pub(super) statistics: Vec<Range<usize>>,
    /// The last node that reads a value; the number of nodes for the output.
    pub(super) last_use: Vec<usize>,
}

impl Plan {
    pub(super) fn new(graph: Graph, arch: Arch) -> Self {
        let lanes = lanes(arch);
        let mut stored = vec![Stored { image: graph.input, stride: graph.input.channels }];
        for node in &graph.nodes {
            let stride = stride(node.output.channels, lanes);
            stored.push(Stored { image: node.output, stride });
        }
        let op = |(i, node): (usize, &super::Node)| {
            let (input, output) = (stored[node.inputs[0]], stored[i + 1]);
            match &node.layer {
                GraphLayer::Conv(conv) => {
                    Op::Conv(Convolution::new(*conv, (arch, lanes), input, output))
                }
                GraphLayer::Norm { epsilon } => Op::Norm { epsilon: *epsilon },
                GraphLayer::Pool(pool) => Op::Pool(Pooling::new(*pool, input, output)),
                GraphLayer::Shortcut(cut) => Op::Shortcut(*cut),
                GraphLayer::Add => Op::Add,
            }
        };
        let ops = graph.nodes.iter().enumerate().map(op).collect();
        let mut last_use = vec![0; stored.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|value| last_use[*value] = i);
        }
        last_use[graph.last()] = graph.nodes.len();
        let (mut weights, mut biases, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut statistic) = (0, 0);
        let take = |at: &mut usize, tensor: Option<&super::Tensor>| {
            let start = *at;
            *at += tensor.map_or(0, |(_, shape, ..)| shape.iter().product());
            start..*at
        };
        for node in &graph.nodes {
            let (tensors, moments) = (node.tensors(), node.statistics());
            weights.push(take(&mut at, tensors.first()));
            biases.push(take(&mut at, tensors.get(1)));
            let mean = take(&mut statistic, moments.first());
            statistics.push(mean.start..take(&mut statistic, moments.get(1)).end);
        }
        let frozen = stages(&graph, &stored, false);
        let training = stages(&graph, &stored, true);
        Plan { graph, arch, stored, ops, frozen, training, weights, biases, statistics, last_use }
    }

    /// Whether every reader of `value` is in `stage`, so that it is needed for one block at a time.
    pub(super) fn is_local(&self, value: Value, stage: &Stage) -> bool {
        value > stage.nodes.start && self.last_use[value] < stage.nodes.end
    }

    pub(super) fn outputs(&self) -> usize {
        self.graph.image(self.graph.last()).len()
    }
}

fn stages(graph: &Graph, stored: &[Stored], batch_statistics: bool) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let norm = batch_statistics && matches!(node.layer, GraphLayer::Norm { .. });
        // Dense layers read all their weights for every block: they want larger ones.
        let dense = matches!(node.layer, GraphLayer::Conv(_))
            && node.output.is_vector()
            && !graph.image(node.inputs[0]).is_vector();
        match stages.last_mut() {
            Some(stage) if !norm && !dense => stage.nodes.end = i + 1,
            _ => stages.push(Stage { nodes: i..i + 1, images: 0 }),
        }
    }
    for stage in &mut stages {
        let widest = stage.nodes.clone().map(|i| stored[i + 1].len()).max().unwrap_or(1);
        stage.images = (BLOCK / widest.max(1)).clamp(1, IMAGES);
    }
    stages
}
