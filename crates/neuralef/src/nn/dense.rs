//! The dense network engine: ensembles of multilayer perceptrons, and trunks with several heads.
//!
//! A network is `units` perceptrons of one shape, each with `heads` outputs. The work is cut into
//! tasks: one for each unit and *segment* of the batch, in a way that depends on shapes alone. A
//! task goes through its rows in blocks that stay in cache, layer by layer. Gradients of segments
//! are added in order, so no bit depends on the number of threads.

mod input;

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::activation::Activation;
use super::init::{Init, Place};
use super::parameters::{Parameters, Role, TensorLayout};
use super::product::{Panels, Rows, Start, accumulate, lanes, multiply, stride};
use super::rows::{expect_cotangent, expect_single, finite, in_order, matrix, segments};
use super::tape::{Record, Tape};
use super::{LayerInfo, LayerMoments, Network, Stage, WeightLayer};
use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef, expect_columns};

mod moments;

/// Rows that go through all layers together. A multiple of the register tile; 96 rows of a layer 64
/// wide are 24 KiB.
pub(super) const BLOCK: usize = 96;
/// Most parameters a network may have: 4 GiB of them.
pub(super) const MAX_PARAMETERS: u64 = 1 << 30;

/// What a dense network looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// d.
    pub(super) inputs: usize,
    /// Number of separate perceptrons.
    pub(super) units: usize,
    /// Heads of each: C for each of its functions.
    pub(super) heads: usize,
    /// C, the outputs of a function.
    pub(super) outputs: usize,
    /// Widths of the hidden layers.
    pub(super) hidden: Vec<usize>,
    /// Of the hidden layers.
    pub(super) activation: Activation,
}

impl Shape {
    /// (inner, outer) of every layer.
    fn layers(&self) -> Vec<(usize, usize)> {
        let inner = std::iter::once(self.inputs).chain(self.hidden.iter().copied());
        let outer = self.hidden.iter().copied().chain(std::iter::once(self.heads));
        inner.zip(outer).collect()
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("inputs", self.inputs),
            ("outputs", self.outputs),
            ("functions", self.units),
            ("functions", self.heads),
        ] {
            if value == 0 {
                return Err(Error::parameter(name, "at least 1", value));
            }
        }
        if !self.heads.is_multiple_of(self.outputs) {
            let expected = format!("a multiple of {} outputs", self.outputs);
            return Err(Error::parameter("heads", expected, self.heads));
        }
        for width in &self.hidden {
            if *width == 0 {
                return Err(Error::parameter("hidden", "widths of at least 1", width));
            }
            self.activation.check_width(*width)?;
        }
        let size = |(inner, outer): (usize, usize)| {
            (inner as u64).checked_add(1)?.checked_mul(outer as u64)
        };
        let total = self
            .layers()
            .into_iter()
            .try_fold(0u64, |sum, layer| sum.checked_add(size(layer)?))
            .and_then(|unit| unit.checked_mul(self.units as u64));
        match total {
            Some(total) if total <= MAX_PARAMETERS => Ok(()),
            _ => Err(Error::parameter(
                "hidden",
                format!("at most {MAX_PARAMETERS} parameters in all"),
                format!("{:?} for {} inputs, {} networks", self.hidden, self.inputs, self.units),
            )),
        }
    }
}

/// One layer's parameters, where they lie in a unit.
struct Tensors<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    inner: usize,
    outer: usize,
}

/// A dense network with its weights. See [`Network`].
#[derive(Debug)]
pub(super) struct Dense {
    shape: Shape,
    /// (inner, outer) of every layer.
    layers: Vec<(usize, usize)>,
    parameters: Parameters,
    arch: Arch,
    lanes: usize,
}

impl Dense {
    pub(super) fn new(shape: Shape, init: Init, seed: u64) -> Result<Self> {
        shape.check()?;
        let layers = shape.layers();
        let mut layout = Vec::new();
        let mut offset = 0;
        for (l, (inner, outer)) in layers.iter().copied().enumerate() {
            let weight = ("weight", vec![inner, outer], Role::Weight { fan_in: inner });
            for (part, shape, role) in [weight, ("bias", vec![outer], Role::Bias)] {
                let size = shape.iter().product::<usize>();
                let name = format!("layers.{l}.{part}");
                layout.push(TensorLayout { name, shape, offset, role, flat: false });
                offset += size;
            }
        }
        let mut parameters = Parameters::zeros(vec![layout; shape.units]);
        for (number, unit) in parameters.units_mut().iter_mut().enumerate() {
            let mut rng = crate::rng::stream(seed, "init", number as u64);
            let mut rest = unit.as_mut_slice();
            for (l, (inner, outer)) in layers.iter().copied().enumerate() {
                let (weight, after) = rest.split_at_mut(inner * outer);
                let (bias, after) = after.split_at_mut(outer);
                if l + 1 < layers.len() {
                    let place = Place { first: l == 0, unit: (number, shape.units) };
                    init.hidden(shape.activation, place, weight, bias, &mut rng)?;
                } else {
                    Init::output(weight, bias, &mut rng);
                }
                rest = after;
            }
        }
        let arch = Arch::new();
        Ok(Dense { shape, layers, parameters, arch, lanes: lanes(arch) })
    }

