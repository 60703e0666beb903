//! SpIN, spectral inference networks: masked gradients through a Cholesky factor (Pfau et al. 2019).

use std::sync::Arc;

use super::estimator::{Estimator, PARAMETER, mean_product};
use super::{Objective, ObjectiveState, Outputs, Step};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::{Network, Parameters, Tape};
use crate::operator::Diagonal;
use crate::spec::text::number;
use crate::spec::{Choice as _, Domain, Entry, Interval, Parameter};

/// Registry entry: `spin(beta=0.01, estimator=paper)`.
pub(super) const ENTRY: Entry<Arc<dyn Objective>> = Entry {
    name: "spin",
    summary: "spectral inference networks: masked gradients through a Cholesky factor, with moving \
              averages of the covariance and its Jacobian (Pfau et al. 2019)",
    parameters: &[
        Parameter::new(
            "beta",
            Domain::Number(Interval::above(0.0, 1.0)),
            "0.01",
            "weight of a batch in the moving averages; 1: the batch alone",
        ),
        PARAMETER,
    ],
    build: |args| Ok(Arc::new(Spin::new(args.number("beta")?, args.choice("estimator")?))),
};

/// SpIN (Pfau et al. 2019, algorithm 1), maximising.
///
/// With Σ = E uuᵀ = LLᵀ, Π = E u(Tu)ᵀ and Λ = L⁻¹ΠL⁻ᵀ, the functions ψ = L⁻¹u are orthonormal and
/// Λ_ii = E ψ_iTψ_i. Function u_i ascends Λ_ii alone, u_1 … u_{i−1} held fixed: with the masked
/// gradient 2/L_ii (Tψ_i − Σ_{j≤i} Λ_ijψ_j). Its first part is an average over the batch; the second
/// would be biased, being a product of averages, so it is contracted from moving averages of Σ and of
/// its Jacobian E[u_m ∂u_i/∂θ]. That Jacobian costs k backward passes a step for an ensemble, k² for a
/// shared trunk. Eigenfunctions are read out as L⁻¹u.
#[derive(Debug, Clone)]
pub struct Spin {
    beta: f64,
    estimator: Estimator,
    /// Σ of weight times batch covariance, k × k.
    covariance: Mat64,
    /// The same for E[u_m ∂u_i/∂θ], m ≤ i; entry i(i + 1)/2 + m.
    jacobian: Vec<Vec<f32>>,
    /// Sum of the weights: 1 − (1 − β)ᵗ.
    weight: f64,
    /// What the last step leaves for its parameter gradient: u/B, and L⁻ᵀ triu(Λ diag(L)⁻¹).
    last: Option<(Mat, Mat64)>,
}

impl Spin {
    /// With the weight `beta` of a batch in the moving averages.
    pub fn new(beta: f64, estimator: Estimator) -> Self {
        Spin {
            beta,
            estimator,
            covariance: Mat64::zeros((0, 0)),
            jacobian: Vec::new(),
            weight: 0.0,
            last: None,
        }
    }
}

impl Objective for Spin {
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step> {
        let (rows, k) = psi.dim();
        if self.covariance.nrows() != k {
            self.covariance = Mat64::zeros((k, k));
        }
        let keep = 1.0 - self.beta;
        self.covariance = &self.covariance * keep + mean_product(psi, psi)? * self.beta;
        self.weight = keep * self.weight + self.beta;
        let covariance = &self.covariance / self.weight;
        let product = mean_product(psi, t_psi)?;
        let product = (&product + &product.t()) * 0.5;

        let factor = linalg::cholesky_jittered(covariance.view())?;
        let half = factor.solve_lower(product.view())?;
        let lambda = factor.solve_lower(half.t())?;
        // L⁻ᵀ, upper triangular: column i holds ψ_i in terms of u.
        let inverse = factor.solve_lower_transposed(Mat64::eye(k).view())?;
        let scale = |i: usize| 1.0 / factor.lower[[i, i]];
        let masked = Mat64::from_shape_fn((k, k), |(j, i)| match j <= i {
            true => lambda[[j, i]] * scale(i),
            false => 0.0,
        });
        let pull = linalg::matmul_f64(inverse.view(), masked.view())?;
        let weight = -2.0 / rows as f64;
        let push =
            Mat::from_shape_fn((k, k), |(m, i)| (weight * inverse[[m, i]] * scale(i)) as f32);
        let cotangent = linalg::matmul_f32(t_psi, push.view())?;
        let eigenvalues = lambda.diag().to_vec();
        let loss = -eigenvalues.iter().sum::<f64>();
        self.last = Some((psi.mapv(|u| u / rows as f32), pull));
        Ok(Step { cotangent, eigenvalues, loss })
    }

