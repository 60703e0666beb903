//! Raw arguments, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

mod bayes;

pub(crate) use bayes::{
    InputArgs, LaplaceArgs, PredictArgs, ScoreArgs, TrajectoryArgs, TuneCriterion,
};

/// Learn the eigenfunctions of a kernel as neural networks, check them, save them and apply them.
///
/// DATA is a file (.npy, file.npz:key, .csv, .tsv, .parquet, IDX such as MNIST's, gzipped or not),
/// the word `digits` (the embedded handwritten digits, 1,797 × 64), or a synthetic set such as
/// `two_moons(n=1000, noise=0.1)`.
#[derive(Debug, Parser)]
#[command(name = "neuralef", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done; 1 bad input, file error or numerical failure; 2 wrong usage; 130 interrupted
(a fit then leaves a checkpoint for --resume).

Examples:
  neuralef fit                                          the embedded digits, all defaults
  neuralef fit x.npy --kernel 'rbf(lengthscale=0.5) + 0.1*linear' -k 20 -o model.safetensors
  neuralef transform model.safetensors new.csv -o features.npy
  neuralef eval model.safetensors x.npy --exact")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Prints one JSON object for programs instead of text for people; after a failure it is
    /// {"error": MESSAGE}.
    #[arg(long, global = true)]
    pub json: bool,
    /// Threads to use; all cores by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Learns the top k eigenfunctions of a kernel on DATA, reports their accuracy, saves the model.
    Fit(Box<FitArgs>),
    /// Writes the features (or eigenfunctions) of DATA under a model to a .npy file, streaming.
    Transform(TransformArgs),
    /// Measures a model on DATA, against the exact eigenpairs with --exact.
    Eval(EvalArgs),
    /// Fits a linear model for labels or targets to a model's features, and measures it.
    Probe(ProbeArgs),
    /// Makes a trained network's predictions uncertain: Laplace approximations, measured.
    Laplace(Box<LaplaceArgs>),
    /// Writes the predictions of a posterior at DATA to a .npy file, streaming.
    Predict(PredictArgs),
    /// Estimates the gradient of the log density of samples by the spectral Stein estimator.
    Score(ScoreArgs),
    /// Compares methods on DATA, or on kernels with known spectra, over seeds.
    Compare(Box<CompareArgs>),
    /// Shows what a model file holds.
    Inspect(InspectArgs),
    /// Draws a model's eigenfunctions and spectrum.
    Plot(PlotArgs),
    /// Writes a synthetic data set to a .npy file.
    Synth(SynthArgs),
    /// Samples features of a kernel that networks define, for `fit --features`.
    #[command(subcommand)]
    Sample(SampleCommand),
    /// Trains a classifier, takes states from the end of its training, learns the eigenfunctions of
    /// their outputs' covariance, and predicts with that; beside SWA and SWAG.
    Trajectory(Box<TrajectoryArgs>),
    /// Lists the kernels, networks, objectives, optimisers, methods and data sets with their parameters.
    List(ListArgs),
    /// Prints a shell completion script.
    Completions(CompletionsArgs),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A bar when standard error is a terminal, nothing otherwise.
    Auto,
    /// One JSON object a line on standard error.
    Json,
    /// Nothing.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    /// The data: a file, `digits`, or a synthetic set [default: digits].
    pub data: Option<String>,
    /// Kernel, such as `rbf(lengthscale=median)` or `rbf + 0.1*linear` [default: rbf(lengthscale=median)].
    #[arg(long)]
    pub kernel: Option<String>,
    /// A precomputed N × N Gram matrix (.npy) instead of a kernel; N·C × N·C with --outputs C.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "features"])]
    pub gram: Option<PathBuf>,
    /// Features, N × S (.npy), whose inner products divided by S are the kernel; N·C × S with
    /// --outputs C.
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub features: Option<PathBuf>,
    /// Outputs of the kernel: κ(x, x') is C × C, --features (or --gram) have C consecutive rows for
    /// each point, and so do features and eigenfunctions of the model [default: 1].
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    pub outputs: Option<usize>,
    /// Eigenfunctions of several outputs: `joint`, any functions; `factorized`, scalar function times
    /// vector, cheaper, exact for κ(x, x') = k(x, x')·B [default: joint].
    #[arg(long, value_name = "FORM")]
    pub output_form: Option<neuralef::fit::OutputForm>,
    /// How many eigenfunctions [default: 10].
    #[arg(short = 'k', long, value_name = "K", allow_negative_numbers = true)]
    pub n_components: Option<usize>,
    /// How to approximate: `neuralef`, `nystrom(landmarks=1000)`, `kernel_pca`, `fourier`,
    /// `positive`; `neuralef list methods` shows all [default: neuralef].
    #[arg(long)]
    pub method: Option<String>,
    /// Eigenfunction networks, such as `mlp(hidden=[64, 64], activation=sin_cos)`.
    #[arg(long)]
    pub network: Option<String>,
    /// Training objective [default: neuralef].
    #[arg(long)]
    pub objective: Option<String>,
    /// Optimiser, such as `adam(lr=1e-3)` or `sgd(lr=0.1, momentum=0.9)`.
    #[arg(long)]
    pub optimizer: Option<String>,
    /// Learning rate; shorthand for the optimiser's lr.
    #[arg(long, allow_hyphen_values = true)]
    pub lr: Option<f64>,
    /// Learning-rate schedule: constant, cosine or warmup_cosine(warmup=100).
    #[arg(long)]
    pub schedule: Option<String>,
    /// Training steps, or `auto`: train only while held-out residuals improve [default: auto].
    #[arg(long, allow_negative_numbers = true)]
    pub steps: Option<neuralef::fit::Steps>,
    /// The most steps that `auto` takes [default: 5000].
    #[arg(long, value_name = "STEPS")]
    pub max_steps: Option<u64>,
    /// `--steps auto` stops when two rounds in a row lower the held-out residual by less than this
    /// share [default: 0.1].
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub tolerance: Option<f64>,
    /// Points in a batch [default: 256].
    #[arg(long, value_name = "B")]
    pub batch_size: Option<usize>,
    /// Largest global norm of the gradient; 0 turns clipping off [default: 0].
    #[arg(long, value_name = "NORM", allow_hyphen_values = true)]
    pub clip_norm: Option<f64>,
    /// How eigenfunctions are read out: none, ritz or galerkin [default: galerkin].
    #[arg(long)]
    pub readout: Option<neuralef::fit::ReadoutKind>,
    /// The most training points that a readout streams [default: 16384].
    #[arg(long, value_name = "N")]
    pub readout_points: Option<usize>,
    /// Memory for the networks in training, and again for the readout's matrices, in MiB.
    #[arg(long, value_name = "MIB")]
    pub memory_budget: Option<u64>,
    /// Held-out points of their own, instead of a share of DATA. A synthetic set without a seed is
    /// drawn with the next seed after DATA's, so that the points are others.
    #[arg(long, value_name = "DATA", conflicts_with = "validation_fraction")]
    pub validation: Option<String>,
    /// Share of the points held out for the certificate [default: 0.1].
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    pub validation_fraction: Option<f64>,
    /// Scales every feature to mean 0 and variance 1, as part of the model.
    #[arg(long)]
    pub standardize: bool,
    /// Seed of every random choice, of synthetic DATA too [default: 0].
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// A TOML file with any of these settings (underscores for dashes); options override it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The model file to write.
    #[arg(short, long, value_name = "FILE", default_value = "model.safetensors")]
    pub output: PathBuf,
    /// The figure to write, .svg or .png; `none` for no figure [default: the model's name with .svg].
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Where to keep a checkpoint while training [default: the model's name with .ckpt, written
    /// only when the run is interrupted].
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Steps between checkpoints.
    #[arg(long, value_name = "STEPS", default_value_t = 500)]
    pub checkpoint_every: u64,
    /// Continues an interrupted run from its checkpoint, to the same bits; DATA and every setting
    /// of the fit are the checkpoint's, the files to write are not.
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["data", "kernel", "gram", "features",
        "outputs", "output_form", "n_components", "method", "network", "objective", "optimizer", "lr", "schedule", "steps",
        "max_steps", "tolerance", "batch_size", "clip_norm", "readout", "readout_points", "memory_budget",
        "validation", "validation_fraction", "standardize", "seed", "config"])]
    pub resume: Option<PathBuf>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

