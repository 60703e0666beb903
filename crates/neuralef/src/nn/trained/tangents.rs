//! `tangents(of=..)`: eigenfunctions that are derivatives of a trained network along directions in its
//! parameters, ψ_j(x) = J(x)v_j.
//!
//! Eigenfunctions of a tangent kernel κ(x, x') = J(x)J(x')ᵀ are of this form, with
//! v_j = E[J(x)ᵀψ_j(x)]/μ_j: P numbers for each, and no training point, whatever their number. ELLA
//! (Deng et al. 2022, NeurIPS) evaluates the Nyström method this way.

use std::sync::Arc;

use ndarray::{Axis, s};

use super::{TRAINED, Trained, TrainedNetwork, shown};
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatRef, expect_columns};
use crate::nn::dense::MAX_PARAMETERS;
use crate::nn::directional::{along, held, pulled_back};
use crate::nn::rows::expect_cotangent;
use crate::nn::source::NetworkFile;
use crate::nn::{
    Architecture, Network, NetworkSize, Parameters, Tape, columns_of_outputs, rows_of_outputs,
};
use crate::rng;
use crate::spec::{Args, Domain, Entry, Parameter};

/// Parameters that are summed over at a time.
const DEPTH: usize = 1 << 14;
/// Directions beyond k that `auto` takes, at least.
const BEYOND: usize = 10;
/// Eigenvalues below this share of the largest are rounding of single precision.
const FLOOR: f64 = 1e-6;

/// Registry entry.
pub(in crate::nn) const TANGENTS: Entry<Arc<dyn Architecture>> = Entry {
    name: "tangents",
    summary: "derivatives of a trained network along k directions in its parameters",
    parameters: &[
        TRAINED[0],
        TRAINED[1],
        TRAINED[2],
        TRAINED[3],
        Parameter::new(
            "directions",
            Domain::Integer(1, 1 << 20),
            "auto",
            "directions in parameters, k or more; auto: 2k, and at least k + 10",
        )
        .or(&["auto"]),
        Parameter::new(
            "points",
            Domain::Integer(1, 1 << 20),
            "1000",
            "training points that the start is from",
        ),
        Parameter::new(
            "iterations",
            Domain::Integer(0, 100),
            "2",
            "iterations of the subspace method on the points of the start",
        ),
    ],
    build: |args| Ok(Arc::new(TangentsOf::read(args)?)),
};

/// `tangents(..)`.
#[derive(Debug)]
struct TangentsOf {
    trained: Trained,
    directions: Option<usize>,
    points: usize,
    iterations: usize,
}

impl TangentsOf {
    fn read(args: &Args<'_>) -> Result<Self> {
        let trained = Trained::read(args)?;
        let directions = match args.is("directions", "auto") {
            true => None,
            false => Some(args.size("directions")?),
        };
        let (points, iterations) = (args.size("points")?, args.size("iterations")?);
        Ok(TangentsOf { trained, directions, points, iterations })
    }

    fn count(&self, functions: usize) -> usize {
        let auto = functions.saturating_mul(2).max(functions.saturating_add(BEYOND));
        self.directions.unwrap_or(auto)
    }
}

impl Architecture for TangentsOf {
    fn build(
        &self,
        inputs: usize,
        functions: usize,
        outputs: usize,
        seed: u64,
    ) -> Result<Box<dyn Network>> {
        let trunk = self.trained.network(inputs)?;
        if trunk.outputs() != outputs {
            let expected = format!(
                "{}, as the trained network has, with output_form = joint",
                trunk.outputs()
            );
            return Err(Error::parameter("outputs", expected, outputs));
        }
        let count = self.count(functions);
        if functions == 0 || count < functions {
            let expected = format!("at least as many as functions, {functions}");
            return Err(Error::parameter("directions", expected, count));
        }
        let parameters = self.size(inputs, functions, outputs).parameters;
        if parameters > MAX_PARAMETERS {
            let expected = format!("directions with at most {MAX_PARAMETERS} numbers in all");
            return Err(Error::parameter("directions", expected, parameters));
        }
        let layout = trunk.parameters().layouts()[0].clone();
        let mut directions = Parameters::zeros(vec![layout; count]);
        for (number, unit) in directions.units_mut().iter_mut().enumerate() {
            let mut rng = rng::stream(seed, "direction", number as u64);
            rng::fill_normal(&mut rng, unit);
        }
        let (points, iterations) = (self.points, self.iterations);
        Ok(Box::new(Tangents { trunk, functions, outputs, points, iterations, seed, directions }))
    }

