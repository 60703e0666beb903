//! From a location, as users write it, to a dataset.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::npy::{self, MAP_FROM, Npy};
use super::raw::read_full;
use super::{Dataset, SYNTHETIC, cifar, columns, digits, idx, npz, synthesize, table};
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// File formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    Table(u8),
    Parquet,
    Idx,
    Cifar,
}

pub(super) fn open(location: &str, seed: u64) -> Result<Dataset> {
    let location = location.trim();
    if location == "digits" {
        return digits::digits();
    }
    let word = location.split('(').next().unwrap_or_default().trim_end();
    let identifier =
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let called = location.ends_with(')');
    if SYNTHETIC.names().contains(&word) && (word == location || called) {
        return synthesize(location, seed);
    }
    let (path, key) = split_key(location);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // Neither a file nor a name: a bare word was most likely meant as a name.
        Err(_) if identifier && (word == location || called) => {
            let known: Vec<_> = ["digits"].into_iter().chain(SYNTHETIC.names()).collect();
            return Err(Error::unknown("dataset or file", word, &known));
        }
        Err(e) => return Err(Error::io(path, e)),
    };
    if metadata.is_dir() {
        return Err(Error::data(location, "a directory, expected a data file"));
    }
    if !metadata.is_file() {
        return Err(Error::data(location, "not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(Error::data(location, "the file is empty"));
    }
    read(path, key, location)
}

/// `file.npz:key` in two; anything else whole.
fn split_key(location: &str) -> (&Path, Option<&str>) {
    let lower = location.to_ascii_lowercase();
    match lower.find(".npz:") {
        Some(at) if !Path::new(location).exists() => {
            (Path::new(&location[..at + 4]), Some(&location[at + 5..]))
        }
        _ => (Path::new(location), None),
    }
}

fn read(path: &Path, key: Option<&str>, location: &str) -> Result<Dataset> {
    let file = || File::open(path).map_err(|e| Error::io(path, e));
    let (format, compressed) = recognise(path, location)?;
    let decompressed = || -> Result<Box<dyn Read>> {
        let file = BufReader::new(file()?);
        Ok(if compressed {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        })
    };
    let x: Mat = match format {
        Format::Npy => match npy::open(path, MAP_FROM, location)? {
            Npy::Loaded(x) => x,
            Npy::Mapped(map) => return Ok(Dataset::mapped(location, map)),
        },
        Format::Npz => npz::read(path, key, location)?,
        Format::Table(delimiter) => table::read(decompressed()?, delimiter, location)?,
        Format::Parquet => columns::read(path, location)?,
        Format::Idx => idx::read(decompressed()?, location)?,
        Format::Cifar => return cifar::read(decompressed()?, location),
    };
    Dataset::from_array(location, x)
}

/// The format, and whether it is gzip-compressed: by the extension, else by the first bytes.
fn recognise(path: &Path, location: &str) -> Result<(Format, bool)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let mut start = [0u8; 6];
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let got = read_full(&mut file, &mut start, location)?;
    let compressed = start.starts_with(b"\x1f\x8b");
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("npy") if !compressed => return Ok((Format::Npy, false)),
        Some("npz") => return Ok((Format::Npz, false)),
        Some("csv") => return Ok((Format::Table(b','), compressed)),
        Some("tsv") => return Ok((Format::Table(b'\t'), compressed)),
        Some("parquet" | "pq") if !compressed => return Ok((Format::Parquet, false)),
        Some("idx") => return Ok((Format::Idx, compressed)),
        _ => {}
    }
    if compressed {
        file.rewind().map_err(|e| Error::io(path, e))?;
        start = [0; 6];
        read_full(MultiGzDecoder::new(BufReader::new(file)), &mut start, location)?;
    }
    let idx = got >= 4
        && start[..2] == [0, 0]
        && matches!(start[2], 0x08 | 0x09 | 0x0b..=0x0e)
        && start[3] > 0;
    match &start {
        b"\x93NUMPY" if !compressed => Ok((Format::Npy, false)),
        [b'P', b'K', 3, 4, ..] if !compressed => Ok((Format::Npz, false)),
        [b'P', b'A', b'R', b'1', ..] if !compressed => Ok((Format::Parquet, false)),
        _ if name.ends_with(".bin") => Ok((Format::Cifar, compressed)),
        _ if idx => Ok((Format::Idx, compressed)),
        _ => Err(Error::data(
            location,
            "format not recognised; read are .npy, .npz, .csv, .tsv, .parquet, IDX and CIFAR-10 (.bin) files, text, IDX and CIFAR-10 also with .gz",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;
    use ndarray::array;
    use ndarray_npy::{NpzWriter, WriteNpyExt as _};

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_format_is_found_by_name_and_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let x = array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let mut npy = Vec::new();
        x.write_npy(&mut npy).unwrap();
        let mut writer = NpzWriter::new(std::io::Cursor::new(Vec::new()));
        writer.add_array("a", &x).unwrap();
        let npz = super::super::npz::tests::compressed(writer.finish().unwrap());
        let csv = b"a,b\n1,2\n3,4\n5,6\n";
        let tsv = b"1\t2\n3\t4\n5\t6\n";
        let idx = [0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6];
        for (name, key, contents) in [
            ("x.npy", "", npy.clone()),
            ("x.NPY", "", npy.clone()),
            ("array", "", npy),
            ("x.npz", "", npz.clone()),
            ("x.npz", ":a", npz.clone()),
            ("archive.bin", "", npz),
            ("x.csv", "", csv.to_vec()),
            ("x.csv.gz", "", gz(csv)),
            ("x.tsv", "", tsv.to_vec()),
            ("x.idx", "", idx.to_vec()),
            ("train-images-idx3-ubyte", "", idx.to_vec()),
            ("train-images-idx3-ubyte.gz", "", gz(&idx)),
            // Several gzip members one after the other are one stream.
            ("parts-idx2-ubyte.gz", "", [gz(&idx[..7]), gz(&idx[7..])].concat()),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, contents).unwrap();
            let location = format!("{}{key}", path.display());
            let data = open(&location, 0).unwrap();
            assert_eq!((data.range(0..3).unwrap(), data.name()), (x.clone(), &*location), "{name}");
        }
    }

    #[test]
    fn names_and_files_that_are_not_there() {
        let message = |location: &str| open(location, 0).unwrap_err().to_string();
        assert!(message("digit").contains("did you mean `digits`?"));
        assert!(message("two_moon(n=3)").contains("did you mean `two_moons`?"));
        assert!(message("two_moons(m=3)").contains("unknown parameter of dataset two_moons `m`"));
        assert!(matches!(open("missing.npy", 0), Err(Error::Io { .. })));
        assert!(matches!(open("missing.npz:x", 0), Err(Error::Io { .. })));
        assert!(open("", 0).is_err() && open(":", 0).is_err() && open("(", 0).is_err());
        assert_eq!(open(" digits ", 0).unwrap().len(), 1797);
        assert_eq!(open("uniform( n = 5 )", 0).unwrap().len(), 5);
    }

    #[test]
    fn files_that_are_no_data_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let message = |name: &str, contents: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, contents).unwrap();
            open(path.to_str().unwrap(), 0).unwrap_err().to_string()
        };
        assert!(message("x.npy", b"").contains("the file is empty"));
        assert!(message("notes.md", b"# hello\n").contains("format not recognised"));
        assert!(message("x.txt.gz", &gz(b"hello")).contains("format not recognised"));
        assert!(message("x-idx1-ubyte.gz", &gz(&[0, 0, 8, 1, 0, 0])[..20]).contains("x-idx1"));
        // Eight values promised, megabytes there: reading stops at the promise.
        let bomb = [&[0, 0, 8, 1, 0, 0, 0, 8][..], &vec![0; 10 << 20]].concat();
        assert!(message("bomb.gz", &gz(&bomb)).contains("more bytes than its 8 values"));
        let mut nan = Vec::new();
        array![[1.0f64, 2.0], [3.0, f64::NAN]].write_npy(&mut nan).unwrap();
        let error = message("nan.npy", &nan);
        assert!(error.contains("non-finite value NaN at row 1, column 1"), "{error}");
        let error = open(dir.path().to_str().unwrap(), 0).unwrap_err().to_string();
        assert!(error.contains("a directory"), "{error}");
    }
}
