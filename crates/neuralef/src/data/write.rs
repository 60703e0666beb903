//! Writers of results: streamed `.npy`, and csv. Files appear whole or not at all.

use std::borrow::Cow;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use ndarray::Axis;

use super::dtype::{Dtype, HEADER};
use crate::error::{Error, Result};
use crate::matrix::{MatRef, expect_columns};
use crate::persist::AtomicFile;

/// Bytes written at a time, about.
const BUFFER: usize = 1 << 18;

/// Writes an n × k `.npy` file of single or half precision block by block, n unknown until the end.
///
/// The rows go to a temporary file beside the target, which takes its place in
/// [`finish`](NpyWriter::finish). A writer dropped before leaves nothing behind.
#[derive(Debug)]
pub struct NpyWriter {
    file: AtomicFile,
    columns: usize,
    rows: usize,
    dtype: Dtype,
}

impl NpyWriter {
    /// Starts a file of `columns` columns of `f32`.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path` when it cannot be written there.
    pub fn create(path: impl AsRef<Path>, columns: usize) -> Result<Self> {
        Self::create_as(path, columns, Dtype::F32)
    }

    /// Starts a file of `columns` columns of `dtype`.
    ///
    /// # Errors
    /// As [`create`](NpyWriter::create).
    pub fn create_as(path: impl AsRef<Path>, columns: usize, dtype: Dtype) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(&[0; HEADER]).map_err(|e| Error::io(file.path(), e))?;
        Ok(NpyWriter { file, columns, rows: 0, dtype })
    }

    /// Appends the rows of `x`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` has another width, [`Error::NonFinite`] with the row of the file;
    /// [`Error::InvalidParameter`] for numbers that half precision cannot hold; nothing of `x` is
    /// written then. [`Error::Io`] when the disk refuses, which
    /// [`finish`](NpyWriter::finish) remembers.
    pub fn append(&mut self, x: MatRef<'_>) -> Result<()> {
        expect_columns(&self.file.path().display().to_string(), x, self.columns)?;
        let what = self.file.path().display().to_string();
        for (i, row) in x.rows().into_iter().enumerate() {
            let row = row.as_slice().map_or_else(|| Cow::Owned(row.to_vec()), Cow::Borrowed);
            self.dtype.check(&what, self.rows + i, 0, &row)?;
        }
        let width = self.dtype.size() * self.columns;
        let rows = (BUFFER / width.max(1)).max(1);
        let mut bytes = vec![0u8; rows.min(x.nrows()) * width];
        for block in x.axis_chunks_iter(Axis(0), rows) {
            let bytes = &mut bytes[..block.nrows() * width];
            let block = block.as_standard_layout();
            self.dtype.encode(block.as_slice().unwrap_or(&[]), bytes);
            self.file.write_all(bytes).map_err(|e| Error::io(self.file.path(), e))?;
        }
        self.rows += x.nrows();
        Ok(())
    }

    /// Completes the header and puts the file in its place; returns n.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path; an older file then stays as it was.
    pub fn finish(mut self) -> Result<usize> {
        let path = self.file.path().to_path_buf();
        let fail = |e| Error::io(&path, e);
        let bytes = (self.rows as u128) * (self.columns as u128) * self.dtype.size() as u128
            + HEADER as u128;
        if u128::from(self.file.stream_position().map_err(fail)?) != bytes {
            return Err(fail(std::io::Error::other("an earlier write failed")));
        }
        let header = self.dtype.npy_header(self.rows, self.columns).map_err(fail)?;
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&header))
            .map_err(fail)?;
        self.file.commit()?;
        Ok(self.rows)
    }
}

/// Writes `x` as a `.npy` file of `f32` in C order.
///
/// # Errors
/// As [`NpyWriter`].
pub fn write_npy(path: impl AsRef<Path>, x: MatRef<'_>) -> Result<()> {
    let mut writer = NpyWriter::create(path, x.ncols())?;
    writer.append(x)?;
    writer.finish().map(|_| ())
}

