//! Linearised Laplace approximations of the ResNet-20 on CIFAR-10: every source in one table.
//!
//! ```sh
//! cargo run --release -p neuralef-experiments --example lla_cifar [-- --small | --paper] [--seeds N] [--sources few|LIST] [--data DIR] [--out DIR]
//! ```
//!
//! `--sources few` leaves `kfac` and `diag` out, whose coordinates are as many as parameters and take
//! most of the time; a LIST such as `'ella(components=20); random(components=20)'` is drawn for each seed
//! instead of all others.
//!
//! Posteriors are fitted to the 10,000 images of the first training batch, which the network was trained
//! on, and measured on all 10,000 test images; traffic signs are the points from elsewhere.
//!
//! Rows "marginal likelihood" choose the prior precision from the training images alone and predict by
//! probit: what laplace-torch does. On training images a network that remembers them is sure of
//! nearly all (99.8 % right here), so that they say little about its errors. Rows "cross-fitted" choose
//! prior precision and temperature by the likelihood of one half of the test images, by mean-field
//! predictions, and measure the other half, and the other way round: every image is predicted by numbers
//! that it had no part in. Temperature scaling is cross-fitted in the same way.

use std::path::Path;
use std::time::Instant;

use neuralef::bayes::{
    Criterion, GaussianOutputs, Laplace, LaplaceSeconds, LaplaceSpec, PointFeatures, Predictive,
    Targets, fit_laplace,
};
use neuralef::calibration::{
    Assessment, Bins, Detection, Reliability, TemperatureScaling, assess, detect, reliability,
    softmax,
};
use neuralef::data::Standardizer;
use neuralef::nn::TrainedNetwork;
use neuralef::train::Silent;
use neuralef::{Dataset, Mat, Mat64, Result};
use neuralef_experiments::{Args, Scale, Table, reliability_diagrams};

/// What `--small`, nothing and `--paper` mean.
struct Setting {
    train: usize,
    test: usize,
    outside: usize,
    seeds: u64,
    /// Sources without chance, and those that are drawn anew for each seed.
    fixed: &'static [&'static str],
    drawn: &'static [&'static str],
}

const FIXED: &[&str] = &["map", "last_layer", "last_layer(structure=kronecker)", "kfac", "diag"];

const SMALL: Setting = Setting {
    train: 1000,
    test: 1000,
    outside: 300,
    seeds: 1,
    fixed: FIXED,
    drawn: &[
        "neuralef(components=20, network=tangents(points=200, iterations=1), samples=200, points=300)",
        "neuralef(components=20, network=heads(hidden=[]), samples=200, points=500, steps=0)",
        "ella(components=20, landmarks=200)",
        "random(components=20)",
    ],
};

const DEFAULT: Setting = Setting {
    train: 10_000,
    test: 10_000,
    outside: 2000,
    seeds: 3,
    fixed: FIXED,
    drawn: &[
        "neuralef(components=60, network=tangents(points=500, iterations=1), samples=500, points=1000)",
        "neuralef(components=500, network=heads(hidden=[]), samples=1000, points=2000, steps=0)",
        "ella(components=60, landmarks=2000)",
        "random(components=60)",
    ],
};

/// More directions, on more points; hours.
const PAPER: Setting = Setting {
    drawn: &[
        "neuralef(components=60, network=tangents(points=2000), samples=4000, points=10000)",
        "neuralef(components=1000, network=heads(hidden=[64]), samples=4000, points=10000, steps=20000)",
        "ella(components=60, landmarks=10000)",
        "random(components=1000)",
    ],
    ..DEFAULT
};

struct Run<'a> {
    test: &'a Mat,
    labels: &'a [usize],
    outside: &'a Mat,
    table: Table,
    detection: Table,
    diagrams: Vec<(String, Reliability)>,
}

