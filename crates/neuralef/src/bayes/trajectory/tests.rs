//! Moments, statistics and kernels against direct computations and closed forms.

use std::path::Path;

use ndarray::{Axis, s};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::loss::loss;
use super::*;
use crate::bayes::Targets;
use crate::fit::{FitSpec, Steps};
use crate::matrix::{Mat, Mat64};
use crate::nn::NetworkSpec;
use crate::observer::Silent;
use crate::{Fit, Model, rng};

fn draw(rows: usize, columns: usize, stream: u64) -> Mat {
    let mut rng = rng::stream(7, "test", stream);
    Mat::from_shape_fn((rows, columns), |_| rng.random_range(-1.0f32..1.0))
}

fn build(text: &str, inputs: usize, outputs: usize) -> Box<dyn Network> {
    text.parse::<NetworkSpec>().unwrap().build(inputs, 1, outputs, 3).unwrap()
}

fn parameters_of(seed: u64) -> Parameters {
    let mut parameters = build("mlp(hidden=[2], activation=tanh)", 1, 1).parameters().clone();
    let mut rng = rng::stream(seed, "test", 0);
    let scales = [0.1f32, 2.0, 1.0, 0.5, 3.0, 1.5, 0.2];
    for (v, scale) in parameters.units_mut()[0].iter_mut().zip(scales) {
        *v = 1.0 + scale * rng.random_range(-1.0f32..1.0);
    }
    parameters
}

#[test]
fn losses_and_their_derivatives_are_those_of_double_precision() {
    let outputs = draw(4, 3, 0) * 3.0;
    let rows = [2usize, 0, 5, 4];
    let classes = Targets::Labels(vec![1, 0, 2, 0, 1, 2]);
    let values = Targets::Values(draw(6, 3, 1).mapv(f64::from));
    let value = |targets: &Targets, h: &Mat64| -> f64 {
        let of = |(row, h): (&usize, ndarray::ArrayView1<'_, f64>)| match targets {
            Targets::Labels(labels) => {
                h.iter().map(|v| v.exp()).sum::<f64>().ln() - h[labels[*row]]
            }
            Targets::Values(y) => {
                h.iter().zip(y.row(*row)).map(|(h, y)| 0.5 * (h - y).powi(2)).sum()
            }
        };
        rows.iter().zip(h.rows()).map(of).sum::<f64>() / 4.0
    };
    for targets in [classes, values] {
        let (found, cotangent) = loss(&targets, &rows, outputs.view()).unwrap();
        let at = outputs.mapv(f64::from);
        assert!((found - value(&targets, &at)).abs() < 1e-12);
        for (place, got) in cotangent.indexed_iter() {
            let moved = |by: f64| {
                let mut h = at.clone();
                h[place] += by;
                value(&targets, &h)
            };
            let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            // A third derivative below 1 leaves 1e-8/6; single precision 6e-8 of a number below 1.
            assert!((f64::from(*got) - slope).abs() < 1e-7, "{place:?}: {got} {slope}");
        }
        assert!(loss(&targets, &rows[..3], draw(4, 3, 0).view()).is_err());
        assert!(loss(&targets, &[6], draw(1, 3, 0).view()).is_err());
    }
    // Logits that overflow exp.
    let targets = Targets::Labels(vec![0]);
    let (found, _) = loss(&targets, &[0], ndarray::array![[0.0f32, 1e4]].view()).unwrap();
    assert_eq!(found, 1e4);
    assert!(loss(&Targets::Labels(vec![3]), &[0], draw(1, 3, 0).view()).is_err());
}

