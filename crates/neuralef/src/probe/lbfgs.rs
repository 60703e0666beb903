//! L-BFGS for smooth convex functions (Liu & Nocedal 1989), with a preconditioner.

use std::collections::VecDeque;

use crate::error::{Error, Result};

/// Steps that the approximation of the Hessian remembers.
const MEMORY: usize = 10;
/// Most evaluations of one line search.
const TRIALS: usize = 40;
/// Of the strong Wolfe conditions: enough decrease, and how much flatter the end of a step must be.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Relative rounding error of the objective, by which the decrease may be missed.
const ROUNDING: f64 = 1e-13;

/// A value with its gradient.
pub(super) type Evaluated = (f64, Vec<f64>);

/// Where the iteration ended.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    pub(super) at: Vec<f64>,
    pub(super) value: f64,
    /// Largest |entry| of the gradient there.
    pub(super) gradient_norm: f64,
    pub(super) iterations: usize,
    pub(super) evaluations: usize,
    /// False when steps ran out, or when rounding ended all progress, before `tol` was reached.
    pub(super) converged: bool,
}

/// Minimises a convex function from `start` until the largest entry of the gradient is at most
/// `tol`, in at most `max_iter` steps. `precondition` is a fixed positive definite approximation of
/// the inverse Hessian, up to a factor.
///
/// The slope along a line grows monotonically in a convex function, so line searches bracket the
/// zero of the slope, which rounding spoils much later than differences of values.
///
/// # Errors
/// [`Error::Numerical`] when the function is not finite at `start`; those of its arguments.
pub(super) fn minimise(
    start: Vec<f64>,
    tol: f64,
    max_iter: usize,
    mut objective: impl FnMut(&[f64]) -> Result<Evaluated>,
    precondition: impl Fn(&[f64]) -> Result<Vec<f64>>,
) -> Result<Minimum> {
    let (value, mut gradient) = objective(&start)?;
    if !value.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
        let message = format!("the objective at the start is {value}, or its gradient not finite");
        return Err(Error::Numerical { what: "L-BFGS".into(), message });
    }
    let gradient_norm = largest(&gradient);
    let converged = gradient_norm <= tol;
    let mut state =
        Minimum { at: start, value, gradient_norm, iterations: 0, evaluations: 1, converged };
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY + 1);
    while !state.converged && state.iterations < max_iter {
        let mut direction = descent(&memory, &gradient, &precondition)?;
        if dot(&direction, &gradient).is_nan() || dot(&direction, &gradient) >= 0.0 {
            memory.clear();
            direction = descent(&memory, &gradient, &precondition)?;
        }
        let Some((at, (value, next))) = search(&mut state, &gradient, &direction, &mut objective)?
        else {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        };
        let s: Vec<f64> = at.iter().zip(&state.at).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > f64::EPSILON * dot(&y, &y).sqrt() * dot(&s, &s).sqrt() {
            let scale = curvature / dot(&y, &precondition(&y)?);
            memory.push_back(Pair { s, y, curvature, scale });
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        (state.at, state.value, gradient) = (at, value, next);
        state.gradient_norm = largest(&gradient);
        state.iterations += 1;
        state.converged = state.gradient_norm <= tol;
    }
    Ok(state)
}

/// A step s, the change y of the gradient over it, sᵀy, and the scale of the preconditioner.
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    curvature: f64,
    scale: f64,
}

/// −H·gradient by the two-loop recursion.
fn descent(
    memory: &VecDeque<Pair>,
    gradient: &[f64],
    precondition: &impl Fn(&[f64]) -> Result<Vec<f64>>,
) -> Result<Vec<f64>> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let alpha = dot(&pair.s, &q) / pair.curvature;
        q.iter_mut().zip(&pair.y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    let scale = memory.back().map_or(1.0, |pair| pair.scale);
    let mut r = precondition(&q)?;
    r.iter_mut().for_each(|r| *r *= scale);
    for (pair, alpha) in memory.iter().zip(alphas.iter().rev()) {
        let beta = dot(&pair.y, &r) / pair.curvature;
        r.iter_mut().zip(&pair.s).for_each(|(r, s)| *r += (alpha - beta) * s);
    }
    Ok(r)
}

