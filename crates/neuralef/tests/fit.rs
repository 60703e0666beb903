//! The fit as users meet it: right answers, the same bits, honest errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use ndarray::Array2;
use neuralef::fit::{Checkpoint, EvaluateOptions, ReadoutKind, Steps};
use neuralef::operator::OperatorSpec;
use neuralef::train::{Control, Event};
use neuralef::{Dataset, Error, Fit, FitSpec, Model, fit};

fn spec(kernel: &str, k: usize, steps: u64) -> FitSpec {
    FitSpec {
        network: "mlp(hidden=[16, 16], activation=sin_cos)".parse().unwrap(),
        steps: Steps::Exactly(steps),
        batch_size: 64,
        ..FitSpec::new(kernel, k).unwrap()
    }
}

fn bytes(model: &Model, directory: &Path) -> Vec<u8> {
    let path = directory.join("model.safetensors");
    model.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn eigenvalues_of_brownian_motion_within_three_standard_errors() {
    let data = Dataset::open("uniform(n=2000, d=1, low=0, high=1)", 4).unwrap();
    let model = fit(&data, &spec("brownian", 5, 100)).unwrap();
    for (j, pair) in model.certificate().pairs.iter().enumerate() {
        let mu = 1.0 / ((j as f64 + 0.5) * std::f64::consts::PI).powi(2);
        let off = (pair.eigenvalue - mu).abs();
        assert!(off < 3.0 * pair.standard_error, "{j}: {} not {mu}", pair.eigenvalue);
        // sd(ψ²) = 1/√2 for ψ = √2 sin: the standard error itself has a closed form.
        let error = mu / (2.0 * 1800f64).sqrt();
        assert!((pair.standard_error / error - 1.0).abs() < 0.1, "{}", pair.standard_error);
        assert!(pair.residual < 0.05, "{j}: {}", pair.residual);
    }
    assert!((model.certificate().trace - 0.5).abs() < 0.05);
}

#[test]
fn eigenfunctions_of_brownian_motion_are_sines() {
    let data = Dataset::open("uniform(n=2000, d=1, low=0, high=1)", 4).unwrap();
    let model = fit(&data, &spec("brownian", 4, 100)).unwrap();
    let x = Array2::from_shape_fn((500, 1), |(i, _)| (i as f32 + 0.5) / 500.0);
    let psi = model.eigenfunctions(x.view()).unwrap();
    for j in 0..4 {
        let sine = x
            .column(0)
            .mapv(|t| 2f64.sqrt() * ((j as f64 + 0.5) * std::f64::consts::PI * f64::from(t)).sin());
        let cosine = sine.dot(&psi.column(j))
            / sine.dot(&sine).sqrt()
            / psi.column(j).dot(&psi.column(j)).sqrt();
        assert!(cosine.abs() > 0.995, "{j}: {cosine}");
    }
    // Features reproduce the kernel up to the discarded tail, E κ² beyond k = Σ_{j>4} μ_j².
    let phi = model.transform(x.view()).unwrap();
    let gram = phi.dot(&phi.t());
    let square: f64 = gram
        .indexed_iter()
        .map(|((a, b), v)| (f64::from(*v) - f64::from(x[[a, 0]].min(x[[b, 0]]))).powi(2))
        .sum::<f64>()
        / (500.0 * 500.0);
    let tail: f64 = (4..2000)
        .map(|j| (1.0 / ((f64::from(j) + 0.5) * std::f64::consts::PI).powi(2)).powi(2))
        .sum();
    assert!(square < 4.0 * tail, "{square} against a tail of {tail}");
}

#[test]
fn raw_training_alone_learns_the_leading_eigenfunctions() {
    let data = Dataset::open("uniform(n=1000, d=1, low=0, high=1)", 4).unwrap();
    let mut spec = spec("brownian", 2, 1500);
    spec.readout = ReadoutKind::None;
    spec.optimizer = "adam(lr=3e-3)".parse().unwrap();
    let model = fit(&data, &spec).unwrap();
    let pi = std::f64::consts::PI;
    for j in 0..2 {
        let mu = 1.0 / ((j as f64 + 0.5) * pi).powi(2);
        assert!((model.eigenvalues()[j] / mu - 1.0).abs() < 0.1, "{:?}", model.eigenvalues());
    }
    let x = Array2::from_shape_fn((500, 1), |(i, _)| (i as f32 + 0.5) / 500.0);
    let psi = model.eigenfunctions(x.view()).unwrap();
    for j in 0..2 {
        let sine = x.column(0).mapv(|t| ((j as f64 + 0.5) * pi * f64::from(t)).sin());
        let own = psi.column(j);
        let cosine = (sine.dot(&own) / sine.dot(&sine).sqrt() / own.dot(&own).sqrt()).abs();
        assert!(cosine > 0.98, "{j}: {cosine}");
    }
}

/// Fits without training and compares with the exact eigenpairs on all training points, at fresh ones.
fn compare_with_exact(data: &str, kernel: &str, usable: usize) {
    let draw = |n: usize, seed: u64| Dataset::open(&format!("{data}, n={n})"), seed).unwrap();
    let (train, validation, fresh) = (draw(2000, 1), draw(400, 2), draw(1000, 3));
    let mut spec = spec(kernel, 10, 0);
    spec.network = "mlp(hidden=[32, 32], activation=sin_cos)".parse().unwrap();
    let (model, _) = Fit::new(spec).validation(validation).run(&train).unwrap();
    assert_eq!(model.n_components(), usable, "{:?}", model.eigenvalues());
    let options = EvaluateOptions { reference: Some(train), ..EvaluateOptions::default() };
    let exact = model.evaluate(&fresh, &options).unwrap().exact.unwrap().comparison;
    for j in 0..usable {
        let (cosine, error) =
            (exact.eigenfunctions.subspace_cosines[j], exact.eigenvalue_errors[j]);
        assert!(cosine >= 0.9999 && error <= 1e-4, "{kernel} {j}: {cosine} {error}");
    }
}

#[test]
fn ten_eigenpairs_of_known_kernels_are_those_of_the_gram_matrix() {
    compare_with_exact("uniform(d=1, low=-2, high=2", "rbf(lengthscale=1)", 10);
    compare_with_exact(
        "uniform(d=1, low=-1, high=1",
        "polynomial(degree=4, gamma=1, coef0=1.5)",
        5,
    );
    compare_with_exact("uniform(d=1, low=0, high=1", "brownian", 10);
    // Hermite products: pairs and triples of near-equal eigenvalues, compared as subspaces.
    compare_with_exact("gaussian(d=2", "rbf(lengthscale=1)", 10);
}

#[test]
fn digits_untrained_are_within_a_hundredth_of_nystrom() {
    let digits = Dataset::open("digits", 0).unwrap();
    let spec = FitSpec {
        validation_fraction: 0.25,
        steps: Steps::Exactly(0),
        ..FitSpec::new("rbf(lengthscale=median)", 10).unwrap()
    };
    let split = spec.split(digits.len());
    let nystrom = FitSpec { method: "nystrom(landmarks=100000)".into(), ..spec.clone() };
    let test = digits.subset(split.certificate).unwrap();
    let options = EvaluateOptions { reference: Some(digits.clone()), ..EvaluateOptions::default() };
    let cosines = |spec: &FitSpec| {
        let exact = fit(&digits, spec).unwrap().evaluate(&test, &options).unwrap().exact;
        exact.unwrap().comparison.eigenfunctions.subspace_cosines
    };
    for (j, (own, peer)) in cosines(&spec).iter().zip(cosines(&nystrom)).enumerate() {
        assert!(peer - own < 0.01, "{j}: {own} against {peer}");
    }
}

#[test]
fn training_lowers_the_residual_of_the_outputs() {
    let data = Dataset::open("uniform(n=1000, d=1, low=0, high=1)", 4).unwrap();
    let residual = |steps: u64| {
        let mut spec = spec("brownian", 3, steps);
        spec.readout = ReadoutKind::Ritz;
        fit(&data, &spec).unwrap().info().record.readout.clone().unwrap().residual
    };
    let (before, after) = (residual(0), residual(1000));
    assert!(after < before / 2.0, "{before} {after}");
}

#[test]
fn every_objective_learns_the_leading_eigenfunctions() {
    let data = Dataset::open("uniform(n=1000, d=1, low=0, high=1)", 4).unwrap();
    for objective in ["mu_eigengame", "nested_lora", "nested_lora(nesting=joint)", "spin(beta=0.1)"]
    {
        let mut spec = spec("brownian", 2, 1500);
        (spec.readout, spec.objective) = (ReadoutKind::None, objective.into());
        spec.optimizer = "adam(lr=3e-3)".parse().unwrap();
        let model = fit(&data, &spec).unwrap();
        for j in 0..2 {
            let mu = 1.0 / ((j as f64 + 0.5) * std::f64::consts::PI).powi(2);
            let (got, residual) = (model.eigenvalues()[j], model.certificate().pairs[j].residual);
            assert!((got / mu - 1.0).abs() < 0.1 && residual < 0.25, "{objective} {j}: {got} {mu}");
        }
    }
}

#[test]
fn eigengame_gives_the_spectrum_of_the_linear_kernel() {
    let data = Dataset::open("gaussian(n=2000, d=4)", 1).unwrap();
    let x = data.range(0..2000).unwrap();
    let stretch = ndarray::arr1(&[2.0f32, 1.2, 0.6, 0.1]);
    let data = Dataset::from_array("stretched", &x * &stretch).unwrap();
    let mut spec = spec("linear", 2, 2000);
    spec.network = "mlp(hidden=[])".parse().unwrap();
    spec.optimizer = "sgd(lr=0.05, momentum=0)".parse().unwrap();
    (spec.objective, spec.readout) = ("eigengame_pca".into(), ReadoutKind::None);
    let model = fit(&data, &spec).unwrap();
    let exact = fit(&data, &FitSpec { method: "nystrom(landmarks=2000)".into(), ..spec }).unwrap();
    for (j, (got, mu)) in model.eigenvalues().iter().zip(exact.eigenvalues()).enumerate() {
        assert!((got / mu - 1.0).abs() < 1e-3, "{j}: {got} {mu}");
        assert!(model.certificate().pairs[j].residual < 0.05, "{:?}", model.certificate());
    }
}

#[test]
fn automatic_training_of_raw_outputs_goes_on_while_it_pays() {
    let data = Dataset::open("uniform(n=1000, d=1, low=0, high=1)", 4).unwrap();
    let mut spec = spec("brownian", 2, 0);
    (spec.readout, spec.steps, spec.max_steps) = (ReadoutKind::None, Steps::Auto, 2000);
    spec.optimizer = "adam(lr=3e-3)".parse().unwrap();
    let record = fit(&data, &spec).unwrap().info().record.clone();
    let checks = record.auto_checks;
    // It goes on past the first stall, and keeps the best of all checks.
    assert!(record.steps > 0 && checks.len() > 3, "{checks:?}");
    assert!(record.readout.unwrap().residual < 0.5 * checks[0].1, "{checks:?}");
}

#[test]
fn a_gram_matrix_keeps_the_pairs_its_kernel_has() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open("uniform(n=600, d=1, low=-2, high=2)", 1).unwrap();
    let x = data.range(0..600).unwrap();
    let gram = Array2::from_shape_fn((600, 600), |(i, j)| {
        (-0.5 * (f64::from(x[[i, 0]]) - f64::from(x[[j, 0]])).powi(2)).exp() as f32
    });
    let path = folder.path().join("gram.npy");
    neuralef::data::write_npy(&path, gram.view()).unwrap();
    // A kernel is solved over the held-out points too, a Gram matrix without them.
    let kernel = spec("rbf(lengthscale=1)", 9, 0);
    let split = kernel.split(600);
    let held_out = [&split.selection[..], &split.certificate[..]].concat();
    let by_kernel = Fit::new(kernel).validation(data.subset(held_out).unwrap());
    let by_kernel = by_kernel.run(&data.subset(split.train).unwrap()).unwrap().0;
    let spec = FitSpec { operator: Some(OperatorSpec::gram(path)), ..spec("rbf", 9, 0) };
    let by_gram = fit(&data, &spec).unwrap();
    assert_eq!(by_gram.n_components(), 9, "{:?}", by_gram.info().warnings);
    for (a, b) in by_gram.eigenvalues().iter().zip(by_kernel.eigenvalues()) {
        assert!((a - b).abs() < 1e-3 * b, "{a} {b}");
    }
}