#[test]
fn moments_are_those_of_all_the_weights() {
    let states: Vec<Parameters> = (0..9).map(parameters_of).collect();
    let mut moments = WeightMoments::new(&states[0], 4);
    states.iter().for_each(|p| moments.update(p).unwrap());
    let p = states[0].len();
    let value = |i: usize, j: usize| f64::from(states[i].units()[0][j]);
    let mean = |until: usize, j: usize| (0..until).map(|i| value(i, j)).sum::<f64>() / until as f64;
    let mut swa = states[0].clone();
    moments.mean_into(&mut swa).unwrap();
    let variances = moments.variances();
    for (j, variance) in variances[0].iter().enumerate() {
        assert_eq!(swa.units()[0][j], mean(9, j) as f32);
        let direct = (0..9).map(|i| value(i, j).powi(2)).sum::<f64>() / 9.0 - mean(9, j).powi(2);
        assert!((variance - direct).abs() < 1e-13);
    }

    // θ̄ + √scale(Σ^½z₁ + Dz₂/√(K − 1)) has the covariance scale·(Σ + DDᵀ/(K − 1)).
    let deviation = |i: usize, j: usize| value(i, j) - mean(i + 1, j);
    let covariance = Mat64::from_shape_fn((p, p), |(a, b)| {
        let low = (5..9).map(|i| deviation(i, a) * deviation(i, b)).sum::<f64>() / 3.0;
        0.5 * (low + if a == b { variances[0][a] } else { 0.0 })
    });
    let n = 20_000;
    let mut sum = Mat64::zeros((p, p));
    let mut sample = states[0].clone();
    for number in 0..n {
        moments.sample_into(&mut sample, 0.5, 1, number).unwrap();
        let off: Vec<f64> = (0..p).map(|j| f64::from(sample.units()[0][j]) - mean(9, j)).collect();
        for (place, sum) in sum.indexed_iter_mut() {
            *sum += off[place.0] * off[place.1] / n as f64;
        }
    }
    for ((a, b), got) in sum.indexed_iter() {
        // The standard error of a sample covariance, five times.
        let c = &covariance;
        let error = ((c[[a, a]] * c[[b, b]] + c[[a, b]].powi(2)) / n as f64).sqrt();
        assert!((got - c[[a, b]]).abs() < 5.0 * error, "{a} {b}: {got} {}", c[[a, b]]);
    }
    let again = sample.clone();
    moments.sample_into(&mut sample, 0.5, 1, n - 1).unwrap();
    assert_eq!(sample, again);
    assert!(moments.sample_into(&mut sample, 0.0, 1, 0).is_err());
    assert!(WeightMoments::new(&states[0], 4).mean_into(&mut sample).is_err());
    let mut few = WeightMoments::new(&states[0], 1);
    states.iter().for_each(|p| few.update(p).unwrap());
    assert!(few.sample_into(&mut sample, 0.5, 1, 0).unwrap_err().to_string().contains("rank"));
    assert!(few.update(build("mlp(hidden=[3])", 1, 1).parameters()).is_err());
}

#[test]
fn refreshed_statistics_are_those_of_the_data() {
    let text = "convnet(image=[2, 2, 1], channels=[3], kernel=1, pool=1, norm=batch)";
    let mut network = build(text, 4, 2);
    let x = draw(24, 4, 2) + 0.5;
    let data = Dataset::from_array("x", x.clone()).unwrap();
    let weights = network.parameters().units()[0][..3].to_vec();
    let mut order: Vec<usize> = (0..24).collect();
    order.shuffle(&mut rng::stream(5, "refresh", 0));
    for batch in [24, 8] {
        refresh(&mut *network, &data, batch, 5).unwrap();
        let found = network.parameters().statistics()[0].clone();
        let batches: Vec<Mat> = order.chunks(batch).map(|r| x.select(Axis(0), r)).collect();
        let average =
            |of: fn(&Mat) -> f64| batches.iter().map(of).sum::<f64>() / batches.len() as f64;
        let mean = average(|x| x.mapv(f64::from).mean().unwrap());
        let variance = average(|x| x.mapv(f64::from).var(1.0));
        for (c, w) in weights.iter().map(|w| f64::from(*w)).enumerate() {
            // A convolution with a kernel of one pixel gives wx.
            assert!((f64::from(found[c]) - w * mean).abs() < 1e-6);
            assert!((f64::from(found[3 + c]) / (w * w * variance) - 1.0).abs() < 1e-6);
        }
    }
    // The whole at once: training mode and inference agree but for the unbiased variance, 96/95.
    refresh(&mut *network, &data, 100, 0).unwrap();
    let mut tape = crate::nn::Tape::default();
    let training = network.forward(x.view(), Some(&mut tape)).unwrap();
    let inferred = network.forward(x.view(), None).unwrap();
    for (a, b) in training.iter().zip(&inferred) {
        assert!((a - b).abs() < 0.01 * (1.0 + a.abs()), "{a} {b}");
    }
    assert!(refresh(&mut *network, &data, 0, 0).is_err());
    let mut plain = build("mlp", 4, 2);
    let before = plain.parameters().clone();
    refresh(&mut *plain, &data, 8, 0).unwrap();
    assert_eq!(*plain.parameters(), before);
}

