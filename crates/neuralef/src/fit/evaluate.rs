//! Measuring a model on given points, against the exact eigenpairs of its kernel when asked.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Axis, s};
use serde::Serialize;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::Model;
use crate::kernel::Kernel;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::memory::MemoryBudget;
use crate::method::Nystrom;
use crate::metrics::{
    self, EigenComparison, Orthonormality, gram_error_between_halves, relative_residuals,
};
use crate::operator::{Batch, ExplicitOperator, KernelOperator};
use crate::rng;

/// Points that the operator of the residuals is made of, at most.
const RESIDUAL_POINTS: usize = 8192;
/// Points on either side of the pairs of the Gram error, at most.
const GRAM_POINTS: usize = 1024;
/// Reference eigenpairs beyond k, so that a cluster reaching across k is whole.
const BEYOND: usize = 5;

/// What [`Model::evaluate`] compares with.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Points whose Gram matrix gives the exact eigenpairs; none to leave that out.
    pub reference: Option<Dataset>,
    /// Reference eigenvalues closer than this (relative) are compared as one subspace.
    pub cluster_gap: f64,
    /// Memory for the Gram matrix of the reference, in MiB.
    pub memory_budget: u64,
    /// Chooses the points where there are more than needed.
    pub seed: u64,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        EvaluateOptions {
            reference: None,
            cluster_gap: metrics::DEFAULT_GAP,
            memory_budget: 2048,
            seed: 0,
        }
    }
}

impl EvaluateOptions {
    fn memory(&self) -> MemoryBudget {
        MemoryBudget::from_mib(self.memory_budget)
    }
}

/// What a model does on given points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Points measured on.
    pub n_points: usize,
    /// The model's eigenvalues; empty, as the residuals are, for models without eigenpairs.
    pub eigenvalues: Vec<f64>,
    /// ‖T̂ψ − μψ‖/μ with T̂ the operator of up to 8,192 of these points: sampling error included
    /// when they are not the training points.
    pub residuals: Vec<f64>,
    /// ψᵀψ/n − I on these points; none for models without eigenpairs.
    pub orthonormality: Option<Orthonormality>,
    /// ‖φφᵀ − K‖/‖K‖ (Frobenius) over pairs of different points; none for a single point.
    pub gram_error: Option<f64>,
    /// Pairs behind `gram_error`.
    pub gram_pairs: usize,
    /// Σμ/E κ(x, x) over these points; E φᵀφ/E κ(x, x) for models without eigenpairs.
    pub captured_trace: f64,
    /// The comparison with exact eigenpairs, if one was asked for.
    pub exact: Option<ExactComparison>,
}

/// A model beside the eigenpairs of a Gram matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactComparison {
    /// Points of the Gram matrix.
    pub reference_points: usize,
    /// Eigenvalues, |cos| of eigenfunctions one by one and by clusters, principal angles.
    #[serde(flatten)]
    pub comparison: EigenComparison,
}

impl Model {
    /// Measures the model on `data`. O(n²·(d + k)) for up to 8,192 points, and O(m²·(d + k)) with
    /// 8m² bytes for a reference of m points.
    ///
    /// # Errors
    /// Shape errors, [`Error::Unsupported`] without a kernel, [`Error::MemoryBudget`].
    pub fn evaluate(&self, data: &Dataset, options: &EvaluateOptions) -> Result<Evaluation> {
        let kernel = self.kernel()?;
        metrics::check_gap(options.cluster_gap)?;
        let rows = sample(data.len(), RESIDUAL_POINTS, options.seed);
        let raw = data.rows(&rows)?;
        let x = self.prepare(raw.view())?;
        let batch = Batch { indices: rows, x };
        let trace = kernel.diag(batch.x.view())?.iter().sum::<f64>() / batch.x.nrows() as f64;
        if !self.has_eigenpairs() {
            return self.evaluate_features(&*kernel, &batch.x, raw.view(), trace, options);
        }
        let psi = self.eigenfunctions(raw.view())?;
        let mu = self.eigenvalues();
        let operator = ExplicitOperator::new(Arc::clone(&kernel));
        let t_psi = operator.applied(std::slice::from_ref(&batch), psi.clone())?.at(&batch)?;

        let roots = ndarray::Array1::from_iter(mu.iter().map(|m| m.max(0.0).sqrt()));
        let phi = |rows: Range<usize>| Ok(&psi.slice(s![rows, ..]) * &roots);
        let gram = gram_error_between_halves(&*kernel, batch.x.view().into(), GRAM_POINTS, phi)?;
        let exact = match &options.reference {
            Some(reference) => Some(self.compare(kernel, reference, &batch.x, &psi, options)?),
            None => None,
        };
        Ok(Evaluation {
            n_points: psi.nrows(),
            eigenvalues: mu.to_vec(),
            residuals: relative_residuals(&psi, &t_psi, mu, psi.nrows()),
            orthonormality: Some(metrics::orthonormality_error(psi.view())?),
            gram_error: gram.map(|(error, _)| error),
            gram_pairs: gram.map_or(0, |(_, pairs)| pairs),
            captured_trace: metrics::captured_trace(mu, trace)?,
            exact,
        })
    }

