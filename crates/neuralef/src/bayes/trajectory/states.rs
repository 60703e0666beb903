//! Outputs of the states of a trajectory, as files: written state by state, then turned into centred
//! features of points.

use std::path::Path;

use ndarray::s;
use serde_json::json;

use crate::data::{Dataset, Dtype, NpyWriter};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use crate::memory::MemoryBudget;
use crate::nn::Network;
use crate::observer::{Control, Event, Observer};
use crate::sample::{FeatureLayout, FeatureStore, Fill, Sampled, digest_of};

use super::predict::for_blocks;

/// Writes the outputs of a network at points, state after state: an M × (N·C) `.npy` file, the C
/// outputs of a point side by side. In memory is one state.
#[derive(Debug)]
pub struct StatesWriter {
    points: Dataset,
    outputs: usize,
    writer: NpyWriter,
}

impl StatesWriter {
    /// A file at `path` for networks with `outputs` outputs at `points`; it appears when it is
    /// [finished](StatesWriter::finish).
    ///
    /// # Errors
    /// [`Error::Io`] when there can be no such file.
    pub fn create(path: impl AsRef<Path>, points: Dataset, outputs: usize) -> Result<Self> {
        let writer = NpyWriter::create(path, points.len() * outputs)?;
        Ok(StatesWriter { points, outputs, writer })
    }

    /// Appends the outputs of `network` as it is, batch normalisation by its running statistics.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of outputs; what the network and the file report.
    pub fn record(&mut self, network: &dyn Network) -> Result<()> {
        let mut state = Vec::with_capacity(self.points.len() * self.outputs);
        for_blocks(&self.points, |x| {
            state.extend(network.forward(x, None)?);
            Ok(())
        })?;
        let got = state.len();
        let state = Mat::from_shape_vec((1, self.points.len() * self.outputs), state);
        let state = state.map_err(|_| {
            let expected = format!("{} × {}", self.points.len(), self.outputs);
            Error::shape("outputs of the network", expected, got)
        })?;
        self.writer.append(state.view())
    }

    /// Completes the file and returns M.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<usize> {
        self.writer.finish()
    }
}

/// Makes features of the trajectory kernel at `path` from the outputs `states` of M networks at N
/// points: Φ is (N·C) × M with rows g_i(x) − ḡ(x), so that ΦΦᵀ/M = 1/M Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ.
///
/// `states` is M × (N·C), as [`StatesWriter`] writes it and as an array of shape (M, N, C) is read, or
/// (N·C) × M. The whole is streamed: with a budget of b bytes, in as many passes over `states` as it has
/// b bytes. A killed run goes on with the same arguments, as all files of features do.
///
/// # Errors
/// [`Error::Shape`] for states of another shape, [`Error::InvalidParameter`] for fewer than two,
/// [`Error::SamplingInterrupted`], and those of [`FeatureStore::open`].
pub fn centred_features(
    states: &Dataset,
    points: usize,
    outputs: usize,
    path: impl AsRef<Path>,
    memory_budget: u64,
    observer: &mut dyn Observer,
) -> Result<Sampled> {
    let rows = points.saturating_mul(outputs);
    let by_points = states.len() == rows;
    if rows == 0 || (!by_points && states.width() != rows) {
        let (n, c) = (points, outputs);
        let expected = format!("({n}·{c}) × M or M × ({n}·{c})");
        let got = format!("{} × {}", states.len(), states.width());
        return Err(Error::shape(states.name(), expected, got));
    }
    let samples = if by_points { states.width() } else { states.len() };
    if samples < 2 {
        return Err(Error::parameter("states", "at least 2", samples));
    }
    let work = json!({ "features": "trajectory", "outputs": outputs, "data": digest_of(states)? });
    let layout = FeatureLayout { rows, columns: samples, dtype: Dtype::F32, fill: Fill::Rows };
    let mut store = FeatureStore::open(&path, &layout, work)?;
    observer.observe(&Event::Phase { name: "centring" });
    // Rows as they are read, and as they are written.
    let budget = MemoryBudget::from_mib(memory_budget).bytes();
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);
    let block = (budget / (8 * samples)).max(1);
    let first = store.done();
    while store.done() < rows {
        let range = store.done()..store.done().saturating_add(block).min(rows);
        let mut phi = match by_points {
            true => states.range(range)?,
            false => {
                let mut phi = Mat::zeros((range.len(), samples));
                for (i, mut column) in phi.columns_mut().into_iter().enumerate() {
                    let state = states.range(i..i + 1)?;
                    column.assign(&state.slice(s![0, range.clone()]));
                }
                phi
            }
        };
        centre(&mut phi);
        store.write(phi.view())?;
        let event = Event::Progress { done: store.done() / outputs, total: points };
        if observer.observe(&event) == Control::Stop && store.done() < rows {
            let done = store.done() / outputs;
            store.save()?;
            let path = store.path().to_path_buf();
            return Err(Error::SamplingInterrupted { done, total: points, path });
        }
    }
    store.finish()?;
    let path = path.as_ref().to_path_buf();
    let computed = (rows - first) / outputs;
    Ok(Sampled { path, points, outputs, samples, dtype: Dtype::F32, computed })
}

/// Subtracts its mean from every row.
fn centre(rows: &mut Mat) {
    for mut row in rows.rows_mut() {
        let mean = mean(row.view().insert_axis(ndarray::Axis(0)));
        row.mapv_inplace(|v| (f64::from(v) - mean) as f32);
    }
}

fn mean(values: MatRef<'_>) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
}
