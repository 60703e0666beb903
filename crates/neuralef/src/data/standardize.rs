//! Standardisation: centring and scaling learned from data, part of every model.

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef, expect_columns};
use crate::persist::Archive;

/// Rows read at a time; fixed, so that the statistics have the same bits everywhere.
const BLOCK: usize = 4096;

/// The map x ↦ (x − mean) / scale, feature by feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Standardizer {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl TryFrom<Unchecked> for Standardizer {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        Standardizer::new(raw.mean, raw.scale)
    }
}

impl Standardizer {
    /// From statistics that are known, one of each for every feature.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::InvalidParameter`] unless every mean is
    /// finite and every scale finite and positive.
    pub fn new(mean: Vec<f64>, scale: Vec<f64>) -> Result<Self> {
        if mean.len() != scale.len() {
            return Err(Error::shape("standardiser scale", mean.len(), scale.len()));
        }
        if let Some(v) = mean.iter().find(|v| !v.is_finite()) {
            return Err(Error::parameter("standardiser mean", "finite numbers", v));
        }
        if let Some(v) = scale.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(Error::parameter("standardiser scale", "finite numbers above 0", v));
        }
        Ok(Standardizer { mean, scale })
    }

    /// The same for all pixels of a channel, for images of `width` numbers that lie channel by channel:
    /// one mean and one scale for each channel.
    ///
    /// # Errors
    /// As [`new`](Standardizer::new), and [`Error::InvalidParameter`] when the channels do not divide
    /// `width`.
    pub fn by_channel(width: usize, mean: &[f64], scale: &[f64]) -> Result<Self> {
        let channels = mean.len();
        if channels == 0 || !width.is_multiple_of(channels) {
            let expected = format!("a number of channels that divides {width} columns");
            return Err(Error::parameter("channels", expected, channels));
        }
        let spread = |values: &[f64]| -> Vec<f64> {
            values.iter().flat_map(|v| std::iter::repeat_n(*v, width / channels)).collect()
        };
        if mean.len() != scale.len() {
            return Err(Error::shape("standardiser scale", mean.len(), scale.len()));
        }
        Standardizer::new(spread(mean), spread(scale))
    }

    /// The identity on `width` features.
    pub fn identity(width: usize) -> Self {
        Standardizer { mean: vec![0.0; width], scale: vec![1.0; width] }
    }

    /// Mean and (population) standard deviation of every feature.
    ///
    /// One streamed pass in double precision over all rows, or over `limit` evenly spaced ones:
    /// O(n d) time, O(d) memory. A feature that is constant, or varies by less than `f32` resolves
    /// beside its mean, gets scale 1.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `limit` is 0, [`Error::NonFinite`] from a mapped file.
    pub fn per_feature(data: &Dataset, limit: Option<usize>) -> Result<Self> {
        let moments = FeatureMoments::of(data, limit)?;
        let scale = moments.mean.iter().zip(moments.variances()).map(|(m, v)| scale(v, m.abs()));
        Standardizer::new(moments.mean.clone(), scale.collect())
    }

    /// Mean of every feature, and one scale for all: the root of the mean variance over features.
    /// Distances keep their proportions.
    ///
    /// # Errors
    /// As [`per_feature`](Standardizer::per_feature).
    pub fn isotropic(data: &Dataset, limit: Option<usize>) -> Result<Self> {
        let moments = FeatureMoments::of(data, limit)?;
        let width = data.width();
        let variance = moments.variances().sum::<f64>() / width as f64;
        let largest = moments.mean.iter().fold(0.0f64, |a, m| a.max(m.abs()));
        Standardizer::new(moments.mean, vec![scale(variance, largest); width])
    }

    /// Puts it into `archive`, as `name.mean` and `name.scale`.
    pub(crate) fn save(&self, archive: &mut Archive, name: &str) -> Result<()> {
        for (part, values) in [("mean", &self.mean), ("scale", &self.scale)] {
            archive.put_f64(format!("{name}.{part}"), &[values.len()], values.clone())?;
        }
        Ok(())
    }

    /// Reads back what [`save`](Standardizer::save) put there.
    pub(crate) fn load(archive: &Archive, name: &str) -> Result<Self> {
        let part = |part: &str| archive.f64_vector(&format!("{name}.{part}"));
        Standardizer::new(part("mean")?, part("scale")?)
    }

    /// d, the number of features.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// What is subtracted.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// What is divided by.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// (x − mean) / scale, n × d, each value rounded to `f32` once.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not n × d, [`Error::NonFinite`] for a NaN, an infinity, or a
    /// value so far out that the result is beyond `f32`.
    pub fn apply(&self, x: MatRef<'_>) -> Result<Mat> {
        expect_columns("input", x, self.width())?;
        let mut out = Mat::zeros(x.dim());
        for (i, (to, from)) in out.rows_mut().into_iter().zip(x.rows()).enumerate() {
            for (j, (to, v)) in to.into_iter().zip(from).enumerate() {
                *to = ((f64::from(*v) - self.mean[j]) / self.scale[j]) as f32;
                if !to.is_finite() {
                    return Err(Error::NonFinite {
                        what: "standardised input".into(),
                        row: i,
                        column: j,
                        value: *to,
                    });
                }
            }
        }
        Ok(out)
    }
}

