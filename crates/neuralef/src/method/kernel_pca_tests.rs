//! Kernel PCA: its solvers against one another, and against Nyström with every point a landmark.

use super::*;
use crate::closed_form::{KnownSpectrum as _, RbfGaussian};
use crate::metrics::{compare_eigenfunctions, cosines};
use crate::operator::OperatorSpec;
use crate::{Dataset, Fit, Mat64, Model, fit};
use crate::{FitSpec, KernelSpec};

fn spec(kernel: &str, k: usize, method: &str) -> FitSpec {
    FitSpec { method: method.into(), ..FitSpec::new(kernel, k).unwrap() }
}

fn psi(model: &Model, data: &Dataset) -> Mat64 {
    model.eigenfunctions(data.range(0..data.len()).unwrap().view()).unwrap()
}

#[test]
fn both_solvers_are_nystrom_with_every_point_a_landmark() {
    let data = Dataset::open("gaussian(n=1100, d=3, seed=4)", 0).unwrap();
    let fresh = Dataset::open("gaussian(n=200, d=3, seed=5)", 0).unwrap();
    let kernel = "rbf(lengthscale=2)";
    let nystrom =
        fit(&data, &spec(kernel, 8, "nystrom(landmarks=100000, eigenproblem=landmarks)")).unwrap();
    // Held-out points are no landmarks.
    assert_eq!(nystrom.info().record.landmarks, Some(990));
    for solver in ["auto", "dense", "matrix_free"] {
        let model = fit(&data, &spec(kernel, 8, &format!("kernel_pca(solver={solver})"))).unwrap();
        assert_eq!(model.info().record.landmarks, Some(990));
        assert!(model.info().warnings.is_empty(), "{:?}", model.info().warnings);
        for (a, b) in model.eigenvalues().iter().zip(nystrom.eigenvalues()) {
            assert!((a / b - 1.0).abs() < 1e-11, "{solver}: {a} {b}");
        }
        let c = cosines(psi(&model, &fresh).view(), psi(&nystrom, &fresh).view()).unwrap();
        assert!(c.iter().all(|c| 1.0 - c < 1e-10), "{solver}: {c:?}");
        for pair in &model.certificate().pairs {
            assert!(pair.residual < 1e-11, "{solver}: {}", pair.residual);
        }
        assert_eq!(model.certificate().training_points, 990);
    }
}

#[test]
fn degenerate_pairs_come_whole() {
    // Rotations of a symmetric set: x and y swapped, and the signs of either, leave it as it is.
    let quarter = Dataset::open("gaussian(n=150, d=2, seed=1)", 0).unwrap().range(0..150).unwrap();
    let x = crate::Mat::from_shape_fn((1200, 2), |(i, j)| {
        let (p, turn) = (quarter.row(i / 8), i % 8);
        let value = p[if turn & 4 == 0 { j } else { 1 - j }];
        if turn >> j & 1 == 0 { value } else { -value }
    });
    let kernel = "rbf(lengthscale=1)".parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap();
    let watch = |_: &Event<'_>| Control::Continue;
    let mut observers = [watch, watch];
    let [dense, free] = [Plan::Stored, Plan::MatrixFree].map(|plan| {
        let observer = RefCell::new(&mut observers[usize::from(plan == Plan::Stored)] as _);
        solve(plan, &*kernel, x.view().into(), 12, &Watch { observer, done: Cell::new(0) }).unwrap()
    });
    assert!((dense.1 / free.1 - 1.0).abs() < 1e-13);
    let (dense, free) = (dense.0, free.0);
    // The first two functions above the ground state are x and y times one function.
    assert!((free.values[1] / free.values[2] - 1.0).abs() < 1e-12, "{:?}", free.values);
    for (a, b) in dense.values.iter().zip(&free.values) {
        assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
    }
    let found = compare_eigenfunctions(
        free.vectors.slice(ndarray::s![.., ..8]),
        dense.vectors.view(),
        &dense.values,
        1e-6,
    )
    .unwrap();
    assert!(found.clusters.iter().any(|c| c.len() == 2), "{:?}", found.clusters);
    assert!(found.subspace_cosines.iter().all(|c| 1.0 - c < 1e-9), "{:?}", found.subspace_cosines);
}

#[test]
fn it_estimates_the_population_within_the_errors_it_reports() {
    let data = Dataset::open("gaussian(n=3000, d=2, seed=2)", 0).unwrap();
    let model = fit(&data, &spec("rbf(lengthscale=1)", 1, "kernel_pca")).unwrap();
    let truth = RbfGaussian::isotropic(1.0, 1.0, 2).unwrap().eigenvalues(1).unwrap()[0];
    let pair = &model.certificate().pairs[0];
    assert!((pair.eigenvalue - truth).abs() < 4.0 * pair.standard_error, "{pair:?} {truth}");
    // s.e. = μ·sd(ψ²)/√n: for this kernel, between 0.5 % and 2 % of μ.
    let relative = pair.standard_error / truth;
    assert!((0.005..0.02).contains(&relative), "{relative}");
}

