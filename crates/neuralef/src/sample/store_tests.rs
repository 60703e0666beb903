//! Tests of feature files: any way of filling gives one file, and none is mixed up with another.

use ndarray::s;
use serde_json::json;

use super::*;
use crate::Dataset;
use crate::data::NpyWriter;
use crate::matrix::Mat;

const ROWS: usize = 23;
const COLUMNS: usize = 11;

fn values() -> Mat {
    Mat::from_shape_fn((ROWS, COLUMNS), |(i, j)| (i * COLUMNS + j) as f32 / 7.0 - 9.0)
}

fn layout(dtype: Dtype, fill: Fill) -> FeatureLayout {
    FeatureLayout { rows: ROWS, columns: COLUMNS, dtype, fill }
}

fn work() -> Value {
    json!({"kind": "test", "seed": 1})
}

/// The next `n` rows or columns of `x`.
fn next(x: &Mat, fill: Fill, from: usize, n: usize) -> MatRef<'_> {
    match fill {
        Fill::Rows => x.slice(s![from..(from + n).min(ROWS), ..]),
        Fill::Columns => x.slice(s![.., from..(from + n).min(COLUMNS)]),
    }
}

/// Opens the store, and fills it until `stop` rows or columns are there.
fn fill(path: &Path, layout: &FeatureLayout, n: usize, stop: usize) -> Result<FeatureStore> {
    let x = values();
    let mut store = FeatureStore::open(path, layout, work())?;
    while !store.is_complete() && store.done() < stop {
        store.write(next(&x, layout.fill, store.done(), n))?;
    }
    Ok(store)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn rows_and_columns_in_any_pieces_and_runs_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F32, Dtype::F16] {
        let plain = dir.path().join("plain.npy");
        let mut writer = NpyWriter::create_as(&plain, COLUMNS, dtype).unwrap();
        writer.append(values().view()).unwrap();
        writer.finish().unwrap();
        for by in [Fill::Rows, Fill::Columns] {
            for (n, stop) in [(1, 5), (3, 6), (4, 8), (100, 100)] {
                let path = dir.path().join(format!("{dtype}{}{n}.npy", by.name()));
                drop(fill(&path, &layout(dtype, by), n, stop).unwrap());
                assert!(!path.exists());
                let store = fill(&path, &layout(dtype, by), n + 1, usize::MAX).unwrap();
                assert!(!path.exists());
                store.finish().unwrap();
                assert_eq!(fs::read(&path).unwrap(), fs::read(&plain).unwrap());
                let data = Dataset::open(path.to_str().unwrap(), 0).unwrap();
                assert_eq!((data.len(), data.width()), (ROWS, COLUMNS));
            }
        }
    }
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".partial")));
}

#[test]
fn what_was_written_after_the_last_record_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    for by in [Fill::Rows, Fill::Columns] {
        let path = dir.path().join(by.name());
        let record = companion(&path, ".json");
        drop(fill(&path, &layout(Dtype::F16, by), 2, 4).unwrap());
        let early = fs::read(&record).unwrap();
        let mut store = fill(&path, &layout(Dtype::F16, by), 2, 8).unwrap();
        store.save().unwrap();
        // Killed before that: rubbish where the record does not reach.
        let garbage = Mat::from_elem(next(&values(), by, 8, 2).dim(), 7.0);
        store.write(garbage.view()).unwrap();
        drop(store);
        assert_ne!(fs::read(&record).unwrap(), early);
        fs::write(&record, &early).unwrap();
        fill(&path, &layout(Dtype::F16, by), 3, usize::MAX).unwrap().finish().unwrap();
    }
    let read = |by: Fill| fs::read(dir.path().join(by.name())).unwrap();
    assert_eq!(read(Fill::Rows), read(Fill::Columns));
}

