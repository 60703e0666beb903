//! Figures: plain functions from arrays to an SVG or PNG file, chosen by the file's extension.
//!
//! Every figure is drawn once, by `plotters`, whether elements of an SVG come of it or the pixels of a
//! PNG, which has twice the size and the fonts embedded in the program. Files appear whole or not at
//! all. The `neuralef` command line and the experiments of the paper draw with these.

mod axes;
mod canvas;
mod clouds;
mod contours;
mod curves;
mod grid;
mod heat_maps;
mod page;
mod reliability;
mod scatter;
mod spectrum;
mod style;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use grid::{Entry, Grid, Line, Panel};
use page::page;
use plotters::drawing::DrawingAreaErrorKind;
pub use reliability::reliability;
use style::UNIT;

/// Why a figure could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FigureError {
    /// The file name does not say which format is wanted.
    #[error("{path}: expected a figure name ending in .svg or .png", path = .path.display())]
    Format {
        /// The file name given.
        path: PathBuf,
    },
    /// The operating system refused a file operation.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is nothing to draw.
    #[error("cannot draw {what}: there is none")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// Two arrays that belong together differ in length.
    #[error("cannot draw {what}: expected {expected} values, got {got}")]
    Length {
        /// Which array.
        what: String,
        /// Expected length.
        expected: usize,
        /// Actual length.
        got: usize,
    },
    /// A value is not finite, or so large that the axis could not be labelled.
    #[error(
        "cannot draw {what}: value {value} at position {index} (from 0); \
         expected finite values of magnitude up to 1e100"
    )]
    Value {
        /// Which array.
        what: String,
        /// Position from 0.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// The drawing failed, or could not be turned into a PNG.
    #[error("cannot draw this figure: {message}")]
    Draw {
        /// What the drawing library or the rasteriser said.
        message: String,
    },
}

/// `std::result::Result` with [`FigureError`].
pub type Result<T, E = FigureError> = std::result::Result<T, E>;

/// One function: its name in the legend and its values.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Legend entry, e.g. `ψ₁`.
    pub name: &'a str,
    /// Values, one for each abscissa or grid point.
    pub values: &'a [f64],
}

/// Functions of one variable.
#[derive(Debug, Clone, Copy)]
pub struct Curves<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Label of the horizontal axis.
    pub x_label: &'a str,
    /// Abscissas, ascending.
    pub x: &'a [f64],
    /// The functions, drawn solid, at most five to a plot.
    pub series: &'a [Series<'a>],
    /// References to compare with, drawn dashed: the j-th over the j-th of `series`.
    pub reference: &'a [Series<'a>],
}

/// Functions of two variables on a regular grid, as small multiples with one colour scale.
#[derive(Debug, Clone, Copy)]
pub struct Contours<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// First and last abscissa of the grid.
    pub x_range: (f64, f64),
    /// First and last ordinate of the grid.
    pub y_range: (f64, f64),
    /// Grid points along x and along y, at least 2 each.
    pub shape: (usize, usize),
    /// The functions: `values[row * shape.0 + column]`.
    pub functions: &'a [Series<'a>],
    /// Data points laid over every plot; may be empty.
    pub points: &'a [[f64; 2]],
}

/// What the colour of a scatter plot shows.
#[derive(Debug, Clone, Copy)]
pub enum Colouring<'a> {
    /// Nothing: all points alike.
    None,
    /// Classes. More than ten distinct ones get the colours of a scale.
    Labels(&'a [i64]),
}

/// Points in their first one, two or three coordinates, as pairwise plots.
#[derive(Debug, Clone, Copy)]
pub struct Scatter<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Coordinates, each with one value for every point; the first three are drawn.
    pub coordinates: &'a [Series<'a>],
    /// The colours.
    pub colouring: Colouring<'a>,
}

/// Points in three coordinates, seen from one side: clouds in rows, all of the same points.
#[derive(Debug, Clone, Copy)]
pub struct Clouds<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Clouds in a row.
    pub columns: usize,
    /// The name of every cloud and its coordinates, each with one value for every point.
    pub clouds: &'a [(&'a str, [Series<'a>; 3])],
    /// The colours.
    pub colouring: Colouring<'a>,
}

/// Matrices of one shape by colour, in rows; the colours span the values of the first.
#[derive(Debug, Clone, Copy)]
pub struct HeatMaps<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Matrices in a row.
    pub columns: usize,
    /// Rows and columns of each matrix.
    pub shape: (usize, usize),
    /// The matrices, row by row.
    pub matrices: &'a [Series<'a>],
}

