//! Files written by version 0.1.0: they are read to the same bits, and written again as they were.
//!
//! `points.npy` is `two_moons(n=8, noise=0.1)` with seed 5; NAME.npy are the features of the model
//! NAME.safetensors there, as that version computed them.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use neuralef::fit::Checkpoint;
use neuralef::score::SpectralStein;
use neuralef::{Dataset, Fit, Mat, Model};

const MODELS: [&str; 8] = [
    "neuralef",
    "neuralef_ritz",
    "nystrom",
    "kernel_pca",
    "fourier",
    "fourier_reduced",
    "positive",
    "positive_reduced",
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn matrix(name: &str) -> Mat {
    let data = Dataset::open(&path(&format!("{name}.npy")).to_string_lossy(), 0).unwrap();
    data.range(0..data.len()).unwrap()
}

/// Equal but for what vectors of another width round otherwise.
fn assert_equal(values: &Mat, stored: &Mat, name: &str) {
    assert_eq!(values.dim(), stored.dim(), "{name}");
    let scale = stored.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (value, stored) in values.iter().zip(stored) {
        assert!((value - stored).abs() <= 4.0 * f32::EPSILON * scale, "{name}: {value} {stored}");
    }
}

#[test]
fn models_of_every_method_are_read_and_written_as_they_were() {
    let points = matrix("points");
    for name in MODELS {
        let path = path(&format!("{name}.safetensors"));
        let model = Model::load(&path).unwrap();
        assert_equal(&model.transform(points.view()).unwrap(), &matrix(name), name);
        assert_eq!(model.to_bytes().unwrap(), std::fs::read(&path).unwrap(), "{name}");
    }
}

#[test]
fn a_score_estimator_is_read_as_it_was() {
    let estimator = SpectralStein::load(path("score.safetensors")).unwrap();
    let score = estimator.score(matrix("points").view()).unwrap().mapv(|v| v as f32);
    assert_equal(&score, &matrix("score"), "score");
}

#[test]
fn a_checkpoint_continues_to_the_model_of_the_whole_run() {
    let checkpoint = Checkpoint::read(&path("checkpoint.safetensors")).unwrap();
    assert_eq!(checkpoint.header.step, 20);
    let data = Dataset::open(&checkpoint.header.data, checkpoint.header.spec.seed).unwrap();
    let resumed = Fit::resume(checkpoint).run(&data).unwrap().0;
    let whole = Model::load(path("neuralef.safetensors")).unwrap();
    assert_eq!(resumed.info().spec, whole.info().spec);
    assert_eq!(resumed.info().record.steps, 30);
    for (mu, stored) in resumed.eigenvalues().iter().zip(whole.eigenvalues()) {
        assert!((mu / stored - 1.0).abs() < 1e-5, "{mu} {stored}");
    }
}
