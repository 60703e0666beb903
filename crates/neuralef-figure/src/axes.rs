//! Axes with round ticks, plots made of two of them, and legends.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::Canvas;
use super::style::{self, AXIS, GRID, UNIT};
use super::{Result, undrawn};

/// A rectangle of the page.
pub(super) type Area<'a> = DrawingArea<Canvas<'a>, Shift>;
/// A plot with its axes drawn.
pub(super) type Plot<'a> = ChartContext<'a, Canvas<'a>, Cartesian2d<Axis, Axis>>;

/// One direction of a plot: what it spans, its ticks, how these read, and its name.
pub(super) struct Axis {
    span: RangedCoordf64,
    ticks: Vec<f64>,
    format: Box<dyn Fn(f64) -> String>,
    name: String,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.span.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No finer grid between the ticks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.span.range()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.format)(*value)
    }
}

impl Axis {
    /// An axis over `low … high` with at most `most` ticks. A span too narrow for double precision
    /// is widened.
    pub(super) fn linear((low, high): (f64, f64), most: usize, name: &str) -> Self {
        let magnitude = low.abs().max(high.abs());
        let least = (1e-6 * magnitude).max(1e-13);
        let range = if high - low < least {
            let (centre, half) = (0.5 * (low + high), 0.05 * magnitude + least);
            centre - half..centre + half
        } else {
            low..high
        };
        let span = RangedCoordf64::from(range.clone());
        let ticks = span.key_points(most);
        let step = match ticks[..] {
            [first, second, ..] => second - first,
            _ => range.end - range.start,
        };
        let format = Box::new(move |v| style::number(v, step));
        Axis { span, ticks, format, name: name.to_string() }
    }

    /// As [`linear`](Axis::linear) over all of `values`, with 4 % of room on both sides.
    pub(super) fn around(values: impl Iterator<Item = f64>, most: usize, name: &str) -> Self {
        let (low, high) = range(values);
        let pad = 0.04 * (high - low);
        Axis::linear((low - pad, high + pad), most, name)
    }

    /// Whole numbers 1 … count.
    pub(super) fn ordinal(count: usize, name: &str) -> Self {
        let mut axis = Axis::linear((0.4, count as f64 + 0.6), 12, name);
        axis.ticks.retain(|v| (v - v.round()).abs() < 1e-6);
        Axis { format: Box::new(|v| format!("{v:.0}")), ..axis }
    }

    /// A logarithmic axis over powers of ten from `low` to `high`, both exponents; over less than
    /// two decades it has ticks at 2 and 5 times these as well.
    pub(super) fn powers(low: f64, high: f64, name: &str) -> Self {
        let mut axis = Axis::linear((low, high), 8, name);
        if high - low < 2.0 {
            let decades = (0..4).map(|i| low.floor() + f64::from(i));
            let ticks = decades.flat_map(|e| [0.0, 2f64.log10(), 5f64.log10()].map(|f| e + f));
            axis.ticks = ticks.filter(|v| (low..=high).contains(v)).collect();
        } else {
            axis.ticks.retain(|v| (v - v.round()).abs() < 1e-6);
        }
        let format = |v: f64| {
            let exponent = (v + 1e-6).floor();
            let factor = 10f64.powf(v - exponent).round();
            let power = style::power_of_ten(exponent as i32);
            if factor > 1.0 { format!("{factor}×{power}") } else { power }
        };
        Axis { format: Box::new(format), ..axis }
    }
}

/// Draws the axes of a plot that fills `area`, with `left` and `bottom` pixels of it for their
/// numbers and names; none where that is 0.
pub(super) fn plot<'a>(
    area: &Area<'a>,
    x: Axis,
    y: Axis,
    (left, bottom): (i32, i32),
) -> Result<Plot<'a>> {
    let (x_name, y_name) = (x.name.clone(), y.name.clone());
    let mut plot = ChartBuilder::on(area)
        .y_label_area_size(left * UNIT)
        .x_label_area_size(bottom * UNIT)
        .build_cartesian_2d(x, y)?;
    plot.configure_mesh()
        .bold_line_style(GRID.stroke_width(UNIT as u32))
        .axis_style(AXIS.stroke_width(UNIT as u32))
        .set_all_tick_mark_size(4 * UNIT)
        .label_style(style::text(style::TICK))
        .axis_desc_style(style::text(style::LABEL))
        // The library centres on half the x-height, a little above half a figure's height.
        .y_label_offset(UNIT)
        .x_desc(x_name)
        .y_desc(y_name)
        .draw()?;
    Ok(plot)
}

/// Stronger lines at zero, where zero is inside the plot.
pub(super) fn zero_lines(plot: &mut Plot<'_>) -> Result<()> {
    let (x, y) = (plot.x_range(), plot.y_range());
    let inside = |range: &Range<f64>| range.start < 0.0 && 0.0 < range.end;
    let lines = [
        inside(&y).then_some([(x.start, 0.0), (x.end, 0.0)]),
        inside(&x).then_some([(0.0, y.start), (0.0, y.end)]),
    ];
    let stroke = AXIS.stroke_width(UNIT as u32);
    plot.draw_series(lines.into_iter().flatten().map(|line| PathElement::new(line, stroke)))?;
    Ok(())
}

/// The mark of a legend entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Line,
    Dashes,
    Disc,
    Cross,
}

/// A row of entries along the top of `area`, from its right edge; the first are left out where there
/// is no room for all.
pub(super) fn legend(area: &Area<'_>, entries: &[(Mark, RGBColor, &str)]) -> Result<()> {
    let style = style::text(style::LABEL).pos(Pos::new(HPos::Left, VPos::Center));
    let y = 9 * UNIT;
    let mut x = i32::try_from(area.dim_in_pixel().0).map_err(undrawn)?;
    for (mark, colour, name) in entries.iter().rev() {
        let length = if matches!(mark, Mark::Line | Mark::Dashes) { 22 * UNIT } else { 10 * UNIT };
        let width = i32::try_from(area.estimate_text_size(name, &style)?.0).map_err(undrawn)?;
        x -= length + 6 * UNIT + width;
        if x < 0 {
            break;
        }
        let stroke = colour.stroke_width(9);
        let centre = (x + length / 2, y);
        match mark {
            Mark::Line => area.draw(&PathElement::new([(x, y), (x + length, y)], stroke))?,
            Mark::Dashes => {
                let (line, style) = ([(x, y), (x + length, y)], colour.stroke_width(5));
                area.draw(&DashedPathElement::new(line, 5 * UNIT, 4 * UNIT, style))?;
            }
            Mark::Disc => area.draw(&Circle::new(centre, 18, colour.filled()))?,
            Mark::Cross => area.draw(&Cross::new(centre, 14, stroke))?,
        }
        area.draw_text(name, &style, (x + length + 6 * UNIT, y + UNIT))?;
        x -= 16 * UNIT;
    }
    Ok(())
}

/// Least and largest of finite values; 0 … 1 without any.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values.map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    ends.unwrap_or((0.0, 1.0))
}
