//! Second moments at convolutions, and squares of derivatives by the parameters of norms.

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::backward::{Backward, Work};
use super::{Layered, Record};
use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::graph::Layer;
use crate::nn::graph::plan::Kernel;
use crate::nn::moments::{LayerMoments, WeightLayer};
use crate::nn::{Network, expect_frozen, expect_one};

/// Images whose sums one task makes; fixed, because sums over images are sums over tasks.
const IMAGES: usize = 32;

impl Layered {
    /// See [`Network::weight_layers`].
    pub(super) fn convolutions(&self) -> Result<Vec<WeightLayer>> {
        expect_one(self)?;
        let mut all = Vec::new();
        for (i, node) in self.plan.graph.nodes.iter().enumerate() {
            let Layer::Conv(conv) = &node.layer else { continue };
            if conv.groups != 1 {
                return Err(Error::Unsupported {
                    what: format!("second moments at {}", node.name),
                    reason: format!("it has {} groups", conv.groups),
                });
            }
            let (weight, bias) = (self.plan.weights[i].clone(), self.plan.biases[i].clone());
            all.push(WeightLayer::new(weight, bias, conv.channels, node.output.pixels()));
        }
        Ok(all)
    }

    fn no_moments(&self) -> Result<Vec<LayerMoments>> {
        Ok(self.convolutions()?.into_iter().map(LayerMoments::new).collect())
    }

    /// See [`Network::layer_moments`].
    pub(super) fn moments(
        &self,
        x: MatRef<'_>,
        roots: &[Mat64],
        squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>> {
        expect_frozen(self)?;
        expect_one(self)?;
        self.check_layout("parameters", &self.parameters)?;
        let mut total = self.no_moments()?;
        let mut input = Vec::new();
        self.images(x, &mut input)?;
        let (packed, pass) = (self.pack(0, false), Backward::new(self, 0, false, &[]));
        let parts: Vec<(Vec<LayerMoments>, Vec<f64>)> = input
            .par_chunks(IMAGES * self.inputs())
            .zip(roots.par_chunks(IMAGES))
            .map(|(images, roots)| {
                let (mut moments, mut squares) = (self.no_moments()?, vec![0.0; squares.len()]);
                let (mut record, mut work) = (Record::default(), Work::default());
                let mut gradient = vec![0.0; squares.len()];
                for (image, root) in images.chunks_exact(self.inputs()).zip(roots) {
                    for stage in &self.plan.frozen {
                        let slopes = Some(&mut record.slopes);
                        record.store.run(&self.plan, &packed, stage, image, slopes, &[]);
                    }
                    self.add_inputs(&record, image, &mut moments);
                    for column in root.columns() {
                        let cotangent: Vec<f32> = column.iter().map(|v| *v as f32).collect();
                        pass.moments(
                            (&record, image),
                            &cotangent,
                            &mut gradient,
                            &mut work,
                            &mut moments,
                        );
                        squares.iter_mut().zip(&gradient).for_each(|(sum, g)| {
                            *sum += f64::from(*g) * f64::from(*g);
                        });
                    }
                }
                Ok((moments, squares))
            })
            .collect::<Result<_>>()?;
        for (moments, part) in &parts {
            total.iter_mut().zip(moments).for_each(|(sum, part)| sum.add(part));
            squares.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        Ok(total)
    }

    /// Adds Σ_t a_t a_tᵀ of one image.
    fn add_inputs(&self, record: &Record, image: &[f32], moments: &mut [LayerMoments]) {
        let kernels = self.plan.kernels.iter().enumerate();
        let convolutions = kernels.filter_map(|(node, kernel)| match kernel {
            Kernel::Conv(conv) => Some((node, conv)),
            _ => None,
        });
        for ((node, conv), moments) in convolutions.zip(moments) {
            let value = self.plan.graph.nodes[node].inputs[0];
            let rows = moments.a.nrows();
            let mut patches = Mat::ones((moments.layer.positions, rows));
            let inputs = moments.layer.inputs;
            conv.patches(record.store.value(value, image), patches.slice_mut(s![.., ..inputs]));
            moments.a += &patches.t().dot(&patches).mapv(f64::from);
        }
    }
}

/// Adds Σ_t g_t g_tᵀ for cotangents of one image, `stride` numbers to a pixel.
pub(super) fn add_cotangents(dz: &[f32], stride: usize, moments: &mut LayerMoments) {
    let Ok(g) = ArrayView2::from_shape((dz.len() / stride, stride), dz) else { return };
    let g = g.slice(s![.., ..moments.layer.outputs]);
    moments.g += &g.t().dot(&g).mapv(f64::from);
}
