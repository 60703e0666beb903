//! The k largest eigenvalues of a symmetric matrix or operator: restarted block Krylov iteration.
//!
//! The subspace grows by the residuals of its unconverged Ritz pairs, which spans what a block
//! Lanczos method spans; full re-orthogonalisation and Rayleigh–Ritz in every step make it
//! indifferent to clusters, and a starting block wider than k lets it see eigenvalues of
//! multiplicity up to k. Restarts keep the leading Ritz vectors ("thick restart", Wu & Simon 2000);
//! blocks are orthonormalised by SVQB (Stathopoulos & Wu 2002).

use ndarray::{Array2, ShapeBuilder, s};
use rand::Rng as _;

use super::{eigh, expect_finite_f64, expect_square, matmul_f64, norm2, numerical, tr_matmul_f64};
use crate::error::{Error, Result};
use crate::matrix::{Mat64, Mat64Ref};
use crate::rng::stream;

/// Residual, relative to the largest eigenvalue, above which a result is refused.
const ACCEPT: f64 = 1e-10;
/// The same for an explicit matrix, where the dense solver stands by.
const ACCEPT_DENSE: f64 = 1e-12;
/// Steps without a halving of the worst residual after which the iteration stops.
const PATIENCE: usize = 12;
/// Bound on the number of steps.
const STEPS: usize = 1000;

/// The leading eigenpairs of a symmetric operator.
#[derive(Debug, Clone)]
pub struct PartialEigen {
    /// Eigenvalues, descending.
    pub values: Vec<f64>,
    /// Eigenvectors in columns, n × k, orthonormal.
    pub vectors: Mat64,
    /// ‖Av − λv‖ for each pair of an iteration; a true eigenvalue lies that close to λ. Empty where
    /// the whole decomposition was taken, whose pairs are exact to rounding.
    pub residuals: Vec<f64>,
}

/// The min(k, n) largest eigenpairs of a symmetric n × n matrix (its symmetric part is assumed
/// exact: A is applied as given). Residuals are below 1e-12·λ₁, usually a few ε√n·λ₁. Costs a few
/// products of A with about 1.25·k vectors at a time, O(n² k) each; when k is not small against n,
/// the dense decomposition, O(n³).
///
/// # Errors
/// [`Error::Shape`] unless square, [`Error::NonFinite`], [`Error::Numerical`].
pub fn top_eigh(a: Mat64Ref<'_>, k: usize) -> Result<PartialEigen> {
    let n = expect_square("symmetric matrix", a)?;
    expect_finite_f64("symmetric matrix", a)?;
    let k = k.min(n);
    if Plan::new(n, k).is_some() {
        let pairs = top_eigh_operator(n, k, |x| matmul_f64(a, x));
        if let Ok(pairs) = pairs
            && pairs.residuals.iter().all(|r| *r <= ACCEPT_DENSE * pairs.values[0].abs())
        {
            return Ok(pairs);
        }
    }
    dense(a, k)
}

/// The min(k, n) algebraically largest eigenpairs of a symmetric operator on ℝⁿ given by its action
/// on blocks of vectors (n × b ↦ n × b). Memory: about 10·k vectors. The operator is applied to at
/// most 1.25·k + 4 vectors at a time, or to the n unit vectors when k is not small against n.
///
/// # Errors
/// What `apply` reports; [`Error::Shape`] and [`Error::NonFinite`] for what it returns;
/// [`Error::Numerical`] when the residuals stay above 1e-10·λ₁ (an operator that is not symmetric,
/// or computed in single precision).
pub fn top_eigh_operator(
    n: usize,
    k: usize,
    apply: impl Fn(Mat64Ref<'_>) -> Result<Mat64>,
) -> Result<PartialEigen> {
    let k = k.min(n);
    if k == 0 {
        let vectors = Mat64::zeros((n, 0));
        return Ok(PartialEigen { values: Vec::new(), vectors, residuals: Vec::new() });
    }
    let apply = |x: Mat64Ref<'_>| -> Result<Mat64> {
        let y = apply(x)?;
        if y.dim() != x.dim() {
            let got = format!("{} × {}", y.nrows(), y.ncols());
            let expected = format!("{} × {}", x.nrows(), x.ncols());
            return Err(Error::shape("result of the symmetric operator", expected, got));
        }
        expect_finite_f64("result of the symmetric operator", y.view())?;
        Ok(y)
    };
    let Some(plan) = Plan::new(n, k) else {
        return dense(apply(Mat64::eye(n).view())?.view(), k);
    };
    let (values, vectors) = iterate(n, k, &plan, &apply)?;
    let image = apply(vectors.view())?;
    let residuals = residual_norms(&image, &vectors, &values);
    let scale = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let worst = residuals.iter().copied().fold(0.0, f64::max);
    if worst > ACCEPT * scale {
        let what = format!("{k} leading eigenpairs of a symmetric operator of size {n}");
        let message = format!("residual {worst:.1e} with largest eigenvalue {scale:.1e}");
        return Err(numerical(what, message));
    }
    Ok(PartialEigen { values, vectors, residuals })
}

