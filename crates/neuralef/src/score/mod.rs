//! Scores ∇log q of a density from its samples: the spectral Stein gradient estimator.
//!
//! Expanded in the eigenfunctions ψ_j of a kernel under q, which are orthonormal in L²(q), the score
//! has coefficients that need no density: integrating by parts, E_q ψ_j∇log q = −E_q ∇ψ_j (Stein's
//! identity, for q that vanishes at infinity). So
//!
//! > ∇log q(x) ≈ Σ_{j ≤ J} β_j ψ_j(x), β_j = −E_q ∇ψ_j ∈ ℝ^d (Shi, Sun & Zhu, ICML 2018, eq. 15–17).
//!
//! | estimator | eigenfunctions | fit | memory | a query |
//! |---|---|---|---|---|
//! | [`nonparametric`](SpectralStein::nonparametric) | Nyström from all N samples | O(N²(d + k)) | O(N²), then O(N(d + k)) | O(N(d + k)) |
//! | [`parametric`](SpectralStein::parametric) | of a fitted [`Model`] (Deng, Shi & Zhu 2022) | O(N) passes through the networks, after its own fit | O(1) in N | one pass: O(1) in N |
//!
//! Both hold the same β and differ in where ψ comes from. Few terms are biased, many have the variance of
//! ∇ψ_j, which grows with j; [`Terms::Auto`] takes the number that scores best on held-out samples.
//!
//! ```
//! use neuralef::score::{SpectralStein, SteinOptions};
//! use neuralef::{Dataset, KernelSpec};
//! use neuralef::data::Density;
//!
//! let samples = Dataset::open("banana(n=500)", 0)?;
//! let x = samples.range(0..500)?;
//! let kernel = KernelSpec::parse("rbf(lengthscale=median)")?.resolve(Some(x.view()), 0)?;
//! let estimator = SpectralStein::nonparametric(kernel, &samples, &SteinOptions::default())?;
//! let query = Dataset::open("banana(n=200)", 1)?.range(0..200)?;
//! let score = estimator.score(query.view())?; // 200 × 2
//! // Here the truth is known.
//! let truth = Density::of(samples.name()).map(|q| q.score(query.view())).transpose()?;
//! let error = neuralef::score::relative_error(score.view(), truth.unwrap_or_default().view())?;
//! assert!(error < 0.5);
//! # Ok::<(), neuralef::Error>(())
//! ```

use std::sync::Arc;

use ndarray::s;
use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::Model;
use crate::kernel::{Kernel, expect_gradient};
use crate::linalg::{expect_finite_f64, matmul_f64};
use crate::matrix::{Mat64, Mat64Ref, MatRef};
use crate::method::Nystrom;

mod basis;
mod file;
mod sums;
mod terms;
#[cfg(test)]
mod tests;

pub use terms::Terms;

use basis::Basis;
use sums::SteinSums;

/// Parts that the samples are divided into to choose the number of terms.
const FOLDS: usize = 5;

/// How a [`SpectralStein`] estimator is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct SteinOptions {
    /// J, the number of eigenfunctions in the estimate.
    pub terms: Terms,
    /// The most eigenfunctions that the non-parametric estimator computes; the parametric one has
    /// those of its model.
    pub components: usize,
    /// Seed of the division into held-out parts.
    pub seed: u64,
}

impl Default for SteinOptions {
    fn default() -> Self {
        SteinOptions { terms: Terms::Auto, components: 100, seed: 0 }
    }
}

/// How a fit went, as kept in files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteinRecord {
    /// Name of the samples.
    pub data: String,
    /// N, the number of samples.
    pub points: usize,
    /// k, the eigenfunctions there are.
    pub components: usize,
    /// J, the eigenfunctions that are used.
    pub terms: usize,
    /// For [`Terms::Auto`], the mean Hyvärinen loss on held-out samples of 1, 2, … terms.
    pub losses: Vec<f64>,
}

/// A fitted spectral Stein gradient estimator. See the [module](self).
#[derive(Debug)]
pub struct SpectralStein {
    basis: Basis,
    /// B, k × d: the estimate is ψ(x)ᵀB.
    coefficients: Mat64,
    record: SteinRecord,
}

