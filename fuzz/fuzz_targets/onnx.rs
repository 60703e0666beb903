//! Any bytes as an ONNX file: reading must not panic, and a network that is read must have values.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("neuralef-fuzz-{}.onnx", std::process::id()));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let Ok(network) = neuralef::nn::read_onnx(&path) else { return };
    let d = network.inputs();
    if d <= 1024 && network.hidden_width() <= 4096 {
        let x = ndarray::Array2::from_shape_fn((2, d), |(i, j)| (i + j) as f32 * 0.25);
        let _ = network.forward(x.view(), None);
    }
});
