//! Run-time SIMD dispatch and branch-free mathematics for single and double precision.
//!
//! [`dispatch`] compiles an [`Op`] once for every instruction set and picks one at run time; inside
//! it, plain loops over slices become vector loops. The functions of [`Real`] have no branches and
//! no calls, so such loops stay vector loops. A value depends on its argument alone, never on its
//! position in a slice: vector body and scalar tail run the same operations in the same order. NaN
//! goes in, NaN comes out.

/// Whether `a·b + c` rounds once (hardware with fused multiply-add) or twice.
pub trait Fuse: Copy {
    /// True when it rounds once.
    const FUSED: bool;
}

/// `a·b + c` in one rounding.
#[derive(Clone, Copy)]
pub struct Fused;
/// `a·b + c` in two roundings: for processors where the fused form is emulated, slowly.
#[derive(Clone, Copy)]
pub struct Unfused;

impl Fuse for Fused {
    const FUSED: bool = true;
}
impl Fuse for Unfused {
    const FUSED: bool = false;
}

/// Work to be compiled for every instruction set. Mark `run` and all it calls
/// `#[inline(always)]`, and loop with `for`: a closure may stay a function of its own, compiled
/// for the least processor.
pub trait Op {
    /// What the work returns.
    type Output;

    /// Does the work.
    fn run<F: Fuse>(self) -> Self::Output;
}

/// Runs `op` with the widest instruction set of this processor.
pub fn dispatch<O: Op>(op: O) -> O::Output {
    struct Run<O>(O);
    impl<O: Op> pulp::WithSimd for Run<O> {
        type Output = O::Output;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> O::Output {
            if S::IS_SCALAR { self.0.run::<Unfused>() } else { self.0.run::<Fused>() }
        }
    }
    pulp::Arch::new().dispatch(Run(op))
}

