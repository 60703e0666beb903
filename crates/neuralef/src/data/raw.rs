//! Arrays of raw numbers in files: element types, their conversion to `f32`, and bounded reading.

use std::io::{self, Read};

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Bytes read at a time: allocation follows what has arrived, not what a header promises.
const BLOCK: usize = 1 << 20;

/// An element type of a file; `f32` is what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) kind: Kind,
    pub(super) big_endian: bool,
}

/// The number an [`Element`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F2,
    F4,
    F8,
    I1,
    I2,
    I4,
    I8,
    U1,
    U2,
    U4,
    U8,
    Bool,
}

impl Element {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self.kind {
            Kind::I1 | Kind::U1 | Kind::Bool => 1,
            Kind::F2 | Kind::I2 | Kind::U2 => 2,
            Kind::F4 | Kind::I4 | Kind::U4 => 4,
            Kind::F8 | Kind::I8 | Kind::U8 => 8,
        }
    }

    /// Appends the elements in `bytes`, whose length is a multiple of the element's size, to `out`.
    /// Values that `f32` cannot hold become infinite and are refused where data are checked.
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        let big = self.big_endian;
        match self.kind {
            Kind::F2 => convert_half(bytes, big, out),
            Kind::F4 => convert(bytes, big, out, f32::from_le_bytes),
            Kind::F8 => convert(bytes, big, out, |b| f64::from_le_bytes(b) as f32),
            Kind::I1 => convert(bytes, big, out, |b| f32::from(i8::from_le_bytes(b))),
            Kind::I2 => convert(bytes, big, out, |b| f32::from(i16::from_le_bytes(b))),
            Kind::I4 => convert(bytes, big, out, |b| i32::from_le_bytes(b) as f32),
            Kind::I8 => convert(bytes, big, out, |b| i64::from_le_bytes(b) as f32),
            Kind::U1 => convert(bytes, big, out, |[b]| f32::from(b)),
            Kind::U2 => convert(bytes, big, out, |b| f32::from(u16::from_le_bytes(b))),
            Kind::U4 => convert(bytes, big, out, |b| u32::from_le_bytes(b) as f32),
            Kind::U8 => convert(bytes, big, out, |b| u64::from_le_bytes(b) as f32),
            Kind::Bool => convert(bytes, big, out, |[b]| f32::from(b != 0)),
        }
    }
}

/// Any alignment will do: elements are assembled from bytes.
fn convert<const N: usize>(
    bytes: &[u8],
    big_endian: bool,
    out: &mut Vec<f32>,
    value: impl Fn([u8; N]) -> f32,
) {
    let elements = bytes.as_chunks::<N>().0.iter();
    if big_endian {
        out.extend(elements.map(|b| {
            let mut b = *b;
            b.reverse();
            value(b)
        }));
    } else {
        out.extend(elements.map(|b| value(*b)));
    }
}

/// Half precision, by the processor's instructions where it has them: the same numbers either way.
fn convert_half(bytes: &[u8], big_endian: bool, out: &mut Vec<f32>) {
    let mut block = [f16::ZERO; 256];
    let elements = bytes.as_chunks::<2>().0;
    out.reserve(elements.len());
    for elements in elements.chunks(block.len()) {
        let block = &mut block[..elements.len()];
        let from = if big_endian { f16::from_be_bytes } else { f16::from_le_bytes };
        block.iter_mut().zip(elements).for_each(|(to, b)| *to = from(*b));
        let start = out.len();
        out.resize(start + block.len(), 0.0);
        block.convert_to_f32_slice(&mut out[start..]);
    }
}

/// An array's dimensions seen as a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// n, the first dimension.
    pub(super) rows: usize,
    /// d, the product of the dimensions after the first; 1 for a vector.
    pub(super) width: usize,
    /// The dimensions after the first.
    pub(super) inner: Vec<usize>,
}

impl Layout {
    /// The matrix an array of `dimensions` is read as: (n) → n × 1, (n, a, b) → n × ab.
    pub(super) fn new(dimensions: &[usize], source: &str) -> Result<Self> {
        let Some((&rows, inner)) = dimensions.split_first() else {
            return Err(Error::data(source, "a single number, expected an array of points"));
        };
        let width = inner.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let width = width.filter(|w| w.checked_mul(rows).and_then(|n| n.checked_mul(8)).is_some());
        match width {
            None => Err(Error::data(source, format!("impossible shape {dimensions:?}"))),
            Some(width) if rows == 0 || width == 0 => {
                Err(Error::data(source, format!("empty array of shape {dimensions:?}")))
            }
            Some(width) => Ok(Layout { rows, width, inner: inner.to_vec() }),
        }
    }

    /// Numbers of the whole array, n·d.
    pub(super) fn elements(&self) -> usize {
        self.rows * self.width
    }

    /// Reads the row-major array that makes up all the rest of `reader`.
    ///
    /// Memory grows with the bytes that arrive, so a header that promises too much costs nothing.
    pub(super) fn read(
        &self,
        mut reader: impl Read,
        element: Element,
        source: &str,
    ) -> Result<Vec<f32>> {
        let total = self.elements();
        let mut out = Vec::new();
        let mut block = vec![0u8; BLOCK.min(total * element.size())];
        while out.len() < total {
            let length = block.len().min((total - out.len()) * element.size());
            let got = read_full(&mut reader, &mut block[..length], source)?;
            if got < length {
                let whole = out.len() + got / element.size();
                return Err(Error::data(
                    source,
                    format!("truncated: {whole} of {total} values are there"),
                ));
            }
            grow(&mut out, length / element.size(), total, source)?;
            element.decode(&block[..length], &mut out);
        }
        if read_full(&mut reader, &mut [0u8], source)? != 0 {
            return Err(Error::data(source, format!("more bytes than its {total} values take")));
        }
        Ok(out)
    }

