//! The embedded handwritten digits: UCI optical digits (Alpaydin & Kaynak 1998, CC BY 4.0).

use std::io::Read as _;

use super::Dataset;
use crate::error::{Error, Result};
use crate::matrix::Mat;

const ROWS: usize = 1797;
const WIDTH: usize = 64;
/// Pixels row by row, then labels, compressed; `crates/neuralef/data/README.md` says whence.
static PACKED: &[u8] = include_bytes!("../../data/digits.zlib");

/// 1,797 × 64 pixel values from 0 to 16, with labels 0 to 9.
pub(super) fn digits() -> Result<Dataset> {
    let mut raw = Vec::with_capacity(ROWS * (WIDTH + 1));
    let damaged = || Error::data("digits", "the embedded data are damaged");
    flate2::read::ZlibDecoder::new(PACKED).read_to_end(&mut raw).map_err(|_| damaged())?;
    let (pixels, labels) = raw.split_at_checked(ROWS * WIDTH).ok_or_else(damaged)?;
    let pixels = pixels.iter().map(|v| f32::from(*v)).collect();
    let x = Mat::from_shape_vec((ROWS, WIDTH), pixels).map_err(|_| damaged())?;
    Dataset::from_array("digits", x)?.with_labels(labels.iter().map(|v| i64::from(*v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_the_published_set() {
        // Sums, counts and rows worked out with scikit-learn's load_digits.
        let digits = digits().unwrap();
        assert_eq!((digits.len(), digits.width()), (1797, 64));
        let x = digits.range(0..1797).unwrap();
        assert_eq!(x.iter().map(|v| f64::from(*v)).sum::<f64>(), 561_718.0);
        assert_eq!(x.iter().map(|v| f64::from(v * v)).sum::<f64>(), 6_907_012.0);
        assert_eq!(x.row(0).to_vec()[..6], [0.0, 0.0, 5.0, 13.0, 9.0, 1.0]);
        assert_eq!(x.row(1796).to_vec()[57..], [1.0, 8.0, 12.0, 14.0, 12.0, 1.0, 0.0]);
        let labels = digits.labels().unwrap();
        let counts: Vec<_> = (0..10).map(|c| labels.iter().filter(|l| **l == c).count()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(labels[..5], [0, 1, 2, 3, 4]);
    }
}
