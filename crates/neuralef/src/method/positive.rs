//! Positive random features (FAVOR+) of softmax and rbf kernels (Choromanski et al. 2021).

use std::sync::Arc;

use ndarray::s;
use rayon::prelude::*;

use super::frequencies::{self, Sampling};
use super::reduced::{self, Reduced};
use super::{Fitted, Method, Run};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, Problem};
use crate::kernel::{Exponential, Kernel, Law};
use crate::linalg::{expect_finite_f32, matmul_f64};
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::persist::Archive;
use crate::simd::{Fuse, Op, Real, dispatch};
use crate::spec::{Domain, Entry, Parameter};

/// Rows evaluated together.
const ROWS: usize = 128;
/// Powers of two from here on are beyond single precision.
const END: f64 = 128.0;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "positive",
    summary: "positive random features of softmax and rbf kernels (Choromanski et al. 2021)",
    parameters: &[
        reduced::FEATURES,
        Parameter::new("orthogonal", Domain::Boolean, "true", "blocks of orthogonal frequencies"),
        Parameter::new(
            "hyperbolic",
            Domain::Boolean,
            "true",
            "each frequency with its negative: no more error, half the draws",
        ),
    ],
    build: |args| {
        let (features, orthogonal) = (reduced::features(args)?, args.boolean("orthogonal")?);
        let hyperbolic = args.boolean("hyperbolic")?;
        Ok(Arc::new(PositiveMethod { features, orthogonal, hyperbolic }))
    },
};

/// See the [module](self).
#[derive(Debug)]
struct PositiveMethod {
    features: Option<usize>,
    orthogonal: bool,
    hyperbolic: bool,
}

impl Method for PositiveMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        reduced::fit("positive", self.features, problem, run, |kernel, count, centre| {
            let Some(form) = kernel.exponential() else {
                return Err(reduced::unserved(
                    "positive",
                    kernel,
                    "positive random features exist for softmax and rbf kernels and products of \
                     these",
                ));
            };
            let shape = (count, self.orthogonal, self.hyperbolic);
            let map = PositiveFeatures::draw(form, centre, shape, problem.spec.seed)?;
            Ok(Box::new(map))
        })
    }

    fn load(
        &self,
        archive: &Archive,
        _: &FitSpec,
        _: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        let map = Box::new(PositiveFeatures::load(archive)?);
        if self.features.is_none() { Ok(map) } else { Ok(Box::new(Reduced::load(archive, map)?)) }
    }

    fn text(&self) -> String {
        let PositiveMethod { features, orthogonal, hyperbolic } = self;
        match features {
            Some(features) => ENTRY.text(&[
                ("features", features),
                ("orthogonal", orthogonal),
                ("hyperbolic", hyperbolic),
            ]),
            None => ENTRY.text(&[("orthogonal", orthogonal), ("hyperbolic", hyperbolic)]),
        }
    }
}

/// φᵢ(x) = √(w/D)·exp(√γ ωᵢᵀx − ½(γ + δ)‖x‖²), ωᵢ ~ N(0, I), with E φ(x)ᵀφ(x') =
/// w·exp(γxᵀx' − ½δ(‖x‖² + ‖x'‖²)) (Choromanski et al. 2021, Lemma 1). All features are positive, so
/// that small kernel values have small errors: with z = √γ(x + x') the variance over D independent
/// ω is κ²·(exp(‖z‖²) − 1)/D (Lemma 2). Hyperbolic features take −ωᵢ with ωᵢ, D/2 of each (an odd
/// one alone); at equal D that lowers the variance by the factor 1 − exp(−‖z‖²).
///
/// The variance grows with the size of the points. For kernels of x − x' (δ = γ) they are centred.
///
/// Exponents are computed in double precision: they are differences of large numbers. A value
/// beyond single precision, and a point whose κ(x, x) is, are errors; features too small for single
/// precision are 0. Evaluating costs O(n·D·d).
#[derive(Debug, Clone)]
pub(super) struct PositiveFeatures {
    /// √γ·ω·log₂e, d × P: the hyperbolic ones first.
    frequencies: Mat64,
    /// How many come with their negatives.
    pairs: usize,
    /// ½(γ + δ)·log₂e.
    curvature: f64,
    /// (γ − δ)·log₂e: log₂ κ(x, x) = growth·‖x‖² + log₂ w.
    growth: f64,
    /// log₂ w.
    weight: f64,
    centre: Vec<f32>,
}

impl PositiveFeatures {
    /// Features (`count`, orthogonal, hyperbolic) for the kernel `form`.
    pub(super) fn draw(
        form: Exponential,
        centre: Vec<f32>,
        (count, orthogonal, hyperbolic): (usize, bool, bool),
        seed: u64,
    ) -> Result<Self> {
        let Exponential { weight, gamma, decay } = form;
        let d = centre.len();
        let pairs = if hyperbolic { count / 2 } else { 0 };
        let sampling = if orthogonal { Sampling::Orthogonal } else { Sampling::Independent };
        let log2e = std::f64::consts::LOG2_E;
        let laws = [Law::Gaussian { scale: gamma.sqrt() * log2e }];
        let (drawn, _) = frequencies::draw(&laws, (count - pairs, d), sampling, seed, 0)?;
        let centre = if gamma == decay { centre } else { vec![0.0; d] };
        let frequencies = drawn.reversed_axes().as_standard_layout().to_owned();
        let curvature = 0.5 * (gamma + decay) * log2e;
        let growth = (gamma - decay) * log2e;
        Self::from_parts(frequencies, centre, [pairs as f64, curvature, growth, weight.log2()])
    }