/// Eigenvalues on a logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub struct Spectrum<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Name and values, in descending order.
    pub eigenvalues: Series<'a>,
    /// Standard errors, one for each eigenvalue; empty for none.
    pub standard_errors: &'a [f64],
    /// Exact or reference values, if known; their number may differ.
    pub reference: Option<Series<'a>>,
}

/// What stands beside the spectrum in a [`panel()`].
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Functions of one variable.
    Curves(Curves<'a>),
    /// Functions of two variables.
    Contours(Contours<'a>),
    /// Points in eigenfunction coordinates.
    Scatter(Scatter<'a>),
}

/// Draws eigenvalues with error bars on a logarithmic axis.
///
/// # Errors
/// [`FigureError`]: nothing to draw, lengths that differ, values that are not finite, a file that
/// cannot be written; a spectrum without any positive value is empty.
pub fn spectrum(path: &Path, figure: &Spectrum<'_>) -> Result<()> {
    figure.check()?;
    page(path, (560, 400), figure.title, figure.subtitle, |area| figure.draw(area))
}

/// Draws line plots in rows under one heading.
///
/// # Errors
/// As [`spectrum()`].
pub fn grid(path: &Path, figure: &Grid<'_>) -> Result<()> {
    figure.check()?;
    page(path, figure.size(), figure.title, figure.subtitle, |area| figure.draw(area))
}

/// Draws clouds of points.
///
/// # Errors
/// As [`spectrum()`].
pub fn clouds(path: &Path, figure: &Clouds<'_>) -> Result<()> {
    figure.check()?;
    page(path, figure.size(), figure.title, figure.subtitle, |area| figure.draw(area))
}

/// Draws matrices by colour.
///
/// # Errors
/// As [`spectrum()`].
pub fn heat_maps(path: &Path, figure: &HeatMaps<'_>) -> Result<()> {
    figure.check()?;
    page(path, figure.size(), figure.title, figure.subtitle, |area| figure.draw(area))
}

/// Draws the spectrum with the eigenfunctions beside it, under one heading: `title` and
/// `subtitle` of the parts become the headings of the two halves.
///
/// # Errors
/// As [`spectrum()`].
pub fn panel(
    path: &Path,
    title: &str,
    subtitle: &str,
    left: &Spectrum<'_>,
    right: &Body<'_>,
) -> Result<()> {
    const LEFT: i32 = 440;
    const GAP: i32 = 30;
    left.check()?;
    let ((width, height), heading, note) = match right {
        Body::Curves(f) => (f.check().map(|()| f.size())?, f.title, f.subtitle),
        Body::Contours(f) => (f.check().map(|()| f.size())?, f.title, f.subtitle),
        Body::Scatter(f) => (f.check().map(|()| f.size())?, f.title, f.subtitle),
    };
    let lead = if note.is_empty() && left.subtitle.is_empty() { 36 } else { 56 };
    let height = height.max(330);
    page(path, (LEFT + GAP + width, lead + height), title, subtitle, |area| {
        let halves = [(0, left.title, left.subtitle), (LEFT + GAP, heading, note)];
        for (x, heading, note) in halves {
            area.draw_text(heading, &style::text(style::PART), (x * UNIT, 8 * UNIT))?;
            area.draw_text(note, &style::text(style::NOTE), (x * UNIT, 29 * UNIT))?;
        }
        let place = |x: i32, width: i32, height: i32| {
            area.clone().shrink((x * UNIT, lead * UNIT), (width * UNIT, height * UNIT))
        };
        left.draw(&place(0, LEFT, height.min(480)))?;
        let body = place(LEFT + GAP, width, height);
        match right {
            Body::Curves(figure) => figure.draw(&body),
            Body::Contours(figure) => figure.draw(&body),
            Body::Scatter(figure) => figure.draw(&body),
        }
    })
}

/// What the libraries that draw have to say, as an error of ours.
fn undrawn(message: impl std::fmt::Display) -> FigureError {
    FigureError::Draw { message: message.to_string() }
}

impl From<DrawingAreaErrorKind<std::io::Error>> for FigureError {
    fn from(error: DrawingAreaErrorKind<std::io::Error>) -> Self {
        undrawn(error)
    }
}

/// Refuses arrays that no axis can show.
fn check_values(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| v.is_nan() || v.abs() > 1e100) {
        None => Ok(()),
        Some(index) => {
            Err(FigureError::Value { what: what.to_string(), index, value: values[index] })
        }
    }
}

/// Refuses series that no axis can show, or that have not `length` values each.
fn check_series(series: &[Series<'_>], length: usize) -> Result<()> {
    series.iter().try_for_each(|s| {
        check_length(s.name, length, s.values.len())?;
        check_values(s.name, s.values)
    })
}

/// Refuses arrays of the wrong length.
fn check_length(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(FigureError::Length { what: what.to_string(), expected, got })
    }
}
