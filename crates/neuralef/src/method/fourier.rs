//! Random Fourier features (Rahimi & Recht 2007) of stationary kernels, their sums and products.

use std::sync::Arc;

use ndarray::{Axis, s};
use rayon::prelude::*;

use super::frequencies::{self, Sampling};
use super::reduced::{self, Reduced};
use super::{Fitted, Method, Run};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, Problem};
use crate::kernel::{Kernel, SpectralTerm};
use crate::linalg::{expect_finite_f32, matmul_f32, matmul_f64};
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::persist::Archive;
use crate::simd::{Fuse, Op, Real, dispatch};
use crate::spec::{Choice as _, Domain, Entry, Parameter};

/// Rows evaluated together.
const ROWS: usize = 128;
/// Bound on the phases of a row, in turns, up to which single precision computes them; the error of
/// a phase is below 64·2⁻²⁴ of a turn times a few roundings.
const NEAR: f64 = 64.0;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "fourier",
    summary: "random Fourier features of stationary kernels (Rahimi & Recht 2007)",
    parameters: &[
        reduced::FEATURES,
        Parameter::new(
            "form",
            Domain::one_of("form", || vec!["sin_cos", "cos"]),
            "sin_cos",
            "sin_cos: cosine and sine of each frequency; cos: random phases",
        ),
        Parameter::new(
            "frequencies",
            Domain::choice::<Sampling>(),
            "auto",
            "orthogonal, independent, sobol or halton; auto: orthogonal where the law of the \
             frequencies is rotation-invariant (all but laplacian), else independent",
        ),
    ],
    build: |args| {
        let (features, cosine) = (reduced::features(args)?, args.is("form", "cos"));
        Ok(Arc::new(FourierMethod { features, cosine, sampling: args.choice("frequencies")? }))
    },
};

/// See the [module](self).
#[derive(Debug)]
struct FourierMethod {
    features: Option<usize>,
    cosine: bool,
    sampling: Sampling,
}

impl Method for FourierMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        reduced::fit("fourier", self.features, problem, run, |kernel, count, centre| {
            let Some(terms) = kernel.spectral() else {
                return Err(reduced::unserved(
                    "fourier",
                    kernel,
                    "random Fourier features exist for stationary kernels of known spectral \
                     density (rbf, laplacian, matern, rational_quadratic), constants, and sums \
                     and products of these",
                ));
            };
            let draw = Draw { cosine: self.cosine, sampling: self.sampling };
            let map = FourierFeatures::draw(&terms, count, centre, draw, problem.spec.seed)?;
            Ok(Box::new(map))
        })
    }

    fn load(
        &self,
        archive: &Archive,
        _: &FitSpec,
        _: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        let map = Box::new(FourierFeatures::load(archive)?);
        if self.features.is_none() { Ok(map) } else { Ok(Box::new(Reduced::load(archive, map)?)) }
    }

    fn text(&self) -> String {
        let form = if self.cosine { "cos" } else { "sin_cos" };
        let frequencies = self.sampling.name();
        match &self.features {
            Some(features) => ENTRY.text(&[
                ("features", features),
                ("form", &form),
                ("frequencies", &frequencies),
            ]),
            None => ENTRY.text(&[("form", &form), ("frequencies", &frequencies)]),
        }
    }
}

/// How the waves are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) cosine: bool,
    pub(super) sampling: Sampling,
}

