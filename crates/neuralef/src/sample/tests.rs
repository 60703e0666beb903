//! Features of random networks against closed forms, and the files they are streamed to.

use std::path::Path;

use ndarray::{Axis, array};

use super::*;
use crate::data::Dtype;
use crate::error::Error;
use crate::matrix::{Mat, Mat64, MatRef};
use crate::nn::NetworkSpec;
use crate::observer::{Control, Event, Silent};
use crate::operator::{Batch, Diagonal, FeatureOperator};
use crate::{Dataset, KernelOperator as _, KernelSpec};

pub(super) fn spec(text: &str) -> NetworkSpec {
    text.parse().unwrap()
}

pub(super) fn points() -> Mat {
    array![[0.9f32, -0.4], [1.0, -0.1], [-0.6, 1.3]]
}

pub(super) fn dataset(x: &Mat) -> Dataset {
    Dataset::from_array("points", x.clone()).unwrap()
}

/// κ at all pairs of points, in double precision.
pub(super) fn closed_form(text: &str, x: MatRef<'_>) -> Mat64 {
    let spec: KernelSpec = text.parse().unwrap();
    let mut out = Mat64::zeros((x.nrows(), x.nrows()));
    spec.resolve(None, 0).unwrap().gram(x, x, out.view_mut()).unwrap();
    out
}

/// ΦΦᵀ/S of rows of features, within four and a half standard errors (measured from the samples) of
/// `want` in every entry, these errors being at most `small` of the largest entry.
pub(super) fn assert_kernel(phi: &Mat, want: &Mat64, small: f64, what: &str) {
    let s = phi.ncols() as f64;
    let size = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for ((i, j), want) in want.indexed_iter() {
        let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
        let products: Vec<f64> = phi.row(i).iter().zip(phi.row(j)).map(product).collect();
        let mean = products.iter().sum::<f64>() / s;
        let variance = products.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / (s - 1.0);
        let error = (variance / s).sqrt();
        assert!((mean - want).abs() < 4.5 * error, "{what} {i},{j}: {mean} ± {error}, not {want}");
        // A check of the check.
        assert!(error < small * size, "{what} {i},{j}: {error} of {size}");
    }
}

pub(super) fn all(sampled: &Sampled) -> Mat {
    let phi = sampled.open().unwrap();
    phi.range(0..phi.len()).unwrap()
}

fn of(
    network: &str,
    x: &Mat,
    law: &WeightLaw,
    sampling: &Sampling,
    path: &Path,
) -> crate::Result<Sampled> {
    nngp(&spec(network), &dataset(x), law, sampling, path, &mut Silent)
}

#[test]
fn one_hidden_layer_of_any_width_has_the_kernel_of_infinitely_many() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, name) in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"].into_iter().enumerate() {
        let law = WeightLaw { weight_var: vec![1.5, 0.8], bias_var: vec![0.3, 0.1] };
        let text = format!("mlp(hidden=[4], activation={name})");
        let sampling =
            Sampling { samples: 20_000, seed: seed as u64, dtype: Dtype::F32, memory_budget: 64 };
        let phi = of(&text, &points(), &law, &sampling, &dir.path().join(name)).unwrap();
        let kernel =
            format!("nngp(depth=1, activation={name}, weight_var=[1.5, 0.8], bias_var=[0.3, 0.1])");
        assert_kernel(&all(&phi), &closed_form(&kernel, points().view()), 0.03, name);
    }
}

#[test]
fn wide_networks_have_the_kernel_of_their_depth_and_variances() {
    let dir = tempfile::tempdir().unwrap();
    // Variances so different that any two layers exchanged would show.
    let law = WeightLaw { weight_var: vec![3.0, 1.2, 0.5], bias_var: vec![0.1, 0.8, 2.0] };
    let kernel = "nngp(depth=2, activation=erf, weight_var=[3, 1.2, 0.5], bias_var=[0.1, 0.8, 2])";
    let sampling = Sampling { samples: 4000, ..Sampling::default() };
    let text = "mlp(hidden=[64, 64], activation=erf)";
    let phi = of(text, &points(), &law, &sampling, &dir.path().join("x.npy")).unwrap();
    assert_kernel(&all(&phi), &closed_form(kernel, points().view()), 0.03, text);
}

