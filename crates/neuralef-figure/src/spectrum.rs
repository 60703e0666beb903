//! Eigenvalues on a logarithmic axis, error bars of one standard error, references as bars.

use plotters::prelude::*;

use super::axes::{Area, Axis, Mark, legend, plot, range};
use super::style::{INK, UNIT, class};
use super::{FigureError, Result, Spectrum, check_length, check_values};

impl Spectrum<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let values = self.eigenvalues.values;
        check_values(self.eigenvalues.name, values)?;
        if !values.iter().any(|v| *v > 0.0) {
            return Err(FigureError::Empty { what: "positive eigenvalues" });
        }
        if !self.standard_errors.is_empty() {
            check_length("standard errors", values.len(), self.standard_errors.len())?;
            check_values("standard errors", self.standard_errors)?;
        }
        self.reference.map_or(Ok(()), |r| check_values(r.name, r.values))
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let area = &area.margin(0, 0, 0, 6 * UNIT);
        let values = self.eigenvalues.values;
        let reference = self.reference.map_or(&[][..], |r| r.values);
        let reference = &reference[..reference.len().min(values.len())];
        let shown = values.iter().chain(reference).filter(|v| **v > 0.0);
        let (low, high) = range(shown.map(|v| v.log10()));
        let (low, high) = (low - 0.3, high + 0.3);
        // The logarithm, kept inside the plot.
        let height = |v: f64| if v > 0.0 { v.log10().clamp(low, high) } else { low };
        let place = |(j, v): (usize, &f64)| ((j + 1) as f64, *v);
        let (x, y) =
            (Axis::ordinal(values.len(), "index j"), Axis::powers(low, high, "eigenvalue μ"));
        let mut plot = plot(&area.margin(26 * UNIT, 0, 0, 0), x, y, (68, 42))?;
        let bars = reference.iter().enumerate().map(place).filter(|(_, v)| *v > 0.0);
        plot.draw_series(bars.map(|(x, v)| {
            PathElement::new([(x - 0.34, height(v)), (x + 0.34, height(v))], INK.stroke_width(8))
        }))?;
        let colour = class(0);
        let spacing = plot.plotting_area().dim_in_pixel().0 as f64 / (values.len() as f64 + 0.2);
        let diameter = (0.6 * spacing).clamp(10.0, 36.0) as u32;
        let errors = self.standard_errors.iter().chain(std::iter::repeat(&0.0));
        let positive =
            values.iter().enumerate().map(place).zip(errors).filter(|((_, v), _)| *v > 0.0);
        plot.draw_series(positive.map(|((x, v), error)| {
            let (below, above) = (height(v - error.abs()), height(v + error.abs()));
            let style = colour.filled().stroke_width(6);
            ErrorBar::new_vertical(x, below, height(v), above, style, diameter)
        }))?;
        let others = values.iter().enumerate().map(place).filter(|(_, v)| *v <= 0.0);
        let cross = |(x, _)| Cross::new((x, low), diameter / 3, class(4).stroke_width(9));
        plot.draw_series(others.map(cross))?;
        let mut entries = vec![(Mark::Disc, colour, self.eigenvalues.name)];
        entries.extend(self.reference.map(|r| (Mark::Line, INK, r.name)));
        if values.iter().any(|v| *v <= 0.0) {
            entries.push((Mark::Cross, class(4), "zero or negative"));
        }
        legend(area, &entries)
    }
}
