//! The forward pass of a dense network, with and without a tape.

use rayon::prelude::*;

use super::{BLOCK, Dense};
use crate::error::Result;
use crate::matrix::{Mat, MatRef, expect_columns};
use crate::nn::product::{Panels, Rows, Start, multiply};
use crate::nn::rows::{finite, in_order, matrix};
use crate::nn::tape::Tape;

/// What a forward pass of a [`Dense`] leaves in a tape.
#[derive(Debug, Default)]
pub(super) struct DenseTape {
    /// Rows of the batch that was recorded.
    pub(super) rows: usize,
    /// The batch, rows × d.
    pub(super) input: Vec<f32>,
    /// One record for each unit and segment of the batch, segments of a unit side by side.
    pub(super) records: Vec<Record>,
}

/// What one task leaves behind.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Hidden layers, first to last.
    pub(super) layers: Vec<HiddenLayer>,
    /// Output rows.
    output: Vec<f32>,
    /// Packed weights, layer by layer: working storage.
    panels: Vec<Panels>,
}

/// Values of one hidden layer, in rows of the layer's stride.
#[derive(Debug, Default)]
pub(super) struct HiddenLayer {
    /// Activations.
    pub(super) value: Vec<f32>,
    /// Derivatives of the activation function.
    pub(super) slope: Vec<f32>,
}

impl Dense {
    /// Forward pass of one task: `x` are its rows.
    fn record(&self, panels: &[Panels], x: &[f32], record: &mut Record) {
        let d = self.shape.inputs;
        let rows = x.len() / d;
        let Record { layers, output, .. } = record;
        layers.resize_with(self.shape.hidden.len(), Default::default);
        for (layer, width) in layers.iter_mut().zip(&self.shape.hidden) {
            layer.value.resize(rows * self.stride(*width), 0.0);
            layer.slope.resize(rows * self.stride(*width), 0.0);
        }
        output.resize(rows * self.stride(self.shape.heads), 0.0);
        for start in (0..rows).step_by(BLOCK) {
            let end = (start + BLOCK).min(rows);
            let mut a = Rows { data: &x[start * d..end * d], stride: d, count: end - start };
            let widths = layers.iter_mut().zip(&self.shape.hidden);
            for ((layer, width), panels) in widths.zip(panels.iter()) {
                let ld = self.stride(*width);
                let value = &mut layer.value[start * ld..end * ld];
                let slope = &mut layer.slope[start * ld..end * ld];
                multiply(self.arch, a, panels, Start::Bias, None, value);
                self.shape.activation.apply(self.arch, value, Some(slope), *width, ld);
                a = Rows { data: value, stride: ld, count: end - start };
            }
            let ld = self.stride(self.shape.heads);
            if let Some(last) = panels.last() {
                multiply(self.arch, a, last, Start::Bias, None, &mut output[start * ld..end * ld]);
            }
        }
    }

    /// Forward pass that records into `tape`.
    pub(super) fn forward_recorded(&self, x: MatRef<'_>, tape: &mut Tape) -> Result<Mat> {
        expect_columns("x", x, self.shape.inputs)?;
        let ((n, d), k) = (x.dim(), self.columns());
        let segments = self.segments(n);
        let mut recorded: Box<DenseTape> = tape.take_state();
        let DenseTape { rows, input, records } = &mut *recorded;
        *rows = n;
        input.clear();
        input.extend(x.iter());
        records.resize_with(self.shape.units * segments.len(), Record::default);
        // A unit's only task packs its own weights; several share what is packed beforehand.
        let shared = (segments.len() > 1).then(|| self.pack_all(&self.parameters));
        records.par_iter_mut().enumerate().for_each(|(i, record)| {
            let (unit, segment) = (i / segments.len(), &segments[i % segments.len()]);
            let x = &input[segment.start * d..segment.end * d];
            if let Some(panels) = &shared {
                self.record(&panels[unit], x, record);
            } else {
                let mut panels = std::mem::take(&mut record.panels);
                self.pack(&self.parameters.units()[unit], &mut panels);
                self.record(&panels, x, record);
                record.panels = panels;
            }
        });
        let mut out = vec![0.0; n * k];
        let heads = self.shape.heads;
        for (i, record) in records.iter().enumerate() {
            let (unit, segment) = (i / segments.len(), &segments[i % segments.len()]);
            let to = out[segment.start * k..segment.end * k].chunks_exact_mut(k);
            for (to, from) in to.zip(record.output.chunks_exact(self.stride(heads))) {
                to[unit * heads..(unit + 1) * heads].copy_from_slice(&from[..heads]);
            }
        }
        tape.set_state(recorded);
        finite("network output", matrix(n, k, out)?)
    }

    /// Forward pass without a tape through `depth` layers of all units, in `columns` numbers for each
    /// row.
    pub(super) fn infer(&self, x: MatRef<'_>, depth: usize, columns: usize) -> Result<Mat> {
        expect_columns("x", x, self.shape.inputs)?;
        let (n, d) = x.dim();
        let x = in_order(&x);
        let packed = self.pack_all(&self.parameters);
        let mut out = vec![0.0f32; n * columns];
        let size = BLOCK * self.widest();
        let blocks = out.par_chunks_mut(BLOCK * columns).zip(x.par_chunks(BLOCK * d));
        blocks.for_each_init(
            || (vec![0.0f32; size], vec![0.0f32; size]),
            |(here, next), (out, x)| {
                let count = x.len() / d;
                for (u, panels) in packed.iter().enumerate() {
                    let mut width = d;
                    for (l, panels) in panels.iter().enumerate().take(depth) {
                        let (inner, outer) = self.layers[l];
                        let ld = self.stride(outer);
                        let a = match l {
                            0 => Rows { data: x, stride: d, count },
                            _ => Rows { data: here, stride: self.stride(inner), count },
                        };
                        let to = &mut next[..count * ld];
                        multiply(self.arch, a, panels, Start::Bias, None, to);
                        if l + 1 < self.layers.len() {
                            self.shape.activation.apply(self.arch, to, None, outer, ld);
                        }
                        std::mem::swap(here, next);
                        width = outer;
                    }
                    let rows = out.chunks_exact_mut(columns);
                    for (to, from) in rows.zip(here.chunks_exact(self.stride(width))) {
                        to[u * width..(u + 1) * width].copy_from_slice(&from[..width]);
                    }
                }
            },
        );
        finite("network output", matrix(n, columns, out)?)
    }

    /// What a pass of this network recorded in `tape`.
    pub(super) fn recorded<'t>(&self, tape: &'t Tape) -> Result<&'t DenseTape> {
        let tape: &DenseTape = tape.expect_state()?;
        let segments = self.segments(tape.rows);
        let fits = |(i, record): (usize, &Record)| {
            let rows = segments[i % segments.len()].len();
            record.layers.len() == self.shape.hidden.len()
                && record.layers.iter().zip(&self.shape.hidden).all(|(layer, width)| {
                    let size = rows * self.stride(*width);
                    layer.value.len() == size && layer.slope.len() == size
                })
        };
        if tape.input.len() == tape.rows * self.shape.inputs
            && tape.records.len() == self.shape.units * segments.len()
            && tape.records.iter().enumerate().all(fits)
        {
            return Ok(tape);
        }
        Err(Tape::of_another_network())
    }
}
