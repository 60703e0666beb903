//! An objective of your own: from functions ψ and Tψ on a batch to the direction that they are to take.
//!
//! Sanger's rule (1989), the generalised Hebbian algorithm, for functions. Asserted: its eigenvalues are
//! those of the Gram matrix. `cargo run --release -p neuralef --example own_objective`

use neuralef::method::Nystrom;
use neuralef::objective::{Objective, Step};
use neuralef::operator::Diagonal;
use neuralef::{Dataset, FeatureMap, KernelSpec, Mat, MatRef, Result};

/// Function j follows Tψ_j − Σ_{i≤j} R_ij ψ_i, R_ij = E ψ_i Tψ_j. The term i = j makes E ψ_j² = 1.
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

    fn text(&self) -> String {
        "sanger".into()
    }
}

fn main() -> Result<()> {
    let x = Dataset::open("two_moons(n=400, noise=0.1)", 0)?.range(0..400)?;
    let kernel = "rbf(lengthscale=0.5)".parse::<KernelSpec>()?.resolve(None, 0)?;
    let mut t = Mat::zeros((x.nrows(), x.nrows()));
    kernel.gram_f32(x.view(), x.view(), t.view_mut())?;
    t /= x.nrows() as f32;

    // Functions that are tables of values, one for each point, take small steps down.
    let mut psi = Mat::from_shape_fn((x.nrows(), 4), |(i, j)| ((i * (j + 1)) as f32).sin());
    let mut found = Sanger.step(psi.view(), t.dot(&psi).view())?;
    for step in 1..=400 {
        psi.scaled_add(-(x.nrows() as f32), &found.cotangent);
        found = Sanger.step(psi.view(), t.dot(&psi).view())?;
        if step % 100 == 0 {
            println!("step {step}: {:.5?}", found.eigenvalues);
        }
    }
    let exact = Nystrom::fit(kernel, x, 4)?;
    let exact = exact.eigenvalues().unwrap_or_default();
    println!("exact:    {exact:.5?}");
    let close = |(found, exact): (&f64, &f64)| (found / exact - 1.0).abs() < 1e-3;
    assert!(exact.len() == 4 && found.eigenvalues.iter().zip(exact).all(close));
    Ok(())
}
