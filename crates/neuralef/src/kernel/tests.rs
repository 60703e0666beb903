//! Values against scikit-learn, units, the parser, and properties of specs.

use std::sync::Arc;

use ndarray::array;
use proptest::prelude::*;

use super::{Kernel, KernelSpec};
use crate::error::Error;
use crate::matrix::{Mat, Mat64};

fn fixed(text: &str) -> Arc<dyn Kernel> {
    KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap()
}

fn value(kernel: &dyn Kernel, x: &Mat, y: &Mat) -> Vec<f64> {
    let mut out = Mat64::zeros((x.nrows(), y.nrows()));
    kernel.gram(x.view(), y.view(), out.view_mut()).unwrap();
    out.into_iter().collect()
}

/// Values of scikit-learn 1.9.1 at x (3 × 3) and y (2 × 3), by the call in the comment.
#[test]
fn values_are_scikit_learns() {
    let x = array![[0.5f32, -1.0, 2.0], [1.5, 0.25, -0.75], [0.0, 3.0, 1.0]];
    let y = array![[1.0f32, 0.5, -0.5], [-2.0, 0.75, 1.25]];
    let cases: [(&str, [f64; 6]); 12] = [
        // rbf_kernel(x, y, gamma=0.3)
        (
            "rbf(gamma=0.3)",
            [
                0.07243975703425146,
                0.05168953167904939,
                0.8935973471085157,
                0.0070834089290521185,
                0.057844320874838456,
                0.06473197471099255,
            ],
        ),
        // laplacian_kernel(x, y, gamma=0.4)
        (
            "laplacian(lengthscale=2.5)",
            [
                0.16529888822158653,
                0.1353352832366127,
                0.6703200460356393,
                0.09071795328941247,
                0.1353352832366127,
                0.16529888822158653,
            ],
        ),
        // Matern(length_scale=1.7, nu=0.5)(x, y)
        (
            "matern(nu=0.5, lengthscale=1.7)",
            [
                0.17551628197073002,
                0.1574730811706557,
                0.6975234960079634,
                0.09168256394302286,
                0.16315364055227796,
                0.16915860288782616,
            ],
        ),
        // Matern(length_scale=1.7, nu=1.5)(x, y)
        (
            "matern(lengthscale=1.7)",
            [
                0.19709520933711944,
                0.17098000280554254,
                0.8701617584467699,
                0.08193565330669535,
                0.1791476870712926,
                0.18783772869776436,
            ],
        ),
        // Matern(length_scale=1.7, nu=2.5)(x, y)
        (
            "matern(nu=2.5, lengthscale=1.7)",
            [
                0.202999667937206,
                0.1735637339504729,
                0.9034656887534028,
                0.07583405544418088,
                0.1827496027430531,
                0.1925444857306074,
            ],
        ),
        // RationalQuadratic(length_scale=1.3, alpha=0.8)(x, y)
        (
            "rational_quadratic(lengthscale=1.3, alpha=0.8)",
            [
                0.3150936178988289,
                0.2923401437085841,
                0.9013170751194064,
                0.20839725395474643,
                0.29950466459538105,
                0.30707674211839225,
            ],
        ),
        // The product over coordinates i of
        // ExpSineSquared(length_scale=1.2, periodicity=2.5)(x[:, i:i+1], y[:, i:i+1])
        (
            "periodic(lengthscale=1.2, period=2.5)",
            [
                0.17620430891249403,
                0.1623372757620406,
                0.4746851751054475,
                0.10904873129367679,
                0.08106340900810889,
                0.4746851751054474,
            ],
        ),
        // cosine_similarity(x, y)
        (
            "cosine",
            [
                -0.35634832254989923,
                0.13226001425322167,
                0.9630868246861538,
                -0.893633203101749,
                0.2581988897471611,
                0.447213595499958,
            ],
        ),
        // linear_kernel(x, y)
        ("linear", [-1.0, 0.75, 2.0, -3.75, 1.0, 3.5]),
        // polynomial_kernel(x, y, degree=3, gamma=0.5, coef0=1.5)
        (
            "polynomial(gamma=0.5, coef0=1.5)",
            [1.0, 6.591796875, 15.625, -0.052734375, 8.0, 34.328125],
        ),
        // sigmoid_kernel(x, y, gamma=0.5, coef0=0.25)
        (
            "sigmoid(gamma=0.5, coef0=0.25)",
            [
                -0.24491866240370913,
                0.5545997223493823,
                0.8482836399575129,
                -0.9253462253117412,
                0.6351489523872873,
                0.9640275800758169,
            ],
        ),
        // 2*rbf_kernel(x, y, gamma=0.3)*linear_kernel(x, y) + 0.5
        (
            "2*rbf(gamma=0.3)*linear + 0.5",
            [
                0.3551204859314971,
                0.5775342975185741,
                4.074389388434063,
                0.4468744330321091,
                0.6156886417496769,
                0.9531238229769478,
            ],
        ),
    ];
    for (text, want) in cases {
        for (got, want) in value(fixed(text).as_ref(), &x, &y).iter().zip(want) {
            // Both sides round a few times in double precision.
            assert!((got - want).abs() <= 4e-15 * want.abs().max(1.0), "{text}: {got} {want}");
        }
    }
    // Defaults need the width only: polynomial_kernel(x, y), sigmoid_kernel(x, y).
    let spec = KernelSpec::parse("polynomial").unwrap();
    let kernel = spec.resolve(Some(x.view()), 0).unwrap();
    let got = value(kernel.as_ref(), &x, &y);
    assert!((got[0] - 0.2962962962962964).abs() < 1e-15, "{got:?}");
    assert!((got[5] - 10.171296296296294).abs() < 1e-14, "{got:?}");
    let spec = KernelSpec::parse("sigmoid").unwrap();
    let kernel = spec.resolve(Some(x.view()), 0).unwrap();
    let got = value(kernel.as_ref(), &x, &y);
    assert!((got[0] - 0.5827829453479101).abs() < 1e-15, "{got:?}");
    assert!((got[3] + 0.24491866240370913).abs() < 1e-15, "{got:?}");
    // numpy.prod(numpy.minimum(x[:, None], y[None]), -1) for |x|, |y|
    let (x, y) = (x.mapv(f32::abs), y.mapv(f32::abs));
    let got = value(fixed("brownian").as_ref(), &x, &y);
    assert_eq!(got, [0.125, 0.46875, 0.125, 0.28125, 0.0, 0.0]);
}

