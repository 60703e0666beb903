//! Registries: lists of named entries that turn texts into things, and things into texts.

use std::fmt;

use super::args::{Args, Sample, fault};
use super::parameter::Parameter;
use super::text::{Expr, Node, parse};
use crate::error::{Error, Result};

/// One entry of a registry: a name, one line of help, its parameters, and how to build it.
///
/// `T` is what the registry builds: an unresolved kernel, a network's architecture, an objective, …
pub struct Entry<T: 'static> {
    /// The name users write.
    pub name: &'static str,
    /// One line for `--help` and the docs.
    pub summary: &'static str,
    /// Its parameters, in the order in which the text form has them.
    pub parameters: &'static [Parameter],
    /// Builds it from arguments that are checked against their domains.
    pub build: fn(&Args<'_>) -> Result<T>,
}

impl<T> Entry<T> {
    /// The text form with the given values, in the order of the declaration.
    pub fn text(&self, values: &[(&str, &dyn fmt::Display)]) -> String {
        debug_assert!(
            values.iter().all(|(key, _)| self.parameters.iter().any(|p| p.name == *key)),
            "{} has a parameter that is not declared",
            self.name
        );
        let given = |p: &Parameter| {
            let value = values.iter().find(|(key, _)| *key == p.name);
            value.map(|(key, value)| format!("{key}={value}"))
        };
        let arguments: Vec<String> = self.parameters.iter().filter_map(given).collect();
        match arguments.is_empty() {
            true => self.name.to_string(),
            false => format!("{}({})", self.name, arguments.join(", ")),
        }
    }
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
        let owner = (self.kind, entry.name);
        (entry.build)(&Args::new(text, owner, entry.parameters, arguments, sample.reborrow())?)
    }

    /// Whether the entry called `name` has this parameter.
    pub(crate) fn declares(&self, name: &str, parameter: &str) -> bool {
        let entry = self.entries.iter().find(|e| e.name == name);
        entry.is_some_and(|e| e.parameters.iter().any(|p| p.name == parameter))
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
            for p in e.parameters {
                let (name, help, default) = (p.name, p.help, p.shown_default());
                out.push_str(&format!("    {name:<16} {help} [default: {default}]\n"));
            }
        }
        out
    }
}

/// Asserts of every entry that it builds from its defaults, prints, parses to the same text, and prints
/// the parameters that it declares. `samples` are arguments for entries with required ones, `sample` is
/// for values that depend on data.
#[cfg(test)]
pub(crate) fn assert_complete<T>(
    registry: &Registry<T>,
    samples: &[(&str, &str)],
    sample: Sample<'_>,
    text_of: impl Fn(&T) -> String,
) {
    use super::parameter::Absence;
    for entry in registry.entries {
        let given = samples.iter().find(|(name, _)| *name == entry.name).map_or("", |s| s.1);
        let text = if given.is_empty() {
            entry.name.to_string()
        } else {
            format!("{}({given})", entry.name)
        };
        let build = |text: &str| {
            let thing = registry.build_with(text, &parse(text).unwrap(), sample);
            text_of(&thing.unwrap_or_else(|e| panic!("{text}: {e}")))
        };
        let printed = build(&text);
        assert_eq!(build(&printed), printed);
        let Node::Call(name, arguments) = parse(&printed).unwrap().node else {
            panic!("{printed} is not a call")
        };
        assert_eq!(name, entry.name);
        let shown: Vec<&str> = arguments.iter().filter_map(|a| a.key.as_deref()).collect();
        let optional =
            |p: &&Parameter| !matches!(p.default, Absence::Nothing(_)) || shown.contains(&p.name);
        let declared: Vec<&str> =
            entry.parameters.iter().filter(optional).map(|p| p.name).collect();
        assert_eq!(shown, declared, "{printed}");
        for p in entry.parameters {
            if let Absence::Value(default) = p.default {
                let value = parse(default).unwrap();
                p.check(default, &value).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
            }
            assert!(registry.help().contains(p.help));
        }
    }
}
