//! Fits of matrix-valued kernels of known structure: features of finite rank, functions that span
//! what they span, so that nothing is left but rounding.

use std::path::{Path, PathBuf};

use ndarray::{Axis, arr2, s};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::{Checkpoint, Fit, Model};
use crate::fit::{FitSpec, OutputForm, ReadoutKind, Steps};
use crate::linalg;
use crate::matrix::{Mat, Mat64};
use crate::observer::{Control, Event};
use crate::operator::OperatorSpec;
use crate::persist::Archive;

const C: usize = 3;
/// Rounding of stored features: entries of Φ within 2⁻²⁴, so κ within 2·2⁻²⁴ of the products of
/// absolute values, whose trace is that of κ.
const STORED: f64 = 1.2e-7;

/// Points (t, t²), t uniform on [−1, 1]: affine functions of them are the polynomials of degree 2.
fn points(n: usize, seed: u64) -> Dataset {
    let t = Dataset::open(&format!("uniform(n={n}, d=1, low=-1, high=1)"), seed).unwrap();
    let t = t.range(0..n).unwrap();
    let x = ndarray::concatenate![Axis(1), t, t.mapv(|t| t * t)];
    Dataset::from_array("parabola", x).unwrap()
}

fn rows(data: &Dataset) -> Mat {
    data.range(0..data.len()).unwrap()
}

/// 1, t, t² with weights: the features of (tt' + c)² for weights √c·…, in double precision.
fn monomials(x: &Mat, weights: [f64; 3]) -> Mat64 {
    Mat64::from_shape_fn((x.nrows(), 3), |(i, m)| weights[m] * f64::from(x[[i, 0]]).powi(m as i32))
}

/// (tt' + 0.5)² = 0.25 + tt' + t²t'².
const WEIGHTS: [f64; 3] = [0.5, 1.0, 1.0];

/// An orthonormal basis of the outputs: the nearest to some matrix.
fn rotation() -> Mat64 {
    let near = arr2(&[[0.48, 0.6, 0.64], [-0.8, 0.6, 0.0], [-0.384, -0.512, 0.768]]);
    let (u, _, v) = linalg::svd(near.view()).unwrap();
    u.dot(&v.t())
}

/// U diag(√λ).
fn root(u: &Mat64, values: [f64; C]) -> Mat64 {
    u * &ndarray::arr1(&values.map(f64::sqrt))
}

/// Φ of Σ_i k_iB_i, N·C × S, from the features of k_i (N × m) and roots of B_i (C × C).
fn features(terms: &[(Mat64, Mat64)]) -> Mat {
    let n = terms[0].0.nrows();
    let columns: Vec<(usize, usize, usize)> = terms
        .iter()
        .enumerate()
        .flat_map(|(i, (phi, _))| {
            (0..phi.ncols()).flat_map(move |m| (0..C).map(move |a| (i, m, a)))
        })
        .collect();
    let scale = (columns.len() as f64).sqrt();
    Mat::from_shape_fn((n * C, columns.len()), |(row, column)| {
        let (i, m, a) = columns[column];
        (scale * terms[i].0[[row / C, m]] * terms[i].1[[row % C, a]]) as f32
    })
}

struct Ground {
    _folder: tempfile::TempDir,
    path: PathBuf,
    data: Dataset,
    phi: Mat,
}