    /// Turns values in row-major order into the matrix.
    pub(super) fn matrix(&self, values: Vec<f32>) -> Result<Mat> {
        let got = values.len();
        Mat::from_shape_vec((self.rows, self.width), values)
            .map_err(|_| Error::shape("array", format!("{} × {}", self.rows, self.width), got))
    }

    /// Rearranges values stored with the first index running fastest (Fortran order).
    pub(super) fn matrix_from_fortran(&self, values: &[f32], source: &str) -> Result<Mat> {
        let mut out: Vec<f32> = Vec::new();
        reserve(&mut out, self.elements(), source)?;
        out.resize(self.elements(), 0.0);
        for (f, column) in values.chunks_exact(self.rows).enumerate() {
            let c = self.column_of_fortran(f);
            let cells = out.iter_mut().skip(c).step_by(self.width);
            cells.zip(column).for_each(|(to, from)| *to = *from);
        }
        self.matrix(out)
    }

    /// The row-major position of the inner index that is number `f` in Fortran order.
    fn column_of_fortran(&self, mut f: usize) -> usize {
        let mut index = Vec::with_capacity(self.inner.len());
        for d in &self.inner {
            index.push(f % d);
            f /= d;
        }
        index.iter().zip(&self.inner).fold(0, |c, (i, d)| c * d + i)
    }
}

/// Room for `more` values: doubling as [`Vec`] does, never beyond `total`, with an error in place of
/// an abort.
pub(super) fn grow(out: &mut Vec<f32>, more: usize, total: usize, source: &str) -> Result<()> {
    if out.capacity() - out.len() >= more {
        return Ok(());
    }
    let capacity = (out.len() + more).max(out.len().saturating_mul(2)).min(total);
    reserve(out, capacity - out.len(), source)
}

/// Room for `n` more values, or an error that says how much was needed.
pub(super) fn reserve(out: &mut Vec<f32>, n: usize, source: &str) -> Result<()> {
    out.try_reserve_exact(n).map_err(|_| {
        let mib = (out.len() + n) / (1 << 18);
        Error::data(source, format!("needs {mib} MiB of memory, which are not there"))
    })
}

/// Fills `buffer` as far as the source goes.
pub(super) fn read_full(mut reader: impl Read, buffer: &mut [u8], source: &str) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A damaged compressed stream reports itself here.
            Err(e) => return Err(Error::data(source, format!("cannot be read: {e}"))),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(kind: Kind, big_endian: bool, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        Element { kind, big_endian }.decode(bytes, &mut out);
        out
    }

    #[test]
    fn elements_convert_in_both_byte_orders() {
        assert_eq!(decode(Kind::F2, true, &[0x3e, 0, 0xc0, 0]), [1.5, -2.0]);
        assert_eq!(decode(Kind::F4, true, &1.5f32.to_be_bytes()), [1.5]);
        assert_eq!(decode(Kind::F8, false, &(-0.1f64).to_le_bytes()), [-0.1]);
        assert_eq!(decode(Kind::I2, true, &(-300i16).to_be_bytes()), [-300.0]);
        assert_eq!(decode(Kind::I8, false, &(-5i64).to_le_bytes()), [-5.0]);
        assert_eq!(decode(Kind::U4, true, &3_000_000_000u32.to_be_bytes()), [3e9]);
        assert_eq!(decode(Kind::U8, false, &u64::MAX.to_le_bytes()), [1.844_674_4e19]);
        assert_eq!(decode(Kind::I1, false, &[0x80, 0x7f]), [-128.0, 127.0]);
        assert_eq!(decode(Kind::Bool, false, &[0, 1, 2]), [0.0, 1.0, 1.0]);
        assert_eq!(decode(Kind::F8, false, &1e300f64.to_le_bytes()), [f32::INFINITY]);
    }

    /// Every half-precision number by what its bits mean: sign, exponent, fraction.
    #[test]
    fn every_half_precision_number_is_read() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let read =
            decode(Kind::F2, false, &bits.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<_>>());
        for (bits, read) in bits.into_iter().zip(read) {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * (-24.0f64).exp2(),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
            };
            let value = if bits >> 15 == 1 { -magnitude } else { magnitude };
            let same = f64::from(read).to_bits() == value.to_bits();
            assert!(same || (value.is_nan() && read.is_nan()), "{bits:04x}: {read}, not {value}");
        }
    }

    #[test]
    fn a_promise_of_terabytes_costs_nothing() {
        let layout = Layout::new(&[1 << 40, 8], "x").unwrap();
        let element = Element { kind: Kind::U1, big_endian: false };
        let error = layout.read(&[1u8; 100][..], element, "x").unwrap_err();
        assert!(error.to_string().contains("100 of 8796093022208 values"), "{error}");
        assert!(Layout::new(&[usize::MAX, 3], "x").is_err());
        assert!(Layout::new(&[3, 0], "x").is_err());
        assert!(Layout::new(&[], "x").is_err());
    }

    #[test]
    fn fortran_order_is_undone_for_every_rank() {
        // Element (i, j, k) of a 2 × 3 × 4 array holds 100 i + 10 j + k.
        let layout = Layout::new(&[2, 3, 4], "x").unwrap();
        let mut fortran = Vec::new();
        for k in 0..4 {
            for j in 0..3 {
                for i in 0..2 {
                    fortran.push((100 * i + 10 * j + k) as f32);
                }
            }
        }
        let x = layout.matrix_from_fortran(&fortran, "x").unwrap();
        for i in 0..2 {
            for j in 0..3 {
                for k in 0..4 {
                    assert_eq!(x[[i, 4 * j + k]], (100 * i + 10 * j + k) as f32);
                }
            }
        }
    }
}
