//! Kernels of infinitely wide convolutional networks: cnn_gp and cntk.

use std::cmp::Ordering;
use std::sync::Arc;

use ndarray::{ArrayView1, ArrayViewMut2, s};
use rayon::prelude::*;

#[cfg(test)]
mod finite_tests;
mod geometry;
mod pairs;
mod planes;
mod spec;
#[cfg(test)]
mod tests;

use self::pairs::{Layers, Scratch, Side};
use self::spec::Spec;
use super::super::Kernel;
use super::super::pairwise::{check_finite, check_shapes};
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef, expect_columns};
use crate::nn::Order;
use crate::simd::Real;
use crate::spec::Entry;

/// The covariance (`cnn_gp`) or the neural tangent kernel (`cntk`) of a convolutional network with
/// infinitely many channels, weights N(0, w/fan_in) with fan_in = kernel height × width × channels,
/// and biases N(0, b). Padding is with zeros, and fan_in is the same at borders.
///
/// With F⁰ the products of pixels over channels, p and q positions in the two images, and δ over
/// the k² places of a kernel at positions s·p (Garriga-Alonso, Rasmussen & Aitchison 2019,
/// algorithm 1; Novak et al. 2019, section 3, for the readouts):
/// Σ(p, q) = (w/k²)Σ_δ F(p + δ, q + δ) + b, F = E φ(u)φ(v) for (u, v) ~ N(0, Σ), average pooling
/// takes the mean of F over pairs of members of two windows, and the output is
/// Σ = w·mean_p F(p, p) + b (`flatten`) or w·mean_{p,q} F(p, q) + b (`average`).
/// Θ(p, q) = Σ(p, q) + (w/k²)Σ_δ G(p + δ, q + δ) with G = E φ'φ'·Θ and pooled as F is (Arora et al.
/// 2019, section 4), Θ = Σ before the first activation. Both kernels are positive semi-definite.
///
/// Only the pairs (p, q) that the readout depends on are worked out. Their offsets q − p stay what
/// they are through layers, times the stride, so that every offset is a plane of its own, and
/// planes meet in poolings alone. With D planes, a layer of h × w positions costs O(D·hw·k²) for a
/// pair of images:
/// - `flatten` after the last pooling, or without any: D = 1;
/// - before a pooling over windows of r × r: offsets up to r·o + r − 1 for those up to o after it,
///   so that D = (2r − 1)² before the last one, and (2r² − 1)² before one more of the same size;
/// - `average`: all offsets, D·hw = (hw)² pairs.
///
/// The variances within each image ask for the same planes up to the last pooling, once for each
/// image. What is kept for a pair, the planes after a pooling, is limited to 1 GiB.
///
/// The recursion carries 1 − ρ and 1 + ρ, as that of nngp does, and both keep their digits through
/// layers without pooling. After a pooling they are known to rounding, 1e-16, except that windows of
/// the same pixels have ρ = 1 exactly.
#[derive(Debug, Clone)]
struct Convolutional {
    tangent: bool,
    spec: Spec,
    layers: Layers,
}

/// Most images at a time on either side.
const IMAGES: usize = 256;
/// And about as many bytes.
const BYTES: usize = 1 << 27;

