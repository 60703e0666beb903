//! Networks: families of k functions of x with forward, reverse and forward-mode derivatives.

mod activation;
mod architecture;
pub(crate) mod auto;
mod capabilities;
mod convolutional;
mod dense;
mod directional;
mod expect;
mod graph;
mod init;
mod jacobians;
mod l2bn;
mod math;
mod mlp;
mod moments;
mod network;
mod onnx;
mod optim;
mod outputs;
mod parameters;
mod registry;
mod rows;
mod schedule;
mod size;
mod source;
mod spec;
mod tape;
#[cfg(test)]
mod tests;
mod trained;
mod weights;

use neuralef_linalg::product;

pub(crate) use activation::LEAK;
pub use architecture::Architecture;
pub use capabilities::{
    BatchStatistics, DataDependentInit, InputGradients, LayerFeatures, LayerInfo,
    LayerSecondMoments, PerSampleJacobians, Stage,
};
pub(crate) use convolutional::{IMAGE, ORDER, image_of, image_text, read_image};
pub(crate) use directional::jacobian_blocks;
pub(crate) use expect::{
    expect_frozen, expect_input_gradients, expect_layer_second_moments, expect_one,
};
pub use graph::MOMENTUM;
pub(crate) use graph::{Image, Order};
pub use jacobians::{contracted_jacobian, per_sample_jacobians};
pub(crate) use jacobians::{finite_jacobians, jacobians, outputs_of};
pub use l2bn::{L2Batch, l2_normalise};
pub use moments::{LayerMoments, WeightLayer};
pub use network::Network;
pub use onnx::read_onnx;
pub use optim::{
    OPTIMIZERS, Optimizer, OptimizerMemory, OptimizerRule, OptimizerSpec, OptimizerState, clip,
};
pub(crate) use outputs::{columns_of_outputs, rows_of_outputs};
pub use parameters::{NamedTensor, Parameters, Role, TensorLayout};
pub use registry::NETWORKS;
pub use schedule::{SCHEDULES, Schedule};
pub use size::NetworkSize;
pub use source::NetworkFile;
pub use spec::NetworkSpec;
pub use tape::Tape;
pub use trained::TrainedNetwork;
pub use weights::{read_weights, write_weights};
