//! A network written outside the crate, from what is public: values, derivatives, and what follows
//! from these.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use ndarray::{Array1, Axis};
use neuralef::fit::{LoadOptions, Steps};
use neuralef::nn::{
    Architecture, NamedTensor, NetworkSize, Parameters, Role, Tape, contracted_jacobian,
    per_sample_jacobians, read_weights, write_weights,
};
use neuralef::sample::exact_ntk;
use neuralef::spec::Spec;
use neuralef::{Dataset, Error, FitSpec, Mat, MatRef, Model, Network, NetworkSpec, Result, fit};

/// k sums of m cosines of the same frequencies, h = cos(xΩ + b)A, all of it trainable.
struct Cosines {
    parameters: Parameters,
    inputs: usize,
    cosines: usize,
    functions: usize,
}

/// What the forward pass leaves for the backward pass.
#[derive(Default)]
struct Recorded {
    x: Mat,
    /// xΩ + b.
    phases: Mat,
}

/// Numbers between −1 and 1 that look random.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let number = |i: u64| ((i + 1) as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.545;
    (0..count as u64).map(|i| (2.0 * number(i).rem_euclid(1.0) - 1.0) as f32).collect()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Mat {
    Mat::from_shape_vec((rows, columns), numbers(rows * columns, seed)).unwrap()
}

impl Cosines {
    fn new(inputs: usize, cosines: usize, functions: usize, seed: u64) -> Result<Self> {
        let tensor = |name: &str, shape: Vec<usize>, role, seed| NamedTensor {
            name: name.into(),
            values: numbers(shape.iter().product(), seed),
            shape,
            role,
        };
        let (inner, outer) = (Role::Weight { fan_in: inputs }, Role::Weight { fan_in: cosines });
        let parameters = Parameters::from_tensors(vec![vec![
            tensor("frequencies", vec![inputs, cosines], inner, seed),
            tensor("phases", vec![cosines], Role::Bias, seed + 1),
            tensor("amplitudes", vec![cosines, functions], outer, seed + 2),
        ]])?;
        Ok(Cosines { parameters, inputs, cosines, functions })
    }

    /// Ω, b and A in `parameters` of this layout.
    fn split(&self, parameters: &Parameters) -> Result<(Mat, Array1<f32>, Mat)> {
        parameters.expect_units("parameters", 1, self.parameters.len())?;
        let [frequencies, phases, amplitudes] = [0, 1, 2].map(|i| {
            let tensor = &self.parameters.layouts()[0][i];
            parameters.units()[0][tensor.range()].to_vec()
        });
        let fault = |e| Error::shape("parameters", "those of this network", e);
        let frequencies = Mat::from_shape_vec((self.inputs, self.cosines), frequencies);
        let amplitudes = Mat::from_shape_vec((self.cosines, self.functions), amplitudes);
        Ok((frequencies.map_err(fault)?, phases.into(), amplitudes.map_err(fault)?))
    }

    fn phases(&self, x: MatRef<'_>) -> Result<Mat> {
        if x.ncols() != self.inputs {
            return Err(Error::shape("x", self.inputs, x.ncols()));
        }
        let (frequencies, phases, _) = self.split(&self.parameters)?;
        Ok(x.dot(&frequencies) + phases)
    }
}

impl Network for Cosines {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn functions(&self) -> usize {
        self.functions
    }

    fn outputs(&self) -> usize {
        1
    }

