//! Figures are written whole, are valid, show what they were given, and refuse what they can't show.

use std::f64::consts::{PI, SQRT_2};
use std::path::PathBuf;

use roxmltree::{Document, Node};
use tiny_skia::Pixmap;

use super::*;

/// Where figures go: `$FIGURE_DIR` to look at them, else a directory that vanishes.
struct Out {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

fn out() -> Out {
    match std::env::var_os("FIGURE_DIR") {
        Some(folder) => Out { path: PathBuf::from(folder), _temporary: None },
        None => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_path_buf();
            Out { path, _temporary: Some(folder) }
        }
    }
}

fn names(count: usize) -> Vec<String> {
    let digits = ['₀', '₁', '₂', '₃', '₄', '₅', '₆', '₇', '₈', '₉'];
    let below =
        |j: usize| j.to_string().bytes().map(|b| digits[usize::from(b - b'0')]).collect::<String>();
    (1..=count).map(|j| format!("ψ{}", below(j))).collect()
}

fn series<'a>(names: &'a [String], values: &'a [Vec<f64>]) -> Vec<Series<'a>> {
    names.iter().zip(values).map(|(name, values)| Series { name, values }).collect()
}

fn brownian(count: usize) -> (Vec<f64>, Vec<Vec<f64>>, Vec<f64>) {
    let x: Vec<f64> = (0..=200).map(|i| f64::from(i) / 200.0).collect();
    let frequency = |j: usize| (j as f64 + 0.5) * PI;
    let psi =
        (0..count).map(|j| x.iter().map(|t| SQRT_2 * (frequency(j) * t).sin()).collect()).collect();
    let mu = (0..count).map(|j| frequency(j).powi(-2)).collect();
    (x, psi, mu)
}

/// Checks that both formats hold a figure of the same size and returns the SVG's text.
fn both(folder: &Path, name: &str, draw: impl Fn(&Path) -> Result<()>) -> String {
    let (svg, png) = (folder.join(format!("{name}.svg")), folder.join(format!("{name}.png")));
    draw(&svg).unwrap();
    draw(&png).unwrap();
    let text = std::fs::read_to_string(svg).unwrap();
    let document = Document::parse(&text).unwrap();
    let length = |name| document.root_element().attribute(name).unwrap().parse::<u32>().unwrap();
    let image = Pixmap::load_png(png).unwrap();
    assert_eq!(image.width(), page::PNG_SCALE * length("width"));
    assert_eq!(image.height(), page::PNG_SCALE * length("height"));
    let dark = image.pixels().iter().filter(|p| p.red() < 60 && p.green() < 60).count();
    assert!(dark > 500, "only {dark} dark pixels: is the text missing?");
    text
}

/// Whether some text of the figure reads so.
fn says(document: &Document<'_>, words: &str) -> bool {
    document.descendants().any(|n| n.is_text() && n.text().map(str::trim) == Some(words))
}

/// Elements of a kind with a stroke of this width in quarter pixels.
fn strokes<'a>(
    document: &'a Document<'_>,
    tag: &'static str,
    width: &'static str,
) -> Vec<Node<'a, 'a>> {
    document
        .descendants()
        .filter(|n| n.has_tag_name(tag) && n.attribute("stroke-width") == Some(width))
        .collect()
}

fn spectrum_of<'a>(mu: &'a [f64], errors: &'a [f64]) -> Spectrum<'a> {
    Spectrum {
        title: "Eigenvalues",
        subtitle: "",
        eigenvalues: Series { name: "learned ± 1 s.e.", values: mu },
        standard_errors: errors,
        reference: None,
    }
}

/// The body beside a spectrum of two values.
fn beside(path: &Path, body: &Body<'_>) -> Result<()> {
    panel(path, "", "", &spectrum_of(&[1.0, 0.1], &[]), body)
}

