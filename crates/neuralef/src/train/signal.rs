//! What training follows: where batches come from, what their loss is, and what surrounds a step.

use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::{Network, Parameters, Tape};
use crate::objective::ObjectiveState;
use crate::operator::Batch;

/// What an error calls the values of a forward pass.
pub(super) const OUTPUT: &str = "a network output";

/// A step that is being taken.
pub(crate) struct TrainingStep<'a> {
    /// Its number, from 0.
    pub number: u64,
    /// Its batch.
    pub batch: &'a Batch,
    /// The network, with the parameters before the step.
    pub network: &'a dyn Network,
}

/// The loss of a batch.
pub(crate) struct BatchLoss {
    /// What is minimised.
    pub value: f64,
    /// Its derivative by the outputs of the network, n × kC as these are.
    pub cotangent: Mat,
    /// Estimates of the eigenvalues; none where nothing is decomposed.
    pub eigenvalues: Vec<f64>,
}

/// A number of training that is not finite.
pub(crate) struct Divergence<'a> {
    /// The step, from 0.
    pub step: u64,
    /// What is not finite, or what was being computed.
    pub what: &'static str,
    /// The error that said so; none for a number that the loop checked.
    pub cause: Option<&'a Error>,
    /// The parameters before the step.
    pub parameters: &'a Parameters,
}

/// What the training loop follows.
pub(crate) trait Signal {
    /// Readies itself and `network` for each other, once, before the first step.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network that it cannot train.
    fn prepare(&mut self, network: &mut dyn Network) -> Result<()>;

    /// How many eigenvalues [`loss`](Signal::loss) estimates.
    fn n_eigenvalues(&self, _network: &dyn Network) -> usize {
        0
    }

    /// The batch of step number `step`, from 0; the same whatever steps came before it.
    ///
    /// # Errors
    /// What reading the data reports.
    fn draw(&mut self, step: u64) -> Result<Batch>;

    /// The points of `batch` as the network sees them, where they are not `batch.x`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn network_inputs(&self, _batch: &Batch) -> Result<Option<Mat>> {
        Ok(None)
    }

    /// The loss of the network's `outputs`, n × kC, at the batch of `step`.
    ///
    /// # Errors
    /// Numerical failures, named.
    fn loss(&mut self, step: &TrainingStep<'_>, outputs: Mat) -> Result<BatchLoss>;

    /// Adds to `gradient` what is not the pull-back of a cotangent, with the tape of the forward pass.
    ///
    /// # Errors
    /// What the network reports.
    fn parameter_gradient(
        &mut self,
        _network: &dyn Network,
        _tape: &Tape,
        _gradient: &mut Parameters,
    ) -> Result<()> {
        Ok(())
    }

    /// Puts the parameters back on a constraint set after the optimiser's step.
    ///
    /// # Errors
    /// Numerical failures, named.
    fn constrain(&self, _parameters: &mut Parameters) -> Result<()> {
        Ok(())
    }

    /// The learning rate of step number `step`, from 0.
    ///
    /// # Errors
    /// Those of [`Spec::get`](crate::spec::Spec::get) of the optimiser.
    fn learning_rate(&self, step: u64) -> Result<f64>;

    /// The [`Error::Diverged`] that names a number that is not finite and says what may help.
    fn diverged(&self, divergence: &Divergence<'_>) -> Error;

    /// Everything that the next step depends on apart from parameters and optimiser.
    fn state(&self) -> ObjectiveState {
        ObjectiveState::default()
    }

    /// Continues from a saved state of the same shape, to the same bits.
    ///
    /// # Errors
    /// [`Error::Shape`] when it is another signal's.
    fn restore(&mut self, _state: &ObjectiveState) -> Result<()> {
        Ok(())
    }

    /// What the failure `error` of a computation means in training: where a number stopped being finite,
    /// that it diverged; other errors are returned as they are.
    fn failure(&self, what: &'static str, error: Error, step: u64, network: &dyn Network) -> Error {
        if !matches!(error, Error::NonFinite { .. } | Error::Numerical { .. }) {
            return error;
        }
        let parameters = network.parameters();
        self.diverged(&Divergence { step, what, cause: Some(&error), parameters })
    }
}