#[test]
fn the_certificate_of_few_landmarks_shows_their_error() {
    let data = Dataset::open("gaussian(n=2000, d=4)", 1).unwrap();
    for selection in ["uniform", "kmeans"] {
        let rms = |landmarks: usize| {
            let mut spec = FitSpec::new("rbf(lengthscale=2)", 4).unwrap();
            let method =
                format!("landmarks={landmarks}, selection={selection}, eigenproblem=landmarks");
            spec.method = format!("nystrom({method})").into();
            let model = fit(&data, &spec).unwrap();
            let square = |p: &neuralef::fit::PairCertificate| p.residual.powi(2);
            model.certificate().pairs.iter().map(square).sum::<f64>().sqrt()
        };
        let (few, many) = (rms(50), rms(800));
        assert!(few > 0.02 && many < 0.7 * few, "{selection}: {few} {many}");
    }
}

#[test]
fn the_population_residual_has_no_bias_of_squared_noise() {
    // Few landmarks are a known, large error: against the operator of many training points it is
    // measured without noise, and the held-out points alone must find the same square.
    let (mut found, mut variance, mut known) = (0.0, 0.0, 0.0);
    for seed in 0..20 {
        let data = Dataset::open("gaussian(n=6000, d=2)", seed).unwrap();
        let mut spec = FitSpec { seed, ..FitSpec::new("rbf(lengthscale=1)", 1).unwrap() };
        spec.method = "nystrom(landmarks=20, eigenproblem=landmarks)".into();
        let pair = fit(&data, &spec).unwrap().certificate().pairs[0].clone();
        found += pair.population_residual_squared;
        variance += pair.population_residual_squared_error.powi(2);
        known += pair.residual.powi(2);
    }
    let error = variance.sqrt();
    assert!((found - known).abs() < 4.0 * error, "{found} ± {error}, not {known}");
    assert!(known > 6.0 * error, "not resolved: {known} ± {error}");
}