/// The standard deviation, or 1 where there is none to speak of beside values of size `size`.
fn scale(variance: f64, size: f64) -> f64 {
    let deviation = variance.sqrt();
    if deviation > size * f64::from(f32::EPSILON) { deviation } else { 1.0 }
}

/// Counts, means and centred sums of squares, merged block by block (Chan, Golub & LeVeque 1983).
struct FeatureMoments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl FeatureMoments {
    fn of(data: &Dataset, limit: Option<usize>) -> Result<Self> {
        if limit == Some(0) {
            return Err(Error::parameter("standardisation sample", "at least one row", 0));
        }
        let n = data.len();
        let m = limit.unwrap_or(n).min(n);
        let (d, zeros) = (data.width(), vec![0.0; data.width()]);
        let mut total = FeatureMoments { count: 0.0, mean: zeros.clone(), squares: zeros };
        let mut start = 0;
        while start < m {
            let end = (start + BLOCK).min(m);
            let x = if m == n {
                data.range(start..end)?
            } else {
                // In 128 bits, so that i n does not overflow.
                let row = |i: usize| (i as u128 * n as u128 / m as u128) as usize;
                data.rows(&(start..end).map(row).collect::<Vec<_>>())?
            };
            total.merge(&FeatureMoments::of_block(x.view(), d));
            start = end;
        }
        Ok(total)
    }

