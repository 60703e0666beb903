//! Wall time of one training step of a network without its kernel, and of its parts: forward, L2
//! normalisation, backward, Adam. Medians in microseconds.
//!
//! `cargo run --release -p neuralef-experiments --example network_step -- [seconds]` gives every part
//! that many seconds (default 2).

use std::time::{Duration, Instant};

use neuralef::nn::{OptimizerSpec, Tape, clip, l2_normalise};
use neuralef::{Mat, NetworkSpec, Result};

/// Name, network, inputs; batches have 256 points.
const CASES: [(&str, &str, usize); 5] = [
    ("10 × 1-32-32-1 sin_cos", "mlp(hidden=[32, 32], activation=sin_cos)", 1),
    ("10 × 64-64-64-1 sin_cos", "mlp(hidden=[64, 64], activation=sin_cos)", 64),
    ("10 × 64-64-64-1 relu", "mlp(hidden=[64, 64], activation=relu)", 64),
    (
        "10 × 5×5 convnets 32-64-128 on 28×28",
        "convnet(channels=[32, 64, 128], kernel=5, pool=[2, 2, 1], readout=average)",
        784,
    ),
    ("64-256-256-10 gelu", "shared_mlp(hidden=[256, 256], activation=gelu)", 64),
];

/// The median time of `work`, called for `budget` and at least five times.
fn median(budget: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || begun.elapsed() < budget {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(2.0);
    let budget = Duration::from_secs_f64(seconds);
    for (name, network, inputs) in CASES {
        let mut network = network.parse::<NetworkSpec>()?.build(inputs, 10, 1, 0)?;
        let x = Mat::from_shape_fn((256, inputs), |(i, j)| ((i * 7 + j * 3) as f32).sin());
        let mut optimizer =
            "adam(lr=1e-6)".parse::<OptimizerSpec>()?.build(network.parameters())?;
        let mut gradient = network.parameters().zeros_like();
        let mut tape = Tape::default();
        println!("{name}");
        let report = |part: &str, time: f64| println!("  {part:<18}{:>12.1} µs", 1e6 * time);
        let step = median(budget, || {
            let normalised = l2_normalise(network.forward(x.view(), Some(&mut tape))?)?;
            // A smooth cotangent stands in for the objective's.
            let cotangent = normalised.backward(normalised.psi.mapv(f32::cos))?;
            network.vjp(&tape, cotangent.view(), &mut gradient)?;
            clip(&mut gradient, Some(1e3))?;
            optimizer.step(network.parameters_mut(), &gradient, 1e-6)
        })?;
        report("step", step);
        let forward = || network.forward(x.view(), Some(&mut tape)).map(drop);
        report("forward with tape", median(budget, forward)?);
        let h = network.forward(x.view(), Some(&mut tape))?;
        let pull_back = || network.vjp(&tape, h.view(), &mut gradient).map(drop);
        report("vjp", median(budget, pull_back)?);
        report("forward", median(budget, || network.forward(x.view(), None).map(drop))?);
        report("hidden", median(budget, || network.hidden(x.view()).map(drop))?);
        let adam = || optimizer.step(network.parameters_mut(), &gradient, 1e-6);
        report("adam", median(budget, adam)?);
    }
    Ok(())
}
