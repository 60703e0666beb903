//! Reliability diagrams and the expected calibration error.

use serde::Serialize;

use super::{check, confidences};
use crate::error::{Error, Result};
use crate::matrix::Mat64Ref;

/// How confidences are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// So many intervals of one width, closed above: (0, 1/b], …, ((b − 1)/b, 1]; 0 belongs to the
    /// first (Guo et al. 2017).
    EqualWidth(usize),
    /// So many bins of ascending confidence with as equal numbers of points as can be, the first
    /// ones with one more (adaptive calibration error, Nixon et al. 2019). Points of one confidence
    /// may fall into two bins, in the order in which they come.
    EqualMass(usize),
}

impl Default for Bins {
    /// 15 of equal width.
    fn default() -> Self {
        Bins::EqualWidth(15)
    }
}

/// One bar of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end; for equal mass the smallest confidence.
    pub lower: f64,
    /// Upper end; for equal mass the largest confidence.
    pub upper: f64,
    /// Number of points.
    pub count: usize,
    /// Mean confidence of its points; none when it is empty.
    pub confidence: Option<f64>,
    /// Share of its points that are right; none when it is empty.
    pub accuracy: Option<f64>,
}

/// A reliability diagram and what it sums up to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// How the bins were made.
    pub binning: Bins,
    /// The bins, ascending. Fewer than asked for when there are fewer points than bins of equal
    /// mass.
    pub bins: Vec<Bin>,
    /// Expected calibration error, Σ (count/n)·|accuracy − confidence|.
    pub ece: f64,
    /// The largest |accuracy − confidence| of a bin.
    pub mce: f64,
}

/// The reliability of the most probable classes of `p` (n × c). O(n c + n log n).
///
/// # Errors
/// As [`accuracy`](super::accuracy); [`Error::InvalidParameter`] for no bins.
pub fn reliability(p: Mat64Ref<'_>, labels: &[usize], bins: Bins) -> Result<Reliability> {
    check(p, labels)?;
    let predictions = confidences(p)?;
    // Rounding may leave a probability a little above 1.
    let of = |((p, class), label): (&(f64, usize), &usize)| (p.min(1.0), class == label);
    reliability_of(&predictions.iter().zip(labels).map(of).collect::<Vec<_>>(), bins)
}

/// The reliability of predictions given as (confidence, whether it was right). O(n log n).
///
/// # Errors
/// [`Error::InvalidParameter`] for confidences outside 0 to 1 and for no bins, [`Error::Shape`] for
/// no predictions.
pub fn reliability_of(predictions: &[(f64, bool)], bins: Bins) -> Result<Reliability> {
    if predictions.is_empty() {
        return Err(Error::shape("predictions", "at least one", 0));
    }
    if let Some((bad, _)) = predictions.iter().find(|(c, _)| !(0.0..=1.0).contains(c)) {
        return Err(Error::parameter("confidences", "numbers from 0 to 1", bad));
    }
    let (Bins::EqualWidth(count) | Bins::EqualMass(count)) = bins;
    if count == 0 {
        return Err(Error::parameter("bins", "at least 1", count));
    }
    let filled = match bins {
        Bins::EqualWidth(count) => equal_width(predictions, count),
        Bins::EqualMass(count) => equal_mass(predictions, count),
    };
    let n = predictions.len() as f64;
    let gap = |b: &Bin| b.accuracy.zip(b.confidence).map_or(0.0, |(a, c)| (a - c).abs());
    let ece = filled.iter().map(|b| b.count as f64 / n * gap(b)).sum();
    let mce = filled.iter().map(gap).fold(0.0, f64::max);
    Ok(Reliability { binning: bins, bins: filled, ece, mce })
}

fn equal_width(predictions: &[(f64, bool)], count: usize) -> Vec<Bin> {
    let end = |i: usize| i as f64 / count as f64;
    let mut members = vec![Vec::new(); count];
    for prediction in predictions {
        // The first bin whose upper end is not below; found by its ends, not by a rounded product.
        let near = (prediction.0 * count as f64) as usize;
        let candidates = near.saturating_sub(1)..count;
        let bin = candidates.into_iter().find(|i| prediction.0 <= end(i + 1));
        members[bin.unwrap_or(count - 1)].push(*prediction);
    }
    let bin = |(i, members): (usize, Vec<(f64, bool)>)| bin(end(i), end(i + 1), &members);
    members.into_iter().enumerate().map(bin).collect()
}

fn equal_mass(predictions: &[(f64, bool)], count: usize) -> Vec<Bin> {
    let mut sorted = predictions.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (size, larger) = (sorted.len() / count, sorted.len() % count);
    let mut rest = sorted.as_slice();
    let mut bins = Vec::new();
    for i in 0..count {
        let (members, after) = rest.split_at(size + usize::from(i < larger));
        rest = after;
        if let (Some(first), Some(last)) = (members.first(), members.last()) {
            bins.push(bin(first.0, last.0, members));
        }
    }
    bins
}

fn bin(lower: f64, upper: f64, members: &[(f64, bool)]) -> Bin {
    let count = members.len();
    let mean = |sum: f64| (count > 0).then(|| sum / count as f64);
    let confidence = mean(members.iter().map(|(c, _)| c).sum());
    let accuracy = mean(members.iter().filter(|(_, right)| *right).count() as f64);
    Bin { lower, upper, count, confidence, accuracy }
}