#[test]
fn differences_are_taken_before_squares() {
    // Far from the origin ‖x‖² + ‖y‖² − 2xᵀy has no digits left in single precision.
    let x = array![[4096.0f32, 4096.0], [4096.5, 4096.0]];
    let mut out = Mat::zeros((2, 2));
    fixed("rbf(lengthscale=0.5)").gram_f32(x.view(), x.view(), out.view_mut()).unwrap();
    assert!((f64::from(out[[0, 1]]) - (-0.5f64).exp()).abs() < 1e-7);
    assert_eq!(out[[0, 0]], 1.0);
}

#[test]
fn units_do_not_matter() {
    // Lengths near the ends of single precision, in the data and in the kernel: same bits.
    let x = array![[0.3f32, 1.7], [1.1, -0.4], [2.0, 0.5]];
    for name in ["rbf", "laplacian", "matern", "rational_quadratic"] {
        let of = |power: i32| {
            let unit = 2f64.powi(power);
            let x = x.mapv(|v| v * unit as f32);
            let kernel = fixed(&format!("{name}(lengthscale={:e})", 0.7 * unit));
            let mut out = Mat::zeros((3, 3));
            kernel.gram_f32(x.view(), x.view(), out.view_mut()).unwrap();
            out
        };
        assert_eq!(of(0), of(100), "{name}");
        assert_eq!(of(0), of(-100), "{name}");
    }
}

