//! The operator of explicit features Φ: κ(x, x') = φ(x)ᵀφ(x')/S, applied without forming κ.

use std::sync::Arc;

use ndarray::{ArrayView1, Axis, aview1, s};

use super::matrix_valued::{Part, add_block, output_product, rows_of_points, symmetrise};
use super::{AppliedOperator, Batch, Diagonal, KernelOperator, MatrixValued, Tick, finish_batch};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, Mat64Ref, MatMut, MatRef};

/// The most points whose features are gathered at a time when all are streamed.
pub(super) const POINTS: usize = 1024;
/// Bytes of sums over the points that stay in memory for several directions of the outputs.
const SUMS: u64 = 128 << 20;
/// Bytes of features gathered at a time, in both precisions, where points have several rows.
const GATHERED: usize = 64 << 20;

/// T for features Φ of the rows of a dataset, in memory or memory-mapped: Monte-Carlo features of
/// an NN-GP or tangent kernel, or any feature map of the user's own.
///
/// Φ holds S numbers for each (point, output): (N·C) × S, so that a batch is a gather of whole
/// rows. Kψ = Φ(Φᵀψ)/S costs O(B·C·S·k) and stores nothing but the gathered rows. The scalar
/// operators of [`MatrixValued`] cost the same: tr κ has the features of a point's C rows side by
/// side, uᵀκu their combination Σ_c u_cφ_c.
#[derive(Clone)]
pub struct FeatureOperator {
    features: Dataset,
    /// C, rows of Φ for each point.
    outputs: usize,
    part: Part,
}

impl FeatureOperator {
    /// The operator of `features`, (N·C) × S with the C outputs of a point in consecutive rows.
    ///
    /// # Errors
    /// When the number of rows is not a multiple of `outputs`.
    pub fn new(features: Dataset, outputs: usize) -> Result<Self> {
        if outputs == 0 || !features.len().is_multiple_of(outputs) || features.width() == 0 {
            let got = format!("{} × {}", features.len(), features.width());
            return Err(Error::shape("features", format!("(N·{outputs}) × S"), got));
        }
        Ok(FeatureOperator { features, outputs, part: Part::Whole })
    }

    /// Number of points N.
    pub fn points(&self) -> usize {
        self.features.len() / self.outputs
    }

    /// S, the number of features.
    pub(super) fn samples(&self) -> usize {
        self.features.width()
    }

    /// Points gathered at a time when all are streamed.
    fn points_at_a_time(&self) -> usize {
        match self.outputs {
            1 => POINTS,
            c => (GATHERED / (12 * c * self.samples()).max(1)).clamp(1, POINTS),
        }
    }

    /// The stored rows of `points`, BC × S.
    fn stored(&self, points: &[usize]) -> Result<Mat> {
        match self.outputs {
            1 => self.features.rows(points),
            c => self.features.rows(&rows_of_points(points, c)),
        }
    }

    /// The features of `points`: BC × S, or B × CS for the trace, or B × S along a direction.
    fn gather(&self, points: &[usize]) -> Result<Mat> {
        match self.part {
            Part::Along(_) => Ok(self.gather_double(points)?.mapv(|v| v as f32)),
            _ => self.side_by_side(self.stored(points)?, points.len()),
        }
    }

    /// As [`gather`](Self::gather), combined along a direction in double precision.
    pub(super) fn gather_double(&self, points: &[usize]) -> Result<Mat64> {
        let stored = self.stored(points)?;
        let Part::Along(direction) = &self.part else {
            return Ok(self.side_by_side(stored, points.len())?.mapv(f64::from));
        };
        Ok(combine(stored.mapv(f64::from).view(), aview1(direction)))
    }

    /// How many directions [`forms_along`](MatrixValued::forms_along) works on in one pass.
    fn directions_at_a_time(&self, functions: usize) -> usize {
        let sum = (self.samples() as u64).saturating_mul(functions as u64).saturating_mul(8);
        let most = usize::try_from(SUMS / sum.max(1)).unwrap_or(usize::MAX);
        most.clamp(1, self.outputs)
    }

