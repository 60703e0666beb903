//! SOAP: Adam in the eigenbasis of each layer's gradients (Vyas et al. 2024), on the side of the inputs.
//!
//! A layer's gradient G (inputs × outputs; the bias is the weight of an input that is always 1) has the
//! second moment C = E GGᵀ. Features of a network are far from orthogonal, and Adam, which scales
//! every weight by itself, is slow along the directions that they share little of; in the
//! eigenbasis of C it is not. Eigenfunctions beyond the first live in such directions.
//!
//! ```text
//! C ← β₂C + (1 − β₂)GGᵀ,   M ← β₁M + (1 − β₁)G,   V ← β₂V + (1 − β₂)(QᵀG)²,
//! W ← W − lr·Q[(QᵀM̂)/(√V̂ + ε)]
//! ```
//!
//! with Q from one step of orthogonal iteration, Q ← qr(CQ), every `frequency` steps (its columns stay
//! in their order, which the paper's program sorts), M̂ and V̂ as Adam's. The first step only finds Q.
//! Layers with more inputs than `max_inputs` (and the scales of batch normalisation) have Q = I, which
//! is Adam. Inputs at the same place of different groups of a convolution count as one. A step costs O(n²m) for n inputs and m outputs, a new
//! basis O(n³), and C and Q take 8n² bytes.

use std::sync::Arc;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::adam::{BETA1, BETA2, EPS, LR};
use super::buffers::{check, expect_same};
use super::{CHUNK, Optimizer, OptimizerMemory, OptimizerRule, OptimizerState};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::Mat;
use crate::nn::parameters::{Parameters, Role, TensorLayout};
use crate::spec::{Domain, Entry, Parameter};

#[cfg(test)]
#[path = "soap_tests.rs"]
mod tests;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn OptimizerRule>> = Entry {
    name: "soap",
    summary: "Adam in the eigenbasis of each layer's gradients (Vyas et al. 2024)",
    parameters: &[
        LR.with_default("3e-3"),
        BETA1,
        BETA2.with_default("0.95").with_help("decay of the second moments"),
        EPS,
        Parameter::new(
            "frequency",
            Domain::Integer(1, u32::MAX as u64),
            "20",
            "steps between new bases",
        ),
        Parameter::new(
            "max_inputs",
            Domain::Integer(1, 16_384),
            "2048",
            "layers with more inputs are left to Adam",
        ),
    ],
    build: |args| {
        Ok(Arc::new(SoapRule {
            lr: args.number("lr")?,
            beta1: args.number("beta1")?,
            beta2: args.number("beta2")?,
            eps: args.number("eps")?,
            frequency: args.integer("frequency")?,
            max_inputs: args.size("max_inputs")?,
        }))
    },
};

/// What SOAP is asked for; see [`Soap`].
#[derive(Debug, Clone, Copy, PartialEq)]
struct SoapRule {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    frequency: u64,
    max_inputs: usize,
}

impl OptimizerRule for SoapRule {
    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule> {
        Arc::new(SoapRule { lr, ..*self })
    }

    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        Box::new(Soap::new(*self, parameters))
    }

    fn memory(&self) -> Option<&dyn OptimizerMemory> {
        Some(self)
    }

    fn text(&self) -> String {
        let SoapRule { lr, beta1, beta2, eps, frequency, max_inputs } = self;
        ENTRY.text(&[
            ("lr", lr),
            ("beta1", beta1),
            ("beta2", beta2),
            ("eps", eps),
            ("frequency", frequency),
            ("max_inputs", max_inputs),
        ])
    }
}

impl OptimizerMemory for SoapRule {
    /// C and Q of all layers, their copies in a checkpoint, and finding the largest Q of each unit, with
    /// C and Q in double precision and a new Q.
    fn bytes(&self, parameters: &Parameters) -> u64 {
        let found = |n: usize| {
            let square = (n as u64).saturating_mul(n as u64);
            linalg::eigh_bytes(n).saturating_add(square.saturating_mul(20))
        };
        let largest = |unit: &Vec<TensorLayout>| sides(unit, self).map(found).max().unwrap_or(0);
        let finding = parameters.layouts().iter().map(largest).fold(0, u64::saturating_add);
        self.numbers(parameters).saturating_mul(8).saturating_add(finding)
    }

    /// Those of C and Q of all layers.
    fn numbers(&self, parameters: &Parameters) -> u64 {
        let sides = parameters.layouts().iter().flat_map(|unit| sides(unit, self));
        let squares = sides.map(|n| (n as u64).saturating_mul(n as u64).saturating_mul(2));
        squares.fold(0, u64::saturating_add)
    }
}

/// The optimiser: the layers of every unit.
struct Soap {
    rule: SoapRule,
    step: u64,
    /// Laid out as the parameters are.
    like: Parameters,
    units: Vec<Vec<Layer>>,
}

