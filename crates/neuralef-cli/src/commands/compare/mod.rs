//! `neuralef compare`: many methods on the same problem, measured alike, over seeds.

mod figure;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Result;
use neuralef::compare::{Comparison, MemoryMeter, Report, Subject, Target};
use neuralef::fit::Steps;
use neuralef::persist::AtomicFile;
use neuralef::{Dataset, FitSpec};

use crate::MEMORY;
use crate::args::CompareArgs;
use crate::interrupt::Interrupt;
use crate::output::{Stopped, distinct, drawable, file, say, writable};
use crate::progress::Display;

/// Contenders when none are named.
const CONTENDERS: &str = "kernel_pca,nystrom,neuralef,neuralef_raw,untrained";
/// The contenders of the preset `classic`.
const CLASSIC: &str = "kernel_pca,nystrom,neuralef,neuralef_raw,untrained,spin,spin_raw,spin_paper,\
                       nested_lora,nested_lora_raw,mu_eigengame,mu_eigengame_raw";
/// Its cases.
const CLASSIC_CASES: [&str; 2] = ["rbf-uniform", "polynomial"];
/// Networks where cases are compared: those of the paper's toy experiments.
const NETWORK: &str = "mlp(hidden=[32, 32], activation=sin_cos)";
/// Kernel for data when none is named.
const KERNEL: &str = "rbf(lengthscale=median)";

pub(crate) fn run(args: &CompareArgs, json: bool) -> Result<()> {
    let figure = figure_path(args);
    let functions = figure.as_deref().map(figure::functions_path);
    let outputs = [
        ("--plot", figure.as_deref()),
        ("the figure of the functions", functions.as_deref()),
        ("--csv", args.csv.as_deref()),
    ];
    distinct(&outputs, args.data.as_deref().map(file).into_iter())?;
    // Refuse an output that cannot be written before the work, not after it.
    figure.as_deref().map_or(Ok(()), drawable)?;
    args.csv.as_deref().map_or(Ok(()), writable)?;
    let comparison = comparison(args)?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let report = comparison.run(&mut display);
    display.finish();
    let report = report?;
    if let Some(path) = &args.csv {
        write_csv(path, &report)?;
    }
    let drawn = match &figure {
        Some(path) if !report.trials.is_empty() => figure::draw(&report, path),
        _ => Ok(()),
    };
    // Before a figure that cannot be drawn is reported: the work is not lost.
    if json {
        say(serde_json::to_string(&report)?)?;
    } else {
        say(table::text(&report, args.brief))?;
    }
    drawn?;
    let (done, planned) = (report.trials.len(), report.planned);
    if done < planned { Err(Stopped { done, planned }.into()) } else { Ok(()) }
}

/// Where the figure goes: as asked, nowhere for `none`, and for the preset `classic` to
/// compare.svg.
fn figure_path(args: &CompareArgs) -> Option<PathBuf> {
    match &args.plot {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path.clone()),
        None => args.preset.iter().any(|p| p == "classic").then(|| "compare.svg".into()),
    }
}

/// The program's allocator as a meter.
struct Meter;

impl MemoryMeter for Meter {
    fn reset(&self) -> u64 {
        MEMORY.reset_peak_usage();
        MEMORY.current_usage() as u64
    }

    fn peak(&self) -> u64 {
        MEMORY.peak_usage() as u64
    }
}

fn comparison(args: &CompareArgs) -> Result<Comparison<'static>> {
    let classic = args.preset.iter().any(|p| p == "classic");
    let expand = |name: &String| match name.as_str() {
        "classic" => CLASSIC_CASES.map(String::from).to_vec(),
        _ => vec![name.clone()],
    };
    let names: Vec<String> = args.preset.iter().flat_map(expand).collect();
    let mut base = FitSpec { seed: args.seed, steps: Steps::Exactly(2000), ..FitSpec::default() };
    let subject = match (names.is_empty(), &args.data) {
        (false, Some(data)) => {
            anyhow::bail!("{data}: DATA and --preset exclude each other: a preset has its own data")
        }
        (false, None) => {
            anyhow::ensure!(
                args.kernel.is_none() && args.n_components.is_none(),
                "--kernel and -k belong to DATA: a preset has its own"
            );
            base.network = NETWORK.parse()?;
            Subject::Cases { names, points: args.points.clone() }
        }
        (true, data) => {
            base.operator = Some(args.kernel.as_deref().unwrap_or(KERNEL).parse()?);
            base.n_components = args.n_components.unwrap_or(base.n_components);
            Subject::Data(Dataset::open(data.as_deref().unwrap_or("digits"), args.seed)?)
        }
    };
    if let Some(steps) = args.steps {
        base.steps = Steps::Exactly(steps);
    }
    if let Some(network) = &args.network {
        base.network = network.parse()?;
    }
    if let Some(optimizer) = &args.optimizer {
        base.optimizer = optimizer.parse()?;
    }
    if let Some(batch) = args.batch_size {
        base.batch_size = batch;
    }
    base.max_steps = args.max_steps;
    let named = args.methods.clone().unwrap_or_else(|| {
        let list = if classic { CLASSIC } else { CONTENDERS };
        list.split(',').map(String::from).collect()
    });
    let target = args.target.map(|cosine| Target { cosine, first: args.first });
    let seeds = args.seeds.unwrap_or(if classic { 5 } else { 1 });
    let (seconds, meter) = (args.seconds, Some(&Meter as &dyn MemoryMeter));
    Ok(Comparison { subject, contenders: named, base, seeds, seconds, target, meter })
}

/// One line for each eigenpair of each fit, written whole or not at all.
fn write_csv(path: &Path, report: &Report) -> Result<()> {
    let named = || path.display().to_string();
    let mut out = csv::Writer::from_writer(AtomicFile::create(path)?);
    out.write_record([
        "case",
        "n",
        "contender",
        "seed",
        "steps",
        "j",
        "eigenvalue",
        "cosine",
        "eigenvalue_error",
        "true_cosine",
        "true_eigenvalue_error",
        "gram_error",
        "training_seconds",
        "total_seconds",
        "rows_per_second",
        "peak_mib",
        "error",
    ])?;
    let maybe = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
    for t in &report.trials {
        let pairs = t.eigenvalues.len().max(t.truth.cosines.len()).max(1);
        for j in 0..pairs {
            out.write_record([
                t.case.clone(),
                t.n.to_string(),
                t.contender.clone(),
                t.seed.to_string(),
                t.steps.to_string(),
                (j + 1).to_string(),
                maybe(t.eigenvalues.get(j).copied()),
                maybe(t.sample.cosines.get(j).copied()),
                maybe(t.sample.eigenvalue_errors.get(j).copied()),
                maybe(t.truth.cosines.get(j).copied()),
                maybe(t.truth.eigenvalue_errors.get(j).copied()),
                maybe(t.gram_error),
                t.training_seconds.to_string(),
                t.total_seconds.to_string(),
                t.rows_per_second.to_string(),
                maybe(t.peak_mib),
                t.error.clone().unwrap_or_default(),
            ])?;
        }
    }
    let file = out.into_inner().map_err(|e| anyhow::anyhow!("{}: {e}", named()))?;
    Ok(file.commit()?)
}