    /// [`forms_along`](MatrixValued::forms_along) with `group` directions in one pass over Φ.
    pub(super) fn forms_in_groups(
        &self,
        group: usize,
        sample: &[Batch],
        functions: &Mat64,
        directions: Mat64Ref<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<Vec<Mat64>> {
        let (n, r) = functions.dim();
        let (c, s, q) = (self.outputs, self.samples(), directions.ncols());
        super::expect_points(sample, n)?;
        if directions.nrows() != c {
            let got = format!("{} × {q}", directions.nrows());
            return Err(Error::shape("directions of the outputs", format!("{c} × {q}"), got));
        }
        let (mut forms, mut steps) = (Vec::with_capacity(q), 0);
        for directions in directions.axis_chunks_iter(Axis(1), group) {
            let mut sums = vec![Mat64::zeros((s, r)); directions.ncols()];
            let mut row = 0;
            for batch in sample {
                tick(steps, sample.len() * q.div_ceil(group))?;
                steps += 1;
                for points in batch.indices.chunks(self.points_at_a_time()) {
                    let phi = self.stored(points)?.mapv(f64::from);
                    let part = functions.slice(s![row..row + points.len(), ..]);
                    for (direction, sum) in directions.axis_iter(Axis(1)).zip(&mut sums) {
                        let combined = combine(phi.view(), direction);
                        *sum += &linalg::tr_matmul_f64(combined.view(), part)?;
                    }
                    row += points.len();
                }
            }
            for sum in &sums {
                let mut form = linalg::tr_matmul_f64(sum.view(), sum.view())?;
                form /= (n * n) as f64 * s as f64;
                symmetrise(&mut form);
                forms.push(form);
            }
        }
        Ok(forms)
    }

    fn side_by_side(&self, stored: Mat, points: usize) -> Result<Mat> {
        if !matches!(self.part, Part::Trace) || self.outputs == 1 {
            return Ok(stored);
        }
        let shape = (points, self.outputs * self.samples());
        stored.into_shape_with_order(shape).map_err(|e| {
            Error::shape("features of the trace", format!("{} × {}", shape.0, shape.1), e)
        })
    }
}

impl KernelOperator for FeatureOperator {
    fn outputs(&self) -> usize {
        self.part.rows(self.outputs)
    }

    fn matrix_valued(&self) -> Option<&dyn MatrixValued> {
        matches!(self.part, Part::Whole).then_some(self)
    }

    fn apply(
        &self,
        batch: &Batch,
        psi: MatRef<'_>,
        diagonal: Diagonal,
        mut out: MatMut<'_>,
    ) -> Result<()> {
        let phi = self.gather(&batch.indices)?;
        let projected = linalg::matmul_f32(phi.t(), psi)?;
        out.assign(&linalg::matmul_f32(phi.view(), projected.view())?);
        let scale = 1.0 / self.samples() as f32;
        out.mapv_inplace(|v| v * scale);
        match (self.outputs(), diagonal) {
            (1, _) | (_, Diagonal::Keep) => {
                let own: Vec<f32> = phi.axis_iter(Axis(0)).map(|r| r.dot(&r) * scale).collect();
                finish_batch(out, psi, &own, batch.indices.len(), diagonal);
            }
            // With C outputs a point's own pairs form a C × C block.
            (c, Diagonal::Drop) => {
                for (p, mut rows) in out.axis_chunks_iter_mut(Axis(0), c).enumerate() {
                    let own = phi.slice(s![p * c..(p + 1) * c, ..]);
                    let block = own.dot(&own.t()) * scale;
                    rows -= &block.dot(&psi.slice(s![p * c..(p + 1) * c, ..]));
                    rows /= (batch.indices.len() - 1).max(1) as f32;
                }
            }
        }
        Ok(())
    }

    fn applied<'a>(
        &'a self,
        sample: &[Batch],
        values: Mat64,
    ) -> Result<Box<dyn AppliedOperator + 'a>> {
        let n: usize = sample.iter().map(|b| b.indices.len()).sum();
        if n * self.outputs() != values.nrows() || n == 0 {
            let got = format!("{} × {}", values.nrows(), values.ncols());
            return Err(Error::shape(
                "values of the image",
                format!("{} × r", n * self.outputs()),
                got,
            ));
        }
        // W = Φᵀv/(nS), streamed: S × r (CS × r for the trace) whatever the size of the sample.
        let mut weights: Option<Mat64> = None;
        let mut row = 0;
        for points in sample.iter().flat_map(|b| b.indices.chunks(self.points_at_a_time())) {
            let phi = self.gather_double(points)?;
            let part = values.slice(s![row..row + phi.nrows(), ..]);
            let sum = weights.get_or_insert_with(|| Mat64::zeros((phi.ncols(), values.ncols())));
            *sum += &linalg::tr_matmul_f64(phi.view(), part)?;
            row += phi.nrows();
        }
        let mut weights = weights.unwrap_or_default();
        weights /= (n * self.samples()) as f64;
        Ok(Box::new(AppliedFeatures { operator: self, weights }))
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        let scale = 1.0 / self.samples() as f64;
        let phi = self.gather_double(&batch.indices)?;
        Ok(phi
            .axis_chunks_iter(Axis(0), self.outputs())
            .map(|rows| rows.iter().map(|v| v * v).sum::<f64>() * scale)
            .collect())
    }
}

impl MatrixValued for FeatureOperator {
    fn trace(&self) -> Arc<dyn KernelOperator> {
        Arc::new(FeatureOperator { part: Part::Trace, ..self.clone() })
    }

    fn along(&self, direction: &[f64]) -> Result<Arc<dyn KernelOperator>> {
        if direction.len() != self.outputs {
            return Err(Error::shape("direction of the outputs", self.outputs, direction.len()));
        }
        Ok(Arc::new(FeatureOperator { part: Part::Along(direction.into()), ..self.clone() }))
    }

