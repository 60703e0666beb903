//! Attention in linear time by positive random features (FAVOR+), beside exact softmax attention.
//!
//! Softmax attention gives query i the mean of the values vⱼ with weights exp(qᵢᵀkⱼ/√d). With
//! positive features φ (Choromanski et al. 2021, Lemma 1) of the points q·d^(−¼) and k·d^(−¼) the
//! weights become φ(qᵢ)ᵀφ(kⱼ), and the sums over j are taken once for all queries (their eq. 4):
//!
//! > outᵢ = Σ_r φ_r(qᵢ)·S_r / Σ_r φ_r(qᵢ)·z_r, with S = Σⱼ φ(kⱼ)vⱼᵀ and z = Σⱼ φ(kⱼ).
//!
//! Causal attention takes the sums over j ≤ i. Both are kept as S_r·exp(−M_r) with M_r the largest
//! exponent of feature r so far, and a query takes its largest exponent + M_r to be 0. All these
//! factors cancel in the quotient, the sum below the line is at least 1, and logits of any size give
//! finite results.

use ndarray::{Axis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::linalg::{expect_finite_f32, matmul_f32};
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::method::gaussian_frequencies;
use crate::simd::{Fuse, Op, Real, dispatch};

/// Queries of exact attention evaluated together.
const ROWS: usize = 128;
/// Keys summed together in linear attention, and rows of a causal stretch.
const CHUNK: usize = 512;
/// Chunks whose sums are held at a time.
const GROUP: usize = 8;

/// How linear attention is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearAttention {
    /// D, random features: the error falls as 1/√D, the cost is O(n·D·d).
    pub features: usize,
    /// Query i sees keys 0 to i only.
    pub causal: bool,
    /// Orthogonal frequencies in blocks of d: never a larger error, O(D·d²) once.
    pub orthogonal: bool,
    /// Seed of the frequencies.
    pub seed: u64,
}

impl Default for LinearAttention {
    fn default() -> Self {
        LinearAttention { features: 256, causal: false, orthogonal: true, seed: 0 }
    }
}

/// Attention of queries `q` (n × d) to keys `k` (m × d) with values `v` (m × p), n × p, in
/// O((n + m)·D·(d + p)) by positive random features; see the [module](self).
///
/// Exponents are products in single precision: for logits near L their error is about 1e-7·L,
/// far below that of the features. Sums over keys are carried on in double precision from one stretch of 512
/// keys to the next; with `causal` the sums before every stretch are kept, 8·D·p bytes each. The bits do
/// not depend on the number of threads; with `causal`, those of row i do not depend on later rows.
///
/// # Errors
/// [`Error::Shape`] when q and k differ in width, k and v in rows, or (causal) q and k in rows;
/// [`Error::InvalidParameter`] for no features or no keys; [`Error::NonFinite`] for bad input;
/// [`Error::Numerical`] when a product of q or k with a frequency leaves single precision.
pub fn linear(
    q: MatRef<'_>,
    k: MatRef<'_>,
    v: MatRef<'_>,
    options: &LinearAttention,
) -> Result<Mat> {
    check(q, k, v, options.causal)?;
    if options.features == 0 {
        return Err(Error::parameter("features", "a whole number ≥ 1", 0));
    }
    let d = q.ncols();
    let drawn = gaussian_frequencies((options.features, d), options.orthogonal, options.seed)?;
    // exp(ωᵀx − ½‖x‖²) with x = q·d^(−¼), in powers of two.
    let scale = (d.max(1) as f64).powf(-0.25);
    let factor = scale * std::f64::consts::LOG2_E;
    let frequencies = drawn.t().mapv(|w| (w * factor) as f32);
    let curvature = 0.5 * scale * scale * std::f64::consts::LOG2_E;
    let exponents =
        Exponents { frequencies: frequencies.as_standard_layout().to_owned(), curvature };
    if options.causal { exponents.causal(q, k, v) } else { exponents.whole(q, k, v) }
}

