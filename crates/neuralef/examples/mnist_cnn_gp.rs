//! The CNN-GP kernel of random convolutional networks on MNIST (Deng, Shi & Zhu 2022, section 5.3):
//! what are its first k eigenfunctions worth to logistic regression?
//!
//! ```text
//! cargo run --release -p neuralef --example mnist_cnn_gp [-- --small | --paper] [--seeds 3] [--data DIR]
//! ```
//!
//! Images are scaled to [−1, 1]. Φ are the outputs of S random networks with weights N(0, 2/fan_in)
//! and biases N(0, 0.01). Logistic regression sees projections scaled to unit norm. Rows:
//!
//! | row | is |
//! |---|---|
//! | a | the paper's protocol: k separate convnets, trained by NeuralEF, raw outputs |
//! | a' | those outputs projected onto the exact first k eigenfunctions: what they have of them |
//! | b | one trunk with k heads, trained, with the galerkin readout |
//! | c | the exact eigenfunctions of the same Φ: the ceiling for faithful eigenfunctions |
//! | d | as b with 0 steps |
//! | e | Nyström with polynomial(degree=10, gamma=0.001, coef0=1), and with rbf(lengthscale=10) |
//!
//! Data: the four MNIST files in DIR/mnist ($NEURALEF_DATA, or ../shared/data).

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{Axis, s};
use neuralef::probe::{LogisticRegression, unit_norm_rows};
use neuralef::sample::{Sampling, WeightLaw, nngp};
use neuralef::{
    Dataset, Error, FeatureMap, FeatureOperator, Fit, FitSpec, KernelSpec, Mat, Mat64, Nystrom,
    ReadoutKind, Result, Silent, Steps,
};

struct Setting {
    train: usize,
    test: usize,
    samples: usize,
    /// The networks of Φ.
    random: &'static str,
    ks: &'static [usize],
    /// Separate eigenfunction networks (a), and steps for each k.
    separate: &'static str,
    raw_steps: &'static [u64],
    /// The trunk of (b) and (d), and its steps.
    trunk: &'static str,
    steps: u64,
    batch: usize,
    landmarks: usize,
}

const RANDOM: &str =
    "convnet(channels=[16, 16], kernel=3, padding=[1, 0], pool=2, readout=flatten, hidden=[16])";

const SMALL: Setting = Setting {
    train: 8000,
    test: 2000,
    samples: 300,
    random: RANDOM,
    ks: &[10, 32],
    separate: "convnet(channels=[16, 32], kernel=3, pool=2, readout=flatten, hidden=[64])",
    raw_steps: &[300, 50],
    trunk: "shared_convnet(channels=[16, 32], kernel=5, pool=2, readout=flatten, hidden=[512])",
    steps: 50,
    batch: 256,
    landmarks: 1000,
};

const DEFAULT: Setting = Setting {
    train: 60_000,
    test: 10_000,
    samples: 1000,
    random: RANDOM,
    ks: &[10, 32, 64],
    separate: "convnet(channels=[16, 32], kernel=3, pool=2, readout=flatten, hidden=[64])",
    raw_steps: &[1500, 400, 200],
    trunk: "shared_convnet(channels=[16, 32], kernel=5, pool=2, readout=flatten, hidden=[1024])",
    steps: 500,
    batch: 256,
    landmarks: 6000,
};

const PAPER: Setting = Setting {
    samples: 2000,
    random: "convnet(channels=[16, 16, 16], kernel=5, pool=[2, 2, 1], readout=flatten)",
    separate: "convnet(channels=[32, 64, 128], kernel=5, pool=[2, 2, 1], readout=average)",
    raw_steps: &[20_000, 20_000, 20_000],
    steps: 20_000,
    ..DEFAULT
};