/// Random waves φ with E φ(x)ᵀφ(x') = κ(x, x'), for κ = Σ_t w_t E cos(ωᵀ(x − x')).
///
/// A frequency serves as a pair a·cos(ωᵀx), a·sin(ωᵀx), or alone as a·cos(ωᵀx + b) with a uniform
/// phase b; a = √(2w/F) with F the features of its term. Pairs have the smaller error: over F/2
/// frequencies of an rbf kernel the variance of φ(x)ᵀφ(x') is (1 − κ²)²/F (Sutherland & Schneider
/// 2015); phases add to that. With pairs φ(x)ᵀφ(x) = κ(x, x) exactly. An odd
/// number of features has one frequency with a phase. Constants are one feature, exactly.
///
/// Terms of a sum get features in proportion to their weights (largest remainders, at least one
/// unit each): drawing the term anew for every frequency would add the variance between terms.
///
/// Evaluating n points costs O(n·D·d) in single precision. Phases are taken about the centre of the
/// training points, which changes no difference, and in double precision for rows where they are
/// large, so that neither an offset of the data nor heavy-tailed frequencies cost accuracy.
#[derive(Debug, Clone)]
pub(super) struct FourierFeatures {
    /// d × P, in turns for each unit of length: first the pairs, then the lone ones.
    frequencies: Mat,
    /// The phases of the lone ones, in turns.
    phases: Vec<f32>,
    /// One for each frequency.
    amplitudes: Vec<f32>,
    centre: Vec<f32>,
    /// The largest length of a frequency.
    longest: f64,
}

impl FourierFeatures {
    /// `count` features.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the terms need more features, and as [`frequencies::draw`].
    pub(super) fn draw(
        terms: &[SpectralTerm],
        count: usize,
        centre: Vec<f32>,
        draw: Draw,
        seed: u64,
    ) -> Result<Self> {
        let d = centre.len();
        let constant: f64 = terms.iter().filter(|t| t.laws.is_empty()).map(|t| t.weight).sum();
        let waves: Vec<&SpectralTerm> =
            terms.iter().filter(|t| !t.laws.is_empty() && t.weight > 0.0).collect();
        let has_constant = constant > 0.0 || waves.is_empty();
        let left = count.saturating_sub(usize::from(has_constant));
        let (units, odd) = if draw.cosine { (left, 0) } else { (left / 2, left % 2) };
        let enough = units >= waves.len() || (waves.len() == 1 && odd == 1);
        if count == 0 || !enough {
            let unit = if draw.cosine { 1 } else { 2 };
            let least = unit * waves.len() + usize::from(has_constant);
            let expected = format!("at least {least}, for the {} terms of the kernel", terms.len());
            return Err(Error::parameter("number of random features", expected, count));
        }
        let shares = shares(&waves.iter().map(|t| t.weight).collect::<Vec<_>>(), units);
        let heaviest =
            (0..waves.len()).max_by(|a, b| waves[*a].weight.total_cmp(&waves[*b].weight));
        let (mut pairs, mut alone) = (Vec::new(), Vec::new());
        for (t, term) in waves.iter().enumerate() {
            let lone = if draw.cosine { shares[t] } else { odd * usize::from(Some(t) == heaviest) };
            let paired = if draw.cosine { 0 } else { shares[t] };
            let features = 2 * paired + lone;
            let amplitude = (2.0 * term.weight / features as f64).sqrt();
            let shape = (paired + lone, d);
            let (drawn, phases) =
                frequencies::draw(&term.laws, shape, draw.sampling, seed, t as u64)?;
            for (i, (row, phase)) in drawn.rows().into_iter().zip(phases).enumerate() {
                let turns: Vec<f32> =
                    row.iter().map(|v| (v / std::f64::consts::TAU) as f32).collect();
                let wave = (turns, phase as f32, amplitude as f32);
                if i < paired { pairs.push(wave) } else { alone.push(wave) }
            }
        }
        if has_constant {
            alone.push((vec![0.0; d], 0.0, constant.sqrt() as f32));
        }
        let phases = alone.iter().map(|wave| wave.1).collect();
        pairs.extend(alone);
        let frequencies = Mat::from_shape_fn((d, pairs.len()), |(i, j)| pairs[j].0[i]);
        let amplitudes = pairs.iter().map(|wave| wave.2).collect();
        FourierFeatures::from_parts(frequencies, phases, amplitudes, centre)
    }

