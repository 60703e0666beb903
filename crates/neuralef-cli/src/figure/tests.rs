//! Figures are written whole, are valid, show what they were given, and refuse what they can't show.

use std::f64::consts::{PI, SQRT_2};
use std::path::PathBuf;

use resvg::tiny_skia::Pixmap;
use resvg::usvg::roxmltree::Document;

use super::*;

/// Where figures go: `$FIGURE_DIR` to look at them, else a directory that vanishes.
struct Out(Option<tempfile::TempDir>, PathBuf);

fn out() -> Out {
    match std::env::var_os("FIGURE_DIR") {
        Some(folder) => Out(None, PathBuf::from(folder)),
        None => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_path_buf();
            Out(Some(folder), path)
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
    let length = |name| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
    let image = Pixmap::load_png(png).unwrap();
    let scale = f64::from(file::PNG_SCALE);
    assert_eq!(f64::from(image.width()), scale * length("width"));
    assert_eq!(f64::from(image.height()), scale * length("height"));
    let dark = image.pixels().iter().filter(|p| p.red() < 60 && p.green() < 60).count();
    assert!(dark > 500, "only {dark} dark pixels: is the text missing?");
    text
}

#[test]
fn curves_hold_every_point_and_both_dashes_and_names() {
    let out = out();
    let (x, exact, _) = brownian(7);
    let learned: Vec<Vec<f64>> = exact
        .iter()
        .map(|psi| psi.iter().enumerate().map(|(i, v)| v + 0.03 * (i as f64).sin()).collect())
        .collect();
    let names = names(7);
    let exact_names = vec!["exact".to_string(); 7];
    let (series, reference) = (series(&names, &learned), series(&exact_names, &exact));
    let figure = Curves {
        title: "Eigenfunctions of the Brownian kernel <min(s, t)> & more",
        subtitle: "7 eigenfunctions on U[0, 1], exact ones dashed",
        x_label: "t",
        x: &x,
        series: &series,
        reference: &reference,
    };
    let text = both(&out.1, "curves", |path| curves(path, &figure));
    let document = Document::parse(&text).unwrap();
    let lines: Vec<_> = document
        .descendants()
        .filter(|n| n.has_tag_name("path") && n.attribute("stroke-linejoin").is_some())
        .collect();
    assert_eq!(lines.len(), 14);
    assert_eq!(lines.iter().filter(|n| n.attribute("stroke-dasharray").is_some()).count(), 7);
    for line in lines {
        let numbers = line.attribute("d").unwrap().split(['M', 'L', ' ']).skip(1).count();
        assert_eq!(numbers, 2 * x.len());
    }
    for word in names.iter().map(String::as_str).chain(["exact", figure.title]) {
        assert!(document.descendants().any(|n| n.text() == Some(word)), "{word} is missing");
    }
    let one = Curves { series: &series[..1], reference: &[], ..figure };
    both(&out.1, "curve", |path| curves(path, &one));
}

#[test]
fn spectrum_places_values_on_a_logarithmic_axis() {
    let out = out();
    let mu: Vec<f64> = (0..10).map(|j| 0.5 * 10f64.powi(-j)).collect();
    let errors: Vec<f64> = mu.iter().map(|m| 0.02 * m + 1e-8).collect();
    let exact: Vec<f64> = mu.iter().map(|m| 1.01 * m).collect();
    let figure = Spectrum {
        title: "Spectrum",
        subtitle: "",
        eigenvalues: Series { name: "learned ± 1 s.e.", values: &mu },
        standard_errors: &errors,
        reference: Some(Series { name: "exact", values: &exact }),
    };
    let text = both(&out.1, "spectrum", |path| spectrum(path, &figure));
    let document = Document::parse(&text).unwrap();
    let read = |n: &resvg::usvg::roxmltree::Node<'_, '_>, a| {
        n.attribute(a).unwrap().parse::<f64>().unwrap()
    };
    let discs: Vec<(f64, f64)> = document
        .descendants()
        .filter(|n| n.has_tag_name("circle"))
        .map(|n| (read(&n, "cx"), read(&n, "cy")))
        .collect();
    assert_eq!(discs.len(), 11, "ten values and one legend entry");
    for pair in discs[..10].windows(2) {
        let (dx, dy) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        assert!((dx - (discs[1].0 - discs[0].0)).abs() < 0.02);
        assert!((dy - (discs[1].1 - discs[0].1)).abs() < 0.02, "decades are equally far apart");
        assert!(dy > 20.0);
    }
    for label in ["10⁰", "10⁻⁸"] {
        assert!(document.descendants().any(|n| n.text() == Some(label)), "{label} is missing");
    }
    // Values that a logarithm can't show are marked, not dropped.
    let mu = [1.0, 0.1, 0.0, -1e-9];
    let figure = Spectrum {
        eigenvalues: Series { name: "learned", values: &mu },
        standard_errors: &[0.5, 0.2, 0.1, 0.1],
        reference: None,
        ..figure
    };
    let text = both(&out.1, "spectrum-signed", |path| spectrum(path, &figure));
    assert!(text.contains("zero or negative"));
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
fn contours_embed_one_picture_for_each_function() {
    let out = out();
    let (nx, ny) = (50, 40);
    let values = grid_functions(nx, ny, 9);
    let names = names(9);
    let functions = series(&names[1..], &values[1..]);
    let points: Vec<[f64; 2]> =
        (0..400).map(|i| [f64::from(i % 20) / 20.0, f64::from(i / 20) / 20.0]).collect();
    let figure = Contours {
        title: "Functions of two variables",
        subtitle: "rbf(lengthscale=0.5) on the unit square",
        x_range: (0.0, 1.0),
        y_range: (0.0, 0.8),
        shape: (nx, ny),
        functions: &functions,
        points: &points,
    };
    let text = both(&out.1, "contours", |path| contours(path, &figure));
    let document = Document::parse(&text).unwrap();
    let images = document.descendants().filter(|n| n.has_tag_name("image")).count();
    assert_eq!(images, 8 + 1, "and the colour bar");
    let one = Contours { functions: &functions[..1], points: &[], ..figure };
    both(&out.1, "contour", |path| contours(path, &one));
}

#[test]
fn isolines_of_a_cone_are_closed_circles() {
    let n = 81;
    let at = |i: usize| f64::from(i as u32) / 40.0 - 1.0;
    let cone: Vec<f64> = (0..n * n).map(|i| at(i % n).hypot(at(i / n))).collect();
    let paths = contours::isolines(&cone, n, n, 0.6);
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].first(), paths[0].last());
    let mut length = 0.0;
    for pair in paths[0].windows(2) {
        let radius = (pair[0].0 / 40.0 - 1.0).hypot(pair[0].1 / 40.0 - 1.0);
        assert!((radius - 0.6).abs() < 5e-4, "{radius}");
        length += (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1) / 40.0;
    }
    assert!((length - 2.0 * PI * 0.6).abs() < 5e-3, "{length}");
}

