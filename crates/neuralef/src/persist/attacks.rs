//! Tests of the archive reader against damaged and hostile files: nothing panics, all are refused.

use proptest::prelude::*;
use serde_json::json;

use super::Archive;
use crate::error::Error;

fn small() -> Vec<u8> {
    let mut archive = Archive::new("model", json!({"k": 2, "kernel": "rbf(lengthscale=1)"}));
    archive.put_f32("w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    archive.put_f64("mean", &[1], vec![0.5]).unwrap();
    archive.to_bytes().unwrap()
}

/// A file with `header` as its header and `data` after it.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

const META: &str = r#""__metadata__":{"neuralef":"{\"format_version\":1,\"kind\":\"model\",\"header\":null,\"writer\":\"x\"}"}"#;

/// The message of the refusal of `bytes`.
fn refusal(bytes: &[u8]) -> String {
    match Archive::from_bytes(bytes) {
        Err(Error::ModelFile { message, .. }) => message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = small();
    assert!(Archive::from_bytes(&bytes).is_ok());
    for length in 0..bytes.len() {
        let message = refusal(&bytes[..length]);
        assert!(!message.is_empty());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(refusal(&longer).contains("1 bytes follow"));
}

#[test]
fn every_flipped_byte_is_refused_or_read_without_panic() {
    let bytes = small();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            if let Ok(archive) = Archive::from_bytes(&damaged) {
                // What is accepted must be a well-formed archive: it writes and reads back equal.
                let again = Archive::from_bytes(&archive.to_bytes().unwrap()).unwrap();
                assert_eq!(again, archive);
            }
        }
    }
}

#[test]
fn handmade_attacks_are_refused_with_their_reason() {
    let tensor = |name: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let with =
        |tensors: &[String], data: &[u8]| file(&format!("{{{META},{}}}", tensors.join(",")), data);
    let own = |text: &str| file(&json!({"__metadata__": {"neuralef": text}}).to_string(), &[]);
    let version = |v: &str| own(&format!(r#"{{"format_version":{v},"future":[]}}"#));
    let zeros = [0u8; 64];
    let max = u64::MAX;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "empty"),
        (b"hello".to_vec(), "too few"),
        (b"this is plain text, nothing else".to_vec(), "not a safetensors file"),
        (max.to_le_bytes().to_vec(), "too large"),
        (file("{}", &[]), "not written by neuralef"),
        (file("", &[]), "bad header"),
        (file("[]", &[]), "bad header"),
        (file("{", &[]), "bad header"),
        (file(&"[".repeat(200_000), &[]), "bad header"),
        (file(&format!(r#"{{"a":{}}}"#, "[".repeat(200_000)), &[]), "bad header"),
        (file("{\"__metadata__\":{\"other\":\"x\"}}", &[]), "not written by neuralef"),
        (file("{\"__metadata__\":{\"neuralef\":1}}", &[]), "bad header"),
        (own("not json"), "bad `neuralef` metadata"),
        (own(&"[".repeat(10_000)), "bad `neuralef` metadata"),
        (version("2"), "newer neuralef"),
        (version("18446744073709551615"), "newer neuralef"),
        (version("0"), "unknown"),
        (version("1"), "bad `neuralef` metadata"),
        (version("-1"), "bad `neuralef` metadata"),
        (version("1.5"), "bad `neuralef` metadata"),
        (with(&[tensor("a", "[2]", 0, 8), tensor("a", "[2]", 0, 8)], &zeros[..8]), "twice"),
        (file(&format!("{{{META},{META}}}"), &[]), "twice"),
        (file(r#"{"__metadata__":{"neuralef":"a","neuralef":"b"}}"#, &[]), "twice"),
        (with(&[tensor("a", "[2]", 0, 8), tensor("b", "[2]", 4, 12)], &zeros[..12]), "start"),
        (with(&[tensor("a", "[2]", 0, 8), tensor("b", "[2]", 12, 20)], &zeros[..20]), "start"),
        (with(&[tensor("a", "[2]", 8, 0)], &zeros[..8]), "start"),
        (with(&[tensor("a", "[3]", 0, 8)], &zeros[..8]), "does not fill"),
        (with(&[tensor("a", "[4611686018427387904,4]", 0, 0)], &[]), "does not fill"),
        (with(&[tensor("a", "[18446744073709551615]", 0, 8)], &zeros[..8]), "does not fill"),
        (with(&[tensor("a", "[4611686018427387903]", 0, max - 3)], &zeros[..8]), "truncated"),
        (with(&[tensor("a", "[16]", 0, 64)], &zeros[..8]), "truncated"),
        (with(&[tensor("a", "[2]", 0, 8)], &zeros), "56 bytes follow"),
        (with(&[tensor("a", "[1,1,1,1,1,1,1,1,1]", 0, 4)], &zeros[..4]), "dimensions"),
        (with(&[tensor("a", "[-1]", 0, 8)], &zeros[..8]), "bad header"),
        (with(&[tensor("a", "[2]", 0, 8).replace("F32", "F16")], &zeros[..8]), "bad header"),
        (with(&[tensor("a", "[2]", 0, 8).replace("dtype", "type")], &zeros[..8]), "bad header"),
        (with(&[tensor("a\\n\\u001b[31m", "[3]", 0, 8)], &zeros[..8]), r"`a\n\u{1b}[31m`"),
        (with(&[tensor("a", "[1]", 0, 4)], &f32::NAN.to_le_bytes()), "element 0 is not finite"),
    ];
    for (bytes, reason) in cases {
        let message = refusal(&bytes);
        assert!(message.contains(reason), "expected `{reason}` in `{message}`");
        assert!(!message.contains('\u{1b}') && message.len() < 500, "{message}");
    }
    // Eight tensors whose sizes add up to nearly 2^64: the sum itself must not overflow.
    let eighth = (1u64 << 61) - 4;
    let tensors: Vec<_> = (0..8u64)
        .map(|i| {
            tensor(&format!("t{i}"), &format!("[{}]", eighth / 4), i * eighth, (i + 1) * eighth)
        })
        .collect();
    assert!(refusal(&with(&tensors, &zeros)).contains("truncated"));
}

#[test]
fn paths_that_are_no_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Archive::read(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");
    let missing = Archive::read(dir.path().join("missing")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, [0xa5; 1000]).unwrap();
    let error = Archive::read(&garbage).unwrap_err();
    assert!(matches!(&error, Error::ModelFile { path, .. } if *path == garbage), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Archive::from_bytes(&bytes);
    }

    #[test]
    fn random_headers_never_panic(header in "[\\[\\]{}\",:0-9a-z_]{0,80}", data in 0usize..40) {
        let _ = Archive::from_bytes(&file(&header, &vec![0; data]));
    }

    #[test]
    fn several_damaged_bytes_never_panic(hits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = small();
        for (at, value) in hits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = Archive::from_bytes(&bytes);
    }

    #[test]
    fn prop_what_is_put_comes_back(
        names in proptest::collection::btree_set("\\PC{1,12}", 0..6),
        seed in any::<u32>(),
    ) {
        let mut archive = Archive::new("checkpoint", json!({ "seed": seed }));
        for (i, name) in names.iter().enumerate() {
            archive.put_f64(name.clone(), &[i, 2], vec![f64::from(seed) / 3.0; 2 * i]).unwrap();
        }
        let back = Archive::from_bytes(&archive.to_bytes().unwrap()).unwrap();
        for (i, name) in names.iter().enumerate() {
            prop_assert_eq!(back.f64(name, &[i, 2]).unwrap(), archive.f64(name, &[i, 2]).unwrap());
        }
        prop_assert_eq!(back.to_bytes().unwrap(), archive.to_bytes().unwrap());
    }
}