#[test]
fn curves_hold_every_point_and_both_dashes_and_names() {
    let out = out();
    let (x, exact, mu) = brownian(7);
    let learned: Vec<Vec<f64>> = exact
        .iter()
        .map(|psi| psi.iter().enumerate().map(|(i, v)| v + 0.03 * (i as f64).sin()).collect())
        .collect();
    let names = names(7);
    let exact_names = vec!["exact".to_string(); 7];
    let (series, reference) = (series(&names, &learned), series(&exact_names, &exact));
    let figure = Curves {
        title: "Eigenfunctions",
        subtitle: "exact ones dashed",
        x_label: "t",
        x: &x,
        series: &series,
        reference: &reference,
    };
    let title = "Eigenfunctions of the Brownian kernel <min(s, t)> & more";
    let errors: Vec<f64> = mu.iter().map(|m| 0.2 * m).collect();
    let draw = |figure: Curves<'_>, name| {
        both(&out.path, name, |path| {
            panel(path, title, "on U[0, 1]", &spectrum_of(&mu, &errors), &Body::Curves(figure))
        })
    };
    let text = draw(figure, "curves");
    let document = Document::parse(&text).unwrap();
    let lines = strokes(&document, "polyline", "10");
    assert_eq!(lines.len(), 7);
    for (line, values) in lines.iter().zip(&learned) {
        let points: Vec<(i32, i32)> = line
            .attribute("points")
            .unwrap()
            .split_whitespace()
            .filter_map(|p| p.split_once(','))
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(points.len(), x.len());
        // Heights are linear in the values, to a unit of rounding.
        let (first, last) = (points[0], points[200]);
        assert_eq!(points[100].0, (first.0 + last.0) / 2);
        let scale = f64::from(last.1 - first.1) / (values[200] - values[0]);
        let expected = f64::from(first.1) + scale * (values[67] - values[0]);
        assert!((f64::from(points[67].1) - expected).abs() < 3.0, "{expected}");
    }
    assert!(strokes(&document, "polyline", "5").len() > 7 * 20, "dashes");
    for word in names.iter().map(String::as_str).chain(["exact", title, "exact ones dashed"]) {
        assert!(says(&document, word), "{word} is missing");
    }
    draw(Curves { series: &series[..1], reference: &[], ..figure }, "curve");
}

#[test]
fn spectrum_places_values_on_a_logarithmic_axis() {
    let out = out();
    let mu: Vec<f64> = (0..10).map(|j| 0.5 * 10f64.powi(-j)).collect();
    let errors: Vec<f64> = mu.iter().map(|m| 0.02 * m + 1e-8).collect();
    let exact: Vec<f64> = mu.iter().map(|m| 1.01 * m).collect();
    let reference = Some(Series { name: "exact", values: &exact });
    let figure = Spectrum { reference, ..spectrum_of(&mu, &errors) };
    let text = both(&out.path, "spectrum", |path| spectrum(path, &figure));
    let document = Document::parse(&text).unwrap();
    let read = |n: &Node<'_, '_>, a| n.attribute(a).unwrap().parse::<i32>().unwrap();
    let discs: Vec<(i32, i32)> = document
        .descendants()
        .filter(|n| n.has_tag_name("circle"))
        .map(|n| (read(&n, "cx"), read(&n, "cy")))
        .collect();
    assert_eq!(discs.len(), 11, "ten values and one legend entry");
    for pair in discs[..10].windows(2) {
        let (dx, dy) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        assert!((dx - (discs[1].0 - discs[0].0)).abs() <= 1);
        assert!((dy - (discs[1].1 - discs[0].1)).abs() <= 1, "decades are equally far apart");
        assert!(dy > 80);
    }
    // A bar reaches from v − e to v + e: for the seventh value 5.0e-7 ± 2e-8.
    let decade = f64::from(discs[1].1 - discs[0].1);
    let bar = strokes(&document, "line", "6")
        .into_iter()
        .find(|n| read(n, "x1") == discs[6].0 && read(n, "x2") == discs[6].0)
        .unwrap();
    let half = (1.0 + errors[6] / mu[6]).log10() * decade;
    assert!((f64::from(discs[6].1 - read(&bar, "y2")) - half).abs() <= 1.0, "{half}");
    for label in ["10⁰", "10⁻⁸", "1", "10"] {
        assert!(says(&document, label), "{label} is missing");
    }
    // Values that a logarithm can't show are marked, not dropped.
    let figure = spectrum_of(&[1.0, 0.1, 0.0, -1e-9], &[0.5, 0.2, 0.1, 0.1]);
    let text = both(&out.path, "spectrum-signed", |path| spectrum(path, &figure));
    let document = Document::parse(&text).unwrap();
    assert!(says(&document, "zero or negative"));
    assert!(says(&document, "5×10⁻¹"), "less than two decades have ticks between");
}

