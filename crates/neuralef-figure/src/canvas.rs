//! What figures are drawn on: an SVG document, or pixels, which look as that document does.

use std::io;

use plotters::backend::SVGBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle, FontTransform,
};
use tiny_skia::{FillRule, LineJoin, Paint, Path, PathBuilder, PixmapMut, Rect, Stroke, Transform};
use ttf_parser::gpos::{PairAdjustment, PositioningSubtable};
use ttf_parser::{Face, GlyphId, OutlineBuilder, Tag};

use super::style::{REGULAR, SEMIBOLD};

type Drawn = Result<(), DrawingErrorKind<io::Error>>;

/// The one backend of every figure.
pub(super) enum Canvas<'a> {
    /// Writes elements.
    Svg(SVGBackend<'a>),
    /// Paints.
    Pixels(Pixels<'a>),
}

/// Calls the same function of whichever backend it is.
macro_rules! either {
    ($canvas:expr, $backend:ident => $call:expr) => {
        match $canvas {
            Canvas::Svg($backend) => $call,
            Canvas::Pixels($backend) => $call,
        }
    };
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        either!(self, to => to.get_size())
    }

    fn ensure_prepared(&mut self) -> Drawn {
        either!(self, to => to.ensure_prepared())
    }

    fn present(&mut self) -> Drawn {
        either!(self, to => to.present())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        either!(self, to => to.draw_pixel(point, color))
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        end: BackendCoord,
        style: &S,
    ) -> Drawn {
        either!(self, to => to.draw_line(from, end, style))
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        either!(self, to => to.draw_rect(upper_left, bottom_right, style, fill))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        either!(self, to => to.draw_path(path, style))
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        either!(self, to => to.draw_circle(center, radius, style, fill))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        either!(self, to => to.fill_polygon(corners, style))
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn {
        either!(self, to => to.draw_text(text, style, at))
    }
}

/// Anti-aliased drawing on an image, which units of the figure are scaled to.
pub(super) struct Pixels<'a> {
    image: PixmapMut<'a>,
    size: (u32, u32),
    scale: f32,
}

impl<'a> Pixels<'a> {
    /// A figure of `size` in units, each of which is `scale` pixels of the image.
    pub(super) fn new(image: PixmapMut<'a>, size: (u32, u32), scale: f32) -> Self {
        Pixels { image, size, scale }
    }

    /// The inside of `path`; nothing, where a path of no points or length is none.
    fn fill(&mut self, path: Option<Path>, color: BackendColor) {
        if let Some(path) = path {
            let to = Transform::from_scale(self.scale, self.scale);
            self.image.fill_path(&path, &paint(color), FillRule::Winding, to, None);
        }
    }

    fn stroke(&mut self, path: Option<Path>, color: BackendColor, width: u32) {
        if let Some(path) = path {
            let stroke =
                Stroke { width: width as f32, line_join: LineJoin::Round, ..Stroke::default() };
            let to = Transform::from_scale(self.scale, self.scale);
            self.image.stroke_path(&path, &paint(color), &stroke, to, None);
        }
    }
}

fn paint(color: BackendColor) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    let (red, green, blue) = color.rgb;
    paint.set_color_rgba8(red, green, blue, (255.0 * color.alpha).round() as u8);
    paint
}

fn lines(points: impl IntoIterator<Item = BackendCoord>, close: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (x, y) in points {
        // The first one begins the path.
        path.line_to(x as f32, y as f32);
    }
    if close {
        path.close();
    }
    path.finish()
}

