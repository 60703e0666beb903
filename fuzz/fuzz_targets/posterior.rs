//! Any bytes as the file of a posterior: reading must not panic, and one that reads must give outputs or
//! an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neuralef::bayes::Laplace;

fuzz_target!(|bytes: &[u8]| {
    let Ok(posterior) = Laplace::from_bytes(bytes) else { return };
    let d = posterior.info().n_features;
    if d <= 64 && posterior.curvatures().len() <= 256 {
        let x = ndarray::Array2::from_shape_fn((3, d), |(i, j)| (i + j) as f32 * 0.25);
        let _ = posterior.outputs(x.view());
    }
});