    /// The same network on the path for machines without vector instructions.
    #[cfg(test)]
    pub(super) fn portable(self) -> Self {
        Dense { arch: Arch::Scalar, lanes: lanes(Arch::Scalar), ..self }
    }

    fn stride(&self, columns: usize) -> usize {
        stride(columns, self.lanes)
    }

    /// kC, the width of the output.
    fn columns(&self) -> usize {
        self.shape.units * self.shape.heads
    }

    /// The widest row any layer needs.
    fn widest(&self) -> usize {
        self.layers.iter().map(|(_, outer)| self.stride(*outer)).max().unwrap_or(1)
    }

    fn segments(&self, rows: usize) -> Vec<Range<usize>> {
        segments(rows, self.shape.units, BLOCK)
    }

    /// The layers of a unit's flat vector.
    fn tensors<'a>(&'a self, unit: &'a [f32]) -> impl Iterator<Item = Tensors<'a>> {
        let mut rest = unit;
        self.layers.iter().map(move |(inner, outer)| {
            let (weight, after) = rest.split_at(inner * outer);
            let (bias, after) = after.split_at(*outer);
            rest = after;
            Tensors { weight, bias, inner: *inner, outer: *outer }
        })
    }

    fn pack(&self, unit: &[f32], panels: &mut Vec<Panels>) {
        panels.resize_with(self.layers.len(), Panels::default);
        for (panels, layer) in panels.iter_mut().zip(self.tensors(unit)) {
            panels.pack(self.lanes, layer.weight, layer.bias, layer.inner, layer.outer);
        }
    }

    /// The transposes of all layers but the first, which derivatives by parameters do not need.
    fn pack_transposed(&self, unit: &[f32]) -> Vec<Panels> {
        let pack = |(l, layer): (usize, Tensors<'_>)| {
            let mut panels = Panels::default();
            if l > 0 {
                panels.pack_transposed(self.lanes, layer.weight, layer.outer, layer.inner);
            }
            panels
        };
        self.tensors(unit).enumerate().map(pack).collect()
    }

    fn pack_all(&self, parameters: &Parameters) -> Vec<Vec<Panels>> {
        let pack = |unit: &Vec<f32>| {
            let mut panels = Vec::new();
            self.pack(unit, &mut panels);
            panels
        };
        parameters.units().par_iter().map(pack).collect()
    }

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

    /// Forward pass without a tape through `depth` layers of all units, in `columns` numbers for each
    /// row.
    fn infer(&self, x: MatRef<'_>, depth: usize, columns: usize) -> Result<Mat> {
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

    fn check_tape(&self, tape: &Tape, segments: &[Range<usize>]) -> Result<()> {
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
            return Ok(());
        }
        Err(Error::shape("tape", "one recorded by this network", "another network's"))
    }

    fn check_layout(&self, what: &str, parameters: &Parameters) -> Result<()> {
        let size: usize = self.layers.iter().map(|(inner, outer)| (inner + 1) * outer).sum();
        parameters.expect_units(what, self.shape.units, size)
    }
}

impl Network for Dense {
    fn inputs(&self) -> usize {
        self.shape.inputs
    }

    fn functions(&self) -> usize {
        self.columns() / self.shape.outputs
    }

    fn outputs(&self) -> usize {
        self.shape.outputs
    }

    fn hidden_width(&self) -> usize {
        self.shape.hidden.last().map_or(self.shape.inputs, |width| width * self.shape.units)
    }

