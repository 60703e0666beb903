//! NumPy's `.npy`: the header, reading into memory, and the memory map that large files get.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use memmap2::Mmap;

use super::raw::{Element, Kind, Layout, read_full};
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Files at least this large are mapped, smaller ones read.
pub(super) const MAP_FROM: u64 = 16 << 20;
/// Longest header accepted; NumPy's own limit is 10,000 characters.
const MAX_HEADER: usize = 1 << 16;

/// What the header of a `.npy` file says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    element: Element,
    fortran: bool,
    layout: Layout,
    /// Bytes before the data.
    length: u64,
}

/// A `.npy` file: values or the map of them.
pub(super) enum Npy {
    Loaded(Mat),
    Mapped(MappedNpy),
}

/// Opens `path`, mapping it when it has at least `map_from` bytes and is in C order.
pub(super) fn open(path: &Path, map_from: u64, source: &str) -> Result<Npy> {
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let header = read_header(&mut file, source)?;
    let expected = header.layout.elements() as u128 * header.element.size() as u128;
    let there = u128::from(size.saturating_sub(header.length));
    if there != expected {
        let message = if there < expected {
            format!("truncated: {there} of {expected} bytes of data are there")
        } else {
            format!("{} bytes follow the array", there - expected)
        };
        return Err(Error::data(source, message));
    }
    if size >= map_from && !header.fortran {
        return MappedNpy::new(&file, header, source).map(Npy::Mapped).map_err(io);
    }
    file.seek(SeekFrom::Start(header.length)).map_err(io)?;
    read_data(BufReader::new(file), &header, source).map(Npy::Loaded)
}

/// Reads a whole `.npy` from a stream, such as a member of an `.npz`.
pub(super) fn read(mut reader: impl Read, source: &str) -> Result<Mat> {
    let header = read_header(&mut reader, source)?;
    read_data(reader, &header, source)
}

fn read_data(reader: impl Read, header: &Header, source: &str) -> Result<Mat> {
    let values = header.layout.read(reader, header.element, source)?;
    if header.fortran {
        header.layout.matrix_from_fortran(&values, source)
    } else {
        header.layout.matrix(values)
    }
}

/// A row-major `.npy` file in the address space of the process: rows are converted when asked for.
///
/// The file must not be changed while mapped. Values written to it meanwhile are seen by later reads.
/// A file made shorter underneath ends the process with SIGBUS on the first read beyond its new end
/// (on Unix; other systems refuse to shorten a mapped file). Replacing it by renaming another over it,
/// as this crate and most tools do, is harmless: the map keeps the old contents.
pub(super) struct MappedNpy {
    map: Mmap,
    /// Bytes before the data.
    start: usize,
    element: Element,
    layout: Layout,
    source: String,
}

impl MappedNpy {
    fn new(file: &File, header: Header, source: &str) -> std::io::Result<Self> {
        // SAFETY: the map is private to this struct, read-only, and only ever seen as bytes that are
        // copied into numbers, for which every bit pattern is valid. What the type system cannot
        // rule out is another process changing the file; the struct's documentation says what then
        // happens, and the crate never writes to a data file in place.
        let map = unsafe { Mmap::map(file)? };
        Ok(MappedNpy {
            map,
            start: header.length as usize,
            element: header.element,
            layout: header.layout,
            source: source.to_string(),
        })
    }

    /// n, the number of rows.
    pub(super) fn rows(&self) -> usize {
        self.layout.rows
    }

    /// d, the number of columns.
    pub(super) fn width(&self) -> usize {
        self.layout.width
    }

    /// Appends row `row` to `out`.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the place, [`Error::Data`] when the row is outside the map.
    pub(super) fn push_row(&self, row: usize, out: &mut Vec<f32>) -> Result<()> {
        let bytes = self.width() * self.element.size();
        // No overflow: the whole array was found to fit into the file.
        let from = self.start + row.min(self.rows()) * bytes;
        let Some(bytes) = self.map.get(from..from + bytes) else {
            return Err(Error::data(&self.source, format!("row {row} is beyond the end")));
        };
        let start = out.len();
        self.element.decode(bytes, out);
        // Without a way out of the middle, so that it is done by vectors.
        if out[start..].iter().fold(true, |all, v| all & v.is_finite()) {
            return Ok(());
        }
        match out[start..].iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(column) => Err(Error::NonFinite {
                what: self.source.clone(),
                row,
                column,
                value: out[start + column],
            }),
        }
    }
}

