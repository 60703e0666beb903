//! Checksums that tell inputs apart: of data, of networks, of files. Not cryptographic.

use crate::data::Dataset;
use crate::error::Result;
use crate::matrix::MatRef;
use crate::nn::Network;

/// Rows of data read at a time, about this many bytes.
const BYTES: usize = 1 << 20;
/// Points at which the values of a network enter its checksum.
pub(super) const POINTS: usize = 8;

/// A running checksum of 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(super) fn word(&mut self, word: u64) {
        // FNV's step on eight bytes, turned so that high bits reach low ones.
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.word(u64::from(*byte)));
    }

    pub(super) fn numbers<'a>(&mut self, values: impl IntoIterator<Item = &'a f32>) {
        values.into_iter().for_each(|v| self.word(u64::from(v.to_bits())));
    }

    pub(super) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Of every value: features of other points must not be taken for those of these.
///
/// # Errors
/// What a mapped file reports.
pub(crate) fn of_data(data: &Dataset) -> Result<String> {
    let mut digest = Digest::default();
    digest.word(data.len() as u64);
    digest.word(data.width() as u64);
    let rows = (BYTES / (4 * data.width())).max(1);
    for start in (0..data.len()).step_by(rows) {
        digest.numbers(&data.range(start..(start + rows).min(data.len()))?);
    }
    Ok(digest.text())
}

/// Of its parameters, and of its values at the first of `x`: what it computes with them.
///
/// # Errors
/// What the network reports.
pub(super) fn of_network(network: &dyn Network, x: MatRef<'_>) -> Result<String> {
    let mut digest = Digest::default();
    for unit in network.parameters().units() {
        digest.word(unit.len() as u64);
        digest.numbers(unit);
    }
    digest.numbers(&network.forward(x.slice(ndarray::s![..POINTS.min(x.nrows()), ..]), None)?);
    Ok(digest.text())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::nn::NetworkSpec;

    #[test]
    fn one_number_anywhere_makes_another_digest() {
        let x = crate::Mat::from_shape_fn((40_000, 8), |(i, j)| (i * 8 + j) as f32);
        let of = |x: &crate::Mat| of_data(&Dataset::from_array("x", x.clone()).unwrap()).unwrap();
        let first = of(&x);
        for (row, column) in [(0, 0), (32_768, 3), (39_999, 7)] {
            let mut other = x.clone();
            other[[row, column]] += 0.5;
            assert_ne!(of(&other), first);
        }
        assert_ne!(of(&x.clone().into_shape_with_order((80_000, 4)).unwrap()), first);
        assert_eq!(of(&x), first);
    }

    #[test]
    fn networks_differ_by_weights_and_by_what_they_do_with_them() {
        let x = array![[0.3f32, -0.2], [1.0, 0.5]];
        let of = |text: &str, seed| {
            let network = text.parse::<NetworkSpec>().unwrap().build(2, 1, 1, seed).unwrap();
            of_network(&*network, x.view()).unwrap()
        };
        // The same law, so the same weights.
        let first = of("mlp(hidden=[8], activation=relu, init=he)", 0);
        assert_ne!(of("mlp(hidden=[8], activation=gelu, init=he)", 0), first);
        assert_ne!(of("mlp(hidden=[8], activation=relu, init=he)", 1), first);
        assert_eq!(of("mlp(hidden=[8], activation=relu, init=he)", 0), first);
    }

    #[test]
    fn bytes_know_where_they_end() {
        let of = |pieces: &[&[u8]]| {
            let mut digest = Digest::default();
            pieces.iter().for_each(|p| digest.bytes(p));
            digest.text()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[&[0; 8]]), of(&[&[0; 9]]));
    }
}
