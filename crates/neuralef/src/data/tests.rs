//! Tests of [`Dataset`]: views, splits, and that mapped and loaded files are the same.

use ndarray::{Axis, array, s};
use ndarray_npy::WriteNpyExt as _;
use proptest::prelude::*;

use super::npy::Npy;
use super::*;

fn numbered(n: usize, d: usize) -> Dataset {
    let x = Mat::from_shape_fn((n, d), |(i, j)| (i * d + j) as f32);
    Dataset::from_array("numbered", x).unwrap()
}

/// The same numbers, memory-mapped.
fn mapped(n: usize, d: usize) -> Dataset {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let x = numbered(n, d).range(0..n).unwrap();
    x.mapv(f64::from).write_npy(std::fs::File::create(&path).unwrap()).unwrap();
    // The name may go, the map stays.
    match npy::open(&path, 0, "mapped").unwrap() {
        Npy::Mapped(map) => Dataset::mapped("mapped", map),
        Npy::Loaded(_) => panic!("not mapped"),
    }
}

#[test]
fn any_memory_order_is_the_same_dataset() {
    let x = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let fortran = x.t().as_standard_layout().into_owned().reversed_axes();
    assert!(!fortran.is_standard_layout());
    let mut sliced = array![[0.0f32, 0.0, 0.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 7.0, 7.0]];
    sliced.slice_collapse(s![1..3, ..]);
    for y in [x.clone(), fortran, sliced] {
        assert_eq!(Dataset::from_array("x", y).unwrap().range(0..2).unwrap(), x);
    }
}

#[test]
fn bad_arrays_are_refused_with_the_place() {
    let mut x = Mat::zeros((4, 3));
    x[[2, 1]] = f32::NEG_INFINITY;
    let error = Dataset::from_array("bad", x.clone()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 2, column: 1, .. }), "{error}");
    let fortran = x.t().as_standard_layout().into_owned().reversed_axes();
    let error = Dataset::from_array("bad", fortran).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 2, column: 1, .. }), "{error}");
    for (n, d) in [(0, 3), (3, 0), (0, 0)] {
        assert!(matches!(Dataset::from_array("x", Mat::zeros((n, d))), Err(Error::Shape { .. })));
    }
}

#[test]
fn mapped_rows_are_checked_when_read_and_named_by_their_place_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut x = Mat::zeros((10, 3));
    x[[7, 2]] = f32::NAN;
    x.write_npy(std::fs::File::create(&path).unwrap()).unwrap();
    let Npy::Mapped(map) = npy::open(&path, 0, "x.npy").unwrap() else { panic!("not mapped") };
    let data = Dataset::mapped("x.npy", map);
    assert!(data.is_mapped() && data.range(0..7).is_ok());
    let view = data.subset(vec![9, 7, 1]).unwrap();
    for error in [data.range(5..10).unwrap_err(), view.rows(&[0, 1]).unwrap_err()] {
        assert!(matches!(error, Error::NonFinite { row: 7, column: 2, .. }), "{error}");
    }
}

#[test]
fn requests_outside_are_refused() {
    for data in [numbered(5, 2), mapped(5, 2)] {
        for error in [
            data.rows(&[0, 5]).unwrap_err(),
            data.range(3..6).unwrap_err(),
            #[allow(clippy::reversed_empty_ranges)]
            data.range(3..2).unwrap_err(),
            data.subset(vec![]).unwrap_err(),
            data.subset(vec![1, usize::MAX]).unwrap_err(),
        ] {
            assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
        }
        assert_eq!(data.rows(&[]).unwrap().dim(), (0, 2));
        assert_eq!(data.source_row(5), None);
    }
}

#[test]
fn split_is_a_deterministic_partition() {
    let data = Dataset::open("digits", 0).unwrap();
    let (train, held_out) = data.split(0.25, 7).unwrap();
    assert_eq!((train.len(), held_out.len()), (1348, 449));
    let rows = |d: &Dataset| (0..d.len()).map(|i| d.source_row(i).unwrap()).collect::<Vec<_>>();
    let (a, b) = (rows(&train), rows(&held_out));
    assert!(a.is_sorted() && b.is_sorted());
    let mut all = [a.clone(), b.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..1797).collect::<Vec<_>>());
    let again = data.split(0.25, 7).unwrap();
    assert_eq!((rows(&again.0), rows(&again.1)), (a.clone(), b));
    assert_ne!(rows(&data.split(0.25, 8).unwrap().0), a);
    // Labels go along.
    let labels = train.labels().unwrap();
    assert!(a.iter().zip(labels).all(|(i, l)| data.labels().unwrap()[*i] == *l));
    // A random split has about as many held out early as late: five standard errors of a
    // hypergeometric count (449 drawn of 1797, half of them early).
    let early = rows(&held_out).iter().filter(|i| **i < 898).count() as f64;
    assert!((early - 224.5).abs() < 5.0 * (449.0f64 * 0.25 * 0.75).sqrt(), "{early}");

    for fraction in [0.0, 1.0, -0.1, 1.5, 1e-9, 0.9999, f64::NAN, f64::INFINITY] {
        let error = data.split(fraction, 0).unwrap_err().to_string();
        assert!(error.contains("validation_fraction"), "{error}");
    }
    assert!(numbered(1, 1).split(0.5, 0).is_err());
    assert_eq!(numbered(2, 1).split(0.5, 0).unwrap().1.len(), 1);
}

proptest! {
    #[test]
    fn prop_views_of_views_gather_the_right_rows(
        n in 1usize..40,
        picks in proptest::collection::vec(any::<usize>(), 1..20),
        again in proptest::collection::vec(any::<usize>(), 1..20),
        from_file in any::<bool>(),
    ) {
        let data = if from_file { mapped(n, 3) } else { numbered(n, 3) };
        let whole = numbered(n, 3).range(0..n).unwrap();
        let first: Vec<_> = picks.iter().map(|i| i % n).collect();
        let second: Vec<_> = again.iter().map(|i| i % first.len()).collect();
        let view = data.subset(first.clone()).unwrap().subset(second.clone()).unwrap();
        let expected: Vec<_> = second.iter().map(|i| first[*i]).collect();
        let rows = whole.select(Axis(0), &expected);
        prop_assert_eq!(view.range(0..view.len()).unwrap(), rows.clone());
        let last = view.rows(&[view.len() - 1]).unwrap();
        prop_assert_eq!(last.row(0), rows.row(rows.nrows() - 1));
        prop_assert_eq!(view.source_row(0), Some(expected[0]));
    }
}

#[test]
fn every_synthetic_set_builds_prints_and_parses() {
    use crate::spec::{Sample, registry::assert_complete};
    assert_complete(&SYNTHETIC, &[], Sample::Missing, |set| set.text(7));
}
