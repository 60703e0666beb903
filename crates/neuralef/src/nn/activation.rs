//! Activations: value and slope of every kind, over whole blocks of rows at a time.

use pulp::{Arch, Simd, WithSimd};

use super::math::V;
use crate::error::{Error, Result};
use crate::spec::Choice;

/// Slope of [`Activation::LeakyRelu`] on the negative side.
pub(crate) const LEAK: f32 = 0.01;

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

impl Choice for Activation {
    const KIND: &'static str = "activation";
    const ALL: &'static [(&'static str, Self)] = &[
        ("relu", Activation::Relu),
        ("leaky_relu", Activation::LeakyRelu),
        ("tanh", Activation::Tanh),
        ("erf", Activation::Erf),
        ("gelu", Activation::Gelu),
        ("silu", Activation::Silu),
        ("sin_cos", Activation::SinCos),
    ];
}

impl Activation {
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
    fn with_simd<S: Simd>(self, simd: S) {
        let Apply { activation, values, slopes, width, stride } = self;
        match activation {
            Activation::Relu => map::<S, Relu>(simd, values, slopes),
            Activation::LeakyRelu => map::<S, LeakyRelu>(simd, values, slopes),
            Activation::Tanh => map::<S, Tanh>(simd, values, slopes),
            Activation::Erf => map::<S, Erf>(simd, values, slopes),
            Activation::Gelu => map::<S, Gelu>(simd, values, slopes),
            Activation::Silu => map::<S, Silu>(simd, values, slopes),
            Activation::SinCos => sin_cos_rows(simd, values, slopes, width, stride),
        }
    }
}

/// Value and slope of a function of one number. A trait and not a closure, because only a function
/// can be told to be inlined, and outside the dispatched code there are no vector instructions.
trait Pointwise {
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>);
}

struct Relu;
impl Pointwise for Relu {
    // A maximum, because the compiler makes a conditional store of a selection between z and 0,
    // and that is ten times as slow.
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let (zero, one) = (z.splat(0.0), z.splat(1.0));
        (z.at_least(zero), zero.if_less(z, one, zero))
    }
}

struct LeakyRelu;
impl Pointwise for LeakyRelu {
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let (zero, one, leak) = (z.splat(0.0), z.splat(1.0), z.splat(LEAK));
        (z.at_least(leak * z), zero.if_less(z, one, leak))
    }
}

struct Tanh;
impl Pointwise for Tanh {
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let t = z.tanh();
        (t, (-t).mul_add(t, z.splat(1.0)))
    }
}

struct Erf;
impl Pointwise for Erf {
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let scale = z.splat(std::f32::consts::FRAC_2_SQRT_PI);
        (z.erf(), scale * (-z * z).exp_nonpositive())
    }
}

struct Gelu;
impl Pointwise for Gelu {
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let half = z.splat(0.5);
        let erf = (z * z.splat(std::f32::consts::FRAC_1_SQRT_2)).erf();
        let distribution = half.mul_add(erf, half);
        let density = z.splat(0.398_942_3) * (-half * z * z).exp_nonpositive();
        (z * distribution, z.mul_add(density, distribution))
    }
}

struct Silu;
impl Pointwise for Silu {
    #[inline(always)]
    fn at<S: Simd>(z: V<S>) -> (V<S>, V<S>) {
        let s = z.sigmoid();
        let value = z * s;
        (value, value.mul_add(z.splat(1.0) - s, s))
    }
}

#[inline(always)]
fn map<S: Simd, F: Pointwise>(simd: S, values: &mut [f32], slopes: Option<&mut [f32]>) {
    let (values, tail) = S::as_mut_simd_f32s(values);
    let (last, last_slope) = F::at(V::new(simd, simd.partial_load_f32s(tail)));
    simd.partial_store_f32s(tail, last.v);
    match slopes {
        None => {
            for v in values {
                *v = F::at(V::new(simd, *v)).0.v;
            }
        }
        Some(slopes) => {
            let (slopes, tail) = S::as_mut_simd_f32s(slopes);
            simd.partial_store_f32s(tail, last_slope.v);
            for (v, s) in values.iter_mut().zip(slopes) {
                let (value, slope) = F::at(V::new(simd, *v));
                (*v, *s) = (value.v, slope.v);
            }
        }
    }
}

/// cos z = sin(z + π/2): a quarter turn for the second half of the columns makes one loop of both.
/// Widths are even, so rows are whole vectors.
#[inline(always)]
fn sin_cos_rows<S: Simd>(
    simd: S,
    values: &mut [f32],
    slopes: Option<&mut [f32]>,
    width: usize,
    stride: usize,
) {
    let quarters: Vec<u32> = (0..stride).map(|column| u32::from(column >= width / 2)).collect();
    let quarters = S::as_simd_u32s(&quarters).0;
    let (values, vectors) = (S::as_mut_simd_f32s(values).0, quarters.len().max(1));
    match slopes {
        None => {
            for row in values.chunks_exact_mut(vectors) {
                for (v, q) in row.iter_mut().zip(quarters) {
                    *v = V::new(simd, *v).sin_cos(*q).0.v;
                }
            }
        }
        Some(slopes) => {
            let slopes = S::as_mut_simd_f32s(slopes).0.chunks_exact_mut(vectors);
            for (row, slopes) in values.chunks_exact_mut(vectors).zip(slopes) {
                for ((v, s), q) in row.iter_mut().zip(slopes).zip(quarters) {
                    let (value, slope) = V::new(simd, *v).sin_cos(*q);
                    (*v, *s) = (value.v, slope.v);
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
        for &(name, activation) in Activation::ALL {
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
        for &(name, activation) in Activation::ALL {
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
