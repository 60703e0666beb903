//! Reliability diagrams: how often predictions are right, against how sure they are.

use std::path::Path;

use neuralef::calibration::Reliability;

use super::{Entry, FigureError, Grid, Line, Panel, Result, grid};

/// Diagrams in a row.
const COLUMNS: usize = 3;

/// Draws a reliability diagram for each name: the accuracy of every bin over its mean confidence,
/// beside the diagonal of perfect calibration.
///
/// # Errors
/// As [`spectrum()`](super::spectrum()).
pub fn reliability(path: &Path, title: &str, diagrams: &[(String, Reliability)]) -> Result<()> {
    if diagrams.is_empty() {
        return Err(FigureError::Empty { what: "reliability diagrams" });
    }
    let line = |entry: usize, points: Vec<(f64, f64)>, marked: bool| {
        let (x, y) = points.into_iter().unzip();
        Line { entry, x, y, marked }
    };
    let panel = |(name, diagram): &(String, Reliability)| {
        let bins = diagram.bins.iter().filter_map(|bin| bin.confidence.zip(bin.accuracy));
        Panel {
            title: format!("{name}: ECE {:.4}", diagram.ece),
            x_label: "confidence".into(),
            y_label: "accuracy".into(),
            logarithmic: (false, false),
            lines: vec![
                line(1, vec![(0.0, 0.0), (1.0, 1.0)], false),
                line(0, bins.collect(), true),
            ],
        }
    };
    let panels: Vec<Panel> = diagrams.iter().map(panel).collect();
    let entries = [
        Entry { name: "bins".into(), class: Some(0), dashed: false },
        Entry { name: "calibrated".into(), class: None, dashed: true },
    ];
    let columns = diagrams.len().min(COLUMNS);
    let (size, subtitle) = ((330, 300), "");
    grid(path, &Grid { title, subtitle, columns, size, panels: &panels, entries: &entries })
}
