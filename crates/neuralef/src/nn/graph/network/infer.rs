//! Passes without a tape: outputs, hidden features, and values of layers.

use rayon::prelude::*;

use super::ConvNetwork;
use super::forward::{Packed, Store};
use crate::error::Result;
use crate::matrix::{Mat, MatRef};
use crate::nn::capabilities::{LayerFeatures, LayerInfo};
use crate::nn::graph::{Node, Value};
use crate::nn::rows::{expect_single, finite, matrix};

/// Images that a task without a tape takes through the network.
const CHUNK: usize = 32;

impl ConvNetwork {
    /// Forward pass without a tape: the outputs, or the values before the last layer, of all units.
    pub(super) fn infer(&self, x: MatRef<'_>, hidden: bool, columns: usize) -> Result<Mat> {
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
    fn means(&self, x: MatRef<'_>, values: &[Value]) -> Result<Mat> {
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
}

impl LayerFeatures for ConvNetwork {
    fn layers(&self) -> Vec<LayerInfo> {
        let nodes = self.folded.graph.nodes.iter();
        let layer = |node: &Node| LayerInfo {
            name: node.name.clone(),
            pixels: node.output.pixels(),
            channels: node.output.channels,
        };
        nodes.map(layer).collect()
    }

    fn features(&self, x: MatRef<'_>, layers: &[usize]) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        expect_single(layers, self.folded.graph.nodes.len(), self.units())?;
        let values: Vec<Value> = layers.iter().map(|layer| layer + 1).collect();
        self.means(x, &values)
    }
}
