//! Against a plain recursion over all pairs of positions, fully connected networks, exact cases, texts.

use std::f64::consts::PI;

use ndarray::{Array2, array, s};
use rand::RngExt;

use super::super::tests::{fixed, gram};
use crate::error::Error;
use crate::kernel::KernelSpec;
use crate::matrix::{Mat, Mat64};
use crate::nn::LEAK;
use crate::rng::stream;

/// A network, for the texts and for what is written out in the tests.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) image: [usize; 3],
    pub(super) kernels: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) same: bool,
    pub(super) pools: Vec<usize>,
    pub(super) average: bool,
    pub(super) hidden: usize,
    pub(super) name: &'static str,
    pub(super) weights: Vec<f64>,
    pub(super) biases: Vec<f64>,
}

impl Net {
    pub(super) fn text(&self, kind: &str) -> String {
        format!(
            "{kind}(image={:?}, kernel={:?}, stride={:?}, padding={}, pool={:?}, readout={}, \
             hidden={}, activation={}, weight_var={:?}, bias_var={:?})",
            self.image,
            self.kernels,
            self.strides,
            if self.same { "same" } else { "valid" },
            self.pools,
            if self.average { "average" } else { "flatten" },
            self.hidden,
            self.name,
            self.weights,
            self.biases,
        )
    }
}

/// Variances that no two layers share.
pub(super) fn variances(count: usize) -> (Vec<f64>, Vec<f64>) {
    let weights = (0..count).map(|l| 1.1 + 0.35 * ((l * 5) % 4) as f64).collect();
    let biases = (0..count).map(|l| 0.05 + 0.1 * ((l * 3) % 5) as f64).collect();
    (weights, biases)
}

/// A network of convolutions, each with its kernel, stride and pool.
pub(super) fn net(
    name: &'static str,
    image: [usize; 3],
    layers: &[[usize; 3]],
    same: bool,
    average: bool,
    hidden: usize,
) -> Net {
    let (weights, biases) = variances(layers.len() + hidden + 1);
    Net {
        image,
        kernels: layers.iter().map(|l| l[0]).collect(),
        strides: layers.iter().map(|l| l[1]).collect(),
        same,
        pools: layers.iter().map(|l| l[2]).collect(),
        average,
        hidden,
        name,
        weights,
        biases,
    }
}

/// Networks of every kind of layer.
pub(super) fn networks(name: &'static str) -> Vec<Net> {
    let net = |image, layers: &[[usize; 3]], same, average, hidden| {
        net(name, image, layers, same, average, hidden)
    };
    vec![
        net([4, 4, 2], &[[3, 1, 1], [3, 1, 1]], true, false, 0),
        net([5, 4, 1], &[[2, 1, 1], [4, 1, 1]], true, false, 1),
        net([5, 5, 1], &[[3, 2, 1], [3, 1, 1]], true, false, 0),
        net([5, 6, 2], &[[3, 1, 1], [2, 2, 1]], false, false, 2),
        net([4, 4, 2], &[[3, 1, 2], [3, 1, 1]], true, false, 0),
        net([5, 5, 1], &[[3, 1, 2], [2, 1, 2]], true, false, 1),
        net([4, 4, 2], &[[3, 1, 1], [3, 1, 1]], true, true, 0),
        net([6, 5, 1], &[[3, 1, 2], [3, 1, 1]], true, true, 1),
        net([7, 5, 1], &[[2, 2, 1], [3, 1, 2]], true, true, 0),
        net([6, 6, 1], &[[1, 1, 3], [1, 2, 1], [1, 1, 1]], true, false, 0),
        net([9, 11, 1], &[[3, 1, 2], [3, 2, 1], [2, 1, 2]], true, false, 0),
    ]
}

pub(super) fn images(n: usize, [h, w, c]: [usize; 3], seed: u64) -> Mat {
    let mut rng = stream(seed, "images", 0);
    Array2::from_shape_simple_fn((n, h * w * c), || rng.random_range(-1.5f32..1.5))
}

