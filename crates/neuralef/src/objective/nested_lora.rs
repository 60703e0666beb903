//! NestedLoRA (NeuralSVD): the nested low-rank approximation of the kernel (Ryu et al. 2024).

use std::sync::Arc;

use ndarray::{Axis, s};

use super::estimator::{Estimator, PARAMETER, mean_product};
use super::{Objective, Outputs, Step};
use crate::error::Result;
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::operator::Diagonal;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry: `nested_lora(nesting=sequential, split=true, estimator=unbiased)`.
pub(super) const ENTRY: Entry<Arc<dyn Objective>> = Entry {
    name: "nested_lora",
    summary: "nested low-rank approximation, outputs sqrt(mu) psi without normalisation (NeuralSVD, \
              Ryu et al. 2024)",
    parameters: &[
        Parameter::new(
            "nesting",
            Domain::choice::<Nesting>(),
            "sequential",
            "sequential: each function minimises its own approximation error, those before it \
             fixed; joint: all minimise the mean of the k errors",
        ),
        Parameter::new(
            "split",
            Domain::Boolean,
            "true",
            "whether the product of two Gram matrices takes one from each half batch",
        ),
        PARAMETER
            .with_default("unbiased")
            .with_help("of T: paper: batch mean over all pairs; unbiased: pairs x = x' dropped"),
    ],
    build: |args| {
        Ok(Arc::new(NestedLora {
            nesting: args.choice("nesting")?,
            split: args.boolean("split")?,
            estimator: args.choice("estimator")?,
        }))
    },
};

/// How the low-rank approximations of rank 1 … k share the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// Function l minimises ‖κ − Σ_{i≤l} f_i⊗f_i‖² with f_i, i < l, held fixed.
    Sequential,
    /// All minimise (1/k) Σ_l ‖κ − Σ_{i≤l} f_i⊗f_i‖².
    Joint,
}

impl Choice for Nesting {
    const KIND: &'static str = "nesting";
    const ALL: &'static [(&'static str, Self)] =
        &[("sequential", Nesting::Sequential), ("joint", Nesting::Joint)];
}

/// NestedLoRA for a symmetric operator (Ryu et al. 2024, §3), f_l = √μ_lψ_l.
///
/// Up to a constant ‖κ − Σ_{i≤l} f_i⊗f_i‖² is −2Σ_{i≤l} E f_iTf_i + Σ_{i,j≤l} M_ij², M = E ffᵀ. With
/// m_l = P_ll, P_lm the weight of M_lm², the direction of descent is 4(m_lTf_l − Σ_m P_lmM_lmf_m):
/// P_lm = 1 for m ≤ l (sequential, gradients of earlier functions stopped), or
/// 1 − max(l, m)/k counted from 0 (joint). With `split` the halves of a batch (its even and odd rows)
/// use each other's M, which makes the estimate of the gradient unbiased. The eigenvalues are the
/// norms E f_l². O(Bk²).
#[derive(Debug, Clone)]
pub struct NestedLora {
    nesting: Nesting,
    split: bool,
    estimator: Estimator,
}

impl NestedLora {
    /// With the given nesting, splitting and estimator of T.
    pub fn new(nesting: Nesting, split: bool, estimator: Estimator) -> Self {
        NestedLora { nesting, split, estimator }
    }

    /// P_lm, in column l the weights that function l gives to the others.
    fn weight(&self, l: usize, m: usize, k: usize) -> f64 {
        match self.nesting {
            Nesting::Sequential if m <= l => 1.0,
            Nesting::Sequential => 0.0,
            Nesting::Joint => 1.0 - l.max(m) as f64 / k as f64,
        }
    }

    /// The weighted M with column l scaled for function l.
    fn mix(&self, m: &Mat64, scale: f64) -> Mat {
        let k = m.nrows();
        Mat::from_shape_fn((k, k), |(i, l)| (scale * self.weight(l, i, k) * m[[i, l]]) as f32)
    }
}

