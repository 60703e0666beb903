//! Reading models, and what a program hands over for it.

use std::path::Path;
use std::sync::Arc;

use super::model::{KIND, STANDARDIZER};
use super::{Model, ModelInfo};
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, KernelSpec};
use crate::method::Method;
use crate::nn::Architecture;
use crate::persist::Archive;

/// What a program hands over to read a file that does not hold it: its own kernel, method or network.
///
/// ```no_run
/// use std::sync::Arc;
/// use neuralef::fit::LoadOptions;
/// use neuralef::{Kernel, Model, NetworkSpec};
///
/// # fn own() -> Arc<dyn Kernel> { unimplemented!() }
/// let model = Model::load_with("model.safetensors", LoadOptions::default().kernel(own()))?;
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    kernel: Option<Arc<dyn Kernel>>,
    method: Option<Arc<dyn Method>>,
    network: Option<Arc<dyn Architecture>>,
}

impl LoadOptions {
    /// The kernel that the model was fitted to.
    pub fn kernel(mut self, kernel: Arc<dyn Kernel>) -> Self {
        self.kernel = Some(kernel);
        self
    }

    /// The method that fitted it, a [`Spec::own`](crate::spec::Spec::own).
    pub fn method(mut self, method: Arc<dyn Method>) -> Self {
        self.method = Some(method);
        self
    }

    /// The architecture of its networks, a [`Spec::own`](crate::spec::Spec::own).
    pub fn network(mut self, network: Arc<dyn Architecture>) -> Self {
        self.network = Some(network);
        self
    }
}

impl From<Arc<dyn Kernel>> for LoadOptions {
    fn from(kernel: Arc<dyn Kernel>) -> Self {
        LoadOptions::default().kernel(kernel)
    }
}

impl<K: Kernel + 'static> From<Arc<K>> for LoadOptions {
    fn from(kernel: Arc<K>) -> Self {
        LoadOptions::default().kernel(kernel)
    }
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::ModelFile`] for a damaged, hostile or foreign file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Model::load_with(path, LoadOptions::default())
    }

    /// d, the columns of the data of a model file, of which nothing else is looked at; one more for
    /// rows of precomputed kernel values.
    ///
    /// # Errors
    /// As [`load`](Model::load).
    pub fn inputs_of(path: impl AsRef<Path>) -> Result<usize> {
        let archive = Archive::read(path)?;
        archive.expect_kind(KIND)?;
        Ok(archive.header_as::<ModelInfo>()?.n_features)
    }

    /// Reads a model from the bytes of a model file.
    ///
    /// # Errors
    /// As [`load`](Model::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Model::from_bytes_with(bytes, LoadOptions::default())
    }

    /// Reads a model file with what its program handed over, such as the kernel of
    /// [`OperatorSpec::OwnKernel`](crate::operator::OperatorSpec::OwnKernel).
    ///
    /// # Errors
    /// As [`load`](Model::load), [`Error::OwnedByProgram`] for what is still missing, and
    /// [`Error::InvalidParameter`] for what the file has itself or by another name.
    pub fn load_with(path: impl AsRef<Path>, options: impl Into<LoadOptions>) -> Result<Self> {
        Model::from_archive(&Archive::read(path)?, options.into())
    }

    /// Reads the bytes of a model file with what its program handed over.
    ///
    /// # Errors
    /// As [`load_with`](Model::load_with).
    pub fn from_bytes_with(bytes: &[u8], options: impl Into<LoadOptions>) -> Result<Self> {
        Model::from_archive(&Archive::from_bytes(bytes)?, options.into())
    }

    fn from_archive(archive: &Archive, options: LoadOptions) -> Result<Self> {
        archive.expect_kind(KIND)?;
        let mut info: ModelInfo = archive.header_as()?;
        let LoadOptions { kernel: own_kernel, method, network } = options;
        if let (Some(text), Some(_)) = (&info.kernel, &own_kernel) {
            return Err(Error::parameter("kernel", format!("none: the file has {text}"), "one"));
        }
        if let Some(method) = method {
            info.spec.method.restore("method", method)?;
        }
        if let Some(network) = network {
            info.spec.network.restore("network", network)?;
        }
        let load = || {
            let standardizer = match info.spec.standardize {
                true => Some(Standardizer::load(archive, STANDARDIZER)?),
                false => None,
            };
            let kernel = match &info.kernel {
                Some(text) => Some(text.parse::<KernelSpec>()?.resolve(None, 0)?),
                None => own_kernel,
            };
            let map = info.spec.method.get()?.load(archive, &info.spec, kernel.clone())?;
            Ok((standardizer, map, kernel))
        };
        let (standardizer, map, kernel) = load().map_err(|e: Error| match e {
            Error::ModelFile { .. } | Error::OwnedByProgram { .. } => e,
            other => archive.fault(other.to_string()),
        })?;
        let d = map.inputs();
        let consistent = map.stored_inputs() == info.n_features
            && map.outputs() == info.spec.outputs
            && map.eigenvalues().map_or(0, <[f64]>::len) == info.eigenvalues.len()
            && (info.certificate.pairs.len() == info.eigenvalues.len()
                || !info.spec.certificate && info.certificate.pairs.is_empty())
            && standardizer.as_ref().is_none_or(|s| s.width() == d);
        if !consistent {
            return Err(archive.fault("header and tensors disagree about sizes"));
        }
        let stored = map.eigenvalues();
        if stored.is_some_and(|e| e != info.eigenvalues) {
            return Err(archive.fault("header and tensors disagree about the eigenvalues"));
        }
        info.n_features = d;
        Ok(Model { info, standardizer, map, kernel })
    }
}
