//! A directory of its own for every test, commands run in it, and what they print and leave there.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use ndarray::Array2;
use ndarray_npy::{read_npy, write_npy};
use neuralef::persist::Archive;
use serde_json::Value;

/// Options of a fit that takes a fraction of a second.
pub(crate) const TINY: &str =
    "-k 3 --steps 20 --network mlp(hidden=[8],activation=tanh) --plot none";

/// Longest time that any command of these tests may take.
const LIMIT: Duration = Duration::from_secs(120);

/// An empty directory, removed in the end.
pub(crate) struct Folder(tempfile::TempDir);

/// A finished command; messages of failing assertions show all of it.
#[derive(Debug)]
pub(crate) struct Ran {
    #[expect(dead_code, reason = "shown by Debug")]
    command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Names of the files, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn text(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn npy(&self, name: &str, x: &Array2<f32>) {
        write_npy(self.path(name), x).unwrap();
    }

    pub(crate) fn array(&self, name: &str) -> Array2<f32> {
        read_npy(self.path(name)).unwrap()
    }

    pub(crate) fn archive(&self, name: &str) -> Archive {
        Archive::read(self.path(name)).unwrap()
    }

    /// The program with the words of `line` as its arguments, in this directory.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("neuralef"));
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command
    }

    /// Runs `line` to its end, whatever that is; a panic or a hang fails the test.
    pub(crate) fn run(&self, line: &str) -> Ran {
        let mut command = assert_cmd::Command::from_std(self.command(line));
        let ran = Ran::new(line, command.timeout(LIMIT).output().unwrap());
        assert!(ran.code.is_some(), "{ran:?}: ended by a signal");
        ran
    }

    /// Runs `line`, which must succeed.
    pub(crate) fn ok(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    }

    /// Runs `line`, which must succeed and print one JSON object and nothing else.
    pub(crate) fn json(&self, line: &str) -> Value {
        let ran = self.ok(&format!("{line} --json"));
        assert_eq!(ran.stderr, "", "{ran:?}");
        let (object, rest) = ran.stdout.split_once('\n').unwrap();
        assert_eq!(rest, "", "{ran:?}");
        let value: Value = serde_json::from_str(object).unwrap();
        assert!(value.is_object(), "{ran:?}");
        value
    }

    /// Runs `line`, which must be refused: exit code 1, one line on standard error that names
    /// every one of `parts`, nothing on standard output, no file made or changed.
    pub(crate) fn refused(&self, line: &str, parts: &[&str]) -> Ran {
        let ran = self.fails(line, 1, parts);
        assert!(ran.stderr.starts_with("neuralef: ") && ran.stderr.lines().count() == 1, "{ran:?}");
        ran
    }

    /// As [`refused`](Folder::refused), for faults in a text form: the text and a caret under
    /// `column` (from 1) follow the line.
    pub(crate) fn caret(&self, line: &str, column: usize, parts: &[&str]) {
        let ran = self.fails(line, 1, parts);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{ran:?}");
        assert_eq!(lines[2], format!("  {:>column$}", "^"), "{ran:?}");
    }

    /// As [`refused`](Folder::refused), for what the parser of arguments finds: exit code 2.
    pub(crate) fn misused(&self, line: &str, parts: &[&str]) {
        let ran = self.fails(line, 2, parts);
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    }

    fn fails(&self, line: &str, code: i32, parts: &[&str]) -> Ran {
        let before = self.contents();
        let ran = self.run(line);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        for part in parts {
            assert!(!part.is_empty(), "an empty part is in every message: {line}");
            assert!(ran.stderr.contains(part), "{part:?} is not in {ran:?}");
        }
        assert!(self.contents() == before, "{ran:?}: files changed: {:?}", self.files());
        ran
    }

    /// Every file with what is in it.
    fn contents(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.files().into_iter().map(|f| (f.clone(), std::fs::read(self.path(&f)).ok())).collect()
    }
}

impl Ran {
    pub(crate) fn new(command: &str, output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Ran {
            command: command.into(),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        ran
    }
}

/// The numbers of a JSON array.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// n × d numbers between −1 and 1 that look random.
pub(crate) fn points(n: usize, d: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, d), |(i, j)| {
        let v = ((i * 7919 + j * 104_729 + 1) as f64 * 0.618_033_988_749_895).fract();
        (2.0 * v - 1.0) as f32
    })
}
