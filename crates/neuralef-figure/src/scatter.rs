//! Points in their first three coordinates as pairwise plots, coloured by class.

use std::collections::BTreeSet;

use plotters::prelude::*;

use super::axes::{Area, Axis, Mark, legend, plot, zero_lines};
use super::style::{CLASS_COLOURS, UNIT, class};
use super::{Colouring, FigureError, Result, Scatter, check_length, check_series};

impl Scatter<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let Some(first) = self.coordinates.first() else {
            return Err(FigureError::Empty { what: "coordinates of points" });
        };
        if first.values.is_empty() {
            return Err(FigureError::Empty { what: "points" });
        }
        check_series(self.coordinates, first.values.len())?;
        let count = first.values.len();
        self.colouring.labels().map_or(Ok(()), |l| check_length("labels", count, l.len()))
    }

    /// The pairs of coordinates that are drawn; a lone coordinate is drawn against the position.
    fn pairs(&self) -> &'static [(usize, usize)] {
        match self.coordinates.len() {
            0 | 1 => &[(0, 0)],
            2 => &[(0, 1)],
            _ => &[(0, 1), (0, 2), (1, 2)],
        }
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let plots = self.pairs().len() as i32;
        (plots * if plots == 1 { 440 } else { 350 }, 380)
    }

    /// Plots side by side, the legend above them.
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let count = self.coordinates.first().map_or(0, |s| s.values.len());
        let (colours, names) = self.colouring.colours(count);
        let radius = if colours.len() > 500 { 9 } else { 13 };
        let cells = area.split_evenly((1, self.pairs().len()));
        for (cell, (i, j)) in cells.iter().zip(self.pairs()) {
            let horizontal = self.coordinates[*i];
            let positions: Vec<f64>;
            let (vertical, name) = if i == j {
                positions = (1..=colours.len()).map(|p| p as f64).collect();
                (positions.as_slice(), "point")
            } else {
                (self.coordinates[*j].values, self.coordinates[*j].name)
            };
            let x = Axis::around(horizontal.values.iter().copied(), 7, horizontal.name);
            let y = Axis::around(vertical.iter().copied(), 7, name);
            let mut plot = plot(&cell.margin(26 * UNIT, 0, 0, 6 * UNIT), x, y, (56, 42))?;
            zero_lines(&mut plot)?;
            let points = horizontal.values.iter().zip(vertical).zip(&colours);
            plot.draw_series(
                points.map(|((x, y), colour)| {
                    Circle::new((*x, *y), radius, colour.mix(0.75).filled())
                }),
            )?;
        }
        let entries: Vec<_> = names.iter().map(|(c, n)| (Mark::Disc, *c, n.as_str())).collect();
        legend(&area.margin(0, 0, 0, 6 * UNIT), &entries)
    }
}

impl<'a> Colouring<'a> {
    /// The classes of the points, where they are coloured by them.
    pub(super) fn labels(self) -> Option<&'a [i64]> {
        match self {
            Colouring::None => None,
            Colouring::Labels(labels) => Some(labels),
        }
    }

    /// The colours of `count` points and the entries of the legend.
    pub(super) fn colours(self, count: usize) -> (Vec<RGBColor>, Vec<(RGBColor, String)>) {
        let Some(labels) = self.labels() else {
            return (vec![class(0); count], Vec::new());
        };
        let distinct: Vec<i64> =
            labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let many = distinct.len() > CLASS_COLOURS;
        let colour = |rank: usize| {
            if many {
                ViridisRGB.get_color(rank as f64 / (distinct.len() - 1) as f64)
            } else {
                class(rank)
            }
        };
        let of_points = labels.iter().map(|l| colour(distinct.binary_search(l).unwrap_or(0)));
        let entries = distinct.iter().enumerate();
        // Of more classes than can be told apart, the first and the last.
        let named = entries.filter(|(rank, _)| !many || *rank == 0 || rank + 1 == distinct.len());
        let named = named.map(|(rank, l)| (colour(rank), l.to_string().replace('-', "−")));
        (of_points.collect(), named.collect())
    }
}
