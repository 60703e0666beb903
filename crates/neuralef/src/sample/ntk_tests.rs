//! Features of tangent kernels against exact Jacobians; finite differences against derivatives.

use std::path::Path;

use super::ntk::default_epsilon;
use super::tests::{all, assert_kernel, dataset, points, spec};
use super::*;
use crate::data::Dtype;
use crate::error::Error;
use crate::matrix::Mat;
use crate::nn::Network;
use crate::observer::{Control, Event, Silent};

fn run(
    network: &mut dyn Network,
    x: &Mat,
    tangents: &Tangents,
    sampling: &Sampling,
    path: &Path,
) -> Mat {
    all(&ntk(network, &dataset(x), tangents, sampling, path, &mut Silent).unwrap())
}

fn differences(epsilon: Option<f64>) -> Tangents {
    Tangents { derivative: Derivative::FiniteDifference { epsilon }, ..Tangents::default() }
}

#[test]
fn products_of_features_are_the_exact_kernel_on_average() {
    let dir = tempfile::tempdir().unwrap();
    let x = points();
    let law = WeightLaw { weight_var: vec![2.0], bias_var: vec![0.5] };
    for (number, (text, probes, parameterization)) in [
        ("shared_mlp(hidden=[6, 5])", Probes::Rademacher, None),
        ("shared_mlp(hidden=[6, 5])", Probes::Gaussian, None),
        ("shared_mlp(hidden=[6], activation=erf)", Probes::Rademacher, Some(law)),
        ("mlp(hidden=[6])", Probes::Gaussian, None),
        ("convnet(image=[2, 1, 1], channels=[3], kernel=1, pool=1)", Probes::Rademacher, None),
    ]
    .into_iter()
    .enumerate()
    {
        // One function with two outputs, and two functions, are two rows of a point alike.
        let (functions, outputs) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        let mut network = spec(text).build(2, functions, outputs, 5).unwrap();
        let want = exact_ntk(&*network, x.view(), None, parameterization.as_ref(), 100).unwrap();
        let tangents = Tangents { probes, parameterization, ..Tangents::default() };
        let sampling = Sampling { samples: 20_000, seed: 1, ..Sampling::default() };
        let path = dir.path().join(number.to_string());
        let phi = run(&mut *network, &x, &tangents, &sampling, &path);
        // (point, output) in rows: 3 points of 2 outputs.
        assert_eq!(phi.dim(), (6, 20_000));
        assert_kernel(&phi, &want, 0.015, text);
    }
}

/// Rounding: sums of P products in single precision, in another order.
#[test]
fn reverse_mode_gives_the_features_of_forward_mode() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((70, 27), |(i, j)| ((i * 27 + j) as f32 * 0.71).sin());
    for (number, (text, functions, outputs)) in [
        ("mlp(hidden=[6], activation=tanh)", 2, 3),
        ("shared_mlp(hidden=[6, 5], activation=erf)", 3, 1),
        ("convnet(channels=[3], kernel=3, norm=batch, pool=1)", 2, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let mut network = spec(text).build(27, functions, outputs, 5).unwrap();
        network.freeze(true);
        for parameterization in [None, Some(WeightLaw::new(2.0, 0.5))] {
            let sampling = Sampling { samples: 50, memory_budget: 16, ..Sampling::default() };
            let mut of = |derivative: Derivative| {
                let tangents = Tangents {
                    derivative,
                    parameterization: parameterization.clone(),
                    ..Tangents::default()
                };
                let scaled = parameterization.is_some();
                let path = dir.path().join(format!("{number}{scaled}{derivative}"));
                run(&mut *network, &x, &tangents, &sampling, &path)
            };
            let (forward, reverse) = (of(Derivative::Exact), of(Derivative::Reverse));
            assert_eq!(forward.nrows(), 70 * functions * outputs);
            let size = forward.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            let off = (&forward - &reverse).iter().fold(0.0f32, |a, v| a.max(v.abs()));
            assert!(off < 2e-6 * size, "{text}: {off} of {size}");
        }
    }
}

