//! Second moments at the layers of a network: what Kronecker-factored curvature is made of.

use std::ops::Range;

use ndarray::{ArrayView2, s};

use crate::matrix::Mat64;

/// Where a layer that multiplies its inputs with weights has these. At position t of an image it
/// computes z_t = Wᵀa_t + b.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightLayer {
    /// Where the weights lie in the unit's vector: `inputs` rows of `outputs` numbers.
    pub weight: Range<usize>,
    /// Where the biases lie; empty without.
    pub bias: Range<usize>,
    /// Numbers in a_t: the fan-in.
    pub inputs: usize,
    /// Numbers in z_t.
    pub outputs: usize,
    /// Positions of a point: pixels of the image that comes out, 1 for dense layers.
    pub positions: usize,
}

impl WeightLayer {
    pub(super) fn new(
        weight: Range<usize>,
        bias: Range<usize>,
        outputs: usize,
        positions: usize,
    ) -> Self {
        let inputs = weight.len() / outputs.max(1);
        WeightLayer { weight, bias, inputs, outputs, positions }
    }

    /// Numbers in (a_t, 1): the 1 where there are biases.
    pub(crate) fn rows(&self) -> usize {
        self.inputs + usize::from(!self.bias.is_empty())
    }
}

/// Second moments at one layer, summed over points. The derivative by W is Σ_t a_t g_tᵀ with g_t that by
/// z_t.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMoments {
    /// The layer.
    pub layer: WeightLayer,
    /// Σ a_t a_tᵀ, with a 1 after each a_t where there are biases. In single precision within an image.
    pub a: Mat64,
    /// Σ g_t g_tᵀ, also over cotangents. In single precision within an image.
    pub g: Mat64,
}

impl LayerMoments {
    /// All zeros.
    pub(super) fn new(layer: WeightLayer) -> Self {
        let (rows, outputs) = (layer.rows(), layer.outputs);
        let (a, g) = (Mat64::zeros((rows, rows)), Mat64::zeros((outputs, outputs)));
        LayerMoments { layer, a, g }
    }

    /// Adds Σ_t g_t g_tᵀ for cotangents of one image, `stride` numbers to a pixel.
    pub(super) fn add_cotangents(&mut self, dz: &[f32], stride: usize) {
        let Ok(g) = ArrayView2::from_shape((dz.len() / stride, stride), dz) else { return };
        let g = g.slice(s![.., ..self.layer.outputs]);
        self.g += &g.t().dot(&g).mapv(f64::from);
    }

    /// Adds those of other points.
    pub(crate) fn add(&mut self, other: &LayerMoments) {
        self.a += &other.a;
        self.g += &other.g;
    }
}