/// True when k of n eigenpairs are found by iteration, without n × n workspace; false when the
/// dense decomposition serves better.
pub fn is_partial(n: usize, k: usize) -> bool {
    Plan::new(n, k.min(n)).is_some()
}

/// Bytes that [`top_eigh_operator`] takes when it iterates: the subspace with its image, and the
/// blocks in hand.
pub fn partial_bytes(n: usize, k: usize) -> u64 {
    let columns = Plan::new(n, k.min(n)).map_or(0, |p| 2 * p.capacity + 8 * p.width);
    8 * (n as u64).saturating_mul(columns as u64)
}

/// Sizes of the iteration.
struct Plan {
    /// Columns of the first block: k and some to spare.
    width: usize,
    /// Columns after which the subspace is restarted.
    capacity: usize,
    /// Ritz vectors kept by a restart.
    keep: usize,
}

impl Plan {
    /// None when the dense solver is the better choice.
    fn new(n: usize, k: usize) -> Option<Self> {
        let width = k + (k / 4).clamp(4, 32);
        let capacity = (4 * width).max(48);
        (k > 0 && n > 200 && capacity <= n / 4).then_some(Plan { width, capacity, keep: 2 * width })
    }
}

fn dense(a: Mat64Ref<'_>, k: usize) -> Result<PartialEigen> {
    let (mut values, vectors) = eigh(a)?;
    values.truncate(k);
    let vectors = vectors.slice(s![.., ..k]).to_owned();
    Ok(PartialEigen { values, vectors, residuals: Vec::new() })
}

fn residual_norms(image: &Mat64, vectors: &Mat64, values: &[f64]) -> Vec<f64> {
    let columns = image.columns().into_iter().zip(vectors.columns()).zip(values);
    columns.map(|((a, v), l)| norm2(a.iter().zip(v).map(|(a, v)| a - l * v))).collect()
}

/// An orthonormal basis V, its image AV and H = VᵀAV. Column-major, so that leading columns are
/// contiguous.
struct Subspace {
    basis: Mat64,
    image: Mat64,
    projected: Mat64,
    len: usize,
}

impl Subspace {
    fn new(n: usize, capacity: usize) -> Self {
        Subspace {
            basis: Array2::zeros((n, capacity).f()),
            image: Array2::zeros((n, capacity).f()),
            projected: Mat64::zeros((capacity, capacity)),
            len: 0,
        }
    }

    fn basis(&self) -> Mat64Ref<'_> {
        self.basis.slice(s![.., ..self.len])
    }

    fn image(&self) -> Mat64Ref<'_> {
        self.image.slice(s![.., ..self.len])
    }

    fn append(&mut self, block: &Mat64, image: &Mat64) -> Result<()> {
        let (from, to) = (self.len, self.len + block.ncols());
        self.basis.slice_mut(s![.., from..to]).assign(block);
        self.image.slice_mut(s![.., from..to]).assign(image);
        self.len = to;
        let h = tr_matmul_f64(self.basis(), image.view())?;
        self.projected.slice_mut(s![..to, from..to]).assign(&h);
        self.projected.slice_mut(s![from..to, ..to]).assign(&h.t());
        let corner = h.slice(s![from.., ..]);
        let symmetric = (&corner + &corner.t()) * 0.5;
        self.projected.slice_mut(s![from..to, from..to]).assign(&symmetric);
        Ok(())
    }

    /// Replaces the basis by its first Ritz vectors, `rotation` being their coordinates.
    fn restart(&mut self, values: &[f64], rotation: Mat64Ref<'_>) -> Result<()> {
        let keep = rotation.ncols();
        let basis = matmul_f64(self.basis(), rotation)?;
        let image = matmul_f64(self.image(), rotation)?;
        self.basis.slice_mut(s![.., ..keep]).assign(&basis);
        self.image.slice_mut(s![.., ..keep]).assign(&image);
        self.projected.fill(0.0);
        for (j, value) in values.iter().enumerate().take(keep) {
            self.projected[(j, j)] = *value;
        }
        self.len = keep;
        Ok(())
    }
}

