//! Passes for derivatives by the parameters: forward into a tape, back from it, and Jacobians.

use rayon::prelude::*;

use super::ConvNetwork;
use super::backward::{Backward, Work};
use super::forward::Record;
use crate::error::Result;
use crate::matrix::{Mat, MatRef};
use crate::nn::capabilities::PerSampleJacobians;
use crate::nn::expect::expect_frozen;
use crate::nn::graph::GraphLayer;
use crate::nn::graph::norm::ChannelStatistics;
use crate::nn::network::Network;
use crate::nn::parameters::Parameters;
use crate::nn::rows::{expect_cotangent, finite, in_order, matrix};
use crate::nn::tape::Tape;

/// What a forward pass of a [`ConvNetwork`] leaves in a tape.
#[derive(Debug, Default)]
pub(super) struct GraphTape {
    /// Rows of the batch that was recorded.
    pub(super) rows: usize,
    /// Its images.
    input: Vec<f32>,
    /// Whether the statistics were those of the batch.
    pub(super) training: bool,
    /// One record for each unit and segment, segments of a unit side by side.
    records: Vec<Record>,
    /// Of every unit and node: statistics of the batch, for norms.
    pub(super) statistics: Vec<Vec<ChannelStatistics>>,
}

impl ConvNetwork {
    /// Forward pass that records into `tape`.
    pub(super) fn forward_recorded(&self, x: MatRef<'_>, tape: &mut Tape) -> Result<Mat> {
        let (n, k) = (x.nrows(), self.columns());
        let mut recorded: Box<GraphTape> = tape.take_state();
        recorded.rows = n;
        self.images(x, &mut recorded.input)?;
        let (segments, d) = (self.segments(n), self.inputs());
        let training = self.has_norms() && !self.frozen;
        recorded.training = training;
        let GraphTape { input, records, statistics, .. } = &mut *recorded;
        records.resize_with(self.units() * segments.len(), Record::default);
        statistics.resize_with(self.units(), Vec::new);
        let stages = if training { &self.plan.training } else { &self.plan.frozen };
        let units = records.par_chunks_mut(segments.len()).zip(statistics.par_iter_mut());
        units.enumerate().for_each(|(unit, (records, statistics))| {
            let mut packed = self.pack(unit, training);
            statistics.clear();
            statistics.resize(self.plan.ops.len(), ChannelStatistics::default());
            for stage in stages {
                let first = stage.nodes.start;
                if training && matches!(self.plan.graph.nodes[first].layer, GraphLayer::Norm { .. })
                {
                    statistics[first] = self.statistics_of_batch(first, records, &segments, input);
                    self.pack_norm(&mut packed, unit, first, &statistics[first]);
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
        for (i, record) in records.iter().enumerate() {
            let (unit, segment) = (i / segments.len(), &segments[i % segments.len()]);
            let values = record.store.value(last, input);
            let to = out[segment.start * k..segment.end * k].chunks_exact_mut(k);
            for (to, from) in to.zip(values.chunks_exact(stored.len())) {
                to[unit * outputs..(unit + 1) * outputs].copy_from_slice(&from[..outputs]);
            }
        }
        tape.set_state(recorded);
        finite("network output", matrix(n, k, out)?)
    }

    /// See [`Network::vjp`].
    pub(super) fn pulled_back(
        &self,
        tape: &Tape,
        cotangent: MatRef<'_>,
        gradient: &mut Parameters,
    ) -> Result<()> {
        let recorded: &GraphTape = tape.expect_state()?;
        let (n, k) = (recorded.rows, self.columns());
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("gradient", gradient)?;
        let segments = self.segments(n);
        let fits = recorded.records.len() == self.units() * segments.len()
            && recorded.statistics.len() == self.units()
            && recorded.input.len() == n * self.inputs()
            && recorded.records.iter().all(|r| r.store.len() == self.plan.stored.len());
        if !fits {
            return Err(Tape::of_another_network());
        }
        expect_cotangent(cotangent, n, k)?;
        let cotangent = in_order(&cotangent);
        let units = gradient.units_mut().par_iter_mut().enumerate();
        units.for_each(|(unit, gradient)| {
            let records = &recorded.records[unit * segments.len()..(unit + 1) * segments.len()];
            let pass = Backward::new(self, unit, recorded.training, &recorded.statistics[unit]);
            pass.run(records, &segments, &recorded.input, &cotangent, gradient);
        });
        Ok(())
    }
}

impl PerSampleJacobians for ConvNetwork {
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
}
