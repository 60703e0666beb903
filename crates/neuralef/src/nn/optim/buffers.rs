//! What elementwise optimisers share: named buffers as large as the parameters, and runs over stretches of them.

use rayon::prelude::*;

use super::{CHUNK, OptimizerState};
use crate::error::{Error, Result};
use crate::nn::parameters::Parameters;

/// Named vectors, one set of units for each.
pub(super) type Buffers = Vec<(&'static str, Parameters)>;

/// The state of an optimiser that keeps these.
pub(super) fn save(step: u64, buffers: &Buffers) -> OptimizerState {
    let unit = |name: &'static str| {
        move |(u, values): (usize, &Vec<f32>)| (format!("{name}.{u}"), values.clone())
    };
    let vectors = buffers
        .iter()
        .flat_map(|(name, buffer)| buffer.units().iter().enumerate().map(unit(name)))
        .collect();
    OptimizerState { step, vectors }
}

/// Fails unless the vectors of two states have the same names and sizes.
pub(super) fn expect_same(
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

/// Takes them back from a state.
pub(super) fn load(buffers: &mut Buffers, state: &OptimizerState) -> Result<()> {
    let own = save(0, buffers);
    let shape = |s: &OptimizerState| -> Vec<(String, usize)> {
        s.vectors.iter().map(|(name, v)| (name.clone(), v.len())).collect()
    };
    expect_same(shape(&own), shape(state))?;
    let units = buffers.iter_mut().flat_map(|(_, buffer)| buffer.units_mut());
    for (unit, (_, values)) in units.zip(&state.vectors) {
        unit.copy_from_slice(values);
    }
    Ok(())
}

/// Fails unless all are laid out alike and the learning rate is one.
pub(super) fn check(
    like: &Parameters,
    parameters: &Parameters,
    gradient: &Parameters,
    lr: f64,
) -> Result<()> {
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

/// The same stretch of parameters, gradient and buffers.
pub(super) struct Chunk<'a> {
    pub(super) parameters: &'a mut [f32],
    pub(super) gradient: &'a [f32],
    pub(super) buffers: Vec<&'a mut [f32]>,
}

/// Runs `update` on every stretch, on several threads only when there is enough to do.
pub(super) fn for_each_chunk(
    parameters: &mut Parameters,
    gradient: &Parameters,
    buffers: &mut Buffers,
    update: impl Fn(Chunk<'_>) + Send + Sync,
) {
    let mut buffers: Vec<_> = buffers
        .iter_mut()
        .map(|(_, m)| m.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK)))
        .collect();
    let parallel = gradient.len() > 2 * CHUNK;
    let gradient = gradient.units().iter().flat_map(|u| u.chunks(CHUNK));
    let parameters = parameters.units_mut().iter_mut().flat_map(|u| u.chunks_mut(CHUNK));
    let chunks = parameters.zip(gradient).map(|(parameters, gradient)| Chunk {
        parameters,
        gradient,
        buffers: buffers.iter_mut().filter_map(Iterator::next).collect(),
    });
    if parallel {
        chunks.collect::<Vec<_>>().into_par_iter().for_each(update);
    } else {
        chunks.for_each(update);
    }
}