    fn covariance(&self, sample: &[Batch]) -> Result<Mat64> {
        let mut sum = Mat64::zeros((self.outputs, self.outputs));
        let mut n = 0;
        for points in sample.iter().flat_map(|b| b.indices.chunks(self.points_at_a_time())) {
            let phi = self.stored(points)?.mapv(f64::from);
            for own in phi.axis_chunks_iter(Axis(0), self.outputs) {
                sum += &own.dot(&own.t());
            }
            n += points.len();
        }
        sum /= (n.max(1) * self.samples()) as f64;
        symmetrise(&mut sum);
        Ok(sum)
    }

    /// With A_c = Φ_cᵀW, S × r, from one pass over Φ, block (c, c') is A_cᵀA_c'/(n²S): O(n·C·S·r +
    /// S·(rC)²).
    fn product_form(
        &self,
        sample: &[Batch],
        functions: &Mat64,
        tick: &mut Tick<'_>,
    ) -> Result<Mat64> {
        let (n, r) = functions.dim();
        let (c, s) = (self.outputs, self.samples());
        super::expect_points(sample, n)?;
        let mut sums = vec![Mat64::zeros((s, r)); c];
        let mut row = 0;
        for (done, batch) in sample.iter().enumerate() {
            tick(done, sample.len())?;
            for points in batch.indices.chunks(self.points_at_a_time()) {
                let phi = self.stored(points)?.mapv(f64::from);
                let part = functions.slice(s![row..row + points.len(), ..]);
                for (output, sum) in sums.iter_mut().enumerate() {
                    *sum += &output_product(phi.view(), part, output, c)?;
                }
                row += points.len();
            }
        }
        let mut form = Mat64::zeros((r * c, r * c));
        for (a, left) in sums.iter().enumerate() {
            for (b, right) in sums.iter().enumerate().skip(a) {
                let block = linalg::tr_matmul_f64(left.view(), right.view())?;
                add_block(&mut form, block.view(), (a, b), c);
                if b > a {
                    add_block(&mut form, block.t(), (b, a), c);
                }
            }
        }
        form /= (n * n) as f64 * s as f64;
        symmetrise(&mut form);
        Ok(form)
    }

    /// With B_u = Σ_i (Σ_c u_cφ_c(x_i)) w(x_i)ᵀ, S × r, the form along u is B_uᵀB_u/(n²S):
    /// O(q·n·S·(C + r) + q·S·r²), in one pass over Φ for as many directions as 128 MiB of sums hold.
    fn forms_along(
        &self,
        sample: &[Batch],
        functions: &Mat64,
        directions: Mat64Ref<'_>,
        tick: &mut Tick<'_>,
    ) -> Result<Vec<Mat64>> {
        let group = self.directions_at_a_time(functions.ncols());
        self.forms_in_groups(group, sample, functions, directions, tick)
    }

    fn product_bytes(&self, functions: usize) -> u64 {
        let (c, s) = (self.outputs as u64, self.samples() as u64);
        // The sums, one product beside them, and gathered rows in both precisions.
        let sums = (functions as u64).saturating_mul(c.saturating_add(1)).saturating_mul(8);
        let gathered = c.saturating_mul(12).saturating_mul(self.points_at_a_time() as u64);
        s.saturating_mul(sums.saturating_add(gathered))
    }

    fn along_bytes(&self, functions: usize) -> u64 {
        let (r, c, s) = (functions as u64, self.outputs as u64, self.samples() as u64);
        let sums = r.saturating_mul(self.directions_at_a_time(functions) as u64 + 1);
        // Gathered rows in both precisions, and their combination.
        let gathered = c.saturating_mul(12).saturating_add(8);
        let gathered = gathered.saturating_mul(self.points_at_a_time() as u64);
        s.saturating_mul(sums.saturating_mul(8).saturating_add(gathered))
    }
}

/// Σ_c u_cφ_c(x) for rows φ_c of points with as many rows as u has entries.
fn combine(phi: Mat64Ref<'_>, direction: ArrayView1<'_, f64>) -> Mat64 {
    let c = direction.len();
    let mut out = Mat64::zeros((phi.nrows() / c, phi.ncols()));
    for (mut out, rows) in out.outer_iter_mut().zip(phi.axis_chunks_iter(Axis(0), c)) {
        for (weight, row) in direction.iter().zip(rows.outer_iter()) {
            out.scaled_add(*weight, &row);
        }
    }
    out
}

struct AppliedFeatures<'a> {
    operator: &'a FeatureOperator,
    weights: Mat64,
}

impl AppliedOperator for AppliedFeatures<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        let c = self.operator.outputs();
        let at_a_time = self.operator.points_at_a_time();
        let mut out = Mat64::zeros((points.indices.len() * c, self.weights.ncols()));
        for (block, chunk) in points.indices.chunks(at_a_time).enumerate() {
            let phi = self.operator.gather_double(chunk)?;
            let image = linalg::matmul_f64(phi.view(), self.weights.view())?;
            let start = block * at_a_time * c;
            out.slice_mut(s![start..start + image.nrows(), ..]).assign(&image);
        }
        Ok(out)
    }
}
