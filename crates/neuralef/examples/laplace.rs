//! A trained network learns to say how sure it is, without being trained again.
//!
//! A classifier of few points is too sure of itself, one with ReLUs the more the farther a point is from
//! all data (Hein et al. 2019). Laplace approximations bound that (Kristiadi et al. 2020); the prior
//! precision is that of the largest marginal likelihood, so that no points are held out. Asserted: they
//! leave the network's outputs as they are, improve the likelihood of test points, and are less sure far
//! away. `cargo run --release -p neuralef --example laplace`

use neuralef::bayes::trajectory::{Training, TrajectoryWeights};
use neuralef::bayes::{LaplaceSpec, Predictive, Targets};
use neuralef::calibration::{assess, confidences};
use neuralef::nn::{TrainedNetwork, write_weights};
use neuralef::train::Silent;
use neuralef::{Dataset, Error, Mat64, NetworkSpec, Result};

const NETWORK: &str = "mlp(hidden=[16, 16, 16], activation=relu)";

fn labels(data: &Dataset) -> Vec<usize> {
    data.labels().unwrap_or_default().iter().map(|label| *label as usize).collect()
}

/// The mean of the largest probabilities.
fn mean_confidence(p: &Mat64) -> Result<f64> {
    Ok(confidences(p.view())?.iter().map(|(p, _)| p).sum::<f64>() / p.nrows() as f64)
}

fn main() -> Result<()> {
    let train = Dataset::open("two_moons(n=100, noise=0.3)", 0)?;
    let test = Dataset::open("two_moons(n=1000, noise=0.3)", 1)?;
    let targets = Targets::Labels(labels(&train));
    // Any network that was trained anywhere will do: ONNX, or weights by PyTorch's names.
    let training = Training { batch_size: 64, ..Training::default() };
    let network = NETWORK.parse::<NetworkSpec>()?.build(2, 1, 2, 0)?;
    let mut trained = training.run(network, &train, &targets, &mut [], &mut Silent)?;
    let path = std::env::temp_dir().join("neuralef_laplace.safetensors");
    write_weights(trained.network_with(TrajectoryWeights::Base), &path)?;

    let network = TrainedNetwork::open(&path, Some(NETWORK))?;
    let x = test.range(0..test.len())?;
    let f = network.build(2)?.forward(x.view(), None)?.mapv(f64::from);
    let mut found = Vec::new();
    println!("{:<24} {:>6} {:>6} {:>12} {:>14}", "", "NLL", "ECE", "confidence", "100 times out");
    for source in ["map", "last_layer", "neuralef(components=20)"] {
        let posterior = LaplaceSpec::new(source)?.fit(&network, &train, &targets, &mut Silent)?;
        let (near, far) = (posterior.outputs(x.view())?, posterior.outputs((&x * 100.0).view())?);
        assert_eq!(near.mean, f);
        let p = near.probabilities(Predictive::Probit, 0)?;
        let scores = assess(p.view(), &labels(&test))?;
        let near = mean_confidence(&p)?;
        let far = mean_confidence(&far.probabilities(Predictive::Probit, 0)?)?;
        println!("{source:<24} {:>6.3} {:>6.3} {near:>12.3} {far:>14.3}", scores.nll, scores.ece);
        found.push((scores.nll, far));
    }
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
    assert!(found[1..].iter().all(|(nll, far)| *nll < found[0].0 && *far < found[0].1));
    Ok(())
}
