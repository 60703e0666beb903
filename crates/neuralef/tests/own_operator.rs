//! An operator of a program's own: fitted as it is, with units that are not rows.

#![allow(clippy::unwrap_used)]

use std::f64::consts::TAU;
use std::sync::Arc;

use neuralef::data::Dataset;
use neuralef::fit::{ReadoutKind, Steps};
use neuralef::matrix::{Mat64, MatMut, MatRef};
use neuralef::operator::{AppliedOperator, Batch, Diagonal, OperatorSpec, Points, Sampler};
use neuralef::{Fit, FitSpec, KernelOperator, Mat, Model, Result};

/// κ(x, x') = Σ_j a_j cos(jθ − jθ') of the angles of points of the unit circle, by its Fourier features and
/// nothing else. Under the uniform measure its eigenvalues are a_j/2, each twice: cos jθ and sin jθ.
struct Fourier([f64; 2]);

impl Fourier {
    /// √a_j cos jθ and √a_j sin jθ, n × 4.
    fn features(&self, x: MatRef<'_>) -> Mat64 {
        Mat64::from_shape_fn((x.nrows(), 4), |(i, c)| {
            let (j, angle) = (c / 2, f64::from(x[[i, 1]]).atan2(f64::from(x[[i, 0]])));
            let phase = (j + 1) as f64 * angle;
            self.0[j].sqrt() * if c % 2 == 0 { phase.cos() } else { phase.sin() }
        })
    }
}

/// x ↦ φ(x)ᵀ(Φᵀv/n).
struct Applied<'a>(&'a Fourier, Mat64);

impl AppliedOperator for Applied<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        Ok(self.0.features(points.x.view()).dot(&self.1))
    }
}

/// Draws a row with its neighbour: a unit is a pair of rows.
struct Neighbours<'a>(&'a Points, &'a [usize], u64);

impl Sampler for Neighbours<'_> {
    fn units(&self) -> usize {
        self.1.len() / 2
    }

    fn draw(&self, step: u64, size: usize) -> Result<Batch> {
        let first = (self.2 + step) as usize * 7;
        let units = (0..size.min(self.units())).map(|u| (first + u) % self.units());
        self.0.batch(&units.flat_map(|u| [self.1[2 * u], self.1[2 * u + 1]]).collect::<Vec<_>>())
    }
}

impl KernelOperator for Fourier {
    fn sampler<'a>(
        &'a self,
        points: &'a Points,
        rows: &'a [usize],
        seed: u64,
    ) -> Box<dyn Sampler + 'a> {
        Box::new(Neighbours(points, rows, seed))
    }

    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        _: Diagonal,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        assert_eq!(batch.indices.len() % 2, 0);
        let phi = self.features(batch.x.view());
        let t_psi = phi.dot(&(phi.t().dot(&psi.mapv(f64::from)) / psi.nrows() as f64));
        out.assign(&t_psi.mapv(|v| v as f32));
        Ok(())
    }

    fn applied<'a>(
        &'a self,
        sample: &[Batch],
        values: Mat64,
    ) -> Result<Box<dyn AppliedOperator + 'a>> {
        let (mut sum, mut row) = (Mat64::zeros((4, values.ncols())), 0);
        for batch in sample {
            let phi = self.features(batch.x.view());
            let here = values.slice(ndarray::s![row..row + phi.nrows(), ..]);
            sum += &phi.t().dot(&here);
            row += phi.nrows();
        }
        Ok(Box::new(Applied(self, sum / row as f64)))
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        Ok(vec![self.0.iter().sum(); batch.indices.len()])
    }
}

fn circle(n: usize) -> Dataset {
    let angle = |i: usize| i as f64 * TAU / n as f64;
    let x = Mat::from_shape_fn((n, 2), |(i, c)| {
        (if c == 0 { angle(i).cos() } else { angle(i).sin() }) as f32
    });
    Dataset::from_array("circle", x).unwrap()
}

#[test]
fn its_eigenpairs_are_found_certified_and_saved() {
    let operator: Arc<dyn KernelOperator> = Arc::new(Fourier([1.0, 0.5]));
    let spec = FitSpec {
        operator: Some(OperatorSpec::from(operator)),
        n_components: 4,
        network: "mlp(hidden=[24], activation=sin_cos)".parse().unwrap(),
        steps: Steps::Exactly(60),
        readout: ReadoutKind::Galerkin,
        ..FitSpec::default()
    };
    let data = circle(400);
    let model = Fit::new(spec).run(&data).unwrap().0;
    let exact = [0.5, 0.5, 0.25, 0.25];
    for (pair, mu) in model.certificate().pairs.iter().zip(exact) {
        // A tenth of the circle is held out: eigenvalues move by the share of it that is missing.
        assert!((pair.eigenvalue / mu - 1.0).abs() < 0.06, "{} {mu}", pair.eigenvalue);
        assert!(pair.residual < 0.02, "{}", pair.residual);
    }
    assert!((model.certificate().trace - 1.5).abs() < 1e-9);
    let x = data.range(0..9).unwrap();
    let again = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    // The file says nothing of the operator.
    assert!(again.info().spec.operator.is_none() && again.kernel().is_err());
}

#[test]
fn outputs_are_those_of_the_operator() {
    let operator: Arc<dyn KernelOperator> = Arc::new(Fourier([1.0, 0.5]));
    let spec = FitSpec { operator: Some(operator.into()), outputs: 3, ..FitSpec::default() };
    let message = Fit::new(spec).run(&circle(40)).err().unwrap().to_string();
    assert_eq!(message, "outputs: expected 1, as the operator has, got 3");
}
