//! Colours that stay apart for colour-blind readers: classes, quantities, signed values.

/// Text.
pub(super) const INK: &str = "#1b2430";
/// Secondary text.
pub(super) const MUTED: &str = "#5a6675";
/// Grid lines.
pub(super) const GRID: &str = "#e7eaee";
/// Axis lines.
pub(super) const AXIS: &str = "#aab3bd";
/// The zero line of a plot of signed values.
pub(super) const ZERO: &str = "#c9d0d8";

/// Ten classes: Okabe and Ito's palette (2008) without its yellow, which is lost on white, and
/// four colours of Paul Tol's muted scheme.
pub(super) const CLASSES: [&str; 10] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#332288", "#999933",
    "#882255", "#7d8894",
];

/// Colour of class `index`, cycling.
pub(super) fn class(index: usize) -> &'static str {
    CLASSES[index % CLASSES.len()]
}

/// Blue through near-white to red.
const DIVERGING: [[f64; 3]; 9] = [
    [8.0, 48.0, 107.0],
    [29.0, 101.0, 170.0],
    [86.0, 155.0, 207.0],
    [171.0, 207.0, 232.0],
    [247.0, 247.0, 247.0],
    [250.0, 201.0, 168.0],
    [230.0, 133.0, 92.0],
    [190.0, 58.0, 45.0],
    [110.0, 6.0, 32.0],
];

/// Dark violet through green to yellow, of evenly rising lightness.
const SEQUENTIAL: [[f64; 3]; 7] = [
    [68.0, 1.0, 84.0],
    [68.0, 57.0, 131.0],
    [49.0, 104.0, 142.0],
    [33.0, 145.0, 140.0],
    [53.0, 183.0, 121.0],
    [144.0, 215.0, 67.0],
    [236.0, 220.0, 40.0],
];

fn interpolate(anchors: &[[f64; 3]], t: f64) -> [u8; 3] {
    let position = t.clamp(0.0, 1.0) * (anchors.len() - 1) as f64;
    let low = (position.floor() as usize).min(anchors.len() - 2);
    let weight = position - low as f64;
    let (a, b) = (anchors[low], anchors[low + 1]);
    [0, 1, 2].map(|c| (a[c] + weight * (b[c] - a[c])).round() as u8)
}

/// Colour of a signed value in units of the largest one: −1 … 1.
pub(super) fn diverging(value: f64) -> [u8; 3] {
    interpolate(&DIVERGING, 0.5 + 0.5 * value)
}

/// Colour of a quantity between its least (0) and its largest (1) value.
pub(super) fn sequential(value: f64) -> [u8; 3] {
    interpolate(&SEQUENTIAL, value)
}

/// `#rrggbb`.
pub(super) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
