//! Datasets: in memory or memory-mapped, readers, writers, synthetic sets and standardisation.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rand::seq::SliceRandom as _;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::rng::stream;

mod cifar;
mod columns;
mod density;
mod digits;
mod dtype;
mod idx;
mod npy;
mod npz;
mod open;
mod raw;
mod standardize;
mod synthetic;
mod table;
mod write;

pub use density::Density;
pub use dtype::Dtype;
pub(crate) use dtype::HEADER as NPY_HEADER;
pub use standardize::Standardizer;
pub use synthetic::{SYNTHETIC, Synthetic, synthesize};
pub use write::{NpyWriter, write_csv, write_npy};

/// A set of points: n rows of d finite `f32` values, with integer labels where the source has them.
///
/// Cloning is cheap and [`subset`](Dataset::subset) and [`split`](Dataset::split) are views: the
/// values are held once, in memory or in a memory-mapped `.npy` file. A dataset is never empty.
/// Values in memory are known to be finite; mapped rows are checked whenever they are read.
///
/// ```
/// # use neuralef::Dataset;
/// # fn main() -> neuralef::Result<()> {
/// let digits = Dataset::open("digits", 0)?;
/// let (train, held_out) = digits.split(0.25, 0)?;
/// assert_eq!((train.len(), held_out.len(), train.width()), (1348, 449, 64));
/// let first_three = train.rows(&[0, 1, 2])?;
/// assert_eq!(first_three.dim(), (3, 64));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dataset {
    name: Arc<str>,
    storage: Storage,
    width: usize,
    /// The rows of the storage that belong to this view, in its order; `None` for all.
    selected: Option<Arc<[usize]>>,
    labels: Option<Arc<[i64]>>,
}

#[derive(Clone)]
enum Storage {
    /// Row-major values.
    Memory(Arc<Vec<f32>>),
    Mapped(Arc<npy::MappedNpy>),
    /// The rows of one set, then those of another.
    Chain(Arc<(Dataset, Dataset)>),
}

impl Dataset {
    /// A dataset of the rows of `x` (n × d), held in memory.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first bad row and column, [`Error::Shape`] when `x` is empty.
    pub fn from_array(name: impl Into<String>, x: Mat) -> Result<Self> {
        let name = name.into();
        let (n, width) = x.dim();
        if n == 0 || width == 0 {
            return Err(Error::shape(
                name,
                "at least one row and one column",
                format!("{n} × {width}"),
            ));
        }
        let values = if x.is_standard_layout() {
            match x.into_raw_vec_and_offset() {
                (values, Some(0)) if values.len() == n * width => values,
                (values, offset) => {
                    values.into_iter().skip(offset.unwrap_or(0)).take(n * width).collect()
                }
            }
        } else {
            x.iter().copied().collect()
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (at / width, at % width);
            return Err(Error::NonFinite { what: name, row, column, value: values[at] });
        }
        let storage = Storage::Memory(Arc::new(values));
        Ok(Dataset { name: name.into(), storage, width, selected: None, labels: None })
    }

    /// Opens what `location` names:
    ///
    /// | location | is |
    /// |---|---|
    /// | `digits` | the embedded handwritten digits, 1,797 × 64, with labels |
    /// | `two_moons(n=1000, noise=0.1, seed=3)` | a synthetic set, see [`SYNTHETIC`]; `seed` serves where the text has none |
    /// | `x.npy` | a NumPy array of floats, integers or bools; (n, 28, 28) becomes n × 784, (n) becomes n × 1; files of 16 MiB and more in C order are memory-mapped |
    /// | `x.npz`, `x.npz:key` | an array of a NumPy archive; the key may be left out when there is one array |
    /// | `x.csv`, `x.tsv`, also with `.gz` | numbers, with or without a header line |
    /// | `x.parquet` | numeric columns without missing values |
    /// | `x-idx3-ubyte`, `.idx`, `.gz` | IDX as MNIST has it |
    /// | `x.bin`, `x.bin.gz` | the binary layout of CIFAR-10, n × 3072 in the order channel, row, column, from 0 to 255, with labels |
    ///
    /// Any other file is recognised by its first bytes. A name in the registry goes before a file
    /// of that name; write `./digits` for the file.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Data`] when it cannot be understood
    /// (with line, column or byte count), [`Error::NonFinite`] for NaN and infinities,
    /// [`Error::Parse`] and [`Error::UnknownName`] for synthetic sets.
    pub fn open(location: &str, seed: u64) -> Result<Self> {
        open::open(location, seed)
    }

