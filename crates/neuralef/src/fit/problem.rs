//! A fit's problem made concrete: the points, their split, and the operator to decompose.

use std::sync::Arc;

use rand::seq::SliceRandom;

use super::spec::{FitSpec, OutputForm, ReadoutKind};
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::memory::MemoryBudget;
use crate::nn::{NetworkSpec, auto};
use crate::operator::spec::expected_one;
use crate::operator::{Batch, KernelOperator, Points, ResolvedOperator, Sampler};
use crate::readout::budget::ReadoutBudget;
use crate::readout::outputs::OutputLayout;
use crate::rng;

/// The most held-out points that choose a truncation, and again that a certificate looks at.
const HELD_OUT: usize = 512;
/// Certificates of costly kernels look at this share of the number of training points at most.
const COSTLY_SHARE: usize = 4;
/// The fewest held-out points where there are enough; fewer make a coarse certificate.
const HELD_OUT_LEAST: usize = 8;
/// The fewest points: two to learn from, one to choose by, one to measure on.
const LEAST: usize = 4;
/// Points that data-dependent kernel parameters and scalings are worked out from.
const SAMPLE: usize = 20_000;

/// What a [`Method`](crate::Method) approximates: the points and their split, and the operator on them.
pub struct Problem {
    pub(crate) points: Points,
    pub(crate) split: Split,
    /// Held-out rows of the data, not given apart.
    held_out: Vec<usize>,
    /// Whether networks are wide untrained features, because none were named.
    pub(crate) wide_features: bool,
    pub(crate) operator: Arc<dyn KernelOperator>,
    /// What networks learn: the operator, or that of tr κ for networks with one output.
    pub(crate) training_operator: Arc<dyn KernelOperator>,
    /// The kernel with its parameters resolved; none for a Gram matrix or features.
    pub(crate) kernel: Option<Arc<dyn Kernel>>,
    pub(crate) spec: FitSpec,
    pub(crate) warnings: Vec<String>,
    /// Of these a method that does not train has no need.
    pub(crate) training_warnings: Vec<String>,
}

impl Problem {
    /// Checks `spec` against `data`, splits the points and resolves the kernel.
    ///
    /// # Errors
    /// The first parameter that does not fit the data, or what reading the data reports.
    pub(crate) fn new(
        data: &Dataset,
        validation: Option<&Dataset>,
        spec: &FitSpec,
    ) -> Result<Self> {
        spec.check()?;
        let whole = validation.map_or_else(|| Ok(data.clone()), |v| data.chain(v))?;
        // A bad value in a file that is read on demand should not depend on luck to be found.
        whole.check_finite()?;
        let (mut warnings, mut training_warnings) = (Vec::new(), Vec::new());
        let split = split_of(whole.len(), validation, spec)?;
        if !spec.certificate {
            // Nothing is measured.
        } else if validation.is_none() && spec.validation_fraction == 0.0 {
            warnings.push(
                "no points are held out: residuals are measured on the points of the fit".into(),
            );
        } else if split.certificate.len() < HELD_OUT_LEAST / 2 {
            warnings.push(format!(
                "the certificate is coarse: it has {} held-out points",
                split.certificate.len()
            ));
        }
        let mut spec = spec.clone();
        if spec.batch_size > split.train.len() {
            training_warnings.push(format!(
                "batch_size reduced from {} to the number of training points, {}",
                spec.batch_size,
                split.train.len()
            ));
            spec.batch_size = split.train.len();
        }
        let sample = whole.subset(every(&split.train, SAMPLE))?;
        let standardizer = match spec.standardize {
            true => Some(Standardizer::per_feature(&sample, None)?),
            false => None,
        };
        let (sample, points) =
            (Points::new(sample, standardizer.clone()), Points::new(whole, standardizer));
        let Some(operator) = spec.operator.clone() else { return Err(expected_one(0)) };
        let rows = || Ok(sample.batch(&(0..sample.len()).collect::<Vec<_>>())?.x);
        let resolved = operator.resolve(points.data(), rows, spec.outputs, spec.seed)?;
        let ResolvedOperator { operator, kernel } = resolved;
        if spec.standardize && kernel.as_ref().is_some_and(|k| k.by_index().is_some()) {
            return Err(Error::parameter(
                "standardize",
                "false for precomputed kernel values",
                true,
            ));
        }
        if kernel.as_ref().is_some_and(|k| !k.is_positive_semidefinite()) {
            warnings.push(
                "the kernel is indefinite: its negative eigenvalues are not found, and features \
                 reproduce only its positive part"
                    .into(),
            );
        }
        // All of them still serve a final solve.
        let held_out = match validation.is_none() && spec.validation_fraction > 0.0 {
            true => [&split.selection[..], &split.certificate[..]].concat(),
            false => Vec::new(),
        };
        let mut split = split;
        if kernel.as_ref().is_some_and(|k| k.is_costly()) {
            let most = (split.train.len() / COSTLY_SHARE).max(HELD_OUT_LEAST);
            split.certificate = every(&split.certificate, most);
        }
        // Wide untrained features suit kernels that can be evaluated; others are learned from scratch.
        let mut wide = false;
        if spec.network == NetworkSpec::default() {
            wide = kernel.is_some() && spec.readout == ReadoutKind::Galerkin;
            spec.network = auto::network(spec.n_components, wide);
        }
        let training_operator = match operator.matrix_valued() {
            Some(whole) if spec.output_form == OutputForm::Factorized => whole.trace(),
            _ => Arc::clone(&operator),
        };
        Ok(Problem {
            points,
            split,
            held_out,
            wide_features: wide,
            operator,
            training_operator,
            kernel,
            spec,
            warnings,
            training_warnings,
        })
    }

