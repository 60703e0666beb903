//! The `neuralef` command line: raw arguments → resolved arguments → work, one file per command.

mod args;
mod commands;
mod figure;
mod interrupt;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// Exit codes, as `neuralef --help` documents them.
mod exit {
    /// Bad input, file errors, numerical failures.
    pub(crate) const FAILURE: u8 = 1;
    /// Interrupted; a checkpoint was written if a path for one was given.
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("neuralef: {error:#}");
            let interrupted = matches!(
                error.downcast_ref::<neuralef::Error>(),
                Some(neuralef::Error::Interrupted { .. })
            );
            ExitCode::from(if interrupted { exit::INTERRUPTED } else { exit::FAILURE })
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()?;
    }
    match &arguments.command {
        Command::Fit(args) => commands::fit::run(args, arguments.json),
        Command::Transform(args) => commands::transform::run(args, arguments.json),
        Command::Eval(args) => commands::eval::run(args, arguments.json),
        Command::Inspect(args) => commands::inspect::run(args, arguments.json),
        Command::Plot(args) => commands::plot::run(args, arguments.json),
        Command::Synth(args) => commands::synth::run(args, arguments.json),
        Command::List(args) => commands::list::run(args, arguments.json),
        Command::Completions(args) => commands::completions::run(args),
    }
}
