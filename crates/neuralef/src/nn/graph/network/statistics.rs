//! Statistics of batch normalisation: of a batch, and running ones.

use std::ops::Range;

use rayon::prelude::*;

use super::ConvNetwork;
use super::forward::Record;
use super::recorded::GraphTape;
use crate::nn::capabilities::BatchStatistics;
use crate::nn::graph::GraphLayer;
use crate::nn::graph::norm::{ChannelStatistics, add_sums, total};
use crate::nn::network::Network;
use crate::nn::tape::Tape;

impl ConvNetwork {
    /// Scales 1, shifts 0, running means 0 and variances 1.
    pub(super) fn reset_norms(&mut self) {
        for (node, weights) in self.plan.graph.nodes.iter().zip(&self.plan.weights) {
            if matches!(node.layer, GraphLayer::Norm { .. }) {
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

    /// Running statistics of unit `unit` at norm `node`.
    pub(super) fn running(&self, unit: usize, node: usize) -> ChannelStatistics {
        let range = &self.plan.statistics[node];
        let numbers = &self.parameters.statistics()[unit][range.clone()];
        let (mean, variance) = numbers.split_at(range.len() / 2);
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect();
        ChannelStatistics { mean: wide(mean), variance: wide(variance) }
    }

    /// Statistics of the batch at the input of norm `node`.
    pub(super) fn statistics_of_batch(
        &self,
        node: usize,
        records: &[Record],
        segments: &[Range<usize>],
        input: &[f32],
    ) -> ChannelStatistics {
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
        ChannelStatistics::of(&total(&parts), rows * stored.image.pixels())
    }
}

impl BatchStatistics for ConvNetwork {
    fn update_running_statistics(&mut self, tape: &Tape, share: f64) {
        let recorded = tape.state::<GraphTape>().filter(|recorded| recorded.training);
        let Some(recorded) = recorded else { return };
        let ranges = &self.plan.statistics;
        let units = self.parameters.statistics_mut().iter_mut();
        for (unit, batch) in units.zip(&recorded.statistics) {
            for ((range, batch), stored) in ranges.iter().zip(batch).zip(&self.plan.stored[1..]) {
                let pixels = (recorded.rows * stored.image.pixels()) as f64;
                // The unbiased variance, as PyTorch keeps it.
                let correction = pixels / (pixels - 1.0).max(1.0);
                let new = batch.mean.iter().copied();
                let new = new.chain(batch.variance.iter().map(|v| v * correction));
                for (old, new) in unit[range.clone()].iter_mut().zip(new) {
                    *old = ((1.0 - share) * f64::from(*old) + share * new) as f32;
                }
            }
        }
    }

    fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    fn is_frozen(&self) -> bool {
        self.frozen
    }
}
