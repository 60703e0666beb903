//! Delimited text: `.csv` and `.tsv`, with or without a header line.

use std::io::{BufRead, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::raw::grow;
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Reads a table of numbers, one point a line.
///
/// The first line is a header when none of its cells is a number. Cells may be quoted; blank lines
/// and lines that begin with `#` are passed over.
pub(super) fn read(reader: impl Read, delimiter: u8, source: &str) -> Result<Mat> {
    let fault = |line: u64, message: String| Error::data(source, format!("line {line}: {message}"));
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut text, mut record) = (Vec::new(), ByteRecord::new());
    let mut values: Vec<f32> = Vec::new();
    let mut first: Option<(u64, usize)> = None;
    let (mut rows, mut line) = (0, 0);
    // Lines are counted here: the csv reader counts a record's from the blank lines before it.
    loop {
        text.clear();
        let got = reader.read_until(b'\n', &mut text);
        if got.map_err(|e| Error::data(source, format!("cannot be read: {e}")))? == 0 {
            break;
        }
        line += 1;
        let mut text = text.strip_suffix(b"\n").unwrap_or(&text);
        text = text.strip_suffix(b"\r").unwrap_or(text);
        if line == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.iter().all(|c| *c == b' ') || text.starts_with(b"#") {
            continue;
        }
        split(text, delimiter, &mut record).map_err(|m| fault(line, m))?;
        let header = first.is_none() && record.iter().all(|cell| number(cell).is_none());
        let (first_line, width) = *first.get_or_insert((line, record.len()));
        if record.len() != width {
            let message = format!("{} cells, line {first_line} has {width}", record.len());
            return Err(fault(line, message));
        }
        if !header {
            push(&record, &mut values, source)
                .map_err(|(column, m)| fault(line, format!("column {column}: {m}")))?;
            rows += 1;
        }
    }
    match first {
        None => Err(Error::data(source, "the file is empty")),
        Some((line, _)) if rows == 0 => Err(fault(line, "a header, and no data after it".into())),
        Some((_, width)) => {
            let got = values.len();
            Mat::from_shape_vec((rows, width), values)
                .map_err(|_| Error::shape(source, format!("{rows} × {width}"), got))
        }
    }
}

/// Appends a line's numbers; on failure the column (from 1) and what is wrong there.
fn push(record: &ByteRecord, out: &mut Vec<f32>, source: &str) -> Result<(), (usize, String)> {
    grow(out, record.len(), usize::MAX, source).map_err(|e| (1, e.to_string()))?;
    for (i, cell) in record.iter().enumerate() {
        match number(cell) {
            Some(v) if (v as f32).is_finite() => out.push(v as f32),
            Some(v) if v.is_finite() => return Err((i + 1, format!("{v} is beyond float32"))),
            Some(v) => return Err((i + 1, format!("{v} is not finite"))),
            None if cell.trim_ascii().is_empty() => {
                return Err((i + 1, "empty cell, expected a number".into()));
            }
            None => {
                let text: String = String::from_utf8_lossy(cell).chars().take(40).collect();
                return Err((i + 1, format!("`{}` is not a number", text.escape_debug())));
            }
        }
    }
    Ok(())
}

/// Splits one line into cells.
fn split(line: &[u8], delimiter: u8, record: &mut ByteRecord) -> Result<(), String> {
    if !line.contains(&b'"') {
        record.clear();
        line.split(|c| *c == delimiter).for_each(|cell| record.push_field(cell));
        return Ok(());
    }
    if line.iter().filter(|c| **c == b'"').count() % 2 == 1 {
        return Err("a quoted cell does not end on its line".into());
    }
    let mut csv = ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(line);
    csv.read_byte_record(record).map(|_| ()).map_err(|e| e.to_string())
}

fn number(cell: &[u8]) -> Option<f64> {
    str::from_utf8(cell).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn csv(text: &str) -> Result<Mat> {
        read(text.as_bytes(), b',', "x.csv")
    }

    #[test]
    fn tables_with_and_without_headers() {
        let expected = array![[1.0f32, -2.5], [3e-4, 4.0]];
        for text in [
            "1,-2.5\n3e-4,4\n",
            "a,b\n1,-2.5\n3e-4,4",
            "\"a, quoted\",\"b\"\r\n\"1\",\"-2.5\"\r\n3e-4,\"4\"\r\n",
            "# made by hand\n\n a , b \n 1 , -2.5\n\n3e-4 , 4\n",
            "\u{feff}1,-2.5\n3e-4,4\n",
            "\u{feff}a,b\n1,-2.5\n3e-4,4\n",
        ] {
            assert_eq!(csv(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(read("x\ty\n1\t-2.5\n3e-4\t4".as_bytes(), b'\t', "x.tsv").unwrap(), expected);
        assert_eq!(csv("7").unwrap(), array![[7.0f32]]);
    }

    #[test]
    fn faults_name_line_and_column() {
        for (text, reason) in [
            ("", "the file is empty"),
            ("\n\n# nothing\n", "the file is empty"),
            ("a,b\n", "line 1: a header, and no data"),
            ("a,b\n1,2\n3\n", "line 3: 1 cells, line 1 has 2"),
            ("1,2\n\n3,4,5\n", "line 3: 3 cells, line 1 has 2"),
            ("a,b\n1,2\n3,x\n", "line 3: column 2: `x` is not a number"),
            ("1,b\n3,4\n", "line 1: column 2: `b` is not a number"),
            ("1,2\n3,\n", "line 2: column 2: empty cell"),
            ("1,2\nnan,1\n", "line 2: column 1: NaN is not finite"),
            ("1,2\n1,-inf\n", "line 2: column 2: -inf is not finite"),
            ("1,2\n1,1e40\n", "is beyond float32"),
            ("1,2\r\n\r\n# x\r\n1,y\r\n", "line 4: column 2: `y`"),
            ("a,b\n\"1,2\n3\",4\n", "line 2: a quoted cell does not end"),
        ] {
            let message = csv(text).unwrap_err().to_string();
            assert!(message.starts_with("x.csv: ") && message.contains(reason), "{message}");
        }
        let tsv = read("1\t2\n1\t\n".as_bytes(), b'\t', "x.tsv").unwrap_err().to_string();
        assert!(tsv.contains("line 2: column 2: empty cell"), "{tsv}");
        let binary = read(&[0xff, 0xfe, 0, 1, 2, b'\n', 0xff, b'\n'][..], b',', "x").unwrap_err();
        assert!(binary.to_string().contains("is not a number"), "{binary}");
    }
}