fn grid_functions(nx: usize, ny: usize, count: usize) -> Vec<Vec<f64>> {
    let coordinate = |i: usize, n: usize| i as f64 / (n - 1) as f64;
    (0..count)
        .map(|j| {
            let (a, b) = ((j % 3) as f64, (j / 3) as f64);
            let value = |x: f64, y: f64| 2.0 * (a * PI * x).cos() * (b * PI * y).cos();
            let at = |i: usize| value(coordinate(i % nx, nx), coordinate(i / nx, ny));
            (0..nx * ny).map(at).collect()
        })
        .collect()
}

#[test]
fn contours_show_every_function_and_the_points() {
    let out = out();
    let (nx, ny) = (50, 40);
    let values = grid_functions(nx, ny, 10);
    let names = names(10);
    let functions = series(&names, &values);
    let points: Vec<[f64; 2]> =
        (0..400).map(|i| [f64::from(i % 20) / 20.0, f64::from(i / 20) / 20.0]).collect();
    let figure = Contours {
        title: "Eigenfunctions",
        subtitle: "",
        x_range: (0.0, 1.0),
        y_range: (0.0, 0.8),
        shape: (nx, ny),
        functions: &functions,
        points: &points,
    };
    let draw = |figure: Contours<'_>, name| {
        both(&out.path, name, |path| beside(path, &Body::Contours(figure)))
    };
    let text = draw(figure, "contours");
    let document = Document::parse(&text).unwrap();
    for name in &names {
        assert!(says(&document, name), "{name} is missing");
    }
    let discs = text.matches("<circle").count();
    // Seventeen of twenty rows are inside; the spectrum has two discs and one in its legend.
    assert_eq!(discs, 10 * 20 * 17 + 3);
    draw(Contours { functions: &functions[4..7], points: &[], ..figure }, "contours-few");
    let one = Contours { functions: &functions[4..5], points: &[], ..figure };
    draw(one, "contour");
}

#[test]
fn colours_of_contours_are_where_the_values_are() {
    // A cone, up to 1.5 in a ring and 0 at the centre and outside: levels with a hole.
    let out = out();
    let n = 81;
    let at = |i: usize| i as f64 / 40.0 - 1.0;
    let ring = |i: usize| 1.5 - 5.0 * (at(i % n).hypot(at(i / n)) - 0.5).abs();
    let values: Vec<f64> = (0..n * n).map(ring).collect();
    let figure = Contours {
        title: "",
        subtitle: "",
        x_range: (-1.0, 1.0),
        y_range: (-1.0, 1.0),
        shape: (n, n),
        functions: &[Series { name: "ring", values: &values }],
        points: &[],
    };
    both(&out.path, "ring", |path| beside(path, &Body::Contours(figure)));
    let image = Pixmap::load_png(out.path.join("ring.png")).unwrap();
    // The plot begins after margin, spectrum, gap and numbers, below heading and name.
    let (x0, y0, side) = (24 + 470 + 44, 24 + 36 + 22, 160);
    let colour = |x: f64, y: f64| {
        let pixel = |v: f64, from: i32| {
            (2.0 * (f64::from(from) + (v + 1.0) / 2.0 * f64::from(side))) as u32
        };
        let pixel = image.pixel(pixel(x, x0), pixel(-y, y0)).unwrap();
        i32::from(pixel.red()) - i32::from(pixel.blue())
    };
    for (x, y) in [(0.5, 0.03), (-0.48, 0.0), (0.0, 0.52), (0.35, -0.35)] {
        assert!(colour(x, y) > 50, "the ring is red at {x}, {y}: {}", colour(x, y));
    }
    for (x, y) in [(0.03, 0.02), (-0.05, 0.08), (0.9, 0.9), (-0.97, 0.1), (0.2, -0.95)] {
        assert!(colour(x, y) < -50, "the rest is blue at {x}, {y}: {}", colour(x, y));
    }
}

fn cloud(count: usize) -> (Vec<Vec<f64>>, Vec<i64>) {
    let at = |i: usize, f: f64| (i as f64 * f).sin() + (i as f64 * f * 1.7).cos();
    let labels: Vec<i64> = (0..count).map(|i| (i % 10) as i64).collect();
    let coordinate = |f: f64| {
        (0..count).map(|i| 0.25 * at(i, f) + (labels[i] as f64 * f).cos()).collect::<Vec<f64>>()
    };
    (vec![coordinate(0.7), coordinate(1.9), coordinate(2.3)], labels)
}

