//! A feature file that is filled piece by piece, survives being killed, and is used again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest::Digest;
use crate::data::{Dtype, NPY_HEADER};
use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::persist::AtomicFile;

/// Version of the sidecar.
const VERSION: u32 = 1;
/// Bytes encoded and written at a time, about.
const BUFFER: usize = 1 << 18;
/// Longest sidecar read.
const MAX_SIDECAR: u64 = 1 << 20;
/// Work that a killed run may lose, apart from what it had not yet handed over.
const INTERVAL: Duration = Duration::from_secs(2);

/// How a [`FeatureStore`] is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// Row after row: all samples of some points at a time. The file is written from its beginning
    /// to its end.
    Rows,
    /// Column after column: some samples of all points at a time, as the states of a training run
    /// come. Every piece touches all of the file.
    Columns,
}

impl Fill {
    fn name(self) -> &'static str {
        match self {
            Fill::Rows => "rows",
            Fill::Columns => "columns",
        }
    }
}

/// What features a file holds: its shape, and the work they are the result of.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureLayout {
    /// N·C, the C rows of a point one after the other.
    pub rows: usize,
    /// S, the number of samples.
    pub columns: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Rows or columns first.
    pub fill: Fill,
}

/// A (rows × columns) `.npy` file in C order, filled by rows or by columns in any number of runs.
///
/// While it is being filled the file is called `NAME.partial`; beside it `NAME.json` says what work
/// it holds and how far that is. A run that was interrupted or killed goes on where it was when the
/// store is opened again for the same work. The last piece gives the file its name, and then opening
/// it finds it complete. A file of other work is never touched. Nothing but the piece being written
/// is in memory.
///
/// ```
/// use neuralef::sample::{FeatureLayout, FeatureStore, Fill};
/// use neuralef::Mat;
/// use neuralef::data::Dtype;
/// # let dir = tempfile::tempdir().map_err(|e| neuralef::Error::io("temporary", e))?;
/// # let path = dir.path().join("phi.npy");
/// let layout = FeatureLayout { rows: 3, columns: 2, dtype: Dtype::F16, fill: Fill::Rows };
/// let work = serde_json::json!({"kind": "user", "seed": 7});
/// let mut store = FeatureStore::open(&path, &layout, work.clone())?;
/// while !store.is_complete() {
///     let row = store.done(); // more than 0 in a run that goes on
///     store.write(Mat::from_elem((1, 2), row as f32).view())?;
/// }
/// store.finish()?;
/// assert!(FeatureStore::open(&path, &layout, work)?.is_complete());
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug)]
pub struct FeatureStore {
    paths: Paths,
    sidecar: Sidecar,
    /// The file being filled; none when it was found complete.
    file: Option<File>,
    saved: Option<Instant>,
}

/// Where the parts of a store are.
#[derive(Debug, Clone)]
struct Paths {
    target: PathBuf,
    partial: PathBuf,
    sidecar: PathBuf,
}

impl Paths {
    fn new(path: &Path) -> Result<Self> {
        // What cannot become a file is refused as every writer does it.
        drop(AtomicFile::create(path)?);
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let beside = |ending| companion(&target, ending);
        Ok(Paths { partial: beside(".partial"), sidecar: beside(".json"), target })
    }
}

/// `phi.npy` → `phi.npy.json`.
fn companion(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    /// Version of this record.
    neuralef_features: u32,
    work: Map<String, Value>,
    rows: usize,
    columns: usize,
    dtype: Dtype,
    fill: Fill,
    /// Rows or columns that are there.
    done: usize,
    /// Of a complete file.
    checksum: Option<String>,
}

