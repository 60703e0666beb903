//! Kernels as averages of waves (Bochner) or of exponentials: what random features are drawn from.

use statrs::function::erf::erfc_inv;
use statrs::function::gamma::{gamma_lr, ln_gamma};

/// Most terms that a product of sums is multiplied out to.
const MAX_TERMS: usize = 1024;

/// One term of a stationary kernel: weight · E cos(ωᵀ(x − y)), with ω the sum of independent
/// frequencies, one from each law (a product of kernels adds frequencies). No laws: the constant.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectralTerm {
    /// ≥ 0; the weights of all terms sum to κ(x, x).
    pub weight: f64,
    /// The laws whose frequencies add.
    pub laws: Vec<Law>,
}

/// The law of a frequency vector ω in ℝ^d, in radians for each unit of length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// ω ~ N(0, scale²·I): the rbf kernel with scale = 1/ℓ.
    Gaussian {
        /// Standard deviation of every coordinate.
        scale: f64,
    },
    /// A multivariate t: ω = scale·g·√(dof/χ²_dof). The Matérn kernel with dof = 2ν, scale = 1/ℓ.
    StudentT {
        /// Scale of every coordinate.
        scale: f64,
        /// Degrees of freedom.
        dof: f64,
    },
    /// ω = scale·√m·g with m ~ Gamma(shape)/shape: the rational quadratic kernel with shape = α.
    GammaMixture {
        /// Scale of every coordinate.
        scale: f64,
        /// Shape of the mixing law.
        shape: f64,
    },
    /// Independent Cauchy coordinates: the Laplacian kernel with scale = 1/ℓ.
    Cauchy {
        /// Half the width at half height.
        scale: f64,
    },
}

impl Law {
    /// True when the density depends on ‖ω‖ only.
    pub fn is_rotation_invariant(&self) -> bool {
        !matches!(self, Law::Cauchy { .. })
    }

    /// How many uniform numbers one draw in d dimensions takes.
    pub(crate) fn uniforms(&self, d: usize) -> usize {
        match self {
            Law::Gaussian { .. } | Law::Cauchy { .. } => d,
            Law::StudentT { .. } | Law::GammaMixture { .. } => d + 1,
        }
    }

    /// Adds to `frequency` the draw that belongs to `uniforms` in (0, 1), by inverse distribution
    /// functions. The mixing variable takes the first: quasi-random points are most even there.
    pub(crate) fn add(&self, uniforms: &mut impl Iterator<Item = f64>, frequency: &mut [f64]) {
        let mut next = || uniforms.next().unwrap_or(0.5);
        let scale = match *self {
            Law::Gaussian { scale } => scale,
            // χ²_dof/dof is Gamma(dof/2)/(dof/2).
            Law::StudentT { scale, dof } => {
                scale / gamma_quantile(0.5 * dof, next()).sqrt() * (0.5 * dof).sqrt()
            }
            Law::GammaMixture { scale, shape } => {
                scale * (gamma_quantile(shape, next()) / shape).sqrt()
            }
            Law::Cauchy { scale } => {
                for v in frequency {
                    // −cot(πu) = tan(π(u − ½)), exact at both ends.
                    let u = next();
                    let t = std::f64::consts::PI * u.min(1.0 - u);
                    *v += scale * t.tan().recip().copysign(u - 0.5);
                }
                return;
            }
        };
        for v in frequency {
            *v += scale * normal_quantile(next());
        }
    }
}

/// The point below which a standard normal falls with probability p.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
}

/// The point below which a Gamma(shape) variable of unit scale falls with probability p, by
/// Newton's method for its logarithm: for small shapes it is far below 1. 0 below 1e-300.
fn gamma_quantile(shape: f64, p: f64) -> f64 {
    // P(a, x) = xᵃ/Γ(a + 1)·(1 + O(x)).
    let small = (p.ln() + ln_gamma(shape + 1.0)) / shape;
    if small < -40.0 {
        return if small < -690.0 { 0.0 } else { small.exp() };
    }
    let (mut low, mut high) = (small - 1.0, (shape + 40.0 + 12.0 * shape.sqrt()).ln());
    // Wilson & Hilferty's start, Newton's steps, bisection where they leave the bracket.
    let root = 1.0 - 1.0 / (9.0 * shape) + normal_quantile(p) / (3.0 * shape.sqrt());
    let start = if root > 0.1 { (shape * root.powi(3)).ln() } else { small };
    let mut t = start.clamp(low, high);
    for _ in 0..100 {
        let value = gamma_lr(shape, t.exp()) - p;
        if value < 0.0 {
            low = t
        } else {
            high = t
        }
        let density = (shape * t - t.exp() - ln_gamma(shape)).exp();
        let mut next = t - value / density;
        if !(next > low && next < high) {
            next = 0.5 * (low + high);
        }
        let step = (next - t).abs();
        t = next;
        if step < 1e-13 * t.abs().max(1.0) {
            break;
        }
    }
    t.exp()
}

