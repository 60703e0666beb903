//! `neuralef transform`: streams points through a model into a .npy file.

use std::time::Instant;

use anyhow::Result;
use neuralef::{Dataset, Mat, Model, NpyWriter};
use serde_json::json;

use super::expect_width;
use crate::args::TransformArgs;
use crate::output::{distinct, file, say};

/// Rows in memory at a time.
const ROWS: usize = 16_384;

pub(crate) fn run(args: &TransformArgs, json: bool) -> Result<()> {
    distinct(
        &[("--output", Some(&args.output))],
        [args.model.as_path(), file(&args.data)].into_iter(),
    )?;
    let model = Model::load(&args.model)?;
    if args.eigenfunctions && !model.has_eigenpairs() {
        // Before the output is made.
        let (d, none) = (model.info().n_features, 0);
        model.eigenfunctions(Mat::zeros((none, d)).view())?;
    }
    let data = Dataset::open(&args.data, 0)?;
    expect_width(&model, &data)?;
    let started = Instant::now();
    let mut writer = NpyWriter::create(&args.output, model.n_components())?;
    for start in (0..data.len()).step_by(ROWS) {
        let x = data.range(start..(start + ROWS).min(data.len()))?;
        if args.eigenfunctions {
            writer.append(model.eigenfunctions(x.view())?.mapv(|v| v as f32).view())?;
        } else {
            writer.append(model.transform(x.view())?.view())?;
        }
    }
    writer.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let (n, k) = (data.len(), model.n_components());
    if json {
        let rate = n as f64 / seconds;
        say(json!({"output": args.output.to_string_lossy(), "n_samples": n, "n_components": k,
                   "seconds": seconds, "rows_per_second": rate}))
    } else {
        let rate = n as f64 / seconds;
        say(format_args!("{n} × {k} in {} ({rate:.0} rows/s)", args.output.display()))
    }
}
