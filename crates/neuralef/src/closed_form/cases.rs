//! Named problems whose eigenpairs are known: data, kernel and spectrum together.

use super::{
    BrownianUniform, KnownSpectrum, PeriodicUniform, PolynomialUniform, Quadrature, RbfGaussian,
    SphereDotProduct,
};
use crate::error::{Error, Result};
use crate::kernel::KernelSpec;

/// Numbers of points at which the cases are usually run.
pub const SIZES: [usize; 3] = [64, 512, 8192];

/// Pairs beyond k that a spectrum by quadrature holds, so that clusters are whole.
const BEYOND: usize = 6;

/// Every case: name and one line about it.
pub const CASES: &[(&str, &str)] = &[
    ("rbf-uniform", "rbf on U[−2, 2], by quadrature"),
    ("polynomial", "a polynomial of degree 4 on U[−1, 1]: rank 5"),
    ("brownian", "Brownian motion on U[0, 1]: sines"),
    ("rbf-gaussian-2d", "rbf under N(0, I) in the plane: products of Hermite functions"),
    ("fourier-circle", "the periodic kernel over one period, U[0, 1]: Fourier functions in pairs"),
    ("sphere", "rbf on the unit sphere in space: spherical harmonics (Funk–Hecke)"),
];

/// A kernel and a distribution with known eigenpairs.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The kernel, as text.
    pub kernel: &'static str,
    /// k, how many pairs to compare: whole levels where eigenvalues coincide, but for
    /// `rbf-gaussian-2d`, whose first four levels are ten pairs.
    pub k: usize,
    /// The eigenpairs of the population.
    pub spectrum: Box<dyn KnownSpectrum>,
    /// The synthetic set, without its number of points.
    data: (&'static str, &'static str),
}

impl Case {
    /// The text of n points of the distribution, for [`Dataset::open`](crate::Dataset::open).
    pub fn data_text(&self, n: usize) -> String {
        let (set, parameters) = self.data;
        format!("{set}(n={n}, {parameters})")
    }
}