/// Full batches of a linear model end in the least squares of its targets.
#[test]
fn real_targets_are_learned_to_least_squares() {
    let x = draw(50, 2, 3);
    let noise = draw(50, 1, 4);
    let y = Mat::from_shape_fn((50, 1), |(i, _)| 2.0 * x[[i, 0]] - x[[i, 1]] + 0.5 + noise[[i, 0]]);
    let data = Dataset::from_array("x", x.clone()).unwrap();
    let training = Training {
        optimizer: "sgd(lr=0.5, momentum=0.5)".parse().unwrap(),
        schedule: "constant".parse().unwrap(),
        steps: 400,
        batch_size: 100,
        tail_steps: 2,
        every: 1,
        ..Training::default()
    };
    let network = build("mlp(hidden=[])", 2, 1);
    let mut found = training
        .run(network, &data, &Targets::Values(y.mapv(f64::from)), &mut [], &mut Silent)
        .unwrap();
    let fitted = logits(found.base(), &data).unwrap();
    // Residuals are orthogonal to the columns (x, 1).
    let residual = Mat64::from_shape_fn((50, 1), |p| f64::from(y[p]) - fitted[p]);
    for column in x.columns() {
        let product: f64 =
            column.iter().zip(&residual).map(|(x, r)| f64::from(*x) * r).sum::<f64>() / 50.0;
        assert!(product.abs() < 1e-6, "{product}");
    }
    assert!(residual.mean().unwrap().abs() < 1e-6);
    let half = residual.iter().map(|r| 0.5 * r * r).sum::<f64>() / 50.0;
    assert!((found.record().base_loss / half - 1.0).abs() < 1e-5);
}

