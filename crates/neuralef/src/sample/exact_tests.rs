//! The exact tangent kernel against finite differences and against infinite networks.

use ndarray::{Array1, s};

use super::tests::{closed_form, one_convolution, points, spec};
use super::*;
use crate::error::Error;
use crate::matrix::{Mat, Mat64};
use crate::nn::{MOMENTUM, Network};

const MIB: u64 = 1024;

/// ∂g/∂θ of all (point, output) by central differences, (n·C) × P over all units.
fn jacobian_by_differences(network: &mut dyn Network, x: &Mat) -> Mat64 {
    let h = 2.0f32.powi(-7);
    let sizes: Vec<usize> = network.parameters().units().iter().map(Vec::len).collect();
    let mut columns = Vec::new();
    for (u, size) in sizes.into_iter().enumerate() {
        for i in 0..size {
            let theta = network.parameters().units()[u][i];
            let mut at = |value: f32| {
                network.parameters_mut().units_mut()[u][i] = value;
                network.forward(x.view(), None).unwrap().mapv(f64::from)
            };
            let difference = at(theta + h) - at(theta - h);
            at(theta);
            let moved = f64::from(theta + h) - f64::from(theta - h);
            columns.push((difference / moved).into_iter().collect::<Array1<f64>>());
        }
    }
    let views: Vec<_> = columns.iter().map(|c| c.view()).collect();
    ndarray::stack(ndarray::Axis(1), &views).unwrap()
}

fn assert_close(got: &Mat64, want: &Mat64, tolerance: f64) {
    assert_eq!(got.dim(), want.dim());
    let size = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (at, want) in want.indexed_iter() {
        let off = (got[at] - want).abs();
        assert!(off < tolerance * size, "{at:?}: {} not {want}, of {size}", got[at]);
    }
}

#[test]
fn products_of_jacobians_by_finite_differences() {
    let x = points();
    let y = x.slice(s![..2, ..]).mapv(|v| 0.7 - v);
    for text in [
        "shared_mlp(hidden=[5, 4], activation=tanh)",
        "mlp(hidden=[5], activation=gelu)",
        "shared_mlp(hidden=[])",
    ] {
        let mut network = spec(text).build(2, 3, 1, 1).unwrap();
        let (jx, jy) = (
            jacobian_by_differences(&mut *network, &x),
            jacobian_by_differences(&mut *network, &y),
        );
        let own = exact_ntk(&*network, x.view(), None, None, MIB).unwrap();
        // Central differences: u·|g|/h = 2⁻¹⁷ of rounding, h²/6 = 10⁻⁵ of truncation.
        assert_close(&own, &jx.dot(&jx.t()), 2e-4);
        let cross = exact_ntk(&*network, x.view(), Some(y.view()), None, MIB).unwrap();
        assert_close(&cross, &jx.dot(&jy.t()), 2e-4);
        // Symmetric to the last bits, and the same values against itself.
        assert_close(&own, &own.t().to_owned(), 1e-14);
        assert_eq!(exact_ntk(&*network, x.view(), Some(x.view()), None, MIB).unwrap(), own);
        if text.starts_with("mlp") {
            // Separate networks have nothing in common.
            for ((a, b), value) in own.indexed_iter().filter(|((a, b), _)| a % 3 != b % 3) {
                assert_eq!(*value, 0.0, "{a}, {b}");
            }
        }
        // The other parameterisation scales the columns.
        let law = WeightLaw { weight_var: vec![2.5], bias_var: vec![0.3] };
        let scales: Vec<f64> = network
            .parameters()
            .layouts()
            .iter()
            .flatten()
            .flat_map(|t| {
                let square = match t.role {
                    crate::nn::Role::Weight { fan_in } => 2.5 / fan_in as f64,
                    _ => 0.3,
                };
                vec![square; t.shape.iter().product()]
            })
            .collect();
        let scaled = &jx * &Array1::from(scales);
        let other = exact_ntk(&*network, x.view(), None, Some(&law), MIB).unwrap();
        assert_close(&other, &scaled.dot(&jx.t()), 2e-4);
    }
}

/// Tangent kernels of `count` random networks.
fn draws(text: &str, x: &Mat, law: &WeightLaw, count: u64) -> Vec<Mat64> {
    let mut network = spec(text).build(x.ncols(), 1, 1, 0).unwrap();
    let draw = |i: u64| {
        law.draw(network.parameters_mut(), 9, i).unwrap();
        exact_ntk(&*network, x.view(), None, Some(law), MIB).unwrap()
    };
    (0..count).map(draw).collect()
}

