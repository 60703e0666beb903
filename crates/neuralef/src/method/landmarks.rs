//! Choosing landmarks for the Nyström method: uniformly, or spread out by k-means++ sampling.

use std::collections::BTreeSet;

use rand::Rng as _;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::linalg::expect_finite_f32;
use crate::matrix::{Mat, MatRef};
use crate::rng::{Rng, stream};

/// Rows handled together by one thread; fixed, so that sums have the same bits on any number.
const BLOCK: usize = 4096;

/// Landmarks as rows of the data they were chosen from, and the share of the data each stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Landmarks {
    /// Row numbers, all different.
    pub indices: Vec<usize>,
    /// Weights, positive, summing to 1: for [`Nystrom::fit_weighted`](crate::method::Nystrom::fit_weighted).
    pub weights: Vec<f64>,
}

impl Landmarks {
    /// The chosen rows of `x`, m × d.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has too few rows.
    pub fn select(&self, x: MatRef<'_>) -> Result<Mat> {
        if let Some(largest) = self.indices.iter().max().filter(|i| **i >= x.nrows()) {
            let got = format!("{} × {}", x.nrows(), x.ncols());
            return Err(Error::shape("data of the landmarks", format!("> {largest} rows"), got));
        }
        Ok(x.select(ndarray::Axis(0), &self.indices))
    }
}

/// m of n rows, uniformly without replacement (Floyd's algorithm), in ascending order: all rows in
/// their order when m = n. Equal weights. O(m log m).
///
/// # Errors
/// [`Error::InvalidParameter`] unless 1 ≤ m ≤ n.
pub fn uniform(n: usize, m: usize, seed: u64) -> Result<Landmarks> {
    check_count(n, m)?;
    let mut rng = stream(seed, "landmarks", 0);
    let mut chosen = BTreeSet::new();
    for last in n - m..n {
        let candidate = below(&mut rng, last + 1);
        if !chosen.insert(candidate) {
            chosen.insert(last);
        }
    }
    Ok(Landmarks { indices: chosen.into_iter().collect(), weights: vec![1.0 / m as f64; m] })
}

/// m rows of `x` (n × d) by k-means++ sampling (Arthur & Vassilvitskii 2007): the first uniformly,
/// every other with probability proportional to its squared distance to the nearest one chosen so
/// far. This spreads landmarks over the data (Oglic & Gärtner 2017) and so oversamples its sparse
/// parts; the weights, the share of rows nearest to each landmark, undo that. Fewer than m when
/// `x` has fewer different rows. O(n m d), in parallel, distances in double precision.
///
/// # Errors
/// [`Error::InvalidParameter`] unless 1 ≤ m ≤ n, [`Error::NonFinite`].
pub fn kmeans_plus_plus(x: MatRef<'_>, m: usize, seed: u64) -> Result<Landmarks> {
    let n = x.nrows();
    check_count(n, m)?;
    expect_finite_f32("data of the landmarks", x)?;
    let mut rng = stream(seed, "landmarks", 0);
    let rows = x.as_standard_layout();
    let d = x.ncols();
    let mut nearest: Vec<(f64, usize)> = vec![(f64::INFINITY, 0); n];
    let mut indices = vec![below(&mut rng, n)];
    loop {
        let current = indices.len() - 1;
        let centre = rows.row(indices[current]).to_vec();
        let sums: Vec<f64> = nearest
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map(|(block, near)| {
                let mut sum = 0.0;
                for (i, near) in near.iter_mut().enumerate() {
                    let row = rows.row(block * BLOCK + i);
                    let distance = squared_distance(row.as_slice().unwrap_or(&[]), &centre);
                    if distance < near.0 {
                        *near = (distance, current);
                    }
                    sum += near.0;
                }
                sum
            })
            .collect();
        let total: f64 = sums.iter().sum();
        if indices.len() == m || d == 0 || total == 0.0 {
            break;
        }
        indices.push(draw(&nearest, &sums, total * unit(&mut rng)));
    }
    let mut counts = vec![0usize; indices.len()];
    nearest.iter().for_each(|near| counts[near.1] += 1);
    let weights = counts.iter().map(|c| *c as f64 / n as f64).collect();
    Ok(Landmarks { indices, weights })
}

/// The row at which the running sum of squared distances passes `target`; never one at distance 0.
fn draw(nearest: &[(f64, usize)], sums: &[f64], mut target: f64) -> usize {
    let mut last = 0;
    for (b, (near, sum)) in nearest.chunks(BLOCK).zip(sums).enumerate() {
        if *sum == 0.0 {
            continue;
        }
        // A block is also entered when it is the last with any mass, for rounding's sake.
        let is_last = sums[b + 1..].iter().all(|s| *s == 0.0);
        if target >= *sum && !is_last {
            target -= sum;
            continue;
        }
        for (i, (distance, _)) in near.iter().enumerate() {
            if *distance > 0.0 {
                last = b * BLOCK + i;
                if target < *distance {
                    return last;
                }
                target -= distance;
            }
        }
        return last;
    }
    last
}