impl Objective for NestedLora {
    fn step(&mut self, psi: MatRef<'_>, t_psi: MatRef<'_>) -> Result<Step> {
        let (rows, k) = psi.dim();
        let scale = 4.0 / rows as f64;
        let r = mean_product(psi, t_psi)?;
        let norms = mean_product(psi, psi)?;
        let own: Vec<f64> = (0..k).map(|l| self.weight(l, l, k)).collect();
        let mut cotangent = Mat::zeros((rows, k));
        // Two estimates of M, each for the rows of the other; one and the same without a split.
        let halves = if self.split && rows >= 2 { vec![0, 1] } else { vec![] };
        let (first, second) = match halves.is_empty() {
            true => {
                cotangent += &linalg::matmul_f32(psi, self.mix(&norms, scale).view())?;
                (norms.clone(), norms.clone())
            }
            false => {
                let of = |start: usize| {
                    let half = psi.slice(s![start..;2, ..]);
                    mean_product(half, half)
                };
                let grams = [of(0)?, of(1)?];
                for start in halves {
                    let half = psi.slice(s![start..;2, ..]);
                    let mix = self.mix(&grams[1 - start], scale);
                    let part = linalg::matmul_f32(half, mix.view())?;
                    cotangent.slice_mut(s![start..;2, ..]).assign(&part);
                }
                let [first, second] = grams;
                (first, second)
            }
        };
        for ((mut to, from), weight) in
            cotangent.axis_iter_mut(Axis(1)).zip(t_psi.axis_iter(Axis(1))).zip(&own)
        {
            to.scaled_add((-scale * weight) as f32, &from);
        }
        // The error of rank k, or the weighted mean of errors: what is reported, not differentiated.
        let joint = |l: usize, m: usize| match self.nesting {
            Nesting::Sequential => 1.0,
            Nesting::Joint => self.weight(l, m, k),
        };
        let mut loss = 0.0;
        for l in 0..k {
            loss -= 2.0 * own[l] * r[[l, l]];
            loss += (0..k).map(|m| joint(l, m) * first[[l, m]] * second[[l, m]]).sum::<f64>();
        }
        Ok(Step { cotangent, eigenvalues: norms.diag().to_vec(), loss })
    }

    fn normalises(&self) -> bool {
        false
    }

    fn diagonal(&self) -> Diagonal {
        self.estimator.diagonal()
    }

    fn outputs(&self) -> Outputs {
        Outputs::Scaled
    }

    fn fresh(&self) -> Box<dyn Objective> {
        Box::new(self.clone())
    }

    fn text(&self) -> String {
        ENTRY.text(&[
            ("nesting", &self.nesting.name()),
            ("split", &self.split),
            ("estimator", &self.estimator.name()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::tests::{check_gradient, mean};

    /// −2E f_lTf_l + Σ_{i,j≤l} M_ij² for the rank l + 1.
    fn error(t: &Mat64, f: &Mat64, rank: usize) -> f64 {
        let (r, m) = (mean(f, &t.dot(f)), mean(f, f));
        (0..rank).map(|i| (0..rank).map(|j| m[[i, j]].powi(2)).sum::<f64>() - 2.0 * r[[i, i]]).sum()
    }

    #[test]
    fn sequential_cotangent_is_the_gradient_of_each_approximation_error() {
        // The functions before l do not move, so the error of rank l + 1 is a function of f_l.
        let text = "nested_lora(split=false)";
        check_gradient(text, |t, f, _, l| error(t, f, l + 1));
    }

    #[test]
    fn joint_cotangent_is_the_gradient_of_the_mean_error() {
        check_gradient("nested_lora(nesting=joint, split=false)", |t, f, _, _| {
            let k = f.ncols();
            (1..=k).map(|rank| error(t, f, rank)).sum::<f64>() / k as f64
        });
    }

    #[test]
    fn split_cotangent_is_the_gradient_of_the_product_of_the_halves() {
        let halves = |f: &Mat64| {
            [0, 1].map(|start| {
                let half = f.slice(s![start..;2, ..]).to_owned();
                mean(&half, &half)
            })
        };
        check_gradient("nested_lora(split=true)", |t, f, _, l| {
            let (r, [a, b]) = (mean(f, &t.dot(f)), halves(f));
            let pairs = (0..=l).flat_map(|i| (0..=l).map(move |j| (i, j)));
            pairs.map(|(i, j)| a[[i, j]] * b[[i, j]]).sum::<f64>()
                - 2.0 * (0..=l).map(|i| r[[i, i]]).sum::<f64>()
        });
    }
}
