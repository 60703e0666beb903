//! Standard output, written so that a reader who went away is no failure.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use anyhow::{Context, Result};

/// Prints a line. A closed pipe, as `neuralef list | head` leaves it, is silently accepted; any
/// other refusal, such as a full disk, is an error.
pub(crate) fn say(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

/// The error and its causes in one line, without those that the text before them already quotes.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