    /// What the fit was asked to do; `batch_size` is at most the number of training points.
    pub fn spec(&self) -> &FitSpec {
        &self.spec
    }

    /// All points, held-out ones included.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Which of them learn, choose and certify.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Held-out rows of the same data, ascending: what a final solve may add once all is chosen and measured.
    /// None where held-out points were given apart.
    pub(crate) fn refit_rows(&self) -> Vec<usize> {
        let mut rows = self.held_out.clone();
        rows.sort_unstable();
        rows
    }

    /// The operator whose eigenpairs are wanted.
    pub fn operator(&self) -> &dyn KernelOperator {
        &*self.operator
    }

    /// The kernel with its parameters resolved; none where only a Gram matrix, features or an operator are
    /// known.
    pub fn kernel(&self) -> Option<&Arc<dyn Kernel>> {
        self.kernel.as_ref()
    }

    /// The kernel, for a method called `method` that cannot do without it because of `why`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where only a Gram matrix, features or an operator are known.
    pub fn expect_kernel(&self, method: &str, why: &str) -> Result<&Arc<dyn Kernel>> {
        self.kernel.as_ref().ok_or_else(|| Error::Unsupported {
            what: format!("method = {method} with a Gram matrix or features"),
            reason: format!("{why}; method = neuralef serves here"),
        })
    }

    /// Fails when more eigenpairs are asked for than there are training points: for methods of
    /// eigenpairs. Random features may be more than points.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming `n_components`.
    pub fn expect_points_for_components(&self) -> Result<()> {
        let (k, n, train) = (self.spec.n_components, self.points.len(), self.split.train.len());
        let c = self.operator.outputs();
        let times = if c > 1 { format!(" times {c} outputs") } else { String::new() };
        let expected = if k > n.saturating_mul(c) {
            format!("at most the number of points, {n}{times}")
        } else {
            format!("at most the number of training points, {train}{times}")
        };
        if k <= train.saturating_mul(c) {
            Ok(())
        } else {
            Err(Error::parameter("n_components", expected, k))
        }
    }

    /// Fails when nothing is held out: for methods that choose by held-out points.
    pub(crate) fn expect_held_out(&self) -> Result<()> {
        if self.split.train.last() < self.split.selection.first()
            || self.spec.validation_fraction > 0.0
        {
            return Ok(());
        }
        let expected = "a number above 0 for a readout, which is chosen on held-out points";
        Err(Error::parameter("validation_fraction", expected, 0))
    }

