//! How many terms of the expansion an estimator uses.

use std::fmt;
use std::str::FromStr;

use rand::seq::SliceRandom as _;

use super::FOLDS;
use crate::error::{Error, Result};
use crate::rng::stream;

/// The number J of eigenfunctions in an estimate. In text: `auto`, a whole number, or a share between
/// 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Terms {
    /// The number with the least Hyvärinen loss on held-out samples, five parts held out in turn.
    Auto,
    /// This number of terms.
    Exactly(usize),
    /// The fewest whose eigenvalues make up this share of their sum E κ(x, x), as 0.95 to 0.99 in
    /// the paper.
    Share(f64),
}

impl FromStr for Terms {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Terms::Auto);
        }
        if let Ok(terms @ 1..) = text.parse::<usize>() {
            return Ok(Terms::Exactly(terms));
        }
        match text.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Terms::Share(share)),
            _ => {
                let expected = "`auto`, a whole number ≥ 1, or a share between 0 and 1";
                Err(Error::parameter("terms", expected, text))
            }
        }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Terms::Auto => f.write_str("auto"),
            Terms::Exactly(terms) => write!(f, "{terms}"),
            Terms::Share(share) => write!(f, "{share}"),
        }
    }
}

impl Terms {
    /// J for eigenfunctions with the eigenvalues `values`, of the sum `trace` in all; `losses` are
    /// those of held-out samples for 1, 2, … terms.
    pub(super) fn choose(
        self,
        values: &[f64],
        trace: impl FnOnce() -> Result<f64>,
        losses: &[f64],
    ) -> Result<usize> {
        let k = values.len();
        match self {
            Terms::Exactly(terms) if (1..=k).contains(&terms) => Ok(terms),
            Terms::Exactly(terms) => {
                let expected = format!("1 to {k}, the number of eigenfunctions");
                Err(Error::parameter("terms", expected, terms))
            }
            Terms::Share(share) => {
                let target = share * trace()?;
                let mut sum = 0.0;
                let reached = values.iter().position(|v| {
                    sum += v;
                    sum >= target
                });
                let most = sum * share / target;
                reached.map(|at| at + 1).ok_or_else(|| {
                    let expected =
                        format!("a share up to {most:.4}, that of all {k} eigenfunctions");
                    Error::parameter("terms", expected, share)
                })
            }
            Terms::Auto => {
                let best = losses.iter().enumerate().filter(|(_, loss)| loss.is_finite());
                let best = best.min_by(|a, b| a.1.total_cmp(b.1));
                best.map(|(at, _)| at + 1).ok_or_else(|| Error::Numerical {
                    what: "choosing the number of terms".into(),
                    message: "no held-out loss is finite".into(),
                })
            }
        }
    }
}

/// A random division of n samples into parts of nearly equal size.
pub(super) fn folds(n: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
    if n < 2 * FOLDS {
        let expected = format!("at least {} for terms = auto", 2 * FOLDS);
        return Err(Error::parameter("samples", expected, n));
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut stream(seed, "score", 0));
    let part = |f: usize| {
        let mut part: Vec<usize> = order.iter().skip(f).step_by(FOLDS).copied().collect();
        part.sort_unstable();
        part
    };
    Ok((0..FOLDS).map(part).collect())
}

/// Adds the losses of a part; as many as all parts have.
pub(super) fn add(total: &mut Option<Vec<f64>>, part: Vec<f64>) {
    match total {
        None => *total = Some(part),
        Some(total) => {
            total.truncate(part.len());
            total.iter_mut().zip(part).for_each(|(sum, loss)| *sum += loss);
        }
    }
}
