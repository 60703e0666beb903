//! AdamW: Adam with decoupled weight decay.

use std::sync::Arc;

use super::adam::{Adam, BETA1, BETA2, EPS, LR};
use super::{Optimizer, OptimizerRule};
use crate::nn::parameters::Parameters;
use crate::spec::{Domain, Entry, Parameter};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn OptimizerRule>> = Entry {
    name: "adamw",
    summary: "Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
    parameters: &[
        LR,
        BETA1,
        BETA2,
        EPS,
        Parameter::new(
            "weight_decay",
            Domain::NON_NEGATIVE,
            "0.01",
            "shrinkage of all parameters, times the learning rate",
        ),
    ],
    build: |args| {
        let weight_decay = args.number("weight_decay")?;
        Ok(Arc::new(AdamW { adam: Adam::read(args)?, weight_decay }))
    },
};

#[derive(Debug, Clone, Copy)]
struct AdamW {
    adam: Adam,
    weight_decay: f64,
}

impl OptimizerRule for AdamW {
    fn learning_rate(&self) -> f64 {
        self.adam.lr
    }

    fn with_learning_rate(&self, lr: f64) -> Arc<dyn OptimizerRule> {
        Arc::new(AdamW { adam: Adam { lr, ..self.adam }, ..*self })
    }

    fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
        Box::new(self.adam.decayed(self.weight_decay, parameters))
    }

    fn text(&self) -> String {
        let AdamW { adam: Adam { lr, beta1, beta2, eps }, weight_decay } = self;
        ENTRY.text(&[
            ("lr", lr),
            ("beta1", beta1),
            ("beta2", beta2),
            ("eps", eps),
            ("weight_decay", weight_decay),
        ])
    }
}
