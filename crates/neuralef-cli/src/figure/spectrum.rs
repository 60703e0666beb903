//! Eigenvalues on a logarithmic axis, error bars of one standard error, references as bars.

use super::axes::{Mark, Plot, Scale, legend, range};
use super::canvas::{Canvas, Rect, Stroke};
use super::colour::{AXIS, INK, class};
use super::{FigureError, Result, Spectrum, check_length, check_values};

impl Spectrum<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let values = self.eigenvalues.values;
        if values.is_empty() {
            return Err(FigureError::Empty { what: "eigenvalues" });
        }
        check_values(self.eigenvalues.name, values)?;
        if !values.iter().any(|v| *v > 0.0) {
            return Err(FigureError::Empty { what: "positive eigenvalues" });
        }
        if !self.standard_errors.is_empty() {
            check_length("standard errors", values.len(), self.standard_errors.len())?;
            check_values("standard errors", self.standard_errors)?;
        }
        if let Some(reference) = &self.reference {
            check_values(reference.name, reference.values)?;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> (f64, f64) {
        (560.0, 400.0)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let values = self.eigenvalues.values;
        let reference = self.reference.map_or(&[][..], |r| r.values);
        let shown = values.iter().chain(reference.iter().take(values.len()));
        let (low, high) = range(shown.filter(|v| **v > 0.0).map(|v| v.log10()));
        let plot = Plot {
            frame: Rect {
                x: area.x + 62.0,
                y: area.y + 26.0,
                width: area.width - 68.0,
                height: area.height - 72.0,
            },
            x: Scale::ordinal(values.len(), 12),
            y: Scale::exponents(low - 0.3, high + 0.3, 7),
        };
        plot.grid(canvas, false);
        plot.labels(canvas, "index j", "eigenvalue μ");
        let floor = plot.frame.bottom();
        let spacing = plot.frame.width / (values.len() as f64 + 0.2);
        let radius = (0.3 * spacing).clamp(1.2, 4.5);
        let half = (0.36 * spacing).clamp(1.5, 11.0);
        let height = |value: f64| {
            if value > 0.0 { plot.at(1.0, value.log10()).1.min(floor) } else { floor }
        };
        for (j, value) in reference.iter().enumerate().take(values.len()) {
            if *value > 0.0 {
                let (x, y) = (plot.at((j + 1) as f64, 0.0).0, height(*value));
                canvas.line((x - half, y), (x + half, y), Stroke::solid(INK, 2.0));
            }
        }
        let colour = class(0);
        let mut below = false;
        for (j, value) in values.iter().enumerate() {
            let x = plot.at((j + 1) as f64, 0.0).0;
            if *value <= 0.0 {
                canvas.triangle_down((x, floor - 1.0), 2.0 * radius, class(4));
                below = true;
                continue;
            }
            if let Some(error) = self.standard_errors.get(j).map(|e| e.abs()) {
                let (top, bottom) = (height(value + error), height(value - error));
                let top = top.max(plot.frame.y);
                canvas.line((x, top), (x, bottom), Stroke::solid(colour, 1.6));
                for y in [top, bottom] {
                    if y < floor {
                        let cap = 0.6 * half;
                        canvas.line((x - cap, y), (x + cap, y), Stroke::solid(colour, 1.6));
                    }
                }
            }
            canvas.disc((x, height(*value)), radius, colour, 1.0);
        }
        canvas.line((plot.frame.x, floor), (plot.frame.right(), floor), Stroke::solid(AXIS, 1.0));
        let mut entries = vec![(Mark::Disc(colour), self.eigenvalues.name)];
        entries.extend(self.reference.map(|r| (Mark::Bar(INK), r.name)));
        if below {
            entries.push((Mark::Triangle(class(4)), "zero or negative"));
        }
        let frame = plot.frame;
        legend(canvas, frame.x, frame.right(), frame.y - 14.0, &entries);
    }
}
