//! One file per command.

pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod fit;
pub(crate) mod inspect;
pub(crate) mod laplace;
pub(crate) mod list;
pub(crate) mod plot;
pub(crate) mod predict;
pub(crate) mod probe;
pub(crate) mod sample;
pub(crate) mod score;
mod supervised;
pub(crate) mod synth;
mod targets;
pub(crate) mod trajectory;
pub(crate) mod transform;

use neuralef::{Dataset, Error, Model};

/// Fails, naming the data, unless they have the columns that the model was fitted to.
fn expect_width(model: &Model, data: &Dataset) -> neuralef::Result<()> {
    expect_columns(data, model.info().n_features)
}

/// Fails, naming the data, unless they have `columns` columns.
fn expect_columns(data: &Dataset, columns: usize) -> neuralef::Result<()> {
    if data.width() == columns {
        return Ok(());
    }
    let (expected, got) = (format!("n × {columns}"), format!("{} × {}", data.len(), data.width()));
    Err(Error::shape(data.name(), expected, got))
}