/// (E φφ, E φ'φ') from the textbook's formulas.
fn dual(name: &str, a: f64, b: f64, c: f64) -> (f64, f64) {
    let cosine = (c / (a * b).sqrt()).clamp(-1.0, 1.0);
    let angle = cosine.acos();
    let relu = (
        (a * b).sqrt() * (angle.sin() + (PI - angle) * cosine) / (2.0 * PI),
        (PI - angle) / (2.0 * PI),
    );
    let scale = (1.0 + 2.0 * a) * (1.0 + 2.0 * b);
    let leak = f64::from(LEAK);
    match name {
        "relu" => relu,
        "leaky_relu" => {
            let rest = (1.0 - leak).powi(2);
            (leak * c + rest * relu.0, leak + rest * relu.1)
        }
        "erf" => {
            (2.0 / PI * (2.0 * c / scale.sqrt()).asin(), 4.0 / PI / (scale - 4.0 * c * c).sqrt())
        }
        "sin_cos" => {
            let value = 0.5 * (c - 0.5 * (a + b)).exp();
            (value, value)
        }
        _ => panic!("{name}"),
    }
}

/// A grid with a covariance and a tangent kernel between all positions of all images.
struct Field {
    n: usize,
    h: usize,
    w: usize,
    sigma: Mat64,
    theta: Mat64,
}

impl Field {
    fn at(&self, i: usize, y: usize, x: usize) -> usize {
        (i * self.h + y) * self.w + x
    }

    /// Linear maps on positions, by their sparse rows, on both sides of a covariance.
    fn map(&self, h: usize, w: usize, rows: impl Fn(usize, usize) -> Vec<(usize, usize)>) -> Field {
        let (n, area) = (self.n, self.h * self.w);
        let rows: Vec<Vec<usize>> = (0..h * w)
            .map(|p| rows(p / w, p % w).into_iter().map(|(y, x)| y * self.w + x).collect())
            .collect();
        let both = |of: &Mat64, pairs: &dyn Fn(usize, usize) -> Vec<(usize, usize)>| {
            Mat64::from_shape_fn((n * h * w, n * h * w), |(s, t)| {
                let ((i, p), (j, q)) = ((s / (h * w), s % (h * w)), (t / (h * w), t % (h * w)));
                pairs(p, q).iter().map(|(p, q)| of[[i * area + p, j * area + q]]).sum()
            })
        };
        let all = |p: usize, q: usize| {
            rows[p].iter().flat_map(|a| rows[q].iter().map(move |b| (*a, *b))).collect()
        };
        Field { n, h, w, sigma: both(&self.sigma, &all), theta: both(&self.theta, &all) }
    }
}

/// κ and Θ by the recursions as papers have them: covariances of all positions with all positions.
fn plain(net: &Net, x: &Mat) -> (Mat64, Mat64) {
    let ([h, w, c], n) = (net.image, x.nrows());
    let pixel = |i: usize, p: usize, c: usize| f64::from(x[[i, c * h * w + p]]);
    let area = h * w;
    let sigma = Mat64::from_shape_fn((n * area, n * area), |(s, t)| {
        let products = (0..c).map(|c| pixel(s / area, s % area, c) * pixel(t / area, t % area, c));
        products.sum::<f64>() / c as f64
    });
    let theta = Mat64::zeros(sigma.dim());
    let mut field = Field { n, h, w, sigma, theta };
    for (l, (k, stride)) in net.kernels.iter().zip(&net.strides).enumerate() {
        let (before, extra) = if net.same { ((k - 1) / 2, k - 1) } else { (0, 0) };
        let size = |n: usize| (n + extra - k) / stride + 1;
        let (h, w) = (size(field.h), size(field.w));
        let (weight, bias) = (net.weights[l] / (k * k) as f64, net.biases[l]);
        let sum = |of: &Mat64| {
            Mat64::from_shape_fn((n * h * w, n * h * w), |(s, t)| {
                let place = |s: usize| (s / (h * w), s % (h * w) / w, s % w);
                let ((i, y, x), (j, v, u)) = (place(s), place(t));
                let mut sum = 0.0;
                for a in 0..*k {
                    for b in 0..*k {
                        let inside = |y: usize, x: usize| {
                            let (y, x) = (y * stride + a, x * stride + b);
                            let (y, x) = (y.checked_sub(before)?, x.checked_sub(before)?);
                            (y < field.h && x < field.w).then_some((y, x))
                        };
                        if let (Some((y, x)), Some((v, u))) = (inside(y, x), inside(v, u)) {
                            sum += of[[field.at(i, y, x), field.at(j, v, u)]];
                        }
                    }
                }
                weight * sum
            })
        };
        let sigma = sum(&field.sigma) + bias;
        let theta = &sigma + &sum(&field.theta);
        field = activate(net.name, Field { n, h, w, sigma, theta });
        let pool = net.pools[l];
        let (h, w) = (field.h / pool, field.w / pool);
        let window = |y: usize, x: usize| {
            let members = (0..pool * pool).map(|m| (y * pool + m / pool, x * pool + m % pool));
            members.collect()
        };
        field = mean_of(field.map(h, w, window), pool * pool);
    }
    if net.average {
        let (h, w) = (field.h, field.w);
        let all = |_, _| (0..h * w).map(|p| (p / w, p % w)).collect();
        field = mean_of(field.map(1, 1, all), h * w);
    }
    for l in net.kernels.len()..net.weights.len() {
        let area = field.h * field.w;
        let mean = |of: &Mat64| {
            Mat64::from_shape_fn((n, n), |(i, j)| {
                let same = (0..area).map(|p| of[[i * area + p, j * area + p]]);
                net.weights[l] * same.sum::<f64>() / area as f64
            })
        };
        let sigma = mean(&field.sigma) + net.biases[l];
        let theta = &sigma + &mean(&field.theta);
        if l + 1 == net.weights.len() {
            return (sigma, theta);
        }
        field = activate(net.name, Field { n, h: 1, w: 1, sigma, theta });
    }
    unreachable!()
}