#[test]
fn scatter_colours_by_class() {
    let out = out();
    let (coordinates, labels) = cloud(900);
    let names = names(3);
    let coordinates = series(&names, &coordinates);
    let figure = Scatter {
        title: "First three eigenfunctions",
        subtitle: "900 held-out points",
        coordinates: &coordinates,
        colouring: Colouring::Labels(&labels),
    };
    let draw = |figure: Scatter<'_>, name| {
        let text = both(&out.path, name, |path| {
            panel(path, "Digits", "", &spectrum_of(&[1.0], &[]), &Body::Scatter(figure))
        });
        let discs = text.matches("<circle").count() - 2;
        let colours: std::collections::BTreeSet<&str> =
            text.split("fill=\"").skip(1).filter_map(|t| t.split('"').next()).collect();
        (discs, colours.iter().filter(|c| c.starts_with('#')).count())
    };
    let (discs, colours) = draw(figure, "scatter");
    assert_eq!(discs, 3 * 900 + 10);
    // Ten classes; white and the two colours of text.
    assert_eq!(colours, 10 + 3);
    let many: Vec<i64> = (0..900).map(|i| i % 25 - 5).collect();
    let many = Scatter { colouring: Colouring::Labels(&many), ..figure };
    let (discs, colours) = draw(many, "scatter-many-classes");
    assert_eq!(discs, 3 * 900 + 2);
    assert!(colours > 25, "{colours}");
    let alone = Scatter { coordinates: &coordinates[..1], colouring: Colouring::None, ..figure };
    assert_eq!(draw(alone, "scatter-one").0, 900);
}

#[test]
fn clouds_and_heat_maps_show_every_number() {
    let out = out();
    let (values, labels) = cloud(300);
    let names = names(3);
    let coordinates = [0, 1, 2].map(|j| Series { name: &names[j], values: &values[j] });
    let figure = Clouds {
        title: "Digits",
        subtitle: "300 points",
        columns: 2,
        clouds: &[("exact", coordinates), ("NeuralEF", coordinates), ("SpIN", coordinates)],
        colouring: Colouring::Labels(&labels),
    };
    let text = both(&out.path, "clouds", |path| clouds(path, &figure));
    assert_eq!(text.matches("<circle").count(), 3 * 300 + 10);
    let document = Document::parse(&text).unwrap();
    for word in ["exact", "NeuralEF", "SpIN", "ψ₁", "ψ₂", "ψ₃"] {
        assert!(says(&document, word), "{word}");
    }
    let short = Clouds { colouring: Colouring::Labels(&labels[1..]), ..figure };
    let error = clouds(&out.path.join("short.svg"), &short).unwrap_err();
    assert!(matches!(error, FigureError::Length { expected: 300, got: 299, .. }));
    let error = clouds(&out.path.join("none.svg"), &Clouds { clouds: &[], ..figure }).unwrap_err();
    assert!(matches!(error, FigureError::Empty { .. }));

    let matrix: Vec<f64> = (0..12).map(f64::from).collect();
    let beyond: Vec<f64> = matrix.iter().map(|v| 3.0 * v).collect();
    let figure = HeatMaps {
        title: "Kernel",
        subtitle: "",
        columns: 2,
        shape: (3, 4),
        matrices: &[
            Series { name: "exact", values: &matrix },
            Series { name: "features", values: &beyond },
        ],
    };
    let text = both(&out.path, "heat-maps", |path| heat_maps(path, &figure));
    let fills: Vec<&str> =
        text.split("<rect").skip(1).filter_map(|t| t.split("fill=\"").nth(1)?.get(..7)).collect();
    // The page, and then the entries of both, row by row.
    assert_eq!(fills.len(), 1 + 2 * 12);
    let distinct = |fills: &[&str]| fills.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(distinct(&fills[1..13]), 12);
    // All from the greatest entry of the first matrix on, 11, have its colour: 12, 15, …, 33.
    assert_eq!(distinct(&fills[17..25]), 1);
    assert_eq!(fills[17], fills[12]);
    // The PNG has the colour of every element at its centre.
    let document = Document::parse(&text).unwrap();
    let image = Pixmap::load_png(out.path.join("heat-maps.png")).unwrap();
    for rect in document.descendants().filter(|n| n.has_tag_name("rect")).skip(1) {
        let [x, y, width, height] = ["x", "y", "width", "height"]
            .map(|name| rect.attribute(name).unwrap().parse::<u32>().unwrap());
        let pixel = |from, length| (from + length / 2) * page::PNG_SCALE / UNIT as u32;
        let there = image.pixel(pixel(x, width), pixel(y, height)).unwrap();
        let found = format!("#{:02X}{:02X}{:02X}", there.red(), there.green(), there.blue());
        assert_eq!(Some(&*found), rect.attribute("fill"), "{x}, {y}");
    }
    let error = heat_maps(&out.path.join("x.svg"), &HeatMaps { shape: (3, 3), ..figure });
    assert!(matches!(error.unwrap_err(), FigureError::Length { expected: 9, got: 12, .. }));
}

