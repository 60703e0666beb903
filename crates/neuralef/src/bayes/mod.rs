//! Bayesian predictions of trained networks, without training them again.
//!
//! A method gives the Gaussian distribution of the outputs at a point, [`GaussianOutputs`]: their mean and
//! their C × C covariance. [`Predictive`] turns it into probabilities, whose quality
//! [`calibration`](crate::calibration) measures.

mod laplace;
mod predictive;
#[cfg(test)]
mod predictive_tests;
pub mod trajectory;

pub(crate) use laplace::SOURCES;
pub use laplace::{
    Criterion, Laplace, LaplaceInfo, LaplaceSeconds, LaplaceSpec, Likelihood, PointFeatures,
    SourceSpec, Targets, Tuning, fit_laplace,
};
pub use predictive::{GaussianOutputs, PREDICTIVES, Predictive};
