//! Parameters worked out from data: `median`, `scale` and `auto`, and the metrics behind `median`.

use ndarray::{Array2, ArrayView1, Axis};

use super::pairwise::{Pairwise, gram};
use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::rng::stream;
use crate::simd::{Fuse, Real};
use crate::spec::text::number;
use crate::spec::{Args, Sample};

/// Most points whose pairwise distances `median` looks at.
const MEDIAN_POINTS: usize = 1000;

/// The power of two nearest to 1/length (by exponent): what points are multiplied with.
pub(super) fn power_of_two(length: f64) -> f64 {
    (-length.log2().round()).clamp(-1000.0, 1000.0).exp2()
}

/// ‖x − y‖₂.
#[derive(Debug, Clone, Copy)]
pub(super) struct Euclidean;

impl Pairwise for Euclidean {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        (x - y).mul_add::<F>(x - y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total.sqrt()
    }
}

/// ‖x − y‖₁.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manhattan;

impl Pairwise for Manhattan {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        total + (x - y).abs()
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total
    }
}

/// The Euclidean distance after every coordinate is wound around a unit circle once per period:
/// √Σᵢ (2 sin(π(xᵢ − yᵢ)/p))².
#[derive(Debug, Clone, Copy)]
pub(super) struct Chord {
    unit: f64,
    factor: f64,
}

impl Chord {
    /// For period p.
    pub(super) fn new(period: f64) -> Self {
        let unit = power_of_two(period);
        Chord { unit, factor: 1.0 / (period * unit) }
    }

    /// d/dv sin²(πv/p) at a difference v of two scaled coordinates.
    #[inline(always)]
    pub(super) fn partial(self, difference: f64) -> f64 {
        let turns = difference * self.factor;
        std::f64::consts::PI * self.factor * (std::f64::consts::TAU * (turns - turns.round())).sin()
    }
}

impl Pairwise for Chord {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        let hi = T::of(self.factor);
        let s = T::sin_pi::<F>(x - y, hi, T::of(self.factor - hi.wide()));
        s.mul_add::<F>(s, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        T::of(2.0) * total.sqrt()
    }
    fn scale(self, _: usize, _: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(self.unit)
    }
}

/// A positive number that is not subnormal.
pub(super) fn positive(args: &Args<'_>, key: &str) -> Result<f64> {
    let v = args.number(key)?;
    if v.is_normal() { Ok(v) } else { Err(args.fault(key, format!("`{key}` is too small"))) }
}

/// `lengthscale` (a number, `median` or `scale`) or `gamma` (a number or `scale`). `to_length` is the
/// kernel's ℓ for a γ.
pub(super) fn lengthscale<M: Pairwise>(
    args: &Args<'_>,
    metric: M,
    to_length: fn(f64) -> f64,
) -> Result<f64> {
    // matern and rational_quadratic have no `gamma`.
    let gamma = args.knows("gamma") && args.has("gamma");
    if gamma && args.has("lengthscale") {
        let message = "`gamma` and `lengthscale` say the same thing; give one";
        return Err(args.fault("gamma", message));
    }
    let key = if gamma { "gamma" } else { "lengthscale" };
    let value = match args.word(key) {
        None if gamma => to_length(positive(args, key)?),
        None => positive(args, key)?,
        Some(name @ "scale") => from_sample(args, key, name, |x, _| Ok(to_length(scale(key, x)?)))?,
        Some(name) => from_sample(args, key, name, |x, seed| median(metric, key, x, seed))?,
    };
    if value.is_normal() {
        return Ok(value);
    }
    Err(args.fault(key, format!("`{key}` leads to the length scale {}", number(value))))
}

/// `lengthscale` of the periodic kernel: a number or `median`.
pub(super) fn periodic_lengthscale(args: &Args<'_>, period: f64) -> Result<f64> {
    const KEY: &str = "lengthscale";
    let Some(name) = args.word(KEY) else { return args.number(KEY) };
    let value = from_sample(args, KEY, name, |x, seed| median(Chord::new(period), KEY, x, seed))?;
    if (1e-9..=1e9).contains(&value) {
        return Ok(value);
    }
    Err(args.fault(KEY, "`lengthscale` must be from 1e-9 to 1e9"))
}

/// `gamma` of a dot-product kernel: a number, `scale` (1/(d·Var(X))) or `auto` (1/d).
pub(super) fn dot_gamma(args: &Args<'_>) -> Result<f64> {
    gamma(args, |d| 1.0 / d)
}

/// The same with 1/√d for `auto`.
pub(super) fn softmax_gamma(args: &Args<'_>) -> Result<f64> {
    gamma(args, |d| 1.0 / d.sqrt())
}

fn gamma(args: &Args<'_>, auto: fn(f64) -> f64) -> Result<f64> {
    const KEY: &str = "gamma";
    match args.word(KEY) {
        None => positive(args, KEY),
        Some(name @ "scale") => from_sample(args, KEY, name, |x, _| scale(KEY, x)),
        Some(name) => from_sample(args, KEY, name, |x, _| match x.ncols() {
            0 => Err(Error::parameter(KEY, "data with at least one column for `auto`", "none")),
            d => Ok(auto(d as f64)),
        }),
    }
}

