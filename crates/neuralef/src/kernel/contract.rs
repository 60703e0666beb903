//! What every kernel must satisfy, run for every registered kernel and for compositions.

use ndarray::{Array2, Axis, s};
use rand::RngExt;

use super::registry::KERNELS;
use super::{Kernel, KernelSpec, expect_gradient};
use crate::error::Error;
use crate::matrix::{Mat, Mat64};
use crate::rng::stream;

/// Kernels under contract. The first column is the registered name the line is there for.
const CASES: &[(&str, &str)] = &[
    ("rbf", "rbf(lengthscale=0.7)"),
    ("rbf", "rbf(gamma=0.3)"),
    ("rbf", "rbf"),
    ("laplacian", "laplacian(lengthscale=1.3)"),
    ("laplacian", "laplacian(gamma=scale)"),
    ("matern", "matern(nu=0.5, lengthscale=0.9)"),
    ("matern", "matern(lengthscale=0.9)"),
    ("matern", "matern(nu=2.5, lengthscale=scale)"),
    ("rational_quadratic", "rational_quadratic(lengthscale=1.1, alpha=0.3)"),
    ("rational_quadratic", "rational_quadratic(alpha=1e6)"),
    ("periodic", "periodic(lengthscale=0.8, period=1.7)"),
    ("periodic", "periodic(lengthscale=median, period=0.31)"),
    ("cosine", "cosine"),
    ("linear", "linear"),
    ("linear", "linear(coef0=0.5)"),
    ("polynomial", "polynomial"),
    ("polynomial", "polynomial(degree=4, gamma=1, coef0=1.5)"),
    ("sigmoid", "sigmoid(gamma=0.5)"),
    ("softmax", "softmax"),
    ("softmax", "softmax(gamma=0.3)"),
    ("brownian", "brownian"),
    ("nngp", "nngp"),
    ("nngp", "nngp(depth=1, activation=erf, weight_var=3, bias_var=0)"),
    ("nngp", "nngp(depth=2, activation=sin_cos, weight_var=[1, 2, 0.5], bias_var=0.2)"),
    ("nngp", "nngp(depth=2, activation=gelu, bias_var=[0, 0.3, 0])"),
    ("ntk", "ntk(depth=2, bias_var=0)"),
    ("ntk", "ntk(depth=4, activation=leaky_relu)"),
    ("ntk", "ntk(depth=3, activation=erf, weight_var=2, bias_var=1)"),
    ("ntk", "ntk(depth=1, activation=sin_cos)"),
    ("ntk", "ntk(depth=3, activation=gelu, bias_var=0)"),
    ("cnn_gp", "cnn_gp(image=[3, 3, 1], kernel=[3, 2, 1], hidden=1)"),
    ("cnn_gp", "cnn_gp(image=[4, 5, 2], pool=[2, 1], order=hwc, activation=erf, bias_var=0)"),
    ("cnn_gp", "cnn_gp(image=[3, 3, 1], stride=2, readout=average, activation=sin_cos)"),
    ("cntk", "cntk(image=[3, 4, 1], kernel=[3, 3, 3], bias_var=0)"),
    ("cntk", "cntk(image=[4, 4, 1], pool=[2, 1], activation=gelu)"),
    ("cntk", "cntk(image=[3, 3, 2], padding=valid, kernel=[2], readout=average)"),
    ("sum", "rbf(lengthscale=0.5) + 0.1*linear"),
    ("sum", "rbf + 1"),
    ("product", "2*(rbf + linear(coef0=1))*periodic(period=1.5)"),
    ("product", "3*2*(0.5*(matern*cosine))"),
    // A sum scaled by 1 stays a part of its own.
    ("sum", "0.5 + (linear + 0.25)*1"),
    ("constant", "1.5"),
];

/// Height × width × channels, for kernels of images.
fn pixels(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("image=[")?;
    rest.split_once(']')?.0.split(", ").map(|n| n.parse::<usize>().ok()).product()
}

