//! The backward pass of a dense network by its parameters.

use rayon::prelude::*;

use super::forward::Record;
use super::{BLOCK, Dense};
use crate::error::Result;
use crate::matrix::MatRef;
use crate::nn::parameters::Parameters;
use crate::nn::product::{Panels, Rows, Start, accumulate, multiply};
use crate::nn::rows::{expect_cotangent, in_order};
use crate::nn::tape::Tape;

impl Dense {
    /// Backward pass of one task, added to `gradient`. `cotangent` holds the task's rows, all functions.
    fn pull_back(
        &self,
        unit: usize,
        transposed: &[Panels],
        x: &[f32],
        record: &Record,
        cotangent: &[f32],
        gradient: &mut [f32],
    ) {
        let (d, k, heads) = (self.shape.inputs, self.columns(), self.shape.heads);
        let rows = x.len() / d;
        let mut here = vec![0.0; BLOCK * self.widest()];
        let mut below = vec![0.0; here.len()];
        let mut scratch = Vec::new();
        for start in (0..rows).step_by(BLOCK) {
            let end = (start + BLOCK).min(rows);
            let count = end - start;
            let ld = self.stride(heads);
            let rows_of = cotangent[start * k..end * k].chunks_exact(k);
            for (to, from) in here.chunks_exact_mut(ld).zip(rows_of) {
                to[..heads].copy_from_slice(&from[unit * heads..(unit + 1) * heads]);
                to[heads..].fill(0.0);
            }
            let mut end_of_layer = gradient.len();
            for (l, (inner, outer)) in self.layers.iter().copied().enumerate().rev() {
                let start_of_layer = end_of_layer - (inner + 1) * outer;
                let layer = &mut gradient[start_of_layer..end_of_layer];
                end_of_layer = start_of_layer;
                let (weight, bias) = layer.split_at_mut(inner * outer);
                let dz = &here[..count * self.stride(outer)];
                let Some(previous) = l.checked_sub(1).and_then(|p| record.layers.get(p)) else {
                    let a = Rows { data: &x[start * d..end * d], stride: d, count };
                    accumulate(self.arch, a, dz, weight, bias, &mut scratch);
                    continue;
                };
                let ld = self.stride(inner);
                let a = Rows { data: &previous.value[start * ld..end * ld], stride: ld, count };
                accumulate(self.arch, a, dz, weight, bias, &mut scratch);
                let dz = Rows { data: dz, stride: self.stride(outer), count };
                let slope = Some(&previous.slope[start * ld..end * ld]);
                let to = &mut below[..count * ld];
                multiply(self.arch, dz, &transposed[l], Start::Bias, slope, to);
                std::mem::swap(&mut here, &mut below);
            }
        }
    }

    /// See [`Network::vjp`](crate::nn::Network::vjp).
    pub(super) fn pulled_back(
        &self,
        tape: &Tape,
        cotangent: MatRef<'_>,
        gradient: &mut Parameters,
    ) -> Result<()> {
        let tape = self.recorded(tape)?;
        let (n, d, k) = (tape.rows, self.shape.inputs, self.columns());
        let segments = self.segments(n);
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("gradient", gradient)?;
        expect_cotangent(cotangent, n, k)?;
        let cotangent = in_order(&cotangent);
        let task = |unit: usize, s: usize, transposed: &[Panels], gradient: &mut [f32]| {
            let segment = segments[s].clone();
            self.pull_back(
                unit,
                transposed,
                &tape.input[segment.start * d..segment.end * d],
                &tape.records[unit * segments.len() + s],
                &cotangent[segment.start * k..segment.end * k],
                gradient,
            );
        };
        let units = self.parameters.units();
        if segments.len() == 1 {
            gradient.units_mut().par_iter_mut().enumerate().for_each(|(unit, gradient)| {
                gradient.fill(0.0);
                task(unit, 0, &self.pack_transposed(&units[unit]), gradient);
            });
            return Ok(());
        }
        let transposed: Vec<Vec<Panels>> =
            units.par_iter().map(|unit| self.pack_transposed(unit)).collect();
        let partial = |i: usize| {
            let (unit, s) = (i / segments.len(), i % segments.len());
            let mut partial = vec![0.0; units[unit].len()];
            task(unit, s, &transposed[unit], &mut partial);
            partial
        };
        let tasks = self.shape.units * segments.len();
        let partials: Vec<Vec<f32>> = (0..tasks).into_par_iter().map(partial).collect();
        for (unit, partials) in gradient.units_mut().iter_mut().zip(partials.chunks(segments.len()))
        {
            unit.fill(0.0);
            for partial in partials {
                unit.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
            }
        }
        Ok(())
    }
}
