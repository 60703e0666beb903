//! Landmarks by randomly pivoted Cholesky: each with a probability proportional to what the others leave of
//! κ(x, x) (Chen, Epperly, Tropp and Webber 2022), in blocks with rejection (Epperly, Tropp and Webber 2024),
//! which draws them from the same law.

use ndarray::{Array2, Axis, ShapeBuilder, s};
use rand::Rng as _;

use crate::error::Result;
use crate::kernel::{IndexedPoints, Kernel, index};
use crate::linalg::{PivotedCholesky, expect_finite_f64, matmul_f64, top_eigh, tr_matmul_f64};
use crate::matrix::Mat64;
use crate::operator::BLOCK;
use crate::rng::{Rng, stream};

/// Share of the trace below which nothing is left but rounding.
const ROUNDING: f64 = 1e-13;
/// `auto`: landmarks are enough when what they leave of the trace is below this share of μ_k.
const ENOUGH: f64 = 1e-4;

/// What ends the choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The most landmarks.
    pub(super) most: usize,
    /// k, where fewer will do as soon as they leave little beside μ_k.
    pub(super) components: Option<usize>,
}

/// Points among `x` as landmarks, with the Cholesky decomposition of their Gram matrix, whose `order` counts
/// rows of x, and Φ at all of x (n × m), K̂ = ΦΦᵀ. O(n m (d + m)) for n points and m landmarks, O(n m) memory.
///
/// # Errors
/// What the kernel reports, and values of it that are not finite.
pub(super) fn choose(
    kernel: &dyn Kernel,
    x: IndexedPoints<'_>,
    limit: Limit,
    seed: u64,
) -> Result<(PivotedCholesky, Mat64)> {
    let n = x.len();
    let most = limit.most.min(n);
    let mut rng = stream(seed, "randomly pivoted Cholesky", 0);
    let mut rest = index::diag(kernel, x)?;
    let trace: f64 = rest.iter().sum();
    let block = (most / 6).clamp(8, 128);
    // Column-major, so that leading columns lie in one piece.
    let mut factor: Mat64 = Array2::zeros((n, most).f());
    let mut order: Vec<usize> = Vec::with_capacity(most);
    let mut next_look = limit.components.map_or(usize::MAX, |k| 2 * k);
    while order.len() < most {
        let left: f64 = rest.iter().sum();
        if left.is_nan() || left <= ROUNDING * trace {
            break;
        }
        let k = limit.components.unwrap_or(1);
        // μ_k is at most what is captured over k.
        let worth_looking = left <= ENOUGH * (trace - left) / k as f64;
        if order.len() >= next_look && worth_looking {
            let leading = factor.slice(s![.., ..order.len()]);
            let moments = tr_matmul_f64(leading, leading)? / n as f64;
            let smallest = top_eigh(moments.view(), k)?.values.last().copied().unwrap_or(0.0);
            if left / n as f64 <= ENOUGH * smallest {
                break;
            }
            next_look = order.len() * 3 / 2;
        }
        let proposed = proposals(&rest, block, &mut rng);
        let done = order.len();
        let known = factor.slice(s![.., ..done]);
        let own = known.select(Axis(0), &proposed);
        let points = select(x, &proposed);
        let mut residual = Mat64::zeros((proposed.len(), proposed.len()));
        index::gram(kernel, points.indexed(), points.indexed(), residual.view_mut())?;
        residual -= &matmul_f64(own.view(), own.t())?;
        expect_finite_f64("kernel values between landmarks", residual.view())?;
        let bounds: Vec<f64> = proposed.iter().map(|&i| rest[i]).collect();
        let (accepted, lower) =
            rejected(residual, &bounds, most - done, ROUNDING * trace / n as f64, &mut rng);
        if accepted.is_empty() {
            // Only points whose rest is rounding were proposed.
            proposed.iter().for_each(|&i| rest[i] = 0.0);
            continue;
        }
        let chosen: Vec<usize> = accepted.iter().map(|&a| proposed[a]).collect();
        let points = select(x, &chosen);
        let own = known.select(Axis(0), &chosen);
        let pivots = PivotedCholesky::from_parts(chosen.clone(), &lower);
        for start in (0..n).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(n);
            let mut columns = gram(kernel, x.range(rows.clone()), points.indexed())?;
            let known = factor.slice(s![rows.clone(), ..done]);
            columns -= &matmul_f64(known, own.t())?;
            let columns = pivots.solve_rows(columns)?;
            for (rest, row) in rest[rows.clone()].iter_mut().zip(columns.outer_iter()) {
                *rest = (*rest - row.dot(&row)).max(0.0);
            }
            factor.slice_mut(s![rows, done..done + chosen.len()]).assign(&columns);
        }
        chosen.iter().for_each(|&i| rest[i] = 0.0);
        order.extend(chosen);
    }
    let m = order.len();
    let mut lower = factor.slice(s![.., ..m]).select(Axis(0), &order);
    for i in 0..m {
        lower.slice_mut(s![i, i + 1..]).fill(0.0);
    }
    let features = factor.slice(s![.., ..m]).as_standard_layout().into_owned();
    Ok((PivotedCholesky::from_parts(order, &lower), features))
}

/// Some points by their numbers.
struct Points {
    x: crate::matrix::Mat,
    rows: Option<Vec<usize>>,
}

