//! [`Spec`]: a registered thing by its text form, or one of a program's own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::registry::Registry;
use super::text::{Expr, Node, parse};
use crate::error::{Error, Result};

/// A kind of thing that specs name: methods, networks, objectives, optimisers, sources of uncertainty.
/// Implemented for the trait's object type, where its registry is.
pub trait Registered: fmt::Debug + Send + Sync + 'static {
    /// Whether a spec keeps the text as it was written, instead of the text form with all parameters.
    /// Such a text may be read before it is known to be right.
    const AS_WRITTEN: bool = false;

    /// Everything that has a name.
    fn registry() -> &'static Registry<Arc<Self>>;

    /// The text form with all parameters; for one of a program's own, its name.
    fn text_form(&self) -> String;
}

/// A thing of kind `T` as users write it: it parses from and displays as its text form, and serialises as
/// that. [`get`](Spec::get) gives the thing.
///
/// A program's own ([`Spec::own`]) displays as its name and serialises as `own(name)`. Read back, it is
/// known to be missing, and using it is an [`Error::OwnedByProgram`] until the program puts it back.
///
/// Texts given by `into()` are taken unseen: [`get`](Spec::get) tells what is wrong with them.
///
/// ```
/// use neuralef::FitSpec;
///
/// let spec = FitSpec { method: "nystrom(landmarks=100)".parse()?, ..FitSpec::new("rbf", 10)? };
/// assert_eq!(spec.method.name(), "nystrom");
/// let typo = FitSpec { method: "nistrom".into(), ..spec };
/// assert!(typo.check().is_err_and(|e| e.to_string().contains("did you mean `nystrom`")));
/// # Ok::<(), neuralef::Error>(())
/// ```
pub struct Spec<T: ?Sized> {
    /// As written; the name of a program's own.
    text: String,
    value: Option<Arc<T>>,
    own: bool,
}

impl<T: Registered + ?Sized> Spec<T> {
    /// One of a program's own, which no registry lists.
    pub fn own(value: Arc<T>) -> Self {
        Spec { text: value.text_form(), value: Some(value), own: true }
    }

    /// A registered thing that is built already.
    pub(crate) fn of(value: Arc<T>) -> Self {
        Spec { text: value.text_form(), value: Some(value), own: false }
    }

    /// What `expr`, a part of `text`, names.
    ///
    /// # Errors
    /// [`Error::Parse`], [`Error::UnknownName`].
    pub(crate) fn build_from(text: &str, expr: &Expr) -> Result<Self> {
        let value = T::registry().build(text, expr)?;
        Ok(Spec { text: expr.to_string(), value: Some(value), own: false })
    }

    /// The name in `own(name)`.
    fn owned(text: &str) -> Option<Self> {
        let name = text.trim().strip_prefix("own(")?.strip_suffix(')')?;
        Some(Spec { text: name.to_string(), value: None, own: true })
    }

    /// The thing itself.
    ///
    /// # Errors
    /// [`Error::OwnedByProgram`] for a program's own that was read from a file; [`Error::Parse`] and
    /// [`Error::UnknownName`] for a text that nobody looked at before.
    pub fn get(&self) -> Result<&T> {
        let kind = T::registry().kind;
        match &self.value {
            Some(value) => Ok(value),
            None if self.own => Err(Error::OwnedByProgram { kind, name: self.text.clone() }),
            None => Err(match T::registry().build_text(&self.text) {
                Err(error) => error,
                Ok(_) => Error::parameter(kind, "a text that could be read at first", &self.text),
            }),
        }
    }

    /// Whether it is a program's own.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The name, without parameters.
    pub fn name(&self) -> String {
        match parse(&self.text) {
            Ok(Expr { node: Node::Call(name, _), .. }) if !self.own => name,
            _ => self.text.clone(),
        }
    }

    /// What it serialises as.
    fn serialised(&self) -> String {
        if self.own { format!("own({})", self.text) } else { self.to_string() }
    }
}

impl<T: ?Sized> Clone for Spec<T> {
    fn clone(&self) -> Self {
        Spec { text: self.text.clone(), value: self.value.clone(), own: self.own }
    }
}

impl<T: Registered + ?Sized> fmt::Display for Spec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) if !T::AS_WRITTEN && !self.own => f.write_str(&value.text_form()),
            _ => f.write_str(&self.text),
        }
    }
}

impl<T: Registered + ?Sized> fmt::Debug for Spec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spec").field(&self.serialised()).finish()
    }
}

/// By text.
impl<T: Registered + ?Sized> PartialEq for Spec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.serialised() == other.serialised()
    }
}

impl<T: Registered + ?Sized> FromStr for Spec<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(spec) = Self::owned(text) {
            return Ok(spec);
        }
        let value = T::registry().build_text(text)?;
        Ok(Spec { text: text.to_string(), value: Some(value), own: false })
    }
}

/// Unseen: what is wrong with the text is told by [`Spec::get`].
impl<T: Registered + ?Sized> From<&str> for Spec<T> {
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Spec { text: text.to_string(), value: None, own: false })
    }
}

/// Unseen: what is wrong with the text is told by [`Spec::get`].
impl<T: Registered + ?Sized> From<String> for Spec<T> {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl<T: Registered + ?Sized> Serialize for Spec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.serialised())
    }
}

impl<'de, T: Registered + ?Sized> Deserialize<'de> for Spec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match T::AS_WRITTEN {
            true => Ok(text.into()),
            false => text.parse().map_err(D::Error::custom),
        }
    }
}
