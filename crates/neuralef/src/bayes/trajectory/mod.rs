//! The Gaussian process of an SGD trajectory, with SWA and SWAG beside it.
//!
//! SGD at a rate that does not fall wanders among networks that fit the data about equally well. The
//! outputs g_1, …, g_M of states along that way have a covariance, the kernel
//!
//! > κ(x, x') = 1/M Σ_i (g_i(x) − ḡ(x))(g_i(x') − ḡ(x'))ᵀ, C × C
//!
//! (Deng, Shi and Zhu, ICML 2022, section 6): the posterior of f ~ GP(mean, κ) says where the
//! states disagree. Its eigenfunctions are learned from the centred outputs at the training points as
//! features Φ, (N·C) × M, by a [`Fit`](crate::Fit) with `features` and `outputs`, and a new point then
//! costs one pass instead of M: [`predict`] gives the outputs of one network with that covariance.
//!
//! | | weights | predicts with |
//! |---|---|---|
//! | base | before the tail | softmax |
//! | SWA (Izmailov et al. 2018) | mean of the states | softmax |
//! | SWAG (Maddox et al. 2019) | samples of N(mean, ½(diagonal + low rank)) | mean of softmax |
//! | NeuralEF | those of base or SWA | the Gaussian process |
//!
//! [`Training`] does the training, takes the states, and streams their outputs to files
//! ([`StatesWriter`]); [`centred_features`] makes Φ of these, or of outputs of a user's own training.
//! Eigenfunctions are joint, one function with C outputs, normalised by E Σ_c ψ_c² = 1: the readout
//! makes them orthonormal in that sense whatever normalisation the training had, so that normalising
//! each class by itself, as the paper trains, leaves the result alone.
//! [`OutputForm::Factorized`](crate::fit::OutputForm) has scalar functions times vectors of outputs.
//!
//! ```
//! use neuralef::bayes::trajectory::{
//!     StatesWriter, Training, TrajectoryWeights, centred_features, predict,
//! };
//! use neuralef::bayes::{Predictive, Targets};
//! use neuralef::{Dataset, Fit, FitSpec, NetworkSpec};
//! use neuralef::operator::OperatorSpec;
//! use neuralef::train::Silent;
//! # let dir = tempfile::tempdir().map_err(|e| neuralef::Error::io("temporary", e))?;
//! # let (states, phi) = (dir.path().join("states.npy"), dir.path().join("phi.npy"));
//!
//! let data = Dataset::open("two_moons(n=200, noise=0.2)", 0)?;
//! let labels = data.labels().unwrap_or_default();
//! let targets = Targets::Labels(labels.iter().map(|label| *label as usize).collect());
//! let network: NetworkSpec = "mlp(hidden=[16])".parse()?;
//! let training = Training { steps: 200, tail_steps: 100, every: 10, ..Training::default() };
//! let mut writers = [StatesWriter::create(&states, data.clone(), 2)?];
//! let network = network.build(2, 1, 2, 0)?;
//! let mut trajectory = training.run(network, &data, &targets, &mut writers, &mut Silent)?;
//! writers.into_iter().try_for_each(|w| w.finish().map(|_| ()))?;
//! assert_eq!(trajectory.record().states, 10);
//!
//! let states = Dataset::open(&states.to_string_lossy(), 0)?; // 10 × 400
//! centred_features(&states, 200, 2, &phi, 256, &mut Silent)?; // 400 × 10
//! let spec = FitSpec { operator: Some(OperatorSpec::features(phi)), outputs: 2, n_components: 3, ..FitSpec::default() };
//! let (kernel, _) = Fit::new(spec).run(&data)?;
//! let swa = trajectory.network_with(TrajectoryWeights::Swa);
//! let outputs = predict(swa, &kernel, &data)?;
//! let p = outputs.probabilities(Predictive::MonteCarlo { samples: 100 }, 0)?;
//! assert_eq!(p.dim(), (200, 2));
//! # Ok::<(), neuralef::Error>(())
//! ```

use serde::Serialize;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{Network, Parameters};
use crate::observer::{Control, Event, Observer};

mod augment;
mod loss;
mod moments;
mod predict;
mod refresh;
mod signal;
mod states;
#[cfg(test)]
mod tests;
mod train;
mod training;

pub use augment::{AUGMENTATIONS, Augmentation};
pub use moments::WeightMoments;
pub use predict::{MeanSoftmax, covariances, covariances_of_features, logits, predict};
pub use refresh::refresh;
pub use states::{StatesWriter, centred_features};
pub use training::Training;

/// How the training of a [`Trajectory`] went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TrajectoryRecord {
    /// Steps before the tail.
    pub steps: u64,
    /// M, the number of states taken.
    pub states: u64,
    /// Mean loss over the last epoch before the tail; NaN without steps.
    pub base_loss: f64,
    /// Mean loss over the tail, the steps since the last epoch before each state.
    pub tail_loss: f64,
    /// Wall time of the training.
    pub training_seconds: f64,
}

/// Which weights of a [`Trajectory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrajectoryWeights {
    /// Those before the tail.
    Base,
    /// The mean weights of the states, batch normalisation refreshed over the training points.
    Swa,
}

/// A trained network with the moments of the weights of its trajectory.
pub struct Trajectory {
    /// With the weights that were last asked for.
    network: Box<dyn Network>,
    base: Parameters,
    swa: Parameters,
    moments: WeightMoments,
    /// For refreshed statistics, as in training.
    batch_size: usize,
    seed: u64,
    record: TrajectoryRecord,
}

impl Trajectory {
    /// How the training went.
    pub fn record(&self) -> &TrajectoryRecord {
        &self.record
    }

    /// Moments of the weights of the states.
    pub fn moments(&self) -> &WeightMoments {
        &self.moments
    }

    /// The parameters of `weights`, statistics of batch normalisation among them.
    pub fn parameters(&self, weights: TrajectoryWeights) -> &Parameters {
        match weights {
            TrajectoryWeights::Base => &self.base,
            TrajectoryWeights::Swa => &self.swa,
        }
    }

    /// Puts the [`parameters`](Trajectory::parameters) of `weights` into the network, and gives it.
    pub fn network_with(&mut self, weights: TrajectoryWeights) -> &dyn Network {
        *self.network.parameters_mut() = self.parameters(weights).clone();
        &*self.network
    }

    /// Gives `work` `samples` networks with weights drawn by SWAG
    /// ([`WeightMoments::sample_into`]), batch normalisation refreshed over `data` for each: two
    /// passes over the data or three for a network.
    ///
    /// # Errors
    /// Those of [`WeightMoments::sample_into`] and [`refresh`], [`Error::Interrupted`] when `observer`
    /// stops it, and the first of `work`.
    pub fn swag(
        &mut self,
        samples: usize,
        scale: f64,
        data: &Dataset,
        observer: &mut dyn Observer,
        mut work: impl FnMut(&dyn Network) -> Result<()>,
    ) -> Result<()> {
        observer.observe(&Event::Phase { name: "SWAG" });
        for number in 0..samples {
            let event = Event::Progress { done: number, total: samples };
            if observer.observe(&event) == Control::Stop {
                let step = self.record.steps;
                return Err(Error::Interrupted { step, checkpoint: None });
            }
            let parameters = self.network.parameters_mut();
            self.moments.sample_into(parameters, scale, self.seed, number as u64)?;
            refresh(&mut *self.network, data, self.batch_size, self.seed)?;
            work(&*self.network)?;
        }
        Ok(())
    }
}
