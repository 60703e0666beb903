//! Second moments at convolutions, and squares of derivatives by the parameters of norms.

use ndarray::s;
use rayon::prelude::*;

use super::ConvNetwork;
use super::backward::{Backward, Work};
use super::forward::Record;
use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::capabilities::LayerSecondMoments;
use crate::nn::expect::{expect_frozen, expect_one};
use crate::nn::graph::GraphLayer;
use crate::nn::graph::plan::Op;
use crate::nn::moments::{LayerMoments, WeightLayer};
use crate::nn::network::Network;

/// Images whose sums one task makes; fixed, because sums over images are sums over tasks.
const IMAGES: usize = 32;

impl LayerSecondMoments for ConvNetwork {
    fn weight_layers(&self) -> Result<Vec<WeightLayer>> {
        expect_one(self)?;
        let mut all = Vec::new();
        for (i, node) in self.plan.graph.nodes.iter().enumerate() {
            let GraphLayer::Conv(conv) = &node.layer else { continue };
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

    fn layer_moments(
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
}

impl ConvNetwork {
    fn no_moments(&self) -> Result<Vec<LayerMoments>> {
        Ok(self.weight_layers()?.into_iter().map(LayerMoments::new).collect())
    }

    /// Adds Σ_t a_t a_tᵀ of one image.
    fn add_inputs(&self, record: &Record, image: &[f32], moments: &mut [LayerMoments]) {
        let ops = self.plan.ops.iter().enumerate();
        let convolutions = ops.filter_map(|(node, op)| match op {
            Op::Conv(conv) => Some((node, conv)),
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