impl Ground {
    fn new(data: Dataset, phi: Mat) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phi.npy");
        crate::data::write_npy(&path, phi.view()).unwrap();
        Ground { _folder: folder, path, data, phi }
    }

    /// k·B with k = (tt' + 0.5)² and B of eigenvalues 4, 1 and 0.3.
    fn separable(n: usize) -> Self {
        let data = points(n, 1);
        let k = monomials(&rows(&data), WEIGHTS);
        let phi = features(&[(k, root(&rotation(), LAMBDA))]);
        Ground::new(data, phi)
    }

    /// k₁B₁ + k₂B₂ with B that do not commute.
    fn sum(n: usize) -> Self {
        let data = points(n, 1);
        let x = rows(&data);
        let (first, second) = (monomials(&x, [0.6, 1.2, 0.0]), monomials(&x, [0.3, 0.2, 1.5]));
        let one = root(&rotation(), [2.0, 0.5, 0.1]);
        let two = root(&Mat64::eye(C), [0.2, 3.0, 1.0]);
        Ground::new(data, features(&[(first, one), (second, two)]))
    }

    fn spec(&self, k: usize, form: OutputForm) -> FitSpec {
        FitSpec {
            operator: Some(OperatorSpec::features(&self.path)),
            outputs: C,
            output_form: form,
            n_components: k,
            // No hidden layer: the basis of the readout is affine in (t, t²).
            network: "mlp(hidden=[])".parse().unwrap(),
            steps: Steps::Exactly(0),
            batch_size: 64,
            ..FitSpec::default()
        }
    }

    fn fit(&self, k: usize, form: OutputForm) -> Model {
        crate::fit(&self.data, &self.spec(k, form)).unwrap()
    }

    /// Rows (point, output) of Φ at `points`, in double precision.
    fn phi(&self, points: &[usize]) -> Mat64 {
        self.phi.select(Axis(0), &crate::operator::rows_of_points(points, C)).mapv(f64::from)
    }

    /// The N·C × N·C Gram matrix at the training points, and these.
    fn gram(&self, spec: &FitSpec) -> (Mat64, Vec<usize>) {
        let train = spec.split(self.data.len()).train;
        let phi = self.phi(&train);
        (phi.dot(&phi.t()) / phi.ncols() as f64, train)
    }
}

const LAMBDA: [f64; C] = [4.0, 1.0, 0.3];

/// Eigenpairs of a Gram matrix as those of the operator: μ = λ/N and ψ at the points with
/// E_x Σ_c ψ_c² = 1.
fn dense(gram: &Mat64, n: usize, k: usize) -> (Vec<f64>, Mat64) {
    let (values, vectors) = linalg::eigh(gram.view()).unwrap();
    let psi = vectors.slice(s![.., ..k]).mapv(|v| v * (n as f64).sqrt());
    (values[..k].iter().map(|v| v / n as f64).collect(), psi)
}

/// Largest distance of columns up to sign, root mean square over points.
fn distances(a: &Mat64, b: &Mat64, n: usize) -> Vec<f64> {
    a.columns()
        .into_iter()
        .zip(b.columns())
        .map(|(a, b)| {
            let sign = a.dot(&b).signum();
            ((&a - &(&b * sign)).mapv(|v| v * v).sum() / n as f64).sqrt()
        })
        .collect()
}

/// The distance of an eigenvalue from the others.
fn gap(values: &[f64], j: usize) -> f64 {
    let others = values.iter().enumerate().filter(|(i, _)| *i != j);
    others.map(|(_, v)| (v - values[j]).abs()).fold(values[j].abs(), f64::min)
}

