//! The text form shared by kernels, networks, objectives, optimisers and methods:
//! `rbf(lengthscale=0.5) + 0.1*linear`, `mlp(hidden=[32, 32], activation=sin_cos)`.
//!
//! ```text
//! sum     := product ('+' product)*
//! product := atom ('*' atom)*
//! atom    := number | name [ '(' [argument (',' argument)*] ')' ] | '[' list ']' | '(' sum ')' | path
//! argument:= name '=' sum | sum
//! path    := word | '"' anything else '"' | "'" anything else "'"
//! ```
//! A word is of letters, digits and `_.-/`, begins with a letter, `_`, `/`, `./` or `..`, and has a
//! point or a slash: `net.onnx`, `../models/net-2.onnx`.
//! Parsing is bounded in length and depth, and every fault carries its column.

use std::fmt;

use crate::error::{Error, Result};

/// Longest text accepted, in bytes.
pub(crate) const MAX_LENGTH: usize = 8192;
/// Deepest nesting accepted.
pub(crate) const MAX_DEPTH: usize = 32;

/// A parsed text form, with columns (from 1, in characters) for messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    /// What it is.
    pub(crate) node: Node,
    /// Where it starts.
    pub(crate) column: usize,
}

/// The kinds of [`Expr`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// A finite number.
    Number(f64),
    /// The path of a file.
    Path(String),
    /// A name with its arguments; a bare name has none.
    Call(String, Vec<Argument>),
    /// `[a, b, c]`.
    List(Vec<Expr>),
    /// `a + b + c`.
    Sum(Vec<Expr>),
    /// `a * b * c`.
    Product(Vec<Expr>),
}

/// `key=value`, or a bare value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Argument {
    /// The key, if written.
    pub(crate) key: Option<String>,
    /// The value.
    pub(crate) value: Expr,
    /// Where the argument starts.
    pub(crate) column: usize,
}

