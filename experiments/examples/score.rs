//! Scores ∇log q from samples by the spectral Stein gradient estimator, with eigenfunctions of a fitted
//! model (parametric) and by the Nyström method (non-parametric): the error where the score is known,
//! against the number of samples and the dimension, and the time of a query.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example score -- [--small] [--out DIR]
//!     [--part samples|dimension|query] [--kernel K] [--network N] [--components k]
//!     [--steps auto|S] [--seeds M]
//! ```
//!
//! Both see the same N samples and the same kernel, choose their number of terms on held-out parts
//! (`terms = auto`), and are measured on 10,000 other points: (E‖s − ∇log q‖²/E‖∇log q‖²)^½, mean and
//! standard deviation over draws of the samples.

use std::sync::Arc;
use std::time::Instant;

use neuralef::data::Density;
use neuralef::score::{SpectralStein, SteinOptions, relative_error};
use neuralef::{Dataset, Error, FitSpec, KernelSpec, Mat, Mat64, Model, Result, fit};
use neuralef_experiments::{Args, Scale, Table};

/// Points that errors are measured on.
const TEST: usize = 10_000;
/// Points of a timed query, and how often it is repeated.
const QUERY: (usize, usize) = (2_000, 25);

const ERRORS: [&str; 9] = [
    "<density",
    "d",
    "N",
    "non-parametric error",
    "terms",
    "fit s",
    "parametric error",
    "terms",
    "fit s",
];
const TIMES: [&str; 3] = ["N", "non-parametric, µs a point", "parametric, µs a point"];

struct Setting {
    kernel: String,
    spec: FitSpec,
    seeds: u64,
}

/// What one draw of the samples gives: an estimate, how long it took to fit, how large its error is.
struct Outcome {
    estimator: SpectralStein,
    seconds: f64,
    error: f64,
}

fn main() -> Result<()> {
    let args = Args::read(&["part", "kernel", "network", "components", "steps", "seeds"])?;
    let small = args.scale() == Scale::Small;
    let kernel = args.text("kernel").unwrap_or("rbf(lengthscale=median)").to_string();
    let mut spec = FitSpec::new(&kernel, args.value("components", 40)?)?;
    spec.network = args.value("network", "mlp(hidden=[32], activation=sin_cos)".parse()?)?;
    spec.steps = args.value("steps", spec.steps)?;
    let seeds = args.value("seeds", if small { 1 } else { 3 })?;
    let setting = Setting { kernel, spec, seeds };

    let parts = ["samples", "dimension", "query"];
    let wanted = args.text("part");
    if let Some(other) = wanted.filter(|part| !parts.contains(part)) {
        return Err(Error::parameter("part", parts.join(", "), other));
    }
    for part in parts.into_iter().filter(|part| wanted.is_none_or(|wanted| wanted == *part)) {
        let name = format!("score-{part}");
        match part {
            "query" => setting.queries(&Table::new(&name, &TIMES, args.out()?), small)?,
            "dimension" => {
                let table = Table::new(&name, &ERRORS, args.out()?);
                let dimensions: &[usize] = if small { &[2, 8] } else { &[2, 4, 8, 16, 32] };
                for density in ["gaussian", "mixture", "banana"] {
                    for d in dimensions {
                        setting.row(&table, &format!("{density}(d={d}"), 2000)?;
                    }
                }
            }
            _ => {
                let table = Table::new(&name, &ERRORS, args.out()?);
                let all = [125, 250, 500, 1000, 2000, 4000];
                let counts: &[usize] = if small { &[500, 2000] } else { &all };
                for density in ["gaussian(d=2", "mixture(d=2", "banana(d=2"] {
                    for n in counts {
                        setting.row(&table, density, *n)?;
                    }
                }
            }
        }
    }
    Ok(())
}

impl Setting {
    fn row(&self, table: &Table, density: &str, n: usize) -> Result<()> {
        let test = points(density, TEST, 1 << 40)?;
        let mut found: [Vec<Outcome>; 2] = Default::default();
        for seed in 0..self.seeds {
            let data = Dataset::open(&format!("{density}, n={n})"), seed)?;
            let outcomes = self.both(&data, &test)?;
            found.iter_mut().zip(outcomes).for_each(|(all, one)| all.push(one));
        }
        let name = density.split('(').next().unwrap_or(density).to_string();
        let mut cells = vec![name, test.ncols().to_string(), n.to_string()];
        for outcomes in &found {
            let errors: Vec<f64> = outcomes.iter().map(|o| o.error).collect();
            let (mean, deviation) = moments(&errors);
            cells.push(format!("{mean:.4} ± {deviation:.4}"));
            let terms: Vec<f64> = outcomes.iter().map(|o| o.estimator.terms() as f64).collect();
            cells.push(format!("{:.0}", moments(&terms).0));
            let seconds: Vec<f64> = outcomes.iter().map(|o| o.seconds).collect();
            cells.push(format!("{:.2}", moments(&seconds).0));
        }
        table.row(cells)
    }

    /// The time of a query against N.
    fn queries(&self, table: &Table, small: bool) -> Result<()> {
        let counts: &[usize] = if small { &[500, 2000] } else { &[500, 1000, 2000, 4000, 8000] };
        let query = points("banana(d=2", QUERY.0, 1)?;
        for n in counts {
            let data = Dataset::open(&format!("banana(n={n})"), 0)?;
            let [a, b] = self.both(&data, &query)?;
            let [a, b] = [time(&a.estimator, &query)?, time(&b.estimator, &query)?];
            table.row([n.to_string(), format!("{a:.2}"), format!("{b:.2}")])?;
        }
        Ok(())
    }

    /// The non-parametric estimate and the parametric one.
    fn both(&self, data: &Dataset, test: &Mat) -> Result<[Outcome; 2]> {
        let x = data.range(0..data.len())?;
        let kernel = KernelSpec::parse(&self.kernel)?.resolve(Some(x.view()), 0)?;
        let options =
            SteinOptions { components: self.spec.n_components, ..SteinOptions::default() };
        let one =
            outcome(data, test, || SpectralStein::nonparametric(kernel.clone(), data, &options))?;
        let other = outcome(data, test, || {
            let spec = FitSpec { operator: Some(kernel.text().parse()?), ..self.spec.clone() };
            let model: Arc<Model> = fit(data, &spec)?.into();
            SpectralStein::parametric(model, data, &options)
        })?;
        Ok([one, other])
    }
}

fn outcome(
    data: &Dataset,
    test: &Mat,
    fit: impl FnOnce() -> Result<SpectralStein>,
) -> Result<Outcome> {
    let began = Instant::now();
    let estimator = fit()?;
    let seconds = began.elapsed().as_secs_f64();
    let truth: Mat64 = match Density::of(data.name()) {
        Some(density) => density.score(test.view())?,
        None => Mat64::zeros((0, 0)),
    };
    let error = relative_error(estimator.score(test.view())?.view(), truth.view())?;
    Ok(Outcome { estimator, seconds, error })
}

/// `n` points of a density, drawn with `seed`.
fn points(density: &str, n: usize, seed: u64) -> Result<Mat> {
    Dataset::open(&format!("{density}, n={n})"), seed)?.range(0..n)
}

/// Microseconds a point of a query, the least of several.
fn time(estimator: &SpectralStein, query: &Mat) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..QUERY.1 {
        let began = Instant::now();
        estimator.score(query.view())?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(1e6 * least / query.nrows() as f64)
}

fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}
