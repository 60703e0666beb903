//! The generalised Gauss–Newton matrix of the data, in coordinates in which it is diagonal.

use std::ops::Range;
use std::time::Instant;

use ndarray::{Array1, Array3, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::likelihood::weighted;
use crate::bayes::predictive::products;
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::linalg::{eigh, matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef};
use crate::memory::MemoryBudget;
use crate::nn::{Network, jacobian_blocks};
use crate::observer::{Control, Event, Observer};
use crate::persist::Archive;

/// Points whose features are held at a time.
pub(super) const POINTS: usize = 256;
/// Numbers of features that are held at a time, about: 256 MiB.
const HELD: usize = 1 << 25;

/// Points that are evaluated together for posteriors of these coordinates, c outputs each.
pub(super) fn points_at_a_time(c: usize, curvatures: &[&dyn Curvature]) -> usize {
    let narrow = curvatures.iter().filter(|k| !k.wants_jacobian()).map(|k| k.values().len());
    (HELD / (c * narrow.max().unwrap_or(1)).max(1)).clamp(1, POINTS)
}

/// Some points, and their gradients where these are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub network: &'a dyn Network,
    /// n × d, as the network sees them.
    pub x: MatRef<'a>,
    /// Gradients of outputs, at least n·C × P with rows (point, output); none unless wanted.
    pub jacobian: Option<MatRef<'a>>,
}

impl<'a> Block<'a> {
    /// C, the number of outputs of a point.
    pub(super) fn outputs(&self) -> usize {
        self.network.functions() * self.network.outputs()
    }

    /// The gradients, by whoever wants them.
    pub(super) fn jacobian(&self) -> Result<MatRef<'a>> {
        self.jacobian.ok_or_else(|| Error::shape("Jacobian", "n·C × P", "none"))
    }
}

/// What is taken of the parameters of a network: coordinates w, in which outputs are f(x) + F(x)w,
/// the prior is N(0, I/δ), and the generalised Gauss–Newton matrix of the data is (taken to be)
/// diagonal, with the values λ. The posterior is then N(0, diag(1/(λ/T + δ))), which is a covariance for
/// any δ > 0, and the covariance of outputs F diag(·) Fᵀ is positive semi-definite as it stands.
pub(crate) trait Curvature: Send + Sync {
    /// λ ≥ 0, p of them.
    fn values(&self) -> &[f64];

    /// Whether blocks need gradients.
    fn wants_jacobian(&self) -> bool;

    /// F, n·C × p with rows (point, output), where p is small enough to be kept.
    ///
    /// # Errors
    /// Those of the network; [`Error::Unsupported`] for as many coordinates as parameters.
    fn features(&self, block: &Block<'_>) -> Result<Mat64>;

    /// F diag(variances) Fᵀ at each of the points, n × C × C.
    fn covariance(&self, block: &Block<'_>, variances: &[f64]) -> Result<Array3<f64>> {
        Ok(covariances(self.features(block)?.view(), block.outputs(), variances))
    }

    /// Stores it in a model file.
    ///
    /// # Errors
    /// [`Error::ModelFile`].
    fn save(&self, archive: &mut Archive) -> Result<()>;
}

/// Sums over the points of a fit that become a [`Curvature`].
pub(crate) trait CurvatureAccumulator {
    /// Whether blocks need gradients.
    fn wants_jacobian(&self) -> bool;

    /// Adds points, with the roots of their Λ.
    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()>;

    /// After all points, `points` of them.
    fn finish(self: Box<Self>, points: usize) -> Result<Box<dyn Curvature>>;
}

/// Calls `visit` with the points `x` as a whole, and, if `jacobian` says so, once more for pieces of
/// them with their gradients: with the range of points, the block, and the seconds that gradients took.
pub(super) fn with_jacobians(
    network: &dyn Network,
    x: MatRef<'_>,
    jacobian: bool,
    mut visit: impl FnMut(Range<usize>, &Block<'_>) -> Result<()>,
) -> Result<f64> {
    visit(0..x.nrows(), &Block { network, x, jacobian: None })?;
    if !jacobian {
        return Ok(0.0);
    }
    let c = network.functions() * network.outputs();
    let (started, mut visits) = (Instant::now(), 0.0);
    jacobian_blocks(network, x, |rows, jacobian| {
        let began = Instant::now();
        let points = rows.start / c..rows.end / c;
        let x = x.slice(s![points.clone(), ..]);
        visit(points, &Block { network, x, jacobian: Some(jacobian) })?;
        visits += began.elapsed().as_secs_f64();
        Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64() - visits)
}

/// F diag(variances) Fᵀ of each point, for features with the `c` outputs of a point in consecutive
/// rows: GGᵀ with G = F diag(√variances). O(n C² p).
pub(super) fn covariances(features: Mat64Ref<'_>, c: usize, variances: &[f64]) -> Array3<f64> {
    let points: Vec<ArrayView2<'_, f64>> = features.axis_chunks_iter(Axis(0), c).collect();
    let deviations = Array1::from_iter(variances.iter().map(|v| v.sqrt()));
    let mut out = Array3::zeros((points.len(), c, c));
    let mut pairs: Vec<_> = out.outer_iter_mut().zip(&points).collect();
    pairs.par_iter_mut().for_each(|(to, f)| to.assign(&products((*f * &deviations).view())));
    out
}

/// Points as the network sees them, read in blocks.
#[derive(Clone, Copy)]
pub(crate) struct Points<'a> {
    pub data: &'a Dataset,
    pub preprocessing: Option<&'a Standardizer>,
}

impl Points<'_> {
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn block(&self, rows: Range<usize>) -> Result<Mat> {
        self.preprocess(self.data.range(rows)?)
    }

    pub(super) fn rows(&self, rows: &[usize]) -> Result<Mat> {
        self.preprocess(self.data.rows(rows)?)
    }

    fn preprocess(&self, x: Mat) -> Result<Mat> {
        match self.preprocessing {
            Some(p) => p.apply(x.view()),
            None => Ok(x),
        }
    }
}

/// The network, the points and the limits that a source is fitted with.
pub(crate) struct Task<'a> {
    pub network: &'a dyn Network,
    pub trained: &'a crate::nn::TrainedNetwork,
    pub points: Points<'a>,
    /// C, the number of outputs of a point.
    pub outputs: usize,
    pub seed: u64,
    /// Memory that the source may take, in MiB.
    pub memory_budget: u64,
    /// Squared norm up to which a column of a root of Λ counts for nothing.
    pub negligible: f64,
}

