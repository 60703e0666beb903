//! Real data that the repository does not hold: run with `NEURALEF_DATA=DIR cargo test -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use neuralef::bayes::{Laplace, LaplaceSpec, Predictive, Targets, fit_laplace};
use neuralef::calibration::assess;
use neuralef::method::Nystrom;
use neuralef::nn::{TrainedNetwork, read_onnx, read_weights, write_weights};
use neuralef::train::Silent;
use neuralef::{Dataset, FitSpec, Mat, NetworkSpec, fit, metrics};

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

/// CIFAR-10's test images as the shared ResNet-20 sees them, n × 3072.
fn normalised(images: &Dataset) -> Mat {
    let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let mut x = images.range(0..images.len()).unwrap();
    for ((_, column), v) in x.indexed_iter_mut() {
        *v = (*v / 255.0 - mean[column / 1024]) / std[column / 1024];
    }
    x
}

#[test]
#[ignore = "needs NEURALEF_DATA"]
fn needs_data_resnet20_gives_the_reference_logits() {
    let images = Dataset::open(&file("cifar10/test_batch.bin.gz"), 0).unwrap();
    assert_eq!((images.len(), images.width()), (10_000, 3072));
    let x = normalised(&images);
    let spec: NetworkSpec = "shared_resnet(depth=20, width=16)".parse().unwrap();
    let mut network = spec.build(3072, 10, 1, 0).unwrap();
    read_weights(&mut *network, file("resnet/resnet20.safetensors")).unwrap();
    let reference = file("resnet/resnet20_cifar10_test_reference.npz");
    let read = |key: &str| {
        let data = Dataset::open(&format!("{reference}:{key}"), 0).unwrap();
        data.range(0..data.len()).unwrap()
    };
    let logits = network.forward(x.view(), None).unwrap();
    let furthest = |a: &Mat, b: &Mat| a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    let error = furthest(&logits, &read("logits"));
    assert!(error < 1e-3, "{error}");
    let labels = images.labels().unwrap();
    let largest = |row: ndarray::ArrayView1<'_, f32>| {
        (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as i64
    };
    let right = logits.rows().into_iter().zip(labels).filter(|(r, l)| largest(*r) == **l).count();
    assert_eq!(right, 9173);
    let hidden = network.hidden(x.slice(ndarray::s![..500, ..])).unwrap();
    let features = read("features").slice(ndarray::s![..500, ..]).to_owned();
    assert!(furthest(&hidden, &features) < 1e-4 * features.iter().fold(0f32, |m, v| m.max(*v)));

    // As ONNX, with its norms folded.
    let onnx = read_onnx(file("resnet/resnet20.onnx")).unwrap();
    let error = furthest(&onnx.forward(x.view(), None).unwrap(), &read("logits"));
    assert!(error < 1e-3, "{error}");

    // What is written is what was read.
    let path = tempfile::tempdir().unwrap().keep().join("again.safetensors");
    write_weights(&*network, &path).unwrap();
    let mut again = spec.build(3072, 10, 1, 1).unwrap();
    read_weights(&mut *again, &path).unwrap();
    assert_eq!(again.parameters(), network.parameters());
}

/// laplace-torch 0.3 on the same images (glm predictive, probit, prior precision by marginal likelihood):
/// NLL 0.2507 and ECE 0.0105 for all of the last layer, 0.2562 and 0.0213 for its Kronecker factors,
/// 0.3727 and 0.0532 without.
#[test]
#[ignore = "needs NEURALEF_DATA"]
fn needs_data_last_layer_posteriors_are_those_of_laplace_torch() {
    let open = |name: &str| Dataset::open(&file(&format!("cifar10/{name}.bin.gz")), 0).unwrap();
    let labels = |data: &Dataset| -> Vec<usize> {
        data.labels().unwrap().iter().map(|y| *y as usize).collect()
    };
    let (train, test) = (open("data_batch_1"), open("test_batch"));
    let path = file("resnet/resnet20.safetensors");
    let network = TrainedNetwork::open(path, Some("shared_resnet(depth=20)")).unwrap();
    let network = network.build(3072).unwrap();
    // The last layer as a network of its own, on the features before it; those of the test images are
    // in the reference.
    let hidden = network.hidden(normalised(&train).view()).unwrap();
    let reference = file("resnet/resnet20_cifar10_test_reference.npz");
    let features = Dataset::open(&format!("{reference}:features"), 0).unwrap();
    let all = &network.parameters().units()[0];
    let mut linear = "mlp(hidden=[])".parse::<NetworkSpec>().unwrap().build(64, 1, 10, 0).unwrap();
    linear.parameters_mut().units_mut()[0].copy_from_slice(&all[all.len() - 650..]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.safetensors");
    write_weights(&*linear, &path).unwrap();
    let network = TrainedNetwork::open(path, Some("mlp(hidden=[])")).unwrap();

    let expected = [
        ("map", 0.3727, 0.0532),
        ("last_layer", 0.2507, 0.0105),
        ("last_layer(structure=kronecker)", 0.2562, 0.0213),
    ];
    let specs: Vec<LaplaceSpec> =
        expected.iter().map(|(source, ..)| LaplaceSpec::new(source).unwrap()).collect();
    let targets = Targets::Labels(labels(&train));
    let data = Dataset::from_array("features", hidden).unwrap();
    let posteriors = fit_laplace(&specs, &network, &data, &targets, &mut Silent).unwrap();
    let all: Vec<&Laplace> = posteriors.iter().collect();
    let x = features.range(0..features.len()).unwrap();
    let outputs = Laplace::outputs_of_all(&all, x.view()).unwrap();
    for ((source, nll, ece), (outputs, _)) in expected.into_iter().zip(outputs) {
        let p = outputs.probabilities(Predictive::Probit, 0).unwrap();
        let found = assess(p.view(), &labels(&test)).unwrap();
        assert!((found.nll - nll).abs() < 5e-4, "{source}: NLL {}", found.nll);
        assert!((found.ece - ece).abs() < 1e-3, "{source}: ECE {}", found.ece);
    }
}
