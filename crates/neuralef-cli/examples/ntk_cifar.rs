//! The tangent kernel of a trained ResNet-20 on CIFAR-10, airplane against automobile (Deng, Shi & Zhu
//! 2022, section 5.4): ten eigenpairs from Monte-Carlo features, against the exact kernel.
//!
//! ```text
//! cargo run --release -p neuralef-cli --example ntk_cifar [-- --small | --paper] [--seed 0] [--data DIR]
//!     [--out DIR]
//! ```
//!
//! The network has one output, the difference of the two logits; no head is trained. Batch normalisation
//! is frozen. Rows: the relative Frobenius error of the 100 × 100 kernel of test images against
//! Jacobians, for NeuralEF with k = 10, the exact ten eigenpairs on the same training points (Nyström
//! with all of them: the best that rank ten from them can be expected to be), and random features.
//!
//! Data: resnet/ and cifar10/ in DIR ($NEURALEF_DATA, or ../shared/data).

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ndarray::Axis;
use neuralef::probe::KMeans;
use neuralef::sample::{Derivative, Sampling, Tangents, exact_ntk, ntk};
use neuralef::{
    Dataset, Error, FeatureMap, Fit, FitSpec, Kernel, Mat, Mat64, Mat64Mut, MatMut, MatRef,
    Network, NetworkSpec, Nystrom, Result, Silent, Steps, metrics, read_weights,
};

mod support;
use support::{Args, Scale, Table, heat_maps};

const K: usize = 10;
const TEST: usize = 100;
/// MiB for Jacobians.
const BUDGET: u64 = 6144;

/// The tangent kernel of a network as a kernel: gram matrices from Jacobians.
struct Tangent {
    network: Mutex<Box<dyn Network>>,
}

impl std::fmt::Debug for Tangent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the tangent kernel of a network")
    }
}

impl Tangent {
    fn of(&self, x: MatRef<'_>, y: Option<MatRef<'_>>) -> Result<Mat64> {
        let network = self.network.lock().map_err(|e| Error::Numerical {
            what: "tangent kernel".into(),
            message: e.to_string(),
        })?;
        exact_ntk(&**network, x, y, None, BUDGET)
    }
}

impl Kernel for Tangent {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        out.assign(&self.of(x, Some(y))?);
        Ok(())
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> Result<()> {
        out.assign(&self.of(x, Some(y))?.mapv(|v| v as f32));
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        Ok(self.of(x, None)?.diag().to_vec())
    }

    fn text(&self) -> String {
        "tangent".into()
    }
}

