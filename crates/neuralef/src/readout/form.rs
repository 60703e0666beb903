//! The quadratic form of the operator on trial functions, and its eigenpairs.
//!
//! For C outputs from scalar functions the space is span{w_p} ⊗ ℝ^C. The products w_p(x)e_c would be
//! an n·C × r·C matrix, C − 1 of C entries zero. With E w_pw_q = δ_pq after whitening they are
//! orthonormal, so that only the quadratic form Q of the operator is needed, which
//! [`MatrixValued::product_form`](crate::operator::MatrixValued::product_form) finds from n × r
//! values. A truncation keeps leading functions with all outputs.
//!
//! - *joint*: eigenvectors of all of Q, rC × rC; for functions with outputs of their own, scalar ones
//!   included, Q is r × r. Where Q would take more than half of the memory budget, only as many
//!   leading directions of the whitened basis take part as fit: those of the largest variance, which
//!   truncations keep anyway.
//! - *factorized*: with an orthonormal basis u_c of ℝ^C, the eigenvectors of E κ(x, x), Q's diagonal
//!   blocks in that basis alone, Q_c = E w(x)(u_cᵀκ(x, x')u_c)w(x')ᵀ: C problems of size r × r, whose
//!   pairs are merged in descending order.
//!
//! A factorised fit trains one set of scalar networks, on tr κ = Σ_c κ_c, whose last hidden layers
//! serve all directions. C fits of the κ_c would cost C times as much; for κ = k·B they would learn
//! the same functions.

use ndarray::{Array1, ArrayView2, Axis, s};

use super::basis::TrialFunctions;
use super::outputs::{OutputCombination, OutputLayout};
use super::request::Sample;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::Mat64;
use crate::operator::Tick;

/// The quadratic form of the operator on r trial functions.
pub(super) enum QuadraticForm {
    /// The form of all functions of (point, output), r × r, or rC × rC with the output varying
    /// fastest; and how such functions are made.
    Joint(Mat64, OutputCombination),
    /// The directions u_c in columns, C × C, and the r × r form of the functions along each.
    Factorized(Mat64, Vec<Mat64>),
}

/// Eigenvalues, and eigenfunctions as combinations of trial functions.
pub(super) struct Eigenpairs {
    /// In descending order.
    pub values: Vec<f64>,
    /// The coefficients of an eigenfunction in each column.
    pub vectors: Mat64,
    /// How trial functions and coefficients make functions of (point, output).
    pub combination: OutputCombination,
}

/// One eigenvalue, its vector, and the number of the direction of outputs it belongs to.
type Pair = (f64, Array1<f64>, usize);

impl QuadraticForm {
    /// The form on `functions` over the training points. Cost of a kernel: O(n²·(d + r)); of features
    /// Φ (n·C × S): O(n·C·S·r), and in the joint form O(S·(rC)²) for its products.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a layout for several outputs meets an operator with one, what the
    /// operator reports, and what `tick` returns.
    pub(super) fn new(
        layout: OutputLayout,
        sample: &Sample<'_>,
        functions: &TrialFunctions,
        tick: &mut Tick<'_>,
    ) -> Result<Self> {
        let (train, values) = (sample.train, &functions.train);
        if layout == OutputLayout::VectorValued {
            let form = sample.operator.quadratic_form(train, values, tick)?;
            return Ok(QuadraticForm::Joint(form, OutputCombination::VectorValued));
        }
        let operator = sample.matrix_valued()?;
        if layout == OutputLayout::Product {
            let form = operator.product_form(train, values, tick)?;
            return Ok(QuadraticForm::Joint(form, OutputCombination::Product(operator.outputs())));
        }
        // The basis of the outputs in which E κ(x, x) is diagonal.
        let (_, mut directions) = linalg::eigh(operator.covariance(train)?.view())?;
        let signs = linalg::canonical_signs(directions.view());
        directions.axis_iter_mut(Axis(1)).zip(signs).for_each(|(mut u, sign)| u *= sign);
        let forms = operator.forms_along(train, values, directions.view(), tick)?;
        Ok(QuadraticForm::Factorized(directions, forms))
    }

