//! The last layer alone: f = W h(x) + b is linear in its parameters, with features I ⊗ (h, 1).

use std::sync::Arc;

use ndarray::{Array1, Axis, s};

use super::curvature::{Block, Curvature, FeatureSpace, InFeatures, Sums, Task};
use super::source::Source;
use crate::error::{Error, Result};
use crate::linalg::{eigh, eigh_bytes, matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat64, Mat64Ref};
use crate::nn::{Network, Role};
use crate::observer::Observer;
use crate::persist::Archive;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "last_layer",
    summary: "all parameters of the last layer, which the outputs are linear in",
    parameters: &[Parameter::new(
        "structure",
        Domain::choice::<Structure>(),
        "full",
        "of the matrix: full, kronecker (one product for the weights, one for the biases) or diagonal",
    )],
    build: |args| Ok(Arc::new(LastLayer { structure: args.choice("structure")? })),
};

/// What is kept of the Gauss–Newton matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Structure {
    Full,
    Kronecker,
    Diagonal,
}

#[derive(Debug)]
struct LastLayer {
    structure: Structure,
}

impl Choice for Structure {
    const KIND: &'static str = "structure";
    const ALL: &'static [(&'static str, Self)] = &[
        ("full", Structure::Full),
        ("kronecker", Structure::Kronecker),
        ("diagonal", Structure::Diagonal),
    ];
}

impl Source for LastLayer {
    fn text(&self) -> String {
        ENTRY.text(&[("structure", &self.structure.name())])
    }

    fn squared_norm(&self, network: &dyn Network) -> Result<f64> {
        last_layer(network).map(|(range, _)| {
            let all = &network.parameters().units()[0][range];
            all.iter().map(|v| f64::from(*v).powi(2)).sum()
        })
    }

    fn begin(&self, task: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let space = Box::new(Hidden::of(task.network)?);
        let (c, p, h) = (space.outputs, space.of_one(), space.hidden);
        let width = space.width();
        let matrix = 8 * (width as u64).saturating_mul(width as u64);
        let bytes = match self.structure {
            Structure::Full => matrix.saturating_add(eigh_bytes(width)),
            // The matrix of eigenvectors, or ones.
            Structure::Kronecker | Structure::Diagonal => matrix,
        };
        task.expect_memory("the matrix of the last layer", bytes)?;
        Ok(match self.structure {
            Structure::Full => {
                let sum = Mat64::zeros((width, width));
                Box::new(Whole { space, sum })
            }
            Structure::Kronecker => {
                let (inputs, outputs) = (Mat64::zeros((h, h)), Mat64::zeros((c, c)));
                Box::new(Products { space, inputs, outputs })
            }
            Structure::Diagonal => Box::new(Squares { space, sums: Mat64::zeros((c, p)) }),
        })
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(InFeatures::load(Box::new(Hidden::of(network)?), archive)?))
    }
}

/// Where the weights and biases of the last layer lie, and whether there are biases.
fn last_layer(network: &dyn Network) -> Result<(std::ops::Range<usize>, bool)> {
    let width = crate::nn::expect_one(network)?;
    let (h, c) = (network.hidden_width(), network.functions() * network.outputs());
    let tensors = &network.parameters().layouts()[0];
    let fault = || Error::Unsupported {
        what: "the last layer of this network".into(),
        reason: "it does not end in a dense layer on its last hidden features".into(),
    };
    // Layers lie one after another, a layer's biases after its weights.
    let (last, before) =
        tensors.split_last().filter(|_| network.ends_linear()).ok_or_else(fault)?;
    let (start, bias) = match (last.role, before.last()) {
        (Role::Bias, Some(weight)) if last.size() == c => (weight, true),
        (Role::Weight { .. }, _) => (last, false),
        _ => return Err(fault()),
    };
    let weights = start.size();
    let is_dense = matches!(start.role, Role::Weight { .. }) && weights == h * c;
    match is_dense && start.offset + weights + usize::from(bias) * c == width {
        true => Ok((start.offset..width, bias)),
        false => Err(fault()),
    }
}

/// F = I ⊗ (h, 1): column o·(p + 1) + i is weight i of output o, i = p its bias.
struct Hidden {
    outputs: usize,
    hidden: usize,
    bias: bool,
}

impl Hidden {
    fn of(network: &dyn Network) -> Result<Self> {
        let (_, bias) = last_layer(network)?;
        let outputs = network.functions() * network.outputs();
        Ok(Hidden { outputs, hidden: network.hidden_width(), bias })
    }

    /// Coordinates of one output.
    fn of_one(&self) -> usize {
        self.hidden + usize::from(self.bias)
    }

    /// (h, 1), n × (p + 1).
    fn values(&self, block: &Block<'_>) -> Result<Mat64> {
        let hidden = block.network.hidden(block.x)?;
        let mut out = Mat64::ones((hidden.nrows(), self.of_one()));
        out.slice_mut(s![.., ..self.hidden]).assign(&hidden.mapv(f64::from));
        Ok(out)
    }
}

