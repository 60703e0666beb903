//! RMSProp: Adam without a mean of gradients and without bias correction.

use std::sync::Arc;

use super::adam::{AdamOptimizer, EPS, LR};
use super::{Optimizer, OptimizerRule};
use crate::nn::parameters::Parameters;
use crate::spec::{Domain, Entry, Parameter};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn OptimizerRule>> = Entry {
    name: "rmsprop",
    summary: "gradients over the root of their running mean square (Tieleman & Hinton 2012)",
    parameters: &[
        LR,
        Parameter::new("decay", Domain::FRACTION, "0.99", "decay of the running mean square"),
        EPS.with_help("added to its root"),
    ],
    build: |args| {
        let (lr, decay) = (args.number("lr")?, args.number("decay")?);
        Ok(Arc::new(RmsProp { lr, decay, eps: args.number("eps")? }))
    },
};

#[derive(Debug, Clone, Copy)]
struct RmsProp {
    lr: f64,
    decay: f64,
    eps: f64,
}

impl OptimizerRule for RmsProp {
    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule> {
        Arc::new(RmsProp { lr, ..*self })
    }

    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        let zeros = || parameters.zeros_like();
        Box::new(AdamOptimizer {
            beta1: 0.0,
            beta2: self.decay,
            eps: self.eps,
            weight_decay: 0.0,
            corrected: false,
            step: 0,
            buffers: vec![("gradient", zeros()), ("second_moment", zeros())],
        })
    }

    fn text(&self) -> String {
        ENTRY.text(&[("lr", &self.lr), ("decay", &self.decay), ("eps", &self.eps)])
    }
}
