//! What a forward pass leaves behind for the backward pass.

use super::graph::GraphTape;
use super::product::Panels;

/// Values a forward pass leaves behind for [`Network::vjp`](super::Network::vjp). Owned by the
/// caller and reused between steps, so that a training step allocates nothing for them.
#[derive(Debug, Default)]
pub struct Tape {
    /// Rows of the batch that was recorded.
    pub(super) rows: usize,
    /// The batch, rows × d.
    pub(super) input: Vec<f32>,
    /// One record for each unit and segment of the batch, segments of a unit side by side.
    pub(super) records: Vec<Record>,
    /// What a convolutional network leaves behind.
    pub(super) graph: Option<GraphTape>,
}

/// The part of a tape that one task writes.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Hidden layers, first to last.
    pub(super) layers: Vec<Layer>,
    /// Output rows.
    pub(super) output: Vec<f32>,
    /// Packed weights, layer by layer: working storage.
    pub(super) panels: Vec<Panels>,
}

/// One hidden layer of a [`Record`], in rows of the layer's stride.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Activations.
    pub(super) value: Vec<f32>,
    /// Derivatives of the activation function.
    pub(super) slope: Vec<f32>,
}
