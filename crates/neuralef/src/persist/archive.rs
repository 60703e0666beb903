//! The archive: one safetensors file of tensors plus a versioned JSON header. Models and checkpoints
//! are archives.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};

use super::atomic::AtomicFile;
use super::header::{self, Kind, MAX_HEADER, clean, quote};
use crate::error::{Error, Result};

/// Format written, and the only one read.
const FORMAT_VERSION: u64 = 1;

/// Named tensors and a JSON header, saved as one [safetensors](https://github.com/huggingface/safetensors)
/// file that any reader of that format opens.
///
/// The metadata entry `neuralef` of the file holds
/// `{"format_version": 1, "header": …, "kind": …, "writer": …}`. Equal contents give equal bytes:
/// names are sorted and no time is stored. Numbers survive the round trip bit for bit, in tensors and
/// in the header. Tensors hold finite numbers only, which both [`put_f32`](Archive::put_f32) and
/// [`read`](Archive::read) enforce.
///
/// Reading treats the file as hostile: the header is bounded (16 MiB), every shape is checked against
/// the bytes that are there before anything is allocated, and no input panics. A file read takes as
/// much memory as the file has bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// What the archive is: `model` or `checkpoint`.
    pub kind: String,
    /// The header: specs, statistics, whatever is not a tensor.
    pub header: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
    /// Where it was read from, for messages.
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U64(Vec<u64>),
}

/// The JSON text of the metadata entry.
#[derive(Serialize, Deserialize)]
struct Envelope<H> {
    format_version: u64,
    header: H,
    kind: String,
    writer: String,
}

/// The part of [`Envelope`] that every version, past and future, has.
#[derive(Deserialize)]
struct Version {
    format_version: u64,
}

impl Archive {
    /// An archive without tensors.
    pub fn new(kind: impl Into<String>, header: serde_json::Value) -> Self {
        let path = PathBuf::from("(not saved)");
        Archive { kind: kind.into(), header, tensors: BTreeMap::new(), path }
    }

    /// Adds a tensor of `f32`, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when `values` does not fill `shape`, [`Error::InvalidParameter`] when the
    /// name is taken, [`Error::Numerical`] for a NaN or an infinity.
    pub fn put_f32(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: Vec<f32>,
    ) -> Result<()> {
        self.put(name.into(), shape, Values::F32(values))
    }

    /// Adds a tensor of `f64`, row-major.
    ///
    /// # Errors
    /// As [`put_f32`](Archive::put_f32).
    pub fn put_f64(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: Vec<f64>,
    ) -> Result<()> {
        self.put(name.into(), shape, Values::F64(values))
    }

    /// Adds a tensor of `u64`, row-major.
    ///
    /// # Errors
    /// As [`put_f32`](Archive::put_f32).
    pub fn put_u64(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: Vec<u64>,
    ) -> Result<()> {
        self.put(name.into(), shape, Values::U64(values))
    }

    fn put(&mut self, name: String, shape: &[usize], values: Values) -> Result<()> {
        let expected = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if expected != Some(values.len()) {
            let what = format!("tensor {}", quote(&name));
            return Err(Error::shape(
                what,
                format!("{shape:?}"),
                format!("{} values", values.len()),
            ));
        }
        if let Some(at) = values.first_non_finite() {
            return Err(Error::Numerical {
                what: format!("tensor {}", quote(&name)),
                message: format!("element {at} of {} is not finite", values.len()),
            });
        }
        if name.is_empty() || name == "__metadata__" || self.tensors.contains_key(&name) {
            return Err(Error::parameter("tensor name", "a new name", quote(&name)));
        }
        self.tensors.insert(name, Tensor { shape: shape.to_vec(), values });
        Ok(())
    }