    fn mapped(name: &str, map: npy::MappedNpy) -> Self {
        let width = map.width();
        let storage = Storage::Mapped(Arc::new(map));
        Dataset { name: name.into(), storage, width, selected: None, labels: None }
    }

    /// The same points with labels, one for each.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of labels.
    pub fn with_labels(mut self, labels: Vec<i64>) -> Result<Self> {
        if labels.len() != self.len() {
            return Err(Error::shape("labels", self.len(), labels.len()));
        }
        self.labels = Some(labels.into());
        Ok(self)
    }

    /// The name: the location it was opened from, or what it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// n, the number of points.
    pub fn len(&self) -> usize {
        match (&self.selected, &self.storage) {
            (Some(selected), _) => selected.len(),
            (None, Storage::Memory(values)) => values.len() / self.width,
            (None, Storage::Mapped(map)) => map.rows(),
            (None, Storage::Chain(parts)) => parts.0.len() + parts.1.len(),
        }
    }

    /// Always false.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// d, the number of values of a point.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Labels of the points, where the source has them.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// True when the values stay in a memory-mapped file.
    pub fn is_mapped(&self) -> bool {
        match &self.storage {
            Storage::Memory(_) => false,
            Storage::Mapped(_) => true,
            Storage::Chain(parts) => parts.0.is_mapped() || parts.1.is_mapped(),
        }
    }

    /// The row of the original array that row `row` of this view is, if there is such a row.
    pub fn source_row(&self, row: usize) -> Option<usize> {
        match &self.selected {
            Some(selected) => selected.get(row).copied(),
            None => (row < self.len()).then_some(row),
        }
    }

    /// The rows `indices` in that order (repeats allowed), |indices| × d.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an index that is no row, [`Error::NonFinite`] from a mapped
    /// file.
    pub fn rows(&self, indices: &[usize]) -> Result<Mat> {
        self.gather(indices.len(), indices.iter().copied())
    }

