//! Two moons and two circles in the eigenfunctions of NN-GP kernels (Deng, Shi & Zhu 2022, section 5.2):
//! do the first three make the classes linearly separable, and who finds them?
//!
//! ```text
//! cargo run --release -p neuralef-cli --example two_dimensional \
//!     [-- --small] [--data moons,circles] [--activation relu,erf] [--k 3] [--width 16] [--seeds 3] [--out DIR]
//! ```
//!
//! The kernel is that of networks with three layers, two of them hidden and one for the output:
//! `nngp(depth=2, activation=.., weight_var=2, bias_var=1)`, in closed form, and as the operator of
//! S = 10,000 random networks of that shape with hidden layers of `--width` units. The second is a
//! kernel of its own: at a finite width its expectation differs from the closed form by O(1/width).
//! Without `--small` the setting is the paper's: 1,000 points with noise 0.04, features scaled to unit
//! variance, k = 3, eigenfunction networks of three layers of 32 units with the kernel's activation,
//! 2,000 steps of Adam at 1e-3 with batches of 128, for SpIN too. Two things are not: the kernel of
//! each data set is taken with both activations, and all is measured at points that were not trained on.
//!
//! Every method learns from the same points, and is measured against the exact eigenpairs of the Gram
//! matrix on these: relative errors of eigenvalues; |cos| of eigenfunctions, equal eigenvalues (those of
//! circles come in pairs) as a subspace; the largest angle between the spans of the first k; and the
//! accuracy of logistic regression on the first two and on the first three eigenfunctions, and on more
//! of the exact ones. Nyström has a tenth of the points for landmarks. SpIN averages over batches with
//! β = 0.01; a row with β = 1, gradients from the batch alone, tells the lag of these averages from
//! everything else. Raw outputs are sorted by their Rayleigh quotients: with a larger `--k`, a later
//! function that has not left the earlier ones yet can come before the third.
//!
//! With `--out`: the tables of means, of every trial and of separability as Markdown and CSV, and for
//! each data set and activation a figure of the projections with the first seed.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Axis, s};
use neuralef::compare::{Contender, Spread};
use neuralef::data::Standardizer;
use neuralef::fit::Steps;
use neuralef::method::{Nystrom, landmarks};
use neuralef::probe::LogisticRegression;
use neuralef::sample::{Sampling, WeightLaw, nngp};
use neuralef::train::Silent;
use neuralef::{
    Dataset, Error, FeatureMap, Fit, FitSpec, Kernel, KernelSpec, Mat, Mat64, Result, metrics,
};

mod support;
use support::{Args, Scale, Table, point_clouds};

struct Setting {
    train: usize,
    /// Held-out points for the fits' own choices, and for the measurements.
    validation: usize,
    test: usize,
    samples: usize,
    steps: u64,
    seeds: u64,
}

const SMALL: Setting =
    Setting { train: 400, validation: 200, test: 1000, samples: 2000, steps: 1000, seeds: 1 };
const PAPER: Setting =
    Setting { train: 1000, validation: 200, test: 1000, samples: 10_000, steps: 2000, seeds: 3 };

/// Points in the scale of the training points, with their classes.
struct Part {
    data: Dataset,
    x: Mat,
    labels: Vec<i64>,
}

/// The points of one seed.
struct Draw {
    train: Part,
    validation: Part,
    test: Part,
}

/// A kernel on them: as a fit has it, and as a function of the rows of `train` and `test` (points, or
/// their features), which is 1/`scale` of it.
struct Operator {
    base: FitSpec,
    kernel: Arc<dyn Kernel>,
    scale: f64,
    train: Mat,
    test: Mat,
}

/// Eigenpairs of a method: values, functions at the training and at the test points.
struct Pairs {
    values: Vec<f64>,
    train: Mat64,
    test: Mat64,
    seconds: f64,
}

/// What a method came to with one seed.
struct Trial {
    method: String,
    /// Signed relative errors of eigenvalues in percent, |cos| of eigenfunctions.
    errors: Vec<f64>,
    cosines: Vec<f64>,
    /// Largest principal angle in degrees.
    angle: f64,
    /// Accuracies in percent, on two and on three functions.
    accuracies: [f64; 2],
    seconds: f64,
}

