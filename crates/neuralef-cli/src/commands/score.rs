//! `neuralef score`: gradients of the log density of samples, at points that are streamed.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use neuralef::data::{Density, NpyWriter};
use neuralef::score::{SpectralStein, SteinOptions};
use neuralef::{Dataset, KernelSpec, Model};
use serde::Serialize;

use super::{expect_columns, expect_width};
use crate::args::ScoreArgs;
use crate::output::{distinct, file, print, writable};
use crate::report::{Column, cells, number, table, titles};

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
    let report = ScoreReport {
        data: record.data.clone(),
        n_samples: record.points,
        n_features: estimator.dimensions(),
        parametric: estimator.is_parametric(),
        kernel: estimator.kernel(),
        n_components: record.components,
        terms: record.terms,
        losses: record.losses.clone(),
        fit_seconds,
        query,
        output: output.map(|path| path.to_string_lossy().into()),
        saved: save.map(|path| path.to_string_lossy().into()),
    };
    print(&report, json, text)
}

/// Everything that is reported.
#[derive(Serialize)]
struct ScoreReport {
    data: String,
    n_samples: usize,
    n_features: usize,
    parametric: bool,
    kernel: Option<String>,
    n_components: usize,
    terms: usize,
    losses: Vec<f64>,
    /// None for an estimator from a file.
    fit_seconds: Option<f64>,
    query: Option<QueryRow>,
    output: Option<String>,
    saved: Option<String>,
}

/// How good the estimate is at the points of a query, where that is known.
#[derive(Serialize)]
struct QueryRow {
    data: String,
    points: usize,
    seconds: f64,
    points_per_second: f64,
    relative_error: Option<f64>,
    hyvarinen_loss: Option<f64>,
}

const QUERY: &[Column<QueryRow>] = &[
    Column::new("query", |row| row.data.clone()),
    Column::new("points", |row| row.points.to_string()),
    Column::new("points/s", |row| format!("{:.0}", row.points_per_second)),
    Column::new("relative error", |row| number(row.relative_error, 4)),
    Column::new("Hyvärinen loss", |row| number(row.hyvarinen_loss, 4)),
];

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
fn evaluate(args: &ScoreArgs, estimator: &SpectralStein, points: &Dataset) -> Result<QueryRow> {
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
    Ok(QueryRow {
        data: points.name().to_string(),
        points: n,
        seconds: computing,
        points_per_second: n as f64 / computing,
        relative_error: error,
        hyvarinen_loss: loss,
    })
}

fn text(report: &ScoreReport) -> String {
    let kind = match report.parametric {
        true => "eigenfunctions of a model",
        false => "Nyström eigenfunctions of all samples",
    };
    let kernel = report.kernel.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        format!("samples      {} × {} of {}", report.n_samples, report.n_features, report.data),
        format!("kernel       {kernel}, {kind}"),
        format!("terms        {} of {}", report.terms, report.n_components),
    ];
    if let Some(seconds) = report.fit_seconds {
        lines.push(format!("fit          {seconds:.3} s"));
    }
    if let Some(row) = &report.query {
        let header: Vec<&str> = titles(QUERY).collect();
        lines.push(table(&header, [cells(QUERY, Some(row)).collect()]).to_string());
    }
    for (path, what) in [(&report.output, "scores"), (&report.saved, "estimator")] {
        lines.extend(path.as_ref().map(|path| format!("{what:<12} {path}")));
    }
    lines.join("\n")
}
