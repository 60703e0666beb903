//! Flat parameter storage: one vector for each unit, with named, shaped tensors laid over it.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};

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
    /// Whether it is the weight of a dense layer on an image (height × width × channels × outputs),
    /// which PyTorch sees flattened.
    pub flat: bool,
}

impl TensorLayout {
    /// How many numbers it has.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where it lies in its unit's vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.size()
    }
}

/// A tensor with its numbers: what [`Parameters::from_tensors`] is given.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Name within its unit, e.g. `layers.0.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What the tensor does.
    pub role: Role,
    /// Its numbers, in row order.
    pub values: Vec<f32>,
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
    /// A statistic: the mean that batch normalisation subtracts outside training.
    Mean,
    /// A statistic: the variance that batch normalisation divides by outside training.
    Variance,
}

/// Parameters (or gradients, or tangents, or optimiser moments) of a network.
///
/// A unit is what trains on one thread: a network of the ensemble, or the whole shared trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    layouts: Arc<[Vec<TensorLayout>]>,
    units: Vec<Vec<f32>>,
    statistics: Option<Box<Statistics>>,
}

/// What a network keeps beside its parameters: running statistics, which no gradient changes.
#[derive(Debug, Clone, PartialEq)]
struct Statistics {
    layouts: Arc<[Vec<TensorLayout>]>,
    units: Vec<Vec<f32>>,
}

/// Vectors of zeros for `layouts`, one for each unit.
fn zeros(layouts: &[Vec<TensorLayout>]) -> Vec<Vec<f32>> {
    let end = |t: &TensorLayout| t.range().end;
    layouts.iter().map(|unit| vec![0.0; unit.iter().map(end).max().unwrap_or(0)]).collect()
}

impl Parameters {
    /// All zeros, laid out as `layouts` says (one list for each unit).
    pub fn zeros(layouts: Vec<Vec<TensorLayout>>) -> Self {
        let units = zeros(&layouts);
        Parameters { layouts: layouts.into(), units, statistics: None }
    }

    /// The tensors of every unit, one after another in its vector.
    ///
    /// ```
    /// use neuralef::nn::{NamedTensor, Parameters, Role};
    ///
    /// let weight = NamedTensor {
    ///     name: "weight".into(),
    ///     shape: vec![2, 3],
    ///     role: Role::Weight { fan_in: 2 },
    ///     values: vec![0.5; 6],
    /// };
    /// let bias = NamedTensor {
    ///     name: "bias".into(),
    ///     shape: vec![3],
    ///     role: Role::Bias,
    ///     values: vec![0.0; 3],
    /// };
    /// let parameters = Parameters::from_tensors(vec![vec![weight, bias]])?;
    /// assert_eq!(parameters.units()[0].len(), 9);
    /// assert_eq!(parameters.layouts()[0][1].range(), 6..9);
    /// # Ok::<(), neuralef::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] naming a tensor that has not as many numbers as its shape says.
    pub fn from_tensors(tensors: Vec<Vec<NamedTensor>>) -> Result<Self> {
        let (mut layouts, mut units) = (Vec::new(), Vec::new());
        for unit in tensors {
            let (mut layout, mut numbers) = (Vec::new(), Vec::new());
            for NamedTensor { name, shape, role, values } in unit {
                let tensor = TensorLayout { name, shape, offset: numbers.len(), role, flat: false };
                if values.len() != tensor.size() {
                    return Err(Error::shape(&tensor.name, tensor.size(), values.len()));
                }
                numbers.extend(values);
                layout.push(tensor);
            }
            layouts.push(layout);
            units.push(numbers);
        }
        Ok(Parameters { layouts: layouts.into(), units, statistics: None })
    }

    /// With statistics of their own layouts (one list for each unit), all zeros.
    pub fn with_statistics(mut self, layouts: Vec<Vec<TensorLayout>>) -> Self {
        let units = zeros(&layouts);
        self.statistics = Some(Box::new(Statistics { layouts: layouts.into(), units }));
        self
    }

    /// All zeros with the same layout as `self`, without statistics: a gradient or a tangent.
    pub fn zeros_like(&self) -> Self {
        let units = self.units.iter().map(|u| vec![0.0; u.len()]).collect();
        Parameters { layouts: Arc::clone(&self.layouts), units, statistics: None }
    }

    /// The layouts of the statistics, one list for each unit; empty without statistics.
    pub fn statistics_layouts(&self) -> &[Vec<TensorLayout>] {
        self.statistics.as_ref().map_or(&[], |s| &s.layouts)
    }

    /// The flat vectors of the statistics, one for each unit; empty without statistics.
    pub fn statistics(&self) -> &[Vec<f32>] {
        self.statistics.as_ref().map_or(&[], |s| &s.units)
    }

    /// The flat vectors of the statistics, mutable; their lengths must stay.
    pub fn statistics_mut(&mut self) -> &mut [Vec<f32>] {
        self.statistics.as_mut().map_or(&mut [], |s| &mut s.units)
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

    /// Every tensor with its unit and its numbers, statistics last.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &TensorLayout, &[f32])> {
        let weights = self.layouts.iter().zip(&self.units);
        let statistics = self.statistics_layouts().iter().zip(self.statistics());
        weights.enumerate().chain(statistics.enumerate()).flat_map(|(unit, (layouts, values))| {
            layouts.iter().map(move |tensor| (unit, tensor, &values[tensor.range()]))
        })
    }

    /// Fills every tensor by `fill`, which is given its unit, its layout and its numbers, in the order
    /// of [`tensors`](Parameters::tensors).
    ///
    /// # Errors
    /// The first of `fill`.
    pub(crate) fn fill_tensors(
        &mut self,
        mut fill: impl FnMut(usize, &TensorLayout, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let weights = self.layouts.iter().zip(&mut self.units).enumerate();
        let statistics = self.statistics.iter_mut();
        let statistics = statistics.flat_map(|s| s.layouts.iter().zip(&mut s.units).enumerate());
        for (unit, (layouts, values)) in weights.chain(statistics) {
            for tensor in layouts {
                fill(unit, tensor, &mut values[tensor.range()])?;
            }
        }
        Ok(())
    }

    /// Fails unless there are `units` units of `size` numbers each. Everybody can reach the numbers of
    /// a network, so engines ask before they use them.
    ///
    /// # Errors
    /// [`Error::Shape`] naming `what`.
    pub fn expect_units(&self, what: &str, units: usize, size: usize) -> Result<()> {
        if self.units.len() == units && self.units.iter().all(|u| u.len() == size) {
            return Ok(());
        }
        let expected = format!("{units} units of {size} numbers");
        let sizes: Vec<usize> = self.units.iter().map(Vec::len).collect();
        Err(Error::shape(what, expected, format!("units of {sizes:?} numbers")))
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
