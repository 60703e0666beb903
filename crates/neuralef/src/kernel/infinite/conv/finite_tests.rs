//! The kernels against random convolutional networks with some channels, by loops.

use ndarray::Axis;
use rand_distr::{Distribution, StandardNormal};

use super::super::finite_tests::assert_within;
use super::super::tests::{activation, gram};
use super::tests::{Net, images, net};
use crate::matrix::{Mat, Mat64};
use crate::rng::{Rng, stream};

/// An image of some channels: channel, row, column.
#[derive(Clone)]
struct Image {
    c: usize,
    h: usize,
    w: usize,
    v: Vec<f64>,
}

impl Image {
    fn zeros(c: usize, h: usize, w: usize) -> Self {
        Image { c, h, w, v: vec![0.0; c * h * w] }
    }

    /// 0 outside.
    fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let inside = y >= 0 && x >= 0 && y < self.h as isize && x < self.w as isize;
        if inside { self.v[(c * self.h + y as usize) * self.w + x as usize] } else { 0.0 }
    }
}

/// Weights (output, input, row, column) and biases, standard normal.
struct Layer {
    k: usize,
    weights: Vec<f64>,
    biases: Vec<f64>,
    /// √(w/fan_in) and √b, which multiply them.
    scales: (f64, f64),
}

/// One random network: convolutions, then dense layers as convolutions of one pixel.
struct Network<'a> {
    net: &'a Net,
    layers: Vec<Layer>,
}

/// What a pass leaves: the input, the preactivations and the activations of every layer.
struct Pass {
    inputs: Vec<Image>,
    before: Vec<Image>,
    after: Vec<Image>,
}

impl<'a> Network<'a> {
    fn new(net: &'a Net, width: usize, rng: &mut Rng) -> Self {
        let mut normal =
            |n: usize| -> Vec<f64> { (0..n).map(|_| StandardNormal.sample(rng)).collect() };
        let mut layers = Vec::new();
        let [mut h, mut w, mut c] = net.image;
        for l in 0..net.weights.len() {
            let k = net.kernels.get(l).copied().unwrap_or(1);
            if l == net.kernels.len() {
                (h, w, c) = (1, 1, if net.average { c } else { c * h * w });
            }
            let outputs = if l + 1 == net.weights.len() { 1 } else { width };
            let weights = normal(outputs * c * k * k);
            let scales = ((net.weights[l] / (c * k * k) as f64).sqrt(), net.biases[l].sqrt());
            layers.push(Layer { k, weights, biases: normal(outputs), scales });
            if l < net.kernels.len() {
                let extra = if net.same { k - 1 } else { 0 };
                let size = |n: usize| ((n + extra - k) / net.strides[l] + 1) / net.pools[l];
                (h, w) = (size(h), size(w));
            }
            c = outputs;
        }
        Network { net, layers }
    }

    /// Stride and the rows above of layer l.
    fn steps(&self, l: usize) -> (usize, usize) {
        let before = if self.net.same { (self.layers[l].k - 1) / 2 } else { 0 };
        (self.net.strides.get(l).copied().unwrap_or(1), before)
    }

