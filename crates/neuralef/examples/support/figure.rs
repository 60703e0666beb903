//! Figures as PNG: clouds of points in two or three coordinates, and matrices by colour.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use neuralef::{AtomicFile, Error, Mat64Ref, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

/// The typeface of the command line's figures.
const FONT: &[u8] = include_bytes!("../../../neuralef-cli/assets/FigureSans-Regular.otf");
const FAMILY: &str = "Figure Sans";
const MARGIN: i32 = 16;
const HEAD: i32 = 52;
/// Height of the title of a panel.
const TITLE: i32 = 24;
const INK: RGBColor = RGBColor(0x1b, 0x24, 0x30);
const MUTED: RGBColor = RGBColor(0x5a, 0x66, 0x75);
const AXIS: RGBColor = RGBColor(0xb4, 0xbc, 0xc5);
/// Classes: Okabe and Ito's palette (2008) without its yellow, and four of Paul Tol's muted scheme.
const CLASSES: [u32; 10] = [
    0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0xd55e00, 0x56b4e9, 0x332288, 0x999933, 0x882255,
    0x7d8894,
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Points coloured by class, a panel of a figure.
pub(crate) struct Points<'a> {
    pub(crate) title: &'a str,
    /// n × 2, or n × 3 and more, of which the first three are drawn.
    pub(crate) coordinates: Mat64Ref<'a>,
    /// n classes.
    pub(crate) labels: &'a [i64],
    /// Names of the coordinates.
    pub(crate) axes: [&'a str; 3],
}

/// A matrix, a panel of a figure.
pub(crate) struct Heat<'a> {
    pub(crate) title: &'a str,
    pub(crate) values: Mat64Ref<'a>,
}

