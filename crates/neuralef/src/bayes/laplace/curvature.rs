//! The generalised Gauss–Newton matrix of the data, in coordinates in which it is diagonal.

use std::ops::Range;

use ndarray::{Array3, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::likelihood::{Targets, weighted};
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::fit::{Control, Event, Observer};
use crate::linalg::{eigh, matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef};
use crate::nn::Network;
use crate::persist::Archive;

/// Points whose features are held at a time.
pub(super) const POINTS: usize = 256;

/// What is taken of the parameters of a network: coordinates w, in which outputs are f(x) + F(x)w,
/// the prior is N(0, I/δ), and the generalised Gauss–Newton matrix of the data is (taken to be)
/// diagonal, with the values λ. The posterior is then N(0, diag(1/(λ/T + δ))), which is a covariance for
/// any δ > 0, and the covariance of outputs F diag(·) Fᵀ is positive semi-definite as it stands.
pub(crate) trait Curvature: Send + Sync {
    /// λ ≥ 0, p of them.
    fn values(&self) -> &[f64];

    /// F at `x`, n·C × p with rows (point, output), where p is small enough to be kept.
    ///
    /// # Errors
    /// Those of the network; [`Error::Unsupported`] for as many coordinates as parameters.
    fn features(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64>;

    /// F diag(variances) Fᵀ at each of the points `x`, n × C × C.
    fn covariance(
        &self,
        network: &dyn Network,
        x: MatRef<'_>,
        variances: &[f64],
    ) -> Result<Array3<f64>> {
        Ok(covariances(self.features(network, x)?.view(), network.outputs(), variances))
    }

    /// Stores it in a model file.
    ///
    /// # Errors
    /// [`Error::ModelFile`].
    fn save(&self, archive: &mut Archive) -> Result<()>;
}

/// F diag(variances) Fᵀ of each point, for features with the `c` outputs of a point in consecutive
/// rows. O(n C² p).
pub(super) fn covariances(features: Mat64Ref<'_>, c: usize, variances: &[f64]) -> Array3<f64> {
    let points: Vec<ArrayView2<'_, f64>> = features.axis_chunks_iter(Axis(0), c).collect();
    let mut out = Array3::zeros((points.len(), c, c));
    let each = |(mut to, f): (ndarray::ArrayViewMut2<'_, f64>, &ArrayView2<'_, f64>)| {
        for a in 0..c {
            for b in 0..=a {
                let (x, y) = (f.row(a), f.row(b));
                let terms = x.iter().zip(y).zip(variances);
                let sum = terms.map(|((x, y), v)| x * y * v).sum::<f64>();
                to[[a, b]] = sum;
                to[[b, a]] = sum;
            }
        }
    };
    let mut pairs: Vec<_> = out.outer_iter_mut().zip(&points).collect();
    pairs.par_iter_mut().for_each(|(to, f)| each((to.view_mut(), f)));
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
        self.seen(self.data.range(rows)?)
    }

    pub(super) fn rows(&self, rows: &[usize]) -> Result<Mat> {
        self.seen(self.data.rows(rows)?)
    }

    fn seen(&self, x: Mat) -> Result<Mat> {
        self.preprocessing.map_or(Ok(x.clone()), |p| p.apply(x.view()))
    }
}

/// What a source is given.
pub(crate) struct Task<'a> {
    pub network: &'a dyn Network,
    pub trained: &'a crate::nn::TrainedNetwork,
    pub points: Points<'a>,
    pub targets: &'a Targets,
    /// f at the points, n × C.
    pub outputs: Mat64,
    pub seed: u64,
    /// MiB.
    pub memory_budget: u64,
}

impl Task<'_> {
    /// C.
    pub(super) fn c(&self) -> usize {
        self.outputs.ncols()
    }

    /// Calls `each` with every block of points and L of these, in order; tells `observer`.
    pub(super) fn for_blocks(
        &self,
        name: &'static str,
        observer: &mut dyn Observer,
        mut each: impl FnMut(MatRef<'_>, &[Mat64]) -> Result<()>,
    ) -> Result<()> {
        tell(observer, &Event::Phase { name })?;
        let n = self.points.len();
        for start in (0..n).step_by(POINTS) {
            let rows = start..(start + POINTS).min(n);
            tell(observer, &Event::Progress { done: start, total: n })?;
            let outputs = self.outputs.slice(s![rows.clone(), ..]);
            let roots = self.targets.likelihood().roots(outputs)?;
            each(self.points.block(rows)?.view(), &roots)?;
        }
        tell(observer, &Event::Progress { done: n, total: n })
    }
}

/// Tells the observer, and ends the work if it wants that.
pub(super) fn tell(observer: &mut dyn Observer, event: &Event<'_>) -> Result<()> {
    match observer.observe(event) {
        Control::Stop => Err(Error::Interrupted { step: 0, checkpoint: None }),
        Control::Continue => Ok(()),
    }
}

/// k features of points, n·C × k: what a posterior in few coordinates is made in.
pub(super) trait FeatureSpace: Send + Sync {
    /// k.
    fn width(&self) -> usize;

    /// F at `x`, n·C × k.
    fn at(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64>;

    /// Stores it in a model file.
    fn save(&self, archive: &mut Archive) -> Result<()>;
}

/// The whole generalised Gauss–Newton matrix in k features, decomposed; or another matrix of these
/// whose decomposition is known.
pub(super) struct InFeatures {
    pub space: Box<dyn FeatureSpace>,
    /// λ.
    pub values: Vec<f64>,
    /// Eigenvectors, k × p.
    pub rotation: Mat64,
}

impl InFeatures {
    /// Σ over points of FᵀΛF = QΛQᵀ. O(n C k (C + k) + k³).
    pub(super) fn full(
        space: Box<dyn FeatureSpace>,
        task: &Task<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let gram = gauss_newton(&*space, task, observer)?;
        let (values, rotation) = eigh(gram.view())?;
        // What is below 0 is rounding.
        let values = values.into_iter().map(|v| v.max(0.0)).collect();
        Ok(InFeatures { space, values, rotation })
    }

    pub(super) fn load(space: Box<dyn FeatureSpace>, archive: &Archive) -> Result<Self> {
        let values = archive.f64_vector("curvature.values")?;
        let rotation = archive.f64_matrix("curvature.rotation", (space.width(), values.len()))?;
        Ok(InFeatures { space, values, rotation })
    }
}

/// Σ over points of FᵀΛF, k × k, in double precision.
pub(super) fn gauss_newton(
    space: &dyn FeatureSpace,
    task: &Task<'_>,
    observer: &mut dyn Observer,
) -> Result<Mat64> {
    let mut sum = Mat64::zeros((space.width(), space.width()));
    task.for_blocks("curvature", observer, |x, roots| {
        let mut features = space.at(task.network, x)?;
        weighted(&mut features, roots);
        sum += &tr_matmul_f64(features.view(), features.view())?;
        Ok(())
    })?;
    Ok(sum)
}

impl Curvature for InFeatures {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn features(&self, network: &dyn Network, x: MatRef<'_>) -> Result<Mat64> {
        matmul_f64(self.space.at(network, x)?.view(), self.rotation.view())
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (k, p) = self.rotation.dim();
        archive.put_f64("curvature.values", &[p], self.values.clone())?;
        let rotation = self.rotation.iter().copied().collect();
        archive.put_f64("curvature.rotation", &[k, p], rotation)?;
        self.space.save(archive)
    }
}
