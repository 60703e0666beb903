//! A dense network as a [`Network`], with all that it can do.

use super::Dense;
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef, expect_columns};
use crate::nn::capabilities::{
    DataDependentInit, InputGradients, LayerFeatures, LayerInfo, LayerSecondMoments,
};
use crate::nn::network::Network;
use crate::nn::parameters::Parameters;
use crate::nn::rows::expect_single;
use crate::nn::tape::Tape;

impl Network for Dense {
    fn inputs(&self) -> usize {
        self.shape.inputs
    }

    fn functions(&self) -> usize {
        self.columns() / self.shape.outputs
    }

    fn outputs(&self) -> usize {
        self.shape.outputs
    }

    fn hidden_width(&self) -> usize {
        self.shape.hidden.last().map_or(self.shape.inputs, |width| width * self.shape.units)
    }

    fn unit(&self, function: usize) -> usize {
        function * self.shape.outputs / self.shape.heads
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        match tape {
            Some(tape) => self.forward_recorded(x, tape),
            None => self.infer(x, self.layers.len(), self.columns()),
        }
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        self.pulled_back(tape, cotangent, gradient)
    }

    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        self.tangents(x, tangent)
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        if self.shape.hidden.is_empty() {
            expect_columns("x", x, self.shape.inputs)?;
            return Ok(x.to_owned());
        }
        self.infer(x, self.shape.hidden.len(), self.hidden_width())
    }

    fn ends_linear(&self) -> bool {
        true
    }

    fn layer_features(&self) -> Option<&dyn LayerFeatures> {
        Some(self)
    }

    fn layer_second_moments(&self) -> Option<&dyn LayerSecondMoments> {
        Some(self)
    }

    fn input_gradients(&self) -> Option<&dyn InputGradients> {
        Some(self)
    }

    fn data_dependent_init(&mut self) -> Option<&mut dyn DataDependentInit> {
        self.directions.is_some().then_some(self as &mut dyn DataDependentInit)
    }
}

impl LayerFeatures for Dense {
    fn layers(&self) -> Vec<LayerInfo> {
        let layers = self.layers.iter().enumerate();
        let layer = |(l, (_, outer)): (usize, &(usize, usize))| LayerInfo {
            name: format!("layers.{l}"),
            pixels: 1,
            channels: *outer,
        };
        layers.map(layer).collect()
    }

    fn features(&self, x: MatRef<'_>, layers: &[usize]) -> Result<Mat> {
        self.check_layout("parameters", &self.parameters)?;
        expect_single(layers, self.layers.len(), self.shape.units)?;
        let values = |l: &usize| self.infer(x, l + 1, self.layers[*l].1);
        let parts: Vec<Mat> = layers.iter().map(values).collect::<Result<_>>()?;
        let views: Vec<MatRef<'_>> = parts.iter().map(|part| part.view()).collect();
        ndarray::concatenate(ndarray::Axis(1), &views)
            .map_err(|e| Error::shape("values of layers", "at least one layer", e))
    }
}
