//! The loop with a signal of the tests' own, against gradient descent in closed form.

use std::path::Path;

use super::*;
use crate::data::{Dataset, Standardizer};
use crate::error::{Error, Result};
use crate::matrix::Mat;
use crate::nn::{Network, NetworkSpec, OptimizerSpec, Schedule};
use crate::objective::{OBJECTIVES, ObjectiveState};
use crate::operator::{Batch, PrecomputedOperator};
use crate::persist::Archive;

const TARGET: f64 = 3.0;
const RATE: f64 = 0.1;

/// ½(f − 3)² at the point 1, with a count of losses for a memory.
struct Square {
    losses: f64,
}

impl Signal for Square {
    fn prepare(&mut self, _: &mut dyn Network) -> Result<()> {
        Ok(())
    }

    fn n_eigenvalues(&self, _: &dyn Network) -> usize {
        1
    }

    fn draw(&mut self, _: u64) -> Result<Batch> {
        Ok(Batch { indices: vec![0], x: Mat::ones((1, 1)) })
    }

    fn loss(&mut self, _: &TrainingStep<'_>, outputs: Mat) -> Result<BatchLoss> {
        self.losses += 1.0;
        let error = f64::from(outputs[[0, 0]]) - TARGET;
        let cotangent = Mat::from_elem((1, 1), error as f32);
        Ok(BatchLoss { value: 0.5 * error * error, cotangent, eigenvalues: vec![self.losses] })
    }

    fn learning_rate(&self, _: u64) -> Result<f64> {
        Ok(RATE)
    }

    fn diverged(&self, divergence: &Divergence<'_>) -> Error {
        let (step, what) = (divergence.step, divergence.what.into());
        Error::Diverged { step, what, advice: "none".into() }
    }

    fn state(&self) -> ObjectiveState {
        let doubles = vec![("losses".into(), vec![self.losses])];
        ObjectiveState { doubles, ..ObjectiveState::default() }
    }

    fn restore(&mut self, state: &ObjectiveState) -> Result<()> {
        self.losses = state.doubles[0].1[0];
        Ok(())
    }
}

fn network() -> Box<dyn Network> {
    "mlp(hidden=[])".parse::<NetworkSpec>().unwrap().build(1, 1, 1, 3).unwrap()
}

fn training(optimizer: &str) -> TrainingLoop<Square> {
    let network = network();
    let optimizer = optimizer.parse::<OptimizerSpec>().unwrap().build(network.parameters());
    TrainingLoop::new(network, optimizer.unwrap(), Square { losses: 0.0 }, 0.0).unwrap()
}

/// f = w + b falls to the target by the factor 1 − 2η a step; running means are those of 1, 2, …, with
/// the weights 0.99^age.
#[test]
fn a_signal_is_followed_by_gradient_descent() {
    let mut training = training("sgd(lr=1, momentum=0)");
    let value = |training: &TrainingLoop<Square>| {
        f64::from(training.network.forward(Mat::ones((1, 1)).view(), None).unwrap()[[0, 0]])
    };
    let start = value(&training);
    training.run(20, &mut Silent, None).unwrap();
    let want = TARGET + (1.0 - 2.0 * RATE).powi(20) * (start - TARGET);
    // Half a rounding of single precision a step, summed with the factor 0.8.
    assert!((value(&training) - want).abs() < 2e-6, "{} not {want}", value(&training));
    assert_eq!(training.steps_done(), 20);
    let weight = |i: i32| 0.99f64.powi(20 - i);
    let mean =
        (1..=20).map(|i| weight(i) * f64::from(i)).sum::<f64>() / (1..=20).map(weight).sum::<f64>();
    assert!((training.running_eigenvalues()[0] - mean).abs() < 1e-12);
}

