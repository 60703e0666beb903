//! `neuralef plot`: curves for one column, contours for two, a scatter for more, or the spectrum.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use ndarray::s;
use neuralef::{Dataset, Mat, MatRef, Model};
use serde_json::json;

use super::expect_width;
use crate::args::PlotArgs;
use crate::output::{distinct, file, say};
use crate::report;
use neuralef_figure::{
    self as figure, Body, Colouring, Contours, Curves, Scatter, Series, Spectrum,
};

/// Points of a curve.
const CURVE: usize = 400;
/// Grid points along each side of a contour plot.
const GRID: usize = 80;
/// The most data points drawn, and that ranges are taken from.
const POINTS: usize = 2000;
/// The most eigenfunctions drawn.
const FUNCTIONS: usize = 6;

pub(crate) fn run(args: &PlotArgs, json: bool) -> Result<()> {
    let data = args.data.as_deref().map(file);
    distinct(&[("--output", Some(&args.output))], data.into_iter().chain([args.model.as_path()]))?;
    let model = Model::load(&args.model)?;
    drawable(&model)?;
    if args.spectrum {
        let values = Eigenvalues::of(&model);
        figure::spectrum(&args.output, &values.figure("Spectrum"))?;
    } else {
        let data = match &args.data {
            Some(location) => Some(Dataset::open(location, args.seed)?),
            // The training data, if they are still where they were.
            None => Dataset::open(&model.info().data, args.seed).ok(),
        };
        draw(&model, data.as_ref(), &args.output)?;
    }
    if json {
        say(json!({"figure": args.output.to_string_lossy()}))
    } else {
        say(format_args!("figure {}", args.output.display()))
    }
}

/// Fails for a model of random features, which has nothing to draw.
pub(crate) fn drawable(model: &Model) -> Result<()> {
    ensure!(
        model.has_eigenpairs(),
        "{}: random features have no eigenvalues or eigenfunctions to draw; features=D in the \
         method reduces D of them to eigenpairs",
        model.info().spec.method
    );
    Ok(())
}

/// Spectrum and eigenfunctions side by side.
pub(crate) fn draw(model: &Model, data: Option<&Dataset>, path: &Path) -> Result<()> {
    let info = model.info();
    let Some(data) = data else {
        bail!("DATA is needed to draw eigenfunctions: {} cannot be opened any more", info.data);
    };
    expect_width(model, data)?;
    let title = format!("Eigenfunctions of {}", report::kernel(info));
    let subtitle = format!("{}, {} points, {}", info.data, info.n_samples, info.spec.method);
    let values = Eigenvalues::of(model);
    let spectrum = values.figure("Eigenvalues ± standard error");
    let rows: Vec<usize> = (0..data.len()).step_by(data.len().div_ceil(POINTS).max(1)).collect();
    let x = data.rows(&rows)?;
    match x.ncols() {
        1 => {
            let grid = line(&x);
            let psi = columns(model, grid.view())?;
            let series = series(&psi);
            let abscissas: Vec<f64> = grid.iter().map(|v| f64::from(*v)).collect();
            let body = Body::Curves(Curves {
                title: "Eigenfunctions ψ(x)",
                subtitle: "",
                x_label: "x",
                x: &abscissas,
                series: &series,
                reference: &[],
            });
            figure::panel(path, &title, &subtitle, &spectrum, &body)?;
        }
        2 => {
            let (grid, x_range, y_range) = square(&x);
            let psi = columns(model, grid.view())?;
            let series = series(&psi);
            let points: Vec<[f64; 2]> =
                x.outer_iter().map(|p| [f64::from(p[0]), f64::from(p[1])]).collect();
            let body = Body::Contours(Contours {
                title: "Eigenfunctions ψ(x)",
                subtitle: "",
                x_range,
                y_range,
                shape: (GRID, GRID),
                functions: &series,
                points: &points,
            });
            figure::panel(path, &title, &subtitle, &spectrum, &body)?;
        }
        _ => {
            let psi = columns(model, x.view())?;
            let series = series(&psi);
            let labels: Option<Vec<i64>> =
                data.labels().map(|l| rows.iter().map(|&r| l[r]).collect());
            let body = Body::Scatter(Scatter {
                title: "Points in eigenfunction coordinates",
                subtitle: "",
                coordinates: &series,
                colouring: labels.as_deref().map_or(Colouring::None, Colouring::Labels),
            });
            figure::panel(path, &title, &subtitle, &spectrum, &body)?;
        }
    }
    Ok(())
}

/// Eigenvalues and errors, held for a figure to borrow.
struct Eigenvalues {
    values: Vec<f64>,
    errors: Vec<f64>,
}

impl Eigenvalues {
    fn of(model: &Model) -> Self {
        let pairs = &model.certificate().pairs;
        Eigenvalues {
            values: pairs.iter().map(|p| p.eigenvalue).collect(),
            errors: pairs.iter().map(|p| p.standard_error).collect(),
        }
    }

    fn figure<'a>(&'a self, title: &'a str) -> Spectrum<'a> {
        Spectrum {
            title,
            subtitle: "",
            eigenvalues: Series { name: "eigenvalue", values: &self.values },
            standard_errors: &self.errors,
            reference: None,
        }
    }
}

/// The values of the first few eigenfunctions at x, output by output, with their names.
fn columns(model: &Model, x: MatRef<'_>) -> Result<Vec<(String, Vec<f64>)>> {
    let psi = model.eigenfunctions(x)?;
    let outputs = model.outputs();
    let named = |(j, c): (usize, usize)| {
        let name = match outputs {
            1 => format!("ψ{}", subscript(j + 1)),
            _ => format!("ψ{},{}", subscript(j + 1), subscript(c + 1)),
        };
        (name, psi.slice(s![c..;outputs, j]).to_vec())
    };
    let all = (0..psi.ncols()).flat_map(|j| (0..outputs).map(move |c| (j, c)));
    Ok(all.take(FUNCTIONS).map(named).collect())
}

fn series(columns: &[(String, Vec<f64>)]) -> Vec<Series<'_>> {
    columns.iter().map(|(name, values)| Series { name, values }).collect()
}

/// ₁, ₂, …
fn subscript(j: usize) -> String {
    let digit = |c: char| c.to_digit(10).and_then(|d| char::from_u32(0x2080 + d)).unwrap_or(c);
    j.to_string().chars().map(digit).collect()
}

fn range(values: impl Iterator<Item = f32>) -> (f64, f64) {
    let ends = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let (low, high) = (f64::from(ends.0), f64::from(ends.1));
    if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
}

/// The i-th of n points evenly spread over a range.
fn spread((low, high): (f64, f64), i: usize, n: usize) -> f32 {
    (low + (high - low) * i as f64 / (n - 1) as f64) as f32
}

fn line(x: &Mat) -> Mat {
    let ends = range(x.iter().copied());
    Mat::from_shape_fn((CURVE, 1), |(i, _)| spread(ends, i, CURVE))
}

fn square(x: &Mat) -> (Mat, (f64, f64), (f64, f64)) {
    let padded = |c: usize| {
        let (low, high) = range(x.column(c).iter().copied());
        let margin = 0.08 * (high - low);
        (low - margin, high + margin)
    };
    let (across, up) = (padded(0), padded(1));
    let grid = Mat::from_shape_fn((GRID * GRID, 2), |(i, c)| match c {
        0 => spread(across, i % GRID, GRID),
        _ => spread(up, i / GRID, GRID),
    });
    (grid, across, up)
}
