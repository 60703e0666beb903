//! Axes: scales with round ticks, the grid, the frame of a plot, legends and colour bars.

use super::canvas::{Canvas, Picture, Rect, Stroke};
use super::colour::{AXIS, GRID, ZERO};
use super::text::{self, Anchor, LABEL, TICK};

/// A linear map from values to pixels with labelled ticks.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale that spans `low … high` with about `wanted` ticks at round values. A span too narrow
    /// for double precision is widened.
    pub(super) fn linear(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = widen(low, high);
        let step = round_step((high - low) / wanted.max(1) as f64);
        let first = (low / step - 1e-9).ceil();
        let ticks = (0..=4 * wanted.max(1))
            .map(|i| (first + i as f64) * step)
            .take_while(|v| *v <= high + 1e-9 * step)
            .map(|v| (v, text::number(v, step)))
            .collect();
        Scale { low, high, ticks }
    }

    /// As [`linear`](Scale::linear), the span grown by 4 % on both sides.
    pub(super) fn padded(low: f64, high: f64, wanted: usize) -> Self {
        let (low, high) = widen(low, high);
        let pad = 0.04 * (high - low);
        Scale::linear(low - pad, high + pad, wanted)
    }

    /// Whole numbers 1 … count, half a unit of room on both sides.
    pub(super) fn ordinal(count: usize, wanted: usize) -> Self {
        let step = round_step(count as f64 / wanted.max(1) as f64).ceil().max(1.0) as usize;
        let ticks = (1..=count)
            .filter(|i| step == 1 || i % step == 0 || *i == 1)
            .map(|i| (i as f64, i.to_string()))
            .collect();
        Scale { low: 0.4, high: count as f64 + 0.6, ticks }
    }

    /// A logarithmic axis that spans the decimal exponents `low … high`, labelled at powers of ten
    /// and, over less than two decades, at 2 and 5 times these.
    pub(super) fn exponents(low: f64, high: f64, wanted: usize) -> Self {
        let step = ((high - low) / wanted.max(1) as f64).ceil().max(1.0);
        let factors: &[f64] = if high - low < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = (high / step).floor() * step;
        while power > low - 1.0 {
            for factor in factors {
                let value = power + factor.log10();
                if (low..=high).contains(&value) {
                    let ten = text::power_of_ten(power as i32);
                    let label = if *factor == 1.0 { ten } else { format!("{factor}×{ten}") };
                    ticks.push((value, label));
                }
            }
            power -= step;
        }
        Scale { low, high, ticks }
    }

    /// Position of a value, 0 at the low end and 1 at the high end.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn contains(&self, value: f64) -> bool {
        self.low < value && value < self.high
    }
}

/// A plot: a frame and a scale for each direction.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) frame: Rect,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Plot {
    /// Pixel of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.frame.x + self.x.fraction(x) * self.frame.width,
            self.frame.bottom() - self.y.fraction(y) * self.frame.height,
        )
    }

    /// Grid lines, a stronger one at zero where zero is inside, and the bottom line.
    pub(super) fn grid(&self, canvas: &mut Canvas, vertical: bool) {
        let (frame, grid) = (self.frame, Stroke::solid(GRID, 1.0));
        if vertical {
            for (value, _) in &self.x.ticks {
                let x = self.at(*value, self.y.low).0;
                canvas.line((x, frame.y), (x, frame.bottom()), grid);
            }
        }
        for (value, _) in &self.y.ticks {
            let y = self.at(self.x.low, *value).1;
            canvas.line((frame.x, y), (frame.right(), y), grid);
        }
    }

    /// A stronger line at zero, where zero is inside.
    pub(super) fn zero_lines(&self, canvas: &mut Canvas) {
        let (frame, zero) = (self.frame, Stroke::solid(ZERO, 1.0));
        if self.y.contains(0.0) {
            let y = self.at(self.x.low, 0.0).1;
            canvas.line((frame.x, y), (frame.right(), y), zero);
        }
        if self.x.contains(0.0) {
            let x = self.at(0.0, self.y.low).0;
            canvas.line((x, frame.y), (x, frame.bottom()), zero);
        }
    }

    /// Bottom line, tick labels and axis labels.
    pub(super) fn labels(&self, canvas: &mut Canvas, x_label: &str, y_label: &str) {
        let (frame, axis) = (self.frame, Stroke::solid(AXIS, 1.0));
        canvas.line((frame.x, frame.bottom()), (frame.right(), frame.bottom()), axis);
        for (value, label) in &self.x.ticks {
            let x = self.at(*value, self.y.low).0;
            canvas.line((x, frame.bottom()), (x, frame.bottom() + 4.0), axis);
            canvas.text(x, frame.bottom() + 18.0, label, TICK.anchored(Anchor::Middle));
        }
        let mut widest = 0f64;
        for (value, label) in &self.y.ticks {
            let y = self.at(self.x.low, *value).1;
            canvas.text(frame.x - 8.0, y + 4.0, label, TICK.anchored(Anchor::End));
            widest = widest.max(text::width(label, TICK));
        }
        let centre = frame.x + 0.5 * frame.width;
        canvas.text(centre, frame.bottom() + 38.0, x_label, LABEL.anchored(Anchor::Middle));
        let (x, y) = (frame.x - widest - 20.0, frame.y + 0.5 * frame.height);
        canvas.text_upwards(x, y, y_label, LABEL.anchored(Anchor::Middle));
    }
}

