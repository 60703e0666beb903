//! What a fit decomposes: a kernel, a Gram matrix, features, or what a program has at hand. The one place
//! where it enters, is checked against the points, and becomes an operator.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ExplicitOperator, FeatureOperator, KernelOperator, PrecomputedOperator};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, KernelSpec};
use crate::matrix::Mat;

/// The operator of a [`FitSpec`](crate::FitSpec).
///
/// Serialises as one of the fields `kernel`, `gram` and `features`. What a program has at hand leaves no
/// trace in files: a checkpoint is resumed with it by [`Fit::operator`](crate::Fit::operator), and a model
/// whose method needs the kernel at new points (`nystrom`, `kernel_pca`) is read by
/// [`Model::load_with`](crate::Model::load_with).
///
/// ```
/// use neuralef::FitSpec;
/// use neuralef::operator::OperatorSpec;
///
/// let named: OperatorSpec = "rbf(lengthscale=0.5)".parse()?;
/// let spec = FitSpec { operator: Some(named), ..FitSpec::default() };
/// # spec.check()?;
/// # Ok::<(), neuralef::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum OperatorSpec {
    /// A kernel in text form.
    Kernel(KernelSpec),
    /// A Gram matrix, N·C × N·C, C as in [`FitSpec::outputs`](crate::FitSpec::outputs).
    Gram(MatrixSource),
    /// Features Φ, N·C × S, whose inner products /S are the kernel.
    Features(MatrixSource),
    /// A program's own kernel.
    OwnKernel(Arc<dyn Kernel>),
    /// A program's own operator, for the rows of the data.
    Own(Arc<dyn KernelOperator>),
}

/// Where a matrix of an [`OperatorSpec`] is.
#[derive(Clone)]
pub enum MatrixSource {
    /// In a file, .npy or another that [`Dataset::open`] reads.
    File(PathBuf),
    /// At hand.
    Data(Dataset),
}

impl MatrixSource {
    /// The path, of a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            MatrixSource::File(path) => Some(path),
            MatrixSource::Data(_) => None,
        }
    }

    fn open(&self, seed: u64) -> Result<Dataset> {
        match self {
            MatrixSource::File(path) => Dataset::open(&path.to_string_lossy(), seed),
            MatrixSource::Data(data) => Ok(data.clone()),
        }
    }
}

/// An operator ready for use, with its kernel where that is known at new points.
pub(crate) struct ResolvedOperator {
    pub operator: Arc<dyn KernelOperator>,
    pub kernel: Option<Arc<dyn Kernel>>,
}

impl OperatorSpec {
    /// A Gram matrix in a file.
    pub fn gram(path: impl Into<PathBuf>) -> Self {
        OperatorSpec::Gram(MatrixSource::File(path.into()))
    }

    /// Features in a file.
    pub fn features(path: impl Into<PathBuf>) -> Self {
        OperatorSpec::Features(MatrixSource::File(path.into()))
    }

    /// The one of three that is there; none of them gives none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for more than one.
    pub fn one_of(
        kernel: Option<KernelSpec>,
        gram: Option<PathBuf>,
        features: Option<PathBuf>,
    ) -> Result<Option<Self>> {
        match (kernel, gram, features) {
            (None, None, None) => Ok(None),
            (Some(kernel), None, None) => Ok(Some(OperatorSpec::Kernel(kernel))),
            (None, Some(path), None) => Ok(Some(OperatorSpec::gram(path))),
            (None, None, Some(path)) => Ok(Some(OperatorSpec::features(path))),
            (kernel, gram, features) => {
                let given = [kernel.is_some(), gram.is_some(), features.is_some()];
                Err(expected_one(given.iter().filter(|g| **g).count()))
            }
        }
    }

