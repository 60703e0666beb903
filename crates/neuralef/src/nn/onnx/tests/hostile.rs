//! Files that are damaged or made to harm: errors, never panics, and nothing beyond their size.

use proptest::prelude::*;

use super::by_hand::{file, float, floats, integers, list, node, number};
use super::*;

/// Reads the bytes; a network that comes of them is run on one point.
fn try_out(bytes: &[u8]) {
    let Ok(network) = open(bytes) else { return };
    let inputs = network.graph.input.len();
    let stored: usize = network.weights.values().map(Vec::len).sum();
    // Weights are numbers of the file, of two bytes at least, or repeat them (statistics).
    assert!(network.graph.size(1, 1).parameters <= stored as u64);
    if inputs > 4096 || network.graph.activations() > 1 << 18 {
        return;
    }
    let network = build(bytes).unwrap();
    let x = Mat::from_elem((2, inputs), 0.5);
    let mut tape = Tape::default();
    if let Ok(y) = network.forward(x.view(), Some(&mut tape)) {
        let mut gradient = network.parameters().zeros_like();
        network.vjp(&tape, y.view(), &mut gradient).unwrap();
        let _ = network.jvp(x.view(), &gradient);
        let _ = network.hidden(x.view());
    }
}

proptest! {
    #[test]
    fn prop_damaged_files_never_panic(
        which in 0..FILES.len(),
        damage in prop::collection::vec((0f64..1.0, any::<u8>()), 1..6),
        // Most of a file is weights: its ends have the graph.
        near in 0f64..1.0,
        cut in prop::option::of(0f64..1.0),
    ) {
        let mut bytes = FILES[which].1.to_vec();
        for (at, value) in damage {
            let at = if value % 2 == 0 { at } else { (near + at / 50.0).fract() };
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        try_out(&bytes);
    }

    #[test]
    fn prop_odd_graphs_never_panic(
        dims in prop_oneof![
            4 => Just(vec![-1, 1, 4, 4]),
            2 => Just(vec![-1, 4]),
            1 => prop::collection::vec(prop_oneof![Just(-1), 0i64..6, Just(i64::MAX)], 1..5),
        ],
        given in prop::collection::vec(
            (0..OPERATORS.len(), prop::collection::vec(0usize..12, 0..5), 0usize..24, 0usize..24),
            1..10,
        ),
        extreme in any::<i64>(),
    ) {
        let names = ["x", "w", "v", "b", "i", "j", "h", "y0", "y1", "y2", "y3", ""];
        let mut nodes = Vec::new();
        let attributes = ATTRIBUTES.iter().flat_map(|name| {
            let sizes = [extreme.rem_euclid(3), extreme.rem_euclid(4)];
            [
                number(name, extreme.rem_euclid(3)),
                number(name, extreme),
                list(name, &sizes),
                list(name, &[1, 1, 1, 1]),
                list(name, &[extreme, extreme]),
                float(name, 0.01),
            ]
        });
        let attributes: Vec<_> = attributes.collect();
        let count = given.len();
        for (i, (operator, inputs, first, second)) in given.into_iter().enumerate() {
            // Mostly a chain, with odd turns.
            let before = if i == 0 { "x".to_string() } else { format!("y{}", i - 1) };
            let mut inputs: Vec<&str> = inputs.into_iter().map(|j| names[j]).collect();
            if let Some(first) = inputs.first_mut().filter(|_| i % 5 != 4) {
                *first = &before;
            }
            let output = if i + 1 == count { "y".to_string() } else { format!("y{i}") };
            let all: Vec<_> = [first * 7, second * 5 + 1]
                .into_iter()
                .filter(|at| at % 3 != 0)
                .map(|at| attributes[at % attributes.len()].clone())
                .collect();
            nodes.push(node(OPERATORS[operator], &inputs, &output, &all));
        }
        let tensors = [
            floats("w", &[2, 1, 2, 2], &[0.5; 8]),
            floats("v", &[4, 3], &[0.25; 12]),
            floats("b", &[2], &[0.5; 2]),
            floats("h", &[], &[0.5]),
            integers("i", &[0, -1]),
            integers("j", &[extreme]),
        ];
        try_out(&file(&dims, &tensors, &nodes));
    }

    #[test]
    fn prop_arithmetic_on_shapes_never_panics(
        steps in prop::collection::vec((0usize..12, 0usize..9, 0usize..9, any::<i64>()), 1..12),
    ) {
        const SIZES: [&str; 12] = [
            "Add", "Cast", "Concat", "ConstantOfShape", "Div", "Gather", "Mul", "Reshape", "Slice",
            "Squeeze", "Sub", "Transpose",
        ];
        let mut names = vec!["a".to_string(), "b".into(), "c".into(), "d".into()];
        let mut nodes = vec![node("Shape", &["x"], "a", &[])];
        for (i, (operator, first, second, axis)) in steps.into_iter().enumerate() {
            let pick = |j: usize| names[j % names.len()].clone();
            let mut inputs = vec![pick(first), pick(second), pick(first + 1), pick(second + 1)];
            inputs.truncate(match SIZES[operator] {
                "Cast" | "ConstantOfShape" | "Transpose" => 1,
                "Slice" => 4,
                _ => 2,
            });
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let attributes = if SIZES[operator] == "Cast" { vec![number("to", 7)] } else { vec![] };
            let attributes = if operator == 2 { vec![number("axis", axis % 2)] } else { attributes };
            let output = format!("s{i}");
            nodes.push(node(SIZES[operator], &inputs, &output, &attributes));
            names.push(output);
        }
        let shape = names.last().unwrap().clone();
        nodes.push(node("Reshape", &["x", &shape], "y", &[]));
        let tensors = [
            integers("b", &[0, 1, -1, 2]),
            integers("c", &[i64::MIN]),
            integers("d", &[i64::MAX, 0]),
        ];
        try_out(&file(&[-1, 2, 2, 2], &tensors, &nodes));
    }
}

const OPERATORS: [&str; 26] = [
    "Conv",
    "Conv",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "LeakyRelu",
    "Tanh",
    "Erf",
    "Gelu",
    "Sigmoid",
    "Mul",
    "Div",
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalMaxPool",
    "GlobalAveragePool",
    "ReduceMean",
    "Flatten",
    "Reshape",
    "Slice",
    "Pad",
    "Identity",
    "Shape",
    "Constant",
];

const ATTRIBUTES: [&str; 12] = [
    "kernel_shape",
    "strides",
    "pads",
    "group",
    "axis",
    "axes",
    "transB",
    "epsilon",
    "alpha",
    "value_ints",
    "keepdims",
    "dilations",
];

#[test]
fn long_chains_of_equal_names_are_read_in_no_time() {
    let mut nodes: Vec<_> = (0..3000)
        .map(|i| {
            let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
            let mut relu = node("Relu", &[if i == 0 { "x" } else { &from }], &to, &[]);
            relu.name = "relu".into();
            relu
        })
        .collect();
    nodes.push(node("Tanh", &["v3000"], "y", &[]));
    let network = open(&file(&[-1, 1], &[], &nodes)).unwrap();
    assert_eq!(network.graph.nodes.len(), 3001);
    let nodes: Vec<_> = (0..20_000).map(|i| node("Relu", &["x"], &format!("v{i}"), &[])).collect();
    let message = open(&file(&[-1, 1], &[], &nodes)).unwrap_err().to_string();
    assert!(message.contains("20000 nodes"), "{message}");
}

/// Windows as large as the image, at every pixel: what is laid out grows with its sides alone.
#[test]
fn large_pools_are_laid_out_by_their_sides() {
    let attributes = |kernel: i64, pads: i64| {
        [
            list("kernel_shape", &[kernel; 2]),
            list("pads", &[pads; 4]),
            number("count_include_pad", 1),
        ]
    };
    let bytes = |side: i64, kernel: i64, pads: i64| {
        let nodes = [
            node("AveragePool", &["x"], "p", &attributes(kernel, pads)),
            node("GlobalAveragePool", &["p"], "y", &[]),
        ];
        file(&[-1, 1, side, side], &[], &nodes)
    };
    build(&bytes(512, 512, 256)).unwrap();
    // The window's size is more than can be counted.
    let (side, kernel) = (3, 1 << 40);
    let network = build(&bytes(side, kernel, kernel / 2));
    let Ok(mut network) = network else { return };
    network.freeze(true);
    let y = network.forward(Mat::ones((1, 9)).view(), None).unwrap();
    assert!(y[[0, 0]].abs() < 1e-20, "{y}");
}
