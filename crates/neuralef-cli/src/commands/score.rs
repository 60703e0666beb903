//! `neuralef score`: gradients of the log density of samples, at points that are streamed.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use neuralef::data::{Density, NpyWriter};
use neuralef::score::{SpectralStein, SteinOptions};
use neuralef::{Dataset, KernelSpec, Model};
use serde_json::{Value, json};

use super::{expect_columns, expect_width};
use crate::args::ScoreArgs;
use crate::output::{distinct, file, say, writable};
use crate::report::table;

/// Points at a time: with thousands of samples, some hundred megabytes at most.
const ROWS: usize = 4096;
/// Kernel of the non-parametric estimator unless one is given.
const KERNEL: &str = "rbf(lengthscale=median)";

pub(crate) fn run(args: &ScoreArgs, json: bool) -> Result<()> {
    let (output, save) = (args.output.as_deref(), args.save.as_deref());
    let read = [args.model.as_deref(), args.estimator.as_deref()];
    let data = [args.data.as_deref().map(file), args.query.as_deref().map(file)];
    distinct(&[("--output", output), ("--save", save)], read.into_iter().chain(data).flatten())?;
    [output, save].into_iter().flatten().try_for_each(writable)?;
    let samples = args.data.as_ref().map(|d| Dataset::open(d, args.seed)).transpose()?;
    let began = Instant::now();
    let estimator = match (&args.estimator, &samples) {
        (Some(path), _) => SpectralStein::load(path)?,
        (None, Some(samples)) => fit(args, samples)?,
        (None, None) => anyhow::bail!("DATA or --estimator is needed"),
    };
    let fit_seconds = args.estimator.is_none().then(|| began.elapsed().as_secs_f64());
    // Another seed: with the same one a synthetic set would be the samples again.
    let query = args.query.as_ref().map(|q| Dataset::open(q, args.seed.wrapping_add(1)));
    let points = query.transpose()?.or(samples);
    let asked = args.query.is_some() || output.is_some();
    let query = match points.filter(|_| asked) {
        Some(points) => Some(evaluate(args, &estimator, &points)?),
        None => None,
    };
    if let Some(path) = save {
        estimator.save(path)?;
    }
    let record = estimator.record();
    let found = json!({
        "data": record.data, "n_samples": record.points, "n_features": estimator.dimensions(),
        "parametric": estimator.is_parametric(), "kernel": estimator.kernel(),
        "n_components": record.components, "terms": record.terms,
        "losses": record.losses, "fit_seconds": fit_seconds, "query": query,
        "output": output.map(Path::to_string_lossy), "saved": save.map(Path::to_string_lossy),
    });
    if json { say(found) } else { say(text(&found)) }
}

fn fit(args: &ScoreArgs, samples: &Dataset) -> Result<SpectralStein> {
    let options = SteinOptions {
        terms: args.terms.unwrap_or(neuralef::score::Terms::Auto),
        components: args.n_components.unwrap_or(SteinOptions::default().components),
        seed: args.seed,
    };
    if let Some(path) = &args.model {
        let model = Arc::new(Model::load(path)?);
        expect_width(&model, samples)?;
        return Ok(SpectralStein::parametric(model, samples, &options)?);
    }
    let kernel = KernelSpec::parse(args.kernel.as_deref().unwrap_or(KERNEL))?;
    let x = samples.range(0..samples.len())?;
    let kernel = kernel.resolve(Some(x.view()), args.seed)?;
    drop(x);
    Ok(SpectralStein::nonparametric(kernel, samples, &options)?)
}

/// Scores at `points`, written where that is asked for, with their error where the density of the
/// samples is known.
fn evaluate(args: &ScoreArgs, estimator: &SpectralStein, points: &Dataset) -> Result<Value> {
    let (n, d) = (points.len(), estimator.dimensions());
    expect_columns(points, d)?;
    let density = Density::of(&estimator.record().data);
    let mut writer = match &args.output {
        Some(path) => Some(NpyWriter::create(path, d)?),
        None => None,
    };
    let (mut computing, mut errors, mut sizes) = (0.0, 0.0, 0.0);
    for start in (0..n).step_by(ROWS) {
        let x = points.range(start..(start + ROWS).min(n))?;
        let began = Instant::now();
        let score = estimator.score(x.view())?;
        computing += began.elapsed().as_secs_f64();
        if let Some(density) = &density {
            let truth = density.score(x.view())?;
            errors += score.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            sizes += truth.iter().map(|v| v * v).sum::<f64>();
        }
        if let Some(writer) = &mut writer {
            writer.append(score.mapv(|v| v as f32).view())?;
        }
    }
    if let Some(writer) = writer {
        writer.finish().context("scores")?;
    }
    let error = density.is_some().then(|| (errors / sizes).sqrt());
    let loss = args.loss.then(|| estimator.hyvarinen_loss(points)).transpose()?;
    Ok(json!({
        "data": points.name(), "points": n, "seconds": computing,
        "points_per_second": n as f64 / computing, "relative_error": error,
        "hyvarinen_loss": loss,
    }))
}

fn text(found: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("unknown").to_string();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let kind = match found["parametric"].as_bool() {
        Some(true) => "eigenfunctions of a model",
        _ => "Nyström eigenfunctions of all samples",
    };
    let mut lines = vec![
        format!(
            "samples      {} × {} of {}",
            found["n_samples"],
            found["n_features"],
            word(&found["data"])
        ),
        format!("kernel       {}, {kind}", word(&found["kernel"])),
        format!("terms        {} of {}", found["terms"], found["n_components"]),
    ];
    if let Some(seconds) = found["fit_seconds"].as_f64() {
        lines.push(format!("fit          {seconds:.3} s"));
    }
    let query = &found["query"];
    if query.is_object() {
        let cell = |value: &Value| value.as_f64().map_or_else(|| "–".into(), |v| format!("{v:.4}"));
        let header = ["query", "points", "points/s", "relative error", "Hyvärinen loss"];
        let row = vec![
            word(&query["data"]),
            query["points"].to_string(),
            format!("{:.0}", number(&query["points_per_second"])),
            cell(&query["relative_error"]),
            cell(&query["hyvarinen_loss"]),
        ];
        lines.push(table(&header, [row]).to_string());
    }
    for (key, what) in [("output", "scores"), ("saved", "estimator")] {
        if found[key].is_string() {
            lines.push(format!("{what:<12} {}", word(&found[key])));
        }
    }
    lines.join("\n")
}
