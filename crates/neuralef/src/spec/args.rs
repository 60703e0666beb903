//! Typed access to the arguments of a parsed call: checked against their declarations, defaults filled in.

use super::choice::Choice;
use super::parameter::{Absence, Parameter, bare_name};
use super::text::{Argument, Expr, Node, parse};
use crate::error::{Error, InvalidValue, Result};
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
    pub(super) fn reborrow<'b>(self) -> Sample<'b>
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

/// The arguments of one call: what is not given has its default. They are in their domains, and what a
/// reader asks for must be what the declaration says.
pub struct Args<'a> {
    text: &'a str,
    owner: &'static str,
    values: Vec<Value>,
    sample: Sample<'a>,
}

struct Value {
    parameter: &'static Parameter,
    /// None for optional parameters that are not given.
    expr: Option<Expr>,
    given: bool,
}

impl<'a> Args<'a> {
    /// The arguments of `owner`, (kind, name), checked; `text` is the whole text, for messages.
    pub(super) fn new(
        text: &'a str,
        (kind, owner): (&str, &'static str),
        parameters: &'static [Parameter],
        arguments: &[Argument],
        sample: Sample<'a>,
    ) -> Result<Self> {
        let known: Vec<&str> = parameters.iter().map(|p| p.name).collect();
        for (i, a) in arguments.iter().enumerate() {
            let Some(key) = &a.key else {
                return Err(fault(text, a.column, "expected name=value"));
            };
            if !known.contains(&key.as_str()) {
                return Err(Error::unknown(format!("parameter of {kind} {owner}"), key, &known));
            }
            if arguments[..i].iter().any(|b| b.key == a.key) {
                return Err(fault(text, a.column, format!("`{key}` is given twice")));
            }
        }
        let value = |parameter: &'static Parameter| {
            let argument = arguments.iter().find(|a| a.key.as_deref() == Some(parameter.name));
            let expr = match (argument, parameter.default) {
                (Some(argument), _) => {
                    parameter.check(text, &argument.value)?;
                    Some(argument.value.clone())
                }
                (None, Absence::Value(default)) => Some(parse(default)?),
                (None, Absence::Nothing(_)) => None,
                (None, Absence::Fault(form)) => {
                    let expected = form.map_or_else(|| parameter.expected(), str::to_string);
                    let message = format!("`{}` must be {expected}", parameter.name);
                    return Err(fault(text, 1, message).with_value(InvalidValue {
                        parameter: parameter.name.to_string(),
                        expected,
                        got: "nothing".into(),
                    }));
                }
            };
            Ok(Value { parameter, expr, given: argument.is_some() })
        };
        let values = parameters.iter().map(value).collect::<Result<_>>()?;
        Ok(Args { text, owner, values, sample })
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let value = self.values.iter().find(|v| v.parameter.name == key);
        debug_assert!(value.is_some(), "{key} is not declared in the registry entry");
        value
    }

    /// The value of `key`: what is given, or the default.
    pub(crate) fn get(&self, key: &str) -> Option<&Expr> {
        self.value(key)?.expr.as_ref()
    }

    /// True when the registry entry declares `key`.
    pub fn knows(&self, key: &str) -> bool {
        self.values.iter().any(|v| v.parameter.name == key)
    }

    /// True when `key` is given.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some_and(|v| v.given)
    }

    /// True when the value of `key` is this name, as `auto`.
    pub fn is(&self, key: &str, word: &str) -> bool {
        self.word(key) == Some(word)
    }

    /// The value of `key`, if it is a name.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(bare_name)
    }

    /// The name being built, as in `rbf`.
    pub fn owner(&self) -> &'static str {
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

    /// An [`Error::Parse`] at the value of `key` (or at the start when it is not given): for conditions
    /// that no domain tells.
    pub fn fault(&self, key: &str, message: impl Into<String>) -> Error {
        let given = self.value(key).filter(|v| v.given).and_then(|v| v.expr.as_ref());
        let (message, got) = (message.into(), self.get(key).map(Expr::to_string));
        let value = InvalidValue {
            parameter: key.to_string(),
            expected: message.clone(),
            got: got.unwrap_or_else(|| "nothing".into()),
        };
        fault(self.text, given.map_or(1, |e| e.column), message).with_value(value)
    }

    /// What a reader asks for that the declaration does not promise.
    fn mismatch(&self, key: &str, wanted: &str) -> Error {
        self.fault(key, format!("`{key}` is not declared as {wanted}"))
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<f64> {
        match self.get(key).map(|e| &e.node) {
            Some(Node::Number(v)) => Ok(*v),
            _ => Err(self.mismatch(key, "a number")),
        }
    }

    /// A whole number.
    pub fn integer(&self, key: &str) -> Result<u64> {
        self.number(key).map(|v| v as u64)
    }

    /// A whole number that counts things in memory.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.number(key).map(|v| v as usize)
    }

    /// A value of a closed set.
    pub fn choice<C: Choice>(&self, key: &str) -> Result<C> {
        C::from_name(self.word(key).ok_or_else(|| self.mismatch(key, "a name"))?)
    }

    /// The path of a file.
    pub fn path(&self, key: &str) -> Result<&str> {
        match self.get(key).map(|e| &e.node) {
            Some(Node::Path(path)) => Ok(path),
            _ => self.word(key).ok_or_else(|| self.mismatch(key, "a path")),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<bool> {
        match self.word(key) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.mismatch(key, "true or false")),
        }
    }

    /// The items of a list.
    fn items(&self, key: &str) -> Result<&[Expr]> {
        match self.get(key).map(|e| &e.node) {
            Some(Node::List(items)) => Ok(items),
            _ => Err(self.mismatch(key, "a list")),
        }
    }

    /// Names of a list, bare or in quotes: `[layer1, "layer2.0.conv1"]`.
    pub fn names(&self, key: &str) -> Result<Vec<String>> {
        let name = |item: &Expr| match &item.node {
            Node::Path(name) => Ok(name.clone()),
            _ => bare_name(item).map(str::to_string).ok_or_else(|| self.mismatch(key, "names")),
        };
        self.items(key)?.iter().map(name).collect()
    }

    /// `count` numbers: one number for all of them, or a list of as many.
    pub fn numbers(&self, key: &str, count: usize) -> Result<Vec<f64>> {
        let number = |item: &Expr| match item.node {
            Node::Number(v) => Ok(v),
            _ => Err(self.mismatch(key, "numbers")),
        };
        match self.get(key).map(|e| &e.node) {
            Some(Node::Number(v)) => Ok(vec![*v; count]),
            Some(Node::List(items)) if items.len() == count => items.iter().map(number).collect(),
            Some(Node::List(items)) => {
                let got = items.len();
                Err(self.fault(key, format!("`{key}` must hold {count} numbers, got {got}")))
            }
            _ => Err(self.mismatch(key, "numbers")),
        }
    }

    /// `count` whole numbers: one number for all of them, or a list of as many.
    pub fn sizes_of(&self, key: &str, count: usize) -> Result<Vec<usize>> {
        Ok(self.numbers(key, count)?.into_iter().map(|v| v as usize).collect())
    }

    /// A list of whole numbers, e.g. `[32, 32]`.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let size = |item: &Expr| match item.node {
            Node::Number(v) => Ok(v as usize),
            _ => Err(self.mismatch(key, "whole numbers")),
        };
        self.items(key)?.iter().map(size).collect()
    }
}

/// An [`Error::Parse`] for `text` at `column` (from 1).
pub(crate) fn fault(text: &str, column: usize, message: impl Into<String>) -> Error {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Error::Parse { text, column, message: message.into(), value: None }
}