/// Points for a kernel: non-negative where it asks for that, images where it takes no others.
fn points(text: &str, n: usize, d: usize, seed: u64) -> Mat {
    let d = pixels(text).unwrap_or(d);
    let mut rng = stream(seed, "contract", 0);
    let low = if text.contains("brownian") { 0.0 } else { -1.5f32 };
    let mut x = Array2::from_shape_simple_fn((n, d), || rng.random_range(low..1.5f32));
    if n > 3 && d > 0 {
        // Two equal points and the origin.
        let copy = x.row(0).to_owned();
        x.row_mut(1).assign(&copy);
        x.row_mut(2).fill(0.0);
    }
    x
}

fn resolve(text: &str, x: &Mat) -> std::sync::Arc<dyn Kernel> {
    KernelSpec::parse(text).unwrap().resolve(Some(x.view()), 1).unwrap()
}

fn gram(kernel: &dyn Kernel, x: &Mat, y: &Mat) -> Mat64 {
    let mut out = Mat64::zeros((x.nrows(), y.nrows()));
    kernel.gram(x.view(), y.view(), out.view_mut()).unwrap();
    out
}

fn gram_f32(kernel: &dyn Kernel, x: &Mat, y: &Mat) -> Mat {
    let mut out = Mat::zeros((x.nrows(), y.nrows()));
    kernel.gram_f32(x.view(), y.view(), out.view_mut()).unwrap();
    out
}

/// The smallest pivot of the Cholesky factorisation of k + jitter·I.
fn smallest_pivot(k: &Mat64, jitter: f64) -> f64 {
    let n = k.nrows();
    let mut l = Mat64::zeros((n, n));
    let mut smallest = f64::INFINITY;
    for j in 0..n {
        for i in j..n {
            let dot = l.slice(s![i, ..j]).dot(&l.slice(s![j, ..j]));
            let v = k[[i, j]] + if i == j { jitter } else { 0.0 } - dot;
            if i == j {
                smallest = smallest.min(v);
                if v <= 0.0 {
                    return v;
                }
                l[[j, j]] = v.sqrt();
            } else {
                l[[i, j]] = v / l[[j, j]];
            }
        }
    }
    smallest
}

fn each(check: impl Fn(&str, &dyn Kernel, &Mat)) {
    for (_, text) in CASES {
        let all = [1, 3, 70];
        let widths = if pixels(text).is_some() { &all[..1] } else { &all[..] };
        for d in widths {
            let x = points(text, 40, *d, 7);
            check(&format!("{text}, d = {d}"), resolve(text, &x).as_ref(), &x);
        }
    }
}

#[test]
fn every_registered_kernel_is_here() {
    for name in KERNELS.names() {
        assert!(CASES.iter().any(|(case, _)| *case == name), "{name} is not under contract");
    }
}

#[test]
fn symmetric_to_the_bit() {
    each(|what, kernel, x| {
        let k = gram(kernel, x, x);
        assert!(k.indexed_iter().all(|((i, j), v)| v.to_bits() == k[[j, i]].to_bits()), "{what}");
        let k = gram_f32(kernel, x, x);
        assert!(k.indexed_iter().all(|((i, j), v)| v.to_bits() == k[[j, i]].to_bits()), "{what}");
    });
}

#[test]
fn positive_semidefinite_where_claimed() {
    each(|what, kernel, x| {
        let k = gram(kernel, x, x);
        let size = k.diag().iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let pivot = smallest_pivot(&k, 1e-11 * size);
        if kernel.is_positive_semidefinite() {
            assert!(pivot > 0.0, "{what}: {pivot}");
        }
    });
}