/// SGD on ½(f − y)² at one point, f = w + b: f ← f − 2η(f − ȳ) with ȳ the mean of a batch, a process
/// whose stationary variance is 2ησ²/(2 − 2η), σ² the variance of ȳ.
#[test]
fn a_linear_trajectory_has_the_stationary_covariance() {
    let (n, batch, eta) = (90_000, 4, 0.1);
    let data = Dataset::from_array("one", Mat::ones((n, 1))).unwrap();
    let y = Mat::from_shape_fn((n, 1), |(i, _)| if i % 2 == 0 { 1.0 } else { -1.0 });
    let training = Training {
        optimizer: format!("sgd(lr={eta}, momentum=0)").parse().unwrap(),
        schedule: "constant".parse().unwrap(),
        steps: 100,
        tail_steps: 20_000,
        tail_lr: eta,
        every: 5,
        rank: 0,
        batch_size: batch,
        ..Training::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let (path, phi) = (dir.path().join("states.npy"), dir.path().join("phi.npy"));
    let point = Dataset::from_array("one", Mat::ones((1, 1))).unwrap();
    let mut writers = [StatesWriter::create(&path, point, 1).unwrap()];
    let network = build("mlp(hidden=[])", 1, 1);
    training
        .run(network, &data, &Targets::Values(y.mapv(f64::from)), &mut writers, &mut Silent)
        .unwrap();
    writers.into_iter().for_each(|w| assert!(w.finish().unwrap() > 0));
    let states = Dataset::open(&path.to_string_lossy(), 0).unwrap();
    assert_eq!((states.len(), states.width()), (4000, 1));
    // One output at one point: the two layouts are told apart by N·C = 1.
    let sampled = centred_features(&states, 1, 1, &phi, 1, &mut Silent).unwrap();
    assert_eq!((sampled.points, sampled.samples), (1, 4000));
    let found = covariances_of_features(&sampled.open().unwrap(), 1).unwrap()[[0, 0, 0]];
    let want = 2.0 * eta * (1.0 / batch as f64) / (2.0 - 2.0 * eta);
    // States are correlated by 0.8⁵ = 0.33, so about 2,000 of 4,000 count (squares of an AR(1)
    // process: (1 − ρ²)/(1 + ρ²) = 0.8 of them), and the error of a variance is √(2/3200) = 2.5 %.
    assert!((found / want - 1.0).abs() < 0.1, "{found} {want}");
}

/// A trajectory of linear classifiers: its kernel is that of the features (x, 1) for each class, which
/// eigenfunctions linear in x represent exactly, at points of their own too.
#[test]
fn the_kernel_of_linear_classifiers_is_learned_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = Dataset::open("two_moons(n=300, noise=0.3)", 0).unwrap();
    let fresh = Dataset::open("two_moons(n=40, noise=0.3)", 1).unwrap();
    let targets = labels_of(&data);
    let training = Training { steps: 100, tail_steps: 200, tail_lr: 0.3, every: 5, ..tiny() };
    let mut writers = [
        StatesWriter::create(at("train.npy"), data.clone(), 2).unwrap(),
        StatesWriter::create(at("fresh.npy"), fresh.clone(), 2).unwrap(),
    ];
    let network = build("mlp(hidden=[])", 2, 2);
    training.run(network, &data, &targets, &mut writers, &mut Silent).unwrap();
    writers.into_iter().for_each(|w| assert_eq!(w.finish().unwrap(), 40));
    let centred = |states: &str, points: &Dataset, phi: &str| {
        let states = Dataset::open(&at(states).to_string_lossy(), 0).unwrap();
        centred_features(&states, points.len(), 2, at(phi), 1, &mut Silent).unwrap()
    };
    let sampled = centred("train.npy", &data, "phi.npy");
    let spec = FitSpec {
        features: Some(sampled.path.clone()),
        outputs: 2,
        n_components: 6,
        network: "mlp(hidden=[])".parse().unwrap(),
        steps: Steps::Exactly(0),
        ..FitSpec::default()
    };
    let model: Model = Fit::new(spec).run(&data).unwrap().0;
    let there = centred("fresh.npy", &fresh, "phi-fresh.npy");
    for (points, sampled) in [(&data, &sampled), (&fresh, &there)] {
        let exact = covariances_of_features(&sampled.open().unwrap(), 2).unwrap();
        let found = covariances(&model, points).unwrap();
        let size = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(size > 1e-3);
        let off = (&found - &exact).iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(off < 1e-4 * size, "{off} of {size}");
    }
}

fn labels_of(data: &Dataset) -> Targets {
    Targets::Labels(data.labels().unwrap().iter().map(|label| *label as usize).collect())
}

fn tiny() -> Training {
    Training { steps: 20, tail_steps: 12, every: 4, batch_size: 16, rank: 3, ..Training::default() }
}

