//! What a fit is asked to do: the one struct that the command line, TOML files and Python all produce.

use std::{fmt, str::FromStr};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::method::Method;
use crate::nn::{NetworkSpec, OptimizerSpec, Schedule};
use crate::objective::Objective;
use crate::operator::OperatorSpec;
use crate::operator::spec::expected_one;
use crate::spec::{Choice, Spec};

/// Everything that determines a fit, apart from the data. Every field has a default but the kernel
/// (or the Gram matrix or features that stand for it).
///
/// As TOML:
/// ```toml
/// kernel = "rbf(lengthscale=median)"
/// n_components = 10
/// network = "mlp(hidden=[64, 64], activation=sin_cos)"
/// steps = "auto"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitSpec {
    /// What is decomposed; in files the text `kernel`, the path `gram` (.npy, N·C × N·C, C as in
    /// `outputs`), or the path `features` (.npy, N·C × S, whose inner products /S are the kernel).
    #[serde(flatten, with = "crate::operator::spec::fields")]
    pub operator: Option<OperatorSpec>,
    /// C, the number of outputs of the kernel: κ(x, x') is C × C, and a Gram matrix or features have
    /// C consecutive rows for each point. 1 for kernels in text form.
    pub outputs: usize,
    /// The form of the eigenfunctions of a kernel with several outputs.
    pub output_form: OutputForm,
    /// k, how many eigenfunctions.
    pub n_components: usize,
    /// The approximator, e.g. `neuralef` or `nystrom(landmarks=1000)`.
    pub method: Spec<dyn Method>,
    /// The eigenfunction networks.
    pub network: NetworkSpec,
    /// The training objective.
    pub objective: Spec<dyn Objective>,
    /// The optimiser, with its learning rate.
    pub optimizer: OptimizerSpec,
    /// How the learning rate changes over the run.
    pub schedule: Schedule,
    /// Number of training steps, or `auto`.
    pub steps: Steps,
    /// The most steps that `auto` takes.
    pub max_steps: u64,
    /// `auto` stops when two rounds in a row lower the held-out residual by less than this share.
    pub tolerance: f64,
    /// B, points in a batch.
    pub batch_size: usize,
    /// Largest global norm of the gradient; larger ones are scaled down. 0 turns clipping off.
    pub clip_norm: f64,
    /// How eigenfunctions are read out of the trained networks.
    pub readout: ReadoutKind,
    /// The most training points a readout streams; its cost grows with the square of them.
    pub readout_points: usize,
    /// The memory that the networks in training may take, and again a readout's matrices, in MiB.
    pub memory_budget: u64,
    /// Share of the points held out for choosing the truncation and for the certificate, 1,024 points at
    /// most; 0, for methods that choose nothing by them, measures on the points of the fit.
    pub validation_fraction: f64,
    /// Whether the fit is measured on held-out points; without it a model has eigenvalues but no errors,
    /// and [`Model::evaluate`](crate::Model::evaluate) measures it later.
    #[serde(skip_serializing_if = "is_true")]
    pub certificate: bool,
    /// Scales every feature to mean 0 and variance 1 before kernel and networks see it.
    pub standardize: bool,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for FitSpec {
    fn default() -> Self {
        FitSpec {
            operator: None,
            outputs: 1,
            output_form: OutputForm::Joint,
            n_components: 10,
            method: "neuralef".into(),
            network: NetworkSpec::default(),
            objective: "neuralef".into(),
            optimizer: OptimizerSpec::default(),
            schedule: Schedule::default(),
            steps: Steps::Auto,
            max_steps: 5000,
            tolerance: 0.1,
            batch_size: 256,
            clip_norm: 0.0,
            readout: ReadoutKind::Galerkin,
            readout_points: 16_384,
            memory_budget: 768,
            validation_fraction: 0.1,
            certificate: true,
            standardize: false,
            seed: 0,
        }
    }
}

impl FitSpec {
    /// A spec for the top `n_components` eigenfunctions of `kernel`, everything else default.
    ///
    /// # Errors
    /// When the kernel text does not parse.
    pub fn new(kernel: &str, n_components: usize) -> Result<Self> {
        Ok(FitSpec { operator: Some(kernel.parse()?), n_components, ..FitSpec::default() })
    }

    /// Checks every range that can be checked without data.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for the first field out of range; [`Error::Parse`] and
    /// [`Error::UnknownName`] for texts of methods, objectives, networks and optimisers, and
    /// [`Error::OwnedByProgram`] for those of a program that were read from a file.
    pub fn check(&self) -> Result<()> {
        let Some(operator) = &self.operator else { return Err(expected_one(0)) };
        at_least("outputs", 1, self.outputs)?;
        operator.check(self.outputs)?;
        self.objective.get()?;
        self.method.get()?;
        self.network.get()?;
        self.optimizer.get()?;
        at_least("n_components", 1, self.n_components)?;
        at_least("batch_size", 2, self.batch_size)?;
        at_least("readout_points", 2, self.readout_points)?;
        if !(self.validation_fraction >= 0.0 && self.validation_fraction < 1.0) {
            let got = self.validation_fraction;
            return Err(Error::parameter("validation_fraction", "a number from 0 to below 1", got));
        }
        if !(self.tolerance >= 0.0 && self.tolerance < 1.0) {
            return Err(Error::parameter(
                "tolerance",
                "a number from 0 to below 1",
                self.tolerance,
            ));
        }
        if !(self.clip_norm >= 0.0 && self.clip_norm.is_finite()) {
            return Err(Error::parameter("clip_norm", "a number ≥ 0", self.clip_norm));
        }
        Ok(())
    }
}

