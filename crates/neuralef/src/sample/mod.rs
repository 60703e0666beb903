//! Monte-Carlo features Φ of kernels that networks define: κ(x, x') ≈ φ(x)ᵀφ(x')/S from S random draws.
//!
//! [`nngp`] takes the outputs of S random networks, [`ntk`] the derivatives of one network along S
//! random directions. Both stream Φ to a `.npy` file ([`FeatureStore`]) that a killed run continues,
//! and never hold more of it than the memory budget. [`exact_ntk`] gives the tangent kernel itself for
//! small sets. A [`FeatureOperator`](crate::operator::FeatureOperator) over the file serves a fit.
//!
//! Φ is (N·C) × S, row-major: S numbers for each (point, output), the C outputs of a point in
//! consecutive rows. A point's features have the same bits whatever points are sampled with it and
//! however much memory there is. The error of an entry of ΦΦᵀ/S is the standard error of a mean of S.
//!
//! ```
//! use neuralef::{Dataset, sample};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("phi.npy");
//! let data = Dataset::open("two_moons(n=100)", 0)?;
//! let networks = "mlp(hidden=[64], activation=erf)".parse()?;
//! let sampling = sample::Sampling { samples: 200, ..Default::default() };
//! let law = sample::WeightLaw::new(2.0, 1.0);
//! let phi = sample::nngp(&networks, &data, &law, &sampling, &path, &mut neuralef::train::Silent)?;
//! assert_eq!((phi.points, phi.outputs, phi.samples), (100, 1, 200));
//! let phi = phi.open()?; // 100 × 200
//! # assert_eq!((phi.len(), phi.width()), (100, 200));
//! # Ok::<(), neuralef::Error>(())
//! ```

mod digest;
mod exact;
#[cfg(test)]
mod exact_tests;
mod law;
mod nngp;
mod ntk;
#[cfg(test)]
mod ntk_tests;
mod store;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use digest::of_data as digest_of;
pub use exact::exact_ntk;
pub use law::WeightLaw;
pub use nngp::nngp;
pub use ntk::{DERIVATIVES, Derivative, PROBES, Probes, Tangents, ntk};
pub use store::{FeatureLayout, FeatureStore, Fill};
pub use stream::{Sampled, Sampling};
