//! The rbf kernel under a Gaussian measure: Hermite functions and their products.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{KnownSpectrum, check_pairs, check_points, positive};
use crate::error::{Error, Result};
use crate::linalg::expect_finite_f64;
use crate::matrix::{Mat64, MatRef};

/// κ(x, x') = exp(−‖x − x'‖²/(2ℓ²)) under N(mean, diag(sd²)) in d dimensions (Rasmussen & Williams
/// 2006, §4.3.1; Zhu et al. 1998).
///
/// In one dimension, with a = 1/(4σ²), b = 1/(2ℓ²), c = √(a² + 2ab), A = a + b + c, B = b/A:
/// μ_n = √(2a/A) Bⁿ and ψ_n(x) = (c/a)^¼ (2ⁿn!)^{−½} exp(−(c − a)x²) H_n(√(2c) x), n ≥ 0. In d
/// dimensions eigenvalues and eigenfunctions are products over the dimensions, sorted by
/// eigenvalue; equal ones (to 1e-12 in the logarithm) by their multi-index, lexicographically.
#[derive(Debug, Clone)]
pub struct RbfGaussian {
    mean: Vec<f64>,
    axes: Vec<Axis>,
}

/// One dimension.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// ln of the first eigenvalue.
    log_first: f64,
    /// ln B, the (negative) logarithm of the ratio of one eigenvalue to the one before.
    log_ratio: f64,
    /// The constant factor (c/a)^¼.
    amplitude: f64,
    /// The decay c − a of the Gaussian factor.
    decay: f64,
    /// The factor √(2c) of the argument of Hermite polynomials.
    stretch: f64,
}

impl RbfGaussian {
    /// Lengthscale ℓ, and mean and standard deviation for each dimension.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless ℓ and all sd are positive, and not more than about
    /// 1e100 apart; [`Error::Shape`] unless mean and sd have the same length ≥ 1.
    pub fn new(lengthscale: f64, mean: &[f64], sd: &[f64]) -> Result<Self> {
        let b = 0.5 / positive("lengthscale", lengthscale)?.powi(2);
        if mean.is_empty() || mean.len() != sd.len() {
            let expected = format!("as many as means ({}), at least one", mean.len());
            return Err(Error::shape("standard deviations", expected, sd.len()));
        }
        if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
            return Err(Error::parameter("mean", "finite numbers", bad));
        }
        let axes = sd.iter().map(|sd| Axis::new(b, *sd)).collect::<Result<_>>()?;
        Ok(RbfGaussian { mean: mean.to_vec(), axes })
    }

    /// N(0, sd² I) in d dimensions.
    ///
    /// # Errors
    /// As [`new`](RbfGaussian::new).
    pub fn isotropic(lengthscale: f64, sd: f64, d: usize) -> Result<Self> {
        Self::new(lengthscale, &vec![0.0; d], &vec![sd; d])
    }

    /// The multi-indices (one order for each dimension) of the first k eigenfunctions.
    pub fn orders(&self, k: usize) -> Vec<Vec<u32>> {
        let first = Candidate { key: 0, orders: vec![0; self.axes.len()], from: 0 };
        let mut heap = BinaryHeap::from([first]);
        let mut out = Vec::new();
        while out.len() < k {
            let Some(best) = heap.pop() else { break };
            // Each multi-index has one parent: the one with its last non-zero order reduced.
            for axis in best.from..self.axes.len() {
                let mut orders = best.orders.clone();
                orders[axis] += 1;
                heap.push(Candidate { key: self.key(&orders), orders, from: axis });
            }
            out.push(best.orders);
        }
        out
    }

    /// ln(μ/μ₁), counted in steps of 1e-12 so that products equal but for rounding tie.
    fn key(&self, orders: &[u32]) -> i64 {
        let terms = orders.iter().zip(&self.axes);
        let log: f64 = terms.map(|(n, axis)| f64::from(*n) * axis.log_ratio).sum();
        (log * 1e12).round() as i64
    }
}

impl Axis {
    fn new(b: f64, sd: f64) -> Result<Self> {
        let a = 0.25 / positive("standard deviation", sd)?.powi(2);
        let c = (a * (a + 2.0 * b)).sqrt();
        let sum = a + b + c;
        let axis = Axis {
            log_first: 0.5 * (2.0 * a / sum).ln(),
            log_ratio: (b / sum).ln(),
            amplitude: (c / a).powf(0.25),
            // c − a without cancellation.
            decay: 2.0 * a * b / (c + a),
            stretch: (2.0 * c).sqrt(),
        };
        let facts = [axis.log_first, axis.log_ratio, axis.amplitude, axis.decay, axis.stretch];
        // The ratio must be below one by more than a tie, or the order of the products is lost.
        if facts.iter().all(|v| v.is_finite()) && axis.log_ratio < -1e-9 && axis.decay > 0.0 {
            return Ok(axis);
        }
        Err(Error::parameter("standard deviation", "within 1e9 of the lengthscale", sd))
    }

    /// ψ_0(t) … ψ_top(t) at t = x − mean.
    fn values(&self, t: f64, top: u32) -> Vec<f64> {
        let y = self.stretch * t;
        let mut out = Vec::with_capacity(top as usize + 1);
        let (mut before, mut now) = (0.0, self.amplitude * (-self.decay * t * t).exp());
        for n in 0..=top {
            out.push(now);
            // h_{n+1} = √(2/(n+1)) y h_n − √(n/(n+1)) h_{n−1} for h_n = H_n/√(2ⁿ n!).
            let (n, next) = (f64::from(n), f64::from(n) + 1.0);
            (before, now) = (now, (2.0 / next).sqrt() * y * now - (n / next).sqrt() * before);
        }
        out
    }
}

/// A multi-index waiting in line; `from` is the first dimension it may still grow in.
#[derive(PartialEq, Eq)]
struct Candidate {
    key: i64,
    orders: Vec<u32>,
    from: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| other.orders.cmp(&self.orders))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl KnownSpectrum for RbfGaussian {
    fn inputs(&self) -> usize {
        self.axes.len()
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        check_pairs(k)?;
        let first: f64 = self.axes.iter().map(|axis| axis.log_first).sum();
        let value = |orders: &Vec<u32>| {
            let terms = orders.iter().zip(&self.axes);
            (first + terms.map(|(n, axis)| f64::from(*n) * axis.log_ratio).sum::<f64>()).exp()
        };
        Ok(self.orders(k).iter().map(value).collect())
    }

    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, self.axes.len(), k)?;
        let orders = self.orders(k);
        let mut psi = Mat64::ones((x.nrows(), k));
        for (d, (axis, mean)) in self.axes.iter().zip(&self.mean).enumerate() {
            let top = orders.iter().map(|o| o[d]).max().unwrap_or(0);
            for (x, mut row) in x.column(d).iter().zip(psi.rows_mut()) {
                let values = axis.values(f64::from(*x) - mean, top);
                row.iter_mut().zip(&orders).for_each(|(v, o)| *v *= values[o[d] as usize]);
            }
        }
        expect_finite_f64("eigenfunctions of the rbf kernel", psi.view())?;
        Ok(psi)
    }

    fn trace(&self) -> f64 {
        1.0
    }
}
