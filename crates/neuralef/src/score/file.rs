//! Estimators in files: the coefficients with the model, or with the Nyström approximation.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::basis::Basis;
use super::{SpectralStein, SteinRecord};
use crate::error::{Error, Result};
use crate::features::FeatureMap as _;
use crate::fit::Model;
use crate::kernel::KernelSpec;
use crate::method::load_nystrom;
use crate::persist::Archive;

/// Kind of archive that the file of an estimator is.
const KIND: &str = "score";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    record: SteinRecord,
    /// The kernel of a Nyström approximation; none where the file holds a model.
    kernel: Option<String>,
}

impl SpectralStein {
    /// Writes the estimator, the whole of its model included, as [`Model::save`] does. Reading it
    /// gives the same bits.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.archive()?.write(path)
    }

    /// The bytes of that file.
    ///
    /// # Errors
    /// As [`save`](SpectralStein::save).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.archive()?.to_bytes()
    }

    fn archive(&self) -> Result<Archive> {
        let kernel = match &self.basis {
            Basis::Model(_) => None,
            Basis::Nystrom(_) => self.basis.kernel(),
        };
        let header = Header { record: self.record.clone(), kernel };
        let mut archive = Archive::with_header(KIND, &header)?;
        match &self.basis {
            Basis::Model(model) => archive.put_bytes("model", &model.archive()?.to_bytes()?)?,
            Basis::Nystrom(map) => map.save(&mut archive)?,
        }
        let (k, d) = self.coefficients.dim();
        archive.put_f64("coefficients", &[k, d], self.coefficients.iter().copied().collect())?;
        Ok(archive)
    }

    /// Reads what [`save`](SpectralStein::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::ModelFile`] for a damaged, hostile or foreign file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        SpectralStein::from_archive(&Archive::read(path)?)
    }

    /// Reads an estimator from the bytes of its file.
    ///
    /// # Errors
    /// As [`load`](SpectralStein::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        SpectralStein::from_archive(&Archive::from_bytes(bytes)?)
    }

    fn from_archive(archive: &Archive) -> Result<Self> {
        archive.expect_kind(KIND)?;
        let Header { record, kernel } = archive.header_as()?;
        let load = || {
            let basis = match kernel {
                None => Basis::Model(Model::from_bytes(&archive.bytes("model")?)?.into()),
                Some(text) => Basis::Nystrom(Box::new(load_nystrom(
                    archive,
                    Some(text.parse::<KernelSpec>()?.resolve(None, 0)?),
                )?)),
            };
            let shape = (basis.eigenvalues().len(), basis.inputs());
            let coefficients = archive.f64_matrix("coefficients", shape)?;
            SpectralStein::from_parts(basis, coefficients, record)
        };
        load().map_err(|e: Error| match e {
            Error::ModelFile { message, .. } => archive.fault(message),
            other => archive.fault(other.to_string()),
        })
    }
}
