//! Activations, whole or written as several nodes, as PyTorch's exporter writes SiLU and GELU.

use std::sync::Arc;

use super::convert::{Converter, Term, Wire};
use super::reader::Reader;
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::nn::activation::Activation;

/// A part of an activation that is written as several nodes.
#[derive(Debug, Clone)]
pub(super) struct Part {
    stage: Stage,
    /// The name of what the activation is of.
    of: Arc<str>,
    /// The node, for a part that is used for anything else.
    node: String,
    operator: String,
}

/// How far an activation of x has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
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
    const REASON: &str =
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

/// Whether `tensor` is the one number `value`, as far as single precision tells.
fn is_number(tensor: &Tensor, value: f64) -> bool {
    tensor.scalar().is_some_and(|v| (f64::from(v) / value - 1.0).abs() < 1e-6)
}

impl Converter<'_> {
    /// An activation of input 0, which nothing else reads but the node itself.
    pub(super) fn activate(&mut self, reader: &Reader<'_>, activation: Activation) -> Result<Term> {
        reader.at_most(1)?;
        let of = self.wire(reader, 0)?;
        let alone = self.is_read(reader, 0, of, 1);
        self.apply(reader, of, alone, activation)
    }

    /// An activation of `of`: in place when no one else wants the value without it.
    fn apply(
        &mut self,
        reader: &Reader<'_>,
        of: Wire,
        alone: bool,
        activation: Activation,
    ) -> Result<Term> {
        if !(alone && self.is_open(of)) {
            let name = self.layer_name(reader, None);
            self.graph.copy(&name, of.value);
        }
        let value = self.graph.activate(activation);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, of.flat))
    }

    /// An activation that is complete with this node: of what both its inputs are of, which two nodes
    /// read.
    fn complete(&mut self, reader: &Reader<'_>, of: &str, activation: Activation) -> Result<Term> {
        let Some(wire) = self.wire_named(of) else {
            return Err(reader.fault("it reads what nothing computes"));
        };
        let alone = wire.alone && self.reads(of) == 2;
        self.apply(reader, wire, alone, activation)
    }

    /// A part of an activation of the values that input `i` is.
    fn begin(&self, reader: &Reader<'_>, i: usize, stage: Stage) -> Result<Term> {
        self.wire(reader, i)?;
        Ok(Self::part(reader, reader.needed(i)?.into(), stage))
    }

    fn part(reader: &Reader<'_>, of: Arc<str>, stage: Stage) -> Term {
        Term::Part(Part { stage, of, node: reader.name(), operator: reader.operator() })
    }

    pub(super) fn sigmoid(&self, reader: &Reader<'_>) -> Result<Term> {
        self.begin(reader, 0, Stage::Sigmoid)
    }

    pub(super) fn erf(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match self.term(reader, 0)? {
            Term::Part(part) if part.stage == Stage::Scaled => {
                Ok(Self::part(reader, part.of.clone(), Stage::Erf))
            }
            _ => self.activate(reader, Activation::Erf),
        }
    }

    /// A part and a constant, where the sum is a part too.
    pub(super) fn plus(reader: &Reader<'_>, part: &Part, by: &Tensor) -> Option<Term> {
        let one_more = part.stage == Stage::Erf && is_number(by, 1.0);
        one_more.then(|| Self::part(reader, part.of.clone(), Stage::Distribution))
    }

    pub(super) fn over(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match (self.term(reader, 0)?, self.term(reader, 1)?) {
            (Term::Wire(_), Term::Tensor(by)) if is_number(by, 2f64.sqrt()) => {
                self.begin(reader, 0, Stage::Scaled)
            }
            (Term::Part(part), _) => Err(part.refuse(self.file)),
            _ => Err(reader.refuse(None, "only as a part of GELU, x/√2, is it")),
        }
    }

    pub(super) fn times(&mut self, reader: &Reader<'_>) -> Result<Term> {
        for (a, b) in [(0, 1), (1, 0)] {
            let (of, activation) = match (self.term(reader, a)?, self.term(reader, b)?) {
                (Term::Wire(_), Term::Part(part)) if *part.of == *reader.needed(a)? => {
                    let of = part.of.clone();
                    match part.stage {
                        Stage::Sigmoid => (of, Activation::Silu),
                        Stage::Normal => (of, Activation::Gelu),
                        Stage::Distribution => return Ok(Self::part(reader, of, Stage::Twice)),
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5f64.sqrt()) => {
                    return self.begin(reader, a, Stage::Scaled);
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5) => {
                    return self.begin(reader, a, Stage::Half);
                }
                (Term::Part(part), Term::Tensor(by)) if is_number(by, 0.5) => {
                    let of = part.of.clone();
                    match part.stage {
                        Stage::Twice => (of, Activation::Gelu),
                        Stage::Distribution => return Ok(Self::part(reader, of, Stage::Normal)),
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Part(x), Term::Part(y))
                    if x.of == y.of && (x.stage, y.stage) == (Stage::Half, Stage::Distribution) =>
                {
                    (x.of.clone(), Activation::Gelu)
                }
                _ => continue,
            };
            return self.complete(reader, &of, activation);
        }
        Err(reader.refuse(None, Part::REASON))
    }
}
