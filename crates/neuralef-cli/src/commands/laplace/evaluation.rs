//! Predictions of posteriors on points to measure on, and their scores.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use ndarray::{Axis, s};
use neuralef::bayes::{Laplace, Likelihood, Predictive, Targets};
use neuralef::calibration::{Bins, Reliability, assess, detect, reliability};
use neuralef::train::{Control, Event};
use neuralef::{Dataset, Error, Mat64, Observer as _};

use super::report::{OutOfDistribution, RegressionScores, Scores, SourceRow};
use crate::commands::supervised::SupervisedData;
use crate::progress::Display;

/// Rows predicted at a time, at most, and numbers of their covariances.
const ROWS: usize = 1024;
const NUMBERS: usize = 1 << 24;

/// Rows that are predicted at a time, with a C × C covariance of each under so many posteriors.
pub(in crate::commands) fn rows_at_a_time(outputs: usize, posteriors: usize) -> usize {
    (NUMBERS / (outputs * outputs * posteriors).max(1)).clamp(1, ROWS)
}

/// What is kept of the outputs at the points of a data set.
pub(super) struct Predicted {
    /// Means of outputs, or probabilities of classes, n × C.
    values: Mat64,
    /// Variances of outputs, n × C.
    variances: Mat64,
    /// What the posterior would have taken alone.
    seconds: f64,
}

impl Predicted {
    /// Under each of the posteriors.
    pub(super) fn of(
        posteriors: &[&Laplace],
        data: &Dataset,
        predictive: Option<Predictive>,
        seed: u64,
        display: &mut Display,
    ) -> Result<Vec<Self>> {
        let c = posteriors.first().map_or(1, |p| p.info().outputs);
        let zeros = || {
            let values = Mat64::zeros((data.len(), c));
            Predicted { variances: values.clone(), values, seconds: 0.0 }
        };
        let mut predicted: Vec<Predicted> = posteriors.iter().map(|_| zeros()).collect();
        let rows = rows_at_a_time(c, posteriors.len());
        for start in (0..data.len()).step_by(rows) {
            let event = Event::Progress { done: start, total: data.len() };
            if display.observe(&event) == Control::Stop {
                return Err(Error::Interrupted { step: 0, checkpoint: None }.into());
            }
            let block = start..(start + rows).min(data.len());
            let x = data.range(block.clone())?;
            let outputs = Laplace::outputs_of_all(posteriors, x.view());
            let outputs = outputs.with_context(|| data.name().to_string())?;
            for (to, (outputs, seconds)) in predicted.iter_mut().zip(outputs) {
                let started = Instant::now();
                to.variances.slice_mut(s![block.clone(), ..]).assign(&outputs.variances());
                let values = match predictive {
                    Some(predictive) => outputs.probabilities(predictive, seed)?,
                    None => outputs.mean,
                };
                to.values.slice_mut(s![block.clone(), ..]).assign(&values);
                to.seconds += seconds.total() + started.elapsed().as_secs_f64();
            }
        }
        Ok(predicted)
    }

    /// The trace of the covariance of each point.
    fn total_variance(&self) -> Vec<f64> {
        self.variances.sum_axis(Axis(1)).to_vec()
    }
}

/// Scores of what was predicted, into `row` of the report and a reliability diagram.
pub(super) fn evaluate(
    posterior: &Laplace,
    eval: &SupervisedData,
    at_home: &Predicted,
    elsewhere: Option<&Predicted>,
    row: &mut SourceRow,
    diagrams: &mut Vec<(String, Reliability)>,
) -> Result<()> {
    row.predict_seconds = Some(at_home.seconds);
    if posterior.info().likelihood == Likelihood::Regression {
        let scores = regression_scores(posterior, at_home, &eval.targets)?;
        row.eval = Some(Scores::Regression(scores));
        return Ok(());
    }
    let p = at_home.values.view();
    row.eval = Some(Scores::Classification(assess(p, eval.labels()).context("--eval")?));
    let name = posterior.info().source.to_string();
    diagrams.push((name, reliability(p, eval.labels(), Bins::default())?));
    if let Some(elsewhere) = elsewhere {
        let (inside, outside) = (at_home.total_variance(), elsewhere.total_variance());
        let detection = detect((p, &inside), (elsewhere.values.view(), &outside))?;
        row.ood = Some(OutOfDistribution::new(detection));
    }
    Ok(())
}

/// Over points and outputs.
fn regression_scores(
    posterior: &Laplace,
    predicted: &Predicted,
    targets: &Targets,
) -> Result<RegressionScores> {
    let Targets::Values(y) = targets else { bail!("--eval: expected real targets") };
    let noise = posterior.noise_variance().unwrap_or(0.0);
    let variances: Mat64 = &predicted.variances + noise;
    let errors = y - &predicted.values;
    let terms = errors
        .iter()
        .zip(&variances)
        .map(|(e, v)| 0.5 * (e * e / v + (std::f64::consts::TAU * v).ln()));
    let count = y.len() as f64;
    let squares: f64 = errors.iter().map(|e| e * e).sum();
    Ok(RegressionScores {
        points: y.nrows(),
        rmse: (squares / count).sqrt(),
        nll: terms.sum::<f64>() / count,
    })
}
