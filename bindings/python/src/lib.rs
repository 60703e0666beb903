//! `neuralef._core`: what the Python package computes with. Arrays in, arrays out; everything else that
//! Python users see is in `python/neuralef`.

use pyo3::prelude::*;

mod arrays;
mod catalogue;
mod error;
mod kernel;
mod laplace;
mod model;
mod run;
mod score;
mod text;

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::catalogue::{catalogue, kernel_matrix, training_points};
    #[pymodule_export]
    use super::error::ParameterError;
    #[pymodule_export]
    use super::laplace::{Laplace, fit_laplace};
    #[pymodule_export]
    use super::model::{Model, fit};
    #[pymodule_export]
    use super::score::SpectralStein;
    #[pymodule_export]
    use super::text::{parse_text_form, text_form};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
