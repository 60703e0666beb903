//! Kernels, Gram matrices and features that a program hands over, and models to start from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndarray::{Array2, s};
use neuralef::fit::{ReadoutKind, Steps};
use neuralef::kernel::{IndexKernel, IndexedPoints, PrecomputedKernel};
use neuralef::matrix::{Mat64Mut, MatMut};
use neuralef::operator::{MatrixSource, OperatorSpec};
use neuralef::{Dataset, Error, Fit, FitSpec, Kernel, KernelSpec, Mat64, MatRef, Model};

fn spec(method: &str, k: usize) -> FitSpec {
    FitSpec {
        method: method.into(),
        n_components: k,
        network: "mlp(hidden=[16, 16], activation=sin_cos)".parse().unwrap(),
        steps: Steps::Exactly(0),
        ..FitSpec::default()
    }
}

fn points() -> Dataset {
    Dataset::open("gaussian(n=120, d=2)", 1).unwrap()
}

fn run(spec: &FitSpec, operator: OperatorSpec) -> neuralef::Result<Model> {
    let spec = FitSpec { operator: Some(operator), ..spec.clone() };
    Fit::new(spec).run(&points()).map(|(model, _)| model)
}

/// exp(−|x − y|²) by hand: a kernel that no registry knows.
#[derive(Debug)]
struct Own;

impl Kernel for Own {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> neuralef::Result<()> {
        out.indexed_iter_mut().for_each(|((i, j), out)| {
            let squares = x.row(i).into_iter().zip(y.row(j)).map(|(a, b)| f64::from(a - b).powi(2));
            *out = (-squares.sum::<f64>()).exp();
        });
        Ok(())
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> neuralef::Result<()> {
        let mut doubles = Mat64::zeros(out.dim());
        self.gram(x, y, doubles.view_mut())?;
        out.assign(&doubles.mapv(|v| v as f32));
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> neuralef::Result<Vec<f64>> {
        Ok(vec![1.0; x.nrows()])
    }

    fn text(&self) -> String {
        "own".into()
    }
}

fn close(a: &[f64], b: &[f64], share: f64) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < share * b, "{a} {b}");
    }
}

#[test]
fn a_kernel_at_hand_gives_what_the_named_one_gives() {
    for method in ["neuralef", "nystrom(landmarks=60)", "kernel_pca"] {
        let named = FitSpec { operator: Some("rbf(gamma=1)".parse().unwrap()), ..spec(method, 4) };
        let expected = Fit::new(named).run(&points()).unwrap().0;
        let found =
            run(&spec(method, 4), OperatorSpec::OwnKernel(std::sync::Arc::new(Own))).unwrap();
        close(found.eigenvalues(), expected.eigenvalues(), 1e-6);
        assert_eq!(found.info().kernel, None);
        let data = points();
        let errors = [&found, &expected].map(|m| m.gram_error(&data, 0).unwrap().unwrap());
        assert!((errors[0] - errors[1]).abs() < 1e-6);
    }
}

#[test]
fn files_of_such_models_want_the_kernel_back_where_new_points_need_it() {
    let x = points().range(0..7).unwrap();
    let own = || -> std::sync::Arc<dyn Kernel> { std::sync::Arc::new(Own) };
    let model = run(&spec("kernel_pca", 4), own().into()).unwrap();
    let bytes = model.to_bytes().unwrap();
    let message = Model::from_bytes(&bytes).err().unwrap().to_string();
    assert!(message.contains("needs the kernel"), "{message}");
    let again = Model::from_bytes_with(&bytes, own()).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    // Networks do not need it, and a kernel too many is an error.
    let model = run(&spec("neuralef", 4), own().into()).unwrap();
    let again = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    assert!(matches!(again.kernel(), Err(Error::Unsupported { .. })));
    let named = FitSpec { operator: Some("rbf".parse().unwrap()), ..spec("kernel_pca", 4) };
    let bytes = Fit::new(named).run(&points()).unwrap().0.to_bytes().unwrap();
    let error = Model::from_bytes_with(&bytes, own()).err().unwrap();
    assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
}