    fn size(&self, inputs: usize, functions: usize, _outputs: usize) -> NetworkSize {
        let trunk = self.trained.size(inputs);
        let count = self.count(functions) as u64;
        let functions = functions as u64;
        NetworkSize {
            parameters: trunk.parameters.saturating_mul(count),
            hidden: count,
            activations: inputs as u64,
            working: held(trunk.parameters).saturating_mul(trunk.parameters),
            segments: 1,
            block: 1,
            jacobian: functions.saturating_mul(functions).saturating_mul(trunk.parameters),
        }
    }

    fn text(&self) -> String {
        let directions = self.directions.map_or_else(|| "auto".into(), |d| d.to_string());
        let trained = self.trained.values();
        let mut values = shown(&trained);
        values.push(("directions", &directions));
        values.push(("points", &self.points));
        values.push(("iterations", &self.iterations));
        TANGENTS.text(&values)
    }

    fn starts_from_data(&self) -> bool {
        true
    }

    fn hidden_has_outputs(&self) -> bool {
        true
    }

    fn is_made_of(&self, trained: &TrainedNetwork) -> bool {
        self.trained.is_same(trained.trained())
    }

    fn file(&self) -> Option<&NetworkFile> {
        Some(self.trained.source())
    }
}

/// Derivatives of a network along directions in its parameters. The first k are the functions; all of
/// them are the basis of a readout.
struct Tangents {
    trunk: Box<dyn Network>,
    /// k.
    functions: usize,
    /// C.
    outputs: usize,
    /// Of the start.
    points: usize,
    iterations: usize,
    seed: u64,
    /// One unit for each direction, laid out as the parameters of the trunk.
    directions: Parameters,
}

impl Tangents {
    /// P.
    fn width(&self) -> usize {
        self.trunk.parameters().units()[0].len()
    }

    /// The first `count` of `directions` as a matrix, count × P.
    fn matrix(&self, directions: &Parameters, count: usize) -> Result<Mat> {
        let flat: Vec<f32> = directions.units()[..count].iter().flatten().copied().collect();
        Mat::from_shape_vec((count, self.width()), flat)
            .map_err(|e| Error::shape("directions", format!("{count} × {}", self.width()), e))
    }

    /// J(x)V for the first `count` of `directions`: n·C × count.
    fn along(&self, x: MatRef<'_>, directions: &Parameters, count: usize) -> Result<Mat> {
        directions.expect_units("directions", self.directions.units().len(), self.width())?;
        along(&*self.trunk, x, self.matrix(directions, count)?.view())
    }

    /// Σ over (point, output) of Jᵀ·weights, P × r for weights n·C × r.
    fn pulled_back(&self, x: MatRef<'_>, weights: MatRef<'_>) -> Result<Mat> {
        pulled_back(&*self.trunk, x, weights)
    }

    /// Takes the columns of a matrix for directions.
    fn set(&mut self, directions: &Mat) {
        for (unit, column) in self.directions.units_mut().iter_mut().zip(directions.columns()) {
            unit.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        }
    }
}

impl Network for Tangents {
    fn inputs(&self) -> usize {
        self.trunk.inputs()
    }

