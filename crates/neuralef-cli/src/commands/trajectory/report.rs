//! What `neuralef trajectory` reports: typed rows, serialized for programs and in tables for people.

use neuralef::bayes::trajectory::{Training, TrajectoryRecord};
use neuralef::calibration::Assessment;
use serde::Serialize;

use crate::report::{ASSESSMENT, cells, number, table, titles};

/// Everything that is reported.
#[derive(Serialize)]
pub(super) struct TrajectoryReport {
    pub(super) model: String,
    pub(super) features: String,
    pub(super) outputs: usize,
    pub(super) eigenvalues: Vec<f64>,
    pub(super) captured_trace: f64,
    pub(super) predictive: String,
    pub(super) warnings: Vec<String>,
    pub(super) eval: Option<Predictions>,
    /// None for states of a training of one's own.
    #[serde(flatten)]
    pub(super) trained: Option<TrainedNetworks>,
}

/// The training and what it left.
#[derive(Serialize)]
pub(super) struct TrainedNetworks {
    pub(super) base: String,
    pub(super) swa: String,
    pub(super) network: String,
    pub(super) training: Training,
    pub(super) record: TrajectoryRecord,
}

/// Scores on the points of --eval.
#[derive(Serialize)]
pub(super) struct Predictions {
    pub(super) data: String,
    pub(super) points: usize,
    pub(super) rows: Vec<MethodRow>,
}

/// How good one way to predict is.
#[derive(Serialize)]
pub(super) struct MethodRow {
    pub(super) method: &'static str,
    #[serde(flatten)]
    pub(super) scores: Assessment,
}

pub(super) fn text(report: &TrajectoryReport) -> String {
    let mut lines = Vec::new();
    if let Some(TrainedNetworks { record, .. }) = &report.trained {
        lines.push(format!(
            "{} steps to the base (loss {}), {} states in the tail (loss {})",
            record.steps,
            number(record.base_loss, 4),
            record.states,
            number(record.tail_loss, 4)
        ));
    }
    lines.push(format!(
        "{} eigenfunctions of {} outputs: captured trace {:.2} % on held-out points",
        report.eigenvalues.len(),
        report.outputs,
        100.0 * report.captured_trace
    ));
    if let Some(Predictions { data, points, rows }) = &report.eval {
        lines.push(format!("{points} points of {data}, {}", report.predictive));
        let header: Vec<&str> = std::iter::once("").chain(titles(ASSESSMENT)).collect();
        let rows = rows.iter().map(|row| {
            let scores = cells(ASSESSMENT, Some(&row.scores));
            std::iter::once(row.method.to_string()).chain(scores).collect()
        });
        lines.push(table(&header, rows).to_string());
    }
    lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    let mut files = vec![("model", &report.model), ("features", &report.features)];
    if let Some(trained) = &report.trained {
        files.extend([("base", &trained.base), ("swa", &trained.swa)]);
    }
    lines.extend(files.into_iter().map(|(name, path)| format!("{name:<8} {path}")));
    lines.join("\n")
}
