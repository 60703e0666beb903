//! Networks: families of k functions of x with forward, reverse and forward-mode derivatives.

use crate::error::{Error, Result};
use crate::matrix::{Mat, Mat64, Mat64Ref, MatRef};

mod activation;
mod convolutional;
mod dense;
mod directional;
mod graph;
mod init;
mod jacobians;
mod l2bn;
mod math;
mod mlp;
mod moments;
mod onnx;
mod optim;
mod outputs;
mod parameters;
mod product;
mod registry;
mod rows;
mod schedule;
mod source;
mod spec;
mod tape;
#[cfg(test)]
mod tests;
mod trained;
mod weights;

pub(crate) use activation::LEAK;
pub(crate) use convolutional::{IMAGE, ORDER, image_of, image_text, read_image};
pub(crate) use directional::{expect_one, jacobian_blocks};
pub use graph::MOMENTUM;
pub(crate) use graph::{Image, Order};
pub(crate) use jacobians::{expect_frozen, finite_jacobians, jacobians, outputs_of};
pub use l2bn::{L2Batch, RunningScale, l2_normalise};
pub use moments::{LayerMoments, WeightLayer};
pub use onnx::read_onnx;
pub use optim::{
    OPTIMIZERS, Optimizer, OptimizerMemory, OptimizerRule, OptimizerSpec, OptimizerState, clip,
};
pub(crate) use outputs::{columns_of_outputs, rows_of_outputs};
pub use parameters::{Parameters, Role, TensorLayout};
pub use registry::NETWORKS;
pub use schedule::{SCHEDULES, Schedule};
pub use source::NetworkFile;
pub use spec::NetworkSpec;
pub use tape::Tape;
pub use trained::TrainedNetwork;
pub use weights::{read_weights, write_weights};

/// A family of k functions of x with parameters: an ensemble of k networks, or a trunk with k heads.
/// Each function has C outputs, 1 unless it is made for a matrix-valued kernel.
///
/// Rows are independent: the value at a point has the same bits whatever else is in the batch.
pub trait Network: Send + Sync {
    /// d, the width of x.
    fn inputs(&self) -> usize;

    /// k, the number of functions.
    fn functions(&self) -> usize;

    /// C, the number of outputs of each function.
    fn outputs(&self) -> usize {
        1
    }

    /// p, the total number of features in the last hidden layers: the width of [`hidden`](Network::hidden).
    fn hidden_width(&self) -> usize;

    /// All parameters.
    fn parameters(&self) -> &Parameters;

    /// All parameters, to be changed by an optimiser or a reader of files.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Values of the k functions, n × kC (before normalisation): output c of function j is column
    /// j·C + c. Records into `tape` when given.
    ///
    /// # Errors
    /// Shape errors.
    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat>;

    /// Reverse mode: adds nothing, overwrites `gradient` with Σ over rows of cotangentᵀ ∂h/∂θ,
    /// for the batch recorded in `tape`. `cotangent` is n × kC.
    ///
    /// # Errors
    /// Shape errors.
    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()>;

    /// Forward mode: the directional derivative ∂h/∂θ · tangent, n × kC.
    ///
    /// # Errors
    /// Shape errors.
    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat>;

    /// The unit of [`parameters`](Network::parameters) that function number `function` depends on.
    fn unit(&self, function: usize) -> usize;

    /// Jacobians contracted over the rows of the batch in `tape`: entry i·m + j is
    /// Σ_bc weights_(bc)j ∂h_ic(x_b)/∂θ over the parameters of function i's unit, for weights BC × m
    /// with the C outputs of a point in consecutive rows. Costs m backward passes for an ensemble of
    /// separate networks, k·m for heads on one trunk.
    ///
    /// # Errors
    /// Shape errors.
    fn jacobian(&self, tape: &Tape, weights: MatRef<'_>) -> Result<Vec<Vec<f32>>> {
        let (k, m) = (self.functions(), weights.ncols());
        let units: Vec<usize> = (0..k).map(|i| self.unit(i)).collect();
        // Functions of different units take part in the same backward pass.
        let mut rounds: Vec<Vec<usize>> = Vec::new();
        for i in 0..k {
            let free = |round: &&mut Vec<usize>| round.iter().all(|o| units[*o] != units[i]);
            match rounds.iter_mut().find(free) {
                Some(round) => round.push(i),
                None => rounds.push(vec![i]),
            }
        }
        let mut out = vec![Vec::new(); k * m];
        let mut gradient = self.parameters().zeros_like();
        for (j, column) in weights.columns().into_iter().enumerate() {
            for round in &rounds {
                let mut cotangent = Mat::zeros((weights.nrows(), k));
                round.iter().for_each(|&i| cotangent.column_mut(i).assign(&column));
                let cotangent = columns_of_outputs(cotangent, self.outputs())?;
                self.vjp(tape, cotangent.view(), &mut gradient)?;
                for &i in round {
                    out[i * m + j] = gradient.units()[units[i]].clone();
                }
            }
        }
        Ok(out)
    }

