//! Heads and tangents against the networks they are made of, the exact tangent kernel, and themselves
//! after a model file.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fit::{Checkpoint, ReadoutKind, Steps};
use crate::matrix::{Mat, Mat64};
use crate::nn::{Network, NetworkSpec, Tape, rows_of_outputs, write_weights};
use crate::sample::exact_ntk;
use crate::train::{Control, Event};
use crate::{Dataset, Fit, FitSpec, Model, linalg, rng};

const TRUNK: &str = "shared_convnet(channels=[4, 6], kernel=3, pool=[2, 1])";

fn draw(rows: usize, columns: usize, stream: u64) -> Mat {
    let mut x = Mat::zeros((rows, columns));
    rng::fill_normal(&mut rng::stream(3, "test", stream), x.as_slice_mut().unwrap());
    x
}

struct Ground {
    _folder: tempfile::TempDir,
    path: PathBuf,
    network: Box<dyn Network>,
}

/// A network of one function with `outputs` outputs, and its weights in a file.
fn trained(text: &str, inputs: usize, outputs: usize) -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let spec: NetworkSpec = text.parse().unwrap();
    let mut network = spec.build(inputs, 1, outputs, 5).unwrap();
    network.freeze(true);
    write_weights(&*network, &path).unwrap();
    Ground { _folder: folder, path, network }
}

fn text(name: &str, path: &Path, network: &str, rest: &str) -> String {
    format!("{name}(of=\"{}\", network={network}{rest})", path.display())
}

fn build(text: &str, inputs: usize, k: usize, c: usize) -> crate::Result<Box<dyn Network>> {
    text.parse::<NetworkSpec>()?.build(inputs, k, c, 1)
}

/// Largest difference, as a share of the largest of `b`.
fn apart(a: &Mat, b: &Mat) -> f32 {
    assert_eq!(a.dim(), b.dim());
    let size = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / size
}

#[test]
fn heads_see_the_means_of_the_layers_they_name() {
    let ground = trained(TRUNK, 64, 3);
    let x = draw(70, 64, 0);
    let see = |layers: &str| {
        let rest = format!(", layers={layers}, hidden=[]");
        let heads = build(&text("heads", &ground.path, TRUNK, &rest), 64, 2, 1).unwrap();
        assert_eq!(heads.hidden_width(), heads.hidden(x.view()).unwrap().ncols());
        heads.hidden(x.view()).unwrap()
    };
    // The trunk's last hidden layer is the mean of its last convolution.
    let last = ground.network.hidden(x.view()).unwrap();
    assert_eq!(see("[average]"), last);
    assert!(apart(&see("[conv2]"), &last) < 1e-6);
    // A network of the first convolution alone has its mean for its last hidden layer.
    let spec: NetworkSpec = "shared_convnet(channels=[4], kernel=3, pool=1)".parse().unwrap();
    let mut first = spec.build(64, 1, 1, 0).unwrap();
    let size = ground.network.parameters().layouts()[0][1].range().end;
    first.parameters_mut().units_mut()[0][..size]
        .copy_from_slice(&ground.network.parameters().units()[0][..size]);
    let first = first.hidden(x.view()).unwrap();
    assert!(apart(&see("[conv1]"), &first) < 1e-6);
    let both = ndarray::concatenate![ndarray::Axis(1), first, last];
    assert!(apart(&see("[conv1, average]"), &both) < 1e-6);
    // Sizes are 8 × 8 and 4 × 4: the pool and the second convolution are the last of theirs.
    let auto = see("auto");
    assert_eq!(auto, see("[conv1, conv2]"));

    // With hidden layers, these are beside the features, and functions are perceptrons on them.
    let rest = ", layers=[conv2], hidden=[8], activation=tanh";
    let heads = build(&text("heads", &ground.path, TRUNK, rest), 64, 2, 3).unwrap();
    let hidden = heads.hidden(x.view()).unwrap();
    assert_eq!(hidden.dim(), (70, 6 + 16));
    assert_eq!(hidden.slice(ndarray::s![.., ..6]), see("[conv2]"));
    let mut inner = "mlp(hidden=[8], activation=tanh)".parse::<NetworkSpec>().unwrap();
    let mut alone = inner.build(6, 2, 3, 1).unwrap();
    assert_eq!(alone.parameters(), heads.parameters());
    let features = see("[conv2]");
    assert_eq!(
        heads.forward(x.view(), None).unwrap(),
        alone.forward(features.view(), None).unwrap()
    );
    inner = "shared_mlp(hidden=[8], activation=tanh)".parse().unwrap();
    alone = inner.build(6, 2, 3, 1).unwrap();
    let shared = build(&text("shared_heads", &ground.path, TRUNK, rest), 64, 2, 3).unwrap();
    assert_eq!(
        shared.forward(x.view(), None).unwrap(),
        alone.forward(features.view(), None).unwrap()
    );
}

