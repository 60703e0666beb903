//! One file per command.

pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod fit;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod plot;
pub(crate) mod synth;
pub(crate) mod transform;
