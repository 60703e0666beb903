//! `neuralef completions`: shell completion scripts.

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArgs};
use crate::output::say;

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "neuralef", &mut script);
    say(String::from_utf8_lossy(&script).trim_end())
}
