//! Functions of one variable, at most five to a plot, references dashed over them.

use super::axes::{Mark, Plot, Scale, legend, range};
use super::canvas::{Canvas, Rect, Stroke};
use super::colour::{INK, class};
use super::{Curves, FigureError, Result, check_length, check_values};

const PER_PLOT: usize = 5;
const GAP: f64 = 18.0;

impl Curves<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.series.is_empty() {
            return Err(FigureError::Empty { what: "curves" });
        }
        if self.x.is_empty() {
            return Err(FigureError::Empty { what: "abscissas of curves" });
        }
        check_values(self.x_label, self.x)?;
        for series in self.series.iter().chain(self.reference) {
            check_length(series.name, self.x.len(), series.values.len())?;
            check_values(series.name, series.values)?;
        }
        Ok(())
    }

    fn plots(&self) -> usize {
        self.series.len().div_ceil(PER_PLOT)
    }

    /// Width and height of the whole with at most `columns` plots side by side.
    pub(super) fn size(&self, columns: usize) -> (f64, f64) {
        if self.plots() == 1 {
            return (680.0, 400.0);
        }
        let rows = self.plots().div_ceil(columns) as f64;
        let (width, height) = if columns == 1 { (560.0, 280.0) } else { (470.0, 330.0) };
        (width * columns as f64, rows * (height + GAP) - GAP)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect, columns: usize) {
        let plots = self.plots();
        let per_plot = self.series.len().div_ceil(plots);
        let columns = plots.min(columns);
        let rows = plots.div_ceil(columns);
        let width = (area.width - GAP * (columns - 1) as f64) / columns as f64;
        let height = (area.height - GAP * (rows - 1) as f64) / rows as f64;
        let shown = self.series.iter().chain(self.reference.iter().take(self.series.len()));
        let values = range(shown.flat_map(|s| s.values.iter().copied()));
        let abscissas = range(self.x.iter().copied());
        for index in 0..plots {
            let first = index * per_plot;
            let cell = Rect {
                x: area.x + (index % columns) as f64 * (width + GAP),
                y: area.y + (index / columns) as f64 * (height + GAP),
                width,
                height,
            };
            let plot = Plot {
                frame: Rect {
                    x: cell.x + 46.0,
                    y: cell.y + 26.0,
                    width: cell.width - 52.0,
                    height: cell.height - 72.0,
                },
                x: Scale::linear(abscissas.0, abscissas.1, 6),
                y: Scale::padded(values.0, values.1, 5),
            };
            self.plot(canvas, &plot, first..(first + per_plot).min(self.series.len()));
        }
    }

    fn plot(&self, canvas: &mut Canvas, plot: &Plot, members: std::ops::Range<usize>) {
        plot.grid(canvas, true);
        plot.zero_lines(canvas);
        plot.labels(canvas, self.x_label, "");
        let trace = |values: &[f64]| -> Vec<(f64, f64)> {
            self.x.iter().zip(values).map(|(x, y)| plot.at(*x, *y)).collect()
        };
        let mut entries = Vec::new();
        for (colour, index) in members.clone().enumerate() {
            let stroke = Stroke::solid(class(colour), 2.4);
            canvas.polyline(&trace(self.series[index].values), stroke);
            entries.push((Mark::Line(stroke), self.series[index].name));
        }
        let dashed = Stroke { colour: INK, width: 1.1, opacity: 1.0, dashed: true };
        let mut named = None;
        for reference in self.reference.iter().skip(members.start).take(members.len()) {
            canvas.polyline(&trace(reference.values), dashed);
            named = Some(reference.name);
        }
        entries.extend(named.map(|name| (Mark::Line(dashed), name)));
        let frame = plot.frame;
        legend(canvas, frame.x, frame.right(), frame.y - 14.0, &entries);
    }
}
