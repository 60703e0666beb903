//! Arguments of `neuralef score`.

use std::path::PathBuf;

use clap::Args;

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