impl Sidecar {
    fn read(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, e)),
        };
        let mut text = String::new();
        let read = file.take(MAX_SIDECAR).read_to_string(&mut text);
        read.map_err(|e| Error::io(path, e))?;
        let fault = |message: String| {
            Error::data(path.display(), format!("not a record of features: {message}"))
        };
        let sidecar: Sidecar = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
        if sidecar.neuralef_features != VERSION {
            return Err(fault(format!("version {}", sidecar.neuralef_features)));
        }
        if sidecar.done > sidecar.all() {
            return Err(fault(format!("{} of {} pieces", sidecar.done, sidecar.all())));
        }
        Ok(Some(sidecar))
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut file = AtomicFile::create(path)?;
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        text.and_then(|text| file.write_all(text.as_bytes())).map_err(|e| Error::io(path, e))?;
        file.commit()
    }

    /// Number of rows or columns that make the file complete.
    fn all(&self) -> usize {
        match self.fill {
            Fill::Rows => self.rows,
            Fill::Columns => self.columns,
        }
    }

    fn length(&self) -> u64 {
        (NPY_HEADER + self.rows * self.columns * self.dtype.size()) as u64
    }

    /// Fails with the first thing in which `stored`, the work of `file`, is not this one.
    fn expect_same(&self, stored: &Sidecar, file: &Path) -> Result<()> {
        let (stored_fill, complete) = (stored.fill, stored.checksum.is_some());
        let describe = |s: &Sidecar| {
            let mut all = vec![
                ("rows".to_string(), Value::from(s.rows)),
                ("columns".to_string(), Value::from(s.columns)),
                ("dtype".to_string(), Value::from(s.dtype.to_string())),
            ];
            all.extend(s.work.iter().map(|(k, v)| (k.clone(), v.clone())));
            all
        };
        let (mut requested, mut stored) = (describe(self), describe(stored));
        if stored_fill != self.fill && !complete {
            requested.push(("fill".to_string(), Value::from(self.fill.name())));
            stored.push(("fill".to_string(), Value::from(stored_fill.name())));
        }
        let of = |list: &[(String, Value)], key: &str| {
            list.iter().find(|(k, _)| k == key).map_or(Value::Null, |(_, v)| v.clone())
        };
        let mut keys = requested.iter().chain(&stored).map(|(key, _)| key);
        let Some(key) = keys.find(|key| of(&requested, key) != of(&stored, key)) else {
            return Ok(());
        };
        let expected = format!("{} of the features in {}", of(&stored, key), file.display());
        let got = format!("{}; remove that file or choose another name", of(&requested, key));
        Err(Error::parameter(key.clone(), expected, got))
    }
}

impl FeatureStore {
    /// Opens the features of `work` at `path`: to begin with them, to go on, or complete as they
    /// are. `work` is a JSON object of all that determines them; it is compared, not interpreted.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the first difference when there are features of other work
    /// under that name; [`Error::Data`] when the files are not what they were left as, or another
    /// process is filling them; [`Error::Io`] when they cannot be read or written.
    pub fn open(path: impl AsRef<Path>, layout: &FeatureLayout, work: Value) -> Result<Self> {
        let &FeatureLayout { rows, columns, dtype, fill } = layout;
        let most = (isize::MAX as usize - NPY_HEADER) / dtype.size();
        if rows == 0 || columns == 0 || rows.checked_mul(columns).is_none_or(|n| n > most) {
            let got = format!("{rows} × {columns}");
            return Err(Error::shape("features", "at least 1 × 1, in a file", got));
        }
        let Value::Object(work) = work else {
            return Err(Error::parameter("work", "a JSON object", work));
        };
        let paths = Paths::new(path.as_ref())?;
        let sidecar = Sidecar {
            neuralef_features: VERSION,
            work,
            rows,
            columns,
            dtype,
            fill,
            done: 0,
            checksum: None,
        };
        let exists = |path: &Path| path.try_exists().map_err(|e| Error::io(path, e));
        let (partial, target) = (exists(&paths.partial)?, exists(&paths.target)?);
        match Sidecar::read(&paths.sidecar)? {
            Some(stored) if partial => match sidecar.expect_same(&stored, &paths.partial) {
                // Nothing is lost: as if there were no file.
                Err(_) if stored.done == 0 => Self::resume(paths, sidecar),
                same => same.and_then(|()| Self::resume(paths, stored)),
            },
            Some(stored) if target && stored.checksum.is_some() => {
                sidecar.expect_same(&stored, &paths.target)?;
                let file = File::open(&paths.target).map_err(|e| Error::io(&paths.target, e))?;
                stored.verify(file, &paths.target, &paths.sidecar)?;
                Ok(FeatureStore { paths, sidecar: stored, file: None, saved: None })
            }
            None if partial => {
                let reason = format!(
                    "there is no {} beside it to say what it holds; remove it",
                    paths.sidecar.display()
                );
                Err(Error::data(paths.partial.display(), reason))
            }
            // A sidecar without its file describes nothing.
            _ => Self::create(paths, sidecar),
        }
    }

