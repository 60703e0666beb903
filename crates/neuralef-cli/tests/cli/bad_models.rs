//! Model files that are truncated, foreign or hostile: refused, with the file named.

use neuralef::persist::Archive;
use serde_json::{Value, json};

use crate::common::{Folder, TINY};

/// A directory with the model `model` of two columns.
fn fitted(options: &str) -> Folder {
    let dir = Folder::new();
    dir.ok(&format!("fit two_moons(n=100) {TINY} -o model {options}"));
    dir
}

/// The three commands that read the file `bad` all refuse it.
fn refused(dir: &Folder, parts: &[&str]) {
    let parts = [&["bad: not a usable neuralef file"], parts].concat();
    dir.refused("inspect bad", &parts);
    dir.refused("transform bad two_moons(n=20) -o y.npy", &parts);
}

#[test]
fn truncated_at_any_length() {
    let dir = fitted("");
    let whole = dir.bytes("model");
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut lengths = vec![0, 1, 7, 8, 9, header / 2, header + 7, header + 8, header + 9];
    lengths.extend((1..8).map(|i| i * whole.len() / 8));
    lengths.push(whole.len() - 1);
    for length in lengths {
        dir.put("bad", &whole[..length]);
        let ran = dir.refused("inspect bad", &["bad: not a usable neuralef file"]);
        assert!(ran.stderr.len() < 400, "{ran:?}");
    }
    dir.put("bad", &[&whole[..], &[0]].concat());
    refused(&dir, &["1 bytes follow"]);
    std::fs::create_dir(dir.path("folder")).unwrap();
    dir.refused("inspect folder", &["folder", "a directory"]);
    dir.refused("inspect missing", &["missing", "No such file"]);
}

#[test]
fn bytes_of_another_kind() {
    let dir = fitted("--checkpoint c --checkpoint-every 10");
    dir.refused("inspect c", &["c: not a usable neuralef file", "this is a `checkpoint`"]);
    let noise: Vec<u8> =
        (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    dir.put("bad", &noise);
    refused(&dir, &[]);
    dir.put("bad", &[&[0xff; 8][..], b"{}"].concat());
    refused(&dir, &["header"]);
    dir.put("bad", &[&(1u64 << 62).to_le_bytes()[..], &noise].concat());
    refused(&dir, &["header"]);
    dir.put("bad", &[&2u64.to_le_bytes()[..], b"{}"].concat());
    refused(&dir, &["not written by neuralef"]);
    // Every byte of the header changed in turn, a few at a time, and tensors made NaN.
    let whole = dir.bytes("model");
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut changed = whole.clone();
        changed[at..(at + 3).min(whole.len())].fill(0xff);
        dir.put("bad", &changed);
        let ran = dir.run("inspect bad");
        assert!(ran.code == Some(1) || ran.code == Some(0), "{ran:?}");
        assert!(ran.stderr.lines().count() <= 1, "{ran:?}");
    }
}

/// Tensors as a list that a test edits.
type Tensors = Vec<(String, Vec<usize>, Values)>;

#[derive(Clone)]
enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

fn tensors(archive: &Archive) -> Tensors {
    let one = |name: &str| {
        let shape = archive.shape(name).unwrap().to_vec();
        let values = match archive.f32(name, &shape) {
            Ok(v) => Values::F32(v.to_vec()),
            Err(_) => Values::F64(archive.f64(name, &shape).unwrap().to_vec()),
        };
        (name.to_string(), shape, values)
    };
    archive.names().map(one).collect()
}

/// Writes `bad`: the model after `edit`, a valid file of its format.
fn forge(dir: &Folder, edit: impl FnOnce(&mut Value, &mut Tensors)) {
    let model = dir.archive("model");
    let (mut header, mut list) = (model.header.clone(), tensors(&model));
    edit(&mut header, &mut list);
    let mut archive = Archive::new("model", header);
    for (name, shape, values) in list {
        match values {
            Values::F32(v) => archive.put_f32(name, &shape, v).unwrap(),
            Values::F64(v) => archive.put_f64(name, &shape, v).unwrap(),
        }
    }
    archive.write(dir.path("bad")).unwrap();
}

fn find<'a>(list: &'a mut Tensors, name: &str) -> &'a mut (String, Vec<usize>, Values) {
    list.iter_mut().find(|t| t.0 == name).unwrap()
}

