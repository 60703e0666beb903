//! Initial weights: laws for the weights and biases of dense layers.

use rand_distr::{Distribution, StandardNormal, Uniform};

use super::activation::Activation;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::spec::Choice;

/// How the weights of hidden layers are drawn. The output layer is always N(0, 1/fan_in) with zero bias.
///
/// The last hidden layer of an untrained network is a random-feature basis, so hidden biases are
/// never zero: they spread the kinks, bends and phases over the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// [`Init::He`] for the ReLU family, GELU and SiLU, [`Init::Glorot`] for tanh and erf,
    /// [`Init::Normal`] for sin_cos.
    Auto,
    /// Weights N(0, 2/fan_in) (He et al. 2015), biases N(0, 1).
    He,
    /// Weights N(0, 2/(fan_in + fan_out)) (Glorot & Bengio 2010), biases N(0, 1); the first layer,
    /// whose fan_in may be 1, has N(0, 1/fan_in).
    Glorot,
    /// Weights N(0, s²/fan_in), where s is 1 except in the first layer: there the networks of an
    /// ensemble share out the scales from ¼ (the first, whose function is the smoothest) to 2
    /// evenly in log s; a single network draws a scale for each neuron from the same range. Biases
    /// N(0, 1), for sin_cos uniform on [−π, π]. One hidden layer of sines and cosines on
    /// standardised inputs is then a set of random Fourier features (Rahimi & Recht 2007) for
    /// lengthscales √d/2 to 4√d, which serves both few inputs (where frequencies above 1 are
    /// needed) and many (where they only overfit).
    Normal,
    /// As [`Init::Normal`], and before the first step the first layer's directions are drawn anew with the
    /// covariance of the data, each scaled so that its image has the variance it would have: of many inputs
    /// those along which the data vary count most.
    Data,
}

impl Choice for Init {
    const KIND: &'static str = "initialisation";
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Init::Auto),
        ("he", Init::He),
        ("glorot", Init::Glorot),
        ("normal", Init::Normal),
        ("data", Init::Data),
    ];
}

impl Init {
    fn resolve(self, activation: Activation) -> Init {
        match (self, activation) {
            (Init::Auto, Activation::Tanh | Activation::Erf) => Init::Glorot,
            (Init::Auto, Activation::SinCos) => Init::Normal,
            (Init::Auto, _) => Init::He,
            (Init::Data, _) => Init::Normal,
            (law, _) => law,
        }
    }

    /// Draws the weights (inputs × outputs) and biases of a hidden layer.
    pub(super) fn hidden(
        self,
        activation: Activation,
        place: Place,
        weight: &mut [f32],
        bias: &mut [f32],
        rng: &mut Rng,
    ) -> Result<()> {
        let fan_out = bias.len() as f64;
        let fan_in = weight.len() as f64 / fan_out.max(1.0);
        let law = self.resolve(activation);
        let variance = match law {
            Init::Glorot if !place.first => 2.0 / (fan_in + fan_out),
            Init::Glorot | Init::Normal => 1.0 / fan_in,
            _ => 2.0 / fan_in,
        };
        normal(weight, variance.sqrt(), rng);
        if place.first && law == Init::Normal {
            let exponent = uniform(-2.0, 1.0)?;
            let mut scale = |_| match place.share() {
                Some(share) => (3.0 * share - 2.0).exp2() as f32,
                None => exponent.sample(rng).exp2() as f32,
            };
            let scales: Vec<f32> = (0..bias.len()).map(&mut scale).collect();
            for row in weight.chunks_exact_mut(scales.len().max(1)) {
                row.iter_mut().zip(&scales).for_each(|(w, s)| *w *= s);
            }
        }
        if activation == Activation::SinCos && law == Init::Normal {
            let law = uniform(-std::f64::consts::PI, std::f64::consts::PI)?;
            bias.iter_mut().for_each(|b| *b = law.sample(rng) as f32);
        } else {
            normal(bias, 1.0, rng);
        }
        Ok(())
    }

    /// Draws the weights of the linear output layer: N(0, 1/fan_in), zero biases.
    pub(super) fn output(weight: &mut [f32], bias: &mut [f32], rng: &mut Rng) {
        let fan_in = weight.len() as f64 / bias.len().max(1) as f64;
        normal(weight, (1.0 / fan_in).sqrt(), rng);
        bias.fill(0.0);
    }
}

/// Where a hidden layer stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Whether it takes the inputs.
    pub(super) first: bool,
    /// Number of its network, from 0, and of networks.
    pub(super) unit: (usize, usize),
}

impl Place {
    /// From 0 for the first network to 1 for the last; nothing for a single one.
    fn share(self) -> Option<f64> {
        let (unit, units) = self.unit;
        (units > 1).then(|| unit as f64 / (units - 1) as f64)
    }
}

fn normal(to: &mut [f32], deviation: f64, rng: &mut Rng) {
    for x in to {
        let z: f64 = StandardNormal.sample(rng);
        *x = (deviation * z) as f32;
    }
}

fn uniform(low: f64, high: f64) -> Result<Uniform<f64>> {
    Uniform::new(low, high).map_err(|e| Error::parameter("init", "a range", e))
}
