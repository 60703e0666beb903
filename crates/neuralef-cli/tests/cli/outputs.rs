//! Kernels with several outputs at the command line: fit, inspect, transform, plot, what is refused.

use ndarray::Array2;

use crate::common::{Folder, TINY, numbers, points};

/// Points of the tests.
const N: usize = 120;
/// κ(x, x') = (1 + x₁x'₁)·B with this B of eigenvalues 1.5 and 0.5.
const B: [[f64; 2]; 2] = [[1.0, 0.5], [0.5, 1.0]];

/// Φ, 2N × 4: Φ_(i,c),(m,a) = 2 f_m(x_i) R_ca with f = (1, x₁), S = 4 and RRᵀ = B.
fn features(x: &Array2<f32>) -> Array2<f32> {
    let (sum, difference) = ((1.5f64 / 2.0).sqrt(), (0.5f64 / 2.0).sqrt());
    let root = [[sum, difference], [sum, -difference]];
    Array2::from_shape_fn((2 * x.nrows(), 4), |(row, column)| {
        let f = if column / 2 == 0 { 1.0 } else { f64::from(x[[row / 2, 0]]) };
        (2.0 * f * root[row % 2][column % 2]) as f32
    })
}

#[test]
fn a_kernel_with_two_outputs_from_fit_to_features() {
    let dir = Folder::new();
    let x = points(N, 2);
    dir.npy("x.npy", &x);
    dir.npy("phi.npy", &features(&x));
    let fit = "fit x.npy --features phi.npy --outputs 2 -k 4 --steps 0 --plot none";
    let mut first: Vec<Vec<f64>> = Vec::new();
    for form in ["joint", "factorized"] {
        let fitted = dir.json(&format!("{fit} --output-form {form}"));
        assert_eq!(fitted["info"]["spec"]["outputs"], 2, "{fitted}");
        assert_eq!(fitted["info"]["spec"]["output_form"], form, "{fitted}");
        let mu = numbers(&fitted["info"]["eigenvalues"]);
        // The kernel of (1, x₁) has μ₁ > μ₂, here with μ₂ < μ₁/2: 1.5μ₁ and 0.5μ₁ come with 1.5μ₂
        // and 0.5μ₂ between and after them.
        assert_eq!(mu.len(), 4, "{mu:?}");
        let (large, small) = (mu[0] / 1.5, mu[3] / 0.5);
        let middle = [0.5 * large, 1.5 * small];
        for want in middle {
            let near = |m: &f64| (m / want - 1.0).abs() < 1e-5;
            assert!(mu[1..3].iter().any(near), "{mu:?} without {want}");
        }
        let captured = fitted["info"]["certificate"]["captured_trace"].as_f64().unwrap();
        assert!((captured - 1.0).abs() < 1e-6, "{captured}");
        first.push(mu);

        let text = dir.ok("inspect model.safetensors").stdout;
        assert!(text.contains(&format!("outputs      2, {form} eigenfunctions")), "{text}");
        let done = dir.json("transform model.safetensors x.npy -o f.npy");
        assert_eq!((&done["n_samples"], &done["n_outputs"]), (&N.into(), &2.into()), "{done}");
        let phi = dir.array("f.npy");
        assert_eq!(phi.dim(), (2 * N, 4));
        // φ_c(x)ᵀφ_c'(x') = (1 + x₁x'₁)·B_cc', the C rows of a point side by side.
        for (i, j) in [(0, 0), (3, 77), (119, 2)] {
            for (c, other) in [(0, 0), (0, 1), (1, 1)] {
                let got = phi.row(2 * i + c).dot(&phi.row(2 * j + other));
                let want = (1.0 + f64::from(x[[i, 0]] * x[[j, 0]])) * B[c][other];
                assert!((f64::from(got) - want).abs() < 1e-5, "{i} {j} {c} {other}: {got} {want}");
            }
        }
        dir.ok("transform model.safetensors x.npy -o psi.npy --eigenfunctions");
        assert_eq!(dir.array("psi.npy").dim(), (2 * N, 4));
        let text = dir.ok("transform model.safetensors x.npy -o f.npy").stdout;
        assert!(text.starts_with("120·2 × 4 in f.npy"), "{text}");
        dir.ok("plot model.safetensors x.npy -o figure.svg");
        assert!(String::from_utf8(dir.bytes("figure.svg")).unwrap().contains("ψ₁,₂"));
        dir.refused("eval model.safetensors x.npy", &["not supported", "features"]);
    }
    for (a, b) in first[0].iter().zip(&first[1]) {
        assert!((a / b - 1.0).abs() < 1e-6, "{first:?}");
    }
}

#[test]
fn outputs_in_a_file_of_settings_and_in_a_resumed_run() {
    let dir = Folder::new();
    let x = points(N, 2);
    dir.npy("x.npy", &x);
    dir.npy("phi.npy", &features(&x));
    dir.text("fit.toml", "features = \"phi.npy\"\noutputs = 2\noutput_form = \"factorized\"\n");
    dir.ok(&format!("fit x.npy --config fit.toml {TINY} -o a"));
    dir.ok(&format!(
        "fit x.npy --features phi.npy --outputs 2 --output-form factorized {TINY} -o b"
    ));
    assert!(dir.bytes("a") == dir.bytes("b"));
    dir.ok(&format!("fit x.npy --config fit.toml {TINY} -o b --checkpoint c --checkpoint-every 8"));
    dir.ok("fit --resume c -o d --plot none");
    assert!(dir.bytes("a") == dir.bytes("d"));
    dir.misused("fit --resume c --outputs 2", &["--outputs"]);
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let dir = Folder::new();
    let x = points(N, 2);
    dir.npy("x.npy", &x);
    dir.npy("phi.npy", &features(&x));
    let fit = |options: &str| format!("fit x.npy {TINY} {options}");
    dir.refused(&fit("--outputs 2"), &["outputs", "kernel in text form"]);
    dir.refused(&fit("--features phi.npy"), &["features", "one row for each of 120 points", "240"]);
    let line = fit("--features phi.npy --outputs 7");
    dir.refused(&line, &["features", "7 rows for each of 120 points", "240"]);
    dir.refused(&fit("--features phi.npy --outputs 0"), &["outputs", "≥ 1"]);
    dir.misused(&fit("--features phi.npy --outputs two"), &["--outputs"]);
    let line = fit("--features phi.npy --outputs 2 --output-form factorised");
    dir.misused(&line, &["did you mean `factorized`"]);
    let line = fit("--features phi.npy --outputs 2 --method nystrom");
    dir.refused(&line, &["nystrom with a Gram matrix or features", "neuralef serves here"]);
    dir.refused(&fit("--features phi.npy --outputs 2 --memory-budget 1"), &["memory budget"]);
}
