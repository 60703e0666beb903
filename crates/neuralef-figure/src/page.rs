//! A page with a heading, from the drawing to a file, SVG or PNG.

use std::io::Write as _;
use std::path::Path;

use plotters::prelude::*;
use tiny_skia::Pixmap;

use super::axes::Area;
use super::canvas::{Canvas, Pixels};
use super::style::{self, UNIT};
use super::{FigureError, Result, undrawn};

/// Pixels of a PNG for one pixel of the figure.
pub(super) const PNG_SCALE: u32 = 2;
const MARGIN: i32 = 24;

/// Draws a page with margins and a heading, `width` × `height` pixels of which belong to `draw`,
/// and writes it; on an error nothing is left behind and an existing file stays as it was.
pub(super) fn page(
    path: &Path,
    (width, height): (i32, i32),
    title: &str,
    subtitle: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<()> {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let raster = match extension.as_deref() {
        Some("svg") => false,
        Some("png") => true,
        _ => return Err(FigureError::Format { path: path.to_path_buf() }),
    };
    style::register_fonts()?;
    let mut wide = 0;
    for (line, style) in [(title, style::text(style::TITLE)), (subtitle, style::text(style::NOTE))]
    {
        wide = style.font.box_size(line).map_err(undrawn)?.0.max(wide);
    }
    let lead = if title.is_empty() { 0 } else { 28 } + if subtitle.is_empty() { 0 } else { 20 };
    let wide = i32::try_from(wide).map_err(undrawn)?.min(16_000) / UNIT + 1;
    let (width, height) = (width.max(wide) + 2 * MARGIN, height + lead + 2 * MARGIN);
    let size = ((width * UNIT) as u32, (height * UNIT) as u32);
    let compose = |canvas: Canvas<'_>| -> Result<()> {
        let root = canvas.into_drawing_area();
        root.fill(&WHITE)?;
        let inner = root.margin(MARGIN * UNIT, MARGIN * UNIT, MARGIN * UNIT, MARGIN * UNIT);
        inner.draw_text(title, &style::text(style::TITLE), (0, 0))?;
        let under = if title.is_empty() { 0 } else { 25 * UNIT };
        inner.draw_text(subtitle, &style::text(style::NOTE), (0, under))?;
        draw(&inner.margin(lead * UNIT, 0, 0, 0))?;
        root.present()?;
        Ok(())
    };
    if raster {
        let (w, h) = (width as u32 * PNG_SCALE, height as u32 * PNG_SCALE);
        let too_many = || undrawn(format!("{w} × {h} pixels are too many or none"));
        let mut image = Pixmap::new(w, h).ok_or_else(too_many)?;
        let scale = PNG_SCALE as f32 / UNIT as f32;
        compose(Canvas::Pixels(Pixels::new(image.as_mut(), size, scale)))?;
        return write(path, &image.encode_png().map_err(undrawn)?);
    }
    let mut drawing = String::new();
    compose(Canvas::Svg(SVGBackend::with_string(&mut drawing, size)))?;
    let (w, h) = size;
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {w} {h}\" stroke-linejoin=\"round\">\n{drawing}</svg>\n"
    );
    // Names may hold what XML forbids.
    let forbidden = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{fffe}' | '\u{ffff}');
    write(path, svg.replace(forbidden, "\u{fffd}").as_bytes())
}

/// Rectangles of `width` × `height` pixels in rows of `columns`, without end.
pub(super) fn cells<'a>(
    area: Area<'a>,
    columns: usize,
    (width, height): (i32, i32),
) -> impl Iterator<Item = Area<'a>> + use<'a> {
    (0..).map(move |index: usize| {
        let (row, column) = ((index / columns) as i32, (index % columns) as i32);
        let origin = (column * width * UNIT, row * height * UNIT);
        area.clone().shrink(origin, (width * UNIT, height * UNIT))
    })
}

/// Writes beside the file and renames.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| FigureError::Io { path: path.to_path_buf(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".figure-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // What any other new file gets: the process's mask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
