//! Functions of one variable, at most five to a plot, references dashed over them.

use plotters::prelude::*;

use super::axes::{Area, Axis, Mark, legend, plot, range, zero_lines};
use super::style::{INK, UNIT, class};
use super::{Curves, FigureError, Result, check_series, check_values};

const PER_PLOT: usize = 5;

impl Curves<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.series.is_empty() {
            return Err(FigureError::Empty { what: "curves" });
        }
        if self.x.is_empty() {
            return Err(FigureError::Empty { what: "abscissas of curves" });
        }
        check_values(self.x_label, self.x)?;
        check_series(self.series, self.x.len())?;
        check_series(self.reference, self.x.len())
    }

    /// Plots, one above the other.
    fn plots(&self) -> usize {
        self.series.len().div_ceil(PER_PLOT)
    }

    pub(super) fn size(&self) -> (i32, i32) {
        if self.plots() == 1 { (680, 412) } else { (560, 310 * self.plots() as i32) }
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let members = self.series.len().div_ceil(self.plots());
        let shown = self.series.iter().chain(self.reference.iter().take(self.series.len()));
        let (low, high) = range(shown.flat_map(|s| s.values.iter().copied()));
        let trace =
            |values: &[f64]| self.x.iter().copied().zip(values.to_vec()).collect::<Vec<_>>();
        for (index, cell) in area.split_evenly((self.plots(), 1)).iter().enumerate() {
            let cell = cell.margin(0, 0, 0, 6 * UNIT);
            let x = Axis::linear(range(self.x.iter().copied()), 9, self.x_label);
            let y = Axis::around([low, high].into_iter(), 7, "");
            let mut plot = plot(&cell.margin(26 * UNIT, 18 * UNIT, 0, 0), x, y, (46, 42))?;
            zero_lines(&mut plot)?;
            let mut entries = Vec::new();
            for (colour, series) in
                self.series.iter().skip(index * members).take(members).enumerate()
            {
                let style = class(colour).stroke_width(10);
                plot.draw_series(LineSeries::new(trace(series.values), style))?;
                entries.push((Mark::Line, class(colour), series.name));
            }
            let mut named = None;
            for reference in self.reference.iter().skip(index * members).take(entries.len()) {
                let (points, style) = (trace(reference.values), INK.stroke_width(5));
                plot.draw_series(DashedLineSeries::new(points, 5 * UNIT, 4 * UNIT, style))?;
                named = Some((Mark::Dashes, INK, reference.name));
            }
            entries.extend(named);
            legend(&cell, &entries)?;
        }
        Ok(())
    }
}
