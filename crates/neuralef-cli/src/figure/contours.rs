//! Functions of two variables: coloured small multiples with contour lines, the zero line strong.

use std::collections::HashMap;

use super::axes::{Plot, Scale, colour_bar, range};
use super::canvas::{Canvas, Picture, Rect, Stroke};
use super::colour::{AXIS, INK, diverging};
use super::text::{Anchor, LABEL};
use super::{Contours, FigureError, Result, check_length, check_values};

const CELL: f64 = 196.0;
const COMPACT_CELL: f64 = 160.0;
const GAP: f64 = 22.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 26.0;
const NAME: f64 = 22.0;
const BAR: f64 = 72.0;
/// Pixels of a picture along its longer side; the colours between grid points are interpolated.
const PIXELS: f64 = 160.0;
/// Contour levels on either side of zero.
const LEVELS: i32 = 4;
const MOST_POINTS: usize = 1500;

impl Contours<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.functions.is_empty() {
            return Err(FigureError::Empty { what: "functions of two variables" });
        }
        let (nx, ny) = self.shape;
        if nx < 2 || ny < 2 {
            return Err(FigureError::Empty { what: "a grid of at least 2 × 2 points" });
        }
        check_values(
            "range of the grid",
            &[self.x_range.0, self.x_range.1, self.y_range.0, self.y_range.1],
        )?;
        if !(self.x_range.0 < self.x_range.1 && self.y_range.0 < self.y_range.1) {
            return Err(FigureError::Empty { what: "a grid of positive width and height" });
        }
        for function in self.functions {
            check_length(function.name, nx.saturating_mul(ny), function.values.len())?;
            check_values(function.name, function.values)?;
        }
        for point in self.points {
            check_values("data points", point)?;
        }
        Ok(())
    }

    /// Plots side by side: as even rows as possible, of at most five, or four when `compact`.
    fn columns(&self, compact: bool) -> usize {
        let n = self.functions.len();
        let most = if compact { 4 } else { 5 };
        if n <= 4 { n } else { n.div_ceil(n.div_ceil(most)) }
    }

    fn cell(&self, compact: bool) -> (f64, f64) {
        let ratio = (self.y_range.1 - self.y_range.0) / (self.x_range.1 - self.x_range.0);
        let width = if compact { COMPACT_CELL } else { CELL };
        (width, width * ratio.clamp(0.5, 1.6))
    }

    pub(super) fn size(&self, compact: bool) -> (f64, f64) {
        let columns = self.columns(compact);
        let rows = self.functions.len().div_ceil(columns);
        let (width, height) = self.cell(compact);
        (LEFT + columns as f64 * (width + GAP) + BAR, rows as f64 * (height + NAME + GAP) + BOTTOM)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect, compact: bool) {
        let columns = self.columns(compact);
        let count = self.functions.len();
        let (width, height) = self.cell(compact);
        let unit = self.unit();
        for (index, function) in self.functions.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let frame = Rect {
                x: area.x + LEFT + column as f64 * (width + GAP),
                y: area.y + row as f64 * (height + NAME + GAP) + NAME,
                width,
                height,
            };
            let plot = Plot {
                frame,
                x: Scale::linear(self.x_range.0, self.x_range.1, 3),
                y: Scale::linear(self.y_range.0, self.y_range.1, 3),
            };
            canvas.pictures.push(self.picture(frame, function.values, unit));
            self.lines(canvas, frame, function.values, unit);
            for point in self.points.iter().step_by(self.points.len().div_ceil(MOST_POINTS).max(1))
            {
                let (x, y) = plot.at(point[0], point[1]);
                let inside = (frame.x..=frame.right()).contains(&x)
                    && (frame.y..=frame.bottom()).contains(&y);
                if inside {
                    canvas.disc((x, y), 1.0, INK, 0.35);
                }
            }
            canvas.rectangle(frame, "none", Some(Stroke::solid(AXIS, 1.0)));
            let centre = frame.x + 0.5 * width;
            canvas.text(centre, frame.y - 7.0, function.name, LABEL.anchored(Anchor::Middle));
            // Ticks only on the outside of the array of plots.
            let mut outside = plot;
            if column > 0 {
                outside.y.ticks.clear();
            }
            if index + columns < count {
                outside.x.ticks.clear();
            }
            outside.labels(canvas, "", "");
        }
        let rows = count.div_ceil(columns) as f64;
        let whole = rows * (height + NAME + GAP) - GAP - NAME;
        let tall = whole.min(220.0);
        let place = Rect {
            x: area.x + LEFT + columns as f64 * (width + GAP) + 6.0,
            y: area.y + NAME + 0.5 * (whole - tall),
            width: 12.0,
            height: tall,
        };
        let scale = Scale::linear(-unit, unit, 4);
        colour_bar(canvas, place, &scale, "", |t| diverging(2.0 * t - 1.0));
    }

    /// The value of the strongest colour: the 99th percentile of |ψ| over all functions.
    fn unit(&self) -> f64 {
        let mut sizes: Vec<f64> =
            self.functions.iter().flat_map(|f| f.values.iter().map(|v| v.abs())).collect();
        sizes.sort_by(f64::total_cmp);
        let index = (0.99 * sizes.len() as f64) as usize;
        let high = sizes.get(index.min(sizes.len().saturating_sub(1))).copied().unwrap_or(1.0);
        let (_, largest) = range(sizes.iter().copied());
        if high > 0.0 {
            high
        } else if largest > 0.0 {
            largest
        } else {
            1.0
        }
    }

    /// Colours by bilinear interpolation between grid points, top row first.
    fn picture(&self, place: Rect, values: &[f64], unit: f64) -> Picture {
        let (nx, ny) = self.shape;
        let longer = place.width.max(place.height);
        let columns = (PIXELS * place.width / longer).round().max(1.0) as u32;
        let rows = (PIXELS * place.height / longer).round().max(1.0) as u32;
        let split = |pixel: u32, pixels: u32, points: usize| {
            let position = (f64::from(pixel) + 0.5) / f64::from(pixels) * (points - 1) as f64;
            let low = (position.floor() as usize).min(points - 2);
            (low, position - low as f64)
        };
        let mut pixels = Vec::with_capacity(columns as usize * rows as usize);
        for row in 0..rows {
            let (y0, ty) = split(rows - 1 - row, rows, ny);
            for column in 0..columns {
                let (x0, tx) = split(column, columns, nx);
                let at = |x: usize, y: usize| values[y * nx + x] / unit;
                let low = at(x0, y0) + tx * (at(x0 + 1, y0) - at(x0, y0));
                let high = at(x0, y0 + 1) + tx * (at(x0 + 1, y0 + 1) - at(x0, y0 + 1));
                pixels.push(diverging(low + ty * (high - low)));
            }
        }
        Picture { place, columns, rows, pixels }
    }

    fn lines(&self, canvas: &mut Canvas, frame: Rect, values: &[f64], unit: f64) {
        let (nx, ny) = self.shape;
        let pixel = |(x, y): (f64, f64)| {
            (
                frame.x + x / (nx - 1) as f64 * frame.width,
                frame.bottom() - y / (ny - 1) as f64 * frame.height,
            )
        };
        for level in -LEVELS..=LEVELS {
            let value = f64::from(level) / f64::from(LEVELS) * unit;
            let stroke = if level == 0 {
                Stroke { opacity: 0.75, ..Stroke::solid(INK, 1.2) }
            } else {
                Stroke { opacity: 0.22, ..Stroke::solid(INK, 0.8) }
            };
            for path in isolines(values, nx, ny, value) {
                let path: Vec<_> = path.into_iter().map(pixel).collect();
                canvas.polyline(&path, stroke);
            }
        }
    }
}

