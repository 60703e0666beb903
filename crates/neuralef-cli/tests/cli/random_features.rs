//! Random features at the command line: fit, transform, eval, and what is refused.

use serde_json::Value;

use crate::common::{Folder, numbers, points};

/// κ of rbf(lengthscale=1.5).
fn rbf(a: ndarray::ArrayView1<'_, f32>, b: ndarray::ArrayView1<'_, f32>) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (-square / (2.0 * 2.25)).exp()
}

#[test]
fn features_of_both_kinds_reproduce_the_kernel() {
    let dir = Folder::new();
    let x = points(300, 2);
    dir.npy("x.npy", &x);
    // The bounds are twice the rms errors that the variances of 2,000 features give here.
    for (method, bound) in [
        ("fourier", 0.02),
        ("fourier(form=cos,frequencies=halton)", 0.03),
        ("fourier(frequencies=sobol)", 0.02),
        ("positive", 0.06),
    ] {
        let line = format!("fit x.npy --kernel rbf(lengthscale=1.5) -k 2000 --method {method}");
        let fitted = dir.json(&line);
        assert_eq!(fitted["figure"], Value::Null, "{fitted}");
        let info = &fitted["info"];
        assert_eq!((numbers(&info["eigenvalues"]).len(), &info["n_samples"]), (0, &300.into()));
        assert!(info["certificate"]["gram_error"].as_f64().unwrap() < bound, "{method}: {info}");
        let captured = info["certificate"]["captured_trace"].as_f64().unwrap();
        assert!((captured - 1.0).abs() < bound, "{method}: {captured}");
        assert_eq!(dir.json("transform model.safetensors x.npy -o f.npy")["n_components"], 2000);
        let phi = dir.array("f.npy");
        let mut square = 0.0;
        for i in 0..40 {
            let dot: f64 =
                phi.row(i).iter().zip(phi.row(i + 50)).map(|(a, b)| f64::from(a * b)).sum();
            square += (dot - rbf(x.row(i), x.row(i + 50))).powi(2) / 40.0;
        }
        assert!(square.sqrt() < bound, "{method}: {}", square.sqrt());
        let found = dir.json("eval model.safetensors x.npy");
        assert!(found["gram_error"].as_f64().unwrap() < bound, "{method}: {found}");
        assert_eq!(
            (&found["orthonormality"], &found["residuals"]),
            (&Value::Null, &Value::Array(vec![]))
        );
        let text = dir.ok("eval model.safetensors x.npy").stdout;
        assert!(text.contains("relative Gram error") && !text.contains("eigenvalue"), "{text}");
        let text = dir.ok("inspect model.safetensors").stdout;
        assert!(text.contains("random features without eigenvalues"), "{text}");
    }
    assert_eq!(dir.files(), ["f.npy", "model.safetensors", "x.npy"]);
}

#[test]
fn what_needs_eigenpairs_is_refused_in_one_line() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(100, 2));
    dir.ok("fit x.npy --kernel rbf(lengthscale=1) -k 64 --method fourier");
    let parts = ["random features", "eigenvalues"];
    dir.refused("eval model.safetensors x.npy --exact", &parts);
    dir.refused("plot model.safetensors x.npy -o p.svg", &parts);
    dir.refused("plot model.safetensors --spectrum -o p.svg", &parts);
    dir.refused("transform model.safetensors x.npy --eigenfunctions -o f.npy", &parts);
    let fit = |kernel: &str, method: &str| {
        format!("fit x.npy --kernel {kernel} -k 8 --method {method} -o m")
    };
    dir.refused(&fit("linear", "fourier"), &["fourier", "linear", "neuralef, nystrom"]);
    dir.refused(&fit("softmax", "fourier"), &["neuralef, nystrom, positive"]);
    dir.refused(&fit("laplacian", "positive"), &["neuralef, nystrom, fourier"]);
    dir.refused(&fit("laplacian", "fourier(frequencies=orthogonal)"), &["sobol and halton"]);
    dir.refused(&fit("rbf", "fourier(features=4)"), &["n_components", "number of features, 4"]);
    let line = "fit x.npy --method fourier -k 100000000000 -o m";
    dir.refused(line, &["random features", "memory budget"]);
}

#[test]
fn reduced_features_are_eigenpairs_as_those_of_other_methods() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(400, 2));
    let line = "fit x.npy --kernel rbf(lengthscale=2) -k 3 --plot none --method";
    let of = |method: &str| {
        numbers(&dir.json(&format!("{line} {method}"))["info"]["eigenvalues"].clone())
    };
    let exact = of("nystrom");
    for (method, bound) in
        [("fourier(features=1024,frequencies=sobol)", 0.1), ("positive(features=1024)", 0.25)]
    {
        for (found, want) in of(method).iter().zip(&exact) {
            assert!((found / want - 1.0).abs() < bound, "{method}: {found} {want}");
        }
        dir.ok("plot model.safetensors x.npy -o p.svg");
        dir.ok("eval model.safetensors x.npy --exact");
    }
}
