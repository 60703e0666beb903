//! Kernels of infinitely wide networks: nngp and ntk of fully connected networks of any depth.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, Axis, s};

mod duals;
#[cfg(test)]
mod finite_tests;
#[cfg(test)]
mod tests;

use self::duals::{Activation, Pair, geometric_mean, squared_gap};
use super::Kernel;
use super::pairwise::{Pairwise, check_finite, check_shapes, gram};
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};
use crate::simd::{Fuse, Real};
use crate::spec::args::{Args, Entry};
use crate::spec::text::number;

/// Rows worked on at a time in single precision, for the size of the scratch matrix.
const ROWS: usize = 64;

/// The covariance (`nngp`) or the neural tangent kernel (`ntk`) of a fully connected network with
/// hidden layers of infinite width, weights N(0, w/fan_in) and biases N(0, b):
///
/// Σ⁰ = w₀xᵀx'/d + b₀, Σˡ⁺¹ = w E φ(u)φ(v) + b for (u, v) ~ N(0, Σˡ), and κ = Σ of the output;
/// Θ⁰ = Σ⁰, Θˡ⁺¹ = Σˡ⁺¹ + w E φ'(u)φ'(v)·Θˡ, and κ = Θ of the output (weights and biases trained,
/// each weight a standard normal times √(w/fan_in)).
///
/// Both are positive semi-definite (Neal 1996; Lee et al. 2018, eqs. 4–5; Jacot et al. 2018,
/// theorem 1). The recursion carries 1 − ρ and 1 + ρ beside the two variances, starting from sums of
/// squared differences and sums of unit vectors, so that angles near 0 and π keep their digits: the
/// tangent kernel of relu has a kink there. Cost O(nmd + nm·depth), and nm more when the first layer
/// has opposite points.
#[derive(Debug, Clone)]
struct Infinite {
    tangent: bool,
    activation: Activation,
    /// Variances of weights and biases, from the input to the output: depth + 1 of them.
    layers: Vec<(f64, f64)>,
}

/// Σ of squared differences of points divided by √Σ⁰ of each.
#[derive(Debug, Clone, Copy)]
struct Directions {
    weight: f64,
    bias: f64,
}

impl Directions {
    /// Σ⁰ at x and x. Squares of single-precision numbers keep their range in double precision.
    fn variance(self, point: ArrayView1<'_, f32>) -> f64 {
        let squares: f64 = point.iter().map(|v| f64::from(*v).powi(2)).sum();
        self.weight * squares / point.len().max(1) as f64 + self.bias
    }
}

/// 1/√variance, and 0 for the origin without bias.
fn inverse_root(variance: f64) -> f64 {
    if variance == 0.0 { 0.0 } else { variance.sqrt().recip() }
}

impl Pairwise for Directions {
    #[inline(always)]
    fn step<T: Real, F: Fuse>(self, total: T, x: T, y: T) -> T {
        (x - y).mul_add::<F>(x - y, total)
    }
    #[inline(always)]
    fn finish<T: Real, F: Fuse>(self, total: T) -> T {
        total
    }
    fn scale(self, _: usize, point: ArrayView1<'_, f32>) -> Result<f64> {
        Ok(inverse_root(self.variance(point)))
    }
}

/// The variances of some points, layer by layer.
struct Side {
    /// Of the preactivations, n × (depth + 1).
    variances: Vec<f64>,
    /// E φ² of them, n × depth.
    moments: Vec<f64>,
    depth: usize,
}

impl Side {
    fn variances(&self, i: usize) -> &[f64] {
        &self.variances[i * (self.depth + 1)..(i + 1) * (self.depth + 1)]
    }

    fn moments(&self, i: usize) -> &[f64] {
        &self.moments[i * self.depth..(i + 1) * self.depth]
    }
}

