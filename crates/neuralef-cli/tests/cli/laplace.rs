//! Posteriors of trained networks at the command line.

use ndarray::{Array2, Axis};
use neuralef::NetworkSpec;
use neuralef::nn::write_weights;
use serde_json::Value;

use crate::common::{Folder, numbers, points};

const NETWORK: &str = "mlp(hidden=[6],activation=tanh)";

/// A network of 2 inputs and `outputs` outputs with weights that are not small, in `net.safetensors`.
fn network(dir: &Folder, outputs: usize) {
    let spec: NetworkSpec = NETWORK.parse().unwrap();
    let mut network = spec.build(2, 1, outputs, 1).unwrap();
    for (i, w) in network.parameters_mut().units_mut()[0].iter_mut().enumerate() {
        *w += 0.5 * (1.3 * i as f32).cos();
    }
    write_weights(&*network, dir.path("net.safetensors")).unwrap();
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

#[test]
fn sources_in_one_table_files_and_predictions() {
    let dir = Folder::new();
    network(&dir, 2);
    let line = format!(
        "laplace net.safetensors --architecture {NETWORK} --train two_moons(n=300,noise=0.2) \
         --eval two_moons(n=200,noise=0.2) --ood gaussian(n=100,d=2)"
    );
    let sources = "--source map --source last-layer --source last-layer(structure=diagonal) \
                   --source kfac --source diag --source ella(components=4,landmarks=50) \
                   --source random(components=4) \
                   --source neuralef(components=3,points=60,samples=100)";
    let found = dir.json(&format!("{line} {sources} --figure r.svg"));
    let rows = found["sources"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "{found}");
    // The mean is the network's, whatever is uncertain; probit cannot change who is first of two.
    let accuracy = number(&rows[0], "/eval/accuracy");
    for row in rows {
        assert!((number(row, "/eval/accuracy") - accuracy).abs() < 0.02, "{row}");
        assert!(number(row, "/eval/nll").is_finite() && number(row, "/ood/entropy/auroc") <= 1.0);
    }
    assert_eq!(rows[0]["prior_precision"], Value::Null);
    assert_eq!(rows[0]["ood"]["variance"], Value::Null);
    assert!(number(&rows[1], "/effective_parameters") <= 14.0);
    assert!(String::from_utf8_lossy(&dir.bytes("r.svg")).contains("calibrated"));
    let text = dir.ok(&format!("{line} --source last-layer --predictive mean_field")).stdout;
    for part in ["last_layer(structure=full)", "NLL", "adaptive ECE", "AUROC", "*"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }

    // A posterior from a file gives the same predictions, and needs nothing else.
    let saved = dir.json(&format!("{line} --source ella(components=4,landmarks=50) -o p.nef"));
    assert_eq!(saved["sources"][0]["eval"], rows[5]["eval"]);
    std::fs::remove_file(dir.path("net.safetensors")).unwrap();
    let text = dir.ok("inspect p.nef").stdout;
    assert!(text.contains("ella(components=4, landmarks=50)"), "{text}");
    assert_eq!(dir.json("inspect p.nef")["n_samples"], 300);
    dir.npy("x.npy", &points(30, 2));
    dir.ok("predict p.nef x.npy -o p.npy --variances v.npy");
    let (p, v) = (dir.array("p.npy"), dir.array("v.npy"));
    assert_eq!((p.dim(), v.dim()), ((30, 2), (30, 2)));
    assert!(p.sum_axis(Axis(1)).iter().all(|s| (s - 1.0).abs() < 1e-6));
    assert!(v.iter().all(|v| *v > 0.0));
    dir.npy("one.npy", &points(30, 2).slice(ndarray::s![7..8, ..]).to_owned());
    dir.ok("predict p.nef one.npy -o q.npy");
    assert_eq!(dir.array("q.npy").row(0), p.row(7));
}

#[test]
fn regression_and_tuning() {
    let dir = Folder::new();
    network(&dir, 1);
    let x = points(200, 2);
    let y = x.map_axis(Axis(1), |r| r[0] - 0.3 * r[1]).insert_axis(Axis(1));
    dir.npy("x.npy", &x);
    dir.npy("y.npy", &y);
    let line = format!(
        "laplace net.safetensors --architecture {NETWORK} --task regression --train x.npy \
         --train-targets y.npy --eval x.npy --eval-targets y.npy --source last-layer"
    );
    let found = dir.json(&line);
    let row = &found["sources"][0];
    // The noise makes up for the error of a network that was never trained.
    let (noise, rmse) = (number(row, "/noise_variance"), number(row, "/eval/rmse"));
    assert!((noise.sqrt() / rmse - 1.0).abs() < 0.2, "{row}");
    assert_eq!(numbers(&serde_json::json!([row["eval"]["points"]])), [200.0]);
    let tuned = dir.json(&format!(
        "{line} --tune nll --tune-temperature --validation x.npy --validation-targets y.npy"
    ));
    assert!(number(&tuned["sources"][0], "/eval/nll") <= number(row, "/eval/nll") + 1e-9);
    assert!(dir.ok(&line).stdout.contains("RMSE"));
}

#[test]
fn pixels_are_preprocessed_by_channel() {
    let dir = Folder::new();
    network(&dir, 2);
    let x = points(50, 2);
    dir.npy("x.npy", &x);
    // (x/255 − mean)/std undone.
    let raw = Array2::from_shape_fn(x.dim(), |(i, j)| {
        255.0 * (x[[i, j]] * [0.5, 2.0][j] + [0.25, -1.0][j])
    });
    dir.npy("raw.npy", &raw);
    dir.npy("y.npy", &Array2::from_shape_fn((50, 1), |(i, _)| (i % 2) as f32));
    let line = |data: &str| {
        format!(
            "laplace net.safetensors --architecture {NETWORK} --train {data} --train-targets y.npy \
             --eval {data} --eval-targets y.npy --source map"
        )
    };
    let plain = dir.json(&line("x.npy"));
    let input = "--input-divisor 255 --input-mean 0.25,-1 --input-std 0.5,2";
    let seen = dir.json(&format!("{} {input}", line("raw.npy")));
    let nll = |found: &Value| number(found, "/sources/0/eval/nll");
    // Single precision of the raw numbers.
    assert!((nll(&plain) / nll(&seen) - 1.0).abs() < 1e-5, "{plain} {seen}");
}

#[test]
fn bad_input_is_refused() {
    let dir = Folder::new();
    network(&dir, 2);
    dir.npy("x.npy", &points(20, 2));
    dir.npy("y.npy", &Array2::from_elem((20, 1), 2.0));
    dir.npy("z.npy", &Array2::from_elem((20, 1), -1.0));
    let line = format!("laplace net.safetensors --architecture {NETWORK} --train two_moons(n=50)");
    for (options, parts) in [
        ("--source kfack", &["did you mean `kfac`"][..]),
        ("--source ella(component=3)", &["did you mean `components`"]),
        ("--source map --source diag -o p.nef", &["--output", "one --source"]),
        ("--noise-variance 1", &["--noise-variance"]),
        ("--prior-precision 0 --source diag", &["prior_precision", "positive"]),
        ("--temperature -1", &["temperature", "positive"]),
        ("--eval x.npy", &["without labels", "--eval-targets"]),
        ("--eval x.npy --eval-targets y.npy --source map", &["labels", "0 to 1"]),
        ("--eval x.npy --eval-targets z.npy --source map", &["from 0, got -1"]),
        ("--input-mean 1,2,3", &["--input-mean", "divides 2"]),
        ("--input-std 0", &["scale"]),
        ("--figure r.jpg --eval two_moons(n=20)", &["r.jpg", ".svg or .png"]),
        ("-o net.safetensors", &["would replace"]),
        ("--source kfac --tune nll --validation two_moons(n=20)", &["marginal likelihood"]),
    ] {
        dir.refused(&format!("{line} {options}"), parts);
    }
    dir.refused(
        "laplace net.safetensors --train two_moons(n=50)",
        &["architecture", "safetensors"],
    );
    dir.refused(
        "laplace net.safetensors --architecture mlp(hidden=[7]) --train two_moons(n=50)",
        &["layers.0"],
    );
    dir.refused("laplace none.onnx --train two_moons(n=50) --source map", &["none.onnx"]);
    dir.put("bad.nef", b"not a posterior");
    dir.refused("predict bad.nef x.npy -o p.npy", &["bad.nef"]);
    dir.ok("fit two_moons(n=50) -k 2 --steps 0 --plot none");
    dir.refused("predict model.safetensors x.npy -o p.npy", &["model.safetensors"]);
    dir.ok(&format!("{line} --source last-layer -o p.nef"));
    dir.npy("wide.npy", &points(20, 3));
    dir.refused("predict p.nef wide.npy -o p.npy", &["n × 2", "20 × 3"]);
    assert!(!dir.files().contains(&"p.npy".to_string()));
}
