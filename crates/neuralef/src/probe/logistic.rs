//! Multinomial logistic regression with an L2 penalty.

use std::ops::Range;

use ndarray::{Array1, Axis, s};
use serde::Serialize;

use super::lbfgs::{Evaluated, minimise};
use super::{check_features, check_positive, for_blocks};
use crate::error::{Error, Result};
use crate::linalg::{Cholesky, cholesky_jittered, matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat64, MatRef};

/// Features up to which the preconditioner is a full matrix.
const FULL: usize = 2048;

/// Multinomial logistic regression, before it is fitted.
///
/// With p(y | x) = softmax(Wx + b) it minimises C·Σᵢ −log p(yᵢ | xᵢ) + ½‖W‖² over W and the
/// unpenalised b, as scikit-learn's `LogisticRegression` does. Two classes are one vector of
/// coefficients, p = 1/(1 + e^(−wx − b)), with the penalty ½‖w‖², as there too.
///
/// The minimum is found by L-BFGS, preconditioned with the Hessian at W = 0 (its diagonal beyond
/// 2,048 features), so that features of different scales, as eigenfunctions scaled by √μ have, cost
/// no more steps. Each evaluation takes O(n k c) for n points, k features and c classes, the
/// preconditioner O(n k² + k³) once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticRegression {
    /// C > 0, the inverse strength of the penalty.
    pub c: f64,
    /// Whether there is an intercept b.
    pub intercept: bool,
    /// The iteration has converged when no entry of the gradient of the objective divided by C·n
    /// (the mean loss with its penalty) is larger.
    pub tol: f64,
    /// Most steps of L-BFGS.
    pub max_iter: usize,
}

impl Default for LogisticRegression {
    /// C = 1 with an intercept, to a gradient of 1e-6 in 1,000 steps.
    fn default() -> Self {
        LogisticRegression { c: 1.0, intercept: true, tol: 1e-6, max_iter: 1000 }
    }
}

/// How a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogisticRecord {
    /// Whether `tol` was reached.
    pub converged: bool,
    /// Steps of L-BFGS.
    pub iterations: usize,
    /// Evaluations of loss and gradient.
    pub evaluations: usize,
    /// The largest entry of the gradient that was reached (of the objective divided by C·n).
    pub gradient_norm: f64,
    /// C·Σ loss + ½‖W‖² at the end.
    pub objective: f64,
}

/// A fitted [`LogisticRegression`].
#[derive(Debug, Clone)]
pub struct LogisticModel {
    classes: Vec<i64>,
    /// k × r, r = 1 for two classes and c otherwise.
    weights: Mat64,
    intercepts: Array1<f64>,
    record: LogisticRecord,
}

