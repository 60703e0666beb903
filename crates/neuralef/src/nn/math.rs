//! Single-precision elementary functions over SIMD vectors, without branches.
//!
//! Everything is generic over the [`pulp::Simd`] token: with a vector token it is vector code with
//! fused multiply-adds, with the scalar token the same source is the portable path. The polynomials
//! are weighted minimax fits; the errors are tested against double precision. A NaN comes out as a NaN.

use std::ops::{Add, Div, Mul, Neg, Sub};

use pulp::Simd;

/// 1.5 · 2²³: adding it rounds to a whole number, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;
const SIGN: u32 = 1 << 31;

/// A vector of `f32` with its token, so that formulas read as formulas.
#[derive(Clone, Copy)]
pub(super) struct V<S: Simd> {
    simd: S,
    pub(super) v: S::f32s,
}

impl<S: Simd> V<S> {
    #[inline(always)]
    pub(super) fn new(simd: S, v: S::f32s) -> Self {
        V { simd, v }
    }

    /// The constant `x` beside `self`.
    #[inline(always)]
    pub(super) fn splat(self, x: f32) -> Self {
        V::new(self.simd, self.simd.splat_f32s(x))
    }

    /// `self·b + c`, fused where the machine can.
    #[inline(always)]
    pub(super) fn mul_add(self, b: Self, c: Self) -> Self {
        V::new(self.simd, self.simd.mul_add_e_f32s(self.v, b.v, c.v))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        V::new(self.simd, self.simd.abs_f32s(self.v))
    }