#[test]
fn sigmoid_is_indefinite_and_says_so() {
    let x = ndarray::array![[0.1f32], [2.0], [-2.0]];
    let kernel = resolve("sigmoid(gamma=1, coef0=-1)", &x);
    assert!(!kernel.is_positive_semidefinite());
    assert!(!resolve("rbf + 0.5*sigmoid", &x).is_positive_semidefinite());
    // tanh(0.01 − 1) < 0 on the diagonal, so e₁ᵀKe₁ < 0; and far from rounding.
    let k = gram(kernel.as_ref(), &x, &x);
    assert!(k[[0, 0]] < -0.7, "{k}");
    // With a positive diagonal too: the 2 × 2 determinant is negative.
    let x = ndarray::array![[1.0f32], [3.0]];
    let k = gram(resolve("sigmoid(gamma=1, coef0=0)", &x).as_ref(), &x, &x);
    assert!(k[[0, 0]] > 0.0 && k[[0, 0]] * k[[1, 1]] - k[[0, 1]] * k[[1, 0]] < -0.1, "{k}");
}

#[test]
fn diag_is_the_diagonal() {
    each(|what, kernel, x| {
        let k = gram(kernel, x, x);
        let diag = kernel.diag(x.view()).unwrap();
        for (i, (a, b)) in diag.iter().zip(k.diag()).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "{what}, point {i}: {a} and {b}");
        }
    });
}

#[test]
fn blocks_have_the_bits_of_the_whole() {
    for (_, text) in CASES {
        // 600 columns: more than one block of columns inside.
        let (x, y) = (points(text, 21, 6, 1), points(text, 600, 6, 2));
        let kernel = resolve(text, &x);
        let (whole, whole32) = (gram(kernel.as_ref(), &x, &y), gram_f32(kernel.as_ref(), &x, &y));
        for (rows, columns) in [(0..1, 0..1), (3..20, 5..38), (20..21, 505..600), (7..9, 0..600)] {
            let (a, b) = (s![rows.clone(), ..], s![columns.clone(), ..]);
            let (bx, by) = (x.slice(a).to_owned(), y.slice(b).to_owned());
            let block = s![rows, columns];
            let (got, got32) =
                (gram(kernel.as_ref(), &bx, &by), gram_f32(kernel.as_ref(), &bx, &by));
            assert!(bits(got.iter()) == bits(whole.slice(block).iter()), "{text}");
            assert!(
                got32.iter().zip(whole32.slice(block)).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{text}"
            );
        }
    }
}

fn bits<'a>(values: impl Iterator<Item = &'a f64>) -> Vec<u64> {
    values.map(|v| v.to_bits()).collect()
}

#[test]
fn any_memory_layout_gives_the_same_bits() {
    for (_, text) in CASES {
        let (x, y) = (points(text, 6, 5, 1), points(text, 7, 5, 2));
        let kernel = resolve(text, &x);
        let want = gram(kernel.as_ref(), &x, &y);
        // Points with their coordinates far apart, the result column by column.
        let turned = |x: &Mat| x.t().as_standard_layout().to_owned();
        let (xt, yt) = (turned(&x), turned(&y));
        let mut out = Mat64::zeros((7, 6));
        kernel.gram(xt.t(), yt.t(), out.view_mut().reversed_axes()).unwrap();
        assert!(bits(out.t().iter()) == bits(want.iter()), "{text}");
        // A window of a larger matrix.
        let mut wide = Mat64::zeros((6, 20));
        kernel.gram(x.view(), y.view(), wide.slice_mut(s![.., 4..11])).unwrap();
        assert!(bits(wide.slice(s![.., 4..11]).iter()) == bits(want.iter()), "{text}");
        assert!(wide.slice(s![.., ..4]).iter().all(|v| *v == 0.0));
    }
}

#[test]
fn precisions_agree() {
    each(|what, kernel, x| {
        let (wide, single) = (gram(kernel, x, x), gram_f32(kernel, x, x));
        let size = wide.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let worst = wide.iter().zip(&single).map(|(a, b)| (a - f64::from(*b)).abs() / size);
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 1e-6, "{what}: {worst}");
    });
}

