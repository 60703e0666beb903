//! Wall time of the convolutional engine: a training step of an ensemble of convnets without its
//! kernel, and a forward pass of ResNet-20. `benches/peers/networks.py` sets them beside PyTorch's.
//!
//! `cargo run --release -p neuralef --example networks -- [repeats]` prints medians as JSON.

use std::time::Instant;

use neuralef::nn::{OptimizerSpec, Tape, l2_normalise};
use neuralef::{Mat, NetworkSpec};

/// The ensemble of the paper's MNIST experiment.
const CONVNET: &str = "convnet(channels=[32, 64, 128], kernel=5, pool=[2, 2, 1], readout=average)";

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn timed(repeats: usize, mut work: impl FnMut() -> neuralef::Result<()>) -> neuralef::Result<f64> {
    work()?;
    let mut seconds = Vec::new();
    for _ in 0..repeats {
        let started = Instant::now();
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

fn smooth(n: usize, d: usize) -> Mat {
    Mat::from_shape_fn((n, d), |(i, j)| ((i * 7 + j * 3) as f32).sin())
}

fn main() -> neuralef::Result<()> {
    let repeats = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(3);

    let mut network = CONVNET.parse::<NetworkSpec>()?.build(784, 10, 1, 0)?;
    let mut optimizer = "adam(lr=1e-4)".parse::<OptimizerSpec>()?.build(network.parameters())?;
    let (x, mut tape) = (smooth(256, 784), Tape::default());
    let mut gradient = network.parameters().zeros_like();
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let step = timed(repeats, || {
        let started = Instant::now();
        let normalised = l2_normalise(network.forward(x.view(), Some(&mut tape))?)?;
        forward.push(started.elapsed().as_secs_f64());
        let cotangent = normalised.backward(normalised.psi.mapv(f32::cos))?;
        let started = Instant::now();
        network.vjp(&tape, cotangent.view(), &mut gradient)?;
        backward.push(started.elapsed().as_secs_f64());
        optimizer.step(network.parameters_mut(), &gradient, 1e-4)
    })?;

    let resnet =
        "shared_resnet(depth=20, width=16)".parse::<NetworkSpec>()?.build(3072, 10, 1, 0)?;
    let images = smooth(256, 3072);
    let inference = timed(repeats, || resnet.forward(images.view(), None).map(|_| ()))?;
    let tangent = resnet.parameters().zeros_like();
    let jvp = timed(repeats, || resnet.jvp(images.view(), &tangent).map(|_| ()))?;
    println!(
        "{{\"convnet_step\": {step:.4}, \"convnet_forward\": {:.4}, \"convnet_backward\": {:.4}, \
         \"resnet20_images_per_second\": {:.1}, \"resnet20_jvp_per_second\": {:.1}}}",
        median(forward),
        median(backward),
        256.0 / inference,
        256.0 / jvp
    );
    Ok(())
}
