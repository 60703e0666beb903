//! The loop that streams features to a file: blocks of points outside, groups of samples inside.
//!
//! A block's rows are whole and follow one another in the file, so it is written once from front to
//! back. The samples are drawn anew for each block: draws are cheap beside forward passes over
//! hundreds of points. The reverse order, samples outside, would draw them once but write each row of
//! the file in as many pieces as there are groups, and unfinished rows serve nobody.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::digest;
use super::store::{FeatureLayout, FeatureStore, Fill};
use crate::data::{Dataset, Dtype};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use crate::memory::MemoryBudget;
use crate::observer::{Control, Event, Observer};

/// Points of the first block of a run.
const FIRST: usize = 64;
/// Time that a block should take: what a killed run loses at most, about.
const BLOCK_TIME: Duration = Duration::from_secs(60);
/// Most that blocks grow at a time.
const GROWTH: f64 = 8.0;
/// Half precision loses digits below 2⁻¹⁴; features whose largest is below this lose some of theirs.
const SMALL: f32 = 1.0 / 1024.0;

/// How features are sampled, whatever they are of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// S, the number of samples.
    pub samples: usize,
    /// Seed of all draws. Sample i depends on it and on i only: more samples with the same seed begin
    /// with the same ones.
    pub seed: u64,
    /// Element type of the file.
    pub dtype: Dtype,
    /// Memory for a block of Φ and for what draws it, in MiB; what the network engine takes for a
    /// forward pass comes on top. Smaller budgets mean smaller blocks, and the same bits.
    pub memory_budget: u64,
}

impl Default for Sampling {
    /// 1,000 samples in single precision, 256 MiB.
    fn default() -> Self {
        Sampling { samples: 1000, seed: 0, dtype: Dtype::F32, memory_budget: 256 }
    }
}

impl Sampling {
    /// The memory budget.
    pub(super) fn memory(&self) -> MemoryBudget {
        MemoryBudget::from_mib(self.memory_budget)
    }
}

/// A finished file of features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sampled {
    /// The `.npy` file, (N·C) × S.
    pub path: PathBuf,
    /// N, the number of points.
    pub points: usize,
    /// C, consecutive rows of a point.
    pub outputs: usize,
    /// S, the number of samples.
    pub samples: usize,
    /// Element type of the file.
    pub dtype: Dtype,
    /// Points that this call computed; an earlier run left the others.
    pub computed: usize,
}

impl Sampled {
    /// The features as a dataset of N·C rows; large files are memory-mapped.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open(&self) -> Result<Dataset> {
        Dataset::open(&self.path.to_string_lossy(), 0)
    }
}

/// What draws features.
pub(super) trait Sampler {
    /// C, rows of features for each point.
    fn outputs(&self) -> usize;

    /// Samples that are drawn together.
    fn group(&self) -> usize;

    /// Bytes that it holds while drawing.
    fn bytes(&self) -> u64;

    /// Bytes that it holds for each point of a block, besides its result.
    fn point_bytes(&self) -> u64 {
        0
    }

    /// A block begins.
    fn begin(&mut self, _x: MatRef<'_>) -> Result<()> {
        Ok(())
    }