fn from_sample(
    args: &Args<'_>,
    key: &str,
    name: &str,
    value: impl FnOnce(MatRef<'_>, u64) -> Result<f64>,
) -> Result<f64> {
    match args.sample() {
        Sample::Unresolved => Ok(1.0),
        Sample::Points(x, seed) => value(x, seed),
        Sample::Missing => {
            let parameter = format!("{key} of {}", args.owner());
            let expected = format!("a number, as there are no data to work out `{name}` from");
            Err(Error::parameter(parameter, expected, name))
        }
    }
}

/// The median of the non-zero distances over distinct pairs of at most 1,000 points.
///
/// O(1000² d). The subsample is drawn without replacement by `seed`.
fn median<M: Pairwise>(metric: M, key: &str, x: MatRef<'_>, seed: u64) -> Result<f64> {
    let chosen = if x.nrows() <= MEDIAN_POINTS {
        x.to_owned()
    } else {
        let mut rng = stream(seed, "kernel median", 0);
        let rows = rand::seq::index::sample(&mut rng, x.nrows(), MEDIAN_POINTS);
        x.select(Axis(0), &rows.into_vec())
    };
    let n = chosen.nrows();
    let mut distances = Array2::<f64>::zeros((n, n));
    gram(metric, "median", chosen.view(), chosen.view(), distances.view_mut())?;
    let mut values: Vec<f64> = distances
        .rows()
        .into_iter()
        .enumerate()
        .flat_map(|(i, row)| row.into_iter().skip(i + 1).copied().filter(|v| *v > 0.0))
        .collect();
    let Some(middle) = values.len().checked_sub(1).map(|last| last.div_ceil(2)) else {
        let got = format!("{n} points, all the same");
        return Err(Error::parameter(key, "at least two different points for `median`", got));
    };
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| even);
    Ok(lower.map_or(*upper, |lower| 0.5 * (lower + *upper)))
}

/// 1/(d·Var(X)), the variance over all entries of X together, as scikit-learn's `gamma="scale"`.
fn scale(key: &str, x: MatRef<'_>) -> Result<f64> {
    for (row, values) in x.rows().into_iter().enumerate() {
        if let Some((column, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            let what = format!("data for `{key}=scale`");
            return Err(Error::NonFinite { what, row, column, value: *value });
        }
    }
    let count = x.len() as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
    if variance > 0.0 {
        return Ok(1.0 / (x.ncols() as f64 * variance));
    }
    let got = if x.is_empty() { "no data" } else { "data that are all the same" };
    Err(Error::parameter(key, "data that vary for `scale`", got))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn median_is_numpys() {
        let x = array![[0.0f32, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]];
        // Euclidean: 5, 1, 10, √18, 5, √85; the middle two are 5 and 5.
        let got = median(Euclidean, "lengthscale", x.view(), 0).unwrap();
        assert_eq!(got, 5.0);
        // Manhattan: 7, 1, 14, 6, 7, 13: middle 7 and 7. Without the last point: 7, 1, 6.
        assert_eq!(median(Manhattan, "lengthscale", x.view(), 0).unwrap(), 7.0);
        let three = x.slice(ndarray::s![..3, ..]);
        assert_eq!(median(Manhattan, "lengthscale", three, 0).unwrap(), 6.0);
        // Pairs at distance 0 do not count: distances 2, 2 remain.
        let x = array![[1.0f32], [1.0], [3.0]];
        assert_eq!(median(Euclidean, "lengthscale", x.view(), 0).unwrap(), 2.0);
        // An even number of distances: 1, 2, 3, 4, 6, 7 → 3.5.
        let x = array![[0.0f32], [1.0], [3.0], [7.0]];
        assert_eq!(median(Euclidean, "lengthscale", x.view(), 0).unwrap(), 3.5);
        // Half a period apart is the diameter of the circle.
        let x = array![[0.0f32], [1.25]];
        let got = median(Chord::new(2.5), "lengthscale", x.view(), 0).unwrap();
        assert!((got - 2.0).abs() < 1e-15);
    }

    #[test]
    fn median_of_many_points_is_seeded_and_near_the_truth() {
        // |x − y| for uniform x, y on [0, 1] has median 1 − √½.
        let x = Array2::from_shape_fn((5000, 1), |(i, _)| i as f32 / 5000.0);
        let of = |seed| median(Euclidean, "lengthscale", x.view(), seed).unwrap();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert!((of(3) - (1.0 - 0.5f64.sqrt())).abs() < 0.01);
    }

    #[test]
    fn scale_is_scikit_learns() {
        // sklearn.svm.SVC(gamma="scale").fit([[0,0],[2,0],[2,4],[6,2]], [0,1,0,1])._gamma
        let x = array![[0.0f32, 0.0], [2.0, 0.0], [2.0, 4.0], [6.0, 2.0]];
        assert!((scale("gamma", x.view()).unwrap() - 0.125).abs() < 1e-15);
    }

    #[test]
    fn hopeless_data_are_errors() {
        let same = array![[1.0f32, 2.0], [1.0, 2.0]];
        assert!(matches!(
            median(Euclidean, "lengthscale", same.view(), 0),
            Err(Error::InvalidParameter { .. })
        ));
        assert!(scale("gamma", array![[1.0f32], [1.0]].view()).is_err());
        let none = Array2::<f32>::zeros((0, 2));
        assert!(median(Euclidean, "lengthscale", none.view(), 0).is_err());
        assert!(scale("gamma", none.view()).is_err());
        let nan = array![[1.0f32], [f32::NAN]];
        assert!(matches!(median(Euclidean, "l", nan.view(), 0), Err(Error::NonFinite { .. })));
        assert!(matches!(scale("gamma", nan.view()), Err(Error::NonFinite { .. })));
    }
}
