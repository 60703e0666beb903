//! Linear models on features: what a kernel's features or a network's are worth for a task.
//!
//! | model | for | solved by |
//! |---|---|---|
//! | [`LogisticRegression`] | classes | L-BFGS, preconditioned |
//! | [`GpRegression`] | real targets, with predictive variances | Cholesky decomposition, k × k |
//! | [`KMeans`] | clusters | Lloyd's algorithm from k-means++ centres |
//!
//! Features come as `f32`, n × k, and everything that is accumulated is `f64`. Sums run over fixed
//! blocks of rows in a fixed order: the same bits for any number of threads.
//!
//! ```
//! use neuralef::{Dataset, FitSpec, fit};
//! use neuralef::probe::{LogisticRegression, unit_norm_rows};
//!
//! let data = Dataset::open("two_moons(n=400)", 0)?;
//! let spec = FitSpec { method: "nystrom(landmarks=100)".into(), ..FitSpec::new("rbf(lengthscale=0.5)", 8)? };
//! let model = fit(&data, &spec)?;
//! let features = unit_norm_rows(model.transform(data.range(0..400)?.view())?.view())?;
//! let labels = data.labels().unwrap_or_default();
//! let classifier = LogisticRegression { c: 10.0, ..Default::default() }.fit(features.view(), labels)?;
//! assert!(classifier.record().converged);
//! assert!(classifier.accuracy(features.view(), labels)? > 0.95);
//! # Ok::<(), neuralef::Error>(())
//! ```

use std::ops::Range;

use ndarray::s;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::linalg::{expect_finite_f32, norm2};
use crate::matrix::{Mat, Mat64, MatRef};

mod gp;
mod kmeans;
mod lbfgs;
mod logistic;
#[cfg(test)]
mod tests;

pub use gp::{GpModel, GpRegression};
pub use kmeans::{KMeans, KMeansModel};
pub use logistic::{LogisticModel, LogisticRecord, LogisticRegression};

/// Rows worked on together; fixed, because sums over rows are sums over blocks.
const BLOCK: usize = 1024;
/// Blocks whose results are held at a time.
const GROUP: usize = 16;

/// The rows of `x` (n × k) divided by their Euclidean norms. Rows of zeros have no direction and
/// stay zero. O(n k).
///
/// # Errors
/// [`Error::NonFinite`].
pub fn unit_norm_rows(x: MatRef<'_>) -> Result<Mat> {
    expect_finite_f32("features", x)?;
    let mut out = x.to_owned();
    for mut row in out.rows_mut() {
        let norm = norm2(row.iter().map(|v| f64::from(*v)));
        if norm > 0.0 {
            row.mapv_inplace(|v| (f64::from(v) / norm) as f32);
        }
    }
    Ok(out)
}

/// Gives each block of rows of `x`, in double precision, to `work`, side by side, and the results
/// to `take` in the order of the rows.
fn for_blocks<T: Send>(
    x: MatRef<'_>,
    work: impl Fn(Range<usize>, Mat64) -> Result<T> + Sync,
    mut take: impl FnMut(T),
) -> Result<()> {
    let starts: Vec<usize> = (0..x.nrows()).step_by(BLOCK).collect();
    for group in starts.chunks(GROUP) {
        let done: Vec<T> = group
            .par_iter()
            .map(|start| {
                let rows = *start..(start + BLOCK).min(x.nrows());
                let block = x.slice(s![rows.clone(), ..]);
                let mut double = Mat64::zeros(block.dim());
                double.zip_mut_with(&block, |to, from| *to = f64::from(*from));
                work(rows, double)
            })
            .collect::<Result<_>>()?;
        done.into_iter().for_each(&mut take);
    }
    Ok(())
}

/// Fails unless `x` is n × `columns` (any width if none is given) with `rows` rows, at least one,
/// and finite.
fn check_features(x: MatRef<'_>, rows: usize, columns: Option<usize>) -> Result<()> {
    let (n, k) = x.dim();
    if n != rows || n == 0 || k == 0 || columns.is_some_and(|c| c != k) {
        let columns = columns.map_or_else(|| "k".into(), |c| c.to_string());
        let expected = format!("{} × {columns}, neither zero", rows.max(1));
        return Err(Error::shape("features", expected, format!("{n} × {k}")));
    }
    expect_finite_f32("features", x)
}

/// Fails unless `value` is positive and finite.
fn check_positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::parameter(name, "a positive finite number", value))
}
