//! TEMPORARY
#![allow(missing_docs)]
use super::*;
use crate::error::Result;
pub struct Case {
    pub name: &'static str,
    pub summary: &'static str,
    pub data: &'static str,
    pub kernel: &'static str,
    pub k: usize,
    pub spectrum: Box<dyn KnownSpectrum>,
}
impl Case {
    pub fn data_text(&self, n: usize) -> String {
        format!("{}, n={n})", self.data)
    }
}
pub fn case(name: &str) -> Result<Case> {
    let rbf = "rbf(lengthscale=1)";
    let kernel = rbf.parse::<crate::KernelSpec>()?.resolve(None, 0)?;
    Ok(match name {
        "rbf-uniform" => Case {
            name: "rbf-uniform",
            summary: "",
            data: "uniform(d=1, low=-2, high=2",
            kernel: rbf,
            k: 10,
            spectrum: Box::new(Quadrature::uniform(kernel, -2.0, 2.0, 80, 15)?),
        },
        _ => Case {
            name: "polynomial",
            summary: "",
            data: "uniform(d=1, low=-1, high=1",
            kernel: "polynomial(degree=4, gamma=1, coef0=1.5)",
            k: 5,
            spectrum: Box::new(PolynomialUniform::new(4, 1.0, 1.5, -1.0, 1.0)?),
        },
    })
}
