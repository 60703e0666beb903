//! Arguments of `neuralef probe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What `probe` predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeTask {
    /// Labels, by multinomial logistic regression.
    Classification,
    /// Real targets, by Gaussian-process regression.
    Regression,
}

impl ProbeTask {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ProbeTask::Classification => "classification",
            ProbeTask::Regression => "regression",
        }
    }
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("predicted").required(true).args(["labels_from_data", "targets"]))]
pub(crate) struct ProbeArgs {
    /// The model file.
    pub model: PathBuf,
    /// The points to fit to.
    pub data: String,
    /// What is predicted.
    #[arg(long, value_enum, default_value = "classification")]
    pub task: ProbeTask,
    /// Predicts the labels that DATA come with, as `digits`, `two_moons` and `circles` do.
    #[arg(long)]
    pub labels_from_data: bool,
    /// Predicts the rows of a file: one column of labels, or any number of columns with --task
    /// regression.
    #[arg(long, value_name = "FILE")]
    pub targets: Option<String>,
    /// Points to measure on besides DATA. A synthetic set without a seed is drawn with the next seed
    /// after DATA's, so that the points are others.
    #[arg(long, value_name = "DATA")]
    pub test: Option<String>,
    /// Labels or targets of the test points.
    #[arg(long, value_name = "FILE", requires = "targets", requires = "test")]
    pub test_targets: Option<String>,
    /// Scales the features of every point to unit norm.
    #[arg(long)]
    pub unit_norm: bool,
    /// Takes eigenfunctions ψ as features, instead of √μ ψ.
    #[arg(long)]
    pub eigenfunctions: bool,
    /// Weight of the loss against the penalty ½‖W‖² of logistic regression [default: 1].
    #[arg(long, value_name = "C", allow_hyphen_values = true)]
    pub c: Option<f64>,
    /// Leaves the intercept of logistic regression out.
    #[arg(long)]
    pub no_intercept: bool,
    /// Largest entry of the gradient of the mean loss at which it has converged [default: 1e-6].
    #[arg(long, allow_hyphen_values = true)]
    pub tol: Option<f64>,
    /// Most steps of its optimiser [default: 1000].
    #[arg(long, value_name = "STEPS")]
    pub max_iter: Option<usize>,
    /// Variance of the noise of a regression [default: with --prior-variance, the largest marginal
    /// likelihood].
    #[arg(long, value_name = "VARIANCE", allow_hyphen_values = true)]
    pub noise_variance: Option<f64>,
    /// Variance of the weights of a regression [default: 1 with --noise-variance].
    #[arg(long, value_name = "VARIANCE", allow_hyphen_values = true)]
    pub prior_variance: Option<f64>,
    /// Seed of synthetic DATA.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}
