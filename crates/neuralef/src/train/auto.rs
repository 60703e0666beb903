//! `steps = auto`: train only while held-out residuals improve, keep the best parameters so far.

use serde::{Deserialize, Serialize};

/// Steps of the first round of training; every later round doubles the steps done.
const FIRST_ROUND: u64 = 250;

/// When training is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enough {
    /// Training is not needed below this relative residual.
    pub residual: f64,
    /// Rounds in a row that gain too little, after which it ends.
    pub rounds: usize,
}

impl Enough {
    /// Where nothing else is known. The sampling error of eigenvalues is larger than this residual for any
    /// training set of fewer than ten thousand points; a slow start is no reason to stop.
    pub(crate) const ALONE: Self = Enough { residual: 0.01, rounds: 2 };

    /// Where training was measured to gain nothing: wide untrained features with a Galerkin readout of a kernel
    /// that can be evaluated.
    pub(crate) const UNTRAINED: Self = Enough { residual: f64::INFINITY, rounds: 1 };

    /// Beside a solution with this residual, found without training.
    pub(crate) fn beside(residual: f64) -> Self {
        Enough { residual: Self::ALONE.residual.max(2.0 * residual), rounds: 1 }
    }
}

/// The checks so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AutoState {
    /// (steps done, rms relative held-out residual) of every check.
    pub checks: Vec<(u64, f64)>,
}

impl AutoState {
    /// Adds the residual after `step` steps; true when it is the best so far.
    pub(crate) fn record(&mut self, step: u64, residual: f64) -> bool {
        let best = self.best().is_none_or(|(_, r)| residual < r);
        self.checks.push((step, residual));
        best
    }

    /// The check with the smallest residual, the earliest of equals.
    pub(crate) fn best(&self) -> Option<(u64, f64)> {
        self.checks.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a })
    }

    /// Steps after which to check next, or `None` when training is over: after `max_steps` steps, or when
    /// it is `enough`, a round that lowers the residual by less than the share `tolerance` gaining too
    /// little.
    pub(crate) fn next_check(&self, max_steps: u64, tolerance: f64, enough: Enough) -> Option<u64> {
        let Some(&(step, residual)) = self.checks.last() else { return Some(0) };
        let (count, rounds) = (self.checks.len(), enough.rounds);
        let sufficient = residual <= enough.residual || step >= max_steps;
        let stalled = count > rounds
            && (count - rounds..count).all(|i| {
                let before = self.checks[..i].iter().map(|c| c.1).fold(f64::INFINITY, f64::min);
                self.checks[i].1 > (1.0 - tolerance) * before
            });
        if sufficient || stalled {
            return None;
        }
        Some(if step == 0 { FIRST_ROUND } else { step.saturating_mul(2) }.min(max_steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(residual: impl Fn(u64) -> f64) -> (Vec<u64>, u64) {
        let mut state = AutoState::default();
        let mut steps = Vec::new();
        while let Some(step) = state.next_check(3000, 0.1, Enough::ALONE) {
            steps.push(step);
            state.record(step, residual(step));
        }
        (steps, state.best().unwrap().0)
    }

    #[test]
    fn checks_first_and_stops_when_training_does_not_help() {
        assert_eq!(run(|_| 0.005), (vec![0], 0));
        assert_eq!(run(|_| 0.2), (vec![0, 250, 500], 0));
        assert_eq!(run(|s| 0.2 + s as f64), (vec![0, 250, 500], 0));
    }

    #[test]
    fn beside_a_known_solution_one_round_decides() {
        let looks = |residual: fn(u64) -> f64, known| {
            let mut state = AutoState::default();
            while let Some(step) = state.next_check(3000, 0.1, Enough::beside(known)) {
                state.record(step, residual(step));
            }
            state.checks.len()
        };
        assert_eq!(looks(|_| 0.05, 0.03), 1);
        assert_eq!(looks(|_| 0.2, 0.03), 2);
        assert_eq!(looks(|s| 0.2 / (1.0 + s as f64 / 250.0), 0.03), 4);
    }

    #[test]
    fn continues_while_it_helps_and_keeps_the_best() {
        let halves = |s: u64| 0.5 / (1.0 + s as f64 / 100.0);
        assert_eq!(run(halves), (vec![0, 250, 500, 1000, 2000, 3000], 3000));
        let worse_again = |s: u64| if s > 500 { 0.3 } else { halves(s) };
        assert_eq!(run(worse_again), (vec![0, 250, 500, 1000, 2000], 500));
        // A slow start is no reason to stop.
        let late = |s: u64| if s < 500 { 0.5 } else { halves(s) };
        assert_eq!(run(late).1, 3000);
        // A count of steps from a hostile checkpoint does not overflow.
        let huge = AutoState { checks: vec![(u64::MAX - 1, 0.5)] };
        assert_eq!(huge.next_check(u64::MAX, 0.1, Enough::ALONE), Some(u64::MAX));
    }
}
