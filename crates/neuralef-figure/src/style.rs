//! How figures look: the embedded fonts, text styles, colours, and the numbers on axes.

use plotters::prelude::*;
use plotters::style::register_font;

use super::{Result, undrawn};

/// Units of the backend for one pixel of the figure: its coordinates are whole numbers.
pub(super) const UNIT: i32 = 4;
/// Subset of the Inter typeface under the SIL Open Font License, see `assets/README.md`.
pub(super) const REGULAR: &[u8] = include_bytes!("../assets/FigureSans-Regular.otf");
/// Its semi-bold cut.
pub(super) const SEMIBOLD: &[u8] = include_bytes!("../assets/FigureSans-SemiBold.otf");
/// Families asked for: the embedded one in PNG files, the reader's own elsewhere.
const FAMILY: &str = "Figure Sans, Inter, Helvetica Neue, Helvetica, Arial, sans-serif";

/// Text.
pub(super) const INK: RGBColor = rgb(0x1b2430);
/// Secondary text.
const MUTED: RGBColor = rgb(0x5a6675);
/// Grid lines.
pub(super) const GRID: RGBColor = rgb(0xe7eaee);
/// Axis lines, and the line at zero.
pub(super) const AXIS: RGBColor = rgb(0xb4bcc5);

/// Classes that colour-blind readers can tell apart: Okabe and Ito's palette (2008) without its
/// yellow, which is lost on white, and four colours of Paul Tol's muted scheme.
const CLASSES: [u32; CLASS_COLOURS] = [
    0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0xd55e00, 0x56b4e9, 0x332288, 0x999933, 0x882255,
    0x7d8894,
];
/// How many classes have a colour of their own.
pub(super) const CLASS_COLOURS: usize = 10;
/// Blue through near-white to red.
const DIVERGING: [u32; 9] =
    [0x08306b, 0x1d65aa, 0x569bcf, 0xabcfe8, 0xf7f7f7, 0xfac9a8, 0xe6855c, 0xbe3a2d, 0x6e0620];

const fn rgb(code: u32) -> RGBColor {
    RGBColor((code >> 16) as u8, (code >> 8) as u8, code as u8)
}

/// Colour of class `index`, cycling.
pub(super) fn class(index: usize) -> RGBColor {
    rgb(CLASSES[index % CLASS_COLOURS])
}

/// Colour of a signed value in −1 … 1.
pub(super) fn diverging(value: f64) -> RGBColor {
    DerivedColorMap::new(&DIVERGING.map(rgb)).get_color_normalized(value, -1.0, 1.0)
}

/// Makes the fonts known to the drawing library.
pub(super) fn register_fonts() -> Result<()> {
    for (style, font) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, SEMIBOLD)] {
        register_font(FAMILY, style, font).map_err(|_| undrawn("the embedded font is damaged"))?;
    }
    Ok(())
}

/// Size in pixels, weight and colour of text.
pub(super) type Type = (f64, FontStyle, &'static RGBColor);
/// Heading of a page.
pub(super) const TITLE: Type = (19.0, FontStyle::Bold, &INK);
/// Heading of a part of a page.
pub(super) const PART: Type = (14.5, FontStyle::Bold, &INK);
/// The line under a heading.
pub(super) const NOTE: Type = (13.0, FontStyle::Normal, &MUTED);
/// Names of axes, legends.
pub(super) const LABEL: Type = (13.0, FontStyle::Normal, &INK);
/// Numbers on axes.
pub(super) const TICK: Type = (12.0, FontStyle::Normal, &MUTED);

/// The text style; the library takes the height of a line, 1.24 times the size of the type.
pub(super) fn text((size, weight, colour): Type) -> TextStyle<'static> {
    TextStyle::from((FAMILY, 1.24 * size * f64::from(UNIT), weight)).color(colour)
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