    /// The text of the kernel, where it is named by one.
    pub fn kernel_text(&self) -> Option<&KernelSpec> {
        match self {
            OperatorSpec::Kernel(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// The file that it is read from, where it is.
    pub fn file(&self) -> Option<&Path> {
        match self {
            OperatorSpec::Gram(matrix) | OperatorSpec::Features(matrix) => matrix.path(),
            _ => None,
        }
    }

    /// True when files can hold it: a text or a path.
    pub fn is_named(&self) -> bool {
        self.kernel_text().is_some() || self.file().is_some()
    }

    /// Checks what can be checked without data, for C = `outputs`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming `outputs`.
    pub(crate) fn check(&self, outputs: usize) -> Result<()> {
        match self {
            OperatorSpec::Kernel(_) if outputs > 1 => Err(Error::parameter(
                "outputs",
                "1 for a kernel in text form (matrix-valued kernels come as features or a Gram matrix)",
                outputs,
            )),
            OperatorSpec::Own(operator) if operator.outputs() != outputs => {
                let expected = format!("{}, as the operator has", operator.outputs());
                Err(Error::parameter("outputs", expected, outputs))
            }
            _ => Ok(()),
        }
    }

    /// The operator on the points of `data` with C = `outputs`; `sample` gives points, as the kernel
    /// sees them, from which parameters such as `median` are worked out. `seed` draws subsamples and
    /// synthetic data.
    ///
    /// # Errors
    /// [`Error::Shape`] when a matrix does not have C rows for each point; values that are not finite;
    /// points outside the kernel's domain; what reading files reports.
    pub(crate) fn resolve(
        &self,
        data: &Dataset,
        sample: impl Fn() -> Result<Mat>,
        outputs: usize,
        seed: u64,
    ) -> Result<ResolvedOperator> {
        let open = |name: &str, matrix: &MatrixSource| -> Result<Dataset> {
            let matrix = matrix.open(seed)?;
            expect_rows(name, matrix.len(), data.len(), outputs)?;
            matrix.check_finite()?;
            Ok(matrix)
        };
        let kernel = match self {
            OperatorSpec::Gram(matrix) => {
                let operator = PrecomputedOperator::new(open("gram", matrix)?, outputs)?;
                return Ok(ResolvedOperator { operator: Arc::new(operator), kernel: None });
            }
            OperatorSpec::Features(matrix) => {
                let operator = FeatureOperator::new(open("features", matrix)?, outputs)?;
                return Ok(ResolvedOperator { operator: Arc::new(operator), kernel: None });
            }
            OperatorSpec::Own(operator) => {
                return Ok(ResolvedOperator { operator: Arc::clone(operator), kernel: None });
            }
            OperatorSpec::Kernel(text) => text.resolve(Some(sample()?.view()), seed)?,
            OperatorSpec::OwnKernel(kernel) => Arc::clone(kernel),
        };
        if kernel.by_index().is_none() {
            // Domain errors (a negative time for brownian, say) should come before any work is done.
            kernel.diag(sample()?.view())?;
        }
        let operator = Arc::new(ExplicitOperator::new(Arc::clone(&kernel)));
        Ok(ResolvedOperator { operator, kernel: Some(kernel) })
    }
}

/// The error for `count` operators where there must be one.
pub(crate) fn expected_one(count: usize) -> Error {
    let expected = "exactly one of kernel, gram and features";
    Error::parameter("kernel", expected, format!("{count} of them"))
}

fn expect_rows(name: &str, rows: usize, points: usize, outputs: usize) -> Result<()> {
    if points.checked_mul(outputs) == Some(rows) {
        return Ok(());
    }
    let rows_of_a_point = match outputs {
        1 => "one row".to_string(),
        c => format!("{c} rows"),
    };
    Err(Error::shape(name, format!("{rows_of_a_point} for each of {points} points"), rows))
}

impl From<KernelSpec> for OperatorSpec {
    fn from(kernel: KernelSpec) -> Self {
        OperatorSpec::Kernel(kernel)
    }
}

impl From<Arc<dyn Kernel>> for OperatorSpec {
    fn from(kernel: Arc<dyn Kernel>) -> Self {
        OperatorSpec::OwnKernel(kernel)
    }
}

impl From<Arc<dyn KernelOperator>> for OperatorSpec {
    fn from(operator: Arc<dyn KernelOperator>) -> Self {
        OperatorSpec::Own(operator)
    }
}

impl std::str::FromStr for OperatorSpec {
    type Err = Error;

    /// A kernel from its text form.
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(OperatorSpec::Kernel)
    }
}

impl fmt::Display for OperatorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matrix = |f: &mut fmt::Formatter<'_>, name: &str, matrix: &MatrixSource| match matrix {
            MatrixSource::File(path) => write!(f, "{name} {}", path.display()),
            MatrixSource::Data(data) => write!(f, "{name} {}", data.name()),
        };
        match self {
            OperatorSpec::Kernel(kernel) => write!(f, "{kernel}"),
            OperatorSpec::Gram(gram) => matrix(f, "Gram matrix", gram),
            OperatorSpec::Features(features) => matrix(f, "features", features),
            OperatorSpec::OwnKernel(kernel) => f.write_str(&kernel.text()),
            OperatorSpec::Own(_) => f.write_str("operator of a program"),
        }
    }
}

