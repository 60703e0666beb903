//! Decompositions and products, which are a crate of their own.

pub(crate) use neuralef_linalg::linalg::*;

#[cfg(test)]
pub(crate) mod tests {
    //! The matrices that tests share.

    use rand::Rng as _;

    use crate::matrix::Mat64;

    /// m × n, uniform on [−1, 1].
    pub(crate) fn random(m: usize, n: usize, seed: u64) -> Mat64 {
        let mut rng = crate::rng::stream(seed, "linalg tests", 0);
        Mat64::from_shape_simple_fn((m, n), || rng.next_u64() as i64 as f64 / 2f64.powi(63))
    }
}
