//! The shape of a convolutional network: sizes of its layers, and which pairs of positions count.

use std::ops::Range;

/// Rows and columns of a grid of positions, or of a window on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) h: usize,
    pub(super) w: usize,
}

impl Size {
    /// As high as wide.
    pub(super) fn square(side: usize) -> Self {
        Size { h: side, w: side }
    }

    /// Positions.
    pub(super) fn area(self) -> usize {
        self.h * self.w
    }

    /// The rows and columns of the positions p for which p and p + (dy, dx) are both on the grid.
    pub(super) fn shared(self, (dy, dx): Offset) -> (Range<usize>, Range<usize>) {
        let range = |n: usize, d: isize| {
            let back = d.unsigned_abs();
            if d < 0 { back.min(n)..n } else { 0..n.saturating_sub(back) }
        };
        (range(self.h, dy), range(self.w, dx))
    }

    /// The index of position (y, x) moved by an offset that keeps it on the grid.
    #[inline(always)]
    pub(super) fn moved(self, (y, x): (usize, usize), (dy, dx): Offset) -> usize {
        y.wrapping_add_signed(dy) * self.w + x.wrapping_add_signed(dx)
    }
}

/// Rows and columns from a position in one image to a position in the other.
pub(super) type Offset = (isize, isize);

/// Some offsets: the product of two increasing lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) rows: Vec<isize>,
    pub(super) columns: Vec<isize>,
}

impl Offsets {
    /// Nothing but each position with itself.
    fn none() -> Self {
        Offsets { rows: vec![0], columns: vec![0] }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// All of them, row by row.
    pub(super) fn iter(&self) -> impl Iterator<Item = Offset> {
        self.rows.iter().flat_map(|y| self.columns.iter().map(|x| (*y, *x)))
    }

    /// The place of an offset in that order, if it is one of these.
    pub(super) fn find(&self, (y, x): Offset) -> Option<usize> {
        let row = self.rows.binary_search(&y).ok()?;
        Some(row * self.columns.len() + self.columns.binary_search(&x).ok()?)
    }

    /// What these are on the finer grid that a layer of this stride reads.
    fn strided(&self, by: isize) -> Self {
        let scale = |of: &[isize]| of.iter().map(|d| d * by).collect();
        Offsets { rows: scale(&self.rows), columns: scale(&self.columns) }
    }

    /// The offsets on a grid of `size` between the members of windows that are these apart.
    fn unpooled(&self, pool: Size, size: Size) -> Self {
        let spread = |of: &[isize], window: usize, n: usize| {
            let (window, n) = (window as isize, n as isize);
            let within = |d: &isize| {
                let centre = d * window;
                (1 - window..window).map(move |e| centre + e)
            };
            let mut all: Vec<_> = of.iter().flat_map(within).filter(|d| d.abs() < n).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        Offsets {
            rows: spread(&self.rows, pool.h, size.h),
            columns: spread(&self.columns, pool.w, size.w),
        }
    }
}

/// A convolution, the activation after it, and the average pooling after that.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub(super) input: Size,
    pub(super) kernel: Size,
    pub(super) stride: usize,
    /// Rows above and columns to the left that padding adds.
    pub(super) before: Size,
    /// The input with its padding.
    pub(super) padded: Size,
    pub(super) output: Size,
    /// Variance of the weights times fan_in, divided by the positions of the kernel.
    pub(super) share: f64,
    pub(super) bias: f64,
    /// Windows of the pooling, side by side; what is left at the right and the bottom is dropped.
    pub(super) pool: Size,
    pub(super) pooled: Size,
}

/// Stages up to a pooling, or to the end. Within, every offset is on its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) stages: Range<usize>,
    /// Product of the strides.
    pub(super) step: isize,
    /// The offsets that count before the pooling.
    pub(super) inner: Offsets,
    /// And after it.
    pub(super) outer: Offsets,
}

