//! Linear models on features at the command line.

use ndarray::{Array2, Axis, s};
use serde_json::Value;

use crate::common::{Folder, numbers, points};

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

#[test]
fn two_moons_are_told_apart_by_their_features() {
    let dir = Folder::new();
    let fit = "fit two_moons(n=400,noise=0.1) --kernel rbf(lengthscale=0.3) -k 20 --plot none";
    dir.ok(&format!("{fit} --method nystrom(landmarks=200)"));
    let line = "probe model.safetensors two_moons(n=400,noise=0.1) --labels-from-data --c 100 \
                --test two_moons(n=1000,noise=0.1)";
    let found = dir.json(line);
    assert_eq!((&found["task"], &found["features"]), (&"classification".into(), &20.into()));
    assert_eq!(numbers(&found["classes"]), [0.0, 1.0]);
    assert_eq!(found["fit"]["converged"], true, "{found}");
    assert_eq!((number(&found, "/train/points"), number(&found, "/test/points")), (400.0, 1000.0));
    // Moons of this noise overlap in a few points of a thousand.
    assert!(number(&found, "/test/accuracy") > 0.985, "{found}");
    assert!(number(&found, "/test/nll") < 0.08 && number(&found, "/test/ece") < 0.05, "{found}");
    // Other points than those of the fit, though their text is the same but for n.
    assert_ne!(found["train"]["nll"], found["test"]["nll"]);
    assert_eq!(dir.json(&format!("{line} --threads 1")), found);
    let text = dir.ok(line).stdout;
    for part in ["accuracy", "ECE", "train", "test", "20 features, 2 classes, C = 100"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let text = dir.ok(&format!("{line} --max-iter 1")).stdout;
    assert!(text.contains("warning: not converged") && text.contains("--max-iter"), "{text}");
    assert_eq!(dir.files(), ["model.safetensors"]);
}

/// Features written by `transform` give the same model as those that `probe` computes.
#[test]
fn labels_and_targets_come_from_files_too() {
    let dir = Folder::new();
    let x = points(600, 2);
    dir.npy("x.npy", &x);
    dir.npy("new.npy", &x.slice(s![400.., ..]).to_owned());
    let line = "fit x.npy --kernel rbf(lengthscale=1) --method nystrom(landmarks=100) -k 30";
    dir.ok(&format!("{line} --plot none"));
    let y = x.map_axis(Axis(1), |r| (3.0 * r[0]).sin() * r[1]).insert_axis(Axis(1));
    let label = y.mapv(|v| {
        if v > 0.2 {
            7.0
        } else if v < -0.2 {
            -4.0
        } else {
            0.0
        }
    });
    dir.npy("label.npy", &label);
    dir.npy("new-label.npy", &label.slice(s![400.., ..]).to_owned());
    let line = "probe model.safetensors x.npy --targets label.npy --test new.npy";
    let found = dir.json(&format!("{line} --test-targets new-label.npy --unit-norm --c 1e4"));
    assert_eq!(numbers(&found["classes"]), [-4.0, 0.0, 7.0]);
    assert!(number(&found, "/test/accuracy") > 0.95, "{found}");

    // Two outputs with uniform noise of variance 0.2²/12, each of its own.
    let noise = |i: usize, j: usize| {
        let v = ((i * i) as f64 * [0.618_033_988_749_895, 0.754_877_666_246_693][j]).fract();
        0.2 * (v as f32 - 0.5)
    };
    let both = Array2::from_shape_fn((600, 2), |(i, j)| {
        let f = y[[i, 0]];
        noise(i, j) + if j == 0 { f } else { 5.0 - 2.0 * f }
    });
    dir.npy("y.npy", &both);
    let line = "probe model.safetensors x.npy --task regression --targets y.npy";
    let found = dir.json(line);
    assert_eq!((&found["outputs"], &found["test"]), (&2.into(), &Value::Null));
    assert!(number(&found, "/train/r2") > 0.98, "{found}");
    // 1,200 numbers give the variance of uniform noise to √(0.8/1200) = 2.6 %.
    let noise = number(&found, "/noise_variance");
    assert!((noise / (0.04 / 12.0) - 1.0).abs() < 0.1, "{found}");
    let given = dir.json(&format!("{line} --noise-variance 0.1 --prior-variance 2"));
    assert_eq!((number(&given, "/noise_variance"), number(&given, "/prior_variance")), (0.1, 2.0));
    let gain = number(&found, "/log_marginal_likelihood");
    assert!(gain > number(&given, "/log_marginal_likelihood"), "{given}");
    let text = dir.ok(line).stdout;
    assert!(text.contains("RMSE") && text.contains("noise variance"), "{text}");
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(60, 2));
    dir.npy("five.npy", &points(60, 5));
    dir.npy("short.npy", &Array2::zeros((59, 1)));
    dir.npy("half.npy", &Array2::from_elem((60, 1), 0.5));
    dir.npy("same.npy", &Array2::ones((60, 1)));
    dir.npy("label.npy", &Array2::from_shape_fn((60, 1), |(i, _)| (i % 3) as f32));
    dir.ok("fit x.npy --kernel rbf --method kernel_pca -k 4 --plot none");
    let with = |rest: &str| format!("probe model.safetensors x.npy {rest}");
    dir.misused(&with(""), &["--labels-from-data", "--targets"]);
    dir.misused(&with("--labels-from-data --targets label.npy"), &["cannot be used"]);
    dir.misused(&with("--targets label.npy --test-targets label.npy"), &["--test"]);
    dir.refused(&with("--labels-from-data"), &["x.npy", "without labels", "--targets"]);
    dir.refused(&with("--targets label.npy --test x.npy"), &["without labels", "--test-targets"]);
    dir.refused(&with("--targets short.npy"), &["short.npy", "60 rows", "got 59"]);
    dir.refused(&with("--targets five.npy"), &["five.npy", "one column", "got 5"]);
    dir.refused(&with("--targets half.npy"), &["half.npy", "whole numbers", "got 0.5"]);
    dir.refused(&with("--targets same.npy"), &["labels", "at least two classes", "label 1 only"]);
    dir.refused(&with("--targets missing.npy"), &["missing.npy", "No such file"]);
    dir.refused(&with("--targets label.npy --c 0"), &["C:", "positive finite", "got 0"]);
    dir.refused(&with("--targets label.npy --c -1"), &["C:", "got -1"]);
    dir.refused(&with("--targets label.npy --tol nan"), &["tol", "NaN"]);
    dir.refused(&with("--targets label.npy --noise-variance 1"), &["--noise-variance", "no use"]);
    let regression = |rest: &str| with(&format!("--task regression --targets label.npy {rest}"));
    dir.refused(&regression("--c 1"), &["--c", "no use", "regression"]);
    dir.refused(&regression("--noise-variance 0"), &["noise_variance", "got 0"]);
    dir.refused(&regression("--prior-variance 1"), &["--noise-variance too"]);
    let line = "probe model.safetensors five.npy --targets label.npy";
    dir.refused(line, &["five.npy", "n × 2", "60 × 5"]);
    // A class that the fit has not seen.
    dir.npy("new.npy", &Array2::from_elem((60, 1), 9.0));
    let line = with("--targets label.npy --test x.npy --test-targets new.npy");
    dir.refused(&line, &["x.npy", "one of the 3 classes", "got 9"]);
    let line = regression("--noise-variance 1 --test x.npy --test-targets five.npy");
    dir.refused(&line, &["x.npy", "1 columns of targets", "got 5"]);
}
