//! Optimisers: SGD with momentum, Adam, AdamW, RMSProp, SOAP (soap.rs); gradient clipping; state that saves and restores.

use std::fmt;
use std::str::FromStr;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::math::V;
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::spec::args::{Args, Entry, Registry};

mod soap;
#[cfg(test)]
mod tests;

use soap::{Soap, SoapRule};

/// Numbers that one task updates. Updates are elementwise, so the cut changes no bit.
const CHUNK: usize = 16_384;

/// Updates parameters from gradients.
pub trait Optimizer: Send {
    /// One step with learning rate `lr` (the spec's rate times the schedule's factor). O(parameters), but
    /// for `soap`, which multiplies and now and then factorises matrices as wide as a layer has inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] when parameters or gradient are laid out otherwise than at construction,
    /// [`Error::InvalidParameter`] for a negative or non-finite `lr`; `soap` also reports gradients whose
    /// squares overflow, as [`Error::Numerical`], before it changes anything.
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
            name: "rmsprop",
            summary: "gradients over the root of their running mean square (Tieleman & Hinton 2012)",
            parameters: &[
                LR,
                ("decay", "0.99", "decay of the running mean square"),
                ("eps", "1e-8", "added to its root"),
            ],
            build: |args| {
                let rule = Rule::RmsProp {
                    decay: fraction(args, "decay", 0.99)?,
                    eps: args.positive("eps", 1e-8)?,
                };
                Ok(OptimizerSpec { lr: args.positive("lr", 1e-3)?, rule })
            },
        },
        Entry {
            name: "sgd",
            summary: "stochastic gradient descent with momentum",
            parameters: &[
                ("lr", "1e-2", "learning rate"),
                ("momentum", "0.9", "decay of the velocity"),
                ("nesterov", "false", "look ahead along the velocity"),
                ("weight_decay", "0", "times the parameters, added to the gradient"),
            ],
            build: |args| {
                Ok(OptimizerSpec {
                    lr: args.positive("lr", 1e-2)?,
                    rule: Rule::Sgd {
                        momentum: fraction(args, "momentum", 0.9)?,
                        nesterov: args.boolean("nesterov", false)?,
                        weight_decay: args.non_negative("weight_decay", 0.0)?,
                    },
                })
            },
        },
        Entry {
            name: "soap",
            summary: "Adam in the eigenbasis of each layer's gradients (Vyas et al. 2024)",
            parameters: &[
                ("lr", "3e-3", "learning rate"),
                BETAS[0],
                ("beta2", "0.95", "decay of the second moments"),
                BETAS[2],
                ("frequency", "20", "steps between new bases"),
                ("max_inputs", "2048", "layers with more inputs are left to Adam"),
            ],
            build: |args| {
                let rule = Rule::Soap(SoapRule {
                    beta1: fraction(args, "beta1", 0.9)?,
                    beta2: fraction(args, "beta2", 0.95)?,
                    eps: args.positive("eps", 1e-8)?,
                    frequency: args.integer("frequency", 1..=u64::from(u32::MAX), 20)?,
                    max_inputs: args.integer("max_inputs", 1..=16_384, 2048)? as usize,
                });
                Ok(OptimizerSpec { lr: args.positive("lr", 3e-3)?, rule })
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
    RmsProp {
        decay: f64,
        eps: f64,
    },
    Sgd {
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    },
    Soap(SoapRule),
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

    /// `sgd` with Nesterov's look-ahead.
    pub(crate) fn sgd(lr: f64, momentum: f64, weight_decay: f64) -> Self {
        OptimizerSpec { lr, rule: Rule::Sgd { momentum, nesterov: true, weight_decay } }
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

    /// Whether the optimiser keeps more than two moments of every parameter.
    pub(crate) fn has_bases(&self) -> bool {
        matches!(self.rule, Rule::Soap(_))
    }

    /// Bytes that the optimiser takes beside two moments of every parameter, and a checkpoint for them.
    pub(crate) fn bytes(&self, parameters: &Parameters) -> u64 {
        match self.rule {
            Rule::Soap(rule) => soap::bytes(&rule, parameters),
            _ => 0,
        }
    }

    /// Numbers that it keeps beside the moments.
    pub(crate) fn bases(&self, parameters: &Parameters) -> u64 {
        match self.rule {
            Rule::Soap(rule) => soap::numbers(&rule, parameters),
            _ => 0,
        }
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
                corrected: true,
                step: 0,
                moments: vec![("first_moment", zeros()), ("second_moment", zeros())],
            }),
            // Adam without a mean of gradients and without bias correction.
            Rule::RmsProp { decay, eps } => Box::new(Adam {
                beta1: 0.0,
                beta2: decay,
                eps,
                weight_decay: 0.0,
                corrected: false,
                step: 0,
                moments: vec![("gradient", zeros()), ("second_moment", zeros())],
            }),
            Rule::Sgd { momentum, nesterov, weight_decay } => Box::new(Sgd {
                momentum,
                nesterov,
                weight_decay,
                step: 0,
                moments: vec![("velocity", zeros())],
            }),
            Rule::Soap(rule) => Box::new(Soap::new(rule, parameters)),
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
            Rule::RmsProp { decay, eps } => {
                write!(f, "rmsprop(lr={lr}, decay={decay}, eps={eps})")
            }
            Rule::Sgd { momentum, nesterov, weight_decay } => write!(
                f,
                "sgd(lr={lr}, momentum={momentum}, nesterov={nesterov}, weight_decay={weight_decay})"
            ),
            Rule::Soap(SoapRule { beta1, beta2, eps, frequency, max_inputs }) => write!(
                f,
                "soap(lr={lr}, beta1={beta1}, beta2={beta2}, eps={eps}, frequency={frequency}, \
                 max_inputs={max_inputs})"
            ),
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

/// Fails unless the vectors of two states have the same names and sizes.
fn expect_same(
    own: impl IntoIterator<Item = (String, usize)>,
    given: impl IntoIterator<Item = (String, usize)>,
) -> Result<()> {
    let (expected, got): (Vec<_>, Vec<_>) =
        (own.into_iter().collect(), given.into_iter().collect());
    if expected == got {
        return Ok(());
    }
    let text = |s: Vec<(String, usize)>| {
        let total: usize = s.iter().map(|(_, n)| n).sum();
        let first = s.into_iter().next().map(|(name, _)| name).unwrap_or_default();
        format!("vectors from `{first}` on with {total} numbers in all")
    };
    Err(Error::shape("optimiser state", text(expected), text(got)))
}

fn load(moments: &mut Moments, state: &OptimizerState) -> Result<()> {
    let own = save(0, moments);
    let shape = |s: &OptimizerState| -> Vec<(String, usize)> {
        s.vectors.iter().map(|(name, v)| (name.clone(), v.len())).collect()
    };
    expect_same(shape(&own), shape(state))?;
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

/// The same stretch of parameters, gradient and moments.
struct Chunk<'a> {
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    moments: Vec<&'a mut [f32]>,
}

/// Runs `update` on every stretch, on several threads only when there is enough to do.
fn for_each_chunk(
    parameters: &mut Parameters,
    gradient: &Parameters,
    moments: &mut Moments,
    update: impl Fn(Chunk<'_>) + Send + Sync,
) {
    let mut moments: Vec<_> = moments
        .iter_mut()
        .map(|(_, m)| m.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK)))
        .collect();
    let parallel = gradient.len() > 2 * CHUNK;
    let gradient = gradient.units().iter().flat_map(|u| u.chunks(CHUNK));
    let parameters = parameters.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK));
    let chunks = parameters.zip(gradient).map(|(parameters, gradient)| Chunk {
        parameters,
        gradient,
        moments: moments.iter_mut().filter_map(Iterator::next).collect(),
    });
    if parallel {
        chunks.collect::<Vec<_>>().into_par_iter().for_each(update);
    } else {
        chunks.for_each(update);
    }
}