#[test]
fn a_kernel_that_vanishes_between_points_is_fitted_without_a_gram_error() {
    let data = Dataset::open("gaussian(n=200, d=20)", 0).unwrap();
    let model = fit(&data, &spec("rbf(lengthscale=0.05)", 3, 0)).unwrap();
    assert_eq!(model.certificate().gram_error, None);
}

#[test]
fn coinciding_points_make_fewer_landmarks() {
    let x = Array2::from_shape_fn((240, 1), |(i, _)| (i % 12) as f32);
    let data = Dataset::from_array("twelve", x).unwrap();
    for selection in ["uniform", "kmeans"] {
        let mut spec = FitSpec::new("rbf(lengthscale=1)", 20).unwrap();
        spec.method = format!("nystrom(landmarks=60, selection={selection})").into();
        let model = fit(&data, &spec).unwrap();
        assert_eq!(model.n_components(), 12, "{selection}");
        assert!(model.info().warnings.iter().any(|w| w.contains("only 12 of 20")), "{selection}");
    }
}

#[test]
fn a_kernel_of_low_rank_keeps_its_usable_directions() {
    let data = Dataset::open("uniform(n=600, d=1, low=-1, high=1)", 1).unwrap();
    let model = fit(&data, &spec("polynomial(degree=2, gamma=1, coef0=1)", 6, 50)).unwrap();
    assert_eq!(model.n_components(), 3, "{:?}", model.eigenvalues());
    assert!(model.info().warnings.iter().any(|w| w.contains("only 3 of 6")));
    assert!((model.certificate().captured_trace - 1.0).abs() < 1e-6);
}

