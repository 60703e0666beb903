//! Synthetic datasets by name: `two_moons(n=1000, noise=0.1, seed=3)`.

use std::fmt;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::Dataset;
use super::density::{Density, Form};
use super::raw::reserve;
use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::rng::{Rng, stream};
use crate::spec::{Args, Domain, Entry, Interval, Parameter, Registry};

/// A synthetic dataset to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    n: usize,
    seed: Option<u64>,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    TwoMoons { noise: f64 },
    Circles { noise: f64, factor: f64 },
    SwissRoll { noise: f64 },
    Uniform { d: usize, low: f64, high: f64 },
    Sphere { d: usize },
    Density(Density),
}

/// Numbers in text are doubles: beyond 2^53 neighbouring seeds would be the same.
const MAX_SEED: u64 = 1 << 53;
/// Largest magnitude of a location or scale: draws stay well inside `f32`.
const LIMIT: f64 = 1e30;
const LOCATION: Domain = Domain::Number(Interval::closed(-LIMIT, LIMIT));
const SCALE: Domain = Domain::Number(Interval::above(0.0, LIMIT));

const N: Parameter =
    Parameter::new("n", Domain::Integer(1, 1_000_000_000), "1000", "number of points");
const D: Parameter = Parameter::new("d", Domain::Integer(1, 1_000_000), "1", "dimensions");
const PLANE: Parameter =
    Parameter::new("d", Domain::Integer(2, 1_000_000), "2", "dimensions, at least 2");
const SEED: Parameter =
    Parameter::optional("seed", Domain::Integer(0, MAX_SEED), "the run's seed", "seed of the draw");
const NOISE: Parameter = Parameter::new(
    "noise",
    Domain::Number(Interval::closed(0.0, LIMIT)),
    "0",
    "standard deviation of Gaussian noise added to every value",
);
const STD: Parameter = Parameter::new("std", SCALE, "1", "standard deviation");

const TWO_MOONS: Entry<Synthetic> = Entry {
    name: "two_moons",
    summary: "two interleaving half circles in the plane, labelled 0 and 1",
    parameters: &[N, NOISE, SEED],
    build: |a| Synthetic::new(a, Shape::TwoMoons { noise: a.number("noise")? }),
};
const CIRCLES: Entry<Synthetic> = Entry {
    name: "circles",
    summary: "a circle of radius 1 (label 0) around one of radius `factor` (label 1)",
    parameters: &[
        N,
        NOISE,
        Parameter::new("factor", Domain::FRACTION, "0.8", "inner radius, from 0 to below 1"),
        SEED,
    ],
    build: |a| {
        let (noise, factor) = (a.number("noise")?, a.number("factor")?);
        Synthetic::new(a, Shape::Circles { noise, factor })
    },
};
const SWISS_ROLL: Entry<Synthetic> = Entry {
    name: "swiss_roll",
    summary: "a rolled-up plane in three dimensions",
    parameters: &[N, NOISE, SEED],
    build: |a| Synthetic::new(a, Shape::SwissRoll { noise: a.number("noise")? }),
};
const UNIFORM: Entry<Synthetic> = Entry {
    name: "uniform",
    summary: "independent uniform values from low to high",
    parameters: &[
        N,
        D,
        Parameter::new("low", LOCATION, "0", "lower end"),
        Parameter::new("high", LOCATION, "1", "upper end"),
        SEED,
    ],
    build: |a| {
        let (low, high) = (a.number("low")?, a.number("high")?);
        if low >= high {
            return Err(a.fault("high", "`high` must be greater than `low`"));
        }
        Synthetic::new(a, Shape::Uniform { d: a.size("d")?, low, high })
    },
};
const GAUSSIAN: Entry<Synthetic> = Entry {
    name: "gaussian",
    summary: "independent normal values",
    parameters: &[N, D, Parameter::new("mean", LOCATION, "0", "mean of every value"), STD, SEED],
    build: |a| Synthetic::of(a, Form::Gaussian { mean: a.number("mean")?, std: a.number("std")? }),
};
const MIXTURE: Entry<Synthetic> = Entry {
    name: "mixture",
    summary: "equal normal parts around a circle in the first two coordinates, labelled",
    parameters: &[
        N,
        PLANE,
        Parameter::new(
            "components",
            Domain::Integer(1, 1000),
            "3",
            "number of parts, from 1 to 1000",
        ),
        Parameter::new("radius", LOCATION, "2", "radius of the circle of centres"),
        STD.with_help("standard deviation of every part"),
        SEED,
    ],
    build: |a| {
        let (radius, std) = (a.number("radius")?, a.number("std")?);
        Synthetic::of(a, Form::Mixture { components: a.size("components")?, radius, std })
    },
};
const BANANA: Entry<Synthetic> = Entry {
    name: "banana",
    summary: "a normal cloud bent along a parabola: x₂ ~ N(curvature·(x₁² − std²), 1)",
    parameters: &[
        N,
        PLANE.with_help("dimensions, at least 2; those after the second are standard normal"),
        Parameter::new(
            "curvature",
            Domain::Number(Interval::closed(-1000.0, 1000.0)),
            "0.25",
            "of the parabola, up to 1000 in size",
        ),
        Parameter::new(
            "std",
            Domain::Number(Interval::above(0.0, 1e6)),
            "2",
            "standard deviation of x₁, up to 1e6",
        ),
        SEED,
    ],
    build: |a| {
        Synthetic::of(a, Form::Banana { curvature: a.number("curvature")?, std: a.number("std")? })
    },
};
const SPHERE: Entry<Synthetic> = Entry {
    name: "sphere",
    summary: "uniform on the unit sphere around 0, of dimension d − 1",
    parameters: &[
        N,
        PLANE.with_default("3").with_help("dimensions of the space, at least 2"),
        SEED,
    ],
    build: |a| Synthetic::new(a, Shape::Sphere { d: a.size("d")? }),
};

