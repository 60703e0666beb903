//! μ-EigenGame in function space: Tψ_j − Σ_{i<j} ⟨ψ_i, Tψ_j⟩ψ_i under L2 batch normalisation (Gemp et al. 2022).

use std::sync::Arc;

use super::estimator::{Estimator, PARAMETER, mean_product};
use super::{Objective, Step};
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat, MatRef};
use crate::operator::Diagonal;
use crate::spec::{Choice as _, Entry};

/// Registry entry: `mu_eigengame(estimator=paper)`.
pub(super) const ENTRY: Entry<Arc<dyn Objective>> = Entry {
    name: "mu_eigengame",
    summary: "mu-EigenGame in function space, with L2 batch normalisation (Gemp et al. 2022)",
    parameters: &[PARAMETER],
    build: |args| Ok(Arc::new(MuEigenGame::new(args.choice("estimator")?))),
};

/// μ-EigenGame ("EigenGame Unloaded", Gemp et al. 2022, eq. 7) with functions for vectors.
///
/// With R_ij = E ψ_iTψ_j player j ascends Tψ_j − Σ_{i<j} R_ijψ_i: the gradient of its utility
/// ½E ψ_jTψ_j − Σ_{i<j} R_ij E ψ_iψ_j with R held fixed. Unlike NeuralEF's, the penalty is linear in
/// T, so that the estimate from a batch is unbiased; cost O(Bk²).
#[derive(Debug, Clone)]
pub struct MuEigenGame {
    estimator: Estimator,
}

impl MuEigenGame {
    /// With the given estimator of T.
    pub fn new(estimator: Estimator) -> Self {
        MuEigenGame { estimator }
    }
}

impl Objective for MuEigenGame {
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step> {
        let (rows, k) = psi.dim();
        let r = mean_product(psi, t_psi)?;
        let overlap = mean_product(psi, psi)?;
        let scale = 2.0 / rows as f64;
        let mut loss = 0.0;
        let mut penalty = Mat::zeros((k, k));
        for j in 0..k {
            loss -= r[[j, j]];
            for i in 0..j {
                loss += 2.0 * r[[i, j]] * overlap[[i, j]];
                penalty[[i, j]] = (scale * r[[i, j]]) as f32;
            }
        }
        let mut cotangent = linalg::matmul_f32(psi, penalty.view())?;
        cotangent.scaled_add(-scale as f32, &t_psi);
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
    use crate::objective::tests::{check_gradient, mean};

    #[test]
    fn cotangent_is_the_gradient_of_the_utility_with_r_held_fixed() {
        check_gradient("mu_eigengame", |t, psi, fixed, j| {
            let r = mean(fixed, &t.dot(fixed));
            let (own, overlap) = (mean(psi, &t.dot(psi)), mean(psi, psi));
            (0..j).map(|i| 2.0 * r[[i, j]] * overlap[[i, j]]).sum::<f64>() - own[[j, j]]
        });
    }
}
