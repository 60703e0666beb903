//! Forward mode: values and their derivatives along a tangent of the parameters, with the running
//! statistics of norms.

use rayon::prelude::*;

use super::ConvNetwork;
use super::forward::{Packed, compute};
use crate::nn::graph::Value;
use crate::nn::graph::join;
use crate::nn::graph::norm::Affine;
use crate::nn::graph::plan::Op;
use crate::nn::graph::scratch::Scratch;
use crate::nn::parameters::Parameters;
use crate::nn::product::{Panels, Start};

/// Images that a task takes through the network.
const CHUNK: usize = 8;

/// A unit's weights and what the tangent makes of them.
struct Tangent {
    packed: Packed,
    /// Packed tangents of convolutions.
    panels: Vec<Vec<Panels>>,
    /// Tangents of the affine maps of norms.
    affine: Vec<Affine>,
    /// Derivatives of norms by their inputs.
    slopes: Vec<Affine>,
}

impl ConvNetwork {
    fn pack_tangent(&self, unit: usize, tangent: &Parameters) -> Tangent {
        let packed = self.pack(unit, false);
        let numbers = &tangent.units()[unit];
        let plan = &self.plan;
        let mut made =
            Tangent { packed, panels: Vec::new(), affine: Vec::new(), slopes: Vec::new() };
        for (node, op) in plan.ops.iter().enumerate() {
            let weight = &numbers[plan.weights[node].clone()];
            let bias = &numbers[plan.biases[node].clone()];
            let (mut panels, mut affine, mut slope) = Default::default();
            match op {
                Op::Conv(conv) => panels = conv.pack(weight, bias),
                Op::Norm { epsilon } => {
                    let (at, stride) = (self.running(unit, node), plan.stored[node + 1].stride);
                    affine = at.affine(weight, bias, *epsilon, stride);
                    slope = at.slope(self.tensors(unit, node).0, *epsilon, stride);
                }
                _ => {}
            }
            made.panels.push(panels);
            made.affine.push(affine);
            made.slopes.push(slope);
        }
        made
    }

    /// Directional derivatives of all outputs at the images of `input`, `rows` × k.
    pub(super) fn tangents(&self, input: &[f32], rows: usize, tangent: &Parameters) -> Vec<f32> {
        let (plan, outputs) = (&self.plan, self.plan.outputs());
        let (k, d) = (self.units() * outputs, plan.graph.input.len());
        let units: Vec<Tangent> =
            (0..self.units()).into_par_iter().map(|u| self.pack_tangent(u, tangent)).collect();
        let mut out = vec![0.0f32; rows * k];
        let chunks = out.par_chunks_mut(CHUNK * k).zip(input.par_chunks(CHUNK * d));
        chunks.for_each_init(Work::default, |work, (out, input)| {
            for (u, unit) in units.iter().enumerate() {
                self.tangent_of(unit, input, work);
                let last = plan.graph.last();
                let rates = work.rates[last].chunks_exact(plan.stored[last].len());
                for (to, from) in out.chunks_exact_mut(k).zip(rates) {
                    to[u * outputs..(u + 1) * outputs].copy_from_slice(&from[..outputs]);
                }
            }
        });
        out
    }

    fn tangent_of(&self, unit: &Tangent, input: &[f32], work: &mut Work) {
        let plan = &self.plan;
        let images = input.len() / plan.graph.input.len();
        work.reset(plan.stored.len());
        for (node, here) in plan.graph.nodes.iter().enumerate() {
            let output = plan.stored[node + 1];
            let mut value = work.buffer(images * output.len());
            let mut rate = work.buffer(images * output.len());
            let Work { values, rates, slope, scratch, .. } = work;
            let read = |v: Value| if v == 0 { input } else { &values[v] };
            compute(plan, &unit.packed, node, &read, &mut value, scratch);
            let x = read(here.inputs[0]);
            // The input does not move.
            let moving = |v: Value| (v > 0).then(|| &rates[v][..]);
            let dx = moving(here.inputs[0]);
            let stride = plan.stored[here.inputs[0]].stride;
            match &plan.ops[node] {
                Op::Conv(conv) => {
                    conv.forward(&unit.panels[node], x, Start::Bias, &mut rate, scratch);
                    if let Some(dx) = dx {
                        conv.forward(
                            &unit.packed.panels[node],
                            dx,
                            Start::Output,
                            &mut rate,
                            scratch,
                        );
                    }
                }
                Op::Norm { .. } => {
                    unit.affine[node].apply_across(x, stride, &mut rate);
                    if let Some(dx) = dx {
                        unit.slopes[node].add(dx, &mut rate);
                    }
                }
                Op::Pool(pool) => {
                    if let Some(dx) = dx {
                        pool.tangent(x, &value, dx, &mut rate);
                    }
                }
                Op::Shortcut(cut) => {
                    if let Some(dx) = dx {
                        cut.forward(dx, plan.stored[here.inputs[0]], output, &mut rate);
                    }
                }
                Op::Add => {
                    for v in &here.inputs {
                        if let Some(dx) = moving(*v) {
                            join::add(dx, plan.stored[*v].stride, &mut rate, output.stride);
                        }
                    }
                }
            }
            if let Some(activation) = here.activation {
                slope.resize(value.len(), 0.0);
                let (channels, stride) = (here.output.channels, output.stride);
                activation.apply(plan.arch, &mut value, Some(slope), channels, stride);
                rate.iter_mut().zip(slope.iter()).for_each(|(rate, slope)| *rate *= slope);
            }
            work.values[node + 1] = value;
            work.rates[node + 1] = rate;
            for v in here.inputs.iter().filter(|v| **v > 0 && plan.last_use[**v] == node) {
                let value = std::mem::take(&mut work.values[*v]);
                let rate = std::mem::take(&mut work.rates[*v]);
                work.free.extend([value, rate]);
            }
        }
    }
}

/// Working storage of a task.
#[derive(Default)]
struct Work {
    values: Vec<Vec<f32>>,
    rates: Vec<Vec<f32>>,
    free: Vec<Vec<f32>>,
    slope: Vec<f32>,
    scratch: Scratch,
}

impl Work {
    fn reset(&mut self, values: usize) {
        self.values.resize_with(values, Vec::new);
        self.rates.resize_with(values, Vec::new);
    }

    /// `size` zeros.
    fn buffer(&mut self, size: usize) -> Vec<f32> {
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(size, 0.0);
        buffer
    }
}
