//! Estimates against closed forms, exact scores and finite differences; files; refusals.

use std::sync::Arc;

use ndarray::{Array1, Axis, s};

use super::*;
use crate::data::{Density, synthesize};
use crate::fit::Fit;
use crate::fit::{FitSpec, ReadoutKind, Steps};
use crate::kernel::KernelSpec;
use crate::linalg::eigh;
use crate::matrix::Mat;
use crate::nn::NetworkSpec;
use crate::persist::Archive;

fn kernel(text: &str, data: &Dataset) -> Arc<dyn Kernel> {
    let x = data.range(0..data.len()).unwrap();
    KernelSpec::parse(text).unwrap().resolve(Some(x.view()), 0).unwrap()
}

fn exactly(terms: usize) -> SteinOptions {
    SteinOptions { terms: Terms::Exactly(terms), ..SteinOptions::default() }
}

fn all(data: &Dataset) -> Mat {
    data.range(0..data.len()).unwrap()
}

/// ‖a − b‖/‖b‖.
fn distance(a: &Mat64, b: &Mat64) -> f64 {
    relative_error(a.view(), b.view()).unwrap()
}

fn spec(kernel: &str, k: usize, method: &str) -> FitSpec {
    FitSpec {
        method: method.into(),
        network: "mlp(hidden=[16, 16], activation=tanh)".parse().unwrap(),
        steps: Steps::Exactly(30),
        ..FitSpec::new(kernel, k).unwrap()
    }
}

/// A model of `data`, none of them held out.
fn model(data: &Dataset, spec: FitSpec) -> Model {
    let validation = data.subset((0..data.len()).step_by(2).collect()).unwrap();
    Fit::new(spec).validation(validation).run(data).unwrap().0
}

/// −Σ̂⁻¹(x − x̄), the score of the normal density with the moments of the samples.
fn normal_score(samples: &Mat, x: &Mat) -> Mat64 {
    let wide = |x: &Mat| x.mapv(f64::from);
    let mean: Array1<f64> = wide(samples).mean_axis(Axis(0)).unwrap();
    let centred = wide(samples) - &mean;
    let covariance = centred.t().dot(&centred) / samples.nrows() as f64;
    let (values, vectors) = eigh(covariance.view()).unwrap();
    let inverse = (&vectors / &Array1::from(values)).dot(&vectors.t());
    -(wide(x) - &mean).dot(&inverse)
}

/// The eigenfunctions of xᵀy + 1 span 1, x₁ … x_d, in which Stein's identity gives the score of a
/// normal density, exactly: ŝ(x) = −Σ̂⁻¹(x − x̄), whatever the samples.
#[test]
fn the_linear_kernel_gives_the_score_of_the_normal_density_with_these_moments() {
    let data = synthesize("swiss_roll(n=150)", 1).unwrap();
    let (samples, x) = (all(&data), all(&synthesize("swiss_roll(n=20)", 2).unwrap()));
    let want = normal_score(&samples, &x);
    let text = "linear(coef0=1)";
    let estimate = SpectralStein::nonparametric(kernel(text, &data), &data, &exactly(4)).unwrap();
    let got = estimate.score(x.view()).unwrap();
    assert!(distance(&got, &want) < 1e-9, "{:e}", distance(&got, &want));
    // Through a model, on raw and on standardised points: a matter of coordinates.
    for standardize in [false, true] {
        let spec = FitSpec { standardize, ..spec(text, 4, "kernel_pca") };
        let estimate = SpectralStein::parametric(model(&data, spec), &data, &exactly(4)).unwrap();
        let got = estimate.score(x.view()).unwrap();
        // Standardised points are rounded to single precision.
        assert!(distance(&got, &want) < 1e-5, "{standardize}: {:e}", distance(&got, &want));
    }
}

