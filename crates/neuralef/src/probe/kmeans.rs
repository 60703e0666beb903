//! k-means clustering: Lloyd's algorithm from k-means++ centres.

use ndarray::s;
use rand::RngExt as _;
use rayon::prelude::*;

use super::{BLOCK, check_features};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, MatRef};
use crate::rng::{Rng, stream};

/// k-means, before it is fitted: minimises Σᵢ‖xᵢ − c(xᵢ)‖² over centres c.
///
/// Centres start by greedy k-means++ (Arthur & Vassilvitskii 2007: each new one is the best of
/// 2 + ln k candidates drawn with probability proportional to the squared distance from the centres
/// so far), and move by Lloyd's algorithm (1982) until no point changes its cluster. Of `n_init` runs
/// the one with the smallest sum is kept. A cluster that loses all its points gets the point
/// farthest from its own centre. O(n k d) for each iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KMeans {
    /// Number of clusters.
    pub clusters: usize,
    /// Runs from different starts.
    pub n_init: usize,
    /// Most iterations of each run.
    pub max_iter: usize,
    /// Seed of the starts.
    pub seed: u64,
}

/// Fitted centres.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansModel {
    centres: Mat64,
    labels: Vec<usize>,
    inertia: f64,
    iterations: usize,
    converged: bool,
}

impl KMeans {
    /// 10 runs of at most 300 iterations with seed 0.
    pub fn new(clusters: usize) -> Self {
        KMeans { clusters, n_init: 10, max_iter: 300, seed: 0 }
    }

    /// Clusters the rows of `x`, n × d.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless there are as many different rows as clusters and at least
    /// one cluster, run and iteration; [`Error::Shape`] when `x` is empty, [`Error::NonFinite`].
    pub fn fit(&self, x: MatRef<'_>) -> Result<KMeansModel> {
        check_features(x, x.nrows(), None)?;
        for (name, value) in [("n_init", self.n_init), ("max_iter", self.max_iter)] {
            if value == 0 {
                return Err(Error::parameter(name, "at least 1", value));
            }
        }
        if !(1..=x.nrows()).contains(&self.clusters) {
            let expected = format!("1 to {}, the number of points", x.nrows());
            return Err(Error::parameter("clusters", expected, self.clusters));
        }
        let standard = x.as_standard_layout();
        let points = Points { values: standard.as_slice().unwrap_or_default(), d: x.ncols() };
        let mut best: Option<KMeansModel> = None;
        for run in 0..self.n_init {
            let mut rng = stream(self.seed, "k-means", run as u64);
            let centres = points.k_means_plus_plus(self.clusters, &mut rng)?;
            let model = points.lloyd(centres, self.max_iter);
            if best.as_ref().is_none_or(|b| model.inertia < b.inertia) {
                best = Some(model);
            }
        }
        best.ok_or_else(|| Error::parameter("n_init", "at least 1", 0))
    }
}

impl KMeansModel {
    /// The centres, clusters × d.
    pub fn centres(&self) -> &Mat64 {
        &self.centres
    }

    /// The cluster of each row of the fit; with the smaller number of equally near ones.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Σ of squared distances to the nearest centres.
    pub fn inertia(&self) -> f64 {
        self.inertia
    }

    /// Iterations of the run that was kept.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// Whether that run ended because no point changed its cluster.
    pub fn converged(&self) -> bool {
        self.converged
    }

    /// The nearest centre of each row of `x`, n × d.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`].
    pub fn predict(&self, x: MatRef<'_>) -> Result<Vec<usize>> {
        check_features(x, x.nrows(), Some(self.centres.ncols()))?;
        let standard = x.as_standard_layout();
        let points = Points { values: standard.as_slice().unwrap_or_default(), d: x.ncols() };
        Ok(points.nearest(&self.centres).into_iter().map(|(label, _)| label).collect())
    }
}

/// Points in rows of `d` numbers.
#[derive(Clone, Copy)]
struct Points<'a> {
    values: &'a [f32],
    d: usize,
}