/// The mean of `draws` within four and a half of its standard errors of `want`, these being at most
/// `small` of the largest entry.
fn assert_mean(draws: &[Mat64], want: &Mat64, small: f64, what: &str) {
    let count = draws.len() as f64;
    let size = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (at, want) in want.indexed_iter() {
        let mean = draws.iter().map(|k| k[at]).sum::<f64>() / count;
        let variance = draws.iter().map(|k| (k[at] - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let error = (variance / count).sqrt();
        assert!((mean - want).abs() < 4.5 * error, "{what} {at:?}: {mean} ± {error}, not {want}");
        assert!(error < small * size, "{what} {at:?}: {error} of {size}");
    }
}

#[test]
fn the_mean_over_networks_with_one_hidden_layer_is_the_infinite_kernel() {
    for name in ["relu", "erf", "sin_cos"] {
        let law = WeightLaw { weight_var: vec![1.5, 0.8], bias_var: vec![0.3, 0.1] };
        let draws = draws(&format!("mlp(hidden=[16], activation={name})"), &points(), &law, 2000);
        let kernel =
            format!("ntk(depth=1, activation={name}, weight_var=[1.5, 0.8], bias_var=[0.3, 0.1])");
        assert_mean(&draws, &closed_form(&kernel, points().view()), 0.02, name);
    }
}

#[test]
fn wide_networks_have_the_infinite_kernel() {
    let law = WeightLaw { weight_var: vec![3.0, 1.2, 0.5], bias_var: vec![0.1, 0.8, 2.0] };
    let kernel = "ntk(depth=2, activation=erf, weight_var=[3, 1.2, 0.5], bias_var=[0.1, 0.8, 2])";
    let draws = draws("mlp(hidden=[256, 256], activation=erf)", &points(), &law, 24);
    assert_mean(&draws, &closed_form(kernel, points().view()), 0.03, kernel);
}

#[test]
fn the_mean_over_networks_of_one_convolution_is_the_infinite_kernel() {
    let law = WeightLaw { weight_var: vec![1.5, 0.8], bias_var: vec![0.3, 0.1] };
    for (text, kernel, x) in one_convolution("erf") {
        let draws = draws(&text, &x, &law, 4000);
        let want = closed_form(&format!("cntk({kernel})"), x.view());
        assert_mean(&draws, &want, 0.02, &text);
    }
}

/// κ by forward mode: JJᵀ = Σ over parameters of (Je)(Je)ᵀ, e the unit vectors.
fn by_unit_vectors(network: &dyn Network, x: &Mat) -> Mat64 {
    let mut direction = network.parameters().zeros_like();
    let mut sum = Mat64::zeros((0, 0));
    for unit in 0..direction.units().len() {
        for i in 0..direction.units()[unit].len() {
            direction.units_mut()[unit][i] = 1.0;
            let j = network.jvp(x.view(), &direction).unwrap().mapv(f64::from);
            direction.units_mut()[unit][i] = 0.0;
            let j = Array1::from_iter(j);
            if sum.is_empty() {
                sum = Mat64::zeros((j.len(), j.len()));
            }
            let column = j.insert_axis(ndarray::Axis(1));
            sum += &column.dot(&column.t());
        }
    }
    sum
}

#[test]
fn several_outputs_convolutions_and_frozen_norms() {
    let images = Mat::from_shape_fn((3, 75), |(i, j)| ((i * 75 + j) as f32 * 0.71).sin());
    for (text, functions, outputs) in [
        ("mlp(hidden=[4], activation=tanh)", 1, 3),
        ("mlp(hidden=[4], activation=tanh)", 2, 2),
        ("convnet(channels=[2, 3], kernel=3, hidden=[4], activation=tanh)", 1, 2),
        ("convnet(channels=[3], kernel=3, norm=batch, readout=flatten)", 1, 2),
        ("resnet(depth=8, width=2)", 1, 2),
    ] {
        let mut network = spec(text).build(75, functions, outputs, 4).unwrap();
        if !network.parameters().statistics().is_empty() {
            let error = exact_ntk(&*network, images.view(), None, None, MIB).unwrap_err();
            assert!(error.to_string().contains("freeze it first"), "{error}");
            // Statistics of a training step, so that they are not 0 and 1.
            let mut tape = crate::nn::Tape::default();
            network.forward(images.view(), Some(&mut tape)).unwrap();
            network.update_running_statistics(&tape, MOMENTUM);
            network.freeze(true);
        }
        let exact = exact_ntk(&*network, images.view(), None, None, MIB).unwrap();
        assert_eq!(exact.nrows(), 3 * functions * outputs);
        assert_close(&exact, &by_unit_vectors(&*network, &images), 2e-5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = spec("shared_mlp(hidden=[512, 512])").build(2, 3, 1, 1).unwrap();
    let x = Mat::zeros((100, 2));
    let error = exact_ntk(&*network, x.view(), None, None, 100).unwrap_err();
    // 100 · 3 rows of 2·512 + 512² + 3·512 + 1027 numbers of four bytes, and more.
    assert!(matches!(error, Error::MemoryBudget { needed_mib: 304..=320, .. }), "{error}");
    let error = exact_ntk(&*network, Mat::zeros((2, 3)).view(), None, None, MIB).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let error =
        exact_ntk(&*network, x.slice(s![..1, ..]), Some(Mat::zeros((1, 1)).view()), None, MIB);
    assert!(matches!(error, Err(Error::Shape { .. })));
    let law = WeightLaw { weight_var: vec![1.0; 5], bias_var: vec![1.0] };
    let error = exact_ntk(&*network, x.slice(s![..1, ..]), None, Some(&law), MIB).unwrap_err();
    assert!(error.to_string().contains("weight_var"), "{error}");
}
