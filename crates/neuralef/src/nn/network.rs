//! The trait of networks: what each of them has, and how it says what else it can do.

use super::capabilities::{
    BatchStatistics, DataDependentInit, InputGradients, LayerFeatures, LayerSecondMoments,
    PerSampleJacobians,
};
use super::parameters::Parameters;
use super::tape::Tape;
use crate::error::Result;
use crate::matrix::{Mat, MatRef};

/// A family of k functions of x with parameters: an ensemble of k networks, or a trunk with k heads.
/// Each function has C outputs, 1 unless it is made for a matrix-valued kernel.
///
/// Rows are independent: the value at a point has the same bits whatever else is in the batch, but for
/// [batch statistics](Network::batch_statistics) in training.
///
/// What only some networks can do is a trait of its own, which a method of this one gives access to:
/// none by default. What needs it of a network without it ends in
/// [`Error::Unsupported`](crate::Error::Unsupported).
pub trait Network: Send + Sync {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// k, the number of functions.
    fn functions(&self) -> usize;

    /// C, the number of outputs of each function.
    fn outputs(&self) -> usize;

    /// p, the total number of features in the last hidden layers: the width of [`hidden`](Network::hidden).
    fn hidden_width(&self) -> usize;

    /// All parameters.
    fn parameters(&self) -> &Parameters;

    /// All parameters, to be changed by an optimiser or a reader of files.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// The unit of [`parameters`](Network::parameters) that function number `function` depends on.
    fn unit(&self, function: usize) -> usize;

    /// Values of the k functions, n × kC (before normalisation): output c of function j is column
    /// j·C + c. Records into `tape` when given.
    ///
    /// # Errors
    /// Shape errors.
    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat>;

    /// Reverse mode: adds nothing, overwrites `gradient` with Σ over rows of cotangentᵀ ∂h/∂θ,
    /// for the batch recorded in `tape`. `cotangent` is n × kC.
    ///
    /// # Errors
    /// Shape errors.
    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()>;

    /// Forward mode: the directional derivative ∂h/∂θ · tangent, n × kC.
    ///
    /// # Errors
    /// Shape errors.
    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat>;

    /// Features of the last hidden layers, n × p, of all k networks side by side: the basis of the
    /// Galerkin readout. Without a hidden layer, the inputs. Features with outputs of their own are
    /// n × pC, as in [`forward`](Network::forward).
    ///
    /// # Errors
    /// Shape errors.
    fn hidden(&self, x: MatRef<'_>) -> Result<Mat>;

    /// Whether a pass is parallel within and holds much memory, so that one should follow another
    /// instead of running beside it.
    fn is_heavy(&self) -> bool {
        false
    }

    /// Whether the outputs are linear in [`hidden`](Network::hidden) features, by a dense layer whose
    /// parameters are the last ones.
    fn ends_linear(&self) -> bool {
        false
    }

    /// The directions in the parameters of a trained network, one in each row, along which the last
    /// hidden features are derivatives of it; none for networks that are something else.
    fn tangent_directions(&self) -> Option<Mat> {
        None
    }

    /// Statistics of batches, of networks with batch normalisation.
    fn batch_statistics(&self) -> Option<&dyn BatchStatistics> {
        None
    }

    /// The statistics of [`batch_statistics`](Network::batch_statistics), to be changed.
    fn batch_statistics_mut(&mut self) -> Option<&mut dyn BatchStatistics> {
        None
    }

    /// Values of inner layers.
    fn layer_features(&self) -> Option<&dyn LayerFeatures> {
        None
    }

    /// Second moments at the layers with weights, as Kronecker-factored curvature takes them.
    fn layer_second_moments(&self) -> Option<&dyn LayerSecondMoments> {
        None
    }

    /// Derivatives by x.
    fn input_gradients(&self) -> Option<&dyn InputGradients> {
        None
    }

    /// Jacobians of many points that cost less than one [`vjp`](Network::vjp) for each point and
    /// output, which [`per_sample_jacobians`](super::per_sample_jacobians) takes otherwise.
    fn per_sample_jacobians(&self) -> Option<&dyn PerSampleJacobians> {
        None
    }

    /// A start that depends on training points.
    fn data_dependent_init(&mut self) -> Option<&mut dyn DataDependentInit> {
        None
    }
}

/// What holds for networks with and without batch normalisation.
impl dyn Network + '_ {
    /// Takes the batch statistics of the step recorded in `tape` into the running statistics, of which
    /// they become `share`; nothing for networks without them. See
    /// [`BatchStatistics::update_running_statistics`].
    pub fn update_running_statistics(&mut self, tape: &Tape, share: f64) {
        if let Some(statistics) = self.batch_statistics_mut() {
            statistics.update_running_statistics(tape, share);
        }
    }

    /// Has running statistics used under a tape too; nothing for networks without them. See
    /// [`BatchStatistics::freeze`].
    pub fn freeze(&mut self, frozen: bool) {
        if let Some(statistics) = self.batch_statistics_mut() {
            statistics.freeze(frozen);
        }
    }

    /// Whether values under a tape depend on the whole batch, through batch normalisation that is not
    /// [frozen](BatchStatistics::freeze).
    pub fn uses_batch_statistics(&self) -> bool {
        self.batch_statistics().is_some_and(|statistics| !statistics.is_frozen())
    }
}
