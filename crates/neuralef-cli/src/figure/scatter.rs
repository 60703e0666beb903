//! Points in their first three coordinates as pairwise plots, coloured by class.

use std::collections::BTreeSet;

use plotters::prelude::*;

use super::axes::{Area, Axis, Mark, legend, plot};
use super::style::{CLASSES, UNIT, class};
use super::{Colouring, FigureError, Result, Scatter, check_length, check_values};

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
        }
    }

    /// The pairs of coordinates that are drawn; a lone coordinate is drawn against the position.
    pub(super) fn pairs(&self) -> &'static [(usize, usize)] {
        match self.coordinates.len() {
            0 | 1 => &[(0, 0)],
            2 => &[(0, 1)],
            _ => &[(0, 1), (0, 2), (1, 2)],
        }
    }

    /// The colour of every point and the entries of the legend.
    fn colours(&self) -> (Vec<RGBColor>, Vec<(RGBColor, String)>) {
        let count = self.coordinates.first().map_or(0, |s| s.values.len());
        let Colouring::Labels(labels) = self.colouring else {
            return (vec![class(0); count], Vec::new());
        };
        let distinct: Vec<i64> =
            labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let many = distinct.len() > CLASSES.len();
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

    /// One plot into each of `cells`, the legend above the first.
    pub(super) fn draw(&self, cells: &[Area<'_>]) -> Result<()> {
        let (colours, names) = self.colours();
        let radius = if colours.len() > 500 { 9 } else { 13 };
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
            let mut plot = plot(&cell.margin(26 * UNIT, 0, 0, 6 * UNIT), x, y, (56, 46))?;
            let points = horizontal.values.iter().zip(vertical).zip(&colours);
            plot.draw_series(
                points.map(|((x, y), colour)| {
                    Circle::new((*x, *y), radius, colour.mix(0.75).filled())
                }),
            )?;
        }
        let entries: Vec<_> = names.iter().map(|(c, n)| (Mark::Disc, *c, n.as_str())).collect();
        cells.first().map_or(Ok(()), |cell| legend(&cell.margin(0, 0, 0, 6 * UNIT), &entries))
    }
}
