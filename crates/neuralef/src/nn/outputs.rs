//! The two layouts of k functions with C outputs: n × kC, as networks give them, and nC × k, one
//! row for each (point, output), as operators and objectives take them.

use crate::error::{Error, Result};
use crate::matrix::Mat;

/// n × kC with output c of function j in column j·C + c, to nC × k with output c of point i in row
/// i·C + c. Nothing is moved for C = 1.
///
/// # Errors
/// [`Error::Shape`] when the width is no multiple of C.
pub(crate) fn rows_of_outputs(h: Mat, outputs: usize) -> Result<Mat> {
    if outputs == 1 {
        return Ok(h);
    }
    let (n, columns) = h.dim();
    if outputs == 0 || !columns.is_multiple_of(outputs) {
        let got = format!("{n} × {columns}");
        return Err(Error::shape("network output", format!("n × k·{outputs}"), got));
    }
    swapped(&h, (n, columns / outputs, outputs), (n * outputs, columns / outputs))
}

/// The inverse of [`rows_of_outputs`]: nC × k to n × kC.
///
/// # Errors
/// [`Error::Shape`] when the number of rows is no multiple of C.
pub(crate) fn columns_of_outputs(h: Mat, outputs: usize) -> Result<Mat> {
    if outputs == 1 {
        return Ok(h);
    }
    let (rows, k) = h.dim();
    if outputs == 0 || !rows.is_multiple_of(outputs) {
        let got = format!("{rows} × {k}");
        return Err(Error::shape("cotangent of the outputs", format!("n·{outputs} × k"), got));
    }
    swapped(&h, (rows / outputs, outputs, k), (rows / outputs, outputs * k))
}

/// The numbers of `h`, as `cube`, with its last two axes exchanged, as a matrix of shape `to`.
fn swapped(h: &Mat, cube: (usize, usize, usize), to: (usize, usize)) -> Result<Mat> {
    let fault = |e: ndarray::ShapeError| Error::shape("outputs", format!("{cube:?}"), e);
    let h = h.as_standard_layout();
    let mut view = h.view().into_shape_with_order(cube).map_err(fault)?;
    view.swap_axes(1, 2);
    Mat::from_shape_vec(to, view.iter().copied().collect()).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_each_others_inverse_and_put_numbers_where_they_say() {
        for c in [1, 2, 3] {
            let (n, k) = (4, 5);
            let h = Mat::from_shape_fn((n, k * c), |(i, j)| (100 * i + j) as f32);
            let rows = rows_of_outputs(h.clone(), c).unwrap();
            assert_eq!(rows.dim(), (n * c, k));
            for ((row, j), v) in rows.indexed_iter() {
                assert_eq!(*v, h[[row / c, j * c + row % c]]);
            }
            assert_eq!(columns_of_outputs(rows, c).unwrap(), h);
        }
        assert!(rows_of_outputs(Mat::zeros((3, 5)), 2).is_err());
        assert!(columns_of_outputs(Mat::zeros((3, 5)), 2).is_err());
        assert!(rows_of_outputs(Mat::zeros((3, 5)), 0).is_err());
        assert_eq!(rows_of_outputs(Mat::zeros((0, 6)), 2).unwrap().dim(), (0, 3));
    }
}
