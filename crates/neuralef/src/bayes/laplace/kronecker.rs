//! A Kronecker product for each layer in place of the Gauss–Newton matrix of all parameters (KFAC).

use std::ops::Range;
use std::sync::Arc;

use ndarray::Array3;

use super::curvature::{Curvature, Task};
use super::diagonal::{scaled_jacobian_covariance, too_many};
use super::source::Source;
use crate::error::Result;
use crate::fit::Observer;
use crate::linalg::eigh;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::{LayerMoments, Network, expect_one};
use crate::persist::Archive;
use crate::spec::args::Entry;

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
    weight: Range<usize>,
    bias: Range<usize>,
    outputs: usize,
    /// Of E aaᵀ, rows × rows with a row for the biases.
    left: Mat,
    /// Of Σ ggᵀ.
    right: Mat,
}

impl Layer {
    fn rows(&self) -> usize {
        self.left.nrows()
    }

    /// The numbers of one vector that belong to this layer, in rows.
    fn gather(&self, from: &[f32]) -> Mat {
        let mut to = Mat::zeros((self.rows(), self.outputs));
        let numbers = from[self.weight.clone()].iter().chain(&from[self.bias.clone()]);
        to.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
        to
    }

    fn scatter(&self, from: &Mat, to: &mut [f32]) {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
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

    /// For a layer with inputs a_t and derivatives g_t by its outputs at T positions of a point the
    /// block is Σ aaᵀ ⊗ Σ ggᵀ/(n T), as if positions were independent (Grosse & Martens 2016), g with
    /// the root of Λ pulled back. Exact for one point and one position. Scales and shifts of
    /// normalisation have their diagonal.
    fn curvature(
        &self,
        task: &Task<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn Curvature>> {
        let mut values = vec![0.0; expect_one(task.network)?];
        let mut total: Vec<LayerMoments> = Vec::new();
        task.for_blocks("curvature", observer, |x, roots| {
            let found = task.network.layer_moments(x, roots, &mut values)?;
            if total.is_empty() {
                total = found;
                return Ok(());
            }
            for (sum, found) in total.iter_mut().zip(&found) {
                sum.a += &found.a;
                sum.g += &found.g;
            }
            Ok(())
        })?;
        let n = task.points.len() as f64;
        let mut layers = Vec::new();
        for moments in total {
            let (a, left) = eigh((&moments.a / (n * moments.positions as f64)).view())?;
            let (g, right) = eigh(moments.g.view())?;
            let layer = Layer {
                weight: moments.weight,
                bias: moments.bias,
                outputs: moments.outputs,
                left: left.mapv(|v| v as f32),
                right: right.mapv(|v| v as f32),
            };
            let product = |(i, j): (usize, usize)| a[i].max(0.0) * g[j].max(0.0);
            let own = Mat64::from_shape_fn((layer.rows(), layer.outputs), product);
            let places = layer.weight.clone().chain(layer.bias.clone());
            places.zip(&own).for_each(|(place, value)| values[place] = *value);
            layers.push(layer);
        }
        Ok(Box::new(Kronecker { layers, values }))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        let width = expect_one(network)?;
        let values = archive.f64("curvature.values", &[width])?.to_vec();
        // Where layers lie is known from the network: moments of no points are zeros.
        let none = Mat::zeros((0, network.inputs()));
        let mut layers = Vec::new();
        let found = network.layer_moments(none.view(), &[], &mut vec![0.0; width])?;
        for (number, moments) in found.into_iter().enumerate() {
            let matrix = |name: &str, size: usize| -> Result<Mat> {
                let name = format!("curvature.{number}.{name}");
                let numbers = archive.f32(&name, &[size, size])?.to_vec();
                Mat::from_shape_vec((size, size), numbers)
                    .map_err(|e| archive.fault(format!("{name}: {e}")))
            };
            let (left, right) =
                (matrix("left", moments.a.nrows())?, matrix("right", moments.outputs)?);
            let LayerMoments { weight, bias, outputs, .. } = moments;
            layers.push(Layer { weight, bias, outputs, left, right });
        }
        Ok(Box::new(Kronecker { layers, values }))
    }
}

impl Curvature for Kronecker {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn features(&self, _: &dyn Network, _: MatRef<'_>) -> Result<Mat64> {
        Err(too_many())
    }

    fn covariance(
        &self,
        network: &dyn Network,
        x: MatRef<'_>,
        variances: &[f64],
    ) -> Result<Array3<f64>> {
        let deviations: Vec<f32> = variances.iter().map(|v| v.sqrt() as f32).collect();
        scaled_jacobian_covariance(network, x, |row| {
            for layer in &self.layers {
                // U_AᵀJU_G, in the place of J.
                let turned = layer.left.t().dot(&layer.gather(row)).dot(&layer.right);
                layer.scatter(&turned, row);
            }
            row.iter_mut().zip(&deviations).for_each(|(j, d)| *j *= d);
            Ok(())
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
