//! Scores of densities at the command line.

use serde_json::Value;

use crate::common::{Folder, points};

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

/// Without the times.
fn lasting(mut value: Value) -> Value {
    value["fit_seconds"] = Value::Null;
    value["query"]["seconds"] = Value::Null;
    value["query"]["points_per_second"] = Value::Null;
    value
}

#[test]
fn errors_are_reported_where_the_score_is_known() {
    let dir = Folder::new();
    let line = "score banana(n=400) -k 30 --query banana(n=300) -o scores.npy --loss";
    let found = dir.json(line);
    assert_eq!((&found["parametric"], &found["n_components"]), (&false.into(), &30.into()));
    assert_eq!(found["losses"].as_array().unwrap().len(), 30);
    let error = number(&found, "/query/relative_error");
    // The zero score has error 1; 400 samples give a third or so.
    assert!(error > 0.1 && error < 0.5, "{found}");
    assert_eq!(lasting(dir.json(&format!("{line} --threads 1"))), lasting(found.clone()));

    // The file has the scores that the error is about: x₁ ~ N(0, 4), x₂ ~ N((x₁² − 4)/4, 1).
    dir.ok("synth banana -n 300 --seed 1 -o x.npy");
    let (x, score) = (dir.array("x.npy"), dir.array("scores.npy"));
    assert_eq!(score.dim(), (300, 2));
    let (mut errors, mut sizes) = (0.0, 0.0);
    for (x, s) in x.rows().into_iter().zip(score.rows()) {
        let (a, b) = (f64::from(x[0]), f64::from(x[1]));
        let rest = b - 0.25 * (a * a - 4.0);
        let truth = [-a / 4.0 + 0.5 * a * rest, -rest];
        errors += (0..2).map(|c| (f64::from(s[c]) - truth[c]).powi(2)).sum::<f64>();
        sizes += truth.iter().map(|v| v * v).sum::<f64>();
    }
    assert!((error - (errors / sizes).sqrt()).abs() < 1e-5, "{found}");
    // Points without a known density have a loss and no error; the same points, the same loss.
    let same = dir.json("score banana(n=400) -k 30 --query x.npy --loss");
    assert_eq!(number(&same, "/query/hyvarinen_loss"), number(&found, "/query/hyvarinen_loss"));
    dir.ok("synth banana -n 400 -o samples.npy");
    let same = dir.json("score samples.npy -k 30 --query x.npy --loss");
    assert_eq!(same["query"]["relative_error"], Value::Null);
    assert_eq!(same["terms"], found["terms"]);
}

#[test]
fn an_estimator_with_a_model_is_saved_and_used_again() {
    let dir = Folder::new();
    let fit = "fit mixture(n=400) --kernel rbf(lengthscale=1.5) -k 12 --steps 50 --plot none";
    dir.ok(&format!("{fit} --network mlp(hidden=[16],activation=tanh)"));
    let line = "score mixture(n=400) --model model.safetensors --query mixture(n=200)";
    let found = dir.json(&format!("{line} -o a.npy --save estimator.safetensors"));
    assert_eq!((&found["parametric"], &found["n_samples"]), (&true.into(), &400.into()));
    assert!(number(&found, "/query/relative_error") < 0.5, "{found}");
    assert_eq!(found["kernel"], "rbf(lengthscale=1.5)");
    let again = dir.json("score --estimator estimator.safetensors --query mixture(n=200) -o b.npy");
    assert_eq!(dir.bytes("a.npy"), dir.bytes("b.npy"));
    assert_eq!(again["query"]["relative_error"], found["query"]["relative_error"]);
    let text = dir.ok(&format!("{line} --terms 5")).stdout;
    for part in ["400 × 2 of mixture", "eigenfunctions of a model", "5 of 12", "relative error"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let shared = dir.json(&format!("{line} --terms 0.5"));
    assert!(number(&shared, "/terms") < 12.0, "{shared}");
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(60, 2));
    dir.npy("wide.npy", &points(60, 3));
    dir.npy("few.npy", &points(6, 2));
    dir.ok("fit x.npy --kernel laplacian --method kernel_pca -k 4 --plot none -o laplacian.safetensors");
    dir.ok("fit x.npy --kernel rbf --method kernel_pca -k 4 --plot none");
    dir.misused("score", &["<DATA>"]);
    dir.misused("score x.npy --terms 0", &["--terms", "`auto`", "got 0"]);
    dir.misused("score x.npy --terms 1.5", &["got 1.5"]);
    dir.misused("score x.npy --loss", &["--query"]);
    dir.misused("score x.npy --model model.safetensors --kernel rbf", &["cannot be used"]);
    dir.misused("score --estimator e.safetensors", &["--query"]);
    dir.misused("score x.npy --estimator e.safetensors --query x.npy", &["cannot be used"]);
    dir.refused("score missing.npy", &["missing.npy", "No such file"]);
    dir.refused("score x.npy --kernel laplacian", &["gradient", "laplacian", "rbf"]);
    dir.refused("score x.npy -k 0", &["components", "at least 1", "got 0"]);
    dir.refused("score x.npy --terms 61", &["terms", "the number of eigenfunctions", "got 61"]);
    dir.refused("score x.npy -k 2 --terms 0.999", &["share", "2 eigenfunctions"]);
    dir.refused("score few.npy", &["samples", "at least 10", "got 6"]);
    dir.refused("score x.npy --query wide.npy", &["wide.npy", "n × 2", "60 × 3"]);
    dir.refused("score wide.npy --model model.safetensors", &["wide.npy", "n × 2", "60 × 3"]);
    dir.refused("score x.npy --model laplacian.safetensors", &["gradient", "laplacian"]);
    dir.refused("score --estimator model.safetensors --query x.npy", &["model", "score"]);
    dir.refused("score x.npy -o x.npy", &["x.npy", "--output would replace"]);
    dir.refused("score x.npy --save no/such", &["no/such"]);
    dir.refused("score x.npy --model x.npy", &["x.npy", "not a usable"]);
}
