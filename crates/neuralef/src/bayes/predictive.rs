//! Probabilities of classes from Gaussian logits.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use ndarray::{Array1, Array3, ArrayView2, ArrayView3, Axis, concatenate};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::calibration::softmax;
use crate::error::{Error, Result};
use crate::linalg::{eigh, expect_finite_f64, matmul_f64};
use crate::matrix::{Mat64, Mat64Ref};
use crate::rng;
use crate::spec::{Domain, Entry, Parameter, Registry};

/// Samples that are drawn at a time.
const CHUNK: usize = 1000;
/// Variances below this share of the largest of a point count as this share in the Laplace bridge.
const FLOOR: f64 = 1e-12;

const PROBIT: Entry<Predictive> = Entry {
    name: "probit",
    summary: "softmax of logits scaled by 1/√(1 + π/8·variance)",
    parameters: &[],
    build: |_| Ok(Predictive::Probit),
};
const MEAN_FIELD: Entry<Predictive> = Entry {
    name: "mean_field",
    summary: "1/Σ exp(−differences of logits, scaled by their variances): uses covariances",
    parameters: &[],
    build: |_| Ok(Predictive::MeanField),
};
const MONTE_CARLO: Entry<Predictive> = Entry {
    name: "monte_carlo",
    summary: "mean of the softmax of random logits",
    parameters: &[Parameter::new(
        "samples",
        Domain::Integer(1, 10_000_000),
        "1000",
        "number of random logits for each point",
    )],
    build: |args| Ok(Predictive::MonteCarlo { samples: args.size("samples")? }),
};
const LAPLACE_BRIDGE: Entry<Predictive> = Entry {
    name: "laplace_bridge",
    summary: "mean of the Dirichlet distribution nearest to that of the softmax",
    parameters: &[],
    build: |_| Ok(Predictive::LaplaceBridge),
};

/// Every way from Gaussian logits to probabilities.
pub static PREDICTIVES: Registry<Predictive> =
    Registry { kind: "predictive", entries: &[PROBIT, MEAN_FIELD, MONTE_CARLO, LAPLACE_BRIDGE] };

/// Gaussian distributions of the C outputs at each of n points, without noise of observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// n × C.
    pub mean: Mat64,
    /// n × C × C, positive semi-definite.
    pub covariance: Array3<f64>,
}

impl Outputs {
    /// The points of all parts, in order.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is none, or they have other numbers of outputs.
    pub fn concatenate(parts: &[Outputs]) -> Result<Outputs> {
        let fault = |e| Error::shape("outputs to join", "the same C", e);
        let means: Vec<_> = parts.iter().map(|p| p.mean.view()).collect();
        let covariances: Vec<_> = parts.iter().map(|p| p.covariance.view()).collect();
        Ok(Outputs {
            mean: concatenate(Axis(0), &means).map_err(fault)?,
            covariance: concatenate(Axis(0), &covariances).map_err(fault)?,
        })
    }

    /// Variances of the outputs, n × C.
    pub fn variances(&self) -> Mat64 {
        let (n, c) = self.mean.dim();
        Mat64::from_shape_fn((n, c), |(i, j)| self.covariance[[i, j, j]])
    }

    /// The trace of each covariance: how uncertain the function is there.
    pub fn total_variance(&self) -> Vec<f64> {
        self.covariance.outer_iter().map(|s| s.diag().sum()).collect()
    }

    /// Probabilities of the C classes, n × C. See [`Predictive::probabilities`].
    ///
    /// # Errors
    /// As there.
    pub fn probabilities(&self, predictive: Predictive, seed: u64) -> Result<Mat64> {
        predictive.probabilities(self.mean.view(), self.covariance.view(), seed)
    }
}

