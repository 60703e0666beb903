//! Figures of arrays as the command line draws them.

use std::path::Path;

use neuralef::calibration::Reliability;
use neuralef::{Error, Mat64, Result};
use neuralef_figure::{self as figure, Clouds, Colouring, FigureError, HeatMaps, Series};

/// Draws the first three columns of every matrix as a cloud of points, coloured by class.
///
/// # Errors
/// [`Error::Io`] when the figure cannot be drawn or written.
pub fn point_clouds<N: AsRef<str>>(
    path: &Path,
    [title, subtitle]: [&str; 2],
    columns: usize,
    panels: &[(N, Mat64)],
    labels: &[i64],
) -> Result<()> {
    let column = |psi: &Mat64, j: usize| psi.column(j).to_vec();
    let values: Vec<[Vec<f64>; 3]> =
        panels.iter().map(|(_, psi)| [0, 1, 2].map(|j| column(psi, j))).collect();
    let clouds: Vec<(&str, [Series<'_>; 3])> = panels
        .iter()
        .zip(&values)
        .map(|((name, _), [a, b, c])| {
            let series = [("ψ₁", a), ("ψ₂", b), ("ψ₃", c)];
            (name.as_ref(), series.map(|(name, values)| Series { name, values }))
        })
        .collect();
    let colouring = Colouring::Labels(labels);
    let clouds = Clouds { title, subtitle, columns, clouds: &clouds, colouring };
    drawn(path, figure::clouds(path, &clouds))
}

/// Draws matrices of one shape by colour.
///
/// # Errors
/// [`Error::Io`] when the figure cannot be drawn or written.
pub fn heat_maps<N: AsRef<str>>(
    path: &Path,
    [title, subtitle]: [&str; 2],
    columns: usize,
    panels: &[(N, Mat64)],
) -> Result<()> {
    let shape = panels.first().map_or((0, 0), |(_, values)| values.dim());
    let values: Vec<Vec<f64>> = panels.iter().map(|(_, m)| m.iter().copied().collect()).collect();
    let matrices = panels.iter().zip(&values);
    let matrices: Vec<Series<'_>> =
        matrices.map(|((name, _), values)| Series { name: name.as_ref(), values }).collect();
    let maps = HeatMaps { title, subtitle, columns, shape, matrices: &matrices };
    drawn(path, figure::heat_maps(path, &maps))
}

/// Draws a reliability diagram for each name.
///
/// # Errors
/// [`Error::Io`] when the figure cannot be drawn or written.
pub fn reliability_diagrams(
    path: &Path,
    title: &str,
    diagrams: &[(String, Reliability)],
) -> Result<()> {
    drawn(path, figure::reliability(path, title, diagrams))
}

fn drawn(path: &Path, outcome: Result<(), FigureError>) -> Result<()> {
    outcome.map_err(|e| Error::io(path, std::io::Error::other(e)))
}
