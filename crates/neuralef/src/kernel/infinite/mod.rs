//! Kernels of infinitely wide networks: nngp and ntk of fully connected networks of any depth.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, Axis, s};

mod conv;
mod duals;
#[cfg(test)]
mod finite_tests;
#[cfg(test)]
mod golden_tests;
mod layers;
#[cfg(test)]
mod tests;

pub(super) use self::conv::{CNN_GP, CNTK};
use self::duals::Activation;
use self::layers::{Row, Side};
use super::Kernel;
use super::pairwise::{Pairwise, check_finite, check_shapes, gram};
use crate::error::{Error, Result};
use crate::matrix::{Mat64Mut, MatMut, MatRef};
use crate::simd::{Fuse, Real, dispatch};
use crate::spec::text::number;
use crate::spec::{Args, Choice as _, Domain, Entry, Interval, Parameter};

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

/// What one row of pairs is worked out in.
struct Scratch {
    minus: Vec<f64>,
    plus: Vec<f64>,
    sigma: Vec<f64>,
    theta: Vec<f64>,
}

impl Scratch {
    /// For m pairs of equal points, until told otherwise.
    fn new(m: usize) -> Self {
        let zeros = vec![0.0; m];
        Scratch { minus: zeros.clone(), plus: vec![2.0; m], sigma: zeros.clone(), theta: zeros }
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
        let directions = self.directions();
        let first = x.rows().into_iter().map(|point| directions.variance(point)).collect();
        Side::new(self.activation, first, &self.layers[1..])
    }

    /// κ of point `i` of `x` and the points of `y` from number `from`, given 1 ∓ ρ of Σ⁰.
    fn row<'a>(
        &self,
        (x, i): (&Side, usize),
        (y, from): (&Side, usize),
        scratch: &'a mut Scratch,
    ) -> Result<&'a [f64]> {
        dispatch(Row {
            activation: self.activation,
            layers: &self.layers[1..],
            x,
            i,
            y,
            from,
            minus: &mut scratch.minus,
            plus: &mut scratch.plus,
            sigma: &mut scratch.sigma,
            theta: &mut scratch.theta,
        });
        let values = if self.tangent { &scratch.theta } else { &scratch.sigma };
        check_finite(self.title(), values)?;
        Ok(values)
    }

    /// A block of values in double precision.
    fn block(
        &self,
        (x, own): (MatRef<'_>, &Side),
        (y, others): (MatRef<'_>, &Side),
        mut out: Mat64Mut<'_>,
    ) -> Result<()> {
        gram(self.directions(), self.title(), x, y, out.view_mut())?;
        let Directions { weight, bias } = self.directions();
        let half = 0.5 * weight / x.ncols().max(1) as f64;
        let scales: Vec<_> = others.first().iter().map(|v| inverse_root(*v)).collect();
        let mut scratch = Scratch::new(y.nrows());
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            let (point, scale) = (x.row(i), inverse_root(own.first()[i]));
            for (j, squares) in row.iter().enumerate() {
                let minus = half * squares + 0.5 * bias * (scale - scales[j]).powi(2);
                (scratch.minus[j], scratch.plus[j]) = if minus <= 1.5 {
                    (minus, 2.0 - minus)
                } else {
                    let sums = squares_of_sums((point, scale), (y.row(j), scales[j]));
                    let plus = half * sums + 0.5 * bias * (scale + scales[j]).powi(2);
                    (2.0 - plus, plus)
                };
            }
            let values = self.row((own, i), (others, 0), &mut scratch)?;
            row.iter_mut().zip(values).for_each(|(to, v)| *to = *v);
        }
        Ok(())
    }
}

/// ‖sx + ty‖²: 1 + ρ of nearly opposite points, without cancellation.
fn squares_of_sums((x, s): (ArrayView1<'_, f32>, f64), (y, t): (ArrayView1<'_, f32>, f64)) -> f64 {
    x.iter().zip(y).map(|(x, y)| (f64::from(*x) * s + f64::from(*y) * t).powi(2)).sum()
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
        let mut out = Vec::with_capacity(x.nrows());
        for i in 0..x.nrows() {
            out.push(self.row((&side, i), (&side, i), &mut Scratch::new(1))?[0]);
        }
        Ok(out)
    }

    fn text(&self) -> String {
        let list =
            |of: fn(&(f64, f64)) -> f64| shortest(&self.layers.iter().map(of).collect::<Vec<_>>());
        let entry = if self.tangent { &NTK } else { &NNGP };
        entry.text(&[
            ("depth", &(self.layers.len() - 1)),
            ("activation", &self.activation.name()),
            ("weight_var", &list(|l| l.0)),
            ("bias_var", &list(|l| l.1)),
        ])
    }
}

/// One number if all are equal, otherwise a list.
fn shortest(values: &[f64]) -> String {
    match values {
        [first, rest @ ..] if rest.iter().all(|v| v.to_bits() == first.to_bits()) => number(*first),
        _ => format!("[{}]", values.iter().map(|v| number(*v)).collect::<Vec<_>>().join(", ")),
    }
}

fn build(args: &Args<'_>, tangent: bool) -> Result<Arc<dyn Kernel>> {
    let (depth, activation) = (args.size("depth")?, args.choice("activation")?);
    let weights = args.numbers("weight_var", depth + 1)?;
    let biases = args.numbers("bias_var", depth + 1)?;
    let layers = weights.into_iter().zip(biases).collect();
    Ok(Arc::new(Infinite { tangent, activation, layers }))
}

pub(super) const ACTIVATION: Parameter = Parameter::new(
    "activation",
    Domain::choice::<Activation>(),
    "relu",
    "relu, leaky_relu, erf, sin_cos (half sin, half cos) or gelu",
);
pub(super) const WEIGHT_VAR: Parameter = Parameter::new(
    "weight_var",
    Domain::Numbers(Interval::closed(1e-12, 1e12)),
    "2",
    "fan_in × variance of weights, 1e-12 to 1e12; or a list of depth + 1",
);
pub(super) const BIAS_VAR: Parameter = Parameter::new(
    "bias_var",
    Domain::Numbers(Interval::closed(0.0, 1e12)),
    "0.1",
    "variance of biases, 0 to 1e12; or a list of depth + 1",
);
const PARAMETERS: &[Parameter] = &[
    Parameter::new("depth", Domain::Integer(1, 64), "3", "hidden layers, 1 to 64"),
    ACTIVATION,
    WEIGHT_VAR,
    BIAS_VAR,
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
