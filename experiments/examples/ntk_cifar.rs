//! The tangent kernel of a trained ResNet-20 on CIFAR-10 (Deng, Shi & Zhu 2022, section 5.4): airplane
//! against automobile, ten eigenpairs from Monte-Carlo features, against the exact kernel; and all
//! ten classes, with eigenfunctions of ten outputs and with scalar ones times a vector of outputs.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example ntk_cifar [-- --small | --paper] [--seed 0] [--data DIR]
//!     [--out DIR]
//! ```
//!
//! For two classes the network has one output, the difference of the two logits; no head is trained.
//! Batch normalisation is frozen. Measured is the relative Frobenius error of the kernel of 100 test
//! images (30 or 50 with ten classes) against that of exact Jacobians:
//!
//! | row | is |
//! |---|---|
//! | random features | Φ at the test images |
//! | heads | NeuralEF with perceptrons on the pooled layers of the network itself |
//! | tangents | NeuralEF with derivatives of the network along directions in its parameters |
//! | Nyström | with all training points as landmarks: the exact first eigenpairs there |
//!
//! Data: resnet/ and cifar10/ in DIR ($NEURALEF_DATA, or ../shared/data).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Axis, s};
use neuralef::fit::{OutputForm, Steps};
use neuralef::matrix::{Mat64Mut, MatMut};
use neuralef::method::Nystrom;
use neuralef::nn::{read_weights, write_weights};
use neuralef::operator::{FeatureOperator, OperatorSpec};
use neuralef::probe::KMeans;
use neuralef::sample::{Derivative, Sampling, Tangents, exact_ntk, ntk};
use neuralef::train::Silent;
use neuralef::{
    Dataset, Error, FeatureMap, Fit, FitSpec, Kernel, Mat, Mat64, MatRef, Model, Network,
    NetworkSpec, Result, metrics,
};
use neuralef_experiments::{Args, Scale, Table, heat_maps};

const K: usize = 10;
const TEST: usize = 100;
const CLASSES: usize = 10;
/// Numbers of eigenfunctions with ten classes.
const TEN_K: [usize; 3] = [10, 20, 50];
const RESNET: &str = "shared_resnet(depth=20, width=16)";
/// MiB for Jacobians.
const BUDGET: u64 = 6144;

/// The tangent kernel of a network as a kernel: gram matrices from Jacobians.
struct Tangent {
    network: Box<dyn Network>,
}

impl std::fmt::Debug for Tangent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the tangent kernel of a network")
    }
}

impl Tangent {
    fn of(&self, x: MatRef<'_>, y: Option<MatRef<'_>>) -> Result<Mat64> {
        exact_ntk(&*self.network, x, y, None, BUDGET)
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

/// How much of everything.
struct Setting {
    train: usize,
    samples: usize,
    /// Of training for the networks that are trained.
    steps: u64,
    /// Training images, test images and S for ten classes.
    ten: (usize, usize, usize),
}

const SMALL: Setting = Setting { train: 400, samples: 500, steps: 100, ten: (100, 30, 200) };
const DEFAULT: Setting = Setting { train: 1979, samples: 4000, steps: 300, ten: (1000, 50, 1000) };
const PAPER: Setting = Setting { steps: 2000, ten: (2000, 50, 4000), ..DEFAULT };

fn main() -> Result<()> {
    let args = Args::read(&["seed", "data"])?;
    let setting = match args.scale() {
        Scale::Small => SMALL,
        Scale::Default => DEFAULT,
        Scale::Paper => PAPER,
    };
    let seed: u64 = args.value("seed", 0)?;
    let scratch = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let run = Run { setting, seed, data: args.data(), scratch: scratch.path(), out: args.out()? };
    run.two_classes()?;
    run.ten_classes()
}

struct Run<'a> {
    setting: Setting,
    seed: u64,
    data: PathBuf,
    scratch: &'a Path,
    out: Option<&'a Path>,
}

impl Run<'_> {
    /// The first images of `classes` classes, as the network sees them, with their labels.
    fn images(&self, batch: &str, classes: i64, count: usize) -> Result<(Mat, Vec<i64>)> {
        let path = self.data.join(format!("cifar10/{batch}.bin.gz"));
        let data = Dataset::open(&path.to_string_lossy(), 0)?;
        let labels = data.labels().unwrap_or_default();
        let rows: Vec<usize> =
            (0..data.len()).filter(|i| labels[*i] < classes).take(count).collect();
        let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
        let mut x = data.rows(&rows)?;
        for (plane, mut columns) in x.axis_chunks_iter_mut(Axis(1), 1024).enumerate() {
            columns.mapv_inplace(|v| (v / 255.0 - mean[plane]) / std[plane]);
        }
        Ok((x, rows.iter().map(|i| labels[*i]).collect()))
    }

    fn weights(&self) -> PathBuf {
        self.data.join("resnet/resnet20.safetensors")
    }