    /// `yes` where `self < than`, else `no`; a NaN counts as not less.
    #[inline(always)]
    pub(super) fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        let mask = self.simd.less_than_f32s(self.v, than.v);
        V::new(self.simd, self.simd.select_f32s(mask, yes.v, no.v))
    }

    /// At least `limit`; a NaN stays.
    #[inline(always)]
    pub(super) fn at_least(self, limit: Self) -> Self {
        if S::IS_SCALAR {
            self.if_less(limit, limit, self)
        } else {
            // Vector units take the second operand when there is a NaN, or keep the NaN.
            V::new(self.simd, self.simd.max_f32s(limit.v, self.v))
        }
    }

    /// At most `limit`; a NaN stays.
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        if S::IS_SCALAR {
            limit.if_less(self, limit, self)
        } else {
            V::new(self.simd, self.simd.min_f32s(limit.v, self.v))
        }
    }

    #[inline(always)]
    fn bits(self) -> S::u32s {
        self.simd.transmute_u32s_f32s(self.v)
    }

    /// With the bits of `mask` flipped.
    #[inline(always)]
    fn xor(self, mask: S::u32s) -> Self {
        let bits = self.simd.xor_u32s(self.bits(), mask);
        V::new(self.simd, self.simd.transmute_f32s_u32s(bits))
    }

    /// Minus `self` where `of` has its sign bit set, for `self` ≥ 0.
    #[inline(always)]
    fn with_sign(self, of: Self) -> Self {
        self.xor(self.simd.and_u32s(of.bits(), self.simd.splat_u32s(SIGN)))
    }

    /// Horner's rule, coefficients from the constant term up.
    #[inline(always)]
    fn polynomial<const N: usize>(self, c: [f32; N]) -> Self {
        let mut sum = self.splat(c[N - 1]);
        let mut i = N - 1;
        while i > 0 {
            i -= 1;
            sum = sum.mul_add(self, self.splat(c[i]));
        }
        sum
    }

    /// For x ≤ 0: 2ⁿ and eʳ − 1 with eˣ = 2ⁿ·eʳ, |r| ≤ ½ ln 2. Below −87 the result is that of
    /// −87 (≈ 1e-38).
    #[inline(always)]
    fn exp_parts(self) -> (Self, Self) {
        let (x, simd) = (self.at_least(self.splat(-87.0)), self.simd);
        let shifted = x.mul_add(x.splat(std::f32::consts::LOG2_E), x.splat(ROUND));
        let n = shifted - x.splat(ROUND);
        // ln 2 in two parts; the first has 15 trailing zero bits, so n times it is exact.
        let r = n.mul_add(x.splat(-0.693_359_4), x);
        let r = n.mul_add(x.splat(2.121_944_4e-4), r);
        let p = r.polynomial([0.5, 0.166_665_18, 0.041_666_206, 0.008_368_953, 0.001_395_060_2]);
        let exponent = simd.wrapping_dyn_shl_u32s(shifted.bits(), simd.splat_u32s(23));
        let exponent = simd.add_u32s(exponent, simd.splat_u32s(127 << 23));
        (V::new(simd, simd.transmute_f32s_u32s(exponent)), p.mul_add(r * r, r))
    }

    /// eˣ for x ≤ 0, to 2 ulp.
    #[inline(always)]
    pub(super) fn exp_nonpositive(self) -> Self {
        let (scale, p) = self.exp_parts();
        scale.mul_add(p, scale)
    }

    /// tanh, to 4 ulp.
    #[inline(always)]
    pub(super) fn tanh(self) -> Self {
        let (scale, p) = (self.abs() * self.splat(-2.0)).exp_parts();
        let e = scale.mul_add(p, scale - self.splat(1.0));
        (-e / (e + self.splat(2.0))).with_sign(self)
    }

    /// The error function, to 4 ulp.
    #[inline(always)]
    pub(super) fn erf(self) -> Self {
        let a = self.abs();
        let small = a
            * (a * a).polynomial([
                std::f32::consts::FRAC_2_SQRT_PI,
                -0.376_126_26,
                0.112_835_854,
                -0.026_853_813,
                0.005_188_328_7,
                -0.000_801_020_1,
                7.853_884e-5,
            ]);
        // ln erfc on [1, 4]; at 4 the result is 1 to the last bit.
        let log = a.at_most(a.splat(4.0)).at_least(a.splat(1.0)).polynomial([
            0.000_188_036_69,
            -1.129_578_4,
            -0.633_219_9,
            -0.108_418_55,
            0.025_208_239,
            -0.004_204_556,
            0.000_441_335_2,
            -2.168_675_4e-5,
        ]);
        let one = self.splat(1.0);
        let large = one - log.exp_nonpositive();
        one.if_less(a, large, small).with_sign(self)
    }

    /// 1/(1 + e⁻ˣ), to 4 ulp.
    #[inline(always)]
    pub(super) fn sigmoid(self) -> Self {
        let (zero, one) = (self.splat(0.0), self.splat(1.0));
        let e = (-self.abs()).exp_nonpositive();
        self.if_less(zero, e, one) / (one + e)
    }

    /// (sin(x + q·π/2), cos(x + q·π/2)) for whole numbers q, added exactly.
    ///
    /// To 1.5e-7 absolute and, away from zeros, 2 ulp for |x| ≤ 10⁴; beyond that the accuracy decays
    /// but the values stay within [−1, 1]. Infinities give NaN.
    #[inline(always)]
    pub(super) fn sin_cos(self, quarters: S::u32s) -> (Self, Self) {
        let (x, simd) = (self, self.simd);
        let shifted = x.mul_add(x.splat(std::f32::consts::FRAC_2_PI), x.splat(ROUND));
        let n = shifted - x.splat(ROUND);
        // π/2 in three parts; the first two have so few bits that n times them is exact for
        // |n| < 2¹³.
        let r = n.mul_add(x.splat(-1.570_312_5), x);
        let r = n.mul_add(x.splat(-4.837_513e-4), r);
        let r = n.mul_add(x.splat(-7.549_79e-8), r);
        let r = r.at_most(x.splat(0.8)).at_least(x.splat(-0.8));
        let z = r * r;
        let s = z.polynomial([-0.166_666_55, 0.008_332_173, -0.000_195_166_56]);
        let s = s.mul_add(z * r, r);
        let c = z.polynomial([0.041_666_646, -0.001_388_736_2, 2.443_773e-5]);
        let c = c.mul_add(z * z, z.mul_add(x.splat(-0.5), x.splat(1.0)));
        // Odd quarters swap the two; the sign bits are bit 1 of q and of q + 1.
        let q = simd.add_u32s(shifted.bits(), quarters);
        let odd = simd.and_u32s(q, simd.splat_u32s(1));
        let even = simd.equal_u32s(odd, simd.splat_u32s(0));
        let sine = V::new(simd, simd.select_f32s(even, s.v, c.v));
        let cosine = V::new(simd, simd.select_f32s(even, c.v, s.v));
        let top = simd.wrapping_dyn_shl_u32s(q, simd.splat_u32s(30));
        let next = simd.add_u32s(top, simd.splat_u32s(1 << 30));
        let sign = simd.splat_u32s(SIGN);
        (sine.xor(simd.and_u32s(top, sign)), cosine.xor(simd.and_u32s(next, sign)))
    }
}

