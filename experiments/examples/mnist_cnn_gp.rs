//! The CNN-GP kernel of random convolutional networks on MNIST (Deng, Shi & Zhu 2022, section 5.3):
//! what are its first k eigenfunctions worth to logistic regression?
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example mnist_cnn_gp [-- --small | --paper] [--seeds N] [--data DIR]
//!     [--features DIR] [--out DIR] [--components K] [--random NETWORK] [--raw NETWORK] [--optimizer OPTIMIZER]
//!     [--steps N]
//! ```
//!
//! Images are scaled to [−1, 1]. Φ are the outputs of S random networks with weights N(0, 2/fan_in)
//! and biases N(0, 0.01), the same for all seeds: the kernel. Seeds are those of the eigenfunction
//! networks, their batches and the landmarks. `--features` keeps Φ (and an interrupted sampling) for
//! the next run. `--components` leaves one k; `--random` are other networks of Φ (with a DIR of their
//! own), `--raw`, `--optimizer` and `--steps` another (a). Logistic regression sees projections scaled to unit norm. Components are nested:
//! rows b and d are one fit with the most components, of which the first k are taken. Rows:
//!
//! | row | is |
//! |---|---|
//! | a | the paper's protocol: NeuralEF's training, raw outputs without a readout; by SOAP (see below) |
//! | a' | those outputs projected onto the exact first k eigenfunctions: what they have of them |
//! | b | one trunk with k heads, the galerkin readout, and `steps = auto`: training as long as it pays |
//! | c | the exact eigenfunctions of the same Φ: the ceiling for faithful eigenfunctions |
//! | d | as b with 0 steps |
//! | e | Nyström with polynomial(degree=10, gamma=0.001, coef0=1), and with rbf(lengthscale=10) |
//!
//! The random networks are those of the authors' program: two 5 × 5 convolutions with maxima over 2 × 2, a
//! hidden layer and an output, with widths 16-16-16 (batch normalisation at its initial statistics is
//! the identity). The networks of (a) are, with `--paper`, k separate ones of widths 32-64-128 with batch
//! normalisation, trained by Adam, and otherwise k linear heads on one, trained by SOAP, which learns
//! more in a given time.
//!
//! Data: the four MNIST files in DIR/mnist ($NEURALEF_DATA, or ../shared/data). `--out` gets the table, and a
//! figure of the first three eigenfunctions (c, d and b, the first seed) at 2,000 test images.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{Axis, s};
use neuralef::fit::{ReadoutKind, Steps};
use neuralef::method::Nystrom;
use neuralef::nn::OptimizerSpec;
use neuralef::operator::{FeatureOperator, OperatorSpec};
use neuralef::probe::{LogisticRegression, unit_norm_rows};
use neuralef::sample::{Sampling, WeightLaw, nngp};
use neuralef::train::Silent;
use neuralef::{
    Dataset, Error, FeatureMap, Fit, FitSpec, KernelSpec, Mat, Mat64, NetworkSpec, Result,
};
use neuralef_experiments::{Args, Scale, Table, point_clouds};

struct Setting<'a> {
    train: usize,
    test: usize,
    samples: usize,
    /// The networks of Φ.
    random: &'a str,
    /// Every k, and the steps and the optimizer of (a) for it.
    ks: &'a [(usize, u64, &'a str)],
    /// The networks of (a).
    raw: &'a str,
    /// The trunk of (b) and (d), and the most steps of (b).
    trunk: &'a str,
    steps: u64,
    batch: usize,
    landmarks: usize,
    /// In MiB, for the networks in training.
    memory_budget: u64,
    seeds: u64,
}

const RANDOM: &str = "convnet(channels=[16, 16], kernel=5, pool=2, readout=flatten, hidden=[16])";

/// For many steps, and for few.
const FAST: &str = "soap(lr=1e-2)";
const SLOW: &str = "soap(lr=3e-3)";
const ADAM: &str = "adam(lr=1e-3)";

const RAW: &str = "shared_convnet(channels=[16, 32], kernel=5, pool=2, readout=flatten, hidden=[])";

const SMALL: Setting<'static> = Setting {
    train: 8000,
    test: 2000,
    samples: 200,
    random: RANDOM,
    ks: &[(10, 1000, SLOW), (32, 300, SLOW)],
    raw: RAW,
    trunk: "shared_convnet(channels=[16, 32], kernel=5, pool=2, readout=flatten, hidden=[512])",
    steps: 500,
    batch: 256,
    landmarks: 1000,
    memory_budget: 4096,
    seeds: 1,
};