#[test]
fn isolines_of_a_saddle_stay_apart_and_open() {
    let (n, level) = (4, 0.25);
    let saddle: Vec<f64> =
        (0..16).map(|i| ((i % n) as f64 - 1.5) * ((i / n) as f64 - 1.5)).collect();
    let paths = contours::isolines(&saddle, n, n, level - 0.1);
    assert_eq!(paths.len(), 2);
    assert!(paths.iter().all(|p| p.first() != p.last()));
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
fn scatter_colours_by_class_and_by_value() {
    let out = out();
    let (coordinates, labels) = cloud(900);
    let names = names(3);
    let coordinates = series(&names, &coordinates);
    let figure = Scatter {
        title: "Digits in eigenfunction coordinates",
        subtitle: "900 held-out points",
        coordinates: &coordinates,
        colouring: Colouring::Labels(&labels),
    };
    let text = both(&out.1, "scatter", |path| scatter(path, &figure));
    let discs = |text: &str| text.matches("<circle").count();
    assert_eq!(discs(&text), 3 * 900 + 10);
    let by_value =
        Scatter { colouring: Colouring::Values("ψ₁", coordinates[0].values), ..figure };
    let text = both(&out.1, "scatter-values", |path| scatter(path, &by_value));
    assert_eq!(discs(&text), 3 * 900);
    let alone = Scatter { coordinates: &coordinates[..1], colouring: Colouring::None, ..figure };
    let text = both(&out.1, "scatter-one", |path| scatter(path, &alone));
    assert_eq!(discs(&text), 900);
}

#[test]
fn scatter_thins_large_sets_and_says_so() {
    let out = out();
    let (coordinates, labels) = cloud(20_001);
    let names = names(3);
    let figure = Scatter {
        title: "Many",
        subtitle: "",
        coordinates: &series(&names[..2], &coordinates[..2]),
        colouring: Colouring::Labels(&labels),
    };
    let text = both(&out.1, "scatter-many", |path| scatter(path, &figure));
    assert!(text.contains("3334 of 20001 points shown"));
    assert_eq!(text.matches("<circle").count(), 3334 + 10);
}

#[test]
fn panel_combines_spectrum_and_eigenfunctions() {
    let out = out();
    let (x, psi, mu) = brownian(10);
    let names = names(10);
    let exact_names = vec!["exact".to_string(); 10];
    let errors: Vec<f64> = mu.iter().map(|m| 0.2 * m).collect();
    let left = Spectrum {
        title: "Eigenvalues",
        subtitle: "",
        eigenvalues: Series { name: "learned ± 1 s.e.", values: &mu },
        standard_errors: &errors,
        reference: Some(Series { name: "exact", values: &mu }),
    };
    let curves = Curves {
        title: "Eigenfunctions",
        subtitle: "",
        x_label: "t",
        x: &x,
        series: &series(&names, &psi),
        reference: &series(&exact_names, &psi),
    };
    let draw = |path: &Path| {
        panel(path, "Brownian motion, min(s, t) on U[0, 1]", "k = 10", &left, &Body::Curves(curves))
    };
    both(&out.1, "panel", draw);
    let (coordinates, labels) = cloud(1200);
    let body = Scatter {
        title: "First three eigenfunctions",
        subtitle: "",
        coordinates: &series(&names[..3], &coordinates),
        colouring: Colouring::Labels(&labels),
    };
    let draw = |path: &Path| panel(path, "Digits", "", &left, &Body::Scatter(body));
    both(&out.1, "panel-scatter", draw);
    let values = grid_functions(30, 30, 10);
    let body = Contours {
        title: "Eigenfunctions",
        subtitle: "",
        x_range: (-2.0, 2.0),
        y_range: (-2.0, 2.0),
        shape: (30, 30),
        functions: &series(&names, &values),
        points: &[],
    };
    let draw = |path: &Path| panel(path, "Two moons", "", &left, &Body::Contours(body));
    both(&out.1, "panel-contours", draw);
}

fn line<'a>(x: &'a [f64], series: &'a [Series<'a>]) -> Curves<'a> {
    Curves { title: "t", subtitle: "", x_label: "x", x, series, reference: &[] }
}

