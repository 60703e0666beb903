//! Activations: value and slope of every kind, over whole blocks of rows at a time.

use pulp::{Arch, Simd, WithSimd};

use super::math::{erf, exp_nonpositive, fma, sigmoid, sin_cos, tanh};
use crate::error::{Error, Result};

/// Slope of [`Activation::LeakyRelu`] on the negative side.
const LEAK: f32 = 0.01;

/// An activation function, applied elementwise to the hidden layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// max(z, 0).
    Relu,
    /// max(z, 0.01 z).
    LeakyRelu,
    /// tanh z.
    Tanh,
    /// erf z.
    Erf,
    /// z Φ(z), with the exact Gaussian distribution function.
    Gelu,
    /// z/(1 + e⁻ᶻ).
    Silu,
    /// sin z on the first half of the layer, cos z on the second.
    SinCos,
}

impl Activation {
    /// Every activation with its name.
    pub(crate) const ALL: [(&'static str, Activation); 7] = [
        ("relu", Activation::Relu),
        ("leaky_relu", Activation::LeakyRelu),
        ("tanh", Activation::Tanh),
        ("erf", Activation::Erf),
        ("gelu", Activation::Gelu),
        ("silu", Activation::Silu),
        ("sin_cos", Activation::SinCos),
    ];

    /// The name users write.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    /// By name.
    pub(crate) fn from_name(name: &str) -> Result<Self> {
        let known = Self::ALL.map(|(n, _)| n);
        Self::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, a)| *a)
            .ok_or_else(|| Error::unknown("activation", name, &known))
    }

    /// Fails unless a layer of `width` can carry this activation: sin_cos needs two equal halves.
    pub(crate) fn check_width(self, width: usize) -> Result<()> {
        if self == Activation::SinCos && width % 2 == 1 {
            return Err(Error::parameter("hidden", "even widths with activation=sin_cos", width));
        }
        Ok(())
    }

    /// z ↦ a(z) in place on rows of `stride` numbers of which the first `width` count, and
    /// a'(z) into `slopes` when given. What comes out beyond `width` is finite and of no meaning.
    pub(super) fn apply(
        self,
        arch: Arch,
        values: &mut [f32],
        slopes: Option<&mut [f32]>,
        width: usize,
        stride: usize,
    ) {
        arch.dispatch(Apply { activation: self, values, slopes, width, stride });
    }
}

struct Apply<'a> {
    activation: Activation,
    values: &'a mut [f32],
    slopes: Option<&'a mut [f32]>,
    width: usize,
    stride: usize,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Apply { activation, values, slopes, width, stride } = self;
        match activation {
            Activation::Relu => map(values, slopes, relu),
            Activation::LeakyRelu => map(values, slopes, leaky_relu),
            Activation::Tanh => map(values, slopes, |z| {
                let t = tanh::<S>(z);
                (t, fma::<S>(-t, t, 1.0))
            }),
            Activation::Erf => map(values, slopes, |z| {
                let slope = std::f32::consts::FRAC_2_SQRT_PI * exp_nonpositive::<S>(-z * z);
                (erf::<S>(z), slope)
            }),
            Activation::Gelu => map(values, slopes, |z| {
                let distribution =
                    fma::<S>(0.5, erf::<S>(z * std::f32::consts::FRAC_1_SQRT_2), 0.5);
                let density = 0.398_942_3 * exp_nonpositive::<S>(-0.5 * z * z);
                (z * distribution, fma::<S>(z, density, distribution))
            }),
            Activation::Silu => map(values, slopes, |z| {
                let s = sigmoid::<S>(z);
                let value = z * s;
                (value, fma::<S>(value, 1.0 - s, s))
            }),
            Activation::SinCos => sin_cos_rows::<S>(values, slopes, width, stride),
        }
    }
}

// Written so that a NaN falls through to the result.
#[inline(always)]
fn relu(z: f32) -> (f32, f32) {
    (if z < 0.0 { 0.0 } else { z }, if z > 0.0 { 1.0 } else { 0.0 })
}