/// Draws clouds of points in rows of `columns` panels.
///
/// # Errors
/// [`Error::Io`] when the file cannot be drawn or written.
pub(crate) fn point_clouds(
    path: &Path,
    heading: [&str; 2],
    columns: usize,
    panels: &[Points<'_>],
) -> Result<()> {
    page(path, heading, columns, panels.len(), 260, |index, area| {
        let panel = &panels[index];
        title(area, panel.title)?;
        let area = area.margin(TITLE, 0, 0, 0);
        match panel.coordinates.ncols() {
            0 | 1 => Ok(()),
            2 => flat(&area, panel),
            _ => spatial(&area, panel),
        }
    })
}

/// Draws matrices in rows of `columns` panels, all on one scale of colours from the least to the
/// greatest entry of the first.
///
/// # Errors
/// [`Error::Io`] when the file cannot be drawn or written.
pub(crate) fn heat_maps(
    path: &Path,
    heading: [&str; 2],
    columns: usize,
    panels: &[Heat<'_>],
) -> Result<()> {
    let (low, high) = range(panels.iter().take(1).flat_map(|p| p.values.iter().copied()));
    page(path, heading, columns, panels.len(), 300, |index, area| {
        let Heat { title: name, values } = &panels[index];
        title(area, name)?;
        let area = area.margin(TITLE, 12, 0, 12);
        let (rows, columns) = values.dim();
        let (width, height) = area.dim_in_pixel();
        let at = |part: usize, of: usize, size: u32| (part * size as usize / of.max(1)) as i32;
        for ((i, j), value) in values.indexed_iter() {
            let corners = [
                (at(j, columns, width), at(i, rows, height)),
                (at(j + 1, columns, width), at(i + 1, rows, height)),
            ];
            let colour = ViridisRGB.get_color_normalized(value.clamp(low, high), low, high);
            area.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        Ok(())
    })
}

fn title(area: &Area<'_>, text: &str) -> Drawn {
    area.draw_text(text, &(FAMILY, 17).into_font().color(&INK), (2, 0))?;
    Ok(())
}

/// Two coordinates on common scales.
fn flat(area: &Area<'_>, points: &Points<'_>) -> Drawn {
    let span = |j: usize| padded(points.coordinates.column(j).iter().copied());
    let mut chart = ChartBuilder::on(area).margin(14).build_cartesian_2d(span(0), span(1))?;
    chart.configure_mesh().disable_mesh().axis_style(AXIS).x_labels(0).y_labels(0).draw()?;
    let rows = points.coordinates.outer_iter().zip(points.labels);
    chart.draw_series(rows.map(|(p, l)| Circle::new((p[0], p[1]), 2, class(*l).filled())))?;
    Ok(())
}

/// The first three coordinates. The library's vertical axis is its second: it takes the third of them.
fn spatial(area: &Area<'_>, points: &Points<'_>) -> Drawn {
    let spans = [0, 1, 2].map(|j| padded(points.coordinates.column(j).iter().copied()));
    let [x, y, z] = spans.clone();
    let ends = [x.end, y.end, z.end];
    let starts = [x.start, y.start, z.start];
    let mut chart = ChartBuilder::on(area).build_cartesian_3d(x, z, y)?;
    chart.with_projection(|mut p| {
        p.yaw = 0.6;
        p.pitch = 0.35;
        p.scale = 0.82;
        p.into_matrix()
    });
    let none = |_: &f64| String::new();
    chart
        .configure_axes()
        .light_grid_style(TRANSPARENT)
        .bold_grid_style(AXIS.mix(0.35))
        .axis_panel_style(RGBColor(0xf7, 0xf8, 0xfa).filled())
        .x_formatter(&none)
        .y_formatter(&none)
        .z_formatter(&none)
        .draw()?;
    let rows = points.coordinates.outer_iter().zip(points.labels);
    chart.draw_series(
        rows.map(|(p, label)| Circle::new((p[0], p[2], p[1]), 2, class(*label).mix(0.7).filled())),
    )?;
    let style = (FAMILY, 15).into_font().color(&MUTED);
    let names = [
        (points.axes[0], (0.5 * (starts[0] + ends[0]), starts[2], ends[1])),
        (points.axes[1], (ends[0], starts[2], 0.5 * (starts[1] + ends[1]))),
        (points.axes[2], (starts[0], ends[2], ends[1])),
    ];
    chart.draw_series(names.iter().map(|(name, at)| {
        EmptyElement::at(*at) + Text::new((*name).to_string(), (0, 6), style.clone())
    }))?;
    Ok(())
}

fn class(label: i64) -> RGBColor {
    let code = CLASSES[label.rem_euclid(CLASSES.len() as i64) as usize];
    RGBColor((code >> 16) as u8, (code >> 8) as u8, code as u8)
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values.map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    ends.unwrap_or((0.0, 1.0))
}

/// The range with some room, never empty.
fn padded(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = range(values);
    let pad = (0.05 * (high - low)).max(1e-9 * high.abs().max(1.0));
    low - pad..high + pad
}

/// Lays out `count` panels of `size` pixels, draws them as SVG and writes that as PNG.
fn page(
    path: &Path,
    heading: [&str; 2],
    columns: usize,
    count: usize,
    size: i32,
    draw: impl Fn(usize, &Area<'_>) -> Drawn,
) -> Result<()> {
    let undrawn =
        |e: Box<dyn std::error::Error>| Error::io(path, std::io::Error::other(e.to_string()));
    let bytes = || -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
        register_font(FAMILY, FontStyle::Normal, FONT)
            .map_err(|_| "the embedded font is damaged")?;
        let rows = count.div_ceil(columns.max(1)) as i32;
        let (width, height) =
            (columns as i32 * size + 2 * MARGIN, rows * (size + TITLE) + HEAD + 2 * MARGIN);
        let mut svg = String::new();
        let root =
            SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let inner = root.margin(MARGIN, MARGIN, MARGIN, MARGIN);
        inner.draw_text(heading[0], &(FAMILY, 24).into_font().color(&INK), (0, 0))?;
        inner.draw_text(heading[1], &(FAMILY, 16).into_font().color(&MUTED), (0, 28))?;
        let body = inner.margin(HEAD, 0, 0, 0);
        for (index, area) in
            body.split_evenly((rows as usize, columns)).iter().take(count).enumerate()
        {
            draw(index, area)?;
        }
        root.present()?;
        drop((body, inner, root));
        rasterise(&svg)
    };
    let bytes = bytes().map_err(undrawn)?;
    let mut file = AtomicFile::create(path)?;
    file.write_all(&bytes).map_err(|e| Error::io(path, e))?;
    file.commit()
}

fn rasterise(svg: &str) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    const SCALE: f32 = 2.0;
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let mut pixels =
        Pixmap::new(2 * size.width(), 2 * size.height()).ok_or("no pixels to draw on")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}