    /// Jacobians at every row of x, into `out`: for each unit the nm × P derivatives of the m outputs
    /// that depend on it, in the order of their columns, by its P parameters, row by row with the
    /// outputs of a point in consecutive rows. The memory of `out` is used again.
    ///
    /// # Errors
    /// Shape errors, and [`Error::Unsupported`] for batch normalisation that is not
    /// [frozen](Network::freeze).
    fn jacobians(&self, x: MatRef<'_>, out: &mut Vec<Vec<f32>>) -> Result<()> {
        jacobians::by_points(self, x, out)
    }

    /// The layers with weights of a single network, in order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for networks without such layers and for grouped convolutions.
    fn weight_layers(&self) -> Result<Vec<WeightLayer>> {
        Err(Error::Unsupported {
            what: "layers with weights".into(),
            reason: "this network does not tell them".into(),
        })
    }

    /// Whether the outputs are linear in [`hidden`](Network::hidden) features, by a dense layer whose
    /// parameters are the last ones.
    fn ends_linear(&self) -> bool {
        false
    }

    /// Second moments at each layer with weights of a single network, summed over the points `x` (n × d)
    /// and, for those of cotangents, over the columns of the C × C matrices `roots`, one for each point,
    /// which are pulled back. Squares of the derivatives by parameters of other layers (scales and
    /// shifts of normalisation) are added to `squares`, as long as all parameters.
    ///
    /// # Errors
    /// Shape errors; [`Error::Unsupported`] for networks without such layers, grouped convolutions and
    /// batch normalisation that is not [frozen](Network::freeze).
    fn layer_moments(
        &self,
        _x: MatRef<'_>,
        _roots: &[Mat64],
        _squares: &mut [f64],
    ) -> Result<Vec<LayerMoments>> {
        Err(Error::Unsupported {
            what: "second moments at layers".into(),
            reason: "this network does not give them".into(),
        })
    }

    /// Takes the batch statistics of a recorded training step into the running statistics of batch
    /// normalisation, of which they become `share`; [`MOMENTUM`] in training. Nothing for networks
    /// without it.
    fn settle(&mut self, _tape: &Tape, _share: f64) {}

    /// Whether batch normalisation uses its running statistics under a tape too, as it always does
    /// without one: for derivatives of a trained network. Nothing for networks without it.
    fn freeze(&mut self, _frozen: bool) {}

    /// Whether values under a tape depend on the whole batch, through batch normalisation that is not
    /// [frozen](Network::freeze).
    fn uses_batch_statistics(&self) -> bool {
        false
    }