impl FeatureSpace for Hidden {
    fn width(&self) -> usize {
        self.outputs * self.of_one()
    }

    fn at(&self, block: &Block<'_>) -> Result<Mat64> {
        let (values, c, p) = (self.values(block)?, self.outputs, self.of_one());
        let mut out = Mat64::zeros((values.nrows() * c, c * p));
        for (i, row) in values.rows().into_iter().enumerate() {
            for o in 0..c {
                out.slice_mut(s![i * c + o, o * p..(o + 1) * p]).assign(&row);
            }
        }
        Ok(out)
    }

    /// Each row has the numbers of one output: the others are not multiplied.
    fn rotated(&self, block: &Block<'_>, rotation: Mat64Ref<'_>) -> Result<Mat64> {
        let (values, c, p) = (self.values(block)?, self.outputs, self.of_one());
        let mut out = Mat64::zeros((values.nrows() * c, rotation.ncols()));
        for o in 0..c {
            let found = matmul_f64(values.view(), rotation.slice(s![o * p..(o + 1) * p, ..]))?;
            out.slice_mut(s![o..;c, ..]).assign(&found);
        }
        Ok(out)
    }

    fn save(&self, _archive: &mut Archive) -> Result<()> {
        Ok(())
    }
}

/// The whole matrix, Σ Λ ⊗ (h, 1)(h, 1)ᵀ, block by block: O(n C² (p + 1)²), C² times less than by
/// features.
struct Whole {
    space: Box<Hidden>,
    sum: Mat64,
}

impl Sums for Whole {
    fn wants_jacobian(&self) -> bool {
        false
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let (values, p) = (self.space.values(block)?, self.space.of_one());
        for a in 0..self.space.outputs {
            for b in 0..=a {
                let lambda = roots.iter().map(|root| root.row(a).dot(&root.row(b)));
                let lambda = Array1::from_iter(lambda).insert_axis(Axis(1));
                let found = tr_matmul_f64(values.view(), (&values * &lambda).view())?;
                let mut to = self.sum.slice_mut(s![a * p..(a + 1) * p, b * p..(b + 1) * p]);
                to += &found;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        let Whole { space, mut sum } = *self;
        for row in 0..sum.nrows() {
            for column in 0..row {
                sum[[column, row]] = sum[[row, column]];
            }
        }
        Ok(Box::new(InFeatures::of(space, sum.view())?))
    }
}

/// Products in place of the blocks of weights and of biases (Ritter, Botev & Barber 2018): for weights
/// (Σ hhᵀ/n) ⊗ ΣΛ, for biases ΣΛ, nothing between them.
struct Products {
    space: Box<Hidden>,
    /// Σ hhᵀ.
    inputs: Mat64,
    /// ΣΛ.
    outputs: Mat64,
}

impl Sums for Products {
    fn wants_jacobian(&self) -> bool {
        false
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let values = self.space.values(block)?;
        let values = values.slice(s![.., ..self.space.hidden]);
        self.inputs += &tr_matmul_f64(values, values)?;
        roots.iter().for_each(|root| self.outputs += &root.dot(&root.t()));
        Ok(())
    }

    fn finish(self: Box<Self>, points: usize) -> Result<Box<dyn Curvature>> {
        let Products { space, inputs, outputs } = *self;
        let (c, p, h) = (space.outputs, space.of_one(), space.hidden);
        let (a, u) = eigh((inputs / points as f64).view())?;
        let (b, v) = eigh(outputs.view())?;
        let mut values = vec![0.0; c * p];
        let mut rotation = Mat64::zeros((c * p, c * p));
        // The pair (o, i) of eigenvectors is column o·p + i; i = h is the bias.
        let pairs = (0..c).flat_map(|o| (0..p).map(move |i| (o, i)));
        for (column, (o, i)) in pairs.enumerate() {
            values[column] = b[o].max(0.0) * a.get(i).map_or(1.0, |a| a.max(0.0));
            for output in 0..c {
                let mut to = rotation.slice_mut(s![output * p..(output + 1) * p, column]);
                match i < h {
                    true => to.slice_mut(s![..h]).assign(&(&u.column(i) * v[[output, o]])),
                    false => to[h] = v[[output, o]],
                }
            }
        }
        Ok(Box::new(InFeatures { space, values, rotation }))
    }
}

/// The diagonal of the matrix, output by output.
struct Squares {
    space: Box<Hidden>,
    sums: Mat64,
}

impl Sums for Squares {
    fn wants_jacobian(&self) -> bool {
        false
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let values = self.space.values(block)?;
        for (row, root) in values.rows().into_iter().zip(roots) {
            let squares = row.mapv(|v| v * v);
            for (o, mut to) in self.sums.rows_mut().into_iter().enumerate() {
                to.scaled_add(root.row(o).dot(&root.row(o)), &squares);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        let (values, rotation) = (self.sums.iter().copied().collect(), Mat64::eye(self.sums.len()));
        Ok(Box::new(InFeatures { space: self.space, values, rotation }))
    }
}