#[test]
fn a_kernel_times_a_matrix_has_the_products_of_their_eigenpairs_in_both_forms() {
    let ground = Ground::separable(300);
    let u = rotation();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        let model = ground.fit(9, form);
        let train = model.info().spec.split(300).train;
        // μ(k) and its eigenfunctions a_jᵀφ(t)/√μ_j from the moments of three monomials.
        let phi = monomials(&rows(&ground.data).select(Axis(0), &train), WEIGHTS);
        let (mu, a) = linalg::eigh((phi.t().dot(&phi) / train.len() as f64).view()).unwrap();
        let mut pairs: Vec<(f64, usize, usize)> = (0..3)
            .flat_map(|j| (0..C).map(move |c| (j, c)))
            .map(|(j, c)| (mu[j] * LAMBDA[c], j, c))
            .collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let values: Vec<f64> = pairs.iter().map(|p| p.0).collect();
        let trace: f64 = values.iter().sum();
        assert_eq!(model.n_components(), 9, "{form}: {:?}", model.eigenvalues());
        let fresh = rows(&points(200, 2));
        let scalar = monomials(&fresh, WEIGHTS).dot(&a);
        let psi = model.eigenfunctions(fresh.view()).unwrap();
        assert_eq!(psi.dim(), (200 * C, 9));
        let want = Mat64::from_shape_fn((200 * C, 9), |(row, i)| {
            let (_, j, c) = pairs[i];
            scalar[[row / C, j]] / mu[j].sqrt() * u[[row % C, c]]
        });
        let distances = distances(&psi, &want, 200);
        for (i, value) in values.iter().enumerate() {
            let got = model.eigenvalues()[i];
            assert!((got - value).abs() < STORED * trace, "{form} {i}: {got} {value}");
            // Perturbation theory: eigenfunctions turn by the error of the kernel over the gap.
            let tolerance = 2.0 * STORED * trace / gap(&values, i);
            assert!(distances[i] < tolerance, "{form} {i}: {} {tolerance}", distances[i]);
        }
        let c = model.certificate();
        assert!((c.captured_trace - 1.0).abs() < 1e-6 && (c.trace / trace - 1.0).abs() < 1e-6);
        // Mercer at new points, entry by entry.
        let phi = model.transform(fresh.view()).unwrap().mapv(f64::from);
        let k = monomials(&fresh, WEIGHTS);
        let root = root(&u, LAMBDA);
        let (k, b) = (k.dot(&k.t()), root.dot(&root.t()));
        for ((row, column), got) in phi.dot(&phi.t()).indexed_iter() {
            let want = k[[row / C, column / C]] * b[[row % C, column % C]];
            assert!((got - want).abs() < 2e-5, "{row} {column}: {got} {want}");
        }
    }
}

#[test]
fn certificates_of_products_are_those_of_the_scalar_kernel() {
    let ground = Ground::separable(300);
    // The scalar kernel: features of one term with C = 1.
    let phi = monomials(&rows(&ground.data), WEIGHTS).mapv(|v| (v * 3f64.sqrt()) as f32);
    let scalar = Ground::new(ground.data.clone(), phi);
    let scalar =
        crate::fit(&scalar.data, &FitSpec { outputs: 1, ..scalar.spec(3, OutputForm::Joint) });
    let scalar = scalar.unwrap();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        let model = ground.fit(3, form);
        // μ₁·4 and μ₂·4 come first and third or so; the pair of the largest is known.
        let (product, of_scalar) = (&model.certificate().pairs[0], &scalar.certificate().pairs[0]);
        assert!((product.eigenvalue / of_scalar.eigenvalue / LAMBDA[0] - 1.0).abs() < 1e-6);
        // The influence of a point is μ(Σ_c ψ_c² − 1) = λμ(s² − 1).
        let ratio = product.standard_error / of_scalar.standard_error;
        assert!((ratio / LAMBDA[0] - 1.0).abs() < 1e-5, "{ratio}");
        assert!(product.residual < 1e-5, "{}", product.residual);
        let (product, of_scalar) =
            (product.population_residual_squared, of_scalar.population_residual_squared);
        assert!(
            (product - of_scalar).abs() < 1e-5 * of_scalar.abs().max(1e-3),
            "{product} {of_scalar}"
        );
    }
}

