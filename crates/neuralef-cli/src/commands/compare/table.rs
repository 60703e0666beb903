//! The tables of a comparison.

use neuralef::compare::{Agreements, Report, Spread, Summary};

use crate::report::table;

/// One of the two agreements of a row.
type Reference = fn(&Summary) -> &Agreements;

/// All tables, one under the other; the brief ones without single eigenpairs.
pub(super) fn text(report: &Report, brief: bool) -> String {
    let mut parts = Vec::new();
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for row in &report.summaries {
        if !groups.contains(&(row.case.as_str(), row.n)) {
            groups.push((&row.case, row.n));
        }
    }
    for (case, n) in groups {
        let rows: Vec<&Summary> =
            report.summaries.iter().filter(|s| s.case == case && s.n == n).collect();
        let seeds = rows.iter().map(|r| r.seeds + r.failed).max().unwrap_or(0);
        parts.push(format!("{case}, N = {n}, {seeds} seed{}", if seeds == 1 { "" } else { "s" }));
        let references: [(&str, Reference); 2] = [
            ("the exact eigenpairs on the training points", |s| &s.sample),
            ("the true eigenpairs", |s| &s.truth),
        ];
        for (name, reference) in references.into_iter().filter(|_| !brief) {
            if rows.iter().all(|r| reference(r).cosines.is_empty()) {
                continue;
            }
            parts.push(format!("|cos| with {name}"));
            let show = |s: &Spread| cell(s, |v| format!("{v:.4}"));
            parts.push(columns(&rows, &|r| &reference(r).cosines, show));
            parts.push(format!("relative difference of the eigenvalues to {name}"));
            let show = |s: &Spread| cell(s, |v| format!("{v:.0e}"));
            parts.push(columns(&rows, &|r| &reference(r).eigenvalue_errors, show));
        }
        parts.push(costs(&rows));
        for row in &rows {
            for error in &row.errors {
                let (name, failed, all) = (&row.contender, row.failed, row.seeds + row.failed);
                parts.push(format!("{name} failed with {failed} of {all} seeds: {error}"));
            }
        }
        parts.push(String::new());
    }
    if !report.reaches.is_empty() {
        parts.push(reaches(report));
    }
    parts.join("\n").trim_end().to_string()
}

fn cell(s: &Spread, show: impl Fn(f64) -> String) -> String {
    if s.sd == 0.0 { show(s.mean) } else { format!("{} ±{:.0e}", show(s.mean), s.sd) }
}

/// One column for each eigenpair.
fn columns(
    rows: &[&Summary],
    values: &dyn for<'a> Fn(&'a Summary) -> &'a Vec<Spread>,
    show: impl Fn(&Spread) -> String,
) -> String {
    let k = rows.iter().map(|r| values(r).len()).max().unwrap_or(0);
    let names: Vec<String> = (1..=k).map(|j| j.to_string()).collect();
    let header: Vec<&str> =
        std::iter::once("contender").chain(names.iter().map(String::as_str)).collect();
    let body = rows.iter().map(|r| {
        let cells = (0..k).map(|j| values(r).get(j).map_or_else(|| "–".into(), &show));
        std::iter::once(r.contender.clone()).chain(cells).collect::<Vec<_>>()
    });
    table(&header, body).to_string()
}

fn costs(rows: &[&Summary]) -> String {
    let header = [
        "contender",
        "steps",
        "≥ 0.999",
        "least |cos|",
        "≥ 0.999 of the true",
        "least",
        "Gram error",
        "training s",
        "total s",
        "rows/s",
        "peak MiB",
    ];
    let maybe = |s: Option<Spread>, show: fn(f64) -> String| {
        s.map_or_else(|| "–".into(), |s| cell(&s, show))
    };
    let body = rows.iter().map(|r| {
        vec![
            r.contender.clone(),
            format!("{:.0}", r.steps),
            right(&r.sample),
            least(&r.sample),
            right(&r.truth),
            least(&r.truth),
            maybe(r.gram_error, |v| format!("{v:.1e}")),
            maybe(r.training_seconds, |v| format!("{v:.3}")),
            maybe(r.total_seconds, |v| format!("{v:.3}")),
            maybe(r.rows_per_second, |v| format!("{v:.2e}")),
            maybe(r.peak_mib, |v| format!("{v:.0}")),
        ]
    });
    table(&header, body).to_string()
}

/// How many eigenfunctions have a |cos| of at least 0.999 with every seed.
fn right(a: &Agreements) -> String {
    match a.cosines.len() {
        0 => "–".into(),
        k => format!("{} of {k}", a.least_cosines.iter().filter(|c| **c >= 0.999).count()),
    }
}

fn least(a: &Agreements) -> String {
    a.least_cosine.map_or_else(|| "–".into(), |v| format!("{v:.4}"))
}

/// Seconds to the target: the (lower) median over seeds, those that did not reach it last, and how
/// many did.
fn reaches(report: &Report) -> String {
    let mut keys: Vec<(&str, usize, &str)> = Vec::new();
    for r in &report.reaches {
        let key = (r.case.as_str(), r.n, r.contender.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let body = keys.into_iter().map(|(case, n, contender)| {
        let reaches: Vec<_> = report
            .reaches
            .iter()
            .filter(|r| (r.case.as_str(), r.n, r.contender.as_str()) == (case, n, contender))
            .collect();
        let reached = reaches.iter().filter(|r| r.seconds.is_some()).count();
        let mut seconds: Vec<f64> =
            reaches.iter().map(|r| r.seconds.unwrap_or(f64::INFINITY)).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len().saturating_sub(1) / 2).filter(|s| s.is_finite());
        let best = reaches.iter().flat_map(|r| r.rungs.iter().map(|g| g.0)).fold(0.0, f64::max);
        vec![
            case.to_string(),
            n.to_string(),
            contender.to_string(),
            median.map_or_else(|| "–".into(), |s| format!("{s:.3}")),
            format!("{reached} of {}", reaches.len()),
            format!("{best:.4}"),
        ]
    });
    let header = ["case", "N", "contender", "seconds to target", "reached", "best least |cos|"];
    table(&header, body).to_string()
}