/// Root mean square of the difference of finite differences from exact derivatives, relative to these.
fn error_of(network: &mut dyn Network, x: &Mat, epsilon: Option<f64>) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let sampling = Sampling { samples: 10, ..Sampling::default() };
    let mut of = |tangents: &Tangents, name: &str| {
        run(network, x, tangents, &sampling, &dir.path().join(name)).mapv(f64::from)
    };
    let exact = of(&Tangents::default(), "exact");
    let square = |x: ndarray::Array2<f64>| x.iter().map(|v| v * v).sum::<f64>();
    let off = of(&differences(epsilon), "differences") - &exact;
    (square(off) / square(exact)).sqrt()
}

#[test]
fn finite_differences_err_by_rounding_over_epsilon_and_by_a_power_of_epsilon() {
    // Many points, so that some are near a kink.
    let x = Mat::from_shape_fn((2000, 3), |(i, j)| ((i * 3 + j) as f32 * 0.71).sin());
    for (text, power, bound) in [
        // Smooth functions err by ε, and both errors are √u at the default.
        ("shared_mlp(hidden=[64, 64], activation=tanh)", 1.0, 4.0 * 2.0f64.powi(-12)),
        ("shared_mlp(hidden=[16], activation=erf)", 1.0, 4.0 * 2.0f64.powi(-12)),
        // A step crosses a kink with a probability that goes like ε, so the mean square does too.
        ("shared_mlp(hidden=[64, 64], activation=relu)", 0.5, 0.012),
    ] {
        let mut network = spec(text).build(3, 4, 1, 2).unwrap();
        let best = default_epsilon(network.parameters(), &[]);
        // Far on either side one of the two errors is alone: a/ε and b·ε^power.
        let mut at = |factor: f64| error_of(&mut *network, &x, Some(factor * best));
        let (low, lower) = (at(1.0 / 512.0), at(1.0 / 2048.0));
        let (high, higher) = (at(16.0), at(64.0));
        assert!((lower / low / 4.0 - 1.0).abs() < 0.1, "{text}: {lower} {low}");
        let growth = (higher / high).log(4.0);
        assert!((growth - power).abs() < 0.1, "{text}: {high} {higher}");
        // At the default their squares add.
        let predicted = (lower / 2048.0).hypot(high / 16f64.powf(power));
        let error = error_of(&mut *network, &x, None);
        assert!((error / predicted - 1.0).abs() < 0.25, "{text}: {error}, not {predicted}");
        assert!(error < bound, "{text}: {error}");
    }
}

#[test]
fn epsilon_follows_the_size_of_parameters_and_directions() {
    let mut network = spec("shared_mlp(hidden=[8])").build(2, 1, 1, 0).unwrap();
    let unit = f64::from(f32::EPSILON).sqrt();
    let set = |network: &mut dyn Network, value: f32| {
        network.parameters_mut().units_mut().iter_mut().for_each(|u| u.fill(value));
        default_epsilon(network.parameters(), &[])
    };
    assert!((set(&mut *network, 0.25) / (0.25 * unit) - 1.0).abs() < 1e-12);
    assert_eq!(set(&mut *network, 0.0), unit);
    set(&mut *network, 1.0);
    // All tensors scaled alike: weights of fan-in 2 and 8, and biases, by 3.
    let factors = vec![vec![3.0; 4]];
    let scaled = default_epsilon(network.parameters(), &factors);
    assert!((scaled * 3.0 / unit - 1.0).abs() < 1e-12, "{scaled}");
}

