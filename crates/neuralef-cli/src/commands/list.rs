//! `neuralef list`: every name that can be written in a spec, with its parameters.

use anyhow::Result;
use neuralef::Error;
use neuralef::spec::catalogue;
use serde_json::json;

use crate::args::ListArgs;
use crate::output::say;

pub(crate) fn run(args: &ListArgs, json: bool) -> Result<()> {
    let sections = catalogue();
    let kinds: Vec<&str> = sections.iter().map(|s| s.kind).collect();
    if let Some(kind) = args.kind.as_deref().filter(|kind| !kinds.contains(kind)) {
        return Err(Error::unknown("list", kind, &kinds).into());
    }
    let shown = sections.iter().filter(|s| args.kind.as_deref().is_none_or(|k| k == s.kind));
    if json {
        let object: serde_json::Map<String, serde_json::Value> =
            shown.map(|s| (s.kind.to_string(), json!(s.entries))).collect();
        return say(serde_json::Value::Object(object));
    }
    for section in shown {
        say(format_args!("{}:", section.kind))?;
        for entry in &section.entries {
            say(format_args!("  {:<20} {}", entry.name, entry.summary))?;
            for p in entry.parameters {
                say(format_args!(
                    "      {:<14} {} [default: {}]",
                    p.name,
                    p.help,
                    p.shown_default()
                ))?;
            }
        }
        say("")?;
    }
    Ok(())
}
