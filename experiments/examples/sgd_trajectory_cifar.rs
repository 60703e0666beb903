//! The Gaussian process of an SGD trajectory on CIFAR-10 (Deng, Shi & Zhu 2022, section 6): a residual
//! network trained on 10,000 images, the outputs of the states of its tail as features, eigenfunctions
//! of their covariance, and predictions with them beside SWA and SWAG.
//!
//! ```text
//! cargo run --release -p neuralef-experiments --example sgd_trajectory_cifar [-- --small | --paper] [--seed 0]
//!     [--validate N] [--epochs E] [--tail-epochs E] [--tail-lr LR] [--data DIR] [--out DIR]
//! ```
//!
//! Trained from scratch on a fifth of the usual training set, a network is far too sure of itself,
//! which is what the method is there to mend. A cosine schedule to 0 gives the base; the tail goes on
//! from there at a constant rate. Everything is measured on all 10,000 test images. Nothing was chosen
//! on them: with `--validate N` the last N training images are left out of the training and measured on
//! instead, which is how the rate of the tail was found.
//!
//! | row | is |
//! |---|---|
//! | base | softmax of the network before the tail |
//! | SWA, SWAG | of the mean weights of the states; mean of softmax over samples about it |
//! | states | mean of softmax over the M states: M passes for an image |
//! | + NeuralEF | logits of base or SWA with covariances from eigenfunctions: two passes |
//! | + exact kernel | the same with the covariances of the states' outputs at the image: M passes |
//!
//! Data: cifar10/ in DIR ($NEURALEF_DATA, or ../shared/data).

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{Array3, Axis};
use neuralef::bayes::trajectory::{
    MeanSoftmax, StatesWriter, Training, Trajectory, TrajectoryWeights, centred_features,
    covariances, covariances_of_features, logits,
};
use neuralef::bayes::{Predictive, Targets};
use neuralef::calibration::{Bins, Reliability, assess, reliability, softmax};
use neuralef::fit::{OutputForm, Steps};
use neuralef::nn::{read_weights, write_weights};
use neuralef::operator::OperatorSpec;
use neuralef::train::Silent;
use neuralef::{Dataset, Error, Fit, FitSpec, Mat64, Model, NetworkSpec, Result};
use neuralef_experiments::{Args, Scale, Table, reliability_diagrams};

const CLASSES: usize = 10;
const PREDICTIVE: Predictive = Predictive::MonteCarlo { samples: 1000 };
const BUDGET: u64 = 4096;

/// How much of everything.
struct Setting {
    network: &'static str,
    /// Whether the network is the trained ResNet-20 of the data, whose tail alone is run.
    trained: bool,
    images: usize,
    augmentation: &'static str,
    /// Epochs before the tail, and of the tail.
    epochs: u64,
    tail_epochs: u64,
    /// States in an epoch of the tail.
    states: u64,
    lr: f64,
    tail_lr: f64,
    swag: usize,
    k: usize,
    /// Of training for the eigenfunctions that are trained.
    steps: u64,
}

const SMALL: Setting = Setting {
    network: "resnet(depth=8, width=8)",
    trained: false,
    images: 5000,
    augmentation: "none",
    epochs: 20,
    tail_epochs: 4,
    states: 5,
    lr: 0.1,
    tail_lr: 0.05,
    swag: 10,
    k: 19,
    steps: 100,
};
const DEFAULT: Setting = Setting {
    network: "resnet(depth=8, width=16)",
    images: 10_000,
    epochs: 40,
    tail_lr: 0.1,
    tail_epochs: 10,
    states: 2,
    swag: 20,
    k: 19,
    steps: 300,
    ..SMALL
};
const PAPER: Setting = Setting {
    network: "resnet(depth=20, width=16)",
    trained: true,
    augmentation: "shift_flip(pixels=4)",
    epochs: 0,
    tail_lr: 0.01,
    states: 3,
    k: 29,
    ..DEFAULT
};

