//! A network of your own: cosines with trainable amplitudes, h_j(x) = Σ_c cos(c(x + 1)) a_cj.
//!
//! Asserted: it spans the first eigenfunctions of Brownian motion, whose eigenvalues are known; a file keeps
//! its name and asks for it again. `cargo run --release -p neuralef --example own_network`
use neuralef::fit::LoadOptions;
use neuralef::nn::{Architecture, NamedTensor, NetworkSize, Parameters, Role, Tape};
use neuralef::{Dataset, FitSpec, Mat, MatRef, Model, Network, Result, fit, spec::Spec};
use std::{f64::consts::PI, sync::Arc};

const M: usize = 20; // cosines
struct Cosines(usize, Parameters); // k functions and their amplitudes, M × k
#[rustfmt::skip] // a line for each method
impl Network for Cosines {
    fn inputs(&self) -> usize { 1 }
    fn functions(&self) -> usize { self.0 }
    fn outputs(&self) -> usize { 1 }
    fn hidden_width(&self) -> usize { M }
    fn parameters(&self) -> &Parameters { &self.1 }
    fn parameters_mut(&mut self) -> &mut Parameters { &mut self.1 }
    fn unit(&self, _function: usize) -> usize { 0 }
    fn hidden(&self, x: MatRef<'_>) -> Result<Mat> {
        Ok(Mat::from_shape_fn((x.nrows(), M), |(i, c)| (c as f32 * (x[[i, 0]] + 1.0)).cos()))
    }
    fn forward(&self, x: MatRef<'_>, tape: Option<&mut Tape>) -> Result<Mat> {
        if let Some(tape) = tape { tape.set_state(Box::new(self.hidden(x)?)); }
        self.jvp(x, &self.1) // linear in the amplitudes
    }
    fn vjp(&self, tape: &Tape, cotangent: MatRef<'_>, gradient: &mut Parameters) -> Result<()> {
        let by_amplitudes = tape.expect_state::<Mat>()?.t().dot(&cotangent);
        gradient.units_mut()[0].iter_mut().zip(&by_amplitudes).for_each(|(g, v)| *g = *v);
        Ok(())
    }
    fn jvp(&self, x: MatRef<'_>, tangent: &Parameters) -> Result<Mat> {
        Ok(self.hidden(x)?.dot(&Mat::from_shape_fn((M, self.0), |(c, j)| tangent.units()[0][c * self.0 + j])))
    }
}
#[derive(Debug)]
struct Sums;
#[rustfmt::skip]
impl Architecture for Sums {
    fn build(&self, _inputs: usize, k: usize, _outputs: usize, seed: u64) -> Result<Box<dyn Network>> {
        let values = (0..M * k).map(|i| ((i as f32 + seed as f32) * 0.7).sin()).collect();
        let tensor = NamedTensor { name: "amplitudes".into(), values, shape: vec![M, k], role: Role::Weight { fan_in: M } };
        Ok(Box::new(Cosines(k, Parameters::from_tensors(vec![vec![tensor]])?)))
    }
    fn size(&self, _: usize, k: usize, _: usize) -> NetworkSize { NetworkSize { parameters: (M * k) as u64, hidden: M as u64, ..NetworkSize::default() } }
    fn text(&self) -> String { "cosines".into() }
}

fn main() -> Result<()> {
    let data = Dataset::open("uniform(n=2000)", 0)?;
    let spec = FitSpec { network: Spec::own(Arc::new(Sums)), ..FitSpec::new("brownian", 3)? };
    let model = fit(&data, &spec)?;
    let exact = [1.0, 3.0, 5.0].map(|odd| (2.0 / (odd * PI)).powi(2));
    let close = |(mu, exact): (&f64, f64)| (mu / exact - 1.0).abs() < 0.1;
    assert!(model.eigenvalues().iter().zip(exact).all(close));
    let bytes = model.to_bytes()?;
    println!("{:.4?}; {:?}", model.eigenvalues(), Model::from_bytes(&bytes).err());
    Model::from_bytes_with(&bytes, LoadOptions::default().network(Arc::new(Sums))).map(|_| ())
}
