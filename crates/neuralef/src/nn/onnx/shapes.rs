//! Operators that change shapes: to rows, and what shortcuts of option A are made of.

use super::convert::Converter;
use super::reader::Reader;
use super::tensor::head;
use super::terms::{Term, Wire};
use crate::error::Result;
use crate::nn::graph::{GraphLayer, Shortcut};

impl Converter<'_> {
    pub(super) fn flatten(&mut self, reader: &Reader<'_>) -> Result<Term> {
        let rank = if self.wire(reader, 0)?.flat { 2 } else { 4 };
        match reader.integer("axis", 1)? {
            axis if axis == 1 || axis == 1 - rank => self.alias(reader, 0, true),
            other => Err(reader.refuse(Some("axis"), format!("only 1 is, got {other}"))),
        }
    }

    /// Only to rows of all numbers of a point.
    pub(super) fn reshape(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(2)?;
        let wire = self.wire(reader, 0)?;
        let (shape, len) = (self.sizes(reader, 1)?, self.graph.image(wire.value).len() as i64);
        reader.only("allowzero", 0)?;
        let is_batch = |size: Option<i64>| match size {
            None | Some(0) => true,
            Some(size) => Some(size) == self.batch,
        };
        let rows = match shape[..] {
            [first, Some(-1)] => is_batch(first),
            [first, Some(second)] => second == len && (is_batch(first) || first == Some(-1)),
            _ => false,
        };
        if rows {
            return self.alias(reader, 0, true);
        }
        let show = |size: &Option<i64>| size.map_or("batch".into(), |v| v.to_string());
        let got: Vec<String> = head(&shape).iter().map(show).collect();
        let reason = format!("only to [batch, {len}] is it, got [{}]", got.join(", "));
        Err(reader.refuse(None, reason))
    }

    /// Every so-many-th pixel, from the first to the end.
    pub(super) fn slice(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(5)?;
        let of = self.images(reader, 0)?;
        let list = |i: usize| -> Result<Vec<i64>> {
            let sizes = self.sizes(reader, i)?.into_iter().collect::<Option<Vec<i64>>>();
            sizes.ok_or_else(|| reader.refuse(None, "only constant bounds are"))
        };
        let (starts, ends) = (list(1)?, list(2)?);
        let axes = match reader.input(3) {
            Some(_) => list(3)?,
            None => (0..starts.len() as i64).collect(),
        };
        let steps = if reader.input(4).is_some() { list(4)? } else { vec![1; starts.len()] };
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || axes.len() > 4 {
            return Err(reader.fault("as many starts, ends, axes and steps are expected"));
        }
        let image = self.graph.image(of.value);
        let sides = [image.channels, image.height, image.width];
        let mut stride = [1; 2];
        let mut axes_read = Vec::new();
        for (i, axis) in axes.into_iter().enumerate() {
            let axis = if axis < 0 { axis.saturating_add(4) } else { axis };
            let step = usize::try_from(steps[i]).unwrap_or(0);
            let side = usize::try_from(axis).ok().and_then(|a| sides.get(a.checked_sub(1)?));
            let (Some(&side), false) = (side, axes_read.contains(&axis)) else {
                return Err(reader.refuse(None, format!("axis {axis}")));
            };
            axes_read.push(axis);
            let end = if ends[i] < 0 { ends[i].saturating_add(side as i64) } else { ends[i] };
            let end = usize::try_from(end).unwrap_or(0).min(side);
            let all = step > 0 && end.div_ceil(step) == side.div_ceil(step);
            if starts[i] != 0 || !all || (axis == 1 && step != 1) {
                let reason = "only every so-many-th pixel, from the first to the end, is";
                return Err(reader.refuse(None, reason));
            }
            if axis > 1 {
                stride[axis as usize - 2] = step;
            }
        }
        self.shortcut(reader, of, stride, [0, 0])
    }

    /// Channels of zeros before and after.
    pub(super) fn pad(&mut self, reader: &Reader<'_>) -> Result<Term> {
        reader.at_most(3)?;
        let of = self.images(reader, 0)?;
        let mode = reader.text("mode", "constant")?;
        if mode != "constant" {
            return Err(reader.refuse(Some("mode"), format!("only `constant` is, got `{mode}`")));
        }
        if reader.input(2).is_some() && self.tensor(reader, 2)?.scalar() != Some(0.0) {
            return Err(reader.refuse(None, "only zeros are padded with"));
        }
        let pads = self.sizes(reader, 1)?;
        let channel = |v: Option<i64>| v.and_then(|v| usize::try_from(v).ok());
        match pads[..] {
            [Some(0), b, Some(0), Some(0), Some(0), a, Some(0), Some(0)] => {
                let (Some(before), Some(after)) = (channel(b), channel(a)) else {
                    return Err(reader.refuse(None, "only channels that are added are"));
                };
                self.shortcut(reader, of, [1, 1], [before, after])
            }
            _ => {
                let reason = "only channels are padded; pads of pixels belong to the convolution";
                Err(reader.refuse(None, reason))
            }
        }
    }

    /// A shortcut of option A, joined with the one before where that is nobody else's.
    fn shortcut(
        &mut self,
        reader: &Reader<'_>,
        of: Wire,
        stride: [usize; 2],
        [before, after]: [usize; 2],
    ) -> Result<Term> {
        let too_many = || reader.refuse(None, "too many channels");
        let channels = self.graph.image(of.value).channels;
        let channels = [before, after].into_iter().try_fold(channels, usize::checked_add);
        let channels = channels.filter(|c| *c <= 1 << 24).ok_or_else(too_many)?;
        let mut cut = Shortcut { input: self.graph.input, stride, before, channels };
        let (mut name, mut from) = (None, of.value);
        if self.is_open(of) && self.is_read(reader, 0, of, 1) {
            let last =
                self.graph.nodes.pop_if(|node| matches!(node.layer, GraphLayer::Shortcut(_)));
            if let Some(node) = last
                && let GraphLayer::Shortcut(earlier) = node.layer
            {
                (name, from) = (Some(node.name), node.inputs[0]);
                cut.before += earlier.before;
                for (ours, theirs) in cut.stride.iter_mut().zip(earlier.stride) {
                    *ours = ours.saturating_mul(theirs);
                }
            }
        }
        let name = name.unwrap_or_else(|| self.layer_name(reader, None));
        let value = self.graph.shortcut(&name, from, cut);
        Ok(Self::fresh(value.map_err(|e| reader.refuse(None, e.to_string()))?, false))
    }
}
