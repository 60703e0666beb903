//! The training of the eigenfunctions of a fit's problem: network, objective, batches, learning rate.

use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::fit::Problem;
use crate::nn::Parameters;
use crate::train::{EigenfunctionSignal, LearningRate, TrainingLoop};

/// A network for `problem`, to be trained for `total` steps, from the parameters `start` if given;
/// `fresh` ones without these start from the data where their architecture does.
///
/// # Errors
/// Parameters that do not fit the problem or one another, networks beyond the memory budget, and what
/// reading the data reports.
pub(super) fn training_loop<'a>(
    problem: &'a Problem,
    total: u64,
    fresh: bool,
    start: Option<&Parameters>,
) -> Result<TrainingLoop<EigenfunctionSignal<'a>>> {
    let spec = &problem.spec;
    let objective = spec.objective.get()?.fresh();
    let input_scaler = match objective.scales_inputs() {
        true if !spec.network.takes_raw_inputs() => problem.input_scaler()?,
        _ => Standardizer::identity(problem.points.width()),
    };
    if spec.standardize && spec.network.takes_raw_inputs() {
        let expected = "false with a network that was trained on points as they are";
        return Err(Error::parameter("standardize", expected, true));
    }
    let (inputs, outputs) = (problem.points.width(), spec.network_outputs());
    let mut network = spec.network.build(inputs, spec.n_components, outputs, spec.seed)?;
    if let Some(start) = start {
        let parameters = network.parameters_mut();
        if start.layouts() != parameters.layouts() {
            let expected = "the network and n_components of the model to start from";
            return Err(Error::parameter("network", expected, &spec.network));
        }
        parameters.clone_from(start);
    } else if fresh && let Some(network) = network.data_dependent_init() {
        let points = problem.batch(&problem.training_sample(network.init_points()))?.x;
        network.init_from_data(input_scaler.apply(points.view())?.view())?;
    }
    let rule = spec.optimizer.get()?;
    let bytes = rule.memory().map_or(0, |memory| memory.bytes(network.parameters()));
    problem.expect_training(bytes)?;
    let optimizer = rule.build(network.parameters());
    let learning_rate = LearningRate {
        initial: spec.optimizer.learning_rate()?,
        schedule: spec.schedule,
        steps: total,
    };
    let sampler = problem.sampler();
    let signal = EigenfunctionSignal {
        operator: &*problem.training_operator,
        objective,
        kernel: problem.kernel.as_ref().map(|kernel| kernel.text()),
        draw_batch: Box::new(move |step| sampler.draw(step, spec.batch_size)),
        input_scaler,
        learning_rate,
    };
    TrainingLoop::new(network, optimizer, signal, spec.clip_norm)
}
