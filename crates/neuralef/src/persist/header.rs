//! The safetensors header, read as hostile input: duplicates, gaps, overlaps, overflowing shapes and
//! sizes that do not add up are all refused before a single tensor is allocated.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// Longest header accepted, in bytes.
pub(super) const MAX_HEADER: u64 = 16 << 20;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// Element types an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    F32,
    F64,
    U64,
}

impl Kind {
    /// Bytes of one element.
    pub(super) fn size(self) -> u64 {
        match self {
            Kind::F32 => 4,
            Kind::F64 | Kind::U64 => 8,
        }
    }
}

/// One tensor's place in the file, checked: `elements × kind.size()` bytes, in file order.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    pub(super) elements: usize,
}

/// Parses and checks the header; `data_length` is the number of bytes after it.
///
/// Returns the slots in file order and the text of the metadata entry `neuralef`.
pub(super) fn parse(json: &[u8], data_length: u64) -> Result<(Vec<Slot>, String), String> {
    let raw: Raw = serde_json::from_slice(json).map_err(|e| format!("bad header: {}", clean(e)))?;
    let mut entries = raw.tensors;
    entries.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));
    let mut end = 0u64;
    let mut slots = Vec::new();
    for (name, entry) in entries {
        let quoted = quote(&name);
        let [from, to] = entry.data_offsets;
        if from != end || to < from {
            return Err(format!("tensor {quoted} does not start where the one before it ends"));
        }
        if entry.shape.len() > MAX_DIMENSIONS {
            return Err(format!("tensor {quoted} has more than {MAX_DIMENSIONS} dimensions"));
        }
        let elements = entry.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let bytes = elements.and_then(|n| n.checked_mul(entry.dtype.size()));
        if bytes != Some(to - from) {
            return Err(format!(
                "tensor {quoted}: shape {:?} of {:?} does not fill its {} bytes",
                entry.shape,
                entry.dtype,
                to - from
            ));
        }
        if to > data_length {
            return Err(format!(
                "truncated: tensor {quoted} ends at byte {to} of the data, which has {data_length}"
            ));
        }
        end = to;
        let shape = entry.shape.iter().map(|d| usize::try_from(*d)).collect::<Result<Vec<_>, _>>();
        let elements = elements.and_then(|n| usize::try_from(n).ok());
        match (shape, elements) {
            (Ok(shape), Some(elements)) => {
                slots.push(Slot { name, kind: entry.dtype, shape, elements });
            }
            _ => return Err(format!("tensor {quoted} is too large for this machine")),
        }
    }
    if end != data_length {
        return Err(format!("{} bytes follow the last tensor", data_length - end));
    }
    let metadata = raw.metadata.ok_or("no metadata: the file was not written by neuralef")?;
    let entry = metadata.into_iter().find(|(key, _)| key == "neuralef");
    let (_, text) = entry.ok_or("no `neuralef` metadata: the file was not written by neuralef")?;
    Ok((slots, text))
}

/// A name from a file, made safe and short for a one-line message.
pub(super) fn quote(name: &str) -> String {
    let short: String = name.chars().take(80).collect();
    format!("`{}`", short.escape_debug())
}

/// A parser's message, which may quote the file, made safe and short.
pub(super) fn clean(message: impl fmt::Display) -> String {
    message.to_string().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: Kind,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The top level of the header; a map type would silently keep the last of two equal names.
struct Raw {
    metadata: Option<Vec<(String, String)>>,
    tensors: Vec<(String, RawTensor)>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw { metadata: None, tensors: Vec::new() };
                let mut seen = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{} occurs twice", quote(&name))));
                    }
                    if name == "__metadata__" {
                        raw.metadata = Some(map.next_value::<Pairs>()?.0);
                    } else {
                        raw.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Top)
    }
}

/// A map of strings without equal keys.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inner;
        impl<'de> Visitor<'de> for Inner {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                let mut seen = BTreeSet::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("{} occurs twice", quote(&key))));
                    }
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Inner)
    }
}