#[test]
fn a_kernel_of_low_rank_keeps_the_usable_pairs() {
    let data = Dataset::open("uniform(n=900, d=1, low=-1, high=1)", 1).unwrap();
    for (n, solver) in [(900, "dense"), (900, "matrix_free"), (100, "dense")] {
        let data = data.subset((0..n).collect()).unwrap();
        let method = format!("kernel_pca(solver={solver})");
        let model =
            fit(&data, &spec("polynomial(degree=2, gamma=1, coef0=1)", 6, &method)).unwrap();
        assert_eq!(model.n_components(), 3, "{solver}: {:?}", model.eigenvalues());
        assert!(model.info().warnings.iter().any(|w| w.contains("only 3 of 6")), "{solver}");
        assert!((model.certificate().captured_trace - 1.0).abs() < 1e-12);
    }
}

#[test]
fn memory_beyond_the_budget_is_refused_with_its_size() {
    let data = Dataset::open("gaussian(n=2250, d=2)", 0).unwrap();
    let mut spec = spec("rbf(lengthscale=1)", 4, "kernel_pca(solver=dense)");
    spec.memory_budget = 31;
    // 2,025 training points: 31.3 MiB for the matrix, and 48 + 48 + 8·8 vectors.
    let error = fit(&data, &spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::MemoryBudget { needed_mib: 34, budget_mib: 31, .. }), "{error}");
    assert!(error.to_string().contains("2025 points") && error.to_string().contains("34 MiB"));
    // The same within it, and without it.
    spec.memory_budget = 34;
    let dense = fit(&data, &spec).unwrap();
    (spec.memory_budget, spec.method) = (31, "kernel_pca".into());
    let free = fit(&data, &spec).unwrap();
    for (a, b) in dense.eigenvalues().iter().zip(free.eigenvalues()) {
        assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
    }
    spec.memory_budget = 2;
    assert!(matches!(fit(&data, &spec), Err(Error::MemoryBudget { needed_mib: 3, .. })));
    // A quarter of all pairs: the whole decomposition, whatever was asked for.
    spec.n_components = 500;
    let error = fit(&data, &spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::MemoryBudget { needed_mib: 125.., .. }), "{error}");
}

#[test]
fn an_observer_stops_it() {
    let data = Dataset::open("gaussian(n=1100, d=2)", 0).unwrap();
    for (solver, least) in [("dense", 2), ("matrix_free", 6)] {
        let spec = spec("rbf(lengthscale=1)", 4, &format!("kernel_pca(solver={solver})"));
        let run = |stop_at: usize| {
            let (mut heard, mut phases) = (0, Vec::new());
            let mut observer = |event: &Event<'_>| {
                match event {
                    Event::Progress { done, total } => {
                        assert!(done <= total && *total > 0);
                        heard += 1;
                    }
                    Event::Phase { name } => phases.push(*name),
                    _ => {}
                }
                if heard == stop_at && heard > 0 { Control::Stop } else { Control::Continue }
            };
            let out = Fit::new(spec.clone()).observer(&mut observer).run(&data);
            (out.map(|_| ()), heard, phases)
        };
        let (done, heard, phases) = run(0);
        done.unwrap();
        assert!(heard >= least && phases == ["kernel_pca", "certificate"], "{heard} {phases:?}");
        let (stopped, heard, _) = run(least);
        assert_eq!(heard, least);
        assert!(matches!(stopped, Err(Error::Interrupted { step: 0, checkpoint: None })));
    }
}

#[test]
fn models_and_texts_read_back_and_bad_requests_are_named() {
    let data = Dataset::open("two_moons(n=300)", 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = fit(&data, &spec("rbf(lengthscale=0.5)", 4, "kernel_pca(solver=dense)")).unwrap();
    model.save(&path).unwrap();
    assert_eq!(psi(&Model::load(&path).unwrap(), &data), psi(&model, &data));
    for text in ["kernel_pca(solver=auto)", "kernel_pca(solver=matrix_free)"] {
        assert_eq!(crate::method::METHODS.build_text(text).unwrap().text(), text);
    }
    let error = crate::method::METHODS.build_text("kernel_pca(solver=matrixfree)").unwrap_err();
    assert!(error.to_string().contains("did you mean `matrix_free`"), "{error}");
    let gram = folder.path().join("gram.npy");
    crate::data::write_npy(&gram, crate::Mat::eye(300).view()).unwrap();
    let spec = FitSpec { operator: Some(OperatorSpec::gram(gram)), ..spec("rbf", 2, "kernel_pca") };
    assert!(matches!(fit(&data, &spec), Err(Error::Unsupported { .. })));
}
