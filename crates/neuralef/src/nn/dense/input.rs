//! Derivatives of dense networks by their inputs, in forward or reverse mode, whichever is cheaper.
//!
//! For combinations f(x)ᵀW of k columns, forward mode sends the d unit directions of x through the
//! layers of every unit and combines the tangents of the features in double precision: d passes.
//! Reverse mode pulls the k columns of W back, k passes. Neither forms the p × d Jacobian of all
//! features at once.

use ndarray::s;
use rayon::prelude::*;

use super::{BLOCK, Dense, Tensors};
use crate::error::{Error, Result};
use crate::linalg::{expect_finite_f64, matmul_f64};
use crate::matrix::{Mat64, Mat64Mut, Mat64Ref, MatRef, expect_columns};
use crate::nn::capabilities::{InputGradients, Stage};
use crate::nn::product::{Panels, Rows, Start, multiply};
use crate::nn::rows::in_order;

/// The weights of one unit as the passes need them.
struct Unit {
    /// With biases, for values.
    values: Vec<Panels>,
    /// Without biases for forward mode, transposed for reverse mode.
    derivatives: Vec<Panels>,
    /// Of the first layer, d × its width.
    first: Vec<f32>,
}

/// The block of rows that a task works on, and what it needs to know of the network.
struct Task<'a> {
    network: &'a Dense,
    /// Layers that count.
    depth: usize,
    unit: &'a Unit,
    /// Rows of x.
    x: &'a [f32],
    /// The unit's features × k.
    weights: Mat64Ref<'a>,
}

impl InputGradients for Dense {
    fn gradients_by_inputs(
        &self,
        x: MatRef<'_>,
        stage: Stage,
        weights: Mat64Ref<'_>,
    ) -> Result<Mat64> {
        expect_columns("x", x, self.shape.inputs)?;
        self.check_layout("parameters", &self.parameters)?;
        let ((n, d), k) = (x.dim(), weights.ncols());
        let (depth, width) = match stage {
            Stage::Functions => (self.layers.len(), self.shape.heads),
            Stage::Hidden => {
                let last = self.shape.hidden.last().copied();
                (self.shape.hidden.len(), last.unwrap_or(self.shape.inputs))
            }
        };
        let features = if depth == 0 { d } else { width * self.shape.units };
        if weights.nrows() != features {
            let got = format!("{} × {k}", weights.nrows());
            return Err(Error::shape("weights of features", format!("{features} × k"), got));
        }
        let mut out = Mat64::zeros((n * d, k));
        if depth == 0 {
            // The features are x itself.
            out.axis_chunks_iter_mut(ndarray::Axis(0), d.max(1))
                .for_each(|mut o| o.assign(&weights));
            return Ok(out);
        }
        let forward = d <= k;
        let pack = |unit: &Vec<f32>| self.pack_for_input(unit, forward);
        let units: Vec<Unit> = self.parameters.units().par_iter().map(pack).collect();
        let x = in_order(&x);
        let mut blocks: Vec<Mat64Mut<'_>> =
            out.axis_chunks_iter_mut(ndarray::Axis(0), BLOCK * d).collect();
        blocks.par_iter_mut().zip(x.par_chunks(BLOCK * d)).try_for_each(|(out, x)| {
            for (u, unit) in units.iter().enumerate() {
                let weights = weights.slice(s![u * width..(u + 1) * width, ..]);
                let task = Task { network: self, depth, unit, x, weights };
                if forward { task.push_forward(out)? } else { task.pull_back(out) }
            }
            Ok::<_, Error>(())
        })?;
        expect_finite_f64("derivatives by the inputs of the network", out.view())?;
        Ok(out)
    }
}

impl Dense {
    fn pack_for_input(&self, unit: &[f32], forward: bool) -> Unit {
        let mut values = Vec::new();
        self.pack(unit, &mut values);
        let pack = |layer: Tensors<'_>| {
            let mut panels = Panels::default();
            let (weight, inner, outer) = (layer.weight, layer.inner, layer.outer);
            match forward {
                true => panels.pack(self.lanes, weight, &[], inner, outer),
                false => panels.pack_transposed(self.lanes, weight, outer, inner),
            }
            panels
        };
        let derivatives = self.tensors(unit).map(pack).collect();
        let first = self.tensors(unit).next().map_or_else(Vec::new, |l| l.weight.to_vec());
        Unit { values, derivatives, first }
    }
}

