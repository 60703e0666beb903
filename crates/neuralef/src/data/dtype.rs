//! The element types that features are written as, and how numbers become bytes.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::Choice;

/// Bytes of a `.npy` header as it is written here: room for any shape, and the data aligned to 64
/// bytes as NumPy does it.
pub(crate) const HEADER: usize = 128;

/// Element type of a `.npy` file that is written.
///
/// `f16` halves the file. A number becomes the nearest that has 11 significant bits: off by at most
/// 2⁻¹¹ of itself, and by 2⁻²⁵ below 6·10⁻⁵. Numbers of 65520 and more are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision, 4 bytes.
    #[default]
    F32,
    /// Half precision (IEEE 754 binary16), 2 bytes.
    F16,
}

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }

    /// Writes `values` into `bytes`, which has [`size`](Dtype::size) of them for each; little-endian.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut [u8]) {
        match self {
            // Loops over slices, so that they are done by vectors.
            Dtype::F32 => {
                for (to, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *to = value.to_le_bytes();
                }
            }
            Dtype::F16 => {
                let mut block = [f16::ZERO; 256];
                let bytes = bytes.as_chunks_mut::<2>().0;
                for (to, values) in bytes.chunks_mut(block.len()).zip(values.chunks(block.len())) {
                    let block = &mut block[..values.len()];
                    block.convert_from_f32_slice(values);
                    to.iter_mut().zip(block).for_each(|(to, v)| *to = v.to_le_bytes());
                }
            }
        }
    }

    /// Fails unless every one of `values`, a row of the file, is finite and stays so when written.
    ///
    /// # Errors
    /// [`Error::NonFinite`], or [`Error::InvalidParameter`] for what is too large for half precision.
    pub(crate) fn check(self, what: &str, row: usize, column: usize, values: &[f32]) -> Result<()> {
        // Halfway between the largest number and the next one, which is infinite.
        let bound = if self == Dtype::F16 { 65520.0 } else { f32::INFINITY };
        if values.iter().fold(true, |all, v| all & (v.abs() < bound)) {
            return Ok(());
        }
        let Some(at) = values.iter().position(|v| v.is_nan() || v.abs() >= bound) else {
            return Ok(());
        };
        let (column, value) = (column + at, values[at]);
        if !value.is_finite() {
            return Err(Error::NonFinite { what: what.to_string(), row, column, value });
        }
        let expected = "f32, or values within ±65504 for f16";
        Err(Error::parameter(
            "dtype",
            expected,
            format!("f16 for {value} at row {row}, column {column}"),
        ))
    }

    /// The header of a `.npy` file of `rows` × `columns` in C order.
    pub(crate) fn npy_header(self, rows: usize, columns: usize) -> std::io::Result<Vec<u8>> {
        let descr = match self {
            Dtype::F32 => "<f4",
            Dtype::F16 => "<f2",
        };
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend(((HEADER - 10) as u16).to_le_bytes());
        write!(
            header,
            "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
        )?;
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        Ok(header)
    }
}

impl Choice for Dtype {
    const KIND: &'static str = "dtype";
    const ALL: &'static [(&'static str, Self)] = &[("f32", Dtype::F32), ("f16", Dtype::F16)];
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_name(text)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(value: f32) -> u16 {
        let mut bytes = [0; 2];
        Dtype::F16.encode(&[value], &mut bytes);
        u16::from_le_bytes(bytes)
    }

    #[test]
    fn halves_are_the_nearest_with_ties_to_even() {
        for (value, bits) in [
            (0.0, 0),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (65504.0, 0x7bff),
            (65519.996, 0x7bff),
            // 2⁻²⁴ is the smallest; half of it goes to zero, anything above to 2⁻²⁴.
            (2.0f32.powi(-25), 0),
            (2.0f32.powi(-25) * 1.001, 1),
            // Ties: 1 + 2⁻¹¹ is between 1 and 1 + 2⁻¹⁰, 1 + 3·2⁻¹¹ between odd and even.
            (1.0 + 2.0f32.powi(-11), 0x3c00),
            (1.0 + 3.0 * 2.0f32.powi(-11), 0x3c02),
        ] {
            assert_eq!(half(value), bits, "{value}");
        }
        // Long enough for vectors and a rest.
        let values: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) * 0.37).collect();
        let mut bytes = vec![0; 2006];
        Dtype::F16.encode(&values, &mut bytes);
        for (value, b) in values.iter().zip(bytes.as_chunks::<2>().0) {
            assert_eq!(u16::from_le_bytes(*b), half(*value));
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_with_its_place() {
        let check = |d: Dtype, values: &[f32]| d.check("x", 3, 10, values);
        assert!(check(Dtype::F16, &[65519.0, -65519.0, 0.0]).is_ok());
        assert!(check(Dtype::F32, &[f32::MAX]).is_ok());
        let message = check(Dtype::F16, &[1.0, -65520.0]).unwrap_err().to_string();
        assert!(
            message.contains("-65520 at row 3, column 11") && message.contains("f32"),
            "{message}"
        );
        for bad in [f32::NAN, f32::INFINITY] {
            let error = check(Dtype::F16, &[0.0, 1.0, bad]).unwrap_err();
            assert!(matches!(error, Error::NonFinite { row: 3, column: 12, .. }), "{error}");
            assert!(check(Dtype::F32, &[bad]).is_err());
        }
    }

    #[test]
    fn names_round_trip() {
        for &(name, dtype) in Dtype::ALL {
            assert_eq!(name.parse::<Dtype>().unwrap(), dtype);
            assert_eq!(dtype.to_string(), name);
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{name}\""));
        }
        assert!("f8".parse::<Dtype>().unwrap_err().to_string().contains("f32, f16"));
    }
}