/// Left, top, right and bottom of what a title leaves on pixels of half a unit, begun at 100, 100.
fn ink(text: &str) -> [f64; 4] {
    let mut image = Pixmap::new(400, 200).unwrap();
    let canvas = canvas::Canvas::Pixels(canvas::Pixels::new(image.as_mut(), (800, 400), 0.5));
    let area = plotters::prelude::IntoDrawingArea::into_drawing_area(canvas);
    area.draw_text(text, &style::text(style::TITLE), (100, 100)).unwrap();
    drop(area);
    let inked = |x: u32, y: u32| image.pixel(x, y).unwrap().alpha() > 127;
    let columns: Vec<u32> = (0..400).filter(|x| (0..200).any(|y| inked(*x, y))).collect();
    let rows: Vec<u32> = (0..200).filter(|y| (0..400).any(|x| inked(x, *y))).collect();
    let last = |of: &[u32]| f64::from(of[of.len() - 1] + 1);
    [f64::from(columns[0]), f64::from(rows[0]), last(&columns), last(&rows)]
}

#[test]
fn glyphs_on_pixels_stand_where_the_svg_has_them() {
    let face = ttf_parser::Face::parse(style::SEMIBOLD, 0).unwrap();
    let em = style::TITLE.0 * f64::from(UNIT) / 2.0;
    let unit = em / f64::from(face.units_per_em());
    let [left, top, right, bottom] = ink("H");
    // The SVG puts the foot of the letters 0.76 em below the point.
    let (foot, height) = (50.0 + 0.76 * em, unit * f64::from(face.capital_height().unwrap()));
    assert!((bottom - foot).abs() <= 1.0, "{bottom}, {foot}");
    assert!((top - (foot - height)).abs() <= 1.0, "{top}, {foot}, {height}");
    let h = face.glyph_bounding_box(face.glyph_index('H').unwrap()).unwrap();
    assert!((left - (50.0 + unit * f64::from(h.x_min))).abs() <= 1.0, "{left}");
    assert!((right - (50.0 + unit * f64::from(h.x_max))).abs() <= 1.0, "{right}");
    // A space is one advance however many there are, as XML has it.
    let advance =
        |c| unit * f64::from(face.glyph_hor_advance(face.glyph_index(c).unwrap()).unwrap());
    let [_, _, end, _] = ink(" H\n  H ");
    assert!((end - right - advance('H') - advance(' ')).abs() <= 1.0, "{end}");
    // Without kerning, A and V would stand at least as far apart as their boxes.
    let width = |text: &str| ink(text)[2] - ink(text)[0];
    assert!(width("AV") < width("A") + width("V") - 1.0);
}

fn line<'a>(x: &'a [f64], series: &'a [Series<'a>]) -> Body<'a> {
    Body::Curves(Curves { title: "t", subtitle: "", x_label: "x", x, series, reference: &[] })
}