#[test]
fn streamed_features_are_the_centred_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = Dataset::open("two_moons(n=70)", 0).unwrap();
    let targets = labels_of(&data);
    // A trajectory of t states ends where its state number t is.
    let ends: Vec<Mat64> = [8, 12]
        .map(|tail_steps| {
            let training = Training { tail_steps, ..tiny() };
            let mut writers = [StatesWriter::create(at("s.npy"), data.clone(), 2).unwrap()];
            let network = build("mlp(hidden=[5])", 2, 2);
            let run = training.run(network, &data, &targets, &mut writers, &mut Silent);
            assert_eq!(run.unwrap().record().states, tail_steps / 4);
            writers.into_iter().for_each(|w| assert!(w.finish().unwrap() > 0));
            let states = Dataset::open(&at("s.npy").to_string_lossy(), 0).unwrap();
            states.range(0..states.len()).unwrap().mapv(f64::from)
        })
        .to_vec();
    assert_eq!(ends[0], ends[1].slice(s![..2, ..]));
    assert_eq!(ends[1].dim(), (3, 140));

    let mean = ends[1].mean_axis(Axis(0)).unwrap();
    let want = (&ends[1] - &mean).reversed_axes().mapv(|v| v as f32);
    let states = Dataset::open(&at("s.npy").to_string_lossy(), 0).unwrap();
    let turned = Dataset::from_array("t", ends[1].t().mapv(|v| v as f32)).unwrap();
    for (name, states, budget) in [("a", &states, 1), ("b", &states, 0), ("c", &turned, 0)] {
        let sampled = centred_features(states, 70, 2, at(name), budget, &mut Silent).unwrap();
        assert_eq!((sampled.points, sampled.outputs, sampled.samples), (70, 2, 3));
        let phi = Dataset::open(&at(name).to_string_lossy(), 0).unwrap();
        // The means are sums of three numbers in another order.
        for (got, want) in phi.range(0..140).unwrap().iter().zip(&want) {
            assert!((got - want).abs() <= 1e-7 * (1.0 + want.abs()), "{got} {want}");
        }
        // Complete: nothing is computed twice.
        let again = centred_features(states, 70, 2, at(name), budget, &mut Silent).unwrap();
        assert_eq!(again.computed, 0);
    }
    let fails = |states: &Dataset, points| {
        centred_features(states, points, 2, at("d"), 1, &mut Silent).unwrap_err().to_string()
    };
    assert!(fails(&states, 71).contains("(71·2) × M or M × (71·2)"));
    let one = Dataset::from_array("one", ends[1].slice(s![..1, ..]).mapv(|v| v as f32)).unwrap();
    assert!(fails(&one, 70).contains("states: expected at least 2"));
}

#[test]
fn an_interrupted_run_is_a_typed_error_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = Dataset::open("two_moons(n=70)", 0).unwrap();
    let targets = labels_of(&data);
    let mut stop = |event: &Event<'_>| match event {
        Event::Step { step: 25, .. } => Control::Stop,
        _ => Control::Continue,
    };
    let mut writers = [StatesWriter::create(dir.path().join("s.npy"), data.clone(), 2).unwrap()];
    let network = build("mlp", 2, 2);
    let error = tiny().run(network, &data, &targets, &mut writers, &mut stop).err().unwrap();
    assert!(matches!(error, Error::Interrupted { step: 25, checkpoint: None }), "{error}");
    drop(writers);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let mut found = tiny().run(build("mlp", 2, 2), &data, &targets, &mut [], &mut Silent).unwrap();
    let mut stop = |event: &Event<'_>| match event {
        Event::Progress { done: 2, .. } => Control::Stop,
        _ => Control::Continue,
    };
    let mut seen = 0;
    let error = found.swag(5, 0.5, &data, &mut stop, |_| {
        seen += 1;
        Ok(())
    });
    assert!(matches!(error, Err(Error::Interrupted { .. })) && seen == 2);
    let states = Dataset::from_array("s", draw(3, 140, 0)).unwrap();
    let mut stop = |event: &Event<'_>| match event {
        Event::Progress { done: 35, .. } => Control::Stop,
        _ => Control::Continue,
    };
    // A budget of nothing is a row at a time.
    let phi = dir.path().join("phi.npy");
    let error = centred_features(&states, 70, 2, &phi, 0, &mut stop).unwrap_err();
    assert!(matches!(error, Error::SamplingInterrupted { done: 35, total: 70, .. }), "{error}");
    let rest = centred_features(&states, 70, 2, &phi, 0, &mut Silent).unwrap();
    assert_eq!(rest.computed, 35);
}

