//! Figures: plain functions from arrays to an SVG or PNG file, chosen by the file's extension.
//!
//! Every figure is drawn once, as SVG; a PNG is that SVG rasterised at twice its size with the
//! fonts embedded in the program. Files appear whole or not at all.

mod axes;
mod canvas;
mod colour;
mod contours;
mod curves;
mod file;
mod scatter;
mod spectrum;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use canvas::{Canvas, Rect};

/// Why a figure could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FigureError {
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
    /// The SVG could not be turned into a PNG.
    #[error("cannot make a PNG of this figure: {message}")]
    Raster {
        /// What the rasteriser said.
        message: String,
    },
}

/// `std::result::Result` with [`FigureError`].
pub(crate) type Result<T, E = FigureError> = std::result::Result<T, E>;

/// One function: its name in the legend and its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    /// Legend entry, e.g. `ψ₁`.
    pub(crate) name: &'a str,
    /// Values, one for each abscissa or grid point.
    pub(crate) values: &'a [f64],
}

/// Functions of one variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Curves<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub(crate) subtitle: &'a str,
    /// Label of the horizontal axis.
    pub(crate) x_label: &'a str,
    /// Abscissas, ascending.
    pub(crate) x: &'a [f64],
    /// The functions, drawn solid, at most five to a plot.
    pub(crate) series: &'a [Series<'a>],
    /// References to compare with, drawn dashed: the j-th over the j-th of `series`.
    pub(crate) reference: &'a [Series<'a>],
}

/// Functions of two variables on a regular grid, as small multiples with one colour scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contours<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub(crate) subtitle: &'a str,
    /// First and last abscissa of the grid.
    pub(crate) x_range: (f64, f64),
    /// First and last ordinate of the grid.
    pub(crate) y_range: (f64, f64),
    /// Grid points along x and along y, at least 2 each.
    pub(crate) shape: (usize, usize),
    /// The functions: `values[row * shape.0 + column]`.
    pub(crate) functions: &'a [Series<'a>],
    /// Data points laid over every plot; may be empty.
    pub(crate) points: &'a [[f64; 2]],
}

/// What the colour of a scatter plot shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colouring<'a> {
    /// Nothing: all points alike.
    None,
    /// Classes. More than ten distinct ones are shown as values.
    Labels(&'a [i64]),
    /// A quantity and its name.
    Values(&'a str, &'a [f64]),
}

/// Points in their first one, two or three coordinates, as pairwise plots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scatter<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub(crate) subtitle: &'a str,
    /// Coordinates, each with one value for every point; the first three are drawn.
    pub(crate) coordinates: &'a [Series<'a>],
    /// The colours.
    pub(crate) colouring: Colouring<'a>,
}

/// Eigenvalues on a logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spectrum<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub(crate) subtitle: &'a str,
    /// Name and values, in descending order.
    pub(crate) eigenvalues: Series<'a>,
    /// Standard errors, one for each eigenvalue; empty for none.
    pub(crate) standard_errors: &'a [f64],
    /// Exact or reference values, if known; their number may differ.
    pub(crate) reference: Option<Series<'a>>,
}

