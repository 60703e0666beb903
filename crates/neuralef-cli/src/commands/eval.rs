//! `neuralef eval`: how good a model is on given points.

use anyhow::Result;
use neuralef::{Dataset, EvaluateOptions, Evaluation, Model};

use crate::args::EvalArgs;
use crate::report::table;

pub(crate) fn run(args: &EvalArgs, json: bool) -> Result<()> {
    let model = Model::load(&args.model)?;
    let data = Dataset::open(&args.data, args.seed)?;
    let reference = match (&args.reference, args.exact) {
        (Some(location), _) => Some(Dataset::open(location, args.seed)?),
        (None, true) => Some(data.clone()),
        (None, false) => None,
    };
    let options = EvaluateOptions {
        reference,
        cluster_gap: args.cluster_gap,
        memory_budget: args.memory_budget,
        seed: args.seed,
    };
    let evaluation = model.evaluate(&data, &options)?;
    if json {
        println!("{}", serde_json::to_string(&evaluation)?);
    } else {
        print(&evaluation);
    }
    Ok(())
}

fn print(e: &Evaluation) {
    let header = ["j", "eigenvalue", "exact", "relative error", "|cos|", "residual"];
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
            cell(exact.map(|x| &x.eigenfunctions.subspace_cosines), |v| format!("{v:.6}")),
            format!("{:.2e}", e.residuals[j]),
        ]
    });
    println!("{}", table(&header, rows));
    if let Some(exact) = &e.exact {
        let (m, n) = (exact.reference_points, e.n_points);
        println!("exact: eigenpairs of the Gram matrix on {m} points; |cos| over {n} points");
        let clusters = &exact.comparison.eigenfunctions.clusters;
        for cluster in clusters.iter().filter(|c| c.len() > 1) {
            let (first, last) = (cluster.start + 1, cluster.end);
            println!("{first}–{last}: near-equal eigenvalues, compared as one subspace");
        }
        let angles = &exact.comparison.principal_angles;
        let largest = angles.iter().fold(0.0f64, |m, a| m.max(*a));
        println!("largest principal angle {largest:.2e} rad");
    }
    println!("orthonormality error    {:.2e}", e.orthonormality.max);
    println!("relative Gram error     {:.2e} over {} pairs", e.gram_error, e.gram_pairs);
    println!("captured trace          {:.3} %", 100.0 * e.captured_trace);
}
