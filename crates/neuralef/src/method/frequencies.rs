//! Random frequencies: independent, orthogonal in blocks, or quasi-random (Sobol, Halton).

use rand::Rng as _;

use crate::error::{Error, Result};
use crate::kernel::{Law, normal_quantile};
use crate::matrix::Mat64;
use crate::rng::{Rng, stream};
use crate::spec::Choice;

/// Points that a Sobol sequence has.
const SOBOL_POINTS: usize = 1 << 16;

/// How frequencies are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// Orthogonal where the law allows it, else independent.
    Auto,
    /// Blocks of d orthogonal directions (Yu et al. 2016) with lengths of the radial law.
    Orthogonal,
    /// Independent draws.
    Independent,
    /// A scrambled Sobol sequence (Burley 2020) through inverse distribution functions.
    Sobol,
    /// A Halton sequence, shifted at random (Cranley & Patterson 1976), the same way.
    Halton,
}

impl Choice for Sampling {
    const KIND: &'static str = "frequencies";
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Sampling::Auto),
        ("orthogonal", Sampling::Orthogonal),
        ("independent", Sampling::Independent),
        ("sobol", Sampling::Sobol),
        ("halton", Sampling::Halton),
    ];
}

/// `count` frequencies in ℝ^d (rows, in radians), sums of one draw from each law, each with a phase
/// uniform on [0, 1). `part` tells the terms of a sum apart. O(count·d), orthogonal O(count·d²).
///
/// # Errors
/// [`Error::Unsupported`] for orthogonal frequencies of a law that is not rotation-invariant, and
/// for more than 256 dimensions or 65,536 points of a Sobol sequence.
pub(crate) fn draw(
    laws: &[Law],
    (count, d): (usize, usize),
    sampling: Sampling,
    seed: u64,
    part: u64,
) -> Result<(Mat64, Vec<f64>)> {
    let round = d <= 1 || laws.iter().all(Law::is_rotation_invariant);
    if sampling == Sampling::Orthogonal && !round {
        return Err(Error::Unsupported {
            what: "frequencies = orthogonal for a laplacian kernel".into(),
            reason: "its spectral density (Cauchy in every coordinate) is not rotation-invariant; \
                     frequencies = independent, sobol and halton serve it"
                .into(),
        });
    }
    let dimensions = 1 + laws.iter().map(|law| law.uniforms(d)).sum::<usize>();
    let mut source = Source::new(sampling, (count, dimensions), seed, part)?;
    let (mut out, mut phases) = (Mat64::zeros((count, d)), Vec::with_capacity(count));
    for (i, mut row) in out.rows_mut().into_iter().enumerate() {
        let mut point = source.point(i).into_iter();
        if let Some(frequency) = row.as_slice_mut() {
            laws.iter().for_each(|law| law.add(&mut point, frequency));
        }
        phases.push(point.next().unwrap_or(0.0));
    }
    if sampling == Sampling::Orthogonal || sampling == Sampling::Auto && round {
        orthogonalise(&mut out, seed, part);
    }
    Ok((out, phases))
}

/// Points in the unit cube, none of their coordinates 0 or 1.
enum Source {
    Random(Box<Rng>, usize),
    Sobol { seed: u32, dimensions: usize },
    Halton { shifts: Vec<f64>, primes: Vec<u32> },
}

impl Source {
    fn new(
        sampling: Sampling,
        (count, dimensions): (usize, usize),
        seed: u64,
        part: u64,
    ) -> Result<Self> {
        let mut rng = stream(seed, "frequencies", part);
        match sampling {
            Sampling::Sobol => {
                let most = sobol_burley::NUM_DIMENSIONS as usize;
                if dimensions > most || count > SOBOL_POINTS {
                    return Err(Error::Unsupported {
                        what: format!(
                            "frequencies = sobol with {count} points in {dimensions} dimensions"
                        ),
                        reason: format!(
                            "the sequence has {SOBOL_POINTS} points in {most} dimensions; \
                             frequencies = halton and independent have no limit"
                        ),
                    });
                }
                Ok(Source::Sobol { seed: rng.next_u32(), dimensions })
            }
            Sampling::Halton => {
                let shifts = (0..dimensions).map(|_| unit(&mut rng)).collect();
                Ok(Source::Halton { shifts, primes: primes(dimensions) })
            }
            _ => Ok(Source::Random(Box::new(rng), dimensions)),
        }
    }

    fn point(&mut self, i: usize) -> Vec<f64> {
        match self {
            Source::Random(rng, dimensions) => (0..*dimensions).map(|_| unit(rng)).collect(),
            Source::Sobol { seed, dimensions } => (0..*dimensions as u32)
                // Multiples of 2⁻²³: the middle of each step.
                .map(|j| f64::from(sobol_burley::sample(i as u32, j, *seed)) + 2f64.powi(-24))
                .collect(),
            Source::Halton { shifts, primes } => shifts
                .iter()
                .zip(primes)
                .map(|(shift, prime)| {
                    let v = (radical_inverse(i as u64 + 1, u64::from(*prime)) + shift).fract();
                    v.clamp(2f64.powi(-54), 1.0 - 2f64.powi(-53))
                })
                .collect(),
        }
    }
}