    fn of_block(x: MatRef<'_>, d: usize) -> Self {
        let count = x.nrows() as f64;
        let mut mean = vec![0.0; d];
        for row in x.rows() {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v));
        }
        mean.iter_mut().for_each(|m| *m /= count);
        let mut squares = vec![0.0; d];
        for row in x.rows() {
            for ((s, v), m) in squares.iter_mut().zip(row).zip(&mean) {
                *s += (f64::from(*v) - m).powi(2);
            }
        }
        FeatureMoments { count, mean, squares }
    }

    fn merge(&mut self, other: &FeatureMoments) {
        let count = self.count + other.count;
        let (share, weight) = (other.count / count, self.count * other.count / count);
        for j in 0..self.mean.len() {
            let delta = other.mean[j] - self.mean[j];
            self.mean[j] += delta * share;
            self.squares[j] += other.squares[j] + delta * delta * weight;
        }
        self.count = count;
    }

    fn variances(&self) -> impl Iterator<Item = f64> {
        self.squares.iter().map(|s| s / self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthesize;

    fn close(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs()
    }

    #[test]
    fn moments_of_a_ramp_have_their_closed_form() {
        // Values offset + i, i < n: mean offset + (n−1)/2, variance (n²−1)/12. The offset would
        // cost a one-pass sum of squares in f32 all its digits.
        let n = 3 * BLOCK + 77;
        let x = Mat::from_shape_fn((n, 2), |(i, j)| if j == 0 { 1e6 + i as f32 } else { 0.1 });
        let data = Dataset::from_array("ramp", x).unwrap();
        let s = Standardizer::per_feature(&data, None).unwrap();
        let variance = ((n * n - 1) as f64) / 12.0;
        assert!(close(s.mean()[0], 1e6 + (n - 1) as f64 / 2.0, 1e-13));
        assert!(close(s.scale()[0], variance.sqrt(), 1e-12));
        assert_eq!((s.mean()[1], s.scale()[1]), (f64::from(0.1f32), 1.0));
        let s = Standardizer::isotropic(&data, None).unwrap();
        assert!(close(s.scale()[0], (variance / 2.0).sqrt(), 1e-12));
        assert_eq!(s.scale()[0], s.scale()[1]);
    }

    #[test]
    fn digits_have_the_statistics_others_find() {
        // numpy: data.mean(0)[10], data.var(0)[10], data.var(0).mean(); three constant pixels.
        let digits = Dataset::open("digits", 0).unwrap();
        let s = Standardizer::per_feature(&digits, None).unwrap();
        assert!(close(s.mean()[10], 10.382_303_839_732_888, 1e-13));
        assert!(close(s.scale()[10].powi(2), 29.375_824_853_702_383, 1e-12));
        let x = s.apply(digits.range(0..1797).unwrap().view()).unwrap();
        let constant = x.columns().into_iter().filter(|c| c.iter().all(|v| *v == 0.0)).count();
        assert_eq!(constant, 3);
        let again = Dataset::from_array("again", x).unwrap();
        let t = Standardizer::per_feature(&again, None).unwrap();
        assert!(t.mean().iter().all(|m| m.abs() < 1e-6));
        assert!(t.scale().iter().all(|s| (s - 1.0).abs() < 1e-6));
        let s = Standardizer::isotropic(&digits, None).unwrap();
        assert!(close(s.scale()[0].powi(2), 18.773_105_271_290_888, 1e-12));
    }

    #[test]
    fn a_sample_is_evenly_spaced_and_unbiased() {
        let x = Mat::from_shape_fn((1000, 1), |(i, _)| (i / 10) as f32);
        let data = Dataset::from_array("steps", x).unwrap();
        let s = Standardizer::per_feature(&data, Some(100)).unwrap();
        assert!(close(s.mean()[0], 49.5, 1e-13));
        assert!(close(s.scale()[0], (9999.0f64 / 12.0).sqrt(), 1e-12));
        let whole = Standardizer::per_feature(&data, None).unwrap();
        assert_eq!(Standardizer::per_feature(&data, Some(5000)).unwrap(), whole);
        assert!(Standardizer::per_feature(&data, Some(0)).is_err());
    }

    #[test]
    fn serde_round_trip_and_checks() {
        let data = synthesize("gaussian(n=100, d=3, mean=2)", 0).unwrap();
        let s = Standardizer::per_feature(&data, None).unwrap();
        let text = serde_json::to_string(&s).unwrap();
        assert_eq!(serde_json::from_str::<Standardizer>(&text).unwrap(), s);
        for bad in [
            r#"{"mean":[1],"scale":[]}"#,
            r#"{"mean":[1],"scale":[0]}"#,
            r#"{"mean":[1],"scale":[-1]}"#,
            r#"{"mean":[1]}"#,
        ] {
            assert!(serde_json::from_str::<Standardizer>(bad).is_err(), "{bad}");
        }
        let narrow = s.apply(Mat::zeros((2, 2)).view()).unwrap_err();
        assert!(narrow.to_string().contains("expected shape n × 3, got 2 × 2"), "{narrow}");
        let far = Standardizer::new(vec![0.0], vec![1e-10]).unwrap();
        let error = far.apply(Mat::from_elem((1, 1), 1e30).view()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 0, column: 0, .. }));
        assert_eq!(
            Standardizer::identity(2).apply(Mat::ones((1, 2)).view()).unwrap(),
            Mat::ones((1, 2))
        );
    }
}