#[test]
fn interrupted_runs_go_on_to_the_same_bits_and_leave_the_network_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((150, 2), |(i, j)| ((i * 2 + j) as f32 * 0.37).sin());
    let mut network = spec("shared_mlp(hidden=[6])").build(2, 2, 1, 7).unwrap();
    let before = network.parameters().clone();
    let sampling = Sampling { samples: 3000, seed: 2, dtype: Dtype::F16, memory_budget: 1 };
    let reverse = Tangents { derivative: Derivative::Reverse, ..Tangents::default() };
    for (name, tangents) in
        [("exact", Tangents::default()), ("differences", differences(None)), ("reverse", reverse)]
    {
        let whole = dir.path().join(format!("{name}-whole"));
        // One block, as 256 MiB allow.
        let large = Sampling { memory_budget: 256, ..sampling.clone() };
        ntk(&mut *network, &dataset(&x), &tangents, &large, &whole, &mut Silent).unwrap();
        assert_eq!(network.parameters(), &before);
        let path = dir.path().join(name);
        let mut stops = 0;
        loop {
            let mut left = 130;
            let mut observer = |event: &Event<'_>| {
                left -= i32::from(matches!(event, Event::Progress { .. }));
                if left <= 0 { Control::Stop } else { Control::Continue }
            };
            let data = dataset(&x);
            let result = ntk(&mut *network, &data, &tangents, &sampling, &path, &mut observer);
            assert_eq!(network.parameters(), &before);
            match result {
                Err(Error::SamplingInterrupted { .. }) => stops += 1,
                done => break assert_eq!(done.unwrap().outputs, 2),
            }
        }
        assert!(stops > 0);
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&whole).unwrap());
    }
    // Other weights, activations and ways are other work.
    let path = dir.path().join("exact");
    let refuse = |network: &mut dyn Network, tangents: &Tangents, part: &str| {
        let error = ntk(network, &dataset(&x), tangents, &sampling, &path, &mut Silent);
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with(part), "{message}");
    };
    let build = |text: &str, seed| spec(text).build(2, 2, 1, seed).unwrap();
    refuse(&mut *build("shared_mlp(hidden=[6])", 8), &Tangents::default(), "values");
    let gelu = "shared_mlp(hidden=[6], activation=gelu)";
    refuse(&mut *build(gelu, 7), &Tangents::default(), "values");
    refuse(&mut *network, &differences(Some(1e-3)), "derivative");
    let gaussian = Tangents { probes: Probes::Gaussian, ..Tangents::default() };
    refuse(&mut *network, &gaussian, "probes");
    let law = Some(WeightLaw::new(1.0, 1.0));
    let scaled = Tangents { parameterization: law, ..Tangents::default() };
    refuse(&mut *network, &scaled, "parameterization");
}

#[test]
fn names_and_bad_settings() {
    for (text, derivative) in [
        ("exact", Derivative::Exact),
        ("reverse", Derivative::Reverse),
        ("finite_difference", Derivative::FiniteDifference { epsilon: None }),
        ("finite_difference(epsilon=auto)", Derivative::FiniteDifference { epsilon: None }),
        ("finite_difference(epsilon=1e-4)", Derivative::FiniteDifference { epsilon: Some(1e-4) }),
    ] {
        assert_eq!(text.parse::<Derivative>().unwrap(), derivative);
        assert_eq!(derivative.to_string().parse::<Derivative>().unwrap(), derivative);
    }
    for probes in [Probes::Rademacher, Probes::Gaussian] {
        assert_eq!(probes.to_string().parse::<Probes>().unwrap(), probes);
    }
    for bad in ["finite_difference(epsilon=0)", "finite_difference(epsilon=small)", "exactly"] {
        assert!(bad.parse::<Derivative>().is_err(), "{bad}");
    }
    let dir = tempfile::tempdir().unwrap();
    let refuse = |width: usize, tangents: &Tangents, budget: u64, part: &str| {
        let mut network = spec("shared_mlp(hidden=[256])").build(2, 1, 1, 0).unwrap();
        let sampling = Sampling { samples: 10, memory_budget: budget, ..Sampling::default() };
        let data = dataset(&Mat::zeros((4, width)));
        let path = dir.path().join("x.npy");
        let error = ntk(&mut *network, &data, tangents, &sampling, path, &mut Silent);
        let message = error.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refuse(3, &Tangents::default(), 64, "points: expected shape n × 2, got 4 × 3");
    refuse(2, &Tangents::default(), 0, "MiB");
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refuse(2, &differences(Some(bad)), 64, "epsilon");
    }
    let law = WeightLaw { weight_var: vec![1.0; 3], bias_var: vec![1.0] };
    let tangents = Tangents { parameterization: Some(law), ..Tangents::default() };
    refuse(2, &tangents, 64, "weight_var");
}