#[test]
fn refuses_what_it_cannot_show() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("figure.svg");
    let fail = |x: &[f64], y: &[f64]| {
        curves(&path, &line(x, &[Series { name: "ψ₁", values: y }])).unwrap_err()
    };
    assert!(matches!(fail(&[], &[]), FigureError::Empty { .. }));
    assert!(matches!(fail(&[0.0, 1.0], &[0.0]), FigureError::Length { expected: 2, got: 1, .. }));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101] {
        assert!(matches!(fail(&[0.0, 1.0], &[0.0, bad]), FigureError::Value { index: 1, .. }));
        assert!(matches!(fail(&[bad, 1.0], &[0.0, 0.0]), FigureError::Value { index: 0, .. }));
    }
    let none = curves(&path, &line(&[0.0], &[])).unwrap_err();
    assert_eq!(none.to_string(), "cannot draw curves: there is none");
    let eigenvalues = Series { name: "μ", values: &[-1.0, 0.0] };
    let figure =
        Spectrum { title: "", subtitle: "", eigenvalues, standard_errors: &[], reference: None };
    assert!(matches!(spectrum(&path, &figure).unwrap_err(), FigureError::Empty { .. }));
    let flat = Contours {
        title: "",
        subtitle: "",
        x_range: (0.0, 0.0),
        y_range: (0.0, 1.0),
        shape: (2, 2),
        functions: &[Series { name: "f", values: &[0.0; 4] }],
        points: &[],
    };
    assert!(matches!(contours(&path, &flat).unwrap_err(), FigureError::Empty { .. }));
    let short = Contours { x_range: (0.0, 1.0), shape: (3, 2), ..flat };
    assert!(matches!(contours(&path, &short).unwrap_err(), FigureError::Length { .. }));
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
        [1e9, 1e9 + 1e-7, 1e9],
        [-5e-324, 5e-324, 0.0],
    ];
    for values in extremes {
        let series = [Series { name: "\u{1}<&>\u{0}", values: &values }];
        curves(&path, &line(&values, &series)).unwrap();
        let points = Scatter {
            title: "t",
            subtitle: "",
            coordinates: &[series[0], series[0]],
            colouring: Colouring::Values("v", &values),
        };
        scatter(&path, &points).unwrap();
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
        contours(&path, &surface).unwrap();
        if values.iter().any(|v| *v > 0.0) {
            let figure = Spectrum {
                title: "t",
                subtitle: "",
                eigenvalues: series[0],
                standard_errors: &values,
                reference: Some(series[0]),
            };
            spectrum(&path, &figure).unwrap();
        }
    }
}

