//! Flat parameter storage: one vector for each unit, with named, shaped tensors laid over it.

use std::sync::Arc;

/// A tensor inside a unit's flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLayout {
    /// Name within the unit, e.g. `layers.0.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Start in the unit's vector.
    pub offset: usize,
    /// What the tensor does, which decides how it is drawn.
    pub role: Role,
}

/// What a tensor of parameters does in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Multiplies inputs; a sum runs over `fan_in` of them.
    Weight {
        /// Number of inputs of one output.
        fan_in: usize,
    },
    /// Is added to a sum of weighted inputs.
    Bias,
    /// Multiplies normalised values (the weight of batch normalisation).
    Scale,
    /// Is added to normalised values (the bias of batch normalisation).
    Shift,
}

/// Parameters (or gradients, or tangents, or optimiser moments) of a network.
///
/// A unit is what trains on one thread: a network of the ensemble, or the whole shared trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    layouts: Arc<[Vec<TensorLayout>]>,
    units: Vec<Vec<f32>>,
}

impl Parameters {
    /// All zeros, laid out as `layouts` says (one list for each unit).
    pub fn zeros(layouts: Vec<Vec<TensorLayout>>) -> Self {
        let size = |unit: &Vec<TensorLayout>| {
            unit.iter().map(|t| t.offset + t.shape.iter().product::<usize>()).max().unwrap_or(0)
        };
        let units = layouts.iter().map(|u| vec![0.0; size(u)]).collect();
        Parameters { layouts: layouts.into(), units }
    }

    /// All zeros with the same layout as `self`.
    pub fn zeros_like(&self) -> Self {
        let units = self.units.iter().map(|u| vec![0.0; u.len()]).collect();
        Parameters { layouts: Arc::clone(&self.layouts), units }
    }

    /// The layouts, one list for each unit.
    pub fn layouts(&self) -> &[Vec<TensorLayout>] {
        &self.layouts
    }

    /// The flat vectors, one for each unit.
    pub fn units(&self) -> &[Vec<f32>] {
        &self.units
    }

    /// The flat vectors, mutable; their lengths must stay.
    pub fn units_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.units
    }

    /// Number of parameters in all.
    pub fn len(&self) -> usize {
        self.units.iter().map(Vec::len).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