/// What stands beside the spectrum in a [`panel()`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    /// Functions of one variable.
    Curves(Curves<'a>),
    /// Functions of two variables.
    Contours(Contours<'a>),
    /// Points in eigenfunction coordinates.
    Scatter(Scatter<'a>),
}

/// Draws functions of one variable, dashed references over them.
///
/// # Errors
/// [`FigureError`]: nothing to draw, lengths that differ, values that are not finite, a file that
/// cannot be written. The same holds for every function here.
pub(crate) fn curves(path: &Path, figure: &Curves<'_>) -> Result<()> {
    figure.check()?;
    let (width, height) = figure.size(2);
    page(path, width, height, figure.title, figure.subtitle, |canvas, area| {
        figure.draw(canvas, area, 2);
    })
}

/// Draws functions of two variables as coloured small multiples with contour lines.
///
/// # Errors
/// As [`curves()`].
pub(crate) fn contours(path: &Path, figure: &Contours<'_>) -> Result<()> {
    figure.check()?;
    let (width, height) = figure.size(false);
    page(path, width, height, figure.title, figure.subtitle, |canvas, area| {
        figure.draw(canvas, area, false);
    })
}

/// Draws points in their first three coordinates.
///
/// # Errors
/// As [`curves()`].
pub(crate) fn scatter(path: &Path, figure: &Scatter<'_>) -> Result<()> {
    figure.check()?;
    let (width, height) = figure.size();
    page(path, width, height, figure.title, &figure.full_subtitle(), |canvas, area| {
        figure.draw(canvas, area);
    })
}

/// Draws eigenvalues with error bars on a logarithmic axis.
///
/// # Errors
/// As [`curves()`]; a spectrum without any positive value is empty.
pub(crate) fn spectrum(path: &Path, figure: &Spectrum<'_>) -> Result<()> {
    figure.check()?;
    let (width, height) = figure.size();
    page(path, width, height, figure.title, figure.subtitle, |canvas, area| {
        figure.draw(canvas, area);
    })
}

/// Draws the spectrum with the eigenfunctions beside it, under one heading: `title` and
/// `subtitle` of the parts become the headings of the two halves.
///
/// # Errors
/// As [`curves()`].
pub(crate) fn panel(
    path: &Path,
    title: &str,
    subtitle: &str,
    left: &Spectrum<'_>,
    right: &Body<'_>,
) -> Result<()> {
    const GAP: f64 = 30.0;
    const CELL: f64 = 440.0;
    const CELL_HEIGHT: f64 = 380.0;
    left.check()?;
    let (size, heading, note) = match right {
        Body::Curves(f) => (f.check().map(|()| f.size(1))?, f.title, f.subtitle.to_string()),
        Body::Contours(f) => (f.check().map(|()| f.size(true))?, f.title, f.subtitle.to_string()),
        Body::Scatter(f) => {
            f.check()?;
            // Three plots and the spectrum make two rows of two.
            let rows = f.plots().div_ceil(2) as f64;
            let size = (CELL + f.bar_width(), rows * (CELL_HEIGHT + GAP) - GAP);
            (size, f.title, f.full_subtitle())
        }
    };
    let (body_width, body_height) = (size.0, size.1.max(330.0));
    let lead = if note.is_empty() && left.subtitle.is_empty() { 36.0 } else { 56.0 };
    let (width, height) = (CELL + GAP + body_width, lead + body_height);
    page(path, width, height, title, subtitle, |canvas, area| {
        let right_x = area.x + CELL + GAP;
        text::heading(canvas, area.x, area.y + 10.0, left.title, left.subtitle);
        text::heading(canvas, right_x, area.y + 10.0, heading, &note);
        let y = area.y + lead;
        let body = Rect { x: right_x, y, width: body_width, height: body_height };
        let beside = Rect { x: area.x, y, width: CELL, height: body_height };
        match right {
            Body::Curves(figure) => {
                left.draw(canvas, Rect { height: body_height.min(600.0), ..beside });
                figure.draw(canvas, body, 1);
            }
            Body::Contours(figure) => {
                left.draw(canvas, Rect { height: body_height.min(480.0), ..beside });
                figure.draw(canvas, body, true);
            }
            Body::Scatter(figure) => {
                let cell = Rect { x: right_x, y, width: CELL, height: CELL_HEIGHT };
                let below = y + CELL_HEIGHT + GAP;
                let cells = [cell, Rect { x: area.x, y: below, ..cell }, Rect { y: below, ..cell }];
                left.draw(canvas, Rect { x: area.x, ..cell });
                let bar = Rect { x: cell.right(), width: figure.bar_width(), ..body };
                figure.draw_in(canvas, &cells, bar);
            }
        }
    })
}

/// A page with margins and a heading, `width` × `height` of which belong to `draw`.
fn page(
    path: &Path,
    width: f64,
    height: f64,
    title: &str,
    subtitle: &str,
    draw: impl FnOnce(&mut Canvas, Rect),
) -> Result<()> {
    const MARGIN: f64 = 24.0;
    let format = file::Format::of(path)?;
    let title_width = text::width(title, text::TITLE).max(text::width(subtitle, text::NOTE));
    let width = width.max(title_width);
    let mut lead = 0.0;
    if !title.is_empty() {
        lead += 28.0;
    }
    if !subtitle.is_empty() {
        lead += 20.0;
    }
    let mut canvas = Canvas::new(width + 2.0 * MARGIN, height + lead + 2.0 * MARGIN);
    canvas.text(MARGIN, MARGIN + 15.0, title, text::TITLE);
    let under = if title.is_empty() { 12.0 } else { 37.0 };
    canvas.text(MARGIN, MARGIN + under, subtitle, text::NOTE);
    draw(&mut canvas, Rect { x: MARGIN, y: MARGIN + lead, width, height });
    file::write(path, format, &canvas)
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

/// Refuses arrays of the wrong length.
fn check_length(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(FigureError::Length { what: what.to_string(), expected, got })
    }
}