#[test]
fn names_the_file_that_cannot_be_written() {
    let out = tempfile::tempdir().unwrap();
    let series = [Series { name: "ψ₁", values: &[0.0, 1.0] }];
    let figure = line(&[0.0, 1.0], &series);
    let missing = out.path().join("missing").join("figure.svg");
    let error = curves(&missing, &figure).unwrap_err();
    assert!(matches!(error, FigureError::Io { .. }));
    assert!(error.to_string().contains("figure.svg"), "{error}");
    for name in ["figure", "figure.pdf", ".png"] {
        let error = curves(&out.path().join(name), &figure).unwrap_err();
        assert!(matches!(error, FigureError::Format { .. }), "{name}");
    }
    // A directory in the way: an error, and no temporary file left.
    std::fs::create_dir(out.path().join("taken.svg")).unwrap();
    let error = curves(&out.path().join("taken.svg"), &figure).unwrap_err();
    assert!(matches!(error, FigureError::Io { .. }));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    curves(&out.path().join("upper.SVG"), &figure).unwrap();
}

#[test]
fn numbers_on_axes_are_short_and_exact() {
    for (value, step, expected) in [
        (0.0, 0.1, "0"),
        (0.30000000000000004, 0.1, "0.3"),
        (-0.25, 0.25, "−0.25"),
        (12000.0, 2000.0, "12000"),
        (2.5e8, 5e7, "2.5×10⁸"),
        (-3e-7, 1e-7, "−3×10⁻⁷"),
    ] {
        assert_eq!(text::number(value, step), expected);
    }
    let scale = axes::Scale::linear(-2.0, 2.0, 6);
    let labels: Vec<&str> = scale.ticks.iter().map(|t| t.1.as_str()).collect();
    assert_eq!(labels, ["−2.0", "−1.5", "−1.0", "−0.5", "0", "0.5", "1.0", "1.5", "2.0"]);
    assert_eq!(axes::Scale::linear(0.0, 1.0, 5).ticks.len(), 6);
    assert_eq!(axes::Scale::ordinal(1000, 10).ticks.len(), 11);
}

#[test]
fn base64_matches_the_standard_vectors() {
    // RFC 4648, section 10.
    let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
    for (length, expected) in vectors.iter().enumerate() {
        assert_eq!(file::base64(&b"foobar"[..length]), *expected);
    }
}
