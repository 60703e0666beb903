//! The Nyström method: eigenfunctions of a kernel from its Gram matrix on m landmarks.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;

use super::landmark_points::LandmarkPoints;
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::kernel::{IndexedPoints, Kernel, expect_gradient, index};
use crate::linalg::{
    PartialEigen, canonical_signs, expect_finite_f32, expect_finite_f64, matmul_f32, matmul_f64,
    norm2, top_eigh,
};
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::operator::symmetric_gram;
use crate::persist::Archive;

/// Rows of x evaluated together.
const ROWS: usize = 128;
/// Largest error of ψ that single precision may cause on the probe points.
const SINGLE_LIMIT: f64 = 2.5e-5;
/// Landmarks on which that error is measured.
const PROBES: usize = 256;

/// Most landmarks accepted: their Gram matrix has 8 GiB.
const MAX_LANDMARKS: usize = 32_768;

/// In which precision [`Nystrom`] evaluates kernel and projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// `gram_f32` and a single-precision product.
    Single,
    /// `gram` and a double-precision product, rounded at the end.
    Double,
}

/// The Nyström approximation (Williams & Seeger 2001) of the leading eigenpairs of a kernel's
/// integral operator, from m landmarks xᵢ with weights wᵢ (1/m unless given).
///
/// With W = diag(w) and W^½ K W^½ = UMUᵀ: eigenvalues μ_j, eigenfunctions
/// ψ_j(x) = 1/μ_j Σᵢ wᵢ κ(x, xᵢ) ψ_j(xᵢ), ψ_j(xᵢ) = uᵢⱼ/√wᵢ. For equal weights that is μ_j = λ_j/m,
/// ψ_j(x) = √m/λ_j κ(x, X)u_j with λ, u the eigenpairs of K itself. It is exact for the empirical
/// measure of the landmarks: with all data as landmarks it gives the eigenvectors of the Gram
/// matrix. For other data the error is that of the quadrature Σᵢ wᵢ f(xᵢ) ≈ E f, about 1/√m.
///
/// Eigenvalues below max(m, 10)·ε·‖W^½ K W^½‖ (Frobenius) are rounding errors of the Gram matrix;
/// they and what belongs to them are left out, so there may be fewer
/// [`components`](FeatureMap::components) than asked for: see [`dropped`](Nystrom::dropped).
///
/// Fitting costs O(m² (d + k)), in double precision; evaluating, O(m (d + k)) for each row, in
/// single precision where that is harmless. An error of relative size ε in κ becomes one of up to
/// ε·√(κ(x,x)·max κ)/μ_j in ψ_j, typically √m times less. Which it is depends on kernel, data and
/// rounding, so the fit measures it: it evaluates ψ at (up to 256 of) the landmarks both ways and
/// chooses single precision when they differ by 2.5e-5 at most (E ψ_j² = 1).
#[derive(Debug, Clone)]
pub struct Nystrom {
    kernel: Arc<dyn Kernel>,
    landmarks: LandmarkPoints,
    projection: Mat64,
    projection_f32: Mat,
    eigenvalues: Vec<f64>,
    requested: usize,
    precision: Precision,
    single_error: f64,
}

impl Nystrom {
    /// Fits the leading `components` eigenpairs on `landmarks` (m × d) with equal weights.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 1 ≤ components ≤ m ≤ 32,768, [`Error::NonFinite`] for bad
    /// landmarks or kernel values, [`Error::Numerical`] when the kernel vanishes on them.
    pub fn fit(kernel: Arc<dyn Kernel>, landmarks: Mat, components: usize) -> Result<Self> {
        let m = landmarks.nrows();
        Self::fit_weighted(kernel, landmarks, &vec![1.0 / m as f64; m], components)
    }

    /// The same with a weight for each landmark: what share of the measure it stands for. Weights
    /// from [`kmeans_plus_plus`](super::landmarks::kmeans_plus_plus) undo its oversampling of
    /// sparse regions; weights of a quadrature rule give the eigenpairs of the population.
    ///
    /// # Errors
    /// As [`fit`](Nystrom::fit); [`Error::InvalidParameter`] unless the m weights are positive and
    /// finite.
    pub fn fit_weighted(
        kernel: Arc<dyn Kernel>,
        landmarks: Mat,
        weights: &[f64],
        components: usize,
    ) -> Result<Self> {
        Self::fit_landmarks(kernel, landmarks.into(), weights, components)
    }