#[test]
fn nystrom_on_all_training_points_has_no_residual() {
    let data = Dataset::open("two_moons(n=300)", 2).unwrap();
    let mut spec = FitSpec::new("rbf(lengthscale=0.5)", 6).unwrap();
    spec.method = "nystrom(landmarks=100000)".into();
    let model = fit(&data, &spec).unwrap();
    for pair in &model.certificate().pairs {
        assert!(pair.residual < 1e-9, "{}", pair.residual);
    }
}

#[test]
fn same_seed_same_bits_whatever_the_threads() {
    let directory = tempfile::tempdir().unwrap();
    let data = Dataset::open("two_moons(n=500)", 0).unwrap();
    let spec = spec("rbf(lengthscale=0.5)", 4, 60);
    let fit_with = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let spec = FitSpec { seed, ..spec.clone() };
        pool.install(|| bytes(&fit(&data, &spec).unwrap(), directory.path()))
    };
    let one = fit_with(1, 0);
    assert!(one == fit_with(1, 0), "two runs on one thread differ");
    assert!(one == fit_with(2, 0), "one and two threads differ");
    assert!(one != fit_with(1, 1), "the seed has no effect");
}

#[test]
fn the_bases_of_an_optimizer_count_in_the_memory_budget() {
    let data = Dataset::open("two_moons(n=500)", 0).unwrap();
    let mut spec = FitSpec {
        network: "shared_mlp(hidden=[1500])".parse().unwrap(),
        readout: ReadoutKind::None,
        memory_budget: 96,
        ..spec("rbf(lengthscale=0.5)", 4, 2)
    };
    fit(&data, &spec).unwrap();
    spec.optimizer = "soap".parse().unwrap();
    match fit(&data, &spec) {
        Err(Error::MemoryBudget { needed_mib, budget_mib, .. }) => {
            // C and Q with copies, a decomposition and what it is made of: at least 36 bytes a square.
            assert!(budget_mib == 96 && needed_mib > (36 * 1501 * 1501) >> 20, "{needed_mib}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    spec.optimizer = "soap(max_inputs=100)".parse().unwrap();
    fit(&data, &spec).unwrap();
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fit.ckpt");
    let data = Dataset::open("two_moons(n=500)", 0).unwrap();
    let exact = spec("rbf(lengthscale=0.5)", 4, 120);
    // A basis too small to be good enough untrained, so that training goes on.
    let mut auto = FitSpec { steps: Steps::Auto, max_steps: 600, ..exact.clone() };
    auto.network = "mlp(hidden=[4], activation=tanh)".parse().unwrap();
    // An objective with a memory of its own.
    let spin = FitSpec { objective: "spin(beta=0.1)".into(), ..exact.clone() };
    // An optimizer with more than moments, between two of its bases.
    let soap = FitSpec { optimizer: "soap(frequency=10)".parse().unwrap(), ..exact.clone() };
    let cases = [(exact, 47), (auto.clone(), 47), (auto, 250), (spin, 47), (soap, 47)];
    for (spec, stop_at) in cases {
        let whole = bytes(&fit(&data, &spec).unwrap(), directory.path());
        let mut stopper = |event: &Event<'_>| match event {
            Event::Step { step, .. } if *step == stop_at => Control::Stop,
            _ => Control::Continue,
        };
        let stopped = Fit::new(spec).observer(&mut stopper).checkpoint(&path, 0).run(&data);
        match stopped {
            Err(Error::Interrupted { step, checkpoint }) => {
                assert_eq!((step, checkpoint.as_deref()), (stop_at, Some(path.as_path())));
            }
            other => panic!("not interrupted: {:?}", other.map(|r| r.1)),
        }
        let checkpoint = Checkpoint::read(&path).unwrap();
        let (model, _) = Fit::resume(checkpoint).run(&data).unwrap();
        assert!(bytes(&model, directory.path()) == whole, "resumed at {stop_at} differs");
    }
}

#[test]
fn a_run_stopped_between_its_steps_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fit.ckpt");
    let data = Dataset::open("two_moons(n=300)", 0).unwrap();
    let network = "mlp(hidden=[4], activation=tanh)".parse().unwrap();
    // Outputs that are poor untrained, so that training goes on.
    let readout = ReadoutKind::Ritz;
    let exact = FitSpec { network, readout, ..spec("rbf(lengthscale=0.5)", 4, 30) };
    let auto = FitSpec { steps: Steps::Auto, max_steps: 300, ..exact.clone() };
    // Events between steps: readouts and checks; the run stops at the n-th of them.
    for (spec, event_number) in [(exact, 0), (auto.clone(), 0), (auto.clone(), 1), (auto, 2)] {
        let whole = bytes(&fit(&data, &spec).unwrap(), directory.path());
        let mut seen = 0;
        let mut stopper = |event: &Event<'_>| {
            if !matches!(event, Event::Phase { name: "readout" } | Event::AutoCheck { .. }) {
                return Control::Continue;
            }
            seen += 1;
            if seen == event_number + 1 { Control::Stop } else { Control::Continue }
        };
        let stopped = Fit::new(spec).observer(&mut stopper).checkpoint(&path, 0).run(&data);
        assert!(matches!(stopped, Err(Error::Interrupted { .. })), "event {event_number}");
        let checkpoint = Checkpoint::read(&path).unwrap();
        let (model, _) = Fit::resume(checkpoint).run(&data).unwrap();
        let resumed = bytes(&model, directory.path());
        assert!(resumed == whole, "resumed after event {event_number} differs");
    }
}

