//! Moments of the weights along a trajectory: their mean is SWA, with a diagonal and the last
//! deviations they are SWAG.

use std::collections::VecDeque;

use rand_distr::{Distribution as _, StandardNormal};

use crate::error::{Error, Result};
use crate::nn::Parameters;
use crate::rng;

/// Running mean and variance of every weight, in double precision, and the last `rank` deviations from
/// the running mean: SWA (Izmailov et al. 2018) and SWAG (Maddox et al. 2019, algorithm 1). Statistics
/// of batch normalisation are not among them: refresh those for every set of weights.
///
/// P weights take 16P bytes, and 4P for each deviation. An update is O(P).
#[derive(Debug, Clone)]
pub struct WeightMoments {
    rank: usize,
    count: u64,
    mean: Vec<Vec<f64>>,
    /// Sums of squared distances to the mean.
    squares: Vec<Vec<f64>>,
    deviations: VecDeque<Vec<Vec<f32>>>,
}

impl WeightMoments {
    /// Of nothing yet, for weights laid out like `parameters`; the last `rank` deviations are kept.
    pub fn new(parameters: &Parameters, rank: usize) -> Self {
        let zeros = || parameters.units().iter().map(|u| vec![0.0; u.len()]).collect::<Vec<_>>();
        let (mean, squares) = (zeros(), zeros());
        WeightMoments { rank, count: 0, mean, squares, deviations: VecDeque::new() }
    }

    /// How many sets of weights were taken in.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many deviations there are.
    pub fn deviations(&self) -> usize {
        self.deviations.len()
    }

    fn expect(&self, parameters: &Parameters) -> Result<()> {
        let sizes = |units: &[Vec<f32>]| units.iter().map(Vec::len).collect::<Vec<_>>();
        if parameters.units().iter().map(Vec::len).eq(self.mean.iter().map(Vec::len)) {
            return Ok(());
        }
        let expected: Vec<usize> = self.mean.iter().map(Vec::len).collect();
        let got = sizes(parameters.units());
        Err(Error::shape("parameters", format!("{expected:?}"), format!("{got:?}")))
    }

    /// Takes in a set of weights.
    ///
    /// # Errors
    /// [`Error::Shape`] when they are laid out otherwise.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        self.expect(parameters)?;
        self.count += 1;
        let count = self.count as f64;
        // The oldest deviation makes room, and its memory is used again.
        let mut deviation = match self.deviations.len() >= self.rank {
            true => self.deviations.pop_front().unwrap_or_default(),
            false => Vec::new(),
        };
        deviation.resize_with(self.mean.len(), Vec::new);
        let moments = self.mean.iter_mut().zip(&mut self.squares);
        for ((weights, (mean, squares)), deviation) in
            parameters.units().iter().zip(moments).zip(&mut deviation)
        {
            deviation.resize(weights.len(), 0.0);
            for (i, weight) in weights.iter().enumerate() {
                let weight = f64::from(*weight);
                let before = weight - mean[i];
                mean[i] += before / count;
                let after = weight - mean[i];
                squares[i] += before * after;
                deviation[i] = after as f32;
            }
        }
        if self.rank > 0 {
            self.deviations.push_back(deviation);
        }
        Ok(())
    }

    /// The mean of the weights so far, SWA, in `parameters`.
    ///
    /// # Errors
    /// [`Error::Shape`] when they are laid out otherwise; [`Error::InvalidParameter`] for the mean of
    /// nothing.
    pub fn mean_into(&self, parameters: &mut Parameters) -> Result<()> {
        self.expect(parameters)?;
        if self.count == 0 {
            return Err(Error::parameter("states", "at least one", 0));
        }
        for (to, mean) in parameters.units_mut().iter_mut().zip(&self.mean) {
            to.iter_mut().zip(mean).for_each(|(to, mean)| *to = *mean as f32);
        }
        Ok(())
    }

    /// Variances of the weights, unit by unit.
    pub fn variances(&self) -> Vec<Vec<f64>> {
        let count = self.count.max(1) as f64;
        let of = |unit: &Vec<f64>| unit.iter().map(|s| s / count).collect();
        self.squares.iter().map(of).collect()
    }

    /// Draw number `number` of SWAG in `parameters`: with K deviations D and diagonal Σ,
    /// θ̄ + √scale·(Σ^½z₁ + Dz₂/√(K − 1)), z₁ and z₂ standard normal. The covariance is
    /// scale·(Σ + DDᵀ/(K − 1)); Maddox et al. have scale = ½.
    ///
    /// # Errors
    /// As [`mean_into`](WeightMoments::mean_into), [`Error::InvalidParameter`] for fewer than two
    /// deviations or a scale that is not positive.
    pub fn sample_into(
        &self,
        parameters: &mut Parameters,
        scale: f64,
        seed: u64,
        number: u64,
    ) -> Result<()> {
        self.expect(parameters)?;
        let rank = self.deviations.len();
        if rank < 2 {
            return Err(Error::parameter("rank", "at least 2 deviations to sample from", rank));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::parameter("scale", "a positive finite number", scale));
        }
        let mut rng = rng::stream(seed, "swag", number);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let low: Vec<f64> = (0..rank).map(|_| normal() / ((rank - 1) as f64).sqrt()).collect();
        let (root, count) = (scale.sqrt(), self.count as f64);
        for (unit, to) in parameters.units_mut().iter_mut().enumerate() {
            for (i, to) in to.iter_mut().enumerate() {
                let mut off = (self.squares[unit][i] / count).sqrt() * normal();
                for (deviation, z) in self.deviations.iter().zip(&low) {
                    off += f64::from(deviation[unit][i]) * z;
                }
                *to = (self.mean[unit][i] + root * off) as f32;
            }
        }
        Ok(())
    }
}