const DEFAULT: Setting<'static> = Setting {
    train: 60_000,
    test: 10_000,
    samples: 500,
    random: RANDOM,
    ks: &[(10, 6000, FAST), (32, 1000, SLOW), (64, 1000, SLOW)],
    raw: RAW,
    trunk: "shared_convnet(channels=[16, 32], kernel=5, pool=2, readout=flatten, hidden=[1024])",
    steps: 2000,
    batch: 256,
    landmarks: 6000,
    memory_budget: 4096,
    seeds: 3,
};

const PAPER: Setting<'static> = Setting {
    samples: 2000,
    raw: "convnet(channels=[32, 64], kernel=5, pool=2, norm=batch, readout=flatten, hidden=[128])",
    ks: &[(10, 20_000, ADAM), (32, 20_000, ADAM), (64, 20_000, ADAM)],
    steps: 20_000,
    // 64 networks keep 10 GiB of a batch for the backward pass.
    memory_budget: 16_384,
    ..DEFAULT
};

impl Setting<'_> {
    fn most(&self) -> usize {
        self.ks.iter().map(|(k, ..)| *k).max().unwrap_or(1)
    }
}

struct Images {
    train: Mat,
    test: Mat,
    train_labels: Vec<i64>,
    test_labels: Vec<i64>,
}

fn main() -> Result<()> {
    let args = Args::read(&[
        "seeds",
        "data",
        "features",
        "components",
        "random",
        "raw",
        "optimizer",
        "steps",
    ])?;
    let mut setting = match args.scale() {
        Scale::Small => SMALL,
        Scale::Default => DEFAULT,
        Scale::Paper => PAPER,
    };
    let mut ks = Vec::new();
    for (k, steps, optimizer) in setting.ks {
        if args.value("components", *k)? == *k {
            let optimizer = args.text("optimizer").unwrap_or(optimizer);
            // Faults are told before anything is computed.
            optimizer.parse::<OptimizerSpec>()?;
            ks.push((*k, args.value("steps", *steps)?, optimizer));
        }
    }
    if ks.is_empty() {
        let known: Vec<String> = setting.ks.iter().map(|(k, ..)| k.to_string()).collect();
        let expected = format!("any of {}", known.join(", "));
        return Err(Error::parameter(
            "components",
            expected,
            args.text("components").unwrap_or(""),
        ));
    }
    setting.ks = &ks;
    setting.random = args.text("random").unwrap_or(setting.random);
    setting.raw = args.text("raw").unwrap_or(setting.raw);
    setting.raw.parse::<NetworkSpec>()?;
    let seeds: u64 = args.value("seeds", setting.seeds)?;
    let images = read(&args.data().join("mnist"), &setting)?;
    println!(
        "{} training and {} test images, S = {} networks {}",
        setting.train, setting.test, setting.samples, setting.random
    );
    let scratch = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let folder = args.text("features").map_or(scratch.path(), Path::new);
    let columns =
        ["seed", "k", "<row", "steps", "accuracy %", "share in the exact span", "seconds"];
    let table = Table::new("mnist_cnn_gp", &columns, args.out()?);
    let kernel = Features::new(&setting, &images, folder)?;
    for seed in 0..seeds {
        let drawn = run(&setting, &images, &kernel, seed, &table)?;
        if let (Some(out), 0) = (args.out()?, seed) {
            let heading = ["CNN-GP on MNIST", "The first three eigenfunctions at test images"];
            let labels = &images.test_labels[..drawn[0].1.nrows()];
            point_clouds(&out.join("mnist_cnn_gp.png"), heading, 3, &drawn, labels)?;
        }
    }
    Ok(())
}

/// Φ of the training images, and its exact eigenfunctions at all images.
struct Features {
    path: PathBuf,
    exact: (Mat64, Mat64),
    /// For sampling, and for the eigenfunctions.
    seconds: [f64; 2],
}

impl Features {
    fn new(setting: &Setting<'_>, images: &Images, folder: &Path) -> Result<Self> {
        let started = Instant::now();
        let sampling = Sampling { samples: setting.samples, ..Sampling::default() };
        let law = WeightLaw::new(2.0, 0.01);
        let mut phi = Vec::new();
        for (name, x) in [("train", &images.train), ("test", &images.test)] {
            let data = Dataset::from_array(name, x.clone())?;
            let path = folder.join(format!("{name}-{}-{}.npy", x.nrows(), setting.samples));
            nngp(&setting.random.parse()?, &data, &law, &sampling, &path, &mut Silent)?;
            phi.push((Dataset::open(&path.to_string_lossy(), 0)?, path));
        }
        let sampling = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let most = setting.most();
        let operator = FeatureOperator::new(phi[0].0.clone(), 1)?;
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
            ndarray::concatenate(Axis(0), &views)
                .map_err(|e| Error::shape("eigenfunctions", "rows", e))
        };
        let exact = (project(&phi[0].0)?, project(&phi[1].0)?);
        let seconds = [sampling, started.elapsed().as_secs_f64()];
        Ok(Features { path: phi.swap_remove(0).1, exact, seconds })
    }
}

