//! The figure of a comparison: eigenfunctions beside the true ones, errors, times.

use std::path::Path;

use anyhow::Result;
use neuralef::compare::{Report, Spread, Summary};

use neuralef_figure::{self as figure, Entry, Grid, Line, Panel};

/// Eigenfunctions drawn of each contender.
const FUNCTIONS: usize = 3;
/// Contenders whose eigenfunctions are drawn, if they take part: name and heading.
const SHOWN: [(&str, &str); 5] = [
    ("nystrom", "Nyström"),
    ("kernel_pca", "all points"),
    ("spin_raw", "SpIN"),
    ("neuralef_raw", "NeuralEF"),
    ("neuralef", "NeuralEF + readout"),
];
/// 1 − |cos| below this is drawn as this.
const FLOOR: f64 = 1e-9;

/// One of the times of a row.
type Seconds = fn(&Summary) -> Option<Spread>;

/// Draws everything there is to draw: eigenfunctions for one variable and several N, then errors
/// against the number of the pair at the largest N, then training times against N, then accuracy
/// against time.
pub(super) fn draw(report: &Report, path: &Path) -> Result<()> {
    if !report.truths.is_empty() {
        functions(report, &functions_path(path))?;
    }
    let contenders = contenders(report);
    // A method and its raw outputs have one colour.
    let mut families: Vec<&str> = Vec::new();
    let entries: Vec<Entry> = contenders
        .iter()
        .map(|name| {
            let family = name.trim_end_matches("_raw");
            let known = families.iter().position(|f| *f == family);
            let class = known.unwrap_or_else(|| {
                families.push(family);
                families.len() - 1
            });
            Entry { name: (*name).to_string(), class: Some(class), dashed: family != *name }
        })
        .collect();
    let mut panels = Vec::new();
    for case in cases(report) {
        panels.extend(measures(report, case, &contenders));
    }
    let columns = panels.len() / cases(report).len().max(1);
    let grid = Grid {
        title: "Comparison",
        subtitle: "Means over seeds, errors at the largest N; dashed: outputs without the readout",
        columns: columns.max(1),
        size: (330, 280),
        panels: &panels,
        entries: &entries,
    };
    Ok(figure::grid(path, &grid)?)
}

/// Where the eigenfunctions go: `name-functions.ext` beside `name.ext`.
pub(super) fn functions_path(path: &Path) -> std::path::PathBuf {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}-functions.{extension}"))
}

/// Names in the order of their first rows.
fn names<'a>(report: &'a Report, of: fn(&'a Summary) -> &'a String) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in report.summaries.iter().map(of) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn contenders(report: &Report) -> Vec<&str> {
    names(report, |s| &s.contender)
}

fn cases(report: &Report) -> Vec<&str> {
    names(report, |s| &s.case)
}

