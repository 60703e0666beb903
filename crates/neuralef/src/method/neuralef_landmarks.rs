//! How a fit of networks meets a kernel that can be evaluated: through landmarks, whose own solution it is
//! measured beside.

use std::sync::Arc;
use std::time::Instant;

use super::all_points::AllPoints;
use super::low_rank::LowRank;
use super::sampled_image::{SampledImage, sampled};
use super::{BesideNystrom, Eigenfunctions, Fitted, MethodRecord, Run, landmark_choice};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::certificate::{Image, Measured};
use crate::fit::problem::every;
use crate::fit::{Problem, ReadoutKind};
use crate::matrix::{Mat64, MatRef};
use crate::observer::{Control, Event};
use crate::operator::Batch;
use crate::readout::{
    Basis, BasisMoments, Readout, ReadoutRequest, ThroughLandmarks, compute_through, solve_within,
};

/// Points of a streamed block.
const BLOCK: usize = 2048;
/// Points that fix signs.
const PROBES: usize = 2048;
/// Landmarks do for a readout where their own residual is below this, or below half of the readout's;
const SUFFICIENT: f64 = 1e-3;
/// or below this, where pairs of points take more than so many times as long.
const TOLERABLE: f64 = 0.05;
const TIMES: u64 = 8;

/// See the [module](self).
pub(super) struct Landmarks {
    solution: AllPoints,
    /// Φ at the selection points, h × m.
    features: Mat64,
    selection: Batch,
    probes: Batch,
    /// Sums for the networks as they were when the landmarks' own solution was found.
    first: Option<BasisMoments>,
    /// Root mean square of the relative residuals of the landmarks' own eigenfunctions at these.
    pub(super) residual: f64,
    /// E κ(x, x) over the training points.
    trace: f64,
    /// The combinations of basis functions that the last readout settled on, p × r.
    trial: Option<Mat64>,
    /// Whether pairs of points take far longer.
    costly: bool,
}

/// A finished fit of networks.
pub(super) struct Finished {
    /// Over all points.
    pub(super) map: Eigenfunctions,
    /// What a certificate measures.
    pub(super) measured: Option<Measured>,
    /// Points behind the map.
    pub(super) points: usize,
    /// Both solutions on the selection points.
    pub(super) beside: BesideNystrom,
}

impl Landmarks {
    /// The landmarks' own solution as the result of the fit.
    pub(super) fn into_fitted(self, rows: Vec<usize>, mut record: MethodRecord) -> Fitted {
        let AllPoints { map, measured, points, .. } = self.solution;
        (record.steps, record.readout) = (0, None);
        let kept = Some(super::nystrom_method::ENTRY.name);
        Fitted { measured, kept, ..Fitted::new(Box::new(map), rows, points, record) }
    }

    /// The landmarks of `problem` with their solution, and the sums of `basis`; none where the kernel is not
    /// known or has several outputs, where nothing is read out, and where memory does not hold them.
    ///
    /// # Errors
    /// What the kernel, the data and the networks report.
    pub(super) fn new(
        problem: &Problem,
        basis: &Basis<'_>,
        run: &mut Run<'_>,
    ) -> Result<Option<Self>> {
        let spec = &problem.spec;
        let known = problem.kernel.as_ref().is_some_and(|k| k.is_positive_semidefinite());
        if !known || problem.operator.outputs() > 1 || spec.readout == ReadoutKind::None {
            return Ok(None);
        }
        let selection = landmark_choice::Selection::Auto;
        let found = match landmark_choice::low_rank(problem, selection, None, None) {
            Err(Error::MemoryBudget { .. }) => return Ok(None),
            other => other?,
        };
        let rank = found.0.rank();
        affordable(problem, basis.width(), rank)?;
        let mut first = BasisMoments::new(basis.width(), rank, problem.split.train.len());
        let mut visit =
            |batch: &Batch, values: &Mat64| first.add(&basis.at(batch.x.view())?, values);
        let started = Instant::now();
        let solution = AllPoints::solve_with(problem, found, true, run, &mut visit)?;
        run.timings.nystrom_seconds += started.elapsed().as_secs_f64();
        let selection = problem.batch(&problem.split.selection)?;
        let probes = problem.batch(&every(&problem.split.train, PROBES))?;
        let features = solution.low_rank.features(selection.points())?;
        let Some(Measured { map, image, trace, .. }) = &solution.measured else { return Ok(None) };
        let residual = rms_residual(&**map, &**image, &selection)?;
        let trace = *trace;
        let (n, p, m) = (problem.split.train.len() as u64, basis.width() as u64, rank as u64);
        let by_pairs =
            n.min(spec.readout_points as u64).saturating_mul(problem.points.width() as u64 + p);
        let costly = problem.kernel.as_ref().is_some_and(|kernel| kernel.is_costly())
            || by_pairs > m.saturating_mul(m + p).saturating_mul(TIMES);
        Ok(Some(Landmarks {
            solution,
            features,
            selection,
            probes,
            first: Some(first),
            residual,
            trace,
            trial: None,
            costly,
        }))
    }

