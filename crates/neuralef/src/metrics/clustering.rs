//! Agreement of two partitions of the same points: clusters found with classes known, say.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Largest share of points on which the partitions agree under a one-to-one matching of clusters
/// with classes (Kuhn 1955, by the Hungarian algorithm). Clusters or classes left over match nothing.
/// O(n log n + K³) for K clusters.
///
/// # Errors
/// [`Error::Shape`] unless both have the same number of points, at least one.
pub fn clustering_accuracy<A: Ord, B: Ord>(clusters: &[A], classes: &[B]) -> Result<f64> {
    let table = Contingency::new(clusters, classes)?;
    let size = table.rows.len().max(table.columns.len());
    let mut cost = vec![vec![0i64; size]; size];
    for ((i, j), count) in &table.cells {
        cost[*i][*j] = -(*count as i64);
    }
    Ok(-assignment(&cost) as f64 / table.points as f64)
}

/// The Rand index corrected for chance (Hubert & Arabie 1985): 1 for equal partitions, 0 expected
/// for independent ones. O(n log n).
///
/// # Errors
/// As [`clustering_accuracy`].
pub fn adjusted_rand_index<A: Ord, B: Ord>(a: &[A], b: &[B]) -> Result<f64> {
    let table = Contingency::new(a, b)?;
    let pairs = |n: u64| n as f64 * (n as f64 - 1.0) / 2.0;
    let together: f64 = table.cells.values().map(|n| pairs(*n)).sum();
    let rows: f64 = table.rows.iter().map(|n| pairs(*n)).sum();
    let columns: f64 = table.columns.iter().map(|n| pairs(*n)).sum();
    let total = pairs(table.points);
    let largest = 0.5 * (rows + columns);
    // Both trivial in the same way, or a single point.
    if total == 0.0 || rows * columns / total == largest {
        return Ok(1.0);
    }
    let expected = rows * columns / total;
    Ok((together - expected) / (largest - expected))
}

/// Mutual information divided by the mean of the two entropies: 1 for equal partitions, 0 for
/// independent ones; 1 by convention when both are a single cluster. O(n log n).
///
/// # Errors
/// As [`clustering_accuracy`].
pub fn normalised_mutual_information<A: Ord, B: Ord>(a: &[A], b: &[B]) -> Result<f64> {
    let table = Contingency::new(a, b)?;
    let n = table.points as f64;
    let entropy =
        |counts: &[u64]| -> f64 { counts.iter().map(|c| *c as f64 / n).map(|p| -p * p.ln()).sum() };
    if table.rows.len() == 1 && table.columns.len() == 1 {
        return Ok(1.0);
    }
    let term = |((i, j), count): (&(usize, usize), &u64)| {
        let (row, column) = (table.rows[*i] as f64, table.columns[*j] as f64);
        let count = *count as f64;
        count / n * ((count / row).ln() + (n / column).ln())
    };
    let information: f64 = table.cells.iter().map(term).sum();
    let mean = 0.5 * (entropy(&table.rows) + entropy(&table.columns));
    Ok((information / mean).max(0.0))
}

/// Points in each cluster of one partition, of the other, and in both.
struct Contingency {
    cells: BTreeMap<(usize, usize), u64>,
    rows: Vec<u64>,
    columns: Vec<u64>,
    points: u64,
}

impl Contingency {
    fn new<A: Ord, B: Ord>(a: &[A], b: &[B]) -> Result<Self> {
        if a.len() != b.len() || a.is_empty() {
            let expected = format!("{} points, at least one", a.len());
            return Err(Error::shape("partitions of the same points", expected, b.len()));
        }
        let (rows, first) = numbered(a);
        let (columns, second) = numbered(b);
        let mut cells = BTreeMap::new();
        for cell in first.into_iter().zip(second) {
            *cells.entry(cell).or_insert(0) += 1;
        }
        Ok(Contingency { cells, rows, columns, points: a.len() as u64 })
    }
}

/// How often each value occurs, ascending by value, and the number of each entry's value.
fn numbered<T: Ord>(values: &[T]) -> (Vec<u64>, Vec<usize>) {
    let mut counts: BTreeMap<&T, u64> = BTreeMap::new();
    values.iter().for_each(|v| *counts.entry(v).or_insert(0) += 1);
    let numbers: BTreeMap<&T, usize> = counts.keys().enumerate().map(|(i, v)| (*v, i)).collect();
    (counts.values().copied().collect(), values.iter().map(|v| numbers[v]).collect())
}

