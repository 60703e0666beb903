//! Raw arguments, as clap reads them: one file per command, those of the smallest ones here.

use std::path::PathBuf;

use clap::{Args, Id, Parser, Subcommand, ValueEnum, value_parser};

mod compare;
mod fit;
mod laplace;
mod model;
mod probe;
mod sample;
mod score;
#[cfg(test)]
mod tests;
mod trajectory;

pub(crate) use compare::CompareArgs;
pub(crate) use fit::{CertificateKind, FitArgs, FitSettings};
pub(crate) use laplace::{InputArgs, LaplaceArgs, PredictArgs, TuneCriterion};
pub(crate) use model::{EvalArgs, InspectArgs, PlotArgs, TransformArgs};
pub(crate) use probe::{ProbeArgs, ProbeTask};
pub(crate) use sample::{SampleCommand, SampleNngpArgs, SampleNtkArgs, SamplingArgs};
pub(crate) use score::ScoreArgs;
pub(crate) use trajectory::{TrainingArgs, TrajectoryArgs};

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

/// The arguments of `T`, for options that conflict with every one of them.
fn ids<T: Args>() -> Vec<Id> {
    let command = T::augment_args(clap::Command::new(""));
    command.get_arguments().map(|argument| argument.get_id().clone()).collect()
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
