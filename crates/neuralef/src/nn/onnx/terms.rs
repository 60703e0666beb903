//! What names of a file stand for: values of the network, constants, and parts of activations.

use std::sync::Arc;

use super::integers::{self, Integers};
use super::tensor::Tensor;
use crate::error::Error;
use crate::nn::graph::Value;

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Term {
    /// Values of the network.
    Wire(Wire),
    /// Constant floats.
    Tensor(Arc<Tensor>),
    /// Sizes.
    Integers(Integers),
    /// A part of an activation that is written as several nodes.
    Part(Part),
}

/// Values of the network under a name of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    pub(super) value: Value,
    /// Whether the file has them as rows of numbers: batch × (channels · height · width).
    pub(super) flat: bool,
    /// Whether no other name stands for them that anything reads.
    pub(super) alone: bool,
}

/// A part of an activation that is written as several nodes.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) stage: ActivationStage,
    /// The name of what the activation is of.
    pub(super) of: Arc<str>,
    /// The node, for a part that is used for anything else.
    pub(super) node: String,
    pub(super) operator: String,
}

/// How far an activation of x has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActivationStage {
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// x/√2.
    Scaled,
    /// erf(x/√2).
    Erf,
    /// 1 + erf(x/√2), twice the normal distribution function.
    Distribution,
    /// x (1 + erf(x/√2)).
    Twice,
    /// x/2.
    Half,
    /// The normal distribution function.
    Normal,
}

impl Part {
    pub(super) const REASON: &str =
        "only as a part of SiLU, x·sigmoid(x), or GELU, x/2·(1 + erf(x/√2)), is it";

    /// That it is no activation.
    pub(super) fn refuse(&self, file: &str) -> Error {
        Error::UnsupportedNode {
            path: file.into(),
            node: self.node.clone(),
            operator: self.operator.clone(),
            attribute: None,
            reason: Self::REASON.into(),
        }
    }
}

impl Term {
    /// A constant: small tensors of integers are sizes.
    pub(super) fn of(tensor: Tensor) -> Result<Self, String> {
        if !tensor.is_integer() || tensor.size() > integers::MOST {
            return Ok(Term::Tensor(Arc::new(tensor)));
        }
        let values = tensor.integers()?.into_iter().map(Some).collect();
        Ok(Term::Integers(Integers { dims: tensor.dims, values }))
    }
}
