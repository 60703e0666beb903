//! The network that is taken where none is named: `auto`, by the kernel and the number of functions.

use std::sync::Arc;

use super::init::Init;
use super::mlp::Perceptron;
use super::{Architecture, Network, NetworkSize, NetworkSpec};
use crate::error::Result;
use crate::spec::Entry;

/// Functions up to which each has a network of its own.
const SEPARATE: usize = 12;
/// Features of a shared trunk: at least, and for each function.
const WIDTH: usize = 512;
const WIDTH_OF_EACH: usize = 2;

/// The network for `functions` functions: `wide`, random features in one layer; else layers that learn.
pub(crate) fn network(functions: usize, wide: bool) -> NetworkSpec {
    chosen(functions, wide).text().into()
}

fn chosen(functions: usize, wide: bool) -> Perceptron {
    let width = WIDTH.max(WIDTH_OF_EACH.saturating_mul(functions));
    match wide {
        true => Perceptron::sin_cos(true, vec![width], Init::Data),
        false if functions <= SEPARATE => Perceptron::sin_cos(false, vec![64, 64], Init::Auto),
        false => Perceptron::sin_cos(true, vec![128, width], Init::Auto),
    }
}

/// Registry entry.
pub(super) const AUTO: Entry<Arc<dyn Architecture>> = Entry {
    name: "auto",
    summary: "for kernels that can be evaluated shared_mlp(hidden=[w], activation=sin_cos, init=data); \
              for others mlp(hidden=[64, 64], activation=sin_cos) up to 12 functions, and for more \
              shared_mlp(hidden=[128, w], activation=sin_cos); w = max(512, 2·k)",
    parameters: &[],
    build: |_| Ok(Arc::new(Auto)),
};

/// See the [module](self).
#[derive(Debug)]
struct Auto;

impl Architecture for Auto {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        chosen(functions, false).build(inputs, functions, outputs, seed)
    }

    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        chosen(functions, false).size(inputs, functions, outputs)
    }

    fn text(&self) -> String {
        AUTO.text(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_at_hand_have_wide_features() {
        let spec = network(10, true);
        assert_eq!(spec.to_string(), "shared_mlp(hidden=[512], activation=sin_cos, init=data)");
        assert_eq!(network(500, true).build(3, 500, 1, 0).unwrap().hidden_width(), 1000);
    }

    #[test]
    fn few_functions_have_networks_of_their_own_and_many_share_one() {
        let spec = NetworkSpec::default();
        assert_eq!(spec.to_string(), "auto");
        for (k, width) in [(1, 64), (12, 768), (13, 512), (500, 1000)] {
            let network = spec.build(3, k, 1, 0).unwrap();
            assert_eq!((network.functions(), network.hidden_width()), (k, width));
            assert_eq!(spec.size(3, k, 1).parameters, network.parameters().len() as u64);
        }
    }
}
