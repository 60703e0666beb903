//! Any text: parsing must not panic, and what parses must resolve, evaluate and round-trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neuralef::KernelSpec;

fuzz_target!(|text: &str| {
    let Ok(spec) = KernelSpec::parse(text) else { return };
    assert_eq!(KernelSpec::parse(&spec.to_string()).expect("canonical text parses"), spec);
    let x = ndarray::array![[0.25f32, 1.5], [0.0, 2.0], [1.0, 0.75]];
    let Ok(kernel) = spec.resolve(Some(x.view()), 1) else { return };
    let text = kernel.text();
    let again = KernelSpec::parse(&text).expect("resolved text parses");
    let again = again.resolve(None, 0).expect("resolved text needs no data");
    assert_eq!(again.text(), text);
    let (mut a, mut b) = (ndarray::Array2::zeros((3, 3)), ndarray::Array2::zeros((3, 3)));
    let first = kernel.gram(x.view(), x.view(), a.view_mut());
    let second = again.gram(x.view(), x.view(), b.view_mut());
    assert_eq!(first.is_ok(), second.is_ok());
    if first.is_ok() {
        assert!(a.iter().all(|v: &f64| v.is_finite()));
        assert_eq!(a, b);
    }
});