/// Stage after stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Geometry {
    pub(super) stages: Vec<Stage>,
    pub(super) segments: Vec<Segment>,
}

/// One convolution as users give it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layer {
    pub(super) kernel: Size,
    pub(super) stride: usize,
    /// Zero padding to ⌈size/stride⌉ positions: ⌊(k − 1)/2⌋ before and the rest of k − 1 after.
    pub(super) same: bool,
    pub(super) pool: Size,
    /// Whether the mean over all windows of the pooling comes after it.
    pub(super) average: bool,
    pub(super) weight: f64,
    pub(super) bias: f64,
}

impl Layer {
    /// Dense: the kernel is the whole grid.
    pub(super) fn dense(grid: Size, weight: f64, bias: f64) -> Self {
        let (stride, same, pool, average) = (1, false, Size::square(1), false);
        Layer { kernel: grid, stride, same, pool, average, weight, bias }
    }
}

impl Geometry {
    /// The positions that the last stage leaves.
    pub(super) fn last(&self, image: Size) -> Size {
        self.stages.last().map_or(image, |s| s.pooled)
    }

    /// Adds a stage. `Err` holds what does not fit, and the grid.
    pub(super) fn push(&mut self, image: Size, layer: Layer) -> Result<(), (Window, Size)> {
        let (input, kernel) = (self.last(image), layer.kernel);
        let (before, padded) = if layer.same {
            let before = Size { h: (kernel.h - 1) / 2, w: (kernel.w - 1) / 2 };
            (before, Size { h: input.h + kernel.h - 1, w: input.w + kernel.w - 1 })
        } else {
            (Size { h: 0, w: 0 }, input)
        };
        if kernel.h > padded.h || kernel.w > padded.w {
            return Err((Window::Kernel, input));
        }
        let count = |padded: usize, kernel: usize| (padded - kernel) / layer.stride + 1;
        let output = Size { h: count(padded.h, kernel.h), w: count(padded.w, kernel.w) };
        let mut pool = layer.pool;
        let mut pooled = Size { h: output.h / pool.h, w: output.w / pool.w };
        if pooled.area() == 0 {
            return Err((Window::Pool, output));
        }
        if layer.average {
            // The mean of means over all windows is the mean over their union.
            pool = Size { h: pool.h * pooled.h, w: pool.w * pooled.w };
            pooled = Size::square(1);
        }
        self.stages.push(Stage {
            input,
            kernel,
            stride: layer.stride,
            before,
            padded,
            output,
            share: layer.weight / kernel.area() as f64,
            bias: layer.bias,
            pool,
            pooled,
        });
        Ok(())
    }

    /// Works out, from the end, which offsets each segment needs.
    pub(super) fn finish(&mut self) {
        let mut outer = Offsets::none();
        let mut end = self.stages.len();
        self.segments.clear();
        while end > 0 {
            let start = (1..end).rev().find(|s| self.stages[s - 1].pool.area() > 1).unwrap_or(0);
            let last = &self.stages[end - 1];
            let inner = outer.unpooled(last.pool, last.output);
            // Where the product is beyond the grid, the only offset left is 0.
            let strides = self.stages[start..end].iter().map(|s| s.stride as isize);
            let step = strides.fold(1, isize::saturating_mul);
            let before = inner.strided(step);
            self.segments.push(Segment { stages: start..end, step, inner, outer });
            (outer, end) = (before, start);
        }
        self.segments.reverse();
    }

    /// Numbers that a pair of points is worked out in: what is kept from one segment to the next,
    /// twice.
    pub(super) fn numbers(&self) -> usize {
        let kept = |s: &Segment| s.outer.len() * self.stages[s.stages.end - 1].pooled.area();
        2 * self.segments.windows(2).map(|pair| kept(&pair[0]) + kept(&pair[1])).max().unwrap_or(0)
    }
}

/// What does not fit on a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    Kernel,
    Pool,
}
