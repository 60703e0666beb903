//! Parquet: every column must be numeric and whole; columns become features in file order.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::raw::{grow, reserve};
use crate::error::{Error, Result};
use crate::matrix::Mat;

/// Values decoded at a time.
const BLOCK: usize = 1 << 14;

/// Reads all row groups. Memory: the matrix and one row group.
pub(super) fn read(path: &Path, source: &str) -> Result<Mat> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // The decoder has assertions of its own, some met by damaged files; none may end the process.
    catch_unwind(AssertUnwindSafe(|| read_file(file, source)))
        .unwrap_or_else(|_| Err(Error::data(source, "damaged: its pages cannot be decoded")))
}

fn read_file(file: File, source: &str) -> Result<Mat> {
    let bad = |e: ParquetError| Error::data(source, format!("not a usable parquet file: {e}"));
    let length = file.metadata().map_err(|e| bad(e.into()))?.len();
    let reader = SerializedFileReader::new(file).map_err(bad)?;
    let chunks = reader.metadata().row_groups().iter().flat_map(|g| g.columns());
    if !chunks.into_iter().all(|c| inside(c, length)) {
        return Err(Error::data(source, "damaged: a column lies outside the file"));
    }
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let refused: Vec<_> = schema.columns().iter().filter_map(|c| objection(c)).collect();
    if !refused.is_empty() {
        let shown = refused.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if refused.len() > 8 { ", …" } else { "" };
        return Err(Error::data(source, format!("columns that are not numbers: {shown}{more}")));
    }
    let width = schema.num_columns();
    let (mut values, mut rows) = (Vec::new(), 0);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(bad)?;
        let mut columns = Vec::with_capacity(width);
        for c in 0..width {
            let descriptor = schema.column(c);
            let column =
                read_column(group.get_column_reader(c).map_err(bad)?, &descriptor, source)?;
            let expected = columns.first().map_or(column.len(), Vec::len);
            if column.len() != expected {
                let name = name(&descriptor);
                let message = format!("column {name} has {} values of {expected}", column.len());
                return Err(Error::data(source, message));
            }
            columns.push(column);
        }
        let count = columns.first().map_or(0, Vec::len);
        if i64::try_from(count) != Ok(group.metadata().num_rows()) {
            let message = format!("truncated: {count} of {} rows", group.metadata().num_rows());
            return Err(Error::data(source, message));
        }
        reserve(&mut values, count * width, source)?;
        (0..count).for_each(|i| values.extend(columns.iter().map(|column| column[i])));
        rows += count;
    }
    if rows == 0 || width == 0 {
        return Err(Error::data(source, format!("empty: {rows} rows of {width} columns")));
    }
    let got = values.len();
    Mat::from_shape_vec((rows, width), values)
        .map_err(|_| Error::shape(source, format!("{rows} × {width}"), got))
}

/// True when the bytes of a column chunk are within a file of `length` bytes.
fn inside(chunk: &ColumnChunkMetaData, length: u64) -> bool {
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
    end.and_then(|(start, size)| start.checked_add(size)).is_some_and(|end| end <= length)
}

/// Why a column cannot be a feature, with its name.
fn objection(column: &ColumnDescriptor) -> Option<String> {
    let name = name(column);
    if column.max_rep_level() > 0 {
        return Some(format!("{name} (a list)"));
    }
    let physical = column.physical_type();
    let number =
        matches!(physical, Type::BOOLEAN | Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE);
    // Dates, times and decimals are integers with a meaning that a bare number would lose.
    let plain = matches!(column.logical_type_ref(), None | Some(LogicalType::Integer(_)))
        && !matches!(
            column.converted_type(),
            ConvertedType::DECIMAL
                | ConvertedType::DATE
                | ConvertedType::TIME_MILLIS
                | ConvertedType::TIME_MICROS
                | ConvertedType::TIMESTAMP_MILLIS
                | ConvertedType::TIMESTAMP_MICROS
        );
    match (number, column.logical_type_ref()) {
        (true, _) if plain => None,
        (_, Some(logical)) => Some(format!("{name} ({})", short(&format!("{logical:?}")))),
        _ if column.converted_type() != ConvertedType::NONE => {
            Some(format!("{name} ({})", column.converted_type()))
        }
        _ => Some(format!("{name} ({physical})")),
    }
}

fn name(column: &ColumnDescriptor) -> String {
    format!("`{}`", short(&column.path().string()))
}