#[test]
fn heads_take_layers_of_perceptrons_and_of_residual_networks() {
    let mlp = "shared_mlp(hidden=[10, 7], activation=tanh)";
    let ground = trained(mlp, 5, 2);
    let x = draw(9, 5, 1);
    let heads = build(&text("heads", &ground.path, mlp, ", hidden=[]"), 5, 2, 1).unwrap();
    let hidden = ground.network.hidden(x.view()).unwrap();
    assert_eq!(heads.hidden(x.view()).unwrap(), hidden);
    let rest = ", layers=[\"layers.0\", \"layers.1\"], hidden=[]";
    let heads = build(&text("heads", &ground.path, mlp, rest), 5, 2, 1).unwrap();
    let both = heads.hidden(x.view()).unwrap();
    assert_eq!(both.ncols(), 17);
    assert_eq!(both.slice(ndarray::s![.., 10..]), hidden);

    let resnet = "shared_resnet(depth=8, width=4)";
    let ground = trained(resnet, 3 * 16 * 16, 10);
    let x = draw(3, 768, 2);
    let see = |layers: &str| {
        let rest = format!(", layers={layers}, hidden=[]");
        let heads = build(&text("heads", &ground.path, resnet, &rest), 768, 2, 1).unwrap();
        heads.hidden(x.view()).unwrap()
    };
    let all = see("[layer1, layer2, layer3]");
    assert_eq!(all.ncols(), 4 + 8 + 16);
    assert_eq!(see("auto"), all);
    let last = ground.network.hidden(x.view()).unwrap();
    assert!(apart(&see("[layer3]"), &last) < 1e-6);
    // The stem, not the last layer of that name within a module.
    assert_eq!(see("[conv1]").ncols(), 4);
    assert_eq!(see("[\"layer3.0.conv1\"]").ncols(), 16);
}

/// PyTorch's exporter names layers by paths; values are those of the same network from safetensors.
#[test]
fn heads_take_layers_of_onnx_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, include_bytes!("../goldens/resnet.onnx")).unwrap();
    let whole = crate::nn::read_onnx(&path).unwrap();
    let x = draw(5, 192, 3);
    let see = |layers: &str| {
        let text = format!("heads(of=\"{}\", layers={layers}, hidden=[])", path.display());
        build(&text, 192, 2, 1).unwrap().hidden(x.view()).unwrap()
    };
    let last = whole.hidden(x.view()).unwrap();
    assert!(apart(&see("[layer3]"), &last) < 1e-6);
    assert_eq!(see("auto"), see("[layer1, layer2, layer3]"));
}

#[test]
fn tangents_are_the_derivatives_that_forward_mode_gives() {
    for (net, inputs, c) in [(TRUNK, 64, 1), ("shared_mlp(hidden=[6], activation=tanh)", 4, 3)] {
        let ground = trained(net, inputs, c);
        let x = draw(11, inputs, 4);
        let rest = ", directions=5";
        let tangents = build(&text("tangents", &ground.path, net, rest), inputs, 2, c).unwrap();
        assert_eq!((tangents.hidden_width(), tangents.outputs()), (5, c));
        let hidden = tangents.hidden(x.view()).unwrap();
        assert_eq!(hidden.ncols(), 5 * c);
        for j in 0..5 {
            let mut direction = ground.network.parameters().zeros_like();
            direction.units_mut()[0].copy_from_slice(&tangents.parameters().units()[j]);
            let want = ground.network.jvp(x.view(), &direction).unwrap();
            let got = hidden.slice(ndarray::s![.., j * c..(j + 1) * c]).to_owned();
            assert!(apart(&got, &want) < 2e-6, "{net}: direction {j}");
        }
        let values = tangents.forward(x.view(), None).unwrap();
        assert_eq!(values, hidden.slice(ndarray::s![.., ..2 * c]));
        // Rows are independent.
        let some = tangents.forward(x.slice(ndarray::s![4..6, ..]), None).unwrap();
        assert_eq!(some, values.slice(ndarray::s![4..6, ..]));
    }
}