/// The constant kernel c.
pub(super) fn constant(weight: f64) -> Vec<SpectralTerm> {
    vec![SpectralTerm { weight, laws: Vec::new() }]
}

/// The kernel of one law.
pub(super) fn one(law: Law) -> Vec<SpectralTerm> {
    vec![SpectralTerm { weight: 1.0, laws: vec![law] }]
}

/// factor·Π of sums of terms, multiplied out; none when one has no terms or there are too many.
pub(super) fn product(
    factor: f64,
    parts: impl Iterator<Item = Option<Vec<SpectralTerm>>>,
) -> Option<Vec<SpectralTerm>> {
    let mut out = constant(factor);
    for part in parts {
        let part = part?;
        if out.len().saturating_mul(part.len()) > MAX_TERMS {
            return None;
        }
        let pairs = out.iter().flat_map(|a| part.iter().map(move |b| (a, b)));
        out = pairs
            .map(|(a, b)| SpectralTerm {
                weight: a.weight * b.weight,
                laws: [a.laws.clone(), b.laws.clone()].concat(),
            })
            .collect();
    }
    Some(out)
}

/// κ(x, y) = weight·exp(gamma·xᵀy − decay·(‖x‖² + ‖y‖²)/2): what positive random features serve.
/// Softmax kernels have decay = 0, rbf kernels gamma = decay = 1/ℓ²; products add both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exponential {
    /// > 0.
    pub weight: f64,
    /// > 0.
    pub gamma: f64,
    /// ≥ 0.
    pub decay: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelSpec;

    #[test]
    fn quantiles_are_those_of_tables() {
        // scipy.stats.gamma.ppf and norm.ppf
        for (shape, p, want) in [
            (0.5, 0.5, 0.227468211559786),
            (1.5, 0.01, 0.057415900949558535),
            (2.5, 0.999, 10.257502826216436),
        ] {
            let got = gamma_quantile(shape, p);
            assert!((got / want - 1.0).abs() < 1e-9, "{shape} {p}: {got} {want}");
        }
        assert!((normal_quantile(0.975) - 1.959963984540054).abs() < 1e-9);
        // Round trips, and the exponential in closed form.
        for shape in [1e-3, 0.3, 1.0, 7.0, 1e4, 1e6] {
            for p in [1e-6, 0.2, 0.5, 0.9, 1.0 - 1e-9] {
                let x = gamma_quantile(shape, p);
                assert!(x >= 0.0 && x.is_finite());
                if x > 1e-280 {
                    let back = gamma_lr(shape, x);
                    assert!((back - p).abs() < 1e-9 * shape.max(1.0).sqrt(), "{shape} {p} {back}");
                }
            }
        }
        assert!((gamma_quantile(1.0, 0.3) + 0.7f64.ln()).abs() < 1e-12);
        assert_eq!(gamma_quantile(1e-6, 0.5), 0.0);
    }

    #[test]
    fn sums_and_products_are_multiplied_out() {
        let terms =
            |text: &str| KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap().spectral();
        let (a, b) = (Law::Gaussian { scale: 2.0 }, Law::Cauchy { scale: 0.25 });
        let term = |weight, laws: &[Law]| SpectralTerm { weight, laws: laws.to_vec() };
        let (rbf, laplacian) = ("rbf(lengthscale=0.5)", "laplacian(lengthscale=4)");
        assert_eq!(
            terms(&format!("2*({rbf} + 3)*{laplacian} + 0.5")).unwrap(),
            [term(2.0, &[a, b]), term(6.0, &[b]), term(0.5, &[])]
        );
        assert_eq!(
            terms("matern(nu=2.5, lengthscale=4)").unwrap(),
            [term(1.0, &[Law::StudentT { scale: 0.25, dof: 5.0 }])]
        );
        assert!(terms("linear").is_none() && terms("rbf(lengthscale=1) + linear").is_none());
        assert!(terms("rbf(lengthscale=1)*cosine").is_none());
        let huge = ["(1 + rbf(lengthscale=1))"; 11].join("*");
        assert!(terms(&huge).is_none());
        assert_eq!(terms(&huge[..huge.len() - 25]).unwrap().len(), 1024);
    }
}
