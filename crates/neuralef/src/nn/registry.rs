//! The list of all networks. A new architecture is a file with an entry, and a line here.

use std::sync::Arc;

use super::{Architecture, auto, convolutional, mlp, onnx, trained};
use crate::spec::{Registered, Registry};

/// Every network architecture by name.
pub static NETWORKS: Registry<Arc<dyn Architecture>> = Registry {
    kind: "network",
    entries: &[
        auto::AUTO,
        mlp::MLP,
        mlp::SHARED_MLP,
        convolutional::CONVNET,
        convolutional::SHARED_CONVNET,
        convolutional::RESNET,
        convolutional::SHARED_RESNET,
        onnx::ONNX,
        onnx::SHARED_ONNX,
        trained::HEADS,
        trained::SHARED_HEADS,
        trained::TANGENTS,
    ],
};

impl Registered for dyn Architecture {
    fn registry() -> &'static Registry<Arc<Self>> {
        &NETWORKS
    }

    fn text_form(&self) -> String {
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::NetworkSpec;
    use crate::spec::Sample;
    use crate::spec::registry::assert_complete;

    #[test]
    fn text_round_trips_and_defaults_are_filled_in() {
        for (text, full) in [
            ("mlp", "mlp(hidden=[32, 32], activation=relu, init=auto)"),
            ("shared_mlp(hidden=[8])", "shared_mlp(hidden=[8], activation=relu, init=auto)"),
            (
                "mlp(init=glorot, activation=sin_cos, hidden=[])",
                "mlp(hidden=[], activation=sin_cos, init=glorot)",
            ),
        ] {
            let spec: NetworkSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), full);
            assert_eq!(full.parse::<NetworkSpec>().unwrap(), spec);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<NetworkSpec>(&json).unwrap(), spec);
        }
    }

    #[test]
    fn sizes_are_those_of_the_network_built() {
        for text in ["mlp(hidden=[6, 4])", "shared_mlp(hidden=[6, 4])", "mlp(hidden=[])"] {
            let spec: NetworkSpec = text.parse().unwrap();
            for outputs in [1, 4] {
                let size = spec.size(3, 5, outputs);
                let network = spec.build(3, 5, outputs, 0).unwrap();
                assert_eq!((network.functions(), network.outputs()), (5, outputs));
                assert_eq!(size.parameters, network.parameters().len() as u64, "{text}");
                assert_eq!(size.hidden, network.hidden_width() as u64, "{text}");
            }
        }
        let huge: NetworkSpec = "mlp(hidden=[65536, 65536])".parse().unwrap();
        assert_eq!(huge.size(usize::MAX, usize::MAX, usize::MAX).parameters, u64::MAX);
    }

    #[test]
    fn bad_texts_are_typed_errors() {
        for (text, part) in [
            ("mlq", "did you mean `mlp`"),
            ("mlp(hiden=[3])", "did you mean `hidden`"),
            ("mlp(hidden=[0])", "whole numbers from 1"),
            ("mlp(hidden=[3.5])", "whole numbers"),
            ("mlp(hidden=32)", "list"),
            ("mlp(hidden=[31], activation=sin_cos)", "hidden: expected even widths"),
            ("mlp(activation=rely)", "did you mean `relu`"),
            ("mlp(init=hee)", "did you mean `he`"),
        ] {
            let message = text.parse::<NetworkSpec>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        let spec: NetworkSpec = "mlp(hidden=[65536, 65536])".parse().unwrap();
        assert!(spec.build(1, 10, 1, 0).is_err_and(|e| e.to_string().contains("hidden")));
        let spec: NetworkSpec = "mlp".parse().unwrap();
        assert!(spec.build(0, 10, 1, 0).is_err());
        assert!(spec.build(1, 0, 1, 0).is_err());
        assert!(spec.build(1, 10, 0, 0).is_err());
        assert!(spec.build(usize::MAX, usize::MAX, 1, 0).is_err());
        assert!(spec.build(1, usize::MAX, usize::MAX, 0).is_err());
    }

    #[test]
    fn every_entry_builds_prints_and_parses() {
        let (file, of) = ("file=nowhere.onnx", "of=nowhere.onnx");
        let samples = [
            ("onnx", file),
            ("shared_onnx", file),
            ("heads", of),
            ("shared_heads", of),
            ("tangents", of),
        ];
        assert_complete(&NETWORKS, &samples, Sample::Missing, |network| network.text());
    }
}