    fn hidden_width(&self) -> usize {
        self.cosines
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn unit(&self, _function: usize) -> usize {
        0
    }

    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        let (_, _, amplitudes) = self.split(&self.parameters)?;
        let phases = self.phases(x)?;
        let values = phases.mapv(f32::cos).dot(&amplitudes);
        if let Some(tape) = tape {
            let mut recorded: Box<Recorded> = tape.take_state();
            *recorded = Recorded { x: x.to_owned(), phases };
            tape.set_state(recorded);
        }
        Ok(values)
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        let Recorded { x, phases } = tape.expect_state()?;
        let (_, _, amplitudes) = self.split(&self.parameters)?;
        if cotangent.dim() != (x.nrows(), self.functions) {
            return Err(Error::shape("cotangent", "that of the batch", "another"));
        }
        gradient.expect_units("gradient", 1, self.parameters.len())?;
        let by_phases = -phases.mapv(f32::sin) * cotangent.dot(&amplitudes.t());
        let parts = [
            x.t().dot(&by_phases).into_iter().collect(),
            by_phases.sum_axis(Axis(0)).to_vec(),
            phases.mapv(f32::cos).t().dot(&cotangent).into_iter().collect::<Vec<_>>(),
        ];
        gradient.units_mut()[0].copy_from_slice(&parts.concat());
        Ok(())
    }

    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        let (_, _, amplitudes) = self.split(&self.parameters)?;
        let (by_frequencies, by_phases, by_amplitudes) = self.split(tangent)?;
        let phases = self.phases(x)?;
        let slopes = -phases.mapv(f32::sin) * (x.dot(&by_frequencies) + by_phases);
        Ok(slopes.dot(&amplitudes) + phases.mapv(f32::cos).dot(&by_amplitudes))
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        Ok(self.phases(x)?.mapv(f32::cos))
    }

    fn ends_linear(&self) -> bool {
        // The last layer has no biases.
        true
    }
}

/// `cosines(count=..)`.
#[derive(Debug)]
struct CosinesSpec {
    count: usize,
}

impl Architecture for CosinesSpec {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        match outputs {
            1 => Ok(Box::new(Cosines::new(inputs, self.count, functions, seed)?)),
            other => Err(Error::parameter("outputs", "1", other)),
        }
    }

    fn size(&self, inputs: usize, functions: usize, _outputs: usize) -> NetworkSize {
        let parameters = (self.count * (inputs + 1 + functions)) as u64;
        NetworkSize {
            parameters,
            hidden: self.count as u64,
            activations: (inputs + self.count) as u64,
            jacobian: (functions * functions) as u64 * parameters,
            segments: 1,
            block: 1,
            ..NetworkSize::default()
        }
    }

    fn text(&self) -> String {
        format!("cosines(count={})", self.count)
    }
}

fn network() -> Box<dyn Network> {
    CosinesSpec { count: 7 }.build(3, 4, 1, 5).unwrap()
}

fn inner(a: impl IntoIterator<Item = f32>, b: impl IntoIterator<Item = f32>) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| f64::from(a) * f64::from(b)).sum()
}

fn tangent(network: &dyn Network, seed: u64) -> Parameters {
    let mut tangent = network.parameters().zeros_like();
    let unit = &mut tangent.units_mut()[0];
    *unit = numbers(unit.len(), seed);
    tangent
}

/// Jᵀ·cotangent.
fn pulled_back(network: &dyn Network, x: &Mat, cotangent: &Mat) -> Vec<f32> {
    let mut tape = Tape::default();
    network.forward(x.view(), Some(&mut tape)).unwrap();
    let mut gradient = tangent(network, 40);
    network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
    gradient.units()[0].clone()
}