#[test]
fn a_run_stopped_in_the_middle_of_its_last_readout_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fit.ckpt");
    // More points than a check streams: the readout of the best parameters comes after the checks.
    let data = Dataset::open("two_moons(n=5000)", 0).unwrap();
    let network = "mlp(hidden=[3], activation=tanh)".parse().unwrap();
    let (readout, steps) = (ReadoutKind::Ritz, Steps::Auto);
    let spec = spec("rbf(lengthscale=0.5)", 2, 0);
    let spec = FitSpec { network, readout, steps, max_steps: 20, ..spec };
    let mut blocks = 0;
    let mut stopper = |event: &Event<'_>| match event {
        Event::Progress { done: 3, total: 5 } => Control::Stop,
        Event::Progress { total, .. } => {
            blocks = blocks.max(*total);
            Control::Continue
        }
        _ => Control::Continue,
    };
    let stopped =
        Fit::new(spec.clone()).observer(&mut stopper).checkpoint(&path, 0).run(&data).map(|r| r.1);
    assert!(matches!(stopped, Err(Error::Interrupted { step: 20, .. })), "{stopped:?}, {blocks}");
    let (model, _) = Fit::resume(Checkpoint::read(&path).unwrap()).run(&data).unwrap();
    let whole = bytes(&fit(&data, &spec).unwrap(), directory.path());
    assert!(bytes(&model, directory.path()) == whole);
}