fn main() -> Result<()> {
    let args = Args::read(&["seed", "data"])?;
    let (train, samples, steps) = match args.scale() {
        Scale::Small => (400, 500, 100),
        Scale::Default => (1979, 4000, 300),
        Scale::Paper => (1979, 4000, 2000),
    };
    let seed: u64 = args.value("seed", 0)?;
    let folder = args.data();
    let open = |name: &str| Dataset::open(&folder.join(name).to_string_lossy(), 0);
    let (x, _) = two_classes(&open("cifar10/data_batch_1.bin.gz")?, train)?;
    let (test, labels) = two_classes(&open("cifar10/test_batch.bin.gz")?, TEST)?;
    let weights = folder.join("resnet/resnet20.safetensors");
    let mut network = difference(&weights)?;

    println!("{train} training images, S = {samples}, k = {K}, {steps} steps, seed {seed}\n");
    let started = Instant::now();
    let kernel = Tangent { network: Mutex::new(difference(&weights)?) };
    let truth = kernel.of(test.view(), None)?;
    println!("exact test kernel: {:.1} s", started.elapsed().as_secs_f64());
    let columns = ["<method", "relative Frobenius error", "accuracy of 2 clusters %", "seconds"];
    let table = Table::new("ntk_cifar", &columns, args.out()?);
    let mut kernels = vec![("exact".to_string(), truth.clone())];
    let gram = |phi: &Mat64| metrics::gram_error(phi.view(), phi.view(), truth.view());
    let mut print = |name: &str, phi: &Mat64, seconds: f64| -> Result<()> {
        let error = gram(phi)?;
        let clusters = KMeans { seed, ..KMeans::new(2) }.fit(phi.mapv(|v| v as f32).view())?;
        let same = clusters.labels().iter().zip(&labels).filter(|(c, l)| **c as i64 == **l).count();
        let right = 100.0 * same.max(labels.len() - same) as f64 / labels.len() as f64;
        kernels.push((name.to_string(), phi.dot(&phi.t())));
        let measured = [format!("{error:.4}"), format!("{right:.0}"), format!("{seconds:.1}")];
        table.row([name.to_string()].into_iter().chain(measured))
    };

    // Random features at the test points.
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let tangents = Tangents { derivative: Derivative::Reverse, ..Tangents::default() };
    let mut sampled = |name: &str, x: &Mat, samples: usize, seed: u64| -> Result<Dataset> {
        let data = Dataset::from_array(name, x.clone())?;
        let sampling = Sampling { samples, seed, memory_budget: 1024, ..Sampling::default() };
        let path = folder.path().join(format!("{name}-{samples}-{seed}.npy"));
        ntk(&mut *network, &data, &tangents, &sampling, path, &mut Silent)?.open()
    };
    for count in [10, 1000] {
        let started = Instant::now();
        let phi = sampled("test", &test, count, seed + 1)?;
        let phi = phi.range(0..TEST)?.mapv(f64::from) / (count as f64).sqrt();
        print(&format!("random features, S = {count}"), &phi, started.elapsed().as_secs_f64())?;
    }

    // NeuralEF on features of the training points.
    let started = Instant::now();
    sampled("train", &x, samples, seed)?;
    let sampling = started.elapsed().as_secs_f64();
    let path = folder.path().join(format!("train-{samples}-{seed}.npy"));
    let data = Dataset::from_array("airplane and automobile", x.clone())?;
    let mut found = Vec::new();
    for (name, steps) in [("NeuralEF, untrained", 0), ("NeuralEF", steps)] {
        let started = Instant::now();
        let spec = FitSpec {
            features: Some(path.clone()),
            n_components: K,
            network:
                "shared_convnet(channels=[32, 64], kernel=5, pool=2, readout=flatten, hidden=[256])"
                    .parse()?,
            optimizer: "adam(lr=1e-3)".parse()?,
            schedule: "cosine".parse()?,
            steps: Steps::Exactly(steps),
            memory_budget: 4096,
            validation_fraction: 0.1,
            seed,
            ..FitSpec::default()
        };
        let (model, _) = Fit::new(spec).run(&data)?;
        let phi = model.transform(test.view())?.mapv(f64::from);
        let name = format!("{name}, k = {K}, {steps} steps");
        print(&name, &phi, sampling + started.elapsed().as_secs_f64())?;
        found.push(model.eigenvalues().to_vec());
    }

    // The exact eigenpairs on the training points.
    let started = Instant::now();
    let exact = Nystrom::fit(Arc::new(kernel), x.clone(), K)?;
    let phi = exact.transform(test.view())?.mapv(f64::from);
    print("exact on the training points, k = 10", &phi, started.elapsed().as_secs_f64())?;

    let columns = ["eigenvalue", "exact", "NeuralEF", "ratio"];
    let table = Table::new("ntk_cifar_eigenvalues", &columns, args.out()?);
    let exact = exact.eigenvalues().unwrap_or_default().to_vec();
    for (j, (mu, found)) in exact.iter().zip(&found[1]).enumerate() {
        let ratio = format!("{:.3}", found / mu);
        table.row([(j + 1).to_string(), format!("{mu:.4e}"), format!("{found:.4e}"), ratio])?;
    }
    if let Some(out) = args.out()? {
        // By class.
        let (mut order, of) = ((0..TEST).collect::<Vec<_>>(), |i: &usize| labels[*i]);
        order.sort_by_key(of);
        let sorted = |k: Mat64| k.select(Axis(0), &order).select(Axis(1), &order);
        let panels: Vec<(String, Mat64)> =
            kernels.into_iter().map(|(title, k)| (title, sorted(k))).collect();
        let heading = ["Tangent kernel of ResNet-20", "100 test images, airplanes and automobiles"];
        heat_maps(&out.join("ntk_cifar.png"), heading, 3, &panels)?;
    }
    Ok(())
}

/// The first `count` images of the classes airplane and automobile, as the network sees them.
fn two_classes(data: &Dataset, count: usize) -> Result<(Mat, Vec<i64>)> {
    let labels = data.labels().unwrap_or_default();
    let rows: Vec<usize> = (0..data.len()).filter(|i| labels[*i] < 2).take(count).collect();
    let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let mut x = data.rows(&rows)?;
    for (plane, mut columns) in x.axis_chunks_iter_mut(Axis(1), 1024).enumerate() {
        columns.mapv_inplace(|v| (v / 255.0 - mean[plane]) / std[plane]);
    }
    Ok((x, rows.iter().map(|i| labels[*i]).collect()))
}

/// ResNet-20 with one output: the logit of automobile less that of airplane.
fn difference(path: &std::path::Path) -> Result<Box<dyn Network>> {
    let spec: NetworkSpec = "shared_resnet(depth=20, width=16)".parse()?;
    let (mut ten, mut one) = (spec.build(3072, 10, 1, 0)?, spec.build(3072, 1, 1, 0)?);
    read_weights(&mut *ten, path)?;
    let from = ten.parameters().clone();
    let layouts = from.layouts()[0].iter().zip(one.parameters().layouts()[0].clone());
    let pairs: Vec<_> = layouts.map(|(a, b)| (a.clone(), b)).collect();
    let unit = &mut one.parameters_mut().units_mut()[0];
    for (a, b) in pairs {
        let (source, to) = (&from.units()[0][a.range()], &mut unit[b.range()]);
        match a.shape == b.shape {
            true => to.copy_from_slice(source),
            false => {
                let heads = source.chunks_exact(10);
                to.iter_mut().zip(heads).for_each(|(to, heads)| *to = heads[1] - heads[0]);
            }
        }
    }
    one.parameters_mut().statistics_mut()[0].copy_from_slice(&from.statistics()[0]);
    one.freeze(true);
    Ok(one)
}