/// Everything that a run of a convolutional network leaves, with `threads` threads.
fn everything(threads: usize, dir: &Path) -> (Vec<u8>, Vec<Parameters>) {
    let x = draw(40, 3 * 36, 5);
    let data = Dataset::from_array("x", x).unwrap();
    let targets = Targets::Labels((0..40).map(|i| i % 3).collect());
    let training = Training {
        augmentation: "shift_flip(pixels=1)".parse().unwrap(),
        steps: 4,
        tail_steps: 6,
        every: 2,
        ..tiny()
    };
    let path = dir.join(format!("{threads}.npy"));
    let mut writers = [StatesWriter::create(&path, data.clone(), 3).unwrap()];
    let network = build("resnet(depth=8, width=4)", 108, 3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let parameters = pool.install(|| {
        let run = training.run(network, &data, &targets, &mut writers, &mut Silent);
        let mut run = run.unwrap();
        let mut all = vec![run.base().parameters().clone(), run.swa().parameters().clone()];
        run.swag(2, 0.5, &data, &mut Silent, |network| {
            all.push(network.parameters().clone());
            Ok(())
        })
        .unwrap();
        all
    });
    writers.into_iter().for_each(|w| assert!(w.finish().unwrap() > 0));
    (std::fs::read(path).unwrap(), parameters)
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (everything(1, dir.path()), everything(2, dir.path()));
    assert!(one == two);
    // Base, SWA and samples are different weights, and SWA is what it says.
    assert!(one.1.windows(2).all(|w| w[0] != w[1]));
}

#[test]
fn rates_and_ranges_are_checked() {
    let training =
        Training { tail_schedule: "cyclic(period=4, final=0)".parse().unwrap(), ..tiny() };
    assert_eq!(training.states(), 3);
    let lr = training.optimizer.learning_rate().unwrap();
    for (step, want) in [(0, lr), (10, 0.5 * lr), (20, 0.75 * 0.01), (23, 0.0), (24, 0.75 * 0.01)] {
        let got = training.rate(step).unwrap();
        assert!((got - want).abs() < 1e-12, "{step}: {got} {want}");
    }
    let data = Dataset::open("two_moons(n=70)", 0).unwrap();
    let targets = labels_of(&data);
    let named = |training: Training, name: &str| {
        let run = training.run(build("mlp", 2, 2), &data, &targets, &mut [], &mut Silent);
        let message = run.err().unwrap().to_string();
        assert!(message.contains(name), "{message}");
    };
    named(Training { every: 0, ..tiny() }, "every");
    named(Training { every: 7, ..tiny() }, "tail_steps: expected at least 14");
    named(Training { tail_lr: f64::NAN, ..tiny() }, "tail_lr");
    named(Training { batch_size: 0, ..tiny() }, "batch_size");
    named(Training { clip_norm: -1.0, ..tiny() }, "clip_norm");
    named(Training { augmentation: "shift_flip".parse().unwrap(), ..tiny() }, "image");
    named(Training { optimizer: "sgd(lr=1e30)".parse().unwrap(), ..tiny() }, "diverged");
    let run = |network, targets: &Targets| {
        let run = tiny().run(network, &data, targets, &mut [], &mut Silent);
        run.err().unwrap().to_string()
    };
    assert!(run(build("mlp", 3, 2), &targets).contains("expected shape 3, got 2"));
    let bad = Targets::Labels(vec![2; 70]);
    assert!(run(build("mlp", 2, 2), &bad).contains("classes from 0 to 1"));
    let bad = Targets::Values(Mat64::from_elem((70, 2), f64::NAN));
    assert!(run(build("mlp", 2, 2), &bad).contains("targets"));
    assert!(run(build("mlp", 2, 2), &Targets::Values(Mat64::zeros((3, 2)))).contains("70"));
    let text = serde_json::to_string(&training).unwrap();
    assert_eq!(serde_json::from_str::<Training>(&text).unwrap(), training);
}

#[test]
fn means_of_softmax() {
    let mut mean = MeanSoftmax::default();
    mean.add(ndarray::array![[0.0, 0.0]].view()).unwrap();
    mean.add(ndarray::array![[3.0f64.ln(), 0.0]].view()).unwrap();
    let p = mean.probabilities();
    assert!((p[[0, 0]] - 0.625).abs() < 1e-15 && mean.count() == 2);
    assert!(mean.add(ndarray::array![[0.0]].view()).is_err());
}