impl LogisticRegression {
    /// Fits to features `x` (n × k) and the labels of their rows. Running out of steps is no error:
    /// see [`LogisticRecord::converged`].
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for `C`, `tol` or labels of fewer than two classes,
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::Numerical`].
    pub fn fit(&self, x: MatRef<'_>, labels: &[i64]) -> Result<LogisticModel> {
        check_positive("C", self.c)?;
        if !(self.tol.is_finite() && self.tol >= 0.0) {
            return Err(Error::parameter("tol", "a number from 0", self.tol));
        }
        check_features(x, labels.len(), None)?;
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        if classes.len() < 2 {
            let got = format!("the label {} only", classes[0]);
            return Err(Error::parameter("labels", "at least two classes", got));
        }
        let indices = indices(&classes, labels)?;
        let x = x.as_standard_layout();
        let objective = LogisticObjective::new(x.view(), &indices, classes.len(), self);
        let (d, r) = (objective.rows(), objective.responses);
        let preconditioner = objective.preconditioner()?;
        let minimum = minimise(
            vec![0.0; d * r],
            self.tol,
            self.max_iter,
            |w| objective.evaluate(w),
            |g| preconditioner.apply(g, r),
        )?;
        let all = shaped(d, r, &minimum.at)?;
        let k = x.ncols();
        let intercepts = match self.intercept {
            true => all.row(k).to_owned(),
            false => Array1::zeros(r),
        };
        let record = LogisticRecord {
            converged: minimum.converged,
            iterations: minimum.iterations,
            evaluations: minimum.evaluations,
            gradient_norm: minimum.gradient_norm,
            objective: minimum.value * self.c * labels.len() as f64,
        };
        let weights = all.slice(s![..k, ..]).to_owned();
        Ok(LogisticModel { classes, weights, intercepts, record })
    }
}

impl LogisticModel {
    /// The classes, ascending.
    pub fn classes(&self) -> &[i64] {
        &self.classes
    }

    /// Coefficients as scikit-learn has them, c × k; 1 × k, those of the second class, for two.
    pub fn coefficients(&self) -> Mat64 {
        self.weights.t().to_owned()
    }

    /// Intercepts, c or 1; zeros without.
    pub fn intercepts(&self) -> &[f64] {
        self.intercepts.as_slice().unwrap_or_default()
    }

    /// How the fit ended.
    pub fn record(&self) -> &LogisticRecord {
        &self.record
    }

    /// Logits whose softmax are the probabilities, n × c; the first of two classes has 0.
    ///
    /// # Errors
    /// [`Error::Shape`] unless x is n × k, [`Error::NonFinite`].
    pub fn logits(&self, x: MatRef<'_>) -> Result<Mat64> {
        check_features(x, x.nrows(), Some(self.weights.nrows()))?;
        let c = self.classes.len();
        let first = c - self.weights.ncols();
        let mut out = Mat64::zeros((x.nrows(), c));
        let (mut at, work) = (0, |_: Range<usize>, x: Mat64| {
            let mut z = matmul_f64(x.view(), self.weights.view())?;
            z += &self.intercepts;
            Ok(z)
        });
        for_blocks(x, work, |z| {
            out.slice_mut(s![at..at + z.nrows(), first..]).assign(&z);
            at += z.nrows();
        })?;
        Ok(out)
    }

    /// p(class | x), n × c, columns in the order of [`classes`](LogisticModel::classes).
    ///
    /// # Errors
    /// As [`logits`](LogisticModel::logits).
    pub fn predict_proba(&self, x: MatRef<'_>) -> Result<Mat64> {
        let mut z = self.logits(x)?;
        for mut row in z.rows_mut() {
            let total = log_sum_exp(row.iter().copied());
            row.mapv_inplace(|v| (v - total).exp());
        }
        Ok(z)
    }

    /// The most probable class of each row; the smaller label of equally probable ones.
    ///
    /// # Errors
    /// As [`logits`](LogisticModel::logits).
    pub fn predict(&self, x: MatRef<'_>) -> Result<Vec<i64>> {
        let best = |row: ndarray::ArrayView1<'_, f64>| {
            let mut best = 0;
            for (j, v) in row.iter().enumerate() {
                if *v > row[best] {
                    best = j;
                }
            }
            self.classes[best]
        };
        Ok(self.logits(x)?.rows().into_iter().map(best).collect())
    }

    /// Mean of −log p(label | x), in nats.
    ///
    /// # Errors
    /// As [`logits`](LogisticModel::logits), and [`Error::InvalidParameter`] for a label that was
    /// not among those of the fit.
    pub fn log_loss(&self, x: MatRef<'_>, labels: &[i64]) -> Result<f64> {
        check_features(x, labels.len(), None)?;
        let (indices, z) = (indices(&self.classes, labels)?, self.logits(x)?);
        let losses = z.rows().into_iter().zip(&indices);
        let sum: f64 = losses.map(|(z, y)| log_sum_exp(z.iter().copied()) - z[*y]).sum();
        Ok(sum / labels.len() as f64)
    }

    /// Share of rows whose most probable class is their label; labels that were not among those of
    /// the fit are never right.
    ///
    /// # Errors
    /// As [`logits`](LogisticModel::logits).
    pub fn accuracy(&self, x: MatRef<'_>, labels: &[i64]) -> Result<f64> {
        check_features(x, labels.len(), None)?;
        let right = self.predict(x)?.iter().zip(labels).filter(|(a, b)| a == b).count();
        Ok(right as f64 / labels.len() as f64)
    }

    /// Columns of [`predict_proba`](LogisticModel::predict_proba) for labels.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a label that was not among those of the fit.
    pub fn indices(&self, labels: &[i64]) -> Result<Vec<usize>> {
        indices(&self.classes, labels)
    }
}

/// log Σ e^z without overflow.
fn log_sum_exp(z: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = z.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + z.map(|v| (v - largest).exp()).sum::<f64>().ln()
}

fn indices(classes: &[i64], labels: &[i64]) -> Result<Vec<usize>> {
    let find = |label: &i64| {
        classes.binary_search(label).map_err(|_| {
            let expected = format!("one of the {} classes of the fit", classes.len());
            Error::parameter("labels", expected, label)
        })
    };
    labels.iter().map(find).collect()
}

fn shaped(rows: usize, columns: usize, values: &[f64]) -> Result<Mat64> {
    Mat64::from_shape_vec((rows, columns), values.to_vec())
        .map_err(|_| Error::shape("coefficients", format!("{rows} × {columns}"), values.len()))
}

/// The objective (1/n)Σ loss + λ/2·‖W‖², λ = 1/(C n), of (k + intercept) × r coefficients.
struct LogisticObjective<'a> {
    x: MatRef<'a>,
    /// Classes of the rows.
    indices: &'a [usize],
    /// c, or 1 for two classes.
    responses: usize,
    classes: usize,
    intercept: bool,
    /// λ, the weight of the penalty.
    penalty: f64,
}

impl<'a> LogisticObjective<'a> {
    fn new(x: MatRef<'a>, indices: &'a [usize], classes: usize, spec: &LogisticRegression) -> Self {
        let responses = if classes == 2 { 1 } else { classes };
        let penalty = 1.0 / (spec.c * x.nrows() as f64);
        LogisticObjective { x, indices, responses, classes, intercept: spec.intercept, penalty }
    }

    /// k, and one for the intercept.
    fn rows(&self) -> usize {
        self.x.ncols() + usize::from(self.intercept)
    }

    /// Value and gradient.
    fn evaluate(&self, coefficients: &[f64]) -> Result<Evaluated> {
        let (k, r, n) = (self.x.ncols(), self.responses, self.x.nrows() as f64);
        let all = shaped(self.rows(), r, coefficients)?;
        let weights = all.slice(s![..k, ..]);
        let work = |rows: Range<usize>, x: Mat64| {
            let mut z = matmul_f64(x.view(), weights)?;
            if self.intercept {
                z += &all.row(k);
            }
            let loss = self.residuals(&mut z, &self.indices[rows]);
            Ok((loss, tr_matmul_f64(x.view(), z.view())?, z.sum_axis(Axis(0))))
        };
        let mut loss = 0.0;
        let mut gradient = Mat64::zeros(all.dim());
        for_blocks(self.x, work, |(part, slope, sums)| {
            loss += part;
            let mut top = gradient.slice_mut(s![..k, ..]);
            top += &slope;
            if self.intercept {
                let mut last = gradient.row_mut(k);
                last += &sums;
            }
        })?;
        gradient /= n;
        let mut square = 0.0;
        for (g, w) in gradient.iter_mut().zip(coefficients).take(k * r) {
            *g += self.penalty * w;
            square += w * w;
        }
        Ok((loss / n + 0.5 * self.penalty * square, gradient.into_raw_vec_and_offset().0))
    }

    /// Turns logits into probabilities minus targets, and gives the sum of the losses.
    fn residuals(&self, z: &mut Mat64, classes: &[usize]) -> f64 {
        let mut sum = 0.0;
        for (mut row, class) in z.rows_mut().into_iter().zip(classes) {
            if self.responses == 1 {
                let (z, y) = (row[0], *class as f64);
                // log(1 + e^z) − yz and 1/(1 + e^(−z)) − y, from e^(−|z|).
                let small = (-z.abs()).exp();
                let above = if z >= 0.0 { 1.0 } else { small };
                sum += z.max(0.0) - y * z + small.ln_1p();
                row[0] = above / (1.0 + small) - y;
                continue;
            }
            let largest = row.fold(f64::NEG_INFINITY, |m, v| m.max(*v));
            let target = row[*class] - largest;
            let mut total = 0.0;
            row.map_inplace(|v| {
                *v = (*v - largest).exp();
                total += *v;
            });
            sum += total.ln() - target;
            row.map_inplace(|v| *v /= total);
            row[*class] -= 1.0;
        }
        sum
    }

    /// The inverse of the Hessian at W = 0, the same for each class: p(1 − p) E xxᵀ + λI over
    /// features and intercept, with p(1 − p) = 1/4 for two classes and 1/c otherwise (its value on
    /// coefficients that sum to zero over the classes).
    fn preconditioner(&self) -> Result<Preconditioner> {
        let (k, d, n) = (self.x.ncols(), self.rows(), self.x.nrows() as f64);
        let curvature = if self.responses == 1 { 0.25 } else { 1.0 / self.classes as f64 };
        let scale = curvature / n;
        let damp = |i: usize| if i < k { self.penalty } else { 0.0 };
        if d > FULL {
            let mut squares = Array1::zeros(d);
            let work = |_: Range<usize>, x: Mat64| Ok(x.map_axis(Axis(0), |v| v.dot(&v)));
            for_blocks(self.x, work, |part| {
                let mut top = squares.slice_mut(s![..k]);
                top += &part;
            })?;
            squares.slice_mut(s![k..]).fill(n);
            let inverse = squares.indexed_iter().map(|(i, s)| 1.0 / (scale * s + damp(i)));
            return Ok(Preconditioner::Diagonal(inverse.collect()));
        }
        let mut gram = Mat64::zeros((d, d));
        let work = |_: Range<usize>, x: Mat64| {
            let mut inputs = Mat64::ones((x.nrows(), d));
            inputs.slice_mut(s![.., ..k]).assign(&x);
            tr_matmul_f64(inputs.view(), inputs.view())
        };
        for_blocks(self.x, work, |part| gram += &part)?;
        gram *= scale;
        gram.diag_mut().iter_mut().enumerate().for_each(|(i, v)| *v += damp(i));
        Ok(Preconditioner::Full(cholesky_jittered(gram.view())?))
    }
}

/// An approximate inverse Hessian.
enum Preconditioner {
    Full(Cholesky),
    Diagonal(Vec<f64>),
}

impl Preconditioner {
    /// Times a d × r gradient.
    fn apply(&self, gradient: &[f64], r: usize) -> Result<Vec<f64>> {
        match self {
            Preconditioner::Full(cholesky) => {
                let g = shaped(cholesky.lower.nrows(), r, gradient)?;
                let half = cholesky.solve_lower(g.view())?;
                Ok(cholesky.solve_lower_transposed(half.view())?.into_raw_vec_and_offset().0)
            }
            Preconditioner::Diagonal(inverse) => {
                let scaled = gradient.chunks_exact(r).zip(inverse);
                Ok(scaled.flat_map(|(row, s)| row.iter().map(move |g| g * s)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;
    use rand::RngExt as _;

    fn draw(n: usize, k: usize, classes: i64, seed: u64) -> (Mat, Vec<i64>) {
        let mut rng = crate::rng::stream(seed, "test", 0);
        let x = Mat::from_shape_fn((n, k), |_| rng.random_range(-1.0f32..1.0));
        (x, (0..n).map(|_| rng.random_range(0..classes)).collect())
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (classes, intercept) in [(2, true), (2, false), (4, true), (4, false)] {
            let (x, labels) = draw(1100, 3, classes, 1);
            let labels: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
            let spec = LogisticRegression { c: 0.01, intercept, ..Default::default() };
            let objective = LogisticObjective::new(x.view(), &labels, classes as usize, &spec);
            let size = objective.rows() * objective.responses;
            let at: Vec<f64> = (0..size).map(|i| (i as f64).sin()).collect();
            let (_, gradient) = objective.evaluate(&at).unwrap();
            for (i, got) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut at = at.clone();
                    at[i] += by;
                    objective.evaluate(&at).unwrap().0
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((got - slope).abs() < 1e-9, "{classes} {i}: {got} {slope}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads_or_batch() {
        let (x, labels) = draw(5000, 7, 3, 2);
        let fit = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| LogisticRegression::default().fit(x.view(), &labels).unwrap())
        };
        let (one, three) = (fit(1), fit(3));
        assert_eq!(one.coefficients(), three.coefficients());
        assert_eq!(one.record(), three.record());
        let whole = one.predict_proba(x.view()).unwrap();
        let part = one.predict_proba(x.slice(s![1021..1030, ..])).unwrap();
        assert_eq!(part, whole.slice(s![1021..1030, ..]));
    }

    /// Beyond 2,048 features the preconditioner is another one and the minimum the same.
    #[test]
    fn both_preconditioners_find_the_minimum() {
        let (x, labels) = draw(40, FULL, 3, 3);
        let padded = ndarray::concatenate![Axis(1), x, Mat::zeros((40, 1))];
        let spec = LogisticRegression { tol: 1e-9, ..Default::default() };
        let full = LogisticRegression { intercept: false, ..spec };
        let a = full.fit(x.view(), &labels).unwrap();
        let b = full.fit(padded.view(), &labels).unwrap();
        assert!(a.record().converged && b.record().converged, "{:?}", b.record());
        let difference = &a.coefficients() - &b.coefficients().slice(s![.., ..FULL]);
        assert!(difference.iter().all(|v| v.abs() < 1e-6));
        assert!(spec.fit(x.view(), &labels).unwrap().record().converged);
    }
}
