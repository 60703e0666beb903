//! What a model file remembers of its readout.

use serde::{Deserialize, Serialize};

use crate::fit::ReadoutKind;

/// How a readout came about: its size, the truncations tried, the residual reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadoutRecord {
    /// The kind of readout.
    pub kind: ReadoutKind,
    /// Training points streamed.
    pub points: usize,
    /// p, functions in the basis; C times as many where scalar functions are taken with each of C
    /// outputs.
    pub basis: usize,
    /// Directions kept, of as many.
    pub rank: usize,
    /// The chosen truncation relative to the largest eigenvalue of C; none where nothing is truncated.
    pub truncation: Option<f64>,
    /// Every truncation tried, as (truncation, rank, rms relative residual on held-out points).
    pub candidates: Vec<(f64, usize, f64)>,
    /// Root mean square over the k pairs of r/√(1 + r²), r the relative held-out residual, those
    /// counting 1 that the basis misses and the operator has. For factorised eigenfunctions s(x)u of a kernel with several outputs r is
    /// that of the component along u.
    pub residual: f64,
}
