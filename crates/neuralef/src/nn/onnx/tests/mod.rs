//! Files of PyTorch's exporter against PyTorch, graphs made by hand, and files that are damaged.

use prost::Message as _;
use prost::bytes::Bytes;

use super::*;
use crate::matrix::Mat;
use crate::nn::{NetworkSpec, Tape};

mod by_hand;
mod hostile;

const FILES: [(&str, &[u8]); 3] = [
    ("resnet_folded.onnx", include_bytes!("../../goldens/resnet_folded.onnx")),
    ("resnet.onnx", include_bytes!("../../goldens/resnet.onnx")),
    ("layers.onnx", include_bytes!("../../goldens/layers.onnx")),
];

fn open(bytes: &[u8]) -> Result<Arc<Converted>> {
    let onnx = Onnx::of(NetworkFile::at(Path::new("net.onnx")), Order::Chw);
    onnx.source.keep(bytes.to_vec())?;
    onnx.content()
}

/// One network of the file.
fn build(bytes: &[u8]) -> Result<Box<dyn Network>> {
    let onnx = Onnx::of(NetworkFile::at(Path::new("net.onnx")), Order::Chw);
    onnx.source.keep(bytes.to_vec())?;
    onnx.single()
}

/// ‖a − b‖/‖b‖.
fn distance(a: &Mat, b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let apart: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (apart / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn golden() -> Vec<(&'static [u8], Mat, Vec<f64>)> {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../goldens/onnx.json")).unwrap();
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let case = |case: &serde_json::Value| {
        let bytes = FILES.iter().find(|(name, _)| case["file"] == *name).unwrap().1;
        let x: Vec<f32> = numbers(&case["x"]).iter().map(|v| *v as f32).collect();
        let rows = case["shape"][0].as_u64().unwrap() as usize;
        let x = Mat::from_shape_vec((rows, x.len() / rows), x).unwrap();
        (bytes, x, numbers(&case["y"]))
    };
    golden["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn exported_networks_give_the_outputs_of_pytorch() {
    let cases = golden();
    assert_eq!(cases.len(), FILES.len());
    for (i, (bytes, x, y)) in cases.into_iter().enumerate() {
        let mut network = build(bytes).unwrap();
        network.freeze(true);
        let error = distance(&network.forward(x.view(), None).unwrap(), &y);
        assert!(error < 2e-6, "file {i} is off by {error:.1e}");
        let taped = network.forward(x.view(), Some(&mut Tape::default())).unwrap();
        let error = distance(&taped, &y);
        assert!(error < 2e-6, "file {i} under a tape is off by {error:.1e}");
    }
}

#[test]
fn derivatives_of_exported_networks_are_adjoint_and_agree_with_differences() {
    for (i, (bytes, x, _)) in golden().into_iter().enumerate() {
        let mut network = build(bytes).unwrap();
        network.freeze(true);
        let mut tape = Tape::default();
        let y = network.forward(x.view(), Some(&mut tape)).unwrap();
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, y.view(), &mut gradient).unwrap();
        // Along the gradient of ½‖y‖² itself: every parameter takes part.
        let along = network.jvp(x.view(), &gradient).unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let slope = dot(&gradient.units()[0], &gradient.units()[0]);
        let left = dot(along.as_slice().unwrap(), y.as_slice().unwrap());
        assert!((left / slope - 1.0).abs() < 1e-5, "file {i}: {left} is not {slope}");
        // The step changes ½‖y‖² by 2 %: its curvature cancels, third derivatives are 10⁻⁴ of that.
        let step = 0.01 * dot(y.as_slice().unwrap(), y.as_slice().unwrap()) / slope;
        let start = network.parameters().units()[0].clone();
        let mut at = |step: f64| {
            let moved = start.iter().zip(&gradient.units()[0]).map(|(w, g)| w + step as f32 * g);
            network.parameters_mut().units_mut()[0] = moved.collect();
            let y = network.forward(x.view(), None).unwrap();
            0.5 * dot(y.as_slice().unwrap(), y.as_slice().unwrap())
        };
        let found = (at(step) - at(-step)) / (2.0 * step);
        assert!((found / slope - 1.0).abs() < 1e-2, "file {i}: {found} is not {slope}");
    }
}

#[test]
fn layers_have_the_names_of_pytorch() {
    let names = |bytes: &[u8]| -> Vec<String> {
        let network = build(bytes).unwrap();
        network.parameters().tensors().map(|(_, tensor, _)| tensor.name.clone()).collect()
    };
    let kept = names(FILES[1].1);
    for name in [
        "conv1.weight",
        "bn1.bias",
        "layer1.0.conv2.weight",
        "layer3.0.shortcut.1.weight",
        "linear.bias",
        "layer2.0.bn1.running_var",
    ] {
        assert!(kept.iter().any(|n| n == name), "{name} is not in {kept:?}");
    }
    // Each module has its tensors once: 10 convolutions and norms with statistics, 1 dense layer.
    assert_eq!(kept.len(), 8 + 4 * 8 + 2);
    let folded = names(FILES[0].1);
    assert!(folded.contains(&"layer2.0.conv1.weight".into()), "{folded:?}");
    assert!(folded.contains(&"layer3.0.shortcut.shortcut.0.bias".into()), "{folded:?}");
}

#[test]
fn a_file_is_an_architecture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a net.onnx");
    std::fs::write(&path, FILES[1].1).unwrap();
    let text = format!("onnx(file=\"{}\")", path.display());
    let spec: NetworkSpec = text.parse().unwrap();
    // The text names the file and what is in it.
    let again: NetworkSpec = spec.to_string().parse().unwrap();
    assert_eq!(again, spec);
    assert!(spec.to_string().contains("checksum="), "{spec}");

    let (_, x, y) = golden().remove(1);
    let copies = spec.build(192, 3, 5, 0).unwrap();
    assert_eq!((copies.functions(), copies.outputs()), (3, 5));
    let values = copies.forward(x.view(), None).unwrap();
    for row in values.rows() {
        let row = row.to_vec();
        assert!(row[..5] == row[5..10] && row[..5] == row[10..]);
    }
    let shared: NetworkSpec = format!("shared_{text}").parse().unwrap();
    let network = shared.build(192, 5, 1, 0).unwrap();
    assert_eq!((network.functions(), network.outputs()), (5, 1));
    let values = network.forward(x.view(), None).unwrap();
    assert!(distance(&values, &y) < 2e-6);
    let read = read_onnx(&path).unwrap();
    assert_eq!((read.functions(), read.outputs()), (1, 5));
    assert_eq!(read.forward(x.view(), None).unwrap(), values);

    for (spec, functions, outputs) in [(&spec, 3, 5), (&shared, 5, 1)] {
        let (size, network) =
            (spec.size(192, functions, outputs), spec.build(192, functions, outputs, 7).unwrap());
        assert_eq!(size.parameters, network.parameters().len() as u64);
        assert_eq!(size.hidden, network.hidden_width() as u64);
        assert_eq!(network.hidden(x.view()).unwrap().ncols() as u64, size.hidden);
    }

    // Rows pixel by pixel are the same images.
    let hwc: NetworkSpec = format!("onnx(file=\"{}\", order=hwc)", path.display()).parse().unwrap();
    let turned = Mat::from_shape_fn(x.dim(), |(i, j)| x[[i, j % 3 * 64 + j / 3]]);
    let turned = hwc.build(192, 1, 5, 0).unwrap().forward(turned.view(), None).unwrap();
    assert_eq!(turned, values);

    let message = |result: Result<Box<dyn Network>>| result.err().unwrap().to_string();
    assert!(message(spec.build(192, 1, 4, 0)).contains("outputs: expected 5"));
    assert!(message(shared.build(192, 2, 2, 0)).contains("functions × outputs: expected 5"));
    assert!(message(spec.build(191, 1, 5, 0)).contains("3 × 8 × 8"));
    assert!(message(spec.build(192, 0, 5, 0)).contains("functions"));
    assert!(message(spec.build(192, usize::MAX, 5, 0)).contains("functions"));

    // Another file under the name is not taken for this one. A file is read when it is needed.
    let build = |text: &str| text.parse::<NetworkSpec>().unwrap().build(192, 1, 5, 0);
    let text_then = spec.to_string();
    std::fs::write(&path, FILES[0].1).unwrap();
    let other = message(build(&text_then));
    assert!(other.contains("not the one that was meant"), "{other}");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(build(&text), Err(Error::Io { .. })));
    // What was read stays; and a model file may keep it.
    assert_eq!(spec.to_string(), text_then);
    let kept: NetworkSpec = text_then.parse().unwrap();
    assert!(kept.keep(FILES[0].1.to_vec()).is_err());
    kept.keep(FILES[1].1.to_vec()).unwrap();
    assert_eq!(kept.build(192, 1, 5, 0).unwrap().forward(x.view(), None).unwrap(), values);
    assert_eq!(kept.file().unwrap().unwrap()[..], FILES[1].1[..]);
    let folder = format!("onnx(file=\"{}\")", folder.path().display());
    assert!(matches!(build(&folder), Err(Error::Data { .. })));
    let message = "onnx".parse::<NetworkSpec>().unwrap_err().to_string();
    assert!(message.contains("`file` must be the path of a file"), "{message}");
}