    fn from_parts(
        frequencies: Mat,
        phases: Vec<f32>,
        amplitudes: Vec<f32>,
        centre: Vec<f32>,
    ) -> Result<Self> {
        let (d, p) = frequencies.dim();
        if p == 0 || phases.len() > p || amplitudes.len() != p || centre.len() != d {
            let got = format!(
                "{d} × {p} with {} phases, {} amplitudes and a centre of {}",
                phases.len(),
                amplitudes.len(),
                centre.len()
            );
            return Err(Error::shape("random frequencies", "d × P, P ≥ 1", got));
        }
        expect_finite_f32("random frequencies", frequencies.view())?;
        let numbers = [&phases[..], &amplitudes, &centre].concat();
        expect_finite_f32("phases of random features", row(&numbers)?.view())?;
        let square =
            |c: ndarray::ArrayView1<'_, f32>| c.iter().map(|v| f64::from(*v).powi(2)).sum();
        let longest = frequencies.columns().into_iter().map(square).fold(0.0, f64::max).sqrt();
        Ok(FourierFeatures { frequencies, phases, amplitudes, centre, longest })
    }

    fn load(archive: &Archive) -> Result<Self> {
        let vector = |name| Ok::<_, Error>(archive.f32_matrix(name)?.iter().copied().collect());
        let frequencies = archive.f32_matrix("frequencies")?;
        // Every lone frequency has a phase; the tensor is absent when there are none.
        let phases = match archive.shape("phases") {
            Some(_) => vector("phases")?,
            None => Vec::new(),
        };
        let (amplitudes, centre) = (vector("amplitudes")?, vector("centre")?);
        FourierFeatures::from_parts(frequencies, phases, amplitudes, centre)
    }

    fn pairs(&self) -> usize {
        self.amplitudes.len() - self.phases.len()
    }

    /// ωᵀ(x − c) in turns, n × P: whole turns are dropped in rows where they are many.
    fn turns(&self, x: MatRef<'_>) -> Result<Mat> {
        let centred = Mat64::from_shape_fn(x.dim(), |(i, j)| {
            f64::from(x[(i, j)]) - f64::from(self.centre[j])
        });
        let near = |row: ndarray::ArrayView1<'_, f64>| row.dot(&row).sqrt() * self.longest <= NEAR;
        let far: Vec<usize> = (0..x.nrows()).filter(|&i| !near(centred.row(i))).collect();
        let single = centred.mapv(|v| v as f32);
        if far.is_empty() {
            return matmul_f32(single.view(), self.frequencies.view());
        }
        let wide = self.frequencies.mapv(f64::from);
        let exact = matmul_f64(centred.select(Axis(0), &far).view(), wide.view())?;
        let mut turns = if far.len() == x.nrows() {
            Mat::zeros((x.nrows(), self.amplitudes.len()))
        } else {
            matmul_f32(single.view(), self.frequencies.view())?
        };
        for (exact, i) in exact.rows().into_iter().zip(far) {
            let reduced = exact.mapv(|t| (t - t.round_ties_even()) as f32);
            turns.row_mut(i).assign(&reduced);
        }
        Ok(turns)
    }
}

impl FeatureMap for FourierFeatures {
    fn inputs(&self) -> usize {
        self.centre.len()
    }

    fn components(&self) -> usize {
        self.amplitudes.len() + self.pairs()
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        expect_columns("x", x, self.inputs())?;
        expect_finite_f32("x", x)?;
        let width = self.components();
        let mut out = vec![0.0f32; x.nrows() * width];
        out.par_chunks_mut(ROWS * width).enumerate().try_for_each(|(b, out)| {
            let first = b * ROWS;
            let turns = self.turns(x.slice(s![first..first + out.len() / width, ..]))?;
            dispatch(Waves { map: self, turns: turns.as_slice().unwrap_or(&[]), out });
            Ok::<_, Error>(())
        })?;
        reduced::shaped(x.nrows(), width, out)
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        None
    }