#[test]
fn a_sum_of_products_needs_the_joint_form() {
    let ground = Ground::sum(100);
    let k = 6;
    let joint = ground.fit(k, OutputForm::Joint);
    let (gram, train) = ground.gram(&joint.info().spec);
    let n = train.len();
    let x = rows(&ground.data).select(Axis(0), &train);
    let (values, want) = dense(&gram, n, k);
    let psi = joint.eigenfunctions(x.view()).unwrap();
    for (j, distance) in distances(&psi, &want, n).iter().enumerate() {
        // Same stored features: what differs is the single precision of the network's inputs, whose
        // error in the function is squared in the eigenvalue.
        let got = joint.eigenvalues()[j];
        assert!((got / values[j] - 1.0).abs() < 1e-10, "{j}: {got} {}", values[j]);
        assert!(*distance < 2.0 * STORED * values[0] / gap(&values, j), "{j}: {distance}");
        assert!(joint.certificate().pairs[j].residual < 1e-5);
    }

    // The factorised fit has the pairs of Σ_c κ_c u_cu_cᵀ, u_c the eigenvectors of E κ(x, x).
    let factorized = ground.fit(k, OutputForm::Factorized);
    let mut covariance = Mat64::zeros((C, C));
    for i in 0..n {
        covariance += &gram.slice(s![i * C..(i + 1) * C, i * C..(i + 1) * C]);
    }
    let (_, u) = linalg::eigh((covariance / n as f64).view()).unwrap();
    let mut rotated = gram.clone();
    let turn =
        Mat64::from_shape_fn(
            (n * C, n * C),
            |(a, b)| {
                if a / C == b / C { u[[a % C, b % C]] } else { 0.0 }
            },
        );
    rotated = turn.t().dot(&rotated).dot(&turn);
    rotated.indexed_iter_mut().filter(|((a, b), _)| a % C != b % C).for_each(|(_, v)| *v = 0.0);
    let (along, want) = dense(&turn.dot(&rotated).dot(&turn.t()), n, k);
    let psi = factorized.eigenfunctions(x.view()).unwrap();
    for (j, distance) in distances(&psi, &want, n).iter().enumerate() {
        let got = factorized.eigenvalues()[j];
        assert!((got / along[j] - 1.0).abs() < 1e-10, "{j}: {got} {}", along[j]);
        assert!(*distance < 2.0 * STORED * along[0] / gap(&along, j), "{j}: {distance}");
    }
    // That is another operator: it captures less, and its certificate says so.
    assert!(along[0] < 0.99 * values[0], "{along:?} {values:?}");
    let worst = |m: &Model| m.certificate().pairs.iter().map(|p| p.residual).fold(0.0, f64::max);
    assert!(worst(&factorized) > 0.1 && worst(&joint) < 1e-5, "{}", worst(&factorized));
    assert!(factorized.certificate().captured_trace < joint.certificate().captured_trace);
}

#[test]
fn a_gram_matrix_of_points_and_outputs_serves_as_features_do() {
    let ground = Ground::sum(80);
    let (phi, folder) = (ground.phi.mapv(f64::from), tempfile::tempdir().unwrap());
    let gram = (phi.dot(&phi.t()) / phi.ncols() as f64).mapv(|v| v as f32);
    let path = folder.path().join("gram.npy");
    crate::data::write_npy(&path, gram.view()).unwrap();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        let by_features = ground.fit(5, form);
        let spec = FitSpec { operator: Some(OperatorSpec::gram(&path)), ..ground.spec(5, form) };
        let by_gram = crate::fit(&ground.data, &spec).unwrap();
        let trace = by_features.certificate().trace;
        for (a, b) in by_gram.eigenvalues().iter().zip(by_features.eigenvalues()) {
            assert!((a - b).abs() < STORED * trace, "{form}: {a} {b}");
        }
    }
}

/// A network that has to learn: (t, t²) through one hidden layer.
fn learning(ground: &Ground, k: usize, form: OutputForm, steps: u64) -> FitSpec {
    FitSpec {
        network: "mlp(hidden=[16], activation=tanh)".parse().unwrap(),
        optimizer: "adam(lr=3e-3)".parse().unwrap(),
        steps: Steps::Exactly(steps),
        readout: ReadoutKind::None,
        ..ground.spec(k, form)
    }
}