#[test]
fn derivatives_of_heads_and_tangents_are_adjoint_and_right() {
    let ground = trained(TRUNK, 64, 2);
    let smooth = ", activation=tanh";
    for (name, rest) in [("heads", smooth), ("shared_heads", smooth), ("tangents", "")] {
        let mut network = build(&text(name, &ground.path, TRUNK, rest), 64, 3, 2).unwrap();
        let x = draw(8, 64, 5);
        let mut tape = Tape::default();
        let values = network.forward(x.view(), Some(&mut tape)).unwrap();
        assert!(apart(&values, &network.forward(x.view(), None).unwrap()) < 1e-6);
        let cotangent = draw(8, 6, 6);
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
        let mut tangent = network.parameters().zeros_like();
        for (i, unit) in tangent.units_mut().iter_mut().enumerate() {
            rng::fill_normal(&mut rng::stream(1, "tangent", i as u64), unit);
        }
        let rate = network.jvp(x.view(), &tangent).unwrap();
        let inner = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let left = inner(rate.as_slice().unwrap(), cotangent.as_slice().unwrap());
        let units = gradient.units().iter().zip(tangent.units());
        let right: f64 = units.map(|(g, t)| inner(g, t)).sum();
        assert!((left - right).abs() < 1e-4 * left.abs(), "{name}: {left} is not {right}");
        // Central differences, whose error is of third order; tangents are linear, so any step does,
        // and rounding is some units of 6e-8 over it.
        let (step, line) = if name == "tangents" { (0.1f32, 1e-5) } else { (1e-3, 1e-3) };
        let mut moved = |sign: f32| {
            let units = network.parameters_mut().units_mut().iter_mut();
            for (unit, t) in units.zip(tangent.units()) {
                unit.iter_mut().zip(t).for_each(|(v, t)| *v += sign * t);
            }
            network.forward(x.view(), None).unwrap()
        };
        let (up, down) = (moved(step), moved(-2.0 * step));
        let difference = (up - down) / (2.0 * step);
        let error = apart(&difference, &rate);
        assert!(error < line, "{name}: {error}");
    }
}

#[test]
fn the_start_finds_the_exact_eigenpairs_of_its_points() {
    for (net, inputs, c) in [(TRUNK, 64, 1), ("shared_mlp(hidden=[8], activation=tanh)", 3, 2)] {
        let ground = trained(net, inputs, c);
        let (n, k) = (40, 4);
        let x = draw(n, inputs, 7);
        let gram = exact_ntk(&*ground.network, x.view(), None, None, 1024).unwrap();
        let (values, vectors) = linalg::eigh(gram.view()).unwrap();
        let rest = ", iterations=8";
        let mut tangents = build(&text("tangents", &ground.path, net, rest), inputs, k, c).unwrap();
        tangents.data_dependent_init().unwrap().init_from_data(x.view()).unwrap();
        let psi = rows_of_outputs(tangents.forward(x.view(), None).unwrap(), c).unwrap();
        let psi = psi.mapv(f64::from);
        for (j, value) in values.iter().enumerate().take(k) {
            let norm = psi.column(j).iter().map(|v| v * v).sum::<f64>() / n as f64;
            let cosine = psi.column(j).dot(&vectors.column(j)) / (norm * n as f64).sqrt();
            assert!(cosine.abs() > 0.999, "{net}: function {j}, cosine {cosine}");
            assert!((norm - 1.0).abs() < 1e-3, "{net}: function {j}, E ψ² = {norm}");
            let image: Mat64 = gram.dot(&psi.select(ndarray::Axis(1), &[j]));
            let quotient = image.column(0).dot(&psi.column(j)) / psi.column(j).dot(&psi.column(j));
            assert!((quotient / value - 1.0).abs() < 1e-4, "{net}: eigenvalue {j}");
        }
    }
}

