//! Arguments of `neuralef sample`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Progress;

/// What features are sampled of.
#[derive(Debug, Subcommand)]
pub(crate) enum SampleCommand {
    /// The outputs of S random networks: κ(x, x') = E f(x)f(x').
    Nngp(SampleNngpArgs),
    /// Derivatives of one network along S random directions: κ(x, x') = J(x)J(x')ᵀ.
    Ntk(SampleNtkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Number of samples.
    #[arg(short = 'S', long, value_name = "S", default_value_t = 1000)]
    pub samples: usize,
    /// Element type of the file: f32 or f16.
    #[arg(long, default_value = "f32")]
    pub dtype: neuralef::data::Dtype,
    /// The .npy file to write, (N·outputs) × S, the outputs of a point in consecutive rows. FILE.json
    /// beside it says what it holds; while unfinished it is FILE.partial, and the same command goes
    /// on with it.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Seed of all draws, of synthetic DATA too.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Memory for the features being worked on, in MiB. The file does not depend on it.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub memory_budget: u64,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

#[derive(Debug, Args)]
pub(crate) struct SampleNngpArgs {
    /// The points.
    pub data: String,
    /// Architecture of the networks, such as `mlp(hidden=[512, 512], activation=erf)`.
    #[arg(long)]
    pub network: String,
    /// Variance of weights times their fan-in: one number, or one for each layer from the input on.
    #[arg(long, value_name = "W", value_delimiter = ',', default_value = "1")]
    pub weight_var: Vec<f64>,
    /// Variance of biases, likewise.
    #[arg(long, value_name = "B", value_delimiter = ',', default_value = "0")]
    pub bias_var: Vec<f64>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SampleNtkArgs {
    /// The points.
    pub data: String,
    /// Architecture of the network, such as `mlp(hidden=[512, 512])` or `resnet(depth=20)`; its
    /// weights are those of --weights, those of its ONNX file, or drawn with --seed.
    #[arg(long)]
    pub network: String,
    /// Weights of a trained network of that architecture: safetensors with PyTorch's names and
    /// layouts. Batch normalisation uses the running statistics of the file.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Number of outputs of the network: C rows of features for each point, for fit --outputs C.
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub outputs: usize,
    /// Law of the directions: rademacher or gaussian.
    #[arg(long, default_value = "rademacher")]
    pub probes: neuralef::sample::Probes,
    /// How derivatives are computed: exact, reverse (much cheaper for many samples of few outputs), or
    /// finite_difference(epsilon=auto).
    #[arg(long, default_value = "exact")]
    pub derivative: neuralef::sample::Derivative,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}
