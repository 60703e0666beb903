//! Arguments of `neuralef fit`.

use std::path::PathBuf;

use clap::Args;

use super::{Progress, ids};

/// Values of `--certificate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum CertificateKind {
    /// Residuals and errors on points that took no part.
    HeldOut,
    /// Nothing; `neuralef eval` measures later.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    pub settings: FitSettings,
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
    #[arg(long, value_name = "CKPT", conflicts_with_all = ids::<FitSettings>())]
    pub resume: Option<PathBuf>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

/// What a fit computes, data included: the part of the arguments that a checkpoint holds, so that none of
/// it goes with `--resume`.
#[derive(Debug, Args)]
pub(crate) struct FitSettings {
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
    /// How to approximate: `neuralef`, `nystrom`, `best` of the two, `kernel_pca`, `fourier`, `positive`;
    /// `neuralef list methods` shows all [default: neuralef].
    #[arg(long)]
    pub method: Option<String>,
    /// Shorthand for `--method best`: keeps what has the smaller held-out residual, networks or landmarks.
    #[arg(long, conflicts_with = "method")]
    pub best: bool,
    /// Eigenfunction networks, such as `mlp(hidden=[64, 64], activation=sin_cos)` [default: auto, by the
    /// number of eigenfunctions].
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
    /// `--steps auto` stops when a round (two, without landmarks to compare with) lowers the held-out
    /// residual by less than this share [default: 0.1].
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
    /// The most training points that a readout by all pairs of points streams; one through landmarks takes
    /// all [default: 16384].
    #[arg(long, value_name = "N")]
    pub readout_points: Option<usize>,
    /// Memory for the networks in training, and again for the readout's matrices, in MiB.
    #[arg(long, value_name = "MIB")]
    pub memory_budget: Option<u64>,
    /// Held-out points of their own, instead of a share of DATA. A synthetic set without a seed is
    /// drawn with the next seed after DATA's, so that the points are others.
    #[arg(long, value_name = "DATA", conflicts_with = "validation_fraction")]
    pub validation: Option<String>,
    /// Share of the points held out for choices and the certificate, 1,024 points at most [default: 0.1].
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    pub validation_fraction: Option<f64>,
    /// What measures the fit: `held_out` points, or `none` [default: held_out].
    #[arg(long, value_enum)]
    pub certificate: Option<CertificateKind>,
    /// Scales every feature to mean 0 and variance 1, as part of the model.
    #[arg(long)]
    pub standardize: bool,
    /// Seed of every random choice, of synthetic DATA too [default: 0].
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// A TOML file with any of these settings (underscores for dashes); options override it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
