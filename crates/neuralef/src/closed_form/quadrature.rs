//! Population eigenpairs of any one-dimensional kernel, by Gauss–Legendre quadrature.

use std::f64::consts::PI;
use std::sync::Arc;

use ndarray::Array2;

use super::{KnownSpectrum, check_points, interval, positive};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::kernel::Kernel;
use crate::linalg::matmul_f64;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::method::Nystrom;

/// Largest number of nodes accepted: the rule and the eigenproblem take n × n matrices.
const MAX_NODES: usize = 4096;

/// Nodes and weights of the n-point Gauss–Legendre rule on [−1, 1]: exact to degree 2n − 1.
#[derive(Debug, Clone)]
pub struct GaussLegendre {
    /// Nodes, ascending.
    pub nodes: Vec<f64>,
    /// Weights, summing to 2.
    pub weights: Vec<f64>,
}

impl GaussLegendre {
    /// The rule with n points, by Newton's method on the Legendre polynomial. O(n²).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 1 ≤ n ≤ 4096.
    pub fn new(n: usize) -> Result<Self> {
        if !(1..=MAX_NODES).contains(&n) {
            return Err(Error::parameter("nodes", format!("1 to {MAX_NODES}"), n));
        }
        let (mut nodes, mut weights) = (vec![0.0; n], vec![0.0; n]);
        for i in 0..n.div_ceil(2) {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            if 2 * i + 1 == n {
                x = 0.0;
            }
            for _ in 0..10 {
                let (value, slope) = legendre(n, x);
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-16 {
                    break;
                }
            }
            let slope = legendre(n, x).1;
            let weight = 2.0 / ((1.0 - x * x) * slope * slope);
            (nodes[n - 1 - i], weights[n - 1 - i]) = (x, weight);
            (nodes[i], weights[i]) = (-x, weight);
        }
        Ok(GaussLegendre { nodes, weights })
    }

    /// The rule for the nodes of this one moved to `nodes` (slightly): weights that integrate
    /// polynomials to degree n − 1 exactly. Solves Σᵢ wᵢP_j(tᵢ) = 2δ_{j0} by fixed-point iteration
    /// from the Gauss weights, whose own system has an explicit inverse.
    fn moved_to(&self, nodes: &[f64]) -> Result<Vec<f64>> {
        let n = nodes.len();
        let mut table = Array2::zeros((n, n));
        for (i, &t) in nodes.iter().enumerate() {
            let (mut before, mut now) = (0.0, 1.0);
            for j in 0..n {
                table[(j, i)] = now;
                let m = j as f64;
                (before, now) = (now, ((2.0 * m + 1.0) * t * now - m * before) / (m + 1.0));
            }
        }
        let mut weights = Array2::from_shape_fn((n, 1), |(i, _)| self.weights[i]);
        let mut last = f64::INFINITY;
        for _ in 0..60 {
            let mut defect = -matmul_f64(table.view(), weights.view())?;
            defect[(0, 0)] += 2.0;
            let size = defect.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            let stalled = size >= last;
            last = size;
            if size < 1e-15 || (size < 1e-13 && stalled) {
                break;
            }
            for (j, value) in defect.iter_mut().enumerate() {
                *value *= (2 * j + 1) as f64 / 2.0;
            }
            let change = matmul_f64(table.t(), defect.view())?;
            for (i, w) in weights.iter_mut().enumerate() {
                *w += self.weights[i] * change[(i, 0)];
            }
        }
        if last < 1e-12 && weights.iter().all(|w| w.is_finite() && *w > 0.0) {
            return Ok(weights.iter().copied().collect());
        }
        let message = format!("{n} nodes are too many for single-precision points here");
        Err(Error::Numerical { what: "quadrature rule".into(), message })
    }
}

/// (P_n(x), P_n'(x)).
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut now) = (1.0, x);
    for j in 1..n {
        let m = j as f64;
        (before, now) = (now, ((2.0 * m + 1.0) * x * now - m * before) / (m + 1.0));
    }
    (now, n as f64 * (x * now - before) / (x * x - 1.0))
}

