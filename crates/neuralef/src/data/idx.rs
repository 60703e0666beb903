//! IDX, the format of MNIST and its relatives, plain or gzip-compressed.

use std::io::Read;

use super::raw::{Element, Kind, Layout, read_full};
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Reads the array: a magic number (0, 0, type, dimensions), the sizes, then big-endian values.
///
/// Images (n, 28, 28) become n × 784. Reading stops at the size the header gives and memory grows
/// with the bytes that arrive.
pub(super) fn read(mut reader: impl Read, source: &str) -> Result<Mat> {
    let fault = |m: String| Error::data(source, m);
    let mut magic = [0u8; 4];
    let got = read_full(&mut reader, &mut magic, source)?;
    if got == 0 {
        return Err(fault("the file is empty".into()));
    }
    if got < 4 || magic[..2] != [0, 0] {
        return Err(fault("not an IDX file (its first two bytes are not 0)".into()));
    }
    let kind = match magic[2] {
        0x08 => Kind::U1,
        0x09 => Kind::I1,
        0x0b => Kind::I2,
        0x0c => Kind::I4,
        0x0d => Kind::F4,
        0x0e => Kind::F8,
        other => return Err(fault(format!("unknown IDX element type 0x{other:02x}"))),
    };
    let mut dimensions = Vec::new();
    for _ in 0..magic[3] {
        let mut size = [0u8; 4];
        if read_full(&mut reader, &mut size, source)? < 4 {
            return Err(fault("truncated in its header".into()));
        }
        dimensions.push(u32::from_be_bytes(size) as usize);
    }
    let layout = Layout::new(&dimensions, source)?;
    layout.matrix(layout.read(reader, Element { kind, big_endian: true }, source)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn file(kind: u8, dimensions: &[u32], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, kind, dimensions.len() as u8];
        dimensions.iter().for_each(|d| out.extend(d.to_be_bytes()));
        out.extend(data);
        out
    }

    #[test]
    fn images_vectors_and_types() {
        let images = file(0x08, &[2, 2, 2], &[0, 1, 2, 3, 252, 253, 254, 255]);
        let expected = array![[0.0f32, 1.0, 2.0, 3.0], [252.0, 253.0, 254.0, 255.0]];
        assert_eq!(read(&images[..], "x").unwrap(), expected);
        let labels = file(0x0b, &[2], &[0x01, 0x00, 0xff, 0xff]);
        assert_eq!(read(&labels[..], "x").unwrap(), array![[256.0f32], [-1.0]]);
        let doubles = file(0x0e, &[1, 1], &2.5f64.to_be_bytes());
        assert_eq!(read(&doubles[..], "x").unwrap(), array![[2.5f32]]);
    }

    #[test]
    fn damage_is_refused() {
        let cases: [(Vec<u8>, &str); 8] = [
            (vec![], "empty"),
            (b"\x1f\x8b".to_vec(), "not an IDX file"),
            (file(0x0a, &[1], &[0]), "unknown IDX element type 0x0a"),
            (vec![0, 0, 8, 3, 0, 0], "truncated in its header"),
            (file(0x08, &[], &[1]), "a single number"),
            (file(0x08, &[0, 5], &[]), "empty array"),
            (file(0x08, &[u32::MAX; 3], &[1, 2, 3]), "impossible shape"),
            (file(0x08, &[2, 2], &[1, 2, 3, 4, 5]), "more bytes"),
        ];
        for (bytes, reason) in cases {
            let message = read(&bytes[..], "x").unwrap_err().to_string();
            assert!(message.contains(reason), "expected `{reason}` in `{message}`");
        }
        let promised = file(0x08, &[u32::MAX, 255], &[1, 2, 3]);
        let message = read(&promised[..], "x").unwrap_err().to_string();
        assert!(message.contains("truncated: 3 of 1095216660225 values"), "{message}");
        let whole = file(0x0d, &[2, 2], &[0; 16]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], "x").is_err(), "{length}");
        }
    }
}