    /// m, the number of landmarks.
    pub(super) fn count(&self) -> usize {
        self.solution.landmarks()
    }

    /// ε of the landmarks.
    pub(super) fn remainder(&self) -> f64 {
        self.solution.remainder
    }

    /// Forgets the sums of the first networks, which were trained since.
    pub(super) fn networks_changed(&mut self) {
        self.first = None;
    }

    /// Whether landmarks are no worse than what a readout with this residual lacks anyway, or near
    /// that where pairs of points take far longer.
    pub(super) fn do_for(&self, residual: f64) -> bool {
        let tolerable = if self.costly { TOLERABLE } else { 0.0 };
        self.residual <= SUFFICIENT.max(0.5 * residual).max(tolerable)
    }

    /// The readout of `basis` over the training points.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and what kernel and networks report.
    pub(super) fn readout(
        &mut self,
        problem: &Problem,
        basis: &Basis<'_>,
        request: &ReadoutRequest,
        run: &mut Run<'_>,
    ) -> Result<Readout> {
        let moments = self.moments(problem, basis, run)?;
        let image = self.low_rank().whitened(&moments.mean_image())?;
        let held_out = basis.at(self.selection.x.view())?;
        let probes = basis.at(self.probes.x.view())?;
        let held_out = (&held_out, &self.features);
        let ground =
            ThroughLandmarks { moments: &moments, image: &image, held_out, probes: &probes };
        let (readout, trial) = compute_through(basis, &ground, request)?;
        self.trial = Some(trial);
        Ok(readout)
    }

    /// The fit with all points: the eigenfunctions of `readout` as the certificate measures them, and those
    /// in the span of the same trial functions over the held-out points too.
    ///
    /// # Errors
    /// As [`readout`](Landmarks::readout).
    pub(super) fn finish(
        &self,
        problem: &Problem,
        basis: &Basis<'_>,
        map: Eigenfunctions,
        readout: &Readout,
        run: &mut Run<'_>,
    ) -> Result<Finished> {
        let mut moments = self.moments(problem, basis, run)?;
        let train = problem.split.train.len();
        let image = self.low_rank().whitened(&moments.mean_image())?;
        let coefficients = image.dot(&readout.weights);
        let measured = self.measured(problem, &map, &coefficients)?;
        let residual = rms_residual(&*measured.map, &*measured.image, &self.selection)?;
        let (p, k) = readout.weights.dim();
        let (d, m) = (problem.points.width(), self.count());
        let parameters = basis.network.parameters().len();
        let beside = BesideNystrom {
            landmarks: m,
            residual,
            nystrom_residual: self.residual,
            multiplications: (parameters + p * k) as u64,
            nystrom_multiplications: (m * (d + k)) as u64,
        };
        let measured = Some(measured);
        let late = problem.refit_rows();
        let Some(trial) = self.trial.as_ref().filter(|_| !late.is_empty()) else {
            return Ok(Finished { map, measured, points: train, beside });
        };
        for rows in late.chunks(BLOCK) {
            let batch = problem.batch(rows)?;
            let values = self.low_rank().values(batch.points())?;
            moments.add(&basis.at(batch.x.view())?, &values)?;
        }
        let image = self.low_rank().whitened(&moments.mean_image())?;
        let probes = basis.at(self.probes.x.view())?;
        let (weights, eigenvalues) = solve_within(trial, &moments, &image, &probes, k)?;
        let map = map.with_weights(weights, eigenvalues)?;
        Ok(Finished { map, measured, points: train + late.len(), beside })
    }