/// An edge of the grid: from grid point (x, y) to the right (`false`) or upwards (`true`).
type Edge = (usize, usize, bool);

/// The lines on which the bilinear surface through `values` meets `level`, in grid units: marching
/// squares with the saddle decided by the mean of the four corners, segments joined into paths.
/// Closed paths end where they begin.
pub(super) fn isolines(values: &[f64], nx: usize, ny: usize, level: f64) -> Vec<Vec<(f64, f64)>> {
    let at = |x: usize, y: usize| values[y * nx + x] - level;
    let mut next: HashMap<Edge, [Option<Edge>; 2]> = HashMap::new();
    let mut order: Vec<Edge> = Vec::new();
    let mut join = |a: Edge, b: Edge| {
        for (from, to) in [(a, b), (b, a)] {
            let slots = next.entry(from).or_insert_with(|| {
                order.push(from);
                [None; 2]
            });
            if slots[0].is_none() {
                slots[0] = Some(to);
            } else {
                slots[1] = Some(to);
            }
        }
    };
    for y in 0..ny.saturating_sub(1) {
        for x in 0..nx.saturating_sub(1) {
            let corners = [at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)];
            let high = corners.map(|v| v >= 0.0);
            let edges: [Edge; 4] =
                [(x, y, false), (x + 1, y, true), (x, y + 1, false), (x, y, true)];
            let crossed: Vec<usize> = (0..4).filter(|e| high[*e] != high[(*e + 1) % 4]).collect();
            match crossed[..] {
                [a, b] => join(edges[a], edges[b]),
                [_, _, _, _] => {
                    let middle = corners.iter().sum::<f64>() >= 0.0;
                    // Cut off the corners that differ from the middle: corner c lies between
                    // edges c − 1 and c.
                    if high[0] == middle {
                        join(edges[0], edges[1]);
                        join(edges[2], edges[3]);
                    } else {
                        join(edges[3], edges[0]);
                        join(edges[1], edges[2]);
                    }
                }
                _ => {}
            }
        }
    }
    let point = |(x, y, up): Edge| {
        let (a, b) = (at(x, y), if up { at(x, y + 1) } else { at(x + 1, y) });
        let t = (a / (a - b)).clamp(0.0, 1.0);
        if up { (x as f64, y as f64 + t) } else { (x as f64 + t, y as f64) }
    };
    let mut done: HashMap<Edge, bool> = HashMap::new();
    let mut paths = Vec::new();
    // Open paths first, from their ends; what is left then is closed.
    let ends = order.iter().filter(|e| next.get(e).is_some_and(|s| s[1].is_none()));
    let starts: Vec<Edge> = ends.chain(order.iter()).copied().collect();
    for start in starts {
        if done.contains_key(&start) {
            continue;
        }
        let mut path = vec![point(start)];
        done.insert(start, true);
        let mut here = start;
        while let Some(slots) = next.get(&here) {
            let onward = slots.iter().flatten().find(|e| !done.contains_key(*e));
            match onward {
                Some(edge) => {
                    here = *edge;
                    done.insert(here, true);
                    path.push(point(here));
                }
                None => {
                    if path.len() > 2 && slots.iter().flatten().any(|e| *e == start) {
                        path.push(point(start));
                    }
                    break;
                }
            }
        }
        paths.push(path);
    }
    paths
}
