//! The law of random networks: variances of weights and biases, layer by layer.

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{Parameters, Role, TensorLayout};
use crate::rng::stream;

/// Weights N(0, w/fan_in) and biases N(0, b), as NN-GP kernels have them.
///
/// Each list holds one variance for all layers, or one for each, from the input to the output. A
/// layer is a tensor of weights with the bias that follows it, in the order in which the network
/// lists its tensors (for a layer without bias that number is not used). Scales of batch normalisation
/// are 1 and shifts 0; running statistics stay as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightLaw {
    /// Variances w of weights times their fan-in, positive.
    pub weight_var: Vec<f64>,
    /// Variances b of biases, not negative.
    pub bias_var: Vec<f64>,
}

impl WeightLaw {
    /// The same variances in all layers.
    pub fn new(weight_var: f64, bias_var: f64) -> Self {
        WeightLaw { weight_var: vec![weight_var], bias_var: vec![bias_var] }
    }

    /// Draws the parameters of a network. Unit number u gets the draws of number `first` + u under
    /// `seed`, the same whatever is drawn beside it.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming `weight_var` or `bias_var` when a variance is out of range
    /// or a list does not fit the layers.
    pub fn draw(&self, parameters: &mut Parameters, seed: u64, first: u64) -> Result<()> {
        let layouts = parameters.layouts().to_vec();
        let deviations: Vec<Vec<f64>> =
            layouts.iter().map(|unit| self.deviations(unit)).collect::<Result<_>>()?;
        let units = parameters.units_mut().par_iter_mut().enumerate();
        units.for_each(|(u, values)| {
            let mut rng = stream(seed, "random network", first + u as u64);
            for (tensor, deviation) in layouts[u].iter().zip(&deviations[u]) {
                let values = &mut values[tensor.range()];
                match tensor.role {
                    Role::Scale | Role::Variance => values.fill(1.0),
                    Role::Shift | Role::Mean => values.fill(0.0),
                    Role::Weight { .. } | Role::Bias => values.iter_mut().for_each(|v| {
                        let z: f64 = StandardNormal.sample(&mut rng);
                        *v = (deviation * z) as f32;
                    }),
                }
            }
        });
        Ok(())
    }

    /// Standard deviations of the tensors of a unit; 1 for scales and shifts.
    ///
    /// # Errors
    /// As [`draw`](WeightLaw::draw).
    pub(super) fn deviations(&self, unit: &[TensorLayout]) -> Result<Vec<f64>> {
        let layers = unit.iter().filter(|t| matches!(t.role, Role::Weight { .. })).count();
        check("weight_var", &self.weight_var, layers, |v| v > 0.0, "positive")?;
        check("bias_var", &self.bias_var, layers, |v| v >= 0.0, "not negative")?;
        let of = |list: &[f64], layer: usize| *list.get(layer).unwrap_or(&list[0]);
        let mut layer = 0usize;
        let deviation = |tensor: &TensorLayout| match tensor.role {
            Role::Weight { fan_in } => {
                layer += 1;
                (of(&self.weight_var, layer - 1) / fan_in.max(1) as f64).sqrt()
            }
            Role::Bias => of(&self.bias_var, layer.saturating_sub(1)).sqrt(),
            Role::Scale | Role::Shift | Role::Mean | Role::Variance => 1.0,
        };
        Ok(unit.iter().map(deviation).collect())
    }
}

fn check(
    name: &str,
    list: &[f64],
    layers: usize,
    fits: impl Fn(f64) -> bool,
    domain: &str,
) -> Result<()> {
    if list.len() != 1 && list.len() != layers {
        let expected = format!("one number, or one for each of {layers} layers");
        return Err(Error::parameter(name, expected, format!("{} numbers", list.len())));
    }
    match list.iter().find(|v| !(v.is_finite() && fits(**v))) {
        None => Ok(()),
        Some(bad) => Err(Error::parameter(name, format!("{domain} numbers"), bad)),
    }
}