#[test]
fn tensors_that_do_not_belong_together() {
    let dir = fitted("--standardize");
    forge(&dir, |_, _| {});
    assert_eq!(dir.bytes("bad"), dir.bytes("model"));
    let names: Vec<String> = dir.archive("model").names().map(str::to_string).collect();
    for name in &names {
        forge(&dir, |_, list| list.retain(|t| t.0 != *name));
        refused(&dir, &[name, "missing"]);
        forge(&dir, |_, list| find(list, name).0 = format!("{name}x"));
        refused(&dir, &[name, "missing"]);
        forge(&dir, |_, list| {
            let tensor = find(list, name);
            let size: usize = tensor.1.iter().product();
            tensor.1 = vec![size, 1, 1];
        });
        refused(&dir, &[name]);
        forge(&dir, |_, list| {
            let tensor = find(list, name);
            tensor.2 = match &tensor.2 {
                Values::F32(v) => Values::F64(v.iter().map(|v| f64::from(*v)).collect()),
                Values::F64(v) => Values::F32(v.iter().map(|v| *v as f32).collect()),
            };
        });
        refused(&dir, &[name, "expected f"]);
        forge(&dir, |_, list| {
            let tensor = find(list, name);
            tensor.1[0] += 1;
            let row = tensor.1[1..].iter().product::<usize>();
            match &mut tensor.2 {
                Values::F32(v) => v.extend(vec![1.0; row]),
                Values::F64(v) => v.extend(vec![1.0; row]),
            }
        });
        refused(&dir, &[]);
    }
    forge(&dir, |_, list| {
        find(list, "standardizer.scale").2 = Values::F64(vec![1.0, -1.0]);
    });
    refused(&dir, &["scale"]);
    // Eigenvalues that are not the header's, or are none.
    for values in [[3.0, 2.0, 1.0], [-1.0, -2.0, -3.0], [0.1, 0.2, 0.3]] {
        forge(&dir, |_, list| find(list, "eigenvalues").2 = Values::F64(values.to_vec()));
        refused(&dir, &["eigenvalues"]);
    }
}

#[test]
fn headers_that_ask_for_the_impossible() {
    /// Of whatever is found first.
    const UNUSABLE: &str = "not a usable neuralef file";
    let dir = fitted("");
    let edited = |pointer: &str, value: Value| {
        forge(&dir, |header, _| *header.pointer_mut(pointer).unwrap() = value);
    };
    for (pointer, value, part) in [
        ("/spec/n_components", json!(4), "network.3"),
        ("/spec/n_components", json!(2), UNUSABLE),
        ("/spec/n_components", json!(0), UNUSABLE),
        ("/spec/n_components", json!(1u64 << 40), UNUSABLE),
        ("/spec/n_components", json!(-1), "header"),
        ("/spec/network", json!("mlp(hidden=[8], activation=tanh"), "expected"),
        ("/spec/network", json!("mlp(hidden=[16384, 16384], activation=tanh)"), UNUSABLE),
        ("/spec/network", json!("mlp(hidden=[16384, 12000], activation=tanh)"), UNUSABLE),
        ("/spec/network", json!("mlp(hidden=[7], activation=tanh)"), "network.0"),
        ("/spec/network", json!(3), "header"),
        ("/spec/method", json!("magic"), "magic"),
        ("/spec/method", json!("nystrom"), "landmarks"),
        ("/spec/readout", json!("ritz"), "readout.weights"),
        ("/spec/standardize", json!(true), "standardizer"),
        ("/spec", json!(null), "header"),
        ("/n_features", json!(3), "sizes"),
        ("/n_features", json!(u64::MAX), UNUSABLE),
        ("/eigenvalues", json!([0.5]), UNUSABLE),
        ("/eigenvalues", json!([]), UNUSABLE),
        ("/eigenvalues", json!(["a"]), "header"),
        ("/certificate/pairs", json!([]), "sizes"),
        ("/kernel", json!(7), "header"),
    ] {
        edited(pointer, value.clone());
        refused(&dir, &[part]);
    }
    // A kernel is only needed where it is evaluated.
    edited("/kernel", json!("rbff"));
    dir.refused("eval bad two_moons(n=20)", &["rbff"]);
    edited("/kernel", json!("rbf(lengthscale=median)"));
    dir.refused("eval bad two_moons(n=20)", &["lengthscale"]);
    edited("/kernel", json!(null));
    dir.refused("eval bad two_moons(n=20)", &["not supported"]);
    // Text from a file is shown without control characters.
    edited("/data", json!("x\u{1b}[31m\n\u{7}y"));
    let text = dir.ok("inspect bad").stdout;
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn nystrom_models_are_checked_too() {
    let dir = fitted("--method nystrom(landmarks=40)");
    for name in ["landmarks", "projection", "eigenvalues"] {
        forge(&dir, |_, list| list.retain(|t| t.0 != name));
        refused(&dir, &[name, "missing"]);
    }
    for (pointer, value) in [
        ("/kernel", json!("rbf(lengthscale=median)")),
        ("/kernel", json!("rbff")),
        ("/kernel", json!("brownian")),
        ("/kernel", json!(null)),
        ("/spec/method", json!("neuralef")),
    ] {
        forge(&dir, |header, _| *header.pointer_mut(pointer).unwrap() = value);
        refused(&dir, &[]);
    }
    forge(&dir, |_, list| find(list, "eigenvalues").2 = Values::F64(vec![0.1, 0.2, 0.3]));
    refused(&dir, &["eigenvalues"]);
    // Finite tensors whose products are not: no infinity reaches the output.
    forge(&dir, |_, list| {
        if let Values::F64(v) = &mut find(list, "projection").2 {
            v.fill(1e300);
        }
    });
    dir.refused("transform bad two_moons(n=20) -o y.npy", &[]);
}