impl SpectralStein {
    /// From the Nyström eigenfunctions of `kernel`, which needs a [gradient](Kernel::gradient), with all
    /// `samples` (N × d) as landmarks; equation 17 of the paper. [`Terms::Auto`] fits it once more
    /// for each of five parts of the samples left out.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for kernels without gradients, [`Error::InvalidParameter`] for terms
    /// that there are not, too few samples or more than 32,768, and those of [`Nystrom::fit`].
    pub fn nonparametric(
        kernel: Arc<dyn Kernel>,
        samples: &Dataset,
        options: &SteinOptions,
    ) -> Result<Self> {
        let n = samples.len();
        if options.components == 0 {
            return Err(Error::parameter("components", "at least 1", 0));
        }
        let all: Vec<usize> = (0..n).collect();
        let fit = |rows: &[usize]| -> Result<Basis> {
            let k = options.components.min(rows.len());
            let map = Nystrom::fit(kernel.clone(), samples.rows(rows)?, k)?;
            Ok(Basis::Nystrom(Box::new(map)))
        };
        // Before the decomposition: a kernel without a gradient is refused at once.
        let none = samples.rows(&[])?;
        expect_gradient(&*kernel, none.view(), none.view(), Mat64::zeros((0, 0)).view_mut())?;
        let basis = fit(&all)?;
        let total = SteinSums::of(&basis, samples, &all, false)?;
        let mut losses: Option<Vec<f64>> = None;
        if options.terms == Terms::Auto {
            let folds = terms::folds(n, options.seed)?;
            for (f, fold) in folds.iter().enumerate() {
                let rest = folds.iter().enumerate().filter(|(other, _)| *other != f);
                let rest: Vec<usize> = rest.flat_map(|(_, part)| part).copied().collect();
                let basis = fit(&rest)?;
                let train = SteinSums::of(&basis, samples, &rest, false)?;
                let held_out = SteinSums::of(&basis, samples, fold, true)?;
                terms::add(&mut losses, held_out.losses(train.coefficients().view()));
            }
        }
        let losses = mean(losses, n);
        let terms = options.terms.choose(basis.eigenvalues(), || basis.trace(), &losses)?;
        let mut coefficients = total.coefficients();
        coefficients.slice_mut(s![terms.., ..]).fill(0.0);
        let record = SteinRecord {
            data: samples.name().to_string(),
            points: n,
            components: basis.eigenvalues().len(),
            terms,
            losses,
        };
        Self::from_parts(basis, coefficients, record)
    }

    /// From the eigenfunctions of a fitted `model` and the `samples` that β is the mean over, those
    /// of the fit or others. No matrix grows with their number: one pass over them collects E ∇ψ and
    /// E ψψᵀ, k × (d + k).
    ///
    /// Learned eigenfunctions are orthonormal up to an error, under the points that they were fitted
    /// to; Stein's identity wants them so under the samples. So the leading J eigenfunctions of the
    /// model's kernel Σ_j μ_jψ_j(x)ψ_j(x') under the samples are taken, which are combinations of all
    /// k: a k × k eigenproblem, after which a query is still one pass through the networks and a
    /// k × d matrix. For exact eigenfunctions of the samples it changes nothing. It lets
    /// [`Terms::Auto`] hold out a part of the samples from the eigenfunctions too, not only from β.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for models without [gradients](Model::eigenfunction_gradients),
    /// [`Error::Shape`] for samples of another width, [`Error::InvalidParameter`] for terms that
    /// there are not or too few samples.
    pub fn parametric(
        model: impl Into<Arc<Model>>,
        samples: &Dataset,
        options: &SteinOptions,
    ) -> Result<Self> {
        let basis = Basis::Model(model.into());
        if samples.width() != basis.inputs() {
            let (d, got) = (basis.inputs(), samples.width());
            return Err(Error::shape(samples.name(), format!("n × {d}"), format!("n × {got}")));
        }
        let (n, mu) = (samples.len(), basis.eigenvalues());
        let folds = match options.terms {
            Terms::Auto => terms::folds(n, options.seed)?,
            _ => vec![(0..n).collect()],
        };
        let parts = folds.iter().map(|fold| SteinSums::of(&basis, samples, fold, true));
        let parts: Vec<SteinSums> = parts.collect::<Result<_>>()?;
        let mut total = SteinSums::empty(&basis);
        parts.iter().for_each(|part| total.add(part));
        let mut losses = None;
        if options.terms == Terms::Auto {
            for part in &parts {
                let rest = total.without(part);
                let (_, combine) = rest.eigenfunctions(mu)?;
                let beta = rest.combined(combine.view()).coefficients();
                terms::add(&mut losses, part.combined(combine.view()).losses(beta.view()));
            }
        }
        let losses = mean(losses, n);
        let (values, combine) = total.eigenfunctions(mu)?;
        let terms = options.terms.choose(&values, || basis.trace(), &losses)?;
        let combine = combine.slice(s![.., ..terms]);
        let coefficients = combine.dot(&total.combined(combine).coefficients());
        let record = SteinRecord {
            data: samples.name().to_string(),
            points: n,
            components: mu.len(),
            terms,
            losses,
        };
        Self::from_parts(basis, coefficients, record)
    }

