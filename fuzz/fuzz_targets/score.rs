//! Any bytes as the file of a score estimator: reading must not panic, and one that reads must give
//! scores or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neuralef::score::SpectralStein;

fuzz_target!(|bytes: &[u8]| {
    let Ok(estimator) = SpectralStein::from_bytes(bytes) else { return };
    let d = estimator.dimensions();
    if d <= 64 && estimator.record().components <= 64 {
        let x = ndarray::Array2::from_shape_fn((3, d), |(i, j)| (i + j) as f32 * 0.25);
        let _ = estimator.score(x.view());
    }
});
