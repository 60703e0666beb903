//! Arguments of `neuralef trajectory`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, Progress, ids};

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
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Outputs of the states of a training of one's own at DATA (.npy, M × N × C or N·C × M), instead
    /// of training.
    #[arg(long, value_name = "FILE", requires = "outputs", conflicts_with_all = ids::<TrainingArgs>())]
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

/// How the classifier is trained, of no use with `--states` of another training.
#[derive(Debug, Args)]
pub(crate) struct TrainingArgs {
    /// Optimiser [default: sgd(lr=0.05, momentum=0.9, nesterov=true, weight_decay=5e-4)].
    #[arg(long)]
    pub optimizer: Option<String>,
    /// Learning-rate schedule before the tail: cosine, constant, warmup_cosine(..).
    #[arg(long)]
    pub schedule: Option<String>,
    /// Steps before the tail; the network then is the base [default: 2000].
    #[arg(long)]
    pub steps: Option<u64>,
    /// Steps of the tail [default: 1000].
    #[arg(long, value_name = "STEPS")]
    pub tail_steps: Option<u64>,
    /// Learning rate of the tail [default: 0.01].
    #[arg(long, value_name = "LR", allow_hyphen_values = true)]
    pub tail_lr: Option<f64>,
    /// Its schedule over the tail: constant, or cyclic(period=P) with --every P [default: constant].
    #[arg(long, value_name = "SCHEDULE")]
    pub tail_schedule: Option<String>,
    /// Steps of the tail from one state to the next [default: 50].
    #[arg(long, value_name = "STEPS")]
    pub every: Option<u64>,
    /// Points in a batch [default: 128].
    #[arg(long, value_name = "B")]
    pub batch_size: Option<usize>,
    /// What is done to points before each step: none, or shift_flip(pixels=4) for images [default:
    /// none].
    #[arg(long, value_name = "NAME")]
    pub augment: Option<String>,
    /// Deviations of the weights that SWAG keeps [default: 20].
    #[arg(long, value_name = "K")]
    pub rank: Option<usize>,
    /// Networks that SWAG samples for --eval; 0 for none.
    #[arg(long, value_name = "S", default_value_t = 20)]
    pub swag_samples: usize,
}