    fn create(paths: Paths, sidecar: Sidecar) -> Result<Self> {
        sidecar.write(&paths.sidecar)?;
        let fail = |e| Error::io(&paths.partial, e);
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file = options.open(&paths.partial).map_err(fail)?;
        lock(&file, &paths.partial)?;
        let mut store = FeatureStore { paths, sidecar, file: Some(file), saved: None };
        store.write_header()?;
        Ok(store)
    }

    fn resume(paths: Paths, stored: Sidecar) -> Result<Self> {
        let fail = |e| Error::io(&paths.partial, e);
        let file = OpenOptions::new().read(true).write(true).open(&paths.partial).map_err(fail)?;
        lock(&file, &paths.partial)?;
        let complete = stored.checksum.is_some();
        let length = file.metadata().map_err(fail)?.len();
        let mut store = FeatureStore { paths, sidecar: stored, file: Some(file), saved: None };
        if complete {
            // Ended between its last record and its name.
            let file = store.file.as_ref().map(File::try_clone).transpose();
            let partial = &store.paths.partial;
            if let Some(file) = file.map_err(|e| Error::io(partial, e))? {
                store.sidecar.verify(file, partial, &store.paths.sidecar)?;
            }
            store.rename()?;
        } else if store.sidecar.done == 0 {
            store.sidecar.write(&store.paths.sidecar)?;
            store.write_header()?;
        } else if length != store.sidecar.length() {
            let reason = format!("{length} bytes, expected {}; remove it", store.sidecar.length());
            return Err(Error::data(store.paths.partial.display(), reason));
        }
        Ok(store)
    }