/// Consecutive tensors of a unit that are one matrix, inputs × outputs: a weight and its bias.
struct Layer {
    start: usize,
    /// Inputs, the one of the bias included.
    inputs: usize,
    outputs: usize,
    mean: Vec<f32>,
    square: Vec<f32>,
    /// Nothing for Adam.
    basis: Option<Basis>,
}

/// C, and Q once there is a gradient.
struct Basis {
    moment: Mat,
    vectors: Mat,
}

impl Soap {
    fn new(rule: SoapRule, parameters: &Parameters) -> Self {
        let layers = |unit: &Vec<TensorLayout>| {
            places(unit, rule.max_inputs).into_iter().map(Layer::new).collect()
        };
        let units = parameters.layouts().iter().map(layers).collect();
        Soap { rule, step: 0, like: parameters.zeros_like(), units }
    }

    /// Fails where the sum of the squares of a layer's gradient overflows; it bounds all of C, V and CQ.
    fn expect_representable(&self, gradient: &Parameters) -> Result<()> {
        for (unit, layers) in gradient.units().iter().zip(&self.units) {
            for layer in layers {
                let values = &unit[layer.start..layer.start + layer.mean.len()];
                let sum: f64 = values.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
                if sum.is_nan() || sum > f64::from(f32::MAX) / 2.0 {
                    let message = format!(
                        "the squares of a layer's gradient ({} inputs, {} outputs) sum to {sum:.1e}, too large for \
                         single precision",
                        layer.inputs, layer.outputs
                    );
                    return Err(Error::Numerical { what: "soap".into(), message });
                }
            }
        }
        Ok(())
    }

    fn vectors(&self) -> impl Iterator<Item = (String, &[f32])> {
        let layers = self.units.iter().enumerate();
        let layers = layers.flat_map(|(u, all)| all.iter().enumerate().map(move |l| (u, l)));
        layers.flat_map(|(u, (l, layer))| {
            let basis = layer.basis.iter().flat_map(|basis| {
                [("moment", &basis.moment), ("vectors", &basis.vectors)]
                    .map(|(name, matrix)| (name, matrix.as_slice().unwrap_or_default()))
            });
            [("first_moment", &layer.mean[..]), ("second_moment", &layer.square[..])]
                .into_iter()
                .chain(basis)
                .map(move |(name, values)| (format!("{name}.{u}.{l}"), values))
        })
    }
}

/// Where a layer lies, and its inputs, outputs and whether it has a basis.
type Place = (usize, usize, usize, bool);

/// The layers of a unit.
fn places(unit: &[TensorLayout], max_inputs: usize) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for tensor in unit {
        let outputs = tensor.shape.last().copied().unwrap_or(1).max(1);
        let (inputs, start) = (tensor.size() / outputs, tensor.offset);
        if let (Role::Bias, Some(layer)) = (tensor.role, all.last_mut()) {
            let (at, above, beside, rotated) = *layer;
            if rotated && beside == outputs && at + above * beside == start {
                layer.1 += 1;
                continue;
            }
        }
        all.push((start, inputs, outputs, matches!(tensor.role, Role::Weight { .. })));
    }
    // A layer that is too large is left to Adam, which knows of no bias.
    all.iter_mut().for_each(|layer| layer.3 &= layer.1 <= max_inputs);
    all
}

/// Inputs of the layers of a unit that have bases.
fn sides(unit: &[TensorLayout], rule: &SoapRule) -> impl Iterator<Item = usize> {
    places(unit, rule.max_inputs).into_iter().filter(|place| place.3).map(|place| place.1)
}

impl Layer {
    fn new((start, inputs, outputs, rotated): Place) -> Self {
        let basis = || Basis {
            moment: Mat::zeros((inputs, inputs)),
            vectors: Mat::zeros((inputs, inputs)),
        };
        Layer {
            start,
            inputs,
            outputs,
            mean: vec![0.0; inputs * outputs],
            square: vec![0.0; inputs * outputs],
            basis: rotated.then(basis),
        }
    }

