//! The Gram matrix of one set of points, stored or applied block by block: each pair is evaluated once.

use ndarray::{Axis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernel::{IndexedPoints, Kernel, index};
use crate::linalg::{matmul_f64, tr_matmul_f64};
use crate::matrix::{Mat64, Mat64Ref};

/// Rows and columns of a tile: half a megabyte of doubles for each thread.
const TILE: usize = 256;

/// κ(xᵢ, xⱼ), n × n, in double precision: tiles below the diagonal are copied from above it, pairs
/// of tiles side by side. O(n² d / 2).
///
/// # Errors
/// What the kernel reports.
pub(crate) fn symmetric_gram(kernel: &dyn Kernel, x: IndexedPoints<'_>) -> Result<Mat64> {
    let n = x.len();
    let mut out = Mat64::zeros((n, n));
    // Upper tile (row, column) and its mirror image; none on the diagonal.
    let mut upper = Vec::new();
    let mut lower = Vec::new();
    for (row, strip) in out.axis_chunks_iter_mut(Axis(0), TILE).enumerate() {
        let mut rest = strip;
        for column in 0..n.div_ceil(TILE) {
            let width = TILE.min(rest.ncols());
            let (tile, right) = rest.split_at(Axis(1), width);
            rest = right;
            if column >= row {
                upper.push(((row, column), tile));
            } else {
                lower.push(((column, row), tile));
            }
        }
    }
    // Upper tiles come in this order already.
    lower.sort_by_key(|(at, _)| *at);
    let mut mirrors = lower.into_iter().map(|(_, tile)| tile);
    let pairs: Vec<_> = upper
        .into_iter()
        .map(|(at, tile)| (at, tile, if at.0 == at.1 { None } else { mirrors.next() }))
        .collect();
    pairs.into_par_iter().try_for_each(|((row, column), mut tile, mirror)| {
        index::gram(kernel, points(x, row), points(x, column), tile.view_mut())?;
        if let Some(mut mirror) = mirror {
            mirror.assign(&tile.t());
        }
        Ok(())
    })?;
    Ok(out)
}

/// The points of tile `i`.
fn points(x: IndexedPoints<'_>, i: usize) -> IndexedPoints<'_> {
    x.range(i * TILE..((i + 1) * TILE).min(x.len()))
}

/// The Gram matrix of n points as an operator on ℝⁿ, never stored.
///
/// Tiles are visited in rounds: in round s tile row i meets tile row i + s (cyclically), so that
/// every row of the result gets two contributions in a round, added in one order whatever the
/// number of threads.
pub(crate) struct SymmetricGram<'a> {
    kernel: &'a dyn Kernel,
    x: IndexedPoints<'a>,
}

impl<'a> SymmetricGram<'a> {
    /// Of the points x (n × d).
    pub(crate) fn new(kernel: &'a dyn Kernel, x: IndexedPoints<'a>) -> Self {
        SymmetricGram { kernel, x }
    }

    /// Number of rounds of an application.
    pub(crate) fn rounds(&self) -> usize {
        self.x.len().div_ceil(TILE) / 2 + 1
    }

    /// (KV, ‖K‖²_F) for V, n × r; `tick` hears the number of every finished round. O(n²(d/2 + r)),
    /// with 3nr numbers of memory and a tile for each thread.
    ///
    /// # Errors
    /// [`Error::Shape`] unless V has n rows; what the kernel and `tick` report.
    pub(crate) fn apply(
        &self,
        v: Mat64Ref<'_>,
        mut tick: impl FnMut(usize) -> Result<()>,
    ) -> Result<(Mat64, f64)> {
        let (n, r) = v.dim();
        if n != self.x.len() {
            let expected = format!("{} × r", self.x.len());
            return Err(Error::shape("operand of the Gram matrix", expected, format!("{n} × {r}")));
        }
        let tiles = n.div_ceil(TILE);
        let rows = |i: usize| i * TILE..((i + 1) * TILE).min(n);
        let v = v.as_standard_layout();
        let mut out = Mat64::zeros((n, r));
        let mut square = 0.0;
        for round in 0..self.rounds().min(tiles) {
            // Opposite tiles of an even circle meet once, not twice.
            let count = if round > 0 && 2 * round == tiles { tiles / 2 } else { tiles };
            if 2 * round > tiles {
                break;
            }
            let parts: Vec<(Mat64, Option<Mat64>, f64)> = (0..count)
                .into_par_iter()
                .map(|i| {
                    let j = (i + round) % tiles;
                    let mut gram = Mat64::zeros((rows(i).len(), rows(j).len()));
                    let (x, y) = (points(self.x, i), points(self.x, j));
                    index::gram(self.kernel, x, y, gram.view_mut())?;
                    let direct = matmul_f64(gram.view(), v.slice(s![rows(j), ..]))?;
                    let mirrored = match round {
                        0 => None,
                        _ => Some(tr_matmul_f64(gram.view(), v.slice(s![rows(i), ..]))?),
                    };
                    let square = gram.iter().map(|v| v * v).sum::<f64>();
                    Ok((direct, mirrored, square))
                })
                .collect::<Result<_>>()?;
            for (i, (direct, mirrored, part)) in parts.into_iter().enumerate() {
                let mut to = out.slice_mut(s![rows(i), ..]);
                to += &direct;
                square += part;
                if let Some(mirrored) = mirrored {
                    let mut to = out.slice_mut(s![rows((i + round) % tiles), ..]);
                    to += &mirrored;
                    square += part;
                }
            }
            tick(round + 1)?;
        }
        Ok((out, square))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::random;
    use crate::test_kernels::rbf;

    fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn stored_and_applied_agree_with_the_kernel_for_any_number_of_tiles_and_threads() {
        // 1 to 4 tiles, whole and cut: every parity of the circle.
        for n in [1, 255, 256, 300, 600, 1024] {
            let (x, v) = (random(n, 2, 1).mapv(|v| v as f32), random(n, 3, 2));
            let kernel = rbf(0.7);
            let mut gram = Mat64::zeros((n, n));
            kernel.gram(x.view(), x.view(), gram.view_mut()).unwrap();
            assert_eq!(symmetric_gram(&kernel, x.view().into()).unwrap(), gram, "{n}");
            let operator = SymmetricGram::new(&kernel, x.view().into());
            let mut ticks = 0;
            let run = || operator.apply(v.view(), |_| Ok(())).unwrap();
            let (image, square) = operator
                .apply(v.view(), |done| {
                    ticks += 1;
                    assert_eq!(done, ticks);
                    Ok(())
                })
                .unwrap();
            assert_eq!(ticks, operator.rounds(), "{n}");
            let want = gram.dot(&v);
            let worst = (&image - &want).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            assert!(worst < 1e-15 * n as f64 + 1e-15, "{n}: {worst:e}");
            let exact: f64 = gram.iter().map(|v| v * v).sum();
            assert!((square / exact - 1.0).abs() < 1e-13, "{n}: {square} {exact}");
            assert_eq!(on_threads(1, run), (image.clone(), square));
            assert_eq!(on_threads(3, run), (image, square));
        }
        let (x, kernel) = (random(5, 1, 1).mapv(|v| v as f32), rbf(1.0));
        assert!(
            SymmetricGram::new(&kernel, x.view().into())
                .apply(random(4, 1, 1).view(), |_| Ok(()))
                .is_err()
        );
    }
}