fn main() -> Result<()> {
    let args = Args::read(&["seeds", "data", "sources"])?;
    let setting = match args.scale() {
        Scale::Small => SMALL,
        Scale::Default => DEFAULT,
        Scale::Paper => PAPER,
    };
    let seeds: u64 = args.value("seeds", setting.seeds)?;
    let (folder, out) = (args.data(), args.out()?);
    let (train, train_labels) = images(&folder, "data_batch_1", setting.train)?;
    let (test, labels) = images(&folder, "test_batch", setting.test)?;
    let outside = signs(&folder, setting.outside)?;
    let network = TrainedNetwork::open(
        folder.join("resnet/resnet20.safetensors"),
        Some("shared_resnet(depth=20)"),
    )?;
    println!(
        "{} training and {} test images, {} signs, {seeds} seeds",
        train.nrows(),
        test.nrows(),
        outside.nrows()
    );
    let scores = ["accuracy %", "NLL", "Brier", "ECE", "adaptive ECE"];
    let columns =
        [&["<source", "<chosen by", "seed"][..], &scores, &["fit s", "predict s"]].concat();
    let table = Table::new("lla_cifar", &columns, out);
    let columns = ["<source", "<chosen by", "seed", "<score", "AUROC", "AUPR", "FPR95"];
    let detection = Table::quiet("lla_cifar_ood", &columns, out);
    let mut run = Run {
        test: &test,
        labels: &labels,
        outside: &outside,
        table,
        detection,
        diagrams: Vec::new(),
    };

    // Everything in one pass over the data, since most sources need the same gradients.
    let of = |source: &str, seed: u64| -> Result<LaplaceSpec> {
        let preprocessing = Some(preprocessing()?);
        Ok(LaplaceSpec { preprocessing, seed, memory_budget: 8192, ..LaplaceSpec::new(source)? })
    };
    let (fixed, drawn): (Vec<&str>, Vec<&str>) = match args.text("sources") {
        None | Some("all") => (setting.fixed.to_vec(), setting.drawn.to_vec()),
        Some("few") => {
            let few = |s: &&str| !["kfac", "diag"].contains(s);
            (setting.fixed.iter().copied().filter(few).collect(), setting.drawn.to_vec())
        }
        Some(own) => (vec!["map"], own.split(';').map(str::trim).collect()),
    };
    let mut specs = Vec::new();
    for source in fixed {
        specs.push(of(source, 0)?);
    }
    for seed in 0..seeds {
        for source in &drawn {
            specs.push(of(source, seed)?);
        }
    }
    let started = Instant::now();
    let data = Dataset::from_array("CIFAR-10", train)?;
    let posteriors =
        fit_laplace(&specs, &network, &data, &Targets::Labels(train_labels), &mut Silent)?;
    println!("all fits: {:.0} s", started.elapsed().as_secs_f64());
    let (full, low_rank): (Vec<&Laplace>, Vec<&Laplace>) =
        posteriors.iter().partition(|p| spans_all_parameters(p));
    run.of_features(&low_rank)?;
    run.of_outputs(&full)?;
    run.summary(out)?;
    if let Some(out) = out {
        let title = "Reliability on CIFAR-10, ResNet-20";
        reliability_diagrams(&out.join("lla_cifar.png"), title, &run.diagrams)?;
    }
    println!("in all: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Whether its coordinates are as many as parameters, so that features cannot be kept.
fn spans_all_parameters(posterior: &Laplace) -> bool {
    posterior.curvatures().len() > 10_000
}

impl Run<'_> {
    /// Sources with few coordinates: by marginal likelihood, and cross-fitted.
    fn of_features(&mut self, posteriors: &[&Laplace]) -> Result<()> {
        let test = Laplace::features_of_all(posteriors, self.test.view())?;
        let outside = Laplace::features_of_all(posteriors, self.outside.view())?;
        let halves = [0, 1].map(|h| (h..self.labels.len()).step_by(2).collect::<Vec<_>>());
        for ((&posterior, (points, seconds)), (signs, _)) in
            posteriors.iter().zip(&test).zip(&outside)
        {
            let started = Instant::now();
            let outputs = posterior.outputs_of(points)?;
            let p = outputs.probabilities(Predictive::Probit, 0)?;
            let own =
                LaplaceSeconds { own: seconds.own + started.elapsed().as_secs_f64(), ..*seconds };
            let name = "marginal likelihood";
            self.row(posterior, name, &p, Some((posterior.seconds(), own)))?;
            let elsewhere = posterior.outputs_of(signs)?;
            self.detect(posterior, name, (&outputs, &elsewhere), Predictive::Probit)?;
            if posterior.curvatures().is_empty() {
                let p = scaled(points, self.labels, &halves)?;
                self.row(posterior, "temperature scaling, cross-fitted", &p, None)?;
                continue;
            }
            let mut p = Mat64::zeros(points.mean().dim());
            for (tune, measure) in [(0, 1), (1, 0)] {
                let (known, other) =
                    (points.select(&halves[tune])?, points.select(&halves[measure])?);
                let mut posterior = posterior.clone();
                let known_labels: Vec<usize> =
                    halves[tune].iter().map(|i| self.labels[*i]).collect();
                let (targets, kind) = (Targets::Labels(known_labels), Predictive::MeanField);
                posterior.tune(&known, &targets, Criterion::Nll, true, kind)?;
                let outputs = posterior.outputs_of(&other)?;
                let found = outputs.probabilities(kind, 0)?;
                for (row, i) in found.rows().into_iter().zip(&halves[measure]) {
                    p.row_mut(*i).assign(&row);
                }
                if tune == 0 {
                    let elsewhere = posterior.outputs_of(signs)?;
                    self.detect(&posterior, "cross-fitted", (&outputs, &elsewhere), kind)?;
                }
            }
            self.row(posterior, "cross-fitted", &p, None)?;
        }
        Ok(())
    }

    /// Sources with as many coordinates as parameters.
    fn of_outputs(&mut self, posteriors: &[&Laplace]) -> Result<()> {
        let test = Laplace::outputs_of_all(posteriors, self.test.view())?;
        let outside = Laplace::outputs_of_all(posteriors, self.outside.view())?;
        for ((&posterior, (outputs, seconds)), (signs, _)) in
            posteriors.iter().zip(&test).zip(&outside)
        {
            for (name, kind) in [
                ("marginal likelihood", Predictive::Probit),
                ("marginal likelihood, mean field", Predictive::MeanField),
            ] {
                let p = outputs.probabilities(kind, 0)?;
                self.row(posterior, name, &p, Some((posterior.seconds(), *seconds)))?;
                self.detect(posterior, name, (outputs, signs), kind)?;
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        posterior: &Laplace,
        chosen: &str,
        p: &Mat64,
        seconds: Option<(LaplaceSeconds, LaplaceSeconds)>,
    ) -> Result<()> {
        let found = assess(p.view(), self.labels)?;
        let info = posterior.info();
        let Assessment { accuracy, nll, brier, ece, adaptive_ece, .. } = found;
        let number = |v: f64| format!("{v:.4}");
        let time = |s: Option<LaplaceSeconds>| {
            s.map_or_else(|| "–".into(), |s| format!("{:.0}", s.total()))
        };
        let start = [info.source.to_string(), chosen.to_string(), info.seed.to_string()];
        let scores = [format!("{:.2}", 100.0 * accuracy)];
        let rest = [nll, brier, ece, adaptive_ece].map(number);
        let times = [time(seconds.map(|s| s.0)), time(seconds.map(|s| s.1))];
        self.table.row(start.into_iter().chain(scores).chain(rest).chain(times))?;
        if info.seed == 0 {
            let short = info.source.to_string();
            let short = short.split(['(', ',']).next().unwrap_or_default();
            let found = reliability(p.view(), self.labels, Bins::default())?;
            self.diagrams.push((format!("{short}, {chosen}"), found));
        }
        Ok(())
    }

    fn detect(
        &mut self,
        posterior: &Laplace,
        chosen: &str,
        (inside, outside): (&GaussianOutputs, &GaussianOutputs),
        kind: Predictive,
    ) -> Result<()> {
        let (p, q) = (inside.probabilities(kind, 0)?, outside.probabilities(kind, 0)?);
        let (v, w) = (inside.total_variance(), outside.total_variance());
        let found: Detection = detect((p.view(), &v), (q.view(), &w))?;
        let best = found.best().0;
        let panels = [
            ("entropy", Some(found.entropy)),
            ("confidence", Some(found.confidence)),
            ("variance", found.variance),
        ];
        for (score, panel) in panels.into_iter().filter_map(|(s, p)| Some((s, p?))) {
            let mark = if score == best { " (best)" } else { "" };
            let info = posterior.info();
            let start = [info.source.to_string(), chosen.into(), info.seed.to_string()];
            let values = [panel.auroc, panel.aupr_out, panel.fpr95].map(|v| format!("{v:.4}"));
            let cells = start.into_iter().chain([format!("{score}{mark}")]).chain(values);
            self.detection.row(cells)?;
        }
        Ok(())
    }

    /// Means and standard deviations over seeds, and the table of points from elsewhere.
    fn summary(&self, out: Option<&Path>) -> Result<()> {
        println!("\npoints from elsewhere");
        self.detection.print();
        println!("\nover seeds, mean ± standard deviation");
        let columns =
            ["<source", "<chosen by", "seeds", "accuracy %", "NLL", "Brier", "ECE", "adaptive ECE"];
        self.table.over_seeds(2, &Table::new("lla_cifar_seeds", &columns, out))
    }
}

/// Temperature scaling of the network's outputs, cross-fitted.
fn scaled(points: &PointFeatures, labels: &[usize], halves: &[Vec<usize>; 2]) -> Result<Mat64> {
    let mut p = Mat64::zeros(points.mean().dim());
    for (tune, measure) in [(0, 1), (1, 0)] {
        let (known, other) = (points.select(&halves[tune])?, points.select(&halves[measure])?);
        let of: Vec<usize> = halves[tune].iter().map(|i| labels[*i]).collect();
        let scaling = TemperatureScaling::fit(known.mean(), &of)?;
        let found = softmax(scaling.apply(other.mean()).view())?;
        for (row, i) in found.rows().into_iter().zip(&halves[measure]) {
            p.row_mut(*i).assign(&row);
        }
    }
    Ok(p)
}

/// (x/255 − mean)/std, as the network was trained.
fn preprocessing() -> Result<Standardizer> {
    let mean = [0.485, 0.456, 0.406].map(|m| 255.0 * m);
    Standardizer::by_channel(3072, &mean, &[0.229, 0.224, 0.225].map(|s| 255.0 * s))
}

/// The first images of a batch, as pixels, with their classes.
fn images(folder: &Path, batch: &str, count: usize) -> Result<(Mat, Vec<usize>)> {
    let data = Dataset::open(&folder.join(format!("cifar10/{batch}.bin.gz")).to_string_lossy(), 0)?;
    let labels = data.labels().unwrap_or_default().iter().take(count);
    Ok((data.range(0..count.min(data.len()))?, labels.map(|y| *y as usize).collect()))
}

/// Traffic signs, pixel by pixel in the file and channel by channel here.
fn signs(folder: &Path, count: usize) -> Result<Mat> {
    let path = folder.join("ood/gtsrb_2000.npz");
    let data = Dataset::open(&format!("{}:x", path.display()), 0)?;
    let pixels = data.range(0..count.min(data.len()))?;
    Ok(Mat::from_shape_fn(pixels.dim(), |(i, j)| pixels[[i, j % 1024 * 3 + j / 1024]]))
}