impl<S: Simd> Add for V<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        V::new(self.simd, self.simd.add_f32s(self.v, other.v))
    }
}

impl<S: Simd> Sub for V<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        V::new(self.simd, self.simd.sub_f32s(self.v, other.v))
    }
}

impl<S: Simd> Mul for V<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        V::new(self.simd, self.simd.mul_f32s(self.v, other.v))
    }
}

impl<S: Simd> Div for V<S> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        V::new(self.simd, self.simd.div_f32s(self.v, other.v))
    }
}

impl<S: Simd> Neg for V<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        V::new(self.simd, self.simd.neg_f32s(self.v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    /// Evaluates a function over a slice on the fastest path of this machine and on the portable one.
    macro_rules! both_paths {
        ($xs:expr, $f:expr) => {{
            struct Op<'a>(&'a [f32]);
            impl WithSimd for Op<'_> {
                type Output = Vec<f32>;
                #[inline(always)]
                fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
                    let mut out = self.0.to_vec();
                    out.resize(out.len().next_multiple_of(S::F32_LANES), 0.5);
                    for v in S::as_mut_simd_f32s(&mut out).0 {
                        *v = $f(V::new(simd, *v)).v;
                    }
                    out.truncate(self.0.len());
                    out
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

    #[inline(always)]
    fn sine<S: Simd>(x: V<S>) -> V<S> {
        x.sin_cos(x.simd.splat_u32s(0)).0
    }

    #[inline(always)]
    fn cosine<S: Simd>(x: V<S>) -> V<S> {
        x.sin_cos(x.simd.splat_u32s(0)).1
    }

    #[test]
    fn functions_agree_with_double_precision() {
        let xs = grid(-87.0, 0.0, 400_000);
        check(&xs, both_paths!(&xs, V::exp_nonpositive), f64::exp, 2.0, 0.0);
        let mut xs = grid(-12.0, 12.0, 400_000);
        xs.extend(grid(-1e-3, 1e-3, 10_000));
        check(&xs, both_paths!(&xs, V::tanh), f64::tanh, 4.0, 0.0);
        check(&xs, both_paths!(&xs, V::erf), libm::erf, 4.0, 0.0);
        check(&xs, both_paths!(&xs, V::sigmoid), |x| 1.0 / (1.0 + (-x).exp()), 4.0, 0.0);
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
            let at = |quarters| {
                let (s, c) = V::new(pulp::Scalar, x).sin_cos(quarters);
                (s.v, c.v)
            };
            let (s, c) = at(0);
            assert_eq!(at(1), (c, -s));
            assert_eq!(at(2), (-s, -c));
        }
    }

    #[test]
    fn nan_stays_nan_and_infinity_is_a_limit() {
        let xs = [f32::NAN];
        for path in [
            both_paths!(&xs, V::exp_nonpositive),
            both_paths!(&xs, V::tanh),
            both_paths!(&xs, V::erf),
            both_paths!(&xs, V::sigmoid),
            both_paths!(&xs, sine),
        ]
        .concat()
        {
            assert!(path[0].is_nan());
        }
        let xs = [f32::NEG_INFINITY, f32::INFINITY];
        for path in [both_paths!(&xs, V::tanh), both_paths!(&xs, V::erf)].concat() {
            assert_eq!(path, [-1.0, 1.0]);
        }
        for path in both_paths!(&xs, V::sigmoid) {
            assert!(path[0] < 1e-37 && path[1] == 1.0);
        }
    }
}
