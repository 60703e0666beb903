//! The last layer alone: f = W h(x) + b is linear in its parameters, with features I ⊗ (h, 1).

use std::sync::Arc;

use ndarray::s;

use super::curvature::{Curvature, FeatureSpace, InFeatures, Task};
use super::source::Source;
use crate::error::{Error, Result};
use crate::fit::Observer;
use crate::linalg::{eigh, tr_matmul_f64};
use crate::matrix::{Mat64, MatRef};
use crate::nn::{Network, Role};
use crate::persist::Archive;
use crate::spec::args::{Args, Entry};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "last_layer",
    summary: "all parameters of the last layer, which the outputs are linear in",
    parameters: &[(
        "structure",
        "full",
        "of the matrix: full, kronecker (one product for the weights, one for the biases) or diagonal",
    )],
    build: |args| Ok(Arc::new(LastLayer::read(args)?)),
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

impl LastLayer {
    fn read(args: &mut Args<'_>) -> Result<Self> {
        let structure = match args.name("structure", "full")? {
            "full" => Structure::Full,
            "kronecker" => Structure::Kronecker,
            "diagonal" => Structure::Diagonal,
            other => {
                return Err(Error::unknown("structure", other, &["full", "kronecker", "diagonal"]));
            }
        };
        Ok(LastLayer { structure })
    }
}

impl Source for LastLayer {
    fn text(&self) -> String {
        let structure = match self.structure {
            Structure::Full => "full",
            Structure::Kronecker => "kronecker",
            Structure::Diagonal => "diagonal",
        };
        format!("last_layer(structure={structure})")
    }

    fn squared_norm(&self, network: &dyn Network) -> Result<f64> {
        last_layer(network).map(|(range, _)| {
            let all = &network.parameters().units()[0][range];
            all.iter().map(|v| f64::from(*v).powi(2)).sum()
        })
    }

    fn curvature(
        &self,
        task: &Task<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn Curvature>> {
        let space = Box::new(Hidden::of(task.network)?);
        Ok(Box::new(match self.structure {
            Structure::Full => InFeatures::full(space, task, observer)?,
            Structure::Kronecker => kronecker(space, task, observer)?,
            Structure::Diagonal => diagonal(space, task, observer)?,
        }))
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
    let (last, before) = tensors.split_last().ok_or_else(fault)?;
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
    fn values(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64> {
        let hidden = network.hidden(x)?;
        let mut out = Mat64::ones((x.nrows(), self.of_one()));
        out.slice_mut(s![.., ..self.hidden]).assign(&hidden.mapv(f64::from));
        Ok(out)
    }
}

impl FeatureSpace for Hidden {
    fn width(&self) -> usize {
        self.outputs * self.of_one()
    }

    fn at(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64> {
        let (values, c, p) = (self.values(network, x)?, self.outputs, self.of_one());
        let mut out = Mat64::zeros((x.nrows() * c, c * p));
        for (i, row) in values.rows().into_iter().enumerate() {
            for o in 0..c {
                out.slice_mut(s![i * c + o, o * p..(o + 1) * p]).assign(&row);
            }
        }
        Ok(out)
    }

    fn save(&self, _archive: &mut Archive) -> Result<()> {
        Ok(())
    }
}

/// Products in place of the blocks of weights and of biases (Ritter, Botev & Barber 2018): for weights
/// (Σ hhᵀ/n) ⊗ ΣΛ, for biases ΣΛ, nothing between them.
fn kronecker(
    space: Box<Hidden>,
    task: &Task<'_>,
    observer: &mut dyn Observer,
) -> Result<InFeatures> {
    let (c, p, h) = (space.outputs, space.of_one(), space.hidden);
    let (mut inputs, mut outputs) = (Mat64::zeros((h, h)), Mat64::zeros((c, c)));
    task.for_blocks("curvature", observer, |x, roots| {
        let values = space.values(task.network, x)?;
        let values = values.slice(s![.., ..h]);
        inputs += &tr_matmul_f64(values, values)?;
        roots.iter().for_each(|root| outputs += &root.dot(&root.t()));
        Ok(())
    })?;
    let n = task.points.len() as f64;
    let (a, u) = eigh((inputs / n).view())?;
    let (b, v) = eigh(outputs.view())?;
    let mut values = vec![0.0; c * p];
    let mut rotation = Mat64::zeros((c * p, c * p));
    for o in 0..c {
        for i in 0..p {
            // The pair (o, i) of eigenvectors is column o·p + i; i = h is the bias.
            let column = o * p + i;
            values[column] = b[o].max(0.0) * if i < h { a[i].max(0.0) } else { 1.0 };
            for output in 0..c {
                let mut to = rotation.slice_mut(s![output * p..(output + 1) * p, column]);
                match i < h {
                    true => to.slice_mut(s![..h]).assign(&(&u.column(i) * v[[output, o]])),
                    false => to[h] = v[[output, o]],
                }
            }
        }
    }
    Ok(InFeatures { space, values, rotation })
}

fn diagonal(
    space: Box<Hidden>,
    task: &Task<'_>,
    observer: &mut dyn Observer,
) -> Result<InFeatures> {
    let (c, p) = (space.outputs, space.of_one());
    let mut sums = Mat64::zeros((c, p));
    task.for_blocks("curvature", observer, |x, roots| {
        let values = space.values(task.network, x)?;
        for (row, root) in values.rows().into_iter().zip(roots) {
            let squares = row.mapv(|v| v * v);
            for (o, mut to) in sums.rows_mut().into_iter().enumerate() {
                let curvature = root.row(o).dot(&root.row(o));
                to.scaled_add(curvature, &squares);
            }
        }
        Ok(())
    })?;
    Ok(InFeatures { space, values: sums.iter().copied().collect(), rotation: Mat64::eye(c * p) })
}
