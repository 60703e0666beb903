//! Text for people: tables of eigenpairs and what a model is.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use neuralef::fit::{ModelInfo, PairCertificate};

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
    line("seed", spec.seed.to_string());
    let c = &info.certificate;
    let gram = c.gram_error.map_or(String::new(), |e| format!(", Gram error {e:.1e}"));
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
    match (&info.kernel, &info.spec.gram, &info.spec.features) {
        (Some(text), _, _) => text.clone(),
        (_, Some(path), _) => format!("Gram matrix {}", path.display()),
        (_, _, Some(path)) => format!("features {}", path.display()),
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
