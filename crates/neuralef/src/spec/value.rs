//! Values of parameters, and text forms made of them and taken apart into them: for bindings and programs
//! that have values where users write text.

use super::args::fault;
use super::text::{Argument, Expr, Node, parse};
use crate::error::{Error, Result};

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A finite number.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// The path of a file.
    Path(String),
    /// `[a, b, c]`.
    List(Vec<Value>),
    /// A name such as `median`, or any other text form.
    Text(String),
}

impl Value {
    fn into_expr(self, parameter: &str) -> Result<Expr> {
        let node = match self {
            Value::Number(v) if v.is_finite() => Node::Number(v),
            Value::Number(v) => return Err(Error::parameter(parameter, "a finite number", v)),
            Value::Boolean(v) => Node::Call(v.to_string(), Vec::new()),
            Value::Path(path) if path.contains('"') && path.contains('\'') => {
                return Err(Error::parameter(parameter, "a path with one sort of quotes", path));
            }
            Value::Path(path) => Node::Path(path),
            Value::List(items) => {
                let items = items.into_iter().map(|item| item.into_expr(parameter));
                Node::List(items.collect::<Result<_>>()?)
            }
            Value::Text(text) => parse(&text)?.node,
        };
        Ok(Expr { node, column: 1 })
    }

    fn of(expr: &Expr) -> Value {
        match &expr.node {
            Node::Number(v) => Value::Number(*v),
            Node::Path(path) => Value::Path(path.clone()),
            Node::List(items) => Value::List(items.iter().map(Value::of).collect()),
            Node::Call(name, arguments) if arguments.is_empty() => match name.as_str() {
                "true" => Value::Boolean(true),
                "false" => Value::Boolean(false),
                name => Value::Text(name.into()),
            },
            _ => Value::Text(expr.to_string()),
        }
    }
}

/// A text form that is one name with parameters, such as `nystrom(landmarks=100)`. Whether a registry
/// has them is not looked at.
///
/// ```
/// use neuralef::spec::{Call, Value};
///
/// let mut call: Call = "matern(nu=2.5)".parse()?;
/// call.parameters.push(("lengthscale".into(), Value::Text("median".into())));
/// assert_eq!(call.to_text()?, "matern(nu=2.5, lengthscale=median)");
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The name.
    pub name: String,
    /// Parameters with their values, in order.
    pub parameters: Vec<(String, Value)>,
}

impl Call {
    /// One name with parameters, or none for other text forms: sums, products, numbers, lists and paths.
    ///
    /// # Errors
    /// [`Error::Parse`] for what is no text form, and values without a name.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Node::Call(name, arguments) = parse(text)?.node else { return Ok(None) };
        let parameter = |Argument { key, value, column }: Argument| match key {
            Some(key) => Ok((key, Value::of(&value))),
            None => Err(fault(text, column, "expected name=value")),
        };
        let parameters = arguments.into_iter().map(parameter).collect::<Result<_>>()?;
        Ok(Some(Call { name, parameters }))
    }

    /// The text form.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name that is none and for a value without a text form,
    /// [`Error::Parse`] for a [`Value::Text`] that is none.
    pub fn to_text(&self) -> Result<String> {
        let argument = |(key, value): &(String, Value)| {
            let value = value.clone().into_expr(key)?;
            Ok(Argument { key: Some(checked(key)?), value, column: 1 })
        };
        let arguments = self.parameters.iter().map(argument).collect::<Result<_>>()?;
        Ok(Expr { node: Node::Call(checked(&self.name)?, arguments), column: 1 }.to_string())
    }
}

impl std::str::FromStr for Call {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Call::parse(text)?.ok_or_else(|| fault(text, 1, "expected a name"))
    }
}

/// The name itself, if it is one.
fn checked(name: &str) -> Result<String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(name.into());
    }
    Err(Error::parameter("name", "letters, digits and _", format!("{name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_their_text_forms() {
        let parameters = vec![
            ("count".to_string(), Value::Number(100.0)),
            ("rate".into(), Value::Number(1e-12)),
            ("flag".into(), Value::Boolean(true)),
            ("file".into(), Value::Path("a b.onnx".into())),
            ("sizes".into(), Value::List(vec![Value::Number(3.0), Value::Text("x".into())])),
            ("name".into(), Value::Text("median".into())),
            ("inner".into(), Value::Text("mlp(hidden=[3])".into())),
        ];
        let call = Call { name: "f".into(), parameters };
        let text = "f(count=100, rate=1e-12, flag=true, file=\"a b.onnx\", sizes=[3, x], \
                    name=median, inner=mlp(hidden=[3]))";
        assert_eq!(call.to_text().unwrap(), text);
        assert_eq!(Call::parse(text).unwrap(), Some(call));
        assert_eq!("rbf()".parse::<Call>().unwrap().to_text().unwrap(), "rbf");
    }

    #[test]
    fn what_is_no_call_is_told_from_what_is_no_text() {
        for text in ["rbf + linear", "2*rbf", "3", "[1, 2]", "./net"] {
            assert_eq!(Call::parse(text).unwrap(), None, "{text}");
            assert!(matches!(text.parse::<Call>(), Err(Error::Parse { .. })), "{text}");
        }
        for text in ["", "rbf(", "rbf(3)", "a b"] {
            assert!(matches!(Call::parse(text), Err(Error::Parse { .. })), "{text}");
        }
    }

    #[test]
    fn values_and_names_without_a_text_form_are_refused() {
        let call = |name: &str, value: Value| {
            Call { name: "f".into(), parameters: vec![(name.into(), value)] }.to_text().err()
        };
        for value in [f64::NAN, f64::INFINITY] {
            let error = call("a", Value::Number(value));
            assert!(
                matches!(error, Some(Error::InvalidParameter { parameter, .. }) if parameter == "a")
            );
        }
        assert!(call("a", Value::Path("\"'".into())).is_some());
        assert!(call("a", Value::Text("1, b=2".into())).is_some());
        for name in ["", "a b", "a=1, b", "1a", "ä"] {
            assert!(call(name, Value::Number(1.0)).is_some(), "{name}");
            assert!(Call { name: name.into(), parameters: Vec::new() }.to_text().is_err());
        }
    }
}