fn main() -> Result<()> {
    let args = Args::read(&["seed", "data", "validate", "epochs", "tail-epochs", "tail-lr"])?;
    let setting = match args.scale() {
        Scale::Small => SMALL,
        Scale::Default => DEFAULT,
        Scale::Paper => PAPER,
    };
    let setting = Setting {
        epochs: args.value("epochs", setting.epochs)?,
        tail_epochs: args.value("tail-epochs", setting.tail_epochs)?,
        tail_lr: args.value("tail-lr", setting.tail_lr)?,
        ..setting
    };
    let scratch = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let run = Run {
        setting,
        seed: args.value("seed", 0)?,
        validate: args.value("validate", 0)?,
        data: args.data(),
        scratch: scratch.path(),
        out: args.out()?,
    };
    run.compare()
}

struct Run<'a> {
    setting: Setting,
    seed: u64,
    validate: usize,
    data: PathBuf,
    scratch: &'a Path,
    out: Option<&'a Path>,
}

impl Run<'_> {
    /// Images of a batch with channels at about mean 0 and variance 1, and their labels.
    fn images(&self, batch: &str) -> Result<(Dataset, Vec<usize>)> {
        let path = self.data.join(format!("cifar10/{batch}.bin.gz"));
        let data = Dataset::open(&path.to_string_lossy(), 0)?;
        let labels = data.labels().unwrap_or_default().iter().map(|label| *label as usize);
        let labels: Vec<usize> = labels.collect();
        // As the trained network wants them.
        let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
        let mut x = data.range(0..data.len())?;
        for (plane, mut columns) in x.axis_chunks_iter_mut(Axis(1), 1024).enumerate() {
            columns.mapv_inplace(|v| (v / 255.0 - mean[plane]) / std[plane]);
        }
        Ok((Dataset::from_array(batch, x)?, labels))
    }

    /// Training images and those that are measured on.
    fn split(&self) -> Result<[(Dataset, Vec<usize>); 2]> {
        let part = |(data, labels): &(Dataset, Vec<usize>), rows: std::ops::Range<usize>| {
            Ok::<_, Error>((data.subset(rows.clone().collect())?, labels[rows].to_vec()))
        };
        let all = self.images("data_batch_1")?;
        let (n, held) = (all.0.len(), self.validate);
        let train = part(&all, 0..self.setting.images.min(n.saturating_sub(held)))?;
        let test = match held {
            0 => self.images("test_batch")?,
            _ => part(&all, n.saturating_sub(held)..n)?,
        };
        Ok([train, test])
    }

    fn training(&self, images: usize) -> Result<Training> {
        let Setting { epochs, tail_epochs, states, lr, tail_lr, augmentation, .. } = self.setting;
        let batch_size = 128;
        let epoch = (images / batch_size) as u64;
        let every = epoch / states;
        Ok(Training {
            optimizer: format!("sgd(lr={lr}, momentum=0.9, nesterov=true, weight_decay=5e-4)")
                .parse()?,
            schedule: "cosine".parse()?,
            steps: epochs * epoch,
            tail_steps: tail_epochs * states * every,
            tail_lr,
            every,
            batch_size,
            rank: 20,
            augmentation: augmentation.parse()?,
            seed: self.seed,
            ..Training::default()
        })
    }

    /// Φ of the states' outputs at `points`.
    fn features(&self, states: &Path, points: &Dataset) -> Result<PathBuf> {
        let phi = states.with_extension("phi.npy");
        let states = Dataset::open(&states.to_string_lossy(), 0)?;
        centred_features(&states, points.len(), CLASSES, &phi, 512, &mut Silent)?;
        Ok(phi)
    }

    fn compare(&self) -> Result<()> {
        let [(train, labels), (test, truth)] = self.split()?;
        let training = self.training(train.len())?;
        let spec: NetworkSpec = self.setting.network.parse()?;
        println!(
            "{} on {} images, augmented by {}: {} steps, then {} states {} steps apart at the rate \
             {}; seed {}; measured on {} images",
            self.setting.network,
            train.len(),
            training.augmentation,
            training.steps,
            training.states(),
            training.every,
            training.tail_lr,
            self.seed,
            test.len()
        );
        let at = |name: &str| self.scratch.join(name);
        let mut writers = [
            StatesWriter::create(at("train.npy"), train.clone(), CLASSES)?,
            StatesWriter::create(at("test.npy"), test.clone(), CLASSES)?,
        ];
        let mut network = spec.build(3072, 1, CLASSES, self.seed)?;
        if self.setting.trained {
            read_weights(&mut *network, self.data.join("resnet/resnet20.safetensors"))?;
        }
        let targets = Targets::Labels(labels.clone());
        let mut run = training.run(network, &train, &targets, &mut writers, &mut Silent)?;
        writers.into_iter().try_for_each(|writer| writer.finish().map(|_| ()))?;
        let record = run.record();
        println!(
            "trained in {:.0} s: loss {:.4} before the tail, {:.4} in it",
            record.training_seconds, record.base_loss, record.tail_loss
        );
        let mut scores = Scores::new(self.out, &truth);
        let network = run.network_with(TrajectoryWeights::Base);
        let base = logits(network, &test)?;
        let fitted = assess(softmax(logits(network, &train)?.view())?.view(), &labels)?;
        println!("the base is right on {:.1} % of its training images", 100.0 * fitted.accuracy);
        let network = run.network_with(TrajectoryWeights::Swa);
        let swa = logits(network, &test)?;
        write_weights(network, at("swa.safetensors"))?;
        scores.row("base", &softmax(base.view())?, None)?;
        scores.row("SWA", &softmax(swa.view())?, None)?;
        self.swag(&mut run, &train, &test, &mut scores)?;
        let states = Dataset::open(&at("test.npy").to_string_lossy(), 0)?;
        let mut mean = MeanSoftmax::default();
        for state in 0..states.len() {
            let state = states.range(state..state + 1)?.mapv(f64::from);
            let shape = (test.len(), CLASSES);
            let state = state.into_shape_with_order(shape);
            mean.add(state.map_err(|e| Error::shape("state", "n × C", e))?.view())?;
        }
        scores.row("states", &mean.probabilities(), None)?;

        let phi = self.features(&at("train.npy"), &train)?;
        let exact = Dataset::open(&self.features(&at("test.npy"), &test)?.to_string_lossy(), 0)?;
        let exact = covariances_of_features(&exact, CLASSES)?;
        for (name, logits) in [("base + exact kernel", &base), ("SWA + exact kernel", &swa)] {
            let p = PREDICTIVE.probabilities(logits.view(), exact.view(), self.seed)?;
            scores.row(name, &p, None)?;
        }
        let of = format!("of=\"{}\", network={spec}", at("swa.safetensors").display());
        for (form, heads, steps) in [
            (OutputForm::Joint, "hidden=[]", 0),
            (OutputForm::Joint, "hidden=[64]", 0),
            (OutputForm::Joint, "hidden=[64]", self.setting.steps),
            (OutputForm::Factorized, "hidden=[64]", 0),
        ] {
            let started = Instant::now();
            let network = format!("heads({of}, {heads})");
            let model = self.fit(&train, &phi, form, &network, steps)?;
            let seconds = started.elapsed().as_secs_f64();
            let covariance = covariances(&model, &test)?;
            let found = Some(Kernel {
                trace: model.info().certificate.captured_trace,
                error: relative(&covariance, &exact),
                correlation: correlation(&traces(&covariance), &traces(&exact)),
                seconds,
            });
            for (name, logits) in [("base", &base), ("SWA", &swa)] {
                let name = format!("{name} + NeuralEF, {form}, {heads}, {steps} steps");
                let p = PREDICTIVE.probabilities(logits.view(), covariance.view(), self.seed)?;
                scores.row(&name, &p, found)?;
            }
        }
        scores.draw(self.setting.network)
    }

    fn swag(
        &self,
        run: &mut Trajectory,
        train: &Dataset,
        test: &Dataset,
        scores: &mut Scores<'_>,
    ) -> Result<()> {
        let mut mean = MeanSoftmax::default();
        run.swag(self.setting.swag, 0.5, train, &mut Silent, |network| {
            mean.add(logits(network, test)?.view())
        })?;
        scores.row(&format!("SWAG, {} samples", self.setting.swag), &mean.probabilities(), None)
    }

    fn fit(
        &self,
        train: &Dataset,
        phi: &Path,
        form: OutputForm,
        network: &str,
        steps: u64,
    ) -> Result<Model> {
        let spec = FitSpec {
            operator: Some(OperatorSpec::features(phi)),
            outputs: CLASSES,
            output_form: form,
            n_components: self.setting.k,
            network: network.parse()?,
            steps: Steps::Exactly(steps),
            memory_budget: BUDGET,
            seed: self.seed,
            ..FitSpec::default()
        };
        Ok(Fit::new(spec).run(train)?.0)
    }
}