/// Writes `x` as comma-separated text with `names` as the header line (none when empty). Numbers are
/// the shortest that read back to the same `f32`.
///
/// # Errors
/// As [`NpyWriter`], and [`Error::Shape`] when there are names but not one for each column.
pub fn write_csv(path: impl AsRef<Path>, names: &[&str], x: MatRef<'_>) -> Result<()> {
    let path = path.as_ref();
    if !names.is_empty() && names.len() != x.ncols() {
        return Err(Error::shape("column names", x.ncols(), names.len()));
    }
    let mut file = AtomicFile::create(path)?;
    {
        let mut csv = csv::Writer::from_writer(&mut file);
        let fail = |e: csv::Error| Error::io(path, std::io::Error::other(e));
        if !names.is_empty() {
            csv.write_record(names).map_err(fail)?;
        }
        for (row, values) in x.rows().into_iter().enumerate() {
            if let Some(column) = values.iter().position(|v| !v.is_finite()) {
                let what = path.display().to_string();
                return Err(Error::NonFinite { what, row, column, value: values[column] });
            }
            csv.write_record(values.iter().map(f32::to_string)).map_err(fail)?;
        }
        csv.flush().map_err(|e| Error::io(path, e))?;
    }
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;
    use crate::matrix::Mat;
    use ndarray::{array, s};

    fn matrix(n: usize, k: usize) -> Mat {
        Mat::from_shape_fn((n, k), |(i, j)| (i as f32 + 0.1) / (j as f32 + 3.0) - 5.0)
    }

    fn read(path: &Path) -> Mat {
        let data = Dataset::open(path.to_str().unwrap(), 0).unwrap();
        data.range(0..data.len()).unwrap()
    }

    #[test]
    fn blocks_become_one_file_that_others_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let x = matrix(1000, 7);
        let mut writer = NpyWriter::create(&path, 7).unwrap();
        for start in (0..1000).step_by(300) {
            writer.append(x.slice(s![start..(start + 300).min(1000), ..])).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap(), 1000);
        assert_eq!(read(&path), x);
        let independent: Mat = ndarray_npy::read_npy(&path).unwrap();
        assert_eq!(independent, x);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 128 + 28_000);
        // Any memory order of the source gives the same file.
        let other = dir.path().join("y.npy");
        write_npy(&other, x.t().as_standard_layout().t()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap());
    }

    #[test]
    fn half_precision_files_are_half_as_long_and_read_back_rounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let x = matrix(1000, 7);
        let mut writer = NpyWriter::create_as(&path, 7, Dtype::F16).unwrap();
        assert!(writer.append(array![[1e5f32; 7]].view()).is_err());
        writer.append(x.view()).unwrap();
        assert_eq!(writer.finish().unwrap(), 1000);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 128 + 14_000);
        for (read, value) in read(&path).iter().zip(&x) {
            assert!((read - value).abs() <= value.abs() * 2.0f32.powi(-11), "{read} {value}");
        }
    }

    #[test]
    fn failures_leave_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_npy(&path, matrix(3, 2).view()).unwrap();
        let mut writer = NpyWriter::create(&path, 2).unwrap();
        writer.append(matrix(5, 2).view()).unwrap();
        assert!(matches!(writer.append(matrix(5, 3).view()), Err(Error::Shape { .. })));
        let bad = array![[0.0, 1.0], [2.0, f32::INFINITY]];
        let error = writer.append(bad.view()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 6, column: 1, .. }), "{error}");
        // What was refused left no trace: the file could still be finished.
        let mut other = NpyWriter::create(dir.path().join("y.npy"), 2).unwrap();
        assert!(other.append(bad.view()).is_err());
        other.append(bad.slice(s![..1, ..])).unwrap();
        assert_eq!(other.finish().unwrap(), 1);
        assert_eq!(read(&dir.path().join("y.npy")), bad.slice(s![..1, ..]));
        std::fs::remove_file(dir.path().join("y.npy")).unwrap();
        drop(writer);
        assert!(write_csv(dir.path().join("x.csv"), &[], bad.view()).is_err());
        assert_eq!(read(&path), matrix(3, 2));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = NpyWriter::create(dir.path().join("no/x.npy"), 1).unwrap_err();
        assert!(error.to_string().contains("no/x.npy"), "{error}");
    }

    #[test]
    fn csv_round_trips_every_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let x = matrix(50, 3);
        for names in [&[][..], &["a", "b, c", "d\"e"]] {
            write_csv(&path, names, x.view()).unwrap();
            assert_eq!(read(&path), x);
        }
        assert!(write_csv(&path, &["a"], x.view()).is_err());
    }
}