#[test]
fn text_round_trips_to_the_same_bits() {
    each(|what, kernel, x| {
        let text = kernel.text();
        // No data needed any more.
        let again = KernelSpec::parse(&text).unwrap().resolve(None, 0).unwrap();
        assert_eq!(again.text(), text, "{what}");
        assert!(bits(gram(again.as_ref(), x, x).iter()) == bits(gram(kernel, x, x).iter()));
        let (a, b) = (gram_f32(again.as_ref(), x, x), gram_f32(kernel, x, x));
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
        assert_eq!(again.is_positive_semidefinite(), kernel.is_positive_semidefinite());
    });
}

#[test]
fn wrong_shapes_are_errors() {
    for (_, text) in CASES {
        let (x, y) = (points(text, 5, 3, 1), points("", 4, 2, 1));
        let kernel = resolve(text, &x);
        let widths = kernel.gram(x.view(), y.view(), Mat64::zeros((5, 4)).view_mut());
        assert!(matches!(widths, Err(Error::Shape { .. })), "{text}");
        let widths = kernel.gram_f32(x.view(), y.view(), Mat::zeros((5, 4)).view_mut());
        assert!(matches!(widths, Err(Error::Shape { .. })), "{text}");
        let out = kernel.gram(x.view(), x.view(), Mat64::zeros((5, 4)).view_mut());
        assert!(matches!(out, Err(Error::Shape { .. })), "{text}");
    }
}

#[test]
fn nothing_is_fine() {
    for (_, text) in CASES {
        let x = points(text, 5, 3, 1);
        let kernel = resolve(text, &x);
        let none = Mat::zeros((0, x.ncols()));
        assert_eq!(gram(kernel.as_ref(), &none, &x).dim(), (0, 5));
        assert_eq!(gram(kernel.as_ref(), &x, &none).dim(), (5, 0));
        assert_eq!(gram_f32(kernel.as_ref(), &none, &none).dim(), (0, 0));
        assert!(kernel.diag(none.view()).unwrap().is_empty());
        if pixels(text).is_some() {
            continue;
        }
        // Points of no coordinates: all the same.
        let flat = Mat::zeros((4, 0));
        let k = gram(kernel.as_ref(), &flat, &flat);
        assert!(k.iter().all(|v| v.is_finite() && *v == k[[0, 0]]), "{text}");
        assert_eq!(kernel.diag(flat.view()).unwrap(), k.diag().to_vec(), "{text}");
    }
}

#[test]
fn non_finite_input_is_an_error_that_says_where() {
    for (_, text) in CASES {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = points(text, 5, 6, 1);
            let kernel = resolve(text, &x);
            x[[3, 4]] = bad;
            let good = points(text, 5, 6, 1);
            let errors = [
                kernel.gram(good.view(), x.view(), Mat64::zeros((5, 5)).view_mut()).unwrap_err(),
                kernel.gram_f32(x.view(), good.view(), Mat::zeros((5, 5)).view_mut()).unwrap_err(),
                kernel.diag(x.view()).unwrap_err(),
            ];
            for error in errors {
                let here = matches!(error, Error::NonFinite { row: 3, column: 4, .. });
                assert!(here, "{text}: {error}");
            }
        }
    }
}

#[test]
fn huge_and_tiny_points_never_give_nan() {
    for (_, text) in CASES {
        let x = points(text, 6, 5, 3);
        let kernel = resolve(text, &x);
        for size in [1e-42f32, 1e-30, 1e-20, 1e15, 1e25, 1e38] {
            let far = x.mapv(|v| v * size);
            let far = far.select(Axis(0), &[0, 3, 4, 5]);
            let mut out = Mat::zeros((4, 4));
            // Either values, or an error; infinity and NaN never.
            if kernel.gram_f32(far.view(), far.view(), out.view_mut()).is_ok() {
                assert!(out.iter().all(|v| v.is_finite()), "{text}, {size}");
            }
            let mut out = Mat64::zeros((4, 4));
            if kernel.gram(far.view(), far.view(), out.view_mut()).is_ok() {
                assert!(out.iter().all(|v| v.is_finite()), "{text}, {size}");
            }
        }
    }
}