/// E f(x)² is that of infinite width for relu at any width and depth: a layer's variance is linear in
/// the one before it.
#[test]
fn the_variance_of_narrow_deep_relu_networks_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let law =
        WeightLaw { weight_var: vec![1.5, 2.0, 1.2, 0.8], bias_var: vec![0.3, 0.1, 0.2, 0.5] };
    let kernel = "nngp(depth=3, weight_var=[1.5, 2, 1.2, 0.8], bias_var=[0.3, 0.1, 0.2, 0.5])";
    let x = points().slice(ndarray::s![..1, ..]).to_owned();
    let sampling = Sampling { samples: 40_000, ..Sampling::default() };
    let text = "mlp(hidden=[8, 12, 8])";
    let phi = of(text, &x, &law, &sampling, &dir.path().join("x.npy")).unwrap();
    assert_kernel(&all(&phi), &closed_form(kernel, x.view()), 0.03, text);
}

/// A convolution with one patch, as large as the image, is a dense layer.
#[test]
fn convolutional_networks_have_the_kernel_of_their_layers() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((3, 9), |(i, j)| ((i * 9 + j) as f32 * 0.71).sin());
    let law = WeightLaw { weight_var: vec![1.5, 0.8], bias_var: vec![0.3, 0.1] };
    let sampling = Sampling { samples: 20_000, ..Sampling::default() };
    // With batch normalisation, here the identity, the convolution has no bias.
    for (norm, bias) in [("none", "0.3"), ("batch", "0")] {
        let text = format!(
            "convnet(image=[3, 3, 1], channels=[4], kernel=3, padding=valid, pool=1, \
             activation=erf, norm={norm})"
        );
        let kernel =
            format!("nngp(depth=1, activation=erf, weight_var=[1.5, 0.8], bias_var=[{bias}, 0.1])");
        let phi = of(&text, &x, &law, &sampling, &dir.path().join(norm)).unwrap();
        assert_kernel(&all(&phi), &closed_form(&kernel, x.view()), 0.03, &text);
    }
}

/// Networks of one convolution, whose kernel is that of infinitely many channels at any number of them,
/// the text of the kernel but for its name, and some images.
pub(super) fn one_convolution(activation: &str) -> Vec<(String, String, Mat)> {
    let mut all = Vec::new();
    for ([h, w, c], kernel, stride, padding, pool, readout) in [
        ([5, 5, 1], 3, 1, "same", 2, "flatten"),
        ([6, 4, 2], 3, 2, "valid", 1, "flatten"),
        ([4, 5, 2], 2, 1, "valid", 1, "average"),
    ] {
        let network = format!(
            "convnet(image=[{h}, {w}, {c}], channels=[4], kernel={kernel}, stride={stride}, padding={padding}, \
             pool={pool}, pool_kind=average, readout={readout}, activation={activation})"
        );
        let kernel = format!(
            "image=[{h}, {w}, {c}], kernel=[{kernel}], stride={stride}, padding={padding}, pool={pool}, \
             readout={readout}, activation={activation}, weight_var=[1.5, 0.8], bias_var=[0.3, 0.1]"
        );
        let x =
            Mat::from_shape_fn((3, h * w * c), |(i, j)| ((i * h * w * c + j) as f32 * 0.71).sin());
        all.push((network, kernel, x));
    }
    all
}

#[test]
fn convolutions_at_many_places_have_the_kernel_of_their_layers() {
    let dir = tempfile::tempdir().unwrap();
    let law = WeightLaw { weight_var: vec![1.5, 0.8], bias_var: vec![0.3, 0.1] };
    let sampling = Sampling { samples: 20_000, ..Sampling::default() };
    for activation in ["relu", "erf"] {
        for (number, (text, kernel, x)) in one_convolution(activation).into_iter().enumerate() {
            let path = dir.path().join(format!("{activation}{number}"));
            let phi = of(&text, &x, &law, &sampling, &path).unwrap();
            let want = closed_form(&format!("cnn_gp({kernel})"), x.view());
            assert_kernel(&all(&phi), &want, 0.03, &text);
        }
    }
}