impl Infinite {
    fn title(&self) -> &'static str {
        if self.tangent { "ntk" } else { "nngp" }
    }

    fn directions(&self) -> Directions {
        let (weight, bias) = self.layers[0];
        Directions { weight, bias }
    }

    fn side(&self, x: MatRef<'_>) -> Side {
        let depth = self.layers.len() - 1;
        let mut side = Side { variances: Vec::new(), moments: Vec::new(), depth };
        for point in x.rows() {
            let mut variance = self.directions().variance(point);
            side.variances.push(variance);
            for (weight, bias) in &self.layers[1..] {
                let moment = self.activation.second_moment(variance);
                variance = weight * moment + bias;
                side.moments.push(moment);
                side.variances.push(variance);
            }
        }
        side
    }

    /// κ from the variances of both points and 1 ∓ ρ of Σ⁰.
    fn value(&self, x: (&[f64], &[f64]), y: (&[f64], &[f64]), minus: f64, plus: f64) -> f64 {
        let mut pair = Pair { a: x.0[0], b: y.0[0], minus, plus };
        let mut sigma = geometric_mean(pair.a, pair.b) * (0.5 * (plus - minus));
        let mut theta = sigma;
        for (l, (weight, bias)) in self.layers[1..].iter().enumerate() {
            let (fa, fb) = (x.1[l], y.1[l]);
            if l + 2 == self.layers.len() {
                // What the next layer would need is left out.
                let (value, slope) = self.activation.expectations(pair);
                sigma = weight * value + bias;
                theta = sigma + weight * slope * theta;
                break;
            }
            let dual = self.activation.dual(pair, fa, fb);
            sigma = weight * dual.value + bias;
            theta = sigma + weight * dual.slope * theta;
            // With A, B the second moments times the weight: √((A + b)(B + b)) − √(AB) − b is
            // b(√A − √B)² over the sum of the three.
            let (a, b) = (x.0[l + 1], y.0[l + 1]);
            let mean = geometric_mean(a, b);
            let inner = weight * geometric_mean(fa, fb);
            let spread = bias * weight * squared_gap(fa, fb);
            let spread = if spread > 0.0 { spread / (mean + inner + bias) } else { 0.0 };
            let minus = weight * dual.below + spread;
            let plus = weight * dual.above + spread + 2.0 * bias;
            let both = minus + plus;
            // Both are 0 only where all later values are: any correlation will do.
            let (minus, plus) =
                if both > 0.0 { (2.0 * minus / both, 2.0 * plus / both) } else { (0.0, 2.0) };
            pair = Pair { a, b, minus, plus };
        }
        if self.tangent { theta } else { sigma }
    }

    /// 1 ∓ ρ of Σ⁰, from the squared distance of the directions.
    fn correlation(
        &self,
        squares: f64,
        (x, a): (ArrayView1<'_, f32>, f64),
        (y, b): (ArrayView1<'_, f32>, f64),
    ) -> (f64, f64) {
        let Directions { weight, bias } = self.directions();
        let half = 0.5 * weight / x.len().max(1) as f64;
        let (x_scale, y_scale) = (inverse_root(a), inverse_root(b));
        let minus = half * squares + 0.5 * bias * (x_scale - y_scale).powi(2);
        if minus <= 1.5 {
            return (minus, 2.0 - minus);
        }
        let sums = x
            .iter()
            .zip(y)
            .map(|(x, y)| (f64::from(*x) * x_scale + f64::from(*y) * y_scale).powi(2));
        let plus = half * sums.sum::<f64>() + 0.5 * bias * (x_scale + y_scale).powi(2);
        (2.0 - plus, plus)
    }

    /// A block of values in double precision.
    fn block(
        &self,
        x: (MatRef<'_>, &Side),
        y: (MatRef<'_>, &Side),
        mut out: Mat64Mut<'_>,
    ) -> Result<()> {
        gram(self.directions(), self.title(), x.0, y.0, out.view_mut())?;
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            let (point, own) = (x.0.row(i), (x.1.variances(i), x.1.moments(i)));
            for (j, v) in row.iter_mut().enumerate() {
                let other = (y.1.variances(j), y.1.moments(j));
                let (minus, plus) =
                    self.correlation(*v, (point, own.0[0]), (y.0.row(j), other.0[0]));
                *v = self.value(own, other, minus, plus);
                check_finite(self.title(), std::slice::from_ref(v))?;
            }
        }
        Ok(())
    }
}

impl Kernel for Infinite {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, out: Mat64Mut<'_>) -> Result<()> {
        check_shapes(x, y, &out)?;
        self.block((x, &self.side(x)), (y, &self.side(y)), out)
    }

    /// Computed in double precision and rounded.
    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> Result<()> {
        check_shapes(x, y, &out)?;
        let others = self.side(y);
        let mut scratch = Array2::zeros((ROWS.min(x.nrows()), y.nrows()));
        for (x, mut out) in
            x.axis_chunks_iter(Axis(0), ROWS).zip(out.axis_chunks_iter_mut(Axis(0), ROWS))
        {
            let mut values = scratch.slice_mut(s![..x.nrows(), ..]);
            self.block((x, &self.side(x)), (y, &others), values.view_mut())?;
            out.zip_mut_with(&values, |to, v| *to = *v as f32);
            out.iter().try_for_each(|v| check_finite(self.title(), std::slice::from_ref(v)))?;
        }
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        for (row, point) in x.rows().into_iter().enumerate() {
            if let Some(column) = point.iter().position(|v| !v.is_finite()) {
                let what = format!("input of kernel {}", self.title());
                return Err(Error::NonFinite { what, row, column, value: point[column] });
            }
        }
        let side = self.side(x);
        let own = |i| (side.variances(i), side.moments(i));
        let out: Vec<_> = (0..x.nrows()).map(|i| self.value(own(i), own(i), 0.0, 2.0)).collect();
        check_finite(self.title(), &out)?;
        Ok(out)
    }

    fn text(&self) -> String {
        let list = |of: fn(&(f64, f64)) -> f64| {
            let values: Vec<_> = self.layers.iter().map(of).collect();
            if values.iter().all(|v| v.to_bits() == values[0].to_bits()) {
                return number(values[0]);
            }
            format!("[{}]", values.into_iter().map(number).collect::<Vec<_>>().join(", "))
        };
        format!(
            "{}(depth={}, activation={}, weight_var={}, bias_var={})",
            self.title(),
            self.layers.len() - 1,
            self.activation.name(),
            list(|l| l.0),
            list(|l| l.1),
        )
    }
}

fn build(args: &Args<'_>, tangent: bool) -> Result<Arc<dyn Kernel>> {
    let depth = args.integer("depth", 1..=64, 3)? as usize;
    let name = args.name("activation", "relu")?;
    let known = Activation::ALL.map(|(name, _)| name);
    let Some((_, activation)) = Activation::ALL.iter().find(|(n, _)| *n == name) else {
        return Err(Error::unknown(format!("activation of kernel {}", args.owner()), name, &known));
    };
    let weights = args.numbers("weight_var", depth + 1, 1e-12..=1e12, 2.0)?;
    let biases = args.numbers("bias_var", depth + 1, 0.0..=1e12, 0.1)?;
    let layers = weights.into_iter().zip(biases).collect();
    Ok(Arc::new(Infinite { tangent, activation: *activation, layers }))
}

const PARAMETERS: &[(&str, &str, &str)] = &[
    ("depth", "3", "hidden layers, 1 to 64"),
    ("activation", "relu", "relu, leaky_relu, erf, sin_cos (half sin, half cos) or gelu"),
    ("weight_var", "2", "fan_in × variance of weights, 1e-12 to 1e12; or a list of depth + 1"),
    ("bias_var", "0.1", "variance of biases, 0 to 1e12; or a list of depth + 1"),
];

/// The registry's entry.
pub(super) const NNGP: Entry<Arc<dyn Kernel>> = Entry {
    name: "nngp",
    summary: "covariance of an infinitely wide network at initialisation",
    parameters: PARAMETERS,
    build: |args| build(args, false),
};

/// The registry's entry.
pub(super) const NTK: Entry<Arc<dyn Kernel>> = Entry {
    name: "ntk",
    summary: "neural tangent kernel of an infinitely wide network",
    parameters: PARAMETERS,
    build: |args| build(args, true),
};