    fn functions(&self) -> usize {
        self.functions
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn hidden_width(&self) -> usize {
        self.directions.units().len()
    }

    fn parameters(&self) -> &Parameters {
        &self.directions
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.directions
    }

    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        let out = self.along(x, &self.directions, self.functions)?;
        if let Some(tape) = tape {
            tape.rows = x.nrows();
            tape.input.clear();
            tape.input.extend(x.iter());
        }
        columns_of_outputs(out, self.outputs)
    }

    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        let (n, d) = (tape.rows, self.inputs());
        expect_cotangent(cotangent, n, self.functions * self.outputs)?;
        gradient.expect_units("gradient", self.directions.units().len(), self.width())?;
        let x = MatRef::from_shape((n, d), &tape.input)
            .map_err(|e| Error::shape("tape", "one recorded by this network", e))?;
        let rows = rows_of_outputs(cotangent.to_owned(), self.outputs)?;
        let found = self.pulled_back(x, rows.view())?;
        // No function depends on the further directions.
        let none = std::iter::repeat_n(None, self.hidden_width() - self.functions);
        let found = found.columns().into_iter().map(Some).chain(none);
        for (unit, found) in gradient.units_mut().iter_mut().zip(found) {
            match found {
                Some(column) => unit.iter_mut().zip(column).for_each(|(to, from)| *to = *from),
                None => unit.fill(0.0),
            }
        }
        Ok(())
    }

    /// The functions are linear in the directions.
    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        columns_of_outputs(self.along(x, tangent, self.functions)?, self.outputs)
    }

    fn unit(&self, function: usize) -> usize {
        function
    }

    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        let out = self.along(x, &self.directions, self.hidden_width())?;
        columns_of_outputs(out, self.outputs)
    }

    fn is_heavy(&self) -> bool {
        true
    }

    fn directions(&self) -> Option<Mat> {
        self.matrix(&self.directions, self.hidden_width()).ok()
    }

    fn start_points(&self) -> usize {
        self.points
    }

    /// The subspace method for the tangent kernel on `x`: directions V = JᵀQ for an orthonormal Q that
    /// spans JV, some times over from random Q, and then those of the eigenvectors in the last
    /// subspace, in order, scaled to E_x Σ_c (Jv)_c² = 1 (Halko, Martinsson & Tropp 2011, algorithms
    /// 4.4 and 5.3). 2·iterations + 1 passes of C backward passes over the points.
    fn start(&mut self, x: MatRef<'_>) -> Result<()> {
        expect_columns("x", x, self.inputs())?;
        let (rows, count) = (x.nrows() * self.outputs, self.hidden_width());
        if rows < count {
            let expected = format!("at most {rows}, points times outputs of the start");
            return Err(Error::parameter("directions", expected, count));
        }
        let mut q = Mat::zeros((rows, count));
        let mut rng = rng::stream(self.seed, "subspace", 0);
        rng::fill_normal(&mut rng, q.as_slice_mut().unwrap_or_default());
        q = orthonormal(&q.mapv(f64::from))?.mapv(|v| v as f32);
        let mut v = self.pulled_back(x, q.view())?;
        for _ in 0..self.iterations {
            self.set(&v);
            let values = self.along(x, &self.directions, count)?.mapv(f64::from);
            q = orthonormal(&values)?.mapv(|v| v as f32);
            v = self.pulled_back(x, q.view())?;
        }
        // QᵀJJᵀQ = VᵀV, whose eigenvectors U give J(VU) = KQU ≈ QUΛ.
        let (values, vectors) = linalg::eigh(gram(&v)?.view())?;
        let largest = values.first().copied().unwrap_or(0.0);
        if largest.is_nan() || largest <= 0.0 {
            let message = "the tangent kernel vanishes at the points of the start".into();
            return Err(Error::Numerical { what: "directions".into(), message });
        }
        let scale = (x.nrows() as f64).sqrt();
        let mut turn = vectors.slice(s![.., ..count.min(vectors.ncols())]).to_owned();
        for (mut column, value) in turn.axis_iter_mut(Axis(1)).zip(&values) {
            column *= scale / value.max(FLOOR * largest);
        }
        let turn = turn.mapv(|v| v as f32);
        let v = linalg::matmul_f32(v.view(), turn.view())?;
        self.set(&v);
        Ok(())
    }
}

/// VᵀV in double precision.
fn gram(v: &Mat) -> Result<Mat64> {
    let mut sum = Mat64::zeros((v.ncols(), v.ncols()));
    for block in v.axis_chunks_iter(Axis(0), DEPTH) {
        let block = block.mapv(f64::from);
        sum += &linalg::tr_matmul_f64(block.view(), block.view())?;
    }
    Ok(sum)
}

/// An orthonormal basis of the columns, as many as these; zeros where they are dependent.
fn orthonormal(values: &Mat64) -> Result<Mat64> {
    let basis = linalg::orthonormal_basis(values.view())?;
    let mut out = Mat64::zeros(values.dim());
    out.slice_mut(s![.., ..basis.ncols()]).assign(&basis);
    Ok(out)
}