fn iterate(
    n: usize,
    k: usize,
    plan: &Plan,
    apply: &dyn Fn(Mat64Ref<'_>) -> Result<Mat64>,
) -> Result<(Vec<f64>, Mat64)> {
    let target = 4.0 * f64::EPSILON * (n as f64).sqrt();
    let mut space = Subspace::new(n, plan.capacity);
    let mut block = orthonormalise(space.basis(), starting_block(n, plan.width))?;
    if block.ncols() < k {
        let message = format!("only {} independent starting vectors of size {n}", block.ncols());
        return Err(numerical("partial eigendecomposition", message));
    }
    let (mut best, mut since) = (f64::INFINITY, 0);
    for step in 0..STEPS {
        let image = apply(block.view())?;
        space.append(&block, &image)?;
        let (values, rotation) = eigh(space.projected.slice(s![..space.len, ..space.len]))?;
        let width = plan.width.min(space.len);
        let leading = rotation.slice(s![.., ..width]);
        let ritz = matmul_f64(space.basis(), leading)?;
        let mut residual = matmul_f64(space.image(), leading)?;
        for ((mut r, v), value) in
            residual.columns_mut().into_iter().zip(ritz.columns()).zip(&values)
        {
            r.scaled_add(-value, &v);
        }
        let norms: Vec<f64> =
            residual.columns().into_iter().map(|r| norm2(r.iter().copied())).collect();
        let scale = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let open: Vec<usize> = (0..width).filter(|&j| norms[j] > target * scale).collect();
        let worst = norms.iter().take(k).copied().fold(0.0, f64::max);
        (best, since) = if worst < 0.5 * best { (worst, 0) } else { (best, since + 1) };
        let converged = open.first().is_none_or(|&j| j >= k);
        let stalled = since >= PATIENCE && worst <= ACCEPT_DENSE * scale;
        let hopeless = since >= 10 * PATIENCE || step + 1 == STEPS;
        let finished = converged || stalled || hopeless;
        let candidates = residual.select(ndarray::Axis(1), &open);
        if !finished {
            if space.len + open.len() > plan.capacity {
                let keep = plan.keep.min(space.len);
                space.restart(&values, rotation.slice(s![.., ..keep]))?;
            }
            block = orthonormalise(space.basis(), candidates)?;
        }
        if finished || block.ncols() == 0 {
            let vectors = ritz.slice(s![.., ..k]).to_owned();
            return Ok((values[..k].to_vec(), vectors));
        }
    }
    Err(numerical("partial eigendecomposition", format!("no result in {STEPS} steps")))
}

/// A fixed pseudo-random n × width block.
fn starting_block(n: usize, width: usize) -> Mat64 {
    let mut rng = stream(0, "partial eigendecomposition", 0);
    Mat64::from_shape_simple_fn((n, width), || rng.next_u64() as i64 as f64 / 2f64.powi(63))
}

/// An orthonormal basis of what `block` has outside the span of the orthonormal `basis`; columns
/// that are dependent to about 1e-5 are dropped.
fn orthonormalise(basis: Mat64Ref<'_>, block: Mat64) -> Result<Mat64> {
    let mut block = unit_columns(block);
    for _ in 0..3 {
        if block.ncols() == 0 {
            break;
        }
        if basis.ncols() > 0 {
            for _ in 0..2 {
                let inside = tr_matmul_f64(basis, block.view())?;
                block -= &matmul_f64(basis, inside.view())?;
            }
            block = unit_columns(block);
        }
        let (values, vectors) = eigh(tr_matmul_f64(block.view(), block.view())?.view())?;
        let floor = 1e-10 * values.first().copied().unwrap_or(0.0);
        let rank = values.iter().filter(|v| **v > floor).count();
        let mut rotation = vectors.slice(s![.., ..rank]).to_owned();
        for (mut column, value) in rotation.columns_mut().into_iter().zip(&values) {
            let root = value.sqrt();
            column.mapv_inplace(|v| v / root);
        }
        block = matmul_f64(block.view(), rotation.view())?;
    }
    Ok(block)
}

/// The non-zero columns, each divided by its norm.
fn unit_columns(block: Mat64) -> Mat64 {
    let norms: Vec<f64> = block.columns().into_iter().map(|c| norm2(c.iter().copied())).collect();
    let kept: Vec<usize> = (0..norms.len()).filter(|&j| norms[j] > f64::MIN_POSITIVE).collect();
    let mut block = block.select(ndarray::Axis(1), &kept);
    for (mut column, &j) in block.columns_mut().into_iter().zip(&kept) {
        column.mapv_inplace(|v| v / norms[j]);
    }
    block
}
