//! `neuralef completions`: shell completion scripts.

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArgs};

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    clap_complete::generate(args.shell, &mut command, "neuralef", &mut std::io::stdout());
    Ok(())
}
