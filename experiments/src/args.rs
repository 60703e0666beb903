//! Arguments of experiments: `--name` and `--name VALUE`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use neuralef::{Error, Result};

/// How much work an experiment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// `--small`: a minute or a few.
    Small,
    /// What it does by itself.
    Default,
    /// `--paper`: the paper's setting, where it takes longer.
    Paper,
}

/// The arguments of a run. All experiments know `--small`, `--paper` and `--out DIR`.
pub struct Args {
    scale: Scale,
    values: BTreeMap<String, String>,
}

impl Args {
    /// Reads the command line; `options` are the names, without dashes, that take a value.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an argument that is not known, given twice or without value.
    pub fn read(options: &[&str]) -> Result<Self> {
        let (mut scale, mut values) = (Scale::Default, BTreeMap::new());
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or("");
            if name == "small" || name == "paper" {
                scale = if name == "small" { Scale::Small } else { Scale::Paper };
            } else if name == "out" || options.contains(&name) {
                let value = words.next().filter(|v| !v.starts_with("--"));
                let value = value.ok_or_else(|| Error::parameter(name, "a value", "none"))?;
                if values.insert(name.to_string(), value).is_some() {
                    return Err(Error::parameter(name, "once", "twice"));
                }
            } else {
                let known = [&["small", "paper", "out"], options].concat();
                let expected = format!("any of --{}", known.join(", --"));
                return Err(Error::parameter("arguments", expected, word));
            }
        }
        Ok(Args { scale, values })
    }

    /// How much work is asked for.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The value of `--name` as it was written; none without it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of `--name`, or `default` without it.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when it does not parse.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let expected = std::any::type_name::<T>();
        text.parse()
            .map_err(|_| Error::parameter(name, format!("a value of type {expected}"), text))
    }

    /// The directory of the data: `--data`, or $NEURALEF_DATA, or ../shared/data.
    pub fn data(&self) -> PathBuf {
        let given = self.text("data").map(PathBuf::from);
        given
            .or_else(|| std::env::var_os("NEURALEF_DATA").map(PathBuf::from))
            .unwrap_or_else(|| "../shared/data".into())
    }

    /// The directory of `--out` for tables and figures, made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be made.
    pub fn out(&self) -> Result<Option<&Path>> {
        let Some(folder) = self.text("out").map(Path::new) else { return Ok(None) };
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        Ok(Some(folder))
    }
}
