//! A method of a program's own: fitted, certified, saved, and handed over again to read its file.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use neuralef::fit::{LoadOptions, Problem};
use neuralef::method::{Fitted, MethodRecord, Run};
use neuralef::persist::Archive;
use neuralef::spec::Spec;
use neuralef::{
    Dataset, Error, FeatureMap, FitSpec, Kernel, Mat, Mat64, MatRef, Method, Model, Result, fit,
};

/// Principal components of the points: exact for the kernel xᵀx' of centred points.
#[derive(Debug)]
struct Pca;

/// ψ_j(x) = v_jᵀx/√μ_j.
struct Components {
    /// v_j/√μ_j in columns, d × k.
    projection: Mat64,
    eigenvalues: Vec<f64>,
}

impl FeatureMap for Components {
    fn inputs(&self) -> usize {
        self.projection.nrows()
    }

    fn components(&self) -> usize {
        self.projection.ncols()
    }

    fn transform(&self, x: MatRef<'_>) -> Result<Mat> {
        let roots = ndarray::Array1::from_iter(self.eigenvalues.iter().map(|mu| mu.sqrt()));
        Ok((self.eigenfunctions(x)? * roots).mapv(|v| v as f32))
    }

    fn eigenvalues(&self) -> Option<&[f64]> {
        Some(&self.eigenvalues)
    }

    fn eigenfunctions(&self, x: MatRef<'_>) -> Result<Mat64> {
        Ok(x.mapv(f64::from).dot(&self.projection))
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (d, k) = self.projection.dim();
        archive.put_f64("projection", &[d, k], self.projection.iter().copied().collect())?;
        archive.put_f64("eigenvalues", &[k], self.eigenvalues.clone())
    }
}

impl Method for Pca {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        problem.expect_kernel("pca", "its components are those of a linear kernel")?;
        run.begin("pca", "pca")?;
        problem.expect_points_for_components()?;
        let rows = problem.split().train.clone();
        let x = problem.batch(&rows)?.x.mapv(f64::from);
        let covariance = x.t().dot(&x) / x.nrows() as f64;
        // Two dimensions: the eigenpairs of a symmetric 2 × 2 matrix in closed form.
        let (a, b, c) = (covariance[[0, 0]], covariance[[0, 1]], covariance[[1, 1]]);
        let root = ((a - c) / 2.0).hypot(b);
        let eigenvalues = vec![(a + c) / 2.0 + root, (a + c) / 2.0 - root];
        let angle = 0.5 * (2.0 * b).atan2(a - c);
        let projection = Mat64::from_shape_fn((2, 2), |(i, j)| {
            let v = [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]];
            v[i][j] / eigenvalues[j].sqrt()
        });
        let map = Box::new(Components { projection, eigenvalues });
        let record = MethodRecord::default();
        let points = rows.len();
        Ok(Fitted::new(map, rows, points, record))
    }

    fn load(
        &self,
        archive: &Archive,
        _: &FitSpec,
        _: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        let eigenvalues = archive.f64_vector("eigenvalues")?;
        let projection = archive.f64_matrix("projection", (2, eigenvalues.len()))?;
        Ok(Box::new(Components { projection, eigenvalues }))
    }

    fn text(&self) -> String {
        "pca".into()
    }
}

#[test]
fn its_model_is_certified_saved_and_missed_by_name() {
    let data = Dataset::open("gaussian(n=400, d=2)", 3).unwrap();
    let spec = FitSpec { method: Spec::own(Arc::new(Pca)), ..FitSpec::new("linear", 2).unwrap() };
    let model = fit(&data, &spec).unwrap();
    let exact = FitSpec { method: "kernel_pca".parse().unwrap(), ..spec };
    let exact = fit(&data, &exact).unwrap();
    for (pair, exact) in model.certificate().pairs.iter().zip(exact.eigenvalues()) {
        assert!((pair.eigenvalue / exact - 1.0).abs() < 1e-9, "{} {exact}", pair.eigenvalue);
        // Exact up to the single precision of the points.
        assert!(pair.residual < 1e-5, "{}", pair.residual);
    }
    let bytes = model.to_bytes().unwrap();
    let error = Model::from_bytes(&bytes).err().unwrap();
    assert!(
        matches!(&error, Error::OwnedByProgram { kind: "method", name } if name == "pca"),
        "{error}"
    );
    let options = || LoadOptions::default().method(Arc::new(Pca));
    let again = Model::from_bytes_with(&bytes, options()).unwrap();
    let x = data.range(0..20).unwrap();
    assert_eq!(again.transform(x.view()).unwrap(), model.transform(x.view()).unwrap());
    // A file that knows its method takes no other.
    let error = Model::from_bytes_with(&exact.to_bytes().unwrap(), options()).err().unwrap();
    assert!(error.to_string().starts_with("method: expected none"), "{error}");
}
