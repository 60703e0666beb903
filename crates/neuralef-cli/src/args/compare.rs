//! Arguments of `neuralef compare`.

use std::path::PathBuf;

use clap::Args;

use super::Progress;

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