#[test]
fn derivatives_agree_with_finite_differences() {
    let (mut network, x, cotangent) = (network(), matrix(11, 3, 1), matrix(11, 4, 2));
    let gradient = pulled_back(&*network, &x, &cotangent);
    let step = 1e-2f32;
    for (i, got) in gradient.iter().enumerate() {
        let mut moved = |by: f32| {
            network.parameters_mut().units_mut()[0][i] += by;
            let values = network.forward(x.view(), None).unwrap();
            network.parameters_mut().units_mut()[0][i] -= by;
            inner(values, cotangent.iter().copied())
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        assert!((f64::from(*got) - slope).abs() < 1e-3, "parameter {i}: {got}, {slope}");
    }

    let direction = tangent(&*network, 3);
    let derivative = network.jvp(x.view(), &direction).unwrap();
    let mut moved = |by: f32| {
        let start = network.parameters().clone();
        let unit = &mut network.parameters_mut().units_mut()[0];
        unit.iter_mut().zip(&direction.units()[0]).for_each(|(v, d)| *v += by * d);
        let values = network.forward(x.view(), None).unwrap();
        *network.parameters_mut() = start;
        values
    };
    let slope = (moved(step) - moved(-step)) / (2.0 * step);
    for (got, slope) in derivative.iter().zip(&slope) {
        assert!((got - slope).abs() < 1e-3, "{got}, {slope}");
    }
}

#[test]
fn reverse_mode_is_the_adjoint_of_forward_mode() {
    let (network, x, cotangent) = (network(), matrix(30, 3, 1), matrix(30, 4, 2));
    let direction = tangent(&*network, 3);
    let pulled = pulled_back(&*network, &x, &cotangent);
    let derivative = network.jvp(x.view(), &direction).unwrap();
    let (forward, reverse) = (
        inner(derivative, cotangent.iter().copied()),
        inner(pulled, direction.units()[0].iter().copied()),
    );
    assert!((forward - reverse).abs() < 1e-4 * forward.abs().max(1.0), "{forward}, {reverse}");
}

#[test]
fn a_tape_holds_what_the_network_left_and_nothing_of_another() {
    let (network, x, cotangent) = (network(), matrix(6, 3, 1), matrix(6, 4, 2));
    let mut gradient = network.parameters().zeros_like();
    let mut tape = Tape::default();
    let fault = |result: Result<()>| {
        assert!(matches!(&result, Err(Error::Shape { what, .. }) if what == "tape"), "{result:?}");
    };
    fault(network.vjp(&tape, cotangent.view(), &mut gradient));
    // Another network takes the tape's place for its own values.
    let spec: NetworkSpec = "mlp(hidden=[8])".parse().unwrap();
    let dense = spec.build(3, 4, 1, 0).unwrap();
    let values = dense.forward(x.view(), Some(&mut tape)).unwrap();
    fault(network.vjp(&tape, cotangent.view(), &mut gradient));
    network.forward(x.view(), Some(&mut tape)).unwrap();
    network.vjp(&tape, cotangent.view(), &mut gradient).unwrap();
    assert_eq!(gradient.units()[0], pulled_back(&*network, &x, &cotangent));
    let mut dense_gradient = dense.parameters().zeros_like();
    fault(dense.vjp(&tape, cotangent.view(), &mut dense_gradient));
    assert_eq!(dense.forward(x.view(), Some(&mut tape)).unwrap(), values);
    dense.vjp(&tape, cotangent.view(), &mut dense_gradient).unwrap();
}

#[test]
fn jacobians_and_tangent_kernels_follow() {
    let (network, x) = (network(), matrix(5, 3, 1));
    let (n, k, size) = (x.nrows(), network.functions(), network.parameters().len());
    let mut jacobians = Vec::new();
    per_sample_jacobians(&*network, x.view(), &mut jacobians).unwrap();
    assert_eq!(jacobians[0].len(), n * k * size);
    let rows: Vec<&[f32]> = jacobians[0].chunks_exact(size).collect();
    for (row, got) in rows.iter().enumerate() {
        let mut cotangent = Mat::zeros((n, k));
        cotangent[[row / k, row % k]] = 1.0;
        assert_eq!(*got, pulled_back(&*network, &x, &cotangent), "row {row}");
    }
    let gram = exact_ntk(&*network, x.view(), None, None, 64).unwrap();
    for ((i, j), value) in gram.indexed_iter() {
        let expected = inner(rows[i].iter().copied(), rows[j].iter().copied());
        assert!((value - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{i}, {j}");
    }
    // Σ over points of weight times derivative, for each function and each column of weights.
    let weights = matrix(n, 2, 9);
    let mut tape = Tape::default();
    network.forward(x.view(), Some(&mut tape)).unwrap();
    let contracted = contracted_jacobian(&*network, &tape, weights.view()).unwrap();
    for (function, column) in (0..k).flat_map(|i| (0..2).map(move |j| (i, j))) {
        for (p, got) in contracted[function * 2 + column].iter().enumerate() {
            let term = |i: usize| weights[[i, column]] * rows[i * k + function][p];
            let expected: f32 = (0..n).map(term).sum();
            assert!((got - expected).abs() < 1e-4, "{function}, {column}, {p}");
        }
    }
}

#[test]
fn sizes_weights_and_absent_capabilities() {
    let (mut network, spec) = (network(), CosinesSpec { count: 7 });
    let size = spec.size(3, 4, 1);
    assert_eq!(size.parameters, network.parameters().len() as u64);
    assert_eq!(size.hidden, network.hidden_width() as u64);
    assert_eq!(spec.text(), "cosines(count=7)");
    assert!(spec.build(3, 4, 2, 0).is_err());
    // Nothing that the trait does not ask for is there, and what asks for it may go without.
    assert!(network.batch_statistics().is_none() && !network.uses_batch_statistics());
    network.freeze(true);
    network.update_running_statistics(&Tape::default(), 1.0);
    assert!(network.layer_features().is_none() && network.layer_second_moments().is_none());
    assert!(network.input_gradients().is_none() && network.per_sample_jacobians().is_none());
    assert!(network.data_dependent_init().is_none() && network.tangent_directions().is_none());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cosines.safetensors");
    write_weights(&*network, &path).unwrap();
    let weights = network.parameters().clone();
    network.parameters_mut().units_mut()[0].fill(0.0);
    read_weights(&mut *network, &path).unwrap();
    assert_eq!(*network.parameters(), weights);

    let wrong = NamedTensor {
        name: "weight".into(),
        shape: vec![2, 3],
        role: Role::Weight { fan_in: 2 },
        values: vec![0.0; 5],
    };
    let message = Parameters::from_tensors(vec![vec![wrong]]).unwrap_err().to_string();
    assert!(message.contains("weight") && message.contains('6'), "{message}");
}

#[test]
fn it_is_trained_read_out_saved_and_missed_by_name() {
    let network = || -> Arc<dyn Architecture> { Arc::new(CosinesSpec { count: 40 }) };
    let spec = FitSpec {
        network: Spec::own(network()),
        steps: Steps::Exactly(100),
        ..FitSpec::new("rbf(lengthscale=1)", 3).unwrap()
    };
    let data = Dataset::open("gaussian(n=300, d=2)", 1).unwrap();
    let model = fit(&data, &spec).unwrap();
    // The span of forty random cosines and a constant holds smooth functions of the plane.
    let exact = FitSpec { method: "kernel_pca".parse().unwrap(), ..spec };
    let exact = fit(&data, &exact).unwrap();
    for (mu, exact) in model.eigenvalues().iter().zip(exact.eigenvalues()) {
        assert!((mu / exact - 1.0).abs() < 0.01, "{mu} {exact}");
    }

    let bytes = model.to_bytes().unwrap();
    let error = Model::from_bytes(&bytes).err().unwrap();
    let name = "cosines(count=40)";
    assert!(
        matches!(&error, Error::OwnedByProgram { kind: "network", name: n } if n == name),
        "{error}"
    );
    let options = LoadOptions::default().network(network());
    let again = Model::from_bytes_with(&bytes, options).unwrap();
    let x = data.range(0..20).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    assert_eq!(again.to_bytes().unwrap(), bytes);
    let other = LoadOptions::default().network(Arc::new(CosinesSpec { count: 41 }));
    let error = Model::from_bytes_with(&bytes, other).err().unwrap().to_string();
    assert_eq!(error, "network: expected cosines(count=40), got cosines(count=41)");
}
