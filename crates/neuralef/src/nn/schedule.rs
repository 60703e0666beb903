//! Learning-rate schedules: the factor on the learning rate at step t of T.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::{Domain, Entry, Parameter, Registry};

const FINAL: Parameter = Parameter::new("final", Domain::NON_NEGATIVE, "0", "factor at the end");

const CONSTANT: Entry<Schedule> = Entry {
    name: "constant",
    summary: "the learning rate as it is",
    parameters: &[],
    build: |_| Ok(Schedule::Constant),
};
const COSINE: Entry<Schedule> = Entry {
    name: "cosine",
    summary: "half a cosine from 1 down to `final`",
    parameters: &[FINAL],
    build: |args| Ok(Schedule::Cosine { last: args.number("final")? }),
};
const CYCLIC: Entry<Schedule> = Entry {
    name: "cyclic",
    summary: "falls in a straight line to `final`, again and again",
    parameters: &[
        Parameter::new("period", Domain::Integer(1, 1_000_000_000), "100", "steps of a cycle"),
        FINAL.with_default("0.1").with_help("factor at the end of a cycle"),
    ],
    build: |args| {
        Ok(Schedule::Cyclic { period: args.integer("period")?, last: args.number("final")? })
    },
};
const WARMUP_COSINE: Entry<Schedule> = Entry {
    name: "warmup_cosine",
    summary: "linear rise over the first steps, then as cosine",
    parameters: &[
        Parameter::new("warmup", Domain::Integer(0, 1_000_000_000), "100", "steps of the rise"),
        FINAL,
    ],
    build: |args| {
        Ok(Schedule::WarmupCosine { warmup: args.integer("warmup")?, last: args.number("final")? })
    },
};

/// Every schedule by name.
pub static SCHEDULES: Registry<Schedule> =
    Registry { kind: "schedule", entries: &[CONSTANT, COSINE, CYCLIC, WARMUP_COSINE] };

/// A learning-rate schedule; parses from and displays as its text form, e.g. `cosine(final=0.1)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// last + (1 − last)·½(1 + cos(π t/T)) (Loshchilov & Hutter 2017).
    Cosine {
        /// Factor at the end.
        last: f64,
    },
    /// (1 − s) + last·s with s = (t mod period + 1)/period, so that a cycle ends at last (Izmailov et
    /// al. 2018, equation 2).
    Cyclic {
        /// Steps of a cycle.
        period: u64,
        /// Factor at the end of a cycle.
        last: f64,
    },
    /// (t + 1)/warmup while t < warmup, then [`Schedule::Cosine`] over the steps that are left.
    WarmupCosine {
        /// Steps of the rise.
        warmup: u64,
        /// Factor at the end.
        last: f64,
    },
}

impl Schedule {
    /// The factor at `step` (from 0) of `total` steps. Beyond the end it stays at its last value.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        let cosine = |step: u64, total: u64, last: f64| {
            let progress = if total == 0 { 1.0 } else { (step as f64 / total as f64).min(1.0) };
            last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        };
        match *self {
            Schedule::Constant => 1.0,
            Schedule::Cosine { last } => cosine(step, total, last),
            Schedule::Cyclic { period, last } => {
                let within = (step % period.max(1) + 1) as f64 / period.max(1) as f64;
                (1.0 - within) + last * within
            }
            Schedule::WarmupCosine { warmup, .. } if step < warmup => {
                (step as f64 + 1.0) / warmup as f64
            }
            Schedule::WarmupCosine { warmup, last } => {
                cosine(step - warmup, total.saturating_sub(warmup), last)
            }
        }
    }
}

impl Default for Schedule {
    /// `cosine`.
    fn default() -> Self {
        Schedule::Cosine { last: 0.0 }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        SCHEDULES.build_text(text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Schedule::Constant => CONSTANT.text(&[]),
            Schedule::Cosine { last } => COSINE.text(&[("final", last)]),
            Schedule::Cyclic { period, last } => {
                CYCLIC.text(&[("period", period), ("final", last)])
            }
            Schedule::WarmupCosine { warmup, last } => {
                WARMUP_COSINE.text(&[("warmup", warmup), ("final", last)])
            }
        })
    }
}

impl TryFrom<String> for Schedule {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_follow_their_formulas() {
        let at = |text: &str, step, total| text.parse::<Schedule>().unwrap().factor(step, total);
        assert_eq!(at("constant", 7, 10), 1.0);
        assert_eq!(at("cosine", 0, 100), 1.0);
        assert!((at("cosine", 50, 100) - 0.5).abs() < 1e-15);
        assert!(at("cosine", 100, 100).abs() < 1e-15 && at("cosine", 999, 100).abs() < 1e-15);
        assert!((at("cosine(final=0.2)", 100, 100) - 0.2).abs() < 1e-15);
        assert_eq!(at("warmup_cosine(warmup=10)", 4, 110), 0.5);
        assert_eq!(at("warmup_cosine(warmup=10)", 10, 110), 1.0);
        assert!((at("warmup_cosine(warmup=10)", 60, 110) - 0.5).abs() < 1e-15);
        for (step, want) in [(0, 0.8), (3, 0.2), (4, 0.8), (7, 0.2), (10, 0.4)] {
            let got = at("cyclic(period=4, final=0.2)", step, 10);
            assert!((got - want).abs() < 1e-15, "{step}: {got}");
        }
        // Shorter than its own warm-up, and no steps at all.
        assert!(at("warmup_cosine", 3, 5) == 0.04 && at("warmup_cosine", 200, 5).is_finite());
        assert!(at("cosine", 0, 0).is_finite());
    }

    #[test]
    fn every_entry_builds_prints_and_parses() {
        use crate::spec::{Sample, registry::assert_complete};
        assert_complete(&SCHEDULES, &[], Sample::Missing, Schedule::to_string);
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "constant",
            "cosine(final=0.25)",
            "cyclic(period=7, final=0.5)",
            "warmup_cosine(warmup=5, final=0)",
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
        }
        assert!("cosine(final=-1)".parse::<Schedule>().is_err());
        assert!("cyclic(period=0)".parse::<Schedule>().is_err());
        assert!("warmup_cosine(warmup=0.5)".parse::<Schedule>().is_err());
        assert!("linear".parse::<Schedule>().is_err());
    }
}
