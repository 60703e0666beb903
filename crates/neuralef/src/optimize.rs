//! Searches in one variable.

use crate::error::Result;

/// Where `f` is smallest between `a` and `b`, to within `accuracy`, by golden sections: the smallest
/// value if `f` has one minimum there.
///
/// # Errors
/// The first of `f`.
pub(crate) fn golden_section(
    (mut a, mut b): (f64, f64),
    accuracy: f64,
    f: impl Fn(f64) -> Result<f64>,
) -> Result<f64> {
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    let (mut c, mut d) = (b - ratio * (b - a), a + ratio * (b - a));
    let (mut fc, mut fd) = (f(c)?, f(d)?);
    while b - a > accuracy {
        if fc < fd {
            (b, d, fd) = (d, c, fc);
            c = b - ratio * (b - a);
            fc = f(c)?;
        } else {
            (a, c, fc) = (c, d, fd);
            d = a + ratio * (b - a);
            fd = f(d)?;
        }
    }
    Ok(0.5 * (a + b))
}
