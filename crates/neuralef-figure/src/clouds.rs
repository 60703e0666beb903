//! Points in three coordinates, seen from one side: clouds in rows under one heading.

use plotters::prelude::*;

use super::axes::{Area, Mark, legend, range};
use super::page::cells;
use super::style::{self, AXIS, UNIT};
use super::{Clouds, FigureError, Result, check_length, check_series, undrawn};

/// Width and height of a cloud with its name, and height of the legend.
const SIZE: (i32, i32) = (270, 290);
const LEGEND: i32 = 26;

impl Clouds<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let Some((_, first)) = self.clouds.first() else {
            return Err(FigureError::Empty { what: "clouds of points" });
        };
        let count = first[0].values.len();
        if count == 0 || self.columns == 0 {
            return Err(FigureError::Empty { what: "points" });
        }
        self.clouds.iter().try_for_each(|(_, coordinates)| check_series(coordinates, count))?;
        self.colouring.labels().map_or(Ok(()), |l| check_length("labels", count, l.len()))
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let rows = self.clouds.len().div_ceil(self.columns) as i32;
        (SIZE.0 * self.columns.min(self.clouds.len()) as i32, LEGEND + SIZE.1 * rows)
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let count = self.clouds.first().map_or(0, |(_, first)| first[0].values.len());
        let (colours, names) = self.colouring.colours(count);
        let entries: Vec<_> = names.iter().map(|(c, n)| (Mark::Disc, *c, n.as_str())).collect();
        legend(area, &entries)?;
        let cells = cells(area.margin(LEGEND * UNIT, 0, 0, 0), self.columns, SIZE);
        for ((name, coordinates), cell) in self.clouds.iter().zip(cells) {
            cell.draw_text(name, &style::text(style::LABEL), (2 * UNIT, 0))?;
            let spans = coordinates.map(|s| padded(range(s.values.iter().copied())));
            // The library's vertical axis is its second: it takes the third coordinate.
            let [x, y, z] = spans.clone();
            let mut chart = ChartBuilder::on(&cell.margin(20 * UNIT, 0, 0, 0))
                .build_cartesian_3d(x, z, y)
                .map_err(undrawn)?;
            chart.with_projection(|mut view| {
                (view.yaw, view.pitch, view.scale) = (0.6, 0.35, 0.82);
                view.into_matrix()
            });
            let none = |_: &f64| String::new();
            chart
                .configure_axes()
                .light_grid_style(TRANSPARENT)
                .bold_grid_style(AXIS.mix(0.35).stroke_width(3))
                .axis_panel_style(RGBColor(0xf7, 0xf8, 0xfa).filled())
                .x_formatter(&none)
                .y_formatter(&none)
                .z_formatter(&none)
                .draw()
                .map_err(undrawn)?;
            let [x, y, z] = coordinates.map(|s| s.values);
            let points = (0..count).map(|i| (i, (x[i], z[i], y[i])));
            let disc = |(i, at): (usize, _)| Circle::new(at, 8, colours[i].mix(0.7).filled());
            chart.draw_series(points.map(disc)).map_err(undrawn)?;
            let [x, y, z] = spans;
            let ends = [
                (0.5 * (x.start + x.end), z.start, y.end),
                (x.end, z.start, 0.5 * (y.start + y.end)),
                (x.start, z.end, y.end),
            ];
            let named = ends.into_iter().zip(coordinates).map(|(at, coordinate)| {
                let text =
                    Text::new(coordinate.name.to_string(), (0, 6 * UNIT), style::text(style::TICK));
                EmptyElement::at(at) + text
            });
            chart.draw_series(named).map_err(undrawn)?;
        }
        Ok(())
    }
}

/// The range with some room, never empty.
fn padded((low, high): (f64, f64)) -> std::ops::Range<f64> {
    let pad = (0.05 * (high - low)).max(1e-9 * high.abs().max(low.abs()).max(1e-9));
    low - pad..high + pad
}
