//! NumPy's `.npz`: a zip archive of `.npy` arrays, one of which is the dataset.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

use super::npy;
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Reads the array `key`, or the only one there is.
///
/// Decompression stops at the size the array's own header gives, so an archive that would expand
/// without end cannot.
pub(super) fn read(path: &Path, key: Option<&str>, source: &str) -> Result<Mat> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let bad =
        |e: zip::result::ZipError| Error::data(source, format!("not a usable .npz file: {e}"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(bad)?;
    let mut keys: Vec<String> =
        archive.file_names().filter_map(|n| n.strip_suffix(".npy")).map(str::to_string).collect();
    keys.sort();
    let key = match key {
        Some(key) => keys.iter().find(|k| *k == key),
        None if keys.len() == 1 => keys.first(),
        None => None,
    };
    let Some(key) = key else {
        return Err(Error::data(source, choose(path, &keys)));
    };
    let member = archive.by_name(&format!("{key}.npy")).map_err(bad)?;
    npy::read(BufReader::new(member), source)
}

/// What the user can write instead.
fn choose(path: &Path, keys: &[String]) -> String {
    if keys.is_empty() {
        return "holds no arrays".into();
    }
    let shown: Vec<_> = keys.iter().take(20).map(|k| k.escape_debug().to_string()).collect();
    let more = if keys.len() > shown.len() { ", …" } else { "" };
    let first = &shown[0];
    let path = path.display();
    format!("choose one of its arrays, e.g. {path}:{first}; it holds {}{more}", shown.join(", "))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use super::*;
    use ndarray::{Array1, Array2, array};
    use ndarray_npy::NpzWriter;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    /// The archive with its members compressed, as `numpy.savez_compressed` writes it.
    pub(in crate::data) fn compressed(npz: Cursor<Vec<u8>>) -> Vec<u8> {
        let mut from = ZipArchive::new(npz).unwrap();
        let mut to = ZipWriter::new(Cursor::new(Vec::new()));
        for i in 0..from.len() {
            let mut member = from.by_index(i).unwrap();
            let options =
                SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            to.start_file(member.name(), options).unwrap();
            std::io::copy(&mut member, &mut to).unwrap();
        }
        to.finish().unwrap().into_inner()
    }

    fn write(path: &Path, deflate: bool, second: bool) -> Array2<f64> {
        let x = Array2::from_shape_fn((300, 7), |(i, j)| (i * 7 + j) as f64 / 8.0);
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        npz.add_array("x", &x).unwrap();
        if second {
            npz.add_array("targets", &Array1::<i64>::from_iter(0..300)).unwrap();
        }
        let npz = npz.finish().unwrap();
        std::fs::write(path, if deflate { compressed(npz) } else { npz.into_inner() }).unwrap();
        x
    }

    #[test]
    fn members_are_found_by_key_or_when_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        for deflate in [false, true] {
            let x = write(&path, deflate, true).mapv(|v| v as f32);
            assert_eq!(read(&path, Some("x"), "a").unwrap(), x);
            assert_eq!(read(&path, Some("targets"), "a").unwrap().column(0)[299], 299.0);
            for key in [None, Some("y")] {
                let message = read(&path, key, "a").unwrap_err().to_string();
                assert!(message.contains("a.npz:targets; it holds targets, x"), "{message}");
            }
            write(&path, deflate, false);
            assert_eq!(read(&path, None, "a").unwrap(), x);
        }
    }

    #[test]
    fn damage_is_refused_without_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let x = array![[1.0f32, 2.0], [3.0, 4.0]];
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        npz.add_array("x", &x).unwrap();
        let whole = compressed(npz.finish().unwrap());
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, None, "a").is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            std::fs::write(&path, &damaged).unwrap();
            let _ = read(&path, None, "a");
        }
    }
}