    /// Calls `each` with (output index, weight index, input channel, row, column) of every product.
    fn products(
        &self,
        l: usize,
        (from, to): (&Image, &Image),
        mut each: impl FnMut(usize, usize, usize, isize, isize),
    ) {
        let (k, (stride, before)) = (self.layers[l].k, self.steps(l));
        for o in 0..to.c {
            for y in 0..to.h {
                for x in 0..to.w {
                    let at = (o * to.h + y) * to.w + x;
                    for c in 0..from.c {
                        for a in 0..k {
                            for b in 0..k {
                                let row = (y * stride + a) as isize - before as isize;
                                let column = (x * stride + b) as isize - before as isize;
                                each(at, ((o * from.c + c) * k + a) * k + b, c, row, column);
                            }
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, image: Image) -> Pass {
        let mut pass = Pass { inputs: Vec::new(), before: Vec::new(), after: Vec::new() };
        let mut h = image;
        for (l, layer) in self.layers.iter().enumerate() {
            if l == self.net.kernels.len() {
                h = self.readout(&h);
            }
            let stride = self.steps(l).0;
            let extra = if self.net.same { layer.k - 1 } else { 0 };
            let size = |n: usize| (n + extra - layer.k) / stride + 1;
            let mut z = Image::zeros(layer.biases.len(), size(h.h), size(h.w));
            let (weight, bias) = layer.scales;
            let area = z.h * z.w;
            let mut sums = vec![0.0; z.v.len()];
            self.products(l, (&h, &z), |at, w, c, y, x| {
                sums[at] += layer.weights[w] * h.at(c, y, x);
            });
            for (at, sum) in sums.into_iter().enumerate() {
                z.v[at] = weight * sum + bias * layer.biases[at / area];
            }
            pass.inputs.push(h);
            let mut a = z.clone();
            for (at, v) in a.v.iter_mut().enumerate() {
                *v = activation(self.net.name, *v, at / area).0;
            }
            h = pool(&a, self.net.pools.get(l).copied().unwrap_or(1));
            pass.before.push(z);
            pass.after.push(a);
        }
        pass
    }

    fn readout(&self, h: &Image) -> Image {
        let area = h.h * h.w;
        if self.net.average {
            let means = h.v.chunks(area).map(|p| p.iter().sum::<f64>() / area as f64).collect();
            return Image { c: h.c, h: 1, w: 1, v: means };
        }
        Image { c: h.v.len(), h: 1, w: 1, v: h.v.clone() }
    }

    /// ∂f/∂θ, backwards, in one list.
    fn gradient(&self, pass: &Pass) -> Vec<f64> {
        let mut all = Vec::new();
        let last = self.layers.len() - 1;
        // ∂f/∂z.
        let mut delta = Image { c: 1, h: 1, w: 1, v: vec![1.0] };
        for l in (0..=last).rev() {
            let (layer, input) = (&self.layers[l], &pass.inputs[l]);
            let (weight, bias) = layer.scales;
            let mut weights = vec![0.0; layer.weights.len()];
            let mut back = Image::zeros(input.c, input.h, input.w);
            self.products(l, (input, &delta), |at, w, c, y, x| {
                weights[w] += weight * delta.v[at] * input.at(c, y, x);
                if y >= 0 && x >= 0 && y < input.h as isize && x < input.w as isize {
                    let to = (c * input.h + y as usize) * input.w + x as usize;
                    back.v[to] += weight * delta.v[at] * layer.weights[w];
                }
            });
            all.extend(weights);
            let area = delta.h * delta.w;
            all.extend(delta.v.chunks(area).map(|d| bias * d.iter().sum::<f64>()));
            if l == 0 {
                break;
            }
            let (z, a) = (&pass.before[l - 1], &pass.after[l - 1]);
            let p = self.net.pools.get(l - 1).copied().unwrap_or(1);
            let (h, w) = (a.h / p, a.w / p);
            let dense = l == self.net.kernels.len();
            let mut next = Image::zeros(z.c, z.h, z.w);
            for (at, to) in next.v.iter_mut().enumerate() {
                let (c, y, x) = (at / (z.h * z.w), at / z.w % z.h / p, at % z.w / p);
                if y >= h || x >= w {
                    continue;
                }
                let from = match (dense, self.net.average) {
                    (true, true) => back.v[c] / (h * w) as f64,
                    _ => back.v[(c * h + y) * w + x],
                };
                *to = from / (p * p) as f64 * activation(self.net.name, z.v[at], c).1;
            }
            delta = next;
        }
        all
    }
}

fn pool(image: &Image, p: usize) -> Image {
    let mut out = Image::zeros(image.c, image.h / p, image.w / p);
    for (at, to) in out.v.iter_mut().enumerate() {
        let (c, y, x) = (at / (out.h * out.w), at / out.w % out.h, at % out.w);
        for m in 0..p * p {
            *to += image.at(c, (y * p + m / p) as isize, (x * p + m % p) as isize);
        }
        *to /= (p * p) as f64;
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// For one random network, the covariance of the output over its last layer, and the inner products
/// of its gradients.
fn draw(net: &Net, x: &Mat, width: usize, rng: &mut Rng) -> (Mat64, Mat64) {
    let network = Network::new(net, width, rng);
    let [h, w, c] = net.image;
    let passes: Vec<Pass> = x
        .axis_iter(Axis(0))
        .map(|row| {
            let v = row.iter().map(|v| f64::from(*v)).collect();
            network.forward(Image { c, h, w, v })
        })
        .collect();
    let last = net.weights.len() - 1;
    let features: Vec<&[f64]> = passes.iter().map(|p| &*p.inputs[last].v).collect();
    let gradients: Vec<_> = passes.iter().map(|p| network.gradient(p)).collect();
    let n = x.nrows();
    let sigma = Mat64::from_shape_fn((n, n), |(i, j)| {
        let mean = dot(features[i], features[j]) / features[i].len() as f64;
        net.weights[last] * mean + net.biases[last]
    });
    (sigma, Mat64::from_shape_fn((n, n), |(i, j)| dot(&gradients[i], &gradients[j])))
}

fn compare(net: &Net, width: usize, count: u64, small: f64) {
    let x = images(3, net.image, 6);
    let draws = (0..count).map(|i| draw(net, &x, width, &mut stream(i, "channels", 0)));
    let (sigmas, thetas): (Vec<_>, Vec<_>) = draws.unzip();
    for (kind, draws) in [("cnn_gp", sigmas), ("cntk", thetas)] {
        let text = net.text(kind);
        assert_within(&draws, &gram(&text, &x, &x), small, &text);
    }
}

/// With one hidden layer both expectations hold for any number of channels: the preactivations are
/// Gaussian, and the weights after them independent of them.
#[test]
fn one_convolution_is_the_mean_over_networks_of_any_width() {
    let shapes = [
        net("relu", [4, 4, 2], &[[3, 1, 1]], true, false, 0),
        net("relu", [4, 5, 1], &[[2, 1, 2]], true, false, 0),
        net("relu", [5, 5, 1], &[[3, 2, 1]], true, true, 0),
        net("relu", [5, 4, 2], &[[2, 1, 2]], false, false, 0),
        net("relu", [6, 4, 1], &[[4, 1, 1]], true, true, 0),
    ];
    for name in ["relu", "leaky_relu", "erf", "sin_cos", "gelu"] {
        for shape in &shapes {
            compare(&Net { name, ..shape.clone() }, 4, 2000, 0.03);
        }
    }
}

/// With more of them the expectations differ from the limit by O(1/channels): 1/64 of the values
/// times what their curvature is, well inside four standard errors.
#[test]
fn stacks_of_convolutions_are_near_the_mean_over_wide_networks() {
    let shapes = [
        net("relu", [4, 4, 2], &[[3, 1, 1], [3, 1, 1]], true, false, 0),
        net("erf", [4, 4, 1], &[[3, 1, 2], [2, 1, 1]], true, false, 0),
        net("gelu", [5, 5, 1], &[[3, 2, 1], [3, 1, 1]], true, true, 0),
        net("sin_cos", [4, 4, 1], &[[2, 1, 1], [2, 1, 1]], false, false, 0),
        net("leaky_relu", [4, 4, 1], &[[3, 1, 2]], true, false, 1),
    ];
    for shape in shapes {
        compare(&shape, 64, 48, 0.06);
    }
}
