//! The NeuralEF objective: max R_jj − Σ_{i<j} R_ij²/R_ii for every j at once (Deng et al. 2022, eq. 15–18).

use std::sync::Arc;

use super::estimator::{Estimator, PARAMETER, mean_product};
use super::{Objective, Step};
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat, MatRef};
use crate::operator::Diagonal;
use crate::spec::{Choice as _, Entry};

/// Registry entry: `neuralef(estimator=paper)`.
pub(super) const ENTRY: Entry<Arc<dyn Objective>> = Entry {
    name: "neuralef",
    summary: "max R_jj - sum_{i<j} R_ij^2/R_ii with L2 batch normalisation (Deng et al. 2022)",
    parameters: &[PARAMETER],
    build: |args| Ok(Arc::new(NeuralEf::new(args.choice("estimator")?))),
};

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
        let r = mean_product(psi, t_psi)?;
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
        self.estimator.diagonal()
    }

    fn fresh(&self) -> Box<dyn Objective> {
        Box::new(self.clone())
    }

    fn text(&self) -> String {
        ENTRY.text(&[("estimator", &self.estimator.name())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::tests::{check_gradient, mean, random};

    #[test]
    fn cotangent_is_the_gradient_of_the_stated_objective() {
        // −(R_jj − Σ_{i<j} R_ij²/R_ii) as a function of column j alone, by its definition.
        check_gradient("neuralef", |t, psi, _, j| {
            let r = mean(psi, &t.dot(psi));
            (0..j).map(|i| r[[i, j]].powi(2) / r[[i, i]]).sum::<f64>() - r[[j, j]]
        });
    }

    #[test]
    fn true_eigenvectors_are_stationary_under_the_constraint() {
        // At the eigenvectors the gradient of column j is along column j itself, which the L2
        // normalisation takes out.
        let a = random(10, 10, 1);
        let t = a.dot(&a.t()) / 10.0;
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
}
