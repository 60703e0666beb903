//! Graphs made by hand: each operator against its definition, and what is refused.

use super::*;
use crate::nn::activation::Activation;
use crate::nn::onnx::proto;

pub(super) fn number(name: &str, i: i64) -> proto::Attribute {
    proto::Attribute { name: name.into(), i, kind: 2, ..Default::default() }
}

pub(super) fn float(name: &str, f: f32) -> proto::Attribute {
    proto::Attribute { name: name.into(), f, kind: 1, ..Default::default() }
}

pub(super) fn list(name: &str, ints: &[i64]) -> proto::Attribute {
    proto::Attribute { name: name.into(), ints: ints.to_vec(), kind: 7, ..Default::default() }
}

fn word(name: &str, s: &str) -> proto::Attribute {
    let s = Bytes::from(s.to_string());
    proto::Attribute { name: name.into(), s, kind: 3, ..Default::default() }
}

pub(super) fn node(
    op: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[proto::Attribute],
) -> proto::Node {
    proto::Node {
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        name: format!("the_{output}"),
        op_type: op.into(),
        attribute: attributes.iter().map(|a| a.encode_to_vec().into()).collect(),
        domain: String::new(),
    }
}

pub(super) fn floats(name: &str, dims: &[i64], values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        name: name.into(),
        ..Default::default()
    }
}

pub(super) fn integers(name: &str, values: &[i64]) -> proto::Tensor {
    proto::Tensor {
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        name: name.into(),
        ..Default::default()
    }
}

pub(super) fn input(dims: &[i64]) -> proto::ValueInfo {
    // A negative size is a variable.
    let dim = dims.iter().map(|d| proto::Dimension { dim_value: (*d >= 0).then_some(*d) });
    let shape = Some(proto::Shape { dim: dim.collect() });
    let tensor = Some(proto::TensorType { elem_type: 1, shape });
    proto::ValueInfo { name: "x".into(), kind: Some(proto::Type { tensor }) }
}

/// A file with input x and output y.
pub(super) fn file(dims: &[i64], tensors: &[proto::Tensor], nodes: &[proto::Node]) -> Vec<u8> {
    let y = proto::ValueInfo { name: "y".into(), kind: None };
    let graph = proto::Graph {
        node: nodes.iter().map(|n| n.encode_to_vec().into()).collect(),
        initializer: tensors.iter().map(|t| t.encode_to_vec().into()).collect(),
        input: vec![input(dims).encode_to_vec().into()],
        output: vec![y.encode_to_vec().into()],
    };
    let opset = proto::Opset { domain: String::new(), version: 20 };
    let model = proto::Model { graph: graph.encode_to_vec().into(), opset_import: vec![opset] };
    model.encode_to_vec()
}

/// Outputs at the rows of `x`, without a tape and with one.
fn values(bytes: &[u8], x: &[f32]) -> Vec<f32> {
    let mut network = build(bytes).unwrap();
    network.freeze(true);
    let x = Mat::from_shape_vec((x.len() / network.inputs(), network.inputs()), x.to_vec());
    let x = x.unwrap();
    let out = network.forward(x.view(), None).unwrap();
    let taped = network.forward(x.view(), Some(&mut Tape::default())).unwrap();
    for (a, b) in out.iter().zip(&taped) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }
    out.iter().copied().collect()
}

fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() < 1e-6 * (1.0 + b.abs()), "{got:?} is not {expected:?}");
    }
}

