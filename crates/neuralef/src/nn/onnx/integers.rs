//! Arithmetic on shapes: exporters write the sizes of reshapes and paddings as graphs of small tensors
//! of integers, in which the size of the batch is not known.

use super::reader::Reader;
use crate::error::Result;

/// Most numbers of such a tensor.
pub(super) const MOST: usize = 64;

/// A tensor of integers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Integers {
    pub(super) dims: Vec<usize>,
    /// Row by row; `None` is the number of points of the batch.
    pub(super) values: Vec<Option<i64>>,
}

impl Integers {
    pub(super) fn vector(values: Vec<Option<i64>>) -> Self {
        Integers { dims: vec![values.len()], values }
    }

    /// All numbers, when none of them is the size of the batch.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.values.iter().copied().collect()
    }

    /// The only number.
    fn scalar(&self) -> Option<i64> {
        match self.values[..] {
            [value] => value,
            _ => None,
        }
    }
}

/// What the node of `reader` makes of tensors of integers.
pub(super) fn evaluate(reader: &Reader<'_>, inputs: &[&Integers]) -> Result<Integers> {
    // None is left out between others.
    reader.at_most(inputs.len())?;
    let operator = reader.operator();
    let result = match (operator.as_str(), inputs) {
        ("Cast", [x]) => {
            let to = reader.integer("to", 7)?;
            [6, 7].contains(&to).then(|| (*x).clone())
        }
        ("Identity", [x]) => Some((*x).clone()),
        ("Concat", [_, ..]) if inputs.iter().all(|x| x.dims.len() == 1) => {
            let axis = reader.integer("axis", 0)?;
            let values = inputs.iter().flat_map(|x| x.values.iter().copied()).collect();
            matches!(axis, 0 | -1).then(|| Integers::vector(values))
        }
        ("ConstantOfShape", [shape]) => {
            let value = reader.constant("value")?;
            let value = value.and_then(|t| t.integers().ok()?.first().copied()).unwrap_or(0);
            let dims = shape.known().and_then(|dims| sizes(&dims));
            dims.map(|(dims, size)| Integers { dims, values: vec![Some(value); size] })
        }
        ("Gather", [x, index]) if x.dims.len() == 1 && index.dims.len() < 2 => {
            let axis = reader.integer("axis", 0)?;
            let at = |i: &Option<i64>| {
                let i = (*i)?;
                let i = if i < 0 { i.checked_add(x.values.len() as i64)? } else { i };
                x.values.get(usize::try_from(i).ok()?).copied()
            };
            let values = index.values.iter().map(at).collect::<Option<Vec<_>>>();
            let values = values.filter(|_| matches!(axis, 0 | -1));
            values.map(|values| Integers { dims: index.dims.clone(), values })
        }
        ("Reshape", [x, shape]) => {
            reader.only("allowzero", 0)?;
            reshape(x, shape)
        }
        ("Slice", [x, rest @ ..]) => slice(x, rest),
        ("Squeeze", [x, ..]) if x.values.len() == 1 => {
            Some(Integers { dims: Vec::new(), values: x.values.clone() })
        }
        ("Unsqueeze", [x, axes]) if x.dims.is_empty() && axes.values.len() == 1 => {
            Some(Integers::vector(x.values.clone()))
        }
        ("Transpose", [x]) if x.dims.len() == 2 => {
            let permutation = reader.integers("perm")?.unwrap_or_else(|| vec![1, 0]);
            let (rows, columns) = (x.dims[0], x.dims[1]);
            let at = |i: usize| x.values[i % rows * columns + i / rows];
            let values = || (0..x.values.len()).map(at).collect();
            (permutation == [1, 0])
                .then(|| Integers { dims: vec![columns, rows], values: values() })
        }
        ("Add" | "Sub" | "Mul" | "Div", [a, b]) => {
            let values = match operator.as_str() {
                "Add" => combine(a, b, i64::checked_add),
                "Sub" => combine(a, b, i64::checked_sub),
                "Mul" => combine(a, b, i64::checked_mul),
                _ => combine(a, b, i64::checked_div),
            };
            let dims = if a.values.len() > 1 { &a.dims } else { &b.dims };
            values.map(|values| Integers { dims: dims.clone(), values })
        }
        _ => None,
    };
    match result {
        Some(result) if result.values.len() <= MOST => Ok(result),
        _ => Err(reader.refuse(None, "these are no sizes that can be worked out beforehand")),
    }
}