fn short(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn read_column(
    reader: ColumnReader,
    descriptor: &ColumnDescriptor,
    source: &str,
) -> Result<Vec<f32>> {
    let unsigned = match descriptor.logical_type_ref() {
        Some(LogicalType::Integer(integer)) => !integer.is_signed,
        _ => matches!(
            descriptor.converted_type(),
            ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64
        ),
    };
    match reader {
        ColumnReader::BoolColumnReader(r) => drain(r, descriptor, source, |v| f32::from(*v)),
        ColumnReader::Int32ColumnReader(r) if unsigned => {
            drain(r, descriptor, source, |v| v.cast_unsigned() as f32)
        }
        ColumnReader::Int32ColumnReader(r) => drain(r, descriptor, source, |v| *v as f32),
        ColumnReader::Int64ColumnReader(r) if unsigned => {
            drain(r, descriptor, source, |v| v.cast_unsigned() as f32)
        }
        ColumnReader::Int64ColumnReader(r) => drain(r, descriptor, source, |v| *v as f32),
        ColumnReader::FloatColumnReader(r) => drain(r, descriptor, source, |v| *v),
        ColumnReader::DoubleColumnReader(r) => drain(r, descriptor, source, |v| *v as f32),
        _ => Err(Error::data(source, format!("column {} is not numeric", name(descriptor)))),
    }
}

/// All values of one column of one row group.
fn drain<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    descriptor: &ColumnDescriptor,
    source: &str,
    convert: impl Fn(&T::T) -> f32,
) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let (mut block, mut levels) = (Vec::with_capacity(BLOCK), Vec::new());
    loop {
        block.clear();
        levels.clear();
        let (records, values, _) = reader
            .read_records(BLOCK, Some(&mut levels), None, &mut block)
            .map_err(|e| Error::data(source, format!("column {}: {e}", name(descriptor))))?;
        if values < records {
            let present = descriptor.max_def_level();
            let row = out.len() + levels.iter().position(|l| *l < present).unwrap_or(0);
            let message =
                format!("column {}: missing value at row {row} of its row group", name(descriptor));
            return Err(Error::data(source, message));
        }
        if records == 0 {
            return Ok(out);
        }
        grow(&mut out, block.len(), usize::MAX, source)?;
        out.extend(block.iter().map(&convert));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::array;
    use parquet::basic::Compression;
    use parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type,
    };
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn put<T: DataType>(
        group: &mut SerializedRowGroupWriter<'_, File>,
        values: &[T::T],
        levels: Option<&[i16]>,
    ) {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<T>().write_batch(values, levels, None).unwrap();
        column.close().unwrap();
    }

    type Fill<'a> = &'a dyn Fn(&mut SerializedRowGroupWriter<'_, File>);

    fn write(path: &Path, schema: &str, compression: Compression, groups: &[Fill<'_>]) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for fill in groups {
            let mut group = writer.next_row_group().unwrap();
            fill(&mut group);
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    const NUMBERS: &str =
        "message m { required float a; optional double b; required int32 c (UINT_32);
        required int64 d; required boolean e; }";

    fn numbers(group: &mut SerializedRowGroupWriter<'_, File>) {
        put::<FloatType>(group, &[1.5, 2.5], None);
        put::<DoubleType>(group, &[-0.25, 4.0], Some(&[1, 1]));
        put::<Int32Type>(group, &[-1, 7], None);
        put::<Int64Type>(group, &[-9, 10], None);
        put::<BoolType>(group, &[true, false], None);
    }

    #[test]
    fn numeric_columns_of_several_groups_and_codecs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let zstd = Compression::ZSTD(Default::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
            write(&path, NUMBERS, compression, &[&numbers, &numbers]);
            let once =
                array![[1.5f32, -0.25, 4_294_967_295.0, -9.0, 1.0], [2.5, 4.0, 7.0, 10.0, 0.0]];
            let twice = ndarray::concatenate![ndarray::Axis(0), once, once];
            assert_eq!(read(&path, "x").unwrap(), twice);
        }
        // More rows than one block.
        let n = 2 * BLOCK + 5;
        let many: Vec<f64> = (0..n).map(|i| i as f64).collect();
        write(
            &path,
            "message m { required double v; }",
            Compression::SNAPPY,
            &[&|g| {
                put::<DoubleType>(g, &many, None);
            }],
        );
        let x = read(&path, "x").unwrap();
        assert!(x.nrows() == n && x.column(0).iter().zip(&many).all(|(a, b)| *a == *b as f32));
    }

    #[test]
    fn other_columns_and_missing_values_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let schema = "message m { required float a; required binary city (UTF8); required int32 day (DATE); }";
        let fill = |g: &mut SerializedRowGroupWriter<'_, File>| {
            put::<FloatType>(g, &[1.0], None);
            put::<ByteArrayType>(g, &[ByteArray::from("x")], None);
            put::<Int32Type>(g, &[1], None);
        };
        write(&path, schema, Compression::UNCOMPRESSED, &[&fill]);
        let message = read(&path, "x").unwrap_err().to_string();
        assert!(message.contains("`city` (UTF8), `day` (Date)"), "{message}");

        write(
            &path,
            "message m { optional float v; }",
            Compression::UNCOMPRESSED,
            &[&|g| {
                put::<FloatType>(g, &[1.0, 2.0], Some(&[1, 1, 0]));
            }],
        );
        let message = read(&path, "x").unwrap_err().to_string();
        assert!(message.contains("column `v`: missing value at row 2"), "{message}");

        write(&path, "message m { required float v; }", Compression::UNCOMPRESSED, &[]);
        assert!(read(&path, "x").unwrap_err().to_string().contains("empty"));
        std::fs::write(&path, b"PAR1 and then nothing").unwrap();
        assert!(matches!(read(&path, "x"), Err(Error::Data { .. })));
    }

    #[test]
    fn damage_ends_in_an_error_or_a_matrix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        write(&path, NUMBERS, Compression::SNAPPY, &[&numbers]);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, "x").is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            std::fs::write(&path, &damaged).unwrap();
            let _ = read(&path, "x");
        }
    }
}