    /// Fails unless a network can be trained within the memory budget beside `more` bytes. Counted are
    /// the parameters with their packed copy, gradient and two moments, a kept copy, what a pass takes
    /// beside them, the gradients of a batch's segments, and what a batch keeps for the backward pass.
    pub(crate) fn expect_training(&self, more: u64) -> Result<()> {
        const PARAMETER: u64 = 24;
        const ACTIVATION: u64 = 8;
        const PAIR: u64 = 32;
        let spec = &self.spec;
        let k = spec.n_components;
        let size = spec.network.size(self.points.width(), k, spec.network_outputs());
        let objective = spec.objective.get()?;
        // What a step adds, the moving average (half of it), and two copies of that in a checkpoint.
        let jacobian = if objective.needs_jacobian() { size.jacobian } else { 0 };
        let batch = (spec.batch_size as u64).saturating_mul(size.activations);
        let needed = size.parameters.saturating_mul(PARAMETER);
        let needed = needed.saturating_add(jacobian.saturating_mul(10));
        let needed = needed.saturating_add(size.working.saturating_mul(4));
        let segments = size.segments.min((spec.batch_size as u64).div_ceil(size.block.max(1)));
        let partial = if segments > 1 { segments.saturating_mul(4) } else { 0 };
        let needed = needed.saturating_add(size.parameters.saturating_mul(partial));
        // Rayleigh quotients and inner products of all pairs of functions.
        let needed =
            needed.saturating_add((k as u64).saturating_mul(k as u64).saturating_mul(PAIR));
        let needed = needed.saturating_add(batch.saturating_mul(ACTIVATION));
        let what = || format!("training {k} functions with {} parameters", size.parameters);
        self.memory().expect(what, needed.saturating_add(more))
    }

    /// The memory that a fit may take.
    pub(crate) fn memory(&self) -> MemoryBudget {
        MemoryBudget::from_mib(self.spec.memory_budget)
    }

    /// The memory budget of a readout of `basis` functions.
    pub(crate) fn readout_budget(&self, basis: usize) -> ReadoutBudget<'_> {
        ReadoutBudget {
            memory: self.memory(),
            functions: basis,
            inputs: self.points.width(),
            held_out: self.split.selection.len(),
            components: self.spec.n_components,
            layout: self.layout(),
            operator: &*self.operator,
        }
    }

    /// How a readout's basis stands to the outputs of the kernel.
    pub(crate) fn layout(&self) -> OutputLayout {
        OutputLayout::of(&self.spec)
    }

    /// What training draws its batches by.
    pub(crate) fn sampler(&self) -> Box<dyn Sampler + '_> {
        self.training_operator.sampler(&self.points, &self.split.train, self.spec.seed)
    }

    /// The points `indices`, as the kernel sees them.
    ///
    /// # Errors
    /// As [`Points::batch`].
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        self.points.batch(indices)
    }

    /// The points `indices` in blocks.
    ///
    /// # Errors
    /// As [`Points::batch`].
    pub fn blocks(&self, indices: &[usize]) -> Result<Vec<Batch>> {
        self.points.blocks(indices)
    }

    /// Up to `most` training rows, all if they are few enough, else a random sample; ascending.
    ///
    /// The sample depends on the seed of the fit alone.
    pub fn training_sample(&self, most: usize) -> Vec<usize> {
        if self.split.train.len() <= most {
            return self.split.train.clone();
        }
        let mut rng = rng::stream(self.spec.seed, "readout", 0);
        let picked = rand::seq::index::sample(&mut rng, self.split.train.len(), most);
        let mut rows: Vec<usize> = picked.iter().map(|i| self.split.train[i]).collect();
        rows.sort_unstable();
        rows
    }

    /// A scaling of the inputs for networks: centred features, one scale for all of them, so that
    /// the geometry a kernel sees stays what it is.
    pub(crate) fn input_scaler(&self) -> Result<Standardizer> {
        let x = self.batch(&every(&self.split.train, SAMPLE))?.x;
        Standardizer::isotropic(&Dataset::from_array("training sample", x)?, None)
    }
}

