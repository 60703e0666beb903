//! How accurate are learned eigenfunctions where the truth is known?
//!
//! Four kernels with known spectra, N = 8192 training points each, networks
//! `mlp(hidden=[32, 32], activation=sin_cos)`, batch 256, 2,000 steps of Adam at 1e-3 with a cosine
//! schedule. Compared on 4,096 fresh points with the exact eigenpairs of the Gram matrix on all
//! training points, and with the population's.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example accuracy [-- SEED]
//! ```

use ndarray::Axis;
use neuralef::closed_form::{
    BrownianUniform, KnownSpectrum, PolynomialUniform, Quadrature, RbfGaussian,
};
use neuralef::fit::{ReadoutKind, Steps};
use neuralef::method::Nystrom;
use neuralef::metrics::{DEFAULT_GAP, compare};
use neuralef::{Dataset, FeatureMap, Fit, FitSpec, KernelSpec, Mat, Mat64, Model, Result};

/// Eigenpairs asked for.
const K: usize = 10;
/// Reference pairs beyond, so that clusters are whole.
const BEYOND: usize = 5;

struct Case {
    name: &'static str,
    kernel: &'static str,
    /// Without its number of points.
    data: &'static str,
    population: Box<dyn KnownSpectrum>,
}

fn cases() -> Result<Vec<Case>> {
    let rbf = "rbf(lengthscale=1)";
    let kernel = rbf.parse::<KernelSpec>()?.resolve(None, 0)?;
    Ok(vec![
        Case {
            name: "rbf on U[-2,2] (recipe C)",
            kernel: rbf,
            data: "uniform(d=1, low=-2, high=2",
            population: Box::new(Quadrature::uniform(kernel, -2.0, 2.0, 80, K + BEYOND)?),
        },
        Case {
            name: "polynomial on U[-1,1], rank 5",
            kernel: "polynomial(degree=4, gamma=1, coef0=1.5)",
            data: "uniform(d=1, low=-1, high=1",
            population: Box::new(PolynomialUniform::new(4, 1.0, 1.5, -1.0, 1.0)?),
        },
        Case {
            name: "brownian on U[0,1]",
            kernel: "brownian",
            data: "uniform(d=1, low=0, high=1",
            population: Box::new(BrownianUniform::new(1.0)?),
        },
        Case {
            name: "rbf under N(0,1) in 2-D",
            kernel: rbf,
            data: "gaussian(d=2",
            population: Box::new(RbfGaussian::isotropic(1.0, 1.0, 2)?),
        },
    ])
}

fn main() -> Result<()> {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    for case in cases()? {
        run(&case, seed)?;
    }
    Ok(())
}

fn run(case: &Case, seed: u64) -> Result<()> {
    let draw = |n: usize, s: u64| Dataset::open(&format!("{}, n={n})", case.data), 3 * seed + s);
    let (train, validation, fresh) = (draw(8192, 1)?, draw(1024, 2)?, draw(4096, 3)?);
    let x = fresh.range(0..fresh.len())?;

    let kernel = case.kernel.parse::<KernelSpec>()?.resolve(None, 0)?;
    let exact = Nystrom::fit(kernel, train.range(0..train.len())?, K + BEYOND)?;
    let exact_psi = exact.eigenfunctions(x.view())?;
    let exact_mu = exact.eigenvalues().unwrap_or(&[]);
    let population = case.population.eigenvalues(K)?;

    let fit = |steps: u64, readout: ReadoutKind, objective: &str| -> Result<(Model, f64)> {
        let spec = FitSpec {
            network: "mlp(hidden=[32, 32], activation=sin_cos)".parse()?,
            objective: objective.into(),
            steps: Steps::Exactly(steps),
            readout,
            seed,
            ..FitSpec::new(case.kernel, K)?
        };
        let (model, timings) = Fit::new(spec).validation(validation.clone()).run(&train)?;
        Ok((model, timings.total_seconds))
    };
    let (raw, _) = fit(2000, ReadoutKind::None, "neuralef(estimator=paper)")?;
    let (unbiased, _) = fit(2000, ReadoutKind::None, "neuralef(estimator=unbiased)")?;
    let (untrained, untrained_seconds) = fit(0, ReadoutKind::Galerkin, "neuralef")?;
    let (trained, trained_seconds) = fit(2000, ReadoutKind::Galerkin, "neuralef")?;

    println!("\n### {} (seed {seed})\n", case.name);
    println!(
        "| j | eigenvalue | exact on the 8,192 points | relative difference | ± s.e. | population \
         | raw, paper | raw, unbiased | untrained + galerkin | trained + galerkin |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let cosines = |model: &Model| agreement(model, &x, &exact_psi, exact_mu);
    let columns = [cosines(&raw)?, cosines(&unbiased)?, cosines(&untrained)?, cosines(&trained)?];
    for (j, pair) in trained.certificate().pairs.iter().enumerate().take(exact_mu.len()) {
        let shown: Vec<String> =
            columns.iter().map(|c| c.get(j).map_or("–".into(), |v| format!("{v:.6}"))).collect();
        println!(
            "| {} | {:.6e} | {:.6e} | {:.1e} | {:.2} % | {:.6e} | {} |",
            j + 1,
            pair.eigenvalue,
            exact_mu[j],
            (pair.eigenvalue / exact_mu[j] - 1.0).abs(),
            100.0 * pair.standard_error / pair.eigenvalue,
            population.get(j).copied().unwrap_or(0.0),
            shown.join(" | ")
        );
    }
    let right = |c: &[f64]| c.iter().filter(|v| **v > 0.99).count();
    println!(
        "\n|cos| > 0.99: raw {} (paper), {} (unbiased); untrained + galerkin {} in {:.2} s; trained + \
         galerkin {} in {:.2} s; usable {} of {K}",
        right(&columns[0]),
        right(&columns[1]),
        right(&columns[2]),
        untrained_seconds,
        right(&columns[3]),
        trained_seconds,
        trained.n_components(),
    );
    Ok(())
}

/// |cos| with the exact eigenfunctions at x; near-equal eigenvalues as one subspace.
fn agreement(model: &Model, x: &Mat, exact: &Mat64, exact_mu: &[f64]) -> Result<Vec<f64>> {
    let psi = model.eigenfunctions(x.view())?;
    let k = psi.ncols().min(exact.ncols());
    let found = compare(
        &model.eigenvalues()[..k],
        psi.slice_axis(Axis(1), (0..k).into()),
        exact_mu,
        exact.view(),
        DEFAULT_GAP,
    )?;
    Ok(found.eigenfunctions.subspace_cosines)
}