/// The smallest cost of an assignment of rows to columns of a square matrix: shortest augmenting
/// paths with potentials, O(K³).
fn assignment(cost: &[Vec<i64>]) -> i64 {
    let n = cost.len();
    // Number 0 is a column that holds the row to be assigned; rows and columns count from 1.
    let (mut rows, mut columns) = (vec![0i64; n + 1], vec![0i64; n + 1]);
    let mut matched = vec![0usize; n + 1];
    for row in 1..=n {
        matched[0] = row;
        let mut column = 0;
        let mut slack = vec![i64::MAX; n + 1];
        let mut before = vec![0usize; n + 1];
        let mut used = vec![false; n + 1];
        while matched[column] != 0 {
            used[column] = true;
            let from = matched[column];
            let (mut least, mut next) = (i64::MAX, 0);
            for j in (1..=n).filter(|j| !used[*j]) {
                let reduced = cost[from - 1][j - 1] - rows[from] - columns[j];
                if reduced < slack[j] {
                    (slack[j], before[j]) = (reduced, column);
                }
                if slack[j] < least {
                    (least, next) = (slack[j], j);
                }
            }
            for j in 0..=n {
                if used[j] {
                    rows[matched[j]] += least;
                    columns[j] -= least;
                } else {
                    slack[j] = slack[j].saturating_sub(least);
                }
            }
            column = next;
        }
        while column != 0 {
            matched[column] = matched[before[column]];
            column = before[column];
        }
    }
    (1..=n).map(|j| cost[matched[j] - 1][j - 1]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;

    #[derive(serde::Deserialize)]
    struct Golden {
        a: Vec<i64>,
        b: Vec<i64>,
        ari: f64,
        nmi: f64,
        accuracy: f64,
    }

    /// scikit-learn's scores, and SciPy's `linear_sum_assignment`.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let goldens: serde_json::Value =
            serde_json::from_str(include_str!("../probe/goldens/probe.json")).unwrap();
        let cases: Vec<Golden> = serde_json::from_value(goldens["clusterings"].clone()).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let ari = adjusted_rand_index(&case.a, &case.b).unwrap();
            let nmi = normalised_mutual_information(&case.a, &case.b).unwrap();
            let accuracy = clustering_accuracy(&case.a, &case.b).unwrap();
            assert!((ari - case.ari).abs() < 1e-12, "{ari} {}", case.ari);
            assert!((nmi - case.nmi).abs() < 1e-12, "{nmi} {}", case.nmi);
            assert!((accuracy - case.accuracy).abs() < 1e-12, "{accuracy} {}", case.accuracy);
        }
    }

    #[test]
    fn worked_by_hand() {
        let (a, b) = (["x", "x", "y", "y"], [1, 1, 2, 3]);
        // Pairs together: 1 of both, 2 and 1 of each, 6 in all.
        assert!(
            (adjusted_rand_index(&a, &b).unwrap() - (1.0 - 1.0 / 3.0) / (1.5 - 1.0 / 3.0)).abs()
                < 1e-15
        );
        // I = ln 2, H = ln 2 and 1.5 ln 2.
        assert!((normalised_mutual_information(&a, &b).unwrap() - 0.8).abs() < 1e-15);
        assert_eq!(clustering_accuracy(&a, &b).unwrap(), 0.75);
        assert_eq!(adjusted_rand_index(&[1, 1], &[2, 2]).unwrap(), 1.0);
        assert_eq!(normalised_mutual_information(&[1], &[2]).unwrap(), 1.0);
        assert!(clustering_accuracy(&[1, 2], &[1]).is_err());
        assert!(adjusted_rand_index::<i64, i64>(&[], &[]).is_err());
    }

    /// Against all permutations.
    #[test]
    fn assignments_are_the_best_ones() {
        fn best(cost: &[Vec<i64>], free: &mut Vec<usize>, row: usize) -> i64 {
            if row == cost.len() {
                return 0;
            }
            let mut least = i64::MAX;
            for i in 0..free.len() {
                let column = free.remove(i);
                least = least.min(cost[row][column] + best(cost, free, row + 1));
                free.insert(i, column);
            }
            least
        }
        let mut rng = crate::rng::stream(5, "test", 0);
        for size in [1, 2, 3, 5, 6] {
            for _ in 0..20 {
                let cost: Vec<Vec<i64>> = (0..size)
                    .map(|_| (0..size).map(|_| rng.random_range(-9i64..10)).collect())
                    .collect();
                let mut free = (0..size).collect();
                assert_eq!(assignment(&cost), best(&cost, &mut free, 0), "{cost:?}");
            }
        }
    }
}
