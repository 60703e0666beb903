//! Functions of two variables: small multiples of filled contours, the zero line strong.

use contour::ContourBuilder;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Area, Axis, plot};
use super::style::{self, AXIS, INK, UNIT, diverging};
use super::{Contours, FigureError, Result, check_series, check_values, undrawn};

/// Width of a plot.
const CELL: i32 = 160;
const GAP: i32 = 22;
const LEFT: i32 = 44;
const BOTTOM: i32 = 26;
const NAME: i32 = 22;
const BAR: i32 = 72;
/// Bands of colour on either side of zero; every third is bounded by a line.
const BANDS: i32 = 12;
const MOST_POINTS: usize = 500;

/// Bounds of the bands, in units of the strongest colour.
fn levels() -> impl Iterator<Item = (i32, f64)> {
    (-BANDS..=BANDS).map(|level| (level, f64::from(level) / f64::from(BANDS)))
}

/// The colour of what lies above a level and below the next.
fn above(level: f64) -> RGBColor {
    diverging(level + 0.5 / f64::from(BANDS))
}

impl Contours<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.functions.is_empty() {
            return Err(FigureError::Empty { what: "functions of two variables" });
        }
        let (nx, ny) = self.shape;
        if nx < 2 || ny < 2 {
            return Err(FigureError::Empty { what: "a grid of at least 2 × 2 points" });
        }
        let (x, y) = (self.x_range, self.y_range);
        check_values("range of the grid", &[x.0, x.1, y.0, y.1])?;
        if !(x.0 < x.1 && y.0 < y.1) {
            return Err(FigureError::Empty { what: "a grid of positive width and height" });
        }
        check_series(self.functions, nx.saturating_mul(ny))?;
        self.points.iter().try_for_each(|point| check_values("data points", point))
    }

    /// Plots side by side: as even rows as possible, of at most four.
    fn columns(&self) -> usize {
        let n = self.functions.len();
        n.div_ceil(n.div_ceil(4))
    }

    fn rows(&self) -> usize {
        self.functions.len().div_ceil(self.columns())
    }

    fn height(&self) -> i32 {
        let ratio = (self.y_range.1 - self.y_range.0) / (self.x_range.1 - self.x_range.0);
        (f64::from(CELL) * ratio.clamp(0.5, 1.6)) as i32
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let (columns, rows) = (self.columns() as i32, self.rows() as i32);
        (LEFT + columns * (CELL + GAP) + BAR, rows * (self.height() + NAME + GAP) + BOTTOM)
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let (columns, height, unit) = (self.columns(), self.height(), self.unit());
        let name_style = style::text(style::LABEL).pos(Pos::new(HPos::Center, VPos::Center));
        for (index, function) in self.functions.iter().enumerate() {
            let (row, column) = ((index / columns) as i32, (index % columns) as i32);
            // Numbers only on the outside of the array of plots.
            let left = if column == 0 { LEFT } else { 0 };
            let bottom = if index + columns < self.functions.len() { 0 } else { BOTTOM };
            let (x, y) = (LEFT + column * (CELL + GAP), row * (height + NAME + GAP) + NAME);
            let cell = area.clone().shrink(
                ((x - left) * UNIT, y * UNIT),
                ((CELL + left) * UNIT, (height + bottom) * UNIT),
            );
            area.draw_text(function.name, &name_style, ((x + CELL / 2) * UNIT, (y - 11) * UNIT))?;
            self.plot(&cell, (left, bottom), function.values, unit)?;
        }
        let whole = self.rows() as i32 * (height + NAME + GAP) - GAP - NAME;
        let tall = whole.min(220);
        let x = LEFT + columns as i32 * (CELL + GAP);
        let place = ((x + 2) * UNIT, (NAME + (whole - tall) / 2) * UNIT);
        let bar = area.clone().shrink(place, (52 * UNIT, tall * UNIT));
        let (x, y) = (Axis::linear((0.0, 1.0), 2, ""), Axis::linear((-unit, unit), 5, ""));
        let mut bar = plot(&bar, x, y, (40, 0))?;
        bar.draw_series(levels().take(2 * BANDS as usize).map(|(_, level)| {
            // Over what the last has painted: no seams.
            Rectangle::new([(0.0, level * unit), (1.0, unit)], above(level).filled())
        }))?;
        Ok(())
    }

    /// The value of the strongest colour: the 99th percentile of |ψ| over all functions.
    fn unit(&self) -> f64 {
        let sizes = self.functions.iter().flat_map(|f| f.values.iter().map(|v| v.abs()));
        let mut sizes: Vec<f64> = sizes.filter(|v| *v > 1e-99).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.get(sizes.len() * 99 / 100).copied().unwrap_or(1.0)
    }

    fn plot(&self, area: &Area<'_>, room: (i32, i32), values: &[f64], unit: f64) -> Result<()> {
        let (x, y) = (Axis::linear(self.x_range, 5, ""), Axis::linear(self.y_range, 5, ""));
        let (across, up) = (x.range(), y.range());
        let (nx, ny) = self.shape;
        // The builder takes values for the centres of cells of width 1 that begin at the origin.
        let step_x = (across.end - across.start) / (nx - 1) as f64;
        let step_y = (up.end - up.start) / (ny - 1) as f64;
        let builder = ContourBuilder::new(nx, ny, true)
            .x_step(step_x)
            .y_step(step_y)
            .x_origin(across.start - 0.5 * step_x)
            .y_origin(up.start - 0.5 * step_y);
        let inside =
            |x: f64, y: f64| (x.clamp(across.start, across.end), y.clamp(up.start, up.end));
        let near = |a: f64, b: f64, step: f64| (a - b).abs() < 1e-6 * step;
        let framed = |&(x, y): &(f64, f64)| {
            let side = near(x, across.start, step_x) || near(x, across.end, step_x);
            side || near(y, up.start, step_y) || near(y, up.end, step_y)
        };
        let mut plot = plot(area, x, y, room)?;
        let corners = [(across.start, up.start), (across.end, up.end)];
        plot.draw_series([Rectangle::new(corners, diverging(-1.0).filled())])?;
        let thresholds: Vec<f64> = levels().map(|(_, level)| level * unit).collect();
        let mut strokes = Vec::new();
        let lines = builder.lines(values, &thresholds).map_err(undrawn)?;
        for (line, (index, level)) in lines.iter().zip(levels()) {
            let mut outline = Vec::new();
            for ring in &line.geometry().0 {
                let ring: Vec<_> = ring.0.iter().map(|p| inside(p.x, p.y)).collect();
                // Rings round holes turn the other way: one outline through a common point fills
                // all rings but the holes, and the ways to that point and back cancel.
                outline.extend_from_slice(&ring);
                outline.push(*outline.first().unwrap_or(&corners[0]));
                if index % 3 == 0 {
                    let (opacity, width) = if index == 0 { (0.75, 5) } else { (0.22, 3) };
                    let style = INK.mix(opacity).stroke_width(width);
                    // Not along the frame, where the rings are closed.
                    let runs = ring.chunk_by(|a, b| !(framed(a) && framed(b)));
                    let runs = runs.filter(|run| run.len() > 1);
                    strokes.extend(runs.map(|run| PathElement::new(run.to_vec(), style)));
                }
            }
            plot.draw_series([Polygon::new(outline, above(level).filled())])?;
        }
        plot.draw_series(strokes)?;
        let within = |p: &&[f64; 2]| inside(p[0], p[1]) == (p[0], p[1]);
        let stride = self.points.len().div_ceil(MOST_POINTS).max(1);
        let points = self.points.iter().step_by(stride).filter(within);
        plot.draw_series(points.map(|p| Circle::new((p[0], p[1]), UNIT, INK.mix(0.35).filled())))?;
        plot.draw_series([Rectangle::new(corners, AXIS.stroke_width(UNIT as u32))])?;
        Ok(())
    }
}