impl DrawingBackend for Pixels<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let ((x, y), (right, bottom)) = (upper_left, bottom_right);
        let rect = Rect::from_ltrb(x as f32, y as f32, right as f32, bottom as f32);
        let path = rect.filter(|r| r.width() > 0.0 && r.height() > 0.0).map(PathBuilder::from_rect);
        if fill {
            self.fill(path, style.color());
        } else {
            // As the SVG has it, which states no width.
            self.stroke(path, style.color(), 1);
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.stroke(lines(path, false), style.color(), style.stroke_width());
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let path = PathBuilder::from_circle(x as f32, y as f32, radius as f32);
        if fill {
            self.fill(path, style.color());
        } else {
            self.stroke(path, style.color(), style.stroke_width());
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        self.fill(lines(corners, true), style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn {
        let font = if matches!(style.style(), FontStyle::Bold) { SEMIBOLD } else { REGULAR };
        let face =
            Face::parse(font, 0).map_err(|error| DrawingErrorKind::FontError(Box::new(error)))?;
        // The type's size for that of a line, and where its foot is, as in the SVG.
        let size = (style.size() / 1.24) as f32;
        let scale = size / f32::from(face.units_per_em());
        let mut glyphs = Glyphs { path: PathBuilder::new(), pen: 0.0 };
        glyphs.line(&face, text);
        let left = scale
            * match style.anchor().h_pos {
                HPos::Left => 0.0,
                HPos::Center => -glyphs.pen / 2.0,
                HPos::Right => -glyphs.pen,
            };
        let foot = size
            * match style.anchor().v_pos {
                VPos::Top => 0.76,
                VPos::Center => 0.25,
                VPos::Bottom => -0.25,
            };
        let turn = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        let place = Transform::from_translate(x as f32, y as f32)
            .pre_concat(Transform::from_rotate(turn))
            .pre_translate(left, foot)
            .pre_scale(scale, scale);
        self.fill(glyphs.path.finish().and_then(|path| path.transform(place)), style.color());
        Ok(())
    }
}

/// Outlines of the glyphs of a line, in units of the font, downwards.
struct Glyphs {
    path: PathBuilder,
    /// Where the next glyph begins.
    pen: f32,
}

impl Glyphs {
    /// All of `text`; what holds no glyph is one space, as in XML.
    fn line(&mut self, face: &Face<'_>, text: &str) {
        let mut last = None;
        for (i, word) in text.split_whitespace().enumerate() {
            for c in (i > 0).then_some(' ').into_iter().chain(word.chars()) {
                // The first glyph stands for those that the font does not have.
                let glyph = face.glyph_index(c).unwrap_or(GlyphId(0));
                if let Some(last) = last.replace(glyph) {
                    self.pen += f32::from(kerning(face, last, glyph));
                }
                face.outline_glyph(glyph, self);
                self.pen += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0));
            }
        }
    }
}

impl OutlineBuilder for Glyphs {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(self.pen + x, -y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(self.pen + x, -y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.path.quad_to(self.pen + x1, -y1, self.pen + x, -y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (a, b, end) = (self.pen + x1, self.pen + x2, self.pen + x);
        self.path.cubic_to(a, -y1, b, -y2, end, -y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

/// What the font's `kern` feature adds between two glyphs.
fn kerning(face: &Face<'_>, first: GlyphId, second: GlyphId) -> i16 {
    let between = |pairs: PairAdjustment<'_>| {
        let index = pairs.coverage().get(first)?;
        let (value, _) = match pairs {
            PairAdjustment::Format1 { sets, .. } => sets.get(index)?.get(second)?,
            PairAdjustment::Format2 { classes, matrix, .. } => {
                matrix.get((classes.0.get(first), classes.1.get(second)))?
            }
        };
        Some(value.x_advance)
    };
    let found = || {
        let table = face.tables().gpos?;
        let feature = table.features.find(Tag::from_bytes(b"kern"))?;
        feature.lookup_indices.into_iter().filter_map(|index| table.lookups.get(index)).find_map(
            |lookup| {
                lookup.subtables.into_iter::<PositioningSubtable<'_>>().find_map(|subtable| {
                    match subtable {
                        PositioningSubtable::Pair(pairs) => between(pairs),
                        _ => None,
                    }
                })
            },
        )
    };
    found().unwrap_or(0)
}
