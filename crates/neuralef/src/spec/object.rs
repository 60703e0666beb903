//! [`Spec`]: a registered thing by its text form, or one of a program's own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::registry::Registry;
use super::text::{Expr, Node, parse};
use crate::error::{Error, Result};

/// A kind of thing that specs name: methods, networks, objectives, optimisers, sources of uncertainty.
/// Implemented for the trait's object type, where its registry is.
pub trait Registered: fmt::Debug + Send + Sync + 'static {
    /// Whether a spec keeps the text as it was written, instead of the text form with all parameters.
    /// Such a text may be read before it is known to be right.
    const AS_WRITTEN: bool = false;

    /// Everything that has a name.
    fn registry() -> &'static Registry<Arc<Self>>;

    /// The text form with all parameters; for one of a program's own, its name.
    fn text_form(&self) -> String;
}

/// A thing of kind `T` as users write it: it parses from and displays as its text form, and serialises as
/// that. [`get`](Spec::get) gives the thing.
///
/// A program's own ([`Spec::own`]) displays as its name and serialises as `own(name)`. Read back, it is
/// known to be missing, and using it is an [`Error::OwnedByProgram`] until the program puts it back.
///
/// Texts given by `into()` are taken unseen: [`get`](Spec::get) tells what is wrong with them.
///
/// ```
/// use neuralef::FitSpec;
///
/// let spec = FitSpec { method: "nystrom(landmarks=100)".parse()?, ..FitSpec::new("rbf", 10)? };
/// assert_eq!(spec.method.name(), "nystrom");
/// let typo = FitSpec { method: "nistrom".into(), ..spec };
/// assert!(typo.check().is_err_and(|e| e.to_string().contains("did you mean `nystrom`")));
/// # Ok::<(), neuralef::Error>(())
/// ```
pub struct Spec<T: ?Sized> {
    /// As written; the name of a program's own.
    text: String,
    value: Option<Arc<T>>,
    own: bool,
}

impl<T: Registered + ?Sized> Spec<T> {
    /// One of a program's own, which no registry lists.
    pub fn own(value: Arc<T>) -> Self {
        Spec { text: value.text_form(), value: Some(value), own: true }
    }

    /// A registered thing that is built already.
    pub(crate) fn of(value: Arc<T>) -> Self {
        Spec { text: value.text_form(), value: Some(value), own: false }
    }

    /// What `expr`, a part of `text`, names.
    ///
    /// # Errors
    /// [`Error::Parse`], [`Error::UnknownName`].
    pub(crate) fn build_from(text: &str, expr: &Expr) -> Result<Self> {
        let value = T::registry().build(text, expr)?;
        Ok(Spec { text: expr.to_string(), value: Some(value), own: false })
    }

    /// The name in `own(name)`.
    fn owned(text: &str) -> Option<Self> {
        let name = text.trim().strip_prefix("own(")?.strip_suffix(')')?;
        Some(Spec { text: name.to_string(), value: None, own: true })
    }

    /// The thing itself.
    ///
    /// # Errors
    /// [`Error::OwnedByProgram`] for a program's own that was read from a file; [`Error::Parse`] and
    /// [`Error::UnknownName`] for a text that nobody looked at before.
    pub fn get(&self) -> Result<&T> {
        let kind = T::registry().kind;
        match &self.value {
            Some(value) => Ok(value),
            None if self.own => Err(Error::OwnedByProgram { kind, name: self.text.clone() }),
            None => Err(match T::registry().build_text(&self.text) {
                Err(error) => error,
                Ok(_) => Error::parameter(kind, "a text that could be read at first", &self.text),
            }),
        }
    }

    /// Puts a program's own back where its name was read from a file.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming `parameter` where the file names a registered thing, or a
    /// program's own by another name.
    pub fn restore(&mut self, parameter: &str, value: Arc<T>) -> Result<()> {
        let own = Spec::own(value);
        if !self.own {
            let expected = format!("none: the file has {self}");
            return Err(Error::parameter(parameter, expected, own));
        }
        if self.text != own.text {
            return Err(Error::parameter(parameter, &self.text, own));
        }
        *self = own;
        Ok(())
    }

    /// Whether it is a program's own.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The name, without parameters.
    pub fn name(&self) -> String {
        match parse(&self.text) {
            Ok(Expr { node: Node::Call(name, _), .. }) if !self.own => name,
            _ => self.text.clone(),
        }
    }

    /// What it serialises as.
    fn serialised(&self) -> String {
        if self.own { format!("own({})", self.text) } else { self.to_string() }
    }
}

impl<T: ?Sized> Clone for Spec<T> {
    fn clone(&self) -> Self {
        Spec { text: self.text.clone(), value: self.value.clone(), own: self.own }
    }
}

impl<T: Registered + ?Sized> fmt::Display for Spec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) if !T::AS_WRITTEN && !self.own => f.write_str(&value.text_form()),
            _ => f.write_str(&self.text),
        }
    }
}

impl<T: Registered + ?Sized> fmt::Debug for Spec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spec").field(&self.serialised()).finish()
    }
}

/// By text.
impl<T: Registered + ?Sized> PartialEq for Spec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.serialised() == other.serialised()
    }
}