    /// Header and length of a file that holds nothing yet.
    fn write_header(&mut self) -> Result<()> {
        let Sidecar { rows, columns, dtype, .. } = self.sidecar;
        let length = self.sidecar.length();
        let Some(file) = &mut self.file else { return Ok(()) };
        let fail = |e| Error::io(&self.paths.partial, e);
        let header = dtype.npy_header(rows, columns).map_err(fail)?;
        file.set_len(length).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).map_err(fail)
    }

    /// Where the complete file is, or will be.
    pub fn path(&self) -> &Path {
        &self.paths.target
    }

    /// Rows or columns that are there.
    pub fn done(&self) -> usize {
        self.sidecar.done
    }

    /// Whether all of them are there.
    pub fn is_complete(&self) -> bool {
        self.sidecar.done == self.sidecar.all()
    }

    /// Appends the next rows (b × columns) or columns (rows × b).
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape or more than there is room for; [`Error::NonFinite`] with
    /// row and column of the file, [`Error::InvalidParameter`] for numbers beyond half precision;
    /// [`Error::Io`]. What was appended before stays.
    pub fn write(&mut self, block: MatRef<'_>) -> Result<()> {
        let Sidecar { rows, columns, dtype, fill, done, .. } = self.sidecar;
        let (n, room) = match fill {
            Fill::Rows => (block.nrows(), (rows - done, columns)),
            Fill::Columns => (block.ncols(), (rows, columns - done)),
        };
        let fits = match fill {
            Fill::Rows => n <= room.0 && block.ncols() == room.1,
            Fill::Columns => n <= room.1 && block.nrows() == room.0,
        };
        let Some(file) = self.file.as_mut().filter(|_| fits) else {
            let expected = format!("at most {} × {} more", room.0, room.1);
            let got = format!("{} × {}", block.nrows(), block.ncols());
            return Err(Error::shape(self.paths.target.display().to_string(), expected, got));
        };
        let (row, column) = match fill {
            Fill::Rows => (done, 0),
            Fill::Columns => (0, done),
        };
        let what = self.paths.target.display().to_string();
        let block = block.as_standard_layout();
        let width = block.ncols();
        if let Some(values) = block.as_slice().filter(|_| width > 0) {
            for (i, values) in values.chunks_exact(width).enumerate() {
                dtype.check(&what, row + i, column, values)?;
            }
            write_values(file, &self.sidecar, (row, column), width, values)
                .map_err(|e| Error::io(&self.paths.partial, e))?;
        }
        self.advance(n)
    }

    /// Appends rows that are checked and encoded already.
    pub(super) fn write_encoded(&mut self, bytes: &[u8]) -> Result<()> {
        let Sidecar { rows, fill, done, .. } = self.sidecar;
        let width = self.row_bytes();
        let (n, room) = (bytes.len() / width, rows - done);
        let fits = fill == Fill::Rows && n <= room && n * width == bytes.len();
        let Some(file) = self.file.as_mut().filter(|_| fits) else {
            let what = self.paths.target.display().to_string();
            return Err(Error::shape(what, format!("at most {room} rows more"), n));
        };
        let place = SeekFrom::Start((NPY_HEADER + done * width) as u64);
        file.seek(place)
            .and_then(|_| file.write_all(bytes))
            .map_err(|e| Error::io(&self.paths.partial, e))?;
        self.advance(n)
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.sidecar.columns * self.sidecar.dtype.size()
    }

    fn advance(&mut self, n: usize) -> Result<()> {
        self.sidecar.done += n;
        if self.saved.is_none_or(|saved| saved.elapsed() >= INTERVAL) {
            self.save()?;
        }
        Ok(())
    }

    /// Makes what was appended so far survive, whatever happens. Done by itself every two seconds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_data().map_err(|e| Error::io(&self.paths.partial, e))?;
        self.sidecar.write(&self.paths.sidecar)?;
        self.saved = Some(Instant::now());
        Ok(())
    }

    /// Gives the complete file its name. Of a store that was found complete, nothing is left to do.
    ///
    /// # Errors
    /// [`Error::Shape`] unless [`is_complete`](FeatureStore::is_complete); [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        if !self.is_complete() {
            let (expected, got) = (self.sidecar.all(), self.sidecar.done);
            return Err(Error::shape(self.paths.target.display().to_string(), expected, got));
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let fail = |e| Error::io(&self.paths.partial, e);
        file.sync_all().map_err(fail)?;
        self.sidecar.checksum = Some(checksum(file).map_err(fail)?);
        self.sidecar.write(&self.paths.sidecar)?;
        self.rename()
    }

    fn rename(&mut self) -> Result<()> {
        let Paths { partial, target, .. } = &self.paths;
        self.file = None;
        fs::rename(partial, target).map_err(|e| Error::io(target, e))?;
        // As after every rename: not every file system lets a directory be synced.
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        if let Ok(directory) = File::open(parent.unwrap_or(Path::new("."))) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

impl Drop for FeatureStore {
    /// Leaves nothing behind where there is nothing to go on with.
    fn drop(&mut self) {
        if self.file.is_some() && self.sidecar.done == 0 {
            let _ = fs::remove_file(&self.paths.partial);
            let _ = fs::remove_file(&self.paths.sidecar);
        }
    }
}

impl Sidecar {
    /// Fails unless `file` is the one that this record was written for.
    fn verify(&self, mut file: File, path: &Path, record: &Path) -> Result<()> {
        let actual = checksum(&mut file).map_err(|e| Error::io(path, e))?;
        if self.checksum.as_ref() == Some(&actual) {
            return Ok(());
        }
        let record = record.display();
        let reason = format!("not the features that {record} describes; remove one of the two");
        Err(Error::data(path.display(), reason))
    }
}

/// Nobody else may fill the file meanwhile. The lock ends with the process, however it ends.
fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::data(path.display(), "another process is filling it"))
        }
        // Not every file system has locks.
        _ => Ok(()),
    }
}

/// Writes rows of `width` values to where they belong, `at` being row and column of the first.
fn write_values(
    file: &mut File,
    layout: &Sidecar,
    at: (usize, usize),
    width: usize,
    values: &[f32],
) -> io::Result<()> {
    let size = layout.dtype.size();
    let place = |row| SeekFrom::Start((NPY_HEADER + (row * layout.columns + at.1) * size) as u64);
    // Whole rows lie one after the other; parts of rows do not.
    let together = if width == layout.columns { (BUFFER / (width * size)).max(1) } else { 1 };
    let mut bytes = vec![0u8; together * width * size];
    for (i, values) in values.chunks(together * width).enumerate() {
        let bytes = &mut bytes[..values.len() * size];
        layout.dtype.encode(values, bytes);
        if i == 0 || together == 1 {
            file.seek(place(at.0 + i * together))?;
        }
        file.write_all(bytes)?;
    }
    Ok(())
}

/// Of the whole file: one pass at the speed of the disk.
fn checksum(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut digest = Digest::default();
    let mut bytes = Vec::with_capacity(BUFFER);
    loop {
        bytes.clear();
        if io::Read::take(&mut *file, BUFFER as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(digest.text());
        }
        digest.bytes(&bytes);
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