#[test]
fn gradients_of_models_are_those_of_central_differences() {
    const STEP: f32 = 1.0 / 64.0;
    let data = synthesize("banana(n=200)", 1).unwrap();
    let x = all(&data).slice(s![..40, ..]).mapv(|v| (v * 1024.0).round() / 1024.0);
    let kernel = "rbf(lengthscale=2)";
    let mut cases: Vec<FitSpec> = ["kernel_pca", "nystrom(landmarks=50)"]
        .iter()
        .flat_map(|method| {
            ["rbf(lengthscale=2)", "matern(nu=2.5, lengthscale=3) + 0.1*linear"]
                .map(|k| spec(k, 6, method))
        })
        .collect();
    for readout in [ReadoutKind::None, ReadoutKind::Ritz, ReadoutKind::Galerkin] {
        // k = 1 has fewer functions than inputs: reverse mode.
        for (k, network) in [
            (5, "mlp(hidden=[16, 8], activation=gelu)"),
            (1, "mlp(activation=tanh)"),
            (5, "shared_mlp(hidden=[12], activation=sin_cos)"),
        ] {
            let network: NetworkSpec = network.parse().unwrap();
            cases.push(FitSpec { readout, network, ..spec(kernel, k, "neuralef") });
        }
    }
    for mut spec in cases {
        for standardize in [false, true] {
            spec.standardize = standardize;
            let model = model(&data, spec.clone());
            let got = model.eigenfunction_gradients(x.view()).unwrap();
            assert_eq!(got.dim(), (80, model.n_components()));
            let mut want = Mat64::zeros(got.dim());
            for c in 0..2 {
                let at = |steps: f32| {
                    let mut moved = x.clone();
                    moved.column_mut(c).mapv_inplace(|v| v + steps * STEP);
                    model.eigenfunctions(moved.view()).unwrap()
                };
                let slopes =
                    ((at(1.0) - at(-1.0)) * 8.0 - (at(2.0) - at(-2.0))) / (12.0 * f64::from(STEP));
                want.slice_mut(s![c..;2, ..]).assign(&slopes);
            }
            // Single precision, 6e-8, of p features that weights of some hundreds combine, over the
            // step: 6e-8·64·√p·|W|.
            let error = distance(&got, &want);
            let what =
                format!("{} {:?} {:?} {standardize}", spec.method, spec.network, spec.readout);
            assert!(error < 3e-3, "{what}: {error:e}");
        }
    }
}