    fn unit(&self, function: usize) -> usize {
        function * self.shape.outputs / self.shape.heads
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
        let Some(tape) = tape else { return self.infer(x, self.layers.len(), k) };
        expect_columns("x", x, self.shape.inputs)?;
        let (n, d) = x.dim();
        let segments = self.segments(n);
        tape.rows = n;
        tape.input.clear();
        tape.input.extend(x.iter());
        tape.records.resize_with(self.shape.units * segments.len(), Record::default);
        let input = &tape.input;
        // A unit's only task packs its own weights; several share what is packed beforehand.
        let shared = (segments.len() > 1).then(|| self.pack_all(&self.parameters));
        tape.records.par_iter_mut().enumerate().for_each(|(i, record)| {
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
        for (i, record) in tape.records.iter().enumerate() {
            let (unit, segment) = (i / segments.len(), &segments[i % segments.len()]);
            let to = out[segment.start * k..segment.end * k].chunks_exact_mut(k);
            for (to, from) in to.zip(record.output.chunks_exact(self.stride(heads))) {
                to[unit * heads..(unit + 1) * heads].copy_from_slice(&from[..heads]);
            }
        }
        finite("network output", matrix(n, k, out)?)
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        let (n, d, k) = (tape.rows, self.shape.inputs, self.columns());
        let segments = self.segments(n);
        self.check_tape(tape, &segments)?;
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

    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        expect_columns("x", x, self.shape.inputs)?;
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("tangent", tangent)?;
        let ((n, d), k, heads) = (x.dim(), self.columns(), self.shape.heads);
        let x = in_order(&x);
        let (weights, tangents) = (self.pack_all(&self.parameters), self.pack_all(tangent));
        let mut out = vec![0.0f32; n * k];
        let size = BLOCK * self.widest();
        let blocks = out.par_chunks_mut(BLOCK * k).zip(x.par_chunks(BLOCK * d));
        blocks.for_each_init(
            || std::array::from_fn(|_| vec![0.0f32; size]),
            |[a, next, dot, next_dot, slope]: &mut [Vec<f32>; 5], (out, x)| {
                let count = x.len() / d;
                for (u, panels) in weights.iter().zip(&tangents).enumerate() {
                    for (l, (inner, outer)) in self.layers.iter().copied().enumerate() {
                        let (from, to) = (self.stride(inner), self.stride(outer));
                        let rows = match l {
                            0 => Rows { data: x, stride: d, count },
                            _ => Rows { data: a, stride: from, count },
                        };
                        let rate = &mut next_dot[..count * to];
                        multiply(self.arch, rows, &panels.1[l], Start::Bias, None, rate);
                        if l > 0 {
                            let dot = Rows { data: dot, stride: from, count };
                            multiply(self.arch, dot, &panels.0[l], Start::Output, None, rate);
                        }
                        if l + 1 < self.layers.len() {
                            let value = &mut next[..count * to];
                            let slope = &mut slope[..count * to];
                            multiply(self.arch, rows, &panels.0[l], Start::Bias, None, value);
                            let activation = self.shape.activation;
                            activation.apply(self.arch, value, Some(slope), outer, to);
                            rate.iter_mut().zip(slope).for_each(|(r, s)| *r *= *s);
                        }
                        std::mem::swap(a, next);
                        std::mem::swap(dot, next_dot);
                    }
                    let rows = out.chunks_exact_mut(k);
                    for (to, from) in rows.zip(dot.chunks_exact(self.stride(heads))) {
                        to[u * heads..(u + 1) * heads].copy_from_slice(&from[..heads]);
                    }
                }
            },
        );
        finite("directional derivative", matrix(n, k, out)?)
    }

    fn input_gradients(&self, x: MatRef<'_>, stage: Stage, weights: Mat64Ref<'_>) -> Result<Mat64> {
        self.gradients_by_input(x, stage, weights)
    }

    fn layers(&self) -> Vec<LayerInfo> {
        let layers = self.layers.iter().enumerate();
        let layer = |(l, (_, outer)): (usize, &(usize, usize))| LayerInfo {
            name: format!("layers.{l}"),
            pixels: 1,
            channels: *outer,
        };
        layers.map(layer).collect()
    }

    fn features(&self, x: MatRef<'_>, layers: &[usize]) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        expect_single(layers, self.layers.len(), self.shape.units)?;
        let values = |l: &usize| self.infer(x, l + 1, self.layers[*l].1);
        let parts: Vec<Mat> = layers.iter().map(values).collect::<Result<_>>()?;
        let views: Vec<MatRef<'_>> = parts.iter().map(|part| part.view()).collect();
        ndarray::concatenate(ndarray::Axis(1), &views)
            .map_err(|e| Error::shape("values of layers", "at least one layer", e))
    }

    fn weight_layers(&self) -> Result<Vec<WeightLayer>> {
        self.places()
    }

    fn ends_linear(&self) -> bool {
        true
    }

    fn layer_moments(
        &self,
        x: MatRef<'_>,
        roots: &[Mat64],
        _squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>> {
        self.moments(x, roots)
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        if self.shape.hidden.is_empty() {
            expect_columns("x", x, self.shape.inputs)?;
            return Ok(x.to_owned());
        }
        self.infer(x, self.shape.hidden.len(), self.hidden_width())
    }
}
