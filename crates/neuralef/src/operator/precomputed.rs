//! The operator of a Gram matrix the user computed elsewhere.

use std::sync::Arc;

use ndarray::{Axis, s};

use super::matrix_valued::{Part, add_block, output_product, rows_of_points, symmetrise};
use super::{AppliedOperator, Batch, Diagonal, KernelOperator, MatrixValued, Tick, finish_batch};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::linalg;
use crate::matrix::{Mat, Mat64, MatMut, MatRef};

/// Points gathered at a time when the whole matrix is streamed.
const ROWS: usize = 256;

/// T for a precomputed N·C × N·C Gram matrix over the rows of a dataset, in memory or memory-mapped,
/// with the C outputs of a point in consecutive rows and columns.
#[derive(Clone)]
pub struct PrecomputedOperator {
    gram: Dataset,
    /// C, the number of outputs of the kernel.
    outputs: usize,
    part: Part,
}

impl PrecomputedOperator {
    /// The operator of the Gram matrix `gram` (N·C × N·C, symmetric).
    ///
    /// # Errors
    /// When it is not square or its size no multiple of `outputs`, or a sample of its entries is not
    /// symmetric.
    pub fn new(gram: Dataset, outputs: usize) -> Result<Self> {
        let (n, d) = (gram.len(), gram.width());
        if n != d {
            return Err(Error::shape("gram", "N × N", format!("{n} × {d}")));
        }
        if outputs == 0 || !n.is_multiple_of(outputs) {
            let expected = format!("(N·{outputs}) × (N·{outputs})");
            return Err(Error::shape("gram", expected, format!("{n} × {d}")));
        }
        let probe: Vec<usize> = (0..n).step_by(n.div_ceil(64).max(1)).collect();
        let rows = gram.rows(&probe)?;
        let scale = rows.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, &i) in probe.iter().enumerate() {
            for (b, &j) in probe.iter().enumerate() {
                let (x, y) = (rows[[a, j]], rows[[b, i]]);
                if (x - y).abs() > 1e-4 * scale {
                    return Err(Error::parameter(
                        "gram",
                        "a symmetric matrix",
                        format!("{x} at ({i}, {j}) and {y} at ({j}, {i})"),
                    ));
                }
            }
        }
        Ok(PrecomputedOperator { gram, outputs, part: Part::Whole })
    }

    /// The stored entries between points, C rows and columns for each.
    fn stored(&self, rows: &[usize], columns: &[usize]) -> Result<Mat> {
        match self.outputs {
            1 => Ok(self.gram.rows(rows)?.select(Axis(1), columns)),
            c => {
                let stored = self.gram.rows(&rows_of_points(rows, c))?;
                Ok(stored.select(Axis(1), &rows_of_points(columns, c)))
            }
        }
    }

    /// The entries of this operator's kernel between points.
    fn block(&self, rows: &[usize], columns: &[usize]) -> Result<Mat64> {
        let stored = self.stored(rows, columns)?;
        let c = self.outputs;
        let weight = |a: usize, b: usize| match &self.part {
            Part::Along(u) => u[a] * u[b],
            _ if a == b => 1.0,
            _ => 0.0,
        };
        if matches!(self.part, Part::Whole) {
            return Ok(stored.mapv(f64::from));
        }
        let mut out = Mat64::zeros((rows.len(), columns.len()));
        for (a, b) in (0..c).flat_map(|a| (0..c).map(move |b| (a, b))) {
            let weight = weight(a, b);
            if weight != 0.0 {
                let entries = stored.slice(s![a..;c, b..;c]);
                out.zip_mut_with(&entries, |o, v| *o += weight * f64::from(*v));
            }
        }
        Ok(out)
    }
}

