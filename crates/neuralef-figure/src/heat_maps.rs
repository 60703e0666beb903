//! Matrices by colour, in rows under one heading and on one scale.

use plotters::prelude::*;

use super::axes::{Area, range};
use super::page::cells;
use super::style::{self, UNIT};
use super::{FigureError, HeatMaps, Result, check_length, check_values};

/// Width and height of a matrix with its name.
const SIZE: (i32, i32) = (300, 320);

impl HeatMaps<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let (rows, columns) = self.shape;
        if self.matrices.is_empty() || rows * columns == 0 || self.columns == 0 {
            return Err(FigureError::Empty { what: "matrices" });
        }
        self.matrices.iter().try_for_each(|matrix| {
            check_length(matrix.name, rows * columns, matrix.values.len())?;
            check_values(matrix.name, matrix.values)
        })
    }

    pub(super) fn size(&self) -> (i32, i32) {
        let rows = self.matrices.len().div_ceil(self.columns) as i32;
        (SIZE.0 * self.columns.min(self.matrices.len()) as i32, SIZE.1 * rows)
    }

    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let first = self.matrices.first().map_or(&[][..], |matrix| matrix.values);
        let (low, high) = range(first.iter().copied());
        let (rows, columns) = self.shape;
        for (matrix, cell) in self.matrices.iter().zip(cells(area.clone(), self.columns, SIZE)) {
            cell.draw_text(matrix.name, &style::text(style::LABEL), (0, 0))?;
            let cell = cell.margin(22 * UNIT, 10 * UNIT, 0, 12 * UNIT);
            let (width, height) = cell.dim_in_pixel();
            let at = |part: usize, of: usize, size: u32| (part * size as usize / of) as i32;
            for (place, value) in matrix.values.iter().enumerate() {
                let (i, j) = (place / columns, place % columns);
                let corners = [
                    (at(j, columns, width), at(i, rows, height)),
                    (at(j + 1, columns, width), at(i + 1, rows, height)),
                ];
                let colour = match low < high {
                    true => ViridisRGB.get_color_normalized(value.clamp(low, high), low, high),
                    false => ViridisRGB.get_color(0.5),
                };
                cell.draw(&Rectangle::new(corners, colour.filled()))?;
            }
        }
        Ok(())
    }
}
