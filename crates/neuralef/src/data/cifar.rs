//! The binary layout of CIFAR-10: records of a label byte and an image of 32 × 32 pixels in three
//! planes (red, green, blue).

use std::io::Read;

use super::Dataset;
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Numbers of an image.
const IMAGE: usize = 3 * 32 * 32;
/// Most bytes a file may have once unpacked: ten times all of CIFAR-10.
const MOST: u64 = 10 * 60_000 * (IMAGE as u64 + 1);

/// Reads n images as n × 3072 numbers from 0 to 255, with their labels.
pub(super) fn read(reader: impl Read, source: &str) -> Result<Dataset> {
    let mut bytes = Vec::new();
    reader.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| Error::io(source, e))?;
    let fault = |message: String| Err(Error::data(source, message));
    if bytes.len() as u64 > MOST {
        return fault(format!("more than {MOST} bytes"));
    }
    if bytes.is_empty() || !bytes.len().is_multiple_of(IMAGE + 1) {
        let record = IMAGE + 1;
        return fault(format!(
            "{} bytes are no whole number of CIFAR-10 records of {record}: truncated, or another format",
            bytes.len()
        ));
    }
    let records = bytes.chunks_exact(IMAGE + 1);
    if let Some(i) = records.clone().position(|r| r[0] > 9) {
        return fault(format!("record {i} has label {}, expected 0 to 9", bytes[i * (IMAGE + 1)]));
    }
    let labels = records.clone().map(|r| i64::from(r[0])).collect();
    let values: Vec<f32> = records.flat_map(|r| r[1..].iter().map(|v| f32::from(*v))).collect();
    let shape = (values.len() / IMAGE, IMAGE);
    let x = Mat::from_shape_vec(shape, values).map_err(|e| Error::data(source, e.to_string()))?;
    Dataset::from_array(source, x)?.with_labels(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_rows_and_labels() {
        let mut bytes = vec![3u8];
        bytes.extend((0..IMAGE).map(|i| (i % 251) as u8));
        bytes.push(9);
        bytes.extend(vec![255u8; IMAGE]);
        let data = read(&bytes[..], "test").unwrap();
        assert_eq!((data.len(), data.width()), (2, 3072));
        assert_eq!(data.labels().unwrap(), [3, 9]);
        let x = data.range(0..2).unwrap();
        assert_eq!((x[[0, 0]], x[[0, 250]], x[[0, 251]], x[[1, 7]]), (0.0, 250.0, 0.0, 255.0));
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = vec![0u8; IMAGE + 1];
        for (bytes, part) in [
            (vec![], "0 bytes"),
            (whole[..IMAGE].to_vec(), "truncated"),
            ([vec![10], vec![0; IMAGE]].concat(), "record 0 has label 10"),
        ] {
            let message = read(&bytes[..], "test").err().unwrap().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
