//! What `neuralef laplace` reports: typed rows, serialized for programs and in tables for people.

use neuralef::bayes::{Laplace, Tuning};
use neuralef::calibration::{Assessment, Detection, DetectionPanel};
use serde::Serialize;

use crate::report::{ASSESSMENT, Column, cells, number, table, titles};

/// Everything that is reported.
#[derive(Serialize)]
pub(super) struct LaplaceReport {
    pub(super) network: String,
    pub(super) train: String,
    pub(super) points: usize,
    pub(super) eval: Option<String>,
    pub(super) ood: Option<String>,
    pub(super) predictive: Option<String>,
    pub(super) seed: u64,
    pub(super) sources: Vec<SourceRow>,
}

/// A posterior, and how good its predictions are where there are points to measure on.
#[derive(Serialize)]
pub(super) struct SourceRow {
    source: String,
    /// None where nothing is uncertain.
    prior_precision: Option<f64>,
    temperature: f64,
    noise_variance: Option<f64>,
    coordinates: usize,
    effective_parameters: f64,
    log_marginal_likelihood: f64,
    tuning: Option<Tuning>,
    fit_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predict_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eval: Option<Scores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ood: Option<OutOfDistribution>,
}

impl SourceRow {
    pub(super) fn of(posterior: &Laplace, tuning: Option<Tuning>) -> Self {
        let certain = posterior.curvatures().is_empty();
        SourceRow {
            source: posterior.info().source.to_string(),
            prior_precision: (!certain).then_some(posterior.prior_precision()),
            temperature: posterior.temperature(),
            noise_variance: posterior.noise_variance(),
            coordinates: posterior.curvatures().len(),
            effective_parameters: posterior.effective_parameters(),
            log_marginal_likelihood: posterior.log_marginal_likelihood(),
            tuning,
            fit_seconds: posterior.seconds().total(),
            predict_seconds: None,
            eval: None,
            ood: None,
        }
    }
}

/// Scores of predictions, of one kind for each task.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Scores {
    Classification(Assessment),
    Regression(RegressionScores),
}

impl Scores {
    fn classification(&self) -> Option<&Assessment> {
        match self {
            Scores::Classification(scores) => Some(scores),
            Scores::Regression(_) => None,
        }
    }

    fn regression(&self) -> Option<&RegressionScores> {
        match self {
            Scores::Classification(_) => None,
            Scores::Regression(scores) => Some(scores),
        }
    }
}

#[derive(Serialize)]
pub(super) struct RegressionScores {
    pub(super) points: usize,
    /// Root mean squared error over points and outputs.
    pub(super) rmse: f64,
    /// The mean of −log N(y; mean, variance + noise) over points and outputs.
    pub(super) nll: f64,
}

/// How well points from elsewhere are told by their uncertainty.
#[derive(Serialize)]
pub(super) struct OutOfDistribution {
    #[serde(flatten)]
    pub(super) detection: Detection,
    /// The name of the best score.
    pub(super) best: &'static str,
}

impl OutOfDistribution {
    pub(super) fn new(detection: Detection) -> Self {
        OutOfDistribution { best: detection.best().0, detection }
    }

    /// The scores that there are, by name.
    fn panels(&self) -> impl Iterator<Item = (&'static str, DetectionPanel)> {
        let Detection { entropy, confidence, variance } = self.detection;
        [("entropy", Some(entropy)), ("confidence", Some(confidence)), ("variance", variance)]
            .into_iter()
            .filter_map(|(name, panel)| Some((name, panel?)))
    }
}

/// Before the scores.
const POSTERIOR: &[Column<SourceRow>] = &[
    Column::new("source", |row| row.source.clone()),
    Column::new("prior precision", |row| {
        row.prior_precision.map_or_else(|| "–".into(), |v| format!("{v:.3e}"))
    }),
    Column::new("effective", |row| number(row.effective_parameters, 1)),
];

/// After the scores.
const SECONDS: &[Column<SourceRow>] = &[
    Column::new("fit s", |row| number(row.fit_seconds, 1)),
    Column::new("predict s", |row| number(row.predict_seconds, 1)),
];

const REGRESSION: &[Column<RegressionScores>] = &[
    Column::new("RMSE", |scores| number(scores.rmse, 4)),
    Column::new("NLL", |scores| number(scores.nll, 4)),
];

const DETECTION: &[Column<DetectionPanel>] = &[
    Column::new("AUROC", |panel| number(panel.auroc, 4)),
    Column::new("AUPR (out)", |panel| number(panel.aupr_out, 4)),
    Column::new("AUPR (in)", |panel| number(panel.aupr_in, 4)),
    Column::new("FPR95", |panel| number(panel.fpr95, 4)),
];

pub(super) fn text(report: &LaplaceReport, regression: bool) -> String {
    let rows = &report.sources;
    let parts = match regression {
        true => score_table(rows, REGRESSION, Scores::regression),
        false => score_table(rows, ASSESSMENT, Scores::classification),
    };
    let mut parts = vec![parts];
    if rows.iter().any(|row| row.ood.is_some()) {
        parts.push(format!(
            "\npoints from elsewhere; * marks the better score\n{}",
            detection_table(rows)
        ));
    }
    parts.join("\n")
}

/// Posteriors with the scores that `scores_of` takes from what was measured.
fn score_table<S>(
    rows: &[SourceRow],
    scores: &[Column<S>],
    scores_of: fn(&Scores) -> Option<&S>,
) -> String {
    let header: Vec<&str> =
        titles(POSTERIOR).chain(titles(scores)).chain(titles(SECONDS)).collect();
    let lines = rows.iter().map(|row| {
        cells(POSTERIOR, Some(row))
            .chain(cells(scores, row.eval.as_ref().and_then(scores_of)))
            .chain(cells(SECONDS, Some(row)))
            .collect()
    });
    table(&header, lines).to_string()
}

/// One line for each score of uncertainty of each source.
fn detection_table(rows: &[SourceRow]) -> String {
    let header: Vec<&str> = ["source", "score"].into_iter().chain(titles(DETECTION)).collect();
    let lines = rows.iter().filter_map(|row| Some((row, row.ood.as_ref()?)));
    let lines = lines.flat_map(|(row, ood)| {
        ood.panels().map(|(score, panel)| {
            let mark = if ood.best == score { " *" } else { "" };
            let named = [row.source.clone(), format!("{score}{mark}")];
            named.into_iter().chain(cells(DETECTION, Some(&panel))).collect()
        })
    });
    table(&header, lines).to_string()
}
