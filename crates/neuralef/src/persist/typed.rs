//! Typed access to archives: headers as structs, tensors as vectors and matrices.

use serde::Serialize;

use super::Archive;
use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64};
use crate::nn::NetworkSize;

/// Parameters by which a network may exceed its file, so that the tensor that is missing is named.
const SLACK: u64 = 1 << 16;

impl Archive {
    /// An archive without tensors whose header is `header`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it has no JSON form.
    pub fn with_header<T: Serialize>(kind: &str, header: &T) -> Result<Self> {
        let header = serde_json::to_value(header).map_err(|e| Error::Unsupported {
            what: format!("the header of this {kind}"),
            reason: e.to_string(),
        })?;
        Ok(Archive::new(kind, header))
    }

    /// The `f64` vector `name`, of any length.
    ///
    /// # Errors
    /// As [`f64`](Archive::f64).
    pub fn f64_vector(&self, name: &str) -> Result<Vec<f64>> {
        let length = self.dimensions::<1>(name)?;
        self.f64(name, &length).map(<[f64]>::to_vec)
    }

    /// The `f32` matrix `name`, of any size.
    ///
    /// # Errors
    /// As [`f32`](Archive::f32).
    pub fn f32_matrix(&self, name: &str) -> Result<Mat> {
        let shape = self.dimensions::<2>(name)?;
        let values = self.f32(name, &shape)?.to_vec();
        Mat::from_shape_vec(shape, values).map_err(|e| self.fault(format!("tensor {name}: {e}")))
    }

    /// The `f64` matrix `name`, which must have `shape`.
    ///
    /// # Errors
    /// As [`f64`](Archive::f64).
    pub fn f64_matrix(&self, name: &str, shape: (usize, usize)) -> Result<Mat64> {
        let values = self.f64(name, &[shape.0, shape.1])?.to_vec();
        Mat64::from_shape_vec(shape, values).map_err(|e| self.fault(format!("tensor {name}: {e}")))
    }

    /// Adds a file, whole: as 64-bit words after its length in bytes, the last one filled with zeros.
    ///
    /// # Errors
    /// As [`put_u64`](Archive::put_u64).
    pub(crate) fn put_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        let words: Vec<u64> =
            std::iter::once(bytes.len() as u64).chain(bytes.chunks(8).map(word)).collect();
        self.put_u64(name, &[words.len()], words)
    }

    /// What [`put_bytes`](Archive::put_bytes) added.
    ///
    /// # Errors
    /// As [`u64`](Archive::u64), and for a length that does not fit.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let shape = self.dimensions::<1>(name)?;
        let (length, words) = match self.u64(name, &shape)?.split_first() {
            Some((length, words)) if (*length).div_ceil(8) == words.len() as u64 => (length, words),
            _ => return Err(self.fault(format!("tensor {name:?} is no file"))),
        };
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(*length as usize);
        Ok(bytes)
    }

    /// Fails when a network of `size` cannot come from this archive: it would be many times larger
    /// than all that is stored. A file must not make its reader take more memory than it has bytes,
    /// up to a constant.
    ///
    /// # Errors
    /// [`Error::ModelFile`] with both numbers.
    pub(crate) fn expect_room(&self, size: NetworkSize) -> Result<()> {
        let parameters = size.parameters;
        self.expect_numbers(parameters, &format!("a network of {parameters} parameters"))
    }

    /// The same for `what`, of `count` numbers.
    ///
    /// # Errors
    /// As [`expect_room`](Archive::expect_room).
    pub(crate) fn expect_numbers(&self, count: u64, what: &str) -> Result<()> {
        let stored = self.names().filter_map(|name| self.shape(name));
        let stored: u64 = stored.map(|s| s.iter().product::<usize>() as u64).sum();
        if count <= stored.saturating_add(SLACK) {
            return Ok(());
        }
        Err(self.fault(format!("{what}, {stored} numbers are stored")))
    }

    /// The shape of `name`, which must have D dimensions.
    fn dimensions<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let Some(shape) = self.shape(name) else {
            return Err(self.fault(format!("tensor {name:?} is missing")));
        };
        shape.try_into().map_err(|_| {
            self.fault(format!("tensor {name:?}: expected {D} dimensions, got shape {shape:?}"))
        })
    }
}