struct Images {
    train: Mat,
    test: Mat,
    train_labels: Vec<i64>,
    test_labels: Vec<i64>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1).cloned()
    };
    let setting = match () {
        () if args.iter().any(|a| a == "--small") => SMALL,
        () if args.iter().any(|a| a == "--paper") => PAPER,
        () => DEFAULT,
    };
    let seeds: u64 = value("--seeds").and_then(|v| v.parse().ok()).unwrap_or(3);
    let folder = value("--data")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("NEURALEF_DATA").map(PathBuf::from))
        .unwrap_or_else(|| "../shared/data".into());
    let images = read(&folder.join("mnist"), &setting)?;
    println!(
        "{} training and {} test images, S = {} networks {}\n",
        setting.train, setting.test, setting.samples, setting.random
    );
    println!("| seed | k | row | steps | accuracy % | share in the exact span | seconds |");
    println!("|--:|--:|---|--:|--:|--:|--:|");
    for seed in 0..seeds {
        run(&setting, &images, seed)?;
    }
    Ok(())
}

fn run(setting: &Setting, images: &Images, seed: u64) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let started = Instant::now();
    let sampling = Sampling { samples: setting.samples, seed, ..Sampling::default() };
    let law = WeightLaw::new(2.0, 0.01);
    let mut paths = Vec::new();
    for (name, x) in [("train", &images.train), ("test", &images.test)] {
        let data = Dataset::from_array(name, x.clone())?;
        let path = folder.path().join(format!("{name}.npy"));
        nngp(&setting.random.parse()?, &data, &law, &sampling, &path, &mut Silent)?;
        paths.push(path);
    }
    let phi_train = Dataset::open(&paths[0].to_string_lossy(), 0)?;
    let phi_test = Dataset::open(&paths[1].to_string_lossy(), 0)?;
    println!("| {seed} | | sampling Φ | | | | {:.0} |", started.elapsed().as_secs_f64());

    // (c) The exact eigenfunctions of Φ.
    let started = Instant::now();
    let most = setting.ks.iter().copied().max().unwrap_or(1);
    let operator = FeatureOperator::new(phi_train.clone(), 1)?;
    let all: Vec<usize> = (0..setting.train).collect();
    let exact = operator.eigenpairs(&all, most)?;
    let project = |phi: &Dataset| -> Result<Mat64> {
        let blocks: Vec<Mat64> = (0..phi.len())
            .step_by(2000)
            .map(|from| {
                let rows = phi.range(from..(from + 2000).min(phi.len()))?;
                exact.eigenfunctions(rows.view())
            })
            .collect::<Result<_>>()?;
        let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
        ndarray::concatenate(Axis(0), &views).map_err(|e| Error::shape("eigenfunctions", "rows", e))
    };
    let exact = (project(&phi_train)?, project(&phi_test)?);
    let exact_seconds = started.elapsed().as_secs_f64();

    // (e) Nyström; the first k of its eigenfunctions serve for every k.
    let mut nystrom = Vec::new();
    for (name, kernel) in [
        ("e polynomial", "polynomial(degree=10, gamma=0.001, coef0=1)"),
        ("e rbf", "rbf(lengthscale=10)"),
    ] {
        let started = Instant::now();
        let kernel = kernel.parse::<KernelSpec>()?.resolve(None, 0)?;
        let step = setting.train / setting.landmarks;
        let rows: Vec<usize> =
            (0..setting.landmarks).map(|i| (i * step + seed as usize) % setting.train).collect();
        let map = Nystrom::fit(kernel, images.train.select(Axis(0), &rows), most)?;
        let values =
            (map.eigenfunctions(images.train.view())?, map.eigenfunctions(images.test.view())?);
        nystrom.push((name, values, started.elapsed().as_secs_f64()));
    }

    for (k, raw_steps) in setting.ks.iter().copied().zip(setting.raw_steps) {
        let first = |x: &Mat64| x.slice(s![.., ..k]).to_owned();
        let print = |row: &str, steps: &str, train: &Mat64, test: &Mat64, seconds: f64| {
            let accuracy = probe(images, train, test)?;
            let share = share(test, &first(&exact.1))?;
            println!(
                "| {seed} | {k} | {row} | {steps} | {accuracy:.2} | {share:.3} | {seconds:.0} |"
            );
            Ok::<(), Error>(())
        };
        print("c exact", "–", &first(&exact.0), &first(&exact.1), exact_seconds)?;
        for (name, (train, test), seconds) in &nystrom {
            print(name, "–", &first(train), &first(test), *seconds)?;
        }
        let base = FitSpec {
            features: Some(paths[0].clone()),
            n_components: k,
            batch_size: setting.batch,
            validation_fraction: 0.05,
            memory_budget: 4096,
            optimizer: "adam(lr=1e-3)".parse()?,
            schedule: "cosine".parse()?,
            seed,
            ..FitSpec::default()
        };
        let data = Dataset::from_array("mnist", images.train.clone())?;
        for (row, network, readout, steps) in [
            ("d untrained", setting.trunk, ReadoutKind::Galerkin, 0),
            ("b default", setting.trunk, ReadoutKind::Galerkin, setting.steps),
            ("a raw", setting.separate, ReadoutKind::None, *raw_steps),
        ] {
            let started = Instant::now();
            let network = network.parse()?;
            let spec = FitSpec { network, readout, steps: Steps::Exactly(steps), ..base.clone() };
            let (model, _) = Fit::new(spec).run(&data)?;
            let train = model.eigenfunctions(images.train.view())?;
            let test = model.eigenfunctions(images.test.view())?;
            let seconds = started.elapsed().as_secs_f64();
            print(row, &steps.to_string(), &train, &test, seconds)?;
            if row == "a raw" {
                // What the raw outputs have of the exact eigenfunctions, and nothing else.
                let weights = first(&exact.0).t().dot(&train) / setting.train as f64;
                let on = |psi: &Mat64| first(psi).dot(&weights);
                print("a' projected", &steps.to_string(), &on(&exact.0), &on(&exact.1), 0.0)?;
            }
        }
    }
    Ok(())
}