/// The case of that name; see [`CASES`].
///
/// # Errors
/// [`Error::UnknownName`], with the nearest name.
pub fn case(name: &str) -> Result<Case> {
    let Some(&(name, summary)) = CASES.iter().find(|c| c.0 == name) else {
        let known: Vec<&str> = CASES.iter().map(|c| c.0).collect();
        return Err(Error::unknown("case", name, &known));
    };
    const RBF: &str = "rbf(lengthscale=1)";
    type Parts = (&'static str, usize, (&'static str, &'static str), Box<dyn KnownSpectrum>);
    let (kernel, k, data, spectrum): Parts = match name {
        "rbf-uniform" => {
            let kernel = RBF.parse::<KernelSpec>()?.resolve(None, 0)?;
            let exact = Quadrature::uniform(kernel, -2.0, 2.0, 80, 10 + BEYOND)?;
            (RBF, 10, ("uniform", "d=1, low=-2, high=2"), Box::new(exact))
        }
        "polynomial" => {
            let exact = PolynomialUniform::new(4, 1.0, 1.5, -1.0, 1.0)?;
            let kernel = "polynomial(degree=4, gamma=1, coef0=1.5)";
            (kernel, 5, ("uniform", "d=1, low=-1, high=1"), Box::new(exact))
        }
        "brownian" => {
            let exact = BrownianUniform::new(1.0)?;
            ("brownian", 10, ("uniform", "d=1, low=0, high=1"), Box::new(exact))
        }
        "rbf-gaussian-2d" => {
            let exact = RbfGaussian::isotropic(1.0, 1.0, 2)?;
            (RBF, 10, ("gaussian", "d=2"), Box::new(exact))
        }
        "fourier-circle" => {
            let exact = PeriodicUniform::new(1.0, 1.0)?;
            let kernel = "periodic(lengthscale=1, period=1)";
            (kernel, 9, ("uniform", "d=1, low=0, high=1"), Box::new(exact))
        }
        _ => (RBF, 9, ("sphere", "d=3"), Box::new(SphereDotProduct::rbf(3, 1.0)?)),
    };
    Ok(Case { name, summary, kernel, k, spectrum, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{DEFAULT_GAP, clusters, compare_eigenfunctions};
    use crate::{Dataset, Fit, FitSpec};

    #[test]
    fn every_case_agrees_with_kernel_pca_on_a_sample() {
        let n = 2000;
        for (name, _) in CASES {
            let case = case(name).unwrap();
            let train = Dataset::open(&case.data_text(n), 11).unwrap();
            let held_out = Dataset::open(&case.data_text(64), 12).unwrap();
            let spec = FitSpec {
                method: "kernel_pca".into(),
                ..FitSpec::new(case.kernel, case.k).unwrap()
            };
            let (model, _) = Fit::new(spec).validation(held_out).run(&train).unwrap();
            assert_eq!(model.n_components(), case.k, "{name}");
            let x = train.range(0..n).unwrap();
            let beyond = case.k + BEYOND;
            let (mu, psi) = (
                case.spectrum.eigenvalues(beyond).unwrap(),
                case.spectrum.eigenfunctions(x.view(), beyond).unwrap(),
            );
            // Within a level the sample splits eigenvalues by its block of (1/n)Σψψᵀ − I, whose
            // norm is at most the root of the summed variances of its entries; beyond that comes
            // the second order, μΣ_i μ_i/|μ − μ_i|/n over the other levels: a sum of squares, so
            // that its spread is like its mean.
            let levels = clusters(&mu, 1e-9);
            for level in levels.iter().filter(|l| l.end <= case.k) {
                let mut variance = 0.0;
                for i in level.clone() {
                    for j in level.clone() {
                        variance += (&psi.column(i) * &psi.column(j)).var(1.0) / n as f64;
                    }
                }
                let own = mu[level.start];
                let others = (0..mu.len()).filter(|i| !level.contains(i));
                let second: f64 =
                    others.map(|i| mu[i] / (own - mu[i]).abs()).sum::<f64>() / n as f64;
                let found = &model.eigenvalues()[level.clone()];
                for (j, value) in found.iter().enumerate() {
                    let error = (value / own - 1.0).abs();
                    let bound = 4.0 * (variance.sqrt() + second);
                    assert!(error < bound, "{name}: μ_{j} of {level:?}: {error}, not {bound}");
                }
                // Their mean has the error of the mean of ψ² over the level.
                let size = level.len() as f64;
                let squares = psi.slice(ndarray::s![.., level.clone()]).mapv(|v| v * v);
                let spread = squares.sum_axis(ndarray::Axis(1)).std(1.0) / size;
                let bound = 4.0 * (spread / (n as f64).sqrt() + second);
                let error = (found.iter().sum::<f64>() / size / own - 1.0).abs();
                assert!(error < bound, "{name}: mean of {level:?} off by {error}, not {bound}");
                assert!(bound < 0.25, "{name}: mean of {level:?} bounded by {bound} only");
            }
            let found = model.eigenfunctions(x.view()).unwrap();
            let found = compare_eigenfunctions(found.view(), psi.view(), &mu, DEFAULT_GAP).unwrap();
            for (j, c) in found.subspace_cosines.iter().enumerate() {
                assert!(*c >= 0.98, "{name}: |cos| of ψ_{j} is {c}");
            }
        }
    }

    #[test]
    fn cases_are_named_and_fit_together() {
        for (name, summary) in CASES {
            let case = case(name).unwrap();
            assert_eq!((case.name, case.summary), (*name, *summary));
            for n in SIZES {
                let data = Dataset::open(&case.data_text(n), 0).unwrap();
                assert_eq!((data.len(), data.width()), (n, case.spectrum.inputs()), "{name}");
            }
            let data = Dataset::open(&case.data_text(4000), 3).unwrap();
            let kernel = case.kernel.parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap();
            let diagonal = kernel.diag(data.range(0..4000).unwrap().view()).unwrap();
            let diagonal = ndarray::Array1::from(diagonal);
            let error = diagonal.std(1.0) / 4000f64.sqrt();
            let difference = diagonal.mean().unwrap() - case.spectrum.trace();
            assert!(difference.abs() <= 4.0 * error + 1e-12, "{name}: {difference} ± {error}");
            let next = case.spectrum.eigenvalues(case.k + 1).unwrap();
            if next.len() > case.k {
                assert!(next[case.k] < 0.999 * next[case.k - 1], "{name} cuts a level");
            }
        }
        let error = case("rbf-uniforms").unwrap_err().to_string();
        assert!(error.contains("did you mean `rbf-uniform`"), "{error}");
        assert!(case("").is_err());
    }
}