/// E ½‖s‖² + ∇·s = ½E‖s − s*‖² − ½E‖s*‖²: of independent points to five standard errors, and the sum
/// of squares and gradients that it is computed from against the definition.
#[test]
fn the_hyvarinen_loss_is_half_the_squared_error_up_to_a_constant() {
    let data = synthesize("mixture(n=300)", 1).unwrap();
    let estimate = SpectralStein::nonparametric(kernel("rbf", &data), &data, &exactly(7)).unwrap();
    let points = synthesize("mixture(n=4000)", 2).unwrap();
    let x = all(&points);
    let (score, truth) = (
        estimate.score(x.view()).unwrap(),
        Density::of(points.name()).unwrap().score(x.view()).unwrap(),
    );
    let gradients = estimate.basis.gradients(x.view()).unwrap();
    let beta = estimate.coefficients();
    let losses: Vec<f64> = (0..x.nrows())
        .map(|i| {
            let divergence: f64 = (0..2)
                .map(|c| (0..7).map(|j| beta[[j, c]] * gradients[[2 * i + c, j]]).sum::<f64>())
                .sum();
            0.5 * score.row(i).dot(&score.row(i)) + divergence
        })
        .collect();
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let found = estimate.hyvarinen_loss(&points).unwrap();
    assert!((found - mean).abs() < 1e-10 * mean.abs(), "{found} {mean}");
    // Differences of both sides, point by point.
    let differences: Vec<f64> = (0..x.nrows())
        .map(|i| {
            let error = &score.row(i) - &truth.row(i);
            losses[i] - 0.5 * error.dot(&error) + 0.5 * truth.row(i).dot(&truth.row(i))
        })
        .collect();
    let mean = differences.iter().sum::<f64>() / n;
    let deviation = (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{mean} {deviation}");
}

/// On a normal density with the ten functions up to the third degree: the error is that of E ∇ψ and
/// falls as 1/√N, with either basis. The number that held-out samples choose is not far from the best.
#[test]
fn errors_fall_with_the_number_of_samples() {
    let x = all(&synthesize("gaussian(n=500, d=2)", 9).unwrap());
    let truth = -x.mapv(f64::from);
    let error = |e: &SpectralStein| distance(&e.score(x.view()).unwrap(), &truth);
    let mut errors = Vec::new();
    for n in [400, 1600] {
        let data = synthesize(&format!("gaussian(n={n}, d=2)"), 1).unwrap();
        let k = kernel("rbf(lengthscale=1.5)", &data);
        let estimate = SpectralStein::nonparametric(k.clone(), &data, &exactly(10)).unwrap();
        errors.push(error(&estimate));
        let sin_cos = "mlp(hidden=[32], activation=sin_cos)".parse().unwrap();
        let spec = FitSpec { network: sin_cos, ..spec(&k.text(), 20, "neuralef") };
        let learned = SpectralStein::parametric(model(&data, spec), &data, &exactly(10)).unwrap();
        let ratio = error(&learned) / error(&estimate);
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
        if n == 400 {
            let options = SteinOptions { components: 20, ..SteinOptions::default() };
            let chosen = SpectralStein::nonparametric(k.clone(), &data, &options).unwrap();
            let record = chosen.record();
            assert_eq!((record.points, record.components, record.losses.len()), (n, 20, 20));
            let with = |terms| SpectralStein::nonparametric(k.clone(), &data, &exactly(terms));
            let best = (1..=20).map(|terms| error(&with(terms).unwrap()));
            let best = best.fold(f64::INFINITY, f64::min);
            assert!(error(&chosen) < 1.5 * best, "{} {best}", error(&chosen));
        }
    }
    // E ‖∇ψ‖² of the ten is some hundreds, E ‖∇log q‖² is 2: √(300/2N) is 0.6 and 0.3.
    assert!(errors[0] < 0.6 && errors[1] < 0.3, "{errors:?}");
    assert!(errors[1] < 0.7 * errors[0], "{errors:?}");
}

/// The losses that choose the number of terms, from sums, are those of estimates without the part.
#[test]
fn held_out_losses_are_those_of_the_rest() {
    let data = synthesize("banana(n=60)", 4).unwrap();
    let model = Arc::new(model(&data, spec("rbf(lengthscale=2)", 5, "kernel_pca")));
    let options = SteinOptions { seed: 3, ..SteinOptions::default() };
    let estimate = SpectralStein::parametric(model.clone(), &data, &options).unwrap();
    let folds = terms::folds(60, 3).unwrap();
    let mut every: Vec<usize> = folds.concat();
    every.sort_unstable();
    assert_eq!(every, (0..60).collect::<Vec<_>>());
    for terms in 1..=5 {
        let part = |f: usize| {
            let rest: Vec<usize> = (0..60).filter(|i| !folds[f].contains(i)).collect();
            let rest = data.subset(rest).unwrap();
            let fitted = SpectralStein::parametric(model.clone(), &rest, &exactly(terms)).unwrap();
            let held_out = data.subset(folds[f].clone()).unwrap();
            fitted.hyvarinen_loss(&held_out).unwrap() * folds[f].len() as f64
        };
        let want = (0..5).map(part).sum::<f64>() / 60.0;
        let got = estimate.record().losses[terms - 1];
        assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{terms}: {got} {want}");
    }
    let least = estimate.record().losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(estimate.record().losses[estimate.terms() - 1], least);
}

#[test]
fn bits_survive_files_and_threads() {
    let data = synthesize("mixture(n=120)", 1).unwrap();
    let x = all(&synthesize("mixture(n=300)", 2).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let fitted = || {
        let options = SteinOptions { components: 12, ..SteinOptions::default() };
        let model = model(&data, FitSpec { standardize: true, ..spec("rbf", 6, "neuralef") });
        [
            SpectralStein::nonparametric(kernel("rbf + 0.1*linear", &data), &data, &options),
            SpectralStein::parametric(model, &data, &options),
        ]
        .map(|found| found.unwrap())
    };
    for (i, estimate) in fitted().iter().enumerate() {
        assert_eq!(estimate.is_parametric(), i == 1);
        let path = folder.path().join("score.safetensors");
        estimate.save(&path).unwrap();
        let again = SpectralStein::load(&path).unwrap();
        assert_eq!(again.record(), estimate.record());
        assert_eq!((again.kernel(), again.dimensions()), (estimate.kernel(), 2));
        let (a, b) = (estimate.score(x.view()).unwrap(), again.score(x.view()).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
        // A file that is something else, or was changed.
        let archive = Archive::read(&path).unwrap();
        assert!(matches!(Model::load(&path), Err(Error::ModelFile { .. })));
        let broken = |change: &dyn Fn(&mut Archive)| {
            let mut archive = archive.clone();
            change(&mut archive);
            let error = SpectralStein::from_bytes(&archive.to_bytes().unwrap()).unwrap_err();
            assert!(matches!(error, Error::ModelFile { .. }), "{error}");
        };
        broken(&|a| a.kind = "model".into());
        broken(&|a| a.header["record"]["terms"] = 0.into());
        broken(&|a| a.header["record"]["terms"] = 1000.into());
        broken(&|a| a.header["record"]["components"] = 3.into());
        broken(&|a| a.header["more"] = 3.into());
        broken(&|a| a.remove("coefficients"));
        broken(&|a| a.header["kernel"] = if i == 0 { "laplacian(" } else { "linear" }.into());
        broken(&|a| a.remove(if i == 0 { "landmarks" } else { "model" }));
    }
    let scores = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fitted().map(|e| e.score(x.view()).unwrap()))
    };
    assert_eq!(scores(1), scores(3));
}

#[test]
fn numbers_of_terms() {
    for (text, terms) in
        [("auto", Terms::Auto), ("12", Terms::Exactly(12)), ("0.95", Terms::Share(0.95))]
    {
        assert_eq!(text.parse::<Terms>().unwrap(), terms);
        assert_eq!(terms.to_string(), text);
    }
    for bad in ["", "0", "-1", "1.5", "nan", "Auto", "0.0"] {
        let error = bad.parse::<Terms>().unwrap_err().to_string();
        assert!(error.contains("terms: expected `auto`"), "{error}");
    }
    // The sum of all eigenvalues of xᵀy under the samples is the mean of ‖x‖².
    let data = synthesize("gaussian(n=400, d=3)", 1).unwrap();
    let linear = kernel("linear", &data);
    let with = |terms| SteinOptions { terms, ..SteinOptions::default() };
    let found = |terms| SpectralStein::nonparametric(linear.clone(), &data, &with(terms));
    let whole = found(Terms::Exactly(3)).unwrap();
    let values = whole.basis.eigenvalues();
    let share = values[0] / values.iter().sum::<f64>();
    assert_eq!(found(Terms::Share(share - 1e-9)).unwrap().terms(), 1);
    assert_eq!(found(Terms::Share(share + 1e-9)).unwrap().terms(), 2);
    let message = found(Terms::Exactly(4)).unwrap_err().to_string();
    assert!(message.contains("1 to 3, the number of eigenfunctions"), "{message}");
    let rbf = kernel("rbf", &data);
    let few = SteinOptions { components: 2, ..with(Terms::Share(0.99)) };
    let message = SpectralStein::nonparametric(rbf, &data, &few).unwrap_err().to_string();
    assert!(message.contains("that of all 2 eigenfunctions"), "{message}");
}

#[test]
fn what_cannot_be_is_a_typed_error() {
    let data = synthesize("gaussian(n=20, d=2)", 1).unwrap();
    let auto = SteinOptions::default();
    for text in [
        "laplacian(lengthscale=1)",
        "rbf(lengthscale=1) + brownian",
        "matern(nu=0.5, lengthscale=1)",
        "ntk",
    ] {
        let error = SpectralStein::nonparametric(kernel(text, &data), &data, &auto).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{text}: {error}");
    }
    let few = data.subset((0..9).collect()).unwrap();
    let error = SpectralStein::nonparametric(kernel("rbf", &data), &few, &auto).unwrap_err();
    assert!(error.to_string().contains("at least 10"), "{error}");
    let none = SteinOptions { components: 0, ..auto.clone() };
    let error = SpectralStein::nonparametric(kernel("rbf", &data), &data, &none).unwrap_err();
    assert!(error.to_string().contains("components: expected at least 1"), "{error}");

    let pca = Arc::new(model(&data, spec("rbf", 3, "kernel_pca")));
    let wide = synthesize("gaussian(n=20, d=3)", 1).unwrap();
    let error = SpectralStein::parametric(pca.clone(), &wide, &auto).unwrap_err();
    assert!(error.to_string().contains("expected shape n × 2, got n × 3"), "{error}");
    let estimate = SpectralStein::parametric(pca, &data, &auto).unwrap();
    let error = estimate.score(all(&wide).view()).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    for (kernel, method) in [("laplacian", "kernel_pca"), ("rbf", "fourier")] {
        let model = model(&data, spec(kernel, 4, method));
        let error = SpectralStein::parametric(model, &data, &auto).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{method}: {error}");
    }
    let zeros = Mat64::zeros((2, 2));
    assert!(relative_error(zeros.view(), zeros.view()).is_err());
    assert!(relative_error(zeros.view(), Mat64::ones((2, 3)).view()).is_err());
    assert_eq!(relative_error(zeros.view(), Mat64::ones((2, 2)).view()).unwrap(), 1.0);
}
