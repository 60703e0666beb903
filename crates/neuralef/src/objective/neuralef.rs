//! The NeuralEF objective: max R_jj − Σ_{i<j} R_ij²/R_ii for every j at once (Deng et al. 2022, eq. 15–18).

use super::{Objective, Step};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, MatRef};
use crate::operator::Diagonal;
use crate::spec::args::{Args, Entry};

/// Registry entry: `neuralef(estimator=paper)`.
pub(super) const ENTRY: Entry<Box<dyn Objective>> = Entry {
    name: "neuralef",
    summary: "max R_jj - sum_{i<j} R_ij^2/R_ii with L2 batch normalisation (Deng et al. 2022)",
    parameters: &[(
        "estimator",
        "paper",
        "paper: batch mean over all pairs; unbiased: pairs x = x' dropped (U-statistic)",
    )],
    build,
};

fn build(args: &mut Args<'_>) -> Result<Box<dyn Objective>> {
    let estimator = match args.name("estimator", "paper")? {
        "paper" => Estimator::Paper,
        "unbiased" => Estimator::Unbiased,
        other => return Err(Error::unknown("estimator", other, &["paper", "unbiased"])),
    };
    Ok(Box::new(NeuralEf { estimator }))
}

/// How batch means over pairs are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimator {
    /// Over all B² pairs, as eq. 18 has it. R_jj is biased by about E[κ(x,x)ψ²]/B, and ≥ 0.
    Paper,
    /// Over the B(B−1) pairs of different points. Unbiased; R_jj of a small eigenvalue can come
    /// out negative on a batch, and such an R_ii then takes no part in the constraints.
    Unbiased,
}

/// The NeuralEF objective of Deng, Shi and Zhu (2022).
///
/// With R = ψᵀTψ/B the gradient for column j, with ψ_i (i < j) held fixed, is
/// −2/B·(Tψ_j − Σ_{i<j} (R_ij/R_ii) Tψ_i); cost O(Bk²).
#[derive(Debug, Clone)]
pub struct NeuralEf {
    estimator: Estimator,
}

impl NeuralEf {
    /// The objective with the given estimator.
    pub fn new(estimator: Estimator) -> Self {
        NeuralEf { estimator }
    }
}

impl Objective for NeuralEf {
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step> {
        let (rows, k) = psi.dim();
        // k × k in double precision: its entries span many orders of magnitude.
        let mut r =
            linalg::tr_matmul_f64(psi.mapv(f64::from).view(), t_psi.mapv(f64::from).view())?;
        r /= rows as f64;
        let mut loss = 0.0;
        // Column j of `mix` holds the weights of Tψ_1 … Tψ_j in the cotangent of ψ_j.
        let mut mix = Mat::zeros((k, k));
        let scale = -2.0 / rows as f64;
        for j in 0..k {
            loss -= r[[j, j]];
            mix[[j, j]] = scale as f32;
            for i in 0..j {
                let cross = 0.5 * (r[[i, j]] + r[[j, i]]);
                if r[[i, i]] > 0.0 {
                    let ratio = cross / r[[i, i]];
                    loss += cross * ratio;
                    mix[[i, j]] = (-scale * ratio) as f32;
                }
            }
        }
        let cotangent = linalg::matmul_f32(t_psi, mix.view())?;
        Ok(Step { cotangent, eigenvalues: r.diag().to_vec(), loss })
    }

    fn diagonal(&self) -> Diagonal {
        match self.estimator {
            Estimator::Paper => Diagonal::Keep,
            Estimator::Unbiased => Diagonal::Drop,
        }
    }

    fn text(&self) -> String {
        match self.estimator {
            Estimator::Paper => "neuralef(estimator=paper)".into(),
            Estimator::Unbiased => "neuralef(estimator=unbiased)".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat64;
    use crate::rng;
    use rand::RngExt as _;

    fn random(rows: usize, columns: usize, seed: u64) -> Mat64 {
        let mut rng = rng::stream(seed, "test", 0);
        Mat64::from_shape_fn((rows, columns), |_| rng.random_range(-1.0..1.0))
    }

    /// A symmetric positive definite operator on B points.
    fn operator(b: usize) -> Mat64 {
        let a = random(b, b, 1);
        a.dot(&a.t()) / b as f64
    }

    /// −(R_jj − Σ_{i<j} R_ij²/R_ii) as a function of column j alone, by its definition.
    fn loss_of_column(t: &Mat64, psi: &Mat64, j: usize) -> f64 {
        let r = psi.t().dot(&t.dot(psi)) / psi.nrows() as f64;
        (0..j).map(|i| r[[i, j]].powi(2) / r[[i, i]]).sum::<f64>() - r[[j, j]]
    }

    #[test]
    fn cotangent_is_the_gradient_of_the_stated_objective() {
        let (b, k) = (12, 4);
        let (t, psi) = (operator(b), random(b, k, 2));
        let (psi32, t_psi32) = (psi.mapv(|v| v as f32), t.dot(&psi).mapv(|v| v as f32));
        let step = NeuralEf::new(Estimator::Paper).step(psi32.view(), t_psi32.view()).unwrap();
        let h = 1e-5;
        for j in 0..k {
            for row in 0..b {
                let (mut up, mut down) = (psi.clone(), psi.clone());
                up[[row, j]] += h;
                down[[row, j]] -= h;
                let slope = (loss_of_column(&t, &up, j) - loss_of_column(&t, &down, j)) / (2.0 * h);
                let got = f64::from(step.cotangent[[row, j]]);
                assert!((got - slope).abs() < 1e-6 * (1.0 + slope.abs()), "{got} {slope}");
            }
        }
        let loss: f64 = (0..k).map(|j| loss_of_column(&t, &psi, j)).sum();
        assert!((step.loss - loss).abs() < 1e-6 * loss.abs());
    }

    #[test]
    fn true_eigenvectors_are_stationary_under_the_constraint() {
        // At the eigenvectors the gradient of column j is along column j itself, which the L2
        // normalisation takes out.
        let t = operator(10);
        let (values, vectors) = linalg::eigh(t.view()).unwrap();
        let psi = vectors.slice(ndarray::s![.., ..3]).mapv(|v| (v * 10f64.sqrt()) as f32);
        let t_psi = t.dot(&psi.mapv(f64::from)).mapv(|v| v as f32);
        let step = NeuralEf::new(Estimator::Paper).step(psi.view(), t_psi.view()).unwrap();
        for j in 0..3 {
            assert!((step.eigenvalues[j] - values[j]).abs() < 1e-5 * values[0]);
            let column = step.cotangent.column(j);
            let along = column.dot(&psi.column(j)) / 10.0;
            let rest = &column - &(&psi.column(j) * along);
            assert!(rest.iter().all(|v| v.abs() < 1e-5 * values[0] as f32), "{rest}");
        }
    }

    #[test]
    fn text_round_trips_and_unknown_estimators_are_named() {
        for text in ["neuralef(estimator=paper)", "neuralef(estimator=unbiased)"] {
            let objective = super::super::OBJECTIVES.build_text(text).unwrap();
            assert_eq!(objective.text(), text);
        }
        let error = super::super::OBJECTIVES.build_text("neuralef(estimator=unbaised)");
        assert!(error.err().unwrap().to_string().contains("did you mean `unbiased`"));
    }
}