fn mean_of(mut field: Field, members: usize) -> Field {
    let share = (members as f64).powi(-2);
    field.sigma *= share;
    field.theta *= share;
    field
}

/// Σ and Θ to E φφ and E φ'φ'·Θ.
fn activate(name: &str, field: Field) -> Field {
    let both = |s: usize, t: usize| {
        let k = &field.sigma;
        dual(name, k[[s, s]], k[[t, t]], k[[s, t]])
    };
    let sigma = Mat64::from_shape_fn(field.sigma.dim(), |(s, t)| both(s, t).0);
    let theta =
        Mat64::from_shape_fn(field.sigma.dim(), |(s, t)| both(s, t).1 * field.theta[[s, t]]);
    Field { sigma, theta, ..field }
}

#[test]
fn values_are_those_of_the_plain_recursion() {
    for name in ["relu", "leaky_relu", "erf", "sin_cos"] {
        for net in networks(name) {
            let x = images(3, net.image, 3);
            let (sigma, theta) = plain(&net, &x);
            for (kind, want) in [("cnn_gp", sigma), ("cntk", theta)] {
                let got = gram(&net.text(kind), &x, &x);
                for ((ij, got), want) in got.indexed_iter().zip(&want) {
                    // acos near 1, on the diagonal, is known to √ε; all else to a few roundings.
                    let rounding = if ij.0 == ij.1 { 3e-8 } else { 2e-14 };
                    let bound = rounding * want.abs().max(0.1);
                    assert!((got - want).abs() < bound, "{}, {ij:?}: {got} {want}", net.text(kind));
                }
            }
        }
    }
}

/// A 1 × 1 image is a point, and a kernel as large as the image a dense layer.
#[test]
fn one_position_is_a_fully_connected_network() {
    for name in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"] {
        let (weights, biases) = variances(4);
        let rest = format!("activation={name}, weight_var={weights:?}, bias_var={biases:?}");
        let x = images(5, [3, 2, 2], 1);
        for (conv, dense) in [("cnn_gp", "nngp"), ("cntk", "ntk")] {
            let want = gram(&format!("{dense}(depth=3, {rest})"), &x, &x);
            for shape in [
                "image=[1, 1, 12], kernel=[1, 1, 1]",
                "image=[1, 1, 12], kernel=[1, 1, 1], readout=average, padding=valid",
                "image=[1, 1, 12], kernel=[1], hidden=2, pool=1",
                "image=[1, 1, 12], kernel=[1, 1], hidden=1, stride=3",
            ] {
                let text = format!("{conv}({shape}, {rest})");
                for (got, want) in gram(&text, &x, &x).iter().zip(&want) {
                    assert!((got - want).abs() < 4e-15 * want.abs(), "{text}: {got} {want}");
                }
            }
        }
    }
    // Four pixels in one window: the mean over channels is that over all coordinates.
    let x = images(5, [2, 2, 3], 2);
    for (conv, dense) in [("cnn_gp", "nngp"), ("cntk", "ntk")] {
        let got = gram(&format!("{conv}(image=[2, 2, 3], kernel=[2], padding=valid)"), &x, &x);
        let want = gram(&format!("{dense}(depth=1)"), &x, &x);
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 4e-15 * want.abs(), "{got} {want}");
        }
    }
}