#[test]
fn training_alone_learns_the_leading_eigenfunctions_with_every_objective() {
    let ground = Ground::separable(300);
    let exact = ground.fit(2, OutputForm::Joint);
    let x = rows(&points(200, 3));
    let want = exact.eigenfunctions(x.view()).unwrap();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        for objective in
            ["neuralef", "neuralef(estimator=unbiased)", "nested_lora", "spin(beta=0.1)"]
        {
            let spec = learning(&ground, 2, form, 1500);
            let model = crate::fit(&ground.data, &FitSpec { objective: objective.into(), ..spec });
            let model = model.unwrap();
            let psi = model.eigenfunctions(x.view()).unwrap();
            for (j, mu) in exact.eigenvalues().iter().enumerate() {
                let got = model.eigenvalues()[j];
                assert!((got / mu - 1.0).abs() < 0.05, "{form} {objective} {j}: {got} {mu}");
                let (a, b) = (psi.column(j), want.column(j));
                let cosine = (a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()).abs();
                assert!(cosine > 0.98, "{form} {objective} {j}: {cosine}");
            }
        }
    }
}

#[test]
fn every_readout_and_architecture_finds_the_eigenvalues() {
    let ground = Ground::separable(300);
    let exact = ground.fit(6, OutputForm::Joint).eigenvalues().to_vec();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        for network in ["mlp", "shared_mlp"] {
            let network = format!("{network}(hidden=[32], activation=sin_cos)");
            let network: crate::NetworkSpec = network.parse().unwrap();
            let spec = FitSpec { network, ..ground.spec(6, form) };
            let model = crate::fit(&ground.data, &spec).unwrap();
            for (got, mu) in model.eigenvalues().iter().zip(&exact) {
                assert!((got / mu - 1.0).abs() < 1e-4, "{form} {}: {got} {mu}", spec.network);
            }
            // Untrained outputs: Ritz values are below the eigenvalues, and below those of the
            // galerkin readout, whose space is larger.
            let spec = FitSpec { readout: ReadoutKind::Ritz, ..spec };
            let ritz = crate::fit(&ground.data, &spec).unwrap();
            for (got, mu) in ritz.eigenvalues().iter().zip(model.eigenvalues()) {
                assert!(*got < mu * (1.0 + 1e-6) && *got > 0.0, "{form}: {got} {mu}");
            }
            assert!(ritz.certificate().captured_trace < 1.0);
            // Orthonormal over the training points: E_x Σ_c ψ_icψ_jc = δ_ij.
            let train = spec.split(300).train;
            let x = rows(&ground.data).select(Axis(0), &train);
            for model in [ritz, model] {
                let psi = model.eigenfunctions(x.view()).unwrap();
                let off = psi.t().dot(&psi) / train.len() as f64 - Mat64::eye(6);
                assert!(off.iter().all(|v| v.abs() < 1e-9), "{form}: {off}");
            }
        }
    }
}

