//! The network that is taken where none is named: `auto`, by the number of functions.

use std::sync::Arc;

use super::mlp::Perceptron;
use super::{Architecture, Network, NetworkSize};
use crate::error::Result;
use crate::spec::Entry;

/// Functions up to which each has a network of its own.
const SEPARATE: usize = 12;
/// Widths of the last hidden layer of a shared trunk: at least, and for each function.
const WIDTH: usize = 512;
const WIDTH_OF_EACH: usize = 2;

/// Registry entry.
pub(super) const AUTO: Entry<Arc<dyn Architecture>> = Entry {
    name: "auto",
    summary: "mlp(hidden=[64, 64], activation=sin_cos) for up to 12 functions; for more one trunk, \
              shared_mlp(hidden=[128, w], activation=sin_cos), w = max(512, 2·k)",
    parameters: &[],
    build: |_| Ok(Arc::new(Auto)),
};

/// See the [module](self).
#[derive(Debug)]
struct Auto;

impl Auto {
    /// The network for so many functions.
    fn chosen(functions: usize) -> Perceptron {
        match functions <= SEPARATE {
            true => Perceptron::sin_cos(false, vec![64, 64]),
            false => {
                let width = WIDTH.max(WIDTH_OF_EACH.saturating_mul(functions));
                Perceptron::sin_cos(true, vec![128, width])
            }
        }
    }
}

impl Architecture for Auto {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        Auto::chosen(functions).build(inputs, functions, outputs, seed)
    }

    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize {
        Auto::chosen(functions).size(inputs, functions, outputs)
    }

    fn text(&self) -> String {
        AUTO.text(&[])
    }
}

#[cfg(test)]
mod tests {
    use crate::nn::NetworkSpec;

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