/// Population eigenpairs of a kernel by quadrature (the Nyström method in its original sense): with
/// nodes zᵢ and weights wᵢ, the eigenpairs of W^½ κ(z, z) W^½, extended to all x by
/// ψ_j(x) = 1/μ_j Σᵢ wᵢ κ(x, zᵢ) ψ_j(zᵢ), all in double precision.
///
/// Points are single precision here as everywhere, so the Gauss–Legendre nodes are rounded first
/// and the weights then chosen to suit the rounded nodes: the rule stays accurate to double
/// precision. For kernels analytic on the interval, errors fall exponentially with the number of
/// nodes, to about ε·μ₁ in the eigenvalues and ε·μ₁/μ_j in ψ_j; at a kink of the kernel on the
/// diagonal (laplacian, brownian) like 1/n². O(n²(d + k)) to make.
#[derive(Debug, Clone)]
pub struct Quadrature {
    rule: Nystrom,
    trace: f64,
}

impl Quadrature {
    /// The first k eigenpairs of `kernel` under U[a, b] with the given number of nodes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless a < b and 1 ≤ k ≤ nodes ≤ 4096, [`Error::Numerical`] when
    /// [a, b] has too few single-precision numbers for the nodes; what the kernel reports.
    pub fn uniform(
        kernel: Arc<dyn Kernel>,
        a: f64,
        b: f64,
        nodes: usize,
        k: usize,
    ) -> Result<Self> {
        Self::with_density(kernel, a, b, nodes, k, |_| 1.0)
    }

    /// The first k eigenpairs under N(mean, sd²), cut at 8.5 standard deviations.
    ///
    /// # Errors
    /// As [`uniform`](Quadrature::uniform).
    pub fn gaussian(
        kernel: Arc<dyn Kernel>,
        mean: f64,
        sd: f64,
        nodes: usize,
        k: usize,
    ) -> Result<Self> {
        positive("sd", sd)?;
        let (a, b) = (mean - 8.5 * sd, mean + 8.5 * sd);
        Self::with_density(kernel, a, b, nodes, k, |x| (-0.5 * ((x - mean) / sd).powi(2)).exp())
    }

    /// The first k eigenpairs under the measure on [a, b] with the given density (up to a factor);
    /// the density must be positive and as smooth as the accuracy wanted.
    ///
    /// # Errors
    /// As [`uniform`](Quadrature::uniform); [`Error::InvalidParameter`] when the density is not
    /// positive and finite at a node.
    pub fn with_density(
        kernel: Arc<dyn Kernel>,
        a: f64,
        b: f64,
        nodes: usize,
        k: usize,
        density: impl Fn(f64) -> f64,
    ) -> Result<Self> {
        let (a, b) = interval(a, b)?;
        let gauss = GaussLegendre::new(nodes)?;
        let points: Vec<f32> =
            gauss.nodes.iter().map(|t| (a + (b - a) * 0.5 * (t + 1.0)) as f32).collect();
        let moved: Vec<f64> =
            points.iter().map(|z| 2.0 * (f64::from(*z) - a) / (b - a) - 1.0).collect();
        let mut weights = gauss.moved_to(&moved)?;
        for (w, z) in weights.iter_mut().zip(&points) {
            *w *= density(f64::from(*z));
            positive("density", *w)?;
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        let points = Mat::from_shape_fn((nodes, 1), |(i, _)| points[i]);
        Self::from_rule(kernel, points, &weights, k)
    }

    /// The first k eigenpairs under the discrete measure Σ wᵢδ(zᵢ): any rule, any dimension.
    ///
    /// # Errors
    /// As [`Nystrom::fit_weighted`].
    pub fn from_rule(
        kernel: Arc<dyn Kernel>,
        nodes: Mat,
        weights: &[f64],
        k: usize,
    ) -> Result<Self> {
        let diagonal = kernel.diag(nodes.view())?;
        let trace = diagonal.iter().zip(weights).map(|(d, w)| d * w).sum();
        Ok(Quadrature { rule: Nystrom::fit_weighted(kernel, nodes, weights, k)?, trace })
    }
}

impl KnownSpectrum for Quadrature {
    fn inputs(&self) -> usize {
        self.rule.inputs()
    }

    /// The k of the constructor, or the numerical rank of the kernel if that is less.
    fn rank(&self) -> Option<usize> {
        Some(self.rule.components())
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        Ok(self.rule.eigenvalues().unwrap_or(&[]).iter().copied().take(k).collect())
    }

    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, self.inputs(), k)?;
        let psi = self.rule.eigenfunctions(x)?;
        let k = k.min(psi.ncols());
        Ok(psi.slice(ndarray::s![.., ..k]).to_owned())
    }

    fn trace(&self) -> f64 {
        self.trace
    }
}