fn bytes(model: &Model, folder: &Path) -> Vec<u8> {
    let path = folder.join("model");
    model.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// Trained specs of every layout.
fn trained(ground: &Ground) -> Vec<FitSpec> {
    let mut all = Vec::new();
    for form in [OutputForm::Joint, OutputForm::Factorized] {
        for readout in [ReadoutKind::None, ReadoutKind::Ritz, ReadoutKind::Galerkin] {
            all.push(FitSpec { readout, ..learning(ground, 4, form, 40) });
        }
    }
    all
}

#[test]
fn the_same_bits_for_any_threads_after_a_resumption_and_from_a_file() {
    let (ground, folder) = (Ground::sum(150), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("checkpoint");
    let x = rows(&points(40, 5));
    for spec in trained(&ground) {
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| crate::fit(&ground.data, &spec).unwrap())
        };
        let model = with_threads(1);
        let whole = bytes(&model, folder.path());
        assert!(whole == bytes(&with_threads(3), folder.path()), "threads: {spec:?}");

        let mut stopper = |event: &Event<'_>| match event {
            Event::Step { step: 17, .. } => Control::Stop,
            _ => Control::Continue,
        };
        let stopped = Fit::new(spec.clone())
            .observer(&mut stopper)
            .checkpoint(&checkpoint, 0)
            .run(&ground.data)
            .map(|r| r.1);
        assert!(matches!(stopped, Err(Error::Interrupted { step: 17, .. })), "{stopped:?}");
        let (resumed, _) =
            Fit::resume(Checkpoint::read(&checkpoint).unwrap()).run(&ground.data).unwrap();
        assert!(whole == bytes(&resumed, folder.path()), "resumed: {spec:?}");

        let loaded = Model::from_bytes(&whole).unwrap();
        assert_eq!((loaded.outputs(), loaded.n_components()), (C, 4));
        let psi = model.eigenfunctions(x.view()).unwrap();
        assert_eq!(loaded.eigenfunctions(x.view()).unwrap(), psi);
        // A point's rows have the same bits in any company.
        for i in [0, 7, 39] {
            let one = loaded.eigenfunctions(x.slice(s![i..=i, ..])).unwrap();
            assert_eq!(one, psi.slice(s![i * C..(i + 1) * C, ..]));
        }
        assert_eq!(loaded.transform(x.view()).unwrap().dim(), (40 * C, 4));
    }
}

#[test]
fn model_files_with_other_outputs_are_refused() {
    let (ground, folder) = (Ground::sum(80), tempfile::tempdir().unwrap());
    for spec in trained(&ground) {
        let model =
            crate::fit(&ground.data, &FitSpec { steps: Steps::Exactly(0), ..spec }).unwrap();
        let archive = Archive::from_bytes(&bytes(&model, folder.path())).unwrap();
        let refused = |outputs: u64, form: &str| {
            let mut forged = archive.clone();
            forged.header["spec"]["outputs"] = outputs.into();
            forged.header["spec"]["output_form"] = form.into();
            let error = Model::from_bytes(&forged.to_bytes().unwrap()).err();
            let known = matches!(error, Some(Error::ModelFile { .. }));
            assert!(known, "{outputs} {form}, {:?}: {error:?}", model.info().spec);
        };
        let form = model.info().spec.output_form.to_string();
        for outputs in [0, 1, 2, 4, 7, 1 << 20, 1 << 40, u64::MAX] {
            refused(outputs, &form);
        }
        refused(C as u64, if form == "joint" { "factorized" } else { "joint" });
    }
}

#[test]
fn what_does_not_fit_the_outputs_is_named() {
    let ground = Ground::sum(80);
    let refused = |edit: &dyn Fn(&mut FitSpec), part: &str| {
        let mut spec = ground.spec(4, OutputForm::Joint);
        edit(&mut spec);
        let message = crate::fit(&ground.data, &spec).err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&|s| s.outputs = 0, "outputs: expected a whole number ≥ 1");
    refused(&|s| s.outputs = 1, "one row for each of 80 points");
    refused(&|s| s.outputs = 2, "2 rows for each of 80 points, got 240");
    refused(&|s| s.outputs = usize::MAX, "rows for each of 80 points");
    refused(&|s| s.n_components = 241, "at most the number of points, 80 times 3 outputs");
    refused(&|s| s.n_components = 220, "the number of training points, 72 times 3 outputs");
    refused(
        &|s| s.operator = Some("rbf(lengthscale=1)".parse().unwrap()),
        "outputs: expected 1 for a kernel in text form",
    );
    refused(&|s| s.objective = "eigengame_pca".into(), "eigengame_pca is not supported");
    refused(&|s| s.memory_budget = 0, "memory budget");
    // More pairs than the kernel has are said to be missing.
    let model: Result<Model> = crate::fit(&ground.data, &ground.spec(12, OutputForm::Joint));
    let model = model.unwrap();
    assert!(model.n_components() < 12 && !model.info().warnings.is_empty());
}
