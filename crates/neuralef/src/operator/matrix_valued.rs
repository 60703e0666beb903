//! Operators of matrix-valued kernels, κ(x, x') ∈ ℝ^{C×C}: what they offer beyond [`KernelOperator`].

use std::sync::Arc;

use ndarray::{Axis, s};

use super::{Batch, KernelOperator, Tick};
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat64, Mat64Ref};

/// The operator of a matrix-valued kernel, (Tψ)(x) = E κ(x, x')ψ(x') with ψ(x') ∈ ℝ^C.
///
/// Functions of (point, output) have the inner product E_x Σ_c f_c(x)g_c(x): the data measure times
/// the counting measure over outputs. Eigenvalues are then those of the N·C × N·C Gram matrix
/// divided by N, their sum is E tr κ(x, x), and κ_cc'(x, x') = Σ_j μ_j ψ_jc(x)ψ_jc'(x').
pub trait MatrixValued: KernelOperator {
    /// The operator of the scalar kernel tr κ(x, x'), which is the same in every basis of the
    /// outputs.
    fn trace(&self) -> Arc<dyn KernelOperator>;

    /// The operator of the scalar kernel uᵀκ(x, x')u for u ∈ ℝ^C.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless u has C entries.
    fn along(&self, direction: &[f64]) -> Result<Arc<dyn KernelOperator>>;

    /// E κ(x, x) over the points of `sample`, C × C.
    ///
    /// # Errors
    /// As [`apply`](KernelOperator::apply).
    fn covariance(&self, sample: &[Batch]) -> Result<Mat64>;

    /// The quadratic form of the products w_p(x)e_c of r scalar functions with the C unit vectors:
    /// entry (p·C + c, p'·C + c') is 1/n² Σ_ii' w_p(x_i)κ_cc'(x_i, x_i')w_p'(x_i') over the n points
    /// of `sample`, rC × rC, symmetrised. `functions` holds w, n × r. `tick` as for
    /// [`quadratic_form`](KernelOperator::quadratic_form). The products, n·C × r·C, are never formed.
    ///
    /// # Errors
    /// As [`quadratic_form`](KernelOperator::quadratic_form).
    fn product_form(
        &self,
        sample: &[Batch],
        functions: &Mat64,
        tick: &mut Tick<'_>,
    ) -> Result<Mat64>;

    /// The quadratic forms of r scalar functions under the scalar kernels uᵀκu, one for each of the
    /// columns u of `directions` (C × q): entry (p, p') is 1/n² Σ_ii' w_p(x_i)(uᵀκ(x_i, x_i')u)
    /// w_p'(x_i'), r × r, symmetrised. `functions` and `tick` as for
    /// [`product_form`](MatrixValued::product_form).
    ///
    /// # Errors
    /// As [`product_form`](MatrixValued::product_form); [`Error::Shape`](crate::Error::Shape) unless
    /// the directions have C entries.
    fn forms_along(
        &self,
        sample: &[Batch],
        functions: &Mat64,
        directions: Mat64Ref<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<Vec<Mat64>> {
        let q = directions.ncols();
        let mut forms = Vec::with_capacity(q);
        for (done, direction) in directions.axis_iter(Axis(1)).enumerate() {
            let scalar = self.along(&direction.to_vec())?;
            let mut tick = |step: usize, steps: usize| tick(done * steps + step, q * steps);
            forms.push(scalar.quadratic_form(sample, functions, &mut tick)?);
        }
        Ok(forms)
    }

    /// Bytes that [`product_form`](MatrixValued::product_form) takes for r functions beside its
    /// result.
    fn product_bytes(&self, functions: usize) -> u64;

    /// Bytes that [`forms_along`](MatrixValued::forms_along) takes for r functions beside its
    /// results.
    fn along_bytes(&self, functions: usize) -> u64 {
        self.product_bytes(functions)
    }
}

/// Which scalar kernel of κ, or all of it, an operator stands for.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// κ itself: C rows for each point.
    Whole,
    /// tr κ.
    Trace,
    /// uᵀκu.
    Along(Arc<[f64]>),
}

impl Part {
    /// Rows of ψ for each point, of a kernel with `outputs` outputs.
    pub(super) fn rows(&self, outputs: usize) -> usize {
        if matches!(self, Part::Whole) { outputs } else { 1 }
    }
}

/// The rows of points with `outputs` consecutive rows each.
pub(crate) fn rows_of_points(points: &[usize], outputs: usize) -> Vec<usize> {
    points.iter().flat_map(|p| p * outputs..(p + 1) * outputs).collect()
}

/// Adds the r × r block of the outputs (c, c') to the rC × rC form.
pub(super) fn add_block(form: &mut Mat64, block: Mat64Ref<'_>, c: (usize, usize), outputs: usize) {
    let mut to = form.slice_mut(s![c.0..;outputs, c.1..;outputs]);
    to += &block;
}

/// (A + Aᵀ)/2 in place.
pub(super) fn symmetrise(a: &mut Mat64) {
    for i in 0..a.nrows() {
        for j in 0..i {
            let mean = 0.5 * (a[[i, j]] + a[[j, i]]);
            (a[[i, j]], a[[j, i]]) = (mean, mean);
        }
    }
}

/// AᵀB of every C-th row, from c: what the outputs c of consecutive points contribute.
pub(super) fn output_product(
    a: Mat64Ref<'_>,
    b: Mat64Ref<'_>,
    c: usize,
    outputs: usize,
) -> Result<Mat64> {
    linalg::tr_matmul_f64(a.slice(s![c..;outputs, ..]), b)
}
