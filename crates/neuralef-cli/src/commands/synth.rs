//! `neuralef synth`: writes a synthetic data set.

use anyhow::Result;
use neuralef::data::{NpyWriter, synthesize};
use serde_json::json;

use crate::args::SynthArgs;
use crate::output::say;

pub(crate) fn run(args: &SynthArgs, json: bool) -> Result<()> {
    let data = synthesize(&text(args), args.seed)?;
    let mut writer = NpyWriter::create(&args.output, data.width())?;
    writer.append(data.range(0..data.len())?.view())?;
    writer.finish()?;
    let (n, d) = (data.len(), data.width());
    if json {
        let output = args.output.to_string_lossy();
        say(json!({"output": output, "n_samples": n, "n_features": d}))
    } else {
        say(format_args!("{n} × {d} points of {} in {}", data.name(), args.output.display()))
    }
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
