//! Stochastic gradient descent with momentum, Nesterov's look-ahead and weight decay.

use std::sync::Arc;

use super::adam::LR;
use super::buffers::{Buffers, check, for_each_chunk, load, save};
use super::{Optimizer, OptimizerRule, OptimizerState};
use crate::error::Result;
use crate::nn::parameters::Parameters;
use crate::spec::{Domain, Entry, Parameter};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn OptimizerRule>> = Entry {
    name: "sgd",
    summary: "stochastic gradient descent with momentum",
    parameters: &[
        LR.with_default("1e-2"),
        Parameter::new("momentum", Domain::FRACTION, "0.9", "decay of the velocity"),
        Parameter::new("nesterov", Domain::Boolean, "false", "look ahead along the velocity"),
        Parameter::new(
            "weight_decay",
            Domain::NON_NEGATIVE,
            "0",
            "times the parameters, added to the gradient",
        ),
    ],
    build: |args| {
        Ok(Arc::new(Sgd {
            lr: args.number("lr")?,
            momentum: args.number("momentum")?,
            nesterov: args.boolean("nesterov")?,
            weight_decay: args.number("weight_decay")?,
        }))
    },
};

#[derive(Debug, Clone, Copy)]
struct Sgd {
    lr: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl OptimizerRule for Sgd {
    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule> {
        Arc::new(Sgd { lr, ..*self })
    }

    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        let buffers = vec![("velocity", parameters.zeros_like())];
        Box::new(SgdOptimizer { rule: *self, step: 0, buffers })
    }

    fn text(&self) -> String {
        let Sgd { lr, momentum, nesterov, weight_decay } = self;
        ENTRY.text(&[
            ("lr", lr),
            ("momentum", momentum),
            ("nesterov", nesterov),
            ("weight_decay", weight_decay),
        ])
    }
}

/// u ← μu + g, θ ← θ − lr·u, or lr·(g + μu) with Nesterov's look-ahead (Sutskever et al. 2013), where
/// λθ is part of the gradient g.
struct SgdOptimizer {
    rule: Sgd,
    step: u64,
    buffers: Buffers,
}

impl Optimizer for SgdOptimizer {
    fn step(&mut self, parameters: &mut Parameters, gradient: &Parameters, lr: f64) -> Result<()> {
        if let Some((_, like)) = self.buffers.first() {
            check(like, parameters, gradient, lr)?;
        }
        self.step += 1;
        let Sgd { momentum, nesterov, weight_decay, .. } = self.rule;
        let (momentum, lr, decay) = (momentum as f32, lr as f32, weight_decay as f32);
        for_each_chunk(parameters, gradient, &mut self.buffers, |chunk| {
            let Some(velocity) = chunk.buffers.into_iter().next() else { return };
            for ((p, g), u) in chunk.parameters.iter_mut().zip(chunk.gradient).zip(velocity) {
                let g = decay * *p + g;
                *u = momentum * *u + g;
                *p -= lr * if nesterov { g + momentum * *u } else { *u };
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