/// ‖a − b‖² in double precision, in eight independent sums.
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (whole_a, rest_a) = a.as_chunks::<8>();
    let (whole_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            let difference = f64::from(*a) - f64::from(*b);
            *lane += difference * difference;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(rest_a).zip(rest_b) {
        let difference = f64::from(*a) - f64::from(*b);
        *lane += difference * difference;
    }
    lanes.iter().sum()
}

fn check_count(n: usize, m: usize) -> Result<()> {
    if (1..=n).contains(&m) {
        return Ok(());
    }
    Err(Error::parameter("landmarks", format!("1 to {n}, the number of rows"), m))
}

/// A whole number below n; the bias of the multiplication is below n/2⁶⁴.
fn below(rng: &mut Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Uniform on [0, 1).
fn unit(rng: &mut Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn uniform_is_a_uniform_subset() {
        assert_eq!(uniform(5, 5, 1).unwrap().indices, [0, 1, 2, 3, 4]);
        let mut counts = [0; 10];
        for seed in 0..3000 {
            let l = uniform(10, 3, seed).unwrap();
            assert_eq!((l.indices.len(), l.weights), (3, vec![1.0 / 3.0; 3]));
            assert!(l.indices.is_sorted_by(|a, b| a < b) && l.indices[2] < 10);
            l.indices.iter().for_each(|&i| counts[i] += 1);
        }
        // 900 expected of 3000 with standard deviation 25.
        assert!(counts.iter().all(|c| (780..1020).contains(c)), "{counts:?}");
    }

    #[test]
    fn kmeans_plus_plus_finds_separated_groups_and_weighs_them() {
        // 3 groups of 60, 30 and 10 points far from one another.
        let x = Array2::from_shape_fn((100, 2), |(i, j)| {
            let group = if i < 60 {
                0.0
            } else if i < 90 {
                1.0
            } else {
                2.0
            };
            1e3 * group + ((i * 7 + j * 3) % 10) as f32 * 0.01
        });
        for seed in 0..20 {
            let l = kmeans_plus_plus(x.view(), 3, seed).unwrap();
            let mut weights = l.weights.clone();
            weights.sort_by(f64::total_cmp);
            assert_eq!(weights, [0.1, 0.3, 0.6]);
            assert_eq!(l, kmeans_plus_plus(x.view(), 3, seed).unwrap());
        }
        let l = kmeans_plus_plus(x.view(), 20, 0).unwrap();
        assert!((l.weights.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        assert_eq!(l.select(x.view()).unwrap().dim(), (20, 2));
    }

    #[test]
    fn the_second_draw_follows_squared_distances() {
        // From 0 the others are drawn with odds 1 : 9; other first picks are left out.
        let x = array![[0.0f32], [1.0], [3.0]];
        let (mut first, mut far) = (0, 0);
        for seed in 0..6000 {
            let l = kmeans_plus_plus(x.view(), 2, seed).unwrap().indices;
            if l[0] == 0 {
                first += 1;
                far += usize::from(l[1] == 2);
            }
        }
        assert!((1850..2150).contains(&first), "{first}");
        let share = far as f64 / first as f64;
        assert!((share - 0.9).abs() < 0.03, "{share}");
    }

    #[test]
    fn bits_do_not_depend_on_the_thread_count() {
        let x = Array2::from_shape_fn((10_000, 3), |(i, j)| ((i * 31 + j * 17) % 1009) as f32);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kmeans_plus_plus(x.view(), 12, 3).unwrap())
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn duplicates_and_bad_input() {
        let same = Array2::<f32>::ones((8, 2));
        let l = kmeans_plus_plus(same.view(), 4, 0).unwrap();
        assert_eq!((l.indices.len(), l.weights), (1, vec![1.0]));
        assert_eq!(kmeans_plus_plus(Array2::zeros((3, 0)).view(), 2, 0).unwrap().indices.len(), 1);
        assert!(
            uniform(3, 0, 0).is_err() && uniform(3, 4, 0).is_err() && uniform(0, 0, 0).is_err()
        );
        assert!(kmeans_plus_plus(same.view(), 9, 0).is_err());
        assert!(kmeans_plus_plus(array![[f32::NAN]].view(), 1, 0).is_err());
        let far = array![[f32::MAX], [f32::MIN], [0.0]];
        assert_eq!(kmeans_plus_plus(far.view(), 3, 0).unwrap().indices.len(), 3);
        assert!(uniform(9, 2, 0).unwrap().select(Array2::zeros((1, 1)).view()).is_err());
    }
}
