//! Tests of the `.npy` reader: files written by hand and by an independent writer.

use std::path::PathBuf;

use ndarray::{Array, Array2, Array3, ShapeBuilder as _, array};
use ndarray_npy::WriteNpyExt as _;

use super::*;

/// A `.npy` file of version 1 with the given dictionary.
fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((dictionary.len() as u16).to_le_bytes());
    out.extend(dictionary.as_bytes());
    out.extend(data);
    out
}

fn dictionary(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

fn bytes<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    values.into_iter().flatten().collect()
}

/// What [`open`] gives for a file of `contents`, loaded and mapped: both must agree.
fn both(contents: &[u8]) -> Result<Mat> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("x.npy");
    std::fs::write(&path, contents).unwrap();
    let loaded = match open(&path, u64::MAX, "x.npy")? {
        Npy::Loaded(x) => x,
        Npy::Mapped(_) => panic!("mapped a small file"),
    };
    if let Npy::Mapped(map) = open(&path, 0, "x.npy")? {
        let mut values = Vec::new();
        (0..map.rows()).for_each(|i| map.push_row(i, &mut values).unwrap());
        assert_eq!(loaded, Mat::from_shape_vec((map.rows(), map.width()), values).unwrap());
        assert!(map.push_row(map.rows(), &mut Vec::new()).is_err());
    }
    assert_eq!(read(contents, "x.npy").unwrap(), loaded);
    Ok(loaded)
}

fn refusal(contents: &[u8]) -> String {
    both(contents).unwrap_err().to_string()
}

#[test]
fn every_dtype_and_byte_order_reads_the_same_matrix() {
    let expected = array![[1.0f32, 2.0, 3.0], [100.0, 5.0, 6.0]];
    let v = [1u8, 2, 3, 100, 5, 6];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("<f2", bytes(v.map(|x| half::f16::from(x).to_le_bytes()))),
        (">f2", bytes(v.map(|x| half::f16::from(x).to_be_bytes()))),
        ("<f4", bytes(v.map(|x| f32::from(x).to_le_bytes()))),
        (">f4", bytes(v.map(|x| f32::from(x).to_be_bytes()))),
        ("<f8", bytes(v.map(|x| f64::from(x).to_le_bytes()))),
        (">f8", bytes(v.map(|x| f64::from(x).to_be_bytes()))),
        ("|u1", v.to_vec()),
        ("|i1", v.to_vec()),
        ("<i2", bytes(v.map(|x| i16::from(x).to_le_bytes()))),
        (">u2", bytes(v.map(|x| u16::from(x).to_be_bytes()))),
        ("<i4", bytes(v.map(|x| i32::from(x).to_le_bytes()))),
        (">i8", bytes(v.map(|x| i64::from(x).to_be_bytes()))),
        ("<u8", bytes(v.map(|x| u64::from(x).to_le_bytes()))),
        ("<u4", bytes(v.map(|x| u32::from(x).to_le_bytes()))),
    ];
    for (descr, data) in cases {
        assert_eq!(both(&file(&dictionary(descr, "False", "(2, 3)"), &data)).unwrap(), expected);
    }
    let fortran = bytes([1.0f32, 100.0, 2.0, 5.0, 3.0, 6.0].map(f32::to_le_bytes));
    assert_eq!(both(&file(&dictionary("<f4", "True", "(2, 3)"), &fortran)).unwrap(), expected);
    let bits = both(&file(&dictionary("|b1", "False", "(2L, 1)"), &[0, 1])).unwrap();
    assert_eq!(bits, array![[0.0f32], [1.0]]);
}