/// A whole fit on the exact tangent kernel, which nothing but the sampling of its start keeps from
/// being exact; the model file does not need the network's file.
#[test]
fn fits_of_tangents_find_the_spectrum_and_models_carry_their_network() {
    let net = "shared_mlp(hidden=[8], activation=tanh)";
    for c in [1, 2] {
        let ground = trained(net, 3, c);
        let (n, k) = (60, 4);
        let x = draw(n, 3, 8);
        let gram = exact_ntk(&*ground.network, x.view(), None, None, 1024).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gram.npy");
        ndarray_npy::write_npy(&path, &gram).unwrap();
        let spec = FitSpec {
            operator: Some(crate::operator::OperatorSpec::gram(path)),
            outputs: c,
            n_components: k,
            network: text("tangents", &ground.path, net, "").parse().unwrap(),
            readout: ReadoutKind::Galerkin,
            steps: Steps::Exactly(0),
            standardize: false,
            ..FitSpec::default()
        };
        let split = spec.split(n);
        let data = Dataset::from_array("points", x.clone()).unwrap();
        let (model, _) = Fit::new(spec.clone()).run(&data).unwrap();
        let rows: Vec<usize> =
            split.train.iter().flat_map(|i| (0..c).map(move |o| i * c + o)).collect();
        let inner = gram.select(ndarray::Axis(0), &rows).select(ndarray::Axis(1), &rows);
        let (values, _) = linalg::eigh(inner.view()).unwrap();
        for (j, (found, exact)) in model.eigenvalues().iter().zip(&values).enumerate() {
            let exact = exact / split.train.len() as f64;
            assert!((found / exact - 1.0).abs() < 1e-3, "{c} outputs, {j}: {found} is not {exact}");
        }
        let psi = model.eigenfunctions(x.view()).unwrap();
        let file = folder.path().join("model.nef");
        model.save(&file).unwrap();
        std::fs::remove_file(&ground.path).unwrap();
        let again = Model::load(&file).unwrap();
        assert_eq!(again.eigenfunctions(x.view()).unwrap(), psi);
        // And once more, from the model that was read.
        again.save(&file).unwrap();
        assert_eq!(Model::load(&file).unwrap().eigenfunctions(x.view()).unwrap(), psi);
        // A new fit needs it.
        let network = spec.network.to_string().parse().unwrap();
        let spec = FitSpec { network, ..spec };
        assert!(matches!(Fit::new(spec).run(&data), Err(Error::Io { .. })));
    }
}

