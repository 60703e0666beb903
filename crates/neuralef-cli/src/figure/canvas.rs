//! The drawing surface: vector shapes kept as SVG text, and pictures that lie beneath them.

use std::fmt::Write as _;

use super::text::{Anchor, FAMILY, Style};

/// A rectangle in pixels; y grows downwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn right(self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// A raster picture and the place it fills.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) place: Rect,
    pub(super) columns: u32,
    pub(super) rows: u32,
    /// Row-major from the top left.
    pub(super) pixels: Vec<[u8; 3]>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke<'a> {
    pub(super) colour: &'a str,
    pub(super) width: f64,
    pub(super) opacity: f64,
    pub(super) dashed: bool,
}

impl<'a> Stroke<'a> {
    pub(super) fn solid(colour: &'a str, width: f64) -> Self {
        Stroke { colour, width, opacity: 1.0, dashed: false }
    }

    fn attributes(self) -> String {
        let mut out = format!(r#" stroke="{}" stroke-width="{}""#, self.colour, self.width);
        if self.opacity < 1.0 {
            let _ = write!(out, r#" stroke-opacity="{}""#, self.opacity);
        }
        if self.dashed {
            out.push_str(r#" stroke-dasharray="5 4""#);
        }
        out
    }
}

/// A white page. Coordinates must be finite; they are written with two decimals.
#[derive(Debug)]
pub(super) struct Canvas {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) pictures: Vec<Picture>,
    shapes: String,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let (width, height) = (width.ceil(), height.ceil());
        Canvas { width, height, pictures: Vec::new(), shapes: String::new() }
    }

    /// The whole document, with `under` put beneath the shapes.
    pub(super) fn document(&self, under: &str) -> String {
        let (w, h) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
             viewBox=\"0 0 {w} {h}\" font-family=\"{FAMILY}\">\n{under}{}</svg>\n",
            self.shapes
        )
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke<'_>) {
        let _ = writeln!(
            self.shapes,
            r#"<path d="M{} {}L{} {}"{}/>"#,
            short(from.0),
            short(from.1),
            short(to.0),
            short(to.1),
            stroke.attributes()
        );
    }

    /// Connected line segments; a path that returns to its start is closed.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke<'_>) {
        let Some((first, rest)) = points.split_first() else { return };
        let _ = write!(self.shapes, r#"<path d="M{} {}"#, short(first.0), short(first.1));
        for (index, point) in rest.iter().enumerate() {
            if index + 1 == rest.len() && point == first {
                self.shapes.push('Z');
            } else {
                let lead = if index == 0 { 'L' } else { ' ' };
                let _ = write!(self.shapes, "{lead}{} {}", short(point.0), short(point.1));
            }
        }
        let _ = writeln!(
            self.shapes,
            r#"" fill="none" stroke-linejoin="round" stroke-linecap="{}"{}/>"#,
            if stroke.dashed { "butt" } else { "round" },
            stroke.attributes()
        );
    }

    pub(super) fn rectangle(&mut self, place: Rect, fill: &str, border: Option<Stroke<'_>>) {
        let _ = writeln!(
            self.shapes,
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{fill}"{}/>"#,
            short(place.x),
            short(place.y),
            short(place.width),
            short(place.height),
            border.map(Stroke::attributes).unwrap_or_default()
        );
    }

    /// A filled disc.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, fill: &str, opacity: f64) {
        let (x, y) = (short(centre.0), short(centre.1));
        let _ = write!(self.shapes, r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}""#);
        if opacity < 1.0 {
            let _ = write!(self.shapes, r#" fill-opacity="{opacity}""#);
        }
        self.shapes.push_str("/>\n");
    }

    /// A filled triangle that points downwards.
    pub(super) fn triangle_down(&mut self, tip: (f64, f64), size: f64, fill: &str) {
        let (x, y) = tip;
        let _ = writeln!(
            self.shapes,
            r#"<path d="M{} {}L{} {} {} {}Z" fill="{fill}"/>"#,
            short(x),
            short(y),
            short(x - 0.6 * size),
            short(y - size),
            short(x + 0.6 * size),
            short(y - size)
        );
    }

    /// One line of text on the baseline `y`; nothing when empty.
    pub(super) fn text(&mut self, x: f64, y: f64, line: &str, style: Style) {
        self.text_at(x, y, line, style, "");
    }

    /// One line of text that reads upwards.
    pub(super) fn text_upwards(&mut self, x: f64, y: f64, line: &str, style: Style) {
        let turn = format!(r#" transform="rotate(-90 {} {})""#, short(x), short(y));
        self.text_at(x, y, line, style, &turn);
    }

    fn text_at(&mut self, x: f64, y: f64, line: &str, style: Style, extra: &str) {
        if line.is_empty() {
            return;
        }
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if style.semibold { r#" font-weight="600""# } else { "" };
        let _ = writeln!(
            self.shapes,
            r#"<text x="{}" y="{}" font-size="{}" fill="{}"{weight}{anchor}{extra}>{}</text>"#,
            short(x),
            short(y),
            style.size,
            style.colour,
            escape(line)
        );
    }
}

/// Two decimals without trailing zeros.
pub(super) fn short(value: f64) -> f64 {
    let rounded = (value * 100.0).round() / 100.0;
    if rounded == 0.0 { 0.0 } else { rounded }
}

/// Text as XML character data: markup escaped, characters that XML forbids replaced.
fn escape(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                out.push('\u{fffd}');
            }
            other => out.push(other),
        }
    }
    out
}