#[test]
fn periodic_repeats() {
    let x = array![[0.3f32], [0.3 + 3.0 * 2.5], [0.3 - 2.5]];
    let got = value(fixed("periodic(lengthscale=0.5, period=2.5)").as_ref(), &x, &x);
    assert!(got.iter().all(|v| (v - 1.0).abs() < 1e-10), "{got:?}");
}

#[test]
fn brownian_wants_non_negative_points() {
    let x = array![[0.5f32], [-0.1]];
    let error = fixed("brownian").diag(x.view()).unwrap_err();
    assert!(error.to_string().contains("row 1, column 0"), "{error}");
}

#[test]
fn faults_say_what_and_where() {
    let column = |text: &str| match KernelSpec::parse(text) {
        Err(Error::Parse { column, .. }) => column,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(column("rbf(lengthscale=0)"), 17);
    assert_eq!(column("rbf(lengthscale=-1)"), 17);
    assert_eq!(column("rbf(lengthscale=mean)"), 17);
    assert_eq!(column("rbf(lengthscale=1, gamma=2)"), 26);
    assert_eq!(column("rbf(gamma=median)"), 11);
    assert_eq!(column("rbf(1)"), 5);
    assert_eq!(column("linear + -2*rbf"), 10);
    assert_eq!(column("linear + 0*rbf"), 10);
    assert_eq!(column("1e300*1e300*rbf"), 1);
    assert_eq!(column("rbf + -1"), 7);
    assert_eq!(column("matern(nu=2)"), 11);
    assert_eq!(column("polynomial(degree=2.5)"), 19);
    assert_eq!(column("polynomial(coef0=-1)"), 18);
    assert_eq!(column("periodic(lengthscale=scale)"), 22);
    assert_eq!(column("periodic(lengthscale=1e-200)"), 22);
    assert_eq!(column("rational_quadratic(alpha=1e-9)"), 26);
    assert_eq!(column("rbf + [1, 2]"), 7);
    assert_eq!(column("rbf(lengthscale=1e-320)"), 17);
    assert_eq!(column("rbf(gamma=1.7e308)"), 11);
    assert_eq!(column(&"+ rbf".repeat(65)[2..]), 1);
    let error = KernelSpec::parse("rbff").unwrap_err().to_string();
    assert!(error.contains("did you mean `rbf`"), "{error}");
    let error = KernelSpec::parse("matern(length_scale=1)").unwrap_err().to_string();
    assert!(error.contains("did you mean `lengthscale`"), "{error}");
}

#[test]
fn values_that_need_data_say_so() {
    for (text, name) in [
        ("rbf", "lengthscale of rbf"),
        ("linear + laplacian(gamma=scale)", "gamma of laplacian"),
        ("polynomial", "gamma of polynomial"),
        ("periodic(lengthscale=median)", "lengthscale of periodic"),
    ] {
        let error = KernelSpec::parse(text).unwrap().resolve(None, 0).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    let x = array![[0.0f32, 0.0], [3.0, 4.0]];
    let of =
        |text: &str| KernelSpec::parse(text).unwrap().resolve(Some(x.view()), 0).unwrap().text();
    assert_eq!(of("rbf"), "rbf(lengthscale=5)");
    assert_eq!(of("laplacian"), "laplacian(lengthscale=7)");
    // Var = (0 + 0 + 9 + 16)/4 − (7/4)² = 3.1875; γ = 1/6.375, ℓ = √(6.375/2).
    assert_eq!(of("rbf(lengthscale=scale)"), format!("rbf(lengthscale={})", 3.1875f64.sqrt()));
    assert_eq!(of("rbf(gamma=scale)"), of("rbf(lengthscale=scale)"));
    assert_eq!(of("laplacian(gamma=scale)"), "laplacian(lengthscale=6.375)");
    assert_eq!(of("sigmoid"), "sigmoid(gamma=0.5, coef0=1)");
}

#[test]
fn structure_is_flat_and_survives() {
    for (text, want) in [
        ("(linear + cosine) + brownian", "linear(coef0=0) + cosine + brownian"),
        ("2*(3*(linear*cosine))", "6*linear(coef0=0)*cosine"),
        ("2*(linear + 3*cosine)", "2*(linear(coef0=0) + 3*cosine)"),
        ("1*cosine", "cosine"),
        ("2*3", "6"),
        ("cosine*0.5", "0.5*cosine"),
        ("1 + 0", "1 + 0"),
    ] {
        assert_eq!(fixed(text).text(), want);
    }
    let spec: KernelSpec = serde_json::from_str("\"rbf( lengthscale = 2 )\"").unwrap();
    assert_eq!(spec.to_string(), "rbf(lengthscale=2)");
    assert_eq!(serde_json::to_string(&spec).unwrap(), "\"rbf(lengthscale=2)\"");
    assert!(serde_json::from_str::<KernelSpec>("\"rbf(\"").is_err());
    assert!(KernelSpec::help().contains("rational_quadratic"));
}

#[test]
fn the_longest_resolved_text_still_parses() {
    let leaf = "1.2345678901234567e-30*polynomial(degree=64, gamma=1.2345678901234567e-30, coef0=1.2345678901234567e-30)";
    let text = vec![leaf; 32].join("+");
    let resolved = fixed(&text).text();
    assert_eq!(fixed(&resolved).text(), resolved);
}

#[test]
fn values_beyond_the_type_are_errors() {
    let x = array![[1e20f32]];
    let mut out = Mat::zeros((1, 1));
    let error = fixed("linear").gram_f32(x.view(), x.view(), out.view_mut()).unwrap_err();
    assert!(matches!(error, Error::Numerical { .. }), "{error}");
    assert_eq!(value(fixed("linear").as_ref(), &x, &x), [f64::from(1e20f32).powi(2)]);
    // ∞ − ∞ inside the inner product.
    let (x, y) = (array![[3e38f32, 3e38, 1.0]], array![[3e38f32, -3e38, 1.0]]);
    let x = x.mapv(|v| v / 4.0);
    let y = y.mapv(|v| v / 4.0);
    let sigmoid = fixed("sigmoid(gamma=1)");
    assert!(
        sigmoid.gram_f32(x.view(), y.view(), out.view_mut()).is_err() || out[[0, 0]].is_finite()
    );
}

/// Times of one call on one core: `cargo test --release -p neuralef --lib gram_times -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn gram_times() {
    for text in [
        "rbf(lengthscale=1)",
        "laplacian(lengthscale=1)",
        "matern(nu=2.5, lengthscale=1)",
        "rational_quadratic(lengthscale=1)",
        "periodic(lengthscale=1)",
        "cosine",
        "polynomial(degree=4, gamma=1)",
        "sigmoid(gamma=1)",
        "brownian",
        "rbf(lengthscale=1) + 0.1*linear",
    ] {
        let kernel = fixed(text);
        print!("{text:<36}");
        for d in [1usize, 2, 16, 64, 784] {
            let wave = |(i, j): (usize, usize)| ((i * 37 + j * 101) % 97) as f32 / 97.0;
            let x = Mat::from_shape_fn((256, d), wave);
            let (mut single, mut double) = (Mat::zeros((256, 256)), Mat64::zeros((256, 256)));
            // Nanoseconds of this thread on a core, for machines that do other work too; Linux
            // counts them in steps of up to 4 ms.
            let used = || {
                let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
                stat.split(' ').next().unwrap().parse::<f64>().unwrap()
            };
            let mean = |call: &mut dyn FnMut()| {
                let (start, mut calls) = (used(), 0.0);
                while used() - start < 1e8 {
                    for _ in 0..8 {
                        call();
                    }
                    calls += 8.0;
                }
                (used() - start) / calls / 1e3
            };
            let a = mean(&mut || kernel.gram_f32(x.view(), x.view(), single.view_mut()).unwrap());
            let b = mean(&mut || kernel.gram(x.view(), x.view(), double.view_mut()).unwrap());
            print!("  d={d}: {a:.0} / {b:.0}");
        }
        println!("  µs (f32 / f64)");
    }
}

/// Any valid kernel text.
fn kernel_text() -> impl Strategy<Value = String> {
    let length = prop_oneof![(-30i32..30).prop_map(|p| 10f64.powi(p)), 0.01f64..100.0];
    let leaf = prop_oneof![
        length.clone().prop_map(|l| format!("rbf(lengthscale={l})")),
        length.clone().prop_map(|g| format!("rbf(gamma={g:e})")),
        length.clone().prop_map(|l| format!("laplacian( lengthscale ={l})")),
        (length.clone(), 0usize..3)
            .prop_map(|(l, i)| format!("matern(lengthscale={l},nu={})", [0.5, 1.5, 2.5][i])),
        (length.clone(), 1e-6f64..1e6)
            .prop_map(|(l, a)| format!("rational_quadratic(lengthscale={l}, alpha={a})")),
        (1e-9f64..1e9, length.clone())
            .prop_map(|(l, p)| format!("periodic(lengthscale={l}, period={p})")),
        Just("cosine".to_string()),
        (0.0f64..1e6).prop_map(|c| format!("linear(coef0={c})")),
        (1u32..65, length, 0.0f64..10.0)
            .prop_map(|(p, g, c)| format!("polynomial(degree={p}, gamma={g}, coef0={c})")),
        (1e-9f64..1e3).prop_map(|g| format!("softmax(gamma={g})")),
        Just("brownian()".to_string()),
        (0.0f64..1e6).prop_map(|c| c.to_string()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|p| format!("({})", p.join(" + "))),
            (1e-5f64..1e5, inner.clone()).prop_map(|(c, k)| format!("{c}*cosine*{k}")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_never_panics(text in "\\PC{0,60}") {
        let _ = KernelSpec::parse(&text);
    }

    #[test]
    fn nearly_valid_text_never_panics(
        text in "(rbf|linear|matern|polynomial|[-+*(),=.0-9e ]|lengthscale|gamma|median|nu){0,20}"
    ) {
        if let Ok(spec) = KernelSpec::parse(&text) {
            let x = ndarray::array![[0.1f32, 0.2], [0.3, 0.9]];
            if let Ok(kernel) = spec.resolve(Some(x.view()), 1) {
                let _ = kernel.diag(x.view());
            }
        }
    }

    #[test]
    fn prop_valid_kernels_round_trip(text in kernel_text()) {
        // A factor of 0 inside a product is refused, as it should be.
        let Ok(spec) = KernelSpec::parse(&text) else { return Ok(()) };
        let again = KernelSpec::parse(&spec.to_string()).unwrap();
        prop_assert_eq!(&again, &spec);
        let kernel = spec.resolve(None, 0).unwrap();
        let resolved = kernel.text();
        let back = KernelSpec::parse(&resolved).unwrap().resolve(None, 0).unwrap();
        prop_assert_eq!(back.text(), resolved);
        let x = ndarray::array![[0.3f32, 1.2], [0.0, 2.5], [1.0, 1.0]];
        let (mut a, mut b) = (Mat::zeros((3, 3)), Mat::zeros((3, 3)));
        let (ra, rb) = (
            kernel.gram_f32(x.view(), x.view(), a.view_mut()),
            back.gram_f32(x.view(), x.view(), b.view_mut()),
        );
        prop_assert_eq!(ra.is_ok(), rb.is_ok());
        if ra.is_ok() {
            prop_assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert!(a.iter().all(|v| v.is_finite()));
        }
    }
}