    fn eigenfunctions(&self, _: MatRef<'_>) -> Result<Mat64> {
        Err(reduced::no_eigenfunctions("fourier"))
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (d, p) = self.frequencies.dim();
        archive.put_f32("frequencies", &[d, p], self.frequencies.iter().copied().collect())?;
        if !self.phases.is_empty() {
            archive.put_f32("phases", &[1, self.phases.len()], self.phases.clone())?;
        }
        archive.put_f32("amplitudes", &[1, p], self.amplitudes.clone())?;
        archive.put_f32("centre", &[1, d], self.centre.clone())
    }
}

/// Numbers as a matrix of one row.
fn row(numbers: &[f32]) -> Result<Mat> {
    reduced::shaped(1, numbers.len(), numbers.to_vec())
}

/// Splits `units` in proportion to `weights`: whole numbers, at least 1 each where units suffice.
fn shares(weights: &[f64], units: usize) -> Vec<usize> {
    let largest = weights.iter().fold(0.0, |m: f64, w| m.max(*w));
    let total: f64 = weights.iter().map(|w| w / largest).sum();
    let quota: Vec<f64> = weights.iter().map(|w| w / largest / total * units as f64).collect();
    let least = usize::from(units >= weights.len());
    let mut out: Vec<usize> = quota.iter().map(|q| (q.floor() as usize).max(least)).collect();
    let by = |out: &[usize], i: usize| quota[i] - out[i] as f64;
    while out.iter().sum::<usize>() < units {
        let next = (0..out.len()).max_by(|a, b| by(&out, *a).total_cmp(&by(&out, *b)));
        let Some(next) = next else { break };
        out[next] += 1;
    }
    while out.iter().sum::<usize>() > units {
        let able = (0..out.len()).filter(|i| out[*i] > least);
        let Some(next) = able.min_by(|a, b| by(&out, *a).total_cmp(&by(&out, *b))) else { break };
        out[next] -= 1;
    }
    out
}

/// Cosines and sines of turns.
struct Waves<'a> {
    map: &'a FourierFeatures,
    /// n × P.
    turns: &'a [f32],
    /// n × D.
    out: &'a mut [f32],
}

impl Op for Waves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Waves { map, turns, out } = self;
        let (p, pairs) = (map.amplitudes.len(), map.pairs());
        let (paired, alone) = map.amplitudes.split_at(pairs);
        for (turns, out) in turns.chunks_exact(p).zip(out.chunks_exact_mut(p + pairs)) {
            let (waves, rest) = turns.split_at(pairs);
            let (cosines, others) = out.split_at_mut(pairs);
            let (sines, lone) = others.split_at_mut(pairs);
            for (((c, s), t), a) in cosines.iter_mut().zip(sines).zip(waves).zip(paired) {
                // Half turns, in [−1, 1].
                let h = 2.0 * (*t - t.round_ties_even());
                let size = <f32 as Real>::abs(h);
                let (x, y) = (0.5 - size, 0.5 - <f32 as Real>::abs(size - 0.5));
                *c = *a * (x * (x * x).polynomial::<F>(f32::SIN_PI));
                *s = (*a * (y * (y * y).polynomial::<F>(f32::SIN_PI))).copysign(h);
            }
            for (((c, t), b), a) in lone.iter_mut().zip(rest).zip(&map.phases).zip(alone) {
                // Reduced before the phase is added: the phase is not rounded away.
                let t = (*t - t.round_ties_even()) + *b;
                let x = 0.5 - <f32 as Real>::abs(2.0 * (t - t.round_ties_even()));
                *c = *a * (x * (x * x).polynomial::<F>(f32::SIN_PI));
            }
        }
    }
}

#[cfg(test)]
#[path = "fourier_tests.rs"]
mod tests;