/// What came of one operator with one seed.
struct Outcome {
    trials: Vec<Trial>,
    /// Accuracies in percent on the first 1 to [`MOST`] exact eigenfunctions.
    by_number: Vec<f64>,
    /// The first three functions at the test points, for the figure.
    drawn: Vec<(String, Mat64)>,
}

/// Contenders, the objective in place of theirs, and names.
const METHODS: [(&str, Option<&str>, &str); 6] = [
    ("untrained", None, "untrained + readout"),
    ("neuralef_raw", None, "NeuralEF"),
    ("neuralef", None, "NeuralEF + readout"),
    ("spin_raw", None, "SpIN"),
    ("spin_raw", Some("spin(beta=1)"), "SpIN, β = 1"),
    ("spin", None, "SpIN + readout"),
];
/// Methods with a panel in the figures.
const DRAWN: [&str; 5] = ["exact", "Nyström", "NeuralEF", "NeuralEF + readout", "SpIN"];
/// Exact eigenpairs beyond k, so that a pair of equal ones that reaches across k is whole.
const BEYOND: usize = 3;
/// The most exact eigenfunctions that the classes are told apart with.
const MOST: usize = 10;

fn main() -> Result<()> {
    let args = Args::read(&["data", "activation", "k", "width", "seeds"])?;
    let setting = if args.scale() == Scale::Small { SMALL } else { PAPER };
    let (k, width) = (args.value("k", 3)?, args.value("width", 16)?);
    let seeds = args.value("seeds", setting.seeds)?;
    if k < 3 {
        return Err(Error::parameter("k", "at least 3", k));
    }
    let out = args.out()?;
    println!(
        "{} training and {} test points, k = {k}, {} steps, S = {} networks of width {width}, seeds 0 to {}",
        setting.train,
        setting.test,
        setting.steps,
        setting.samples,
        seeds.max(1) - 1
    );
    let measures =
        ["Δμ1 %", "Δμ2 %", "Δμ3 %", "cos 1", "cos 2", "cos 3", "angle °", "on 2 %", "on 3 %", "s"];
    let keys = ["<data", "<activation", "<operator"];
    let columns = [&keys[..], &["seed", "<method"], &measures].concat();
    let trials = Table::quiet("trials", &columns, out);
    let columns = [&keys[..], &["<method"], &measures].concat();
    let means = Table::new("means", &columns, out);
    let mut separable = Vec::new();
    for data in args.text("data").unwrap_or("moons,circles").split(',') {
        for activation in args.text("activation").unwrap_or("relu,erf").split(',') {
            let mut all: Vec<[Outcome; 2]> = Vec::new();
            for seed in 0..seeds {
                let found = run(&setting, data, activation, (k, width), seed, out)?;
                for (operator, of) in OPERATORS.iter().zip(&found) {
                    for trial in &of.trials {
                        let keys = [data, activation, operator].map(str::to_string);
                        let keys = [&keys[..], &[seed.to_string(), trial.method.clone()]].concat();
                        let cells = trial.values().map(|v| format!("{v:.6}"));
                        trials.row(keys.into_iter().chain(cells))?;
                    }
                }
                all.push(found);
            }
            for (index, operator) in OPERATORS.iter().enumerate() {
                let of: Vec<&Outcome> = all.iter().map(|found| &found[index]).collect();
                let keys = [data, activation, operator].map(str::to_string);
                for method in 0..of.first().map_or(0, |first| first.trials.len()) {
                    let of: Vec<&Trial> = of.iter().map(|found| &found.trials[method]).collect();
                    let keys = [&keys[..], &[of[0].method.clone()]].concat();
                    means.row(keys.into_iter().chain(mean(&of)))?;
                }
                let on = |j: usize| of.iter().map(|found| found.by_number[j]).collect::<Vec<_>>();
                let cells = (0..MOST).map(|j| cell(&on(j), 1));
                separable.push(keys.into_iter().chain(cells).collect::<Vec<_>>());
            }
        }
    }
    println!("\nAccuracy in percent on the first exact eigenfunctions:");
    let numbers: Vec<String> = (1..=MOST).map(|j| j.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let table = Table::new("separability", &[&keys[..], &numbers].concat(), out);
    separable.into_iter().try_for_each(|row| table.row(row))
}

const OPERATORS: [&str; 2] = ["closed form", "random networks"];

/// All methods on both operators with one seed; the figure with seed 0.
fn run(
    setting: &Setting,
    data: &str,
    activation: &str,
    (k, width): (usize, usize),
    seed: u64,
    out: Option<&Path>,
) -> Result<[Outcome; 2]> {
    let draw = Draw::new(setting, data, seed)?;
    let base = FitSpec {
        n_components: k,
        network: format!("mlp(hidden=[32, 32], activation={activation})").parse()?,
        optimizer: "adam(lr=1e-3)".parse()?,
        steps: Steps::Exactly(setting.steps),
        batch_size: 128,
        seed,
        ..FitSpec::default()
    };
    let kernel: KernelSpec =
        format!("nngp(depth=2, activation={activation}, weight_var=2, bias_var=1)").parse()?;
    let closed = Operator {
        base: FitSpec { kernel: Some(kernel.clone()), ..base.clone() },
        kernel: kernel.resolve(None, seed)?,
        scale: 1.0,
        train: draw.train.x.clone(),
        test: draw.test.x.clone(),
    };

    // The same networks at all points.
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary directory", e))?;
    let network = format!("mlp(hidden=[{width}, {width}], activation={activation})").parse()?;
    let sampling = Sampling { samples: setting.samples, seed, ..Sampling::default() };
    let sampled = |name: &str, data: &Dataset| -> Result<Dataset> {
        let path = folder.path().join(name);
        nngp(&network, data, &WeightLaw::new(2.0, 1.0), &sampling, path, &mut Silent)?.open()
    };
    let phi = sampled("fit.npy", &draw.train.data.chain(&draw.validation.data)?)?;
    let random = Operator {
        base: FitSpec { features: Some(folder.path().join("fit.npy")), ..base },
        kernel: "linear".parse::<KernelSpec>()?.resolve(None, seed)?,
        scale: 1.0 / setting.samples as f64,
        train: phi.range(0..setting.train)?,
        test: sampled("test.npy", &draw.test.data)?.range(0..setting.test)?,
    };
    let (difference, sampling) = difference(&closed, &random)?;
    println!(
        "<!-- {data}, {activation}, seed {seed}: ‖ΦΦᵀ/S − K‖/‖K‖ on test points {difference:.4}, of \
         which sampling is {sampling:.4} -->"
    );

    let found = [trials(&draw, &closed, k)?, trials(&draw, &random, k)?];
    if let (Some(out), 0) = (out, seed) {
        let drawn = found.iter().zip(OPERATORS);
        let drawn = drawn.flat_map(|(of, name)| of.drawn.iter().map(move |panel| (panel, name)));
        let reference = &found[0].drawn[0].1;
        let panels: Vec<(String, Mat64)> = drawn
            .map(|((method, psi), name)| (format!("{method}, {name}"), aligned(psi, reference)))
            .collect();
        let heading = format!("{data}, NN-GP of {activation} networks with three layers");
        let note = format!("The first three eigenfunctions at {} held-out points", setting.test);
        let path = out.join(format!("{data}_{activation}.png"));
        point_clouds(&path, [&heading, &note], DRAWN.len(), &panels, &draw.test.labels)?;
    }
    Ok(found)
}

impl Draw {
    fn new(setting: &Setting, data: &str, seed: u64) -> Result<Self> {
        let text = match data {
            "moons" => "two_moons(noise=0.04",
            "circles" => "circles(noise=0.04, factor=0.5",
            other => return Err(Error::parameter("data", "moons or circles", other)),
        };
        let open = |n: usize, part: u64| Dataset::open(&format!("{text}, n={n})"), 3 * seed + part);
        let train = open(setting.train, 0)?;
        let scaler = Standardizer::per_feature(&train, None)?;
        let part = |raw: Dataset| -> Result<Part> {
            let x = scaler.apply(raw.range(0..raw.len())?.view())?;
            let labels = raw.labels().unwrap_or_default().to_vec();
            Ok(Part { data: Dataset::from_array(raw.name(), x.clone())?, x, labels })
        };
        Ok(Draw {
            train: part(train)?,
            validation: part(open(setting.validation, 1)?)?,
            test: part(open(setting.test, 2)?)?,
        })
    }
}

/// Relative Frobenius distance of the second kernel, that of features, from the first at the test
/// points, and what of it is expected of sampling: √(Σ var(f_if_j)/S).
fn difference(closed: &Operator, random: &Operator) -> Result<(f64, f64)> {
    let gram = |operator: &Operator| -> Result<Mat64> {
        let mut gram = Mat64::zeros((operator.test.nrows(), operator.test.nrows()));
        operator.kernel.gram(operator.test.view(), operator.test.view(), gram.view_mut())?;
        Ok(gram * operator.scale)
    };
    let norm = |x: &Mat64| x.iter().map(|v| v * v).sum::<f64>();
    let (exact, found) = (gram(closed)?, gram(random)?);
    let squares = |f: f32| f64::from(f).powi(2);
    let fourth = random.test.columns().into_iter();
    let fourth: f64 = fourth.map(|f| f.iter().map(|v| squares(*v)).sum::<f64>().powi(2)).sum();
    let variance = (fourth * random.scale - norm(&found)) * random.scale;
    let relative = |square: f64| (square / norm(&exact)).sqrt();
    Ok((relative(norm(&(&found - &exact))), relative(variance)))
}

/// Every method on one operator.
fn trials(draw: &Draw, operator: &Operator, k: usize) -> Result<Outcome> {
    let exact = operator.nystrom(operator.train.nrows(), k.max(MOST) + BEYOND)?;
    let by_number =
        (1..=MOST).map(|count| draw.accuracy_on(&exact, count)).collect::<Result<Vec<_>>>()?;
    let mut found = vec![("exact".to_string(), exact.first(k))];
    let few = operator.train.nrows() / 10;
    found.push(("Nyström".to_string(), operator.nystrom(few, k)?));
    for (contender, objective, name) in METHODS {
        found.push((name.to_string(), operator.fit(draw, contender, objective)?));
    }
    let mut trials = vec![draw.inputs()?];
    for (name, pairs) in &found {
        trials.push(draw.measure(name, pairs, &exact, k)?);
    }
    let drawn = DRAWN.into_iter().filter_map(|name| found.iter().find(|(found, _)| found == name));
    let drawn = drawn.map(|(name, pairs)| (name.clone(), pairs.first(3).test)).collect();
    Ok(Outcome { trials, by_number, drawn })
}

impl Operator {
    /// Eigenpairs of the Gram matrix of `landmarks` of the training points, extended by the kernel:
    /// the exact ones with all of them.
    fn nystrom(&self, landmarks: usize, k: usize) -> Result<Pairs> {
        let started = Instant::now();
        let chosen = landmarks::uniform(self.train.nrows(), landmarks, self.base.seed)?;
        let rows = self.train.select(Axis(0), &chosen.indices);
        let map = Nystrom::fit(Arc::clone(&self.kernel), rows, k)?;
        Ok(Pairs {
            values: map.eigenvalues().unwrap_or_default().iter().map(|v| v * self.scale).collect(),
            train: map.eigenfunctions(self.train.view())?,
            test: map.eigenfunctions(self.test.view())?,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// A contender of comparisons.
    fn fit(&self, draw: &Draw, contender: &str, objective: Option<&str>) -> Result<Pairs> {
        let mut spec = Contender::named(contender)?.spec(&self.base);
        spec.objective = objective.map_or(spec.objective, Into::into);
        let fit = Fit::new(spec).validation(draw.validation.data.clone());
        let (model, timings) = fit.run(&draw.train.data)?;
        Ok(Pairs {
            values: model.eigenvalues().to_vec(),
            train: model.eigenfunctions(draw.train.x.view())?,
            test: model.eigenfunctions(draw.test.x.view())?,
            seconds: timings.total_seconds,
        })
    }
}

impl Pairs {
    fn first(&self, k: usize) -> Pairs {
        let k = k.min(self.values.len());
        Pairs {
            values: self.values[..k].to_vec(),
            train: self.train.slice(s![.., ..k]).to_owned(),
            test: self.test.slice(s![.., ..k]).to_owned(),
            seconds: self.seconds,
        }
    }
}

impl Draw {
    /// The row of the coordinates themselves.
    fn inputs(&self) -> Result<Trial> {
        let accuracy = self.accuracy(&self.train.x, &self.test.x)?;
        Ok(Trial {
            method: "input".into(),
            errors: vec![f64::NAN; 3],
            cosines: vec![f64::NAN; 3],
            angle: f64::NAN,
            accuracies: [accuracy, f64::NAN],
            seconds: f64::NAN,
        })
    }

    fn measure(&self, method: &str, pairs: &Pairs, exact: &Pairs, k: usize) -> Result<Trial> {
        let compared = metrics::compare(
            &pairs.values,
            pairs.test.view(),
            &exact.values,
            exact.test.view(),
            metrics::DEFAULT_GAP,
        )?;
        let ratios = pairs.values.iter().zip(&exact.values);
        let mut errors: Vec<f64> = ratios.map(|(a, b)| 100.0 * (a / b - 1.0)).collect();
        let mut cosines = compared.eigenfunctions.subspace_cosines;
        // A missing one has no part of it right.
        errors.resize(k, -100.0);
        cosines.resize(k, 0.0);
        let found = pairs.values.len();
        let angle = compared.principal_angles.last().filter(|_| found == k);
        Ok(Trial {
            method: method.into(),
            errors,
            cosines,
            angle: angle.map_or(90.0, |angle| angle.to_degrees()),
            accuracies: [self.accuracy_on(pairs, 2)?, self.accuracy_on(pairs, 3)?],
            seconds: pairs.seconds,
        })
    }

    /// [`accuracy`](Self::accuracy) on the first `count` functions.
    fn accuracy_on(&self, pairs: &Pairs, count: usize) -> Result<f64> {
        let first = |x: &Mat64| x.slice(s![.., ..count.min(x.ncols())]).mapv(|v| v as f32);
        self.accuracy(&first(&pairs.train), &first(&pairs.test))
    }

    /// Accuracy in percent at the test points of logistic regression fitted at the training points.
    fn accuracy(&self, train: &Mat, test: &Mat) -> Result<f64> {
        let probe = LogisticRegression { c: 100.0, ..Default::default() };
        let model = probe.fit(train.view(), &self.train.labels)?;
        Ok(100.0 * model.accuracy(test.view(), &self.test.labels)?)
    }
}

impl Trial {
    fn values(&self) -> [f64; 10] {
        let (e, c, [two, three]) = (&self.errors, &self.cosines, self.accuracies);
        [e[0], e[1], e[2], c[0], c[1], c[2], self.angle, two, three, self.seconds]
    }
}

/// Means over seeds as cells.
fn mean(trials: &[&Trial]) -> Vec<String> {
    let decimals = [2, 2, 2, 4, 4, 4, 2, 1, 1, 2];
    let column = |j: usize| trials.iter().map(|t| t.values()[j]).collect::<Vec<_>>();
    decimals.into_iter().enumerate().map(|(j, decimals)| cell(&column(j), decimals)).collect()
}

/// The mean, with the deviation where there are several.
fn cell(values: &[f64], decimals: usize) -> String {
    match Spread::of(values) {
        Some(Spread { mean, sd }) if mean.is_finite() && values.len() > 1 => {
            format!("{mean:.decimals$} ± {sd:.decimals$}")
        }
        Some(Spread { mean, .. }) if mean.is_finite() => format!("{mean:.decimals$}"),
        _ => "–".into(),
    }
}

/// Functions with the signs of others.
fn aligned(psi: &Mat64, reference: &Mat64) -> Mat64 {
    let mut psi = psi.clone();
    for (mut column, reference) in psi.columns_mut().into_iter().zip(reference.columns()) {
        if column.dot(&reference) < 0.0 {
            column.mapv_inplace(|v| -v);
        }
    }
    psi
}