#[test]
fn a_saved_model_gives_the_same_bits_and_rows_are_independent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    for (method, readout) in [
        ("neuralef", ReadoutKind::Galerkin),
        ("neuralef", ReadoutKind::Ritz),
        ("neuralef", ReadoutKind::None),
        ("nystrom(landmarks=100)", ReadoutKind::None),
    ] {
        let data = Dataset::open("digits", 0).unwrap();
        let mut spec = spec("rbf(lengthscale=median)", 5, 20);
        (spec.method, spec.readout) = (method.into(), readout);
        spec.standardize = method == "neuralef";
        let model = fit(&data, &spec).unwrap();
        model.save(&path).unwrap();
        let loaded = Model::load(&path).unwrap();
        let x = data.range(0..301).unwrap();
        let whole = model.transform(x.view()).unwrap();
        assert_eq!(whole, loaded.transform(x.view()).unwrap());
        // One at a time, and in reverse order.
        let reversed = x.slice(ndarray::s![..;-1, ..]).to_owned();
        let back = model.transform(reversed.view()).unwrap();
        assert_eq!(back.slice(ndarray::s![..;-1, ..]), whole);
        for row in [0, 1, 255, 256, 300] {
            let alone = model.transform(x.slice(ndarray::s![row..=row, ..])).unwrap();
            assert_eq!(alone.row(0), whole.row(row), "{method} {readout} row {row}");
        }
        assert!(matches!(model.transform(Array2::zeros((3, 63)).view()), Err(Error::Shape { .. })));
        let mut hole = x.clone();
        hole[[17, 3]] = f32::NAN;
        assert!(matches!(
            model.transform(hole.view()),
            Err(Error::NonFinite { row: 17, column: 3, .. })
        ));
    }
}