impl KernelOperator for PrecomputedOperator {
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
        let points = &batch.indices;
        let mut gram = match self.part {
            Part::Whole => self.stored(points, points)?,
            _ => self.block(points, points)?.mapv(|v| v as f32),
        };
        let c = self.outputs();
        if c > 1 && diagonal == Diagonal::Drop {
            // With C outputs a point's own pairs form a C × C block.
            for p in 0..points.len() {
                gram.slice_mut(s![p * c..(p + 1) * c, p * c..(p + 1) * c]).fill(0.0);
            }
        }
        out.assign(&linalg::matmul_f32(gram.view(), psi)?);
        finish_batch(out, psi, &gram.diag().to_vec(), points.len(), diagonal);
        Ok(())
    }

    fn applied<'a>(
        &'a self,
        sample: &[Batch],
        values: Mat64,
    ) -> Result<Box<dyn AppliedOperator + 'a>> {
        let columns: Vec<usize> = sample.iter().flat_map(|b| b.indices.iter().copied()).collect();
        let rows = columns.len() * self.outputs();
        if rows != values.nrows() || columns.is_empty() {
            let got = format!("{} × {}", values.nrows(), values.ncols());
            return Err(Error::shape("values of the image", format!("{rows} × r"), got));
        }
        Ok(Box::new(AppliedGram { operator: self, columns, values }))
    }

    fn diag(&self, batch: &Batch) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(batch.indices.len());
        for point in &batch.indices {
            let own = self.block(&[*point], &[*point])?;
            out.push(own.diag().sum());
        }
        Ok(out)
    }

    fn unit_roundoff(&self) -> f64 {
        f64::from(f32::EPSILON)
    }
}

impl MatrixValued for PrecomputedOperator {
    fn trace(&self) -> Arc<dyn KernelOperator> {
        Arc::new(PrecomputedOperator { part: Part::Trace, ..self.clone() })
    }

    fn along(&self, direction: &[f64]) -> Result<Arc<dyn KernelOperator>> {
        if direction.len() != self.outputs {
            return Err(Error::shape("direction of the outputs", self.outputs, direction.len()));
        }
        Ok(Arc::new(PrecomputedOperator { part: Part::Along(direction.into()), ..self.clone() }))
    }

    fn covariance(&self, sample: &[Batch]) -> Result<Mat64> {
        let mut sum = Mat64::zeros((self.outputs, self.outputs));
        let mut n = 0;
        for point in sample.iter().flat_map(|b| &b.indices) {
            sum += &self.stored(&[*point], &[*point])?.mapv(f64::from);
            n += 1;
        }
        sum /= f64::from(n.max(1));
        symmetrise(&mut sum);
        Ok(sum)
    }

    /// By rows of points: O(n²C²r) for the images and O(n·(rC)²) for their products.
    fn product_form(
        &self,
        sample: &[Batch],
        functions: &Mat64,
        tick: &mut Tick<'_>,
    ) -> Result<Mat64> {
        let (n, r) = functions.dim();
        let c = self.outputs;
        super::expect_points(sample, n)?;
        let columns: Vec<usize> = sample.iter().flat_map(|b| b.indices.iter().copied()).collect();
        let mut form = Mat64::zeros((r * c, r * c));
        let blocks = n.div_ceil(ROWS);
        for (done, points) in columns.chunks(ROWS).enumerate() {
            tick(done, blocks)?;
            let gram = self.stored(points, &columns)?.mapv(f64::from);
            let own = functions.slice(s![done * ROWS..done * ROWS + points.len(), ..]);
            for b in 0..c {
                let image = linalg::matmul_f64(gram.slice(s![.., b..;c]), functions.view())?;
                for a in 0..c {
                    let block = output_product(image.view(), own, a, c)?;
                    add_block(&mut form, block.t(), (a, b), c);
                }
            }
        }
        form /= (n * n) as f64;
        symmetrise(&mut form);
        Ok(form)
    }

    fn product_bytes(&self, functions: usize) -> u64 {
        let (c, n) = (self.outputs as u64, self.gram.len() as u64);
        // Gathered rows three times, and an image.
        let rows = c.saturating_mul(ROWS as u64).saturating_mul(8);
        rows.saturating_mul(n.saturating_mul(3).saturating_add(functions as u64))
    }
}

struct AppliedGram<'a> {
    operator: &'a PrecomputedOperator,
    columns: Vec<usize>,
    values: Mat64,
}

impl AppliedOperator for AppliedGram<'_> {
    fn at(&self, points: &Batch) -> Result<Mat64> {
        let c = self.operator.outputs();
        let mut out = Mat64::zeros((points.indices.len() * c, self.values.ncols()));
        for (block, rows) in points.indices.chunks(ROWS).enumerate() {
            let gram = self.operator.block(rows, &self.columns)?;
            let image = linalg::matmul_f64(gram.view(), self.values.view())?;
            let start = block * ROWS * c;
            out.slice_mut(s![start..start + image.nrows(), ..])
                .assign(&(image / self.columns.len() as f64));
        }
        Ok(out)
    }
}
