//! Where does training pay? The embedded digits, rbf(lengthscale=median), k = 10, a quarter held out.
//!
//! Every readout with 0, 200 and 2,000 steps and with `steps = auto`: |cos| of the ten
//! eigenfunctions with those of the Gram matrix on all 1,797 points, on held-out points that no
//! choice was made on; beside it Nyström on the same training points, which is as good as a method
//! that sees only those can be expected to get.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example digits [-- SEED]
//! ```

use neuralef::fit::{ReadoutKind, Steps};
use neuralef::matrix::Mat64Ref;
use neuralef::method::Nystrom;
use neuralef::metrics::{DEFAULT_GAP, compare};
use neuralef::{Dataset, FeatureMap, Fit, FitSpec, KernelSpec, Mat64, Result};

const K: usize = 10;
const BEYOND: usize = 5;

fn main() -> Result<()> {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let digits = Dataset::open("digits", 0)?;
    let base =
        FitSpec { validation_fraction: 0.25, seed, ..FitSpec::new("rbf(lengthscale=median)", K)? };
    let split = base.split(digits.len());
    let x = digits.rows(&split.certificate)?;

    // The kernel that every fit resolves to, from the training points.
    let kernel = "rbf(lengthscale=median)"
        .parse::<KernelSpec>()?
        .resolve(Some(digits.rows(&split.train)?.view()), seed)?;
    let all = digits.range(0..digits.len())?;
    let truth = Nystrom::fit(kernel.clone(), all, K + BEYOND)?;
    let truth_psi = truth.eigenfunctions(x.view())?;
    let truth_mu = truth.eigenvalues().unwrap_or(&[]);
    let cosines = |mu: &[f64], psi: Mat64Ref<'_>| -> Result<Vec<f64>> {
        let found = compare(mu, psi, truth_mu, truth_psi.view(), DEFAULT_GAP)?;
        Ok(found.eigenfunctions.subspace_cosines)
    };
    let started = std::time::Instant::now();
    let nystrom = Nystrom::fit(kernel, digits.rows(&split.train)?, K)?;
    let nystrom_seconds = started.elapsed().as_secs_f64();
    let psi: Mat64 = nystrom.eigenfunctions(x.view())?;
    let best = cosines(nystrom.eigenvalues().unwrap_or(&[]), psi.view())?;

    println!(
        "### Digits, {} training and {} test points, seed {seed}\n",
        split.train.len(),
        x.nrows()
    );
    println!(
        "| method | steps | mean abs cos | smallest | largest shortfall behind Nyström | residual | training s | total s |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    print("nystrom, all training points", "–", &best, &best, f64::NAN, 0.0, nystrom_seconds);
    for readout in [ReadoutKind::None, ReadoutKind::Ritz, ReadoutKind::Galerkin] {
        for steps in [Steps::Exactly(0), Steps::Exactly(200), Steps::Exactly(2000), Steps::Auto] {
            let spec = FitSpec { readout, steps, ..base.clone() };
            let (model, timings) = Fit::new(spec).run(&digits)?;
            let found = cosines(model.eigenvalues(), model.eigenfunctions(x.view())?.view())?;
            let taken = match steps {
                Steps::Auto => format!("auto: {}", model.info().record.steps),
                Steps::Exactly(n) => n.to_string(),
            };
            let residuals = model.certificate().pairs.iter().map(|p| p.residual.powi(2));
            let residual = (residuals.sum::<f64>() / K as f64).sqrt();
            let name =
                if readout == ReadoutKind::None { "raw".into() } else { readout.to_string() };
            print(
                &name,
                &taken,
                &found,
                &best,
                residual,
                timings.training_seconds,
                timings.total_seconds,
            );
        }
    }
    Ok(())
}

fn print(
    name: &str,
    steps: &str,
    found: &[f64],
    best: &[f64],
    residual: f64,
    training: f64,
    total: f64,
) {
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let smallest = found.iter().copied().fold(1.0, f64::min);
    let shortfall = best.iter().zip(found).map(|(b, f)| b - f).fold(0.0, f64::max);
    println!(
        "| {name} | {steps} | {mean:.4} | {smallest:.4} | {shortfall:.4} | {residual:.3} | \
         {training:.2} | {total:.2} |"
    );
}
