//! Specs: how users say what they want, in text. The same forms serve CLI, TOML and Python.

pub(crate) mod args;
mod catalogue;
pub(crate) mod text;
mod value;

pub use args::{Args, Entry, Registry, Sample};
pub use catalogue::{Item, Parameter, Section, catalogue};
pub use value::{Call, Value};
