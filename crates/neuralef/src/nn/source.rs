//! Files that networks are made from: read when first needed, or kept in a model file.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::spec::text;
use crate::spec::{Args, Domain, Parameter};

/// Largest file that is read, in bytes: what messages of ONNX's wire format can be.
const MOST: u64 = 1 << 31;

pub(super) const CHECKSUM: Parameter = Parameter::new(
    "checksum",
    Domain::Integer(0, u32::MAX as u64),
    "auto",
    "CRC-32 of the file; auto: whatever the file is",
)
.or(&["auto"]);

/// A file that a network is made from, with the checksum by which it is known again. Read when it is
/// first needed, or taken from a model file.
#[derive(Clone)]
pub struct NetworkFile {
    /// The path as users wrote it.
    path: String,
    /// CRC-32 that is asked for.
    expected: Option<u32>,
    content: OnceLock<(Arc<[u8]>, u32)>,
}

impl fmt::Debug for NetworkFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.content.get().map(|(bytes, _)| bytes.len());
        let mut out = f.debug_struct("NetworkFile");
        out.field("path", &self.path).field("expected", &self.expected);
        out.field("bytes", &length).finish()
    }
}

impl NetworkFile {
    /// The file of parameter `key`, with the `checksum` that the call gives.
    pub(super) fn read(args: &Args<'_>, key: &str) -> Result<Self> {
        let path = args.path(key)?.to_string();
        let expected = match args.is("checksum", "auto") {
            true => None,
            false => Some(args.integer("checksum")? as u32),
        };
        Ok(NetworkFile { path, expected, content: OnceLock::new() })
    }

    /// The file at `path`, whatever it is.
    pub(super) fn at(path: &Path) -> Self {
        let path = path.display().to_string();
        NetworkFile { path, expected: None, content: OnceLock::new() }
    }

    /// The path as users wrote it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is in the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] for something else than a file, one that is too large, and one
    /// of another checksum than was asked for.
    pub(crate) fn bytes(&self) -> Result<Arc<[u8]>> {
        if let Some((bytes, _)) = self.content.get() {
            return Ok(Arc::clone(bytes));
        }
        let path = Path::new(&self.path);
        let (fault, mut bytes) = (|e| Error::io(path, e), Vec::new());
        let is_file = std::fs::metadata(path).map_err(fault)?.is_file();
        if is_file {
            let file = std::fs::File::open(path).map_err(fault)?;
            file.take(MOST + 1).read_to_end(&mut bytes).map_err(fault)?;
        }
        if !is_file || bytes.len() as u64 > MOST {
            let message = format!("expected a file of at most {MOST} bytes");
            return Err(Error::data(self.path.as_str(), message));
        }
        self.keep(bytes)
    }

    /// Takes `bytes` for what is in the file, from now on.
    ///
    /// # Errors
    /// [`Error::Data`] when that has another checksum than was asked for.
    pub(crate) fn keep(&self, bytes: Vec<u8>) -> Result<Arc<[u8]>> {
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        let sum = crc.sum();
        match self.expected {
            Some(expected) if expected != sum => {
                let message = format!(
                    "the file is not the one that was meant: checksum {sum}, expected {expected}"
                );
                Err(Error::data(self.path.as_str(), message))
            }
            _ => Ok(Arc::clone(&self.content.get_or_init(|| (bytes.into(), sum)).0)),
        }
    }

    /// The path as the text form has it.
    pub(super) fn path_text(&self) -> String {
        text::path(&self.path)
    }

    /// The checksum as the text form has it: `auto` only for a file that cannot be read.
    pub(super) fn checksum_text(&self) -> String {
        // A file of another checksum is an error of whoever uses it.
        let _ = self.expected.is_none().then(|| self.bytes());
        let found = self.content.get().map(|(_, sum)| *sum);
        self.expected.or(found).map_or_else(|| "auto".into(), |sum| sum.to_string())
    }
}