    /// As [`fit_weighted`](Nystrom::fit_weighted).
    pub(super) fn fit_landmarks(
        kernel: Arc<dyn Kernel>,
        landmarks: LandmarkPoints,
        weights: &[f64],
        components: usize,
    ) -> Result<Self> {
        let m = landmarks.x.nrows();
        if !(1..=m).contains(&components) {
            let expected = format!("1 to {m}, the number of landmarks");
            return Err(Error::parameter("components", expected, components));
        }
        if weights.len() != m {
            return Err(Error::shape("weights of the landmarks", m, weights.len()));
        }
        if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
            return Err(Error::parameter("weights", "positive finite numbers", bad));
        }
        if m > MAX_LANDMARKS {
            let expected = format!("at most {MAX_LANDMARKS} (a Gram matrix of 8 GiB)");
            return Err(Error::parameter("landmarks", expected, m));
        }
        expect_finite_f32("landmarks", landmarks.x.view())?;
        let roots: Vec<f64> = weights.iter().map(|w| w.sqrt()).collect();
        let mut gram = symmetric_gram(&*kernel, landmarks.points())?;
        expect_finite_f64("Gram matrix of the landmarks", gram.view())?;
        for ((i, j), value) in gram.indexed_iter_mut() {
            *value *= roots[i] * roots[j];
        }
        let found = top_eigh(gram.view(), components)?;
        // Not the largest eigenvalue: beside negative ones it may be nothing but rounding.
        let size = norm2(gram.iter().copied());
        drop(gram);
        Self::from_eigenpairs(kernel, landmarks, &roots, &found, size)
    }

    /// From the leading eigenpairs of W^½ K W^½ (m × m), with the roots of the m weights and the
    /// Frobenius norm of that matrix: drops what is below the numerical rank and fixes the signs.
    ///
    /// # Errors
    /// [`Error::Numerical`] when nothing is above the numerical rank; as
    /// [`from_parts`](Nystrom::from_parts).
    pub(super) fn from_eigenpairs(
        kernel: Arc<dyn Kernel>,
        landmarks: LandmarkPoints,
        roots: &[f64],
        found: &PartialEigen,
        size: f64,
    ) -> Result<Self> {
        let m = landmarks.x.nrows();
        let largest = found.values.first().copied().unwrap_or(0.0);
        let floor = m.max(10) as f64 * f64::EPSILON * size;
        let rank = found.values.iter().take_while(|v| **v > floor && **v > 0.0).count();
        if rank == 0 {
            let message = format!("the largest eigenvalue of the Gram matrix is {largest:e}");
            return Err(Error::Numerical { what: format!("Nyström on {m} landmarks"), message });
        }
        let eigenvalues = found.values[..rank].to_vec();
        let vectors = found.vectors.slice(s![.., ..rank]);
        // Σ w ψ³ ≥ 0: with ψ = u/√w, the cube root of each term is u·w^(−1/6).
        let cubes: Vec<f64> = roots.iter().map(|r| r.cbrt().recip()).collect();
        // Column by column in memory, as they are looked at.
        let weighed = Mat64::from_shape_fn((rank, m), |(j, i)| vectors[(i, j)] * cubes[i]);
        let signs = canonical_signs(weighed.t());
        drop(weighed);
        let scales: Vec<f64> = signs.iter().zip(&eigenvalues).map(|(s, mu)| s / mu).collect();
        let projection =
            Mat64::from_shape_fn(vectors.dim(), |(i, j)| scales[j] * (roots[i] * vectors[(i, j)]));
        let mut fitted = Self::from_landmarks(kernel, landmarks, projection, eigenvalues)?;
        fitted.requested = found.values.len();
        Ok(fitted)
    }

    /// Puts a fitted approximation together again, e.g. from a file: landmarks (m × d), the
    /// projection P (m × k) with ψ(x) = κ(x, X)P, and the eigenvalues.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`], and [`Error::InvalidParameter`] unless the
    /// eigenvalues are positive and descending.
    pub fn from_parts(
        kernel: Arc<dyn Kernel>,
        landmarks: Mat,
        projection: Mat64,
        eigenvalues: Vec<f64>,
    ) -> Result<Self> {
        Self::from_landmarks(kernel, landmarks.into(), projection, eigenvalues)
    }

    /// As [`from_parts`](Nystrom::from_parts).
    pub(super) fn from_landmarks(
        kernel: Arc<dyn Kernel>,
        landmarks: LandmarkPoints,
        projection: Mat64,
        eigenvalues: Vec<f64>,
    ) -> Result<Self> {
        let (m, k) = (landmarks.x.nrows(), eigenvalues.len());
        if m == 0 || k == 0 || projection.dim() != (m, k) {
            let got = format!("{} × {}", projection.nrows(), projection.ncols());
            let expected = format!("{m} × {k} (landmarks × eigenvalues), neither zero");
            return Err(Error::shape("projection of the Nyström method", expected, got));
        }
        expect_finite_f32("landmarks", landmarks.x.view())?;
        expect_finite_f64("projection of the Nyström method", projection.view())?;
        let descending = eigenvalues.is_sorted_by(|a, b| a >= b);
        if !descending || eigenvalues.iter().any(|v| !(v.is_finite() && *v > 0.0)) {
            let expected = "positive finite numbers in descending order";
            return Err(Error::parameter("eigenvalues", expected, format!("{eigenvalues:?}")));
        }
        let projection_f32 = projection.mapv(|v| v as f32);
        let mut fitted = Nystrom {
            kernel,
            landmarks,
            projection,
            projection_f32,
            eigenvalues,
            requested: k,
            precision: Precision::Double,
            single_error: f64::INFINITY,
        };
        if !fitted.kernel.is_costly() {
            fitted.single_error = fitted.measure_single_precision()?;
        }
        if fitted.single_error <= SINGLE_LIMIT {
            fitted.precision = Precision::Single;
        }
        Ok(fitted)
    }

    /// The same approximation evaluated in the given precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The precision in which rows are evaluated.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The largest difference of ψ between single and double precision on the probed landmarks
    /// (infinite when single precision gave something that is not a number, and for kernels that are only
    /// evaluated in double precision).
    pub fn single_precision_error(&self) -> f64 {
        self.single_error
    }

    /// The kernel.
    pub fn kernel(&self) -> &Arc<dyn Kernel> {
        &self.kernel
    }

    /// The landmarks, m × d.
    pub fn landmarks(&self) -> MatRef<'_> {
        self.landmarks.x.view()
    }

    /// P, m × k, with ψ(x) = κ(x, X)P.
    pub fn projection(&self) -> &Mat64 {
        &self.projection
    }

    /// How many of the components asked for were below the numerical rank and left out.
    pub fn dropped(&self) -> usize {
        self.requested - self.eigenvalues.len()
    }

    /// ψ(x) in double precision, n × k.
    fn psi(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.check(x)?;
        let k = self.eigenvalues.len();
        let mut out = vec![0.0f64; x.nrows() * k];
        self.blocks(x, &mut out, |block, out| {
            let gram = block_gram(&*self.kernel, block, self.landmarks.points())?;
            let psi = matmul_f64(gram.view(), self.projection.view())?;
            out.iter_mut().zip(&psi).for_each(|(o, v)| *o = *v);
            Ok(())
        })?;
        let psi = shaped(x.nrows(), k, out)?;
        expect_finite_f64("eigenfunctions of the Nyström method", psi.view())?;
        Ok(psi)
    }

    fn check(&self, x: MatRef<'_>) -> Result<()> {
        expect_columns("x", x, self.landmarks.x.ncols())?;
        expect_finite_f32("x", x)
    }

    /// ψ(x)·diag(factors), rounded to single precision.
    fn evaluate(&self, x: MatRef<'_>, precision: Precision, factors: &[f64]) -> Result<Mat> {
        self.check(x)?;
        let k = self.eigenvalues.len();
        let mut out = vec![0.0f32; x.nrows() * k];
        self.blocks(x, &mut out, |block, out| {
            let m = self.landmarks.x.nrows();
            let rows = |out: &mut [f32], psi: &mut dyn Iterator<Item = f64>| {
                for row in out.chunks_mut(k) {
                    row.iter_mut().zip(factors).for_each(|(o, f)| {
                        *o = (psi.next().unwrap_or(f64::NAN) * f) as f32;
                    });
                }
            };
            match precision {
                Precision::Single => {
                    let mut gram = Mat::zeros((block.nrows(), m));
                    let landmarks = self.landmarks.points();
                    index::gram_f32(&*self.kernel, block.into(), landmarks, gram.view_mut())?;
                    let psi = matmul_f32(gram.view(), self.projection_f32.view())?;
                    rows(out, &mut psi.iter().map(|v| f64::from(*v)));
                }
                Precision::Double => {
                    let gram = block_gram(&*self.kernel, block, self.landmarks.points())?;
                    let psi = matmul_f64(gram.view(), self.projection.view())?;
                    rows(out, &mut psi.iter().copied());
                }
            }
            Ok(())
        })?;
        let out = shaped(x.nrows(), k, out)?;
        expect_finite_f32("features of the Nyström method", out.view())?;
        Ok(out)
    }

    /// Runs `work` on fixed blocks of rows of x and the matching pieces of `out`, side by side.
    fn blocks<T: Send>(
        &self,
        x: MatRef<'_>,
        out: &mut [T],
        work: impl Fn(MatRef<'_>, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let k = self.eigenvalues.len();
        out.par_chunks_mut(ROWS * k).enumerate().try_for_each(|(i, out)| {
            let first = i * ROWS;
            work(x.slice(s![first..first + out.len() / k, ..]), out)
        })
    }

    fn measure_single_precision(&self) -> Result<f64> {
        let m = self.landmarks.x.nrows();
        let step = m.div_ceil(PROBES);
        let probes = self.landmarks.x.slice(s![..;step, ..]);
        let exact = self.psi(probes)?;
        let ones = vec![1.0; self.eigenvalues.len()];
        // Overflow in single precision rules it out; it is not an error of the fit.
        let single = match self.evaluate(probes, Precision::Single, &ones) {
            Ok(single) => single,
            Err(Error::NonFinite { .. }) => return Ok(f64::INFINITY),
            Err(other) => return Err(other),
        };
        let differences = single.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs());
        Ok(differences.fold(0.0, f64::max))
    }
}