#[test]
fn samples_depend_on_seed_and_number_alone() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((300, 2), |(i, j)| ((i * 2 + j) as f32 * 0.37).sin());
    let law = WeightLaw::new(2.0, 1.0);
    let run = |text: &str, x: &Mat, sampling: &Sampling, threads: usize| {
        let path = dir.path().join("x.npy");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let sampled = pool.install(|| of(text, x, &law, sampling, &path)).unwrap();
        let phi = all(&sampled);
        std::fs::remove_file(path).unwrap();
        phi
    };
    let sampling = Sampling { samples: 5000, seed: 3, ..Sampling::default() };
    let whole = run("mlp(hidden=[6])", &x, &sampling, 2);
    // 1 MiB is 50 points of 5,000 samples.
    let small = Sampling { memory_budget: 1, ..sampling.clone() };
    assert_eq!(run("mlp(hidden=[6])", &x, &small, 1), whole);
    let fewer = Sampling { samples: 777, ..sampling.clone() };
    assert_eq!(run("mlp(hidden=[6])", &x, &fewer, 3), whole.slice(ndarray::s![.., ..777]));
    // One trunk with several heads is no set of independent networks: built one by one.
    let shared = Sampling { samples: 40, ..sampling.clone() };
    let one_by_one = run("shared_mlp(hidden=[6])", &x, &shared, 2);
    assert_eq!(one_by_one, whole.slice(ndarray::s![.., ..40]));
    let other = Sampling { samples: 40, seed: 4, ..sampling.clone() };
    assert_ne!(run("mlp(hidden=[6])", &x, &other, 2), one_by_one);
    let part = x.select(Axis(0), &[7, 299]);
    let alone = run("mlp(hidden=[6])", &part, &sampling, 2);
    assert_eq!(alone, whole.select(Axis(0), &[7, 299]));
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((400, 2), |(i, j)| ((i * 2 + j) as f32 * 0.37).sin());
    let law = WeightLaw::new(2.0, 1.0);
    let text = "mlp(hidden=[6])";
    let sampling = Sampling { samples: 5000, seed: 3, dtype: Dtype::F16, memory_budget: 1 };
    let whole = dir.path().join("whole.npy");
    let sampled = of(text, &x, &law, &sampling, &whole).unwrap();
    assert_eq!((sampled.points, sampled.outputs, sampled.computed), (400, 1, 400));
    let path = dir.path().join("x.npy");
    let mut runs = 0;
    let (mut first, mut computed) = (0, 0);
    loop {
        // Stops at every 150th occasion, wherever that is.
        let mut left = 150;
        let mut observer = |event: &Event<'_>| {
            left -= i32::from(matches!(event, Event::Progress { .. }));
            if left <= 0 { Control::Stop } else { Control::Continue }
        };
        runs += 1;
        match nngp(&spec(text), &dataset(&x), &law, &sampling, &path, &mut observer) {
            Err(Error::SamplingInterrupted { done, total, .. }) => {
                assert!(done >= first && total == 400 && !path.exists(), "{done} of {total}");
                first = done;
            }
            done => {
                computed += done.unwrap().computed;
                break;
            }
        }
    }
    assert!(runs > 2 && first > 0 && computed == 400 - first, "{runs} runs, {first}");
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&whole).unwrap());
    // Complete: there is nothing to do, and nothing to stop.
    let stop = &mut |_: &Event<'_>| Control::Stop;
    let again = nngp(&spec(text), &dataset(&x), &law, &sampling, &path, stop).unwrap();
    assert_eq!(again.computed, 0);
    let mut moved = x.clone();
    moved[[399, 1]] += 1e-6;
    for (network, x, law, seed, part) in [
        ("mlp(hidden=[7])", &x, law.clone(), 3, "network"),
        (text, &x, WeightLaw::new(2.0, 0.5), 3, "bias_var"),
        (text, &x, WeightLaw::new(1.0, 1.0), 3, "weight_var"),
        (text, &x, law.clone(), 4, "seed"),
        (text, &moved, law.clone(), 3, "data"),
    ] {
        let other = Sampling { seed, ..sampling.clone() };
        let message = of(network, x, &law, &other, &path).unwrap_err().to_string();
        assert!(message.starts_with(part), "{message}");
    }
}