/// Bits of a resumed fit, whose start is in its checkpoint, and of any number of threads.
#[test]
fn fits_end_in_the_same_bits_resumed_or_not() {
    struct StopAt(u64);
    impl crate::Observer for StopAt {
        fn observe(&mut self, event: &Event<'_>) -> Control {
            match event {
                Event::Step { step, .. } if *step >= self.0 => Control::Stop,
                _ => Control::Continue,
            }
        }
    }
    let net = "shared_mlp(hidden=[8], activation=tanh)";
    let ground = trained(net, 3, 1);
    let data = Dataset::from_array("points", draw(80, 3, 9)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["heads", "tangents"] {
        let spec = || FitSpec {
            network: text(name, &ground.path, net, "").parse().unwrap(),
            steps: Steps::Exactly(6),
            ..FitSpec::new("rbf(lengthscale=1)", 3).unwrap()
        };
        let path = folder.path().join(name);
        let saved = |model: &Model| {
            model.save(&path).unwrap();
            std::fs::read(&path).unwrap()
        };
        let (whole, _) = Fit::new(spec()).run(&data).unwrap();
        let whole = saved(&whole);
        let checkpoint = folder.path().join("checkpoint");
        let stopped =
            Fit::new(spec()).observer(&mut StopAt(3)).checkpoint(&checkpoint, 0).run(&data);
        assert!(matches!(stopped, Err(Error::Interrupted { step: 3, .. })), "{name}");
        let resumed = Fit::resume(Checkpoint::read(&checkpoint).unwrap());
        let (resumed, _) = resumed.run(&data).unwrap();
        assert!(saved(&resumed) == whole, "{name}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (alone, _) = pool.install(|| Fit::new(spec()).run(&data)).unwrap();
        assert!(saved(&alone) == whole, "{name}");
        let spec = FitSpec { standardize: true, ..spec() };
        let message = Fit::new(spec).run(&data).err().unwrap().to_string();
        assert!(message.contains("standardize"), "{message}");

        // Without its network, or with another one, a model file is refused; nothing else is read.
        let mut archive = crate::persist::Archive::from_bytes(&whole).unwrap();
        let file = archive.bytes("network.file").unwrap();
        assert_eq!(file, std::fs::read(&ground.path).unwrap());
        for other in [None, Some([&file[..], b" "].concat()), Some(Vec::new())] {
            archive.remove("network.file");
            if let Some(other) = &other {
                archive.put_bytes("network.file", other).unwrap();
            }
            let bytes = archive.to_bytes().unwrap();
            assert!(matches!(Model::from_bytes(&bytes), Err(Error::ModelFile { .. })), "{name}");
        }
    }
}

#[test]
fn texts_round_trip_and_bad_ones_say_what_is_wrong() {
    let ground = trained(TRUNK, 64, 3);
    for (name, rest) in [
        ("heads", ", layers=[conv1, conv2], hidden=[8, 4]"),
        ("shared_heads", ""),
        ("tangents", ", directions=20"),
    ] {
        let spec: NetworkSpec = text(name, &ground.path, TRUNK, rest).parse().unwrap();
        let full = spec.to_string();
        assert!(full.contains("checksum=") && !full.contains("checksum=auto"), "{full}");
        let again: NetworkSpec = full.parse().unwrap();
        assert_eq!((again.to_string(), &again), (full, &spec));
        for c in [1, 3] {
            if (name, c) == ("tangents", 1) {
                continue;
            }
            let (size, network) = (spec.size(64, 4, c), spec.build(64, 4, c, 0).unwrap());
            assert_eq!(size.hidden, network.hidden_width() as u64, "{name}");
            assert_eq!(size.parameters, network.parameters().len() as u64, "{name}");
        }
    }
    let message = |name: &str, rest: &str, inputs: usize, k: usize, c: usize| {
        let text = text(name, &ground.path, TRUNK, rest);
        build(&text, inputs, k, c).err().map_or_else(String::new, |e| e.to_string())
    };
    assert!(message("heads", ", layers=[conv3]", 64, 2, 1).contains("did you mean `conv"));
    assert!(message("heads", ", layers=[head]", 64, 2, 1).contains("head"));
    assert!(message("heads", ", layers=[]", 64, 2, 1).contains("list of names"));
    assert!(message("heads", ", layers=conv1", 64, 2, 1).contains("list of names"));
    assert!(message("heads", ", order=hwc", 64, 2, 1).contains("order"));
    assert!(message("heads", "", 50, 2, 1).contains("image"));
    assert!(message("heads", "", 64, 0, 1).contains("functions"));
    assert!(message("tangents", "", 64, 2, 2).contains("outputs: expected 3"));
    assert!(message("tangents", ", directions=3", 64, 4, 3).contains("directions: expected"));
    assert!(message("tangents", ", directions=all", 64, 4, 3).contains("auto"));
    assert!(message("tangents", "", 64, 0, 3).contains("directions"));
    let mut few = build(&text("tangents", &ground.path, TRUNK, ""), 64, 4, 3).unwrap();
    let start = few.data_dependent_init().unwrap();
    assert!(start.init_from_data(draw(4, 64, 0).view()).is_err());
    // Files that are not what they should be.
    for (of, error) in [("no.safetensors", "no.safetensors"), ("no.onnx", "no.onnx")] {
        let text = format!("heads(of={of}, network={TRUNK})");
        assert!(build(&text, 64, 2, 1).err().unwrap().to_string().contains(error));
    }
    let onnx = format!("heads(of=\"{}\")", ground.path.display());
    assert!(build(&onnx, 64, 2, 1).is_err(), "safetensors are no ONNX file");
    let other = text("heads", &ground.path, "shared_convnet(channels=[4, 7], kernel=3)", "");
    assert!(build(&other, 64, 2, 1).err().unwrap().to_string().contains("shape"));
    let nested = format!("heads(of=\"{}\")", ground.path.display());
    let nested = text("heads", &ground.path, &nested, "");
    assert!(build(&nested, 64, 2, 1).err().unwrap().to_string().contains("no file itself"));
    // Neither heads nor a trunk are drawn to find that they are too large.
    let wide = text("heads", &ground.path, TRUNK, ", hidden=[65536, 65536, 65536]");
    let wide: NetworkSpec = wide.parse().unwrap();
    assert!(wide.size(64, 4, 1).parameters > 4 << 33);
    let wide = text("heads", &ground.path, "shared_mlp(hidden=[65536, 16000])", "");
    assert!(build(&wide, 64, 2, 1).err().unwrap().to_string().contains("bytes, for a network"));
    let several = text("heads", &ground.path, "no_such_network", "");
    assert!(build(&several, 64, 2, 1).err().unwrap().to_string().contains("network"));
}
