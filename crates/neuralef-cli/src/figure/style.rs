//! How figures look: the embedded fonts, text styles, colours, and the numbers on axes.

use plotters::prelude::*;
use plotters::style::register_font;

use super::{Result, undrawn};

/// Units of the backend for one pixel of the figure: its coordinates are whole numbers.
pub(super) const UNIT: i32 = 4;
/// Subset of the Inter typeface under the SIL Open Font License, see `assets/README.md`.
pub(super) const REGULAR: &[u8] = include_bytes!("../../assets/FigureSans-Regular.otf");
/// Its semi-bold cut.
pub(super) const SEMIBOLD: &[u8] = include_bytes!("../../assets/FigureSans-SemiBold.otf");
/// Families asked for: the embedded one in PNG files, the reader's own elsewhere.
const FAMILY: &str = "Figure Sans, Inter, Helvetica Neue, Helvetica, Arial, sans-serif";

/// Text.
pub(super) const INK: RGBColor = RGBColor(27, 36, 48);
/// Secondary text.
const MUTED: RGBColor = RGBColor(90, 102, 117);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(231, 234, 238);
/// Axis lines, and the line at zero.
pub(super) const AXIS: RGBColor = RGBColor(180, 188, 197);

/// Ten classes that colour-blind readers can tell apart: Okabe and Ito's palette (2008) without its
/// yellow, which is lost on white, and four colours of Paul Tol's muted scheme.
pub(super) const CLASSES: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(51, 34, 136),
    RGBColor(153, 153, 51),
    RGBColor(136, 34, 85),
    RGBColor(125, 136, 148),
];

/// Colour of class `index`, cycling.
pub(super) fn class(index: usize) -> RGBColor {
    CLASSES[index % CLASSES.len()]
}

/// Colour of a signed value in −1 … 1: blue through near-white to red.
pub(super) fn diverging(value: f64) -> RGBColor {
    DerivedColorMap::new(&[
        RGBColor(8, 48, 107),
        RGBColor(29, 101, 170),
        RGBColor(86, 155, 207),
        RGBColor(171, 207, 232),
        RGBColor(247, 247, 247),
        RGBColor(250, 201, 168),
        RGBColor(230, 133, 92),
        RGBColor(190, 58, 45),
        RGBColor(110, 6, 32),
    ])
    .get_color_normalized(value, -1.0, 1.0)
}

/// Makes the fonts known to the drawing library.
pub(super) fn register_fonts() -> Result<()> {
    for (style, font) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, SEMIBOLD)] {
        register_font(FAMILY, style, font).map_err(|_| undrawn("the embedded font is damaged"))?;
    }
    Ok(())
}

fn text(size: f64, style: FontStyle, colour: &'static RGBColor) -> TextStyle<'static> {
    // The library takes the height of a line and has 1.24 of it to the size of the type.
    TextStyle::from((FAMILY, 1.24 * size * f64::from(UNIT), style)).color(colour)
}

/// Heading of a page.
pub(super) fn title() -> TextStyle<'static> {
    text(19.0, FontStyle::Bold, &INK)
}

/// Heading of a part of a page.
pub(super) fn part() -> TextStyle<'static> {
    text(14.5, FontStyle::Bold, &INK)
}

/// The line under a heading.
pub(super) fn note() -> TextStyle<'static> {
    text(13.0, FontStyle::Normal, &MUTED)
}

/// Names of axes, legends.
pub(super) fn label() -> TextStyle<'static> {
    text(13.0, FontStyle::Normal, &INK)
}

/// Numbers on axes.
pub(super) fn tick() -> TextStyle<'static> {
    text(12.0, FontStyle::Normal, &MUTED)
}

/// A number for an axis whose ticks are `step` apart: `−0.25`, `2.5×10⁸`.
pub(super) fn number(value: f64, step: f64) -> String {
    if value.abs() < 1e-9 * step {
        return "0".to_string();
    }
    let exponent = value.abs().log10().floor();
    let plain = (-4.0..6.0).contains(&exponent);
    let scale = if plain { 1.0 } else { 10f64.powf(exponent) };
    let decimals = (-1e-9 - (step / scale).log10()).ceil().clamp(0.0, 9.0) as usize;
    let digits = format!("{:.decimals$}", value / scale).replace('-', "−");
    if plain { digits } else { format!("{digits}×{}", power_of_ten(exponent as i32)) }
}

/// `10⁻³`.
pub(super) fn power_of_ten(exponent: i32) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = exponent.to_string();
    let raise = |c: char| c.to_digit(10).map_or('⁻', |d| digits[d as usize]);
    format!("10{}", raised.chars().map(raise).collect::<String>())
}