impl<T: Registered + ?Sized> FromStr for Spec<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(spec) = Self::owned(text) {
            return Ok(spec);
        }
        let value = T::registry().build_text(text)?;
        Ok(Spec { text: text.to_string(), value: Some(value), own: false })
    }
}

/// Unseen: what is wrong with the text is told by [`Spec::get`].
impl<T: Registered + ?Sized> From<&str> for Spec<T> {
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| Spec { text: text.to_string(), value: None, own: false })
    }
}

/// Unseen: what is wrong with the text is told by [`Spec::get`].
impl<T: Registered + ?Sized> From<String> for Spec<T> {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl<T: Registered + ?Sized> Serialize for Spec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.serialised())
    }
}

impl<'de, T: Registered + ?Sized> Deserialize<'de> for Spec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match T::AS_WRITTEN {
            true => Ok(text.into()),
            false => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FitSpec;
    use crate::nn::{Optimizer, OptimizerRule, OptimizerSpec, Parameters};

    /// Steps nowhere.
    #[derive(Debug)]
    struct Rest;

    impl OptimizerRule for Rest {
        fn learning_rate(&self) -> f64 {
            0.5
        }
        fn with_learning_rate(&self, _: f64) -> Arc<dyn OptimizerRule> {
            Arc::new(Rest)
        }
        fn build(&self, parameters: &Parameters) -> Box<dyn Optimizer> {
            OptimizerSpec::default().build(parameters).unwrap()
        }
        fn text(&self) -> String {
            "rest (of mine)".into()
        }
    }

    #[test]
    fn a_programs_own_is_missed_by_name_when_it_is_read_back() {
        let own = FitSpec {
            optimizer: Spec::own(Arc::new(Rest)),
            ..FitSpec::new("rbf(lengthscale=1)", 3).unwrap()
        };
        own.check().unwrap();
        assert_eq!(own.optimizer.to_string(), "rest (of mine)");
        assert_eq!(own.optimizer.learning_rate().unwrap(), 0.5);
        assert!(own.optimizer.with_lr(0.1).unwrap().is_own());
        let json = serde_json::to_string(&own).unwrap();
        let back: FitSpec = serde_json::from_str(&json).unwrap();
        assert_eq!(back, own);
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        for error in [back.check().unwrap_err(), back.optimizer.learning_rate().unwrap_err()] {
            assert!(matches!(&error, Error::OwnedByProgram { kind: "optimizer", name }
                if name == "rest (of mine)"));
        }
        // Handed over again it is the same; it replaces nothing else.
        let mut again = back;
        again.optimizer.restore("optimizer", Arc::new(Rest)).unwrap();
        again.check().unwrap();
        let error = OptimizerSpec::default().restore("optimizer", Arc::new(Rest)).unwrap_err();
        assert!(error.to_string().starts_with("optimizer: expected none: the file has adam("));
    }

    #[test]
    fn typos_are_unknown_names_wherever_they_come_from() {
        let json = r#"{"kernel": "rbf(lengthscale=1)", "method": "nistrom(landmarks=3)"}"#;
        let spec: FitSpec = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap()["method"], "nistrom(landmarks=3)");
        assert!(matches!(spec.check(), Err(Error::UnknownName { .. })));
        assert!(matches!(
            "neuralfe".parse::<Spec<dyn crate::Objective>>(),
            Err(Error::UnknownName { .. })
        ));
        let json = r#"{"kernel": "rbf(lengthscale=1)", "optimizer": "adan"}"#;
        let error = serde_json::from_str::<FitSpec>(json).unwrap_err().to_string();
        assert!(error.contains("did you mean `adam`"), "{error}");
    }

    #[test]
    fn texts_serialise_as_they_always_did() {
        let spec = FitSpec {
            method: "nystrom( landmarks = 20)".parse().unwrap(),
            ..FitSpec::new("rbf", 10).unwrap()
        };
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            r#"{"kernel":"rbf","gram":null,"features":null,"outputs":1,"output_form":"joint","n_components":10,"method":"nystrom( landmarks = 20)","network":"mlp(hidden=[64, 64], activation=sin_cos, init=auto)","objective":"neuralef","optimizer":"adam(lr=0.001, beta1=0.9, beta2=0.999, eps=0.00000001)","schedule":"cosine(final=0)","steps":"auto","max_steps":5000,"tolerance":0.1,"batch_size":256,"clip_norm":0.0,"readout":"galerkin","readout_points":16384,"memory_budget":768,"validation_fraction":0.1,"standardize":false,"seed":0}"#
        );
        assert_eq!(spec.method.name(), "nystrom");
    }

    #[test]
    fn faults_carry_the_parameter_and_what_it_takes() {
        let Err(Error::Parse { value: Some(value), message, .. }) =
            "adam(lr=-1)".parse::<OptimizerSpec>()
        else {
            panic!("no value")
        };
        assert_eq!(message, "`lr` must be greater than 0");
        assert_eq!((&*value.parameter, &*value.expected), ("lr", "a number > 0"));
        assert_eq!(value.got, "-1");
        let unknown = "mlp(init=hee)".parse::<crate::NetworkSpec>();
        assert!(matches!(unknown, Err(Error::UnknownName { parameter: Some("init"), .. })));
    }
}
