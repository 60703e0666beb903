//! A kernel of your own: fitted, saved, and loaded with the kernel handed over again.
//!
//! Asserted: a file of a method that needs the kernel at new points is refused without it, and with it
//! gives the same features to the bit. `cargo run --release -p neuralef --example own_kernel`

use std::sync::Arc;

use neuralef::matrix::{Mat64Mut, MatMut};
use neuralef::operator::OperatorSpec;
use neuralef::{Dataset, Error, Fit, FitSpec, Kernel, MatRef, Model, Result};

/// Σᵢ min(xᵢ, yᵢ) / Σᵢ max(xᵢ, yᵢ), positive semi-definite for coordinates ≥ 0, not all of them 0.
#[derive(Debug)]
struct MinMax;

fn min_max(x: ndarray::ArrayView1<'_, f32>, y: ndarray::ArrayView1<'_, f32>) -> f64 {
    let pairs = x.iter().zip(y).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let (least, most) = pairs.fold((0.0, 0.0), |(a, b), (x, y)| (a + x.min(y), b + x.max(y)));
    least / most
}

impl Kernel for MinMax {
    fn gram(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: Mat64Mut<'_>) -> Result<()> {
        out.indexed_iter_mut().for_each(|((i, j), out)| *out = min_max(x.row(i), y.row(j)));
        Ok(())
    }

    fn gram_f32(&self, x: MatRef<'_>, y: MatRef<'_>, mut out: MatMut<'_>) -> Result<()> {
        out.indexed_iter_mut().for_each(|((i, j), out)| *out = min_max(x.row(i), y.row(j)) as f32);
        Ok(())
    }

    fn diag(&self, x: MatRef<'_>) -> Result<Vec<f64>> {
        Ok(vec![1.0; x.nrows()])
    }

    fn text(&self) -> String {
        "min_max".into()
    }
}

fn main() -> Result<()> {
    let digits = Dataset::open("digits", 0)?; // 1,797 × 64, from 0 to 16
    let operator = Some(OperatorSpec::OwnKernel(Arc::new(MinMax)));
    let method = "nystrom(landmarks=300)".parse()?;
    let (model, _) = Fit::new(FitSpec { operator, method, ..FitSpec::default() }).run(&digits)?;
    for pair in &model.certificate().pairs {
        println!("{:.5} ± {:.5}", pair.eigenvalue, pair.standard_error);
    }
    let path = std::env::temp_dir().join("neuralef_own_kernel.safetensors");
    model.save(&path)?;
    let refused = Model::load(&path).err().map_or("nothing".into(), |e| e.to_string());
    let loaded = Model::load_with(&path, Arc::new(MinMax));
    std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
    println!("without the kernel: {refused}");
    assert!(refused.contains("needs the kernel"));
    let x = digits.range(0..100)?;
    assert_eq!(loaded?.transform(x.view())?, model.transform(x.view())?);
    Ok(())
}
