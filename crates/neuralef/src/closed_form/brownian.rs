//! Brownian motion under the uniform measure: sines.

use std::f64::consts::{PI, SQRT_2};

use super::{KnownSpectrum, check_pairs, check_points, positive};
use crate::error::Result;
use crate::matrix::{Mat64, MatRef};

/// κ(s, t) = min(s, t) under U[0, T]: μ_j = T/((j − ½)²π²), ψ_j(t) = √2 sin((j − ½)πt/T), j ≥ 1
/// (the Karhunen–Loève expansion of Brownian motion). Eigenfunctions are evaluated in
/// double precision at any t; outside [0, T] they are the sines, not the Nyström extension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrownianUniform {
    end: f64,
}

impl BrownianUniform {
    /// On U[0, `end`].
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) unless `end` is positive.
    pub fn new(end: f64) -> Result<Self> {
        Ok(BrownianUniform { end: positive("end", end)? })
    }
}

impl KnownSpectrum for BrownianUniform {
    fn inputs(&self) -> usize {
        1
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn eigenvalues(&self, k: usize) -> Result<Vec<f64>> {
        check_pairs(k)?;
        Ok((0..k).map(|j| self.end / ((j as f64 + 0.5) * PI).powi(2)).collect())
    }

    fn eigenfunctions(&self, x: MatRef<'_>, k: usize) -> Result<Mat64> {
        check_points(x, 1, k)?;
        Ok(Mat64::from_shape_fn((x.nrows(), k), |(i, j)| {
            SQRT_2 * ((j as f64 + 0.5) * PI * (f64::from(x[(i, 0)]) / self.end)).sin()
        }))
    }

    fn trace(&self) -> f64 {
        self.end / 2.0
    }
}
