//! The covariance of Brownian motion, and of the Brownian sheet in more dimensions.

use std::sync::Arc;

use ndarray::ArrayView1;

use super::Kernel;
use super::pairwise::{Elementary, Pairwise};
use crate::error::{Error, Result};
use crate::simd::{Fuse, Real};
use crate::spec::Entry;

/// κ(s, t) = Πᵢ min(sᵢ, tᵢ) for coordinates ≥ 0.
///
/// In one dimension, under the uniform measure on [0, 1]: μ_j = 1/((j − ½)²π²) and
/// ψ_j(t) = √2 sin((j − ½)πt) (the Karhunen–Loève expansion of Brownian motion). In d dimensions
/// the eigenpairs are products of these.
#[derive(Debug, Clone, Copy)]
struct Brownian;

impl Pairwise for Brownian {
    const START: f64 = 1.0;
    const UNBOUNDED: bool = true;

    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        total * x.least(y)
    }
    #[inline(always)]
    fn join<T: Real>(self, a: T, b: T) -> T {
        a * b
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total
    }
    fn scale(self, row: usize, point: ArrayView1<'_, f32>) -> Result<f64> {
        match point.iter().position(|v| *v < 0.0) {
            None => Ok(1.0),
            Some(column) => Err(Error::parameter(
                format!("input of kernel brownian at row {row}, column {column}"),
                "coordinates that are not negative",
                point[column],
            )),
        }
    }
}

impl Elementary for Brownian {
    const NAME: &'static str = "brownian";
    fn text(&self) -> String {
        BROWNIAN.text(&[])
    }
}

/// The registry's entry.
pub(super) const BROWNIAN: Entry<Arc<dyn Kernel>> = Entry {
    name: "brownian",
    summary: "min(s, t) for coordinates ≥ 0; the product over coordinates for d > 1",
    parameters: &[],
    build: |_| Ok(Arc::new(Brownian)),
};
