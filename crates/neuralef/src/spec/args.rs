//! Typed access to the arguments of a parsed call, and the registries that turn names into things.

use super::text::{Argument, Expr, Node, parse};
use crate::error::{Error, Result};
use crate::matrix::MatRef;

/// What values such as `lengthscale=median` are worked out from.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// Only names and ranges are checked; such values stand in as 1 and the result is thrown away.
    Unresolved,
    /// There are no data: such values are errors.
    Missing,
    /// n × d points, and the seed of any subsampling.
    Points(MatRef<'a>, u64),
}

impl<'a> Sample<'a> {
    /// The same for a shorter time.
    fn reborrow<'b>(self) -> Sample<'b>
    where
        'a: 'b,
    {
        match self {
            Sample::Unresolved => Sample::Unresolved,
            Sample::Missing => Sample::Missing,
            Sample::Points(x, seed) => Sample::Points(x.reborrow(), seed),
        }
    }
}

/// One entry of a registry: a name, one line of help, its parameters, and how to build it.
///
/// `T` is what the registry builds: an unresolved kernel, a network spec, an objective, …
pub struct Entry<T: 'static> {
    /// The name users write.
    pub name: &'static str,
    /// One line for `--help` and the docs.
    pub summary: &'static str,
    /// Parameters as (name, default or `required`, one line of help).
    pub parameters: &'static [(&'static str, &'static str, &'static str)],
    /// Builds it from the call's arguments; unread arguments become errors after it returns.
    pub build: fn(&mut Args<'_>) -> Result<T>,
}

/// A named list of entries of one kind.
pub struct Registry<T: 'static> {
    /// What the entries are: `kernel`, `network`, …
    pub kind: &'static str,
    /// The entries.
    pub entries: &'static [Entry<T>],
}

impl<T> Registry<T> {
    /// Builds from a text form that is a single call, e.g. `mlp(hidden=[32,32])`.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::UnknownName`].
    pub fn build_text(&self, text: &str) -> Result<T> {
        self.build(text, &parse(text)?)
    }

    /// Builds from an already parsed call; `text` is the whole text, for messages.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::UnknownName`].
    pub(crate) fn build(&self, text: &str, expr: &Expr) -> Result<T> {
        self.build_with(text, expr, Sample::Missing)
    }

    /// As [`build`](Registry::build), with data for the values that depend on them.
    ///
    /// # Errors
    /// As [`build`](Registry::build).
    pub(crate) fn build_with(&self, text: &str, expr: &Expr, sample: Sample<'_>) -> Result<T> {
        let Node::Call(name, arguments) = &expr.node else {
            return Err(fault(text, expr.column, format!("expected the name of a {}", self.kind)));
        };
        let Some(entry) = self.entries.iter().find(|e| e.name == name) else {
            return Err(Error::unknown(self.kind, name, &self.names()));
        };
        let mut args = Args {
            text,
            owner: name,
            kind: self.kind,
            known: entry.parameters.iter().map(|p| p.0).collect(),
            arguments,
            sample: sample.reborrow(),
        };
        args.check_names()?;
        (entry.build)(&mut args)
    }

    /// The names in registry order.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|e| e.name).collect()
    }

    /// Help text: one line for each entry, parameters beneath.
    pub fn help(&self) -> String {
        let mut out = String::new();
        for e in self.entries {
            out.push_str(&format!("{:<20} {}\n", e.name, e.summary));
            for (name, default, help) in e.parameters {
                out.push_str(&format!("    {name:<16} {help} [default: {default}]\n"));
            }
        }
        out
    }
}

/// The arguments of one call, read by name with type and range checks.
pub struct Args<'a> {
    text: &'a str,
    owner: &'a str,
    kind: &'static str,
    known: Vec<&'static str>,
    arguments: &'a [Argument],
    sample: Sample<'a>,
}

impl<'a> Args<'a> {
    fn check_names(&self) -> Result<()> {
        for (i, a) in self.arguments.iter().enumerate() {
            let Some(key) = &a.key else {
                return Err(fault(self.text, a.column, "expected name=value"));
            };
            if !self.known.contains(&key.as_str()) {
                let kind = format!("parameter of {} {}", self.kind, self.owner);
                return Err(Error::unknown(kind, key, &self.known));
            }
            if self.arguments[..i].iter().any(|b| b.key == a.key) {
                return Err(fault(self.text, a.column, format!("`{key}` is given twice")));
            }
        }
        Ok(())
    }

