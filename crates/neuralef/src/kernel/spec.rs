//! [`KernelSpec`]: a kernel as users write it, checked but not yet resolved against data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kernel;
use super::compose::{Constant, Product, Sum};
use super::registry::KERNELS;
use crate::error::Result;
use crate::matrix::MatRef;
use crate::spec::Sample;
use crate::spec::args::fault;
use crate::spec::text::{Expr, Node, parse};

/// Most kernels and numbers in one text: keeps every resolved text within the parser's bound.
const MAX_PARTS: usize = 64;

/// A kernel in text form: `rbf`, `rbf(lengthscale=0.5) + 0.1*linear`,
/// `2*matern(nu=2.5)*periodic(period=3) + 1`.
///
/// Names and parameters are those of scikit-learn where it has the kernel; `gamma` is accepted
/// instead of `lengthscale` for rbf and laplacian. `+` and `*` combine kernels, a number > 0 times a
/// kernel scales it, and a number ≥ 0 on its own is the constant kernel. A `KernelSpec` has been
/// checked whole (names, parameters, ranges); values that depend on data (`lengthscale=median`,
/// which is the default of distance kernels, `lengthscale=scale`, `gamma=auto`) are worked out by
/// [`resolve`](KernelSpec::resolve).
///
/// Serialises as its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelSpec {
    text: String,
}

impl KernelSpec {
    /// Checks `text` without data.
    ///
    /// # Errors
    /// [`Error::Parse`](crate::Error::Parse) with the column of the fault, or
    /// [`Error::UnknownName`](crate::Error::UnknownName) with the nearest known name.
    pub fn parse(text: &str) -> Result<Self> {
        let expr = parse(text)?;
        if parts(&expr) > MAX_PARTS {
            return Err(fault(text, 1, format!("more than {MAX_PARTS} kernels and numbers")));
        }
        build(text, &expr, Sample::Unresolved)?;
        Ok(KernelSpec { text: expr.to_string() })
    }

    /// The kernel, with `median`, `scale` and `auto` worked out from `sample` (n × d).
    ///
    /// Costs O(1000² d) for each `median`; the subsample it looks at is drawn by `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) naming the parameter when it
    /// needs data and there are none, or when the data do not determine it (all points the same);
    /// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinities in the sample.
    pub fn resolve(&self, sample: Option<MatRef<'_>>, seed: u64) -> Result<Arc<dyn Kernel>> {
        let sample = sample.map_or(Sample::Missing, |x| Sample::Points(x, seed));
        build(&self.text, &parse(&self.text)?, sample)
    }

    /// The names, parameters and defaults of all kernels, for people.
    pub fn help() -> String {
        KERNELS.help()
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KernelSpec {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        KernelSpec::parse(text)
    }
}

impl TryFrom<String> for KernelSpec {
    type Error = crate::Error;

    fn try_from(text: String) -> Result<Self> {
        KernelSpec::parse(&text)
    }
}

impl From<KernelSpec> for String {
    fn from(spec: KernelSpec) -> String {
        spec.text
    }
}

/// Kernels and numbers in the expression, arguments not counted.
fn parts(expr: &Expr) -> usize {
    match &expr.node {
        Node::Sum(inner) | Node::Product(inner) => inner.iter().map(parts).sum(),
        _ => 1,
    }
}

fn build(text: &str, expr: &Expr, sample: Sample<'_>) -> Result<Arc<dyn Kernel>> {
    match &expr.node {
        Node::Number(v) => Ok(Arc::new(Constant(constant(text, expr, *v)?))),
        Node::Sum(_) => {
            let mut terms = Vec::new();
            flatten(expr, &mut terms, |node| match node {
                Node::Sum(inner) => Some(inner),
                _ => None,
            });
            let parts = terms.into_iter().map(|term| build(text, term, sample));
            Ok(Arc::new(Sum(parts.collect::<Result<_>>()?)))
        }
        Node::Product(_) => {
            let mut factors = Vec::new();
            flatten(expr, &mut factors, |node| match node {
                Node::Product(inner) => Some(inner),
                _ => None,
            });
            let mut factor = 1.0;
            let mut parts = Vec::new();
            for part in factors {
                match part.node {
                    Node::Number(v) => factor *= scale(text, part, v)?,
                    _ => parts.push(build(text, part, sample)?),
                }
            }
            scale(text, expr, factor)?;
            Ok(if parts.is_empty() {
                Arc::new(Constant(factor))
            } else {
                Arc::new(Product { factor, parts })
            })
        }
        Node::Call(..) => KERNELS.build_with(text, expr, sample),
        Node::List(_) => Err(fault(text, expr.column, "expected a kernel, found a list")),
        Node::Path(_) => Err(fault(text, expr.column, "expected a kernel, found a path")),
    }
}

/// The leaves of `expr` with respect to one associative operator, in order.
fn flatten<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>, inner: fn(&Node) -> Option<&Vec<Expr>>) {
    match inner(&expr.node) {
        Some(parts) => parts.iter().for_each(|part| flatten(part, out, inner)),
        None => out.push(expr),
    }
}

/// A constant kernel's value: 0, or positive and normal in single precision.
fn constant(text: &str, expr: &Expr, v: f64) -> Result<f64> {
    if v == 0.0 { Ok(0.0) } else { scale(text, expr, v) }
}

/// A factor: positive, and a normal number in single precision too.
fn scale(text: &str, expr: &Expr, v: f64) -> Result<f64> {
    if v > 0.0 && (v as f32).is_normal() {
        return Ok(v);
    }
    let message = if v < 0.0 {
        "a kernel cannot be scaled by a negative number".into()
    } else {
        format!("a kernel's scale must be from {:e} to {:e}", f32::MIN_POSITIVE, f32::MAX)
    };
    Err(fault(text, expr.column, message))
}