#[test]
fn a_diverging_run_stops_and_says_why() {
    let data = Dataset::open("two_moons(n=200)", 0).unwrap();
    let mut spec = spec("rbf(lengthscale=0.5)", 3, 200);
    spec.network = "mlp(hidden=[16], activation=relu)".parse().unwrap();
    spec.optimizer = "sgd(lr=1e30)".parse().unwrap();
    match fit(&data, &spec) {
        Err(Error::Diverged { step, advice, .. }) => {
            assert!(step < 200 && advice.contains("learning rate"), "{advice}");
        }
        other => panic!("{:?}", other.map(|m| m.info().clone())),
    }
}

#[test]
fn impossible_requests_are_refused_by_name() {
    let data = Dataset::open("two_moons(n=100)", 0).unwrap();
    let refused = |edit: &dyn Fn(&mut FitSpec), name: &str| {
        let mut spec = spec("rbf(lengthscale=0.5)", 3, 1);
        edit(&mut spec);
        let message = fit(&data, &spec).err().expect(name).to_string();
        assert!(message.contains(name), "{message}");
    };
    refused(&|s| s.n_components = 101, "n_components");
    refused(&|s| s.n_components = 0, "n_components");
    refused(&|s| s.memory_budget = 0, "memory budget");
    refused(&|s| s.operator = Some("brownian".parse().unwrap()), "brownian");
    refused(&|s| s.method = "nistrom".into(), "nystrom");
    refused(&|s| s.objective = "neuralef(estimator=x)".into(), "estimator");
}

#[test]
fn a_batch_larger_than_the_data_is_reduced_on_the_record() {
    let data = Dataset::open("two_moons(n=100)", 0).unwrap();
    let mut spec = spec("rbf(lengthscale=0.5)", 3, 2);
    spec.batch_size = 4096;
    let model = fit(&data, &spec).unwrap();
    assert_eq!(model.info().spec.batch_size, 90);
    assert!(model.info().warnings.iter().any(|w| w.contains("batch_size reduced from 4096")));
}

#[test]
fn standard_errors_are_the_spread_over_samples() {
    let mut values = Vec::new();
    let mut claimed = 0.0;
    for seed in 0..60 {
        let data = Dataset::open("uniform(n=300, d=1, low=0, high=1)", seed).unwrap();
        let mut spec = FitSpec::new("brownian", 2).unwrap();
        spec.method = "nystrom(landmarks=100000)".into();
        let pair = fit(&data, &spec).unwrap().certificate().pairs[0].clone();
        values.push(pair.eigenvalue);
        claimed += pair.standard_error / 60.0;
    }
    let mean = values.iter().sum::<f64>() / 60.0;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
    // The spread of a standard deviation from 60 values is 9 %.
    assert!((claimed / sd - 1.0).abs() < 0.27, "claimed {claimed}, found {sd}");
}
