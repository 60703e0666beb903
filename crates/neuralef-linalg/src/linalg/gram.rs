//! Sums of AᵀA over blocks of rows: half the products of AᵀB, in one matrix that is added to in place.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut as FaerMut, Par};
use rayon::prelude::*;

use super::Dense;
use super::product::assemble;
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};

/// Rows of the sum that one task adds to; fixed, so that bits do not depend on the number of threads.
const TILE: usize = 192;

/// Σ AᵀA over blocks A (n × m) that come one after the other.
#[derive(Debug, Clone)]
pub struct GramSum {
    m: usize,
    /// m × m, row-major, of which tiles on and left of the diagonal count.
    sum: Vec<f64>,
}

impl GramSum {
    /// The empty sum for blocks of m columns.
    pub fn new(m: usize) -> Self {
        GramSum { m, sum: vec![0.0; m * m] }
    }

    /// Adds AᵀA for A n × m; O(n m²/2), tiles of the result side by side. The bits depend on the blocks
    /// and their order alone.
    ///
    /// # Errors
    /// [`Error::Shape`] unless A has m columns.
    pub fn add(&mut self, a: Mat64Ref<'_>) -> Result<()> {
        let (n, m) = a.dim();
        if m != self.m {
            return Err(Error::shape("block of a sum of AᵀA", format!("n × {}", self.m), m));
        }
        if n == 0 || m == 0 {
            return Ok(());
        }
        let a = Dense::new(a);
        let a = a.view();
        // The widest rows first: they take longest.
        let mut tiles: Vec<_> = self.sum.chunks_mut(TILE * m).enumerate().collect();
        tiles.reverse();
        tiles.into_par_iter().for_each(|(i, tile)| {
            let (first, rows) = (i * TILE, tile.len() / m);
            let lhs = a.subcols(first, rows).transpose();
            let rhs = a.subcols(0, first + rows);
            let out = FaerMut::from_row_major_slice_mut(tile, rows, m).subcols_mut(0, first + rows);
            matmul(out, Accum::Add, lhs, rhs, 1.0, Par::Seq);
        });
        Ok(())
    }

    /// The sum so far, divided by `count`, m × m and symmetric to the last bit.
    ///
    /// # Errors
    /// None; as matrices are made.
    pub fn mean(&self, count: usize) -> Result<Mat64> {
        let m = self.m;
        let mut out: Vec<f64> = self.sum.iter().map(|v| v / count as f64).collect();
        for i in 0..m {
            for j in 0..i {
                out[j * m + i] = out[i * m + j];
            }
        }
        assemble(m, m, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;
    use crate::linalg::tr_matmul_f64;

    #[test]
    fn sums_over_blocks_are_the_product_of_the_whole() {
        for (n, m) in [(1, 1), (7, 3), (300, 96), (129, 97), (50, 250)] {
            let a = random(n, m, 3);
            let mut sum = GramSum::new(m);
            for block in a.axis_chunks_iter(ndarray::Axis(0), 40) {
                sum.add(block).unwrap();
            }
            let got = sum.mean(n).unwrap();
            let want = tr_matmul_f64(a.view(), a.view()).unwrap() / n as f64;
            let worst = (&got - &want).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            assert!(worst < 1e-13, "{n} × {m}: {worst:e}");
            assert_eq!(got, got.t());
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_thread_count_and_widths_are_checked() {
        let a = random(2000, 210, 5);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut sum = GramSum::new(210);
                sum.add(a.view()).unwrap();
                sum.mean(1).unwrap()
            })
        };
        assert_eq!(run(1), run(3));
        assert!(GramSum::new(3).add(a.view()).is_err());
    }
}
