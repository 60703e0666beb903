//! Files of posteriors: the network, what is done to points before it, and the curvature.

use std::path::Path;
use std::sync::Arc;

use super::curvature::Curvature;
use super::likelihood::Likelihood;
use super::{Laplace, LaplaceInfo, LaplaceSeconds, expect_positive};
use crate::data::Standardizer;
use crate::error::{Error, Result};
use crate::nn::{Network, TrainedNetwork};
use crate::persist::Archive;

/// What preprocessing is called in there.
const PREPROCESSING: &str = "preprocessing";

impl Laplace {
    /// The kind of archive that its file is.
    pub const KIND: &str = "laplace";

    /// Writes the file of the posterior, which holds the network too.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.archive()?.write(path)
    }

    /// The bytes of that file.
    ///
    /// # Errors
    /// As [`save`](Laplace::save).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.archive()?.to_bytes()
    }

    fn archive(&self) -> Result<Archive> {
        let mut archive = Archive::with_header(Self::KIND, &self.info)?;
        archive.put_bytes("network.file", &self.trained.file().bytes()?)?;
        if let Some(p) = &self.preprocessing {
            p.save(&mut archive, PREPROCESSING)?;
        }
        self.curvature.save(&mut archive)?;
        Ok(archive)
    }

    /// Reads the file of a posterior; nothing else is needed.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ModelFile`] for a damaged, hostile or foreign file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Laplace::from_archive(&Archive::read(path)?)
    }

    /// Reads a posterior from the bytes of its file.
    ///
    /// # Errors
    /// As [`load`](Laplace::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Laplace::from_archive(&Archive::from_bytes(bytes)?)
    }

    fn from_archive(archive: &Archive) -> Result<Self> {
        archive.expect_kind(Self::KIND)?;
        let info: LaplaceInfo = archive.header_as()?;
        Self::from_parts(archive, info).map_err(|e| match e {
            Error::ModelFile { .. } => e,
            other => archive.fault(other.to_string()),
        })
    }

    fn from_parts(archive: &Archive, info: LaplaceInfo) -> Result<Self> {
        let trained: TrainedNetwork = info.network.parse()?;
        let room = trained.size(info.n_features, archive.bytes("network.file")?)?;
        archive.expect_room(room)?;
        let network: Arc<dyn Network> = trained.build(info.n_features)?.into();
        if network.functions() * network.outputs() != info.outputs || info.n_samples == 0 {
            return Err(archive.fault("header and network disagree about sizes"));
        }
        for (name, value) in [("prior_precision", info.prior_precision), ("scale", info.scale)] {
            expect_positive(name, value)?;
        }
        let sums = [info.loss, info.squared_norm];
        let classes = info.likelihood == Likelihood::Classification;
        if sums.iter().any(|v| !(v.is_finite() && *v >= 0.0)) || (classes && info.outputs < 2) {
            return Err(archive.fault("header without sense"));
        }
        let preprocessing = archive
            .names()
            .any(|name| name.starts_with(PREPROCESSING))
            .then(|| Standardizer::load(archive, PREPROCESSING))
            .transpose()?;
        if preprocessing.as_ref().is_some_and(|p| p.width() != info.n_features) {
            return Err(archive.fault("preprocessing of other points"));
        }
        let curvature: Arc<dyn Curvature> = info.source.get()?.load(archive, &*network)?.into();
        if curvature.values().iter().any(|v| !(v.is_finite() && *v >= 0.0)) {
            return Err(archive.fault("curvatures must be finite and not negative"));
        }
        let seconds = LaplaceSeconds::default();
        Ok(Laplace { info, trained, network, preprocessing, curvature, seconds })
    }
}