    /// The top k pairs on the leading r functions, and the Frobenius norm of the form on these.
    /// O((rC)²·k), or O(C·r²·k) factorised.
    pub(super) fn top(&self, r: usize, k: usize) -> Result<(Eigenpairs, f64)> {
        let square = |block: &ArrayView2<'_, f64>| block.iter().map(|v| v * v).sum::<f64>();
        match self {
            QuadraticForm::Joint(form, combination) => {
                let size = combination.weight_rows(r).unwrap_or(form.nrows());
                let block = form.slice(s![..size, ..size]);
                let top = linalg::top_eigh(block, k.min(size))?;
                let combination = combination.clone();
                let pairs = Eigenpairs { values: top.values, vectors: top.vectors, combination };
                Ok((pairs, square(&block).sqrt()))
            }
            QuadraticForm::Factorized(directions, forms) => {
                let (mut pairs, mut squares) = (Vec::new(), 0.0);
                for (output, form) in forms.iter().enumerate() {
                    let block = form.slice(s![..r, ..r]);
                    let top = linalg::top_eigh(block, k.min(r))?;
                    squares += square(&block);
                    let vectors = top.vectors.axis_iter(Axis(1)).map(|v| v.to_owned());
                    pairs.extend(top.values.into_iter().zip(vectors).map(|(m, v)| (m, v, output)));
                }
                let merged = Eigenpairs::largest(pairs, k, |numbers| {
                    OutputCombination::Factorized(directions.select(Axis(1), numbers))
                })?;
                Ok((merged, squares.sqrt()))
            }
        }
    }

    /// The functions themselves as eigenfunctions, with each direction of outputs where there are
    /// such: the k largest Rayleigh quotients.
    pub(super) fn rayleigh_quotients(&self, k: usize) -> Result<Eigenpairs> {
        match self {
            QuadraticForm::Joint(form, combination) => {
                Eigenpairs::of_units(&form.diag().to_vec(), k, combination.clone())
            }
            QuadraticForm::Factorized(directions, forms) => {
                let diagonals = forms.iter().map(|form| form.diag().to_vec()).enumerate();
                let pairs = diagonals.flat_map(|(output, values)| unit_pairs(&values, output));
                Eigenpairs::largest(pairs.collect(), k, |numbers| {
                    OutputCombination::Factorized(directions.select(Axis(1), numbers))
                })
            }
        }
    }
}

/// Each of `values` with its unit vector.
fn unit_pairs(values: &[f64], output: usize) -> Vec<Pair> {
    let unit = Mat64::eye(values.len());
    values.iter().zip(unit.columns()).map(|(v, unit)| (*v, unit.to_owned(), output)).collect()
}

impl Eigenpairs {
    /// The trial functions themselves, with the k largest of `values`.
    pub(super) fn of_units(
        values: &[f64],
        k: usize,
        combination: OutputCombination,
    ) -> Result<Self> {
        Eigenpairs::largest(unit_pairs(values, 0), k, |_| combination)
    }

    /// The k pairs with the largest eigenvalues, in descending order; ties keep their order.
    /// `combination` gets the number of the direction of each.
    fn largest(
        mut pairs: Vec<Pair>,
        k: usize,
        combination: impl FnOnce(&[usize]) -> OutputCombination,
    ) -> Result<Self> {
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        pairs.truncate(k);
        let views: Vec<_> = pairs.iter().map(|p| p.1.view()).collect();
        let vectors = ndarray::stack(Axis(1), &views)
            .map_err(|e| Error::shape("merged eigenvectors", "equal lengths", e))?;
        let numbers: Vec<usize> = pairs.iter().map(|p| p.2).collect();
        let values = pairs.iter().map(|p| p.0).collect();
        Ok(Eigenpairs { values, vectors, combination: combination(&numbers) })
    }

    /// The leading pairs with eigenvalues above `floor`.
    pub(super) fn above(self, floor: f64) -> Self {
        let count = self.values.iter().take_while(|m| **m > floor).count();
        Eigenpairs {
            vectors: self.vectors.slice(s![.., ..count]).to_owned(),
            combination: self.combination.leading(count),
            values: self.values[..count].to_vec(),
        }
    }
}
