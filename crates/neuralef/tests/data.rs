//! Real data that the repository does not hold: run with `NEURALEF_DATA=DIR cargo test -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use neuralef::{Dataset, FitSpec, Nystrom, fit, metrics};

fn file(name: &str) -> String {
    let folder =
        std::env::var_os("NEURALEF_DATA").map_or("../../../shared/data".into(), PathBuf::from);
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
#[ignore = "needs NEURALEF_DATA"]
fn needs_data_mnist_reads_whole() {
    let images = Dataset::open(&file("mnist/t10k-images-idx3-ubyte.gz"), 0).unwrap();
    assert_eq!((images.len(), images.width()), (10_000, 784));
    let x = images.range(0..10_000).unwrap();
    // The mean of the raw test pixels that everyone quotes, 0.1325 of 255.
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64 / 255.0;
    assert!((mean - 0.132_515).abs() < 1e-5, "{mean}");
    assert!(x.iter().all(|v| (0.0..=255.0).contains(v) && v.fract() == 0.0));
}

#[test]
#[ignore = "needs NEURALEF_DATA"]
fn needs_data_kin8nm_leading_eigenpair_is_that_of_its_gram_matrix() {
    let data = Dataset::open(&format!("{}:X", file("tabular/kin8nm.npz")), 0).unwrap();
    assert_eq!((data.len(), data.width()), (8192, 8));
    let data = data.subset((0..2000).collect()).unwrap();
    let spec = FitSpec::new("rbf(lengthscale=2)", 3).unwrap();
    let model = fit(&data, &spec).unwrap();
    let train = data.rows(&spec.split(2000).train).unwrap();
    let exact = Nystrom::fit(model.kernel().unwrap(), train.clone(), 3).unwrap();
    let found = metrics::cosines(
        model.eigenfunctions(train.view()).unwrap().slice(ndarray::s![.., ..1]),
        neuralef::FeatureMap::eigenfunctions(&exact, train.view())
            .unwrap()
            .slice(ndarray::s![.., ..1]),
    );
    // sin θ ≤ r·μ₁/(μ₁ − μ₂) and 0 ≤ μ₁ − μ ≤ (r·μ₁)²/(μ₁ − μ₂) for a Ritz pair of residual r·μ₁,
    // here with the held-out residual for r, a little above the training one.
    let mu = neuralef::FeatureMap::eigenvalues(&exact).unwrap();
    let residual = model.certificate().pairs[0].residual;
    assert!(residual < 0.2, "{residual}");
    let (gap, cosine) = (mu[0] - mu[1], found.unwrap()[0]);
    let sine = (1.0 - cosine * cosine).sqrt();
    assert!(sine <= residual * mu[0] / gap, "{cosine} {residual} {mu:?}");
    let short = mu[0] - model.eigenvalues()[0];
    assert!(short > -1e-9 * mu[0] && short <= (residual * mu[0]).powi(2) / gap, "{short}");
}
