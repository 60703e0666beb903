//! Tensors of a file: weights as single-precision numbers, and small ones as whole numbers.

use super::proto;

/// ONNX's codes of element types.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const FLOAT16: i32 = 10;
pub(super) const DOUBLE: i32 = 11;
pub(super) const BFLOAT16: i32 = 16;

/// A tensor of known shape, whose numbers are not decoded yet.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    proto: proto::Tensor,
}

impl Tensor {
    /// Checks that the shape is that of as many numbers as are there. Faults are texts without the
    /// tensor's name.
    pub(super) fn new(proto: proto::Tensor) -> Result<Self, String> {
        if proto.data_location != 0 {
            return Err("its numbers are in another file; export with all of them in one".into());
        }
        let dims = proto.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>();
        let size = |dims: &Vec<usize>| dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let Some((dims, size)) = dims.and_then(|dims| size(&dims).map(|size| (dims, size))) else {
            return Err(format!("shape {:?} is none", head(&proto.dims)));
        };
        let (width, listed) = match proto.data_type {
            FLOAT => (4, proto.float_data.len()),
            INT32 => (4, proto.int32_data.len()),
            INT64 => (8, proto.int64_data.len()),
            FLOAT16 | BFLOAT16 => (2, proto.int32_data.len()),
            DOUBLE => (8, proto.double_data.len()),
            other => return Err(format!("element type {other} is neither of floats nor integers")),
        };
        let count = match &proto.raw_data {
            Some(raw) if raw.len() % width != 0 => {
                return Err(format!("{} bytes are not whole numbers of {width}", raw.len()));
            }
            Some(raw) => raw.len() / width,
            None => listed,
        };
        if count != size {
            return Err(format!("shape {:?} is of {size} numbers, found {count}", head(&dims)));
        }
        Ok(Tensor { dims, proto })
    }

    pub(super) fn size(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self.proto.data_type, INT32 | INT64)
    }

    /// The numbers, rounded to single precision; all finite.
    pub(super) fn floats(&self) -> Result<Vec<f32>, String> {
        use half::{bf16, f16};
        let proto = &self.proto;
        let halves = || proto.int32_data.iter().map(|bits| *bits as u16);
        let values: Vec<f32> = match (proto.data_type, &proto.raw_data) {
            (FLOAT, Some(raw)) => numbers(raw, f32::from_le_bytes),
            (FLOAT, None) => proto.float_data.clone(),
            (DOUBLE, Some(raw)) => numbers(raw, |b| f64::from_le_bytes(b) as f32),
            (DOUBLE, None) => proto.double_data.iter().map(|v| *v as f32).collect(),
            (FLOAT16, Some(raw)) => numbers(raw, |b| f16::from_le_bytes(b).to_f32()),
            (FLOAT16, None) => halves().map(|b| f16::from_bits(b).to_f32()).collect(),
            (BFLOAT16, Some(raw)) => numbers(raw, |b| bf16::from_le_bytes(b).to_f32()),
            (BFLOAT16, None) => halves().map(|b| bf16::from_bits(b).to_f32()).collect(),
            _ => return Err("expected floats, got integers".into()),
        };
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(at) => Err(format!("element {at} is {}", values[at])),
        }
    }

    /// The numbers of a tensor of integers.
    pub(super) fn integers(&self) -> Result<Vec<i64>, String> {
        match (self.proto.data_type, &self.proto.raw_data) {
            (INT64, Some(raw)) => Ok(numbers(raw, i64::from_le_bytes)),
            (INT64, None) => Ok(self.proto.int64_data.clone()),
            (INT32, Some(raw)) => Ok(numbers(raw, |b| i32::from_le_bytes(b).into())),
            (INT32, None) => Ok(self.proto.int32_data.iter().map(|v| (*v).into()).collect()),
            _ => Err("expected integers, got floats".into()),
        }
    }

    /// The only number, if it has one only.
    pub(super) fn scalar(&self) -> Option<f32> {
        if self.size() != 1 {
            return None;
        }
        self.floats().ok()?.first().copied()
    }
}

/// Numbers of N bytes each.
fn numbers<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}

/// The first few of a list, for messages.
pub(super) fn head<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(8)]
}
