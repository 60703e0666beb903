//! Line plots side by side under one heading and one legend, on linear or logarithmic axes.

use plotters::prelude::*;

use super::axes::{Area, Axis, Mark, legend, plot, range};
use super::page::cells;
use super::style::{self, UNIT, class};
use super::{FigureError, Result, check_length, check_values};

/// A line through points, or dashes.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which entry of the legend it belongs to.
    pub entry: usize,
    /// Abscissas.
    pub x: Vec<f64>,
    /// Ordinates.
    pub y: Vec<f64>,
    /// Discs on the points.
    pub marked: bool,
}

/// One plot.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Heading.
    pub title: String,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// Whether the horizontal and the vertical axis are logarithmic.
    pub logarithmic: (bool, bool),
    /// What is drawn; values ≤ 0 are left out on a logarithmic axis.
    pub lines: Vec<Line>,
}

/// An entry of the legend.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Which colour; none for ink.
    pub class: Option<usize>,
    /// Dashes instead of a line.
    pub dashed: bool,
}

/// Plots in rows.
#[derive(Debug, Clone)]
pub struct Grid<'a> {
    /// Heading.
    pub title: &'a str,
    /// Smaller line under the heading; may be empty.
    pub subtitle: &'a str,
    /// Plots in a row.
    pub columns: usize,
    /// Width and height of a plot.
    pub size: (i32, i32),
    /// The plots, row by row.
    pub panels: &'a [Panel],
    /// The legend.
    pub entries: &'a [Entry],
}

/// Height of a row of the legend, and width that an entry is given.
const LEGEND: i32 = 24;
const ENTRY: i32 = 165;

impl Grid<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.panels.is_empty() || self.columns == 0 {
            return Err(FigureError::Empty { what: "plots" });
        }
        for line in self.panels.iter().flat_map(|p| &p.lines) {
            check_length("abscissas of a line", line.y.len(), line.x.len())?;
            check_values("abscissas of a line", &line.x)?;
            check_values("ordinates of a line", &line.y)?;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let rows = self.panels.len().div_ceil(self.columns);
        (self.size.0 * self.columns as i32, self.lead() + self.size.1 * rows as i32)
    }

    /// Entries of the legend in a row.
    fn per_row(&self) -> usize {
        ((self.size.0 * self.columns as i32) / ENTRY).max(1) as usize
    }

    /// Height of the legend.
    fn lead(&self) -> i32 {
        LEGEND * self.entries.len().div_ceil(self.per_row()) as i32
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let colour = |entry: usize| match self.entries.get(entry).and_then(|e| e.class) {
            Some(index) => class(index),
            None => style::INK,
        };
        let named: Vec<_> = self
            .entries
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let mark = if e.dashed { Mark::Dashes } else { Mark::Line };
                (mark, colour(i), e.name.as_str())
            })
            .collect();
        for (row, entries) in named.chunks(self.per_row()).enumerate() {
            legend(&area.margin(row as i32 * LEGEND * UNIT, 0, 0, 0), entries)?;
        }
        let plots = area.margin(self.lead() * UNIT, 0, 0, 0);
        for (panel, cell) in self.panels.iter().zip(cells(plots, self.columns, self.size)) {
            cell.draw_text(&panel.title, &style::text(style::LABEL), (50 * UNIT, 4 * UNIT))?;
            panel.draw(&cell.margin(24 * UNIT, 4 * UNIT, 0, 14 * UNIT), |line| {
                let dashed = self.entries.get(line.entry).is_some_and(|e| e.dashed);
                (colour(line.entry), dashed)
            })?;
        }
        Ok(())
    }
}

impl Panel {
    fn draw(&self, area: &Area<'_>, look: impl Fn(&Line) -> (RGBColor, bool)) -> Result<()> {
        let (log_x, log_y) = self.logarithmic;
        let scale = |value: f64, log: bool| match log {
            true => (value > 0.0).then(|| value.log10()),
            false => Some(value),
        };
        let traces: Vec<Vec<(f64, f64)>> = self
            .lines
            .iter()
            .map(|line| {
                let points = line.x.iter().zip(&line.y);
                points.filter_map(|(x, y)| Some((scale(*x, log_x)?, scale(*y, log_y)?))).collect()
            })
            .collect();
        let axis = |values: &[f64], log: bool, most: usize, name: &str| {
            if !log {
                return Axis::around(values.iter().copied(), most, name);
            }
            let (low, high) = range(values.iter().copied());
            let pad = (0.04 * (high - low)).max(0.05);
            Axis::powers(low - pad, high + pad, name)
        };
        let column = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            traces.iter().flatten().map(pick).collect()
        };
        let x = axis(&column(|p| p.0), log_x, 6, &self.x_label);
        let y = axis(&column(|p| p.1), log_y, 6, &self.y_label);
        let left = if self.y_label.is_empty() { 44 } else { 62 };
        let bottom = if self.x_label.is_empty() { 22 } else { 42 };
        let mut plot = plot(area, x, y, (left, bottom))?;
        for (line, trace) in self.lines.iter().zip(traces) {
            let (colour, dashed) = look(line);
            if dashed {
                let stroke = colour.stroke_width(5);
                let series = DashedLineSeries::new(trace, 5 * UNIT as u32, 4 * UNIT as u32, stroke);
                plot.draw_series(series)?;
                continue;
            }
            if line.marked {
                let disc = |p: &(f64, f64)| Circle::new(*p, 11, colour.filled());
                plot.draw_series(trace.iter().map(disc))?;
            }
            plot.draw_series(LineSeries::new(trace, colour.stroke_width(7)))?;
        }
        Ok(())
    }
}