/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr·(m̂/(√v̂ + ε) + λθ) with m̂, v̂ bias-corrected,
/// or m and v themselves.
struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    corrected: bool,
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
        let (root, mean) = match self.corrected {
            true => ((1.0 - self.beta2.powf(steps)).sqrt(), 1.0 - self.beta1.powf(steps)),
            false => (1.0, 1.0),
        };
        let rule = AdamRule {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            rate: (lr * root / mean) as f32,
            eps: (self.eps * root).max(f64::from(f32::MIN_POSITIVE)) as f32,
            shrink: (lr * self.weight_decay) as f32,
        };
        let arch = Arch::new();
        for_each_chunk(parameters, gradient, &mut self.moments, |chunk| {
            let (p, g) = (chunk.parameters, chunk.gradient);
            if let Ok([first, second]) = <[&mut [f32]; 2]>::try_from(chunk.moments) {
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
    fn with_simd<S: Simd>(self, simd: S) {
        let (p, p_tail) = S::as_mut_simd_f32s(self.p);
        let (g, g_tail) = S::as_simd_f32s(self.g);
        let (first, first_tail) = S::as_mut_simd_f32s(self.first);
        let (second, second_tail) = S::as_mut_simd_f32s(self.second);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(first).zip(second) {
            (*p, *m, *v) = self.rule.update(simd, *p, *g, *m, *v);
        }
        let g = simd.partial_load_f32s(g_tail);
        let (p, m) = (simd.partial_load_f32s(p_tail), simd.partial_load_f32s(first_tail));
        let v = simd.partial_load_f32s(second_tail);
        let (p, m, v) = self.rule.update(simd, p, g, m, v);
        simd.partial_store_f32s(p_tail, p);
        simd.partial_store_f32s(first_tail, m);
        simd.partial_store_f32s(second_tail, v);
    }
}

impl AdamRule {
    /// New (θ, m, v).
    #[inline(always)]
    fn update<S: Simd>(
        &self,
        simd: S,
        p: S::f32s,
        g: S::f32s,
        m: S::f32s,
        v: S::f32s,
    ) -> (S::f32s, S::f32s, S::f32s) {
        let (p, g) = (V::new(simd, p), V::new(simd, g));
        let (m, v) = (V::new(simd, m), V::new(simd, v));
        let m = p.splat(self.beta1).mul_add(m, p.splat(self.rest1) * g);
        let v = p.splat(self.beta2).mul_add(v, p.splat(self.rest2) * g * g);
        let root = V::new(simd, simd.sqrt_f32s(v.v));
        let shrunk = p.splat(-self.shrink).mul_add(p, p);
        let p = shrunk - p.splat(self.rate) * m / (root + p.splat(self.eps));
        (p.v, m.v, v.v)
    }
}

/// u ← μu + g, θ ← θ − lr·u, or lr·(g + μu) with Nesterov's look-ahead (Sutskever et al. 2013), where
/// λθ is part of the gradient g.
struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
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
        let decay = self.weight_decay as f32;
        for_each_chunk(parameters, gradient, &mut self.moments, |chunk| {
            let Some(velocity) = chunk.moments.into_iter().next() else { return };
            for ((p, g), u) in chunk.parameters.iter_mut().zip(chunk.gradient).zip(velocity) {
                let g = decay * *p + g;
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
