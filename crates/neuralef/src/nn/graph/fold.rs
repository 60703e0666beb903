//! Batch normalisation made part of the convolutions before it, for inference.

use std::ops::Range;

use super::{Graph, GraphLayer, Node};

/// The graph with every norm that only scales a convolution made part of it, and the nodes that each
/// node stands for.
pub(super) fn fold(graph: &Graph) -> (Graph, Vec<Range<usize>>) {
    let readers = |value: usize| graph.nodes.iter().filter(|n| n.inputs.contains(&value)).count();
    let mut folded = Graph { input: graph.input, nodes: Vec::new() };
    let mut origins: Vec<Range<usize>> = Vec::new();
    // What each value of the graph is called in the folded one.
    let mut renamed = vec![0];
    for (i, node) in graph.nodes.iter().enumerate() {
        let of = node.inputs[0];
        let scales = matches!(node.layer, GraphLayer::Norm { .. }) && of == i && readers(of) == 1;
        match folded.nodes.last_mut() {
            Some(last) if scales && last.activation.is_none() => {
                if let GraphLayer::Conv(conv) = &mut last.layer {
                    conv.bias = true;
                    last.activation = node.activation;
                    if let Some(origin) = origins.last_mut() {
                        origin.end = i + 1;
                    }
                    renamed.push(folded.nodes.len());
                    continue;
                }
            }
            _ => {}
        }
        let inputs = node.inputs.iter().map(|value| renamed[*value]).collect();
        folded.nodes.push(Node { inputs, ..node.clone() });
        origins.push(i..i + 1);
        renamed.push(folded.nodes.len());
    }
    (folded, origins)
}