/// `f32` or `f64`, with what kernels are made of.
pub trait Real:
    Copy
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// +∞.
    const INFINITY: Self;
    /// A quarter of the largest finite number: sums and differences of two such stay finite.
    const LIMIT: Self;
    /// q with 2^r = 1 + r·q(r) for |r| ≤ ½ (Chebyshev interpolation; error in 2^r under 1e-8, 1e-18).
    const EXP2: &[Self];
    /// p with sin(πr) = r·p(r²) for |r| ≤ ½ (relative error under 1e-10, 1e-21).
    const SIN_PI: &[Self];
    /// p with ln((1 + s)/(1 − s)) = s·p(s²) for s² ≤ 0.0296 (relative error under 1e-9, 1e-20).
    const ATANH: &[Self];

    /// The nearest number of this type.
    fn of(v: f64) -> Self;
    /// Exactly.
    fn wide(self) -> f64;
    /// |x|.
    fn abs(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// The nearest whole number, ties to even.
    fn round(self) -> Self;
    /// a·b + c, in one rounding where `F` says so.
    fn mul_add<F: Fuse>(self, b: Self, c: Self) -> Self;
    /// (2ⁿ, z − n) for the whole number n nearest to z; 2ⁿ is 0 when z is below the exponents of
    /// normal numbers. Needs z ≤ 127.
    fn split_exp2(z: Self) -> (Self, Self);
    /// (e, m) with u = 2^e·m and m in [√½, √2]. Needs u ≥ 1.
    fn split_ln(u: Self) -> (Self, Self);

    /// The smaller one; NaN when `self` is.
    #[inline(always)]
    fn least(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// Σ cᵢ xⁱ by Horner's rule.
    #[inline(always)]
    fn polynomial<F: Fuse>(self, coefficients: &[Self]) -> Self {
        let mut sum = Self::ZERO;
        for c in coefficients.iter().rev() {
            sum = sum.mul_add::<F>(self, *c);
        }
        sum
    }

    /// 2^z for z ≤ 127, within 1 ulp; 0 where the result is below the smallest normal number.
    ///
    /// Kernels fold log₂e into their length scale and call this instead of exp: the reduction
    /// z − n is then exact and needs no two-part constant.
    #[inline(always)]
    fn exp2<F: Fuse>(z: Self) -> Self {
        let (scale, r) = Self::split_exp2(z);
        (scale * r).mul_add::<F>(r.polynomial::<F>(Self::EXP2), scale)
    }

    /// 2^z − 1 for z ≤ 127, accurate near 0.
    #[inline(always)]
    fn exp2_m1<F: Fuse>(z: Self) -> Self {
        let (scale, r) = Self::split_exp2(z);
        (scale * r).mul_add::<F>(r.polynomial::<F>(Self::EXP2), scale - Self::ONE)
    }

    /// ln(1 + z) for z ≥ 0, within 3 ulp.
    #[inline(always)]
    fn ln_1p<F: Fuse>(z: Self) -> Self {
        let u = Self::ONE + z;
        let lost = z - (u - Self::ONE);
        let (e, m) = Self::split_ln(u);
        let s = (m - Self::ONE) / (m + Self::ONE);
        let ln_m = s * (s * s).polynomial::<F>(Self::ATANH);
        e.mul_add::<F>(Self::of(std::f64::consts::LN_2), ln_m + lost / u)
    }

    /// tanh x, within 3 ulp.
    #[inline(always)]
    fn tanh<F: Fuse>(x: Self) -> Self {
        // With e = exp(−2|x|) − 1: tanh|x| = −e/(2 + e).
        let e = Self::exp2_m1::<F>(x.abs() * Self::of(-2.0 * std::f64::consts::LOG2_E));
        let t = -e / (Self::of(2.0) + e);
        if x < Self::ZERO { -t } else { t }
    }

    /// ±sin(πx·(hi + lo)), within 3 ulp but for the rounding of x; `lo` is what `hi` lacks.
    #[inline(always)]
    fn sin_pi<F: Fuse>(x: Self, hi: Self, lo: Self) -> Self {
        let turns = (x * hi).round();
        let r = x.mul_add::<F>(lo, x.mul_add::<F>(hi, -turns));
        // Far out one rounding step is many turns: what it left is reduced again.
        let r = r - r.round();
        r * (r * r).polynomial::<F>(Self::SIN_PI)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f32::INFINITY;
    const LIMIT: Self = f32::MAX / 4.0;
    const EXP2: &[Self] = &[
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_503_57,
        0.009_618_083,
        0.001_339_086_3,
        0.000_154_531_63,
    ];
    const SIN_PI: &[Self] = &[
        std::f32::consts::PI,
        -5.167_712_7,
        2.550_163_3,
        -0.599_252_16,
        0.082_050_35,
        -0.007_028_304,
    ];
    const ATANH: &[Self] = &[2.0, 0.666_668_2, 0.399_745_64, 0.299_321_26];

    #[inline(always)]
    fn of(v: f64) -> Self {
        v as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.round_ties_even()
    }
    #[inline(always)]
    fn mul_add<F: Fuse>(self, b: Self, c: Self) -> Self {
        if F::FUSED { f32::mul_add(self, b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn split_exp2(z: Self) -> (Self, Self) {
        // Adding 1.5·2²³ leaves the nearest whole number in the low bits.
        const SHIFT: f32 = 12_582_912.0;
        let z = if -127.0 > z { -127.0 } else { z };
        let t = z + SHIFT;
        let scale = f32::from_bits((t.to_bits() << 23).wrapping_add(127 << 23));
        (scale, z - (t - SHIFT))
    }
    #[inline(always)]
    fn split_ln(u: Self) -> (Self, Self) {
        let e = u.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) >> 23;
        // The whole number e in the low bits of 2²³ + e.
        let value = f32::from_bits(8_388_608f32.to_bits() | e) - 8_388_608.0;
        (value, f32::from_bits(u.to_bits().wrapping_sub(e << 23)))
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f64::INFINITY;
    const LIMIT: Self = f64::MAX / 4.0;
    const EXP2: &[Self] = &[
        std::f64::consts::LN_2,
        0.240_226_506_959_100_72,
        0.055_504_108_664_821_625,
        0.009_618_129_107_628_48,
        0.001_333_355_814_640_647,
        0.000_154_035_303_933_707_34,
        1.525_273_384_155_677_3e-5,
        1.321_548_680_870_556_3e-6,
        1.017_805_708_773_394_1e-7,
        7.054_897_304_155_499_5e-9,
        4.455_817_908_336_064_5e-10,
        2.572_932_417_736_230_5e-11,
    ];
    const SIN_PI: &[Self] = &[
        std::f64::consts::PI,
        -5.167_712_780_049_97,
        2.550_164_039_877_345_5,
        -0.599_264_529_320_786_9,
        0.082_145_886_610_993_56,
        -0.007_370_430_943_702_136,
        0.000_466_302_787_459_327_3,
        -2.191_525_030_185_137_5e-5,
        7.948_539_037_372_32e-7,
        -2.228_371_216_069_697e-8,
    ];
    const ATANH: &[Self] = &[
        2.0,
        0.666_666_666_666_666_6,
        0.400_000_000_000_077_96,
        0.285_714_285_687_295_73,
        0.222_222_226_899_420_7,
        0.181_817_727_185_229_98,
        0.153_872_049_086_194_7,
        0.132_477_801_674_151_7,
        0.132_709_871_949_513_5,
    ];

    #[inline(always)]
    fn of(v: f64) -> Self {
        v
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.round_ties_even()
    }
    #[inline(always)]
    fn mul_add<F: Fuse>(self, b: Self, c: Self) -> Self {
        if F::FUSED { f64::mul_add(self, b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn split_exp2(z: Self) -> (Self, Self) {
        // Adding 1.5·2⁵² leaves the nearest whole number in the low bits.
        const SHIFT: f64 = 6_755_399_441_055_744.0;
        let z = if -1023.0 > z { -1023.0 } else { z };
        let t = z + SHIFT;
        let scale = f64::from_bits((t.to_bits() << 52).wrapping_add(1023 << 52));
        (scale, z - (t - SHIFT))
    }
    #[inline(always)]
    fn split_ln(u: Self) -> (Self, Self) {
        const BASE: f64 = 4_503_599_627_370_496.0;
        let e = u.to_bits().wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits()) >> 52;
        let value = f64::from_bits(BASE.to_bits() | e) - BASE;
        (value, f64::from_bits(u.to_bits().wrapping_sub(e << 52)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of `got` against `want` over `arguments`, in units of T's last place of `want`.
    fn ulps<T: Real>(
        arguments: impl Iterator<Item = f64>,
        epsilon: f64,
        got: fn(T) -> T,
        want: fn(f64) -> f64,
    ) -> f64 {
        arguments
            .map(|a| {
                let a = T::of(a);
                let want = want(a.wide());
                let ulp = 2f64.powi(want.abs().log2().floor() as i32) * epsilon;
                (got(a).wide() - want).abs() / ulp
            })
            .fold(0.0, f64::max)
    }

    fn grid(from: f64, to: f64) -> impl Iterator<Item = f64> {
        (0..40_001).map(move |i| from + (to - from) * f64::from(i) / 40_000.0)
    }

    fn powers(from: f64, to: f64) -> impl Iterator<Item = f64> {
        grid(from.ln(), to.ln()).map(f64::exp)
    }

    const E32: f64 = f32::EPSILON as f64;
    const E64: f64 = f64::EPSILON;

    #[test]
    fn single_precision_is_within_a_few_ulp() {
        let exp2 = ulps(grid(-126.0, 2.0), E32, <f32 as Real>::exp2::<Fused>, f64::exp2);
        assert!(exp2 < 1.0, "{exp2}");
        let exp2 = ulps(grid(-126.0, 2.0), E32, <f32 as Real>::exp2::<Unfused>, f64::exp2);
        assert!(exp2 < 1.5, "{exp2}");
        let m1 = ulps(
            powers(1e-8, 20.0),
            E32,
            |z: f32| <f32 as Real>::exp2_m1::<Fused>(-z),
            |z| (-z * std::f64::consts::LN_2).exp_m1(),
        );
        assert!(m1 < 2.0, "{m1}");
        let ln = ulps(powers(1e-9, 1e30), E32, <f32 as Real>::ln_1p::<Fused>, f64::ln_1p);
        assert!(ln < 3.0, "{ln}");
        let tanh = ulps(powers(1e-6, 30.0), E32, <f32 as Real>::tanh::<Fused>, f64::tanh);
        assert!(tanh < 3.0, "{tanh}");
        let sin = ulps(
            grid(-0.5, 0.5),
            E32,
            |x: f32| <f32 as Real>::sin_pi::<Fused>(x, 1.0, 0.0),
            |x| (x * std::f64::consts::PI).sin(),
        );
        assert!(sin < 3.1, "{sin}");
    }

    #[test]
    fn double_precision_is_within_a_few_ulp_of_the_standard_library() {
        let exp2 = ulps(grid(-1020.0, 2.0), E64, <f64 as Real>::exp2::<Fused>, f64::exp2);
        assert!(exp2 < 1.5, "{exp2}");
        let m1 = ulps(
            powers(1e-17, 40.0),
            E64,
            |z: f64| <f64 as Real>::exp2_m1::<Fused>(-z),
            |z| (-z * std::f64::consts::LN_2).exp_m1(),
        );
        assert!(m1 < 3.0, "{m1}");
        let ln = ulps(powers(1e-18, 1e30), E64, <f64 as Real>::ln_1p::<Fused>, f64::ln_1p);
        assert!(ln < 4.0, "{ln}");
        let tanh = ulps(powers(1e-12, 30.0), E64, <f64 as Real>::tanh::<Fused>, f64::tanh);
        assert!(tanh < 4.0, "{tanh}");
        let sin = ulps(
            grid(-0.5, 0.5),
            E64,
            |x: f64| <f64 as Real>::sin_pi::<Fused>(x, 1.0, 0.0),
            |x| (x * std::f64::consts::PI).sin(),
        );
        assert!(sin < 3.1, "{sin}");
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(<f32 as Real>::exp2::<Fused>(0.0), 1.0);
        assert_eq!(<f64 as Real>::exp2::<Fused>(0.0), 1.0);
        assert_eq!(<f32 as Real>::exp2::<Fused>(f32::NEG_INFINITY), 0.0);
        assert_eq!(<f64 as Real>::exp2::<Fused>(-1e300), 0.0);
        assert_eq!(<f32 as Real>::exp2::<Fused>(-127.2), 0.0);
        assert_eq!(<f32 as Real>::exp2::<Fused>(-126.0), f32::MIN_POSITIVE);
        assert_eq!(<f32 as Real>::exp2::<Fused>(10.0), 1024.0);
        assert_eq!(<f64 as Real>::tanh::<Fused>(-1e9), -1.0);
        assert_eq!(<f32 as Real>::tanh::<Fused>(f32::MAX), 1.0);
        assert_eq!(<f32 as Real>::ln_1p::<Fused>(0.0), 0.0);
        for n in [0.0, 1.0, -7.0, 8_388_607.0, 1e30] {
            assert_eq!(<f32 as Real>::sin_pi::<Fused>(n, 1.0, 0.0), 0.0);
            assert_eq!(<f64 as Real>::sin_pi::<Fused>(f64::from(n), 1.0, 0.0), 0.0);
        }
        assert_eq!(<f32 as Real>::sin_pi::<Fused>(1000.5, 1.0, 0.0).abs(), 1.0);
        assert!(<f32 as Real>::sin_pi::<Fused>(f32::MAX / 2.0, 1.3, 1e-8).abs() <= 1.0);
        assert!(<f32 as Real>::tanh::<Fused>(f32::NAN).is_nan());
        assert!(<f64 as Real>::exp2::<Fused>(f64::NAN).is_nan());
        assert!(<f64 as Real>::ln_1p::<Fused>(f64::NAN).is_nan());
    }
}