    /// The rows of `range`, in order.
    ///
    /// # Errors
    /// As [`rows`](Dataset::rows).
    pub fn range(&self, range: Range<usize>) -> Result<Mat> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::parameter(
                "row range",
                format!("within 0..{}", self.len()),
                format!("{}..{}", range.start, range.end),
            ));
        }
        self.gather(range.len(), range)
    }

    fn gather(&self, count: usize, rows: impl Iterator<Item = usize>) -> Result<Mat> {
        let mut out = Vec::new();
        raw::reserve(&mut out, count.saturating_mul(self.width), &self.name)?;
        for row in rows {
            self.push_row(row, &mut out)?;
        }
        let got = out.len();
        Mat::from_shape_vec((count, self.width), out)
            .map_err(|_| Error::shape(&*self.name, format!("{count} × {}", self.width), got))
    }

    /// Reads all values that are not yet known to be finite. O(n d) for a mapped file.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with row and column.
    pub fn check_finite(&self) -> Result<()> {
        const ROWS: usize = 16_384;
        if !self.is_mapped() {
            return Ok(());
        }
        let starts: Vec<usize> = (0..self.len()).step_by(ROWS).collect();
        starts
            .par_iter()
            .try_for_each(|start| self.range(*start..(start + ROWS).min(self.len())).map(drop))
    }

    /// A checksum of up to 4,096 evenly spaced rows and the size: tells one set of points from
    /// another, though not from one that differs in other rows only.
    ///
    /// # Errors
    /// [`Error::NonFinite`] from a mapped file.
    pub fn fingerprint(&self) -> Result<String> {
        let step = self.len().div_ceil(4096);
        let rows: Vec<usize> = (0..self.len()).step_by(step).collect();
        let mut bytes: Vec<u8> =
            [self.len(), self.width].iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
        bytes.extend(self.rows(&rows)?.iter().flat_map(|v| v.to_le_bytes()));
        Ok(format!("{:016x}", crate::rng::fnv1a(&bytes)))
    }

    fn push_row(&self, row: usize, out: &mut Vec<f32>) -> Result<()> {
        let row = self.checked(row)?;
        match &self.storage {
            Storage::Memory(values) => {
                out.extend_from_slice(&values[row * self.width..(row + 1) * self.width]);
            }
            Storage::Mapped(map) => map.push_row(row, out)?,
            Storage::Chain(parts) => match row.checked_sub(parts.0.len()) {
                None => parts.0.push_row(row, out)?,
                Some(row) => parts.1.push_row(row, out)?,
            },
        }
        Ok(())
    }

    /// The rows of `self`, then those of `other`, as a view of both. Labels are kept when both
    /// have them. The name is that of `self`.
    ///
    /// # Errors
    /// [`Error::Shape`] when their widths differ.
    pub fn chain(&self, other: &Dataset) -> Result<Dataset> {
        if other.width != self.width {
            let expected = format!("n × {}, as {}", self.width, self.name);
            let got = format!("{} × {}", other.len(), other.width);
            return Err(Error::shape(&*other.name, expected, got));
        }
        let labels = match (&self.labels, &other.labels) {
            (Some(a), Some(b)) => Some(a.iter().chain(b.iter()).copied().collect()),
            _ => None,
        };
        let storage = Storage::Chain(Arc::new((self.clone(), other.clone())));
        Ok(Dataset { name: self.name.clone(), storage, width: self.width, selected: None, labels })
    }

    /// The storage's row for row `row` of this view.
    fn checked(&self, row: usize) -> Result<usize> {
        self.source_row(row).ok_or_else(|| {
            let expected = format!("a row from 0 to {} of {}", self.len() - 1, self.name);
            Error::parameter("row index", expected, row)
        })
    }

    /// The points `indices`, in that order, as a view of the same values.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there are none or one of them is no row.
    pub fn subset(&self, indices: Vec<usize>) -> Result<Dataset> {
        if indices.is_empty() {
            return Err(Error::parameter("subset", "at least one row", "none"));
        }
        let labels = match &self.labels {
            None => None,
            Some(labels) => {
                let label = |i: &usize| labels.get(*i).copied();
                indices.iter().map(label).collect::<Option<Vec<_>>>().map(Arc::from)
            }
        };
        let selected =
            indices.into_iter().map(|row| self.checked(row)).collect::<Result<Arc<[usize]>>>()?;
        Ok(Dataset { selected: Some(selected), labels, ..self.clone() })
    }

    /// A random partition into (training, held-out) views, each in the order of `self`; the held-out
    /// part has `fraction` of the points, rounded. The same seed gives the same partition.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming `validation_fraction` unless both parts get a point.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        let n = self.len();
        let held_out = (fraction * n as f64).round();
        // Written so that a NaN fails too.
        if !(fraction > 0.0 && fraction < 1.0 && held_out >= 1.0 && held_out < n as f64) {
            return Err(Error::parameter(
                "validation_fraction",
                format!("between 0 and 1, leaving at least one of {n} points on either side"),
                fraction,
            ));
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut stream(seed, "split", 0));
        let mut train = order.split_off(held_out as usize);
        train.sort_unstable();
        order.sort_unstable();
        Ok((self.subset(train)?, self.subset(order)?))
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("len", &self.len())
            .field("width", &self.width)
            .field("mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