fn split_of(n: usize, validation: Option<&Dataset>, spec: &FitSpec) -> Result<Split> {
    if n < LEAST {
        return Err(Error::parameter("data", format!("at least {LEAST} points"), n));
    }
    match validation {
        Some(held_out) if held_out.len() < HELD_OUT_LEAST => {
            let expected = format!("at least {HELD_OUT_LEAST} points");
            Err(Error::parameter("validation", expected, held_out.len()))
        }
        Some(held_out) => Ok(Split::at(n - held_out.len(), n)),
        None => Ok(spec.split(n)),
    }
}

/// Which rows of the data serve what in a fit, each ascending and disjoint from the others; with
/// nothing held out, all of them learn and are measured on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Held-out rows that choose truncations and the number of steps.
    pub selection: Vec<usize>,
    /// Held-out rows that only the certificate sees.
    pub certificate: Vec<usize>,
}

impl Split {
    /// Training rows 0..train, held-out rows train..n.
    fn at(train: usize, n: usize) -> Self {
        Split::halving((0..train).collect(), &(train..n).collect::<Vec<_>>())
    }

    /// Alternate held-out rows to two disjoint sets of at most [`HELD_OUT`] each.
    fn halving(train: Vec<usize>, held_out: &[usize]) -> Self {
        let rows = every(held_out, 2 * HELD_OUT);
        let half = |odd: usize| rows.iter().copied().skip(odd).step_by(2).collect();
        Split { train, selection: half(0), certificate: half(1) }
    }
}

impl FitSpec {
    /// How a fit with this spec splits n points (at least 4) by `validation_fraction` and `seed`. At least
    /// 8 are held out, or a quarter of fewer than 32; none for a fraction of 0.
    pub fn split(&self, n: usize) -> Split {
        if self.validation_fraction == 0.0 {
            let train: Vec<usize> = (0..n).collect();
            let held_out = every(&train, HELD_OUT);
            return Split { train, selection: held_out.clone(), certificate: held_out };
        }
        let least = (n / 4).clamp(2, HELD_OUT_LEAST);
        let most = n.saturating_sub(least).max(least);
        // A figure needs some hundred points, however many there are.
        let held = ((n as f64 * self.validation_fraction).round() as usize).min(2 * HELD_OUT);
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut rng::stream(self.seed, "split", 0));
        let mut train = order.split_off(held.clamp(least, most).min(n));
        order.sort_unstable();
        train.sort_unstable();
        Split::halving(train, &order)
    }
}

/// All of `rows`, or about `most` of them evenly spaced.
pub(crate) fn every(rows: &[usize], most: usize) -> Vec<usize> {
    rows.iter().copied().step_by(rows.len().div_ceil(most).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_disjoint_complete_and_seeded() {
        let spec = FitSpec { validation_fraction: 0.25, seed: 3, ..FitSpec::default() };
        let split = spec.split(1000);
        assert_eq!((split.train.len(), split.selection.len()), (750, 125));
        let mut all = [&split.train[..], &split.selection, &split.certificate].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(spec.split(1000), split);
        assert_ne!(FitSpec { seed: 4, ..spec }.split(1000), split);
        let huge = FitSpec::default().split(1_000_000);
        assert_eq!((huge.train.len(), huge.certificate.len()), (998_976, 512));
        assert_eq!(Split::at(5, 9).certificate, vec![6, 8]);
        let small = FitSpec::default().split(10);
        assert_eq!((small.train.len(), small.selection.len(), small.certificate.len()), (8, 1, 1));
        let none = FitSpec { validation_fraction: 0.0, ..FitSpec::default() }.split(50);
        assert_eq!((none.train.len(), none.certificate.len()), (50, 50));
    }
}
