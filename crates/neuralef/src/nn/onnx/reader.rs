//! A node of the file as an operator reads it: each attribute by name, and what is left is refused.

use std::cell::RefCell;

use prost::Message as _;

use super::proto;
use super::tensor::{Tensor, head};
use crate::error::{Error, Result};

/// Longest name in a message, in characters.
const NAME: usize = 120;

/// ONNX's codes of attribute types.
const KINDS: [(i32, &str); 5] =
    [(1, "a float"), (2, "an integer"), (3, "a text"), (4, "a tensor"), (7, "a list of integers")];

/// Most attributes of a node.
const MOST: usize = 64;

/// A node, and which of its attributes have been read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    node: &'a proto::Node,
    file: &'a str,
    number: usize,
    attributes: Vec<proto::Attribute>,
    read: RefCell<Vec<usize>>,
}

impl<'a> Reader<'a> {
    /// Node number `number` of `file`.
    ///
    /// # Errors
    /// [`Error::Data`] for attributes that do not decode, or too many of them.
    pub(super) fn new(node: &'a proto::Node, file: &'a str, number: usize) -> Result<Self> {
        let (attributes, read) = (Vec::new(), RefCell::default());
        let mut reader = Reader { node, file, number, attributes, read };
        if node.attribute.len() > MOST {
            return Err(reader.fault(format_args!("more than {MOST} attributes")));
        }
        for bytes in &node.attribute {
            let attribute = proto::Attribute::decode(bytes.clone()).map_err(|e| reader.fault(e))?;
            reader.attributes.push(attribute);
        }
        Ok(reader)
    }

    /// The operator, with its domain if that is not ONNX's own.
    pub(super) fn operator(&self) -> String {
        match self.node.domain.as_str() {
            "" | "ai.onnx" => short(&self.node.op_type),
            domain => format!("{}.{}", short(domain), short(&self.node.op_type)),
        }
    }

    /// The name that messages give the node.
    pub(super) fn name(&self) -> String {
        match self.node.name.as_str() {
            "" => self.number.to_string(),
            name => short(name),
        }
    }

    /// What is not supported, and which attribute is at fault, if one is.
    pub(super) fn refuse(&self, attribute: Option<&str>, reason: impl Into<String>) -> Error {
        Error::UnsupportedNode {
            path: self.file.to_string(),
            node: self.name(),
            operator: self.operator(),
            attribute: attribute.map(short),
            reason: reason.into(),
        }
    }

    /// What is wrong with the file here.
    pub(super) fn fault(&self, message: impl std::fmt::Display) -> Error {
        let message = format!("node `{}` ({}): {message}", self.name(), self.operator());
        Error::data(self.file, message)
    }

    /// Name of input `i`; nothing when it is left out.
    pub(super) fn input(&self, i: usize) -> Option<&'a str> {
        self.node.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Name of input `i`, which must be there.
    pub(super) fn needed(&self, i: usize) -> Result<&'a str> {
        self.input(i).ok_or_else(|| self.fault(format_args!("input {i} is missing")))
    }

    /// Refuses more than `most` inputs.
    pub(super) fn at_most(&self, most: usize) -> Result<()> {
        match self.node.input.iter().skip(most).find(|name| !name.is_empty()) {
            Some(name) => {
                Err(self.refuse(None, format!("at most {most} inputs are, got `{}`", short(name))))
            }
            None => Ok(()),
        }
    }

    fn attribute(&self, name: &str, kind: i32) -> Result<Option<&proto::Attribute>> {
        let Some(place) = self.attributes.iter().position(|a| a.name == name) else {
            return Ok(None);
        };
        self.read.borrow_mut().push(place);
        let attribute = &self.attributes[place];
        if attribute.kind == kind || attribute.kind == 0 {
            return Ok(Some(attribute));
        }
        let expected = KINDS.iter().find(|(code, _)| *code == kind).map_or("another type", |k| k.1);
        Err(self.refuse(Some(name), format!("expected {expected}")))
    }

    /// Whether the node has an attribute `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|a| a.name == name)
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.attribute(name, 2)?.map_or(default, |a| a.i))
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.attribute(name, 1)?.map_or(default, |a| a.f))
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> Result<String> {
        let Some(attribute) = self.attribute(name, 3)? else { return Ok(default.into()) };
        Ok(short(&String::from_utf8_lossy(head_bytes(&attribute.s))))
    }

    pub(super) fn integers(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.attribute(name, 7)?.map(|a| a.ints.clone()))
    }

    /// A tensor.
    pub(super) fn constant(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(attribute) = self.attribute(name, 4)? else { return Ok(None) };
        let proto = proto::Tensor::decode(attribute.t.clone())
            .map_err(|e| self.fault(format_args!("attribute `{name}`: {e}")))?;
        let tensor = Tensor::new(proto);
        tensor.map(Some).map_err(|e| self.fault(format_args!("attribute `{name}`: {e}")))
    }

    /// Refuses an integer other than `supported`.
    pub(super) fn only(&self, name: &str, supported: i64) -> Result<()> {
        match self.integer(name, supported)? {
            value if value == supported => Ok(()),
            value => Err(self.refuse(Some(name), format!("only {supported} is, got {value}"))),
        }
    }

    /// A list of sizes, one for each axis; `default` for all when it is not given.
    pub(super) fn sizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N]> {
        let Some(list) = self.integers(name)? else { return Ok([default; N]) };
        let sizes: Option<Vec<usize>> = list.iter().map(|v| usize::try_from(*v).ok()).collect();
        sizes.and_then(|sizes| sizes.try_into().ok()).ok_or_else(|| {
            let reason = format!("only {N} numbers from 0 are, got {:?}", head(&list));
            self.refuse(Some(name), reason)
        })
    }

    /// Refuses the first attribute that nobody has read.
    pub(super) fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let mut all = self.attributes.iter().enumerate();
        match all.find(|(place, _)| !read.contains(place)).map(|(_, attribute)| attribute) {
            Some(unread) => Err(self.refuse(Some(&unread.name), "not known for this operator")),
            None => Ok(()),
        }
    }
}

fn head_bytes(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(4 * NAME)]
}

/// A name as messages show it.
pub(super) fn short(name: &str) -> String {
    name.chars().take(NAME).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
