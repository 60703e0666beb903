//! The one error type of the crate: every variant names what was wrong, what was expected and what came.

use std::path::PathBuf;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in neuralef. Fields, not strings, carry the facts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter has a value outside its domain.
    #[error("{parameter}: expected {expected}, got {got}")]
    InvalidParameter {
        /// Name of the parameter as users write it.
        parameter: String,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A matrix or tensor has the wrong shape.
    #[error("{what}: expected shape {expected}, got {got}")]
    Shape {
        /// Which matrix.
        what: String,
        /// Expected shape, e.g. `n × 64`.
        expected: String,
        /// Actual shape.
        got: String,
    },
    /// Input data hold a NaN or an infinity.
    #[error("{what}: non-finite value {value} at row {row}, column {column} (counted from 0)")]
    NonFinite {
        /// Where the data come from.
        what: String,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The value found.
        value: f32,
    },
    /// A name that no registry knows.
    #[error("unknown {kind} `{name}`{}; known: {known}", .nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    UnknownName {
        /// What sort of thing: `kernel`, `kernel parameter of rbf`, …
        kind: String,
        /// The name given.
        name: String,
        /// The closest known name, if any is close.
        nearest: Option<String>,
        /// All known names.
        known: String,
        /// The parameter that the name is a value of, where it is one.
        parameter: Option<&'static str>,
    },
    /// A text form does not parse. Displays the text with a caret under the column.
    #[error("{message} at column {column}\n  {text}\n  {caret:>column$}", caret = "^")]
    Parse {
        /// The text being parsed.
        text: String,
        /// Column of the fault, from 1, in characters.
        column: usize,
        /// What is wrong there.
        message: String,
        /// The parameter whose value is at fault, where one is.
        value: Option<Box<InvalidValue>>,
    },
    /// A thing of a program's own, which no file holds, is needed.
    #[error("the {kind} `{name}` belongs to a program, which must hand it over again")]
    OwnedByProgram {
        /// What it is: `network`, `method`, …
        kind: &'static str,
        /// The name that the program gave it.
        name: String,
    },
    /// A data file cannot be understood.
    #[error("{path}: {message}")]
    Data {
        /// The file (or `file.npz:key`).
        path: String,
        /// What is wrong, with line or byte where known.
        message: String,
    },
    /// The operating system refused a file operation.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A model or checkpoint file is damaged, hostile or of another version.
    #[error("{path}: not a usable neuralef file: {message}", path = .path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Training met a non-finite number.
    #[error("training diverged at step {step}: {what} is not finite; {advice}")]
    Diverged {
        /// The step, from 0.
        step: u64,
        /// The first quantity that was not finite.
        what: String,
        /// The likely cause and the first thing to try.
        advice: String,
    },
    /// The run was interrupted by its observer.
    #[error("interrupted at step {step}{}", .checkpoint.as_ref().map(|p| format!("; continue with --resume {}", p.display())).unwrap_or_default())]
    Interrupted {
        /// Completed steps.
        step: u64,
        /// The checkpoint that continues the run, if one was asked for.
        checkpoint: Option<PathBuf>,
    },
    /// Features were being sampled when the observer interrupted it.
    #[error("{path}: interrupted after {done} of {total} points; the same call goes on from there", path = .path.display())]
    SamplingInterrupted {
        /// Points whose features are written.
        done: usize,
        /// Points in all.
        total: usize,
        /// The file they are for; it has its name when it is complete.
        path: PathBuf,
    },
    /// A matrix decomposition failed.
    #[error("{what}: {message}")]
    Numerical {
        /// The computation.
        what: String,
        /// What happened, with sizes.
        message: String,
    },
    /// The computation would need more memory than the budget allows.
    #[error("{what} needs {needed_mib} MiB, the memory budget is {budget_mib} MiB")]
    MemoryBudget {
        /// The computation.
        what: String,
        /// Need in MiB.
        needed_mib: u64,
        /// Budget in MiB.
        budget_mib: u64,
    },
    /// A valid request that this method cannot serve.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// Why not, and what serves instead.
        reason: String,
    },
    /// A node of an ONNX graph that no layer of the engine computes.
    #[error("{path}: node `{node}` ({operator}) is not supported: {}{reason}", .attribute.as_ref().map(|a| format!("attribute `{a}`: ")).unwrap_or_default())]
    UnsupportedNode {
        /// The file.
        path: String,
        /// Name of the node, or its number where it has none.
        node: String,
        /// The operator, with its domain if that is not ONNX's own.
        operator: String,
        /// The attribute at fault, if one is.
        attribute: Option<String>,
        /// Why not.
        reason: String,
    },
}

/// A value that a parameter does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// Name of the parameter as users write it.
    pub parameter: String,
    /// What would have been accepted.
    pub expected: String,
    /// What was given.
    pub got: String,
}

impl Error {
    /// The same with the value that is at fault, for [`Error::Parse`].
    #[doc(hidden)]
    pub fn with_value(mut self, invalid: InvalidValue) -> Self {
        if let Error::Parse { value, .. } = &mut self {
            *value = Some(Box::new(invalid));
        }
        self
    }

    /// The same with the parameter that the name is a value of, for [`Error::UnknownName`].
    #[doc(hidden)]
    pub fn of_parameter(mut self, name: &'static str) -> Self {
        if let Error::UnknownName { parameter, .. } = &mut self {
            *parameter = Some(name);
        }
        self
    }

    /// [`Error::InvalidParameter`] from anything printable.
    pub fn parameter(
        parameter: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Error::InvalidParameter {
            parameter: parameter.into(),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// [`Error::Shape`] from anything printable.
    pub fn shape(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Error::Shape { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// [`Error::UnknownName`] with the nearest of `known` worked out.
    pub fn unknown(kind: impl Into<String>, name: &str, known: &[&str]) -> Self {
        let nearest = known
            .iter()
            .map(|k| (strsim::damerau_levenshtein(name, k), *k))
            .min()
            .filter(|(d, k)| *d <= 1 + k.len() / 3)
            .map(|(_, k)| k.to_string());
        Error::UnknownName {
            kind: kind.into(),
            name: name.to_string(),
            nearest,
            known: known.join(", "),
            parameter: None,
        }
    }

    /// [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    /// [`Error::Data`] for `path`.
    pub fn data(path: impl ToString, message: impl Into<String>) -> Self {
        Error::Data { path: path.to_string(), message: message.into() }
    }
}