impl Convolutional {
    fn title(&self) -> &'static str {
        spec::title(self.tangent)
    }

    /// Rows of images in planar order, all finite.
    fn pixels(&self, x: MatRef<'_>) -> Result<Vec<Vec<f32>>> {
        let (channels, n) = (self.layers.channels, self.layers.image.area());
        let planar = |point: ArrayView1<'_, f32>| {
            let at = |i: usize| match self.spec.order {
                Order::Chw => i,
                Order::Hwc => i % n * channels + i / n,
            };
            (0..point.len()).map(|i| point[at(i)]).collect()
        };
        for (row, point) in x.rows().into_iter().enumerate() {
            if let Some(column) = point.iter().position(|v| !v.is_finite()) {
                let what = format!("input of kernel {}", self.title());
                return Err(Error::NonFinite { what, row, column, value: point[column] });
            }
        }
        Ok(x.rows().into_iter().map(planar).collect())
    }

    fn sides(&self, images: &[Vec<f32>]) -> Vec<Side> {
        images
            .par_iter()
            .map_init(Scratch::default, |scratch, image| self.layers.side(image, scratch))
            .collect()
    }

    /// κ in double precision. The images of a pair are taken in one order, for the same bits.
    fn value(
        &self,
        (x, own): (&[f32], &Side),
        (y, other): (&[f32], &Side),
        scratch: &mut Scratch,
    ) -> f64 {
        let unequal = x.iter().zip(y).map(|(a, b)| a.total_cmp(b)).find(|o| o.is_ne());
        let (first, second) = match unequal {
            Some(Ordering::Greater) => (other, own),
            _ => (own, other),
        };
        let (sigma, theta) = self.layers.pair(first, second, self.tangent, scratch);
        if self.tangent { theta } else { sigma }
    }

    /// Rows side by side over threads, each by itself, so that their number does not matter.
    fn evaluate<T: Real>(
        &self,
        x: MatRef<'_>,
        y: MatRef<'_>,
        mut out: ArrayViewMut2<'_, T>,
    ) -> Result<()> {
        expect_columns("x", x, self.layers.image.area() * self.layers.channels)?;
        check_shapes(x, y, &out)?;
        let (first, second) = (self.pixels(x)?, self.pixels(y)?);
        let same = first == second;
        let most = (BYTES / self.layers.bytes()).clamp(8, IMAGES);
        for (i, rows) in first.chunks(most).enumerate() {
            let own = self.sides(rows);
            for (j, columns) in second.chunks(most).enumerate() {
                if same && j < i {
                    continue;
                }
                let others = self.sides(columns);
                let block = s![i * most..i * most + rows.len(), j * most..j * most + columns.len()];
                let mut block = out.slice_mut(block);
                let mut lines: Vec<_> = block.rows_mut().into_iter().enumerate().collect();
                lines.par_iter_mut().try_for_each_init(
                    Scratch::default,
                    |scratch, (r, line)| {
                        let from = if same && i == j { *r } else { 0 };
                        for c in from..columns.len() {
                            let (x, y) = ((&*rows[*r], &own[*r]), (&*columns[c], &others[c]));
                            line[c] = T::of(self.value(x, y, scratch));
                            check_finite(self.title(), &[line[c]])?;
                        }
                        Ok::<_, Error>(())
                    },
                )?;
            }
        }
        if same {
            for i in 0..first.len() {
                for j in 0..i {
                    out[[i, j]] = out[[j, i]];
                }
            }
        }
        Ok(())
    }
}

impl Kernel for Convolutional {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        self.evaluate(x, y, out)
    }

    /// Computed in double precision and rounded.
    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, out: MatMut<'_>) -> Result<()> {
        self.evaluate(x, y, out)
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        expect_columns("x", x, self.layers.image.area() * self.layers.channels)?;
        let values: Vec<f64> = self
            .pixels(x)?
            .par_iter()
            .map_init(Scratch::default, |scratch, image| {
                let side = self.layers.side(image, scratch);
                self.value((image, &side), (image, &side), scratch)
            })
            .collect();
        check_finite(self.title(), &values)?;
        Ok(values)
    }

    fn text(&self) -> String {
        self.spec.text(self.tangent)
    }
}

/// The registry's entry.
pub(in crate::kernel) const CNN_GP: Entry<Arc<dyn Kernel>> = Entry {
    name: "cnn_gp",
    summary: "covariance of a convolutional network of infinitely many channels at initialisation",
    parameters: spec::PARAMETERS,
    build: |args| spec::build(args, false),
};

/// The registry's entry.
pub(in crate::kernel) const CNTK: Entry<Arc<dyn Kernel>> = Entry {
    name: "cntk",
    summary: "neural tangent kernel of a convolutional network of infinitely many channels",
    parameters: spec::PARAMETERS,
    build: |args| spec::build(args, true),
};
