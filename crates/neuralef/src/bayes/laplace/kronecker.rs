//! A Kronecker product for each layer in place of the Gauss–Newton matrix of all parameters (KFAC).

use std::sync::Arc;

use ndarray::Array3;

use super::curvature::{Block, Curvature, Sums, Task};
use super::diagonal::{scaled_jacobian_covariance, too_many};
use super::likelihood::without;
use super::source::Source;
use crate::error::Result;
use crate::fit::Observer;
use crate::linalg::eigh;
use crate::matrix::{Mat, Mat64};
use crate::nn::{LayerMoments, Network, WeightLayer, expect_one};
use crate::persist::Archive;
use crate::spec::args::Entry;

/// Copies of all factors that are alive at a time, at most: of parts of a block, their sum, and a
/// decomposition.
const COPIES: u64 = 12;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "kfac",
    summary: "all parameters, a Kronecker product for each layer (Martens & Grosse 2015)",
    parameters: &[],
    build: |_| Ok(Arc::new(Kfac)),
};

#[derive(Debug)]
struct Kfac;

/// One layer: weights (and biases after them) of `inputs` × `outputs`, with the eigenvectors of the two
/// factors.
struct Layer {
    place: WeightLayer,
    /// Of E aaᵀ, rows × rows with a row for the biases.
    left: Mat,
    /// Of Σ ggᵀ.
    right: Mat,
}

impl Layer {
    /// The numbers of one vector that belong to this layer, in rows.
    fn gather(&self, from: &[f32]) -> Mat {
        let mut to = Mat::zeros((self.place.rows(), self.place.outputs));
        let (weight, bias) = (self.place.weight.clone(), self.place.bias.clone());
        let numbers = from[weight].iter().chain(&from[bias]);
        to.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
        to
    }

    fn scatter(&self, from: &Mat, to: &mut [f32]) {
        let (weight, bias) = (self.place.weight.clone(), self.place.bias.clone());
        let mut from = from.iter();
        to[weight].iter_mut().zip(from.by_ref()).for_each(|(to, from)| *to = *from);
        to[bias].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// Kronecker products in their eigenvectors, and the diagonal of other parameters.
struct Kronecker {
    layers: Vec<Layer>,
    /// λ, in the places of the parameters.
    values: Vec<f64>,
}

impl Source for Kfac {
    fn text(&self) -> String {
        "kfac".into()
    }

    fn is_wide(&self) -> bool {
        true
    }

    fn begin(&self, task: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let width = expect_one(task.network)?;
        let layers = task.network.weight_layers()?;
        let squared = |size: usize| (size as u64).saturating_mul(size as u64);
        let numbers = layers.iter().map(|l| squared(l.rows()).saturating_add(squared(l.outputs)));
        let numbers = numbers.fold(0u64, u64::saturating_add);
        task.expect_memory("factors of all layers", numbers.saturating_mul(8 * COPIES))?;
        let negligible = task.negligible;
        Ok(Box::new(Moments { layers: Vec::new(), squares: vec![0.0; width], negligible }))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        let values = archive.f64("curvature.values", &[expect_one(network)?])?.to_vec();
        let mut layers = Vec::new();
        for (number, place) in network.weight_layers()?.into_iter().enumerate() {
            let matrix = |name: &str, size: usize| -> Result<Mat> {
                let name = format!("curvature.{number}.{name}");
                let numbers = archive.f32(&name, &[size, size])?.to_vec();
                Mat::from_shape_vec((size, size), numbers)
                    .map_err(|e| archive.fault(format!("{name}: {e}")))
            };
            let (left, right) = (matrix("left", place.rows())?, matrix("right", place.outputs)?);
            layers.push(Layer { place, left, right });
        }
        Ok(Box::new(Kronecker { layers, values }))
    }
}

/// For a layer with inputs a_t and derivatives g_t by its outputs at T positions of a point the block is
/// Σ aaᵀ ⊗ Σ ggᵀ/(n T), as if positions were independent (Grosse & Martens 2016), g with the root of Λ
/// pulled back. Exact for one point and one position. Scales and shifts of normalisation have their
/// diagonal.
struct Moments {
    layers: Vec<LayerMoments>,
    /// Of derivatives by parameters of other layers.
    squares: Vec<f64>,
    negligible: f64,
}

impl Sums for Moments {
    fn wants_jacobian(&self) -> bool {
        false
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        // A column of a root costs a backward pass.
        let roots: Vec<Mat64> = roots.iter().map(|root| without(root, self.negligible)).collect();
        let found = block.network.layer_moments(block.x, &roots, &mut self.squares)?;
        if self.layers.is_empty() {
            self.layers = found;
            return Ok(());
        }
        self.layers.iter_mut().zip(&found).for_each(|(sum, found)| sum.add(found));
        Ok(())
    }

    fn finish(self: Box<Self>, points: usize) -> Result<Box<dyn Curvature>> {
        let (mut values, mut layers) = (self.squares, Vec::new());
        for LayerMoments { layer: place, a, g } in self.layers {
            let count = points as f64 * place.positions as f64;
            let (a, left) = eigh((a / count).view())?;
            let (g, right) = eigh(g.view())?;
            let (left, right) = (left.mapv(|v| v as f32), right.mapv(|v| v as f32));
            let product = |(i, j): (usize, usize)| a[i].max(0.0) * g[j].max(0.0);
            let own = Mat64::from_shape_fn((place.rows(), place.outputs), product);
            let places = place.weight.clone().chain(place.bias.clone());
            places.zip(&own).for_each(|(at, value)| values[at] = *value);
            layers.push(Layer { place, left, right });
        }
        Ok(Box::new(Kronecker { layers, values }))
    }
}

impl Curvature for Kronecker {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn wants_jacobian(&self) -> bool {
        true
    }

    fn features(&self, _: &Block<'_>) -> Result<Mat64> {
        Err(too_many())
    }

    fn covariance(&self, block: &Block<'_>, variances: &[f64]) -> Result<Array3<f64>> {
        let deviations: Vec<f32> = variances.iter().map(|v| v.sqrt() as f32).collect();
        scaled_jacobian_covariance(block, |row| {
            for layer in &self.layers {
                // U_AᵀJU_G, in the place of J.
                let turned = layer.left.t().dot(&layer.gather(row)).dot(&layer.right);
                layer.scatter(&turned, row);
            }
            row.iter_mut().zip(&deviations).for_each(|(j, d)| *j *= d);
        })
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        archive.put_f64("curvature.values", &[self.values.len()], self.values.clone())?;
        for (number, layer) in self.layers.iter().enumerate() {
            for (name, matrix) in [("left", &layer.left), ("right", &layer.right)] {
                let (size, name) = (matrix.nrows(), format!("curvature.{number}.{name}"));
                archive.put_f32(&name, &[size, size], matrix.iter().copied().collect())?;
            }
        }
        Ok(())
    }
}