/// A step along `direction` that satisfies the strong Wolfe conditions (the decrease up to
/// rounding); none when there is no such step within reach.
fn search(
    state: &mut Minimum,
    gradient: &[f64],
    direction: &[f64],
    objective: &mut impl FnMut(&[f64]) -> Result<Evaluated>,
) -> Result<Option<(Vec<f64>, Evaluated)>> {
    let start = dot(gradient, direction);
    if start.is_nan() || start >= 0.0 {
        return Ok(None);
    }
    // The slope vanishes between `low`, where it is negative, and `high`.
    let (mut low, mut high): ((f64, f64), Option<(f64, f64)>) = ((0.0, start), None);
    let mut step = 1.0;
    for _ in 0..TRIALS {
        let at: Vec<f64> = state.at.iter().zip(direction).map(|(x, d)| x + step * d).collect();
        if at == state.at {
            break;
        }
        let (value, gradient) = objective(&at)?;
        state.evaluations += 1;
        let slope = dot(&gradient, direction);
        let slack = ROUNDING * state.value.abs();
        let decreases = value <= state.value + DECREASE * step * start + slack;
        if decreases && slope.abs() <= CURVATURE * start.abs() {
            return Ok(Some((at, (value, gradient))));
        }
        if decreases && slope < 0.0 {
            low = (step, slope);
        } else {
            high = Some((step, slope));
        }
        step = match high {
            None => 4.0 * step,
            Some((end, slope)) => {
                let width = end - low.0;
                let secant = if slope > 0.0 { low.1 / (low.1 - slope) } else { 0.5 };
                low.0 + width * if secant.is_nan() { 0.5 } else { secant.clamp(0.1, 0.9) }
            }
        };
    }
    Ok(None)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ aᵢ(xᵢ − 1)²/2 with a from 1 to 10⁴, and no preconditioner.
    #[test]
    fn an_ill_conditioned_quadratic() {
        let n = 12;
        let a: Vec<f64> = (0..n).map(|i| 10f64.powf(4.0 * i as f64 / (n - 1) as f64)).collect();
        let objective = |x: &[f64]| {
            let value = x.iter().zip(&a).map(|(x, a)| a * (x - 1.0).powi(2) / 2.0).sum();
            Ok((value, x.iter().zip(&a).map(|(x, a)| a * (x - 1.0)).collect()))
        };
        let found = minimise(vec![0.0; n], 1e-10, 500, objective, |g| Ok(g.to_vec())).unwrap();
        // SciPy's L-BFGS-B, with as long a memory, takes 367 steps and 398 evaluations.
        assert!(found.converged && found.evaluations < 440, "{found:?}");
        assert!(found.at.iter().all(|x| (x - 1.0).abs() < 1e-9));
        // The inverse Hessian as preconditioner is Newton's method.
        let newton = |g: &[f64]| Ok(g.iter().zip(&a).map(|(g, a)| g / a).collect());
        let found = minimise(vec![0.0; n], 1e-10, 500, objective, newton).unwrap();
        assert!(found.converged && found.iterations == 1, "{found:?}");
    }

    /// √(1 + x²) is flat far out, x⁴ steep: steps of 1 are far too short, or too long.
    #[test]
    fn line_searches_lengthen_and_shorten() {
        let flat = |x: &[f64]| Ok((x[0].hypot(1.0), vec![x[0] / x[0].hypot(1.0)]));
        let found = minimise(vec![1e4], 1e-10, 100, flat, |g| Ok(g.to_vec())).unwrap();
        assert!(found.converged && found.at[0].abs() < 1e-10, "{found:?}");
        let steep = |x: &[f64]| Ok((x[0].powi(4), vec![4.0 * x[0].powi(3)]));
        let found = minimise(vec![1e3], 1e-9, 200, steep, |g| Ok(g.to_vec())).unwrap();
        assert!(found.converged && found.at[0].abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn running_out_of_steps_is_told() {
        let steep = |x: &[f64]| Ok((x[0].powi(4), vec![4.0 * x[0].powi(3)]));
        let found = minimise(vec![1e3], 1e-9, 2, steep, |g| Ok(g.to_vec())).unwrap();
        assert!(!found.converged && found.iterations == 2);
        assert_eq!(found.gradient_norm, (4.0 * found.at[0].powi(3)).abs());
        // A tolerance that rounding never reaches ends by itself.
        let odd = |x: &[f64]| Ok(((x[0] - 0.1).powi(2), vec![2.0 * (x[0] - 0.1) + 1e-17]));
        let found = minimise(vec![3.0], 0.0, 1000, odd, |g| Ok(g.to_vec())).unwrap();
        assert!(!found.converged && found.iterations < 100 && found.gradient_norm < 1e-15);
        let bad = |_: &[f64]| Ok((f64::NAN, vec![0.0]));
        assert!(minimise(vec![0.0], 1e-9, 10, bad, |g| Ok(g.to_vec())).is_err());
    }
}