#[test]
fn order_says_where_channels_are() {
    let x = images(4, [3, 5, 2], 5);
    let turned = Mat::from_shape_fn(x.dim(), |(i, at)| {
        let (position, channel) = (at / 2, at % 2);
        x[[i, channel * 15 + position]]
    });
    for kind in ["cnn_gp", "cntk"] {
        let planar = gram(&format!("{kind}(image=[3, 5, 2], pool=[1, 2])"), &x, &x);
        let text = format!("{kind}(image=[3, 5, 2], pool=[1, 2], order=hwc)");
        assert_eq!(gram(&text, &turned, &turned), planar);
        assert_ne!(gram(&text, &x, &x), planar);
    }
}

/// Average pooling to one value for each channel does not see where things are.
#[test]
fn averages_are_blind_to_shifts_inside_a_wide_border() {
    let mut x = Mat::zeros((2, 81));
    for (at, v) in [(0, 0.5f32), (1, -1.0), (9, 0.75), (10, 0.25)] {
        x[[0, 30 + at]] = v;
        x[[1, 30 + 9 + 1 + at]] = v;
    }
    for kind in ["cnn_gp", "cntk"] {
        for name in ["relu", "erf"] {
            let rest = format!("image=[9, 9, 1], kernel=[3, 3], bias_var=0, activation={name}");
            let k = gram(&format!("{kind}({rest}, readout=average)"), &x, &x);
            // The sums are the same terms in another order.
            assert!((k[[0, 0]] - k[[0, 1]]).abs() < 1e-15 * k[[0, 0]], "{k}");
            assert!((k[[0, 0]] - k[[1, 1]]).abs() < 1e-15 * k[[0, 0]], "{k}");
            let k = gram(&format!("{kind}({rest})"), &x, &x);
            assert!(k[[0, 1]] < 0.9 * k[[0, 0]], "{k}");
        }
    }
}

/// Θ(x, x) + Θ(y, y) − 2Θ(x, y) for relu is the angles' κ₀: linear in the distance.
#[test]
fn nearby_and_collinear_images_have_the_angles_they_have() {
    let x = images(1, [4, 4, 1], 8);
    let text = "cntk(image=[4, 4, 1], kernel=[3, 3], bias_var=0)";
    // Powers of two are exact: images that differ in size alone have no angle anywhere.
    let own = gram(text, &x, &x)[[0, 0]];
    for size in [0.25f32, 4096.0, 3.0] {
        let far = x.mapv(|v| v * size);
        let factor = f64::from(size);
        // With 3 the pixels are rounded, by up to 6e-8 of angle.
        let bound = if size == 3.0 { 1e-7 } else { 4e-15 };
        let ratio = gram(text, &x, &far)[[0, 0]] / (factor * own);
        assert!((ratio - 1.0).abs() < bound, "{size}: {ratio}");
    }
    let apart = |step: f32| {
        let mut y = x.clone();
        y[[0, 5]] += step;
        let step = f64::from(y[[0, 5]] - x[[0, 5]]);
        let gap = own + gram(text, &y, &y)[[0, 0]] - 2.0 * gram(text, &x, &y)[[0, 0]];
        gap / step
    };
    // The slope of the kink, from a step of 1e-3 on, where its curvature shows, to 1e-6.
    let (coarse, fine, finest) = (apart(1e-3), apart(1e-5), apart(2e-6));
    assert!((coarse / finest - 1.0).abs() < 2e-3, "{coarse} {finest}");
    assert!((fine / finest - 1.0).abs() < 2e-5, "{fine} {finest}");
}

