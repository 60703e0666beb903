//! Single-precision elementary functions without branches, so that loops over them vectorise.
//!
//! Every function is generic over the [`pulp::Simd`] token of the caller only to know whether the
//! machine has a fused multiply-add: inside [`pulp::Arch::dispatch`] the compiler turns a loop over
//! them into vector code of that width; with the scalar token the same source is the portable path.
//! The polynomials are weighted minimax fits; their errors are tested against double precision.
//! A NaN comes out as a NaN.

use pulp::Simd;

/// 1.5 · 2²³: adding it rounds to a whole number, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `a·b + c`, fused where the instruction exists (elsewhere `f32::mul_add` is a slow library call).
#[inline(always)]
pub(super) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if !S::IS_SCALAR && cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Horner's rule, coefficients from the constant term up.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = fma::<S>(sum, x, c[i]);
    }
    sum
}

/// For x ≤ 0: 2ⁿ and eʳ − 1 with eˣ = 2ⁿ·eʳ, |r| ≤ ½ ln 2. Below −87 the result is that of −87 (≈ 1e-38).
#[inline(always)]
fn exp_parts<S: Simd>(x: f32) -> (f32, f32) {
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = fma::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts; the first has 15 trailing zero bits, so n times it is exact.
    let r = fma::<S>(n, -0.693_359_4, x);
    let r = fma::<S>(n, 2.121_944_4e-4, r);
    let p =
        polynomial::<S, 5>(r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_953, 0.001_395_060_2]);
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (scale, fma::<S>(p, r * r, r))
}

/// eˣ for x ≤ 0, to 2 ulp.
#[inline(always)]
pub(super) fn exp_nonpositive<S: Simd>(x: f32) -> f32 {
    let (scale, p) = exp_parts::<S>(x);
    fma::<S>(scale, p, scale)
}

/// tanh, to 4 ulp.
#[inline(always)]
pub(super) fn tanh<S: Simd>(x: f32) -> f32 {
    let (scale, p) = exp_parts::<S>(-2.0 * x.abs());
    let e = fma::<S>(scale, p, scale - 1.0);
    (-e / (e + 2.0)).copysign(x)
}

/// The error function, to 4 ulp.
#[inline(always)]
pub(super) fn erf<S: Simd>(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let small = a * polynomial::<S, 7>(
        z,
        [
            1.128_379_1,
            -0.376_126_26,
            0.112_835_854,
            -0.026_853_813,
            0.005_188_328_7,
            -0.000_801_020_1,
            7.853_884e-5,
        ],
    );
    // ln erfc on [1, 4]; at 4 the result is 1 to the last bit.
    let t = if a > 4.0 { 4.0 } else { a };
    let t = if t < 1.0 { 1.0 } else { t };
    let log = polynomial::<S, 8>(
        t,
        [
            0.000_188_036_69,
            -1.129_578_4,
            -0.633_219_9,
            -0.108_418_55,
            0.025_208_239,
            -0.004_204_556,
            0.000_441_335_2,
            -2.168_675_4e-5,
        ],
    );
    let large = 1.0 - exp_nonpositive::<S>(log);
    let value = if a > 1.0 { large } else { small };
    value.copysign(x)
}

/// 1/(1 + e⁻ˣ), to 4 ulp.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(x: f32) -> f32 {
    let e = exp_nonpositive::<S>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// (sin(x + q·π/2), cos(x + q·π/2)) for a whole number q, added exactly.