/// Uniform on (0, 1).
fn unit(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The digits of i in base b, mirrored at the point.
fn radical_inverse(mut i: u64, b: u64) -> f64 {
    let (mut out, mut digit) = (0.0, 1.0 / b as f64);
    while i > 0 {
        out += (i % b) as f64 * digit;
        i /= b;
        digit /= b as f64;
    }
    out
}

/// The first n primes.
fn primes(n: usize) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::with_capacity(n);
    let mut candidate = 2u32;
    while found.len() < n {
        let small = found.iter().take_while(|p| p.saturating_mul(**p) <= candidate);
        if small.into_iter().all(|p| !candidate.is_multiple_of(*p)) {
            found.push(candidate);
        }
        candidate += 1;
    }
    found
}

/// Gives blocks of d rows directions from a random orthogonal matrix (Haar measure, by
/// Gram–Schmidt on Gaussian vectors) and leaves every row its length: each row keeps its
/// rotation-invariant law.
fn orthogonalise(rows: &mut Mat64, seed: u64, part: u64) {
    let d = rows.ncols();
    if d <= 1 {
        return;
    }
    let mut rng = stream(seed, "directions", part);
    for mut block in rows.axis_chunks_iter_mut(ndarray::Axis(0), d) {
        let mut basis =
            Mat64::from_shape_simple_fn(block.dim(), || normal_quantile(unit(&mut rng)));
        for i in 0..basis.nrows() {
            let (before, mut rest) = basis.view_mut().split_at(ndarray::Axis(0), i);
            let mut current = rest.row_mut(0);
            // Twice is enough (Kahan, in Parlett 1980).
            for _ in 0..2 {
                let along = before.dot(&current);
                current -= &before.t().dot(&along);
            }
            let norm = current.dot(&current).sqrt();
            current /= norm;
        }
        for (mut row, direction) in block.rows_mut().into_iter().zip(basis.rows()) {
            let length = crate::linalg::norm2(row.iter().copied());
            row.assign(&(&direction * length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_orthogonal_and_lengths_are_kept() {
        let laws = [Law::StudentT { scale: 2.0, dof: 3.0 }];
        let (plain, _) = draw(&laws, (12, 5), Sampling::Independent, 3, 0).unwrap();
        let (turned, _) = draw(&laws, (12, 5), Sampling::Orthogonal, 3, 0).unwrap();
        for (a, b) in plain.rows().into_iter().zip(turned.rows()) {
            assert!((a.dot(&a) / b.dot(&b) - 1.0).abs() < 1e-12);
        }
        let gram = turned.dot(&turned.t());
        for ((i, j), v) in gram.indexed_iter() {
            if i != j && i / 5 == j / 5 {
                assert!(v.abs() < 1e-13 * (gram[(i, i)] * gram[(j, j)]).sqrt(), "{i} {j} {v}");
            }
        }
        assert_eq!(draw(&laws, (12, 5), Sampling::Auto, 3, 0).unwrap().0, turned);
    }

    #[test]
    fn sequences_are_the_known_ones() {
        assert_eq!(primes(6), [2, 3, 5, 7, 11, 13]);
        let halton: Vec<f64> = (1..5).map(|i| radical_inverse(i, 3)).collect();
        for (got, want) in halton.iter().zip([1.0 / 3.0, 2.0 / 3.0, 1.0 / 9.0, 4.0 / 9.0]) {
            assert!((got - want).abs() < 1e-15);
        }
        // Each of 64 points of a Sobol sequence in a cell of its own in every coordinate.
        let mut source = Source::new(Sampling::Sobol, (64, 7), 1, 0).unwrap();
        let points: Vec<Vec<f64>> = (0..64).map(|i| source.point(i)).collect();
        for j in 0..7 {
            let mut cells: Vec<usize> = points.iter().map(|p| (p[j] * 64.0) as usize).collect();
            cells.sort_unstable();
            assert_eq!(cells, (0..64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_cannot_be_drawn_says_what_can() {
        let laws = [Law::Gaussian { scale: 1.0 }, Law::Cauchy { scale: 1.0 }];
        let error = draw(&laws, (4, 2), Sampling::Orthogonal, 0, 0).unwrap_err().to_string();
        assert!(error.contains("independent, sobol and halton"), "{error}");
        assert!(draw(&laws, (4, 1), Sampling::Orthogonal, 0, 0).is_ok());
        let error = draw(&laws, (4, 200), Sampling::Sobol, 0, 0).unwrap_err().to_string();
        assert!(error.contains("halton"), "{error}");
        assert_eq!(draw(&laws, (4, 200), Sampling::Halton, 0, 0).unwrap().0.dim(), (4, 200));
    }
}
