//! Optimisers: SGD with momentum, Adam, AdamW; gradient clipping; state that saves and restores.

use std::fmt;
use std::str::FromStr;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::math::fma;
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::spec::args::{Args, Entry, Registry};

/// Numbers that one task updates. Updates are elementwise, so the cut changes no bit.
const CHUNK: usize = 16_384;

/// Updates parameters from gradients.
pub trait Optimizer: Send {
    /// One step with learning rate `lr` (the spec's rate times the schedule's factor). O(parameters).
    ///
    /// # Errors
    /// [`Error::Shape`] when parameters or gradient are laid out otherwise than at construction,
    /// [`Error::InvalidParameter`] for a negative or non-finite `lr`.
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()>;

    /// Everything that the next step depends on.
    fn state(&self) -> OptimizerState;

    /// Continues from a saved state, to the same bits.
    ///
    /// # Errors
    /// [`Error::Shape`] when the state is another optimiser's or network's.
    fn restore(&mut self, state: &OptimizerState) -> Result<()>;
}

/// State of an optimiser: what a checkpoint stores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Steps done.
    pub step: u64,
    /// Named vectors, e.g. `first_moment.3` for unit 3.
    pub vectors: Vec<(String, Vec<f32>)>,
}

const LR: (&str, &str, &str) = ("lr", "1e-3", "learning rate");
const BETAS: [(&str, &str, &str); 3] = [
    ("beta1", "0.9", "decay of the first moment"),
    ("beta2", "0.999", "decay of the second moment"),
    ("eps", "1e-8", "added to the root of the second moment"),
];

/// Every optimiser by name.
pub static OPTIMIZERS: Registry<OptimizerSpec> = Registry {
    kind: "optimizer",
    entries: &[
        Entry {
            name: "adam",
            summary: "Adam (Kingma & Ba 2015)",
            parameters: &[LR, BETAS[0], BETAS[1], BETAS[2]],
            build: |args| OptimizerSpec::adam(args, None),
        },
        Entry {
            name: "adamw",
            summary: "Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
            parameters: &[
                LR,
                BETAS[0],
                BETAS[1],
                BETAS[2],
                ("weight_decay", "0.01", "shrinkage of all parameters, times the learning rate"),
            ],
            build: |args| {
                let decay = args.non_negative("weight_decay", 0.01)?;
                OptimizerSpec::adam(args, Some(decay))
            },
        },
        Entry {
            name: "sgd",
            summary: "stochastic gradient descent with momentum",
            parameters: &[
                ("lr", "1e-2", "learning rate"),
                ("momentum", "0.9", "decay of the velocity"),
                ("nesterov", "false", "look ahead along the velocity"),
            ],
            build: |args| {
                Ok(OptimizerSpec {
                    lr: args.positive("lr", 1e-2)?,
                    rule: Rule::Sgd {
                        momentum: fraction(args, "momentum", 0.9)?,
                        nesterov: args.boolean("nesterov", false)?,
                    },
                })
            },
        },
    ],
};

fn fraction(args: &Args<'_>, key: &str, default: f64) -> Result<f64> {
    let value = args.non_negative(key, default)?;
    if value < 1.0 { Ok(value) } else { Err(args.fault(key, format!("`{key}` must be below 1"))) }
}

/// An optimiser as users write it, checked: parses from and displays as its text form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OptimizerSpec {
    lr: f64,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// AdamW when `decoupled`; otherwise `weight_decay` is 0.
    Adam {
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        decoupled: bool,
    },
    Sgd {
        momentum: f64,
        nesterov: bool,
    },
}

impl Default for OptimizerSpec {
    /// `adam`.
    fn default() -> Self {
        let rule =
            Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false };
        OptimizerSpec { lr: 1e-3, rule }
    }
}

impl OptimizerSpec {
    /// The same optimiser with another learning rate.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless `lr` is finite and above 0.
    pub fn with_lr(self, lr: f64) -> Result<Self> {
        if lr.is_finite() && lr > 0.0 {
            return Ok(OptimizerSpec { lr, ..self });
        }
        Err(Error::parameter("lr", "a number > 0", lr))
    }

