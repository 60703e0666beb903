//! One training step of a network without its kernel: forward, L2 normalisation, backward, Adam.

use criterion::{Criterion, criterion_group, criterion_main};
use neuralef::nn::{OptimizerSpec, Tape, clip, l2_normalise};
use neuralef::{Error, Mat, NetworkSpec};

type Result<T, E = Error> = std::result::Result<T, E>;

/// A smooth cotangent stands in for the objective's.
fn step(c: &mut Criterion, name: &str, network: &str, inputs: usize, batch: usize) -> Result<()> {
    let spec: NetworkSpec = network.parse()?;
    let convolutional = network.starts_with("convnet");
    let mut network = spec.build(inputs, 10, 1, 0)?;
    let x = Mat::from_shape_fn((batch, inputs), |(i, j)| ((i * 7 + j * 3) as f32).sin());
    let optimizer: OptimizerSpec = "adam(lr=1e-6)".parse()?;
    let mut optimizer = optimizer.build(network.parameters())?;
    let mut gradient = network.parameters().zeros_like();
    let mut tape = Tape::default();
    let mut group = c.benchmark_group(name);
    if convolutional {
        // Seconds a step: ten of them say enough.
        group.sample_size(10);
    }
    group.bench_function("step", |b| {
        b.iter(|| -> Result<f64> {
            let normalised = l2_normalise(network.forward(x.view(), Some(&mut tape))?)?;
            let cotangent = normalised.backward(normalised.psi.mapv(f32::cos))?;
            network.vjp(&tape, cotangent.view(), &mut gradient)?;
            let norm = clip(&mut gradient, Some(1e3))?;
            optimizer.step(network.parameters_mut(), &gradient, 1e-6)?;
            Ok(norm)
        });
    });
    group.bench_function("forward with tape", |b| {
        b.iter(|| network.forward(x.view(), Some(&mut tape)));
    });
    let h = network.forward(x.view(), Some(&mut tape))?;
    group.bench_function("vjp", |b| b.iter(|| network.vjp(&tape, h.view(), &mut gradient)));
    group.bench_function("adam", |b| {
        b.iter(|| optimizer.step(network.parameters_mut(), &gradient, 1e-6));
    });
    group.bench_function("forward", |b| b.iter(|| network.forward(x.view(), None)));
    group.bench_function("hidden", |b| b.iter(|| network.hidden(x.view())));
    group.finish();
    Ok(())
}

fn all(c: &mut Criterion) {
    for (name, network, inputs, batch) in [
        ("10 x 1-32-32-1 sin_cos", "mlp(hidden=[32, 32], activation=sin_cos)", 1, 256),
        ("10 x 64-64-64-1 sin_cos", "mlp(hidden=[64, 64], activation=sin_cos)", 64, 256),
        ("10 x 64-64-64-1 relu", "mlp(hidden=[64, 64], activation=relu)", 64, 256),
        (
            "10 x 5x5 convnets 32-64-128 on 28x28",
            "convnet(channels=[32, 64, 128], kernel=5, pool=[2, 2, 1], readout=average)",
            784,
            256,
        ),
        ("64-256-256-10 gelu", "shared_mlp(hidden=[256, 256], activation=gelu)", 64, 256),
    ] {
        if let Err(error) = step(c, name, network, inputs, batch) {
            eprintln!("{name}: {error}");
        }
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
