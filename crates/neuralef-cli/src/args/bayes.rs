//! Arguments of the commands for trained networks and for densities.

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

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// The samples of the density. For the synthetic sets gaussian, mixture and banana, whose scores
    /// are known, the relative error at the query points is reported.
    #[arg(required_unless_present = "estimator")]
    pub data: Option<String>,
    /// A model whose eigenfunctions are taken: a query costs one pass through its networks, whatever
    /// the number of samples. Without it they are Nyström's, from all samples.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "n_components"])]
    pub model: Option<PathBuf>,
    /// Kernel, one with a gradient [default: rbf(lengthscale=median)].
    #[arg(long)]
    pub kernel: Option<String>,
    /// The most eigenfunctions to look at without a model [default: 100].
    #[arg(short = 'k', long, value_name = "K", allow_negative_numbers = true)]
    pub n_components: Option<usize>,
    /// Eigenfunctions in the estimate: `auto`, the number that is best on held-out samples; a number;
    /// or the share of the sum of eigenvalues that they make up, such as 0.99 [default: auto].
    #[arg(long, value_name = "J", allow_hyphen_values = true)]
    pub terms: Option<neuralef::score::Terms>,
    /// Points to give the score at. A synthetic set without a seed is drawn with the next seed after
    /// DATA's, so that the points are others [default: DATA].
    #[arg(long, value_name = "DATA")]
    pub query: Option<String>,
    /// The .npy file of scores to write, n × d float32; row order is that of the query.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also measures the Hyvärinen loss at the query points: half the mean squared error up to a
    /// constant of the density, which need not be known.
    #[arg(long, requires = "query")]
    pub loss: bool,
    /// Writes the estimator to a file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Uses an estimator from a file that --save wrote, instead of DATA.
    #[arg(long, value_name = "FILE", requires = "query", conflicts_with_all = ["data", "model",
        "kernel", "n_components", "terms", "save"])]
    pub estimator: Option<PathBuf>,
    /// Seed of synthetic DATA and of the division into held-out parts.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["network", "states"]))]
pub(crate) struct TrajectoryArgs {
    /// The training points.
    pub data: String,
    /// Labels from 0, the rows of a file [default: those that DATA come with].
    #[arg(long, value_name = "FILE")]
    pub targets: Option<String>,
    /// Points to measure on, better not those of the training. A synthetic set without a seed is drawn
    /// with the next seed after DATA's.
    #[arg(long, value_name = "DATA")]
    pub eval: Option<String>,
    /// Labels of the points of --eval [default: those that they come with].
    #[arg(long, value_name = "FILE", requires = "eval")]
    pub eval_targets: Option<String>,
    /// The classifier, such as `resnet(depth=8, width=16)` or `mlp(hidden=[64])`.
    #[arg(long)]
    pub network: Option<String>,
    /// Weights to begin with: safetensors with PyTorch's names [default: drawn with --seed].
    #[arg(long, value_name = "FILE", requires = "network")]
    pub weights: Option<PathBuf>,
    /// Optimiser [default: sgd(lr=0.05, momentum=0.9, nesterov=true, weight_decay=5e-4)].
    #[arg(long, conflicts_with = "states")]
    pub optimizer: Option<String>,
    /// Learning-rate schedule before the tail: cosine, constant, warmup_cosine(..).
    #[arg(long, conflicts_with = "states")]
    pub schedule: Option<String>,
    /// Steps before the tail; the network then is the base [default: 2000].
    #[arg(long, conflicts_with = "states")]
    pub steps: Option<u64>,
    /// Steps of the tail [default: 1000].
    #[arg(long, value_name = "STEPS", conflicts_with = "states")]
    pub tail_steps: Option<u64>,
    /// Learning rate of the tail [default: 0.01].
    #[arg(long, value_name = "LR", conflicts_with = "states", allow_hyphen_values = true)]
    pub tail_lr: Option<f64>,
    /// Its schedule over the tail: constant, or cyclic(period=P) with --every P [default: constant].
    #[arg(long, value_name = "SCHEDULE", conflicts_with = "states")]
    pub tail_schedule: Option<String>,
    /// Steps of the tail from one state to the next [default: 50].
    #[arg(long, value_name = "STEPS", conflicts_with = "states")]
    pub every: Option<u64>,
    /// Points in a batch [default: 128].
    #[arg(long, value_name = "B", conflicts_with = "states")]
    pub batch_size: Option<usize>,
    /// What is done to points before each step: none, or shift_flip(pixels=4) for images [default:
    /// none].
    #[arg(long, value_name = "NAME", conflicts_with = "states")]
    pub augment: Option<String>,
    /// Deviations of the weights that SWAG keeps [default: 20].
    #[arg(long, value_name = "K", conflicts_with = "states")]
    pub rank: Option<usize>,
    /// Networks that SWAG samples for --eval; 0 for none.
    #[arg(long, value_name = "S", default_value_t = 20, conflicts_with = "states")]
    pub swag_samples: usize,
    /// Outputs of the states of a training of one's own at DATA (.npy, M × N × C or N·C × M), instead
    /// of training.
    #[arg(long, value_name = "FILE", requires = "outputs")]
    pub states: Option<String>,
    /// C, the number of outputs of --states.
    #[arg(long, value_name = "C", requires = "states")]
    pub outputs: Option<usize>,
    /// Logits at the points of --eval to predict around (n × C), with --states.
    #[arg(long, value_name = "FILE", requires = "states", requires = "eval")]
    pub eval_outputs: Option<String>,
    #[command(flatten)]
    pub input: InputArgs,
    /// How many eigenfunctions.
    #[arg(short = 'k', long, value_name = "K", default_value_t = 20)]
    pub n_components: usize,
    /// Eigenfunction networks [default: linear heads on the layers of the SWA network; with --states
    /// that of `fit`].
    #[arg(long, value_name = "NETWORK")]
    pub eigen_network: Option<String>,
    /// Training steps of the eigenfunctions, or `auto`.
    #[arg(long, value_name = "STEPS", default_value = "auto")]
    pub eigen_steps: neuralef::fit::Steps,
    /// Eigenfunctions of several outputs: joint or factorized.
    #[arg(long, value_name = "FORM", default_value = "joint")]
    pub output_form: neuralef::fit::OutputForm,
    /// From logits with a covariance to probabilities: probit, monte_carlo(samples=..) or
    /// laplace_bridge.
    #[arg(long, value_name = "NAME", default_value = "monte_carlo")]
    pub predictive: neuralef::bayes::Predictive,
    /// Memory for centring the states, for the eigenfunctions and again for their readout, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub memory_budget: u64,
    /// Seed of every random choice, of synthetic DATA too.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The model file of the eigenfunctions, of points after --input-.. has changed them. With NAME.safetensors come NAME.phi.npy, the features they
    /// are of, and NAME.base.safetensors and NAME.swa.safetensors, the weights of the networks.
    #[arg(short, long, value_name = "FILE", default_value = "trajectory.safetensors")]
    pub output: PathBuf,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}