    fn adam(args: &Args<'_>, weight_decay: Option<f64>) -> Result<Self> {
        Ok(OptimizerSpec {
            lr: args.positive("lr", 1e-3)?,
            rule: Rule::Adam {
                beta1: fraction(args, "beta1", 0.9)?,
                beta2: fraction(args, "beta2", 0.999)?,
                eps: args.positive("eps", 1e-8)?,
                weight_decay: weight_decay.unwrap_or(0.0),
                decoupled: weight_decay.is_some(),
            },
        })
    }

    /// The learning rate, before any schedule.
    pub fn learning_rate(&self) -> f64 {
        self.lr
    }

    /// An optimiser at step 0 for parameters laid out like `parameters`.
    pub fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        let zeros = || parameters.zeros_like();
        match self.rule {
            Rule::Adam { beta1, beta2, eps, weight_decay, .. } => Box::new(Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
                step: 0,
                moments: vec![("first_moment", zeros()), ("second_moment", zeros())],
            }),
            Rule::Sgd { momentum, nesterov } => {
                Box::new(Sgd { momentum, nesterov, step: 0, moments: vec![("velocity", zeros())] })
            }
        }
    }
}

impl FromStr for OptimizerSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        OPTIMIZERS.build_text(text)
    }
}

impl fmt::Display for OptimizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lr = self.lr;
        match self.rule {
            Rule::Adam { beta1, beta2, eps, weight_decay, decoupled } => {
                let name = if decoupled { "adamw" } else { "adam" };
                write!(f, "{name}(lr={lr}, beta1={beta1}, beta2={beta2}, eps={eps}")?;
                if decoupled {
                    write!(f, ", weight_decay={weight_decay}")?;
                }
                f.write_str(")")
            }
            Rule::Sgd { momentum, nesterov } => {
                write!(f, "sgd(lr={lr}, momentum={momentum}, nesterov={nesterov})")
            }
        }
    }
}

impl TryFrom<String> for OptimizerSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<OptimizerSpec> for String {
    fn from(spec: OptimizerSpec) -> String {
        spec.to_string()
    }
}

/// Named vectors, one set of units for each moment.
type Moments = Vec<(&'static str, Parameters)>;

fn save(step: u64, moments: &Moments) -> OptimizerState {
    let unit = |name: &'static str| {
        move |(u, values): (usize, &Vec<f32>)| (format!("{name}.{u}"), values.clone())
    };
    let vectors = moments
        .iter()
        .flat_map(|(name, moment)| moment.units().iter().enumerate().map(unit(name)))
        .collect();
    OptimizerState { step, vectors }
}

fn load(moments: &mut Moments, state: &OptimizerState) -> Result<()> {
    let own = save(0, moments);
    let shape = |s: &OptimizerState| -> Vec<(String, usize)> {
        s.vectors.iter().map(|(name, v)| (name.clone(), v.len())).collect()
    };
    let (expected, got) = (shape(&own), shape(state));
    if expected != got {
        let text = |s: Vec<(String, usize)>| {
            let total: usize = s.iter().map(|(_, n)| n).sum();
            let first = s.into_iter().next().map(|(name, _)| name).unwrap_or_default();
            format!("vectors from `{first}` on with {total} numbers in all")
        };
        return Err(Error::shape("optimiser state", text(expected), text(got)));
    }
    let units = moments.iter_mut().flat_map(|(_, moment)| moment.units_mut());
    for (unit, (_, values)) in units.zip(&state.vectors) {
        unit.copy_from_slice(values);
    }
    Ok(())
}

fn check(like: &Parameters, parameters: &Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
    let sizes = |p: &Parameters| p.units().iter().map(Vec::len).collect::<Vec<_>>();
    for (what, given) in [("parameters", parameters), ("gradient", gradient)] {
        if !like.units().iter().map(Vec::len).eq(given.units().iter().map(Vec::len)) {
            let (expected, got) = (sizes(like), sizes(given));
            return Err(Error::shape(what, format!("{expected:?}"), format!("{got:?}")));
        }
    }
    if lr.is_finite() && lr >= 0.0 {
        return Ok(());
    }
    Err(Error::parameter("lr", "a number of at least 0", lr))
}