impl Points {
    fn indexed(&self) -> IndexedPoints<'_> {
        IndexedPoints { x: self.x.view(), rows: self.rows.as_deref() }
    }
}

fn select(x: IndexedPoints<'_>, numbers: &[usize]) -> Points {
    let rows = x.rows.map(|rows| numbers.iter().map(|&i| rows[i]).collect());
    Points { x: x.x.select(Axis(0), numbers), rows }
}

fn gram(kernel: &dyn Kernel, x: IndexedPoints<'_>, y: IndexedPoints<'_>) -> Result<Mat64> {
    use rayon::prelude::*;
    const ROWS: usize = 64;
    let mut out = Mat64::zeros((x.len(), y.len()));
    let mut blocks: Vec<_> = out.axis_chunks_iter_mut(Axis(0), ROWS).enumerate().collect();
    blocks.par_iter_mut().try_for_each(|(block, out)| {
        let first = *block * ROWS;
        index::gram(kernel, x.range(first..first + out.nrows()), y, out.view_mut())
    })?;
    Ok(out)
}

/// `count` draws with probabilities proportional to `rest`, in the order drawn; a point may come again.
fn proposals(rest: &[f64], count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut sums = Vec::with_capacity(rest.len());
    let mut sum = 0.0;
    for value in rest {
        sum += value;
        sums.push(sum);
    }
    let mut drawn = Vec::with_capacity(count);
    for _ in 0..count {
        let target = unit(rng) * sum;
        let found = sums.partition_point(|s| *s <= target).min(rest.len() - 1);
        if rest[found] > 0.0 {
            drawn.push(found);
        }
    }
    drawn
}

/// Goes through the proposed points in order and accepts one with probability (what is left of it)/(what was
/// left when it was proposed). Returns the numbers of those accepted and their L.
fn rejected(
    mut residual: Mat64,
    bounds: &[f64],
    most: usize,
    floor: f64,
    rng: &mut Rng,
) -> (Vec<usize>, Mat64) {
    let b = bounds.len();
    let (mut accepted, mut columns) = (Vec::new(), Vec::new());
    for j in 0..b {
        let pivot = residual[(j, j)];
        if accepted.len() == most || unit(rng) * bounds[j] >= pivot || pivot <= floor {
            continue;
        }
        let column = residual.column(j).to_owned() / pivot.sqrt();
        for i in 0..b {
            let factor = column[i];
            residual.row_mut(i).scaled_add(-factor, &column);
        }
        accepted.push(j);
        columns.push(column);
    }
    let r = accepted.len();
    let lower =
        Mat64::from_shape_fn((r, r), |(i, j)| if j <= i { columns[j][accepted[i]] } else { 0.0 });
    (accepted, lower)
}

/// Uniform on [0, 1).
fn unit(rng: &mut Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_kernels::{Formula, rbf};
    use ndarray::array;

    #[test]
    fn the_factor_is_that_of_the_gram_matrix_of_what_was_chosen() {
        let x = Array2::from_shape_fn((400, 2), |(i, j)| ((i * 37 + j * 11) % 101) as f32 / 40.0);
        let limit = Limit { most: 40, components: None };
        let found = choose(&rbf(1.0), x.view().into(), limit, 3).unwrap().0;
        assert!(found.rank() > 20 && found.rank() <= 40);
        let chosen = x.select(Axis(0), &found.order);
        let want = gram(&rbf(1.0), chosen.view().into(), chosen.view().into()).unwrap();
        let lower = found.lower().unwrap();
        let got = matmul_f64(lower.view(), lower.t()).unwrap();
        let worst = (&got - &want).iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(worst < 1e-10, "{worst:e}");
        let mut unique = found.order.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), found.rank());
    }

    #[test]
    fn the_first_follows_the_diagonal_and_the_second_what_is_left() {
        // κ(x, y) = x·y in three orthogonal directions of squared lengths 1, 2, 5: no point changes another,
        // so that the pair {2, 3} has probability (2/8)(5/6) + (5/8)(2/3).
        let linear = Formula::new("linear", |a, b| a.iter().zip(b).map(|(a, b)| a * b).sum());
        let x = array![[1.0f32, 0.0, 0.0], [0.0, 2f32.sqrt(), 0.0], [0.0, 0.0, 5f32.sqrt()]];
        let limit = Limit { most: 2, components: None };
        let mut hits = 0;
        for seed in 0..4000 {
            let mut order = choose(&linear, x.view().into(), limit, seed).unwrap().0.order;
            order.sort_unstable();
            hits += usize::from(order == [1, 2]);
        }
        // 2,500 expected with a standard deviation of 31.
        let want = 4000.0 * (0.25 * 5.0 / 6.0 + 0.625 * 2.0 / 3.0);
        assert!((f64::from(hits as u32) - want).abs() < 125.0, "{hits}, {want}");
    }

    #[test]
    fn it_ends_where_nothing_is_left() {
        let x = Array2::from_shape_fn((60, 1), |(i, _)| (i % 3) as f32);
        let limit = Limit { most: 20, components: Some(1) };
        let found = choose(&rbf(0.3), x.view().into(), limit, 0).unwrap().0;
        assert!(found.rank() <= 3, "{}", found.rank());
        let again = choose(&rbf(0.3), x.view().into(), limit, 0).unwrap().0;
        assert_eq!(found.order, again.order);
    }
}