/// Exact softmax attention, the reference: n × p in O(n·m·(d + p)), rows in blocks, logits less the
/// largest one of their row. With `causal` query i sees keys 0 to i only.
///
/// # Errors
/// As [`linear`]; [`Error::Numerical`] when a logit is beyond single precision.
pub fn exact(q: MatRef<'_>, k: MatRef<'_>, v: MatRef<'_>, causal: bool) -> Result<Mat> {
    check(q, k, v, causal)?;
    let scale = ((q.ncols().max(1) as f64).sqrt().recip() * std::f64::consts::LOG2_E) as f32;
    in_blocks(q.nrows(), v.ncols(), ROWS, |first, rows| {
        let visible = if causal { first + rows } else { k.nrows() };
        let block = q.slice(s![first..first + rows, ..]).mapv(|v| v * scale);
        let (k, v) = (k.slice(s![..visible, ..]), v.slice(s![..visible, ..]));
        let mut weights = matmul_f32(block.view(), k.t())?;
        let mut totals = Vec::with_capacity(rows);
        for (i, mut row) in weights.rows_mut().into_iter().enumerate() {
            let row = row.as_slice_mut().unwrap_or(&mut []);
            let (row, later) = row.split_at_mut(if causal { first + i + 1 } else { visible });
            later.fill(0.0);
            let largest = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            if !row.iter().fold(true, |ok, v| ok & v.is_finite()) {
                return Err(beyond(first + i));
            }
            totals.push(dispatch(Softmax { row, largest }));
        }
        let mut out = matmul_f32(weights.view(), v)?;
        for (mut row, total) in out.rows_mut().into_iter().zip(totals) {
            row.mapv_inplace(|v| (f64::from(v) / total) as f32);
        }
        Ok(out)
    })
}

fn check(q: MatRef<'_>, k: MatRef<'_>, v: MatRef<'_>, causal: bool) -> Result<()> {
    expect_columns("k", k, q.ncols())?;
    if v.nrows() != k.nrows() {
        return Err(Error::shape("v", format!("{} × p", k.nrows()), format!("{:?}", v.dim())));
    }
    if causal && q.nrows() != k.nrows() {
        let expected = format!("{} × d, one key for each query", q.nrows());
        return Err(Error::shape("k of causal attention", expected, format!("{:?}", k.dim())));
    }
    if k.nrows() == 0 && q.nrows() > 0 {
        return Err(Error::parameter("keys", "at least one", 0));
    }
    expect_finite_f32("q", q)?;
    expect_finite_f32("k", k)?;
    expect_finite_f32("v", v)
}

fn beyond(row: usize) -> Error {
    let message = format!("an exponent at row {row} is beyond the range of 32 bits; scale q and k");
    Error::Numerical { what: "attention".into(), message }
}

/// n × p from blocks of rows made side by side.
fn in_blocks(
    n: usize,
    p: usize,
    rows: usize,
    work: impl Fn(usize, usize) -> Result<Mat> + Sync,
) -> Result<Mat> {
    let mut out = Mat::zeros((n, p));
    let blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), rows).collect();
    blocks.into_par_iter().enumerate().try_for_each(|(b, mut block)| {
        let made = work(b * rows, block.nrows())?;
        block.assign(&made);
        Ok::<_, Error>(())
    })?;
    Ok(out)
}

/// The sums S (D × p) and z over some keys, less the exponents M.
#[derive(Clone)]
struct KeySums {
    values: Mat64,
    weights: Vec<f64>,
    largest: Vec<f64>,
}

impl KeySums {
    fn none(features: usize, p: usize) -> Self {
        KeySums {
            values: Mat64::zeros((features, p)),
            weights: vec![0.0; features],
            largest: vec![f64::NEG_INFINITY; features],
        }
    }

    /// Takes in the sums over later keys.
    fn add(&mut self, other: &KeySums) {
        for r in 0..self.weights.len() {
            let largest = self.largest[r].max(other.largest[r]);
            let (a, b) = ((self.largest[r] - largest).exp2(), (other.largest[r] - largest).exp2());
            self.weights[r] = a * self.weights[r] + b * other.weights[r];
            let (mut sum, added) = (self.values.row_mut(r), other.values.row(r));
            sum.zip_mut_with(&added, |s, t| *s = a * *s + b * t);
            self.largest[r] = largest;
        }
    }
}

/// Exponents of the features of queries and keys, in powers of two.
struct Exponents {
    /// Frequencies of the features in columns, d × D.
    frequencies: Mat,
    /// Half of d^(−½), in powers of two.
    curvature: f64,
}