/// Element by element; one of a single number goes with every number of the other.
fn combine(
    a: &Integers,
    b: &Integers,
    of: fn(i64, i64) -> Option<i64>,
) -> Option<Vec<Option<i64>>> {
    let (n, m) = (a.values.len(), b.values.len());
    let both = |i: usize| Some(Some(of(a.values[i % n]?, b.values[i % m]?)?));
    let fits = n > 0 && m > 0 && (n == m || n == 1 || m == 1);
    fits.then(|| (0..n.max(m)).map(both).collect())?
}

/// A shape and its number of elements, if that is at most [`MOST`].
fn sizes(dims: &[i64]) -> Option<(Vec<usize>, usize)> {
    let dims = dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>()?;
    let size = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    (size <= MOST).then_some((dims, size))
}

fn reshape(x: &Integers, shape: &Integers) -> Option<Integers> {
    let mut shape = shape.known()?;
    if shape.len() > 8 {
        return None;
    }
    for (i, d) in shape.iter_mut().enumerate() {
        if *d == 0 {
            *d = *x.dims.get(i)? as i64;
        }
    }
    if let Some(open) = shape.iter().position(|d| *d == -1) {
        let rest = shape.iter().enumerate().filter(|(i, _)| *i != open);
        let rest = rest.map(|(_, d)| *d).try_fold(1i64, i64::checked_mul)?;
        shape[open] = (x.values.len() as i64).checked_div(rest)?;
    }
    let (dims, size) = sizes(&shape)?;
    (size == x.values.len()).then(|| Integers { dims, values: x.values.clone() })
}

/// Along one axis of at most two.
fn slice(x: &Integers, rest: &[&Integers]) -> Option<Integers> {
    let one = |i: usize, default: i64| rest.get(i).map_or(Some(default), |v| v.scalar());
    let (start, end, axis, step) = (one(0, 0)?, one(1, i64::MAX)?, one(2, 0)?, one(3, 1)?);
    let axis = usize::try_from(if axis < 0 { axis + x.dims.len() as i64 } else { axis }).ok()?;
    let (&size, inner) = (x.dims.get(axis)?, x.dims.get(axis + 1..)?.iter().product::<usize>());
    let size = i64::try_from(size).ok()?;
    let from = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    let mut picked = Vec::new();
    let mut push = |i: i64| picked.extend(usize::try_from(i).ok());
    if step > 0 {
        let (start, end) = (from(start).clamp(0, size), from(end).clamp(0, size));
        (start..end).step_by(usize::try_from(step).ok()?).for_each(&mut push);
    } else {
        let (start, end) = (from(start).clamp(-1, size - 1), from(end).clamp(-1, size - 1));
        let step = usize::try_from(step.checked_neg()?).ok().filter(|s| *s > 0)?;
        (end + 1..=start).rev().step_by(step).for_each(&mut push);
    }
    let mut dims = x.dims.clone();
    dims[axis] = picked.len();
    let outer: usize = x.dims[..axis].iter().product();
    let place = |o: usize, i: usize| (o * size as usize + i) * inner;
    let runs = (0..outer).flat_map(|o| picked.iter().map(move |i| place(o, *i)));
    Some(Integers {
        dims,
        values: runs.flat_map(|at| &x.values[at..at + inner]).copied().collect(),
    })
}
