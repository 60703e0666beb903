//! How much memory a network takes, before it is built.

/// The size of a network that may not be built yet. Numbers beyond `u64` are its largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkSize {
    /// Number of parameters in all.
    pub parameters: u64,
    /// p, the [`hidden_width`](super::Network::hidden_width).
    pub hidden: u64,
    /// Values that a forward pass keeps for each row of a batch.
    pub activations: u64,
    /// Numbers in the [`contracted_jacobian`](super::contracted_jacobian) for k weights.
    pub jacobian: u64,
    /// Numbers that a pass holds beside these, whatever the batch.
    pub working: u64,
    /// The most segments of a batch whose gradients, each as large as the parameters, are held to be
    /// added up.
    pub segments: u64,
    /// The rows that a segment is whole multiples of.
    pub block: u64,
}
