//! Weights in PyTorch's names and layouts, as safetensors.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Network, Role, TensorLayout};
use crate::error::{Error, Result};
use crate::persist::AtomicFile;

/// Largest file that is read, in bytes: twice the most parameters a network may have.
const MOST: u64 = 1 << 33;

/// Reads the weights of `network` from a safetensors file with PyTorch's names and layouts, such as
/// `safetensors.torch.save_file(model.state_dict(), path)` writes: convolutions out × in × height ×
/// width, dense layers out × in with the inputs in the order channel, row, column, and
/// `running_mean`, `running_var` of batch normalisation (`num_batches_tracked` is passed over).
///
/// Names are those of [`Parameters::layouts`](super::Parameters::layouts); tensors of networks of
/// several units begin with the number of the unit, `0.`. Nothing changes unless the whole file
/// fits.
///
/// # Errors
/// [`Error::Io`], or [`Error::Data`] naming a tensor that is missing, not of the network, of another shape or
/// type, or not finite.
pub fn read_weights(network: &mut dyn Network, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let source = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > MOST {
        return Err(Error::data(source, format!("{size} bytes, expected at most {MOST}")));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    weights_from(network, &bytes, &source)
}

fn tensors<'a>(bytes: &'a [u8], source: &str) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes)
        .map_err(|e| Error::data(source, format!("not a safetensors file: {e}")))
}

/// How many numbers the tensor `name` of a file has.
pub(super) fn size_of_tensor(bytes: &[u8], source: &str, name: &str) -> Result<usize> {
    let file = tensors(bytes, source)?;
    let view = file.tensor(name);
    let view = view.map_err(|_| Error::data(source, format!("tensor {name:?} is missing")))?;
    Ok(view.shape().iter().product())
}

/// As [`read_weights`], from the bytes of a file that is called `source` in messages.
pub(super) fn weights_from(network: &mut dyn Network, bytes: &[u8], source: &str) -> Result<()> {
    let file = tensors(bytes, source)?;
    let mut parameters = network.parameters().clone();
    let (units, mut names) = (parameters.units().len(), BTreeSet::new());
    parameters.fill_tensors(|unit, tensor, to| {
        let name = name(units, unit, tensor);
        let view = file
            .tensor(&name)
            .map_err(|_| Error::data(source, format!("tensor {name:?} is missing")))?;
        let values = numbers(&view, &name, source)?;
        let theirs = Layout::of(tensor);
        if view.shape() != theirs.shape {
            let (expected, got) = (&theirs.shape, view.shape());
            let message = format!("tensor {name:?}: expected shape {expected:?}, got {got:?}");
            return Err(Error::data(source, message));
        }
        for (ours, theirs) in theirs.pairs() {
            to[ours] = values[theirs];
        }
        names.insert(name);
        Ok(())
    })?;
    let surplus = file
        .names()
        .into_iter()
        .find(|n| !names.contains(*n) && !n.ends_with("num_batches_tracked"));
    if let Some(surplus) = surplus {
        let message = format!("tensor {surplus:?} belongs to no layer of the network");
        return Err(Error::data(source, message));
    }
    *network.parameters_mut() = parameters;
    Ok(())
}

/// Writes the weights of `network` as [`read_weights`] and PyTorch read them. The file appears whole
/// or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_weights(network: &dyn Network, path: impl AsRef<Path>) -> Result<()> {
    let (path, parameters) = (path.as_ref(), network.parameters());
    let mut stored = Vec::new();
    for (unit, tensor, values) in parameters.tensors() {
        let theirs = Layout::of(tensor);
        let mut bytes = vec![0u8; 4 * values.len()];
        for (ours, theirs) in theirs.pairs() {
            bytes[4 * theirs..4 * theirs + 4].copy_from_slice(&values[ours].to_le_bytes());
        }
        stored.push((name(parameters.units().len(), unit, tensor), theirs.shape, bytes));
    }
    let fault =
        |e: safetensors::SafeTensorError| Error::data(path.display().to_string(), e.to_string());
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(fault)?;
    let bytes = safetensors::serialize(views, None).map_err(fault)?;
    let mut file = AtomicFile::create(path)?;
    std::io::Write::write_all(&mut file, &bytes).map_err(|e| Error::io(path, e))?;
    file.commit()
}

fn name(units: usize, unit: usize, tensor: &TensorLayout) -> String {
    match units {
        1 => tensor.name.clone(),
        _ => format!("{unit}.{}", tensor.name),
    }
}

/// How PyTorch lays out a tensor of ours.
pub(super) struct Layout {
    /// PyTorch's shape.
    pub(super) shape: Vec<usize>,
    /// Height, width, channels in and out of a weight; channels alone for all else.
    sides: [usize; 4],
}

impl Layout {
    pub(super) fn of(tensor: &TensorLayout) -> Self {
        match (tensor.role, &tensor.shape[..]) {
            (Role::Weight { .. }, &[i, o]) => Layout { shape: vec![o, i], sides: [1, 1, i, o] },
            // A dense layer on an image sees all of it; PyTorch has it flattened.
            (Role::Weight { fan_in }, &[h, w, i, o]) if tensor.flat => {
                Layout { shape: vec![o, fan_in], sides: [h, w, i, o] }
            }
            (Role::Weight { .. }, &[h, w, i, o]) => {
                Layout { shape: vec![o, i, h, w], sides: [h, w, i, o] }
            }
            (_, shape) => Layout { shape: shape.to_vec(), sides: [1, 1, 1, tensor.size()] },
        }
    }

    /// Places of the same number: (ours, theirs).
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let [h, w, i, o] = self.sides;
        (0..h * w * i * o).map(move |ours| {
            let (rest, out) = (ours / o, ours % o);
            let (rest, channel) = (rest / i, rest % i);
            let (y, x) = (rest / w, rest % w);
            (ours, ((out * i + channel) * h + y) * w + x)
        })
    }
}

/// The numbers of a tensor, from any type of floating-point numbers.
fn numbers(view: &TensorView<'_>, name: &str, source: &str) -> Result<Vec<f32>> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => {
            data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
        }
        Dtype::F16 => {
            data.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
        }
        Dtype::BF16 => {
            data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        other => {
            let message = format!("tensor {name:?} is of type {other:?}, expected floats");
            return Err(Error::data(source, message));
        }
    };
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => {
            let message = format!("tensor {name:?}: element {at} is {}", values[at]);
            Err(Error::data(source, message))
        }
    }
}