fn sizes(report: &Report, case: &str) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        report.summaries.iter().filter(|s| s.case == case).map(|s| s.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// A row for each case and N, a column for each contender: the first three eigenfunctions.
fn functions(report: &Report, path: &Path) -> Result<()> {
    let taking_part = contenders(report);
    let shown: Vec<(&str, &str)> =
        SHOWN.into_iter().filter(|(name, _)| taking_part.contains(name)).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let mut panels = Vec::new();
    for truth in &report.truths {
        for n in sizes(report, &truth.case) {
            for (name, heading) in &shown {
                let trial = report.trials.iter().find(|t| {
                    t.case == truth.case && t.n == n && t.contender == *name && t.error.is_none()
                });
                let exact = truth.functions.iter().take(FUNCTIONS);
                let mut lines: Vec<Line> = exact
                    .map(|y| Line {
                        entry: FUNCTIONS,
                        x: truth.x.clone(),
                        y: y.clone(),
                        marked: false,
                    })
                    .collect();
                let curves = trial.map(|t| t.curves.as_slice()).unwrap_or_default();
                lines.extend(curves.iter().take(FUNCTIONS).enumerate().map(|(j, y)| Line {
                    entry: j,
                    x: truth.x.clone(),
                    y: y.clone(),
                    marked: false,
                }));
                let title = format!("{}, N = {n}: {heading}", truth.case);
                panels.push(Panel { title, lines, ..Panel::default() });
            }
        }
    }
    let mut entries: Vec<Entry> = ["ψ₁", "ψ₂", "ψ₃"]
        .into_iter()
        .enumerate()
        .map(|(j, name)| Entry { name: name.into(), class: Some(j), dashed: false })
        .collect();
    entries.push(Entry { name: "true".into(), class: None, dashed: true });
    let grid = Grid {
        title: "The first three eigenfunctions",
        subtitle: "Seed 0; dashed: the population's",
        columns: shown.len().max(1),
        size: (300, 180),
        panels: &panels,
        entries: &entries,
    };
    Ok(figure::grid(path, &grid)?)
}

/// Errors, times against N where there are several, and accuracy against time where it was measured.
fn measures(report: &Report, case: &str, contenders: &[&str]) -> Vec<Panel> {
    let sizes = sizes(report, case);
    let Some(largest) = sizes.last().copied() else { return Vec::new() };
    let row = |name: &str, n: usize| {
        report.summaries.iter().find(|s| s.case == case && s.n == n && s.contender == name)
    };
    let line = |entry: usize, points: Vec<(f64, f64)>| {
        // An eigenvalue that should be zero has an infinite relative error.
        let (x, y) = points.into_iter().filter(|p| p.1.is_finite()).unzip();
        Line { entry, x, y, marked: true }
    };
    let per_pair = |pick: &dyn Fn(&Summary) -> Vec<f64>| -> Vec<Line> {
        let of = |(i, name): (usize, &&str)| {
            let values = pick(row(name, largest)?);
            let numbered = values.into_iter().enumerate().map(|(j, v)| (j as f64 + 1.0, v));
            Some(line(i, numbered.collect()))
        };
        contenders.iter().enumerate().filter_map(of).collect()
    };
    let mut panels = vec![
        Panel {
            title: format!("{case}, N = {largest}, to the training points' own"),
            x_label: "eigenfunction".into(),
            y_label: "1 − |cos|".into(),
            logarithmic: (false, true),
            lines: per_pair(&|s| {
                s.sample.cosines.iter().map(|c| (1.0 - c.mean).max(FLOOR)).collect()
            }),
        },
        Panel {
            title: format!("{case}, N = {largest}, to the true"),
            x_label: "eigenvalue".into(),
            y_label: "relative error".into(),
            logarithmic: (false, true),
            lines: per_pair(&|s| {
                s.truth.eigenvalue_errors.iter().map(|e| e.mean.max(FLOOR)).collect()
            }),
        },
    ];
    if sizes.len() > 1 {
        let times: [(&str, Seconds); 2] =
            [("training steps", |s| s.training_seconds), ("start to model", |s| s.total_seconds)];
        for (what, seconds) in times {
            let of = |(i, name): (usize, &&str)| {
                let time = |n: &usize| Some((*n as f64, seconds(row(name, *n)?)?.mean));
                line(i, sizes.iter().filter_map(time).collect())
            };
            panels.push(Panel {
                title: format!("{case}: {what}"),
                x_label: "N".into(),
                y_label: "seconds".into(),
                logarithmic: (true, true),
                lines: contenders.iter().enumerate().map(of).collect(),
            });
        }
    }
    if !report.reaches.is_empty() {
        let of = |(i, name): (usize, &&str)| {
            let reach = report.reaches.iter().find(|r| {
                r.case == case && r.n == largest && r.contender == **name && r.seed == 0
            })?;
            let points = reach.rungs.iter().map(|(c, s)| (*s, (1.0 - c).max(FLOOR)));
            Some(line(i, points.collect()))
        };
        panels.push(Panel {
            title: format!("{case}, N = {largest}, first eigenfunctions, seed 0"),
            x_label: "seconds".into(),
            y_label: "1 − least |cos|".into(),
            logarithmic: (true, true),
            lines: contenders.iter().enumerate().filter_map(of).collect(),
        });
    }
    panels
}