#[test]
fn refuses_what_it_cannot_show() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("figure.svg");
    let fail = |x: &[f64], y: &[f64]| {
        beside(&path, &line(x, &[Series { name: "ψ₁", values: y }])).unwrap_err()
    };
    assert!(matches!(fail(&[], &[]), FigureError::Empty { .. }));
    assert!(matches!(fail(&[0.0, 1.0], &[0.0]), FigureError::Length { expected: 2, got: 1, .. }));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101] {
        assert!(matches!(fail(&[0.0, 1.0], &[0.0, bad]), FigureError::Value { index: 1, .. }));
        assert!(matches!(fail(&[bad, 1.0], &[0.0, 0.0]), FigureError::Value { index: 0, .. }));
        let values = [1.0, bad];
        let error = spectrum(&path, &spectrum_of(&values, &[])).unwrap_err();
        assert!(matches!(error, FigureError::Value { index: 1, .. }));
    }
    let none = beside(&path, &line(&[0.0], &[])).unwrap_err();
    assert_eq!(none.to_string(), "cannot draw curves: there is none");
    let error = spectrum(&path, &spectrum_of(&[-1.0, 0.0], &[])).unwrap_err();
    assert!(matches!(error, FigureError::Empty { .. }));
    let error = spectrum(&path, &spectrum_of(&[1.0, 0.5], &[0.1])).unwrap_err();
    assert!(matches!(error, FigureError::Length { expected: 2, got: 1, .. }));
    let flat = Contours {
        title: "",
        subtitle: "",
        x_range: (0.0, 0.0),
        y_range: (0.0, 1.0),
        shape: (2, 2),
        functions: &[Series { name: "f", values: &[0.0; 4] }],
        points: &[],
    };
    let error = beside(&path, &Body::Contours(flat)).unwrap_err();
    assert!(matches!(error, FigureError::Empty { .. }));
    let short = Contours { x_range: (0.0, 1.0), shape: (3, 2), ..flat };
    let error = beside(&path, &Body::Contours(short)).unwrap_err();
    assert!(matches!(error, FigureError::Length { .. }));
    let empty = Scatter { title: "", subtitle: "", coordinates: &[], colouring: Colouring::None };
    let error = beside(&path, &Body::Scatter(empty)).unwrap_err();
    assert!(matches!(error, FigureError::Empty { .. }));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn degenerate_and_extreme_values_are_drawn() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("figure.png");
    let extremes = [
        [0.0, 0.0, 0.0],
        [1e100, -1e100, 0.0],
        [1e-300, 0.0, -1e-300],
        [1e-14, 0.0, -1e-14],
        [1e9, 1e9 + 1e-7, 1e9],
        [1e6, 1e6 + 2.0, 1e6],
        [-5e-324, 5e-324, 0.0],
    ];
    for values in extremes {
        let series = [Series { name: "\u{1}<&>\u{0}", values: &values }];
        beside(&path, &line(&values, &series)).unwrap();
        let points = Scatter {
            title: "t",
            subtitle: "",
            coordinates: &[series[0], series[0]],
            colouring: Colouring::Labels(&[i64::MIN, 0, i64::MAX]),
        };
        beside(&path, &Body::Scatter(points)).unwrap();
        let grid = [values[0], values[1], values[2], 0.0];
        let surface = Contours {
            title: "t",
            subtitle: "",
            x_range: (-1e-12, 1e-12),
            y_range: (-1e90, 1e90),
            shape: (2, 2),
            functions: &[Series { name: "f", values: &grid }],
            points: &[],
        };
        beside(&path, &Body::Contours(surface)).unwrap();
        if values.iter().any(|v| *v > 0.0) {
            let reference = Some(series[0]);
            let figure = Spectrum { reference, ..spectrum_of(&values, &values) };
            spectrum(&path, &figure).unwrap();
        }
    }
}

#[test]
fn names_the_file_that_cannot_be_written() {
    let out = tempfile::tempdir().unwrap();
    let figure = spectrum_of(&[1.0, 0.1], &[]);
    let missing = out.path().join("missing").join("figure.svg");
    let error = spectrum(&missing, &figure).unwrap_err();
    assert!(matches!(error, FigureError::Io { .. }));
    assert!(error.to_string().contains("figure.svg"), "{error}");
    for name in ["figure", "figure.pdf", ".png"] {
        let error = spectrum(&out.path().join(name), &figure).unwrap_err();
        assert!(matches!(error, FigureError::Format { .. }), "{name}");
    }
    // A directory in the way: an error, and no temporary file left.
    std::fs::create_dir(out.path().join("taken.svg")).unwrap();
    let error = spectrum(&out.path().join("taken.svg"), &figure).unwrap_err();
    assert!(matches!(error, FigureError::Io { .. }));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    spectrum(&out.path().join("upper.SVG"), &figure).unwrap();
}

#[test]
fn numbers_on_axes_are_short_and_exact() {
    for (value, step, expected) in [
        (0.0, 0.1, "0"),
        (0.30000000000000004, 0.1, "0.3"),
        (-0.25, 0.05, "−0.25"),
        (12000.0, 2000.0, "12000"),
        (2.5e8, 5e7, "2.5×10⁸"),
        (-3e-7, 1e-7, "−3×10⁻⁷"),
    ] {
        assert_eq!(style::number(value, step), expected);
    }
}