    /// The samples numbered `samples` at `x`: (n·C) × |samples|.
    fn draw(&mut self, x: MatRef<'_>, samples: Range<usize>) -> Result<Mat>;
}

/// Bytes of the budget that a sampler may take, and fails for S of 0.
pub(super) fn sampler_budget(sampling: &Sampling) -> Result<u64> {
    if sampling.samples == 0 {
        return Err(Error::parameter("samples", "at least 1", 0));
    }
    Ok(sampling.memory().bytes() / 4)
}

/// Streams the features of `data` to `path`, from where an earlier run stopped.
pub(super) fn stream(
    sampler: &mut dyn Sampler,
    data: &Dataset,
    sampling: &Sampling,
    path: &Path,
    mut what: Value,
    observer: &mut dyn Observer,
) -> Result<Sampled> {
    let (n, c) = (data.len(), sampler.outputs());
    let most = most_points(sampler, data.width(), sampling)?;
    what["seed"] = sampling.seed.into();
    what["outputs"] = c.into();
    what["data"] = digest::of_data(data)?.into();
    let rows = n.checked_mul(c).ok_or_else(|| Error::shape("features", "(N·C) × S", n))?;
    let &Sampling { samples, dtype, .. } = sampling;
    let layout = FeatureLayout { rows, columns: samples, dtype, fill: Fill::Rows };
    let store = FeatureStore::open(path, &layout, what)?;
    let first = store.done() / c;
    let mut stream =
        FeatureStream { store, bytes: Vec::new(), sampling, largest: 0.0, done: first, total: n };
    let run = stream.run(sampler, data, most, observer);
    let mut store = stream.store;
    if run.is_err() {
        // What is there survives; the error that ended the run is the one to report.
        let _ = store.save();
    }
    run?;
    let path = path.to_path_buf();
    store.finish()?;
    Ok(Sampled { path, points: n, outputs: c, samples, dtype, computed: n - first })
}

/// The most points whose features fit into the budget.
fn most_points(sampler: &dyn Sampler, width: usize, sampling: &Sampling) -> Result<usize> {
    let (c, group) = (sampler.outputs() as u64, sampler.group() as u64);
    let row = (sampling.samples as u64).saturating_mul(sampling.dtype.size() as u64);
    // The block itself, a group's values, and the point.
    let point = c.saturating_mul(row.saturating_add(4 * group));
    let point = point.saturating_add(4 * width as u64).saturating_add(sampler.point_bytes());
    let (budget, fixed) = (sampling.memory().bytes(), sampler.bytes());
    let most = budget.saturating_sub(fixed) / point.max(1);
    if most == 0 {
        return Err(sampling.memory().exceeded("sampling features", fixed.saturating_add(point)));
    }
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Blocks of features on their way to a file.
struct FeatureStream<'a> {
    store: FeatureStore,
    /// Encoded rows.
    bytes: Vec<u8>,
    sampling: &'a Sampling,
    /// The largest |φ| so far.
    largest: f32,
    /// Points written, and in all.
    done: usize,
    total: usize,
}

impl FeatureStream<'_> {
    /// Fills and writes blocks of at most `most` points to the end of the data.
    fn run(
        &mut self,
        sampler: &mut dyn Sampler,
        data: &Dataset,
        most: usize,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        notify(observer, &Event::Phase { name: "sampling" }, self)?;
        let (mut count, mut first) = (FIRST, true);
        while self.done < self.total {
            let began = Instant::now();
            let x = data.range(self.done..(self.done + count.min(most)).min(self.total))?;
            self.fill(sampler, x.view(), observer)?;
            let growth = BLOCK_TIME.as_secs_f64() / began.elapsed().as_secs_f64().max(1e-6);
            count = ((x.nrows() as f64 * growth.clamp(1.0 / GROWTH, GROWTH)) as usize).max(1);
            if std::mem::take(&mut first) && self.too_small() {
                let largest = self.largest;
                let message = format!(
                    "the largest feature so far is {largest:e}: float16 has few digits there, \
                     use f32"
                );
                notify(observer, &Event::Warning { message: &message }, self)?;
            }
        }
        Ok(())
    }

    /// Samples the features of the next points, `x`, and writes them.
    fn fill(
        &mut self,
        sampler: &mut dyn Sampler,
        x: MatRef<'_>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (samples, group) = (self.sampling.samples, sampler.group().max(1));
        let length = x.nrows() * sampler.outputs() * self.store.row_bytes();
        if self.bytes.capacity() < length {
            // Given back before more is taken.
            self.bytes = Vec::new();
        }
        self.bytes.resize(length, 0);
        sampler.begin(x)?;
        for start in (0..samples).step_by(group) {
            let done = self.done + (x.nrows() as f64 * start as f64 / samples as f64) as usize;
            notify(observer, &Event::Progress { done, total: self.total }, self)?;
            let range = start..(start + group).min(samples);
            let values = sampler.draw(x, range.clone())?;
            if values.dim() != (x.nrows() * sampler.outputs(), range.len()) {
                let expected = format!("{} × {}", x.nrows() * sampler.outputs(), range.len());
                return Err(Error::shape(
                    "drawn features",
                    expected,
                    format!("{:?}", values.dim()),
                ));
            }
            self.put(values, start)?;
        }
        self.store.write_encoded(&self.bytes)?;
        self.done += x.nrows();
        notify(observer, &Event::Progress { done: self.done, total: self.total }, self)
    }

    /// Encodes the values of the samples from number `first` into the rows of the block.
    fn put(&mut self, values: Mat, first: usize) -> Result<()> {
        let (dtype, start) = (self.sampling.dtype, self.store.done());
        let what = self.store.path().display().to_string();
        let values = values.as_standard_layout();
        let (from, to) = (first * dtype.size(), (first + values.ncols()) * dtype.size());
        let width = self.store.row_bytes();
        let rows = values.as_slice().unwrap_or(&[]).par_chunks_exact(values.ncols());
        let encode = |(i, (row, bytes)): (usize, (&[f32], &mut [u8]))| {
            dtype.check(&what, start + i, first, row)?;
            dtype.encode(row, &mut bytes[from..to]);
            Ok(row.iter().fold(0.0f32, |a, v| a.max(v.abs())))
        };
        let largest = rows.zip(self.bytes.par_chunks_exact_mut(width)).enumerate().map(encode);
        // In order, so that the first fault is the one told.
        let largest: Vec<Result<f32>> = largest.collect();
        for value in largest {
            self.largest = self.largest.max(value?);
        }
        Ok(())
    }

    fn too_small(&self) -> bool {
        self.sampling.dtype == Dtype::F16 && self.largest < SMALL
    }
}

/// Notifies the observer, and ends the work if it wants that.
fn notify(
    observer: &mut dyn Observer,
    event: &Event<'_>,
    stream: &FeatureStream<'_>,
) -> Result<()> {
    match observer.observe(event) {
        Control::Stop if stream.done < stream.total => Err(Error::SamplingInterrupted {
            done: stream.done,
            total: stream.total,
            path: stream.store.path().to_path_buf(),
        }),
        _ => Ok(()),
    }
}