impl Nystrom {
    /// ∇ψ_j(x) = Σᵢ ∇κ(x, xᵢ)P_ij: O(n d m k).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for kernels without a gradient.
    pub(crate) fn gradients(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.check(x)?;
        let (n, d) = x.dim();
        let (k, m) = (self.eigenvalues.len(), self.landmarks.x.nrows());
        let mut out = Mat64::zeros((n * d, k));
        // As many numbers in the gradients of a block as in the Gram matrices of others.
        let rows = ROWS.div_ceil(d.max(1));
        let mut blocks: Vec<_> =
            out.axis_chunks_iter_mut(Axis(0), (rows * d).max(1)).enumerate().collect();
        blocks.par_iter_mut().try_for_each(|(i, out)| {
            let block = x.slice(s![*i * rows..(*i * rows + rows).min(n), ..]);
            let mut gradients = Mat64::zeros((block.len(), m));
            expect_gradient(&*self.kernel, block, self.landmarks.x.view(), gradients.view_mut())?;
            out.assign(&matmul_f64(gradients.view(), self.projection.view())?);
            Ok::<_, Error>(())
        })?;
        expect_finite_f64("gradients of the Nyström method", out.view())?;
        Ok(out)
    }
}

impl FeatureMap for Nystrom {
    fn inputs(&self) -> usize {
        self.landmarks.x.ncols()
    }