impl Exponents {
    /// ωᵀx − ½‖x‖² for rows of x, `first` being the first one's number.
    fn of(&self, x: MatRef<'_>, first: usize) -> Result<Mat64> {
        let along = matmul_f32(x, self.frequencies.view())?;
        let mut out = Mat64::zeros(along.dim());
        for (i, ((x, along), mut out)) in
            x.rows().into_iter().zip(along.rows()).zip(out.rows_mut()).enumerate()
        {
            let square: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
            let offset = self.curvature * square;
            out.zip_mut_with(&along, |o, a| *o = f64::from(*a) - offset);
            if !along.iter().fold(true, |ok, v| ok & v.is_finite()) {
                return Err(beyond(first + i));
            }
        }
        Ok(out)
    }

    /// The sums over one chunk of keys.
    fn sums(&self, k: MatRef<'_>, v: MatRef<'_>, first: usize) -> Result<KeySums> {
        let exponents = self.of(k, first)?;
        let features = exponents.ncols();
        let mut largest = vec![f64::NEG_INFINITY; features];
        for row in exponents.rows() {
            largest.iter_mut().zip(row).for_each(|(m, e)| *m = m.max(*e));
        }
        let mut phi = Mat::zeros(exponents.dim());
        let mut weights = vec![0.0; features];
        for (row, mut phi) in exponents.rows().into_iter().zip(phi.rows_mut()) {
            let (Some(row), Some(phi)) = (row.as_slice(), phi.as_slice_mut()) else { continue };
            dispatch(Shifted { exponents: row, shift: &largest, sign: -1.0, top: 0.0, out: phi });
            weights.iter_mut().zip(phi).for_each(|(w, p)| *w += f64::from(*p));
        }
        let values = matmul_f32(phi.t(), v)?.mapv(f64::from);
        Ok(KeySums { values, weights, largest })
    }

    /// The sums over every chunk of keys.
    fn chunks(&self, k: MatRef<'_>, v: MatRef<'_>, group: &[usize]) -> Result<Vec<KeySums>> {
        let chunk = |&c: &usize| {
            let rows = s![c * CHUNK..k.nrows().min((c + 1) * CHUNK), ..];
            self.sums(k.slice(rows), v.slice(rows), c * CHUNK)
        };
        group.par_iter().map(chunk).collect()
    }

    fn whole(&self, q: MatRef<'_>, k: MatRef<'_>, v: MatRef<'_>) -> Result<Mat> {
        let mut sums = KeySums::none(self.frequencies.ncols(), v.ncols());
        let all: Vec<usize> = (0..k.nrows().div_ceil(CHUNK)).collect();
        for group in all.chunks(GROUP) {
            self.chunks(k, v, group)?.iter().for_each(|part| sums.add(part));
        }
        let values = sums.values.mapv(|v| v as f32);
        in_blocks(q.nrows(), v.ncols(), ROWS, |first, rows| {
            let exponents = self.of(q.slice(s![first..first + rows, ..]), first)?;
            let mut phi = Mat::zeros(exponents.dim());
            let mut totals = Vec::with_capacity(rows);
            for (row, mut phi) in exponents.rows().into_iter().zip(phi.rows_mut()) {
                let (Some(row), Some(phi)) = (row.as_slice(), phi.as_slice_mut()) else { continue };
                totals.push(weigh(row, &sums.largest, &sums.weights, phi));
            }
            let mut out = matmul_f32(phi.view(), values.view())?;
            for (mut row, total) in out.rows_mut().into_iter().zip(totals) {
                row.mapv_inplace(|v| (f64::from(v) / total) as f32);
            }
            Ok(out)
        })
    }

