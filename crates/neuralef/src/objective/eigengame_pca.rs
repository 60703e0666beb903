//! EigenGame as it began: the leading principal components of a stream of data (Gemp et al. 2021, 2022).

use std::sync::Arc;

use super::estimator::mean_product;
use super::{Objective, Step};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::{Network, Parameters, Tape};
use crate::operator::Diagonal;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry: `eigengame_pca(variant=mu)`.
pub(super) const ENTRY: Entry<Arc<dyn Objective>> = Entry {
    name: "eigengame_pca",
    summary: "EigenGame for the principal components of the data: kernel = linear, network = \
              mlp(hidden=[]) (Gemp et al. 2021, 2022)",
    parameters: &[Parameter::new(
        "variant",
        Domain::choice::<Variant>(),
        "mu",
        "alpha (the first paper) or mu (unbiased)",
    )],
    build: |args| Ok(Arc::new(EigenGamePca::new(args.choice("variant")?))),
};

/// Which update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Mv_j − Σ_{i<j} (v_iᵀMv_j/v_iᵀMv_i) Mv_i (Gemp et al. 2021, algorithm 1).
    Alpha,
    /// Mv_j − Σ_{i<j} (v_iᵀMv_j) v_i (Gemp et al. 2022, eq. 7).
    Mu,
}

impl Choice for Variant {
    const KIND: &'static str = "variant";
    const ALL: &'static [(&'static str, Self)] = &[("alpha", Variant::Alpha), ("mu", Variant::Mu)];
}

/// EigenGame in finite dimensions: k unit vectors v_j ∈ ℝᵈ, M = E xxᵀ seen through batches of x.
///
/// The functions are ψ_j(x) = v_jᵀx: networks without hidden layers and with biases held at 0, which
/// see the data as they are (not centred: centre or standardise them for the PCA of the covariance).
/// Both variants take the gradient's part along v_j out and return to the unit sphere after every
/// step of the optimiser. In the end v_jᵀx/√μ_j is the j-th eigenfunction of the kernel `linear`. No
/// kernel is evaluated; a step costs O(Bdk + k²(B + d)).
#[derive(Debug, Clone)]
pub struct EigenGamePca {
    variant: Variant,
    /// v_iᵀMv_j of the last batch.
    last: Option<Mat64>,
}

impl EigenGamePca {
    /// With the given update.
    pub fn new(variant: Variant) -> Self {
        EigenGamePca { variant, last: None }
    }
}

impl Objective for EigenGamePca {
    fn step(&mut self, psi: MatRef<'_>, _: MatRef<'_>) -> Result<Step> {
        let (rows, k) = psi.dim();
        let r = mean_product(psi, psi)?;
        let scale = -2.0 / rows as f64;
        let mut loss = -r.diag().sum();
        let mut mix = Mat::zeros((k, k));
        for j in 0..k {
            mix[[j, j]] = scale as f32;
            if self.variant == Variant::Alpha {
                for i in (0..j).filter(|i| r[[*i, *i]] > 0.0) {
                    let ratio = r[[i, j]] / r[[i, i]];
                    loss += r[[i, j]] * ratio;
                    mix[[i, j]] = (-scale * ratio) as f32;
                }
            }
        }
        let cotangent = linalg::matmul_f32(psi, mix.view())?;
        let eigenvalues = r.diag().to_vec();
        self.last = Some(r);
        Ok(Step { cotangent, eigenvalues, loss })
    }

    fn normalises(&self) -> bool {
        false
    }

    fn conditions(&self) -> bool {
        false
    }

    fn uses_operator(&self) -> bool {
        false
    }

    fn diagonal(&self) -> Diagonal {
        Diagonal::Keep
    }

    fn prepare(&mut self, network: &mut dyn Network, kernel: Option<&str>) -> Result<()> {
        let unsupported = |reason: String| {
            Err(Error::Unsupported { what: "objective = eigengame_pca".into(), reason })
        };
        let d = network.inputs();
        let linear = |sizes: &Vec<usize>| *sizes == [d, 1];
        let sizes: Vec<Vec<usize>> = network
            .parameters()
            .layouts()
            .iter()
            .map(|unit| unit.iter().map(|t| t.shape.iter().product()).collect())
            .collect();
        if sizes.len() != network.functions() || !sizes.iter().all(linear) {
            return unsupported("its functions are linear: network must be mlp(hidden=[])".into());
        }
        if kernel != Some("linear(coef0=0)") {
            return unsupported(format!(
                "principal components are the eigenfunctions of kernel = linear, not of {}",
                kernel.unwrap_or("a Gram matrix or features")
            ));
        }
        self.constrain(network.parameters_mut())
    }

    fn parameter_gradient(
        &mut self,
        network: &dyn Network,
        _: &Tape,
        gradient: &mut Parameters,
    ) -> Result<()> {
        let Some(r) = self.last.take() else { return Ok(()) };
        let d = network.inputs();
        let vectors = network.parameters().units();
        for (j, unit) in gradient.units_mut().iter_mut().enumerate() {
            let (weight, bias) = unit.split_at_mut(d);
            bias.fill(0.0);
            if self.variant == Variant::Mu {
                for i in 0..j {
                    let factor = (2.0 * r[[i, j]]) as f32;
                    weight.iter_mut().zip(&vectors[i]).for_each(|(g, v)| *g += factor * v);
                }
            }
            // Riemannian: along the sphere.
            let own = &vectors[j][..d];
            let along: f64 =
                weight.iter().zip(own).map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
            weight.iter_mut().zip(own).for_each(|(g, v)| *g -= along as f32 * v);
        }
        Ok(())
    }

    fn constrain(&self, parameters: &mut Parameters) -> Result<()> {
        for (j, unit) in parameters.units_mut().iter_mut().enumerate() {
            let norm = linalg::norm2(unit.iter().map(|v| f64::from(*v)));
            if !(norm.is_finite() && norm > 0.0) {
                return Err(Error::Numerical {
                    what: format!("principal component {j} (counted from 0)"),
                    message: format!("its norm is {norm}: try a lower learning rate"),
                });
            }
            unit.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
        Ok(())
    }

    fn fresh(&self) -> Box<dyn Objective> {
        Box::new(EigenGamePca::new(self.variant))
    }

    fn text(&self) -> String {
        ENTRY.text(&[("variant", &self.variant.name())])
    }
}