/// One moment's or parameter's chunks beside one another: (θ, g, m…).
fn chunks<'a>(
    parameters: &'a mut Parameters,
    gradient: &'a Parameters,
    moments: &'a mut Moments,
) -> Vec<(&'a mut [f32], &'a [f32], Vec<&'a mut [f32]>)> {
    let mut moments: Vec<_> = moments
        .iter_mut()
        .map(|(_, m)| m.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK)))
        .collect();
    let gradient = gradient.units().iter().flat_map(|u| u.chunks(CHUNK));
    let parameters = parameters.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK));
    parameters
        .zip(gradient)
        .map(|(p, g)| (p, g, moments.iter_mut().filter_map(Iterator::next).collect()))
        .collect()
}

/// Runs `update` on every chunk, on several threads only when there is enough to do.
fn for_each_chunk<'a, F>(chunks: Vec<(&'a mut [f32], &'a [f32], Vec<&'a mut [f32]>)>, update: F)
where
    F: Fn(&mut [f32], &[f32], Vec<&mut [f32]>) + Sync,
{
    let total: usize = chunks.iter().map(|c| c.1.len()).sum();
    if total <= 2 * CHUNK {
        chunks.into_iter().for_each(|(p, g, m)| update(p, g, m));
    } else {
        chunks.into_par_iter().for_each(|(p, g, m)| update(p, g, m));
    }
}

/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr·(m̂/(√v̂ + ε) + λθ) with bias-corrected m̂, v̂.
struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    step: u64,
    moments: Moments,
}

impl Optimizer for Adam {
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
        if let Some((_, like)) = self.moments.first() {
            check(like, parameters, gradient, lr)?;
        }
        self.step += 1;
        let steps = self.step as f64;
        // lr·m̂/(√v̂ + ε) = rate·m/(√v + ε·root), rate = lr·root/(1 − β₁ᵗ), root = √(1 − β₂ᵗ).
        let root = (1.0 - self.beta2.powf(steps)).sqrt();
        let rule = AdamRule {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            rate: (lr * root / (1.0 - self.beta1.powf(steps))) as f32,
            eps: (self.eps * root).max(f64::from(f32::MIN_POSITIVE)) as f32,
            shrink: (lr * self.weight_decay) as f32,
        };
        let arch = Arch::new();
        for_each_chunk(chunks(parameters, gradient, &mut self.moments), |p, g, m| {
            if let Ok([first, second]) = <[&mut [f32]; 2]>::try_from(m) {
                arch.dispatch(AdamUpdate { rule, p, g, first, second });
            }
        });
        Ok(())
    }

    fn state(&self) -> OptimizerState {
        save(self.step, &self.moments)
    }

    fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        load(&mut self.moments, state)?;
        self.step = state.step;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct AdamRule {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    rate: f32,
    eps: f32,
    shrink: f32,
}

struct AdamUpdate<'a> {
    rule: AdamRule,
    p: &'a mut [f32],
    g: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for AdamUpdate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let r = self.rule;
        let moments = self.first.iter_mut().zip(self.second);
        for ((p, g), (m, v)) in self.p.iter_mut().zip(self.g).zip(moments) {
            *m = fma::<S>(r.beta1, *m, r.rest1 * g);
            *v = fma::<S>(r.beta2, *v, r.rest2 * g * g);
            let shrunk = fma::<S>(-r.shrink, *p, *p);
            *p = shrunk - r.rate * *m / (v.sqrt() + r.eps);
        }
    }
}

/// u ← μu + g, θ ← θ − lr·u, or lr·(g + μu) with Nesterov's look-ahead (Sutskever et al. 2013).
struct Sgd {
    momentum: f64,
    nesterov: bool,
    step: u64,
    moments: Moments,
}

