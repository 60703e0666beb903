//! `neuralef eval`: how good a model is on given points.

use anyhow::Result;
use neuralef::fit::{EvaluateOptions, Evaluation};
use neuralef::{Dataset, Model};

use super::expect_width;
use crate::args::EvalArgs;
use crate::output::say;
use crate::report::table;

pub(crate) fn run(args: &EvalArgs, json: bool) -> Result<()> {
    let model = Model::load(&args.model)?;
    let data = Dataset::open(&args.data, args.seed)?;
    let reference = match (&args.reference, args.exact) {
        (Some(location), _) => Some(Dataset::open(location, args.seed)?),
        (None, true) => Some(data.clone()),
        (None, false) => None,
    };
    expect_width(&model, &data)?;
    reference.as_ref().map_or(Ok(()), |points| expect_width(&model, points))?;
    let options = EvaluateOptions {
        reference,
        cluster_gap: args.cluster_gap,
        memory_budget: args.memory_budget,
        seed: args.seed,
    };
    let evaluation = model.evaluate(&data, &options)?;
    if json { say(serde_json::to_string(&evaluation)?) } else { say(text(&evaluation)) }
}

fn text(e: &Evaluation) -> String {
    let header =
        ["j", "eigenvalue", "exact", "relative error", "|cos|", "|cos| in cluster", "residual"];
    let exact = e.exact.as_ref().map(|x| &x.comparison);
    let rows = e.eigenvalues.iter().enumerate().map(|(j, mu)| {
        let cell = |values: Option<&Vec<f64>>, show: fn(f64) -> String| {
            values.and_then(|v| v.get(j)).map_or_else(|| "–".into(), |v| show(*v))
        };
        vec![
            (j + 1).to_string(),
            format!("{mu:.6e}"),
            cell(exact.map(|x| &x.reference_eigenvalues), |v| format!("{v:.6e}")),
            cell(exact.map(|x| &x.eigenvalue_errors), |v| format!("{v:.1e}")),
            cell(exact.map(|x| &x.eigenfunctions.cosines), |v| format!("{v:.6}")),
            cell(exact.map(|x| &x.eigenfunctions.subspace_cosines), |v| format!("{v:.6}")),
            format!("{:.2e}", e.residuals[j]),
        ]
    });
    // Random features have no eigenpairs to tabulate.
    let rows: Vec<_> = rows.collect();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(table(&header, rows).to_string());
    }
    if let Some(exact) = &e.exact {
        let (m, n) = (exact.reference_points, e.n_points);
        lines.push(format!(
            "exact: eigenpairs of the Gram matrix on {m} points; |cos| over {n} points"
        ));
        let clusters = &exact.comparison.eigenfunctions.clusters;
        for cluster in clusters.iter().filter(|c| c.len() > 1) {
            let (first, last) = (cluster.start + 1, cluster.end);
            lines.push(format!("{first}–{last}: near-equal eigenvalues, compared as one subspace"));
        }
        let angles = &exact.comparison.principal_angles;
        let angles: Vec<String> = angles.iter().map(|a| format!("{a:.1e}")).collect();
        lines.push(format!("principal angles of the spans, rad: {}", angles.join(" ")));
    }
    if let Some(orthonormality) = &e.orthonormality {
        lines.push(format!("orthonormality error    {:.2e}", orthonormality.max));
    }
    if let Some(error) = e.gram_error {
        lines.push(format!("relative Gram error     {error:.2e} over {} pairs", e.gram_pairs));
    }
    lines.push(format!("captured trace          {:.3} %", 100.0 * e.captured_trace));
    lines.join("\n")
}
