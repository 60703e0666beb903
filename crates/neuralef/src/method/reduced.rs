//! What methods of random features share: the fit, and the reduction to leading eigenpairs.

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;

use super::{Fitted, MethodRecord, Run};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::Problem;
use crate::fit::problem::every;
use crate::kernel::Kernel;
use crate::linalg::{
    canonical_signs, expect_finite_f64, matmul_f64, norm2, top_eigh, tr_matmul_f64,
};
use crate::matrix::{Mat, Mat64, MatRef};
use crate::observer::Event;
use crate::operator::{BLOCK, Tick};
use crate::persist::Archive;
use crate::spec::{Args, Domain, Parameter};

/// The parameter of both methods.
pub(super) const FEATURES: Parameter = Parameter::optional(
    "features",
    Domain::Integer(1, 100_000_000),
    "n_components",
    "D random features, reduced to the leading n_components eigenpairs of their kernel on the \
     training points; not given: n_components random features as they are, without eigenvalues",
);

/// Training points whose mean is the centre.
const CENTRE: usize = 4096;
/// Rows evaluated at a time by one thread.
const ROWS: usize = 256;

/// The value of that parameter, if it is given.
pub(super) fn features(args: &Args<'_>) -> Result<Option<usize>> {
    args.has("features").then(|| args.size("features")).transpose()
}

/// Draws features for the problem's kernel, `draw(kernel, count, centre)`, and reduces them where
/// `features` says so.
pub(super) fn fit(
    method: &str,
    features: Option<usize>,
    problem: &Problem,
    run: &mut Run<'_>,
    draw: impl FnOnce(&dyn Kernel, usize, Vec<f32>) -> Result<Box<dyn FeatureMap>>,
) -> Result<Fitted> {
    let why = "random features are drawn for a kernel";
    let kernel = problem.expect_kernel(method, why)?;
    run.begin(method, "random features")?;
    let k = problem.spec.n_components;
    let count = features.unwrap_or(k);
    if features.is_some() {
        problem.expect_points_for_components()?;
        if k > count {
            let expected = format!("at most the number of features, {count}");
            return Err(Error::parameter("n_components", expected, k));
        }
    }
    affordable(problem, count, features.is_some())?;
    let map = draw(&**kernel, count, centre(problem)?)?;
    let mut record = MethodRecord::default();
    let sample = problem.training_sample(problem.spec.readout_points);
    let points = sample.len();
    if features.is_none() {
        if map.components() < k {
            record.warnings.push(format!(
                "only {} of {k} features are needed: the kernel is constant",
                map.components()
            ));
        }
        return Ok(Fitted::new(map, sample, points, record));
    }
    let reduced = run.timed(|run| {
        let mut tick = |done, total| run.observe(&Event::Progress { done, total });
        Reduced::fit(map, problem, &sample, &mut tick)
    })?;
    if reduced.components() < k {
        record.warnings.push(format!(
            "only {} of {k} directions are usable: further eigenvalues of the features on these \
             points are zero to rounding",
            reduced.components()
        ));
    }
    Ok(Fitted::new(Box::new(reduced), sample, points, record))
}

/// Fails when the frequencies and one block of features, or the matrices of the reduction, are
/// beyond the memory budget.
fn affordable(problem: &Problem, count: usize, reduce: bool) -> Result<()> {
    let (count, d) = (count as u64, problem.points.width() as u64);
    let drawn = count.saturating_mul(d.saturating_add(4)).saturating_mul(16);
    let rows = if reduce { count.saturating_mul(4).saturating_add(8 * BLOCK as u64) } else { 512 };
    let needed = drawn.saturating_add(count.saturating_mul(rows).saturating_mul(8));
    problem.memory().expect(|| format!("drawing and applying {count} random features"), needed)
}

/// The mean of some training points, as the kernel sees them.
fn centre(problem: &Problem) -> Result<Vec<f32>> {
    let x = problem.batch(&every(&problem.split.train, CENTRE))?.x;
    let mean = |c: ndarray::ArrayView1<'_, f32>| {
        (c.iter().map(|v| f64::from(*v)).sum::<f64>() / c.len().max(1) as f64) as f32
    };
    Ok(x.columns().into_iter().map(mean).collect())
}

/// The error for a kernel that `method` has no features for, with the methods that serve it.
pub(super) fn unserved(method: &str, kernel: &dyn Kernel, why: &str) -> Error {
    let mut serving = vec!["neuralef", "nystrom"];
    if kernel.spectral().is_some() {
        serving.push("fourier");
    }
    if kernel.exponential().is_some() {
        serving.push("positive");
    }
    Error::Unsupported {
        what: format!("method = {method} with kernel {}", kernel.text()),
        reason: format!("{why}; this kernel is served by method = {}", serving.join(", ")),
    }
}