    /// Features of the tangent kernel of `network` at `x`; the same seed means the same directions.
    fn sampled(
        &self,
        network: &mut dyn Network,
        name: &str,
        x: &Mat,
        samples: usize,
        seed: u64,
    ) -> Result<(PathBuf, Dataset)> {
        let data = Dataset::from_array(name, x.clone())?;
        let tangents = Tangents { derivative: Derivative::Reverse, ..Tangents::default() };
        let sampling = Sampling { samples, seed, memory_budget: 1024, ..Sampling::default() };
        let path = self.scratch.join(format!("{name}-{samples}-{seed}.npy"));
        let phi = ntk(network, &data, &tangents, &sampling, &path, &mut Silent)?.open()?;
        Ok((path, phi))
    }

    fn fit(
        &self,
        x: &Mat,
        features: &Path,
        k: usize,
        network: &str,
        spec: FitSpec,
    ) -> Result<Model> {
        let spec = FitSpec {
            operator: Some(OperatorSpec::features(features)),
            n_components: k,
            network: network.parse()?,
            optimizer: "adam(lr=1e-3)".parse()?,
            schedule: "cosine".parse()?,
            memory_budget: 4096,
            validation_fraction: 0.1,
            seed: self.seed,
            ..spec
        };
        Ok(Fit::new(spec).run(&Dataset::from_array("images", x.clone())?)?.0)
    }

    fn two_classes(&self) -> Result<()> {
        let Setting { train, samples, steps, .. } = self.setting;
        let (x, _) = self.images("data_batch_1", 2, train)?;
        let (test, labels) = self.images("test_batch", 2, TEST)?;
        let mut network = difference(&self.weights())?;
        let file = self.scratch.join("difference.safetensors");
        write_weights(&*network, &file)?;
        let of = format!("of=\"{}\", network={RESNET}", file.display());

        println!("{train} images of two classes, S = {samples}, k = {K}, seed {}", self.seed);
        let started = Instant::now();
        let kernel = Tangent { network: difference(&self.weights())? };
        let truth = kernel.of(test.view(), None)?;
        println!("exact test kernel: {:.1} s", started.elapsed().as_secs_f64());
        let columns =
            ["<method", "relative Frobenius error", "accuracy of 2 clusters %", "seconds"];
        let table = Table::new("ntk_cifar", &columns, self.out);
        let mut kernels = vec![("exact".to_string(), truth.clone())];
        let mut print = |name: &str, phi: &Mat64, seconds: f64| -> Result<()> {
            let error = metrics::gram_error(phi.view(), phi.view(), truth.view())?;
            let clusters =
                KMeans { seed: self.seed, ..KMeans::new(2) }.fit(phi.mapv(|v| v as f32).view())?;
            let same =
                clusters.labels().iter().zip(&labels).filter(|(c, l)| **c as i64 == **l).count();
            let right = 100.0 * same.max(labels.len() - same) as f64 / labels.len() as f64;
            kernels.push((name.to_string(), phi.dot(&phi.t())));
            let measured = [format!("{error:.4}"), format!("{right:.0}"), format!("{seconds:.1}")];
            table.row([name.to_string()].into_iter().chain(measured))
        };

        for count in [10, 1000] {
            let started = Instant::now();
            let (_, phi) = self.sampled(&mut *network, "test", &test, count, self.seed + 1)?;
            let phi = phi.range(0..TEST)?.mapv(f64::from) / (count as f64).sqrt();
            let name = format!("random features, S = {count}");
            print(&name, &phi, started.elapsed().as_secs_f64())?;
        }

        let started = Instant::now();
        let (features, _) = self.sampled(&mut *network, "train", &x, samples, self.seed)?;
        let sampling = started.elapsed().as_secs_f64();
        println!("sampling, part of all rows of NeuralEF: {sampling:.1} s");
        let mut found = Vec::new();
        for (name, architecture, steps) in [
            ("heads", format!("heads({of}, hidden=[64])"), 0),
            ("heads", format!("heads({of}, hidden=[64])"), steps),
            ("tangents", format!("tangents({of})"), 0),
            ("tangents", format!("tangents({of})"), steps / 10),
        ] {
            let started = Instant::now();
            let spec = FitSpec { steps: Steps::Exactly(steps), ..FitSpec::default() };
            let model = self.fit(&x, &features, K, &architecture, spec)?;
            let phi = model.transform(test.view())?.mapv(f64::from);
            let name = format!("NeuralEF, {name}, {steps} steps");
            print(&name, &phi, sampling + started.elapsed().as_secs_f64())?;
            found.push((name, model.eigenvalues().to_vec()));
        }

        let started = Instant::now();
        let exact = Nystrom::fit(Arc::new(kernel), x, K)?;
        let phi = exact.transform(test.view())?.mapv(f64::from);
        print(
            "Nyström on all training points (exact there)",
            &phi,
            started.elapsed().as_secs_f64(),
        )?;

        let exact = exact.eigenvalues().unwrap_or_default();
        let names = found.iter().map(|(name, _)| format!("{name} / exact"));
        let columns: Vec<String> =
            ["eigenvalue", "exact"].map(String::from).into_iter().chain(names).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let table = Table::new("ntk_cifar_eigenvalues", &columns, self.out);
        for (j, mu) in exact.iter().enumerate() {
            let ratio = |(_, found): &(String, Vec<f64>)| {
                found.get(j).map_or_else(|| "none".into(), |found| format!("{:.3}", found / mu))
            };
            let start = [(j + 1).to_string(), format!("{mu:.4e}")];
            table.row(start.into_iter().chain(found.iter().map(ratio)))?;
        }
        if let Some(out) = self.out {
            // By class.
            let (mut order, of) = ((0..TEST).collect::<Vec<_>>(), |i: &usize| labels[*i]);
            order.sort_by_key(of);
            let sorted = |k: Mat64| k.select(Axis(0), &order).select(Axis(1), &order);
            let panels: Vec<(String, Mat64)> =
                kernels.into_iter().map(|(title, k)| (title, sorted(k))).collect();
            let heading =
                ["Tangent kernel of ResNet-20", "100 test images, airplanes and automobiles"];
            heat_maps(&out.join("ntk_cifar.png"), heading, 3, &panels)?;
        }
        Ok(())
    }