/// The synthetic datasets. Shapes and defaults (but for n) are those of scikit-learn's `make_moons`,
/// `make_circles` and `make_swiss_roll`; the draws are this crate's own.
pub static SYNTHETIC: Registry<Synthetic> = Registry {
    kind: "dataset",
    entries: &[TWO_MOONS, CIRCLES, SWISS_ROLL, UNIFORM, GAUSSIAN, MIXTURE, BANANA, SPHERE],
};

/// Draws the dataset that `text` describes; `default_seed`, without its bits from the 54th on, serves
/// where the text gives no seed.
///
/// # Errors
/// [`Error::Parse`] or [`Error::UnknownName`] for the text, [`Error::Data`] when it does not fit in
/// memory.
pub fn synthesize(text: &str, default_seed: u64) -> Result<Dataset> {
    SYNTHETIC.build_text(text)?.draw(default_seed)
}

impl Synthetic {
    fn new(a: &Args<'_>, shape: Shape) -> Result<Self> {
        let seed = a.has("seed").then(|| a.integer("seed")).transpose()?;
        Ok(Synthetic { n: a.size("n")?, seed, shape })
    }

    fn of(a: &Args<'_>, form: Form) -> Result<Self> {
        Synthetic::new(a, Shape::Density(Density::new(a.size("d")?, form)))
    }

    /// The text form with every parameter, which draws the same points again.
    pub fn text(&self, default_seed: u64) -> String {
        let Synthetic { n, seed, shape } = self;
        let seed = seed.unwrap_or(default_seed);
        let text = |entry: &Entry<Synthetic>, values: &[(&str, &dyn fmt::Display)]| {
            entry.text(&[&[("n", n as &dyn fmt::Display), ("seed", &seed)], values].concat())
        };
        match shape {
            Shape::TwoMoons { noise } => text(&TWO_MOONS, &[("noise", noise)]),
            Shape::Circles { noise, factor } => {
                text(&CIRCLES, &[("noise", noise), ("factor", factor)])
            }
            Shape::SwissRoll { noise } => text(&SWISS_ROLL, &[("noise", noise)]),
            Shape::Uniform { d, low, high } => {
                text(&UNIFORM, &[("d", d), ("low", low), ("high", high)])
            }
            Shape::Sphere { d } => text(&SPHERE, &[("d", d)]),
            Shape::Density(density) => {
                let d = &density.dimensions();
                match density.form() {
                    Form::Gaussian { mean, std } => {
                        text(&GAUSSIAN, &[("d", d), ("mean", mean), ("std", std)])
                    }
                    Form::Mixture { components, radius, std } => text(
                        &MIXTURE,
                        &[("d", d), ("components", components), ("radius", radius), ("std", std)],
                    ),
                    Form::Banana { curvature, std } => {
                        text(&BANANA, &[("d", d), ("curvature", curvature), ("std", std)])
                    }
                }
            }
        }
    }