/// All rows of one seed; the first three functions at test images, for the figure.
fn run(
    setting: &Setting<'_>,
    images: &Images,
    kernel: &Features,
    seed: u64,
    table: &Table,
) -> Result<Vec<(&'static str, Mat64)>> {
    let exact = &kernel.exact;
    let most = setting.most();
    let print = |k: usize, row: &str, steps: u64, values: (&Mat64, &Mat64), seconds: f64| {
        let (train, test) = (first(values.0, k), first(values.1, k));
        let accuracy = format!("{:.2}", probe(images, &train, &test)?);
        let share = format!("{:.3}", share(&test, &first(&exact.1, k)));
        let [seed, k, steps] = [seed, k as u64, steps].map(|v| v.to_string());
        table.row([seed, k, row.into(), steps, accuracy, share, format!("{seconds:.0}")])
    };
    let each = |row: &str, steps: u64, values: (&Mat64, &Mat64), seconds: f64| {
        setting.ks.iter().try_for_each(|(k, ..)| print(*k, row, steps, values, seconds))
    };

    if seed == 0 {
        let [sampling, eigenfunctions] = kernel.seconds;
        println!("sampling Φ {sampling:.0} s, exact eigenfunctions {eigenfunctions:.0} s");
        each("c exact", 0, (&exact.0, &exact.1), eigenfunctions)?;
    }
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
        let train = map.eigenfunctions(images.train.view())?;
        let test = map.eigenfunctions(images.test.view())?;
        each(name, 0, (&train, &test), started.elapsed().as_secs_f64())?;
    }

    let data = Dataset::from_array("mnist", images.train.clone())?;
    let fit = |network: &str, optimizer: &str, readout: ReadoutKind, steps: Steps, k: usize| {
        let spec = FitSpec {
            operator: Some(OperatorSpec::features(&kernel.path)),
            network: network.parse()?,
            readout,
            steps,
            max_steps: setting.steps,
            n_components: k,
            batch_size: setting.batch,
            validation_fraction: 0.05,
            memory_budget: setting.memory_budget,
            optimizer: optimizer.parse()?,
            schedule: "cosine".parse()?,
            seed,
            ..FitSpec::default()
        };
        let (model, _) = Fit::new(spec).run(&data)?;
        let train = model.eigenfunctions(images.train.view())?;
        let test = model.eigenfunctions(images.test.view())?;
        Ok::<_, Error>((train, test, model.info().record.steps))
    };
    let shown = |psi: &Mat64| psi.slice(s![..psi.nrows().min(2000), ..3]).to_owned();
    let mut drawn = vec![("c exact", shown(&exact.1))];
    for (row, steps) in [("d untrained", Steps::Exactly(0)), ("b default", Steps::Auto)] {
        let started = Instant::now();
        let (train, test, steps) = fit(setting.trunk, ADAM, ReadoutKind::Galerkin, steps, most)?;
        each(row, steps, (&train, &test), started.elapsed().as_secs_f64())?;
        drawn.push((row, shown(&test)));
    }
    for (k, steps, optimizer) in setting.ks.iter().copied() {
        let started = Instant::now();
        let (raw, steps_of) = (setting.raw, Steps::Exactly(steps));
        let (train, test, _) = fit(raw, optimizer, ReadoutKind::None, steps_of, k)?;
        let seconds = started.elapsed().as_secs_f64();
        print(k, "a raw", steps, (&train, &test), seconds)?;
        // What the raw outputs have of the exact eigenfunctions, and nothing else.
        let exact = (first(&exact.0, k), first(&exact.1, k));
        let weights = exact.0.t().dot(&train) / setting.train as f64;
        let projected = (exact.0.dot(&weights), exact.1.dot(&weights));
        print(k, "a' projected", steps, (&projected.0, &projected.1), seconds)?;
    }
    Ok(drawn)
}

/// The first k columns.
fn first(x: &Mat64, k: usize) -> Mat64 {
    x.slice(s![.., ..k]).to_owned()
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
fn share(psi: &Mat64, exact: &Mat64) -> f64 {
    let n = psi.nrows() as f64;
    let products = exact.t().dot(psi) / n;
    let shares = psi.columns().into_iter().zip(products.columns()).map(|(psi, products)| {
        products.iter().map(|v| v * v).sum::<f64>() / (psi.iter().map(|v| v * v).sum::<f64>() / n)
    });
    shares.sum::<f64>() / psi.ncols() as f64
}

fn read(folder: &Path, setting: &Setting<'_>) -> Result<Images> {
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
