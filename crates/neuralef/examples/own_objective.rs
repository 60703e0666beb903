//! An objective of your own: from functions ψ and Tψ on a batch to the direction that they are to take.
//!
//! Sanger's rule (1989), the generalised Hebbian algorithm, for functions. Asserted: networks trained by it
//! have the eigenvalues of the Gram matrix. `cargo run --release -p neuralef --example own_objective`

use neuralef::fit::{ReadoutKind, Steps};
use neuralef::objective::Step;
use neuralef::operator::Diagonal;
use neuralef::spec::Spec;
use neuralef::{Dataset, FitSpec, Mat, MatRef, Model, Objective, Result, fit};
use std::sync::Arc;

/// Function j follows Tψ_j − Σ_{i≤j} R_ij ψ_i, R_ij = E ψ_i Tψ_j. The term i = j makes E ψ_j² = 1.
#[derive(Debug)]
struct Sanger;

impl Objective for Sanger {
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step> {
        let scale = 2.0 / psi.nrows() as f32;
        let r = psi.t().dot(&t_psi) * (0.5 * scale);
        let upper = Mat::from_shape_fn(r.dim(), |(i, j)| if i <= j { r[[i, j]] } else { 0.0 });
        let cotangent = (psi.dot(&upper) - t_psi) * scale;
        let eigenvalues: Vec<f64> = r.diag().iter().map(|mu| f64::from(*mu)).collect();
        Ok(Step { loss: -eigenvalues.iter().sum::<f64>(), cotangent, eigenvalues })
    }

    fn normalises(&self) -> bool {
        false
    }

    fn diagonal(&self) -> Diagonal {
        Diagonal::Keep
    }

    fn fresh(&self) -> Box<dyn Objective> {
        Box::new(Sanger)
    }

    fn text(&self) -> String {
        "sanger".into()
    }
}

fn main() -> Result<()> {
    let data = Dataset::open("two_moons(n=400, noise=0.1)", 0)?;
    let spec = FitSpec::new("rbf(lengthscale=0.5)", 3)?;
    let trained = FitSpec {
        objective: Spec::own(Arc::new(Sanger)),
        steps: Steps::Exactly(3000),
        optimizer: "adam(lr=0.003)".parse()?,
        readout: ReadoutKind::None, // the objective alone
        ..spec.clone()
    };
    let exact = fit(&data, &FitSpec { method: "kernel_pca".parse()?, ..spec })?;
    let trained = fit(&data, &trained)?;
    println!("exact   {:.4?}\ntrained {:.4?}", exact.eigenvalues(), trained.eigenvalues());
    let mut pairs = trained.eigenvalues().iter().zip(exact.eigenvalues());
    assert!(pairs.all(|(mu, exact)| (mu / exact - 1.0).abs() < 0.05));
    // A file keeps its name, and can do without it.
    Model::from_bytes(&trained.to_bytes()?).map(|model| println!("{}", model.info().spec.objective))
}
