//! Trajectories from the command line: trained there, or states of a user's own.

use ndarray::{Array2, Axis};
use serde_json::Value;

use crate::common::{Folder, numbers, points};

/// A run of a second.
const RUN: &str = "trajectory two_moons(n=300,noise=0.3) --network mlp(hidden=[16]) --steps 150 \
                   --tail-steps 100 --every 10 --rank 6 -k 4 --eigen-steps 0 \
                   --predictive monte_carlo(samples=200)";
const EVAL: &str = "--eval two_moons(n=400,noise=0.3) --swag-samples 4";

fn row<'a>(found: &'a Value, method: &str) -> &'a Value {
    let rows = found["eval"]["rows"].as_array().unwrap();
    rows.iter().find(|row| row["method"] == method).unwrap_or_else(|| panic!("{method}: {found}"))
}

#[test]
fn a_trajectory_is_trained_learned_and_measured() {
    let dir = Folder::new();
    let found = dir.json(&format!("{RUN} {EVAL}"));
    let rows = found["eval"]["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "SWA", "SWAG", "base + NeuralEF", "SWA + NeuralEF"]);
    for row in rows {
        // Moons of this noise overlap; a line is right on 0.82 of them.
        assert!(row["accuracy"].as_f64().unwrap() > 0.82, "{found}");
        assert_eq!(row["points"], 400);
    }
    assert_eq!((&found["outputs"], &found["record"]["states"]), (&2.into(), &10.into()));
    assert_eq!(numbers(&found["eigenvalues"]).len(), 4, "{found}");
    assert!(found["captured_trace"].as_f64().unwrap() > 0.9, "{found}");
    let files = ["base.safetensors", "phi.npy", "phi.npy.json", "safetensors", "swa.safetensors"];
    assert_eq!(dir.files(), files.map(|ending| format!("trajectory.{ending}")));

    // Φ is centred: (N·C) × M, and the spread of a point's outputs is its variance under the model.
    let phi = dir.array("trajectory.phi.npy");
    assert_eq!(phi.dim(), (600, 10));
    let largest = phi.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(phi.mean_axis(Axis(1)).unwrap().iter().all(|m| m.abs() < 1e-6 * largest));
    let own = phi.map_axis(Axis(1), |r| r.dot(&r) / 10.0);
    dir.ok("transform trajectory.safetensors two_moons(n=300,noise=0.3) -o f.npy");
    let learned = dir.array("f.npy").map_axis(Axis(1), |r| r.dot(&r));
    let (sum, of) = (learned.sum(), own.sum());
    assert!((sum / of - 1.0).abs() < 0.1, "{sum} {of}");

    // The same bits with one thread, over the files of the first run.
    let weights = dir.bytes("trajectory.swa.safetensors");
    assert_eq!(
        rows,
        dir.json(&format!("{RUN} {EVAL} --threads 1"))["eval"]["rows"].as_array().unwrap()
    );
    assert!(weights == dir.bytes("trajectory.swa.safetensors"));
    // From there on, as another network's weights.
    let more = "--weights trajectory.swa.safetensors -o more.safetensors --swag-samples 0";
    let text = dir.ok(&format!("{RUN} --eval two_moons(n=400,noise=0.3) {more}")).stdout;
    for part in ["base + NeuralEF", "adaptive ECE", "captured trace", "10 states", "more.phi.npy"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("SWAG"), "{text}");
}

#[test]
fn states_of_a_users_own_serve_too() {
    let dir = Folder::new();
    let x = points(80, 2);
    dir.npy("x.npy", &x);
    // Linear functions of two outputs: M × (N·C) and (N·C) × M.
    let weight = |m: usize, j: usize| ((m * 7 + j * 3) as f32 * 0.618).fract() - 0.5;
    let states = Array2::from_shape_fn((9, 160), |(m, i)| {
        let (x, c) = (x.row(i / 2), i % 2);
        weight(m, c) * x[0] + weight(m, 2 + c) * x[1] + 5.0
    });
    dir.npy("states.npy", &states);
    dir.npy("turned.npy", &states.t().as_standard_layout().to_owned());
    dir.npy("logits.npy", &Array2::from_shape_fn((80, 2), |(i, c)| (i % 5 * c) as f32));
    dir.npy("label.npy", &Array2::from_shape_fn((80, 1), |(i, _)| (i % 2) as f32));
    let own = "trajectory x.npy --outputs 2 -k 4 --eigen-network mlp(hidden=[]) --eigen-steps 0";
    let eval = "--eval x.npy --eval-targets label.npy --eval-outputs logits.npy";
    let found = dir.json(&format!("{own} --states states.npy {eval}"));
    // Four weights: four eigenfunctions are all there is.
    assert!(found["captured_trace"].as_f64().unwrap() > 0.9999, "{found}");
    let (given, with) = (row(&found, "given"), row(&found, "given + NeuralEF"));
    assert_eq!(given["points"], 80);
    assert_ne!(given["nll"], with["nll"]);
    dir.ok(&format!("{own} --states turned.npy -o turned.safetensors"));
    assert!(dir.bytes("trajectory.phi.npy")[128..] == dir.bytes("turned.phi.npy")[128..]);
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(40, 2));
    dir.npy("five.npy", &points(40, 5));
    dir.npy("label.npy", &Array2::from_shape_fn((40, 1), |(i, _)| (i % 3) as f32));
    dir.npy("short.npy", &Array2::zeros((39, 1)));
    dir.npy("negative.npy", &Array2::from_elem((40, 1), -1.0));
    dir.npy("states.npy", &points(4, 120));
    let with = |rest: &str| format!("trajectory x.npy --network mlp(hidden=[4]) {rest}");
    let labelled = |rest: &str| with(&format!("--targets label.npy {rest}"));
    dir.misused("trajectory x.npy", &["--network", "--states"]);
    dir.misused("trajectory x.npy --states states.npy", &["--outputs"]);
    dir.misused(&with("--states states.npy --outputs 3"), &["cannot be used"]);
    dir.misused(&with("--eval-targets label.npy"), &["--eval"]);
    dir.misused(&labelled("--predictive sure"), &["sure"]);
    dir.refused(&with(""), &["x.npy", "without labels", "--targets"]);
    dir.refused(&with("--targets short.npy"), &["short.npy", "40 rows", "got 39"]);
    dir.refused(&with("--targets negative.npy"), &["from 0", "got -1"]);
    dir.refused(&labelled("--eval x.npy"), &["x.npy", "without labels", "--eval-targets"]);
    let line = labelled("--eval five.npy --eval-targets label.npy");
    dir.refused(&line, &["five.npy", "n × 2", "40 × 5"]);
    dir.npy("nine.npy", &Array2::from_elem((40, 1), 9.0));
    let line = labelled("--eval x.npy --eval-targets nine.npy");
    dir.refused(&line, &["one of the 3 classes of the training", "got 9"]);
    dir.refused(&labelled("--tail-steps 50 --every 30"), &["tail_steps", "at least 60", "got 50"]);
    dir.refused(&labelled("--every 0"), &["every", "got 0"]);
    dir.refused(&labelled("--tail-lr -1"), &["tail_lr", "got -1"]);
    dir.refused(&labelled("--batch-size 0"), &["batch_size", "got 0"]);
    dir.refused(&labelled("--optimizer sgdd"), &["did you mean `sgd`"]);
    dir.refused(&labelled("--augment shift_flop"), &["did you mean `shift_flip`"]);
    dir.refused(&labelled("--augment shift_flip"), &["image", "2 columns"]);
    dir.refused(&labelled("--eigen-network mlq"), &["did you mean `mlp`"]);
    dir.refused(&labelled("--weights no.safetensors"), &["no.safetensors", "No such file"]);
    dir.refused(&labelled("-o missing/m.safetensors"), &["missing/m.safetensors"]);
    dir.refused(&labelled("-o x.npy"), &["would replace another file of this run"]);
    dir.refused(&labelled("--optimizer sgd(lr=1e38)"), &["training diverged at step"]);
    let own = |rest: &str| format!("trajectory x.npy --states {rest}");
    dir.refused(&own("states.npy --outputs 2"), &["states.npy", "(40·2) × M", "got 4 × 120"]);
    let eval = "states.npy --outputs 3 --eval x.npy --eval-targets label.npy";
    dir.refused(&own(eval), &["--eval-outputs"]);
    let line = own(&format!("{eval} --eval-outputs short.npy"));
    dir.refused(&line, &["short.npy", "40 × 3", "got 39 × 1"]);
}