#[test]
fn events_and_checkpoints_come_in_order_and_a_stop_is_a_typed_error() {
    for (every, want) in [
        (2, vec!["step 1", "step 2", "save 2", "step 3", "step 4", "save 4", "step 5", "save 5"]),
        (0, vec!["step 1", "step 2", "step 3", "step 4", "step 5", "save 5"]),
    ] {
        let mut events = Vec::new();
        let mut observer = |event: &Event<'_>| match event {
            Event::Step { step, .. } => {
                events.push(format!("step {step}"));
                if *step == 5 { Control::Stop } else { Control::Continue }
            }
            Event::Checkpoint { step, path } => {
                assert_eq!(*path, Path::new("there"));
                events.push(format!("save {step}"));
                Control::Continue
            }
            other => panic!("{other:?}"),
        };
        let mut saved = Vec::new();
        let mut write = |training: &TrainingLoop<Square>, _: &Path| {
            saved.push(format!("save {}", training.steps_done()));
            Ok(())
        };
        let path = Path::new("there");
        let checkpointing = Some(Checkpointing { path, every, write: &mut write });
        let error = training("adam").run(9, &mut observer, checkpointing).unwrap_err();
        match error {
            Error::Interrupted { step: 5, checkpoint: Some(at) } => assert_eq!(at, path),
            other => panic!("{other}"),
        }
        assert_eq!(events, want);
        events.retain(|event| event.starts_with("save"));
        assert_eq!(events, saved);
    }
}

#[test]
fn a_stored_state_continues_to_the_same_bits() {
    let mut whole = training("adam");
    whole.run(3, &mut Silent, None).unwrap();
    let mut archive = Archive::with_header("test", &()).unwrap();
    whole.save(&mut archive).unwrap();
    let mut resumed = training("adam");
    resumed.restore(&archive, 3).unwrap();
    for training in [&mut whole, &mut resumed] {
        training.run(7, &mut Silent, None).unwrap();
    }
    assert_eq!(resumed.network.parameters(), whole.network.parameters());
    assert_eq!(resumed.running_eigenvalues(), whole.running_eigenvalues());
    assert_eq!((resumed.steps_done(), resumed.signal.losses), (7, 7.0));
}

#[test]
fn what_is_not_finite_is_named_with_advice() {
    let mut training = training("sgd(lr=1, momentum=0)");
    training.network.parameters_mut().units_mut()[0][0] = f32::NAN;
    let error = training.step().unwrap_err().to_string();
    assert_eq!(error, "training diverged at step 0: a network output is not finite; none");

    let gram = Dataset::from_array("gram", Mat::eye(2)).unwrap();
    let operator = PrecomputedOperator::new(gram, 1).unwrap();
    let signal = EigenfunctionSignal {
        operator: &operator,
        objective: OBJECTIVES.build_text("neuralef").unwrap().fresh(),
        kernel: None,
        draw_batch: Box::new(|_| Ok(Batch { indices: vec![0], x: Mat::ones((1, 1)) })),
        input_scaler: Standardizer::identity(1),
        learning_rate: LearningRate { initial: RATE, schedule: Schedule::Constant, steps: 0 },
    };
    let mut network = network();
    let parameters = network.parameters();
    let checked = |step| {
        let divergence = Divergence { step, what: "the loss", cause: None, parameters };
        signal.diverged(&divergence).to_string()
    };
    assert_eq!(
        checked(0),
        "training diverged at step 0: the loss is not finite; values of the kernel are probably too \
         large: scale the kernel or the data down"
    );
    assert_eq!(
        checked(4),
        "training diverged at step 4: the loss is not finite; the learning rate is probably too \
         high: try a tenth of it, or clip_norm=1"
    );
    let cause = || Error::Numerical { what: "soap".into(), message: "overflow".into() };
    for (value, what) in [(1.0, "a square of the gradient"), (f32::INFINITY, "a parameter")] {
        network.parameters_mut().units_mut()[0][0] = value;
        let error = signal.failure("a square of the gradient", cause(), 4, &*network).to_string();
        let advice = "a lower learning rate or another activation may help (soap: overflow)";
        assert_eq!(error, format!("training diverged at step 4: {what} is not finite; {advice}"));
    }
    let other = signal.failure("a network output", Error::shape("x", 1, 2), 4, &*network);
    assert!(matches!(other, Error::Shape { .. }));
}