/// The derivatives of κ(xᵢ, yⱼ) by every coordinate of xᵢ, n·d × m, by central differences of fourth
/// order. Coordinates are multiples of 2⁻¹², so that they and the steps are exact.
fn differences(kernel: &dyn Kernel, x: &Mat, y: &Mat) -> Mat64 {
    const STEP: f32 = 1.0 / 1024.0;
    let d = x.ncols();
    let mut out = Mat64::zeros((x.len(), y.nrows()));
    for c in 0..d {
        let at = |steps: f32| {
            let mut moved = x.clone();
            moved.column_mut(c).mapv_inplace(|v| v + steps * STEP);
            gram(kernel, &moved, y)
        };
        let near = at(1.0) - at(-1.0);
        let far = at(2.0) - at(-2.0);
        let slopes = (near * 8.0 - far) / (12.0 * f64::from(STEP));
        for (i, row) in slopes.outer_iter().enumerate() {
            out.row_mut(i * d + c).assign(&row);
        }
    }
    out
}

#[test]
fn gradients_are_those_of_central_differences() {
    let smooth =
        ["rbf", "rational_quadratic", "periodic", "linear", "polynomial", "sigmoid", "softmax"];
    for (name, text) in CASES {
        for d in [1, 3] {
            let exact = |x: Mat| x.mapv(|v| (v * 4096.0).round() / 4096.0);
            let (x, y) = (exact(points(text, 9, d, 1)), exact(points(text, 11, d, 2)));
            let kernel = resolve(text, &x);
            // A point of y on one of x, where kinks would be.
            let y = ndarray::concatenate![Axis(0), y, x.slice(s![4..5, ..])];
            let mut got = Mat64::zeros((x.len(), y.nrows()));
            let claimed = expect_gradient(&*kernel, x.view(), y.view(), got.view_mut());
            let expected = smooth.contains(name)
                || *name == "constant"
                || text.starts_with("matern") && !text.contains("0.5")
                || ["rbf(lengthscale=0.5) + 0.1*linear", "rbf + 1"].contains(text)
                || text.starts_with("2*(rbf")
                || text.starts_with("0.5 + (linear");
            match claimed {
                Err(Error::Unsupported { .. }) => assert!(!expected, "{text}"),
                other => {
                    other.unwrap();
                    assert!(expected, "{text}");
                    let want = differences(kernel.as_ref(), &x, &y);
                    let size = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
                    let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
                    let worst = worst.fold(0.0, f64::max);
                    // Rounding ε/h of values, times α for rational quadratics; truncation h⁴κ⁗'/30,
                    // the larger one for the shortest period.
                    assert!(worst <= 1e-6 * size, "{text}, d = {d}: {worst:e} of {size}");
                }
            }
        }
    }
}

#[test]
fn gradients_refuse_what_values_refuse() {
    for text in
        ["rbf(lengthscale=1)", "polynomial(gamma=1)", "1.5", "rbf(lengthscale=1)*2 + linear"]
    {
        let (mut x, y) = (points(text, 5, 3, 1), points(text, 4, 2, 1));
        let kernel = resolve(text, &x);
        let of = |x: &Mat, y: &Mat, shape| {
            expect_gradient(&*kernel, x.view(), y.view(), Mat64::zeros(shape).view_mut())
        };
        assert!(matches!(of(&x, &y, (15, 4)), Err(Error::Shape { .. })), "{text}");
        assert!(matches!(of(&x, &x, (5, 5)), Err(Error::Shape { .. })), "{text}");
        assert!(of(&Mat::zeros((0, 3)), &x, (0, 5)).is_ok());
        x[[3, 1]] = f32::NAN;
        let error = of(&x, &Mat::zeros((2, 3)), (15, 2)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 3, column: 1, .. }), "{text}: {error}");
    }
}