    /// The sums before every chunk, one after the other; then the chunks side by side, key by key.
    fn causal(&self, q: MatRef<'_>, k: MatRef<'_>, v: MatRef<'_>) -> Result<Mat> {
        let mut sums = KeySums::none(self.frequencies.ncols(), v.ncols());
        let mut before = Vec::new();
        let all: Vec<usize> = (0..k.nrows().div_ceil(CHUNK)).collect();
        for group in all.chunks(GROUP) {
            for part in self.chunks(k, v, group)? {
                before.push(sums.clone());
                sums.add(&part);
            }
        }
        in_blocks(q.nrows(), v.ncols(), CHUNK, |first, rows| {
            let range = s![first..first + rows, ..];
            let (queries, keys) =
                (self.of(q.slice(range), first)?, self.of(k.slice(range), first)?);
            let v = v.slice(range).as_standard_layout().to_owned();
            let start = &before[first / CHUNK];
            let mut state = State {
                values: start.values.mapv(|v| v as f32),
                weights: start.weights.clone(),
                largest: start.largest.clone(),
            };
            let mut out = Mat::zeros(v.dim());
            let mut phi = vec![0.0f32; self.frequencies.ncols()];
            for (i, mut out) in out.rows_mut().into_iter().enumerate() {
                let (query, key, value) = (queries.row(i), keys.row(i), v.row(i));
                let (Some(query), Some(key)) = (query.as_slice(), key.as_slice()) else { continue };
                let (Some(value), Some(out)) = (value.as_slice(), out.as_slice_mut()) else {
                    continue;
                };
                dispatch(Take { state: &mut state, key, value });
                let total = weigh(query, &state.largest, &state.weights, &mut phi);
                dispatch(Combine { phi: &phi, values: &state.values, out });
                out.iter_mut().for_each(|v| *v = (f64::from(*v) / total) as f32);
            }
            Ok(out)
        })
    }
}

/// Weights of the features for one query, the largest being 1, into `phi`; their sum against z.
fn weigh(query: &[f64], largest: &[f64], weights: &[f64], phi: &mut [f32]) -> f64 {
    let tops = query.iter().zip(largest).map(|(q, m)| q + m);
    let top = tops.fold(f64::NEG_INFINITY, f64::max);
    dispatch(Shifted { exponents: query, shift: largest, sign: 1.0, top, out: phi });
    phi.iter().zip(weights).map(|(p, w)| f64::from(*p) * w).sum()
}

/// The running sums within a stretch.
struct State {
    values: Mat,
    weights: Vec<f64>,
    largest: Vec<f64>,
}

/// Adds one key and its value to the running sums.
struct Take<'a> {
    state: &'a mut State,
    key: &'a [f64],
    value: &'a [f32],
}

impl Op for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Take { state: State { values, weights, largest }, key, value } = self;
        let rows = values.as_slice_mut().unwrap_or(&mut []).chunks_exact_mut(value.len().max(1));
        for (((e, m), w), values) in key.iter().zip(largest).zip(weights).zip(rows) {
            if *e > *m {
                let shrink = <f64 as Real>::exp2::<F>(*m - *e);
                *w *= shrink;
                for v in values.iter_mut() {
                    *v *= shrink as f32;
                }
                *m = *e;
            }
            let phi = <f64 as Real>::exp2::<F>(*e - *m);
            *w += phi;
            for (s, v) in values.iter_mut().zip(value) {
                *s = <f32 as Real>::mul_add::<F>(*v, phi as f32, *s);
            }
        }
    }
}

/// out = 2^(exponents + sign·shift − top), every power at most 1.
struct Shifted<'a> {
    exponents: &'a [f64],
    shift: &'a [f64],
    sign: f64,
    top: f64,
    out: &'a mut [f32],
}

impl Op for Shifted<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Shifted { exponents, shift, sign, top, out } = self;
        for ((o, e), s) in out.iter_mut().zip(exponents).zip(shift) {
            *o = <f32 as Real>::exp2::<F>((e + sign * s - top).least(0.0) as f32);
        }
    }
}

/// row = 2^(row − largest); the sum.
struct Softmax<'a> {
    row: &'a mut [f32],
    largest: f32,
}

impl Op for Softmax<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<F: Fuse>(self) -> f64 {
        let mut sums = [0.0f64; 8];
        for part in self.row.chunks_mut(8) {
            for (v, sum) in part.iter_mut().zip(&mut sums) {
                *v = <f32 as Real>::exp2::<F>(*v - self.largest);
                *sum += f64::from(*v);
            }
        }
        sums.iter().sum()
    }
}

/// out = Σ_r phi_r·values_r.
struct Combine<'a> {
    phi: &'a [f32],
    values: &'a Mat,
    out: &'a mut [f32],
}

impl Op for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<F: Fuse>(self) {
        let Combine { phi, values, out } = self;
        let p = out.len();
        let values = values.as_slice().unwrap_or(&[]);
        for (phi, values) in phi.iter().zip(values.chunks_exact(p.max(1))) {
            for (o, v) in out.iter_mut().zip(values) {
                *o = <f32 as Real>::mul_add::<F>(*v, *phi, *o);
            }
        }
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
