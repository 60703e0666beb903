//! What parts of the library need of a network, and the errors where it has not got it.

use super::capabilities::{InputGradients, LayerFeatures, LayerSecondMoments};
use super::network::Network;
use crate::error::{Error, Result};

fn unsupported(what: &str, reason: &str) -> Error {
    Error::Unsupported { what: what.into(), reason: reason.into() }
}

/// Fails unless `network` is a single network, whose parameters are one unit; their number.
pub(crate) fn expect_one(network: &dyn Network) -> Result<usize> {
    match network.parameters().units() {
        [unit] if !unit.is_empty() => Ok(unit.len()),
        [_] => Err(Error::parameter("network", "a network with parameters", "none")),
        units => Err(Error::parameter("network", "a single network", units.len())),
    }
}

/// Fails when derivatives at a point would depend on the points beside it.
pub(crate) fn expect_frozen(network: &dyn Network) -> Result<()> {
    match network.uses_batch_statistics() {
        false => Ok(()),
        true => Err(unsupported(
            "derivatives of a network in training, point by point",
            "its batch normalisation takes statistics of the batch: freeze it first",
        )),
    }
}

/// Values of layers, or an error.
pub(crate) fn expect_layer_features(network: &dyn Network) -> Result<&dyn LayerFeatures> {
    let fault = || unsupported("values of layers", "this network does not give them");
    network.layer_features().ok_or_else(fault)
}

/// Layers with weights and their second moments, or an error.
pub(crate) fn expect_layer_second_moments(
    network: &dyn Network,
) -> Result<&dyn LayerSecondMoments> {
    let fault = || unsupported("layers with weights", "this network does not tell them");
    network.layer_second_moments().ok_or_else(fault)
}

/// Derivatives by the inputs, or an error.
pub(crate) fn expect_input_gradients(network: &dyn Network) -> Result<&dyn InputGradients> {
    let fault = || {
        let reason = "dense networks (mlp, shared_mlp) give them";
        unsupported("derivatives by the inputs of this network", reason)
    };
    network.input_gradients().ok_or_else(fault)
}