#[test]
fn gram_matrices_and_features_at_hand_are_those_of_files() {
    let x = points().range(0..120).unwrap();
    let kernel = "rbf(gamma=1)".parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap();
    let mut gram = Array2::zeros((120, 120));
    kernel.gram_f32(x.view(), x.view(), gram.view_mut()).unwrap();
    let expected = Fit::new(FitSpec {
        operator: Some("rbf(gamma=1)".parse().unwrap()),
        ..spec("neuralef", 4)
    });
    let expected = expected.run(&points()).unwrap().0;
    let data = Dataset::from_array("gram", gram).unwrap();
    let found = run(&spec("neuralef", 4), OperatorSpec::Gram(MatrixSource::Data(data))).unwrap();
    close(found.eigenvalues(), expected.eigenvalues(), 1e-5);
    // XXᵀ/2 as features.
    let linear = FitSpec { operator: Some("0.5*linear".parse().unwrap()), ..spec("neuralef", 2) };
    let expected = Fit::new(linear).run(&points()).unwrap().0;
    let data = Dataset::from_array("features", x).unwrap();
    let found = run(&spec("neuralef", 2), OperatorSpec::Features(MatrixSource::Data(data.clone())))
        .unwrap();
    close(found.eigenvalues(), expected.eigenvalues(), 1e-5);
    // A slot holds one of them; files with more are refused, and so is a fit of nothing.
    let both = r#"{"kernel": "rbf", "features": "features.npy"}"#;
    let error = serde_json::from_str::<FitSpec>(both).unwrap_err().to_string();
    assert!(error.contains("exactly one of"), "{error}");
    let error = Fit::new(spec("neuralef", 2)).run(&points()).err().unwrap().to_string();
    assert!(error.contains("exactly one of"), "{error}");
}

#[test]
fn precomputed_values_serve_methods_that_extend_eigenvectors() {
    let all = points().range(0..120).unwrap();
    let (x, new) = (all.slice(s![..100, ..]), all.slice(s![100.., ..]));
    let values = |rows: MatRef<'_>| {
        let mut gram = Array2::<f32>::zeros((rows.nrows(), 100));
        Own.gram_f32(rows, x, gram.view_mut()).unwrap();
        gram
    };
    let train = Dataset::from_array("values", values(x)).unwrap();
    for method in ["kernel_pca", "nystrom(landmarks=100)"] {
        let spec = FitSpec { validation_fraction: 0.0, ..spec(method, 4) };
        let kernel = OperatorSpec::OwnKernel(std::sync::Arc::new(PrecomputedKernel::new(100)));
        let found = Fit::new(spec.clone()).operator(kernel).run(&train).unwrap().0;
        assert_eq!(found.info().n_features, 100);
        let kernel = OperatorSpec::OwnKernel(std::sync::Arc::new(Own));
        let plain = Dataset::from_array("x", x.to_owned()).unwrap();
        let expected = Fit::new(spec).operator(kernel).run(&plain).unwrap().0;
        close(found.eigenvalues(), expected.eigenvalues(), 1e-6);
        let a = found.transform(values(new).view()).unwrap();
        let b = expected.transform(new).unwrap();
        assert!((&a - &b).iter().all(|v| v.abs() < 1e-5));
        // Files of format version 1 count the row numbers of landmarks as one more column.
        let bytes = found.to_bytes().unwrap();
        let header = String::from_utf8_lossy(&bytes[..1 << 14]).replace('\\', "");
        assert!(header.contains("\"n_features\":101,"), "{header}");
        let kernel = std::sync::Arc::new(PrecomputedKernel::new(100));
        let again = Model::from_bytes_with(&bytes, kernel).unwrap();
        assert_eq!(again.transform(values(new).view()).unwrap(), a);
        assert_eq!(again.info(), found.info());
        assert_eq!(again.to_bytes().unwrap(), bytes);
    }
    let kernel = PrecomputedKernel::new(100);
    let (a, b) = (values(new), values(new));
    let unknown = kernel.gram(a.view(), b.view(), Mat64::zeros((20, 20)).view_mut());
    assert!(matches!(unknown, Err(Error::Unsupported { .. })));
    let own = values(x);
    let numbered = |rows| kernel.diag_by_index(IndexedPoints { x: own.view(), rows: Some(rows) });
    let rows: Vec<usize> = (0..100).collect();
    assert_eq!(numbered(&rows).unwrap(), vec![1.0; 100]);
    let beyond: Vec<usize> = (1..101).collect();
    assert!(matches!(numbered(&beyond), Err(Error::InvalidParameter { .. })));
    assert!(matches!(numbered(&rows[1..]), Err(Error::Shape { .. })));
    assert!(matches!(kernel.diag(own.view()), Err(Error::Unsupported { .. })));
    assert!(matches!(kernel.diag(x), Err(Error::Shape { .. })));
    let scaled = FitSpec { standardize: true, ..spec("kernel_pca", 4) };
    let kernel = OperatorSpec::OwnKernel(std::sync::Arc::new(kernel));
    let error = Fit::new(scaled).operator(kernel).run(&train).err().unwrap();
    assert!(matches!(error, Error::InvalidParameter { .. }), "{error}");
}