/// Test accuracy in percent of logistic regression on unit-norm projections.
fn probe(images: &Images, train: &Mat64, test: &Mat64) -> Result<f64> {
    let single = |x: &Mat64| unit_norm_rows(x.mapv(|v| v as f32).view());
    let (train, test) = (single(train)?, single(test)?);
    let model = LogisticRegression { c: 100.0, max_iter: 300, ..Default::default() }
        .fit(train.view(), &images.train_labels)?;
    Ok(100.0 * model.accuracy(test.view(), &images.test_labels)?)
}

/// The mean over functions of the share of E ψ² that lies in the span of the exact eigenfunctions,
/// which are orthonormal but for sampling.
fn share(psi: &Mat64, exact: &Mat64) -> Result<f64> {
    let n = psi.nrows() as f64;
    let products = exact.t().dot(psi) / n;
    let shares = psi.columns().into_iter().zip(products.columns()).map(|(psi, products)| {
        products.iter().map(|v| v * v).sum::<f64>() / (psi.iter().map(|v| v * v).sum::<f64>() / n)
    });
    Ok(shares.sum::<f64>() / psi.ncols() as f64)
}

fn read(folder: &Path, setting: &Setting) -> Result<Images> {
    let open = |name: &str| Dataset::open(&folder.join(name).to_string_lossy(), 0);
    let images = |name: &str, n: usize| -> Result<Mat> {
        Ok(open(name)?.range(0..n)?.mapv(|v| v / 127.5 - 1.0))
    };
    let labels = |name: &str, n: usize| -> Result<Vec<i64>> {
        Ok(open(name)?.range(0..n)?.iter().map(|v| *v as i64).collect())
    };
    Ok(Images {
        train: images("train-images-idx3-ubyte.gz", setting.train)?,
        test: images("t10k-images-idx3-ubyte.gz", setting.test)?,
        train_labels: labels("train-labels-idx1-ubyte.gz", setting.train)?,
        test_labels: labels("t10k-labels-idx1-ubyte.gz", setting.test)?,
    })
}