pub(super) fn no_eigenfunctions(method: &str) -> Error {
    Error::Unsupported {
        what: "eigenfunctions of a model of random features".into(),
        reason: format!(
            "it has no eigenvalues; method = {method}(features=D) reduces D random features to \
             eigenpairs"
        ),
    }
}

pub(super) fn shaped(rows: usize, columns: usize, data: Vec<f32>) -> Result<Mat> {
    let entries = data.len();
    Array2::from_shape_vec((rows, columns), data)
        .map_err(|_| Error::shape("features", format!("{rows} × {columns}"), entries))
}

/// The leading eigenpairs of the kernel φ(x)ᵀφ(x') of D features under a sample.
///
/// With ΦᵀΦ/n = VMVᵀ over n training points: eigenvalues μ_j, ψ_j(x) = φ(x)ᵀv_j/√μ_j, which are the
/// eigenpairs of ΦΦᵀ/n. Fitting costs O(n·D² + D²·k), evaluating a row O(D·k) beyond its features.
pub(super) struct Reduced {
    features: Box<dyn FeatureMap>,
    /// D × k.
    projection: Mat64,
    eigenvalues: Vec<f64>,
}

impl Reduced {
    fn fit(
        features: Box<dyn FeatureMap>,
        problem: &Problem,
        rows: &[usize],
        tick: &mut Tick<'_>,
    ) -> Result<Self> {
        let (d, n) = (features.components(), rows.len());
        let mut gram = Mat64::zeros((d, d));
        for (done, rows) in rows.chunks(8 * BLOCK).enumerate() {
            tick(done * 8 * BLOCK, n)?;
            let phi = features.transform(problem.batch(rows)?.x.view())?.mapv(f64::from);
            gram += &tr_matmul_f64(phi.view(), phi.view())?;
        }
        gram /= n as f64;
        expect_finite_f64("moments of the random features", gram.view())?;
        let found = top_eigh(gram.view(), problem.spec.n_components.min(d))?;
        let floor = d.max(10) as f64 * f64::EPSILON * norm2(gram.iter().copied());
        let rank = found.values.iter().take_while(|v| **v > floor && **v > 0.0).count();
        if rank == 0 {
            return Err(Error::Numerical {
                what: format!("reducing {d} random features"),
                message: "they vanish on all training points".into(),
            });
        }
        let eigenvalues = found.values[..rank].to_vec();
        let mut projection = found.vectors.slice(s![.., ..rank]).to_owned();
        for (mut column, mu) in projection.columns_mut().into_iter().zip(&eigenvalues) {
            column /= mu.sqrt();
        }
        let mut map = Reduced { features, projection, eigenvalues };
        let some = problem.batch(&every(rows, BLOCK))?;
        let signs = canonical_signs(map.eigenfunctions(some.x.view())?.view());
        for (mut column, sign) in map.projection.columns_mut().into_iter().zip(signs) {
            column *= sign;
        }
        Ok(map)
    }

    /// Reads back what [`FeatureMap::save`] stored; `features` have been read already.
    pub(super) fn load(archive: &Archive, features: Box<dyn FeatureMap>) -> Result<Self> {
        let eigenvalues = archive.f64_vector("eigenvalues")?;
        let shape = (features.components(), eigenvalues.len());
        let projection = archive.f64_matrix("projection", shape)?;
        expect_finite_f64("projection of random features", projection.view())?;
        let descending = eigenvalues.is_sorted_by(|a, b| a >= b);
        if !descending || eigenvalues.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
            let expected = "positive finite numbers in descending order";
            return Err(Error::parameter("eigenvalues", expected, format!("{eigenvalues:?}")));
        }
        Ok(Reduced { features, projection, eigenvalues })
    }
}

impl FeatureMap for Reduced {
    fn inputs(&self) -> usize {
        self.features.inputs()
    }

    fn components(&self) -> usize {
        self.eigenvalues.len()
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        let roots: Vec<f64> = self.eigenvalues.iter().map(|m| m.sqrt()).collect();
        Ok((self.eigenfunctions(x)? * ndarray::Array1::from(roots)).mapv(|v| v as f32))
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        Some(&self.eigenvalues)
    }

    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        let mut out = Mat64::zeros((x.nrows(), self.components()));
        let blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS).collect();
        blocks.into_par_iter().enumerate().try_for_each(|(b, mut out)| {
            let first = b * ROWS;
            let rows = x.slice(s![first..first + out.nrows(), ..]);
            let phi = self.features.transform(rows)?.mapv(f64::from);
            out.assign(&matmul_f64(phi.view(), self.projection.view())?);
            Ok::<_, Error>(())
        })?;
        Ok(out)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        self.features.save(archive)?;
        let (d, k) = self.projection.dim();
        archive.put_f64("projection", &[d, k], self.projection.iter().copied().collect())?;
        archive.put_f64("eigenvalues", &[k], self.eigenvalues.clone())
    }
}
