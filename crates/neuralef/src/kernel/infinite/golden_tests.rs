//! All kernels of infinitely wide networks against neural-tangents.

use serde_json::Value;

use super::tests::gram;
use crate::matrix::Mat;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `benches/peers/goldens/infinite_kernels.py` wrote these: three points against two others.
#[test]
fn values_are_those_of_neural_tangents() {
    let golden: Value = serde_json::from_str(include_str!("goldens/infinite.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    // 5 activations, 2 kernels; 2 depths and 9 stacks of convolutions.
    assert_eq!(cases.len(), 5 * 2 * (2 + 9));
    for case in cases {
        let text = case["kernel"].as_str().unwrap();
        let points = numbers(&golden["points"][case["points"].as_str().unwrap()]);
        let points: Vec<f32> = points.into_iter().map(|v| v as f32).collect();
        let points = Mat::from_shape_vec((5, points.len() / 5), points).unwrap();
        let (x, y) = points.view().split_at(ndarray::Axis(0), 3);
        let want = numbers(&case["values"]);
        for (got, want) in gram(text, &x.to_owned(), &y.to_owned()).iter().zip(want) {
            assert!((got / want - 1.0).abs() < 1e-13, "{text}: {got} {want}");
        }
    }
}
