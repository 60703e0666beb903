//! `steps = auto`: train only while held-out residuals improve, keep the best parameters seen.

use serde::{Deserialize, Serialize};

/// Steps of the first round of training; every later round doubles the steps done.
const FIRST: u64 = 250;
/// Training is not needed below this relative residual: the sampling error of eigenvalues is
/// larger for any training set of fewer than ten thousand points.
const ENOUGH: f64 = 0.01;

/// What has been seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AutoState {
    /// (steps done, rms relative held-out residual) of every check.
    pub checks: Vec<(u64, f64)>,
}

impl AutoState {
    /// Notes the residual after `step` steps; true when it is the best so far.
    pub(crate) fn note(&mut self, step: u64, residual: f64) -> bool {
        let best = self.best().is_none_or(|(_, r)| residual < r);
        self.checks.push((step, residual));
        best
    }

    /// The check with the smallest residual, the earliest of equals.
    pub(crate) fn best(&self) -> Option<(u64, f64)> {
        self.checks.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a })
    }

    /// Steps after which to check next, or `None` when training is over: after `most` steps, or when two
    /// rounds in a row lowered the residual by less than the share `tolerance`.
    pub(crate) fn next(&self, most: u64, tolerance: f64) -> Option<u64> {
        let Some(&(step, residual)) = self.checks.last() else { return Some(0) };
        let enough = residual <= ENOUGH || step >= most;
        let stalled = self.checks.len() > 2
            && (self.checks.len() - 2..self.checks.len()).all(|i| {
                let before = self.checks[..i].iter().map(|c| c.1).fold(f64::INFINITY, f64::min);
                self.checks[i].1 > (1.0 - tolerance) * before
            });
        if enough || stalled {
            return None;
        }
        Some(if step == 0 { FIRST } else { step.saturating_mul(2) }.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(residual: impl Fn(u64) -> f64) -> (Vec<u64>, u64) {
        let mut state = AutoState::default();
        let mut steps = Vec::new();
        while let Some(step) = state.next(3000, 0.1) {
            steps.push(step);
            state.note(step, residual(step));
        }
        (steps, state.best().unwrap().0)
    }

    #[test]
    fn checks_first_and_stops_when_training_does_not_pay() {
        assert_eq!(run(|_| 0.005), (vec![0], 0));
        assert_eq!(run(|_| 0.2), (vec![0, 250, 500], 0));
        assert_eq!(run(|s| 0.2 + s as f64), (vec![0, 250, 500], 0));
    }

    #[test]
    fn goes_on_while_it_pays_and_keeps_the_best() {
        let halves = |s: u64| 0.5 / (1.0 + s as f64 / 100.0);
        assert_eq!(run(halves), (vec![0, 250, 500, 1000, 2000, 3000], 3000));
        let worse_again = |s: u64| if s > 500 { 0.3 } else { halves(s) };
        assert_eq!(run(worse_again), (vec![0, 250, 500, 1000, 2000], 500));
        // A slow start is no reason to stop.
        let late = |s: u64| if s < 500 { 0.5 } else { halves(s) };
        assert_eq!(run(late).1, 3000);
        // A count of steps from a hostile checkpoint does not overflow.
        let huge = AutoState { checks: vec![(u64::MAX - 1, 0.5)] };
        assert_eq!(huge.next(u64::MAX, 0.1), Some(u64::MAX));
    }
}