#[inline(always)]
fn leaky_relu(z: f32) -> (f32, f32) {
    (if z < 0.0 { LEAK * z } else { z }, if z > 0.0 { 1.0 } else { LEAK })
}

#[inline(always)]
fn map(values: &mut [f32], slopes: Option<&mut [f32]>, f: impl Fn(f32) -> (f32, f32)) {
    match slopes {
        None => values.iter_mut().for_each(|v| *v = f(*v).0),
        Some(slopes) => {
            values.iter_mut().zip(slopes).for_each(|(v, s)| (*v, *s) = f(*v));
        }
    }
}

/// cos z = sin(z + π/2): a quarter turn for the second half of the columns makes one loop of both.
#[inline(always)]
fn sin_cos_rows<S: Simd>(
    values: &mut [f32],
    slopes: Option<&mut [f32]>,
    width: usize,
    stride: usize,
) {
    if stride == 0 {
        return;
    }
    let half = (width / 2) as u32;
    let quarters = |column: u32| u32::from(column >= half);
    match slopes {
        None => {
            for row in values.chunks_exact_mut(stride) {
                for (column, v) in (0u32..).zip(row) {
                    *v = sin_cos::<S>(*v, quarters(column)).0;
                }
            }
        }
        Some(slopes) => {
            for (row, slopes) in
                values.chunks_exact_mut(stride).zip(slopes.chunks_exact_mut(stride))
            {
                for (column, (v, s)) in (0u32..).zip(row.iter_mut().zip(slopes)) {
                    (*v, *s) = sin_cos::<S>(*v, quarters(column));
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The same functions in double precision; `first` says whether the column is in the first half.
    pub(in crate::nn) fn reference(activation: Activation, z: f64, first: bool) -> f64 {
        match activation {
            Activation::Relu => z.max(0.0),
            Activation::LeakyRelu => z.max(f64::from(LEAK) * z),
            Activation::Tanh => z.tanh(),
            Activation::Erf => libm::erf(z),
            Activation::Gelu => 0.5 * z * libm::erfc(-z / 2f64.sqrt()),
            Activation::Silu => z / (1.0 + (-z).exp()),
            Activation::SinCos => {
                if first {
                    z.sin()
                } else {
                    z.cos()
                }
            }
        }
    }

    #[test]
    fn values_and_slopes_agree_with_double_precision() {
        for (name, activation) in Activation::ALL {
            for arch in [Arch::new(), Arch::Scalar] {
                // 0 is left out: the kink of the ReLUs.
                let z: Vec<f32> = (0..4000).map(|i| (i as f32 - 1999.5) * 0.004).collect();
                let mut values = z.clone();
                let mut slopes = vec![0.0; z.len()];
                activation.apply(arch, &mut values, Some(&mut slopes), 10, 16);
                let mut alone = z.clone();
                activation.apply(arch, &mut alone, None, 10, 16);
                assert_eq!(values, alone, "{name}");
                for i in (0..z.len()).filter(|i| i % 16 < 10) {
                    let f = |t| reference(activation, t, i % 16 < 5);
                    let (at, h) = (f64::from(z[i]), 1e-5);
                    let slope = (f(at + h) - f(at - h)) / (2.0 * h);
                    let tolerance = 3e-7 * f(at).abs().max(1.0);
                    assert!((f64::from(values[i]) - f(at)).abs() < tolerance, "{name}({at})");
                    let error = (f64::from(slopes[i]) - slope).abs();
                    assert!(error < 6e-7, "{name}'({at}) = {}, not {slope}", slopes[i]);
                }
            }
        }
    }

    #[test]
    fn names_round_trip_and_odd_halves_are_refused() {
        for (name, activation) in Activation::ALL {
            assert_eq!(Activation::from_name(name).unwrap(), activation);
            assert_eq!(activation.name(), name);
        }
        let message = Activation::from_name("gellu").unwrap_err().to_string();
        assert!(message.contains("did you mean `gelu`"), "{message}");
        let message = Activation::SinCos.check_width(31).unwrap_err().to_string();
        assert!(message.contains("hidden") && message.contains("31"), "{message}");
        assert!(Activation::Relu.check_width(31).is_ok());
    }
}
