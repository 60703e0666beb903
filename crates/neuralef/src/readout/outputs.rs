//! How functions of x make functions of (point, output): the forms of matrix-valued eigenfunctions.

use ndarray::{Axis, s};

use crate::error::{Error, Result};
use crate::fit::{FitSpec, OutputForm, ReadoutKind};
use crate::linalg;
use crate::matrix::{Mat64, Mat64Ref};

/// How the functions of a basis stand to the C outputs of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputLayout {
    /// Functions with values in ℝ^C; scalar ones for C = 1.
    VectorValued,
    /// Scalar functions h_p, each with each unit vector of ℝ^C: h_p(x)e_c.
    Product,
    /// Scalar functions with each vector of an orthonormal basis of ℝ^C, never mixed: s(x)u_c.
    Factorized,
}

impl OutputLayout {
    /// Of the basis of a readout for a kernel with the outputs of `spec`.
    pub(crate) fn of(spec: &FitSpec) -> Self {
        match (spec.outputs, spec.output_form, spec.readout) {
            (1, ..) => OutputLayout::VectorValued,
            (_, OutputForm::Factorized, _) => OutputLayout::Factorized,
            (_, OutputForm::Joint, _) if spec.network.hidden_has_outputs() => {
                OutputLayout::VectorValued
            }
            // Last hidden layers know no outputs.
            (_, OutputForm::Joint, ReadoutKind::Galerkin) => OutputLayout::Product,
            (_, OutputForm::Joint, _) => OutputLayout::VectorValued,
        }
    }

    /// How many functions of (point, output) each function makes, of a kernel with C `outputs`.
    pub(super) fn outputs_per_function(self, outputs: usize) -> usize {
        if self == OutputLayout::VectorValued { 1 } else { outputs }
    }
}

/// Makes eigenfunctions, a row for each (point, output), from a basis and weights.
#[derive(Debug, Clone)]
pub(crate) enum OutputCombination {
    /// HW: H is n·C × p, W is p × k.
    VectorValued,
    /// For so many outputs C, ψ_jc(x) = Σ_p h_p(x)W_(pC+c)j: H is n × p, W is pC × k.
    Product(usize),
    /// ψ_jc(x) = (hᵀW)_j U_cj: H is n × p, W is p × k, and U (C × k) has unit columns.
    Factorized(Mat64),
}

impl OutputCombination {
    /// Rows of weights for a basis of `width` functions; none beyond what can be counted.
    pub(crate) fn weight_rows(&self, width: usize) -> Option<usize> {
        match self {
            OutputCombination::Product(outputs) => width.checked_mul(*outputs),
            _ => Some(width),
        }
    }

    /// The same for the first `k` eigenfunctions.
    pub(crate) fn leading(self, k: usize) -> Self {
        match self {
            OutputCombination::Factorized(u) => {
                OutputCombination::Factorized(u.slice(s![.., ..k]).to_owned())
            }
            other => other,
        }
    }

    /// Values of functions of (point, output), n·C × k, as far as this form has them: n × k
    /// components along each function's vector of outputs where there is one, else all of them.
    pub(crate) fn along(&self, values: Mat64) -> Mat64 {
        let OutputCombination::Factorized(directions) = self else { return values };
        let (c, k) = directions.dim();
        let mut out = Mat64::zeros((values.nrows() / c.max(1), k));
        for (mut out, rows) in out.outer_iter_mut().zip(values.axis_chunks_iter(Axis(0), c)) {
            for (row, weights) in rows.outer_iter().zip(directions.outer_iter()) {
                ndarray::Zip::from(&mut out)
                    .and(row)
                    .and(weights)
                    .for_each(|out, value, weight| *out += value * weight);
            }
        }
        out
    }

    /// Weights for a basis H of weights `vectors` for the basis HB, with `b` = B.
    ///
    /// # Errors
    /// [`Error::Shape`] when the factors do not fit.
    pub(crate) fn compose(&self, b: Mat64Ref<'_>, vectors: Mat64Ref<'_>) -> Result<Mat64> {
        match self {
            OutputCombination::Product(_) => self.values(b, vectors),
            _ => linalg::matmul_f64(b, vectors),
        }
    }

    /// ψ, n·C × k, for values `h` of the basis. A row has the same bits in any company.
    ///
    /// # Errors
    /// [`Error::Shape`] when the factors do not fit.
    pub(crate) fn values(&self, h: Mat64Ref<'_>, weights: Mat64Ref<'_>) -> Result<Mat64> {
        match self {
            OutputCombination::VectorValued => linalg::matmul_f64(h, weights),
            OutputCombination::Product(outputs) => {
                let (n, p, k) = (h.nrows(), h.ncols(), weights.ncols());
                let fault = |e| Error::shape("readout weights", format!("{p}·{outputs} × k"), e);
                let weights = weights.as_standard_layout();
                let wide = weights.to_shape((p, outputs * k)).map_err(fault)?;
                let product = linalg::matmul_f64(h, wide.view())?;
                product.into_shape_with_order((n * outputs, k)).map_err(fault)
            }
            OutputCombination::Factorized(directions) => {
                let scalar = linalg::matmul_f64(h, weights)?;
                let (c, k) = directions.dim();
                if scalar.ncols() != k {
                    let got = format!("{c} × {k}");
                    return Err(Error::shape("directions", format!("C × {}", scalar.ncols()), got));
                }
                Ok(Mat64::from_shape_fn((scalar.nrows() * c, k), |(row, j)| {
                    scalar[[row / c, j]] * directions[[row % c, j]]
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;

    #[test]
    fn values_are_what_the_formulas_say() {
        let (n, p, c, k) = (5, 4, 3, 2);
        let h = random(n, p, 1);
        let w = random(p * c, k, 2);
        let psi = OutputCombination::Product(c).values(h.view(), w.view()).unwrap();
        for ((row, j), v) in psi.indexed_iter() {
            let want: f64 = (0..p).map(|q| h[[row / c, q]] * w[[q * c + row % c, j]]).sum();
            assert!((v - want).abs() < 1e-14);
        }
        let (w, u) = (random(p, k, 3), random(c, k, 4));
        let psi = OutputCombination::Factorized(u.clone()).values(h.view(), w.view()).unwrap();
        for ((row, j), v) in psi.indexed_iter() {
            let want: f64 = (0..p).map(|q| h[[row / c, q]] * w[[q, j]]).sum();
            assert!((v - want * u[[row % c, j]]).abs() < 1e-14);
        }
        // Along unit vectors u, s(x)u is s(x) again.
        let norms = u.mapv(|v| v * v).sum_axis(Axis(0)).mapv(f64::sqrt);
        let unit = OutputCombination::Factorized(&u / &norms);
        let along = unit.along(unit.values(h.view(), w.view()).unwrap());
        assert_eq!(along.dim(), (n, k));
        for (got, want) in along.iter().zip(&h.dot(&w)) {
            assert!((got - want).abs() < 1e-14);
        }
        let any = random(n * c, k, 6);
        let along = unit.along(any.clone());
        let want = (0..c).map(|a| any[[c + a, 1]] * u[[a, 1]] / norms[1]).sum::<f64>();
        assert!((along[[1, 1]] - want).abs() < 1e-14);
        assert_eq!(OutputCombination::Product(c).along(any.clone()), any);
        assert!(OutputCombination::Product(c).values(h.view(), random(p, k, 5).view()).is_err());
        assert!(OutputCombination::Factorized(u).values(h.view(), random(p, 1, 5).view()).is_err());
        assert_eq!(OutputCombination::Product(2).weight_rows(usize::MAX), None);
    }
}
