//! `neuralef synth`: writes a synthetic data set.

use anyhow::Result;
use neuralef::{Dataset, NpyWriter};
use serde_json::json;

use crate::args::SynthArgs;

pub(crate) fn run(args: &SynthArgs, json: bool) -> Result<()> {
    let data = Dataset::open(&text(args), args.seed)?;
    let mut writer = NpyWriter::create(&args.output, data.width())?;
    writer.append(data.range(0..data.len())?.view())?;
    writer.finish()?;
    let (n, d) = (data.len(), data.width());
    if json {
        println!("{}", json!({"output": args.output, "n_samples": n, "n_features": d}));
    } else {
        println!("{n} × {d} points of {} in {}", data.name(), args.output.display());
    }
    Ok(())
}

/// `two_moons` with `-n 100` becomes `two_moons(n=100)`.
fn text(args: &SynthArgs) -> String {
    let mut parameters: Vec<String> = Vec::new();
    parameters.extend(args.n.map(|n| format!("n={n}")));
    parameters.extend(args.d.map(|d| format!("d={d}")));
    parameters.extend(args.noise.map(|v| format!("noise={v}")));
    if parameters.is_empty() {
        return args.name.clone();
    }
    let added = parameters.join(", ");
    match args.name.strip_suffix(')') {
        Some(open) if open.ends_with('(') => format!("{open}{added})"),
        Some(open) => format!("{open}, {added})"),
        None => format!("{}({added})", args.name),
    }
}