#[test]
fn blank_and_opposite_and_equal_images_are_fine() {
    let image = [4, 6, 1];
    let mut x = images(6, image, 4);
    let copy = x.row(0).to_owned();
    x.row_mut(1).assign(&copy.mapv(|v| -v));
    x.row_mut(2).fill(0.0);
    x.row_mut(3).fill(0.7);
    // Halves: blank, and a copy of the first image.
    x.slice_mut(s![4, ..12]).fill(0.0);
    x.slice_mut(s![5, ..12]).assign(&copy.slice(s![..12]));
    for name in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"] {
        for rest in [
            "kernel=[3, 3]",
            "kernel=[3, 3], pool=[2, 1]",
            "kernel=[3, 2], pool=[2, 1], stride=[1, 2]",
            "kernel=[3, 3, 1], readout=average, hidden=1",
        ] {
            for kind in ["cnn_gp", "cntk"] {
                for bias in ["0", "0.3"] {
                    let text = format!(
                        "{kind}(image=[4, 6, 1], {rest}, activation={name}, bias_var={bias})"
                    );
                    let k = gram(&text, &x, &x);
                    assert!(k.iter().all(|v| v.is_finite()), "{text}: {k}");
                    let diag = fixed(&text).diag(x.view()).unwrap();
                    for i in 0..x.nrows() {
                        assert_eq!(diag[i].to_bits(), k[[i, i]].to_bits(), "{text}");
                        for j in 0..i {
                            let bound = (diag[i] * diag[j]).sqrt() * (1.0 + 1e-14);
                            assert!(k[[i, j]].abs() <= bound, "{text}, {i} {j}: {k}");
                            assert_eq!(k[[i, j]].to_bits(), k[[j, i]].to_bits(), "{text}");
                        }
                    }
                    // Equal images have the bits of the diagonal, whatever else is there.
                    let twice = ndarray::concatenate![ndarray::Axis(0), x, x.slice(s![..1, ..])];
                    let more = gram(&text, &twice, &x);
                    assert_eq!(more[[6, 0]].to_bits(), diag[0].to_bits(), "{text}");
                }
            }
        }
    }
}

/// Constant images: all windows are the same, so that pooling changes nothing but the borders.
#[test]
fn windows_of_the_same_pixels_have_no_angle() {
    let x = Mat::from_elem((1, 36), 0.8);
    for name in ["relu", "erf", "gelu"] {
        let text = |pool: &str, end: &str| {
            format!(
                "cntk(image=[6, 6, 1], kernel=[1, 1, 1], pool={pool}, readout={end}, \
                 activation={name})"
            )
        };
        let want = gram(&text("1", "flatten"), &x, &x)[[0, 0]];
        for (pool, end) in [("[2, 3, 1]", "flatten"), ("[2, 1, 1]", "average")] {
            let text = text(pool, end);
            let got = gram(&text, &x, &x)[[0, 0]];
            // An angle of 1e-8, what ρ to rounding would leave, shows in Θ at 3e-9.
            assert!((got / want - 1.0).abs() < 4e-15, "{text}: {got} {want}");
        }
    }
}

#[test]
fn values_out_of_range_and_other_sizes_are_errors() {
    let x = array![[1e30f32, 1.0, 0.0, 0.0]];
    let kernel = fixed("cntk(image=[2, 2, 1], kernel=[1, 1], hidden=30, weight_var=1e12)");
    let error = kernel.gram(x.view(), x.view(), Mat64::zeros((1, 1)).view_mut()).unwrap_err();
    assert!(matches!(error, Error::Numerical { .. }), "{error}");
    assert!(matches!(kernel.diag(x.view()), Err(Error::Numerical { .. })));
    let kernel = fixed("cnn_gp(image=[2, 2, 1])");
    assert!(kernel.gram(x.view(), x.view(), Mat64::zeros((1, 1)).view_mut()).is_ok());
    let error = kernel.gram_f32(x.view(), x.view(), Mat::zeros((1, 1)).view_mut()).unwrap_err();
    assert!(matches!(error, Error::Numerical { .. }), "{error}");
    let wide = Mat::zeros((1, 5));
    let error = kernel.gram(wide.view(), wide.view(), Mat64::zeros((1, 1)).view_mut()).unwrap_err();
    assert!(error.to_string().contains("n × 4"), "{error}");
    assert!(matches!(kernel.diag(wide.view()), Err(Error::Shape { .. })));
}

