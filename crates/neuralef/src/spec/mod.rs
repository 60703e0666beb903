//! Specs: how users say what they want, in text. The same forms serve CLI, TOML and Python.

pub(crate) mod args;
pub(crate) mod text;