    fn from_parts(basis: Basis, coefficients: Mat64, record: SteinRecord) -> Result<Self> {
        let (k, d) = (basis.eigenvalues().len(), basis.inputs());
        if coefficients.dim() != (k, d) || record.components != k {
            let (rows, columns) = coefficients.dim();
            let got = format!("{rows} × {columns} for {} components", record.components);
            return Err(Error::shape("coefficients of the score", format!("{k} × {d}"), got));
        }
        if !(1..=k).contains(&record.terms) {
            return Err(Error::parameter("terms", format!("1 to {k}"), record.terms));
        }
        expect_finite_f64("coefficients of the score", coefficients.view())?;
        Ok(SpectralStein { basis, coefficients, record })
    }

    /// ∇log q(x), n × d, for points n × d. Cost: the eigenfunctions, and O(n k d).
    ///
    /// # Errors
    /// [`Error::Shape`] for another width, [`Error::NonFinite`].
    pub fn score(&self, x: MatRef<'_>) -> Result<Mat64> {
        matmul_f64(self.basis.eigenfunctions(x)?.view(), self.coefficients.view())
    }

    /// The Hyvärinen loss E ½‖s‖² + ∇·s of the estimate s over points that it was not fitted to, n × d:
    /// ½E‖s − ∇log q‖² up to a constant of q, so that estimates can be compared where q is not
    /// known (Hyvärinen 2005).
    ///
    /// # Errors
    /// As [`score`](SpectralStein::score); [`Error::Shape`] for no points.
    pub fn hyvarinen_loss(&self, points: &Dataset) -> Result<f64> {
        let all: Vec<usize> = (0..points.len()).collect();
        let sums = SteinSums::of(&self.basis, points, &all, true)?;
        let losses = sums.losses(self.coefficients.view());
        Ok(losses.last().copied().unwrap_or(f64::NAN) / points.len() as f64)
    }

    /// d, the number of coordinates of a point.
    pub fn dimensions(&self) -> usize {
        self.basis.inputs()
    }

    /// J, the number of eigenfunctions in the estimate.
    pub fn terms(&self) -> usize {
        self.record.terms
    }

    /// B, k × d, with the estimate ψ(x)ᵀB for the k eigenfunctions ψ of the Nyström method or the model.
    pub fn coefficients(&self) -> Mat64Ref<'_> {
        self.coefficients.view()
    }

    /// True when the eigenfunctions are those of a model.
    pub fn is_parametric(&self) -> bool {
        matches!(self.basis, Basis::Model(_))
    }

    /// The kernel of the eigenfunctions, where it is known.
    pub fn kernel(&self) -> Option<String> {
        self.basis.kernel()
    }

    /// How the fit went.
    pub fn record(&self) -> &SteinRecord {
        &self.record
    }
}

/// Means over n samples of what was summed.
fn mean(sums: Option<Vec<f64>>, n: usize) -> Vec<f64> {
    sums.into_iter().flatten().map(|sum| sum / n as f64).collect()
}

/// (Σ‖s − s*‖²/Σ‖s*‖²)^½ over the rows of an estimate s and the truth s*, both n × d.
///
/// # Errors
/// [`Error::Shape`] when their shapes differ, [`Error::Numerical`] when the truth is zero everywhere.
pub fn relative_error(score: Mat64Ref<'_>, truth: Mat64Ref<'_>) -> Result<f64> {
    if score.dim() != truth.dim() {
        let text = |(n, d): (usize, usize)| format!("{n} × {d}");
        return Err(Error::shape("score", text(truth.dim()), text(score.dim())));
    }
    let size: f64 = truth.iter().map(|v| v * v).sum();
    if size == 0.0 {
        let message = "the true score is zero at all points".into();
        return Err(Error::Numerical { what: "relative error of a score".into(), message });
    }
    let errors: f64 = score.iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum();
    Ok((errors / size).sqrt())
}
