//! One file per command.

pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod fit;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod plot;
pub(crate) mod probe;
pub(crate) mod sample;
pub(crate) mod synth;
pub(crate) mod trajectory;
pub(crate) mod transform;

use neuralef::{Dataset, Error, Mat, MatRef, Model};

/// Fails, naming the data, unless they have the columns that the model was fitted to.
fn expect_width(model: &Model, data: &Dataset) -> neuralef::Result<()> {
    let (expected, got) = (model.info().n_features, data.width());
    if expected == got {
        return Ok(());
    }
    let (expected, got) = (format!("n × {expected}"), format!("{} × {got}", data.len()));
    Err(Error::shape(data.name(), expected, got))
}

/// The rows of a file that has one for each of `points` points.
fn rows_for_points(location: &str, points: usize) -> neuralef::Result<Mat> {
    let data = Dataset::open(location, 0)?;
    if data.len() != points {
        let expected = format!("{points} rows, one for each point");
        return Err(Error::shape(location, expected, data.len()));
    }
    data.range(0..points)
}

/// The labels in the one column of a file.
fn labels(location: &str, values: MatRef<'_>) -> neuralef::Result<Vec<i64>> {
    if values.ncols() != 1 {
        return Err(Error::shape(location, "one column of labels", values.ncols()));
    }
    // Single precision holds every whole number up to 2²⁴.
    let whole = |v: &f32| v.fract() == 0.0 && v.abs() <= 16_777_216.0;
    if let Some(bad) = values.iter().find(|v| !whole(v)) {
        let expected = "whole numbers of at most 2^24 as labels";
        return Err(Error::parameter(location, expected, bad));
    }
    Ok(values.iter().map(|v| *v as i64).collect())
}
