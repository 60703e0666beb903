//! Declarations of parameters: name, domain, default and meaning. Help, checks and catalogue follow from them.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::choice::Choice;
use super::text::{Expr, Node};
use crate::error::{Error, InvalidValue, Result};

/// A parameter of a registered thing.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// As users write it.
    pub name: &'static str,
    /// What values it takes.
    pub domain: Domain,
    /// Names that stand for values that are worked out, such as `auto`.
    pub words: &'static [&'static str],
    /// What holds when it is not given.
    pub default: Absence,
    /// One line of help.
    pub help: &'static str,
}

/// What holds when a parameter is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// This value, in the text form.
    Value(&'static str),
    /// No value; the text says what happens then. It is printed only when it was given.
    Nothing(&'static str),
    /// It must be given; in what form, where the domain does not say it all.
    Fault(Option<&'static str>),
}

/// The values that a parameter takes.
#[derive(Debug, Clone, Copy)]
pub enum Domain {
    /// A finite number.
    Number(Interval),
    /// One of these numbers.
    OneOf(&'static [f64]),
    /// A whole number from the first to the second.
    Integer(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// A name of a closed set.
    Choice {
        /// What the values are, for messages.
        kind: &'static str,
        /// The names.
        names: fn() -> Vec<&'static str>,
    },
    /// A list of numbers, or one number for all.
    Numbers(Interval),
    /// A list of whole numbers from the first to the second.
    Integers(u64, u64),
    /// The same, or one number for all.
    IntegerOrIntegers(u64, u64),
    /// The path of a file.
    Path,
    /// A list of at least one name.
    Names,
    /// The text form of something else, such as a network.
    Text(&'static str),
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end, and whether that belongs to it.
    pub low: (f64, bool),
    /// Its upper end, and whether that belongs to it.
    pub high: (f64, bool),
}

impl Interval {
    /// From `low` to `high`, both included.
    pub const fn closed(low: f64, high: f64) -> Self {
        Interval { low: (low, true), high: (high, true) }
    }

    /// Beyond `low`, up to `high`.
    pub const fn above(low: f64, high: f64) -> Self {
        Interval { low: (low, false), high: (high, true) }
    }

    fn holds_low(&self, v: f64) -> bool {
        if self.low.1 { v >= self.low.0 } else { v > self.low.0 }
    }

    fn holds_high(&self, v: f64) -> bool {
        if self.high.1 { v <= self.high.0 } else { v < self.high.0 }
    }

    /// What is wrong with `v`, as the end of a sentence.
    fn fault(&self, v: f64) -> Option<String> {
        let (low, high) = (number(self.low.0), number(self.high.0));
        let from_zero = self.low.0 == 0.0;
        match (self.holds_low(v), self.holds_high(v)) {
            (true, true) => None,
            (false, _) if from_zero && self.low.1 => Some("must not be negative".into()),
            (false, _) if from_zero => Some("must be greater than 0".into()),
            (_, false) if from_zero && self.high.1 => Some(format!("must be at most {high}")),
            (_, false) if from_zero => Some(format!("must be below {high}")),
            _ => Some(format!("must be from {low} to {high}")),
        }
    }

    /// In words, such as ` greater than 0`, with a space before if there are any.
    fn words(&self) -> String {
        let low = match self.low {
            (low, _) if low == f64::NEG_INFINITY => String::new(),
            (low, true) => format!(" ≥ {}", number(low)),
            (low, false) => format!(" > {}", number(low)),
        };
        let and = if low.is_empty() { "" } else { " and" };
        match self.high {
            (high, _) if high == f64::INFINITY => low,
            (high, true) => format!("{low}{and} ≤ {}", number(high)),
            (high, false) => format!("{low}{and} < {}", number(high)),
        }
    }
}

/// Short: with an exponent where it has many zeros.
fn number(v: f64) -> String {
    if v == 0.0 || (1e-4..1e5).contains(&v.abs()) { format!("{v}") } else { format!("{v:e}") }
}

impl Domain {
    /// Any finite number.
    pub const NUMBER: Self = Domain::Number(Interval::closed(f64::NEG_INFINITY, f64::INFINITY));
    /// A number > 0.
    pub const POSITIVE: Self = Domain::Number(Interval::above(0.0, f64::INFINITY));
    /// A number ≥ 0.
    pub const NON_NEGATIVE: Self = Domain::Number(Interval::closed(0.0, f64::INFINITY));
    /// A number from 0 to below 1.
    pub const FRACTION: Self = Domain::Number(Interval { low: (0.0, true), high: (1.0, false) });

    /// A name of the closed set `C`.
    pub const fn choice<C: Choice>() -> Self {
        Domain::Choice { kind: C::KIND, names: C::names }
    }

    /// One of these names; `kind` is what they are, for messages.
    pub const fn one_of(kind: &'static str, names: fn() -> Vec<&'static str>) -> Self {
        Domain::Choice { kind, names }
    }

    /// What sort of value it is, for programs: `number`, `integer`, `boolean`, `choice`, `numbers`,
    /// `integers`, `path`, `names` or `text`.
    pub fn kind(&self) -> &'static str {
        match self {
            Domain::Number(_) | Domain::OneOf(_) => "number",
            Domain::Integer(..) => "integer",
            Domain::Boolean => "boolean",
            Domain::Choice { .. } => "choice",
            Domain::Numbers(_) => "numbers",
            Domain::Integers(..) | Domain::IntegerOrIntegers(..) => "integers",
            Domain::Path => "path",
            Domain::Names => "names",
            Domain::Text(_) => "text",
        }
    }

    /// The least and the largest number, where it is of numbers and they are bounded.
    pub fn range(&self) -> (Option<f64>, Option<f64>) {
        let bounds = |i: &Interval| {
            [i.low.0, i.high.0].map(|end| Some(end).filter(|end| end.is_finite())).into()
        };
        match self {
            Domain::Number(interval) | Domain::Numbers(interval) => bounds(interval),
            Domain::Integer(low, high)
            | Domain::Integers(low, high)
            | Domain::IntegerOrIntegers(low, high) => (Some(*low as f64), Some(*high as f64)),
            _ => (None, None),
        }
    }

    /// The names of a closed set.
    pub fn choices(&self) -> Vec<&'static str> {
        match self {
            Domain::Choice { names, .. } => names(),
            _ => Vec::new(),
        }
    }

    /// In words: `a number > 0`.
    pub fn describe(&self) -> String {
        match self {
            Domain::Number(interval) => format!("a number{}", interval.words()),
            Domain::OneOf(numbers) => list(numbers.iter().map(|v| number(*v)), "or"),
            Domain::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Domain::Boolean => "true or false".into(),
            Domain::Choice { names, .. } => list(names().into_iter().map(String::from), "or"),
            Domain::Numbers(interval) => {
                format!("a number{0}, or a list of numbers{0}", interval.words())
            }
            Domain::Integers(low, high) => format!("a list of whole numbers from {low} to {high}"),
            Domain::IntegerOrIntegers(low, high) => {
                format!("a whole number from {low} to {high}, or a list of these")
            }
            Domain::Path => "the path of a file".into(),
            Domain::Names => "a list of names".into(),
            Domain::Text(kind) => format!("the text form of a {kind}"),
        }
    }
}

/// `a, b or c`.
fn list(items: impl Iterator<Item = String>, and: &str) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {and} {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

impl Parameter {
    /// With a default, in the text form.
    pub const fn new(
        name: &'static str,
        domain: Domain,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Parameter { name, domain, words: &[], default: Absence::Value(default), help }
    }

    /// One that must be given.
    pub const fn required(name: &'static str, domain: Domain, help: &'static str) -> Self {
        Parameter { name, domain, words: &[], default: Absence::Fault(None), help }
    }

    /// The same, one that must be given in this form.
    pub const fn required_as(self, form: &'static str) -> Self {
        Parameter { default: Absence::Fault(Some(form)), ..self }
    }

    /// One that has no value when it is not given; `instead` says what happens then.
    pub const fn optional(
        name: &'static str,
        domain: Domain,
        instead: &'static str,
        help: &'static str,
    ) -> Self {
        Parameter { name, domain, words: &[], default: Absence::Nothing(instead), help }
    }

    /// The same, with names that stand for values.
    pub const fn or(self, words: &'static [&'static str]) -> Self {
        Parameter { words, ..self }
    }

    /// The same with another default.
    pub const fn with_default(self, default: &'static str) -> Self {
        Parameter { default: Absence::Value(default), ..self }
    }

    /// The same with another line of help.
    pub const fn with_help(self, help: &'static str) -> Self {
        Parameter { help, ..self }
    }

    /// The default as help shows it.
    pub fn shown_default(&self) -> &'static str {
        match self.default {
            Absence::Value(text) | Absence::Nothing(text) => text,
            Absence::Fault(_) => "required",
        }
    }

    /// The values it takes, in words.
    pub fn expected(&self) -> String {
        let words = self.words.iter().map(|word| format!("`{word}`"));
        list([self.domain.describe()].into_iter().chain(words), "or")
    }

    /// Fails unless `value`, a part of `text`, is in the domain or one of the words.
    ///
    /// # Errors
    /// [`Error::Parse`]; [`Error::UnknownName`] for names.
    pub(super) fn check(&self, text: &str, value: &Expr) -> Result<()> {
        let name = bare_name(value);
        if name.is_some_and(|name| self.words.contains(&name)) {
            return Ok(());
        }
        let fault = |at: &Expr, message: String| {
            Err(super::args::fault(text, at.column, format!("`{}` {message}", self.name))
                .with_value(InvalidValue {
                    parameter: self.name.to_string(),
                    expected: self.expected(),
                    got: value.to_string(),
                }))
        };
        let unknown = |kind: &str, name: &str, known: &[&str]| {
            Err(Error::unknown(kind, name, known).of_parameter(self.name))
        };
        let a_number = || {
            let words = self.words.iter().map(|word| format!("`{word}`"));
            format!("must be {}", list(["a number".into()].into_iter().chain(words), "or"))
        };
        let whole =
            |v: f64, low: u64, high: u64| v.fract() == 0.0 && v >= low as f64 && v <= high as f64;
        match (&self.domain, &value.node) {
            (Domain::Number(interval), Node::Number(v)) => match interval.fault(*v) {
                Some(message) => fault(value, message),
                None => Ok(()),
            },
            (Domain::OneOf(numbers), Node::Number(v)) if numbers.contains(v) => Ok(()),
            (Domain::OneOf(_), Node::Number(_)) => {
                fault(value, format!("must be {}", self.domain.describe()))
            }
            (Domain::Number(_) | Domain::OneOf(_), _) => fault(value, a_number()),
            (Domain::Integer(low, high), Node::Number(v)) if whole(*v, *low, *high) => Ok(()),
            (Domain::Integer(..), Node::Number(_)) => {
                fault(value, format!("must be {}", self.domain.describe()))
            }
            (Domain::Boolean, _) => match name {
                Some("true" | "false") => Ok(()),
                Some(_) => fault(value, "must be true or false".into()),
                None => fault(value, "must be a name".into()),
            },
            (Domain::Choice { kind, names }, _) => match name {
                Some(name) if names().contains(&name) => Ok(()),
                Some(name) => unknown(kind, name, &names()),
                None => fault(value, "must be a name".into()),
            },
            (Domain::Numbers(interval), node) => {
                let items =
                    if let Node::List(items) = node { items } else { std::slice::from_ref(value) };
                let outside = |item: &&Expr| !matches!(item.node, Node::Number(v) if interval.fault(v).is_none());
                let (low, high) = (interval.low.0, interval.high.0);
                match items.iter().find(outside) {
                    Some(item) => {
                        fault(item, format!("must hold numbers from {low:?} to {high:?}"))
                    }
                    None => Ok(()),
                }
            }
            (Domain::IntegerOrIntegers(low, high), Node::Number(v)) if whole(*v, *low, *high) => {
                Ok(())
            }
            (
                Domain::Integers(low, high) | Domain::IntegerOrIntegers(low, high),
                Node::List(items),
            ) => {
                let outside =
                    |item: &&Expr| !matches!(item.node, Node::Number(v) if whole(v, *low, *high));
                match items.iter().find(outside) {
                    Some(item) => {
                        fault(item, format!("must hold whole numbers from {low} to {high}"))
                    }
                    None => Ok(()),
                }
            }
            (Domain::IntegerOrIntegers(low, high), Node::Number(_)) => {
                fault(value, format!("must hold whole numbers from {low} to {high}"))
            }
            // A name that is none of the words.
            (Domain::Integer(..) | Domain::Integers(..) | Domain::IntegerOrIntegers(..), _)
                if !self.words.is_empty() && name.is_some() =>
            {
                unknown(self.name, name.unwrap_or_default(), self.words)
            }
            (Domain::Integer(..), _) => fault(value, a_number()),
            (Domain::Integers(..) | Domain::IntegerOrIntegers(..), _) => {
                fault(value, "must be a list such as [32, 32]".into())
            }
            (Domain::Path, node) => match (node, name) {
                (Node::Path(_), _) | (_, Some(_)) => Ok(()),
                _ => fault(value, "must be the path of a file".into()),
            },
            (Domain::Names, node) => {
                let message = "must be a list of names such as [layer2, layer3]";
                let Node::List(items) = node else { return fault(value, message.into()) };
                let is_name =
                    |item: &Expr| matches!(item.node, Node::Path(_)) || bare_name(item).is_some();
                match items.iter().find(|item| !is_name(item)) {
                    Some(item) => fault(item, message.into()),
                    None if items.is_empty() => fault(value, message.into()),
                    None => Ok(()),
                }
            }
            (Domain::Text(_), _) => Ok(()),
        }
    }
}

/// A name without arguments.
pub(super) fn bare_name(value: &Expr) -> Option<&str> {
    match &value.node {
        Node::Call(name, arguments) if arguments.is_empty() => Some(name),
        _ => None,
    }
}

impl Serialize for Parameter {
    /// As a map: `name`, `default`, `help`, `type`, `low`, `high`, `choices`, `words`, `required`,
    /// `optional` and `expected`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (low, high) = self.domain.range();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("default", self.shown_default())?;
        map.serialize_entry("help", self.help)?;
        map.serialize_entry("type", self.domain.kind())?;
        map.serialize_entry("low", &low)?;
        map.serialize_entry("high", &high)?;
        map.serialize_entry("choices", &self.domain.choices())?;
        map.serialize_entry("words", self.words)?;
        map.serialize_entry("required", &matches!(self.default, Absence::Fault(_)))?;
        map.serialize_entry("optional", &matches!(self.default, Absence::Nothing(_)))?;
        map.serialize_entry("expected", &self.expected())?;
        map.end()
    }
}