impl fmt::Debug for OperatorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorSpec({self})")
    }
}

impl PartialEq for OperatorSpec {
    /// Texts and paths are compared; what a program has at hand is equal to itself alone.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (OperatorSpec::Kernel(a), OperatorSpec::Kernel(b)) => a == b,
            (OperatorSpec::Gram(a), OperatorSpec::Gram(b))
            | (OperatorSpec::Features(a), OperatorSpec::Features(b)) => {
                a.path().is_some() && a.path() == b.path()
            }
            (OperatorSpec::OwnKernel(a), OperatorSpec::OwnKernel(b)) => Arc::ptr_eq(a, b),
            (OperatorSpec::Own(a), OperatorSpec::Own(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// The fields of a file that name an operator.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    kernel: Option<KernelSpec>,
    gram: Option<PathBuf>,
    features: Option<PathBuf>,
}

/// Writes the slot as the fields `kernel`, `gram` and `features`: for `#[serde(flatten, with)]`.
pub(crate) mod fields {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        operator: &Option<OperatorSpec>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = |matrix: &MatrixSource| matrix.path().map(Path::to_path_buf);
        let mut fields = Fields::default();
        match operator {
            Some(OperatorSpec::Kernel(kernel)) => fields.kernel = Some(kernel.clone()),
            Some(OperatorSpec::Gram(matrix)) => fields.gram = path(matrix),
            Some(OperatorSpec::Features(matrix)) => fields.features = path(matrix),
            Some(OperatorSpec::OwnKernel(_) | OperatorSpec::Own(_)) | None => {}
        }
        fields.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OperatorSpec>, D::Error> {
        let Fields { kernel, gram, features } = Fields::deserialize(deserializer)?;
        OperatorSpec::one_of(kernel, gram, features).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FitSpec;

    #[test]
    fn the_slot_is_three_fields_in_files_and_at_most_one_of_them() {
        let json = |text: &str| serde_json::from_str::<FitSpec>(text);
        let kernel = json(r#"{"kernel": "rbf(lengthscale=1)", "seed": 3}"#).unwrap();
        assert_eq!(kernel.operator, Some("rbf(lengthscale=1)".parse().unwrap()));
        let gram = json(r#"{"gram": "k.npy"}"#).unwrap();
        assert_eq!(gram.operator, Some(OperatorSpec::gram("k.npy")));
        let none = json("{}").unwrap();
        assert!(none.operator.is_none());
        assert!(none.check().unwrap_err().to_string().contains("0 of them"));
        let both = json(r#"{"kernel": "rbf", "features": "f.npy"}"#).unwrap_err().to_string();
        assert!(both.contains("exactly one of kernel, gram and features, got 2 of them"), "{both}");
        let typo = json(r#"{"nucleus": "rbf"}"#).unwrap_err().to_string();
        assert!(typo.contains("unknown field `nucleus`"), "{typo}");
        for spec in [kernel, gram, none] {
            let text = serde_json::to_string(&spec).unwrap();
            assert!(text.starts_with(r#"{"kernel":"#) && text.contains(r#","gram":"#), "{text}");
            assert!(text.contains(r#","features":"#), "{text}");
            assert_eq!(json(&text).unwrap(), spec);
        }
    }

    #[test]
    fn what_a_program_has_at_hand_is_not_in_files_and_is_equal_to_itself_alone() {
        let kernel = || "linear".parse::<KernelSpec>().unwrap().resolve(None, 0).unwrap();
        let own = OperatorSpec::from(kernel());
        assert_eq!(own, own.clone());
        assert_ne!(own, OperatorSpec::from(kernel()));
        let spec = FitSpec { operator: Some(own), ..FitSpec::default() };
        let text = serde_json::to_string(&spec).unwrap();
        assert!(text.starts_with(r#"{"kernel":null,"gram":null,"features":null,"#), "{text}");
    }
}
