//! What a readout takes of the memory budget, and what it can do within it.

use super::outputs::OutputLayout;
use super::selection::APPLIED_BYTES;
use crate::error::Result;
use crate::memory::MemoryBudget;
use crate::operator::{BLOCK, KernelOperator};

/// The memory that a readout may take, and everything that decides what it takes.
pub(crate) struct ReadoutBudget<'a> {
    /// The memory for all of the fit.
    pub memory: MemoryBudget,
    /// p, functions in the basis.
    pub functions: usize,
    /// Columns of the points.
    pub inputs: usize,
    /// Held-out points that choose the truncation.
    pub held_out: usize,
    /// k, the number of eigenpairs.
    pub components: usize,
    /// How the basis stands to the outputs of the kernel.
    pub layout: OutputLayout,
    /// The operator to decompose.
    pub operator: &'a dyn KernelOperator,
}

impl ReadoutBudget<'_> {
    /// The most directions of the basis whose quadratic form for all outputs, with what finding and
    /// decomposing it takes, fits in half of the memory. All of them where functions have values in
    /// ℝ^C.
    pub(crate) fn rank_limit(&self) -> usize {
        if self.layout == OutputLayout::VectorValued {
            return self.functions;
        }
        let (mut least, mut most) = (0, self.functions);
        while least < most {
            let middle = most - (most - least) / 2;
            if self.form_bytes(middle) <= self.memory.bytes() / 2 {
                least = middle;
            } else {
                most = middle - 1;
            }
        }
        least
    }

    /// Bytes of the quadratic form on r directions and what goes with it.
    fn form_bytes(&self, r: usize) -> u64 {
        let (r, c) = (r as u64, self.operator.outputs() as u64);
        let columns = r.saturating_mul(c);
        match (self.layout, self.operator.matrix_valued()) {
            (OutputLayout::Product, Some(operator)) => {
                // The form, a copy of it in its decomposition, and as much of candidates or scratch.
                let form = columns.saturating_mul(columns).saturating_mul(24);
                form.saturating_add(operator.product_bytes(r as usize))
            }
            (OutputLayout::Factorized, Some(operator)) => {
                let forms = columns.saturating_mul(r).saturating_mul(8);
                forms.saturating_add(operator.along_bytes(r as usize))
            }
            _ => 0,
        }
    }

    /// Training points that can be streamed within the memory: held are two copies of the basis
    /// and of the points themselves, three p × p matrices and the values at the held-out points; for
    /// scalar functions and C outputs, the quadratic form on [`rank_limit`](ReadoutBudget::rank_limit)
    /// directions and values of eigenfunctions as well.
    ///
    /// # Errors
    /// [`Error::MemoryBudget`] when not even p points fit, or too few directions for k pairs.
    pub(crate) fn points(&self) -> Result<usize> {
        let (p, width, held_out) =
            (self.functions as u64, self.inputs as u64, self.held_out as u64);
        let outputs = self.operator.outputs() as u64;
        // Rows of basis values for each point.
        let rows_per_point = if self.layout == OutputLayout::VectorValued { outputs } else { 1 };
        let rows = held_out.saturating_mul(3).saturating_add(BLOCK as u64);
        let rows = rows.saturating_mul(rows_per_point);
        let columns = p.saturating_mul(3).saturating_add(rows);
        let fixed = p.saturating_mul(columns).saturating_mul(8);
        let mut fixed = fixed.saturating_add(held_out.saturating_mul(width).saturating_mul(4));
        let mut point = p.max(1).saturating_mul(16).saturating_mul(rows_per_point);
        point = point.saturating_add(width.saturating_mul(8));
        let mut enough = true;
        if self.layout != OutputLayout::VectorValued {
            let limit = self.rank_limit();
            let kept = (limit as u64).saturating_mul(outputs);
            enough = limit == self.functions || kept >= self.components as u64;
            fixed = fixed.saturating_add(self.form_bytes(limit)).saturating_add(4 * APPLIED_BYTES);
            let psi = outputs.saturating_mul(self.components as u64);
            point = point.saturating_add(psi.saturating_mul(16));
        }
        let points = self.memory.bytes().saturating_sub(fixed) / point;
        let needed = p.max(2).div_ceil(rows_per_point);
        if enough && points >= needed {
            return Ok(usize::try_from(points).unwrap_or(usize::MAX));
        }
        let outputs = if outputs > 1 { format!(" for {outputs} outputs") } else { String::new() };
        let mut bytes = fixed.saturating_add(needed.saturating_mul(point));
        if !enough {
            let least = self.components.div_ceil(self.operator.outputs());
            bytes = bytes.saturating_add(self.form_bytes(least).saturating_mul(2));
        }
        Err(self.memory.exceeded(format!("a readout of {p} basis functions{outputs}"), bytes))
    }
}
