//! What targets say about outputs: log likelihoods and their curvature.

use ndarray::{ArrayView1, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::calibration::{log_softmax, softmax};
use crate::error::{Error, Result};
use crate::linalg::{eigh, expect_finite_f64};
use crate::matrix::{Mat64, Mat64Ref};

/// The law of targets given the outputs f of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// Classes, p = softmax(f). Λ = diag(p) − ppᵀ.
    Classification,
    /// Real numbers y = f + ε, ε ~ N(0, σ²I). Λ = I/σ².
    Regression,
}

/// What is known of the points of a fit or of a validation set.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Numbers of classes, n.
    Labels(Vec<usize>),
    /// Real numbers, n × C.
    Values(Mat64),
}

impl Targets {
    /// n, the number of points.
    pub fn len(&self) -> usize {
        match self {
            Targets::Labels(labels) => labels.len(),
            Targets::Values(values) => values.nrows(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The law that they follow.
    pub fn likelihood(&self) -> Likelihood {
        match self {
            Targets::Labels(_) => Likelihood::Classification,
            Targets::Values(_) => Likelihood::Regression,
        }
    }

    /// Fails unless they are targets of `n` points with `outputs` outputs.
    pub(crate) fn check(&self, n: usize, outputs: usize) -> Result<()> {
        if n == 0 || self.len() != n {
            return Err(Error::shape("targets", format!("{n} points, at least one"), self.len()));
        }
        match self {
            Targets::Labels(_) if outputs < 2 => {
                Err(Error::parameter("outputs", "at least 2 for classification", outputs))
            }
            Targets::Labels(labels) => match labels.iter().find(|y| **y >= outputs) {
                Some(bad) => {
                    let expected = format!("classes from 0 to {}", outputs - 1);
                    Err(Error::parameter("labels", expected, bad))
                }
                None => Ok(()),
            },
            Targets::Values(values) if values.ncols() != outputs => {
                let got = format!("{} × {}", values.nrows(), values.ncols());
                Err(Error::shape("targets", format!("{n} × {outputs}"), got))
            }
            Targets::Values(values) => expect_finite_f64("targets", values.view()),
        }
    }

    /// The loss of outputs f (n × C), summed over points: −log p(label), or the squared error.
    pub(super) fn loss(&self, f: Mat64Ref<'_>) -> Result<f64> {
        match self {
            Targets::Labels(labels) => {
                let log_p = log_softmax(f)?;
                Ok(-labels.iter().zip(log_p.rows()).map(|(y, row)| row[*y]).sum::<f64>())
            }
            Targets::Values(values) => {
                expect_finite_f64("outputs", f)?;
                Ok((&f - values).iter().map(|e| e * e).sum())
            }
        }
    }
}

impl Likelihood {
    /// For each row of f (n × C) a matrix L with Λ = LLᵀ for σ² = 1, C × r: the eigenvectors of Λ with
    /// positive eigenvalues times the roots of these. Nothing in it can make Λ indefinite.
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::Numerical`].
    pub(super) fn roots(self, f: Mat64Ref<'_>) -> Result<Vec<Mat64>> {
        match self {
            Likelihood::Regression => Ok(vec![Mat64::eye(f.ncols()); f.nrows()]),
            Likelihood::Classification => {
                let p = softmax(f)?;
                let rows: Vec<_> = p.axis_iter(Axis(0)).collect();
                rows.into_par_iter().map(root).collect()
            }
        }
    }
}

fn root(p: ArrayView1<'_, f64>) -> Result<Mat64> {
    let lambda = Mat64::from_shape_fn((p.len(), p.len()), |(i, j)| {
        if i == j { p[i] * (1.0 - p[i]) } else { -p[i] * p[j] }
    });
    let (values, vectors) = eigh(lambda.view())?;
    let rank = values.iter().take_while(|v| **v > 0.0).count();
    let mut root = vectors.slice(s![.., ..rank]).to_owned();
    for (mut column, value) in root.columns_mut().into_iter().zip(&values) {
        column *= value.sqrt();
    }
    Ok(root)
}

/// LᵀF for each point, so that the generalised Gauss–Newton matrix is the sum of the outer products of
/// rows. `features` is n·C × k, in the order (point, output).
pub(super) fn weighted(features: Mat64Ref<'_>, roots: &[Mat64]) -> Mat64 {
    let rows = roots.iter().map(Mat64::ncols).sum();
    let c = roots.first().map_or(1, Mat64::nrows);
    let mut out = Mat64::zeros((rows, features.ncols()));
    let mut at = 0;
    for (f, root) in features.axis_chunks_iter(Axis(0), c).zip(roots) {
        out.slice_mut(s![at..at + root.ncols(), ..]).assign(&root.t().dot(&f));
        at += root.ncols();
    }
    out
}

/// Columns of roots up to this share of the mean trace of Λ are left out where each costs a backward
/// pass: of C columns of n points that is at most C·1e-6 of the trace of all. A network is nearly sure
/// of most points that it was trained on, and a column of these is next to nothing.
const NEGLIGIBLE: f64 = 1e-6;

/// The squared norm up to which a column of a root is negligible, for outputs f of all points.
///
/// # Errors
/// As [`Likelihood::roots`].
pub(super) fn negligible(likelihood: Likelihood, f: Mat64Ref<'_>) -> Result<f64> {
    if likelihood == Likelihood::Regression {
        return Ok(0.0);
    }
    let trace: f64 = softmax(f)?.iter().map(|p| p * (1.0 - p)).sum();
    Ok(NEGLIGIBLE * trace / f.nrows().max(1) as f64)
}

/// The columns of a root that are not negligible.
pub(super) fn without_negligible_columns(root: &Mat64, negligible: f64) -> Mat64 {
    let large: Vec<usize> =
        (0..root.ncols()).filter(|i| root.column(*i).dot(&root.column(*i)) > negligible).collect();
    root.select(Axis(1), &large)
}
