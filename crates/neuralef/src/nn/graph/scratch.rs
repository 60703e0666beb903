//! Memory that a task uses again for one convolution after another.

/// Working storage of a task.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Images with zeros around them.
    pub(super) padded: Vec<f32>,
    /// Where windows begin.
    pub(super) bases: Vec<usize>,
    /// Numbers of one group of channels, or of tiles.
    pub(super) group: Vec<f32>,
    /// Beside these, their products or slopes.
    pub(super) other: Vec<f32>,
    /// Packed operands of products.
    pub(super) packing: Vec<f32>,
}
