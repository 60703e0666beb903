//! Forward mode of a dense network: values and their derivatives along a tangent of the parameters.

use rayon::prelude::*;

use super::{BLOCK, Dense};
use crate::error::Result;
use crate::matrix::{Mat, MatRef, expect_columns};
use crate::nn::parameters::Parameters;
use crate::nn::product::{Rows, Start, multiply};
use crate::nn::rows::{finite, in_order, matrix};

impl Dense {
    /// See [`Network::jvp`](crate::nn::Network::jvp).
    pub(super) fn tangents(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        expect_columns("x", x, self.shape.inputs)?;
        self.check_layout("parameters", &self.parameters)?;
        self.check_layout("tangent", tangent)?;
        let ((n, d), k, heads) = (x.dim(), self.columns(), self.shape.heads);
        let x = in_order(&x);
        let (weights, tangents) = (self.pack_all(&self.parameters), self.pack_all(tangent));
        let mut out = vec![0.0f32; n * k];
        let size = BLOCK * self.widest();
        let blocks = out.par_chunks_mut(BLOCK * k).zip(x.par_chunks(BLOCK * d));
        blocks.for_each_init(
            || std::array::from_fn(|_| vec![0.0f32; size]),
            |[a, next, dot, next_dot, slope]: &mut [Vec<f32>; 5], (out, x)| {
                let count = x.len() / d;
                for (u, panels) in weights.iter().zip(&tangents).enumerate() {
                    for (l, (inner, outer)) in self.layers.iter().copied().enumerate() {
                        let (from, to) = (self.stride(inner), self.stride(outer));
                        let rows = match l {
                            0 => Rows { data: x, stride: d, count },
                            _ => Rows { data: a, stride: from, count },
                        };
                        let rate = &mut next_dot[..count * to];
                        multiply(self.arch, rows, &panels.1[l], Start::Bias, None, rate);
                        if l > 0 {
                            let dot = Rows { data: dot, stride: from, count };
                            multiply(self.arch, dot, &panels.0[l], Start::Output, None, rate);
                        }
                        if l + 1 < self.layers.len() {
                            let value = &mut next[..count * to];
                            let slope = &mut slope[..count * to];
                            multiply(self.arch, rows, &panels.0[l], Start::Bias, None, value);
                            let activation = self.shape.activation;
                            activation.apply(self.arch, value, Some(slope), outer, to);
                            rate.iter_mut().zip(slope).for_each(|(r, s)| *r *= *s);
                        }
                        std::mem::swap(a, next);
                        std::mem::swap(dot, next_dot);
                    }
                    let rows = out.chunks_exact_mut(k);
                    for (to, from) in rows.zip(dot.chunks_exact(self.stride(heads))) {
                        to[u * heads..(u + 1) * heads].copy_from_slice(&from[..heads]);
                    }
                }
            },
        );
        finite("directional derivative", matrix(n, k, out)?)
    }
}