#[test]
fn half_precision_serves_an_operator_as_single_does() {
    let dir = tempfile::tempdir().unwrap();
    let x = Mat::from_shape_fn((50, 2), |(i, j)| ((i * 2 + j) as f32 * 0.37).sin());
    let law = WeightLaw::new(2.0, 1.0);
    let operator = |dtype: Dtype| {
        let path = dir.path().join(dtype.to_string());
        let sampling = Sampling { samples: 300, dtype, ..Sampling::default() };
        let phi = of("mlp(hidden=[8], activation=erf)", &x, &law, &sampling, &path).unwrap();
        FeatureOperator::new(phi.open().unwrap(), 1).unwrap()
    };
    let batch = Batch { indices: (0..50).collect(), x: x.clone() };
    let psi = Mat::from_shape_fn((50, 3), |(i, j)| ((i * 3 + j) as f32 * 1.3).cos());
    let apply = |dtype: Dtype| {
        let mut out = Mat::zeros((50, 3));
        operator(dtype).apply(&batch, psi.view(), Diagonal::Keep, out.view_mut()).unwrap();
        out
    };
    let (single, half) = (apply(Dtype::F32), apply(Dtype::F16));
    let size = single.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let error = (&single - &half).iter().fold(0.0f32, |a, b| a.max(b.abs()));
    // Roundings of 2⁻¹² on average, over 50·300 products with independent signs.
    assert!(error > 0.0 && error < size * 2.0f32.powi(-11), "{error} of {size}");
}

#[test]
fn what_cannot_be_sampled_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let refuse = |law: WeightLaw, sampling: Sampling, part: &str| {
        let message =
            of("mlp(hidden=[8])", &points(), &law, &sampling, &path).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(!path.exists());
    };
    let some = || Sampling { samples: 10, ..Sampling::default() };
    let one = |w: f64, b: f64| WeightLaw::new(w, b);
    refuse(one(0.0, 1.0), some(), "weight_var: expected positive");
    refuse(one(f64::NAN, 1.0), some(), "weight_var");
    refuse(one(1.0, -1.0), some(), "bias_var: expected not negative");
    refuse(one(1.0, f64::INFINITY), some(), "bias_var");
    let three = WeightLaw { weight_var: vec![1.0; 3], bias_var: vec![0.0] };
    refuse(three, some(), "weight_var: expected one number, or one for each of 2 layers");
    let none = WeightLaw { weight_var: vec![1.0], bias_var: vec![] };
    refuse(none, some(), "bias_var");
    refuse(one(1.0, 0.0), Sampling { samples: 0, ..some() }, "samples");
    refuse(one(1.0, 0.0), Sampling { memory_budget: 0, ..some() }, "MiB");
    let many = Sampling { samples: 1 << 20, memory_budget: 1, ..some() };
    refuse(one(1.0, 0.0), many, "memory budget is 1 MiB");
    let endless = Sampling { samples: usize::MAX, ..some() };
    refuse(one(1.0, 0.0), endless, "MiB");
    let half = Sampling { dtype: Dtype::F16, ..some() };
    refuse(one(1e9, 0.0), half, "for f16");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn features_too_small_for_half_precision_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let warnings = |weight_var: f64, name: &str| {
        let mut heard = 0;
        let mut observer = |event: &Event<'_>| {
            heard += usize::from(matches!(event, Event::Warning { .. }));
            Control::Continue
        };
        let sampling = Sampling { samples: 100, dtype: Dtype::F16, ..Sampling::default() };
        let law = WeightLaw::new(weight_var, 0.0);
        let (spec, data) = (spec("mlp(hidden=[8])"), dataset(&points()));
        nngp(&spec, &data, &law, &sampling, dir.path().join(name), &mut observer).unwrap();
        heard
    };
    assert_eq!((warnings(1.0, "a"), warnings(1e-5, "b")), (0, 1));
}

#[test]
fn every_entry_builds_prints_and_parses() {
    use super::ntk::{DERIVATIVES, Derivative, PROBES, Probes};
    use crate::spec::registry::assert_complete;
    assert_complete(&PROBES, &[], crate::spec::Sample::Missing, Probes::to_string);
    assert_complete(&DERIVATIVES, &[], crate::spec::Sample::Missing, Derivative::to_string);
}
