//! Text for people: tables of eigenpairs and of scores, and what a model is.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use neuralef::calibration::Assessment;
use neuralef::fit::{ModelInfo, PairCertificate};
use neuralef::method::{BesideNystrom, Timings};

/// A table with right-aligned columns.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A column of a table over rows of `T`: its title, and the cell of a row. Rows are typed and also what
/// is serialized for programs, so that a cell can only show what a field holds.
pub(crate) struct Column<T> {
    pub(crate) title: &'static str,
    pub(crate) cell: fn(&T) -> String,
}

impl<T> Column<T> {
    pub(crate) const fn new(title: &'static str, cell: fn(&T) -> String) -> Self {
        Column { title, cell }
    }
}

/// The titles of columns.
pub(crate) fn titles<T>(columns: &[Column<T>]) -> impl Iterator<Item = &'static str> {
    columns.iter().map(|column| column.title)
}

/// The cells of a row, of one that is not there dashes.
pub(crate) fn cells<T>(columns: &[Column<T>], row: Option<&T>) -> impl Iterator<Item = String> {
    columns.iter().map(move |column| row.map_or_else(|| DASH.into(), column.cell))
}

/// What stands for a number that is not there.
const DASH: &str = "–";

/// A number with so many digits; a dash for one that is not there or is not finite.
pub(crate) fn number(value: impl Into<Option<f64>>, digits: usize) -> String {
    let finite = value.into().filter(|v| v.is_finite());
    finite.map_or_else(|| DASH.into(), |v| format!("{v:.digits$}"))
}

/// The scores of a classifier.
pub(crate) const ASSESSMENT: &[Column<Assessment>] = &[
    Column::new("accuracy", |scores| number(scores.accuracy, 4)),
    Column::new("NLL", |scores| number(scores.nll, 4)),
    Column::new("Brier", |scores| number(scores.brier, 4)),
    Column::new("ECE", |scores| number(scores.ece, 4)),
    Column::new("adaptive ECE", |scores| number(scores.adaptive_ece, 4)),
];

/// What a model is and how accurate.
pub(crate) fn model(info: &ModelInfo) -> String {
    let spec = &info.spec;
    let mut out = String::new();
    let mut line =
        |name: &str, value: String| out.push_str(&format!("{name:<12} {}\n", plain(&value)));
    line("data", format!("{} ({} × {})", info.data, info.n_samples, info.n_features));
    line("kernel", kernel(info));
    if spec.outputs > 1 {
        line("outputs", format!("{}, {} eigenfunctions", spec.outputs, spec.output_form));
    }
    line("method", method(info));
    if let Some(readout) = &info.record.readout {
        let truncation = match readout.truncation {
            Some(t) => {
                format!("{} of {} directions (truncation {t:.0e})", readout.rank, readout.basis)
            }
            None => format!("{} outputs", readout.basis),
        };
        line("readout", format!("{}: {truncation}, {} points", readout.kind, readout.points));
    }
    for (steps, residual) in &info.record.auto_checks {
        let kept = if *steps == info.record.steps { "  ← kept" } else { "" };
        line("auto", format!("after {steps:>5} steps: held-out residual {residual:.4}{kept}"));
    }
    if let Some(m) = info.record.landmarks {
        let remainder = info.record.remainder.map_or(String::new(), |e| {
            format!(", which leave {e:.1e} of E κ(x, x): no eigenvalue on these points is larger by more")
        });
        line("landmarks", format!("{m}{remainder}"));
    }
    line("seed", spec.seed.to_string());
    let c = &info.certificate;
    let gram = c.gram_error.map_or(String::new(), |e| format!(", Gram error {e:.1e}"));
    if c.pairs.is_empty() && !info.eigenvalues.is_empty() {
        out.push_str(&eigenvalues(&info.eigenvalues).to_string());
        out.push_str("\nnot measured; `neuralef eval` does it");
        warnings(&mut out, info);
        return out;
    }
    if c.pairs.is_empty() {
        out.push_str(&format!(
            "random features without eigenvalues: captured trace {:.2} %{gram} ({} held-out \
             points, {} training points)",
            100.0 * c.captured_trace,
            c.held_out_points,
            c.training_points
        ));
        warnings(&mut out, info);
        return out;
    }
    out.push_str(&pairs(&c.pairs).to_string());
    out.push_str(&format!(
        "\ncaptured trace {:.2} %, orthonormality error {:.1e}{gram} ({} held-out points, {} training \
         points)\n± is one standard error from the finite sample; residual = ‖T̂ψ − μψ‖/μ on \
         held-out points",
        100.0 * c.captured_trace,
        c.orthonormality_error,
        c.held_out_points,
        c.training_points
    ));
    warnings(&mut out, info);
    out
}

fn warnings(out: &mut String, info: &ModelInfo) {
    for warning in &info.warnings {
        out.push_str(&format!("\nwarning: {}", plain(warning)));
    }
}

/// Text that a file may have brought along, without what could steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn kernel(info: &ModelInfo) -> String {
    match (&info.kernel, &info.spec.operator) {
        (Some(text), _) => text.clone(),
        (None, Some(operator)) if operator.file().is_some() => operator.to_string(),
        _ => "unknown".into(),
    }
}

fn method(info: &ModelInfo) -> String {
    let spec = &info.spec;
    match &info.record.readout {
        None => spec.method.to_string(),
        Some(_) => format!(
            "{}, {}, {} steps of {} points, {}, {}",
            spec.network,
            spec.objective,
            info.record.steps,
            spec.batch_size,
            spec.optimizer,
            spec.schedule
        ),
    }
}

/// Networks beside the landmarks that they were read out through.
pub(crate) fn beside(beside: &BesideNystrom, timings: &Timings) -> String {
    let share = beside.multiplications as f64 / beside.nystrom_multiplications.max(1) as f64;
    format!(
        "beside nystrom of {} landmarks: held-out residual {:.4} (nystrom {:.4}), {:.2} s (nystrom {:.2} s), \
         {share:.2} times its multiplications a point",
        beside.landmarks,
        beside.residual,
        beside.nystrom_residual,
        timings.training_seconds + timings.readout_seconds,
        timings.nystrom_seconds,
    )
}

fn eigenvalues(values: &[f64]) -> Table {
    let rows = values.iter().enumerate();
    table(&["j", "eigenvalue"], rows.map(|(j, v)| vec![(j + 1).to_string(), format!("{v:.6e}")]))
}

fn pairs(pairs: &[PairCertificate]) -> Table {
    let header = ["j", "eigenvalue", "± s.e.", "relative", "residual"];
    table(
        &header,
        pairs.iter().enumerate().map(|(j, p)| {
            vec![
                (j + 1).to_string(),
                format!("{:.6e}", p.eigenvalue),
                format!("{:.1e}", p.standard_error),
                format!("{:.2} %", 100.0 * p.standard_error / p.eigenvalue),
                format!("{:.2e}", p.residual),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_of_a_classifier_has_a_column() {
        let scores = Assessment {
            points: 7,
            accuracy: 0.125,
            nll: 1.5,
            brier: 0.25,
            ece: 0.0625,
            adaptive_ece: f64::NAN,
        };
        let shown: Vec<String> = cells(ASSESSMENT, Some(&scores)).collect();
        assert_eq!(shown, ["0.1250", "1.5000", "0.2500", "0.0625", "–"]);
        // A field that is new, and a program therefore reads, has to have a column too.
        let fields = serde_json::to_value(scores).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), 1 + ASSESSMENT.len());
        assert!(cells(ASSESSMENT, None).all(|cell| cell == "–"));
    }
}
