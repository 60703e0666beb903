//! How images are cut into tiles.

use super::super::image::Stored;

/// Pixels of a tile along an axis.
pub(super) const SIDE: usize = 6;
/// Numbers that stand for a tile of one channel.
pub(in super::super) const POINTS: usize = SIDE * SIDE;

/// The tiles of a convolution from one image to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    /// r, the side of the kernel.
    pub(super) kernel: usize,
    pub(super) from: Stored,
    pub(super) to: Stored,
    /// Tiles along each axis.
    tiles: [usize; 2],
}

impl Tiling {
    pub(super) fn new(kernel: usize, from: Stored, to: Stored) -> Self {
        let tile = SIDE + 1 - kernel.min(SIDE);
        let tiles = [to.image.height.div_ceil(tile), to.image.width.div_ceil(tile)];
        Tiling { kernel, from, to, tiles }
    }

    /// Pixels that come out of a tile along an axis.
    pub(super) fn tile(&self) -> usize {
        SIDE + 1 - self.kernel
    }

    /// Tiles of an image.
    pub(super) fn per_image(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Height and width of an image with zeros around it, so that all tiles lie in it.
    pub(super) fn padded(&self) -> [usize; 2] {
        self.tiles.map(|tiles| tiles * self.tile() + self.kernel - 1)
    }

    /// The image of a tile, and its place there.
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        (image, [tile / self.tiles[1] * self.tile(), tile % self.tiles[1] * self.tile()])
    }
}