impl Task<'_> {
    fn count(&self) -> usize {
        self.x.len() / self.network.shape.inputs
    }

    /// The values of layer `l` from those below it, into `value`, and its slopes, unless it is linear.
    fn layer(&self, l: usize, below: &[f32], value: &mut Vec<f32>, slope: &mut Vec<f32>) {
        let net = self.network;
        let (inner, outer) = net.layers[l];
        let ld = net.stride(outer);
        let (data, stride) = if l == 0 { (self.x, inner) } else { (below, net.stride(inner)) };
        value.resize(self.count() * ld, 0.0);
        slope.resize(self.count() * ld, 0.0);
        let rows = Rows { data, stride, count: self.count() };
        multiply(net.arch, rows, &self.unit.values[l], Start::Bias, None, value);
        if l < net.shape.hidden.len() {
            net.shape.activation.apply(net.arch, value, Some(slope), outer, ld);
        } else {
            slope.fill(1.0);
        }
    }

    /// Adds this unit's part in forward mode. Tangents lie coordinate by coordinate, rows within.
    fn push_forward(&self, out: &mut Mat64Mut<'_>) -> Result<()> {
        let (net, count, d) = (self.network, self.count(), self.network.shape.inputs);
        let [mut value, mut next, mut slope, mut dot, mut next_dot] =
            std::array::from_fn(|_| Vec::new());
        for l in 0..self.depth {
            let (inner, outer) = net.layers[l];
            let (from, ld) = (net.stride(inner), net.stride(outer));
            self.layer(l, &value, &mut next, &mut slope);
            next_dot.resize(d * count * ld, 0.0);
            for (c, to) in next_dot.chunks_exact_mut(count * ld).enumerate() {
                if l == 0 {
                    let direction = &self.unit.first[c * outer..(c + 1) * outer];
                    for (to, slope) in to.chunks_exact_mut(ld).zip(slope.chunks_exact(ld)) {
                        let products = direction.iter().zip(slope).map(|(w, s)| w * s);
                        to.iter_mut().zip(products).for_each(|(to, v)| *to = v);
                    }
                } else {
                    let data = &dot[c * count * from..(c + 1) * count * from];
                    let rows = Rows { data, stride: from, count };
                    let panels = &self.unit.derivatives[l];
                    multiply(net.arch, rows, panels, Start::Bias, Some(&slope), to);
                }
            }
            std::mem::swap(&mut value, &mut next);
            std::mem::swap(&mut dot, &mut next_dot);
        }
        let width = self.weights.nrows();
        let ld = net.stride(width);
        let tangents = Mat64::from_shape_fn((count * d, width), |(r, i)| {
            f64::from(dot[((r % d) * count + r / d) * ld + i])
        });
        *out += &matmul_f64(tangents.view(), self.weights)?;
        Ok(())
    }

    /// Adds this unit's part in reverse mode: one pass for each column of the weights.
    fn pull_back(&self, out: &mut Mat64Mut<'_>) {
        let (net, count, d) = (self.network, self.count(), self.network.shape.inputs);
        let mut slopes: Vec<Vec<f32>> = Vec::new();
        let (mut value, mut next) = (Vec::new(), Vec::new());
        for l in 0..self.depth {
            let mut slope = Vec::new();
            self.layer(l, &value, &mut next, &mut slope);
            slopes.push(slope);
            std::mem::swap(&mut value, &mut next);
        }
        let (mut here, mut below) = (Vec::new(), Vec::new());
        for (j, column) in self.weights.columns().into_iter().enumerate() {
            let ld = net.stride(column.len());
            here.clear();
            here.resize(count * ld, 0.0f32);
            if let Some(slope) = slopes.last() {
                for (to, slope) in here.chunks_exact_mut(ld).zip(slope.chunks_exact(ld)) {
                    let products = column.iter().zip(slope).map(|(w, s)| *w as f32 * s);
                    to.iter_mut().zip(products).for_each(|(to, v)| *to = v);
                }
            }
            for l in (0..self.depth).rev() {
                let (inner, outer) = net.layers[l];
                below.resize(count * net.stride(inner), 0.0);
                let rows = Rows { data: &here, stride: net.stride(outer), count };
                let slope = l.checked_sub(1).map(|below| slopes[below].as_slice());
                let panels = &self.unit.derivatives[l];
                multiply(net.arch, rows, panels, Start::Bias, slope, &mut below);
                std::mem::swap(&mut here, &mut below);
            }
            let ld = net.stride(d);
            let rows = here.chunks_exact(ld).flat_map(|row| &row[..d]);
            out.column_mut(j).iter_mut().zip(rows).for_each(|(sum, v)| *sum += f64::from(*v));
        }
    }
}