///
/// To 1.5e-7 absolute and, away from zeros, 2 ulp for |x| ≤ 10⁴; beyond that the accuracy decays
/// but the values stay within [−1, 1]. Infinities give NaN.
#[inline(always)]
pub(super) fn sin_cos<S: Simd>(x: f32, quarters: u32) -> (f32, f32) {
    let shifted = fma::<S>(x, std::f32::consts::FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    // π/2 in three parts; the first two have so few bits that n times them is exact for |n| < 2¹³.
    let r = fma::<S>(n, -1.570_312_5, x);
    let r = fma::<S>(n, -4.837_513e-4, r);
    let r = fma::<S>(n, -7.549_79e-8, r);
    let r = if r > 0.8 { 0.8 } else { r };
    let r = if r < -0.8 { -0.8 } else { r };
    let z = r * r;
    let s = polynomial::<S, 3>(z, [-0.166_666_55, 0.008_332_173, -0.000_195_166_56]);
    let s = fma::<S>(s, z * r, r);
    let c = polynomial::<S, 3>(z, [0.041_666_646, -0.001_388_736_2, 2.443_773e-5]);
    let c = fma::<S>(c, z * z, fma::<S>(z, -0.5, 1.0));
    let k = shifted.to_bits().wrapping_add(quarters);
    let (sine, cosine) = if k & 1 == 0 { (s, c) } else { (c, s) };
    let sine = f32::from_bits(sine.to_bits() ^ ((k & 2) << 30));
    let cosine = f32::from_bits(cosine.to_bits() ^ ((k.wrapping_add(1) & 2) << 30));
    (sine, cosine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    /// Evaluates a function over a slice on the fastest path of this machine and on the portable one.
    macro_rules! both_paths {
        ($xs:expr, $f:ident $(, $extra:expr)?) => {{
            struct Op<'a>(&'a [f32]);
            impl WithSimd for Op<'_> {
                type Output = Vec<f32>;
                #[inline(always)]
                fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
                    self.0.iter().map(|x| $f::<S>(*x $(, $extra)?)).collect()
                }
            }
            [Arch::new().dispatch(Op($xs)), Arch::Scalar.dispatch(Op($xs))]
        }};
    }

    fn grid(low: f64, high: f64, n: usize) -> Vec<f32> {
        (0..=n).map(|i| (low + (high - low) * i as f64 / n as f64) as f32).collect()
    }

    fn ulp(of: f64) -> f64 {
        let x = of.abs() as f32;
        f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
    }

    fn check(xs: &[f32], got: [Vec<f32>; 2], exact: fn(f64) -> f64, ulps: f64, floor: f64) {
        for path in got {
            for (x, y) in xs.iter().zip(path) {
                let truth = exact(f64::from(*x));
                let error = (f64::from(y) - truth).abs();
                assert!(error <= floor.max(ulps * ulp(truth)), "f({x}) = {y}, exactly {truth}");
            }
        }
    }

    fn sine<S: Simd>(x: f32) -> f32 {
        sin_cos::<S>(x, 0).0
    }

    fn cosine<S: Simd>(x: f32) -> f32 {
        sin_cos::<S>(x, 0).1
    }

    #[test]
    fn functions_agree_with_double_precision() {
        let xs = grid(-87.0, 0.0, 400_000);
        check(&xs, both_paths!(&xs, exp_nonpositive), f64::exp, 2.0, 0.0);
        let mut xs = grid(-12.0, 12.0, 400_000);
        xs.extend(grid(-1e-3, 1e-3, 10_000));
        check(&xs, both_paths!(&xs, tanh), f64::tanh, 4.0, 0.0);
        check(&xs, both_paths!(&xs, erf), libm::erf, 4.0, 0.0);
        check(&xs, both_paths!(&xs, sigmoid), |x| 1.0 / (1.0 + (-x).exp()), 4.0, 0.0);
        check(&xs, both_paths!(&xs, sine), f64::sin, 2.0, 1e-11);
        check(&xs, both_paths!(&xs, cosine), f64::cos, 2.0, 1e-8);
    }

    #[test]
    fn sine_and_cosine_hold_up_to_ten_thousand() {
        let xs = grid(-1e4, 1e4, 1_000_000);
        check(&xs, both_paths!(&xs, sine), f64::sin, 2.0, 1.5e-7);
        check(&xs, both_paths!(&xs, cosine), f64::cos, 2.0, 1.5e-7);
        let far = [1e5, -3e7, 1e20, f32::MAX];
        for path in [both_paths!(&far, sine), both_paths!(&far, cosine)].concat() {
            assert!(path.iter().all(|y| y.abs() <= 1.0), "{path:?}");
        }
    }

    #[test]
    fn a_quarter_turn_swaps_sine_and_cosine() {
        for x in grid(-7.0, 7.0, 1000) {
            let (s, c) = sin_cos::<pulp::Scalar>(x, 0);
            assert_eq!(sin_cos::<pulp::Scalar>(x, 1), (c, -s));
            assert_eq!(sin_cos::<pulp::Scalar>(x, 2), (-s, -c));
        }
    }

    #[test]
    fn nan_stays_nan_and_infinity_is_a_limit() {
        let xs = [f32::NAN];
        for path in [
            both_paths!(&xs, exp_nonpositive),
            both_paths!(&xs, tanh),
            both_paths!(&xs, erf),
            both_paths!(&xs, sigmoid),
            both_paths!(&xs, sine),
        ]
        .concat()
        {
            assert!(path[0].is_nan());
        }
        let xs = [f32::NEG_INFINITY, f32::INFINITY];
        for path in [both_paths!(&xs, tanh), both_paths!(&xs, erf)].concat() {
            assert_eq!(path, [-1.0, 1.0]);
        }
        for path in both_paths!(&xs, sigmoid) {
            assert!(path[0] < 1e-37 && path[1] == 1.0);
        }
    }
}