    fn from_parts(frequencies: Mat64, centre: Vec<f32>, numbers: [f64; 4]) -> Result<Self> {
        let (d, p) = frequencies.dim();
        let [pairs, curvature, growth, weight] = numbers;
        let fits = p > 0 && centre.len() == d && (0.0..=p as f64).contains(&pairs);
        if !fits || pairs.fract() != 0.0 {
            let got = format!("{d} × {p}, {pairs} pairs, a centre of {}", centre.len());
            return Err(Error::shape("frequencies of positive features", "d × P, P ≥ 1", got));
        }
        crate::linalg::expect_finite_f64("frequencies of positive features", frequencies.view())?;
        let finite = numbers.iter().all(|v| v.is_finite()) && centre.iter().all(|v| v.is_finite());
        if !finite || curvature < 0.0 {
            let got = format!("{numbers:?}");
            return Err(Error::parameter("positive features", "finite numbers", got));
        }
        let pairs = pairs as usize;
        Ok(PositiveFeatures { frequencies, pairs, curvature, growth, weight, centre })
    }

    fn load(archive: &Archive) -> Result<Self> {
        let shape = archive.shape("frequencies").unwrap_or(&[]).to_vec();
        let [d, p] = shape[..] else {
            return Err(archive.fault("tensor \"frequencies\": expected a matrix"));
        };
        let frequencies = archive.f64_matrix("frequencies", (d, p))?;
        let centre = archive.f32_matrix("centre")?.iter().copied().collect();
        let numbers = archive.f64("constants", &[4])?;
        let numbers = [numbers[0], numbers[1], numbers[2], numbers[3]];
        PositiveFeatures::from_parts(frequencies, centre, numbers)
    }

    /// Features of rows `first`… into `out`.
    fn block(&self, x: MatRef<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        let width = self.components();
        let x = Mat64::from_shape_fn(x.dim(), |(i, j)| {
            f64::from(x[(i, j)]) - f64::from(self.centre[j])
        });
        let along = matmul_f64(x.view(), self.frequencies.view())?;
        let shift = 0.5 * (self.weight - (width as f64).log2());
        for (i, ((x, along), out)) in
            x.rows().into_iter().zip(along.rows()).zip(out.chunks_exact_mut(width)).enumerate()
        {
            let square: f64 = x.iter().map(|v| v * v).sum();
            let value = self.growth * square + self.weight;
            let offset = shift - self.curvature * square;
            let along = along.as_slice().unwrap_or(&[]);
            let largest = dispatch(Powers { along, pairs: self.pairs, offset, out });
            // Written so that NaN fails.
            if !(value < END && largest < END) {
                let (what, log) = if value < END {
                    ("a feature", largest)
                } else {
                    ("the kernel at the point itself", value)
                };
                let row = first + i;
                let message = format!(
                    "{what} is 2^{log:.0} at row {row}, beyond the range of 32 bits; scale the \
                     data or gamma down"
                );
                return Err(Error::Numerical { what: "positive random features".into(), message });
            }
        }
        Ok(())
    }
}

impl FeatureMap for PositiveFeatures {
    fn inputs(&self) -> usize {
        self.centre.len()
    }

    fn components(&self) -> usize {
        self.frequencies.ncols() + self.pairs
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        expect_columns("x", x, self.inputs())?;
        expect_finite_f32("x", x)?;
        let width = self.components();
        let mut out = vec![0.0f32; x.nrows() * width];
        out.par_chunks_mut(ROWS * width).enumerate().try_for_each(|(b, out)| {
            let first = b * ROWS;
            self.block(x.slice(s![first..first + out.len() / width, ..]), first, out)
        })?;
        reduced::shaped(x.nrows(), width, out)
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        None
    }

    fn eigenfunctions(&self, _: MatRef<'_>) -> Result<Mat64> {
        Err(reduced::no_eigenfunctions("positive"))
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (d, p) = self.frequencies.dim();
        archive.put_f64("frequencies", &[d, p], self.frequencies.iter().copied().collect())?;
        archive.put_f32("centre", &[1, d], self.centre.clone())?;
        let numbers = vec![self.pairs as f64, self.curvature, self.growth, self.weight];
        archive.put_f64("constants", &[4], numbers)
    }
}

/// 2^(±along + offset) for one row; the largest exponent.
struct Powers<'a> {
    along: &'a [f64],
    pairs: usize,
    offset: f64,
    out: &'a mut [f32],
}

impl Op for Powers<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<F: Fuse>(self) -> f64 {
        let Powers { along, pairs, offset, out } = self;
        let (plus, minus) = out.split_at_mut(along.len());
        let mut largest = f64::NEG_INFINITY;
        for (o, a) in plus.iter_mut().zip(along) {
            let z = a + offset;
            // Not a number stays the largest once it is there, and is found.
            largest = if z > largest || z.is_nan() { z } else { largest };
            *o = <f64 as Real>::exp2::<F>(z.least(END)) as f32;
        }
        for (o, a) in minus.iter_mut().zip(&along[..pairs]) {
            let z = offset - a;
            largest = if z > largest || z.is_nan() { z } else { largest };
            *o = <f64 as Real>::exp2::<F>(z.least(END)) as f32;
        }
        largest
    }
}

#[cfg(test)]
#[path = "positive_tests.rs"]
mod tests;
