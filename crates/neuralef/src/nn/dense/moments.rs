//! Second moments at the layers of a dense network.

use ndarray::{ArrayView1, s};

use super::Dense;
use crate::error::Result;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::capabilities::LayerSecondMoments;
use crate::nn::expect::expect_one;
use crate::nn::moments::{LayerMoments, WeightLayer};
use crate::nn::network::Network;
use crate::nn::tape::Tape;

impl LayerSecondMoments for Dense {
    fn weight_layers(&self) -> Result<Vec<WeightLayer>> {
        expect_one(self)?;
        let mut offset = 0;
        let place = |(inner, outer): &(usize, usize)| {
            let weight = offset..offset + inner * outer;
            let bias = weight.end..weight.end + outer;
            offset = bias.end;
            WeightLayer::new(weight, bias, *outer, 1)
        };
        Ok(self.layers.iter().map(place).collect())
    }

    /// The derivative by biases is that by what a layer puts out.
    fn layer_moments(
        &self,
        x: MatRef<'_>,
        roots: &[Mat64],
        _squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>> {
        let mut moments: Vec<LayerMoments> =
            self.weight_layers()?.into_iter().map(LayerMoments::new).collect();
        let (mut tape, mut gradient) = (Tape::default(), self.parameters.zeros_like());
        for (i, root) in roots.iter().enumerate() {
            let point = x.slice(s![i..i + 1, ..]);
            self.forward(point, Some(&mut tape))?;
            let recorded = self.recorded(&tape)?;
            for (l, moments) in moments.iter_mut().enumerate() {
                let values = match l {
                    0 => &recorded.input,
                    _ => &recorded.records[0].layers[l - 1].value,
                };
                let a = values[..moments.layer.inputs].iter().map(|v| f64::from(*v)).chain([1.0]);
                add_outer(&mut moments.a, &a.collect::<Vec<_>>());
            }
            for column in root.columns() {
                let cotangent = Mat::from_shape_fn((1, column.len()), |(_, o)| column[o] as f32);
                self.vjp(&tape, cotangent.view(), &mut gradient)?;
                for moments in &mut moments {
                    let g = gradient.units()[0][moments.layer.bias.clone()].iter();
                    add_outer(&mut moments.g, &g.map(|v| f64::from(*v)).collect::<Vec<_>>());
                }
            }
        }
        Ok(moments)
    }
}

/// sum += vvᵀ.
fn add_outer(sum: &mut Mat64, v: &[f64]) {
    for (mut row, factor) in sum.rows_mut().into_iter().zip(v) {
        row.scaled_add(*factor, &ArrayView1::from(v));
    }
}