    /// Ten outputs: joint and factorized eigenfunctions.
    fn ten_classes(&self) -> Result<()> {
        let (train, count, samples) = self.setting.ten;
        let (x, _) = self.images("data_batch_1", 10, train)?;
        let (test, _) = self.images("test_batch", 10, count)?;
        let mut network = RESNET.parse::<NetworkSpec>()?.build(3072, 1, CLASSES, 0)?;
        read_weights(&mut *network, self.weights())?;
        network.freeze(true);
        let of = format!("of=\"{}\", network={RESNET}", self.weights().display());
        println!("\n{train} images of ten classes, S = {samples}, {count} test images");
        let truth = exact_ntk(&*network, test.view(), None, None, BUDGET)?;
        let started = Instant::now();
        let (path, phi) = self.sampled(&mut *network, "ten", &x, samples, self.seed)?;
        println!("sampling: {:.1} s", started.elapsed().as_secs_f64());
        let columns = ["<method", "k", "relative Frobenius error", "seconds"];
        let table = Table::new("ntk_cifar_ten_classes", &columns, self.out);
        let print = |name: &str, k: usize, phi: &Mat64, seconds: f64| -> Result<()> {
            let error = metrics::gram_error(phi.view(), phi.view(), truth.view())?;
            let measured = [k.to_string(), format!("{error:.4}"), format!("{seconds:.1}")];
            table.row([name.to_string()].into_iter().chain(measured))
        };
        // The same directions, so that the eigenfunctions of Φ itself can be had at the test images.
        let (_, there) = self.sampled(&mut *network, "ten-test", &test, samples, self.seed)?;
        let there = there.range(0..there.len())?;
        let exact = FeatureOperator::new(phi, CLASSES)?
            .eigenpairs(&(0..train).collect::<Vec<_>>(), TEN_K[TEN_K.len() - 1])?;
        for k in TEN_K {
            let (_, phi) = self.sampled(&mut *network, "ten-random", &test, k, self.seed + 1)?;
            let phi = phi.range(0..phi.len())?.mapv(f64::from) / (k as f64).sqrt();
            print("random features, S = k", k, &phi, 0.0)?;
            for (name, form, architecture) in [
                ("factorized, heads", OutputForm::Factorized, format!("heads({of}, hidden=[])")),
                ("joint, heads", OutputForm::Joint, format!("heads({of}, hidden=[])")),
                ("joint, tangents", OutputForm::Joint, format!("tangents({of}, points=200)")),
            ] {
                let started = Instant::now();
                let spec = FitSpec {
                    outputs: CLASSES,
                    output_form: form,
                    steps: Steps::Exactly(0),
                    ..FitSpec::default()
                };
                let model = self.fit(&x, &path, k, &architecture, spec)?;
                let phi = model.transform(test.view())?.mapv(f64::from);
                print(name, k, &phi, started.elapsed().as_secs_f64())?;
            }
            let mut phi = exact.eigenfunctions(there.view())?.slice_move(s![.., ..k]);
            for (mut column, mu) in phi.columns_mut().into_iter().zip(&exact.eigenvalues) {
                column *= mu.sqrt();
            }
            print("exact, of Φ on the training points", k, &phi, 0.0)?;
        }
        Ok(())
    }
}

/// ResNet-20 with one output: the logit of automobile less that of airplane.
fn difference(path: &Path) -> Result<Box<dyn Network>> {
    let spec: NetworkSpec = RESNET.parse()?;
    let (mut ten, mut one) = (spec.build(3072, CLASSES, 1, 0)?, spec.build(3072, 1, 1, 0)?);
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
                let heads = source.chunks_exact(CLASSES);
                to.iter_mut().zip(heads).for_each(|(to, heads)| *to = heads[1] - heads[0]);
            }
        }
    }
    one.parameters_mut().statistics_mut()[0].copy_from_slice(&from.statistics()[0]);
    one.freeze(true);
    Ok(one)
}
