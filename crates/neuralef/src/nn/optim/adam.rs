//! Adam, and the update that AdamW and RMSProp share with it.

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use super::buffers::{Buffers, check, for_each_chunk, load, save};
use super::{Optimizer, OptimizerRule, OptimizerState};
use crate::error::Result;
use crate::nn::math::V;
use crate::nn::parameters::Parameters;
use crate::spec::{Args, Domain, Entry, Parameter};

pub(super) const LR: Parameter = Parameter::new("lr", Domain::POSITIVE, "1e-3", "learning rate");
pub(super) const BETA1: Parameter =
    Parameter::new("beta1", Domain::FRACTION, "0.9", "decay of the first moment");
pub(super) const BETA2: Parameter =
    Parameter::new("beta2", Domain::FRACTION, "0.999", "decay of the second moment");
pub(super) const EPS: Parameter =
    Parameter::new("eps", Domain::POSITIVE, "1e-8", "added to the root of the second moment");

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn OptimizerRule>> = Entry {
    name: "adam",
    summary: "Adam (Kingma & Ba 2015)",
    parameters: &[LR, BETA1, BETA2, EPS],
    build: |args| Ok(Arc::new(Adam::read(args)?)),
};

/// The parameters of [`AdamOptimizer`] with bias correction and without weight decay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    pub(super) lr: f64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
}

impl Adam {
    pub(super) fn read(args: &Args<'_>) -> Result<Self> {
        Ok(Adam {
            lr: args.number("lr")?,
            beta1: args.number("beta1")?,
            beta2: args.number("beta2")?,
            eps: args.number("eps")?,
        })
    }

    /// With decoupled weight decay.
    pub(super) fn decayed(&self, weight_decay: f64, parameters: &Parameters) -> AdamOptimizer {
        let Adam { beta1, beta2, eps, .. } = *self;
        let zeros = || parameters.zeros_like();
        let buffers = vec![("first_moment", zeros()), ("second_moment", zeros())];
        AdamOptimizer { beta1, beta2, eps, weight_decay, corrected: true, step: 0, buffers }
    }
}

impl OptimizerRule for Adam {
    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule> {
        Arc::new(Adam { lr, ..*self })
    }

    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        Box::new(self.decayed(0.0, parameters))
    }

    fn text(&self) -> String {
        let Adam { lr, beta1, beta2, eps } = self;
        ENTRY.text(&[("lr", lr), ("beta1", beta1), ("beta2", beta2), ("eps", eps)])
    }
}

/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − lr·(m̂/(√v̂ + ε) + λθ) with m̂, v̂ bias-corrected,
/// or m and v themselves.
pub(super) struct AdamOptimizer {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    pub(super) weight_decay: f64,
    pub(super) corrected: bool,
    pub(super) step: u64,
    pub(super) buffers: Buffers,
}

impl Optimizer for AdamOptimizer {
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
        if let Some((_, like)) = self.buffers.first() {
            check(like, parameters, gradient, lr)?;
        }
        self.step += 1;
        let steps = self.step as f64;
        // lr·m̂/(√v̂ + ε) = rate·m/(√v + ε·root), rate = lr·root/(1 − β₁ᵗ), root = √(1 − β₂ᵗ).
        let (root, mean) = match self.corrected {
            true => ((1.0 - self.beta2.powf(steps)).sqrt(), 1.0 - self.beta1.powf(steps)),
            false => (1.0, 1.0),
        };
        let coefficients = Coefficients {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            rate: (lr * root / mean) as f32,
            eps: (self.eps * root).max(f64::from(f32::MIN_POSITIVE)) as f32,
            shrink: (lr * self.weight_decay) as f32,
        };
        let arch = Arch::new();
        for_each_chunk(parameters, gradient, &mut self.buffers, |chunk| {
            let (p, g) = (chunk.parameters, chunk.gradient);
            if let Ok([first, second]) = <[&mut [f32]; 2]>::try_from(chunk.buffers) {
                arch.dispatch(Update { coefficients, p, g, first, second });
            }
        });
        Ok(())
    }

    fn state(&self) -> OptimizerState {
        save(self.step, &self.buffers)
    }

    fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        load(&mut self.buffers, state)?;
        self.step = state.step;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Coefficients {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    rate: f32,
    eps: f32,
    shrink: f32,
}

struct Update<'a> {
    coefficients: Coefficients,
    p: &'a mut [f32],
    g: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (p, p_tail) = S::as_mut_simd_f32s(self.p);
        let (g, g_tail) = S::as_simd_f32s(self.g);
        let (first, first_tail) = S::as_mut_simd_f32s(self.first);
        let (second, second_tail) = S::as_mut_simd_f32s(self.second);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(first).zip(second) {
            (*p, *m, *v) = self.coefficients.update(simd, *p, *g, *m, *v);
        }
        let g = simd.partial_load_f32s(g_tail);
        let (p, m) = (simd.partial_load_f32s(p_tail), simd.partial_load_f32s(first_tail));
        let v = simd.partial_load_f32s(second_tail);
        let (p, m, v) = self.coefficients.update(simd, p, g, m, v);
        simd.partial_store_f32s(p_tail, p);
        simd.partial_store_f32s(first_tail, m);
        simd.partial_store_f32s(second_tail, v);
    }
}

impl Coefficients {
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
