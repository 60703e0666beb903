//! Activations, whole or written as several nodes, as PyTorch's exporter writes SiLU and GELU.

use std::sync::Arc;

use super::convert::Converter;
use super::reader::Reader;
use super::tensor::Tensor;
use super::terms::{ActivationStage, Part, Term, Wire};
use crate::error::Result;
use crate::nn::activation::Activation;

/// Whether `tensor` is the one number `value`, in single precision.
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

    /// An activation of `of`: in place when nothing else reads the value without it.
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
    fn begin(&self, reader: &Reader<'_>, i: usize, stage: ActivationStage) -> Result<Term> {
        self.wire(reader, i)?;
        Ok(Self::part(reader, reader.needed(i)?.into(), stage))
    }

    fn part(reader: &Reader<'_>, of: Arc<str>, stage: ActivationStage) -> Term {
        Term::Part(Part { stage, of, node: reader.name(), operator: reader.operator() })
    }

    pub(super) fn sigmoid(&self, reader: &Reader<'_>) -> Result<Term> {
        self.begin(reader, 0, ActivationStage::Sigmoid)
    }

    pub(super) fn erf(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match self.term(reader, 0)? {
            Term::Part(part) if part.stage == ActivationStage::Scaled => {
                Ok(Self::part(reader, part.of.clone(), ActivationStage::Erf))
            }
            _ => self.activate(reader, Activation::Erf),
        }
    }

    /// A part and a constant, where the sum is a part too.
    pub(super) fn plus(reader: &Reader<'_>, part: &Part, by: &Tensor) -> Option<Term> {
        let one_more = part.stage == ActivationStage::Erf && is_number(by, 1.0);
        one_more.then(|| Self::part(reader, part.of.clone(), ActivationStage::Distribution))
    }

    pub(super) fn over(&mut self, reader: &Reader<'_>) -> Result<Term> {
        match (self.term(reader, 0)?, self.term(reader, 1)?) {
            (Term::Wire(_), Term::Tensor(by)) if is_number(by, 2f64.sqrt()) => {
                self.begin(reader, 0, ActivationStage::Scaled)
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
                        ActivationStage::Sigmoid => (of, Activation::Silu),
                        ActivationStage::Normal => (of, Activation::Gelu),
                        ActivationStage::Distribution => {
                            return Ok(Self::part(reader, of, ActivationStage::Twice));
                        }
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5f64.sqrt()) => {
                    return self.begin(reader, a, ActivationStage::Scaled);
                }
                (Term::Wire(_), Term::Tensor(by)) if is_number(by, 0.5) => {
                    return self.begin(reader, a, ActivationStage::Half);
                }
                (Term::Part(part), Term::Tensor(by)) if is_number(by, 0.5) => {
                    let of = part.of.clone();
                    match part.stage {
                        ActivationStage::Twice => (of, Activation::Gelu),
                        ActivationStage::Distribution => {
                            return Ok(Self::part(reader, of, ActivationStage::Normal));
                        }
                        _ => return Err(part.refuse(self.file)),
                    }
                }
                (Term::Part(x), Term::Part(y))
                    if x.of == y.of
                        && (x.stage, y.stage)
                            == (ActivationStage::Half, ActivationStage::Distribution) =>
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