#[test]
fn files_of_precomputed_values_are_as_they_were_before_row_numbers_were_an_index() {
    // Written when points had their row numbers as one more column, with what they gave at 4 points.
    type File = (&'static str, &'static [u8], [f32; 12]);
    let files: [File; 2] = [
        (
            "kernel_pca",
            include_bytes!("fixtures/kernel_pca_precomputed.safetensors"),
            [
                0.23901752,
                0.57201105,
                -0.32043406,
                0.25969127,
                0.34142935,
                0.5384093,
                0.24674287,
                -0.034018304,
                0.12431535,
                0.5595302,
                -0.29224682,
                -0.13449748,
            ],
        ),
        (
            "nystrom(landmarks=7)",
            include_bytes!("fixtures/nystrom_precomputed.safetensors"),
            [
                0.035085343,
                0.67779005,
                -0.14738218,
                0.061181474,
                0.20971036,
                0.18019262,
                0.23619354,
                0.043051038,
                0.24056683,
                0.63226014,
                -0.061781723,
                -0.2503206,
            ],
        ),
    ];
    let value =
        |i: usize, j: usize| 0.5f32.powi(i.abs_diff(j) as i32) + if i == j { 0.25 } else { 0.0 };
    let gram = Array2::from_shape_fn((12, 12), |(i, j)| value(i, j));
    let new = Array2::from_shape_fn((4, 12), |(i, j)| 0.75 * value(3 * i + 1, j));
    for (method, bytes, expected) in files {
        let kernel = std::sync::Arc::new(PrecomputedKernel::new(12));
        let model = Model::from_bytes_with(bytes, kernel.clone()).unwrap();
        assert_eq!(model.info().n_features, 12);
        assert_eq!(model.to_bytes().unwrap(), bytes, "{method}");
        let found = model.transform(new.view()).unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found}");
        let data = Dataset::from_array("x.csv", gram.clone()).unwrap();
        let spec = FitSpec {
            method: method.into(),
            n_components: 3,
            validation_fraction: 0.25,
            ..FitSpec::default()
        };
        let again = Fit::new(spec).operator(OperatorSpec::OwnKernel(kernel)).run(&data).unwrap().0;
        close(again.eigenvalues(), model.eigenvalues(), 1e-12);
        assert_eq!(again.to_bytes().unwrap().len(), bytes.len(), "{method}");
    }
}

#[test]
fn a_fit_starts_from_the_networks_of_another() {
    let trained = FitSpec {
        operator: Some("rbf(gamma=1)".parse().unwrap()),
        steps: Steps::Exactly(100),
        readout: ReadoutKind::None,
        ..spec("neuralef", 3)
    };
    let first = Fit::new(trained.clone()).run(&points()).unwrap().0;
    let untrained = FitSpec { steps: Steps::Exactly(0), ..trained.clone() };
    let again = Fit::new(untrained.clone()).start_from(&first).run(&points()).unwrap().0;
    assert_eq!(again.eigenvalues(), first.eigenvalues());
    let cold = Fit::new(untrained.clone()).run(&points()).unwrap().0;
    assert_ne!(cold.eigenvalues(), first.eigenvalues());
    let other = FitSpec { n_components: 4, ..untrained.clone() };
    let error = Fit::new(other).start_from(&first).run(&points()).err().unwrap().to_string();
    assert!(error.starts_with("network"), "{error}");
    let nystrom = FitSpec { method: "nystrom".into(), ..untrained.clone() };
    let map = Fit::new(nystrom).run(&points()).unwrap().0;
    let error = Fit::new(untrained).start_from(&map).run(&points()).err().unwrap();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn nothing_held_out_uses_all_points_where_nothing_is_chosen() {
    let all = FitSpec {
        operator: Some("rbf(gamma=1)".parse().unwrap()),
        validation_fraction: 0.0,
        ..spec("kernel_pca", 3)
    };
    let model = Fit::new(all.clone()).run(&points()).unwrap().0;
    assert_eq!(model.certificate().training_points, 120);
    assert!(model.info().warnings.iter().any(|w| w.contains("held out")));
    // Exact on its own points.
    assert!(model.certificate().pairs.iter().all(|p| p.residual < 1e-5));
    let learned = FitSpec { method: "neuralef".into(), ..all };
    let error = Fit::new(learned).run(&points()).err().unwrap().to_string();
    assert!(error.starts_with("validation_fraction"), "{error}");
}

#[test]
fn four_points_are_enough_and_their_file_can_be_read() {
    let data = Dataset::open("gaussian(n=4, d=2)", 1).unwrap();
    let few = FitSpec { operator: Some("rbf(gamma=1)".parse().unwrap()), ..spec("neuralef", 2) };
    let model = Fit::new(few).run(&data).unwrap().0;
    assert_eq!(model.certificate().held_out_points, 1);
    let again = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(again.certificate(), model.certificate());
}

#[test]
fn automatic_training_goes_on_longer_for_a_smaller_tolerance() {
    let auto = |tolerance: f64| {
        let spec = FitSpec {
            operator: Some("rbf(gamma=1)".parse().unwrap()),
            steps: Steps::Auto,
            max_steps: 4000,
            readout: ReadoutKind::None,
            tolerance,
            ..spec("neuralef", 2)
        };
        Fit::new(spec).run(&points()).unwrap().0.info().record.auto_checks.len()
    };
    assert!(auto(0.0) > auto(0.9));
}