/// How near a learned kernel is to the exact one at the test images.
#[derive(Clone, Copy)]
struct Kernel {
    /// Share of the kernel's trace on held-out training images.
    trace: f64,
    /// Relative Frobenius error of the covariances of outputs.
    error: f64,
    /// Correlation of their traces.
    correlation: f64,
    seconds: f64,
}

fn traces(covariance: &Array3<f64>) -> Vec<f64> {
    covariance.outer_iter().map(|s| s.diag().sum()).collect()
}

fn relative(found: &Array3<f64>, exact: &Array3<f64>) -> f64 {
    let norm = |a: &Array3<f64>| a.iter().map(|v| v * v).sum::<f64>().sqrt();
    norm(&(found - exact)) / norm(exact)
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |u: &[f64], mu: f64, v: &[f64], mv: f64| -> f64 {
        u.iter().zip(v).map(|(u, v)| (u - mu) * (v - mv)).sum()
    };
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
}

/// The table as it grows, and the reliability of what is in it.
struct Scores<'a> {
    table: Table,
    truth: &'a [usize],
    out: Option<&'a Path>,
    diagrams: Vec<(String, Reliability)>,
}

impl<'a> Scores<'a> {
    fn new(out: Option<&'a Path>, truth: &'a [usize]) -> Self {
        let columns = [
            "<method",
            "accuracy %",
            "NLL",
            "Brier",
            "ECE %",
            "captured trace %",
            "error of covariances",
            "correlation of variances",
            "fit s",
        ];
        let table = Table::new("sgd_trajectory_cifar", &columns, out);
        Scores { table, truth, out, diagrams: Vec::new() }
    }

