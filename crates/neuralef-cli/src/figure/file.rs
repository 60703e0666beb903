//! From a canvas to a file: SVG as it is, PNG rasterised, both written beside and renamed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use resvg::tiny_skia::{
    Color, FilterQuality, Pixmap, PixmapPaint, PremultipliedColorU8, Transform,
};
use resvg::usvg::{self, fontdb};

use super::canvas::{Canvas, Picture, short};
use super::text::{REGULAR, SEMIBOLD};
use super::{FigureError, Result};

/// Pixels of a PNG for one pixel of the figure.
pub(super) const PNG_SCALE: f32 = 2.0;

/// File formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    Svg,
    Png,
}

impl Format {
    /// From the extension, in any case.
    pub(super) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Format::Svg),
            Some("png") => Ok(Format::Png),
            _ => Err(FigureError::Format { path: path.to_path_buf() }),
        }
    }
}

/// Writes the file; on an error nothing is left behind and an existing file stays as it was.
pub(super) fn write(path: &Path, format: Format, canvas: &Canvas) -> Result<()> {
    let bytes = match format {
        Format::Svg => svg(canvas)?.into_bytes(),
        Format::Png => png(canvas)?,
    };
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
    file.write_all(&bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The figure as one SVG document, pictures embedded.
fn svg(canvas: &Canvas) -> Result<String> {
    let mut under = String::from("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    for picture in &canvas.pictures {
        let data = base64(&pixmap(picture)?.encode_png().map_err(raster)?);
        let place = picture.place;
        let _ = writeln!(
            under,
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             href=\"data:image/png;base64,{data}\"/>",
            short(place.x),
            short(place.y),
            short(place.width),
            short(place.height),
        );
    }
    Ok(canvas.document(&under))
}

/// The figure rasterised: white page, pictures, then the shapes over them.
fn png(canvas: &Canvas) -> Result<Vec<u8>> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(SEMIBOLD.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(&canvas.document(""), &options).map_err(raster)?;
    let size = |length: f64| (length * f64::from(PNG_SCALE)).ceil() as u32;
    let mut page = new_pixmap(size(canvas.width), size(canvas.height))?;
    page.fill(Color::WHITE);
    for picture in &canvas.pictures {
        let place = picture.place;
        let transform = Transform::from_row(
            (place.width / f64::from(picture.columns)) as f32,
            0.0,
            0.0,
            (place.height / f64::from(picture.rows)) as f32,
            place.x as f32,
            place.y as f32,
        );
        let paint = PixmapPaint { quality: FilterQuality::Bilinear, ..PixmapPaint::default() };
        let transform = transform.post_scale(PNG_SCALE, PNG_SCALE);
        page.draw_pixmap(0, 0, pixmap(picture)?.as_ref(), &paint, transform, None);
    }
    resvg::render(&tree, Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut page.as_mut());
    page.encode_png().map_err(raster)
}

fn pixmap(picture: &Picture) -> Result<Pixmap> {
    let mut out = new_pixmap(picture.columns, picture.rows)?;
    for (target, [r, g, b]) in out.pixels_mut().iter_mut().zip(&picture.pixels) {
        if let Some(colour) = PremultipliedColorU8::from_rgba(*r, *g, *b, u8::MAX) {
            *target = colour;
        }
    }
    Ok(out)
}

fn new_pixmap(width: u32, height: u32) -> Result<Pixmap> {
    Pixmap::new(width, height).ok_or_else(|| FigureError::Raster {
        message: format!("{width} × {height} pixels are too many or none"),
    })
}

fn raster(error: impl std::fmt::Display) -> FigureError {
    FigureError::Raster { message: error.to_string() }
}

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}