    /// The raw value of `key`, if given.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Expr> {
        debug_assert!(self.known.contains(&key), "{key} is not declared in the registry entry");
        self.arguments.iter().find(|a| a.key.as_deref() == Some(key)).map(|a| &a.value)
    }

    /// True when the registry entry declares `key`.
    pub fn knows(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// True when `key` is given.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The name being built, as in `rbf`.
    pub fn owner(&self) -> &'a str {
        self.owner
    }

    /// The data that values such as `median` are worked out from.
    pub fn sample(&self) -> Sample<'a> {
        self.sample
    }

    /// The whole text being built from, for nested registries.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// An [`Error::Parse`] at the value of `key` (or at the start when it is not given).
    pub fn fault(&self, key: &str, message: impl Into<String>) -> Error {
        let column = self.get(key).map_or(1, |e| e.column);
        fault(self.text, column, message)
    }

    /// A finite number, or `default`.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key).map(|e| &e.node) {
            None => Ok(default),
            Some(Node::Number(v)) => Ok(*v),
            Some(_) => Err(self.fault(key, format!("`{key}` must be a number"))),
        }
    }

    /// A number > 0, or `default`.
    pub fn positive(&self, key: &str, default: f64) -> Result<f64> {
        let v = self.number(key, default)?;
        if v > 0.0 {
            Ok(v)
        } else {
            Err(self.fault(key, format!("`{key}` must be greater than 0")))
        }
    }

    /// A number ≥ 0, or `default`.
    pub fn non_negative(&self, key: &str, default: f64) -> Result<f64> {
        let v = self.number(key, default)?;
        if v >= 0.0 { Ok(v) } else { Err(self.fault(key, format!("`{key}` must not be negative"))) }
    }

    /// A whole number in `range`, or `default`.
    pub fn integer(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64> {
        let v = self.number(key, default as f64)?;
        if v.fract() == 0.0 && v >= *range.start() as f64 && v <= *range.end() as f64 {
            return Ok(v as u64);
        }
        let (a, b) = range.into_inner();
        Err(self.fault(key, format!("`{key}` must be a whole number from {a} to {b}")))
    }

    /// A bare name such as `relu`, or `default`.
    pub fn name(&self, key: &str, default: &'static str) -> Result<&'a str> {
        match self.get(key).map(|e| &e.node) {
            None => Ok(default),
            Some(Node::Call(name, arguments)) if arguments.is_empty() => Ok(name),
            Some(_) => Err(self.fault(key, format!("`{key}` must be a name"))),
        }
    }

    /// The path of a file, which must be given.
    pub fn path(&self, key: &str) -> Result<&'a str> {
        match self.get(key).map(|e| &e.node) {
            Some(Node::Path(path)) => Ok(path),
            Some(Node::Call(name, arguments)) if arguments.is_empty() => Ok(name),
            _ => Err(self.fault(key, format!("`{key}` must be the path of a file"))),
        }
    }

    /// A list of at least one name, bare or in quotes: `[layer1, "layer2.0.conv1"]`.
    pub(crate) fn words(&self, key: &str) -> Result<Vec<String>> {
        let message = || format!("`{key}` must be a list of names such as [layer2, layer3]");
        let Some(Node::List(items)) = self.get(key).map(|e| &e.node) else {
            return Err(self.fault(key, message()));
        };
        if items.is_empty() {
            return Err(self.fault(key, message()));
        }
        items
            .iter()
            .map(|item| match &item.node {
                Node::Path(word) => Ok(word.clone()),
                Node::Call(word, arguments) if arguments.is_empty() => Ok(word.clone()),
                _ => Err(fault(self.text, item.column, message())),
            })
            .collect()
    }

    /// `true` or `false`, or `default`.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.name(key, if default { "true" } else { "false" })? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.fault(key, format!("`{key}` must be true or false"))),
        }
    }

    /// `count` numbers in `range`: one number for all of them, a list of as many, or `default`.
    pub fn numbers(
        &self,
        key: &str,
        count: usize,
        range: std::ops::RangeInclusive<f64>,
        default: f64,
    ) -> Result<Vec<f64>> {
        let Some(expr) = self.get(key) else { return Ok(vec![default; count]) };
        let value = |item: &Expr| match item.node {
            Node::Number(v) if range.contains(&v) => Ok(v),
            _ => {
                let (low, high) = (range.start(), range.end());
                let message = format!("`{key}` must hold numbers from {low:?} to {high:?}");
                Err(fault(self.text, item.column, message))
            }
        };
        match &expr.node {
            Node::List(items) if items.len() == count => items.iter().map(value).collect(),
            Node::List(items) => {
                let got = items.len();
                Err(self.fault(key, format!("`{key}` must hold {count} numbers, got {got}")))
            }
            _ => Ok(vec![value(expr)?; count]),
        }
    }

    /// A list of whole numbers in `range`, e.g. `[32, 32]`, or `default`.
    pub fn integers(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
        default: &[u64],
    ) -> Result<Vec<u64>> {
        let Some(expr) = self.get(key) else { return Ok(default.to_vec()) };
        let Node::List(items) = &expr.node else {
            return Err(self.fault(key, format!("`{key}` must be a list such as [32, 32]")));
        };
        let (low, high) = range.into_inner();
        items
            .iter()
            .map(|item| match item.node {
                Node::Number(v) if v.fract() == 0.0 && v >= low as f64 && v <= high as f64 => {
                    Ok(v as u64)
                }
                _ => {
                    let message = format!("`{key}` must hold whole numbers from {low} to {high}");
                    Err(fault(self.text, item.column, message))
                }
            })
            .collect()
    }
}

/// An [`Error::Parse`] for `text` at `column` (from 1).
pub(crate) fn fault(text: &str, column: usize, message: impl Into<String>) -> Error {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Error::Parse { text, column, message: message.into() }
}
