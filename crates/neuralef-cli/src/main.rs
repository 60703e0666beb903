//! The `neuralef` command line: raw arguments → resolved arguments → work, one file per command.

mod args;
mod commands;
mod interrupt;
mod output;
mod progress;
mod report;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use peak_alloc::PeakAlloc;

use args::{Arguments, Command};

/// The allocator: the system's, counting what is taken, for `compare` and
/// `sample` to tell the peak.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

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
            if arguments.json && !error.is::<output::Stopped>() {
                let _ = output::say(serde_json::json!({"error": output::message(&error)}));
            }
            // With standard error closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "neuralef: {}", output::message(&error));
            let interrupted = matches!(
                error.downcast_ref::<neuralef::Error>(),
                Some(
                    neuralef::Error::Interrupted { .. }
                        | neuralef::Error::SamplingInterrupted { .. }
                )
            ) || error.is::<output::Stopped>();
            ExitCode::from(if interrupted { exit::INTERRUPTED } else { exit::FAILURE })
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(threads) = arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().with_context(|| format!("--threads {threads}"))?;
    }
    match &arguments.command {
        Command::Fit(args) => commands::fit::run(args, arguments.json),
        Command::Transform(args) => commands::transform::run(args, arguments.json),
        Command::Eval(args) => commands::eval::run(args, arguments.json),
        Command::Probe(args) => commands::probe::run(args, arguments.json),
        Command::Laplace(args) => commands::laplace::run(args, arguments.json),
        Command::Predict(args) => commands::predict::run(args, arguments.json),
        Command::Score(args) => commands::score::run(args, arguments.json),
        Command::Compare(args) => commands::compare::run(args, arguments.json),
        Command::Inspect(args) => commands::inspect::run(args, arguments.json),
        Command::Plot(args) => commands::plot::run(args, arguments.json),
        Command::Synth(args) => commands::synth::run(args, arguments.json),
        Command::Sample(command) => commands::sample::run(command, arguments.json),
        Command::Trajectory(args) => commands::trajectory::run(args, arguments.json),
        Command::List(args) => commands::list::run(args, arguments.json),
        Command::Completions(args) => commands::completions::run(args),
    }
}