#[test]
fn texts() {
    let text = |t: &str| fixed(t).text();
    assert_eq!(
        text("cnn_gp(image=[28, 28, 1])"),
        "cnn_gp(image=[28, 28, 1], order=chw, kernel=[3, 3], stride=1, padding=same, pool=1, \
         readout=flatten, hidden=0, activation=relu, weight_var=2, bias_var=0.1)"
    );
    let full = "cntk(image=[12, 13, 3], order=hwc, kernel=[5, 2], stride=[2, 1], padding=valid, \
                pool=[1, 2], readout=average, hidden=1, activation=erf, \
                weight_var=[1, 2, 3, 1.5], bias_var=[0, 0, 0.1, 0])";
    assert_eq!(text(full), full);
    for (bad, message) in [
        ("cnn_gp", "`image` must be [height, width, channels]"),
        ("cnn_gp(image=[28, 28])", "`image` must be [height, width, channels]"),
        ("cnn_gp(image=[28, 2000, 1])", "height and width at most 1024"),
        ("cnn_gp(image=[2, 2, 1], order=cwh)", "did you mean `chw`?"),
        ("cnn_gp(image=[2, 2, 1], kernel=[])", "`kernel` must hold 1 to 64 numbers"),
        ("cnn_gp(image=[2, 2, 1], kernel=3)", "`kernel` must be a list"),
        ("cnn_gp(image=[2, 2, 1], stride=1.5)", "`stride` must hold whole numbers"),
        ("cnn_gp(image=[2, 2, 1], stride=[1, 1, 1])", "`stride` must hold 2 numbers, got 3"),
        ("cnn_gp(image=[2, 2, 1], readout=averages)", "did you mean `average`?"),
        (
            "cnn_gp(image=[4, 4, 1], padding=valid, kernel=[3, 3])",
            "`kernel` 3 of layer 2 does not fit on what is left of the image, 2 × 2 positions",
        ),
        ("cnn_gp(image=[4, 4, 1], pool=[1, 5])", "`pool` 5 of layer 2 does not fit"),
        ("cntk(image=[4, 4, 1], hidden=1, weight_var=[1, 2, 3])", "must hold 4 numbers, got 3"),
        ("cntk(image=[4, 4, 1], activation=gellu)", "did you mean `gelu`?"),
        (
            "cntk(image=[256, 256, 1], pool=[2, 1], readout=average)",
            "covariances between positions of every pair of images",
        ),
    ] {
        let error = KernelSpec::parse(bad).unwrap_err().to_string();
        assert!(error.contains(message), "{bad}: {error}");
    }
}

/// Times of Gram matrices on all cores:
/// `cargo test --release -p neuralef --lib image_gram_times -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn image_gram_times() {
    let image = [28, 28, 1];
    let (x, y) = (images(64, image, 1), images(64, image, 2));
    let rest = "weight_var=2, bias_var=0.01";
    for (shape, n) in [
        ("kernel=[5, 5, 5]", 64),
        ("kernel=[5, 5, 5], pool=[2, 2, 1]", 64),
        ("kernel=[5, 5, 5], pool=[2, 2, 1], readout=average", 64),
        ("kernel=[5, 5, 5], readout=average", 8),
    ] {
        for kind in ["cnn_gp", "cntk"] {
            let kernel = fixed(&format!("{kind}(image={image:?}, {shape}, {rest})"));
            let (x, y) = (x.slice(s![..n, ..]), y.slice(s![..n, ..]));
            let mut out = Mat64::zeros((n, n));
            let start = std::time::Instant::now();
            kernel.gram(x, y, out.view_mut()).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            let start = std::time::Instant::now();
            kernel.gram(x, x, out.view_mut()).unwrap();
            let own = start.elapsed().as_secs_f64();
            println!("{kind}({shape}), {n} × {n}: {seconds:.3} s, with themselves {own:.3} s");
        }
    }
}