    /// The step after `done` others.
    fn step(
        &mut self,
        weights: &mut [f32],
        gradient: &[f32],
        rule: &SoapRule,
        (done, lr): (u64, f64),
    ) -> Result<()> {
        let size = (self.inputs, self.outputs);
        let here = self.start..self.start + self.inputs * self.outputs;
        let (weights, gradient) = (&mut weights[here.clone()], &gradient[here]);
        let matrix = |values| {
            ArrayView2::from_shape(size, values).map_err(|e| Error::shape("gradient", "a layer", e))
        };
        let g = matrix(gradient)?;
        if let Some(basis) = &mut self.basis {
            basis.observe(g, if done == 0 { 0.0 } else { rule.beta2 })?;
            if done == 0 {
                let (_, vectors) = linalg::eigh(basis.moment.mapv(f64::from).view())?;
                basis.vectors = vectors.mapv(|v| v as f32);
            }
        }
        if done == 0 {
            return Ok(());
        }
        let rotated = match &self.basis {
            Some(basis) => Some(linalg::matmul_f32(basis.vectors.t(), g)?),
            None => None,
        };
        let seen = rotated.as_ref().and_then(|g| g.as_slice()).unwrap_or(gradient);
        let (beta1, beta2) = (rule.beta1 as f32, rule.beta2 as f32);
        for (m, g) in self.mean.iter_mut().zip(gradient) {
            *m = beta1 * *m + (1.0 - rule.beta1) as f32 * g;
        }
        for (v, g) in self.square.iter_mut().zip(seen) {
            *v = beta2 * *v + (1.0 - rule.beta2) as f32 * g * g;
        }
        // As Adam's, but for the step that only found Q.
        let steps = done as f64;
        let root = (1.0 - rule.beta2.powf(steps)).sqrt();
        let rate = (lr * root / (1.0 - rule.beta1.powf(steps))) as f32;
        let eps = (rule.eps * root).max(f64::from(f32::MIN_POSITIVE)) as f32;
        let mut change = match &self.basis {
            Some(basis) => linalg::matmul_f32(basis.vectors.t(), matrix(&self.mean)?)?,
            None => matrix(&self.mean)?.to_owned(),
        };
        for (m, v) in change.iter_mut().zip(&self.square) {
            *m /= v.sqrt() + eps;
        }
        if let Some(basis) = &self.basis {
            change = linalg::matmul_f32(basis.vectors.view(), change.view())?;
        }
        weights.iter_mut().zip(&change).for_each(|(w, change)| *w -= rate * change);
        if let (Some(basis), true) = (&mut self.basis, done.is_multiple_of(rule.frequency)) {
            basis.turn()?;
        }
        Ok(())
    }
}

impl Basis {
    /// C ← βC + (1 − β)GGᵀ.
    fn observe(&mut self, g: ArrayView2<'_, f32>, beta: f64) -> Result<()> {
        let (keep, take) = (beta as f32, (1.0 - beta) as f32);
        let square = linalg::matmul_f32(g, g.t())?;
        let (Some(moment), Some(square)) = (self.moment.as_slice_mut(), square.as_slice()) else {
            return Err(Error::shape("second moment of a gradient", "row-major", "another order"));
        };
        let chunks = moment.par_chunks_mut(CHUNK).zip(square.par_chunks(CHUNK));
        chunks.for_each(|(moment, square)| {
            moment.iter_mut().zip(square).for_each(|(c, square)| *c = keep * *c + take * square);
        });
        Ok(())
    }

    /// Q ← qr(CQ).
    fn turn(&mut self) -> Result<()> {
        // The factorisation passes over columns that are dependent to rounding, which weak directions are
        // in single precision.
        let turned = linalg::matmul_f32(self.moment.view(), self.vectors.view())?;
        let turned = linalg::orthogonal_factor(turned.mapv(f64::from).view())?;
        self.vectors = turned.mapv(|v| v as f32);
        Ok(())
    }
}

impl Optimizer for Soap {
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
        check(&self.like, parameters, gradient, lr)?;
        self.expect_representable(gradient)?;
        let (rule, at) = (self.rule, (self.step, lr));
        let units = parameters.units_mut().par_iter_mut().zip(gradient.units());
        units.zip(self.units.par_iter_mut()).try_for_each(|((weights, gradient), layers)| {
            layers.iter_mut().try_for_each(|layer| layer.step(weights, gradient, &rule, at))
        })?;
        self.step += 1;
        Ok(())
    }

    fn state(&self) -> OptimizerState {
        let vectors = self.vectors().map(|(name, values)| (name, values.to_vec())).collect();
        OptimizerState { step: self.step, vectors }
    }

    fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        let given = state.vectors.iter().map(|(name, v)| (name.clone(), v.len()));
        expect_same(self.vectors().map(|(name, v)| (name, v.len())), given)?;
        let mut given = state.vectors.iter().map(|(_, values)| values);
        for layer in self.units.iter_mut().flatten() {
            let Layer { mean, square, basis, .. } = layer;
            for own in [mean, square] {
                own.copy_from_slice(given.next().map_or(&[], |v| v));
            }
            let matrices = basis.iter_mut().flat_map(|b| [&mut b.moment, &mut b.vectors]);
            for own in matrices.filter_map(|matrix| matrix.as_slice_mut()) {
                own.copy_from_slice(given.next().map_or(&[], |v| v));
            }
        }
        self.step = state.step;
        Ok(())
    }
}
