//! `neuralef list`: every name that can be written in a spec, with its parameters.

use anyhow::Result;
use neuralef::{Error, catalogue};
use serde_json::json;

use crate::args::ListArgs;

pub(crate) fn run(args: &ListArgs, json: bool) -> Result<()> {
    let sections = catalogue();
    let kinds: Vec<&str> = sections.iter().map(|s| s.kind).collect();
    if let Some(kind) = &args.kind {
        if !kinds.contains(&kind.as_str()) {
            return Err(Error::unknown("list", kind, &kinds).into());
        }
    }
    let shown = sections.iter().filter(|s| args.kind.as_deref().is_none_or(|k| k == s.kind));
    if json {
        let object: serde_json::Map<String, serde_json::Value> =
            shown.map(|s| (s.kind.to_string(), json!(s.entries))).collect();
        println!("{}", serde_json::Value::Object(object));
        return Ok(());
    }
    for section in shown {
        println!("{}:", section.kind);
        for entry in &section.entries {
            println!("  {:<20} {}", entry.name, entry.summary);
            for p in &entry.parameters {
                println!("      {:<14} {} [default: {}]", p.name, p.help, p.default);
            }
        }
        println!();
    }
    Ok(())
}