impl Points<'_> {
    fn len(&self) -> usize {
        self.values.len() / self.d
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    fn double(&self, i: usize) -> Vec<f64> {
        self.row(i).iter().map(|v| f64::from(*v)).collect()
    }

    /// Nearest centre and squared distance to it, for every point.
    fn nearest(&self, centres: &Mat64) -> Vec<(usize, f64)> {
        let centres: Vec<Vec<f64>> = centres.rows().into_iter().map(|c| c.to_vec()).collect();
        let find = |point: &[f32]| {
            let mut best = (0, f64::INFINITY);
            for (j, centre) in centres.iter().enumerate() {
                let distance = squared_distance(point, centre);
                if distance < best.1 {
                    best = (j, distance);
                }
            }
            best
        };
        self.values.par_chunks(self.d).with_min_len(64).map(find).collect()
    }

    /// Greedy k-means++.
    fn k_means_plus_plus(&self, clusters: usize, rng: &mut Rng) -> Result<Mat64> {
        let trials = 2 + (clusters as f64).ln() as usize;
        let mut centres = Mat64::zeros((clusters, self.d));
        let mut distances = vec![f64::INFINITY; self.len()];
        for c in 0..clusters {
            let candidates: Vec<usize> = if c == 0 {
                vec![rng.random_range(0..self.len())]
            } else {
                let total: f64 = distances.iter().sum();
                if total <= 0.0 {
                    let expected = format!("at most {c}, the number of different points");
                    return Err(Error::parameter("clusters", expected, clusters));
                }
                let draws = (0..trials).map(|_| rng.random_range(0.0..total));
                draws.map(|at| pick(&distances, at)).collect()
            };
            let tried = candidates.into_iter().map(|i| {
                let centre = self.double(i);
                let rows = self.values.par_chunks(self.d).zip(distances.par_iter());
                let updated: Vec<f64> = rows
                    .with_min_len(64)
                    .map(|(point, near)| squared_distance(point, &centre).min(*near))
                    .collect();
                (updated.iter().sum::<f64>(), updated, centre)
            });
            if let Some((_, updated, centre)) = tried.min_by(|a, b| a.0.total_cmp(&b.0)) {
                distances = updated;
                centres.row_mut(c).iter_mut().zip(centre).for_each(|(to, v)| *to = v);
            }
        }
        Ok(centres)
    }

    fn lloyd(&self, mut centres: Mat64, max_iter: usize) -> KMeansModel {
        let mut nearest = self.nearest(&centres);
        let (mut iterations, mut converged) = (0, false);
        while !converged && iterations < max_iter {
            centres = self.means(&nearest, centres);
            let next = self.nearest(&centres);
            converged = next.iter().zip(&nearest).all(|(a, b)| a.0 == b.0);
            nearest = next;
            iterations += 1;
        }
        let inertia = nearest.iter().map(|(_, distance)| distance).sum();
        let labels = nearest.into_iter().map(|(label, _)| label).collect();
        KMeansModel { centres, labels, inertia, iterations, converged }
    }

    /// Means of the clusters, summed block by block in order.
    fn means(&self, nearest: &[(usize, f64)], old: Mat64) -> Mat64 {
        let (k, d) = old.dim();
        let blocks: Vec<Vec<f64>> = self
            .values
            .par_chunks(BLOCK * d)
            .zip(nearest.par_chunks(BLOCK))
            .map(|(points, nearest)| {
                // The last column counts.
                let mut sums = vec![0.0; k * (d + 1)];
                for (point, (label, _)) in points.chunks_exact(d).zip(nearest) {
                    let sum = &mut sums[label * (d + 1)..(label + 1) * (d + 1)];
                    sum.iter_mut().zip(point).for_each(|(s, v)| *s += f64::from(*v));
                    sum[d] += 1.0;
                }
                sums
            })
            .collect();
        let mut total = vec![0.0; k * (d + 1)];
        for block in blocks {
            total.iter_mut().zip(block).for_each(|(t, b)| *t += b);
        }
        let mut centres = old;
        // Points moved to empty clusters, farthest first.
        let mut moved: Vec<usize> = Vec::new();
        for (j, sum) in total.chunks_exact(d + 1).enumerate() {
            let centre = centres.slice_mut(s![j, ..]);
            if sum[d] > 0.0 {
                centre.into_iter().zip(sum).for_each(|(c, s)| *c = s / sum[d]);
                continue;
            }
            let mut far: Option<usize> = None;
            for i in (0..nearest.len()).filter(|i| !moved.contains(i)) {
                if far.is_none_or(|f| nearest[i].1 > nearest[f].1) {
                    far = Some(i);
                }
            }
            if let Some(i) = far {
                centre.into_iter().zip(self.double(i)).for_each(|(c, v)| *c = v);
                moved.push(i);
            }
        }
        centres
    }
}

/// ‖x − c‖² by eight sums.
fn squared_distance(x: &[f32], c: &[f64]) -> f64 {
    let (heads, tail) = x.as_chunks::<8>();
    let (centres, rest) = c.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (x, c) in heads.iter().zip(centres) {
        for ((sum, x), c) in sums.iter_mut().zip(x).zip(c) {
            let difference = f64::from(*x) - c;
            *sum += difference * difference;
        }
    }
    let tail: f64 = tail.iter().zip(rest).map(|(x, c)| (f64::from(*x) - c).powi(2)).sum();
    sums.iter().sum::<f64>() + tail
}

/// The first index at which the running sum of `weights` exceeds `at`.
fn pick(weights: &[f64], at: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (i, w) in weights.iter().enumerate() {
        sum += w;
        if *w > 0.0 {
            last = i;
            if sum > at {
                break;
            }
        }
    }
    last
}
