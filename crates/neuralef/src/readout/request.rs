//! What is asked of a readout, and the points and operator it is asked of.

use crate::error::{Error, Result};
use crate::objective::OutputKind;
use crate::operator::{Batch, KernelOperator, MatrixValued};

/// What a readout is to find.
pub(crate) struct ReadoutRequest {
    /// k, the number of eigenpairs.
    pub components: usize,
    /// What the networks' outputs are without a readout.
    pub output_kind: OutputKind,
    /// The most directions of a basis that memory allows.
    pub rank_limit: usize,
}

/// The points and the operator that a readout works on.
pub(crate) struct Sample<'a> {
    /// The operator to decompose.
    pub operator: &'a dyn KernelOperator,
    /// The points of the empirical operator and of all means.
    pub train: &'a [Batch],
    /// Held-out points that choose the truncation.
    pub selection: &'a [Batch],
}

impl Sample<'_> {
    /// n, the number of training points.
    pub(super) fn points(&self) -> usize {
        count(self.train)
    }

    /// The operator as one of a matrix-valued kernel.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an operator with one output.
    pub(super) fn matrix_valued(&self) -> Result<&dyn MatrixValued> {
        self.operator.matrix_valued().ok_or_else(|| Error::Unsupported {
            what: "a readout for several outputs".into(),
            reason: "the kernel operator has one output".into(),
        })
    }
}

/// The number of `points`.
pub(super) fn count(points: &[Batch]) -> usize {
    points.iter().map(|b| b.indices.len()).sum()
}
