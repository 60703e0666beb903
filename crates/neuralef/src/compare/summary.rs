//! Many seeds of the same fit as means and standard deviations.

use serde::Serialize;

use super::trial::{Agreement, Trial};

/// A mean over seeds with its spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over seeds (of the sample, n − 1); 0 for one.
    pub sd: f64,
}

impl Spread {
    /// Of `values`; none without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let sd = if n > 1.0 { (square / (n - 1.0)).sqrt() } else { 0.0 };
        Some(Spread { mean, sd })
    }
}

/// [`Agreement`]s over seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Agreements {
    /// |cos| of each eigenfunction.
    pub cosines: Vec<Spread>,
    /// Relative error of each eigenvalue.
    pub eigenvalue_errors: Vec<Spread>,
    /// The least |cos| of each eigenfunction over seeds.
    pub least_cosines: Vec<f64>,
    /// The least of these.
    pub least_cosine: Option<f64>,
}

impl Agreements {
    fn of(all: &[&Agreement]) -> Self {
        let columns = |values: fn(&Agreement) -> &Vec<f64>| -> Vec<Spread> {
            let length = all.iter().map(|a| values(a).len()).max().unwrap_or(0);
            let column =
                |j: usize| all.iter().filter_map(|a| values(a).get(j).copied()).collect::<Vec<_>>();
            (0..length).filter_map(|j| Spread::of(&column(j))).collect()
        };
        let length = all.iter().map(|a| a.cosines.len()).max().unwrap_or(0);
        let least =
            |j: usize| all.iter().filter_map(|a| a.cosines.get(j).copied()).fold(1.0, f64::min);
        Agreements {
            least_cosines: (0..length).map(least).collect(),
            cosines: columns(|a| &a.cosines),
            eigenvalue_errors: columns(|a| &a.eigenvalue_errors),
            least_cosine: all.iter().flat_map(|a| a.cosines.iter().copied()).reduce(f64::min),
        }
    }
}

/// One contender on one problem, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Which problem.
    pub case: String,
    /// N, training points.
    pub n: usize,
    /// Which contender.
    pub contender: String,
    /// Seeds that gave a result.
    pub seeds: usize,
    /// Seeds that did not.
    pub failed: usize,
    /// Why others did not.
    pub errors: Vec<String>,
    /// Training steps, the mean over seeds.
    pub steps: f64,
    /// Agreement with the exact eigenpairs on the training points.
    pub sample: Agreements,
    /// Agreement with the true eigenpairs.
    pub truth: Agreements,
    /// ‖φφᵀ − K‖/‖K‖ over pairs of test points.
    pub gram_error: Option<Spread>,
    /// Seconds in training steps.
    pub training_seconds: Option<Spread>,
    /// Seconds from the start of the fit to the model.
    pub total_seconds: Option<Spread>,
    /// Points transformed in a second.
    pub rows_per_second: Option<Spread>,
    /// Peak of the memory that the fit allocated, MiB.
    pub peak_mib: Option<Spread>,
}

/// One row for each problem, N and contender, in the order of their first trials.
pub fn summarise(trials: &[Trial]) -> Vec<Summary> {
    let key = |t: &Trial| (t.case.clone(), t.n, t.contender.clone());
    let mut keys: Vec<(String, usize, String)> = Vec::new();
    for trial in trials {
        if !keys.contains(&key(trial)) {
            keys.push(key(trial));
        }
    }
    keys.into_iter()
        .map(|of| {
            let seeds: Vec<&Trial> = trials.iter().filter(|t| key(t) == of).collect();
            let good: Vec<&Trial> = seeds.iter().copied().filter(|t| t.error.is_none()).collect();
            let spread = |value: fn(&Trial) -> f64| {
                Spread::of(&good.iter().map(|t| value(t)).collect::<Vec<_>>())
            };
            let maybe = |value: fn(&Trial) -> Option<f64>| {
                Spread::of(&good.iter().filter_map(|t| value(t)).collect::<Vec<_>>())
            };
            let mut errors: Vec<String> = seeds.iter().filter_map(|t| t.error.clone()).collect();
            errors.dedup();
            let (case, n, contender) = of;
            Summary {
                case,
                n,
                contender,
                seeds: good.len(),
                failed: seeds.len() - good.len(),
                errors,
                steps: spread(|t| t.steps as f64).unwrap_or_default().mean,
                sample: Agreements::of(&good.iter().map(|t| &t.sample).collect::<Vec<_>>()),
                truth: Agreements::of(&good.iter().map(|t| &t.truth).collect::<Vec<_>>()),
                gram_error: maybe(|t| t.gram_error),
                training_seconds: spread(|t| t.training_seconds),
                total_seconds: spread(|t| t.total_seconds),
                rows_per_second: spread(|t| t.rows_per_second),
                peak_mib: maybe(|t| t.peak_mib),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_are_those_of_the_seeds_with_a_result() {
        let trial = |seed: u64, cosine: f64, error: Option<&str>| Trial {
            case: "a".into(),
            n: 64,
            contender: "x".into(),
            seed,
            truth: Agreement { cosines: vec![1.0, cosine], eigenvalue_errors: vec![] },
            error: error.map(Into::into),
            total_seconds: seed as f64,
            ..Trial::default()
        };
        let trials = [trial(1, 0.5, None), trial(2, 0.7, None), trial(3, 0.0, Some("no"))];
        let rows = summarise(&trials);
        assert_eq!((rows.len(), rows[0].seeds, rows[0].failed), (1, 2, 1));
        assert_eq!(rows[0].errors, ["no"]);
        assert_eq!(rows[0].truth.least_cosines, [1.0, 0.5]);
        let second = rows[0].truth.cosines[1];
        assert!((second.mean - 0.6).abs() < 1e-12 && (second.sd - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!(rows[0].truth.least_cosine, Some(0.5));
        assert_eq!(rows[0].total_seconds, Some(Spread { mean: 1.5, sd: 0.5f64.sqrt() }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]), Some(Spread { mean: 3.0, sd: 0.0 }));
    }
}