/// The mark of a legend entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark<'a> {
    Line(Stroke<'a>),
    Disc(&'a str),
    Bar(&'a str),
    Triangle(&'a str),
}

/// A row of legend entries that ends at `right`, centred on the height `y`. Entries that would
/// begin left of `left` are left out.
pub(super) fn legend(
    canvas: &mut Canvas,
    left: f64,
    right: f64,
    y: f64,
    entries: &[(Mark<'_>, &str)],
) {
    let length = |mark: &Mark<'_>| if matches!(mark, Mark::Line(_)) { 22.0 } else { 10.0 };
    let widths: Vec<f64> = entries
        .iter()
        .map(|(mark, name)| length(mark) + 6.0 + 1.04 * text::width(name, LABEL) + 16.0)
        .collect();
    let mut shown = 0;
    let mut total = -16.0;
    while shown < entries.len() && total + widths[shown] <= right - left {
        total += widths[shown];
        shown += 1;
    }
    let mut x = right - total;
    for ((mark, name), width) in entries.iter().zip(&widths).take(shown) {
        let long = length(mark);
        match mark {
            Mark::Line(stroke) => canvas.line((x, y), (x + long, y), *stroke),
            Mark::Disc(colour) => canvas.disc((x + 5.0, y), 4.5, colour, 1.0),
            Mark::Bar(colour) => canvas.line((x, y), (x + 10.0, y), Stroke::solid(colour, 2.0)),
            Mark::Triangle(colour) => canvas.triangle_down((x + 5.0, y + 4.0), 8.0, colour),
        }
        canvas.text(x + long + 6.0, y + 4.5, name, LABEL);
        x += width;
    }
}

/// An upright colour bar with its ticks on the right; `colour` takes 0 … 1 from bottom to top.
pub(super) fn colour_bar(
    canvas: &mut Canvas,
    place: Rect,
    scale: &Scale,
    name: &str,
    colour: impl Fn(f64) -> [u8; 3],
) {
    const ROWS: u32 = 128;
    let pixels = (0..ROWS).map(|i| colour(1.0 - (f64::from(i) + 0.5) / f64::from(ROWS))).collect();
    canvas.pictures.push(Picture { place, columns: 1, rows: ROWS, pixels });
    for (value, label) in &scale.ticks {
        let y = place.bottom() - scale.fraction(*value) * place.height;
        canvas.line((place.right(), y), (place.right() + 4.0, y), Stroke::solid(AXIS, 1.0));
        canvas.text(place.right() + 8.0, y + 4.0, label, TICK);
    }
    canvas.text(place.right() + 8.0, place.y - 10.0, name, LABEL.anchored(Anchor::Middle));
}

/// Least and largest of finite values; 0 … 1 without any.
pub(super) fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let mut out: Option<(f64, f64)> = None;
    for v in values {
        out = Some(out.map_or((v, v), |(low, high)| (low.min(v), high.max(v))));
    }
    out.unwrap_or((0.0, 1.0))
}

/// A span that double precision can divide into ticks.
fn widen(low: f64, high: f64) -> (f64, f64) {
    let magnitude = low.abs().max(high.abs());
    let least = (1e-6 * magnitude).max(1e-100);
    if high - low >= least {
        (low, high)
    } else {
        let half = if magnitude > 0.0 { 0.05 * magnitude + least } else { 1.0 };
        (0.5 * (low + high) - half, 0.5 * (low + high) + half)
    }
}

/// The round number 1, 2 or 5 × 10ⁿ nearest to `step` in ratio.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let distance = |round: &f64| (round * power / step).ln().abs();
    let nearest =
        [1.0, 2.0, 5.0, 10.0].into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.unwrap_or(1.0) * power
}
