//! What is to be predicted at the points of a data set: its own labels, or the rows of a file.

use anyhow::{Result, bail};
use neuralef::{Dataset, Error, Mat64};

/// Labels, or n × m real numbers.
pub(crate) enum Targets {
    Labels(Vec<i64>),
    Values(Mat64),
}

impl Targets {
    /// The targets of `data`: the rows of `file`, or the labels that the data come with. `options` are
    /// those that would name a file.
    pub(crate) fn read(
        data: &Dataset,
        file: Option<&str>,
        regression: bool,
        options: &str,
    ) -> Result<Self> {
        match (file, data.labels()) {
            (Some(file), _) => from_file(file, data.len(), regression),
            (None, Some(labels)) if regression => {
                let column = |(i, _): (usize, usize)| labels[i] as f64;
                Ok(Targets::Values(Mat64::from_shape_fn((labels.len(), 1), column)))
            }
            (None, Some(labels)) => Ok(Targets::Labels(labels.to_vec())),
            (None, None) => {
                bail!("{}: comes without labels; give them with {options}", data.name())
            }
        }
    }
}

/// Labels are one column of whole numbers.
fn from_file(location: &str, points: usize, regression: bool) -> Result<Targets> {
    let data = Dataset::open(location, 0)?;
    if data.len() != points {
        let expected = format!("{points} rows, one for each point");
        return Err(Error::shape(location, expected, data.len()).into());
    }
    let values = data.range(0..points)?;
    if regression {
        return Ok(Targets::Values(values.mapv(f64::from)));
    }
    if values.ncols() != 1 {
        return Err(Error::shape(location, "one column of labels", values.ncols()).into());
    }
    // Single precision holds every whole number up to 2²⁴.
    let whole = |v: &f32| v.fract() == 0.0 && v.abs() <= 16_777_216.0;
    if let Some(bad) = values.iter().find(|v| !whole(v)) {
        let expected = "whole numbers of at most 2^24 as labels";
        return Err(Error::parameter(location, expected, bad).into());
    }
    Ok(Targets::Labels(values.iter().map(|v| *v as i64).collect()))
}