    /// Takes a tensor away.
    #[cfg(test)]
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// The `f32` tensor `name`, which must have `shape`.
    ///
    /// # Errors
    /// [`Error::ModelFile`] when it is missing or has another type or shape.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        match self.get(name, shape)? {
            Values::F32(v) => Ok(v),
            other => Err(self.wrong_kind(name, "f32", other)),
        }
    }

    /// The `f64` tensor `name`, which must have `shape`.
    ///
    /// # Errors
    /// As [`f32`](Archive::f32).
    pub fn f64(&self, name: &str, shape: &[usize]) -> Result<&[f64]> {
        match self.get(name, shape)? {
            Values::F64(v) => Ok(v),
            other => Err(self.wrong_kind(name, "f64", other)),
        }
    }

    /// The `u64` tensor `name`, which must have `shape`.
    ///
    /// # Errors
    /// As [`f32`](Archive::f32).
    pub fn u64(&self, name: &str, shape: &[usize]) -> Result<&[u64]> {
        match self.get(name, shape)? {
            Values::U64(v) => Ok(v),
            other => Err(self.wrong_kind(name, "u64", other)),
        }
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<&Values> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(self.fault(format!("tensor {} is missing", quote(name))));
        };
        if tensor.shape != shape {
            return Err(self.fault(format!(
                "tensor {}: expected shape {shape:?}, got {:?}",
                quote(name),
                tensor.shape
            )));
        }
        Ok(&tensor.values)
    }

    fn wrong_kind(&self, name: &str, expected: &str, got: &Values) -> Error {
        let message = format!("tensor {}: expected {expected}, got {:?}", quote(name), got.kind());
        self.fault(message)
    }

    /// The shape of tensor `name`, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The header as a typed value.
    ///
    /// # Errors
    /// [`Error::ModelFile`] with the field that does not fit.
    pub fn header_as<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.header).map_err(|e| self.fault(format!("bad header: {}", clean(e))))
    }

    /// Fails unless the archive is a `kind`.
    ///
    /// # Errors
    /// [`Error::ModelFile`] naming both kinds.
    pub fn expect_kind(&self, kind: &str) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        Err(self.fault(format!("this is a {}, a {kind} is needed here", quote(&self.kind))))
    }

    /// An [`Error::ModelFile`] about this archive, for those who read their parts from it.
    pub fn fault(&self, message: impl Into<String>) -> Error {
        Error::ModelFile { path: self.path.clone(), message: clean(message.into()) }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the header would be larger than readers accept.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let invalid = |e: String| Error::Unsupported { what: "this archive".into(), reason: e };
        let envelope = Envelope {
            format_version: FORMAT_VERSION,
            header: &self.header,
            kind: self.kind.clone(),
            writer: concat!("neuralef ", env!("CARGO_PKG_VERSION")).into(),
        };
        let text = serde_json::to_string(&envelope).map_err(|e| invalid(e.to_string()))?;
        let metadata = HashMap::from([("neuralef".to_string(), text)]);
        let bytes = safetensors::serialize(&self.tensors, Some(metadata))
            .map_err(|e| invalid(e.to_string()))?;
        let header = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        if header > MAX_HEADER {
            return Err(invalid(format!("its header has {header} bytes of {MAX_HEADER} allowed")));
        }
        Ok(bytes)
    }

    /// Writes the file: to a temporary file beside `path`, flushed to disk, then renamed, so that
    /// `path` holds either the old file or the whole new one.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path`; nothing is left behind and an older file stays as it was.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes = self.to_bytes()?;
        let mut file = AtomicFile::create(path)?;
        file.write_all(&bytes).map_err(|e| Error::io(file.path(), e))?;
        file.commit()
    }

    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::ModelFile`] when it is damaged, hostile, of
    /// another version or of another program.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |e| Error::io(path, e);
        // Asked before opening: opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
            let message = format!("it is {what}");
            return Err(Error::ModelFile { path: path.into(), message });
        }
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Self::from_reader(path, BufReader::with_capacity(1 << 16, file), length)
    }

    /// Reads and checks an archive held in memory.
    ///
    /// # Errors
    /// [`Error::ModelFile`] as for [`read`](Archive::read).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_reader(Path::new("(memory)"), bytes, bytes.len() as u64)
    }

    fn from_reader(path: &Path, mut reader: impl Read, length: u64) -> Result<Self> {
        let fault = |message: String| Error::ModelFile { path: path.into(), message };
        let mut fill = |buffer: &mut [u8]| {
            reader.read_exact(buffer).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => fault("truncated while being read".into()),
                _ => Error::io(path, e),
            })
        };
        if length == 0 {
            return Err(fault("it is empty".into()));
        }
        let Some(rest) = length.checked_sub(8) else {
            return Err(fault(format!("it has {length} bytes, too few for any header")));
        };
        let mut start = [0u8; 8];
        fill(&mut start)?;
        let header_length = u64::from_le_bytes(start);
        if header_length > MAX_HEADER {
            let message = format!(
                "not a safetensors file, or its header is too large ({header_length} bytes of {MAX_HEADER} allowed)"
            );
            return Err(fault(message));
        }
        let Some(data_length) = rest.checked_sub(header_length) else {
            return Err(fault(format!(
                "truncated: a header of {header_length} bytes in a file of {length}"
            )));
        };
        // At most MAX_HEADER, so the conversion and the allocation are safe.
        let mut json = vec![0u8; header_length as usize];
        fill(&mut json)?;
        let (slots, text) = header::parse(&json, data_length).map_err(fault)?;
        let Version { format_version } = serde_json::from_str(&text)
            .map_err(|e| fault(format!("bad `neuralef` metadata: {}", clean(e))))?;
        if format_version > FORMAT_VERSION {
            return Err(fault(format!(
                "format {format_version} was written by a newer neuralef; this one reads format {FORMAT_VERSION}"
            )));
        }
        if format_version != FORMAT_VERSION {
            return Err(fault(format!("format {format_version} is unknown")));
        }
        let envelope: Envelope<serde_json::Value> = serde_json::from_str(&text)
            .map_err(|e| fault(format!("bad `neuralef` metadata: {}", clean(e))))?;
        let mut tensors = BTreeMap::new();
        for slot in slots {
            let n = slot.elements;
            let values = match slot.kind {
                Kind::F32 => read_values(&mut fill, n, f32::from_le_bytes)?.map(Values::F32),
                Kind::F64 => read_values(&mut fill, n, f64::from_le_bytes)?.map(Values::F64),
                Kind::U64 => read_values(&mut fill, n, u64::from_le_bytes)?.map(Values::U64),
            };
            let Some(values) = values else {
                let message =
                    format!("tensor {}: {n} elements do not fit in memory", quote(&slot.name));
                return Err(fault(message));
            };
            if let Some(at) = values.first_non_finite() {
                let message = format!("tensor {}: element {at} is not finite", quote(&slot.name));
                return Err(fault(message));
            }
            tensors.insert(slot.name, Tensor { shape: slot.shape, values });
        }
        let Envelope { header, kind, .. } = envelope;
        Ok(Archive { kind, header, tensors, path: path.into() })
    }
}

/// `n` elements of `N` bytes each, in blocks; `None` when there is no memory for them.
fn read_values<const N: usize, T>(
    fill: &mut impl FnMut(&mut [u8]) -> Result<()>,
    n: usize,
    value: fn([u8; N]) -> T,
) -> Result<Option<Vec<T>>> {
    const BLOCK: usize = 1 << 16;
    let mut out = Vec::new();
    if out.try_reserve_exact(n).is_err() {
        return Ok(None);
    }
    let mut block = vec![0u8; BLOCK.min(n.saturating_mul(N))];
    while out.len() < n {
        let bytes = block.len().min((n - out.len()) * N);
        fill(&mut block[..bytes])?;
        out.extend(block[..bytes].as_chunks().0.iter().map(|b| value(*b)));
    }
    Ok(Some(out))
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::U64(v) => v.len(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Values::F32(_) => Kind::F32,
            Values::F64(_) => Kind::F64,
            Values::U64(_) => Kind::U64,
        }
    }

    fn first_non_finite(&self) -> Option<usize> {
        match self {
            Values::F32(v) => v.iter().position(|x| !x.is_finite()),
            Values::F64(v) => v.iter().position(|x| !x.is_finite()),
            Values::U64(_) => None,
        }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::U64(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::F32(v) => {
                v.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_flattened().into()
            }
            Values::F64(v) => {
                v.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_flattened().into()
            }
            Values::U64(v) => {
                v.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_flattened().into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.values.kind().size() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn sample() -> Archive {
        let header = json!({"eigenvalues": [0.1 + 0.2, 1.0 / 3.0, 5e-324], "name": "é\n\"x\""});
        let mut archive = Archive::new("model", header);
        archive.put_f32("w", &[2, 3], vec![1.0, -0.0, f32::MIN_POSITIVE, 4.0, 5.5, -6.25]).unwrap();
        archive.put_f64("a.mean", &[2], vec![1.0 / 3.0, f64::MAX]).unwrap();
        archive.put_u64("steps", &[], vec![u64::MAX]).unwrap();
        archive.put_f32("none", &[0, 4], vec![]).unwrap();
        archive
    }

    #[test]
    fn round_trip_keeps_every_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        sample().write(&path).unwrap();
        let back = Archive::read(&path).unwrap();
        assert_eq!((&back.kind, &back.header), (&"model".to_string(), &sample().header));
        let names: Vec<_> = back.names().collect();
        assert_eq!(names, ["a.mean", "none", "steps", "w"]);
        assert_eq!(back.tensors, sample().tensors);
        assert!(back.f32("w", &[2, 3]).unwrap()[1].is_sign_negative());
        assert_eq!(back.u64("steps", &[]).unwrap(), [u64::MAX]);
        assert_eq!(back.shape("none"), Some(&[0, 4][..]));
        // The same content gives the same bytes, in whatever order it was put in.
        assert_eq!(back.to_bytes().unwrap(), sample().to_bytes().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), sample().to_bytes().unwrap());
    }

    #[test]
    fn every_f64_survives_the_json_header() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        let mut values = Vec::new();
        while values.len() < 2000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let v = f64::from_bits(bits);
            if v.is_finite() {
                values.push(v);
            }
        }
        let archive = Archive::new("model", json!({ "v": values }));
        let back = Archive::from_bytes(&archive.to_bytes().unwrap()).unwrap();
        let read: Vec<f64> = serde_json::from_value(back.header["v"].clone()).unwrap();
        let same = read.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && read.len() == values.len());
    }

    #[test]
    fn the_safetensors_crate_reads_the_file() {
        let bytes = sample().to_bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let w = file.tensor("w").unwrap();
        assert_eq!((w.dtype(), w.shape()), (Dtype::F32, &[2, 3][..]));
        assert_eq!(w.data()[20..], (-6.25f32).to_le_bytes());
        assert_eq!(file.len(), 4);
    }

    #[test]
    fn what_does_not_fit_is_refused_when_put() {
        let mut archive = sample();
        assert!(matches!(archive.put_f32("x", &[2, 2], vec![0.0; 3]), Err(Error::Shape { .. })));
        let huge = archive.put_f32("x", &[usize::MAX, 2], vec![]);
        assert!(matches!(huge, Err(Error::Shape { .. })));
        let nan = archive.put_f64("x", &[2], vec![0.0, f64::NAN]).unwrap_err();
        assert!(nan.to_string().contains("element 1"), "{nan}");
        for name in ["w", "", "__metadata__"] {
            assert!(archive.put_f32(name, &[1], vec![0.0]).is_err(), "{name}");
        }
        assert_eq!(archive, sample());
    }

    #[test]
    fn requests_that_do_not_match_say_what_is_there() {
        let archive = Archive::from_bytes(&sample().to_bytes().unwrap()).unwrap();
        let message = |e: Error| e.to_string();
        assert!(message(archive.f32("nope", &[1]).unwrap_err()).contains("`nope` is missing"));
        let shape = message(archive.f32("w", &[3, 2]).unwrap_err());
        assert!(shape.contains("expected shape [3, 2], got [2, 3]"), "{shape}");
        assert!(message(archive.f64("w", &[2, 3]).unwrap_err()).contains("expected f64, got F32"));
        let kind = message(archive.expect_kind("checkpoint").unwrap_err());
        assert!(kind.contains("this is a `model`, a checkpoint is needed"), "{kind}");
        let typed: Result<BTreeMap<String, u8>> = archive.header_as();
        assert!(matches!(typed, Err(Error::ModelFile { .. })));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no/such/m.safetensors");
        let error = sample().write(&missing).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
        let path = dir.path().join("m.safetensors");
        std::fs::write(&path, b"old").unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).unwrap();
        assert!(sample().write(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
