//! Arguments of `neuralef laplace` and `neuralef predict`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ProbeTask, Progress};

/// What the points of a network are before it sees them.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// Divides every number of a point first: 255 for pixels in bytes.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub input_divisor: Option<f64>,
    /// Subtracted next, a number for each channel of images that lie channel by channel, or one.
    #[arg(long, value_name = "MEANS", value_delimiter = ',', allow_hyphen_values = true)]
    pub input_mean: Vec<f64>,
    /// Divided by last, as --input-mean.
    #[arg(long, value_name = "STDS", value_delimiter = ',', allow_hyphen_values = true)]
    pub input_std: Vec<f64>,
}

/// What validation points make small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TuneCriterion {
    /// The negative log likelihood.
    Nll,
    /// The expected calibration error.
    Ece,
}

#[derive(Debug, Args)]
pub(crate) struct LaplaceArgs {
    /// The trained network: an ONNX file, or a safetensors file with --architecture.
    pub network: PathBuf,
    /// What a safetensors file has the weights of, such as `shared_resnet(depth=20)`.
    #[arg(long, value_name = "NETWORK")]
    pub architecture: Option<String>,
    /// The points that the network was trained on.
    #[arg(long, value_name = "DATA")]
    pub train: String,
    /// Their labels or targets, in the rows of a file [default: the labels that DATA come with].
    #[arg(long, value_name = "FILE")]
    pub train_targets: Option<String>,
    /// Points to measure predictions on. A synthetic set without a seed is drawn with the next seed
    /// after that of the training points.
    #[arg(long, value_name = "DATA")]
    pub eval: Option<String>,
    /// Their labels or targets.
    #[arg(long, value_name = "FILE", requires = "eval")]
    pub eval_targets: Option<String>,
    /// Points from elsewhere, which should be told by their uncertainty.
    #[arg(long, value_name = "DATA", requires = "eval")]
    pub ood: Option<String>,
    /// What is uncertain: neuralef, ella, random, last-layer, kfac, diag, map, with parameters such as
    /// `ella(components=50)`; repeat it for a table. `neuralef list sources` shows all.
    #[arg(long, value_name = "SOURCE", default_value = "neuralef")]
    pub source: Vec<String>,
    /// What is predicted.
    #[arg(long, value_enum, default_value = "classification")]
    pub task: ProbeTask,
    /// From Gaussian logits to probabilities: probit, mean_field, monte_carlo(samples=..) or
    /// laplace_bridge [default: probit].
    #[arg(long)]
    pub predictive: Option<neuralef::bayes::Predictive>,
    /// Precision δ of the prior of parameters [default: the largest marginal likelihood].
    #[arg(long, value_name = "PRECISION", allow_hyphen_values = true)]
    pub prior_precision: Option<f64>,
    /// Temperature T of a classification: data count 1/T times [default: 1].
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub temperature: Option<f64>,
    /// Variance of the noise of a regression [default: the largest marginal likelihood].
    #[arg(long, value_name = "VARIANCE", allow_hyphen_values = true)]
    pub noise_variance: Option<f64>,
    /// Chooses the prior precision on --validation points instead, which the network has not seen.
    #[arg(long, value_enum, requires = "validation", conflicts_with = "prior_precision")]
    pub tune: Option<TuneCriterion>,
    /// Chooses the temperature (or the variance of the noise) there too.
    #[arg(long, requires = "tune", conflicts_with_all = ["temperature", "noise_variance"])]
    pub tune_temperature: bool,
    /// Points for --tune.
    #[arg(long, value_name = "DATA", requires = "tune")]
    pub validation: Option<String>,
    /// Their labels or targets.
    #[arg(long, value_name = "FILE", requires = "validation")]
    pub validation_targets: Option<String>,
    #[command(flatten)]
    pub input: InputArgs,
    /// The file of the posterior to write, for `predict`.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Reliability diagrams to draw, .svg or .png.
    #[arg(long, value_name = "FILE", requires = "eval")]
    pub figure: Option<PathBuf>,
    /// Memory that a source may take, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    pub memory_budget: u64,
    /// Seed of every random choice, of synthetic DATA too.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// The file of the posterior.
    pub posterior: PathBuf,
    /// The points.
    pub data: String,
    /// The .npy file to write: probabilities of classes, or means of outputs, n × C float32.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Variances of outputs to write beside it, n × C float32, without noise of observations.
    #[arg(long, value_name = "FILE")]
    pub variances: Option<PathBuf>,
    /// From Gaussian logits to probabilities [default: probit].
    #[arg(long)]
    pub predictive: Option<neuralef::bayes::Predictive>,
    /// Seed of monte_carlo and of synthetic DATA.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}
