//! What some networks can do beyond the trait [`Network`](super::Network): small traits that its
//! methods give access to.

use super::moments::{LayerMoments, WeightLayer};
use super::tape::Tape;
use crate::error::Result;
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef};

/// Batch normalisation: statistics of the batch in training, running statistics otherwise.
pub trait BatchStatistics {
    /// Takes the batch statistics of a training step recorded in `tape` into the running statistics, of
    /// which they become `share`; [`MOMENTUM`](super::MOMENTUM) in training. Nothing for a tape that
    /// was recorded [frozen](BatchStatistics::freeze).
    fn update_running_statistics(&mut self, tape: &Tape, share: f64);

    /// Whether running statistics are used under a tape too, as they always are without one: for
    /// derivatives of a trained network.
    fn freeze(&mut self, frozen: bool);

    /// Whether values under a tape are those of running statistics: see
    /// [`freeze`](BatchStatistics::freeze).
    fn is_frozen(&self) -> bool;
}

/// A layer of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its name, as PyTorch would have it where that is known.
    pub name: String,
    /// Pixels of its values, height × width; 1 for vectors.
    pub pixels: usize,
    /// Channels of its values.
    pub channels: usize,
}

/// Values of inner layers, as features for something else.
pub trait LayerFeatures {
    /// Layers whose values [`features`](LayerFeatures::features) gives, in order, the outputs last.
    fn layers(&self) -> Vec<LayerInfo>;

    /// Values of the layers number `layers` of a single network, means over pixels, side by side.
    ///
    /// # Errors
    /// Shape errors; [`Error::InvalidParameter`](crate::Error::InvalidParameter) for several networks
    /// and for numbers of no layer.
    fn features(&self, x: MatRef<'_>, layers: &[usize]) -> Result<Mat>;
}

/// Second moments at the layers with weights of a single network (Martens & Grosse 2015).
pub trait LayerSecondMoments {
    /// The layers with weights, in order.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for several networks,
    /// [`Error::Unsupported`](crate::Error::Unsupported) for grouped convolutions.
    fn weight_layers(&self) -> Result<Vec<WeightLayer>>;

    /// Second moments at each of these layers, summed over the points `x` (n × d) and, for those of
    /// cotangents, over the columns of the C × C matrices `roots`, one for each point, which are pulled
    /// back. Squares of the derivatives by parameters of other layers (scales and shifts of
    /// normalisation) are added to `squares`, as long as all parameters.
    ///
    /// # Errors
    /// Shape errors; those of [`weight_layers`](LayerSecondMoments::weight_layers);
    /// [`Error::Unsupported`](crate::Error::Unsupported) for batch normalisation that is not
    /// [frozen](BatchStatistics::freeze).
    fn layer_moments(
        &self,
        x: MatRef<'_>,
        roots: &[Mat64],
        squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>>;
}

/// Values of a network that can be differentiated by its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The functions, as [`Network::forward`](super::Network::forward) gives them.
    Functions,
    /// The features of the last hidden layers, as [`Network::hidden`](super::Network::hidden) gives
    /// them.
    Hidden,
}

/// Derivatives by the inputs of a network.
pub trait InputGradients {
    /// Gradients by x of the combinations f(x)ᵀW, where f are the values of `stage` and `weights` is
    /// W, p × k: n·d × k, the derivative by coordinate c at point i in row i·d + c. Dense networks
    /// take min(d, k) passes for each row, forward or reverse.
    ///
    /// # Errors
    /// Shape errors, [`Error::NonFinite`](crate::Error::NonFinite).
    fn gradients_by_inputs(
        &self,
        x: MatRef<'_>,
        stage: Stage,
        weights: Mat64Ref<'_>,
    ) -> Result<Mat64>;
}

/// Jacobians by the parameters, point by point.
pub trait PerSampleJacobians {
    /// Jacobians at every row of x, into `out`: for each unit the nm × P derivatives of the m outputs
    /// that depend on it, in the order of their columns, by its P parameters, row by row with the
    /// outputs of a point in consecutive rows. The memory of `out` is used again.
    ///
    /// # Errors
    /// Shape errors, and [`Error::Unsupported`](crate::Error::Unsupported) for batch normalisation
    /// that is not [frozen](BatchStatistics::freeze).
    fn jacobians(&self, x: MatRef<'_>, out: &mut Vec<Vec<f32>>) -> Result<()>;
}

/// Parameters that are initialised from data.
pub trait DataDependentInit {
    /// How many training points [`init_from_data`](DataDependentInit::init_from_data) takes at most.
    fn init_points(&self) -> usize;

    /// Sets the parameters by some training points (n × d): called once, before the first step.
    ///
    /// # Errors
    /// Those of [`Network::forward`](super::Network::forward),
    /// [`Error::Numerical`](crate::Error::Numerical).
    fn init_from_data(&mut self, x: MatRef<'_>) -> Result<()>;
}
