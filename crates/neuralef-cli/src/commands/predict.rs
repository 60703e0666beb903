//! `neuralef predict`: streams points through a posterior into .npy files.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use neuralef::bayes::{Laplace, Likelihood};
use neuralef::data::NpyWriter;
use neuralef::{Dataset, Error};
use serde_json::json;

use super::expect_columns;
use super::laplace::rows_at_a_time;
use crate::args::PredictArgs;
use crate::interrupt::Interrupt;
use crate::output::{distinct, file, say};

pub(crate) fn run(args: &PredictArgs, json: bool) -> Result<()> {
    let written =
        [("--output", Some(args.output.as_path())), ("--variances", args.variances.as_deref())];
    distinct(&written, [args.posterior.as_path(), file(&args.data)].into_iter())?;
    let posterior = Laplace::load(&args.posterior)?;
    let data = Dataset::open(&args.data, args.seed)?;
    let c = posterior.info().outputs;
    expect_columns(&data, posterior.info().n_features)?;
    let started = Instant::now();
    let mut means = NpyWriter::create(&args.output, c)?;
    let mut variances = args.variances.as_ref().map(|p| NpyWriter::create(p, c)).transpose()?;
    let rows = rows_at_a_time(c, 1);
    let classes = posterior.info().likelihood == Likelihood::Classification;
    ensure!(classes || args.predictive.is_none(), "--predictive is of no use for a regression");
    let predictive = args.predictive.unwrap_or_default();
    let interrupt = Interrupt::install()?;
    for start in (0..data.len()).step_by(rows) {
        if interrupt.raised() {
            return Err(Error::Interrupted { step: 0, checkpoint: None }.into());
        }
        let x = data.range(start..(start + rows).min(data.len()))?;
        let outputs = posterior.outputs(x.view()).with_context(|| data.name().to_string())?;
        let values = match classes {
            true => outputs.probabilities(predictive, args.seed)?,
            false => outputs.mean.clone(),
        };
        means.append(values.mapv(|v| v as f32).view())?;
        if let Some(writer) = &mut variances {
            writer.append(outputs.variances().mapv(|v| v as f32).view())?;
        }
    }
    means.finish()?;
    if let Some(writer) = variances {
        writer.finish()?;
    }
    let (n, seconds) = (data.len(), started.elapsed().as_secs_f64());
    let rate = n as f64 / seconds;
    if json {
        let variances = args.variances.as_ref().map(|p| p.to_string_lossy());
        return say(json!({
            "output": args.output.to_string_lossy(), "variances": variances, "n_samples": n,
            "n_outputs": c, "seconds": seconds, "rows_per_second": rate,
            "noise_variance": posterior.noise_variance(),
        }));
    }
    say(format_args!("{n} × {c} in {} ({rate:.0} points/s)", args.output.display()))
}