impl FitSpec {
    /// Outputs of each function of the networks.
    pub(crate) fn network_outputs(&self) -> usize {
        match self.output_form {
            OutputForm::Joint => self.outputs,
            OutputForm::Factorized => 1,
        }
    }
}

/// What needs no word in a file.
fn is_true(value: &bool) -> bool {
    *value
}

fn at_least(name: &str, least: usize, got: usize) -> Result<()> {
    if got >= least {
        return Ok(());
    }
    Err(Error::parameter(name, format!("a whole number ≥ {least}"), got))
}

/// How long to train. Serialised as a number, or the word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// Until held-out residuals stop improving; 0 steps when training does not pay.
    Auto,
    /// Exactly this many.
    Exactly(u64),
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Steps::Auto => serializer.serialize_str("auto"),
            Steps::Exactly(n) => serializer.serialize_u64(*n),
        }
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Steps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a whole number")
            }
            fn visit_u64<E: de::Error>(self, steps: u64) -> Result<Steps, E> {
                Ok(Steps::Exactly(steps))
            }
            fn visit_i64<E: de::Error>(self, steps: i64) -> Result<Steps, E> {
                let invalid = || E::invalid_value(de::Unexpected::Signed(steps), &self);
                u64::try_from(steps).map(Steps::Exactly).map_err(|_| invalid())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Steps, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl FromStr for Steps {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Steps::Auto);
        }
        let steps = text.replace('_', "").parse();
        steps
            .map(Steps::Exactly)
            .map_err(|_| Error::parameter("steps", "`auto` or a whole number", format!("`{text}`")))
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Steps::Auto => f.write_str("auto"),
            Steps::Exactly(n) => write!(f, "{n}"),
        }
    }
}

/// How eigenfunctions are read out of trained networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadoutKind {
    /// The networks' own outputs, normalised over the training set.
    None,
    /// Rayleigh–Ritz on the k outputs: a k × k rotation.
    Ritz,
    /// Rayleigh–Ritz on the last hidden layers of all networks and a constant.
    Galerkin,
}

impl Choice for ReadoutKind {
    const KIND: &'static str = "readout";
    const ALL: &'static [(&'static str, Self)] = &[
        ("none", ReadoutKind::None),
        ("ritz", ReadoutKind::Ritz),
        ("galerkin", ReadoutKind::Galerkin),
    ];
}

impl FromStr for ReadoutKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::from_name(text)
    }
}

impl fmt::Display for ReadoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The form of the eigenfunctions of a kernel with C outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputForm {
    /// ψ: x ↦ ℝ^C without restriction; the networks have C heads for each function.
    Joint,
    /// ψ(x) = s(x)u with a scalar function s and a vector u of an orthonormal basis of ℝ^C: the
    /// eigenfunctions of Σ_c (u_cᵀκu_c)u_cu_cᵀ, which are those of κ when κ(x, x') = k(x, x')·B.
    Factorized,
}

impl Choice for OutputForm {
    const KIND: &'static str = "output_form";
    const ALL: &'static [(&'static str, Self)] =
        &[("joint", OutputForm::Joint), ("factorized", OutputForm::Factorized)];
}

impl FromStr for OutputForm {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::from_name(text)
    }
}

impl fmt::Display for OutputForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_readouts_round_trip() {
        for text in ["auto", "0", "2000"] {
            assert_eq!(text.parse::<Steps>().unwrap().to_string(), text);
            let json = serde_json::to_string(&text.parse::<Steps>().unwrap()).unwrap();
            let back: Steps = serde_json::from_str(&json).unwrap();
            assert_eq!(back.to_string(), text);
        }
        assert!("-1".parse::<Steps>().is_err() && "many".parse::<Steps>().is_err());
        for &(name, form) in OutputForm::ALL {
            assert_eq!(name.parse::<OutputForm>().unwrap(), form);
            assert_eq!(form.to_string(), name);
        }
        for &(name, kind) in ReadoutKind::ALL {
            assert_eq!(name.parse::<ReadoutKind>().unwrap(), kind);
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn ranges_are_checked_and_named() {
        let named = |edit: fn(&mut FitSpec), name: &str| {
            let mut spec = FitSpec::new("rbf(lengthscale=1)", 3).unwrap();
            edit(&mut spec);
            let message = spec.check().unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        };
        named(|s| s.n_components = 0, "n_components");
        named(|s| s.batch_size = 1, "batch_size");
        named(|s| s.validation_fraction = 1.0, "validation_fraction");
        named(|s| s.validation_fraction = f64::NAN, "validation_fraction");
        named(|s| s.clip_norm = -1.0, "clip_norm");
        named(|s| s.tolerance = 1.0, "tolerance");
        named(|s| s.outputs = 0, "outputs");
        named(|s| s.outputs = 3, "outputs");
        named(|s| s.operator = None, "kernel");
    }
}