    fn low_rank(&self) -> &LowRank {
        &self.solution.low_rank
    }

    /// The sums of `basis` over the training points.
    fn moments(
        &self,
        problem: &Problem,
        basis: &Basis<'_>,
        run: &mut Run<'_>,
    ) -> Result<BasisMoments> {
        if let Some(first) = &self.first {
            return Ok(first.clone());
        }
        let train = &problem.split.train;
        let mut moments = BasisMoments::new(basis.width(), self.count(), train.len());
        for (block, rows) in train.chunks(BLOCK).enumerate() {
            let event = Event::Progress { done: block * BLOCK, total: train.len() };
            if run.observer.observe(&event) == Control::Stop {
                return Err(Error::Interrupted { step: 0, checkpoint: None });
            }
            let batch = problem.batch(rows)?;
            let values = self.low_rank().values(batch.points())?;
            moments.add(&basis.at(batch.x.view())?, &values)?;
        }
        Ok(moments)
    }

    /// The eigenfunctions of `map` for a certificate; `coefficients` are Φᵀψ/n.
    fn measured(
        &self,
        problem: &Problem,
        map: &Eigenfunctions,
        coefficients: &Mat64,
    ) -> Result<Measured> {
        let train = &problem.split.train;
        let sample = problem.batch(&sampled(train))?;
        let psi = |x: MatRef<'_>| map.eigenfunctions(x);
        let operator = Arc::clone(&problem.operator);
        let image =
            SampledImage::new(self.low_rank().clone(), operator, &sample, coefficients, psi)?;
        let weights = map.weights().clone();
        let eigenvalues = map.eigenvalues().unwrap_or_default().to_vec();
        Ok(Measured {
            map: Box::new(map.with_weights(weights, eigenvalues)?),
            image: Box::new(image),
            trace: self.trace,
            points: train.len(),
        })
    }
}

/// Fails when the sums, their decompositions and a block in work are beyond the memory budget.
fn affordable(problem: &Problem, functions: usize, landmarks: usize) -> Result<()> {
    let (p, m, block) = (functions as u64, landmarks as u64, BLOCK as u64);
    // Fewer points than functions are kept in place of p × p sums.
    let n = problem.split.train.len() as u64;
    let square = p.min(n).saturating_mul(p).saturating_mul(6);
    let numbers = square.saturating_add(p.saturating_mul(m).saturating_mul(3));
    let numbers = numbers.saturating_add(block.saturating_mul(p + m).saturating_mul(3));
    let what = || format!("a readout of {functions} basis functions");
    problem.memory().expect(what, numbers.saturating_mul(8))
}

/// Root mean square over the eigenfunctions of `map` of r/√(1 + r²), r = ‖T̂ψ − μψ‖/μ at `points`.
fn rms_residual(map: &dyn FeatureMap, image: &dyn Image, points: &Batch) -> Result<f64> {
    let psi = map.eigenfunctions(points.x.view())?;
    let images = image.at(points, &psi)?;
    let eigenvalues = map.eigenvalues().unwrap_or_default();
    let residuals =
        crate::fit::certificate::residuals(&psi, &images, eigenvalues, points.indices.len());
    let bounded: f64 = residuals.iter().map(|r| 1.0 - 1.0 / (1.0 + r * r)).sum();
    Ok((bounded / residuals.len().max(1) as f64).sqrt())
}