/// How Gaussian logits become probabilities, which have no closed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Predictive {
    /// softmax(m_c/√(1 + π/8·Σ_cc)): exact for two classes up to the fit of a probit to a sigmoid
    /// (MacKay 1992), for more without their correlations.
    #[default]
    Probit,
    /// p_c ∝ 1/Σ_l exp(−(m_c − m_l)/√(1 + π/8·v_cl)) with v_cl = Σ_cc + Σ_ll − 2Σ_cl, the variance of a
    /// difference of logits (Lu, Ie & Sha 2020, "mf2"), then normalised. Logits that move together are
    /// not taken for uncertain classes. For two classes it is probit of their difference.
    MeanField,
    /// The mean of softmax over samples of N(m, Σ). The same normal numbers serve every point, so that
    /// a point's probabilities do not depend on its company; errors of points are correlated for that.
    /// The standard error of a probability p is at most √(p(1 − p)/samples).
    MonteCarlo {
        /// How many.
        samples: usize,
    },
    /// The mean of the Dirichlet distribution whose density over logits that sum to 0 has the mode and
    /// curvature of N(m, Σ) (Hobbhahn, Kristiadi & Hennig 2022). For large variances it puts too much
    /// on the classes with the least of it.
    LaplaceBridge,
}

impl Predictive {
    /// Probabilities of the C classes, n × C with rows that sum to 1, for logits of means `mean`
    /// (n × C) and covariances `covariance` (n × C × C). Only the diagonal matters for `probit`, O(n C).
    /// O(n C²) for `mean_field` and `laplace_bridge`, O(n C³ + n·samples·C²) for `monte_carlo`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::InvalidParameter`] for negative variances.
    pub fn probabilities(
        self,
        mean: Mat64Ref<'_>,
        covariance: ArrayView3<'_, f64>,
        seed: u64,
    ) -> Result<Mat64> {
        let (n, c) = mean.dim();
        if c == 0 || covariance.dim() != (n, c, c) {
            let got = format!("{n} × {c} means, {:?}", covariance.dim());
            return Err(Error::shape("covariance of logits", "n × C × C", got));
        }
        expect_finite_f64("means of logits", mean)?;
        for (i, sigma) in covariance.outer_iter().enumerate() {
            expect_finite_f64("covariance of logits", sigma)?;
            if let Some(bad) = sigma.diag().iter().find(|v| **v < 0.0) {
                let got = format!("{bad:e} at point {i}");
                return Err(Error::parameter("covariance of logits", "variances ≥ 0", got));
            }
        }
        match self {
            Predictive::Probit => {
                let scaled = Mat64::from_shape_fn((n, c), |(i, j)| {
                    mean[[i, j]] / (1.0 + PI / 8.0 * covariance[[i, j, j]]).sqrt()
                });
                softmax(scaled.view())
            }
            Predictive::MeanField => Ok(mean_field(mean, covariance)),
            Predictive::MonteCarlo { samples } => monte_carlo(mean, covariance, samples, seed),
            Predictive::LaplaceBridge => Ok(laplace_bridge(mean, covariance)),
        }
    }
}

fn mean_field(mean: Mat64Ref<'_>, covariance: ArrayView3<'_, f64>) -> Mat64 {
    let mut out = mean.to_owned();
    let (n, c) = mean.dim();
    for i in 0..n {
        let (m, sigma) = (mean.row(i), covariance.index_axis(Axis(0), i));
        // Minus the logarithm of each sum; the largest exponents go first, since e^x may overflow.
        let logs = Array1::from_shape_fn(c, |a| {
            let term = |b: usize| {
                let v = (sigma[[a, a]] + sigma[[b, b]] - 2.0 * sigma[[a, b]]).max(0.0);
                (m[b] - m[a]) / (1.0 + PI / 8.0 * v).sqrt()
            };
            let largest = (0..c).map(term).fold(f64::NEG_INFINITY, f64::max);
            -largest - (0..c).map(|b| (term(b) - largest).exp()).sum::<f64>().ln()
        });
        let largest = logs.fold(f64::NEG_INFINITY, |a, v| a.max(*v));
        let weights = logs.mapv(|v| (v - largest).exp());
        out.row_mut(i).assign(&(&weights / weights.sum()));
    }
    out
}