/// Parses `text` whole.
///
/// # Errors
/// [`Error::Parse`] with the column of the first fault.
pub(crate) fn parse(text: &str) -> Result<Expr> {
    let mut p = Parser { text, chars: Vec::new(), at: 0, depth: 0 };
    if text.len() > MAX_LENGTH {
        return Err(p.fault(0, format!("text longer than {MAX_LENGTH} bytes")));
    }
    p.chars.extend(text.chars());
    let expr = p.sum()?;
    p.space();
    if p.at < p.chars.len() {
        return Err(p.fault(p.at, format!("unexpected `{}`", p.chars[p.at])));
    }
    Ok(expr)
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fault(&self, at: usize, message: impl Into<String>) -> Error {
        // Control characters would break the caret's line.
        let text = self.text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c });
        Error::Parse { text: text.collect(), column: at + 1, message: message.into(), value: None }
    }

    fn space(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.space();
        let hit = self.chars.get(self.at) == Some(&c);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.take(c) {
            return Ok(());
        }
        Err(match self.chars.get(self.at) {
            Some(found) => self.fault(self.at, format!("expected `{c}`, found `{found}`")),
            None => self.fault(self.at, format!("expected `{c}`, found the end")),
        })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(self.at, format!("nested deeper than {MAX_DEPTH}")));
        }
        let expr = self.chain('+', Parser::product, Node::Sum);
        self.depth -= 1;
        expr
    }

    fn product(&mut self) -> Result<Expr> {
        self.chain('*', Parser::atom, Node::Product)
    }

    /// One or more `part` joined by `operator`; a single one stands for itself.
    fn chain(
        &mut self,
        operator: char,
        part: fn(&mut Self) -> Result<Expr>,
        join: fn(Vec<Expr>) -> Node,
    ) -> Result<Expr> {
        let first = part(self)?;
        let column = first.column;
        let mut parts = vec![first];
        while self.take(operator) {
            parts.push(part(self)?);
        }
        match (parts.len(), parts.pop()) {
            (1, Some(only)) => Ok(only),
            (_, last) => {
                parts.extend(last);
                Ok(Expr { node: join(parts), column })
            }
        }
    }

    fn atom(&mut self) -> Result<Expr> {
        self.space();
        let start = self.at;
        let column = start + 1;
        let Some(&c) = self.chars.get(start) else {
            return Err(self.fault(start, "expected a name or a number, found the end"));
        };
        if let Some(path) = self.path()? {
            return Ok(Expr { node: Node::Path(path), column });
        }
        if c.is_ascii_digit() || c == '.' || c == '-' {
            return Ok(Expr { node: Node::Number(self.number()?), column });
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let name = self.name();
            let arguments = if self.take('(') { self.arguments()? } else { Vec::new() };
            return Ok(Expr { node: Node::Call(name, arguments), column });
        }
        if self.take('[') {
            let mut items = Vec::new();
            while !self.take(']') {
                if !items.is_empty() {
                    self.expect(',')?;
                }
                items.push(self.sum()?);
            }
            return Ok(Expr { node: Node::List(items), column });
        }
        if self.take('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(inner);
        }
        Err(self.fault(start, format!("expected a name or a number, found `{c}`")))
    }

    /// A path, if one comes next: a quoted one, or a word that can be nothing else.
    fn path(&mut self) -> Result<Option<String>> {
        let (start, rest) = (self.at, &self.chars[self.at..]);
        if let Some(quote @ ('"' | '\'')) = rest.first().copied() {
            let Some(end) = rest[1..].iter().position(|c| *c == quote) else {
                return Err(self.fault(start, format!("no closing `{quote}`")));
            };
            self.at += end + 2;
            return Ok(Some(rest[1..=end].iter().collect()));
        }
        let length = rest.iter().take_while(|c| is_of_word(**c)).count();
        let word: String = rest[..length].iter().collect();
        self.at += if is_word(&word) { length } else { 0 };
        Ok(is_word(&word).then_some(word))
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Result<f64> {
        let start = self.at;
        let mut previous = ' ';
        while let Some(&c) = self.chars.get(self.at) {
            let sign =
                (c == '-' || c == '+') && (self.at == start || matches!(previous, 'e' | 'E'));
            if !(c.is_ascii_alphanumeric() || c == '.' || sign) {
                break;
            }
            previous = c;
            self.at += 1;
        }
        let literal: String = self.chars[start..self.at].iter().collect();
        match literal.parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(v),
            _ => Err(self.fault(start, format!("`{literal}` is not a finite number"))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>> {
        let mut out = Vec::new();
        while !self.take(')') {
            if !out.is_empty() {
                self.expect(',')?;
            }
            self.space();
            let start = self.at;
            let key = self.key();
            let value = self.sum()?;
            out.push(Argument { key, value, column: start + 1 });
        }
        Ok(out)
    }

    /// `name =`, if that is what comes next.
    fn key(&mut self) -> Option<String> {
        let start = self.at;
        if self.chars.get(start).is_some_and(|c| c.is_ascii_alphabetic() || *c == '_') {
            let name = self.name();
            if self.take('=') {
                return Some(name);
            }
        }
        self.at = start;
        None
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')
}

/// Whether a path needs no quotes.
fn is_word(path: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/');
    path.chars().all(is_of_word)
        && path.contains(['.', '/'])
        && (path.starts_with(begins) || path.starts_with("./") || path.starts_with(".."))
}

/// A path as the text form has it: quoted where it must be.
pub(crate) fn path(path: &str) -> String {
    match path {
        word if is_word(word) => word.to_string(),
        path if path.contains('"') => format!("'{path}'"),
        path => format!("\"{path}\""),
    }
}

/// The shortest decimal that parses back to the same bits.
pub(crate) fn number(v: f64) -> String {
    if v == 0.0 || (1e-5..1e10).contains(&v.abs()) { format!("{v}") } else { format!("{v:e}") }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(v) => f.write_str(&number(*v)),
            Node::Path(file) => f.write_str(&path(file)),
            Node::Call(name, arguments) if arguments.is_empty() => f.write_str(name),
            Node::Call(name, arguments) => {
                write!(f, "{name}(")?;
                for (i, a) in arguments.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    if let Some(key) = &a.key {
                        write!(f, "{key}=")?;
                    }
                    write!(f, "{}", a.value)?;
                }
                f.write_str(")")
            }
            Node::List(items) => {
                f.write_str("[")?;
                join(f, items, ", ", |_| false)?;
                f.write_str("]")
            }
            Node::Sum(parts) => join(f, parts, " + ", |p| matches!(p.node, Node::Sum(_))),
            Node::Product(parts) => {
                join(f, parts, "*", |p| matches!(p.node, Node::Sum(_) | Node::Product(_)))
            }
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    separator: &str,
    bracket: fn(&Expr) -> bool,
) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { separator })?;
        if bracket(part) { write!(f, "({part})")? } else { write!(f, "{part}")? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_keeps_precedence() {
        for text in [
            "rbf(lengthscale=0.5) + 0.1*linear",
            "2*(rbf + linear)*periodic(period=1.5)",
            "mlp(hidden=[32, 32], activation=sin_cos)",
            "1e-3*matern(nu=2.5, lengthscale=median)",
            "onnx(file=../nets/net-2.onnx, order=chw)",
            "onnx(file='my \"net\" + (1).onnx')",
        ] {
            let once = parse(text).unwrap();
            let again = parse(&once.to_string()).unwrap();
            assert_eq!(once.to_string(), again.to_string());
        }
        let sum = parse("a + 2*b").unwrap();
        let Node::Sum(parts) = sum.node else { panic!("not a sum") };
        assert!(matches!(&parts[1].node, Node::Product(p) if p.len() == 2));
    }

    #[test]
    fn paths_are_words_or_quoted() {
        for (text, path) in [
            ("net.onnx", Some("net.onnx")),
            ("/a/b", Some("/a/b")),
            ("./x", Some("./x")),
            ("'C:\\nets\\a b'", Some("C:\\nets\\a b")),
            ("\"it's\"", Some("it's")),
            ("net", None),
            ("-3.5", None),
            (".5", None),
        ] {
            let node = parse(text).unwrap().node;
            match path {
                Some(path) => {
                    assert_eq!(node, Node::Path(path.into()), "{text}");
                    assert_eq!(parse(&super::path(path)).unwrap().node, node, "{text}");
                }
                None => assert!(!matches!(node, Node::Path(_)), "{text}"),
            }
        }
    }

    #[test]
    fn faults_point_at_their_column() {
        for (text, expected) in [
            ("rbf(lengthscale=)", 17),
            ("rbf(lengthscale=1", 18),
            ("rbf + ", 7),
            ("rbf ? linear", 5),
            ("rbf(lengthscale=1e999)", 17),
            ("", 1),
            ("a b", 3),
            ("onnx(file='net)", 11),
            ("a-b", 2),
        ] {
            match parse(text) {
                Err(Error::Parse { column, .. }) => assert_eq!(column, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(parse(&"(".repeat(10_000)).is_err());
        assert!(parse(&format!("a{}", "+a".repeat(MAX_LENGTH))).is_err());
    }
}