impl Task<'_> {
    /// Fails when `what` takes more than the budget.
    pub(super) fn expect_memory(&self, what: &str, bytes: u64) -> Result<()> {
        MemoryBudget::from_mib(self.memory_budget).expect(|| what.into(), bytes)
    }
}

/// Notifies the observer, and ends the work if it wants that.
pub(super) fn notify(observer: &mut dyn Observer, event: &Event<'_>) -> Result<()> {
    match observer.observe(event) {
        Control::Stop => Err(Error::Interrupted { step: 0, checkpoint: None }),
        Control::Continue => Ok(()),
    }
}

/// k features of points, n·C × k: what a posterior in few coordinates is made in.
pub(super) trait FeatureSpace: Send + Sync {
    /// k, the number of features.
    fn width(&self) -> usize;

    /// Whether blocks need gradients.
    fn wants_jacobian(&self) -> bool {
        false
    }

    /// F, n·C × k with rows (point, output).
    fn features(&self, block: &Block<'_>) -> Result<Mat64>;

    /// FQ for Q of k × p.
    fn rotated(&self, block: &Block<'_>, rotation: Mat64Ref<'_>) -> Result<Mat64> {
        matmul_f64(self.features(block)?.view(), rotation)
    }

    /// Stores it in a model file.
    fn save(&self, archive: &mut Archive) -> Result<()>;
}

/// A matrix in k features that is decomposed: Σ FᵀΛF, or one that stands for it.
pub(super) struct LowRankCurvature {
    pub space: Box<dyn FeatureSpace>,
    /// Eigenvalues λ, p of them.
    pub values: Vec<f64>,
    /// Eigenvectors, k × p.
    pub rotation: Mat64,
}

impl LowRankCurvature {
    /// Of a matrix in the features, k × k: QΛQᵀ.
    pub(super) fn of(space: Box<dyn FeatureSpace>, matrix: Mat64Ref<'_>) -> Result<Self> {
        let (values, rotation) = eigh(matrix)?;
        // What is below 0 is rounding.
        let values = values.into_iter().map(|v| v.max(0.0)).collect();
        Ok(LowRankCurvature { space, values, rotation })
    }

    pub(super) fn load(space: Box<dyn FeatureSpace>, archive: &Archive) -> Result<Self> {
        let values = archive.f64_vector("curvature.values")?;
        let rotation = archive.f64_matrix("curvature.rotation", (space.width(), values.len()))?;
        Ok(LowRankCurvature { space, values, rotation })
    }
}

/// Σ over points of FᵀΛF = QΛQᵀ, k × k, in double precision. O(n C k (C + k) + k³).
pub(super) struct GaussNewtonAccumulator {
    space: Box<dyn FeatureSpace>,
    sum: Mat64,
}

impl GaussNewtonAccumulator {
    pub(super) fn of(space: Box<dyn FeatureSpace>) -> Box<Self> {
        let sum = Mat64::zeros((space.width(), space.width()));
        Box::new(GaussNewtonAccumulator { space, sum })
    }
}

impl CurvatureAccumulator for GaussNewtonAccumulator {
    fn wants_jacobian(&self) -> bool {
        self.space.wants_jacobian()
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let features = weighted(self.space.features(block)?.view(), roots);
        self.sum += &tr_matmul_f64(features.view(), features.view())?;
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        Ok(Box::new(LowRankCurvature::of(self.space, self.sum.view())?))
    }
}

impl Curvature for LowRankCurvature {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn wants_jacobian(&self) -> bool {
        self.space.wants_jacobian()
    }

    fn features(&self, block: &Block<'_>) -> Result<Mat64> {
        self.space.rotated(block, self.rotation.view())
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (k, p) = self.rotation.dim();
        archive.put_f64("curvature.values", &[p], self.values.clone())?;
        let rotation = self.rotation.iter().copied().collect();
        archive.put_f64("curvature.rotation", &[k, p], rotation)?;
        self.space.save(archive)
    }
}
