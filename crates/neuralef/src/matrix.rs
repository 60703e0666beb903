//! The host matrices every part of the crate meets at: row-major `ndarray` arrays.

pub(crate) use neuralef_linalg::matrix::expect_columns;
#[doc(inline)]
pub use neuralef_linalg::matrix::{Mat, Mat64, Mat64Mut, Mat64Ref, MatMut, MatRef};