    fn normalises(&self) -> bool {
        false
    }

    fn diagonal(&self) -> Diagonal {
        self.estimator.diagonal()
    }

    fn outputs(&self) -> Outputs {
        Outputs::Span
    }

    fn needs_jacobian(&self) -> bool {
        true
    }

    fn prepare(&mut self, network: &mut dyn Network, _: Option<&str>) -> Result<()> {
        let k = network.functions();
        self.covariance = Mat64::zeros((k, k));
        let unit = |i: usize| network.parameters().units()[network.unit(i)].len();
        self.jacobian = (0..k).flat_map(|i| vec![vec![0.0; unit(i)]; i + 1]).collect();
        Ok(())
    }

    fn parameter_gradient(
        &mut self,
        network: &dyn Network,
        tape: &Tape,
        gradient: &mut Parameters,
    ) -> Result<()> {
        let Some((weights, pull)) = self.last.take() else { return Ok(()) };
        let k = weights.ncols();
        let (beta, keep) = (self.beta as f32, (1.0 - self.beta) as f32);
        let jacobian = network.jacobian(tape, weights.view())?;
        let lower = (0..k).flat_map(|i| (0..=i).map(move |m| i * k + m));
        for (average, at) in self.jacobian.iter_mut().zip(lower) {
            let new = &jacobian[at];
            average.iter_mut().zip(new).for_each(|(a, n)| *a = keep * *a + beta * n);
        }
        for i in 0..k {
            let unit = &mut gradient.units_mut()[network.unit(i)];
            for m in 0..=i {
                let factor = (2.0 * pull[[m, i]] / self.weight) as f32;
                let average = &self.jacobian[i * (i + 1) / 2 + m];
                unit.iter_mut().zip(average).for_each(|(g, a)| *g += factor * a);
            }
        }
        Ok(())
    }

    fn state(&self) -> ObjectiveState {
        let covariance = self.covariance.iter().copied().collect();
        let jacobian = self.jacobian.iter().enumerate();
        ObjectiveState {
            doubles: vec![
                ("weight".to_string(), vec![self.weight]),
                ("covariance".to_string(), covariance),
            ],
            singles: jacobian.map(|(at, v)| (format!("jacobian.{at}"), v.clone())).collect(),
        }
    }

    fn restore(&mut self, state: &ObjectiveState) -> Result<()> {
        let jacobian = self.jacobian.iter().map(Vec::len);
        let fits = state.singles.iter().map(|(_, v)| v.len()).eq(jacobian);
        let ([(_, weight), (_, covariance)], true) = (&state.doubles[..], fits) else {
            return Err(Error::shape("state of spin", "that of this network", "another"));
        };
        if weight.len() != 1 || covariance.len() != self.covariance.len() {
            return Err(Error::shape("state of spin", "that of this network", "another"));
        }
        self.weight = weight[0];
        self.covariance.iter_mut().zip(covariance).for_each(|(to, from)| *to = *from);
        for (to, (_, from)) in self.jacobian.iter_mut().zip(&state.singles) {
            to.copy_from_slice(from);
        }
        Ok(())
    }

    fn fresh(&self) -> Box<dyn Objective> {
        Box::new(Spin::new(self.beta, self.estimator))
    }

    fn text(&self) -> String {
        ENTRY.text(&[("beta", &number(self.beta)), ("estimator", &self.estimator.name())])
    }
}