    fn stored_inputs(&self) -> usize {
        self.inputs() + usize::from(self.landmarks.rows.is_some())
    }

    fn components(&self) -> usize {
        self.eigenvalues.len()
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        let roots: Vec<f64> = self.eigenvalues.iter().map(|v| v.sqrt()).collect();
        self.evaluate(x, self.precision, &roots)
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        Some(&self.eigenvalues)
    }

    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        self.psi(x)
    }

    fn eigenfunction_gradients(&self, x: MatRef<'_>) -> Result<Option<Mat64>> {
        self.gradients(x).map(Some)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (m, k) = self.projection.dim();
        self.landmarks.save(archive)?;
        archive.put_f64("projection", &[m, k], self.projection.iter().copied().collect())?;
        archive.put_f64("eigenvalues", &[k], self.eigenvalues.clone())
    }
}

fn block_gram(kernel: &dyn Kernel, x: MatRef<'_>, y: IndexedPoints<'_>) -> Result<Mat64> {
    let mut gram = Mat64::zeros((x.nrows(), y.len()));
    index::gram(kernel, x.into(), y, gram.view_mut())?;
    Ok(gram)
}

fn shaped<T>(rows: usize, columns: usize, data: Vec<T>) -> Result<Array2<T>> {
    let entries = data.len();
    Array2::from_shape_vec((rows, columns), data)
        .map_err(|_| Error::shape("features", format!("{rows} × {columns}"), entries))
}

#[cfg(test)]
#[path = "nystrom_tests.rs"]
mod tests;