    /// ‖φφᵀ − K‖/‖K‖ (Frobenius) over the pairs of one half of `data` with the other, at most 1,024 points
    /// on either side; none for a single point. 1 − its square is the share of the kernel that the
    /// features reproduce.
    ///
    /// # Errors
    /// As [`evaluate`](Model::evaluate), and [`Error::Numerical`] for a kernel that is zero there.
    pub fn gram_error(&self, data: &Dataset, seed: u64) -> Result<Option<f64>> {
        let kernel = self.kernel()?;
        let raw = data.rows(&sample(data.len(), 2 * GRAM_POINTS, seed))?;
        let x = self.prepare(raw.view())?;
        let phi = |rows: Range<usize>| Ok(self.transform(raw.slice(s![rows, ..]))?.mapv(f64::from));
        let gram = gram_error_between_halves(&*kernel, x.view().into(), GRAM_POINTS, phi)?;
        Ok(gram.map(|(error, _)| error))
    }

    /// For a model without eigenpairs: `x` are the points `raw` as the kernel sees them.
    fn evaluate_features(
        &self,
        kernel: &dyn Kernel,
        x: &Mat,
        raw: MatRef<'_>,
        trace: f64,
        options: &EvaluateOptions,
    ) -> Result<Evaluation> {
        if options.reference.is_some() {
            return Err(Error::Unsupported {
                what: "comparing random features with exact eigenpairs".into(),
                reason: format!(
                    "this model has no eigenvalues; fit method = {}(features=D) for D features \
                     reduced to eigenpairs",
                    self.info().spec.method.name()
                ),
            });
        }
        // Both halves in double precision, one more copy in single.
        let bytes = 24 * self.n_components().max(1) as u64;
        let most = options.memory().bytes() / bytes;
        let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, GRAM_POINTS);
        let phi = |rows: Range<usize>| Ok(self.transform(raw.slice(s![rows, ..]))?.mapv(f64::from));
        let gram = gram_error_between_halves(kernel, x.view().into(), most, phi)?;
        let mut captured = 0.0;
        for start in (0..x.nrows()).step_by(most) {
            captured += phi(start..x.nrows().min(start + most))?.iter().map(|v| v * v).sum::<f64>();
        }
        Ok(Evaluation {
            n_points: x.nrows(),
            eigenvalues: Vec::new(),
            residuals: Vec::new(),
            orthonormality: None,
            gram_error: gram.map(|(error, _)| error),
            gram_pairs: gram.map_or(0, |(_, pairs)| pairs),
            captured_trace: metrics::captured_trace(&[captured / x.nrows() as f64], trace)?,
            exact: None,
        })
    }

    fn compare(
        &self,
        kernel: Arc<dyn Kernel>,
        reference: &Dataset,
        x: &Mat,
        psi: &Mat64,
        options: &EvaluateOptions,
    ) -> Result<ExactComparison> {
        let m = reference.len();
        let what = || format!("the Gram matrix of {m} reference points");
        options.memory().expect(what, 8 * m as u64 * m as u64)?;
        let points = self.prepare(reference.range(0..m)?.view())?;
        let k = psi.ncols();
        let exact = Nystrom::fit(kernel, points, (k + BEYOND).min(m))?;
        let exact_psi = exact.eigenfunctions(x.view())?;
        let exact_mu = exact.eigenvalues().unwrap_or(&[]);
        // Beyond the exact rank there is nothing to compare with.
        let k = k.min(exact_psi.ncols());
        let comparison = metrics::compare(
            &self.eigenvalues()[..k],
            psi.slice_axis(Axis(1), (0..k).into()),
            exact_mu,
            exact_psi.view(),
            options.cluster_gap,
        )?;
        Ok(ExactComparison { reference_points: m, comparison })
    }
}

/// All rows, or a random `most` of them, in random order.
fn sample(n: usize, most: usize, seed: u64) -> Vec<usize> {
    let mut rng = rng::stream(seed, "evaluate", 0);
    rand::seq::index::sample(&mut rng, n, n.min(most)).into_vec()
}
