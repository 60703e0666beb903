//! Any bytes as a model file: reading must not panic, and a model that reads must transform points.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neuralef::Model;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes(bytes) else { return };
    let d = model.info().n_features;
    if d <= 64 && model.n_components() <= 64 {
        let x = ndarray::Array2::from_shape_fn((3, d), |(i, j)| (i + j) as f32 * 0.25);
        let _ = model.transform(x.view());
    }
});
