//! Points in their first three coordinates as pairwise plots, coloured by class or by value.

use std::collections::BTreeSet;

use super::axes::{Mark, Plot, Scale, colour_bar, legend, range};
use super::canvas::{Canvas, Rect};
use super::colour::{class, hex, sequential};
use super::text::{self, LABEL};
use super::{Colouring, FigureError, Result, Scatter, check_length, check_values};

const CELL: f64 = 340.0;
const GAP: f64 = 14.0;
const LEGEND: f64 = 30.0;
const BAR: f64 = 84.0;
/// More points than this are thinned evenly: a figure of them would be a blot of megabytes.
const MOST_POINTS: usize = 4000;

/// The colours of all points, resolved.
enum Colours {
    One,
    Classes { of_point: Vec<usize>, names: Vec<String> },
    Values { name: String, fraction: Vec<f64>, scale: Scale },
}

impl Scatter<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let Some(first) = self.coordinates.first() else {
            return Err(FigureError::Empty { what: "coordinates of points" });
        };
        if first.values.is_empty() {
            return Err(FigureError::Empty { what: "points" });
        }
        for series in self.coordinates.iter().take(3) {
            check_length(series.name, first.values.len(), series.values.len())?;
            check_values(series.name, series.values)?;
        }
        match self.colouring {
            Colouring::None => Ok(()),
            Colouring::Labels(labels) => check_length("labels", first.values.len(), labels.len()),
            Colouring::Values(name, values) => {
                check_length(name, first.values.len(), values.len())?;
                check_values(name, values)
            }
        }
    }

    /// The pairs of coordinates that are drawn; a lone coordinate is drawn against the position.
    fn pairs(&self) -> &'static [(usize, usize)] {
        match self.coordinates.len() {
            0 | 1 => &[(0, 0)],
            2 => &[(0, 1)],
            _ => &[(0, 1), (0, 2), (1, 2)],
        }
    }

    /// The number of plots: one or three.
    pub(super) fn plots(&self) -> usize {
        self.pairs().len()
    }

    /// Room on the right for a colour bar.
    pub(super) fn bar_width(&self) -> f64 {
        if matches!(self.colours(), Colours::Values { .. }) { BAR } else { 0.0 }
    }

    fn points(&self) -> usize {
        self.coordinates.first().map_or(0, |s| s.values.len())
    }

    pub(super) fn size(&self) -> (f64, f64) {
        let plots = self.pairs().len() as f64;
        let cell = if plots == 1.0 { 460.0 } else { CELL };
        (plots * cell + (plots - 1.0) * GAP + self.bar_width(), cell + LEGEND)
    }

    /// The subtitle, with a word on thinning where there was any.
    pub(super) fn full_subtitle(&self) -> String {
        let count = self.points();
        if count <= MOST_POINTS {
            return self.subtitle.to_string();
        }
        let note = format!("{} of {count} points shown", count.div_ceil(self.stride()));
        if self.subtitle.is_empty() { note } else { format!("{}; {note}", self.subtitle) }
    }

    fn stride(&self) -> usize {
        self.points().div_ceil(MOST_POINTS).max(1)
    }

    fn colours(&self) -> Colours {
        let by_value = |name: &str, values: &[f64]| {
            let (low, high) = range(values.iter().copied());
            let scale = Scale::linear(low, high, 5);
            let fraction = values.iter().map(|v| scale.fraction(*v)).collect();
            Colours::Values { name: name.to_string(), fraction, scale }
        };
        match self.colouring {
            Colouring::None => Colours::One,
            Colouring::Values(name, values) => by_value(name, values),
            Colouring::Labels(labels) => {
                let distinct: Vec<i64> =
                    labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
                if distinct.len() > 10 {
                    return by_value(
                        "label",
                        &labels.iter().map(|l| *l as f64).collect::<Vec<_>>(),
                    );
                }
                let place = |l: &i64| distinct.binary_search(l).unwrap_or(0);
                let of_point = labels.iter().map(place).collect();
                let names = distinct.iter().map(|l| l.to_string().replace('-', "−")).collect();
                Colours::Classes { of_point, names }
            }
        }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let plots = self.plots() as f64;
        let bar = self.bar_width();
        let width = (area.width - bar - (plots - 1.0) * GAP) / plots;
        let cells: Vec<Rect> = (0..self.plots())
            .map(|column| Rect { x: area.x + column as f64 * (width + GAP), width, ..area })
            .collect();
        self.draw_in(canvas, &cells, Rect { x: area.right() - bar, width: bar, ..area });
    }

    /// One plot into each of `cells`, the legend of classes above the last cell of the first row,
    /// the colour bar of values into `bar`.
    pub(super) fn draw_in(&self, canvas: &mut Canvas, cells: &[Rect], bar: Rect) {
        let colours = self.colours();
        let top = if matches!(colours, Colours::Classes { .. }) { LEGEND } else { 12.0 };
        for (cell, pair) in cells.iter().zip(self.pairs()) {
            let frame = Rect {
                x: cell.x + 56.0,
                y: cell.y + top,
                width: cell.width - 62.0,
                height: cell.height - top - 46.0,
            };
            self.plot(canvas, frame, *pair, &colours);
        }
        let Some(first) = cells.first() else { return };
        match &colours {
            Colours::One => {}
            Colours::Classes { names, .. } => {
                let entries: Vec<_> = names
                    .iter()
                    .enumerate()
                    .map(|(c, name)| (Mark::Disc(class(c)), name.as_str()))
                    .collect();
                let row = cells.iter().filter(|c| c.y == first.y);
                let right = row.fold(first.right(), |far, c| far.max(c.right())) - 6.0;
                legend(canvas, first.x, right, first.y + 10.0, &entries);
            }
            Colours::Values { name, scale, .. } => {
                let frame_height = bar.height - top - 46.0;
                let height = (0.7 * frame_height).clamp(80.0, 300.0);
                let place = Rect {
                    x: bar.x + 18.0,
                    y: bar.y + top + 0.5 * (frame_height - height),
                    width: 12.0,
                    height,
                };
                let room = 2.0 * (bar.right() - place.right() - 8.0);
                let name = if text::width(name, LABEL) <= room { name.as_str() } else { "value" };
                colour_bar(canvas, place, scale, name, sequential);
            }
        }
    }

    fn plot(&self, canvas: &mut Canvas, frame: Rect, (i, j): (usize, usize), colours: &Colours) {
        let horizontal = &self.coordinates[i];
        let positions: Vec<f64>;
        let (vertical, vertical_name) = if i == j {
            positions = (1..=self.points()).map(|p| p as f64).collect();
            (positions.as_slice(), "point")
        } else {
            (self.coordinates[j].values, self.coordinates[j].name)
        };
        let (x_range, y_range) =
            (range(horizontal.values.iter().copied()), range(vertical.iter().copied()));
        let plot = Plot {
            frame,
            x: Scale::padded(x_range.0, x_range.1, 5),
            y: Scale::padded(y_range.0, y_range.1, 5),
        };
        plot.grid(canvas, true);
        plot.zero_lines(canvas);
        plot.labels(canvas, horizontal.name, vertical_name);
        let stride = self.stride();
        let drawn = self.points().div_ceil(stride);
        let radius = if drawn > 2000 {
            1.9
        } else if drawn > 500 {
            2.4
        } else {
            3.2
        };
        for p in (0..self.points()).step_by(stride) {
            let blend;
            let fill = match colours {
                Colours::One => class(0),
                Colours::Classes { of_point, .. } => class(of_point[p]),
                Colours::Values { fraction, .. } => {
                    blend = hex(sequential(fraction[p]));
                    &blend
                }
            };
            canvas.disc(plot.at(horizontal.values[p], vertical[p]), radius, fill, 0.75);
        }
    }
}