#[test]
fn dense_layers_take_factors_and_either_layout() {
    let w = floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let turned = floats("w", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let b = floats("b", &[1, 3], &[10.0, 20.0, 30.0]);
    let x = [1.0, -1.0];
    let gemm = |attributes: &[proto::Attribute], tensors: &[proto::Tensor]| {
        values(&file(&[-1, 2], tensors, &[node("Gemm", &["x", "w", "b"], "y", attributes)]), &x)
    };
    close(&gemm(&[], &[w.clone(), b.clone()]), &[7.0, 17.0, 27.0]);
    let factors = [float("alpha", 2.0), float("beta", 0.5), number("transB", 1)];
    close(&gemm(&factors, &[turned, b.clone()]), &[-1.0, 4.0, 9.0]);
    let one = floats("b", &[], &[1.5]);
    close(&gemm(&[], &[w.clone(), one]), &[-1.5, -1.5, -1.5]);
    let product = node("MatMul", &["x", "w"], "p", &[]);
    let add = node("Add", &["b", "p"], "y", &[]);
    close(&values(&file(&[-1, 2], &[w, b], &[product, add]), &x), &[7.0, 17.0, 27.0]);
}

#[test]
fn numbers_of_every_type_are_read() {
    let values: [f32; 2] = [0.5, -3.0];
    let raw = |bytes: Vec<u8>, data_type| proto::Tensor {
        raw_data: Some(bytes.into()),
        float_data: Vec::new(),
        data_type,
        ..floats("w", &[2, 1], &[])
    };
    let half = |v: f32| half::f16::from_f32(v).to_bits();
    let brain = |v: f32| half::bf16::from_f32(v).to_bits();
    let bits = |of: &dyn Fn(f32) -> u16, data_type| proto::Tensor {
        int32_data: values.iter().map(|v| of(*v).into()).collect(),
        data_type,
        ..floats("w", &[2, 1], &[])
    };
    for w in [
        floats("w", &[2, 1], &values),
        raw(values.iter().flat_map(|v| v.to_le_bytes()).collect(), 1),
        raw(values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(), 11),
        proto::Tensor {
            double_data: values.map(f64::from).to_vec(),
            data_type: 11,
            ..floats("w", &[2, 1], &[])
        },
        raw(values.iter().flat_map(|v| half(*v).to_le_bytes()).collect(), 10),
        bits(&half, 10),
        raw(values.iter().flat_map(|v| brain(*v).to_le_bytes()).collect(), 16),
        bits(&brain, 16),
    ] {
        let bytes = file(&[-1, 2], &[w], &[node("MatMul", &["x", "w"], "y", &[])]);
        close(&super::by_hand::values(&bytes, &[1.0, 2.0, 4.0, 0.0]), &[-5.5, 2.0]);
    }
}

#[test]
fn pools_and_means_are_over_pixels() {
    let x: Vec<f32> = (0..12).map(|v| (v * 5 % 12) as f32).collect();
    let first = [x[0], x[1], x[2], x[3], x[4], x[5]];
    let flat = |inner: proto::Node| {
        file(
            &[-1, 2, 2, 3],
            &[integers("axes", &[-1, 2])],
            &[inner, node("Flatten", &["p"], "y", &[])],
        )
    };
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    let largest = |v: &[f32]| v.iter().copied().fold(f32::MIN, f32::max);
    let means = [mean(&first), mean(&x[6..])];
    close(&values(&flat(node("GlobalAveragePool", &["x"], "p", &[])), &x), &means);
    close(&values(&flat(node("ReduceMean", &["x", "axes"], "p", &[])), &x), &means);
    let old = node("ReduceMean", &["x"], "y", &[list("axes", &[2, 3]), number("keepdims", 0)]);
    close(&values(&file(&[-1, 2, 2, 3], &[], &[old]), &x), &means);
    let most = [largest(&first), largest(&x[6..])];
    close(&values(&flat(node("GlobalMaxPool", &["x"], "p", &[])), &x), &most);
    // Windows of 2 × 2 with a stride of 1, 3: the first two columns. Rounding up changes nothing.
    let sides = [list("kernel_shape", &[2, 2]), list("strides", &[1, 3]), number("ceil_mode", 0)];
    let corners = |c: usize| [x[6 * c], x[6 * c + 1], x[6 * c + 3], x[6 * c + 4]];
    let pooled = [mean(&corners(0)), mean(&corners(1))];
    close(&values(&flat(node("AveragePool", &["x"], "p", &sides)), &x), &pooled);
    // With a border of one pixel the window of 2 × 3 at the corner has two pixels of the image.
    let border = |counted: i64| {
        [
            list("kernel_shape", &[2, 3]),
            list("strides", &[3, 3]),
            list("pads", &[1, 1, 1, 1]),
            number("count_include_pad", counted),
        ]
    };
    let corners = [&x[..2], &x[6..8]];
    let pooled = |of: &dyn Fn(&[f32]) -> f32| corners.map(of);
    let counted = |v: &[f32]| v.iter().sum::<f32>() / 6.0;
    let bytes = |op: &str, counted: i64| flat(node(op, &["x"], "p", &border(counted)));
    close(&values(&bytes("AveragePool", 0), &x), &pooled(&mean));
    close(&values(&bytes("AveragePool", 1), &x), &pooled(&counted));
    let mut most = border(0).to_vec();
    most.pop();
    close(&values(&flat(node("MaxPool", &["x"], "p", &most)), &x), &pooled(&largest));
}

#[test]
fn convolutions_with_implied_padding_have_the_size_of_their_input() {
    // A kernel of one in the middle moves nothing, whatever is around.
    let w = floats("w", &[1, 1, 3, 1], &[0.0, 2.0, 0.0]);
    let b = floats("b", &[1, 1, 1], &[0.5]);
    let x = [1.0, -2.0, 3.0, -4.0];
    for pads in [word("auto_pad", "SAME_UPPER"), list("pads", &[1, 0, 1, 0])] {
        let nodes = [
            node("Conv", &["x", "w"], "c", &[pads, number("group", 1)]),
            node("Add", &["c", "b"], "d", &[]),
            node("Flatten", &["d"], "e", &[number("axis", -3)]),
            node("MatMul", &["e", "i"], "y", &[]),
        ];
        let eye =
            floats("i", &[4, 4], &std::array::from_fn::<f32, 16, _>(|i| f32::from(i % 5 == 0)));
        let bytes = file(&[-1, 1, 2, 2], &[w.clone(), b.clone(), eye], &nodes);
        close(&values(&bytes, &x), &x.map(|v| 2.0 * v + 0.5));
    }
}

#[test]
fn a_value_is_read_with_and_without_its_activation() {
    // relu(x) + x, with the input and with a layer that three nodes read; and x + x.
    let eye = floats("i", &[2, 2], &[1.0, 0.0, 0.0, 1.0]);
    let x = [1.5, -2.0];
    let nodes = [node("Relu", &["x"], "r", &[]), node("Add", &["r", "x"], "y", &[])];
    close(&values(&file(&[-1, 2], &[], &nodes), &x), &[3.0, -2.0]);
    let nodes = [
        node("MatMul", &["x", "i"], "m", &[]),
        node("Identity", &["m"], "n", &[]),
        node("Relu", &["n"], "r", &[]),
        node("Relu", &["r"], "s", &[]),
        node("Add", &["s", "m"], "t", &[]),
        node("Add", &["t", "t"], "y", &[]),
    ];
    close(&values(&file(&[-1, 2], &[eye], &nodes), &x), &[6.0, -4.0]);
}

#[test]
fn activations_in_parts_are_whole() {
    let half = floats("half", &[], &[0.5]);
    let (one, root) = (floats("one", &[1], &[1.0]), floats("root", &[], &[2f32.sqrt()]));
    let inverse = floats("inverse", &[], &[0.5f32.sqrt()]);
    let tensors = [half, one, root, inverse];
    let start = || {
        vec![
            node("Div", &["x", "root"], "s", &[]),
            node("Erf", &["s"], "e", &[]),
            node("Add", &["one", "e"], "d", &[]),
        ]
    };
    let mut forms = vec![start(), start(), start()];
    forms[0].push(node("Mul", &["x", "d"], "t", &[]));
    forms[0].push(node("Mul", &["half", "t"], "y", &[]));
    forms[1].push(node("Mul", &["d", "half"], "n", &[]));
    forms[1].push(node("Mul", &["n", "x"], "y", &[]));
    forms[2][0] = node("Mul", &["inverse", "x"], "s", &[]);
    forms[2].push(node("Mul", &["x", "half"], "h", &[]));
    forms[2].push(node("Mul", &["d", "h"], "y", &[]));
    let x: Vec<f32> = (-8..8).map(|v| v as f32 * 0.4).collect();
    let reference = |activation| {
        let of = |v: &f32| crate::nn::activation::tests::reference(activation, (*v).into(), true);
        x.iter().map(|v| of(v) as f32).collect::<Vec<_>>()
    };
    for nodes in &forms {
        let got = values(&file(&[-1, 1], &tensors, nodes), &x);
        close(&got, &reference(Activation::Gelu));
    }
    let silu = [node("Sigmoid", &["x"], "s", &[]), node("Mul", &["s", "x"], "y", &[])];
    close(&values(&file(&[-1, 1], &[], &silu), &x), &reference(Activation::Silu));
    let swish = [node("Swish", &["x"], "y", &[])];
    close(&values(&file(&[-1, 1], &[], &swish), &x), &reference(Activation::Silu));
}

#[test]
fn equal_statistics_may_be_shared_and_weights_may_not() {
    let (ones, zeros) = (floats("ones", &[1], &[1.0]), floats("zeros", &[1], &[0.0]));
    let norm = |x: &str, y: &str| {
        let inputs = [x, "ones", "zeros", "zeros", "ones"];
        node("BatchNormalization", &inputs, y, &[float("epsilon", 1e-3)])
    };
    let two = [norm("x", "a"), norm("a", "y")];
    let got = values(&file(&[-1, 1], &[ones, zeros], &two), &[3.0]);
    close(&got, &[3.0 / 1.001]);
    let w = floats("w", &[1, 1], &[2.0]);
    let two = [node("MatMul", &["x", "w"], "a", &[]), node("MatMul", &["a", "w"], "y", &[])];
    let message = open(&file(&[-1, 1], &[w], &two)).unwrap_err().to_string();
    assert!(message.contains("those of node `the_a` too"), "{message}");
}

#[test]
fn slices_and_pads_make_one_shortcut() {
    let tensors = [
        integers("zero", &[0]),
        integers("end", &[i64::MAX]),
        integers("two", &[2]),
        integers("three", &[3]),
        integers("pads", &[0, 1, 0, 0, 0, 2, 0, 0]),
    ];
    let nodes = [
        node("Slice", &["x", "zero", "end", "two", "two"], "a", &[]),
        node("Slice", &["a", "zero", "end", "three", "two"], "b", &[]),
        node("Pad", &["b", "pads"], "c", &[word("mode", "constant")]),
        node("GlobalMaxPool", &["c"], "y", &[]),
    ];
    let bytes = file(&[-1, 1, 3, 3], &tensors, &nodes);
    let network = open(&bytes).unwrap();
    assert_eq!(network.graph.nodes.len(), 2);
    // The largest of the corners among zeros: −1 is below.
    let x = [-4.0, 9.0, -1.0, 9.0, 9.0, 9.0, -3.0, 9.0, -2.0];
    close(&values(&bytes, &x), &[0.0, -1.0, 0.0, 0.0]);
}

#[test]
fn what_no_layer_computes_is_refused_by_name() {
    let conv = |attributes: &[proto::Attribute]| {
        let w = floats("w", &[1, 1, 2, 2], &[1.0; 4]);
        let nodes = [
            node("Conv", &["x", "w"], "c", attributes),
            node("GlobalAveragePool", &["c"], "y", &[]),
        ];
        file(&[-1, 1, 4, 4], &[w], &nodes)
    };
    let pool = |op: &str, attributes: &[proto::Attribute]| {
        let mut attributes = attributes.to_vec();
        attributes.push(list("kernel_shape", &[3, 3]));
        let nodes =
            [node(op, &["x"], "p", &attributes), node("GlobalAveragePool", &["p"], "y", &[])];
        file(&[-1, 1, 4, 4], &[], &nodes)
    };
    let one = |op: &str, attributes: &[proto::Attribute]| {
        file(&[-1, 4], &[], &[node(op, &["x"], "y", attributes)])
    };
    let odd = proto::Node { domain: "com.example".into(), ..node("Relu", &["x"], "y", &[]) };
    let pads = integers("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
    let padded = [node("Pad", &["x", "pads"], "p", &[]), node("GlobalMaxPool", &["p"], "y", &[])];
    let shape = integers("shape", &[2, -1]);
    for (bytes, name, operator, attribute) in [
        (one("Softmax", &[]), "the_y", "Softmax", None),
        (file(&[-1, 4], &[], &[odd]), "the_y", "com.example.Relu", None),
        (conv(&[list("dilations", &[2, 2])]), "the_c", "Conv", Some("dilations")),
        (conv(&[list("pads", &[0, 0, 1, 1])]), "the_c", "Conv", Some("pads")),
        (conv(&[list("pads", &[-1, 0, -1, 0])]), "the_c", "Conv", Some("pads")),
        (conv(&[list("strides", &[0, 1])]), "the_c", "Conv", None),
        (conv(&[word("auto_pad", "SAME_UPPER")]), "the_c", "Conv", Some("auto_pad")),
        (conv(&[number("novelty", 1)]), "the_c", "Conv", Some("novelty")),
        (conv(&[float("group", 1.0)]), "the_c", "Conv", Some("group")),
        (pool("MaxPool", &[list("pads", &[0, 0, 1, 1])]), "the_p", "MaxPool", Some("pads")),
        (pool("MaxPool", &[list("pads", &[2, 2, 2, 2])]), "the_p", "MaxPool", None),
        (
            pool("AveragePool", &[number("ceil_mode", 1), list("strides", &[2, 2])]),
            "the_p",
            "AveragePool",
            Some("ceil_mode"),
        ),
        (pool("LpPool", &[]), "the_p", "LpPool", None),
        (one("LeakyRelu", &[float("alpha", 0.2)]), "the_y", "LeakyRelu", Some("alpha")),
        (one("Gelu", &[word("approximate", "tanh")]), "the_y", "Gelu", Some("approximate")),
        (one("Sigmoid", &[]), "the_y", "Sigmoid", None),
        (one("GlobalAveragePool", &[]), "the_y", "GlobalAveragePool", None),
        (file(&[-1, 1, 2, 2], &[pads], &padded), "the_p", "Pad", None),
        (
            file(&[-1, 1, 2, 2], &[shape], &[node("Reshape", &["x", "shape"], "y", &[])]),
            "the_y",
            "Reshape",
            None,
        ),
    ] {
        match open(&bytes) {
            Err(Error::UnsupportedNode { node, operator: op, attribute: at, .. }) => {
                assert_eq!((&*node, &*op, at.as_deref()), (name, operator, attribute));
            }
            other => panic!("{operator} {attribute:?}: {other:?}"),
        }
    }
    let message = open(&conv(&[list("dilations", &[2, 2])])).unwrap_err().to_string();
    let whole = "net.onnx: node `the_c` (Conv) is not supported: attribute `dilations`: only 1 is";
    assert_eq!(message, whole);
    // What the output does not depend on does not matter.
    let beside = [node("Softmax", &["x"], "s", &[]), node("Relu", &["x"], "y", &[])];
    assert!(open(&file(&[-1, 4], &[], &beside)).is_ok());
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let relu = || node("Relu", &["x"], "y", &[]);
    let w = |dims: &[i64], n: usize| floats("w", dims, &vec![1.0; n]);
    let product = || node("MatMul", &["x", "w"], "y", &[]);
    let conv = || [node("Conv", &["x", "w"], "c", &[]), node("Flatten", &["c"], "y", &[])];
    let elsewhere = proto::Tensor { data_location: 1, ..w(&[2, 2], 4) };
    for (bytes, part) in [
        (file(&[-1, 3], &[w(&[2, 2], 4)], &[product()]), "expected weights for 3 inputs"),
        (file(&[-1, 2], &[w(&[2, 2], 3)], &[product()]), "of 4 numbers, found 3"),
        (file(&[-1, 2], &[w(&[2, -2], 4)], &[product()]), "shape [2, -2] is none"),
        (file(&[-1, 2], &[w(&[i64::MAX, 4], 4)], &[product()]), "is none"),
        (file(&[-1, 2], &[w(&[2, 0], 0)], &[product()]), "no weights"),
        (file(&[-1, 2], &[elsewhere], &[product()]), "in another file"),
        (file(&[-1, 2], &[floats("w", &[2, 1], &[1.0, f32::NAN])], &[product()]), "is NaN"),
        (file(&[-1, 2], &[], &[product()]), "reads `w`, which nothing before it computes"),
        (file(&[-1, 2], &[], &[node("Relu", &["z"], "y", &[])]), "reads `z`"),
        (file(&[-1, 2], &[], &[node("Relu", &["y"], "y", &[])]), "reads `y`"),
        (file(&[-1, 2], &[], &[relu(), relu()]), "two nodes compute `y`"),
        (file(&[-1, 2], &[], &[node("Relu", &[], "y", &[])]), "input 0 is missing"),
        (file(&[-1, 2], &[], &[]), "no layer computes the output"),
        (file(&[-1, 2], &[], &[node("Identity", &["x"], "y", &[])]), "no layer computes"),
        (file(&[-1, -1], &[], &[relu()]), "fixed but for the batch"),
        (file(&[-1, 2, 2], &[], &[relu()]), "got [?, 2, 2]"),
        (file(&[-1, 3, 1 << 40, 2], &[], &[relu()]), "beyond memory"),
        (file(&[-1, 1 << 12, 1 << 12, 1 << 12], &[], &[relu()]), "beyond memory"),
        (file(&[-1, 1, 2, 2], &[], &[relu()]), "networks end in a vector"),
        (file(&[-1, 1, 2, 2], &[w(&[1, 3, 1, 1], 3)], &conv()), "expected weights for 1 channels"),
        (file(&[-1, 1, 2, 2], &[w(&[1, 1, 3, 3], 9)], &conv()), "at most the padded image, 2"),
        (file(&[-1, 1, 2, 2], &[w(&[1, 1, 3], 3)], &conv()), "two spatial dimensions"),
        (Vec::new(), "names no set of operators"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "not an ONNX file"),
    ] {
        let message = open(&bytes).unwrap_err().to_string();
        assert!(message.contains(part), "{message}\nhas no {part:?}");
    }
}
