//! A Kronecker product for each layer in place of the Gauss–Newton matrix of all parameters (KFAC).

use std::sync::Arc;

use super::curvature::{Block, Curvature, Sums, Task};
use super::likelihood::without;
use super::source::Source;
use super::wide::{InParameters, Layer};
use crate::error::Result;
use crate::linalg::eigh;
use crate::matrix::{Mat, Mat64};
use crate::nn::{LayerMoments, Network, expect_one};
use crate::observer::Observer;
use crate::persist::Archive;
use crate::spec::Entry;

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

impl Source for Kfac {
    fn text(&self) -> String {
        ENTRY.text(&[])
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
        Ok(Box::new(InParameters { layers, values }))
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
        Ok(Box::new(InParameters { layers, values }))
    }
}