fn monte_carlo(
    mean: Mat64Ref<'_>,
    covariance: ArrayView3<'_, f64>,
    samples: usize,
    seed: u64,
) -> Result<Mat64> {
    if samples == 0 {
        return Err(Error::parameter("samples", "at least 1", 0));
    }
    let (n, c) = mean.dim();
    let points: Vec<usize> = (0..n).collect();
    let roots: Vec<Mat64> = points
        .par_iter()
        .map(|i| root(covariance.index_axis(Axis(0), *i)))
        .collect::<Result<_>>()?;
    let mut out = Mat64::zeros((n, c));
    for (chunk, start) in (0..samples).step_by(CHUNK).enumerate() {
        let count = CHUNK.min(samples - start);
        let mut normal = vec![0.0f32; count * c];
        rng::fill_normal(&mut rng::stream(seed, "predictive", chunk as u64), &mut normal);
        let normal = Mat64::from_shape_fn((count, c), |(s, j)| f64::from(normal[s * c + j]));
        let mean_of = |i: &usize| -> Result<Array1<f64>> {
            let logits = matmul_f64(normal.view(), roots[*i].t())? + mean.row(*i);
            Ok(softmax(logits.view())?.sum_axis(Axis(0)))
        };
        let sums: Vec<Array1<f64>> = points.par_iter().map(mean_of).collect::<Result<_>>()?;
        out.rows_mut().into_iter().zip(&sums).for_each(|(mut row, sum)| row += sum);
    }
    Ok(out / samples as f64)
}

/// FFᵀ, symmetric to the bit.
pub(super) fn products(f: ArrayView2<'_, f64>) -> Mat64 {
    let mut out = f.dot(&f.t());
    for a in 0..out.nrows() {
        for b in 0..a {
            out[[b, a]] = out[[a, b]];
        }
    }
    out
}

/// S with SSᵀ = Σ; eigenvalues below 0 are rounding.
fn root(sigma: ArrayView2<'_, f64>) -> Result<Mat64> {
    let (values, mut vectors) = eigh(sigma)?;
    for (mut column, value) in vectors.columns_mut().into_iter().zip(&values) {
        column *= value.max(0.0).sqrt();
    }
    Ok(vectors)
}

/// α_c ∝ (1 − 2/C + e^{m_c} Σ_l e^{−m_l}/C²)/Σ_cc, for m and Σ conditioned on Σ_c logits = 0.
fn laplace_bridge(mean: Mat64Ref<'_>, covariance: ArrayView3<'_, f64>) -> Mat64 {
    let mut out = mean.to_owned();
    let c = mean.ncols() as f64;
    for (mut m, sigma) in out.outer_iter_mut().zip(covariance.outer_iter()) {
        let rows = sigma.sum_axis(Axis(1));
        let total = rows.sum();
        let mut variances: Array1<f64> = sigma.diag().to_owned();
        if total > 0.0 {
            let excess = m.sum() / total;
            m.zip_mut_with(&rows, |m, row| *m -= row * excess);
            variances.zip_mut_with(&rows, |v, row| *v = (*v - row * row / total).max(0.0));
        } else {
            let excess = m.sum() / c;
            m.mapv_inplace(|v| v - excess);
        }
        let largest = variances.fold(0.0f64, |a, v| a.max(*v));
        let variance = |v: f64| if largest > 0.0 { v.max(FLOOR * largest) / largest } else { 1.0 };
        // In logarithms: e^{m} may be beyond the range of doubles.
        let least = m.fold(f64::INFINITY, |a, v| a.min(*v));
        let others = m.iter().map(|v| (least - v).exp()).sum::<f64>().ln() - least;
        let constant = (1.0 - 2.0 / c).max(0.0).ln();
        m.zip_mut_with(&variances, |m, v| {
            let term = *m + others - 2.0 * c.ln();
            let high = term.max(constant);
            *m = high + ((term - high).exp() + (constant - high).exp()).ln() - variance(*v).ln();
        });
        let largest = m.fold(f64::NEG_INFINITY, |a, v| a.max(*v));
        m.mapv_inplace(|v| (v - largest).exp());
        let sum = m.sum();
        m.mapv_inplace(|v| v / sum);
    }
    out
}

impl FromStr for Predictive {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        PREDICTIVES.build_text(text)
    }
}

impl fmt::Display for Predictive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Predictive::Probit => PROBIT.text(&[]),
            Predictive::MeanField => MEAN_FIELD.text(&[]),
            Predictive::MonteCarlo { samples } => MONTE_CARLO.text(&[("samples", samples)]),
            Predictive::LaplaceBridge => LAPLACE_BRIDGE.text(&[]),
        })
    }
}

impl Serialize for Predictive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