    fn row(&mut self, name: &str, p: &Mat64, kernel: Option<Kernel>) -> Result<()> {
        let found = assess(p.view(), self.truth)?;
        let diagram = reliability(p.view(), self.truth, Bins::default())?;
        // One for each method; there are several networks of eigenfunctions.
        let title = name.split(',').next().unwrap_or(name);
        if self.diagrams.iter().all(|(other, _)| other != title) {
            self.diagrams.push((title.to_string(), diagram));
        }
        let (accuracy, ece) = (100.0 * found.accuracy, 100.0 * found.ece);
        let scores = [
            format!("{accuracy:.2}"),
            format!("{:.4}", found.nll),
            format!("{:.4}", found.brier),
            format!("{ece:.2}"),
        ];
        let kernel = match kernel {
            None => std::array::from_fn(|_| "–".to_string()),
            Some(k) => [
                format!("{:.1}", 100.0 * k.trace),
                format!("{:.3}", k.error),
                format!("{:.3}", k.correlation),
                format!("{:.1}", k.seconds),
            ],
        };
        self.table.row([name.to_string()].into_iter().chain(scores).chain(kernel))
    }

    fn draw(&self, network: &str) -> Result<()> {
        let Some(out) = self.out else { return Ok(()) };
        let title = format!("Reliability of {network} on CIFAR-10");
        reliability_diagrams(&out.join("sgd_trajectory_cifar.png"), &title, &self.diagrams)
    }
}
