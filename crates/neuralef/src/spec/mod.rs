//! Specs: how users say what they want, in text. The same forms serve CLI, TOML and Python.
//!
//! A registry lists what has a name, each [`Entry`] with its [`Parameter`]s. These are declared once: help,
//! checks, defaults, the text form and the [`catalogue`] follow from the declaration. A [`Spec`] holds one
//! thing by its text, or one of a program's own.

pub(crate) mod args;
mod catalogue;
mod choice;
mod object;
mod parameter;
pub(crate) mod registry;
pub(crate) mod text;
mod value;

pub use crate::error::InvalidValue;
pub use args::{Args, Sample};
pub use catalogue::{Item, Section, catalogue};
pub use choice::Choice;
pub use object::{Registered, Spec};
pub use parameter::{Absence, Domain, Interval, Parameter};
pub use registry::{Entry, Registry};
pub use value::{Call, Value};
