//! Two moons and two circles in the coordinates of their first three eigenfunctions: NeuralEF with
//! and without its readout, SpIN and Nyström, one figure each.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example toy [-- KERNEL [DIRECTORY]]
//! ```
//!
//! KERNEL is any kernel's text (default `rbf(lengthscale=0.3)`), DIRECTORY where the figures go.

use std::path::PathBuf;

use neuralef::compare::Contender;
use neuralef::fit::Steps;
use neuralef::{Dataset, FitSpec, Model, fit};
use neuralef_figure::{Body, Colouring, Scatter, Series, Spectrum, panel};

/// Eigenfunctions, and the coordinates that are drawn.
const K: usize = 3;
const DATA: [&str; 2] = ["two_moons(n=1000, noise=0.05)", "circles(n=1000, noise=0.03)"];
const CONTENDERS: [&str; 4] = ["neuralef", "neuralef_raw", "spin_raw", "nystrom"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kernel = arguments.next().unwrap_or_else(|| "rbf(lengthscale=0.3)".into());
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    std::fs::create_dir_all(&folder)?;
    for location in DATA {
        let data = Dataset::open(location, 0)?;
        for name in CONTENDERS {
            let base = FitSpec { steps: Steps::Exactly(2000), ..FitSpec::new(&kernel, K)? };
            let model = fit(&data, &Contender::named(name)?.spec(&base))?;
            let set = location.split('(').next().unwrap_or(location);
            let path = folder.join(format!("{set}-{name}.svg"));
            draw(&model, &data, name, &path)?;
            let mu: Vec<String> = model.eigenvalues().iter().map(|m| format!("{m:.4}")).collect();
            println!("{set:<10} {name:<13} μ = {}  {}", mu.join(" "), path.display());
        }
    }
    Ok(())
}

fn draw(
    model: &Model,
    data: &Dataset,
    name: &str,
    path: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let psi = model.eigenfunctions(data.range(0..data.len())?.view())?;
    let columns: Vec<Vec<f64>> = psi.columns().into_iter().map(|c| c.to_vec()).collect();
    let names = ["ψ₁", "ψ₂", "ψ₃"];
    let coordinates: Vec<Series<'_>> =
        names.iter().zip(&columns).map(|(name, values)| Series { name, values }).collect();
    let scatter = Scatter {
        title: "Points in eigenfunction coordinates",
        subtitle: "",
        coordinates: &coordinates,
        colouring: data.labels().map_or(Colouring::None, Colouring::Labels),
    };
    let pairs = &model.certificate().pairs;
    let errors: Vec<f64> = pairs.iter().map(|p| p.standard_error).collect();
    let spectrum = Spectrum {
        title: "Eigenvalues ± standard error",
        subtitle: "",
        eigenvalues: Series { name: "eigenvalue", values: model.eigenvalues() },
        standard_errors: &errors,
        reference: None,
    };
    let title = format!("{}: {name}", data.name());
    let kernel = model.info().kernel.clone().unwrap_or_default();
    panel(path, &title, &kernel, &spectrum, &Body::Scatter(scatter))?;
    Ok(())
}
