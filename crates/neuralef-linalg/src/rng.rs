//! Named random streams: one ChaCha stream per (seed, component, counter), so that no component's
//! draws depend on how many another one made, and any step of a run can be redrawn on its own.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// The generator used throughout: portable, counter-based, the same bits on every machine.
pub type Rng = ChaCha8Rng;

/// The stream of `component` number `counter` under `seed`.
pub fn stream(seed: u64, component: &str, counter: u64) -> Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(component.as_bytes()).to_le_bytes());
    key[16..24].copy_from_slice(&counter.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Fills `values` with standard normal numbers.
pub fn fill_normal(rng: &mut Rng, values: &mut [f32]) {
    values.iter_mut().for_each(|v| {
        let z: f64 = StandardNormal.sample(rng);
        *v = z as f32;
    });
}

/// FNV-1a, 64 bit: a fixed hash of the component's name (std's hasher is not stable across builds).
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    #[test]
    fn streams_differ_by_seed_component_and_counter() {
        let first = |s, c, n| stream(s, c, n).next_u64();
        assert_eq!(first(1, "batch", 0), first(1, "batch", 0));
        assert_ne!(first(1, "batch", 0), first(2, "batch", 0));
        assert_ne!(first(1, "batch", 0), first(1, "init", 0));
        assert_ne!(first(1, "batch", 0), first(1, "batch", 1));
    }
}