fn read_header(mut reader: impl Read, source: &str) -> Result<Header> {
    let fault = |m: String| Error::data(source, m);
    let mut start = [0u8; 8];
    let got = read_full(&mut reader, &mut start, source)?;
    if got == 0 {
        return Err(fault("the file is empty".into()));
    }
    if got < 8 || &start[..6] != b"\x93NUMPY" {
        return Err(fault("not a .npy file (its first bytes are not \\x93NUMPY)".into()));
    }
    let mut size = [0u8; 4];
    let size_bytes = match start[6] {
        1 => 2,
        2 | 3 => 4,
        other => return Err(fault(format!("unknown .npy version {other}"))),
    };
    if read_full(&mut reader, &mut size[..size_bytes], source)? < size_bytes {
        return Err(fault("truncated in its header".into()));
    }
    let length = u32::from_le_bytes(size) as usize;
    if length > MAX_HEADER {
        return Err(fault(format!("a header of {length} bytes, at most {MAX_HEADER} are read")));
    }
    let mut text = vec![0u8; length];
    if read_full(&mut reader, &mut text, source)? < length {
        return Err(fault("truncated in its header".into()));
    }
    let (element, fortran, shape) = Dictionary { text: &text, at: 0 }
        .header()
        .map_err(|m| fault(format!("bad .npy header: {m}")))?;
    let layout = Layout::new(&shape, source)?;
    Ok(Header { element, fortran, layout, length: (8 + size_bytes + length) as u64 })
}

/// Reader of the header's Python literal, `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`:
/// exactly the three keys, no nesting.
struct Dictionary<'a> {
    text: &'a [u8],
    at: usize,
}

impl Dictionary<'_> {
    fn header(mut self) -> Result<(Element, bool, Vec<usize>), String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.take(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let twice = match key.as_str() {
                "descr" => descr.replace(self.element()?).is_some(),
                "fortran_order" => fortran.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return Err(format!("unknown key `{key}`")),
            };
            if twice {
                return Err(format!("`{key}` is given twice"));
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.space();
        if self.at < self.text.len() {
            return Err("more text after the dictionary".into());
        }
        let element = descr.ok_or("`descr` is missing")?;
        let fortran = fortran.ok_or("`fortran_order` is missing")?;
        Ok((element, fortran, shape.ok_or("`shape` is missing")?))
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, c: u8) -> bool {
        self.space();
        let matches = self.text.get(self.at) == Some(&c);
        self.at += usize::from(matches);
        matches
    }

    fn expect(&mut self, c: u8) -> Result<(), String> {
        if self.take(c) {
            Ok(())
        } else {
            Err(format!("expected `{}` at byte {}", c as char, self.at))
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.space();
        let quote = self.text.get(self.at).copied().filter(|c| matches!(c, b'\'' | b'"'));
        let quote = quote.ok_or_else(|| format!("expected a string at byte {}", self.at))?;
        let rest = &self.text[self.at + 1..];
        let end = rest.iter().position(|c| *c == quote).ok_or("a string does not end")?;
        self.at += end + 2;
        // Only used for names and messages: escapes are not interpreted, control characters dropped.
        let text = String::from_utf8_lossy(&rest[..end.min(80)]);
        Ok(text.chars().filter(|c| !c.is_control()).collect())
    }

    fn word(&mut self) -> &str {
        self.space();
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_alphanumeric) {
            self.at += 1;
        }
        str::from_utf8(&self.text[start..self.at]).unwrap_or_default()
    }

    fn boolean(&mut self) -> Result<bool, String> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err("`fortran_order` must be True or False".into()),
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect(b'(')?;
        let mut out = Vec::new();
        while !self.take(b')') {
            if out.len() == 32 {
                return Err("more than 32 dimensions".into());
            }
            // Python 2 wrote long integers with an L.
            let word = self.word().trim_end_matches('L');
            out.push(word.parse().map_err(|_| "`shape` must hold whole numbers".to_string())?);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(out)
    }

    fn element(&mut self) -> Result<Element, String> {
        self.space();
        if self.text.get(self.at) == Some(&b'[') {
            return Err("structured arrays are not supported; save a plain array of numbers".into());
        }
        let descr = self.string()?;
        let (order, name) = match descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "|" | "="), name)) => (order, name),
            _ => ("=", descr.as_str()),
        };
        let kind = match name {
            "f2" => Kind::F2,
            "f4" => Kind::F4,
            "f8" => Kind::F8,
            "i1" => Kind::I1,
            "i2" => Kind::I2,
            "i4" => Kind::I4,
            "i8" => Kind::I8,
            "u1" => Kind::U1,
            "u2" => Kind::U2,
            "u4" => Kind::U4,
            "u8" => Kind::U8,
            "b1" => Kind::Bool,
            _ => {
                return Err(format!(
                    "dtype `{descr}` is not supported; save as float16, float32, float64, an integer or bool"
                ));
            }
        };
        let native_big = cfg!(target_endian = "big");
        Ok(Element { kind, big_endian: order == ">" || (order == "=" && native_big) })
    }
}

#[cfg(test)]
#[path = "npy_tests.rs"]
mod tests;
