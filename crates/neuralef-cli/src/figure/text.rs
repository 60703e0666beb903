//! Type: the embedded fonts, the text styles of all figures, and the width of a line of text.

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use super::canvas::Canvas;
use super::colour::{INK, MUTED};

/// Subset of the Inter typeface under the SIL Open Font License, see `assets/README.md`.
pub(super) const REGULAR: &[u8] = include_bytes!("../../assets/FigureSans-Regular.otf");
/// Its semi-bold cut.
pub(super) const SEMIBOLD: &[u8] = include_bytes!("../../assets/FigureSans-SemiBold.otf");
/// Families asked for: the embedded one in PNG files, the reader's own elsewhere.
pub(super) const FAMILY: &str = "Figure Sans, Inter, Helvetica Neue, Helvetica, Arial, sans-serif";

/// Where a line of text is anchored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line of text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) semibold: bool,
    pub(super) colour: &'static str,
    pub(super) anchor: Anchor,
}

impl Style {
    pub(super) const fn anchored(self, anchor: Anchor) -> Self {
        Style { anchor, ..self }
    }
}

const fn style(size: f64, semibold: bool, colour: &'static str) -> Style {
    Style { size, semibold, colour, anchor: Anchor::Start }
}

/// Heading of a page.
pub(super) const TITLE: Style = style(19.0, true, INK);
/// Heading of a part.
pub(super) const PART: Style = style(14.5, true, INK);
/// The line under a heading.
pub(super) const NOTE: Style = style(13.0, false, MUTED);
/// Axis labels, legends.
pub(super) const LABEL: Style = style(13.0, false, INK);
/// Tick labels.
pub(super) const TICK: Style = style(12.0, false, MUTED);

/// Width of a line in pixels, in the embedded font.
pub(super) fn width(line: &str, style: Style) -> f64 {
    let bytes = if style.semibold { SEMIBOLD } else { REGULAR };
    let Ok(font) = FontRef::new(bytes) else {
        return 0.6 * style.size * line.chars().count() as f64;
    };
    let metrics = font.glyph_metrics(Size::new(style.size as f32), LocationRef::default());
    let glyphs = font.charmap();
    line.chars()
        .map(|c| {
            let advance = glyphs.map(c).and_then(|glyph| metrics.advance_width(glyph));
            advance.map_or(0.6 * style.size, f64::from)
        })
        .sum()
}

/// Heading and note of a part of a page, downwards from `y`.
pub(super) fn heading(canvas: &mut Canvas, x: f64, y: f64, title: &str, note: &str) {
    canvas.text(x, y + 12.0, title, PART);
    canvas.text(x, y + 31.0, note, NOTE);
}

/// A number for an axis whose ticks are `step` apart.
pub(super) fn number(value: f64, step: f64) -> String {
    if value.abs() < 1e-9 * step.abs() {
        return "0".to_string();
    }
    let magnitude = value.abs().log10().floor();
    if (-4.0..6.0).contains(&magnitude) {
        let decimals = decimals(step);
        return minus(format!("{value:.decimals$}"));
    }
    let scale = 10f64.powf(magnitude);
    let decimals = decimals(step / scale).min(6);
    let mantissa = minus(format!("{:.decimals$}", value / scale));
    format!("{mantissa}×{}", power_of_ten(magnitude as i32))
}

/// Decimals that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    let exponent = step.abs().log10().floor();
    let mantissa = step.abs() / 10f64.powf(exponent);
    let extra = if (mantissa - mantissa.round()).abs() > 1e-6 { 1.0 } else { 0.0 };
    (extra - exponent).clamp(0.0, 9.0) as usize
}

/// `10⁻³`.
pub(super) fn power_of_ten(exponent: i32) -> String {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let exponent = exponent.to_string();
    let raised = exponent
        .chars()
        .map(|c| c.to_digit(10).and_then(|d| digits.get(d as usize).copied()).unwrap_or('⁻'));
    std::iter::once("10".to_string()).chain(raised.map(String::from)).collect()
}

/// A typographic minus sign.
fn minus(number: String) -> String {
    number.replace('-', "−")
}