impl Optimizer for Sgd {
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
        if let Some((_, like)) = self.moments.first() {
            check(like, parameters, gradient, lr)?;
        }
        self.step += 1;
        let (momentum, lr, nesterov) = (self.momentum as f32, lr as f32, self.nesterov);
        for_each_chunk(chunks(parameters, gradient, &mut self.moments), |p, g, m| {
            let Some(velocity) = m.into_iter().next() else { return };
            for ((p, g), u) in p.iter_mut().zip(g).zip(velocity) {
                *u = momentum * *u + g;
                *p -= lr * if nesterov { g + momentum * *u } else { *u };
            }
        });
        Ok(())
    }

    fn state(&self) -> OptimizerState {
        save(self.step, &self.moments)
    }

    fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        load(&mut self.moments, state)?;
        self.step = state.step;
        Ok(())
    }
}

/// Scales `gradient` so that its Euclidean norm over all units is at most `max_norm`, and returns
/// the norm it had, in double precision. A norm that is not finite (some gradient is not) is
/// returned as it is, and nothing is scaled: the caller must stop there. O(parameters).
///
/// # Errors
/// [`Error::InvalidParameter`] unless `max_norm` is above 0.
pub fn clip(gradient: &mut Parameters, max_norm: Option<f64>) -> Result<f64> {
    if let Some(max) = max_norm.filter(|max| max.is_nan() || *max <= 0.0) {
        return Err(Error::parameter("clip", "a norm above 0", max));
    }
    let square = |chunk: &[f32; 8]| chunk.map(|g| f64::from(g) * f64::from(g));
    let mut total = 0.0;
    for unit in gradient.units() {
        let (chunks, tail) = unit.as_chunks::<8>();
        let mut sums = [0.0f64; 8];
        for chunk in chunks {
            for (sum, square) in sums.iter_mut().zip(square(chunk)) {
                *sum += square;
            }
        }
        total += sums.iter().sum::<f64>();
        total += tail.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    }
    let norm = total.sqrt();
    if let Some(max) = max_norm.filter(|max| norm.is_finite() && norm > *max) {
        let factor = (max / norm) as f32;
        gradient.units_mut().iter_mut().flatten().for_each(|g| *g *= factor);
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::super::parameters::TensorLayout;
    use super::*;
    use rand::RngExt as _;

    /// Two units, of 19 and of more than two chunks of numbers, drawn from [−1, 1).
    fn draw(stream: u64) -> Parameters {
        let layout = |n: usize| {
            vec![TensorLayout { name: "layers.0.weight".into(), shape: vec![n], offset: 0 }]
        };
        let mut p = Parameters::zeros(vec![layout(19), layout(2 * CHUNK + 5)]);
        let mut rng = crate::rng::stream(5, "test", stream);
        p.units_mut().iter_mut().flatten().for_each(|v| *v = rng.random_range(-1.0f32..1.0));
        p
    }

    #[test]
    fn every_rule_agrees_with_its_formula_in_double_precision() {
        for text in [
            "adam(lr=0.01)",
            "adam(lr=0.01, beta1=0.5, beta2=0.9, eps=0.1)",
            "adamw(lr=0.01, weight_decay=0.3)",
            "sgd(lr=0.01, momentum=0)",
            "sgd(lr=0.01, momentum=0.8)",
            "sgd(lr=0.01, momentum=0.8, nesterov=true)",
        ] {
            let spec: OptimizerSpec = text.parse().unwrap();
            let mut parameters = draw(0);
            let mut exact: Vec<f64> = parameters.units()[0].iter().map(|v| f64::from(*v)).collect();
            let (mut first, mut second) = (vec![0.0; 19], vec![0.0; 19]);
            let mut optimizer = spec.build(&parameters);
            for t in 1..=5 {
                let g = draw(t);
                optimizer.step(&mut parameters, &g, spec.learning_rate()).unwrap();
                for i in 0..19 {
                    let g = f64::from(g.units()[0][i]);
                    match spec.rule {
                        Rule::Adam { beta1, beta2, eps, weight_decay, .. } => {
                            first[i] = beta1 * first[i] + (1.0 - beta1) * g;
                            second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
                            let m = first[i] / (1.0 - beta1.powi(t as i32));
                            let v: f64 = second[i] / (1.0 - beta2.powi(t as i32));
                            exact[i] -= 0.01 * weight_decay * exact[i];
                            exact[i] -= 0.01 * m / (v.sqrt() + eps);
                        }
                        Rule::Sgd { momentum, nesterov } => {
                            first[i] = momentum * first[i] + g;
                            exact[i] -=
                                0.01 * if nesterov { g + momentum * first[i] } else { first[i] };
                        }
                    }
                }
            }
            for (got, exact) in parameters.units()[0].iter().zip(exact) {
                assert!((f64::from(*got) - exact).abs() < 5e-7, "{text}: {got} {exact}");
            }
        }
    }

    #[test]
    fn a_restored_optimiser_continues_to_the_same_bits() {
        for text in ["adam", "adamw", "sgd(nesterov=true)"] {
            let spec: OptimizerSpec = text.parse().unwrap();
            let mut whole = draw(0);
            let mut optimizer = spec.build(&whole);
            for t in 1..=3 {
                optimizer.step(&mut whole, &draw(t), 0.01).unwrap();
            }
            let mut resumed = whole.clone();
            let state = optimizer.state();
            assert_eq!(state.step, 3);
            let mut other = spec.build(&resumed);
            other.restore(&state).unwrap();
            for t in 4..=6 {
                optimizer.step(&mut whole, &draw(t), 0.01).unwrap();
                other.step(&mut resumed, &draw(t), 0.01).unwrap();
            }
            assert_eq!(whole, resumed, "{text}");
            assert_eq!(optimizer.state(), other.state(), "{text}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut p = draw(0);
            let spec: OptimizerSpec = "adamw".parse().unwrap();
            pool.install(|| spec.build(&p).step(&mut p, &draw(1), 0.1)).unwrap();
            p
        };
        assert_eq!(run(1), run(2));
    }

    #[test]
    fn clipping_scales_to_the_norm_and_reports_what_is_not_finite() {
        let mut g = draw(1);
        let exact: f64 = g.units().iter().flatten().map(|v| f64::from(*v).powi(2)).sum();
        let norm = clip(&mut g, None).unwrap();
        assert!((norm - exact.sqrt()).abs() < 1e-9 * norm);
        assert_eq!(clip(&mut g, Some(2.0 * norm)).unwrap(), norm);
        assert_eq!(g, draw(1));
        clip(&mut g, Some(0.5)).unwrap();
        assert!((clip(&mut g, None).unwrap() - 0.5).abs() < 1e-6);
        g.units_mut()[1][77] = f32::NAN;
        assert!(clip(&mut g, Some(0.5)).unwrap().is_nan());
        g.units_mut()[1][77] = f32::INFINITY;
        assert_eq!(clip(&mut g, Some(0.5)).unwrap(), f64::INFINITY);
        assert!(clip(&mut g, Some(0.0)).is_err());
        assert!(clip(&mut g, Some(f64::NAN)).is_err());
    }

    #[test]
    fn mismatches_and_bad_rates_are_errors() {
        let spec: OptimizerSpec = "adam".parse().unwrap();
        let (mut p, other) = (draw(0), Parameters::zeros(vec![]));
        let mut optimizer = spec.build(&p);
        assert!(optimizer.step(&mut p, &other, 0.1).is_err());
        assert!(optimizer.step(&mut p, &draw(1), f64::NAN).is_err());
        assert!(optimizer.step(&mut p, &draw(1), -0.1).is_err());
        assert!(optimizer.restore(&OptimizerState::default()).is_err());
        let sgd: OptimizerSpec = "sgd".parse().unwrap();
        assert!(optimizer.restore(&sgd.build(&p).state()).is_err());
        assert_eq!(p, draw(0));
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "adam(lr=0.001, beta1=0.9, beta2=0.999, eps=0.00000001)",
            "adamw(lr=0.002, beta1=0.9, beta2=0.99, eps=0.00000001, weight_decay=0)",
            "sgd(lr=0.01, momentum=0.9, nesterov=true)",
        ] {
            let spec: OptimizerSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        for bad in
            ["adam(lr=0)", "adam(beta1=1)", "sgd(momentum=-1)", "adan", "adam(nesterov=true)"]
        {
            assert!(bad.parse::<OptimizerSpec>().is_err(), "{bad}");
        }
    }
}
