//! `neuralef fit`: learns, certifies, saves and draws.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use neuralef::fit::Checkpoint;
use neuralef::method::Timings;
use neuralef::operator::OperatorSpec;
use neuralef::{Dataset, Fit, FitSpec, Model};
use serde_json::json;

use crate::args::{CertificateKind, FitArgs, FitSettings};
use crate::commands::plot;
use crate::interrupt::Interrupt;
use crate::output::{distinct, drawable, file, say, writable};
use crate::progress::Display;
use crate::report;

/// Data when none are named.
const DATA: &str = "digits";
/// Kernel when none is named.
const KERNEL: &str = "rbf(lengthscale=median)";

pub(crate) fn run(args: &FitArgs, json: bool) -> Result<()> {
    // Refuse an output that cannot be written before the work, not after it.
    writable(&args.output)?;
    let mut figure = figure_path(args);
    if let Some(path) = &figure {
        drawable(path)?;
    }
    // Without a path of its own a checkpoint is written only when the run is interrupted.
    let asked = args.checkpoint.as_ref().or(args.resume.as_ref());
    let checkpoint = asked.cloned().unwrap_or_else(|| args.output.with_extension("ckpt"));
    let every = if asked.is_some() { args.checkpoint_every } else { 0 };
    writable(&checkpoint)?;
    let (location, validation, mut fit) = match &args.resume {
        Some(path) => {
            let checkpoint = Checkpoint::read(path)?;
            let header = &checkpoint.header;
            let validation = header.validation.as_ref().map(|v| v.0.clone());
            (header.data.clone(), validation, Fit::resume(checkpoint))
        }
        None => {
            let settings = &args.settings;
            let location = settings.data.as_deref().unwrap_or(DATA);
            (location.to_string(), settings.validation.clone(), Fit::new(spec(settings)?))
        }
    };
    let spec = fit.spec();
    let points = [Some(&location), validation.as_ref()].into_iter().flatten().map(|l| file(l));
    let matrix = spec.operator.as_ref().and_then(OperatorSpec::file);
    let files = [matrix, args.settings.config.as_deref()].into_iter().flatten();
    distinct(
        &[
            ("--output", Some(args.output.as_path())),
            ("--plot", figure.as_deref()),
            ("the checkpoint", Some(&checkpoint)),
        ],
        points.chain(files),
    )?;
    let seed = fit.spec().seed;
    let data = Dataset::open(&location, seed)?;
    if let Some(location) = validation {
        // Another seed: with the same one a synthetic set would be the training points again.
        fit = fit.validation(Dataset::open(&location, seed.wrapping_add(1))?);
    }
    let mut display = Display::new(args.progress, Interrupt::install()?);
    fit = fit.observer(&mut display);
    fit = fit.checkpoint(&checkpoint, every);
    let fitted = fit.run(&data);
    display.finish();
    let (model, timings) = fitted?;
    model.save(&args.output)?;
    if !model.has_eigenpairs() {
        // Nothing to draw: a figure that was asked for is an error, the usual one is left out.
        if args.plot.is_some() && figure.is_some() {
            plot::drawable(&model)?;
        }
        figure = None;
    }
    if let Some(path) = &figure {
        plot::draw(&model, Some(&data), path)?;
    }
    if json {
        print_json(args, figure.as_deref(), &model, &timings)
    } else {
        print_text(args, figure.as_deref(), &model, &timings)
    }
}

/// The spec: defaults, then the config file, then options.
fn spec(args: &FitSettings) -> Result<FitSpec> {
    let mut spec = match &args.config {
        Some(path) => read_config(path)?,
        None => FitSpec::default(),
    };
    let kernel = args.kernel.as_deref().map(str::parse).transpose()?;
    let named = OperatorSpec::one_of(kernel, args.gram.clone(), args.features.clone())?;
    if let Some(operator) = named.or_else(|| spec.operator.take()) {
        spec.operator = Some(operator);
    } else {
        spec.operator = Some(KERNEL.parse()?);
    }
    set(&mut spec.outputs, args.outputs);
    set(&mut spec.output_form, args.output_form);
    set(&mut spec.n_components, args.n_components);
    set(&mut spec.method, args.method.as_deref().map(str::parse).transpose()?);
    if args.best {
        spec.method = "best".into();
    }
    set(&mut spec.certificate, args.certificate.map(|c| c == CertificateKind::HeldOut));
    set(&mut spec.network, args.network.as_deref().map(str::parse).transpose()?);
    set(&mut spec.objective, args.objective.as_deref().map(str::parse).transpose()?);
    set(&mut spec.optimizer, args.optimizer.as_deref().map(str::parse).transpose()?);
    if let Some(lr) = args.lr {
        spec.optimizer = spec.optimizer.with_lr(lr)?;
    }
    set(&mut spec.schedule, args.schedule.as_deref().map(str::parse).transpose()?);
    set(&mut spec.steps, args.steps);
    set(&mut spec.max_steps, args.max_steps);
    set(&mut spec.tolerance, args.tolerance);
    set(&mut spec.batch_size, args.batch_size);
    set(&mut spec.clip_norm, args.clip_norm);
    set(&mut spec.readout, args.readout);
    set(&mut spec.readout_points, args.readout_points);
    set(&mut spec.memory_budget, args.memory_budget);
    set(&mut spec.validation_fraction, args.validation_fraction);
    set(&mut spec.seed, args.seed);
    spec.standardize |= args.standardize;
    Ok(spec)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn read_config(path: &Path) -> Result<FitSpec> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let before = text.get(..e.span().map_or(0, |span| span.start)).unwrap_or_default();
        let number = 1 + before.matches('\n').count();
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        let message = e.message().replace('\n', " ");
        anyhow::anyhow!("{}: line {number}, `{line}`: {message}", path.display())
    })
}

/// Where the figure goes: as asked, nowhere for `none`, else beside the model.
fn figure_path(args: &FitArgs) -> Option<PathBuf> {
    match &args.plot {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path.clone()),
        None => Some(args.output.with_extension("svg")),
    }
}

fn print_json(
    args: &FitArgs,
    figure: Option<&Path>,
    model: &Model,
    timings: &Timings,
) -> Result<()> {
    let object = json!({
        "model": args.output.to_string_lossy(),
        "figure": figure.map(Path::to_string_lossy),
        "info": model.info(),
        "timings": timings,
    });
    say(object)
}

fn print_text(
    args: &FitArgs,
    figure: Option<&Path>,
    model: &Model,
    timings: &Timings,
) -> Result<()> {
    say(report::model(model.info()))?;
    if let Some(beside) = &model.info().record.beside {
        say(report::beside(beside, timings))?;
    }
    say(format_args!(
        "{:.2} s: training {:.2}, readout {:.2}, certificate {:.2}",
        timings.total_seconds,
        timings.training_seconds,
        timings.readout_seconds,
        timings.certificate_seconds
    ))?;
    say(format_args!("model  {}", args.output.display()))?;
    figure.map_or(Ok(()), |path| say(format_args!("figure {}", path.display())))
}