#[derive(Debug, Args)]
pub(crate) struct TransformArgs {
    /// The model file.
    pub model: PathBuf,
    /// The points.
    pub data: String,
    /// The .npy file to write, n × k float32; row order is that of DATA. For a model with C outputs
    /// n·C × k, C consecutive rows for each point.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Writes eigenfunctions ψ instead of features √μ ψ.
    #[arg(long)]
    pub eigenfunctions: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The model file.
    pub model: PathBuf,
    /// The points to measure on.
    pub data: String,
    /// Compares with the exact eigenpairs of the kernel's Gram matrix on the reference points.
    #[arg(long)]
    pub exact: bool,
    /// Points whose Gram matrix gives the exact eigenpairs [default: DATA].
    #[arg(long, value_name = "DATA", requires = "exact")]
    pub reference: Option<String>,
    /// Eigenvalues closer than this (relative) are compared as one subspace.
    #[arg(long, value_name = "GAP", default_value_t = 0.05)]
    pub cluster_gap: f64,
    /// Memory for the Gram matrix of the reference, in MiB; a larger one is refused.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub memory_budget: u64,
    /// Seed for synthetic DATA and for the pairs of the Gram error.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

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

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The data, a quarter of which is held out as test points [default: digits].
    pub data: Option<String>,
    /// Kernels with known spectra instead of DATA: rbf-uniform, polynomial, brownian,
    /// rbf-gaussian-2d, fourier-circle, sphere; or `classic`: the first two, five seeds, all
    /// learned methods.
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    pub preset: Vec<String>,
    /// Contenders, by name; `neuralef list contenders` shows them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub methods: Option<Vec<String>>,
    /// Kernel of DATA [default: rbf(lengthscale=median)].
    #[arg(long)]
    pub kernel: Option<String>,
    /// How many eigenfunctions of DATA [default: 10].
    #[arg(short = 'k', long, value_name = "K")]
    pub n_components: Option<usize>,
    /// Numbers of training points of a preset.
    #[arg(short = 'n', long = "n", value_name = "N", value_delimiter = ',', default_values_t = [64, 512, 8192])]
    pub points: Vec<usize>,
    /// Number of seeds [default: 1; classic: 5].
    #[arg(long)]
    pub seeds: Option<u64>,
    /// Training steps of those that train [default: 2000].
    #[arg(long)]
    pub steps: Option<u64>,
    /// Give training so many seconds instead, as many steps as fit by the rate of a short run;
    /// readouts come on top, and what does not train runs as it is.
    #[arg(long, conflicts_with = "steps")]
    pub seconds: Option<f64>,
    /// Also find the time to this |cos| on the first eigenfunctions, with ever more steps
    /// (landmarks, features).
    #[arg(long, value_name = "COS")]
    pub target: Option<f64>,
    /// How many eigenfunctions the target is for.
    #[arg(long, value_name = "J", default_value_t = 5, requires = "target")]
    pub first: usize,
    /// The most steps on the way to the target.
    #[arg(long, value_name = "STEPS", default_value_t = 8000)]
    pub max_steps: u64,
    /// Networks of those that train [default: as fit; presets: mlp(hidden=[32, 32], activation=sin_cos)].
    #[arg(long)]
    pub network: Option<String>,
    /// Optimiser of those that train [default: adam(lr=1e-3)].
    #[arg(long)]
    pub optimizer: Option<String>,
    /// Points in a batch [default: 256].
    #[arg(long, value_name = "B")]
    pub batch_size: Option<usize>,
    /// Seed of synthetic DATA.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Leaves the tables of single eigenpairs out.
    #[arg(long)]
    pub brief: bool,
    /// Writes every eigenpair of every fit to a table.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// The figure to write, .svg or .png, or `none`; for one variable also FILE-functions beside it
    /// [default: none; classic: compare.svg].
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The model file.
    pub model: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// The model file.
    pub model: PathBuf,
    /// Points to draw, and that ranges of curves and contours are taken from [default: the training
    /// data, if they are still where they were].
    pub data: Option<String>,
    /// The figure, .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Draws the spectrum instead of the eigenfunctions.
    #[arg(long)]
    pub spectrum: bool,
    /// Seed for synthetic DATA.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// two_moons, circles, swiss_roll, uniform, gaussian, mixture, banana, sphere, with or without
    /// parameters.
    pub name: String,
    /// Number of points.
    #[arg(short, long)]
    pub n: Option<usize>,
    /// Standard deviation of the noise.
    #[arg(long)]
    pub noise: Option<f64>,
    /// Number of columns, for uniform, gaussian, mixture, banana and sphere.
    #[arg(short, long)]
    pub d: Option<usize>,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The .npy file to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

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

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One kind only: kernels, networks, objectives, optimizers, schedules, methods, data,
    /// contenders.
    pub kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}
