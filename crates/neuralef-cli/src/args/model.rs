//! Arguments of the commands for fitted models.

use std::path::PathBuf;

use clap::Args;

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