#[test]
fn an_independent_writer_agrees_for_every_rank_and_order() {
    let written = |x: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        x(&mut out);
        both(&out).unwrap()
    };
    let v = Array::linspace(0.0, 1.0, 7);
    let x = written(&|out| v.write_npy(out).unwrap());
    assert_eq!(x, v.mapv(|a| a as f32).insert_axis(ndarray::Axis(1)));
    let images = Array3::from_shape_fn((5, 3, 2), |(i, j, k)| (100 * i + 10 * j + k) as i32);
    let flat = Array2::from_shape_fn((5, 6), |(i, c)| (100 * i + 10 * (c / 2) + c % 2) as f32);
    assert_eq!(written(&|out| images.write_npy(out).unwrap()), flat);
    let mut fortran = Array3::zeros((5, 3, 2).f());
    fortran.assign(&images);
    assert_eq!(written(&|out| fortran.write_npy(out).unwrap()), flat);
}

#[test]
fn other_layouts_of_the_header_are_read() {
    let data = bytes([1.0f32, 2.0].map(f32::to_le_bytes));
    let expected = array![[1.0f32], [2.0]];
    for text in [
        "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<f4\"}",
        "{ 'fortran_order' : True , 'descr' : '<f4' , 'shape' : ( 2 , 1 ) }   \n",
    ] {
        assert_eq!(both(&file(text, &data)).unwrap(), expected, "{text}");
    }
    // Version 2: four bytes of length.
    let text = dictionary("<f4", "False", "(2,)");
    let mut v2 = b"\x93NUMPY\x02\x00".to_vec();
    v2.extend((text.len() as u32).to_le_bytes());
    v2.extend(text.as_bytes());
    v2.extend(&data);
    assert_eq!(both(&v2).unwrap(), expected);
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let ok = dictionary("<f4", "False", "(2, 2)");
    let shape = |s: &str| file(&dictionary("<f4", "False", s), &[0; 16]);
    let descr = |d: &str| file(&dictionary(d, "False", "(2, 2)"), &[0; 16]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "empty"),
        (b"1,2,3\n4,5,6\n".to_vec(), "not a .npy file"),
        (b"\x93NUMPY\x09\x00abc".to_vec(), "unknown .npy version 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "at most 65536"),
        (file(&ok, &[0; 15]), "truncated: 15 of 16 bytes"),
        (file(&ok, &[0; 17]), "1 bytes follow"),
        (descr("<c8"), "dtype `<c8` is not supported"),
        (descr("|O"), "dtype `|O`"),
        (descr("<U3"), "dtype `<U3`"),
        (descr("<f16"), "dtype `<f16`"),
        (
            file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", &[]),
            "structured",
        ),
        (shape("()"), "a single number"),
        (shape("(0, 3)"), "empty array"),
        (shape("(-1, 3)"), "whole numbers"),
        (shape("(99999999999999999999, 3)"), "whole numbers"),
        (shape("(9223372036854775807, 9223372036854775807)"), "impossible shape"),
        (shape("(1152921504606846975, 2)"), "truncated"),
        (shape("(((((2"), "whole numbers"),
        (file("{'descr': '<f4', 'shape': (2,)}", &[]), "`fortran_order` is missing"),
        (file("{'descr': '<f4', 'descr': '<f4'}", &[]), "`descr` is given twice"),
        (file("{'other': 1}", &[]), "unknown key `other`"),
        (file("", &[]), "expected `{`"),
        (file("{'descr", &[]), "does not end"),
    ];
    for (contents, reason) in cases {
        let message = refusal(&contents);
        assert!(message.contains(reason), "expected `{reason}` in `{message}`");
    }
    let whole = file(&ok, &[0; 16]);
    for length in 0..whole.len() {
        assert!(both(&whole[..length]).is_err(), "{length}");
        assert!(read(&whole[..length], "x").is_err(), "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn damaged_headers_never_panic(at in 0usize..90, value in 0u8..=255, cut in 0usize..90) {
        let mut contents = file(&dictionary("<f4", "False", "(2, 2)"), &[0; 16]);
        let n = contents.len();
        contents[at % n] = value;
        let _ = read(&contents[..], "x");
        let _ = read(&contents[..cut % n], "x");
    }
}
