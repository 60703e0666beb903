//! `neuralef transform`: streams points through a model into a .npy file.

use std::time::Instant;

use anyhow::Result;
use neuralef::data::NpyWriter;
use neuralef::{Dataset, Mat, Model};
use serde_json::json;

use super::expect_width;
use crate::args::TransformArgs;
use crate::output::{distinct, file, say};

/// Bytes of points and features in memory at a time, about: memory that is freed in such pieces is
/// used again, where larger ones go back to the system and have to be cleared anew.
const BYTES: usize = 4 << 20;
/// Rows at a time: enough for all threads, and no more than needed.
const ROWS: std::ops::RangeInclusive<usize> = 128..=16_384;

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
    let (started, mut computing) = (Instant::now(), 0.0);
    let mut writer = NpyWriter::create(&args.output, model.n_components())?;
    let numbers = data.width() + model.outputs() * model.n_components();
    let rows = BYTES / (4 * numbers).max(1);
    let rows = rows.clamp(*ROWS.start(), *ROWS.end());
    for start in (0..data.len()).step_by(rows) {
        let x = data.range(start..(start + rows).min(data.len()))?;
        let began = Instant::now();
        let values = match args.eigenfunctions {
            true => model.eigenfunctions(x.view())?.mapv(|v| v as f32),
            false => model.transform(x.view())?,
        };
        computing += began.elapsed().as_secs_f64();
        writer.append(values.view())?;
    }
    writer.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let (n, k, c) = (data.len(), model.n_components(), model.outputs());
    if json {
        let rate = n as f64 / seconds;
        say(json!({"output": args.output.to_string_lossy(), "n_samples": n, "n_outputs": c,
                   "n_components": k, "seconds": seconds, "computing_seconds": computing, "rows_per_second": rate}))
    } else {
        let rate = n as f64 / seconds;
        let rows = if c > 1 { format!("{n}·{c}") } else { n.to_string() };
        say(format_args!("{rows} × {k} in {} ({rate:.0} points/s)", args.output.display()))
    }
}
