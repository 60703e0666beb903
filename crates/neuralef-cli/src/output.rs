//! Standard output, written so that a reader who went away is no failure.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// A comparison that its user stopped; what it had found is written by then.
#[derive(Debug, thiserror::Error)]
#[error("interrupted after {done} of {planned} fits")]
pub(crate) struct Stopped {
    pub(crate) done: usize,
    pub(crate) planned: usize,
}

/// Prints a line. A closed pipe, as `neuralef list | head` leaves it, is silently accepted; any
/// other refusal, such as a full disk, is an error.
pub(crate) fn say(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

/// Prints a report: as one JSON object for programs, or as `text` for people.
pub(crate) fn print<T: Serialize>(
    report: &T,
    json: bool,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    // By way of a value, whose keys are sorted.
    if json { say(serde_json::to_value(report)?) } else { say(text(report)) }
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

/// The file that a location of data names: `x.npz` for `x.npz:key`.
pub(crate) fn file(location: &str) -> &Path {
    let archive = location.rsplit_once(".npz:").map(|(stem, _)| stem.len() + ".npz".len());
    Path::new(archive.map_or(location, |end| &location[..end]))
}

/// Fails when one of the files to write is another one of them, or one of those to be read.
pub(crate) fn distinct<'a>(
    outputs: &[(&str, Option<&Path>)],
    inputs: impl Iterator<Item = &'a Path>,
) -> Result<()> {
    let mut taken: Vec<PathBuf> = inputs.filter(|path| path.exists()).map(place).collect();
    for (option, output) in outputs.iter().filter_map(|(name, path)| Some((name, (*path)?))) {
        let place = place(output);
        let free = !taken.contains(&place);
        let named = output.display();
        ensure!(free, "{named}: {option} would replace another file of this run");
        taken.push(place);
    }
    Ok(())
}

/// Where a path leads, whether there is a file yet or not.
fn place(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = || Some(parent.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_path_buf())
}

/// Fails unless a file at `path` can be made, or replaced.
pub(crate) fn writable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = path.display();
    if let Ok(existing) = std::fs::metadata(path) {
        ensure!(!existing.is_dir(), "{named}: is a directory");
        ensure!(existing.is_file(), "{named}: exists and is not a regular file");
        ensure!(!existing.permissions().readonly(), "{named}: is read-only");
    }
    tempfile::tempfile_in(parent).map(drop).with_context(|| format!("{named}: cannot be written"))
}

/// Fails unless a figure at `path` can be made.
pub(crate) fn drawable(path: &Path) -> Result<()> {
    let named = path.display();
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let known = matches!(extension.as_deref(), Some("svg" | "png"));
    ensure!(known, "{named}: expected a figure name ending in .svg or .png");
    writable(path)
}