    /// The density it is drawn from, where its score is known.
    pub(super) fn density(&self) -> Option<Density> {
        match &self.shape {
            Shape::Density(density) => Some(density.clone()),
            _ => None,
        }
    }

    /// Draws it. The same seed gives the same bits.
    ///
    /// # Errors
    /// [`Error::Data`] when it does not fit in memory.
    pub fn draw(&self, default_seed: u64) -> Result<Dataset> {
        // Only seeds that the text form can hold: the name of the set draws it again.
        let default_seed = default_seed & (MAX_SEED - 1);
        let name = self.text(default_seed);
        let mut rng = stream(self.seed.unwrap_or(default_seed), "synthetic", 0);
        let (width, noise) = match &self.shape {
            Shape::TwoMoons { noise } | Shape::Circles { noise, .. } => (2, *noise),
            Shape::SwissRoll { noise } => (3, *noise),
            Shape::Uniform { d, .. } | Shape::Sphere { d } => (*d, 0.0),
            Shape::Density(density) => (density.dimensions(), 0.0),
        };
        let mut values = Vec::new();
        reserve(&mut values, self.n.saturating_mul(width), &name)?;
        let labels = match &self.shape {
            Shape::TwoMoons { .. } => Some(self.two_arcs(&mut rng, &mut values, moon)),
            Shape::Circles { factor, .. } => {
                Some(self.two_arcs(&mut rng, &mut values, |inner, at, of| {
                    circle(if inner { *factor } else { 1.0 }, at, of)
                }))
            }
            Shape::SwissRoll { .. } => {
                for _ in 0..self.n {
                    let t = 1.5 * std::f64::consts::PI * (1.0 + 2.0 * rng.random::<f64>());
                    let y = 21.0 * rng.random::<f64>();
                    values.extend([t * t.cos(), y, t * t.sin()].map(|v| v as f32));
                }
                None
            }
            Shape::Uniform { low, high, .. } => {
                let draw = || (low + (high - low) * rng.random::<f64>()) as f32;
                values.extend(std::iter::repeat_with(draw).take(self.n * width));
                None
            }
            Shape::Density(density) => {
                let mut parts = Vec::new();
                for _ in 0..self.n {
                    let part = density.draw(&mut rng, &mut values);
                    parts.extend(density.has_parts().then_some(part));
                }
                density.has_parts().then_some(parts)
            }
            Shape::Sphere { d } => {
                for _ in 0..self.n {
                    values.extend(direction(&mut rng, *d).into_iter().map(|v| v as f32));
                }
                None
            }
        };
        if noise > 0.0 {
            values.iter_mut().for_each(|v| *v = (f64::from(*v) + noise * normal(&mut rng)) as f32);
        }
        let got = values.len();
        let x = Mat::from_shape_vec((self.n, width), values)
            .map_err(|_| Error::shape(&*name, format!("{} × {width}", self.n), got))?;
        let dataset = Dataset::from_array(name, x)?;
        match labels {
            Some(labels) => dataset.with_labels(labels),
            None => Ok(dataset),
        }
    }

    /// Two curves of n/2 evenly spaced points each (the second gets the odd one), in random order.
    fn two_arcs(
        &self,
        rng: &mut Rng,
        out: &mut Vec<f32>,
        point: impl Fn(bool, usize, usize) -> [f64; 2],
    ) -> Vec<i64> {
        let outer = self.n / 2;
        let mut order: Vec<usize> = (0..self.n).collect();
        order.shuffle(rng);
        for i in &order {
            let xy = match i.checked_sub(outer) {
                None => point(false, *i, outer),
                Some(i) => point(true, i, self.n - outer),
            };
            out.extend(xy.map(|v| v as f32));
        }
        order.iter().map(|i| i64::from(*i >= outer)).collect()
    }
}

fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// A uniform point of the unit sphere in d dimensions: the direction of a standard normal one
/// (Muller 1959).
fn direction(rng: &mut Rng, d: usize) -> Vec<f64> {
    loop {
        let point: Vec<f64> = std::iter::repeat_with(|| normal(rng)).take(d).collect();
        let norm = point.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 0.0 {
            return point.into_iter().map(|v| v / norm).collect();
        }
    }
}

/// Point `at` of `of` on a half circle, both ends included.
fn moon(inner: bool, at: usize, of: usize) -> [f64; 2] {
    let t = std::f64::consts::PI * at as f64 / (of.max(2) - 1) as f64;
    if inner { [1.0 - t.cos(), 0.5 - t.sin()] } else { [t.cos(), t.sin()] }
}

/// Point `at` of `of` on a circle, the end not repeated.
fn circle(radius: f64, at: usize, of: usize) -> [f64; 2] {
    let t = std::f64::consts::TAU * at as f64 / of as f64;
    [radius * t.cos(), radius * t.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Mat, Option<Vec<i64>>) {
        let d = synthesize(text, 1).unwrap();
        (d.range(0..d.len()).unwrap(), d.labels().map(<[i64]>::to_vec))
    }

    #[test]
    fn noiseless_shapes_lie_on_their_curves() {
        let (x, labels) = all("two_moons(n=501)");
        let labels = labels.unwrap();
        assert_eq!(labels.iter().sum::<i64>(), 251);
        for (p, label) in x.rows().into_iter().zip(&labels) {
            let (cx, cy, side) = if *label == 0 { (0.0, 0.0, 1.0) } else { (1.0, 0.5, -1.0) };
            let r = (p[0] - cx).hypot(p[1] - cy);
            assert!((r - 1.0).abs() < 1e-6 && side * (p[1] - cy) > -1e-6, "{p} {label}");
        }
        // Even spacing, both ends included: the mean height of a half circle sampled so is
        // cot(π/2m)/(m+1) with m = 249 intervals.
        let heights = x.rows().into_iter().zip(&labels).filter(|(_, l)| **l == 0);
        let mean = heights.map(|(p, _)| f64::from(p[1])).sum::<f64>() / 250.0;
        let m = 249.0;
        assert!((mean - (std::f64::consts::PI / (2.0 * m)).tan().recip() / (m + 1.0)).abs() < 1e-6);
        let (x, labels) = all("circles(n=200, factor=0.3)");
        for (p, label) in x.rows().into_iter().zip(labels.unwrap()) {
            let r = if label == 0 { 1.0 } else { 0.3 };
            assert!((p[0].hypot(p[1]) - r).abs() < 1e-6);
        }
        let (x, _) = all("swiss_roll(n=300)");
        for p in x.rows() {
            let (r, angle) = (p[0].hypot(p[2]), p[2].atan2(p[0]));
            let turns = (r - angle) / std::f32::consts::TAU;
            assert!((turns - turns.round()).abs() < 1e-4 && (4.71..14.15).contains(&r));
            assert!((0.0..21.0).contains(&p[1]));
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let moments = |x: &Mat| {
            let n = x.len() as f64;
            let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let var = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
            (mean, var)
        };
        // 40,000 draws: five standard errors.
        let (x, _) = all("uniform(n=20000, d=2, low=-2, high=2)");
        let (mean, var) = moments(&x);
        assert!(mean.abs() < 5.0 * 1.155 / 200.0 && (var - 4.0 / 3.0).abs() < 0.03, "{mean} {var}");
        assert!(x.iter().all(|v| (-2.0..=2.0).contains(v)));
        let (x, _) = all("gaussian(n=20000, d=2, mean=3, std=0.5)");
        let (mean, var) = moments(&x);
        assert!((mean - 3.0).abs() < 5.0 * 0.5 / 200.0, "{mean}");
        assert!((var - 0.25).abs() < 5.0 * 0.25 * (2.0f64 / 40_000.0).sqrt(), "{var}");
        let noise =
            all("two_moons(n=20000, noise=0.1, seed=5)").0 - all("two_moons(n=20000, seed=5)").0;
        let (mean, var) = moments(&noise);
        assert!(mean.abs() < 0.0025 && (var - 0.01).abs() < 5.0 * 0.01 / 141.0, "{mean} {var}");
    }

    #[test]
    fn spheres_are_round_and_uniform() {
        for d in [2, 3, 7] {
            let n = 20_000;
            let (x, _) = all(&format!("sphere(n={n}, d={d})"));
            assert_eq!(x.dim(), (n, d));
            for p in x.rows() {
                let norm = p.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                assert!((norm - 1.0).abs() < 1e-7, "{norm}");
            }
            // E x = 0 and E x xᵀ = I/d; E xᵢ⁴ = 3/(d(d + 2)). Five standard errors.
            let mean = |f: &dyn Fn(ndarray::ArrayView1<'_, f32>) -> f64| {
                x.rows().into_iter().map(f).sum::<f64>() / n as f64
            };
            let (width, fourth) = (d as f64, 3.0 / (d * (d + 2)) as f64);
            let root = (n as f64).sqrt();
            for i in 0..d {
                let first = mean(&|p| f64::from(p[i]));
                assert!(first.abs() < 5.0 / width.sqrt() / root, "d {d}: {first}");
                let second = mean(&|p| f64::from(p[i]).powi(2));
                let error = (fourth - width.powi(-2)).sqrt() / root;
                assert!((second - 1.0 / width).abs() < 5.0 * error, "d {d}: {second}");
                let cross = mean(&|p| f64::from(p[i]) * f64::from(p[(i + 1) % d]));
                assert!(cross.abs() < 5.0 * (fourth / 3.0).sqrt() / root, "d {d}: {cross}");
            }
            let kurtosis = mean(&|p| f64::from(p[0]).powi(4));
            // Var x⁴ < E x⁸ = 105/(d(d + 2)(d + 4)(d + 6)).
            let eighth = 105.0 / (d * (d + 2) * (d + 4) * (d + 6)) as f64;
            let error = (eighth - fourth * fourth).sqrt() / root;
            assert!((kurtosis - fourth).abs() < 5.0 * error, "d {d}: {kurtosis} {fourth}");
        }
    }

    #[test]
    fn names_draw_the_same_points_again() {
        for text in
            ["two_moons", "circles(factor=0.5)", "swiss_roll", "uniform(d=3)", "gaussian", "sphere"]
        {
            let a = synthesize(text, 9).unwrap();
            let b = synthesize(a.name(), 1234).unwrap();
            assert_eq!(a.range(0..1000).unwrap(), b.range(0..1000).unwrap(), "{text}");
            assert_eq!(a.name(), b.name());
            let large = synthesize(text, u64::MAX).unwrap();
            let again = synthesize(large.name(), 0).unwrap();
            assert_eq!(large.range(0..1000).unwrap(), again.range(0..1000).unwrap(), "{text}");
            let c = synthesize(text, 10).unwrap();
            assert_ne!(a.range(0..1000).unwrap(), c.range(0..1000).unwrap(), "{text}");
        }
        assert_eq!(synthesize("two_moons(n=1)", 0).unwrap().len(), 1);
        assert_eq!(synthesize("circles(n=1)", 0).unwrap().len(), 1);
    }

    #[test]
    fn bad_requests_are_refused() {
        for text in [
            "two_moon",
            "two_moons(m=3)",
            "two_moons(n=0)",
            "two_moons(n=2.5)",
            "two_moons(noise=-1)",
            "circles(factor=1)",
            "uniform(low=1, high=1)",
            "uniform(low=-1e300, high=1e300)",
            "gaussian(std=0)",
            "gaussian(n=1000000000, d=1000000)",
            "gaussian(seed=-1)",
            "sphere(d=1)",
            "1 + gaussian",
        ] {
            assert!(synthesize(text, 0).is_err(), "{text}");
        }
    }
}