    /// Features of the last hidden layers, n × p, of all k networks side by side: the basis of the
    /// Galerkin readout. Without a hidden layer, the inputs. Features with outputs of their own are
    /// n × pC, as in [`forward`](Network::forward).
    ///
    /// # Errors
    /// Shape errors.
    fn hidden(&self, x: MatRef<'_>) -> Result<Mat>;

    /// Whether a pass is parallel within and holds much memory, so that one should follow another
    /// instead of running beside it.
    fn is_heavy(&self) -> bool {
        false
    }

    /// The directions in the parameters of a trained network, one in each row, along which the last
    /// hidden features are derivatives of it; none for networks that are something else.
    fn directions(&self) -> Option<Mat> {
        None
    }

    /// How many training points [`start`](Network::start) wants; none for networks whose start is
    /// their weights alone.
    fn start_points(&self) -> usize {
        0
    }

    /// Starts from data: called once, before the first step, with up to
    /// [`start_points`](Network::start_points) training points.
    ///
    /// # Errors
    /// Those of [`forward`](Network::forward), [`Error::Numerical`].
    fn start(&mut self, _x: MatRef<'_>) -> Result<()> {
        Ok(())
    }

    /// Gradients by x of the combinations f(x)ᵀW, where f are the values of `stage` and `weights` is
    /// W, p × k: n·d × k, the derivative by coordinate c at point i in row i·d + c. Dense networks
    /// take min(d, k) passes for each row, forward or reverse.
    ///
    /// # Errors
    /// Shape errors, [`Error::Unsupported`] for networks that do not give them.
    fn input_gradients(
        &self,
        _x: MatRef<'_>,
        _stage: Stage,
        _weights: Mat64Ref<'_>,
    ) -> Result<Mat64> {
        Err(Error::Unsupported {
            what: "derivatives by the inputs of this network".into(),
            reason: "dense networks (mlp, shared_mlp) give them".into(),
        })
    }

    /// Layers whose values [`features`](Network::features) gives, in order, the outputs last.
    fn layers(&self) -> Vec<LayerInfo> {
        Vec::new()
    }

    /// Values of the layers number `layers` of a single network, means over pixels, side by side.
    ///
    /// # Errors
    /// Shape errors, [`Error::Unsupported`] for networks without [`layers`](Network::layers).
    fn features(&self, _x: MatRef<'_>, _layers: &[usize]) -> Result<Mat> {
        Err(Error::Unsupported {
            what: "values of layers".into(),
            reason: "this network does not give them".into(),
        })
    }
}

/// Values of a network that can be differentiated by its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The functions, as [`Network::forward`] gives them.
    Functions,
    /// The features of the last hidden layers, as [`Network::hidden`] gives them.
    Hidden,
}

/// A layer of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its name, as PyTorch would have it where that is known.
    pub name: String,
    /// Pixels of its values, height × width; 1 for vectors.
    pub pixels: usize,
    /// Channels of its values.
    pub channels: usize,
}

/// The size of a network that may not be built yet. Numbers beyond `u64` are its largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkSize {
    /// Number of parameters in all.
    pub parameters: u64,
    /// p, the [`hidden_width`](Network::hidden_width).
    pub hidden: u64,
    /// Values that a forward pass keeps for each row of a batch.
    pub activations: u64,
    /// Numbers in the [`jacobian`](Network::jacobian) for k weights.
    pub jacobian: u64,
    /// Numbers that a pass holds beside these, whatever the batch.
    pub working: u64,
    /// The most segments of a batch whose gradients, each as large as the parameters, are held to be
    /// added up.
    pub segments: u64,
    /// The rows that a segment is whole multiples of.
    pub block: u64,
}

/// A description of a network that is not built yet, as the text form gives it.
pub trait Architecture: Send + Sync + std::fmt::Debug {
    /// Builds it for `inputs` columns and `functions` functions of `outputs` outputs each, with
    /// weights drawn from `seed`.
    ///
    /// # Errors
    /// Parameter errors (odd widths for sin_cos, sizes beyond memory, …).
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>>;

    /// What the network would hold, without building it: sizes are checked before memory is taken.
    fn size(&self, inputs: usize, functions: usize, outputs: usize) -> NetworkSize;

    /// The text form; parsing it gives this architecture back. For one of a program's own, its name.
    fn text(&self) -> String;

    /// Whether [`Network::hidden`] gives every feature C outputs of its own.
    fn hidden_has_outputs(&self) -> bool {
        false
    }

    /// Whether [`Network::start`] leaves little for training to improve.
    fn starts_from_data(&self) -> bool {
        false
    }

    /// Whether it is made of this trained network: the same file, read in the same way.
    fn is_made_of(&self, _trained: &TrainedNetwork) -> bool {
        false
    }

    /// The file that the network is made from; none for others. Its weights were trained on x as the
    /// user has it, so such networks see that, where others see centred points of one scale; and a
    /// model file keeps the whole file.
    fn file(&self) -> Option<&NetworkFile> {
        None
    }
}