#[test]
fn a_complete_file_is_used_again_and_one_of_other_work_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let rows = layout(Dtype::F32, Fill::Rows);
    fill(&path, &rows, 5, usize::MAX).unwrap().finish().unwrap();
    let before = fs::read(&path).unwrap();
    // However it would be filled now.
    for by in [Fill::Rows, Fill::Columns] {
        let store = FeatureStore::open(&path, &layout(Dtype::F32, by), work()).unwrap();
        assert!(store.is_complete());
        store.finish().unwrap();
    }
    let refuse = |layout: &FeatureLayout, work: Value, parts: &[&str]| {
        let message = FeatureStore::open(&path, layout, work).unwrap_err().to_string();
        assert!(parts.iter().all(|p| message.contains(p)), "{message}");
        assert_eq!(names(dir.path()), ["x.npy", "x.npy.json"]);
    };
    refuse(&rows, json!({"kind": "test", "seed": 2}), &["seed", "1 of the features in", "got 2"]);
    refuse(&rows, json!({"kind": "test"}), &["seed", "got null"]);
    refuse(&rows, json!({"kind": "test", "seed": 1, "new": 3}), &["new", "got 3"]);
    refuse(&rows, json!(3), &["work"]);
    refuse(&layout(Dtype::F16, Fill::Rows), work(), &["dtype", "f32"]);
    refuse(&FeatureLayout { rows: 24, ..rows.clone() }, work(), &["rows", "23"]);
    refuse(&FeatureLayout { columns: 0, ..rows.clone() }, work(), &["23 × 0"]);
    let huge = FeatureLayout { rows: usize::MAX, ..rows.clone() };
    refuse(&huge, work(), &["in a file"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    // A number that changed in the middle is noticed.
    let mut other = before.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    fs::write(&path, &other).unwrap();
    refuse(&rows, work(), &["not the features", "x.npy.json"]);
    // The file gone, its record stands for nothing: other work may have the name.
    fs::remove_file(&path).unwrap();
    let store = FeatureStore::open(&path, &rows, json!({"seed": 2})).unwrap();
    assert_eq!(store.done(), 0);
}

#[test]
fn unfinished_files_are_guarded_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let (record, partial) = (companion(&path, ".json"), companion(&path, ".partial"));
    let rows = layout(Dtype::F32, Fill::Rows);
    let refuse = |layout: &FeatureLayout, work: Value, part: &str| {
        let message = FeatureStore::open(&path, layout, work).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let store = fill(&path, &rows, 2, 4).unwrap();
    refuse(&rows, work(), "another process is filling it");
    assert!(store.finish().is_err());
    refuse(&rows, json!({"seed": 9}), "seed");
    refuse(&layout(Dtype::F32, Fill::Columns), work(), "fill");
    let (whole, text) = (fs::read(&partial).unwrap(), fs::read_to_string(&record).unwrap());
    fs::write(&partial, &whole[..200]).unwrap();
    refuse(&rows, work(), "200 bytes");
    fs::write(&partial, &whole).unwrap();
    for (bad, part) in [
        ("", "not a record of features"),
        ("{}", "not a record of features"),
        ("[1", "not a record of features"),
        (&text.replace("\"done\": 2", "\"done\": 24"), "24 of 23"),
        (&text.replace("\"done\": 2", "\"done\": -1"), "not a record"),
        (&text.replace("features\": 1", "features\": 2"), "version 2"),
        (&text.replace("\"rows\": 23", "\"rows\": 18446744073709551615"), "rows"),
        (&format!("{text}{}", " ".repeat(2 << 20)), "not a record"),
    ] {
        assert_ne!(bad, text);
        fs::write(&record, bad).unwrap();
        // A record cut off at its bound still reads when only blanks were lost.
        if bad.len() > 1 << 20 {
            assert!(FeatureStore::open(&path, &rows, work()).is_ok());
        } else {
            refuse(&rows, work(), part);
        }
    }
    fs::remove_file(&record).unwrap();
    refuse(&rows, work(), "there is no");
    fs::write(&record, text).unwrap();
    fill(&path, &rows, 7, usize::MAX).unwrap().finish().unwrap();
    assert_eq!(names(dir.path()), ["x.npy", "x.npy.json"]);
    assert!(matches!(FeatureStore::open(dir.path(), &rows, work()), Err(Error::Io { .. })));
}

#[test]
fn a_run_that_ended_between_the_last_record_and_the_name_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let rows = layout(Dtype::F16, Fill::Rows);
    fill(&path, &rows, 5, usize::MAX).unwrap().finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::rename(&path, companion(&path, ".partial")).unwrap();
    let store = FeatureStore::open(&path, &rows, work()).unwrap();
    assert!(store.is_complete());
    store.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn bad_blocks_leave_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let x = values();
    for by in [Fill::Rows, Fill::Columns] {
        let path = dir.path().join(by.name());
        let mut store = fill(&path, &layout(Dtype::F16, by), 2, 2).unwrap();
        let mut bad = next(&x, by, 2, 2).to_owned();
        let at = [bad.nrows() - 1, 1];
        bad[at] = f32::NAN;
        let error = store.write(bad.view()).unwrap_err();
        let (row, column) = match by {
            Fill::Rows => (3, 1),
            Fill::Columns => (ROWS - 1, 3),
        };
        assert!(
            matches!(error, Error::NonFinite { row: r, column: c, .. } if (r, c) == (row, column)),
            "{error}"
        );
        bad[at] = 1e6;
        assert!(store.write(bad.view()).unwrap_err().to_string().contains("f16"));
        assert!(matches!(store.write(x.slice(s![..3, ..4])), Err(Error::Shape { .. })));
        assert!(matches!(store.write(x.view()), Err(Error::Shape { .. })));
        assert_eq!(store.done(), 2);
        drop(store);
        fill(&path, &layout(Dtype::F16, by), 2, usize::MAX).unwrap().finish().unwrap();
    }
    let read = |by: Fill| fs::read(dir.path().join(by.name())).unwrap();
    assert_eq!(read(Fill::Rows), read(Fill::Columns));
}

#[test]
fn a_store_with_nothing_in_it_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let (record, partial) = (companion(&path, ".json"), companion(&path, ".partial"));
    let half = layout(Dtype::F16, Fill::Rows);
    let mut store = FeatureStore::open(&path, &half, work()).unwrap();
    let text = fs::read(&record).unwrap();
    assert!(store.write(Mat::from_elem((1, COLUMNS), 1e6).view()).is_err());
    drop(store);
    assert_eq!(names(dir.path()), [""; 0]);
    // As a killed process leaves it, cut short even: other work may have the name.
    fs::write(&record, text).unwrap();
    fs::write(&partial, b"cut").unwrap();
    let columns = layout(Dtype::F32, Fill::Columns);
    let store = FeatureStore::open(&path, &columns, json!({"seed": 2})).unwrap();
    // Nobody else meanwhile.
    assert!(FeatureStore::open(&path, &half, work()).is_err());
    drop(store);
    fill(&path, &columns, 4, usize::MAX).unwrap().finish().unwrap();
    assert_eq!(names(dir.path()), ["x.npy", "x.npy.json"]);
}
